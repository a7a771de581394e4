//! The plain page, which needs no JavaScript: it signs in and out, sets the password by a link, changes it, and confirms
//! keys. What there is of a script takes the code out of a link's address.
use super::App;
use super::auth;
use super::sign_in::{Visit, keep, visit};
use crate::cookies;
use crate::identity::{Caller, is_same_origin};
use crate::people;
use crate::problem::{Problem, Result};
use crate::sign_in;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// A link's code is behind the #, which browsers send to nobody: no log has it, nor a Referer. Without a script it is
/// typed or pasted into the field.
const SCRIPT: &str = "const code = document.getElementById('code');
if (location.hash.length > 1) {
  code.value = location.hash.slice(1);
  history.replaceState(null, '', location.pathname);
}";

const STYLE: &str =
    "body { font: 1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem; }
label, input { display: block; width: 100%; box-sizing: border-box; }
input { margin-bottom: 1rem; padding: .5rem; font: inherit; }
button { padding: .5rem 1rem; font: inherit; }
.wrong { border-left: .25rem solid #b00020; padding-left: .75rem; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #eee; } }";

/// What a page may do: nothing but what is in it, and send its forms here. Nobody may frame it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(home))
        .route("/sign-in", post(begin))
        .route("/sign-out", post(end))
        .route("/sign-out-everywhere", post(end_all))
        .route("/password", post(password))
        .route("/confirm-key", post(confirm_key))
        .route("/link", get(link).post(set_by_link))
}

/// A page, or where to go on.
enum Page {
    Shown(StatusCode, Markup),
    /// Another page, so that a form is not sent again by going back.
    Elsewhere,
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let mut response = match self {
            Page::Shown(status, body) => (status, axum::response::Html(body.into_string())).into_response(),
            Page::Elsewhere => (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response(),
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

fn whole(title: &str, wrong: Option<&Problem>, content: &Markup, with_script: bool) -> Page {
    let body = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – dkusecrets" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                @if let Some(problem) = wrong { p.wrong role="alert" { (problem.message) } }
                (content)
                @if with_script { script { (PreEscaped(SCRIPT)) } }
            }
        }
    };
    Page::Shown(wrong.map_or(StatusCode::OK, |problem| problem.status), body)
}

fn sign_in_form(wrong: Option<&Problem>, login: &str) -> Page {
    let content = html! {
        form method="post" action="/sign-in" {
            label for="login" { "Login" }
            input id="login" name="login" value=(login) autocomplete="username" autocapitalize="none" required;
            label for="password" { "Password" }
            input id="password" name="password" type="password" autocomplete="current-password" required;
            button { "Sign in" }
        }
    };
    whole("Sign in", wrong, &content, false)
}

fn new_password_fields() -> Markup {
    html! {
        label for="new" { "New password: at least 15 characters; several words are better than one" }
        input id="new" name="new" type="password" autocomplete="new-password" minlength="15" required;
        label for="again" { "The same again" }
        input id="again" name="again" type="password" autocomplete="new-password" required;
    }
}

fn link_form(wrong: Option<&Problem>, login: &str, code: &str) -> Page {
    let content = html! {
        form method="post" action="/link" {
            label for="login" { "Your login" }
            input id="login" name="login" value=(login) autocomplete="username" autocapitalize="none" required;
            label for="code" { "The code, which stands behind the # in the link" }
            input id="code" name="code" value=(code) autocomplete="off" required;
            (new_password_fields())
            button { "Set the password" }
        }
    };
    whole("Set your password", wrong, &content, true)
}

/// What one sees who is signed in.
fn account(visit: &Visit, caller: &Caller, wrong: Option<&Problem>) -> Result<Page> {
    let (Some(person), Some(session)) = (&caller.person, &caller.session) else { return Ok(sign_in_form(wrong, "")) };
    let all = people::keys(&visit.server.store)?;
    let waiting: Vec<_> =
        all.iter().map(|(_, key)| key).filter(|key| key.person == Some(person.id) && !key.confirmed).collect();
    let token = html! { input type="hidden" name="csrf" value=(session.csrf); };
    let content = html! {
        p { "You are signed in as " strong { (person.login) } "." }
        @if !caller.opens {
            p.wrong {
                "Somebody else had a part in this password, so it opens none of your secrets yet. "
                @if person.uid.is_some() { "On the server's machine, run: " code { "dkusecrets password confirm" } }
                @else { "Set one that only you know; or, if you have an API key of your own, confirm this password with it." }
            }
        }
        @if caller.opens && !waiting.is_empty() {
            h2 { "API keys that others made for you" }
            @for key in waiting {
                form method="post" action="/confirm-key" {
                    (token)
                    input type="hidden" name="id" value=(key.id);
                    p { (key.label) " (" (key.id) "), made by " (key.created_by) }
                    button { "Let it open my secrets" }
                }
            }
        }
        h2 { "Change the password" }
        form method="post" action="/password" {
            (token)
            label for="password" { "Present password" }
            input id="password" name="password" type="password" autocomplete="current-password" required;
            (new_password_fields())
            button { "Change it" }
        }
        h2 { "Sign out" }
        form method="post" action="/sign-out" { (token) button { "Sign out" } }
        form method="post" action="/sign-out-everywhere" { (token) button { "Sign out of every browser" } }
    };
    Ok(whole("Your account", wrong, &content, false))
}

/// Whom the session stands for that a browser shows; who has none signs in.
fn caller(visit: &Visit) -> Result<Option<Caller>> {
    let Some(token) = visit.server.cookies(&visit.headers).session()? else { return Ok(None) };
    let viewer = sign_in::viewer(&visit.server, token, true)?;
    Ok(viewer.map(|viewer| Caller::of_session(viewer, &visit.headers, visit.peer)))
}

async fn home(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |visit| match caller(visit) {
        Ok(Some(caller)) => account(visit, &caller, None),
        Ok(None) => Ok(sign_in_form(None, "")),
        Err(problem) => Ok(sign_in_form(Some(&problem), "")),
    })
    .await
}

fn form<T: DeserializeOwned>(visit: &Visit) -> Result<T> {
    serde_urlencoded::from_bytes(&visit.body).map_err(|_| Problem::bad("that form is not one of ours"))
}

#[derive(Deserialize)]
struct Credentials {
    login: String,
    password: Zeroizing<String>,
}

async fn begin(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |visit| {
        let who: Credentials = match form(visit) {
            Ok(who) => who,
            Err(problem) => return Ok(sign_in_form(Some(&problem), "").into_response()),
        };
        let signed_in = visit
            .own_page()
            .and_then(|()| sign_in::sign_in(&visit.server, &visit.visitor(), &who.login, &who.password));
        match signed_in {
            Ok(signed_in) => {
                let mut response = Page::Elsewhere.into_response();
                keep(&visit.server, &signed_in, response.headers_mut())?;
                Ok(response)
            }
            Err(problem) => Ok(sign_in_form(Some(&problem), &who.login).into_response()),
        }
    })
    .await
}

/// Does what a form of somebody says who is signed in.
async fn act<T: DeserializeOwned>(
    app: App,
    request: Request,
    act: impl FnOnce(&Visit, &Caller, &T) -> Result<()> + Send + 'static,
) -> Response {
    #[derive(Deserialize)]
    struct Token {
        csrf: String,
    }
    visit(app, request, |visit| {
        let over = || Problem::not_authenticated("this session has ended: sign in again");
        let caller = match caller(visit).and_then(|caller| caller.ok_or_else(over)) {
            Ok(caller) => caller,
            Err(problem) => return Ok(sign_in_form(Some(&problem), "")),
        };
        let done = form::<Token>(visit).and_then(|token| {
            let own = caller.session.as_ref().is_some_and(|session| session.is_csrf(&token.csrf));
            if !own || !is_same_origin(&visit.headers) {
                return Err(Problem::not_allowed("that form was not sent by this page: open it again"));
            }
            act(visit, &caller, &form(visit)?)
        });
        match done {
            Ok(()) => Ok(Page::Elsewhere),
            Err(problem) => account(visit, &caller, Some(&problem)),
        }
    })
    .await
}

#[derive(Deserialize)]
struct Nothing {}

async fn end(State(app): State<App>, request: Request) -> Response {
    let secure = app.server.is_secure();
    let response = act(app, request, |visit, caller, _: &Nothing| sign_in::sign_out(&visit.server, caller)).await;
    forget(response, secure)
}

async fn end_all(State(app): State<App>, request: Request) -> Response {
    let secure = app.server.is_secure();
    let ended =
        |visit: &Visit, caller: &Caller, _: &Nothing| sign_in::sign_out_everywhere(&visit.server, caller).map(drop);
    forget(act(app, request, ended).await, secure)
}

/// Has a browser forget a session that has ended.
fn forget(mut response: Response, secure: bool) -> Response {
    if let (StatusCode::SEE_OTHER, Ok(cookie)) =
        (response.status(), HeaderValue::from_str(&cookies::clear_session(secure)))
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[derive(Deserialize)]
struct NewPassword {
    password: Zeroizing<String>,
    new: Zeroizing<String>,
    again: Zeroizing<String>,
}

fn same(new: &str, again: &str) -> Result<()> {
    if new == again { Ok(()) } else { Err(Problem::bad("the two passwords differ: type the new one again")) }
}

async fn password(State(app): State<App>, request: Request) -> Response {
    act(app, request, |visit, caller, form: &NewPassword| {
        same(&form.new, &form.again)?;
        sign_in::change_password(&visit.server, caller, Some(&form.password), &form.new)
    })
    .await
}

#[derive(Deserialize)]
struct KeyId {
    id: String,
}

async fn confirm_key(State(app): State<App>, request: Request) -> Response {
    act(app, request, |visit, caller, form: &KeyId| auth::confirm(&visit.server, caller, &form.id)).await
}

async fn link(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |_| Ok(link_form(None, "", ""))).await
}

#[derive(Deserialize)]
struct ByLink {
    login: String,
    code: Zeroizing<String>,
    new: Zeroizing<String>,
    again: Zeroizing<String>,
}

async fn set_by_link(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |visit| {
        let wanted: ByLink = match form(visit) {
            Ok(wanted) => wanted,
            Err(problem) => return Ok(link_form(Some(&problem), "", "")),
        };
        let code = wanted.code.trim();
        let done = same(&wanted.new, &wanted.again)
            .and_then(|()| sign_in::set_by_link(&visit.server, &visit.visitor(), &wanted.login, code, &wanted.new));
        Ok(match done {
            Ok(()) => Page::Elsewhere,
            Err(problem) => link_form(Some(&problem), &wanted.login, code),
        })
    })
    .await
}
