//! The store's audit log: events go in together, are with the operating system before anybody is answered, and reach the
//! disk soon after.
use super::{Store, Writer};
use crate::audit::{Batch, Event, Head};
use crate::key::Id;
use crate::rows::{Rows, keys};
use crate::site::Part;
use crate::sqlite::{Durability, Sqlite, Wait};
use crate::sync::{lock, try_lock};
use crate::{Error, Result};
use rusqlite::Connection;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

/// Events that are let go in one change, so that others get in between.
const EVENTS_AT_ONCE: u64 = 1_000;
/// Events that are read in no time.
const FEW: usize = 100;
/// The write-ahead log, in bytes, that is brought into the database while others write.
const AHEAD: u64 = 4 * 1024 * 1024;
/// And that those who write have to wait for.
const TOO_FAR_AHEAD: u64 = 8 * AHEAD;

/// An event on its way into the audit log; ready once it survives the end of this process, or cannot be written.
pub struct Recording(Arc<Batch>);

impl Recording {
    /// Whether it was written, or could not be.
    pub fn is_done(&self) -> bool {
        self.0.is_done()
    }
}

impl Future for Recording {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.0.poll(context)
    }
}

impl Store {
    /// Puts an event in the queue for the log. Whoever does sees to it that it is written.
    pub fn submit(&self, event: Event) -> Recording {
        Recording(self.queue.put(Event { time: (self.clock)(), ..event }))
    }

    /// How many events are submitted and not yet being written.
    pub fn submitted(&self) -> usize {
        self.queue.len()
    }

    /// Writes to the audit log what was submitted, all of it together, unless somebody else is writing; answers whether it
    /// did. It waits for no other thread, and not for the disk.
    pub fn try_write_submitted(&self) -> bool {
        try_lock(&self.writer).is_some_and(|mut writer| self.write_batch(&mut writer, Wait::Never))
    }

    /// The same, when nobody else is writing any more.
    pub fn write_submitted(&self) {
        self.write_batch(&mut lock(&self.writer), Wait::ForLock);
    }

    /// Writes an event to the audit log: once this answers, it survives the end of this process, however it ends.
    /// Events of several threads are written together.
    ///
    /// # Errors
    /// `unavailable` if it was not written.
    pub fn record(&self, event: Event) -> Result<()> {
        let Recording(batch) = self.submit(event);
        let mut writer = lock(&self.writer);
        // Whoever had the lock before may have written it.
        if batch.outcome().is_none() {
            self.write_batch(&mut writer, Wait::ForLock);
        }
        drop(writer);
        batch.outcome().unwrap_or(Err(Error::Internal("a batch without an outcome")))
    }

    /// Writes what is in the queue; answers whether it did, or found that it can't be written.
    fn write_batch(&self, writer: &mut Writer, wait: Wait) -> bool {
        if self.queue.len() == 0 {
            return true;
        }
        let head = writer.log;
        // Closed once it is certain that this thread writes.
        let mut closed = None;
        let written = self.check_place().and_then(|()| {
            writer.connection.write_unless_busy(Durability::Process, wait, |rows| {
                let batch = closed.insert(self.queue.close());
                self.log.append(rows, head, &batch.take())
            })
        });
        let written = match written {
            Ok(None) => return false,
            // Not in the anchor yet: the disk may not have it, and the anchor never leads. See `flush`.
            Ok(Some(head)) => {
                self.set_head(writer, head);
                Ok(())
            }
            Err(e) => Err(e),
        };
        closed.unwrap_or_else(|| self.queue.close()).finish(&written);
        true
    }

    /// Brings what was written to the disk: the log, and then the anchor. Nobody who writes waits for it.
    pub fn flush(&self) -> Result<()> {
        let failed = |e| Error::io("flush", &self.site.database, e);
        let last = self.last_event();
        // The file that all commits are in, those of which SQLite has not waited for the disk too.
        self.ahead.sync_data().map_err(failed)?;
        self.raise(&[self.mark(self.log.owner(), last)])?;
        let file = lock(&self.cells).file()?;
        file.sync_data().map_err(failed)
    }

    /// Brings the write-ahead log into the database, if it has become long. Others write meanwhile, unless it has become
    /// very long: under load it never ends otherwise.
    pub fn bring_in(&self) -> Result<()> {
        let length =
            || self.ahead.metadata().map(|found| found.len()).map_err(|e| Error::io("look at", &self.site.database, e));
        if length()? < AHEAD || lock(&self.checkpointer).bring_in()? || length()? < TOO_FAR_AHEAD {
            return Ok(());
        }
        let _writer = lock(&self.writer);
        lock(&self.checkpointer).bring_in().map(drop)
    }

    /// Writes a change in which nothing changes, to the disk: whether the log could be written.
    pub fn try_log(&self) -> Result<()> {
        let begun = Instant::now();
        let mut writer = lock(&self.writer);
        self.check_place()?;
        let head = writer.log;
        writer.connection.write_since(begun, Durability::Power, |rows| self.log.append(rows, head, &[])).map(drop)
    }

    /// The last events about a person, newest first, with their numbers.
    pub fn events_about(&self, person: &Id, most: usize) -> Result<Vec<(u64, Event)>> {
        let _place = self.readers.long()?;
        self.read_log(|rows| self.log.about(rows, person, most))
    }

    /// The last events of all, newest first, with their numbers.
    pub fn events(&self, most: usize) -> Result<Vec<(u64, Event)>> {
        let _place = if most > FEW { Some(self.readers.long()?) } else { None };
        self.read_log(|rows| self.log.newest(rows, most))
    }

    /// Lets go of the events that are at least as old as `age` (milliseconds); answers with how many those were. Between
    /// two events no more than a day is counted, so that a clock which jumps lets nothing go early. If there are any,
    /// `event` goes into the log first, with their numbers.
    ///
    /// # Errors
    /// `damaged` names an event that was changed: neither it nor what follows is let go.
    pub fn forget_events(&self, age: u64, mut event: Event) -> Result<u64> {
        let now = (self.clock)();
        // Which those are is found while others write.
        let Some((first, last)) = self.read_log(|rows| self.log.older(rows, now, age))? else { return Ok(0) };
        event.time = now;
        event.names.push(format!("events {first} to {last}"));
        let mut told = vec![event];
        loop {
            let mut writer = lock(&self.writer);
            self.check_place()?;
            let head = writer.log;
            let head = writer.connection.write(Durability::Power, |rows| {
                let head = self.log.forget(rows, head, last, EVENTS_AT_ONCE)?;
                rows.put(keys::UNTIDY, &[])?;
                self.log.append(rows, head, &told)
            })?;
            told.clear();
            self.set_head(&mut writer, head);
            self.untidy();
            // The write is durable, and the anchor may lag.
            let _ = self.raise(&[self.mark(self.log.owner(), head.last)]);
            if head.floor >= last {
                let _ = writer.connection.checkpoint();
                return Ok(last + 1 - first);
            }
        }
    }

    /// Goes through the whole audit log; answers with the number of events.
    ///
    /// # Errors
    /// `damaged` names the first event that is missing, was changed, moved or hidden.
    pub fn verify_events(&self) -> Result<u64> {
        let _place = self.readers.long()?;
        self.read_log(|rows| self.log.verify(rows))
    }

    /// Reads the log, of which nothing is missing at its end: who cuts it puts back an older head with it.
    fn read_log<T>(&self, act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>) -> Result<T> {
        // Before the transaction begins: what was written by then must be in it.
        let written = self.last_event();
        self.with_reader(|rows| {
            let last = self.log.head(rows)?.last;
            if last < written {
                return Err(self.site.missing(Part::Event(last + 1)));
            }
            act(rows)
        })
    }

    /// The number of the last event that was written. Waits for nobody.
    pub fn last_event(&self) -> u64 {
        self.last_event.load(Ordering::Acquire)
    }

    pub(super) fn set_head(&self, writer: &mut Writer, head: Head) {
        writer.log = head;
        self.last_event.store(head.last, Ordering::Release);
    }
}
