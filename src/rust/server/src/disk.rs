//! Bringing the audit log to the disk, for all who wait for it at once.
use crate::problem::{Problem, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use vault::Store;

/// How far the disk is.
#[derive(Debug, Default)]
pub struct Disk {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the last event that is on the disk.
    reached: u64,
    running: bool,
    /// How many attempts have ended, and whether the last one failed.
    attempts: u64,
    failed: Option<String>,
}

impl Disk {
    pub fn new(store: &Store) -> Disk {
        Disk { state: Mutex::new(State { reached: store.last_event(), ..State::default() }), done: Condvar::new() }
    }

    pub fn reached(&self) -> u64 {
        self.held().reached
    }

    /// Answers once all events that were recorded before are on the disk. Whoever comes first writes for all who came
    /// by then; whoever comes meanwhile waits for the next one.
    pub fn wait(&self, store: &Store) -> Result<()> {
        let wanted = store.last_event();
        let mut state = self.held();
        // An attempt that is running may have begun before the event was recorded: only the one after it is certain.
        let certain = state.attempts + if state.running { 2 } else { 1 };
        loop {
            if state.reached >= wanted {
                return Ok(());
            }
            if state.attempts >= certain {
                let why =
                    state.failed.as_ref().map(|why| format!("the audit log could not be brought to the disk: {why}"));
                return why.map_or(Ok(()), |why| Err(Problem::unavailable(why)));
            }
            if state.running {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.running = true;
            drop(state);
            let (upto, flushed) = (store.last_event(), store.flush());
            state = self.held();
            state.running = false;
            state.attempts += 1;
            state.failed = flushed.err().map(|e| e.to_string());
            if state.failed.is_none() {
                state.reached = state.reached.max(upto);
            }
            self.done.notify_all();
        }
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
