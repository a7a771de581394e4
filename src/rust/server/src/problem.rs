//! What can go wrong, as a caller over HTTP and a shell see it.
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
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
    /// Further fields of the answer.
    fields: Option<Box<Map<String, Value>>>,
    /// In how many seconds to try again, where that can help.
    wait: u64,
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
        Problem { status, error_type, kind, message: message.into(), fields: None, wait: 1 }
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
            "a request's body has at most 8 MiB",
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
    pub fn to_json(&self) -> Value {
        let mut all = json!({
            "errorType": self.error_type,
            "message": self.message,
            "detailedMessage": self.message,
            "kind": self.kind,
        });
        if let (Some(all), Some(fields)) = (all.as_object_mut(), &self.fields) {
            all.extend(fields.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
        all
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.fields.get_or_insert_default().insert(name.into(), value.into());
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Problem {
        let message = error.to_string();
        let kind = error.kind();
        let plain = |status, error_type| Problem::new(status, error_type, kind, message.clone());
        match error {
            Error::NotFound { name, close, removed } => {
                plain(StatusCode::NOT_FOUND, NOT_FOUND).with("name", name).with("close", close).with("removed", removed)
            }
            Error::NoVersion { name, version, .. } => {
                plain(StatusCode::NOT_FOUND, NOT_FOUND).with("name", name).with("version", version)
            }
            Error::Exists { name, removed } => {
                plain(StatusCode::CONFLICT, CONFLICT).with("name", name).with("removed", removed)
            }
            Error::Conflict { name, expected, found } => {
                plain(StatusCode::CONFLICT, CONFLICT).with("name", name).with("expected", expected).with("found", found)
            }
            Error::VaultExists(_) => plain(StatusCode::CONFLICT, CONFLICT),
            Error::InvalidName(_) | Error::InvalidValue(_) | Error::InvalidArgument(_) => {
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
        let mut response = (self.status, axum::Json(self.to_json())).into_response();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.wait));
        }
        response
    }
}
