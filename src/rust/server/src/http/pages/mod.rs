//! The pages for people, which need no JavaScript: a profile where they keep their secrets, and what signs in and out.
//! Each change is a form of its own, which shows by a token that a page of ours sent it. What a value is goes into a page
//! only by a form, and once the log has it; names of secrets are in no address.
mod account;
mod activity;
mod keys;
mod layout;
mod secret;
mod sign_in;
mod texts;

use super::App;
use super::sign_in::{Visit, visit};
use crate::identity::{Caller, is_same_origin};
use crate::people::{Id, Person};
use crate::problem::{Problem, Result};
use crate::server::Server;
use crate::session::Session;
use axum::Router;
use axum::extract::Request;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use layout::Page;
use maud::{Markup, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use texts::{Texts, Wanted};
use vault::{Event, Summary, Transaction};

pub fn routes() -> Router<App> {
    Router::new()
        .route("/style.css", get(layout::style))
        .merge(account::routes())
        .merge(secret::routes())
        .merge(keys::routes())
        .merge(activity::routes())
        .merge(sign_in::routes())
}

/// Somebody who is signed in and looks at a page.
struct Here<'v> {
    visit: &'v Visit,
    texts: &'static Texts,
    person: Person,
    session: Session,
    caller: Caller,
}

impl Here<'_> {
    fn server(&self) -> &Server {
        &self.visit.server
    }

    /// The person, whose secrets this session opens.
    fn opener(&self) -> Result<Id> {
        Ok(self.caller.opener()?.id)
    }

    /// What a form shows to show that the page was ours.
    fn token(&self) -> Markup {
        html! { input type="hidden" name="csrf" value=(self.session.csrf); }
    }

    /// What went wrong, in the reader's words and without where the store is.
    fn told(&self, problem: &Problem, wanted: Wanted) -> Markup {
        let told = self.texts.problem(problem, wanted);
        layout::wrong(&problem.pathless(&told, self.server()))
    }

    /// What stands for a name in an address: it tells nothing of it, and means nothing to other sessions.
    fn handle(&self, name: &str) -> String {
        let digest = Sha256::new()
            .chain_update(b"dkusecrets/handle\0")
            .chain_update(self.session.csrf.as_bytes())
            .chain_update(b"\0")
            .chain_update(name.as_bytes())
            .finalize();
        URL_SAFE_NO_PAD.encode(&digest[..16])
    }

    /// The secret that a handle stands for, which may be a removed one.
    fn secret(&self, handle: &str) -> Result<Summary> {
        let all = self.server().store.list(&self.opener()?)?;
        let found = all.into_iter().find(|secret| self.handle(&secret.name) == handle);
        found.ok_or_else(|| Problem::not_found("there is no such credential any more: it was renamed or destroyed"))
    }

    /// Does something with a secret that is as its page showed it, in one change with an event.
    fn change<T>(&self, seen: &Seen, action: &str, act: impl FnOnce(&mut Transaction, &Id) -> Result<T>) -> Result<T> {
        let person = self.opener()?;
        self.server().change(|change| {
            change.record(self.caller.event(action, &[], vec![seen.name.clone()]));
            let now = change.list(&person)?.into_iter().find(|secret| secret.name == seen.name);
            if now.is_none_or(|now| stamp(&now) != seen.stamp) {
                return Err(Problem::conflict("this credential was changed meanwhile"));
            }
            act(change, &person)
        })
    }

    /// The last events about the person, newest first.
    fn events(&self, most: usize) -> Result<Vec<Event>> {
        let events = self.server().store.events_about(&self.opener()?, most)?;
        Ok(events.into_iter().map(|(_, event)| event).collect())
    }
}

/// A secret, and how it was when a page showed it.
struct Seen {
    name: String,
    stamp: String,
}

/// What differs whenever anything of a secret does: a description is not a version of its own.
fn stamp(secret: &Summary) -> String {
    format!("{}.{}.{}", secret.version, secret.updated, secret.removed.unwrap_or_default())
}

/// Whom the session stands for that a browser shows; who has none signs in.
fn here(visit: &Visit) -> Result<Option<Here<'_>>> {
    let Some(token) = visit.server.cookies(&visit.headers).session()? else { return Ok(None) };
    let viewer = crate::sign_in::viewer(&visit.server, token, true)?;
    Ok(viewer.map(|viewer| Here {
        visit,
        texts: Texts::of(&visit.headers),
        person: viewer.person.clone(),
        session: viewer.session.clone(),
        caller: Caller::of_session(viewer, &visit.headers, visit.peer),
    }))
}

/// Shows a page to somebody who is signed in; all others sign in.
async fn look(
    app: App,
    request: Request,
    show: impl FnOnce(&Here) -> Result<Page> + Send + 'static,
) -> axum::response::Response {
    visit(app, request, |visit| {
        Ok(match here(visit) {
            Ok(Some(here)) => show(&here).unwrap_or_else(|problem| layout::failed(&here, &problem)),
            Ok(None) => sign_in::form(Texts::of(&visit.headers), None, ""),
            Err(problem) => sign_in::form(Texts::of(&visit.headers), Some(&problem), ""),
        })
    })
    .await
}

/// Does what a form says of somebody who is signed in.
async fn act<T: DeserializeOwned>(
    app: App,
    request: Request,
    act: impl FnOnce(&Here, T) -> Result<Page> + Send + 'static,
) -> axum::response::Response {
    visit(app, request, |visit| {
        let over = || Problem::not_authenticated("this session has ended: sign in again");
        let here = match here(visit).and_then(|here| here.ok_or_else(over)) {
            Ok(here) => here,
            Err(problem) => return Ok(sign_in::over(Texts::of(&visit.headers), &problem)),
        };
        let done = ours(&here).and_then(|()| read(visit)).and_then(|form| act(&here, form));
        Ok(done.unwrap_or_else(|problem| layout::failed(&here, &problem)))
    })
    .await
}

/// Refuses a form that none of our pages has sent, and tells the log.
fn ours(here: &Here) -> Result<()> {
    #[derive(Deserialize)]
    struct Token {
        csrf: String,
    }
    let own = read::<Token>(here.visit).is_ok_and(|token| here.session.is_csrf(&token.csrf));
    if own && is_same_origin(&here.visit.headers) {
        return Ok(());
    }
    let problem = Problem::not_allowed("that form was not sent by this page: open it again");
    here.server().metrics.refused(problem.kind);
    let event = here.caller.event("form", &[], Vec::new());
    here.server().record_refusal(Event { outcome: problem.kind.into(), ..event })?;
    Err(problem)
}

fn read<T: DeserializeOwned>(visit: &Visit) -> Result<T> {
    serde_urlencoded::from_bytes(&visit.body).map_err(|_| Problem::bad("that form is not one of ours"))
}

/// What an address asks for; what cannot be understood is as if it were not there.
fn query<T: DeserializeOwned + Default>(request: &Request) -> T {
    serde_urlencoded::from_str(request.uri().query().unwrap_or_default()).unwrap_or_default()
}

/// Browsers send each line break of a field as two characters (HTML, "normalizing newlines").
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n")
}
