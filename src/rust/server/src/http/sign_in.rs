//! Signing in and out, passwords, and asking for those who look at an application.
use super::route::{Done, parse};
use super::{Answer, App, Input, auth};
use crate::cookies;
use crate::identity::{Caller, Peer, Source, origin};
use crate::people::{self, Application};
use crate::problem::{Problem, Result};
use crate::server::Server;
use crate::sign_in::{self, SignedIn, Visitor};
use axum::body::to_bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// A form, or who signs in, in bytes.
const MOST_BYTES: usize = 64 * 1024;
/// The same from somebody who is signed in: a value, each byte of which may be three in a form.
const MOST_BYTES_KNOWN: usize = 4 * 1024 * 1024;

/// What a route for somebody who is not known yet is asked.
pub struct Visit {
    pub server: Arc<Server>,
    pub headers: HeaderMap,
    pub peer: Peer,
    pub body: Zeroizing<Vec<u8>>,
}

impl Visit {
    pub fn visitor(&self) -> Visitor<'_> {
        Visitor { headers: &self.headers, peer: self.peer }
    }

    /// Refuses what another site has a browser send. No browser at all is welcome: nobody sends in its name.
    pub fn own_page(&self) -> Result<()> {
        if origin(&self.headers) == Some(false) {
            return Err(Problem::not_allowed("another site has sent that: open the page of this server itself"));
        }
        Ok(())
    }
}

/// Answers somebody who is not known yet, where it keeps nobody else waiting.
pub async fn visit<R: IntoResponse>(
    app: App,
    request: Request,
    answer: impl FnOnce(&Visit) -> Result<R> + Send + 'static,
) -> Response {
    let (head, body) = request.into_parts();
    let Some(ConnectInfo(peer)) = head.extensions.get::<ConnectInfo<Peer>>().copied() else {
        return Problem::internal("a connection without another end").into_response();
    };
    let token = app.server.cookies(&head.headers).session().ok().flatten();
    let known = token.is_some_and(|token| app.server.sessions.find(token, false, crate::server::now()).is_some());
    let most = if known { MOST_BYTES_KNOWN } else { MOST_BYTES };
    let body = match tokio::time::timeout(super::dispatch::BODY_TIME, to_bytes(body, most)).await {
        Ok(Ok(body)) => Zeroizing::new(body.to_vec()),
        Ok(Err(_)) => return Problem::bad("that is more than a form holds").into_response(),
        Err(_) => return Problem::bad("the body of the request did not come in time").into_response(),
    };
    let Ok(place) = app.places.clone().try_acquire_owned() else {
        return Problem::unavailable("the server has more to do than it can: try again").into_response();
    };
    let visit = Visit { server: app.server, headers: head.headers, peer, body };
    let answer = tokio::task::spawn_blocking(move || {
        let _place = place;
        answer(&visit).map(IntoResponse::into_response)
    });
    match answer.await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::internal("internal error: please report it").into_response(),
    }
}

/// Has a browser keep what it signs in with.
pub fn keep(server: &Server, signed_in: &SignedIn, headers: &mut HeaderMap) -> Result<()> {
    let secure = server.is_secure();
    for cookie in [cookies::set_session(&signed_in.session, secure), cookies::set_device(&signed_in.device, secure)] {
        let mut value = HeaderValue::from_str(&cookie).map_err(|_| Problem::internal("a cookie cannot be sent"))?;
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
    Ok(())
}

#[derive(Deserialize, JsonSchema)]
pub struct Credentials {
    login: String,
    #[schemars(with = "String")]
    password: Zeroizing<String>,
}

/// A session, to whoever has its cookie.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SessionShown {
    login: String,
    /// Whether it opens secrets.
    opens: bool,
    /// What changes need in the header `X-Dkusecrets-Csrf`.
    csrf: String,
    /// In milliseconds since 1970.
    ends: i64,
}

/// `POST /dkusecrets/v1/session`.
pub async fn begin(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |visit| {
        visit.own_page()?;
        let who: Credentials = parse(&visit.body)?;
        let signed_in = sign_in::sign_in(&visit.server, &visit.visitor(), &who.login, &who.password)?;
        let session = visit.server.sessions.find(&signed_in.session, true, crate::server::now());
        let session = session.ok_or_else(|| Problem::unavailable("the session has ended already"))?;
        let says = SessionShown {
            login: signed_in.login.clone(),
            opens: signed_in.opens,
            csrf: session.csrf.to_string(),
            ends: session.ends(),
        };
        let mut response = axum::Json(says).into_response();
        keep(&visit.server, &signed_in, response.headers_mut())?;
        Ok(response)
    })
    .await
}

/// `GET /dkusecrets/v1/session`.
pub fn session(_: &Server, caller: &Caller, _: &Input) -> Answer<SessionShown> {
    let none = || Problem::not_found("you came without a session");
    let session = caller.session.as_ref().filter(|_| caller.source == Source::Session).ok_or_else(none)?;
    Ok(SessionShown {
        login: session.login.clone(),
        opens: caller.opens,
        csrf: session.csrf.to_string(),
        ends: session.ends(),
    })
}

pub fn end(server: &Server, caller: &Caller, _: &Input) -> Answer<Done> {
    sign_in::sign_out(server, caller)?;
    Ok(Done {})
}

/// How many sessions have ended.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Ended {
    ended: usize,
}

pub fn end_all(server: &Server, caller: &Caller, _: &Input) -> Answer<Ended> {
    Ok(Ended { ended: sign_in::sign_out_everywhere(server, caller)? })
}

#[derive(Deserialize, JsonSchema)]
pub struct NewPassword {
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    password: Option<Zeroizing<String>>,
    #[schemars(with = "String")]
    new_password: Zeroizing<String>,
}

/// `POST /dkusecrets/v1/password`.
pub fn password(server: &Server, caller: &Caller, input: &Input<NewPassword>) -> Answer<Done> {
    let wanted = input.json()?;
    let old = wanted.password.as_ref().map(|old| old.as_str());
    sign_in::change_password(server, caller, old, &wanted.new_password)?;
    Ok(Done {})
}

pub fn confirm(server: &Server, caller: &Caller, _: &Input) -> Answer<Done> {
    sign_in::confirm(server, caller)?;
    Ok(Done {})
}

/// Which of the applications that may ask for others the caller is.
fn application(server: &Server, caller: &Caller) -> Result<Application> {
    let allowed = people::rules(&server.store)?.header_callers;
    let key = match &caller.key {
        Some(hash) => people::key_of_hash(&server.store, hash)?,
        None => None,
    };
    let is = |application: &&Application| match application {
        // Not by what somebody else made for them, nor acting as them, nor in their browser.
        Application::Person(id) => {
            let itself = caller.opens && caller.acting.is_none() && caller.session.is_none();
            itself && caller.person.as_ref().is_some_and(|person| person.id == *id)
        }
        Application::Key(id) => caller.acting.is_none() && key.as_ref().is_some_and(|key| key.id == *id),
    };
    allowed.iter().find(is).cloned().ok_or_else(|| {
        Problem::not_allowed(
            "this application may not ask for its viewers: the store's owner can allow it (dkusecrets rule allow-headers)",
        )
    })
}

/// The headers of a browser's request; what is no text among them is passed over.
type Headers = BTreeMap<String, Value>;

/// The caller as whom an application asks: the person in whose browser it was opened.
fn viewer(server: &Server, caller: &Caller, input: &Input<Headers>) -> Result<Caller> {
    let application = application(server, caller)?;
    let headers = input.json()?;
    let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    Ok(caller.for_viewer(sign_in::viewer_of_headers(server, headers)?, application))
}

/// `POST /auth/info-from-browser-headers`.
pub fn viewer_info(server: &Server, caller: &Caller, input: &Input<Headers>) -> Answer<auth::Info> {
    let viewer = viewer(server, caller, input)?;
    input.tell(viewer.event("asked by headers", &[], Vec::new()));
    auth::info(server, &viewer, input)
}

/// A ticket, in the words of DSS.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Message {
    #[schemars(with = "String")]
    msg: Zeroizing<String>,
}

/// `POST /auth/ticket-from-browser-headers`.
pub fn viewer_ticket(server: &Server, caller: &Caller, input: &Input<Headers>) -> Answer<Message> {
    let viewer = viewer(server, caller, input)?;
    let (_, ticket) = server.issue_ticket(&viewer, viewer.someone()?)?;
    input.tell(viewer.event("ticket by headers", &[], Vec::new()));
    Ok(Message { msg: ticket })
}
