//! What the server says of itself, on standard error, as lines of JSON: never a header, a query, a key or a value.
use crate::config::LogFilter;
use crate::problem::{Problem, Result};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

/// What changes the level while the server runs.
pub struct Log(reload::Handle<EnvFilter, Registry>);

/// Begins to log.
pub fn begin(filter: &LogFilter) -> Log {
    let (filter, handle) = reload::Layer::new(filter.filter());
    // A log that cannot be written to must not end anything.
    let lines = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false).json();
    // Somebody else's log, if there is one, does as well.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Log(handle)
}

impl Log {
    pub fn change(&self, filter: &LogFilter) -> Result<()> {
        let failed = |e: reload::Error| Problem::internal(format!("the log's level cannot be changed: {e}"));
        self.0.reload(filter.filter()).map_err(failed)
    }
}
