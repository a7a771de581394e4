//! What an operator sees: how the server is, counts and times, and a line in the log for each request. They tell of
//! routes by their templates, never of who asked for what.
use super::App;
use crate::identity::Peer;
use crate::metrics::MEDIA_TYPE;
use crate::problem::Problem;
use crate::server::Server;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;

/// What proxies add to a request that they pass on: who asks is then somebody from elsewhere.
const PASSED_ON: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Counts a request, logs it, and puts into the answer what every answer has.
pub async fn observe(State(server): State<Arc<Server>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = name(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let id = format!("{:016x}", server.request_id());
    let mut response = next.run(request).await;
    super::label(&mut response);
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("dkusecrets-request"), id);
    }
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let (status, took) = (response.status(), began.elapsed());
    server.metrics.answered(method, route, status.as_u16(), took);
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        tracing::warn!(target: "request", id, method, route, status = status.as_u16(), microseconds);
    } else {
        tracing::debug!(target: "request", id, method, route, status = status.as_u16(), microseconds);
    }
    response
}

/// Anybody may make up a method.
fn name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What is for operators only; to all others it is not there.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route_layer(axum::middleware::from_fn(only_operators))
}

async fn only_operators(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if !is_operator(peer, request.headers()) {
        return Problem::no_route(request.uri().path()).into_response();
    }
    next.run(request).await
}

/// `GET /health`: whether the store answers, and the log can be written.
async fn health(State(app): State<App>) -> Response {
    let looked = tokio::task::spawn_blocking(move || {
        let store = app.server.store.events(1).is_ok();
        (store, app.server.store.try_log().is_ok())
    });
    let (store, log) = looked.await.unwrap_or((false, false));
    let well = store && log;
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let says = if well { "ok" } else { "failing" };
    (status, Json(json!({ "status": says, "store": store, "audit_log": log }))).into_response()
}

/// `GET /metrics`, for Prometheus.
async fn metrics(State(app): State<App>) -> Response {
    match app.server.metrics.told(&app.server) {
        Ok(text) => ([(header::CONTENT_TYPE, MEDIA_TYPE)], text).into_response(),
        Err(_) => Problem::internal("the metrics cannot be written").into_response(),
    }
}

/// Somebody on this machine: at its loopback, with nobody in between, or the store's owner or root on the socket.
fn is_operator(peer: Peer, headers: &HeaderMap) -> bool {
    match peer {
        Peer::Network(address) => {
            address.ip().to_canonical().is_loopback() && !PASSED_ON.iter().any(|name| headers.contains_key(*name))
        }
        Peer::Process { uid, .. } => uid == 0 || uid == vault::effective_user(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_an_operator() {
        let at = |address: &str| Peer::Network(format!("{address}:1").parse().unwrap());
        let none = HeaderMap::new();
        assert!(is_operator(at("127.0.0.1"), &none) && is_operator(at("[::1]"), &none));
        assert!(is_operator(at("[::ffff:127.0.0.1]"), &none));
        assert!(!is_operator(at("192.0.2.1"), &none) && !is_operator(at("[2001:db8::1]"), &none));
        for header in PASSED_ON {
            let passed_on = HeaderMap::from_iter([(HeaderName::from_static(header), HeaderValue::from_static("x"))]);
            assert!(!is_operator(at("127.0.0.1"), &passed_on), "{header}");
        }
        assert!(is_operator(Peer::Process { uid: vault::effective_user(), pid: None }, &none));
        assert!(!is_operator(Peer::Process { uid: 4_000_000, pid: None }, &none));
    }
}
