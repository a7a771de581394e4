//! Answers to R: a value, or a failure that R raises itself as a classed condition (`unwrap()` in
//! R/conditions.R). No error leaves Rust as an error: R's longjmp would skip destructors, so nothing
//! would be wiped, and extendr 0.9.0 crashes R on a `%` in the message.
use extendr_api::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What went wrong. `kind` becomes the condition's class `dkusecrets_error_<kind>`; `message` and
/// the fields carry names, never values of secrets.
#[derive(Debug)]
pub struct Failure {
    kind: &'static str,
    message: String,
    fields: Vec<(&'static str, Robj)>,
}

impl Failure {
    pub fn new(kind: &'static str, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), fields: Vec::new() }
    }

    /// Adds a named field that a handler in R finds in the condition, as in `cnd$close`.
    pub fn with(mut self, name: &'static str, value: impl Into<Robj>) -> Self {
        self.fields.push((name, value.into()));
        self
    }
}

/// The value of `f`, or its failure as a list of class `dkusecrets_failure`. A panic in `f` becomes
/// a failure of kind `internal` that names the place in the code, never the panic's text.
pub fn reply<T: Into<Robj>>(f: impl FnOnce() -> std::result::Result<T, Failure>) -> Robj {
    quiet_panics();
    PANICKED_AT.set(None);
    match catch_unwind(AssertUnwindSafe(|| f().map(Into::into))) {
        Ok(Ok(value)) => value,
        Ok(Err(failure)) => failure.into(),
        Err(_) => internal(PANICKED_AT.take()).into(),
    }
}

impl From<Failure> for Robj {
    fn from(failure: Failure) -> Robj {
        // A C string ends at a NUL: R would refuse the text with an error of its own.
        let message = failure.message.replace('\0', "\u{fffd}");
        let mut pairs = vec![("kind", failure.kind.into()), ("message", message.into())];
        pairs.extend(failure.fields);
        let mut list = List::from_pairs(pairs);
        #[expect(clippy::expect_used, reason = "cannot fail; were it to, R must not take the list for a value")]
        list.set_class(["dkusecrets_failure"]).expect("a list takes a class");
        list.into()
    }
}

fn internal(place: Option<Place>) -> Failure {
    let place = place.map_or(String::new(), |(file, line)| format!(" ({file}:{line})"));
    Failure::new("internal", format!("internal error in the Rust code{place}: please report it"))
}

type Place = (String, u32);

thread_local! {
    static PANICKED_AT: Cell<Option<Place>> = const { Cell::new(None) };
}

/// Keeps where a panic came from, and keeps its text, which may hold a value, off standard error.
/// The hook belongs to this library's own copy of `std`; other packages written in Rust keep theirs.
fn quiet_panics() {
    // The test harness prints what went wrong from its own hook.
    #[cfg(not(test))]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            std::panic::set_hook(Box::new(|info| {
                PANICKED_AT.set(info.location().map(|at| (at.file().to_owned(), at.line())));
            }));
        });
    }
}
