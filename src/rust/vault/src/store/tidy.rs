//! What was destroyed leaves nothing behind. Its row is overwritten at once and the log emptied, but SQLite has moved rows
//! between pages of its file before, and leaves copies there: they go when the file is written anew. That holds up everybody
//! who writes, and so everybody who reads, as a read is in the log first. So it is done apart from the change: a small file
//! soon, a large one when nobody asks for anything, or after a day if that never happens; and for a hundredth of the time at
//! most.
use super::Store;
use crate::rows::{Rows, keys};
use crate::sqlite::Durability;
use crate::sync::lock;
use crate::{Error, Result};
use std::time::{Duration, Instant};

/// A rewrite is followed by so many times its own time without one.
const REST: u32 = 100;
/// The largest file, in bytes, that is written anew whoever asks meanwhile. (One of twice the size took 0.2 seconds on two
/// cores that others used, too.)
const SMALL: u64 = 8 * 1024 * 1024;
/// For how long nobody has asked for anything when a larger one is.
const QUIET: Duration = Duration::from_secs(5);
/// For how long that is waited for.
const LATEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether the file is to be written anew, which a row remembers should the process end before, and when at the earliest.
pub(super) struct Tidying {
    /// Since when.
    wanted: Option<Instant>,
    not_before: Option<Instant>,
    /// The last event, and when it was first seen to be that.
    last: (u64, Instant),
}

impl Tidying {
    pub(super) fn begin(rows: &impl Rows) -> Result<Tidying> {
        let now = Instant::now();
        let wanted = rows.get(keys::UNTIDY)?.is_some().then_some(now);
        Ok(Tidying { wanted, not_before: None, last: (0, now) })
    }

    /// Whether it is time: of a file of so many bytes, in a log with this last event.
    fn is_due(&mut self, now: Instant, bytes: u64, last: u64) -> bool {
        if self.last.0 != last {
            self.last = (last, now);
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        self.wanted.is_some_and(|wanted| {
            self.not_before.is_none_or(|time| time <= now)
                && (bytes <= SMALL || since(self.last.1) >= QUIET || since(wanted) >= LATEST)
        })
    }
}

impl Store {
    /// After a change that has destroyed something.
    pub(super) fn untidy(&self) {
        lock(&self.tidying).wanted.get_or_insert_with(Instant::now);
    }

    /// Whether something was destroyed, and it is time to see to it that no copy is left: see `tidy`. Whether anybody asks
    /// for anything is seen by calling this often.
    pub fn is_untidy(&self) -> bool {
        let mut tidying = lock(&self.tidying);
        // One whose size is not known is not small.
        tidying.wanted.is_some() && tidying.is_due(Instant::now(), self.bytes().unwrap_or(u64::MAX), self.last_event())
    }

    /// The size of the database file.
    fn bytes(&self) -> Result<u64> {
        let found = std::fs::metadata(&self.site.database);
        found.map(|found| found.len()).map_err(|e| Error::io("look at", &self.site.database, e))
    }

    /// Writes the database file anew, if something was destroyed since that was last done: so that no copy of it is left
    /// in the file. Soon after the last time it does nothing, nor while others use a large store, unless `now`. Answers
    /// whether nothing is left to do.
    ///
    /// # Errors
    /// `no_space` if there is none for the copy that this needs; then it is still to be done.
    pub fn tidy(&self, now: bool) -> Result<bool> {
        if lock(&self.tidying).wanted.is_none() {
            return Ok(true);
        }
        if !now && !self.is_untidy() {
            return Ok(false);
        }
        let mut writer = lock(&self.writer);
        self.check_place()?;
        let begun = Instant::now();
        let done = writer.connection.rewrite().and_then(|()| {
            // Nobody writes between the two, so nothing that was destroyed since is forgotten.
            writer.connection.write(Durability::Power, |rows| rows.delete(keys::UNTIDY))
        });
        let mut tidying = lock(&self.tidying);
        if done.is_ok() {
            tidying.wanted = None;
        }
        // One that fails is not tried again at once either.
        tidying.not_before = Some(Instant::now() + (begun.elapsed() * REST).max(Duration::from_secs(1)));
        done.map(|_| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_is_written_anew_when_nobody_asks_or_after_a_day() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let with = |wanted, not_before| Tidying { wanted, not_before, last: (7, begun) };
        let large = SMALL + 1;
        assert!(with(Some(begun), None).is_due(begun, SMALL, 7));
        assert!(!with(None, None).is_due(at(100_000), 0, 7));
        assert!(
            !with(Some(begun), Some(at(2))).is_due(at(1), 0, 7) && with(Some(begun), Some(at(2))).is_due(at(2), 0, 7)
        );
        let mut tidying = with(Some(begun), None);
        assert!(!tidying.is_due(at(4), large, 7) && tidying.is_due(at(5), large, 7));
        // Somebody asks, and again.
        assert!(
            !tidying.is_due(at(5), large, 8) && !tidying.is_due(at(9), large, 9) && !tidying.is_due(at(13), large, 9)
        );
        assert!(tidying.is_due(at(14), large, 9));
        assert!(!tidying.is_due(at(24 * 60 * 60 - 1), large, 10) && tidying.is_due(at(24 * 60 * 60), large, 11));
    }
}
