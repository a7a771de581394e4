//! What was destroyed leaves nothing behind. Its row is overwritten at once and the log emptied, but SQLite has moved rows
//! between pages of its file before, and leaves copies there: they go when the file is written anew. That holds up everybody
//! who writes, so it is done apart from the change, and for a hundredth of the time at most.
use super::Store;
use crate::Result;
use crate::rows::{Rows, keys};
use crate::sqlite::Durability;
use crate::sync::lock;
use std::time::{Duration, Instant};

/// A rewrite is followed by so many times its own time without one.
const REST: u32 = 100;

/// Whether the file is to be written anew, which a row remembers should the process end before, and when at the earliest.
pub(super) struct Tidying {
    wanted: bool,
    not_before: Option<Instant>,
}

impl Tidying {
    pub(super) fn begin(rows: &impl Rows) -> Result<Tidying> {
        Ok(Tidying { wanted: rows.get(keys::UNTIDY)?.is_some(), not_before: None })
    }
}

impl Store {
    /// After a change that has destroyed something.
    pub(super) fn untidy(&self) {
        lock(&self.tidying).wanted = true;
    }

    /// Whether something was destroyed, and it is time to see to it that no copy is left: see `tidy`.
    pub fn is_untidy(&self) -> bool {
        let tidying = lock(&self.tidying);
        tidying.wanted && tidying.not_before.is_none_or(|time| time <= Instant::now())
    }

    /// Writes the database file anew, if something was destroyed since that was last done: so that no copy of it is left
    /// in the file. Soon after the last time it does nothing, unless `now`. Answers whether nothing is left to do.
    ///
    /// # Errors
    /// `no_space` if there is none for the copy that this needs; then it is still to be done.
    pub fn tidy(&self, now: bool) -> Result<bool> {
        {
            let tidying = lock(&self.tidying);
            if !tidying.wanted {
                return Ok(true);
            }
            if !now && tidying.not_before.is_some_and(|time| Instant::now() < time) {
                return Ok(false);
            }
        }
        let mut writer = lock(&self.writer);
        self.check_place()?;
        let begun = Instant::now();
        let done = writer.connection.rewrite().and_then(|()| {
            // Nobody writes between the two, so nothing that was destroyed since is forgotten.
            writer.connection.write(Durability::Power, |rows| rows.delete(keys::UNTIDY))
        });
        let mut tidying = lock(&self.tidying);
        tidying.wanted = done.is_err();
        // One that fails is not tried again at once either.
        tidying.not_before = Some(Instant::now() + (begun.elapsed() * REST).max(Duration::from_secs(1)));
        done.map(|_| true)
    }
}
