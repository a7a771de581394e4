//! One's own API keys.
use super::account::day;
use super::layout::{self, Page, Tab, moment};
use super::texts::{Done, Wanted as Telling};
use super::{Here, act, look, query};
use crate::http::App;
use crate::http::auth::{self, Wanted};
use crate::people::{self, ApiKey};
use crate::problem::Result;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;

pub fn routes() -> Router<App> {
    Router::new().route("/keys", get(show).post(create)).route("/keys/revoke", post(revoke))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    done: String,
}

async fn show(State(app): State<App>, request: Request) -> Response {
    let said: Said = query(&request);
    look(app, request, move |here| {
        let notice = Done::of(&said.done).map(|done| layout::good((here.texts.done)(done)));
        page(here, StatusCode::OK, notice.as_ref(), &New::default())
    })
    .await
}

fn page(here: &Here, status: StatusCode, notice: Option<&Markup>, typed: &New) -> Result<Page> {
    let texts = here.texts;
    let all = people::keys(&here.server().store)?;
    let mut own: Vec<&(String, ApiKey)> = all.iter().filter(|(_, key)| key.person == Some(here.person.id)).collect();
    own.sort_by_key(|(_, key)| std::cmp::Reverse(key.created_on));
    let content = html! {
        p.hint { (texts.api_keys_are) }
        @if own.is_empty() { p { (texts.no_keys) } }
        @else {
            table {
                thead { tr {
                    th scope="col" { (texts.label) } th scope="col" { (texts.created) }
                    th scope="col" title=(texts.last_used_is) { (texts.last_used) }
                    th scope="col" { (texts.expires) } th scope="col" { (texts.opens) }
                    th scope="col" { (texts.actions) }
                } }
                tbody { @for (hash, key) in own { (row(here, hash, key)) } }
            }
            p.hint { (texts.last_used) ": " (texts.last_used_is) }
        }
        h2 { (texts.create_key) }
        form method="post" action="/keys" autocomplete="off" {
            (here.token())
            label for="label" { (texts.label) }
            input id="label" name="label" value=(typed.label) maxlength="200" autocomplete="off" required;
            label for="expires" { (texts.expires_optional) }
            input id="expires" name="expires" type="date" value=(typed.expires) autocomplete="off";
            button { (texts.create) }
        }
    };
    Ok(layout::profile(here, Tab::Keys, texts.api_keys, status, notice, &content))
}

fn row(here: &Here, hash: &str, key: &ApiKey) -> Markup {
    let texts = here.texts;
    html! {
        tr {
            td { bdi { (key.label) } " " span.hint { (key.id) } }
            td data-label=(texts.created) {
                (moment(key.created_on))
                @if key.created_by != here.person.login { ", " (texts.made_by) " " bdi { (key.created_by) } }
            }
            td data-label=(texts.last_used) {
                @match here.server().key_used(hash, key) { Some(time) => (moment(time)), None => "–" }
            }
            td data-label=(texts.expires) {
                @match key.expires {
                    Some(time) => {
                        (moment(time))
                        @if time <= crate::server::now() { " " strong.badge.over { (texts.expired) } }
                    }
                    None => (texts.never),
                }
            }
            td data-label=(texts.opens) { @if key.confirmed { (texts.yes) } @else { (texts.not_yet) } }
            td {
                form method="post" action="/keys/revoke" {
                    (here.token())
                    input type="hidden" name="id" value=(key.id);
                    button.danger { (texts.revoke) span.hint { " " bdi { (key.label) } } }
                }
            }
        }
    }
}

#[derive(Default, Deserialize)]
struct New {
    label: String,
    expires: String,
}

async fn create(State(app): State<App>, request: Request) -> Response {
    act(app, request, |here, form: New| {
        here.caller.changer()?;
        let created = day(&form.expires).and_then(|day| {
            // It is good on that day, too.
            let expires = day.map(|day| (i64::from(day) + 1) * 24 * 60 * 60 * 1000);
            let wanted = Wanted { label: Some(form.label.clone()), expires, ..Wanted::default() };
            auth::make_key(here.server(), &here.caller, &wanted)
        });
        match created {
            Ok(new) => {
                let texts = here.texts;
                let notice = html! {
                    div.notice.good role="status" {
                        p { strong #new-key { (texts.new_key) } ". " (texts.new_key_is) }
                        pre.key tabindex="0" aria-labelledby="new-key" { (new.key.as_str()) }
                    }
                };
                page(here, StatusCode::OK, Some(&notice), &New::default())
            }
            Err(problem) => {
                let notice = here.told(&problem, Telling::Other);
                page(here, problem.status, Some(&notice), &form)
            }
        }
    })
    .await
}

#[derive(Deserialize)]
struct KeyId {
    id: String,
}

async fn revoke(State(app): State<App>, request: Request) -> Response {
    act(app, request, |here, form: KeyId| {
        here.caller.changer()?;
        auth::revoke(here.server(), &here.caller, &form.id)?;
        Ok(Page::Elsewhere(format!("/keys?done={}", Done::KeyRevoked.code())))
    })
    .await
}
