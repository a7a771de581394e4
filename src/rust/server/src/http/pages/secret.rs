//! One secret: what is known of it, its value if it is asked for, its versions, and how code uses it.
use super::account::{day, last_reads, more_fields, value_of};
use super::layout::{self, Page, Tab, expiry, moment};
use super::texts::{Done, Wanted};
use super::{Here, Seen, act, lines, look, query, stamp};
use crate::http::App;
use crate::http::own::days;
use crate::problem::{Problem, Result};
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;
use vault::{Change, Event, Summary};
use zeroize::Zeroizing;

/// For how long a value is shown.
const SHOWN_SECONDS: u32 = 30;
/// How many events are looked at for when it was last read.
const EVENTS: usize = 500;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/secrets/{handle}", get(show).post(edit))
        .route("/secrets/{handle}/show", post(show_value))
        .route("/secrets/{handle}/remove", post(remove))
        .route("/secrets/{handle}/restore", post(restore))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    done: String,
}

async fn show(State(app): State<App>, Path(handle): Path<String>, request: Request) -> Response {
    let said: Said = query(&request);
    look(app, request, move |here| {
        let secret = here.secret(&handle)?;
        let notice = Done::of(&said.done).map(|done| layout::good((here.texts.done)(done)));
        page(here, &secret, &Shown { notice, ..Shown::of(&secret) })
    })
    .await
}

/// What a page shows of a secret beside what it is.
struct Shown {
    status: StatusCode,
    notice: Option<Markup>,
    value: Option<vault::Value>,
    /// In the fields.
    description: String,
    expires: String,
}

impl Shown {
    fn of(secret: &Summary) -> Shown {
        Shown {
            status: StatusCode::OK,
            notice: None,
            value: None,
            description: secret.description.clone(),
            expires: secret.expires.map(days::format).unwrap_or_default(),
        }
    }
}

fn page(here: &Here, secret: &Summary, shown: &Shown) -> Result<Page> {
    let texts = here.texts;
    let at = format!("/secrets/{}", here.handle(&secret.name));
    let seen = html! { (here.token()) input type="hidden" name="seen" value=(stamp(secret)); };
    let events = here.events(EVENTS)?;
    let content = html! {
        p { a href="/" { "← " (texts.back) } }
        dl {
            dt { (texts.description) }
            dd.lines { bdi { @if secret.description.is_empty() { (texts.none) } @else { (secret.description) } } }
            dt { (texts.version) } dd { (secret.version) }
            dt { (texts.created) } dd { (moment(secret.created)) }
            dt { (texts.updated) } dd { (moment(secret.updated)) }
            dt { (texts.last_read) }
            dd title=(texts.last_read_is) {
                @if let Some(time) = last_reads(&events).get(secret.name.as_str()) { (moment(*time)) } @else { "–" }
            }
            dt { (texts.expires) } dd { (expiry(texts, secret.expires)) }
            @if let Some(removed) = secret.removed { dt { (texts.removed) } dd { (moment(removed)) } }
        }
        @if secret.removed.is_some() {
            form method="post" action={ (at) "/restore" } { (seen) button { (texts.restore) } }
        } @else {
            h2 #value-title { (texts.value) }
            @if let Some(value) = &shown.value {
                // A parser drops a line feed that comes first.
                pre.value tabindex="0" aria-labelledby="value-title" { "\n" (value.expose()) }
                p { ((texts.shown_for)(SHOWN_SECONDS)) " " a href=(at) { (texts.hide) } }
            } @else {
                form method="post" action={ (at) "/show" } {
                    (here.token())
                    button { (texts.show) }
                    span.hint { " " (texts.show_is) }
                }
            }
            (in_code(here, &secret.name))
            h2 { (texts.edit) }
            form method="post" action=(at) autocomplete="off" {
                (seen)
                label for="value" { (texts.new_value) }
                textarea id="value" name="value" rows="4" autocomplete="off" autocapitalize="none" spellcheck="false" {}
                (more_fields(here, &shown.description, &shown.expires))
                button { (texts.save) }
            }
            h2 { (texts.remove) }
            form method="post" action={ (at) "/remove" } {
                (seen)
                p.hint { (texts.remove_is) }
                button.danger { (texts.remove) }
            }
        }
        (versions(here, secret, &at, &seen)?)
    };
    let page = layout::profile(here, Tab::Account, &secret.name, shown.status, shown.notice.as_ref(), &content);
    Ok(if shown.value.is_some() { page.until(SHOWN_SECONDS, at) } else { page })
}

fn versions(here: &Here, secret: &Summary, at: &str, seen: &Markup) -> Result<Markup> {
    let texts = here.texts;
    let all = here.server().store.versions(&here.opener()?, &secret.name)?;
    Ok(html! {
        h2 #versions { (texts.versions) }
        table aria-labelledby="versions" {
            thead { tr {
                th scope="col" { (texts.version) } th scope="col" { (texts.created) }
                th scope="col" { (texts.expires) } th scope="col" { (texts.actions) }
            } }
            tbody {
                @for version in &all {
                    tr {
                        td data-label=(texts.version) { (version.version) }
                        td data-label=(texts.created) { (moment(version.created)) }
                        td data-label=(texts.expires) { (expiry(texts, version.expires)) }
                        td {
                            @if version.current { (texts.current) }
                            @else {
                                form method="post" action={ (at) "/restore" } {
                                    (seen)
                                    input type="hidden" name="version" value=(version.version);
                                    button.quiet { ((texts.restore_version)(version.version)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    })
}

/// The same text is a string in R and in Python: both escape these two by a backslash.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn in_code(here: &Here, name: &str) -> Markup {
    let name = quoted(name);
    let r = format!("library(dkusecrets)\n\nsecret_value <- dkuGetSecret({name})");
    let python = format!(
        "import os\nimport dataikuapi\n\nclient = dataikuapi.DSSClient(\
         os.environ[\"DKU_DSS_URL\"], os.environ[\"DKU_API_KEY\"])\nsecrets = \
         client.get_auth_info(with_secrets=True)[\"secrets\"]\n\
         secret_value = next(secret[\"value\"] for secret in secrets if secret[\"key\"] == {name})"
    );
    html! {
        h2 { (here.texts.in_code) }
        p.hint { (here.texts.in_code_is) }
        h3 #in-r { "R" }
        pre.code.r tabindex="0" aria-labelledby="in-r" { (r) }
        h3 #in-python { "Python" }
        pre.code.python tabindex="0" aria-labelledby="in-python" { (python) }
    }
}

#[derive(Deserialize)]
struct Nothing {}

async fn show_value(State(app): State<App>, Path(handle): Path<String>, request: Request) -> Response {
    act(app, request, move |here, _: Nothing| {
        let secret = here.secret(&handle)?;
        let read = here.caller.event("read", &[], vec![secret.name.clone()]);
        match here.server().store.get(&here.opener()?, &secret.name) {
            Ok(found) => {
                // Before it leaves.
                here.server().record(read)?;
                here.server().metrics.read(1);
                page(here, &secret, &Shown { value: Some(found.value), ..Shown::of(&secret) })
            }
            Err(e) => {
                here.server().record(Event { outcome: e.kind().into(), ..read })?;
                Err(e.into())
            }
        }
    })
    .await
}

#[derive(Deserialize)]
struct Edited {
    seen: String,
    value: Zeroizing<String>,
    description: String,
    expires: String,
}

async fn edit(State(app): State<App>, Path(handle): Path<String>, request: Request) -> Response {
    act(app, request, move |here, form: Edited| {
        let seen = Seen { name: here.secret(&handle)?.name, stamp: form.seen };
        let description = lines(&form.description);
        let saved = day(&form.expires).and_then(|expires| {
            let wanted = Change { description: Some(description.clone()), expires: Some(expires), if_version: None };
            if form.value.is_empty() {
                here.change(&seen, "described", |change, person| Ok(change.describe(person, &seen.name, &wanted)?))
            } else {
                let value = value_of(&form.value)?;
                here.change(&seen, "set", |change, person| {
                    change.set(person, &seen.name, &value, &wanted)?;
                    Ok(())
                })
            }
        });
        match saved {
            Ok(()) => Ok(Page::Elsewhere(format!("/secrets/{handle}?done={}", Done::Saved.code()))),
            Err(problem) => not_saved(here, &handle, &seen, &problem, Some((description, form.expires))),
        }
    })
    .await
}

/// The page again, with what went wrong, and what others changed if it is that. What was typed stays, but for a value.
fn not_saved(
    here: &Here,
    handle: &str,
    seen: &Seen,
    problem: &Problem,
    typed: Option<(String, String)>,
) -> Result<Page> {
    let texts = here.texts;
    let secret = here.secret(handle)?;
    let notice = if problem.kind == "conflict" {
        let mut parts = seen.stamp.split('.');
        let version = parts.next().and_then(|version| version.parse().ok()).unwrap_or(0);
        let was_removed = parts.next_back() != Some("0");
        html! {
            div.notice.wrong role="alert" {
                p { (texts.changed_meanwhile) }
                ul {
                    @if secret.removed.is_some() { li { (texts.was_removed) } }
                    @else if was_removed { li { (texts.no_longer_removed) } }
                    @if version != secret.version { li { ((texts.you_saw)(version)) } }
                    @else if secret.removed.is_some() == was_removed { li { (texts.value_as_before) } }
                }
                p { (texts.nothing_stored) }
            }
        }
    } else {
        here.told(problem, Wanted::Other)
    };
    let shown = Shown { status: problem.status, notice: Some(notice), ..Shown::of(&secret) };
    let shown = match typed {
        Some((description, expires)) => Shown { description, expires, ..shown },
        None => shown,
    };
    page(here, &secret, &shown)
}

#[derive(Deserialize)]
struct Removal {
    seen: String,
}

async fn remove(State(app): State<App>, Path(handle): Path<String>, request: Request) -> Response {
    act(app, request, move |here, form: Removal| {
        let seen = Seen { name: here.secret(&handle)?.name, stamp: form.seen };
        match here.change(&seen, "removed", |change, person| Ok(change.remove(person, &seen.name, None)?)) {
            Ok(()) => Ok(Page::Elsewhere(format!("/?done={}&secret={handle}", Done::Removed.code()))),
            Err(problem) => not_saved(here, &handle, &seen, &problem, None),
        }
    })
    .await
}

#[derive(Deserialize)]
struct Restoration {
    seen: String,
    #[serde(default)]
    version: Option<u64>,
}

async fn restore(State(app): State<App>, Path(handle): Path<String>, request: Request) -> Response {
    act(app, request, move |here, form: Restoration| {
        let seen = Seen { name: here.secret(&handle)?.name, stamp: form.seen };
        let restored = here.change(&seen, "restored", |change, person| {
            change.restore(person, &seen.name, form.version)?;
            Ok(())
        });
        match restored {
            Ok(()) => Ok(Page::Elsewhere(format!("/secrets/{handle}?done={}", Done::Restored.code()))),
            Err(problem) => not_saved(here, &handle, &seen, &problem, None),
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_code() {
        assert_eq!(quoted(r#"a"b\"#), r#""a\"b\\""#);
    }
}
