//! Connections: how many there are, how long each may say nothing, and which goes first when there is no more room.
//! So a client that is slow or silent holds up nobody but itself.
use crate::http::Service;
use crate::identity::Peer;
use crate::problem::Problem;
use crate::server::Server;
use crate::tls::Tls;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Notify, Semaphore};
use tower::ServiceExt;

/// How long a new connection may take to its first whole request, TLS handshake included, and any connection to the end
/// of a request's header once that has begun.
pub const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a connection is kept between requests.
pub const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long the other end may take nothing of an answer.
pub const WRITE_TIME: Duration = Duration::from_secs(30);
/// How often it is looked for those that are over. Coarse: a timer for each request would cost each request something.
const LOOK: Duration = Duration::from_millis(500);
/// An answer that nobody takes, or a body that does not come, for this long makes room for a newcomer, if nothing else does.
const STALLED: Duration = Duration::from_secs(2);
/// A request's header, in bytes.
const MOST_HEADER: usize = 64 * 1024;
/// Connections that are told that there is no room; more are closed without a word.
const MOST_REFUSED: usize = 64;
/// Connections beside `max-connections`, for whoever looks after the server.
const FOR_OWNER: usize = 16;
/// How long telling may take.
const REFUSAL_TIME: Duration = Duration::from_secs(2);

/// Until its first request.
const NEW: u8 = 0;
/// Between requests.
const IDLE: u8 = 1;
/// A request's header has begun.
const HEADER: u8 = 2;
/// A request is worked on.
const BUSY: u8 = 3;
/// It is to end, and was told.
const ENDING: u8 = 4;
/// A request is waited for whose body has not come yet.
const BODY: u8 = 5;

/// What a connection is told.
const NOTHING: u8 = 0;
/// End after what is running.
const FINISH: u8 = 1;
/// End now.
const ABORT: u8 = 2;

/// All open connections.
pub struct Connections {
    server: Arc<Server>,
    app: Service,
    began: Instant,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<State>>>,
    refusing: Arc<Semaphore>,
    /// The last one has gone.
    empty: Notify,
}

/// What is known of a connection.
struct State {
    began: Instant,
    /// The phase, and when it began: in milliseconds, times 8.
    phase: AtomicU64,
    /// Since when the other end takes nothing; 0 if it does.
    stalled: AtomicU64,
    served: AtomicBool,
    told: AtomicU8,
    tell: Notify,
}

impl State {
    fn now(&self) -> u64 {
        // 0 stands for never.
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX >> 4).max(1)
    }

    fn enter(&self, phase: u8) {
        self.phase.store(self.now() << 3 | u64::from(phase), Ordering::Relaxed);
    }

    /// The phase, and how long it has lasted.
    fn phase(&self) -> (u8, Duration) {
        let packed = self.phase.load(Ordering::Relaxed);
        ((packed & 7) as u8, Duration::from_millis(self.now().saturating_sub(packed >> 3)))
    }

    fn stalled(&self) -> Option<Duration> {
        let since = self.stalled.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_millis(self.now().saturating_sub(since)))
    }

    fn tell(&self, what: u8) {
        self.told.fetch_max(what, Ordering::Relaxed);
        self.tell.notify_one();
    }

    /// Whether it has been silent, or deaf, for longer than it may.
    fn over(&self) -> bool {
        let (phase, lasted) = self.phase();
        let silent = match phase {
            NEW | HEADER | ENDING => lasted > HEADER_TIME,
            IDLE => lasted > IDLE_TIME,
            _ => false,
        };
        silent || self.stalled().is_some_and(|lasted| lasted > WRITE_TIME)
    }

    /// Whether it can make room for another, and how gladly: those that never asked anything first, of these the oldest.
    fn dispensable(&self) -> Option<(u8, std::cmp::Reverse<Duration>)> {
        if self.told.load(Ordering::Relaxed) != NOTHING {
            return None;
        }
        let (phase, lasted) = self.phase();
        let class = match (phase, self.stalled()) {
            (_, Some(lasted)) if lasted > STALLED => 2,
            (NEW, None) => 0,
            (IDLE | HEADER, None) => 1,
            (BODY, None) if lasted > STALLED => 2,
            _ => return None,
        };
        Some((class, std::cmp::Reverse(lasted)))
    }
}

/// Places that are kept for somebody: the store's owner and root, on the socket, can still revoke what runs hold.
fn places(peer: Peer) -> usize {
    match peer {
        Peer::Process { uid, .. } if uid == 0 || uid == vault::effective_user() => FOR_OWNER,
        _ => 0,
    }
}

impl Connections {
    pub fn new(server: Arc<Server>, app: Service) -> Arc<Connections> {
        Arc::new(Connections {
            server,
            app,
            began: Instant::now(),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            refusing: Arc::new(Semaphore::new(MOST_REFUSED)),
            empty: Notify::new(),
        })
    }

    /// Attends to a new connection, or tells it that there is no room.
    pub fn admit<S>(self: &Arc<Self>, stream: S, peer: Peer, tls: Option<&Arc<Tls>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let acceptor = tls.map(|tls| tls.acceptor());
        let Some(entry) = self.enter(places(peer)) else {
            self.server.metrics.turned_away();
            let Ok(place) = self.refusing.clone().try_acquire_owned() else { return };
            tokio::spawn(async move {
                let _place = place;
                let told = async {
                    match acceptor {
                        Some(acceptor) => refuse(acceptor.accept(stream).await?).await,
                        None => refuse(stream).await,
                    }
                };
                // Whoever does not listen is not told.
                let _ = tokio::time::timeout(REFUSAL_TIME, told).await;
            });
            return;
        };
        let app = self.app.clone();
        tokio::spawn(async move {
            let state = entry.state.clone();
            match acceptor {
                None => attend(stream, peer, app, &state).await,
                Some(acceptor) => {
                    let accepted = tokio::select! {
                        accepted = acceptor.accept(stream) => accepted,
                        () = state.tell.notified() => return,
                    };
                    match accepted {
                        Ok(stream) => attend(stream, peer, app, &state).await,
                        Err(e) => tracing::debug!("a TLS handshake failed: {e}"),
                    }
                }
            }
            drop(entry);
        });
    }

    /// Counts a new connection. When there is no room, one that is dispensable goes for it. `more` may be open than usual.
    fn enter(self: &Arc<Self>, more: usize) -> Option<Entry> {
        let most = self
            .server
            .settings()
            .max_connections
            .get()
            .min(self.server.room.load(Ordering::Relaxed))
            .saturating_add(more);
        let mut open = held(&self.open);
        if open.len() >= most {
            let goes = open.values().filter_map(|state| Some((state.dispensable()?, state)));
            let (_, state) = goes.min_by_key(|(order, _)| *order)?;
            state.tell(if state.stalled().is_some() || state.phase().0 == BODY { ABORT } else { FINISH });
        }
        let state = Arc::new(State {
            began: self.began,
            phase: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            served: AtomicBool::new(false),
            told: AtomicU8::new(NOTHING),
            tell: Notify::new(),
        });
        state.enter(NEW);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(id, state.clone());
        self.server.metrics.connections(open.len());
        Some(Entry { all: self.clone(), id, state })
    }

    /// Ends those that say or take nothing for too long. It never ends itself.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for state in held(&self.open).values().filter(|state| state.over()) {
                // One that is kept says goodbye, which TLS wants; the others have had their time.
                let kept = state.phase().0 == IDLE && state.stalled().is_none();
                state.tell(if kept { FINISH } else { ABORT });
            }
        }
    }

    /// Ends all connections after what is running on them; answers when the last has ended.
    pub async fn finish(&self) {
        loop {
            let empty = self.empty.notified();
            {
                let open = held(&self.open);
                if open.is_empty() {
                    return;
                }
                open.values().for_each(|state| state.tell(FINISH));
            }
            empty.await;
        }
    }
}

/// A connection's place among all.
struct Entry {
    all: Arc<Connections>,
    id: u64,
    state: Arc<State>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = held(&self.all.open);
        open.remove(&self.id);
        self.all.server.metrics.connections(open.len());
        if open.is_empty() {
            self.all.empty.notify_one();
        }
    }
}

/// Answers the requests of one connection.
async fn attend<S>(stream: S, peer: Peer, app: Service, state: &Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request: hyper::Request<Incoming>| {
        // Without a body, as most are, there is nothing to wait for.
        let waits = !request.body().is_end_stream();
        state.enter(if waits { BODY } else { BUSY });
        state.served.store(true, Ordering::Relaxed);
        let mut request: Request =
            request.map(|body| if waits { Body::new(Coming { body, state: state.clone() }) } else { Body::new(body) });
        request.extensions_mut().insert(ConnectInfo(peer));
        // Also where the answer is never made.
        let end = End(state.clone());
        let answer = app.clone().oneshot(request);
        async move { answer.await.map(|response: Response| response.map(|body| Answer { body, _end: end })) }
    });
    let io = TokioIo::new(Watched { stream, state: state.clone() });
    // Time limits are ours: see `watch`.
    let connection =
        http1::Builder::new().header_read_timeout(None).max_buf_size(MOST_HEADER).serve_connection(io, service);
    let mut connection = pin!(connection);
    loop {
        tokio::select! {
            biased;
            // How it ended is the other end's matter.
            _ = connection.as_mut() => return,
            () = state.tell.notified() => {
                let busy = matches!(state.phase().0, BUSY | BODY);
                // hyper would wait for the rest of a first header.
                if state.told.load(Ordering::Relaxed) == ABORT || !(busy || state.served.load(Ordering::Relaxed)) {
                    return;
                }
                if !busy {
                    state.enter(ENDING);
                }
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Tells that there is no room, and waits until that has been read: closed at once, it might never arrive.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> std::io::Result<()> {
    let problem = Problem::unavailable("the server has too many connections: try again");
    let body = serde_json::to_string(&problem.shown()).unwrap_or_default();
    let head =
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Type: application/json";
    let told = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(told.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The end of an answer.
struct End(Arc<State>);

impl Drop for End {
    fn drop(&mut self) {
        let ending = self.0.told.load(Ordering::Relaxed) != NOTHING;
        self.0.enter(if ending { ENDING } else { IDLE });
    }
}

/// A body that tells when it has been handed over.
struct Answer {
    body: Body,
    _end: End,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body, which tells when it has come.
struct Coming {
    body: Incoming,
    state: Arc<State>,
}

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_ready() && (self.body.is_end_stream() || matches!(polled, Poll::Ready(None))) {
            self.state.enter(BUSY);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when a header begins, and when the other end stops taking.
struct Watched<S> {
    stream: S,
    state: Arc<State>,
}

impl<S> Watched<S> {
    fn took<T>(&self, done: &Poll<T>) {
        let stalled = &self.state.stalled;
        match done {
            Poll::Ready(_) => {
                if stalled.load(Ordering::Relaxed) != 0 {
                    stalled.store(0, Ordering::Relaxed);
                }
            }
            Poll::Pending if stalled.load(Ordering::Relaxed) == 0 => {
                stalled.store(self.state.now(), Ordering::Relaxed);
            }
            Poll::Pending => {}
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if done.is_ready()
            && buffer.filled().len() > before
            && self.state.phase.load(Ordering::Relaxed) & 7 == u64::from(IDLE)
        {
            self.state.enter(HEADER);
        }
        done
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.took(&done);
        done
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.took(&done);
        done
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_flush(cx);
        self.took(&done);
        done
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
