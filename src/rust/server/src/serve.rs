//! Serving a store: on loopback, and on a Unix socket whose other end the kernel names.
use crate::http::{Service, app};
use crate::identity::Peer;
use crate::problem::{Problem, Result};
use crate::server::{Front, Server};
use axum::extract::Request;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};

/// How long the disk may lag behind what was answered.
const FLUSH: Duration = Duration::from_millis(100);

/// How long requests that are running may take to end once the server is told to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a server is to be found.
#[derive(Debug, Clone)]
pub struct Places {
    pub listen: Option<SocketAddr>,
    pub socket: Option<PathBuf>,
    /// Whether a proxy in front does TLS, so that addresses other than loopback may be served in clear.
    pub behind_proxy: bool,
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Peer {
        Peer::Network(*stream.remote_addr())
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Peer {
        match stream.io().peer_cred() {
            Ok(peer) => Peer::Process { uid: peer.uid(), pid: peer.pid() },
            // The id that nobody is known by.
            Err(_) => Peer::Process { uid: 65_534, pid: None },
        }
    }
}

/// Serves until it is told to stop (SIGTERM, SIGINT), and then finishes what is running.
pub async fn serve(server: Arc<Server>, places: Places, data: &Path) -> Result<()> {
    if places.listen.is_none() && places.socket.is_none() {
        return Err(Problem::bad("nothing to serve on: give --listen HOST:PORT, --socket PATH, or both"));
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut running = tokio::task::JoinSet::new();
    if let Some(address) = places.listen {
        if !address.ip().is_loopback() && !places.behind_proxy {
            return Err(Problem::bad(format!(
                "{address} can be reached from elsewhere, where keys would cross the network in clear: serve on loopback, or behind a proxy that does TLS (--behind-tls-proxy)"
            )));
        }
        let failed = |e| Problem::unavailable(format!("cannot listen on {address}: {e}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        tracing::info!(address = %bound, "serving");
        let _ = server.address.set(bound);
        let _ = server.front.set(if places.behind_proxy { Front::Proxy } else { Front::Loopback });
        say(&format!("listening on {bound}"));
        running.spawn(run(listener, app(server.clone()), stopped.clone()));
    }
    if let Some(path) = &places.socket {
        let listener = bind(path)?;
        remember(data, path)?;
        tracing::info!(socket = %path.display(), "serving");
        say(&format!("listening on {}", path.display()));
        running.spawn(run(listener, app(server.clone()), stopped.clone()));
    }
    if places.socket.is_none() {
        forget(data);
    }
    let flushing = tokio::spawn(flush(server.clone()));
    let failed = |e| Problem::internal(format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = running.join_next() => {
            return Err(Problem::internal(format!("a listener ended by itself: {ended:?}")));
        }
    }
    tracing::info!("stopping: finishing what is running");
    let _ = stop.send(true);
    let finished = tokio::time::timeout(PATIENCE, async { while running.join_next().await.is_some() {} });
    if finished.await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
    flushing.abort();
    if let Some(path) = &places.socket {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
        forget(data);
    }
    let last = tokio::task::spawn_blocking(move || server.store.flush());
    last.await.map_err(|_| Problem::internal("the last flush failed"))??;
    Ok(())
}

/// For whoever waits for it; nobody may.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn run<L>(listener: L, app: Service, mut stopped: tokio::sync::watch::Receiver<bool>) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let make = axum::ServiceExt::<Request>::into_make_service_with_connect_info::<Peer>(app);
    let until = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    axum::serve(listener, make).with_graceful_shutdown(until).await
}

/// Brings to the disk what was answered since the last time.
async fn flush(server: Arc<Server>) {
    let mut ticks = tokio::time::interval(FLUSH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = 0;
    loop {
        ticks.tick().await;
        let events = server.store.last_event();
        if events == last {
            continue;
        }
        let server = server.clone();
        match tokio::task::spawn_blocking(move || server.store.flush()).await {
            Ok(Ok(())) => last = events,
            Ok(Err(e)) => tracing::error!("the audit log could not be brought to the disk: {e}"),
            Err(_) => tracing::error!("the audit log could not be brought to the disk"),
        }
    }
}

/// A socket that everybody may connect to, as the kernel says who does; in a directory that nobody else can replace it in.
fn bind(path: &Path) -> Result<UnixListener> {
    let failed = |e: std::io::Error| Problem::unavailable(format!("cannot listen on {}: {e}", path.display()));
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = std::fs::metadata(directory).map_err(failed)?;
    let own = found.uid() == 0 || found.uid() == vault::effective_user();
    let sticky = found.mode() & 0o1000 != 0;
    if !own || (found.mode() & 0o022 != 0 && !sticky) {
        return Err(Problem::bad(format!(
            "{}: others could put another socket in its place; use a directory that is yours alone to write to",
            directory.display()
        )));
    }
    if let Ok(old) = std::fs::symlink_metadata(path) {
        if !old.file_type().is_socket() {
            return Err(Problem::bad(format!("{} is there, and is no socket", path.display())));
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(Problem::unavailable(format!("another server listens on {}", path.display())));
        }
        // Left by a server that was killed.
        std::fs::remove_file(path).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// The note of a server that is not there any more would lead to whoever listens there now.
fn forget(data: &Path) {
    let _ = std::fs::remove_file(data.join("config/socket"));
}

/// Notes where the socket is, for the owner's commands.
fn remember(data: &Path, socket: &Path) -> Result<()> {
    let note = data.join("config/socket");
    let failed = |e: std::io::Error| Problem::unavailable(format!("cannot write {}: {e}", note.display()));
    let socket = std::path::absolute(socket).map_err(failed)?;
    std::fs::write(&note, socket.as_os_str().as_encoded_bytes()).map_err(failed)?;
    std::fs::set_permissions(&note, std::fs::Permissions::from_mode(0o600)).map_err(failed)
}
