//! What all pages are made of.
use super::Here;
use super::texts::{Texts, Wanted};
use crate::http::own::days;
use crate::problem::Problem;
use crate::server::now;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use time::OffsetDateTime;

/// A link's code is behind the #, which browsers send to nobody: no log has it, nor a Referer. Without a script it is
/// typed or pasted into the field.
const SCRIPT: &str = "const code = document.getElementById('code');
if (location.hash.length > 1) {
  code.value = location.hash.slice(1);
  history.replaceState(null, '', location.pathname);
}";

const STYLE: &str = include_str!("style.css");

/// From how many days before its end on a value is said to end.
const NEAR: i32 = 14;

/// What a page may do: nothing but our one style and one script, and send its forms here. Nobody may frame it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    format!(
        "default-src 'none'; style-src 'self'; script-src 'sha256-{hash}'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

/// A page, or where to go on.
pub enum Page {
    Shown {
        status: StatusCode,
        body: Markup,
        /// After how many seconds a browser goes where instead.
        until: Option<(u32, String)>,
    },
    /// Another page, so that a form is not sent again by going back.
    Elsewhere(String),
}

impl Page {
    /// For so many seconds only.
    pub fn until(self, seconds: u32, then: String) -> Page {
        match self {
            Page::Shown { status, body, .. } => Page::Shown { status, body, until: Some((seconds, then)) },
            elsewhere => elsewhere,
        }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = match self {
            Page::Shown { status, body, until } => {
                let mut response = (status, axum::response::Html(body.into_string())).into_response();
                let refresh = until.map(|(seconds, then)| HeaderValue::from_str(&format!("{seconds}; url={then}")));
                if let Some(Ok(refresh)) = refresh {
                    response.headers_mut().insert(header::REFRESH, refresh);
                }
                response
            }
            Page::Elsewhere(to) => (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response(),
        };
        let fixed = [
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        for (name, value) in fixed {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if let Ok(policy) = HeaderValue::from_str(&POLICY) {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        response
    }
}

/// `GET /style.css`.
pub async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (headers, STYLE).into_response()
}

/// The parts of the profile.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Account,
    Keys,
    Activity,
    Password,
}

impl Tab {
    const ALL: [Tab; 4] = [Tab::Account, Tab::Keys, Tab::Activity, Tab::Password];

    fn path(self) -> &'static str {
        match self {
            Tab::Account => "/",
            Tab::Keys => "/keys",
            Tab::Activity => "/activity",
            Tab::Password => "/password",
        }
    }

    fn name(self, texts: &Texts) -> &str {
        match self {
            Tab::Account => texts.my_account,
            Tab::Keys => texts.api_keys,
            Tab::Activity => texts.activity,
            Tab::Password => texts.password,
        }
    }
}

fn whole(texts: &Texts, title: &str, class: Option<&str>, content: &Markup, script: bool) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(texts.lang) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – dkusecrets" }
                link rel="stylesheet" href="/style.css";
            }
            body class=[class] {
                (content)
                @if script { script { (PreEscaped(SCRIPT)) } }
            }
        }
    }
}

/// A page for somebody who is not signed in. `script`: the one that takes the code out of a link's address.
pub fn plain(texts: &Texts, title: &str, wrong: Option<(&Problem, Wanted)>, content: &Markup, script: bool) -> Page {
    let content = html! {
        main {
            h1 { (title) }
            @if let Some((problem, wanted)) = wrong { (self::wrong(&texts.problem(problem, wanted))) }
            (content)
        }
    };
    let body = whole(texts, title, Some("narrow"), &content, script);
    Page::Shown { status: wrong.map_or(StatusCode::OK, |(problem, _)| problem.status), body, until: None }
}

/// A page of the profile. `notice` says what was done, or what went wrong, which `status` then says, too.
pub fn profile(
    here: &Here,
    tab: Tab,
    title: &str,
    status: StatusCode,
    notice: Option<&Markup>,
    content: &Markup,
) -> Page {
    let texts = here.texts;
    let content = html! {
        header {
            a.skip href="#content" { (texts.skip) }
            p { (texts.signed_in_as) " " strong { (here.person.login) } }
            form method="post" action="/sign-out" { (here.token()) button.quiet { (texts.sign_out) } }
            nav aria-label=(texts.tabs) {
                ul {
                    @for one in Tab::ALL {
                        li { a href=(one.path()) aria-current=[(one == tab).then_some("page")] { (one.name(texts)) } }
                    }
                }
            }
        }
        main #content tabindex="-1" {
            h1 { bdi { (title) } }
            @if let Some(notice) = notice { (notice) }
            (content)
        }
    };
    Page::Shown { status, body: whole(texts, title, None, &content, false), until: None }
}

/// What is shown when something could not be done that no page of its own tells of.
pub fn failed(here: &Here, problem: &Problem) -> Page {
    if problem.status.is_server_error() {
        tracing::error!(kind = problem.kind, "{}", problem.for_log());
    }
    let notice = here.told(problem, Wanted::Other);
    let content = html! { p { a href="/" { (here.texts.my_account) } } };
    profile(here, Tab::Account, here.texts.went_wrong, problem.status, Some(&notice), &content)
}

pub fn wrong(text: &str) -> Markup {
    html! { p.notice.wrong role="alert" { (text) } }
}

pub fn good(text: &str) -> Markup {
    html! { p.notice.good role="status" { (text) } }
}

/// A time in milliseconds since 1970. Without a script nobody knows the reader's zone: it is UTC.
pub fn moment(time: i64) -> Markup {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(time.div_euclid(1000)) else { return html! { "?" } };
    let day = format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day());
    let clock = format!("{:02}:{:02}", at.hour(), at.minute());
    html! { time datetime={ (day) "T" (clock) "Z" } { (day) " " (clock) " UTC" } }
}

/// The last day on which something is good, with a warning when it is near or over.
pub fn expiry(texts: &Texts, expires: Option<i32>) -> Markup {
    let Some(day) = expires else { return html! { (texts.never) } };
    let left = day.saturating_sub(today());
    html! {
        (days::format(day)) " "
        @if left < 0 { strong.badge.over { (texts.expired) } }
        @else if left == 0 { strong.badge { (texts.expires_today) } }
        @else if left <= NEAR { strong.badge { ((texts.expires_in)(left)) } }
    }
}

pub fn today() -> i32 {
    i32::try_from(now().div_euclid(24 * 60 * 60 * 1000)).unwrap_or(i32::MAX)
}

/// A field's text of several lines: browsers drop a line break at its beginning.
pub fn kept(text: &str) -> Markup {
    html! { @if text.starts_with('\n') { "\n" } (text) }
}
