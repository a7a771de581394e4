//! What a route is. One table of them ([`super::table`]) makes both the router and the document that describes it
//! ([`super::openapi`]), and a handler's own signature says what it reads and answers: the two cannot differ.
use super::App;
use crate::identity::Caller;
use crate::memory::Held;
use crate::problem::{Problem, Result};
use crate::server::Server;
use axum::body::Bytes;
use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;
use vault::Event;

/// Words by their names, of which there are few.
type Words = Vec<(String, String)>;

fn word<'w>(words: &'w Words, name: &str) -> Option<&'w str> {
    // The last one, where a name is said twice.
    words.iter().rev().find(|(named, _)| named == name).map(|(_, says)| says.as_str())
}

/// What a request says: parts of its path, what it asks for in the query, and a body that is a `B`; `()` is none.
pub struct Input<B = ()> {
    path: Words,
    query: Words,
    pub body: Bytes,
    /// Whether a body can only be an object.
    object: bool,
    /// What goes into the log before the answer leaves.
    told: RefCell<Vec<Event>>,
    /// The memory that it takes, if it is large.
    held: RefCell<Option<Held>>,
    is: PhantomData<fn() -> B>,
}

impl Input {
    /// Of the query only what the route names, which has to be what that says.
    pub fn new(path: Words, query: Words, body: Bytes, held: Option<Held>, known: &[Parameter]) -> Result<Input> {
        let mut kept = Words::new();
        for (name, says) in query {
            if let Some(parameter) = known.iter().find(|parameter| parameter.name == name) {
                parameter.check(&says)?;
                kept.push((name, says));
            }
        }
        let held = RefCell::new(held);
        Ok(Input { path, query: kept, body, object: false, told: RefCell::default(), held, is: PhantomData })
    }
}

impl<B> Input<B> {
    /// Tells the log of something. Unless that was written, nothing is answered.
    pub fn tell(&self, event: Event) {
        self.told.borrow_mut().push(event);
    }

    /// Takes memory for an answer of about so many bytes.
    pub fn reserve(&self, server: &Server, caller: &Caller, bytes: usize) -> Result<()> {
        self.held.borrow_mut().get_or_insert_with(|| server.memory.of(&caller.name)).grow(bytes)
    }

    /// A part of the path.
    pub fn part(&self, name: &str) -> &str {
        word(&self.path, name).unwrap_or_default()
    }

    /// A flag in the query; absent is false.
    pub fn flag(&self, name: &str) -> bool {
        word(&self.query, name).is_some_and(|says| says.eq_ignore_ascii_case("true"))
    }

    pub fn count(&self, name: &str) -> Option<usize> {
        word(&self.query, name).and_then(|says| says.parse().ok())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        word(&self.query, name)
    }
}

impl<B: DeserializeOwned> Input<B> {
    /// The body, which comes with any content type or none. What does not fit is told by its place, never by its value.
    pub fn json(&self) -> Result<B> {
        // serde would take an array for the fields in their order.
        if self.object && self.body.trim_ascii_start().first().is_some_and(|first| *first == b'[') {
            return Err(Problem::bad("the body is a list, where an object is needed"));
        }
        parse(&self.body)
    }
}

/// What a body says. What does not fit is told by its place, never by its value.
pub fn parse<B: DeserializeOwned>(body: &[u8]) -> Result<B> {
    serde_json::from_slice(body).map_err(|e| {
        let what = if e.is_data() { "has not the fields that are needed" } else { "is no JSON" };
        Problem::bad(format!("the body {what} (line {}, column {})", e.line(), e.column()))
    })
}

/// Something in the query.
pub struct Parameter {
    pub name: &'static str,
    pub is: Is,
    pub summary: &'static str,
}

/// The most that a number in a query can be: what JSON, R and JavaScript know exactly.
pub const MOST: u64 = (1 << 53) - 1;

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
            Is::Count if !says.parse().is_ok_and(|count: u64| count <= MOST) => {
                Err(Problem::bad(format!("{name} is a whole number from 0 to {MOST}")))
            }
            _ => Ok(()),
        }
    }
}

/// What a handler answers with.
pub type Answer<A> = Result<A>;

/// A handler whose types are forgotten.
pub type Handler = Arc<dyn Fn(&Server, &Caller, Input) -> Told + Send + Sync>;

/// An answer as JSON, the events that have to be in the log before it leaves, and the memory that it takes.
pub type Told = (Result<Vec<u8>>, Vec<Event>, Option<Held>);

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
    /// Whether it waits for no disk where the person's secrets are in memory.
    pub quick: bool,
    /// Whether a credential may change something by it that opens nothing: see [`Caller::changer`].
    pub even_doubted: bool,
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
        let object = B::json_schema(&mut SchemaGenerator::default()).get("type").is_some_and(|is| is == "object");
        let run = move |server: &Server, caller: &Caller, Input { path, query, body, held, .. }: Input| {
            let input = Input { path, query, body, object, told: RefCell::default(), held, is: PhantomData };
            let answer = handler(server, caller, &input).and_then(|answer| {
                serde_json::to_vec(&answer).map_err(|_| Problem::internal("an answer cannot be encoded"))
            });
            (answer, input.told.into_inner(), input.held.into_inner())
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
            quick: false,
            even_doubted: false,
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

    /// What a service of its own reads.
    pub fn reads<B: JsonSchema>(self) -> Route {
        Route { body: Some(schema_of::<B>), ..self }
    }

    /// Its body may be left out.
    pub fn optional_body(self) -> Route {
        Route { optional: true, ..self }
    }

    /// It waits for no disk where the person's secrets are in memory: it is worked on at once.
    pub fn quick(self) -> Route {
        Route { quick: true, ..self }
    }

    /// Its handler sees to it what a credential may that opens nothing.
    pub fn even_doubted(self) -> Route {
        Route { even_doubted: true, ..self }
    }

    /// Anybody who reaches the server may ask.
    pub fn open(self) -> Route {
        Route { open: true, ..self }
    }
}

fn schema_of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Schema {
    schemas.subschema_for::<T>()
}

/// A `T` within a body that is an object: serde would take an array, too, for the fields in their order.
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Object<T>, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        from.deserialize_map(Fields(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        T::json_schema(schemas)
    }
}

/// An answer that says nothing: some clients need a JSON object.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Done {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_no_arrays() {
        #[derive(Deserialize)]
        struct Pair {
            a: String,
            b: Option<u8>,
        }
        let read = |text: &str| serde_json::from_str::<Vec<Object<Pair>>>(text);
        let [Object(pair)] = &read(r#"[{"a": "x", "b": 1}]"#).unwrap()[..] else { unreachable!() };
        assert_eq!((pair.a.as_str(), pair.b), ("x", Some(1)));
        for bad in [r#"[["x", 1]]"#, "[5]", "[null]", r#"[{"b": 1}]"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_says_what_is_asked_for() {
        const KNOWN: &[Parameter] = &[
            Parameter { name: "flag", is: Is::Flag, summary: "" },
            Parameter { name: "count", is: Is::Count, summary: "" },
            Parameter { name: "text", is: Is::Text, summary: "" },
        ];
        let input = |name: &str, says: &str| {
            Input::new(Words::new(), vec![(name.into(), says.into())], Bytes::new(), None, KNOWN)
        };
        assert!(["True", "true", "TRUE"].iter().all(|says| input("flag", says).unwrap().flag("flag")));
        assert!(["False", "false", "FALSE"].iter().all(|says| !input("flag", says).unwrap().flag("flag")));
        assert!(["", "1", "yes"].iter().all(|says| input("flag", says).is_err()));
        assert_eq!(input("count", "9007199254740991").unwrap().count("count"), Some(9_007_199_254_740_991));
        assert!(["", "-1", "1.5", "9007199254740992", "x"].iter().all(|says| input("count", says).is_err()));
        assert_eq!(input("text", "").unwrap().text("text"), Some(""));
        // What a route does not name it does not see.
        assert_eq!(input("other", "x").unwrap().text("other"), None);
    }
}
