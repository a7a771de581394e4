//! The program as a client of a server: over its socket, where the kernel says who asks, or in a run by the run's ticket.
use crate::commands::Command;
use crate::problem::{Problem, Result};
use axum::body::Bytes;
use axum::http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::fmt::Display;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

/// What to do where a person's server does not listen.
pub const ANOTHER: &str = "is it running? --socket, or DKUSECRETS_SOCKET, names the socket of another";

/// The way to a server.
pub enum Way {
    Socket(PathBuf),
    /// To a server of this machine: nothing of it goes over a network.
    Ticket {
        address: SocketAddr,
        ticket: Zeroizing<String>,
    },
}

impl Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Way::Socket(path) => path.display().fmt(f),
            Way::Ticket { address, .. } => address.fmt(f),
        }
    }
}

/// Has the server run a command that has the store open; none if no server answers on a socket.
pub fn ask(data: &Path, command: &Command) -> Result<Option<Value>> {
    let Some(socket) = socket_of(data) else { return Ok(None) };
    let body = serde_json::to_vec(command).map_err(|_| Problem::internal("a command cannot be encoded"))?;
    let way_out = "stop it, or start it with --socket";
    request(&Way::Socket(socket), way_out, "POST", "/dkusecrets/v1/owner", body.into()).map(Some)
}

/// Where a store's server listens, as its note says; none if nobody listens there: it was killed, or is a command.
pub fn socket_of(data: &Path) -> Option<PathBuf> {
    let path = PathBuf::from(std::fs::read_to_string(data.join("config/socket")).ok()?);
    let gone = |e: std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
    let nobody = std::os::unix::net::UnixStream::connect(&path).is_err_and(gone);
    (!nobody).then_some(path)
}

/// Connects to a server that may be told secrets. `way_out` is what to do where none listens.
pub async fn connect(socket: &Path, way_out: &str) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).await.map_err(|e| {
        Problem::unavailable(format!("the server at {} does not answer: {e}; {way_out}", socket.display()))
    })?;
    // As the kernel says: in a directory that others write to, somebody else may listen there now.
    let peer = stream.peer_cred().map_err(|e| unreachable(&socket.display(), &e))?.uid();
    if !vault::may_serve(socket, peer) {
        return Err(Problem::not_allowed(format!(
            "{} belongs to user id {peer}, neither to root nor to you",
            socket.display()
        )));
    }
    Ok(stream)
}

pub fn unreachable(server: &dyn Display, e: &dyn Display) -> Problem {
    Problem::unavailable(format!("the server at {server} does not answer: {e}"))
}

/// One request, and its answer; a refusal as the server tells it.
pub fn request(way: &Way, way_out: &str, method: &str, path: &str, body: Zeroizing<Vec<u8>>) -> Result<Value> {
    Ok(serde_json::from_slice(&exchange(way, way_out, method, path, body)?).unwrap_or(Value::Null))
}

/// The same; the answer as it came, since it may hold a value.
pub fn exchange(way: &Way, way_out: &str, method: &str, path: &str, body: Zeroizing<Vec<u8>>) -> Result<Bytes> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Problem::internal(format!("cannot start: {e}")))?;
    let body = Bytes::from_owner(body);
    runtime.block_on(async {
        let (status, answer) = match way {
            Way::Socket(socket) => {
                let mut server = Server::new(connect(socket, way_out).await?, way, None).await?;
                server.send(method, path, body).await?
            }
            Way::Ticket { address, ticket } => {
                let stream = TcpStream::connect(address).await.map_err(|e| unreachable(way, &e))?;
                let mut server = Server::new(stream, way, Some(ticket.as_str())).await?;
                // A value goes only to a server that has shown what it is: a DSS gives tickets, too.
                match server.send("GET", "/dkusecrets/v1/info", Bytes::new()).await? {
                    (status, _) if status.is_success() => server.send(method, path, body).await?,
                    refused => refused,
                }
            }
        };
        if status.is_success() {
            return Ok(answer);
        }
        let told: Value = serde_json::from_slice(&answer).unwrap_or(Value::Null);
        let message = told["message"].as_str().unwrap_or("the server refused").to_owned();
        Err(match status {
            StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(message),
            StatusCode::NOT_FOUND => Problem::not_found(message),
            StatusCode::CONFLICT => Problem::conflict(message),
            StatusCode::BAD_REQUEST => Problem::bad(message),
            _ => Problem::not_allowed(message),
        })
    })
}

/// A server that was connected to.
struct Server<'w> {
    sender: http1::SendRequest<Full<Bytes>>,
    way: &'w Way,
    ticket: Option<&'w str>,
}

impl<'w> Server<'w> {
    async fn new<S>(stream: S, way: &'w Way, ticket: Option<&'w str>) -> Result<Server<'w>>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(way, &e))?;
        tokio::spawn(connection);
        Ok(Server { sender, way, ticket })
    }

    async fn send(&mut self, method: &str, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let failed = |e: hyper::Error| unreachable(self.way, &e);
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        if let Some(ticket) = self.ticket {
            request = request.header("x-dku-apiticket", ticket);
        }
        let request = request.body(Full::new(body)).map_err(|_| Problem::internal("a request cannot be made"))?;
        let response = self.sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        // One that has too much to do says that before it knows what was asked.
        if status != StatusCode::SERVICE_UNAVAILABLE && !response.headers().contains_key("dkusecrets-version") {
            return Err(Problem::bad(format!("what answers at {} is no server of dkusecrets", self.way)));
        }
        Ok((status, response.into_body().collect().await.map_err(failed)?.to_bytes()))
    }
}
