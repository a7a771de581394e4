//! The routes: DSS's public API under both of its prefixes, and our own. Each handler is a plain function of the server,
//! the caller and the request; [`dispatch`] does for all of them what must never be forgotten.
mod admin;
mod auth;
mod dispatch;
mod openapi;
mod operator;
mod own;
mod pages;
mod route;
mod runs;
mod settings;
mod sign_in;
mod table;

pub use auth::described;

use crate::problem::Problem;
use crate::server::Server;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::response::Response;
use route::{Answer, Input};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tower::util::MapRequestLayer;

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
    let observe = operator::Observe(server.clone());
    let routes = table::router()
        .merge(pages::routes())
        .merge(operator::routes())
        .fallback(|uri: Uri| async move { Problem::no_route(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::no_method() })
        .with_state(App { server, places })
        .layer(observe);
    tower::Layer::layer(&MapRequestLayer::new(tidy as fn(Request) -> Request), routes)
}

/// What [`app`] makes.
pub type Service = tower::util::MapRequest<Router, fn(Request) -> Request>;

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
