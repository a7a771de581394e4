//! The program as a client of the server that has a store open: over its socket, where the kernel says who asks.
use crate::commands::Command;
use crate::problem::{Problem, Result};
use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// What to do where a person's server does not listen.
pub const ANOTHER: &str = "is it running? --socket, or DKUSECRETS_SOCKET, names the socket of another";

/// Has the server run a command.
pub fn ask(data: &Path, command: &Command) -> Result<Value> {
    let body = serde_json::to_vec(command).map_err(|_| Problem::internal("a command cannot be encoded"))?;
    let way_out = "stop it, or start it with --socket";
    request(&socket_of(data)?, way_out, "POST", "/dkusecrets/v1/owner", body)
}

fn socket_of(data: &Path) -> Result<PathBuf> {
    let note = data.join("config/socket");
    let path = std::fs::read_to_string(&note).map_err(|_| {
        Problem::unavailable(format!(
            "a server has the store {} open and serves on no socket: stop it, or start it with --socket",
            data.display()
        ))
    })?;
    Ok(path.into())
}

/// Connects to a server that may be told secrets. `way_out` is what to do where none listens.
pub async fn connect(socket: &Path, way_out: &str) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).await.map_err(|e| {
        Problem::unavailable(format!("the server at {} does not answer: {e}; {way_out}", socket.display()))
    })?;
    // As the kernel says: in a directory that others write to, somebody else may listen there now.
    let peer = stream.peer_cred().map_err(|e| unreachable(socket, &e))?.uid();
    if !vault::may_serve(socket, peer) {
        return Err(Problem::not_allowed(format!(
            "{} belongs to user id {peer}, neither to root nor to you",
            socket.display()
        )));
    }
    Ok(stream)
}

pub fn unreachable(socket: &Path, e: &dyn std::fmt::Display) -> Problem {
    Problem::unavailable(format!("the server at {} does not answer: {e}", socket.display()))
}

/// One request, and its answer; a refusal as the server tells it.
pub fn request(socket: &Path, way_out: &str, method: &str, path: &str, body: Vec<u8>) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Problem::internal(format!("cannot start: {e}")))?;
    let unreachable = |e: &dyn std::fmt::Display| unreachable(socket, e);
    runtime.block_on(async {
        let stream = connect(socket, way_out).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(&e))?;
        tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header("host", "localhost").body(Full::new(Bytes::from(body)));
        let request = request.map_err(|_| Problem::internal("a request cannot be made"))?;
        let response = sender.send_request(request).await.map_err(|e| unreachable(&e))?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(|e| unreachable(&e))?.to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let message = answer["message"].as_str().unwrap_or("the server refused").to_owned();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(message),
            StatusCode::NOT_FOUND => Problem::not_found(message),
            StatusCode::CONFLICT => Problem::conflict(message),
            StatusCode::BAD_REQUEST => Problem::bad(message),
            _ => Problem::not_allowed(message),
        })
    })
}
