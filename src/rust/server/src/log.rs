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
    std::panic::set_hook(Box::new(panicked));
    Log(handle)
}

/// A panic's own words may hold anything, a value too: only the place is told.
fn panicked(panic: &std::panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(place, "internal error: please report it");
}

impl Log {
    pub fn change(&self, filter: &LogFilter) -> Result<()> {
        let failed = |e: reload::Error| Problem::internal(format!("the log's level cannot be changed: {e}"));
        self.0.reload(filter.filter()).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_told_without_its_words() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::registry().with(fmt::layer().with_writer(move || writer.clone()).json());
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(panicked));
        let caught = tracing::subscriber::with_default(log, || {
            std::panic::catch_unwind(|| {
                let value = std::hint::black_box("MARKER");
                assert!(value.is_empty(), "{value}");
            })
        });
        std::panic::set_hook(usual);
        assert!(caught.is_err());
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("log.rs:") && !text.contains("MARKER"), "{text}");
    }
}
