//! A ticket for as long as a run goes on: the answer has it in its first line and does not end. When the other end goes,
//! however it goes, the kernel closes the connection, and the ticket is revoked.
use super::App;
use crate::identity::{Peer, authenticate};
use crate::problem::{Problem, Result};
use crate::server::Server;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use std::sync::Arc;

/// Revokes its ticket when it goes.
struct Held {
    server: Arc<Server>,
    id: String,
    login: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.server.revoke_ticket(&self.id, &self.login);
    }
}

/// `POST /dkusecrets/v1/runs`.
pub async fn begin(State(app): State<App>, request: Request) -> Response {
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<Peer>>().copied() else {
        return Problem::internal("a connection without another end").into_response();
    };
    let headers = request.headers().clone();
    let issued = tokio::task::spawn_blocking(move || issue(app.server, &headers, peer));
    match issued.await {
        Ok(Ok((line, held))) => {
            let first = stream::once(async move { Ok::<_, std::convert::Infallible>(Bytes::from(line)) });
            // `held` goes with the rest of the stream, which never comes.
            let rest = stream::once(async move {
                let _held = held;
                std::future::pending().await
            });
            Body::from_stream(first.chain(rest)).into_response()
        }
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::internal("internal error: please report it").into_response(),
    }
}

/// The first line, and what revokes the ticket.
fn issue(server: Arc<Server>, headers: &HeaderMap, peer: Peer) -> Result<(String, Held)> {
    let caller = authenticate(&server, &Method::POST, headers, peer, true)?;
    let person = caller.opener()?;
    let address = server.address.get().copied();
    let address =
        address.ok_or_else(|| Problem::unavailable("the server listens on no address that a run could be told"))?;
    let (id, ticket) = server.issue_ticket(&caller, person)?;
    let held = Held { server: server.clone(), id, login: person.login.clone() };
    server.record(caller.event("run begun", &[], Vec::new()))?;
    let line = json!({
        "ticket": ticket.as_str(),
        "login": person.login,
        "uid": person.uid,
        "host": address.ip().to_string(),
        "port": address.port(),
    });
    Ok((format!("{line}\n"), held))
}
