//! My Account: who one is, and the list of one's secrets, which DSS calls other credentials.
use super::layout::{self, Page, Tab, expiry, kept, moment};
use super::texts::{Done, Wanted};
use super::{Here, act, lines, look, query, stamp};
use crate::http::own::days;
use crate::http::{App, auth};
use crate::people;
use crate::problem::{Problem, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::HashMap;
use vault::{Change, Event, Summary};
use zeroize::Zeroizing;

/// How many events are looked at for when a secret was last read.
const EVENTS: usize = 500;

pub fn routes() -> Router<App> {
    Router::new().route("/", get(show)).route("/secrets", post(add)).route("/confirm-key", post(confirm_key))
}

/// What an address says of what was done.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    done: String,
    secret: String,
}

async fn show(State(app): State<App>, request: Request) -> Response {
    let said: Said = query(&request);
    look(app, request, move |here| {
        let Some(done) = Done::of(&said.done) else { return page(here, StatusCode::OK, None, &Typed::default()) };
        let undo = match here.secret(&said.secret) {
            Ok(secret) if done == Done::Removed && secret.removed.is_some() => {
                html! { " " (restore_form(here, &secret, here.texts.undo)) }
            }
            _ => html! {},
        };
        let notice = html! {
            div.notice.good role="status" { ((here.texts.done)(done)) (undo) }
        };
        page(here, StatusCode::OK, Some(&notice), &Typed::default())
    })
    .await
}

/// What was typed for a new secret, but for the value.
#[derive(Default)]
struct Typed {
    name: String,
    description: String,
    expires: String,
}

fn page(here: &Here, status: StatusCode, notice: Option<&Markup>, typed: &Typed) -> Result<Page> {
    let (texts, person) = (here.texts, &here.person);
    let email = if person.email.is_empty() { texts.none } else { &person.email };
    let content = html! {
        @if !here.caller.opens {
            p.notice.warn {
                (texts.opens_nothing) " "
                @if person.uid.is_some() { (texts.opens_by_command) " " code { "dkusecrets password confirm" } }
                @else { (texts.opens_by_key) }
            }
        }
        (keys_of_others(here)?)
        dl {
            dt { (texts.login) } dd { (person.login) }
            dt { (texts.display_name) } dd { bdi { (person.display_name) } }
            dt { (texts.email) } dd { bdi { (email) } }
        }
        @if here.caller.opens { (credentials(here, status != StatusCode::OK, typed)?) }
    };
    Ok(layout::profile(here, Tab::Account, texts.my_account, status, notice, &content))
}

/// Keys that the person has to say something of.
fn keys_of_others(here: &Here) -> Result<Markup> {
    let all = people::keys(&here.server().store)?;
    let waiting = || all.iter().map(|(_, key)| key).filter(|key| key.person == Some(here.person.id) && !key.confirmed);
    if !here.caller.opens || waiting().next().is_none() {
        return Ok(html! {});
    }
    Ok(html! {
        h2 { (here.texts.keys_by_others) }
        @for key in waiting() {
            form method="post" action="/confirm-key" {
                (here.token())
                input type="hidden" name="id" value=(key.id);
                p { bdi { (key.label) } " (" (key.id) "), " (here.texts.made_by) " " bdi { (key.created_by) } }
                button { (here.texts.let_it_open) }
            }
        }
    })
}

fn credentials(here: &Here, open: bool, typed: &Typed) -> Result<Markup> {
    let texts = here.texts;
    let all = here.server().store.list(&here.opener()?)?;
    let (removed, live): (Vec<&Summary>, Vec<&Summary>) = all.iter().partition(|secret| secret.removed.is_some());
    let events = here.events(EVENTS)?;
    let read = last_reads(&events);
    Ok(html! {
        h2 #credentials { (texts.other_credentials) }
        p.hint { (texts.other_credentials_are) }
        @if live.is_empty() { p { (texts.no_credentials) } }
        @else {
            table aria-labelledby="credentials" {
                thead { tr {
                    th scope="col" { (texts.name) } th scope="col" { (texts.description) }
                    th scope="col" { (texts.updated) } th scope="col" title=(texts.last_read_is) { (texts.last_read) }
                    th scope="col" { (texts.expires) } th scope="col" { (texts.version) }
                } }
                tbody {
                    @for secret in live {
                        tr {
                            td { a href={ "/secrets/" (here.handle(&secret.name)) } { bdi { (secret.name) } } }
                            td.lines { bdi { (secret.description) } }
                            td data-label=(texts.updated) { (moment(secret.updated)) }
                            td data-label=(texts.last_read) {
                                @if let Some(time) = read.get(secret.name.as_str()) { (moment(*time)) } @else { "–" }
                            }
                            td data-label=(texts.expires) { (expiry(texts, secret.expires)) }
                            td data-label=(texts.version) { (secret.version) }
                        }
                    }
                }
            }
        }
        details open[open] {
            summary { (texts.add) }
            form method="post" action="/secrets" autocomplete="off" {
                h3 { (texts.add_credential) }
                (here.token())
                label for="name" { (texts.name) }
                input id="name" name="name" value=(typed.name) maxlength="255" autocomplete="off"
                    autocapitalize="none" spellcheck="false" required;
                label for="value" { (texts.value) }
                textarea id="value" name="value" rows="4" autocomplete="off" autocapitalize="none"
                    spellcheck="false" required {}
                (more_fields(here, &typed.description, &typed.expires))
                button { (texts.save) }
            }
        }
        @if !removed.is_empty() {
            h2 #removed { (texts.removed_ones) }
            p.hint { (texts.removed_are) }
            table aria-labelledby="removed" {
                thead { tr {
                    th scope="col" { (texts.name) } th scope="col" { (texts.removed) }
                    th scope="col" { (texts.actions) }
                } }
                tbody {
                    @for secret in removed {
                        tr {
                            td { bdi { (secret.name) } }
                            td data-label=(texts.removed) { (moment(secret.removed.unwrap_or_default())) }
                            td { (restore_form(here, secret, texts.restore)) }
                        }
                    }
                }
            }
        }
    })
}

/// The fields of a secret beside its name and value.
pub fn more_fields(here: &Here, description: &str, expires: &str) -> Markup {
    let texts = here.texts;
    html! {
        label for="description" { (texts.description) }
        textarea id="description" name="description" rows="2" maxlength="1000" autocomplete="off" { (kept(description)) }
        label for="expires" { (texts.expires_optional) }
        input id="expires" name="expires" type="date" value=(expires) autocomplete="off";
    }
}

fn restore_form(here: &Here, secret: &Summary, says: &str) -> Markup {
    html! {
        form method="post" action={ "/secrets/" (here.handle(&secret.name)) "/restore" } {
            (here.token())
            input type="hidden" name="seen" value=(stamp(secret));
            button.quiet { (says) span.hint { " " bdi { (secret.name) } } }
        }
    }
}

/// When each secret was last read, as far as the events tell.
pub fn last_reads(events: &[Event]) -> HashMap<&str, i64> {
    let mut all = HashMap::new();
    // Newest first: the first one that is found is the last.
    for event in events.iter().filter(|event| event.action.starts_with("read") && event.outcome == "ok") {
        for name in &event.names {
            all.entry(name.as_str()).or_insert(event.time);
        }
    }
    all
}

#[derive(Deserialize)]
struct New {
    name: String,
    value: Zeroizing<String>,
    description: String,
    expires: String,
}

async fn add(State(app): State<App>, request: Request) -> Response {
    act(app, request, |here, form: New| {
        let typed = Typed { name: form.name, description: lines(&form.description), expires: form.expires };
        match store(here, &typed, &form.value) {
            Ok(()) => Ok(Page::Elsewhere(format!("/?done={}", Done::Added.code()))),
            Err(problem) => {
                let notice = here.told(&problem, Wanted::Other);
                page(here, problem.status, Some(&notice), &typed)
            }
        }
    })
    .await
}

/// Stores a secret under a name that there is none of.
fn store(here: &Here, new: &Typed, value: &Zeroizing<String>) -> Result<()> {
    let person = here.opener()?;
    let value = value_of(value)?;
    let expires = Some(day(&new.expires)?);
    let wanted = Change { description: Some(new.description.clone()), expires, if_version: Some(0) };
    here.server().change(|change| {
        change.record(here.caller.event("set", &[], vec![new.name.clone()]));
        Ok(change.set(&person, &new.name, &value, &wanted)?)
    })?;
    Ok(())
}

/// A value as it was typed.
pub fn value_of(typed: &Zeroizing<String>) -> Result<vault::Value> {
    let text = Zeroizing::new(lines(typed));
    Ok(vault::Value::new(text.as_bytes())?)
}

/// A day as fields for dates send it; empty for none.
pub fn day(typed: &str) -> Result<Option<i32>> {
    match typed.trim() {
        "" => Ok(None),
        day => days::parse(day).map(Some).ok_or_else(|| Problem::bad("a day is written as in 2031-12-31")),
    }
}

#[derive(Deserialize)]
struct KeyId {
    id: String,
}

async fn confirm_key(State(app): State<App>, request: Request) -> Response {
    act(app, request, |here, form: KeyId| {
        auth::confirm(here.server(), &here.caller, &form.id)?;
        Ok(Page::Elsewhere(format!("/?done={}", Done::KeyConfirmed.code())))
    })
    .await
}
