//! What can go wrong, as a caller over HTTP and a shell see it.
use crate::server::Server;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use vault::Error;

/// A refusal or a failure: it names the thing and the way out, never a value or a key.
#[derive(Debug)]
pub struct Problem {
    pub status: StatusCode,
    /// What clients of DSS's API match on.
    error_type: &'static str,
    /// The kinds that R makes its conditions of.
    pub kind: &'static str,
    pub message: String,
    details: Box<Details>,
    /// In how many seconds to try again, where that can help.
    wait: u64,
}

/// A problem as it goes over the wire.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Problem")]
pub struct Shown<'p> {
    error_type: &'p str,
    message: &'p str,
    detailed_message: &'p str,
    kind: &'p str,
    #[serde(flatten)]
    details: &'p Details,
}

/// What tells more of some kinds.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Names that are close to one that is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    close: Option<Vec<String>>,
    /// Whether a name stands for a removed secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The version that was expected, in a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<u64>,
    /// The version that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<u64>,
}

pub type Result<T> = std::result::Result<T, Problem>;

const NOT_AUTHENTICATED: &str = "com.dataiku.dip.exceptions.NotAuthenticatedException";
const UNAUTHORIZED: &str = "com.dataiku.dip.exceptions.UnauthorizedException";
const NOT_FOUND: &str = "com.dataiku.dip.server.controllers.NotFoundException";
const BAD_ARGUMENT: &str = "java.lang.IllegalArgumentException";
const CONFLICT: &str = "dkusecrets.ConflictException";
const UNAVAILABLE: &str = "dkusecrets.UnavailableException";
const INTERNAL: &str = "dkusecrets.InternalException";

impl Problem {
    fn new(status: StatusCode, error_type: &'static str, kind: &'static str, message: impl Into<String>) -> Problem {
        Problem { status, error_type, kind, message: message.into(), details: Box::default(), wait: 1 }
    }

    /// A credential that is missing, wrong, over or revoked.
    pub fn not_authenticated(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, NOT_AUTHENTICATED, "not_authenticated", message)
    }

    pub fn not_allowed(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, UNAUTHORIZED, "not_allowed", message)
    }

    pub fn not_found(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, NOT_FOUND, "not_found", message)
    }

    /// No such path: what R takes for a server of another kind has no kind.
    pub fn no_route(path: &str) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, NOT_FOUND, "no_route", format!("there is nothing at {path}"))
    }

    /// Something there that is asked in another way; the answer says how.
    pub fn no_method() -> Problem {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            NOT_FOUND,
            "no_route",
            "what is here is not asked by this method: the header Allow says by which",
        )
    }

    pub fn exists(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, CONFLICT, "exists", message)
    }

    pub fn conflict(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, CONFLICT, "conflict", message)
    }

    pub fn bad(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, BAD_ARGUMENT, "invalid_argument", message)
    }

    pub fn too_large() -> Problem {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            BAD_ARGUMENT,
            "invalid_argument",
            "a request's body has at most 8 MiB and 250,000 values",
        )
    }

    /// Try again later.
    pub fn unavailable(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, "unavailable", message)
    }

    /// Try again in so many seconds.
    pub fn too_many_tries(seconds: u64) -> Problem {
        let message = format!("too many passwords were tried: wait {seconds} s");
        Problem { wait: seconds, ..Problem::new(StatusCode::TOO_MANY_REQUESTS, UNAVAILABLE, "unavailable", message) }
    }

    pub fn internal(message: impl Into<String>) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, "internal", message)
    }

    /// As it goes over the wire.
    pub fn shown(&self) -> Shown<'_> {
        Shown {
            error_type: self.error_type,
            message: &self.message,
            detailed_message: &self.message,
            kind: self.kind,
            details: &self.details,
        }
    }

    /// The same for who has no business with where the store is.
    pub fn without_paths(self, server: &Server) -> Problem {
        Problem { message: self.pathless(&self.message, server), ..self }
    }

    /// What is told of it, without where the store is.
    pub fn pathless(&self, told: &str, server: &Server) -> String {
        if !self.status.is_server_error() {
            return told.to_owned();
        }
        let database = server.store.info().database;
        let home = database.ancestors().nth(2).unwrap_or(&database).display().to_string();
        told.replace(&home, "the store")
    }

    /// What the server's own log is told: what is damaged is named by the name that somebody gave it.
    pub fn for_log(&self) -> &str {
        if self.kind == "damaged" {
            "something in the store is damaged: dkusecrets verify says what"
        } else {
            &self.message
        }
    }

    fn of_kind(self, kind: &'static str) -> Problem {
        Problem { kind, ..self }
    }

    fn with(self, details: Details) -> Problem {
        Problem { details: Box::new(details), ..self }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let message = error.to_string();
        let kind = error.kind();
        let plain = |status, error_type| Problem::new(status, error_type, kind, message.clone());
        match error {
            Error::NotFound { name, close, removed } => {
                let details =
                    Details { name: Some(name), close: Some(close), removed: Some(removed), ..Details::default() };
                plain(StatusCode::NOT_FOUND, NOT_FOUND).with(details)
            }
            Error::NoVersion { name, version, .. } => {
                let details = Details { name: Some(name), version: Some(version), ..Details::default() };
                plain(StatusCode::NOT_FOUND, NOT_FOUND).with(details)
            }
            Error::Exists { name, removed } => {
                let details = Details { name: Some(name), removed: Some(removed), ..Details::default() };
                plain(StatusCode::CONFLICT, CONFLICT).with(details)
            }
            Error::Conflict { name, expected, found } => {
                let details =
                    Details { name: Some(name), expected: Some(expected), found: Some(found), ..Details::default() };
                plain(StatusCode::CONFLICT, CONFLICT).with(details)
            }
            Error::VaultExists(_) => plain(StatusCode::CONFLICT, CONFLICT),
            // Whose credential it was is gone: as after the removal, so in the middle of it.
            Error::NoPerson => plain(StatusCode::UNAUTHORIZED, NOT_AUTHENTICATED).of_kind("not_authenticated"),
            Error::InvalidName(_) | Error::InvalidValue(_) | Error::InvalidArgument(_) | Error::TooMany(_) => {
                plain(StatusCode::BAD_REQUEST, BAD_ARGUMENT)
            }
            Error::Busy(_) | Error::NoSpace(_) | Error::Unavailable(_) | Error::InUse(_) => {
                plain(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE)
            }
            _ => plain(StatusCode::INTERNAL_SERVER_ERROR, INTERNAL),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.shown())).into_response();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.wait));
        }
        response
    }
}
