//! What signs in and out, sets the password by a link, and changes it.
use super::layout::{self, Page, Tab, plain};
use super::texts::{Texts, Wanted};
use super::{Here, act, look, read};
use crate::cookies;
use crate::http::App;
use crate::http::sign_in::{keep, visit};
use crate::problem::{Problem, Result};
use crate::sign_in;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use maud::{Markup, html};
use serde::Deserialize;
use zeroize::Zeroizing;

pub fn routes() -> Router<App> {
    Router::new()
        .route("/sign-in", post(begin))
        .route("/sign-out", post(end))
        .route("/sign-out-everywhere", post(end_all))
        .route("/password", get(show_password).post(password))
        .route("/link", get(link).post(set_by_link))
}

fn fields(texts: &Texts, wrong: Option<(&Problem, Wanted)>, login: &str) -> Page {
    let content = html! {
        form method="post" action="/sign-in" {
            label for="login" { (texts.login) }
            input id="login" name="login" value=(login) autocomplete="username" autocapitalize="none" required;
            label for="password" { (texts.password) }
            input id="password" name="password" type="password" autocomplete="current-password" required;
            button { (texts.sign_in) }
        }
    };
    plain(texts, texts.sign_in, wrong, &content, false)
}

/// Signs in; `wrong` is why it did not.
pub fn form(texts: &Texts, wrong: Option<&Problem>, login: &str) -> Page {
    fields(texts, wrong.map(|problem| (problem, Wanted::SignIn)), login)
}

/// The same for somebody whose session is over.
pub fn over(texts: &Texts, problem: &Problem) -> Page {
    fields(texts, Some((problem, Wanted::Other)), "")
}

fn new_password_fields(texts: &Texts) -> Markup {
    html! {
        label for="new" { (texts.new_password) }
        input id="new" name="new" type="password" autocomplete="new-password" minlength="15" required;
        label for="again" { (texts.again) }
        input id="again" name="again" type="password" autocomplete="new-password" required;
    }
}

fn link_form(texts: &Texts, wrong: Option<&Problem>, login: &str, code: &str) -> Page {
    let content = html! {
        form method="post" action="/link" {
            label for="login" { (texts.your_login) }
            input id="login" name="login" value=(login) autocomplete="username" autocapitalize="none" required;
            label for="code" { (texts.code) }
            input id="code" name="code" value=(code) autocomplete="off" required;
            (new_password_fields(texts))
            button { (texts.set_the_password) }
        }
    };
    plain(texts, texts.set_password, wrong.map(|problem| (problem, Wanted::Link)), &content, true)
}

#[derive(Deserialize)]
struct Credentials {
    login: String,
    password: Zeroizing<String>,
}

async fn begin(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |visit| {
        let texts = Texts::of(&visit.headers);
        let who: Credentials = match read(visit) {
            Ok(who) => who,
            Err(problem) => return Ok(over(texts, &problem).into_response()),
        };
        if let Err(problem) = visit.own_page() {
            return Ok(over(texts, &problem).into_response());
        }
        match sign_in::sign_in(&visit.server, &visit.visitor(), &who.login, &who.password) {
            Ok(signed_in) => {
                let mut response = Page::Elsewhere("/".into()).into_response();
                keep(&visit.server, &signed_in, response.headers_mut())?;
                Ok(response)
            }
            Err(problem) => Ok(form(texts, Some(&problem), &who.login).into_response()),
        }
    })
    .await
}

#[derive(Deserialize)]
struct Nothing {}

async fn end(State(app): State<App>, request: Request) -> Response {
    let secure = app.server.is_secure();
    let ended = |here: &Here, _: Nothing| {
        sign_in::sign_out(here.server(), &here.caller)?;
        Ok(Page::Elsewhere("/".into()))
    };
    forget(act(app, request, ended).await, secure)
}

async fn end_all(State(app): State<App>, request: Request) -> Response {
    let secure = app.server.is_secure();
    let ended = |here: &Here, _: Nothing| {
        sign_in::sign_out_everywhere(here.server(), &here.caller)?;
        Ok(Page::Elsewhere("/".into()))
    };
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

fn password_page(here: &Here, wrong: Option<&Problem>) -> Page {
    let texts = here.texts;
    let notice = wrong.map(|problem| here.told(problem, Wanted::Password));
    let content = html! {
        h2 { (texts.change_password) }
        form method="post" action="/password" {
            (here.token())
            label for="password" { (texts.present_password) }
            input id="password" name="password" type="password" autocomplete="current-password" required;
            (new_password_fields(texts))
            p.hint { (texts.password_changed) }
            button { (texts.change_it) }
        }
        h2 { (texts.sign_out) }
        form method="post" action="/sign-out-everywhere" {
            (here.token())
            button.quiet { (texts.sign_out_everywhere) }
        }
    };
    let status = wrong.map_or(StatusCode::OK, |problem| problem.status);
    layout::profile(here, Tab::Password, texts.password, status, notice.as_ref(), &content)
}

async fn show_password(State(app): State<App>, request: Request) -> Response {
    look(app, request, |here| Ok(password_page(here, None))).await
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
    act(app, request, |here, form: NewPassword| {
        let changed = same(&form.new, &form.again)
            .and_then(|()| sign_in::change_password(here.server(), &here.caller, Some(&form.password), &form.new));
        Ok(match changed {
            Ok(()) => Page::Elsewhere("/".into()),
            Err(problem) => password_page(here, Some(&problem)),
        })
    })
    .await
}

async fn link(State(app): State<App>, request: Request) -> Response {
    visit(app, request, |visit| Ok(link_form(Texts::of(&visit.headers), None, "", ""))).await
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
        let texts = Texts::of(&visit.headers);
        let wanted: ByLink = match read(visit) {
            Ok(wanted) => wanted,
            Err(problem) => return Ok(link_form(texts, Some(&problem), "", "")),
        };
        let code = wanted.code.trim();
        let done = same(&wanted.new, &wanted.again)
            .and_then(|()| sign_in::set_by_link(&visit.server, &visit.visitor(), &wanted.login, code, &wanted.new));
        Ok(match done {
            Ok(()) => Page::Elsewhere("/".into()),
            Err(problem) => link_form(texts, Some(&problem), &wanted.login, code),
        })
    })
    .await
}
