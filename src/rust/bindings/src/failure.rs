//! A vault's error as a failure, with the fields that a handler in R finds in the condition.
use crate::reply::Failure;
use vault::{Error, Refused};

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let failure = Failure::new(error.kind(), error.to_string());
        match error {
            Error::NotFound { name, close, removed } => {
                failure.with("name", name).with("close", close).with("removed", removed)
            }
            Error::NoVersion { name, version, .. } => failure.with("name", name).with("version", version as f64),
            Error::Exists { name, removed } => failure.with("name", name).with("removed", removed),
            Error::Conflict { name, expected, found } => {
                failure.with("name", name).with("expected", expected as f64).with("found", found as f64)
            }
            Error::Untidy { busy, .. } => failure.with("busy", busy),
            _ => failure,
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        Failure::new(refused.kind, refused.message)
    }
}
