//! Serving a store: over TCP, and on a Unix socket whose other end the kernel names.
use crate::config::{InForce, Places};
use crate::connections::Connections;
use crate::files;
use crate::http::app;
use crate::identity::Peer;
use crate::log::Log;
use crate::problem::{Problem, Result};
use crate::server::{Server, event};
use crate::tls::{self, Tls};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How long the disk may lag behind what was answered.
const FLUSH: Duration = Duration::from_millis(100);
/// How long requests that are running may take to end once the server is told to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for events that are older than they are to get.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often it is written when keys were last used.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// Files that are open beside connections: the database, for each thread, and what is read.
const OTHER_FILES: usize = 600;
/// When a peer that says nothing is asked whether it is still there: a run may be silent for days.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Serves until it is told to stop (SIGTERM, SIGINT), and then finishes what is running. SIGHUP reads settings again.
pub async fn serve(server: Arc<Server>, places: Places, data: &Path, log: &Log) -> Result<()> {
    let settings = server.settings();
    if settings.listen.is_none() && settings.socket.is_none() {
        return Err(Problem::bad("nothing to serve on: give --listen HOST:PORT, --socket PATH, or both"));
    }
    make_room(&server);
    // Before anything can be connected to.
    let failed = |e| Problem::internal(format!("cannot wait for signals: {e}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let tls = certificate(&settings)?.map(|config| Arc::new(Tls::new(config)));
    let connections = Connections::new(server.clone(), app(server.clone()));
    let mut running = JoinSet::new();
    if let Some(address) = settings.listen {
        if tls.is_none() && !address.ip().is_loopback() && !settings.behind_tls_proxy {
            return Err(Problem::bad(format!(
                "{address} can be reached from elsewhere, where keys would cross the network in clear: give a certificate (--tls-cert, --tls-key), serve on loopback, or behind a proxy that does TLS (--behind-tls-proxy)"
            )));
        }
        let (listener, bound) = listen(address).await?;
        tracing::info!(address = %bound, tls = tls.is_some(), "serving");
        say(&format!("listening on {bound}"));
        // A run's code knows nothing of our certificate, and stays on this machine.
        if tls.is_none() {
            let _ = server.address.set(bound);
            server.for_runs.send_replace(Some(bound));
        }
        running.spawn(accept(listener, tls.clone(), connections.clone()));
    }
    if let Some(path) = &settings.socket {
        let listener = bind(path)?;
        remember(data, path)?;
        tracing::info!(socket = %path.display(), "serving");
        say(&format!("listening on {}", path.display()));
        running.spawn(accept_local(listener, connections.clone()));
    } else {
        forget(data);
    }
    let watching = tokio::spawn(connections.clone().watch());
    let changed = Arc::new(Notify::new());
    running.spawn(retain(server.clone(), changed.clone(), DAY));
    running.spawn(keep_keys_used(server.clone()));
    let flushing = tokio::spawn(flush(server.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                reload(&server, &places, tls.as_deref(), log);
                changed.notify_one();
            }
            // Without TCP, or with TLS only, nothing listens for runs before there is one.
            () = server.run_asks.notified(), if server.for_runs.borrow().is_none() => {
                match listen((Ipv4Addr::LOCALHOST, 0).into()).await {
                    Ok((listener, bound)) => {
                        tracing::info!(address = %bound, "serving runs of this machine");
                        running.spawn(accept(listener, None, connections.clone()));
                        server.for_runs.send_replace(Some(bound));
                    }
                    Err(problem) => tracing::error!("{}", problem.message),
                }
            }
            ended = running.join_next() => {
                return Err(Problem::internal(format!("a part of the server ended by itself: {ended:?}")));
            }
        }
    }
    tracing::info!("stopping: finishing what is running");
    running.shutdown().await;
    server.stopping.send_replace(true);
    if tokio::time::timeout(PATIENCE, connections.finish()).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
    watching.abort();
    flushing.abort();
    if let Some(path) = &settings.socket {
        // Gone already is as good.
        let _ = std::fs::remove_file(path);
        forget(data);
    }
    let last = tokio::task::spawn_blocking(move || {
        if let Err(problem) = server.keep_keys_used(0) {
            tracing::error!("when keys were last used could not be written: {}", problem.message);
        }
        server.flush()
    });
    last.await.map_err(|_| Problem::internal("the last flush failed"))?
}

/// For whoever waits for it; nobody may.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let failed = |e| Problem::unavailable(format!("cannot listen on {address}: {e}"));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn accept(listener: TcpListener, tls: Option<Arc<Tls>>, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                prepare(&stream);
                connections.admit(stream, Peer::Network(peer), tls.as_ref());
            }
            Err(e) => pause(&e).await,
        }
    }
}

/// What goes wrong with either costs speed, or time until a ticket ends, and nothing else.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

async fn accept_local(listener: UnixListener, connections: Arc<Connections>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = match stream.peer_cred() {
                    Ok(peer) => Peer::Process { uid: peer.uid(), pid: peer.pid() },
                    // The id that nobody is known by.
                    Err(_) => Peer::Process { uid: 65_534, pid: None },
                };
                connections.admit(stream, peer, None);
            }
            Err(e) => pause(&e).await,
        }
    }
}

/// A connection that is gone before it was accepted is no matter; with no files left it helps to wait.
async fn pause(e: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        tracing::warn!("a connection could not be accepted: {e}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes as many open files as the system gives, and no more connections than go with them.
fn make_room(server: &Server) {
    // A filter of system calls may keep both from us; then the unit that has it says how many there may be.
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(OTHER_FILES).max(16);
    server.room.store(room, std::sync::atomic::Ordering::Relaxed);
    if server.settings().max_connections.get() > room {
        tracing::warn!(room, "there may be fewer connections than max-connections: raise the limit on open files");
    }
}

/// The certificate that the settings name, if they do.
fn certificate(settings: &InForce) -> Result<Option<Arc<tokio_rustls::rustls::ServerConfig>>> {
    let (Some(certificate), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
    let (config, fingerprint) = tls::load(certificate, key)?;
    tracing::info!(file = %certificate.display(), sha256 = fingerprint, "certificate loaded");
    Ok(Some(config))
}

/// Reads settings and certificate again: all of them are taken over, or none.
fn reload(server: &Server, places: &Places, tls: Option<&Tls>, log: &Log) {
    let old = server.settings();
    let read = places.read().and_then(|newer| old.changed_to(&newer));
    let (settings, changed, later) = match read {
        Ok(read) => read,
        Err(problem) => return tracing::error!("settings stay as they are: {}", problem.message),
    };
    match (certificate(&settings), tls) {
        (Ok(Some(config)), Some(tls)) => tls.replace(config),
        (Ok(_), _) => {}
        (Err(problem), _) => {
            return tracing::error!("settings and certificate stay as they are: {}", problem.message);
        }
    }
    if let Err(problem) = log.change(&settings.log) {
        tracing::error!("{}", problem.message);
    }
    server.set_settings(settings);
    tracing::info!(changed = changed.join(", "), "settings read again");
    if !later.is_empty() {
        tracing::warn!(settings = later.join(", "), "these change when the server is started again");
    }
}

/// Lets go of events that are older than the settings say: at the beginning, at each turn, and after each change.
async fn retain(server: Arc<Server>, changed: Arc<Notify>, every: Duration) {
    let mut turns = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            () = changed.notified() => {}
        }
        let Some(kept) = server.settings().audit_retention_days else { continue };
        let server = server.clone();
        let done = tokio::task::spawn_blocking(move || let_go(&server, kept.get()));
        match done.await {
            Ok(Ok(0)) => {}
            Ok(Ok(gone)) => tracing::info!(events = gone, "events let go: they are older than audit-retention-days"),
            Ok(Err(problem)) => tracing::error!("old events could not be let go: {}", problem.message),
            Err(_) => tracing::error!("old events could not be let go"),
        }
    }
}

/// Lets go of events that are older than so many days; answers with how many those were, and the log tells it.
fn let_go(server: &Server, days: u32) -> Result<u64> {
    let names = vec![format!("older than {days} days")];
    let told = vault::Event { who: "the server".into(), names, ..event("events let go", &[]) };
    Ok(server.store.forget_events(u64::from(days) * 24 * 60 * 60 * 1000, told)?)
}

/// Writes to the store when keys were last used, to the hour.
async fn keep_keys_used(server: Arc<Server>) {
    let mut turns = tokio::time::interval(HOUR);
    loop {
        turns.tick().await;
        let server = server.clone();
        let kept = tokio::task::spawn_blocking(move || {
            server.keep_keys_used(i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX))
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::error!("when keys were last used could not be written: {}", problem.message),
            Err(_) => tracing::error!("when keys were last used could not be written"),
        }
    }
}

/// Brings to the disk what was answered since the last time.
async fn flush(server: Arc<Server>) {
    let mut ticks = tokio::time::interval(FLUSH);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if server.store.is_untidy() {
            let server = server.clone();
            match tokio::task::spawn_blocking(move || server.store.tidy(false)).await {
                Ok(Ok(_)) => {}
                Ok(Err(e)) => tracing::error!("what was destroyed may have left copies in the store's file: {e}"),
                Err(_) => tracing::error!("what was destroyed may have left copies in the store's file"),
            }
        }
        if server.events_not_on_disk() == 0 {
            continue;
        }
        let server = server.clone();
        match tokio::task::spawn_blocking(move || server.flush().and_then(|()| Ok(server.store.bring_in()?))).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => tracing::error!("{}", problem.message),
            Err(_) => tracing::error!("the audit log could not be brought to the disk"),
        }
    }
}

/// A socket that everybody may connect to, as the kernel says who does; in a directory that nobody else can replace it in.
fn bind(path: &Path) -> Result<UnixListener> {
    let failed = |e: std::io::Error| Problem::unavailable(format!("cannot listen on {}: {e}", path.display()));
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = std::fs::metadata(directory).map_err(failed)?;
    if files::replaceable(&found) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::now;
    use std::sync::atomic::{AtomicI64, Ordering};
    use vault::Store;

    #[test]
    fn events_older_than_the_settings_say_are_let_go_and_that_is_in_the_log() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("store");
        Store::create(&data).unwrap();
        static HOURS_AGO: AtomicI64 = AtomicI64::new(0);
        let old = Store::open(&data).unwrap().with_clock(|| now() - HOURS_AGO.load(Ordering::Relaxed) * 60 * 60 * 1000);
        for hours in [72, 60, 48, 36, 24, 12] {
            HOURS_AGO.store(hours, Ordering::Relaxed);
            old.record(event("old", &[])).unwrap();
        }
        drop(old);
        let server = Server::new(Store::open(&data).unwrap());
        server.record(event("new", &[])).unwrap();
        assert_eq!(let_go(&server, 4).unwrap(), 0);
        assert_eq!(let_go(&server, 2).unwrap(), 3);
        let left: Vec<String> = server.store.events(10).unwrap().into_iter().map(|(_, event)| event.action).collect();
        assert_eq!(left, ["events let go", "new", "old", "old", "old"]);
        server.store.verify_events().unwrap();
    }

    /// At the beginning, after each change of the settings, and again and again.
    #[tokio::test]
    async fn events_are_looked_at_again_and_again_and_after_each_change() {
        static NOW: AtomicI64 = AtomicI64::new(0);
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("store");
        Store::create(&data).unwrap();
        let server = Arc::new(Server::new(Store::open(&data).unwrap().with_clock(|| NOW.load(Ordering::Relaxed))));
        let record = |days: i64| {
            NOW.store(days * 24 * 60 * 60 * 1000, Ordering::Relaxed);
            server.record(event("day", &[])).unwrap();
        };
        let first = || server.store.events(100).unwrap().last().unwrap().0;
        // Until the first event is that one; false if it is another for as long as that takes many times over.
        let begins_with = async |number: u64| {
            for _ in 0..5_000 {
                if first() == number {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            false
        };
        let keep =
            |days: &str| server.set_settings(InForce::told(&["x", "--audit-retention-days", days], None).unwrap());

        // Events 1 to 4; letting go is an event itself.
        (0..=3).for_each(record);
        keep("2");
        let changed = Arc::new(Notify::new());
        let daily = tokio::spawn(retain(server.clone(), changed.clone(), DAY));
        // At the beginning.
        assert!(begins_with(3).await);
        // On the same day nothing more, whatever is old enough by then, until the settings change.
        record(4);
        keep("1");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(first(), 3);
        changed.notify_one();
        assert!(begins_with(6).await);
        daily.abort();
        // Each turn.
        let often = tokio::spawn(retain(server.clone(), changed, Duration::from_millis(10)));
        for day in 5..8 {
            let newest = server.store.last_event();
            record(day);
            assert!(begins_with(newest + 1).await);
        }
        often.abort();
        server.store.verify_events().unwrap();
    }
}
