//! What is done for every request of the table: who asks is known before the body is read, which has an end in length and
//! time; the work is done where it keeps nobody else waiting; and what is to be in the log is there before the answer leaves.
use super::App;
use super::route::{Handler, Input, Parameter, Told};
use crate::identity::{Caller, Peer, authenticate};
use crate::problem::{Problem, Result};
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{ConnectInfo, Query, RawPathParams, Request, State};
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

/// A request's body, in bytes.
const MOST_BYTES: usize = 8 * 1024 * 1024;
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
}

/// A handler as axum calls it.
pub fn handler(served: Served) -> impl Fn(State<App>, PathParts, Request) -> Later + Clone + Send + Sync + 'static {
    move |State(app), parts, request| Box::pin(dispatch(app, parts, request, served.clone()))
}

/// The parts of a path, unless they are no text.
type PathParts = std::result::Result<RawPathParams, RawPathParamsRejection>;

type Later = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A place among the requests that are worked on. Work that goes on keeps it, whether or not anybody still waits.
type Place = Arc<OwnedSemaphorePermit>;

async fn dispatch(app: App, parts: PathParts, request: Request, served: Served) -> Response {
    let Ok(place) = app.places.clone().try_acquire_owned() else {
        return answered(Err(Problem::unavailable("the server has more to do than it can: try again")));
    };
    let (head, body) = request.into_parts();
    let server = app.server.clone();
    let (answer, events) = work(Asked { app, head, parts, served }, body, &Arc::new(place)).await;
    answered(server.tell(events).await.and(answer))
}

async fn work(asked: Asked, body: Body, place: &Place) -> Told {
    let at_once = asked.is_known_from_memory();
    if !at_once && body.is_end_stream() {
        // There is nothing to wait for in between: going to another thread twice would cost as much as a read.
        let all = move || match asked.caller() {
            Ok(caller) => asked.answer(&caller, Bytes::new()),
            Err(refused) => refused,
        };
        return aside(place, all).await.unwrap_or_else(failed);
    }
    let (asked, caller) = if at_once {
        match caught(|| asked.caller()) {
            Ok(caller) => (asked, caller),
            Err(problem) => return failed(problem),
        }
    } else {
        match aside(place, move || asked.caller().map(|caller| (asked, caller))).await {
            Ok(Ok((asked, caller))) => (asked, Ok(caller)),
            Ok(Err(refused)) => return refused,
            Err(problem) => return failed(problem),
        }
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return refused,
    };
    let body = match tokio::time::timeout(BODY_TIME, to_bytes(body, MOST_BYTES)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return failed(Problem::too_large()),
        Err(_) => return failed(Problem::bad("the body of the request did not come in time")),
    };
    let done = if asked.is_quick(&caller) {
        caught(|| asked.answer(&caller, body))
    } else {
        aside(place, move || asked.answer(&caller, body)).await
    };
    done.unwrap_or_else(failed)
}

fn failed(problem: Problem) -> Told {
    (Err(problem), Vec::new())
}

/// Does something where it keeps nobody else waiting.
async fn aside<T: Send + 'static>(place: &Place, act: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let place = place.clone();
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

fn answered(answer: Result<Vec<u8>>) -> Response {
    match answer {
        Ok(answer) => ([(CONTENT_TYPE, super::JSON)], answer).into_response(),
        Err(problem) => {
            if problem.status.is_server_error() {
                tracing::error!(kind = problem.kind, "{}", problem.message);
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

    fn caller(&self) -> std::result::Result<Caller, Told> {
        let Some(ConnectInfo(peer)) = self.head.extensions.get::<ConnectInfo<Peer>>() else {
            return Err(failed(Problem::internal("a connection without another end")));
        };
        let may_appear = self.head.uri.path() != OWNER;
        authenticate(&self.app.server, &self.head.method, &self.head.headers, *peer, may_appear)
            .map_err(|refused| (Err(refused.problem), refused.event.into_iter().collect()))
    }

    fn answer(&self, caller: &Caller, body: Bytes) -> Told {
        let server = &self.app.server;
        let (answer, mut events) = match self.input(body) {
            Ok(input) => (self.served.handler)(server, caller, input),
            Err(problem) => failed(problem),
        };
        match &answer {
            Ok(_) => server.was_here(&caller.name),
            Err(problem) if problem.status == StatusCode::FORBIDDEN => {
                server.metrics.refused(problem.kind);
                server.was_refused(&caller.name);
                let event = caller.event(&format!("{} {}", self.head.method, self.head.uri.path()), &[], Vec::new());
                events.extend(server.refusal(vault::Event { outcome: problem.kind.into(), ..event }));
            }
            Err(_) => {}
        }
        (answer, events)
    }

    fn input(&self, body: Bytes) -> Result<Input> {
        let no_text = |what: &str| Problem::bad(format!("the {what} of the request is no text"));
        let parts = self.parts.as_ref().map_err(|_| no_text("path"))?;
        let path = parts.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let Query(query) = Query::try_from_uri(&self.head.uri).map_err(|_| no_text("query"))?;
        Input::new(path, query, body, self.served.known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn a_panic_tells_nothing_and_gives_the_place_back() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::new(places.clone().try_acquire_owned().unwrap());
        assert_eq!(aside(&place, || 5).await.unwrap(), 5);
        let aside = aside(&place, || -> u8 { panic!("a value") }).await.unwrap_err();
        let caught = caught(|| -> u8 { panic!("a value") }).unwrap_err();
        for problem in [aside, caught] {
            assert_eq!(problem.status, StatusCode::INTERNAL_SERVER_ERROR);
            assert!(!problem.message.contains("a value"));
        }
        assert_eq!(places.available_permits(), 0);
        drop(place);
        assert_eq!(places.available_permits(), 1);
    }
}
