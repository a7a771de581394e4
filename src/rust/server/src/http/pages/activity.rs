//! One's own events, in plain words.
use super::layout::{self, Page, Tab, moment};
use super::{Here, look, query};
use crate::http::App;
use crate::problem::Result;
use crate::server::now;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use maud::{Markup, html};
use serde::Deserialize;
use std::collections::BTreeSet;
use vault::Event;

/// How many events are looked at.
const MOST: usize = 1000;
/// How many of them are shown.
const SHOWN: usize = 200;
/// How many names an event is shown with: whoever reads all reads many.
const NAMES: usize = 10;

pub fn routes() -> Router<App> {
    Router::new().route("/activity", get(show))
}

/// Which events are wanted. Secrets and scripts are told by what stands for their names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Filter {
    secret: String,
    script: String,
    what: String,
    days: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Reads,
    Changes,
    Others,
}

impl What {
    const ALL: [What; 3] = [What::Reads, What::Changes, What::Others];

    fn code(self) -> &'static str {
        match self {
            What::Reads => "reads",
            What::Changes => "changes",
            What::Others => "others",
        }
    }

    fn of(event: &Event) -> What {
        match event.action.as_str() {
            "read" | "read all" => What::Reads,
            "compared" | "set" | "described" | "removed" | "restored" | "renamed" | "purged" | "saved" => What::Changes,
            _ => What::Others,
        }
    }
}

impl Filter {
    fn lets(&self, here: &Here, event: &Event) -> bool {
        let is = |handle: &str, name: &str| handle.is_empty() || here.handle(name) == handle;
        let secret = self.secret.is_empty()
            || What::of(event) != What::Others && event.names.iter().any(|name| is(&self.secret, name));
        let script = self.script.is_empty() || script(event).is_some_and(|script| is(&self.script, script));
        let what = self.what.is_empty() || What::of(event).code() == self.what;
        let days: Option<i64> = self.days.parse().ok();
        let since =
            days.is_none_or(|days| event.time >= now().saturating_sub(days.saturating_mul(24 * 60 * 60 * 1000)));
        secret && script && what && since
    }
}

fn script(event: &Event) -> Option<&str> {
    event.claims.iter().find(|(name, _)| name == "script").map(|(_, says)| says.as_str())
}

async fn show(State(app): State<App>, request: Request) -> Response {
    let filter: Filter = query(&request);
    look(app, request, move |here| page(here, &filter)).await
}

fn page(here: &Here, filter: &Filter) -> Result<Page> {
    let texts = here.texts;
    let events = here.events(MOST)?;
    let wanted: Vec<&Event> = events.iter().filter(|event| filter.lets(here, event)).take(SHOWN).collect();
    let content = html! {
        p.hint { ((texts.activity_is)(SHOWN, MOST)) }
        (choices(here, filter, &events))
        @if wanted.is_empty() { p { (texts.no_events) } }
        @else {
            table {
                thead { tr {
                    th scope="col" { (texts.when) } th scope="col" { (texts.what) }
                    th scope="col" { (texts.by) } th scope="col" { (texts.from) }
                } }
                tbody { @for event in wanted { (row(here, event)) } }
            }
        }
    };
    Ok(layout::profile(here, Tab::Activity, texts.activity, StatusCode::OK, None, &content))
}

fn row(here: &Here, event: &Event) -> Markup {
    let texts = here.texts;
    html! {
        tr {
            td { (moment(event.time)) }
            td {
                (texts.action(&event.action))
                @for (i, name) in event.names.iter().take(NAMES).enumerate() {
                    @if i == 0 { ": " } @else { ", " }
                    code { bdi { (name) } }
                }
                @if event.names.len() > NAMES { ", +" (event.names.len() - NAMES) }
                @if event.outcome != "ok" { " " strong.badge.over { ((texts.refused)(&event.outcome)) } }
            }
            td data-label=(texts.by) {
                bdi { (event.who) }
                @if let Some(behalf) = &event.behalf { ", " ((texts.for_whom)(behalf)) }
                @if let Some(script) = script(event) { " (" bdi { (script) } ")" }
            }
            td data-label=(texts.from) { (event.from) }
        }
    }
}

fn choices(here: &Here, filter: &Filter, events: &[Event]) -> Markup {
    let texts = here.texts;
    let named = events.iter().filter(|event| What::of(event) != What::Others).flat_map(|event| &event.names);
    let secrets: BTreeSet<&str> = named.map(String::as_str).collect();
    let scripts: BTreeSet<&str> = events.iter().filter_map(script).collect();
    let handles = |names: BTreeSet<&str>| names.iter().map(|name| (here.handle(name), (*name).to_owned())).collect();
    let kinds = What::ALL.iter().map(|what| {
        let says = match what {
            What::Reads => texts.reads,
            What::Changes => texts.changes,
            What::Others => texts.others,
        };
        (what.code().to_owned(), says.to_owned())
    });
    let days = [1, 7, 30].map(|days: i64| (days.to_string(), (texts.days)(days)));
    html! {
        form.filter method="get" action="/activity" {
            (choice(here, "secret", texts.secret, &filter.secret, handles(secrets)))
            (choice(here, "what", texts.what, &filter.what, kinds.collect()))
            @if !scripts.is_empty() { (choice(here, "script", texts.script, &filter.script, handles(scripts))) }
            (choice(here, "days", texts.since, &filter.days, days.to_vec()))
            button { (texts.filter) }
        }
    }
}

fn choice(here: &Here, name: &str, label: &str, chosen: &str, all: Vec<(String, String)>) -> Markup {
    html! {
        div {
            label for=(name) { (label) }
            select id=(name) name=(name) autocomplete="off" {
                option value="" { (here.texts.all) }
                @for (value, says) in &all { option value=(value) selected[value == chosen] { (says) } }
            }
        }
    }
}
