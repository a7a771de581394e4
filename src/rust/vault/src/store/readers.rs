//! The connections that a store is read with. There are at most as many as can do anything at once: each holds a descriptor
//! and a cache of pages, and a read waits for nothing but the disk.
use crate::sqlite::{Lasting, Sqlite};
use crate::sync::lock;
use crate::{Error, Result};
use rusqlite::Connection;
use std::sync::{Condvar, Mutex, PoisonError};

/// Reads at once; more wait.
pub(super) const MOST: usize = 16;

/// Of these, reads that may take long: the others stay free for those that don't.
const MOST_LONG: usize = 4;
/// And those that wait to be one; more are told to come again, as they hold up whoever asked for them.
const MOST_WAITING: usize = 16;

/// Connections for reading, lent to one thread at a time.
#[derive(Default)]
pub(super) struct Readers {
    state: Mutex<State>,
    returned: Condvar,
    long: Mutex<Long>,
    ended: Condvar,
}

/// Reads that may take long.
#[derive(Default)]
struct Long {
    running: usize,
    waiting: usize,
}

/// A place for a read that may take long.
pub(super) struct Place<'r>(&'r Readers);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.long).running -= 1;
        self.0.ended.notify_one();
    }
}

#[derive(Default)]
struct State {
    idle: Vec<Lasting>,
    lent: usize,
}

impl Readers {
    /// Reads in one state of the database. `open` makes a connection where none is idle.
    pub(super) fn with<T>(
        &self,
        open: impl FnOnce() -> Result<Lasting>,
        act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>,
    ) -> Result<T> {
        let idle = {
            let mut state = lock(&self.state);
            while state.lent >= MOST {
                state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.lent += 1;
            state.idle.pop()
        };
        // Gives the place back even if `act` panics; the connection, which may then be in a transaction, is closed.
        let mut loan = Loan { from: self, connection: None };
        let connection = idle.map_or_else(open, Ok)?;
        let answer = connection.read(act);
        if !matches!(answer, Err(Error::Io { .. } | Error::ReadOnly { .. })) {
            loan.connection = Some(connection);
        }
        answer
    }

    /// Waits until a read may begin that may take long.
    pub(super) fn long(&self) -> Result<Place<'_>> {
        let mut long = lock(&self.long);
        if long.running >= MOST_LONG {
            if long.waiting >= MOST_WAITING {
                return Err(Error::Unavailable("too many read the audit log at once: try again".into()));
            }
            long.waiting += 1;
            while long.running >= MOST_LONG {
                long = self.ended.wait(long).unwrap_or_else(PoisonError::into_inner);
            }
            long.waiting -= 1;
        }
        long.running += 1;
        Ok(Place(self))
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        let state = lock(&self.state);
        state.idle.len() + state.lent
    }
}

struct Loan<'r> {
    from: &'r Readers,
    connection: Option<Lasting>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.from.state);
        state.lent -= 1;
        state.idle.extend(self.connection.take());
        self.from.returned.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Rows;
    use std::sync::Barrier;

    #[test]
    fn there_are_at_most_so_many_and_none_is_lost() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        std::fs::write(&path, "").unwrap();
        Sqlite::begin_new(&path).unwrap().commit().unwrap();
        let readers = Readers::default();
        // As many as there may be, all at once, and three times as many who wait.
        let all = Barrier::new(MOST);
        std::thread::scope(|scope| {
            for _ in 0..4 * MOST {
                scope.spawn(|| {
                    readers.with(
                        || Lasting::open(&path),
                        |rows| {
                            all.wait();
                            assert!(readers.count() <= MOST);
                            rows.get(b"x")
                        },
                    )
                });
            }
        });
        assert_eq!(readers.count(), MOST);
        // A panic costs a connection, not a place.
        for _ in 0..MOST {
            let read = || readers.with::<()>(|| Lasting::open(&path), |_| panic!("on purpose"));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).is_err());
        }
        assert_eq!(readers.count(), 0);
        assert_eq!(readers.with(|| Lasting::open(&path), |rows| rows.get(b"x")).unwrap(), None);
        // Nor does one that cannot be opened.
        let readers = Readers::default();
        for _ in 0..2 * MOST {
            assert!(readers.with(|| Err(Error::NoPerson), |_| Ok(())).is_err());
        }
        assert_eq!(readers.count(), 0);
    }

    #[test]
    fn few_reads_that_take_long_run_or_wait() {
        let readers = Readers::default();
        let running: Vec<_> = (0..MOST_LONG).map(|_| readers.long().unwrap()).collect();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MOST_WAITING).map(|_| scope.spawn(|| readers.long().map(drop))).collect();
            while lock(&readers.long).waiting < MOST_WAITING {
                std::thread::yield_now();
            }
            assert!(matches!(readers.long(), Err(Error::Unavailable(_))));
            drop(running);
            assert!(waiting.into_iter().all(|waiting| waiting.join().unwrap().is_ok()));
        });
        assert!((0..MOST_LONG).map(|_| readers.long()).collect::<Vec<_>>().iter().all(Result::is_ok));
    }
}
