//! What a route is. One table of them ([`super::table`]) makes both the router and the document that describes it
//! ([`super::openapi`]), and a handler's own signature says what it reads and answers: the two cannot differ.
use super::App;
use crate::identity::Caller;
use crate::problem::{Problem, Result};
use crate::server::Server;
use axum::body::Bytes;
use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// What a request says: parts of its path, what it asks for in the query, and a body that is a `B`; `()` is none.
pub struct Input<B = ()> {
    path: HashMap<String, String>,
    query: HashMap<String, String>,
    pub body: Bytes,
    is: PhantomData<fn() -> B>,
}

impl Input {
    /// Of the query only what the route names, which has to be what that says.
    pub fn new(
        path: HashMap<String, String>,
        query: Vec<(String, String)>,
        body: Bytes,
        known: &[Parameter],
    ) -> Result<Input> {
        let mut kept = HashMap::new();
        for (name, says) in query {
            if let Some(parameter) = known.iter().find(|parameter| parameter.name == name) {
                parameter.check(&says)?;
                kept.insert(name, says);
            }
        }
        Ok(Input { path, query: kept, body, is: PhantomData })
    }
}

impl<B> Input<B> {
    /// A part of the path.
    pub fn part(&self, name: &str) -> &str {
        self.path.get(name).map_or("", String::as_str)
    }

    /// A flag in the query; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|says| says.eq_ignore_ascii_case("true"))
    }

    pub fn count(&self, name: &str) -> Option<usize> {
        self.query.get(name).and_then(|says| says.parse().ok())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

impl<B: DeserializeOwned> Input<B> {
    /// The body, which comes with any content type or none. What does not fit is told by its place, never by its value.
    pub fn json(&self) -> Result<B> {
        serde_json::from_slice(&self.body).map_err(|e| {
            let what = if e.is_data() { "has not the fields that are needed" } else { "is no JSON" };
            Problem::bad(format!("the body {what} (line {}, column {})", e.line(), e.column()))
        })
    }
}

/// Something in the query.
pub struct Parameter {
    pub name: &'static str,
    pub is: Is,
    pub summary: &'static str,
}

/// What a parameter in the query can be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// Which clients write as Python, JSON or R do.
    Flag,
    Count,
    Text,
}

impl Parameter {
    fn check(&self, says: &str) -> Result<()> {
        let name = self.name;
        match self.is {
            Is::Flag if !["true", "false"].iter().any(|flag| says.eq_ignore_ascii_case(flag)) => {
                Err(Problem::bad(format!("{name} is true or false")))
            }
            Is::Count if says.parse::<usize>().is_err() => Err(Problem::bad(format!("{name} is not a number"))),
            _ => Ok(()),
        }
    }
}

/// What a handler answers with.
pub type Answer<A> = Result<A>;

/// A handler whose types are forgotten: the answer as JSON.
pub type Handler = Arc<dyn Fn(&Server, &Caller, Input) -> Result<Vec<u8>> + Send + Sync>;

/// The schema of a type, among all others that a document holds.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What serves a route.
pub enum Service {
    /// A function of the server, the caller and the request; `dispatch` does the rest.
    Handler(Handler),
    /// Something of its own, which has to see to who asks by itself.
    Own(Box<MethodRouter<App>>),
}

/// A route: what it is called, what it reads and answers, and what serves it.
pub struct Route {
    pub method: Method,
    pub path: Cow<'static, str>,
    pub summary: &'static str,
    pub query: &'static [Parameter],
    pub body: Option<SchemaOf>,
    /// Whether the body may be left out.
    pub optional: bool,
    pub answer: SchemaOf,
    /// The status of refusals beyond those that every route has.
    pub refusals: &'static [u16],
    /// Whether anybody may ask.
    pub open: bool,
    pub service: Service,
}

impl Route {
    /// A route with a handler, whose signature says what it reads and answers.
    pub fn new<B, A>(
        method: Method,
        path: impl Into<Cow<'static, str>>,
        summary: &'static str,
        handler: fn(&Server, &Caller, &Input<B>) -> Answer<A>,
    ) -> Route
    where
        B: JsonSchema + 'static,
        A: JsonSchema + Serialize + 'static,
    {
        let run = move |server: &Server, caller: &Caller, input: Input| {
            let Input { path, query, body, is: _ } = input;
            let answer = handler(server, caller, &Input { path, query, body, is: PhantomData })?;
            serde_json::to_vec(&answer).map_err(|_| Problem::internal("an answer cannot be encoded"))
        };
        let none = std::any::TypeId::of::<B>() == std::any::TypeId::of::<()>();
        Route {
            body: (!none).then_some(schema_of::<B>),
            ..Route::own::<A>(method, path, summary, Service::Handler(Arc::new(run)))
        }
    }

    /// A route with a service of its own, which says by `A` what it answers.
    pub fn own<A: JsonSchema>(
        method: Method,
        path: impl Into<Cow<'static, str>>,
        summary: &'static str,
        service: Service,
    ) -> Route {
        Route {
            method,
            path: path.into(),
            summary,
            query: &[],
            body: None,
            optional: false,
            answer: schema_of::<A>,
            refusals: &[],
            open: false,
            service,
        }
    }

    /// What it understands in the query.
    pub fn query(self, query: &'static [Parameter]) -> Route {
        Route { query, ..self }
    }

    /// Which refusals there are beyond those of every route.
    pub fn or(self, refusals: &'static [u16]) -> Route {
        Route { refusals, ..self }
    }

    /// Its body may be left out.
    pub fn optional_body(self) -> Route {
        Route { optional: true, ..self }
    }

    /// Anybody who reaches the server may ask.
    pub fn open(self) -> Route {
        Route { open: true, ..self }
    }
}

fn schema_of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// An answer that says nothing: some clients need a JSON object.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Done {}
