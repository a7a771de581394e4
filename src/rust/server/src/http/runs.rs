//! A ticket for as long as a run goes on: the answer has it in its first line and does not end. When the other end goes,
//! however it goes, the kernel closes the connection, and the ticket is revoked. If the ticket ends before, so does the
//! answer, as nobody is to hold connections without tickets: of these one person has a limited number.
use super::{App, JSON};
use crate::identity::{Peer, authenticate, stands};
use crate::people;
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
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::timeout;
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

/// How often it is looked whether a run's ticket still stands for its person.
const LOOK: Duration = Duration::from_secs(2);
/// How long listening for runs may take to begin.
const LISTENING: Duration = Duration::from_secs(5);

/// Revokes its ticket when it goes.
struct Held {
    server: Arc<Server>,
    id: String,
    hash: String,
    login: String,
}

impl Held {
    /// Waits until the ticket was revoked, or is over, or what it rests on is gone; or the server ends.
    async fn ended(&self) {
        let mut stopping = self.server.stopping.subscribe();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                _ = looks.tick() => {
                    let ticket = self.server.ticket_of_hash(&self.hash);
                    if !ticket.is_some_and(|ticket| stands(&self.server, &ticket)) {
                        return;
                    }
                }
            }
        }
    }
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
                held.ended().await;
                Ok(Bytes::new())
            });
            ([(CONTENT_TYPE, JSON)], Body::from_stream(first.chain(rest))).into_response()
        }
        Ok(Err(problem)) => problem.into_response(),
        Err(_) => Problem::internal("internal error: please report it").into_response(),
    }
}

/// Where runs reach the server, which begins to listen there now if it does not yet.
fn listening(server: &Server) -> Result<SocketAddr> {
    server.run_asks.notify_one();
    let mut address = server.for_runs.subscribe();
    let told = Handle::current().block_on(async {
        let told = timeout(LISTENING, address.wait_for(Option::is_some)).await;
        told.ok().and_then(|told| *told.ok()?)
    });
    told.ok_or_else(|| Problem::unavailable("the server cannot listen on an address that a run could be told"))
}

/// The first line, and what revokes the ticket.
fn issue(server: Arc<Server>, headers: &HeaderMap, peer: Peer) -> Result<(String, Held)> {
    let caller = match authenticate(&server, &Method::POST, headers, peer, true) {
        Ok(caller) => caller,
        Err(refused) => {
            refused.event.map_or(Ok(()), |event| server.record(*event))?;
            return Err(refused.problem);
        }
    };
    let person = caller.opener()?;
    let address = listening(&server)?;
    let (id, ticket) = server.issue_ticket(&caller, person)?;
    let held = Held { server: server.clone(), id, hash: people::hash(&ticket), login: person.login.clone() };
    server.record(caller.event("run begun", &[], Vec::new()))?;
    let run = Run {
        ticket,
        login: person.login.clone(),
        uid: person.uid,
        // It becomes part of a URL.
        host: match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        },
        port: address.port(),
    };
    let mut line = serde_json::to_string(&run).map_err(|_| Problem::internal("an answer cannot be encoded"))?;
    line.push('\n');
    Ok((line, held))
}
