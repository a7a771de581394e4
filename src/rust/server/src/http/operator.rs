//! What an operator sees: how the server is, counts and times, and a line in the log for each request. They tell of
//! routes by their templates, never of who asked for what.
use super::App;
use crate::identity::Peer;
use crate::metrics::MEDIA_TYPE;
use crate::problem::Problem;
use crate::server::Server;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tower::{Layer, Service};

/// What proxies add to a request that they pass on: who asks is then somebody from elsewhere.
const PASSED_ON: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// Counts each request, logs it, and puts into the answer what every answer has. (axum's `from_fn` would copy the service
/// for each request.)
#[derive(Clone)]
pub struct Observe(pub Arc<Server>);

/// What [`Observe`] is around.
#[derive(Clone)]
pub struct Observed<S> {
    server: Arc<Server>,
    inner: S,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { server: self.0.clone(), inner }
    }
}

impl<S> Service<Request> for Observed<S>
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let began = Instant::now();
        let method = name(request.method());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let server = self.server.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            observe(&server, method, route.as_ref().map_or("none", MatchedPath::as_str), began, &mut response);
            Ok(response)
        })
    }
}

fn observe(server: &Server, method: &'static str, route: &str, began: Instant, response: &mut Response) {
    super::label(response);
    let id = format!("{:016x}", server.request_id());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(HeaderName::from_static("dkusecrets-request"), id);
    }
    let (status, took) = (response.status(), began.elapsed());
    server.metrics.answered(method, route, status.as_u16(), took);
    let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    if status.is_server_error() {
        tracing::warn!(target: "request", id, method, route, status = status.as_u16(), microseconds);
    } else {
        tracing::debug!(target: "request", id, method, route, status = status.as_u16(), microseconds);
    }
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
    if !is_operator(peer, request.uri(), request.headers()) {
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
fn is_operator(peer: Peer, uri: &Uri, headers: &HeaderMap) -> bool {
    match peer {
        Peer::Network(address) => {
            address.ip().to_canonical().is_loopback()
                && !PASSED_ON.iter().any(|name| headers.contains_key(*name))
                && uri.host().is_none_or(is_loopback)
                && headers.get_all(header::HOST).iter().all(|host| host.to_str().is_ok_and(is_loopback))
        }
        Peer::Process { uid, .. } => uid == 0 || uid == vault::effective_user(),
    }
}

/// Whether a host, with a port or without, is loopback by itself: what another name leads to is for others to say, and a
/// browser would let the pages of that name read the answer.
fn is_loopback(host: &str) -> bool {
    let Ok(host) = host.parse::<Authority>() else { return false };
    // A host's name has no user in front of it.
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_an_operator() {
        let at = |address: &str| Peer::Network(format!("{address}:1").parse().unwrap());
        let is_operator = |peer, headers: &HeaderMap| is_operator(peer, &Uri::from_static("/health"), headers);
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

    #[test]
    fn by_which_names_operators_ask() {
        let peer = Peer::Network("127.0.0.1:1".parse().unwrap());
        let at = |host: &'static str| HeaderMap::from_iter([(header::HOST, HeaderValue::from_static(host))]);
        let path = Uri::from_static("/metrics");
        for host in
            ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.2:11200", "[::1]", "[::1]:1", "[::ffff:127.0.0.1]:1"]
        {
            assert!(is_operator(peer, &path, &at(host)), "{host}");
        }
        for host in [
            "rebound.example",
            "rebound.example:80",
            "localhost.example",
            "192.0.2.1",
            "",
            "a@localhost:x",
            "127.0.0.1.example",
        ] {
            assert!(!is_operator(peer, &path, &at(host)), "{host}");
        }
        assert!(!is_operator(peer, &Uri::from_static("http://rebound.example/metrics"), &at("localhost")));
        // On the socket the kernel says who asks.
        assert!(is_operator(Peer::Process { uid: 0, pid: None }, &path, &at("anything")));
    }
}
