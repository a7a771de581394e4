//! The routes: DSS's public API under both of its prefixes, and our own. Each handler is a plain function of the server,
//! the caller and the request; `dispatch` does for all of them what must never be forgotten.
mod admin;
mod auth;
pub use auth::described;
mod openapi;
mod operator;
mod own;
mod page;
mod route;
mod runs;
mod settings;
mod sign_in;
mod table;

use crate::identity::{Caller, Peer, authenticate};
use crate::problem::{Problem, Result};
use crate::server::Server;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, Query, RawPathParams, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use route::{Answer, Handler, Input, Parameter};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower::util::MapRequestLayer;

/// A request's body, in bytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// How long the body of a request may take.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(10);
/// Requests that are worked on or wait for it; more are told to come again.
const MOST_REQUESTS: usize = 512;

/// What the routes share.
#[derive(Clone)]
struct App {
    server: Arc<Server>,
    places: Arc<Semaphore>,
}

/// Everything, as a service that can be asked without a network.
pub fn app(server: Arc<Server>) -> Service {
    let places = Arc::new(Semaphore::new(MOST_REQUESTS));
    let observe = axum::middleware::from_fn_with_state(server.clone(), operator::observe);
    let routes = table::router()
        .merge(page::routes())
        .merge(operator::routes())
        .fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .with_state(App { server, places })
        .layer(observe);
    tower::Layer::layer(&MapRequestLayer::new(tidy as fn(Request) -> Request), routes)
}

/// What [`app`] makes.
pub type Service = tower::util::MapRequest<Router, fn(Request) -> Request>;

/// A handler as axum calls it; of the query it sees what `known` names.
fn handler(
    handler: Handler,
    known: &'static [Parameter],
) -> impl Fn(State<App>, PathParts, Request) -> Later + Clone + Send + Sync + 'static {
    move |State(app), parts, request| Box::pin(dispatch(app, parts, request, handler.clone(), known))
}

/// The parts of a path, unless they are no text.
type PathParts = std::result::Result<RawPathParams, RawPathParamsRejection>;

type Later = std::pin::Pin<Box<dyn Future<Output = Response> + Send>>;

/// What is done for every request: who asks is known before the body is read, which has an end in length and time, and the
/// work is done where it keeps nobody else waiting.
async fn dispatch(
    app: App,
    parts: PathParts,
    request: Request,
    handler: Handler,
    known: &'static [Parameter],
) -> Response {
    let (head, body) = request.into_parts();
    let places = app.places.clone();
    let asked = Asked { app, head, parts, handler, known };
    // Without a body there is nothing to wait for in between: going to another thread twice would cost as much as a read.
    if body.is_end_stream() {
        return answered(
            aside(&places, move || asked.caller().and_then(|caller| asked.answer(&caller, Bytes::new()))).await,
        );
    }
    let (asked, caller) = match aside(&places, move || asked.caller().map(|caller| (asked, caller))).await {
        Ok(both) => both,
        Err(problem) => return answered(Err(problem)),
    };
    let body = match tokio::time::timeout(BODY_TIME, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Problem::too_large().into_response(),
        Err(_) => return Problem::bad("the body of the request did not come in time").into_response(),
    };
    answered(aside(&places, move || asked.answer(&caller, body)).await)
}

/// Does something where it keeps nobody else waiting, if there is a place for it: what waits is bounded. A panic's text may
/// hold anything: it is not told.
async fn aside<T: Send + 'static>(
    places: &Arc<Semaphore>,
    act: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let place = places.clone().try_acquire_owned();
    let place = place.map_err(|_| Problem::unavailable("the server has more to do than it can: try again"))?;
    let work = move || {
        let _place = place;
        act()
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(Problem::internal("internal error: please report it")))
}

fn answered(answer: Result<Vec<u8>>) -> Response {
    match answer {
        Ok(answer) => ([(CONTENT_TYPE, JSON)], answer).into_response(),
        Err(problem) => {
            if problem.status.is_server_error() {
                tracing::error!(kind = problem.kind, "{}", problem.message);
            }
            problem.into_response()
        }
    }
}

/// A request but for its body.
struct Asked {
    app: App,
    head: Parts,
    parts: PathParts,
    handler: Handler,
    known: &'static [Parameter],
}

impl Asked {
    fn caller(&self) -> Result<Caller> {
        let peer = self.head.extensions.get::<ConnectInfo<Peer>>();
        let ConnectInfo(peer) = peer.ok_or_else(|| Problem::internal("a connection without another end"))?;
        authenticate(&self.app.server, &self.head.method, &self.head.headers, *peer, self.head.uri.path() != OWNER)
    }

    fn answer(&self, caller: &Caller, body: Bytes) -> Result<Vec<u8>> {
        let server = &self.app.server;
        let answer = self.input(body).and_then(|input| (self.handler)(server, caller, input));
        match &answer {
            Ok(_) => server.was_here(&caller.name),
            Err(problem) if problem.status == StatusCode::FORBIDDEN => {
                server.metrics.refused(problem.kind);
                server.was_refused(&caller.name);
                let event = caller.event(&format!("{} {}", self.head.method, self.head.uri.path()), &[], Vec::new());
                server.record_refusal(vault::Event { outcome: problem.kind.into(), ..event })?;
            }
            Err(_) => {}
        }
        answer
    }

    fn input(&self, body: Bytes) -> Result<Input> {
        let no_text = |what: &str| Problem::bad(format!("the {what} of the request is no text"));
        let parts = self.parts.as_ref().map_err(|_| no_text("path"))?;
        let path = parts.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let Query(query) = Query::try_from_uri(&self.head.uri).map_err(|_| no_text("query"))?;
        Input::new(path, query, body, self.known)
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
fn label(response: &mut Response) {
    let labels = [
        ("dss-version", DSS_VERSION),
        ("dss-api-version", "1"),
        ("dkusecrets-version", env!("CARGO_PKG_VERSION")),
        ("cache-control", "no-store"),
    ];
    for (name, value) in labels {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The version of DSS whose API this is like.
pub const DSS_VERSION: &str = "13.0.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_a_panic_tells_nothing() {
        let places = Arc::new(Semaphore::new(1));
        assert_eq!(aside(&places, || Ok(5)).await.unwrap(), 5);
        let panicked = aside(&places, || -> Result<()> { panic!("a value") }).await.unwrap_err();
        assert_eq!(panicked.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!panicked.message.contains("a value"));
        // The place was given back; while somebody has it, others are told to come again.
        let held = places.clone().try_acquire_owned().unwrap();
        let refused = answered(aside(&places, || Ok(Vec::new())).await);
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        drop(held);
        assert_eq!(answered(aside(&places, || Ok(Vec::new())).await).status(), StatusCode::OK);
    }
}
