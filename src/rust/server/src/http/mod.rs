//! The routes: DSS's public API under both of its prefixes, and our own. Each handler is a plain function of the server,
//! the caller and the request; `dispatch` does for all of them what must never be forgotten.
mod admin;
mod auth;
pub use auth::described;
mod own;
mod page;
mod runs;
mod settings;
mod sign_in;

use crate::identity::{Caller, Peer, authenticate};
use crate::problem::{Problem, Result};
use crate::server::Server;
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, OriginalUri, RawPathParams, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower::util::MapRequestLayer;

/// A request's body, in bytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long the body of a request may take.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(10);
/// Requests that are worked on or wait for it; more are told to come again.
const MOST_REQUESTS: usize = 512;

/// What a request says.
pub struct Input {
    path: HashMap<String, String>,
    query: HashMap<String, String>,
    body: Bytes,
}

impl Input {
    /// A part of the path.
    fn part(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A flag in the query, which clients write as Python, JSON or R do; absent is false.
    fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|says| says.eq_ignore_ascii_case("true"))
    }

    fn number(&self, name: &str) -> Result<Option<usize>> {
        let says = self.query.get(name).map(|says| says.parse());
        says.transpose().map_err(|_| Problem::bad(format!("{name} is not a number")))
    }

    /// The body, which comes with any content type or none. What does not fit is told by its field, never by its value.
    fn json<T: DeserializeOwned>(&self) -> Result<T> {
        parse(&self.body)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|e| {
        let what = if e.is_data() { "has not the fields that are needed" } else { "is no JSON" };
        Problem::bad(format!("the body {what} (line {}, column {})", e.line(), e.column()))
    })
}

/// What a handler answers with: JSON.
type Answer = Result<Value>;
type Handler = fn(&Server, &Caller, &Input) -> Answer;

/// What the routes share.
#[derive(Clone)]
struct App {
    server: Arc<Server>,
    places: Arc<Semaphore>,
}

/// Everything, as a service that can be asked without a network.
pub fn app(server: Arc<Server>) -> Service {
    let dss = Router::new()
        .route("/auth/info", get(handler(auth::info)))
        .route("/auth/ticket", post(handler(auth::ticket)))
        .route("/auth/info-from-browser-headers", post(handler(sign_in::viewer_info)))
        .route("/auth/ticket-from-browser-headers", post(handler(sign_in::viewer_ticket)))
        .route("/instance-info", get(handler(auth::instance)))
        .route("/current-user", get(handler(settings::own)).put(handler(settings::save_own)))
        .route("/users", get(handler(admin::infos)))
        .route("/users/{login}", get(handler(admin::info)))
        .route("/admin/users", get(handler(admin::list)).post(handler(admin::create)))
        .route(
            "/admin/users/actions/bulk",
            post(handler(admin::create_many)).put(handler(admin::edit_many)).delete(handler(admin::delete_many)),
        )
        .route(
            "/admin/users/{login}",
            get(handler(settings::of_user)).put(handler(settings::save_user)).delete(handler(admin::delete)),
        )
        .route("/admin/users/{login}/activity", get(handler(admin::activity)))
        .route("/admin/users-activity", get(handler(admin::activities)))
        .route("/admin/groups", get(handler(admin::groups)).post(handler(admin::create_group)))
        .route(
            "/admin/groups/{name}",
            get(handler(admin::group)).put(handler(admin::save_group)).delete(handler(admin::delete_group)),
        )
        .route("/personal-api-keys", get(handler(auth::keys)).post(handler(auth::create_key)))
        // As clients up to version 9 have it, with the label in the query.
        .route("/auth/personal-api-keys", get(handler(auth::keys)).post(handler(auth::create_key)))
        .route(
            "/personal-api-keys/{id}",
            get(handler(auth::key)).put(handler(auth::save_key)).delete(handler(auth::delete_key)),
        )
        .route("/admin/personal-api-keys", get(handler(admin::all_keys)).post(handler(admin::create_key_for)))
        .route("/admin/personal-api-keys/{id}", delete(handler(admin::delete_any_key)))
        .merge(global_keys("/admin/global-api-keys"))
        // As clients up to version 12 have it.
        .merge(global_keys("/admin/globalAPIKeys"))
        .route("/admin/audit/custom/{type}", post(handler(admin::custom_event)));
    let ours = Router::new()
        .route("/info", get(handler(own::info)))
        .route("/secrets", get(handler(own::list)))
        .route("/secrets/get", post(handler(own::get)))
        .route("/secrets/set", post(handler(own::set)))
        .route("/secrets/describe", post(handler(own::describe)))
        .route("/secrets/remove", post(handler(own::remove)))
        .route("/secrets/restore", post(handler(own::restore)))
        .route("/secrets/rename", post(handler(own::rename)))
        .route("/secrets/purge", post(handler(own::purge)))
        .route("/secrets/versions", post(handler(own::versions)))
        .route("/audit", get(handler(own::audit)))
        .route("/keys/confirm", post(handler(own::confirm_key)))
        .route("/session", post(sign_in::begin).get(handler(sign_in::session)).delete(handler(sign_in::end)))
        .route("/sessions", delete(handler(sign_in::end_all)))
        .route("/password", post(handler(sign_in::password)))
        .route("/password/confirm", post(handler(sign_in::confirm)))
        .route("/tickets", get(handler(own::tickets)).post(handler(own::issue_ticket)))
        .route("/tickets/{id}", delete(handler(own::revoke_ticket)))
        .route("/owner", post(handler(own::command)))
        .route("/runs", post(runs::begin));
    let places = Arc::new(Semaphore::new(MOST_REQUESTS));
    let routes = Router::new()
        .nest("/dip/publicapi", dss.clone())
        .nest("/public/api", dss)
        .nest("/dkusecrets/v1", ours)
        .merge(page::routes())
        .fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .method_not_allowed_fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .with_state(App { server, places })
        .layer(axum::middleware::map_response(label));
    tower::Layer::layer(&MapRequestLayer::new(tidy as fn(Request) -> Request), routes)
}

fn global_keys(path: &str) -> Router<App> {
    let all = get(handler(admin::global_keys)).post(handler(admin::create_global_key));
    let one =
        get(handler(admin::global_key)).put(handler(admin::save_global_key)).delete(handler(admin::delete_global_key));
    Router::new().route(path, all).route(&format!("{path}/{{id}}"), one)
}

/// What [`app`] makes.
pub type Service = tower::util::MapRequest<Router, fn(Request) -> Request>;

fn handler(handler: Handler) -> impl Fn(State<App>, RawPathParams, Request) -> Later + Clone + Send + Sync + 'static {
    move |State(app), params, request| Box::pin(dispatch(app, params, request, handler))
}

type Later = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// What is done for every request: who asks is known before the body is read, which has an end in length and time; then
/// there is a place for it, and the work is done where it keeps nobody else waiting.
async fn dispatch(app: App, params: RawPathParams, request: Request, handler: Handler) -> Response {
    let path = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let query = axum::extract::Query::try_from_uri(request.uri()).map(|query| query.0).unwrap_or_default();
    let (head, body) = request.into_parts();
    let Some(ConnectInfo(peer)) = head.extensions.get::<ConnectInfo<Peer>>().copied() else {
        return Problem::internal("a connection without another end").into_response();
    };
    // The whole path: nested routes see the rest only.
    let route = head.extensions.get::<OriginalUri>().map_or(head.uri.path(), |uri| uri.0.path()).to_owned();
    let may_appear = route != OWNER;
    let (server, method) = (app.server.clone(), head.method.clone());
    let caller = tokio::task::spawn_blocking(move || authenticate(&server, &method, &head.headers, peer, may_appear));
    let caller = match caller.await {
        Ok(Ok(caller)) => caller,
        Ok(Err(problem)) => return problem.into_response(),
        Err(_) => return Problem::internal("internal error: please report it").into_response(),
    };
    let body = match tokio::time::timeout(BODY_TIME, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Problem::too_large().into_response(),
        Err(_) => return Problem::bad("the body of the request did not come in time").into_response(),
    };
    let Ok(place) = app.places.clone().try_acquire_owned() else {
        return Problem::unavailable("the server has more to do than it can: try again").into_response();
    };
    let method = head.method;
    let answer = tokio::task::spawn_blocking(move || {
        let _place = place;
        let answer = handler(&app.server, &caller, &Input { path, query, body });
        match &answer {
            Ok(_) => app.server.was_here(&caller.name),
            Err(problem) if problem.status == StatusCode::FORBIDDEN => {
                app.server.was_refused(&caller.name);
                let event = caller.event(&format!("{method} {route}"), &[], Vec::new());
                app.server.record_refusal(vault::Event { outcome: problem.kind.into(), ..event })?;
            }
            Err(_) => {}
        }
        answer
    });
    match answer.await {
        Ok(Ok(answer)) => axum::Json(answer).into_response(),
        Ok(Err(problem)) => {
            if problem.status.is_server_error() {
                tracing::error!(kind = problem.kind, "{}", problem.message);
            }
            problem.into_response()
        }
        // A panic's text may hold anything: it is not told.
        Err(_) => Problem::internal("internal error: please report it").into_response(),
    }
}

/// Clients send a base address with a slash at its end, and some paths with one: `//a/b/` is `/a/b`.
fn tidy(mut request: Request<Body>) -> Request<Body> {
    let path = request.uri().path();
    let tidied = format!("/{}", path.trim_matches('/'));
    if tidied != path {
        let with_query = match request.uri().query() {
            Some(query) => format!("{tidied}?{query}"),
            None => tidied,
        };
        if let Ok(uri) = with_query.parse() {
            *request.uri_mut() = uri;
        }
    }
    request
}

/// The route of the store's owner, as `dispatch` sees it.
const OWNER: &str = "/dkusecrets/v1/owner";

/// What clients look for in every answer, and nothing that a cache could keep.
async fn label(mut response: Response) -> Response {
    let labels = [
        ("dss-version", DSS_VERSION),
        ("dss-api-version", "1"),
        ("dkusecrets-version", env!("CARGO_PKG_VERSION")),
        ("cache-control", "no-store"),
    ];
    for (name, value) in labels {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// The version of DSS whose API this is like.
pub const DSS_VERSION: &str = "13.0.0";
