//! What is done for every request of the table: who asks is known before the body is read, which has an end in length and
//! time; the work is done where it keeps nobody else waiting; and what is to be in the log is there before the answer leaves.
use super::App;
use super::route::{Handler, Input, Parameter};
use crate::identity::{Caller, Peer, Refused, Source, authenticate};
use crate::memory::{Held, SMALL, SMALL_ANSWER, elements};
use crate::problem::{Problem, Result};
use crate::server::Telling;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, Query, RawPathParams, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request's body, in bytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// And in values: ten thousand people or secrets with all that is said of them.
const MOST_ELEMENTS: usize = 250_000;
/// What a value takes of memory, in bytes.
const ELEMENT: usize = 128;
/// How long the body of a request may take.
pub const BODY_TIME: Duration = Duration::from_secs(10);
/// The route of the store's owner.
const OWNER: &str = "/dkusecrets/v1/owner";

/// What a route is served by: a handler, which of the query sees what `known` names.
#[derive(Clone)]
pub struct Served {
    pub handler: Handler,
    pub known: &'static [Parameter],
    /// See [`super::route::Route::quick`].
    pub quick: bool,
    /// Whether it is refused to a credential that opens nothing: see [`Caller::changer`].
    pub changes: bool,
}

/// A handler as axum calls it.
pub fn handler(served: Served) -> impl Fn(State<App>, PathParts, Request) -> Later + Clone + Send + Sync + 'static {
    move |State(app), parts, request| Box::pin(dispatch(app, parts, request, served.clone()))
}

/// The parts of a path, unless they are no text.
type PathParts = std::result::Result<RawPathParams, RawPathParamsRejection>;

type Later = Pin<Box<dyn Future<Output = Response> + Send>>;

/// An answer, and what has to be in the log before it leaves.
type Worked = (Result<Bytes>, Telling);

/// A request's body, and the memory that it takes, if it is large.
type Whole = (Bytes, Option<Held>);

async fn dispatch(app: App, parts: PathParts, request: Request, served: Served) -> Response {
    let (head, body) = request.into_parts();
    let worked = work(Box::new(Asked { app, head, parts, served }), body).await;
    answered(match worked {
        Ok((answer, telling)) => telling.done().await.and(answer),
        Err(problem) => Err(problem),
    })
}

async fn work(asked: Box<Asked>, body: Body) -> Result<Worked> {
    let places = asked.app.places.clone();
    let at_once = asked.is_known_from_memory();
    if !at_once && body.is_end_stream() {
        // There is nothing to wait for in between: going to another thread twice would cost as much as a read.
        return aside(&places, move || asked.all((Bytes::new(), None))).await;
    }
    let (asked, caller) = if at_once {
        let caller = caught(|| asked.caller())?;
        (asked, caller)
    } else {
        aside(&places, move || {
            let caller = asked.caller();
            (asked, caller)
        })
        .await?
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return Ok(asked.refused(refused)),
    };
    let (body, waited) = whole(body, || asked.app.server.memory.of(&caller.name)).await?;
    if waited {
        // Who asks may have been let go of since.
        return aside(&places, move || asked.all(body)).await;
    }
    if asked.is_quick(&caller) {
        // The log may be slow: what waits for it is bounded, too.
        let place = place(&places)?;
        let (answer, telling) = caught(|| asked.answer(&caller, body))?;
        return Ok((answer, telling.with(place)));
    }
    aside(&places, move || asked.answer(&caller, body)).await
}

/// The body, and whether it had to be waited for.
async fn whole(body: Body, memory: impl FnOnce() -> Held) -> Result<(Whole, bool)> {
    let mut read = pin!(tokio::time::timeout(BODY_TIME, gathered(body, memory)));
    let (read, waited) = match poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
        Poll::Ready(read) => (read, false),
        Poll::Pending => (read.await, true),
    };
    match read {
        Ok(body) => Ok((body?, waited)),
        Err(_) => Err(Problem::bad("the body of the request did not come in time")),
    }
}

/// Takes memory for a body as it comes, so that who only says that much will come takes none. One for which there is none
/// is read to its end all the same: who is still sending would not hear the answer.
async fn gathered(mut body: Body, memory: impl FnOnce() -> Held) -> Result<Whole> {
    let (mut whole, mut rest, mut length) = (Bytes::new(), Vec::new(), 0);
    let (mut memory, mut held, mut refused) = (Some(memory), None::<Held>, None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad("the body of the request did not come whole"))?;
        let Ok(part) = frame.into_data() else { continue };
        length += part.len();
        if length > MOST_BYTES {
            return Err(Problem::too_large());
        }
        if refused.is_some() {
            continue;
        }
        if length > SMALL {
            let new = memory.take().map(|memory| held.insert(memory())).is_some();
            // What it says is read into other memory, and stored from a third.
            let more = 3 * if new { length } else { part.len() };
            if let Err(problem) = held.as_mut().map_or(Ok(()), |held| held.grow(more)) {
                (refused, held, whole, rest) = (Some(problem), None, Bytes::new(), Vec::new());
                continue;
            }
        }
        // One part, as most are, need not be copied.
        if whole.is_empty() && rest.is_empty() {
            whole = part;
        } else {
            rest.extend_from_slice(&std::mem::take(&mut whole));
            rest.extend_from_slice(&part);
        }
    }
    match refused {
        Some(problem) => Err(problem),
        None => Ok((if rest.is_empty() { whole } else { rest.into() }, held)),
    }
}

/// A place among the requests that are worked on: how many those are is bounded.
fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let place = places.clone().try_acquire_owned();
    place.map_err(|_| Problem::unavailable("the server has more to do than it can: try again"))
}

/// Does something where it keeps nobody else waiting. It is done, and keeps its place, even if nobody waits for it any more.
async fn aside<T: Send + 'static>(places: &Arc<Semaphore>, act: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let place = place(places)?;
    let work = move || {
        let _place = place;
        act()
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| panicked())
}

/// Does something that takes microseconds, and waits for nothing.
fn caught<T>(act: impl FnOnce() -> T) -> Result<T> {
    // What a panic leaves half done is dropped with the request; what is shared is whole at every step.
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| panicked())
}

/// A panic's text may hold anything: it is not told.
fn panicked() -> Problem {
    Problem::internal("internal error: please report it")
}

fn answered(answer: Result<Bytes>) -> Response {
    match answer {
        Ok(answer) => ([(CONTENT_TYPE, super::JSON)], answer).into_response(),
        Err(problem) => {
            if problem.status.is_server_error() {
                tracing::error!(kind = problem.kind, "{}", problem.for_log());
            }
            problem.into_response()
        }
    }
}

/// A request but for its body.
struct Asked {
    app: App,
    head: Parts,
    parts: PathParts,
    served: Served,
}

impl Asked {
    /// Whether it is by a ticket or a key that it is known who asks: a socket's other end is looked up in the system's list
    /// of accounts, which may be on another machine.
    fn is_known_from_memory(&self) -> bool {
        let headers = &self.head.headers;
        headers.contains_key("x-dku-apiticket") || headers.contains_key(AUTHORIZATION)
    }

    /// Whether the answer waits for no disk.
    fn is_quick(&self, caller: &Caller) -> bool {
        let store = &self.app.server.store;
        self.served.quick && caller.person.as_ref().is_some_and(|person| store.remembers(&person.id))
    }

    fn caller(&self) -> std::result::Result<Caller, Refused> {
        let Some(ConnectInfo(peer)) = self.head.extensions.get::<ConnectInfo<Peer>>() else {
            return Err(Problem::internal("a connection without another end").into());
        };
        let may_appear = self.head.uri.path() != OWNER;
        authenticate(&self.app.server, &self.head.method, &self.head.headers, *peer, may_appear)
    }

    /// All there is to do.
    fn all(&self, body: Whole) -> Worked {
        match self.caller() {
            Ok(caller) => self.answer(&caller, body),
            Err(refused) => self.refused(refused),
        }
    }

    fn refused(&self, refused: Refused) -> Worked {
        (Err(refused.problem), self.app.server.tell(refused.event.map(|event| *event)))
    }

    fn answer(&self, caller: &Caller, body: Whole) -> Worked {
        let server = &self.app.server;
        let may = if self.served.changes { caller.changer() } else { Ok(()) };
        let (answer, mut events, held) = match may.and_then(|()| self.input(body)) {
            Ok(input) => (self.served.handler)(server, caller, input),
            Err(problem) => (Err(problem), Vec::new(), None),
        };
        let answer = answer.and_then(|answer| self.kept(caller, answer, held));
        match &answer {
            Ok(_) => {
                server.was_here(&caller.name);
                if let Some(key) = caller.key.as_deref().filter(|_| caller.source == Source::Key) {
                    server.key_was_used(key);
                }
            }
            Err(problem) if problem.status == StatusCode::FORBIDDEN => {
                server.metrics.refused(problem.kind);
                server.was_refused(&caller.name);
                let event = caller.event(&format!("{} {}", self.head.method, self.head.uri.path()), &[], Vec::new());
                events.extend(server.refusal(vault::Event { outcome: problem.kind.into(), ..event }));
            }
            Err(_) => {}
        }
        let answer = answer.map_err(|problem| if caller.owner { problem } else { problem.without_paths(server) });
        (answer, server.tell(events))
    }

    /// An answer, which takes its memory for as long as it takes to be sent.
    fn kept(&self, caller: &Caller, answer: Vec<u8>, held: Option<Held>) -> Result<Bytes> {
        if answer.len() <= SMALL_ANSWER {
            return Ok(answer.into());
        }
        if let Some(held) = held {
            return Ok(held.with(answer));
        }
        let mut held = self.app.server.memory.of(&caller.name);
        held.grow(answer.len())?;
        Ok(held.with(answer))
    }

    fn input(&self, (body, mut held): Whole) -> Result<Input> {
        if let Some(held) = &mut held {
            let elements = elements(&body);
            if elements > MOST_ELEMENTS {
                return Err(Problem::too_large());
            }
            held.grow(elements * ELEMENT)?;
        }

        let no_text = |what: &str| Problem::bad(format!("the {what} of the request is no text"));
        let parts = self.parts.as_ref().map_err(|_| no_text("path"))?;
        let path = parts.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let Query(query) = Query::try_from_uri(&self.head.uri).map_err(|_| no_text("query"))?;
        Input::new(path, query, body, held, self.served.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_bounded_and_a_panic_tells_nothing() {
        let places = Arc::new(Semaphore::new(1));
        assert_eq!(aside(&places, || 5).await.unwrap(), 5);
        let aside_panics = aside(&places, || -> u8 { panic!("a value") }).await.unwrap_err();
        let caught_panics = caught(|| -> u8 { panic!("a value") }).unwrap_err();
        for problem in [aside_panics, caught_panics] {
            assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(!problem.message.contains("a value"));
        }
        // The place was given back; while somebody has it, others are told to come again.
        let held = place(&places).unwrap();
        let refused = answered(aside(&places, Bytes::new).await);
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(refused.headers().contains_key("retry-after"));
        drop(held);
        assert_eq!(answered(aside(&places, Bytes::new).await).status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn a_body_that_is_there_is_not_waited_for() {
        let memory = Arc::new(crate::memory::Memory::default());
        let ((body, held), waited) = whole(Body::from("x"), || memory.of("bob")).await.unwrap();
        assert!(body == "x" && held.is_none() && !waited);
        let later = futures_util::stream::once(async {
            tokio::task::yield_now().await;
            Ok::<_, std::convert::Infallible>("x")
        });
        let ((body, _), waited) = whole(Body::from_stream(later), || memory.of("bob")).await.unwrap();
        assert!(body == "x" && waited);
        let parts = futures_util::stream::iter([Ok::<_, std::convert::Infallible>("x"), Ok("y"), Ok("z")]);
        assert_eq!(whole(Body::from_stream(parts), || memory.of("bob")).await.unwrap().0.0, "xyz");
    }
}
