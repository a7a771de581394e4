//! A ticket for as long as a run goes on: the answer has it in its first line and does not end. When the other end goes,
//! however it goes, the kernel closes the connection, and the ticket is revoked.
use super::{App, JSON};
use crate::identity::{Peer, authenticate};
use crate::problem::{Problem, Result};
use crate::server::Server;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The line that a run begins with.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Run {
    #[schemars(with = "String")]
    ticket: Zeroizing<String>,
    login: String,
    /// The user id that the command is to have.
    uid: Option<u32>,
    /// Where the command reaches the server.
    host: String,
    port: u16,
}

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
            // `held` goes with the rest of the stream, which never comes; it ends with the server.
            let rest = stream::once(async move {
                let mut stopping = held.server.stopping.subscribe();
                let _ = stopping.wait_for(|stopping| *stopping).await;
                Ok(Bytes::new())
            });
            ([(CONTENT_TYPE, JSON)], Body::from_stream(first.chain(rest))).into_response()
        }
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::internal("internal error: please report it").into_response(),
    }
}

/// The first line, and what revokes the ticket.
fn issue(server: Arc<Server>, headers: &HeaderMap, peer: Peer) -> Result<(String, Held)> {
    let caller = match authenticate(&server, &Method::POST, headers, peer, true) {
        Ok(caller) => caller,
        Err(refused) => {
            refused.event.map_or(Ok(()), |event| server.record(event))?;
            return Err(refused.problem);
        }
    };
    let person = caller.opener()?;
    let address = server.address.get().copied();
    let address =
        address.ok_or_else(|| Problem::unavailable("the server listens on no address that a run could be told"))?;
    let (id, ticket) = server.issue_ticket(&caller, person)?;
    let held = Held { server: server.clone(), id, login: person.login.clone() };
    server.record(caller.event("run begun", &[], Vec::new()))?;
    let run = Run {
        ticket,
        login: person.login.clone(),
        uid: person.uid,
        host: address.ip().to_string(),
        port: address.port(),
    };
    let mut line = serde_json::to_string(&run).map_err(|_| Problem::internal("an answer cannot be encoded"))?;
    line.push('\n');
    Ok((line, held))
}
