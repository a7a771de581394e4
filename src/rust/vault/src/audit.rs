//! The audit log: what happened to a store's secrets, sealed, in an order that cannot be changed. Each event is a box
//! under the audit key, bound to its number, and holds the commitment of the one before; a sealed head says how far the
//! log goes. So an event that was changed, dropped, moved or cut off is found by [`verify`], and nobody without the key
//! can read a name in it. Byte layout: `FORMAT.md`, "The audit log".
use crate::index::Extra;
use crate::key::{Id, Key, Purpose};
use crate::rows::{Rows, keys};
use crate::sealed_box::{BoxError, Commit, Context, open, seal};
use crate::secret::DAY_MS;
use crate::site::{Part, Site, commit_to, encode};
use crate::slot::RootKey;
use crate::sync::lock;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Poll, Waker};

/// The layout of events and heads inside their boxes.
const LAYOUT: u8 = 1;

/// Something that happened. It holds names of secrets, never values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub time: i64,
    /// Whom it is about: they see it in their own log.
    pub about: Vec<Id>,
    /// Who did it: a login, or what else is known of them.
    pub who: String,
    /// On whose behalf, if that is someone else.
    pub behalf: Option<String>,
    /// Where from, as the kernel says: an address, or user id and process id.
    pub from: String,
    /// What was done.
    pub action: String,
    /// The names of the secrets, or of what else it was done to.
    pub names: Vec<String>,
    /// How it ended: "ok", or the kind of refusal.
    pub outcome: String,
    /// What the caller says of itself; nobody vouches for it.
    pub claims: Vec<(String, String)>,
}

#[derive(Serialize, Deserialize)]
struct Sealed<E> {
    layout: u8,
    /// The commitment of the event before; zeroes before the first.
    #[serde(with = "serde_bytes")]
    previous: Commit,
    event: E,
    extra: Extra,
}

/// How far a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    layout: u8,
    /// The number of the last event; events are counted from 1.
    pub(crate) last: u64,
    #[serde(with = "serde_bytes")]
    commit: Commit,
    /// Events up to this number were let go, the last of them with this commitment.
    pub(crate) floor: u64,
    #[serde(with = "serde_bytes")]
    floor_commit: Commit,
}

/// The owner under which the anchor of a store knows its log.
pub(crate) fn owner(store: &Id) -> Id {
    store.map(|byte| !byte)
}

/// What the log is written and read with.
pub(crate) struct Log {
    site: Arc<Site>,
    boxes: Key,
    epoch: u32,
}

impl Log {
    pub(crate) fn new(site: Arc<Site>, root: &RootKey) -> Result<Log> {
        Ok(Log { site, boxes: root.key.subkey(Purpose::Audit)?.subkey(Purpose::Box)?, epoch: root.epoch })
    }

    /// The owner under which the anchor knows the log: no person has this id.
    pub(crate) fn owner(&self) -> Id {
        owner(&self.site.store)
    }

    /// How far the log goes; a store begins without one.
    pub(crate) fn head(&self, rows: &impl Rows) -> Result<Head> {
        let Some(row) = rows.get(keys::AUDIT_HEAD)? else {
            return Ok(Head { layout: LAYOUT, last: 0, commit: [0; 32], floor: 0, floor_commit: [0; 32] });
        };
        let part = Part::AuditHead;
        let (sequence, sealed) =
            row.split_first_chunk().ok_or_else(|| self.site.unsealed(part, BoxError::Malformed))?;
        let context = self.head_context(u64::from_be_bytes(*sequence));
        let plain = open(&self.boxes, &context, sealed).map_err(|e| self.site.unsealed(part, e))?;
        let head: Head = self.site.decode(part, &plain)?;
        if head.layout != LAYOUT || head.last != u64::from_be_bytes(*sequence) {
            return Err(self.site.unsealed(part, BoxError::UnknownFormat));
        }
        Ok(head)
    }

    /// Adds events after `head`; answers with the new head. Nothing holds until the transaction commits.
    pub(crate) fn append(&self, rows: &impl Rows, head: Head, events: &[Event]) -> Result<Head> {
        let mut head = head;
        for event in events {
            let number = head.last + 1;
            let sealed = Sealed { layout: LAYOUT, previous: head.commit, event, extra: Extra::new() };
            let context = Context::Event { store: &self.site.store, sequence: number };
            let sealed = seal(&self.boxes, self.epoch, &context, &encode(&sealed)?)?;
            rows.put(&keys::event(number), &sealed)?;
            for person in &event.about {
                rows.put(&keys::event_of(person, number), &[])?;
            }
            head = Head { last: number, commit: commit_to(&sealed)?, ..head };
        }
        let sealed = seal(&self.boxes, self.epoch, &self.head_context(head.last), &encode(&head)?)?;
        rows.put(keys::AUDIT_HEAD, &[&head.last.to_be_bytes()[..], &sealed].concat())?;
        Ok(head)
    }

    /// One event, with its number, and the commitment of the one before.
    fn read(&self, number: u64, sealed: &[u8]) -> Result<(Event, Commit)> {
        let part = Part::Event(number);
        let context = Context::Event { store: &self.site.store, sequence: number };
        let plain = open(&self.boxes, &context, sealed).map_err(|e| self.site.unsealed(part, e))?;
        let sealed: Sealed<Event> = self.site.decode(part, &plain)?;
        if sealed.layout != LAYOUT {
            return Err(self.site.unsealed(part, BoxError::UnknownFormat));
        }
        Ok((sealed.event, sealed.previous))
    }

    /// The last events about a person, newest first.
    pub(crate) fn about(&self, rows: &impl Rows, person: &Id, most: usize) -> Result<Vec<(u64, Event)>> {
        let mut numbers = Vec::new();
        rows.scan(&keys::events_of(person), &mut |key, _| {
            numbers.extend(key.last_chunk().map(|number| u64::from_be_bytes(*number)));
            Ok(())
        })?;
        let newest = numbers.iter().rev().take(most);
        let one = |&number: &u64| {
            let event = self.event(rows, number)?;
            // The rows that lead here are not sealed: what they lead to is looked at.
            if !event.about.contains(person) {
                return Err(self
                    .site
                    .damaged(format!("event {number} of the audit log is shown to whom it is not about")));
            }
            Ok((number, event))
        };
        newest.map(one).collect()
    }

    /// The last events of all, newest first.
    pub(crate) fn newest(&self, rows: &impl Rows, most: usize) -> Result<Vec<(u64, Event)>> {
        let head = self.head(rows)?;
        let numbers = (head.floor + 1..=head.last).rev().take(most);
        numbers.map(|number| self.event(rows, number).map(|event| (number, event))).collect()
    }

    fn event(&self, rows: &impl Rows, number: u64) -> Result<Event> {
        let sealed = rows.get(&keys::event(number))?.ok_or_else(|| self.site.missing(Part::Event(number)))?;
        Ok(self.read(number, &sealed)?.0)
    }

    /// Goes through the whole log; answers with the number of events.
    pub(crate) fn verify(&self, rows: &impl Rows) -> Result<u64> {
        let head = self.head(rows)?;
        let (mut next, mut commit) = (head.floor + 1, head.floor_commit);
        let mut about = 0_u64;
        rows.scan(keys::EVENTS, &mut |key, sealed| {
            let number = key.last_chunk().map_or(0, |number| u64::from_be_bytes(*number));
            if key.len() != 9 || number != next || number > head.last {
                return Err(self.site.missing(Part::Event(next)));
            }
            let (event, previous) = self.read(number, sealed)?;
            if previous != commit {
                return Err(self.site.damaged(format!("event {} of the audit log was replaced", number - 1)));
            }
            // What people see of their own must be all there is about them, and no more.
            for person in event.about.iter().collect::<BTreeSet<_>>() {
                if rows.get(&keys::event_of(person, number))?.is_none() {
                    return Err(self
                        .site
                        .damaged(format!("event {number} of the audit log is hidden from whom it is about")));
                }
                about += 1;
            }
            (next, commit) = (number + 1, commit_to(sealed)?);
            Ok(())
        })?;
        if next != head.last + 1 {
            return Err(self.site.missing(Part::Event(next)));
        }
        if commit != head.commit {
            return Err(self.site.damaged(format!("event {} of the audit log was replaced", head.last)));
        }
        let mut shown = 0;
        rows.scan(keys::EVENTS_OF, &mut |_, _| {
            shown += 1;
            Ok(())
        })?;
        if shown > about {
            return Err(self.site.damaged("an event of the audit log is shown to whom it is not about"));
        }
        Ok(head.last - head.floor)
    }

    /// The first and the last event of those that are at least as old as `age`, in milliseconds, if there are any. An
    /// event's age is the sum of the times between it and those after it, each of a day at most: a clock that jumps makes
    /// nothing older than it is, and a server that was off for long keeps events longer.
    pub(crate) fn older(&self, rows: &impl Rows, now: i64, age: u64) -> Result<Option<(u64, u64)>> {
        let head = self.head(rows)?;
        let (mut next, mut counted) = (now, 0_u64);
        for number in (head.floor + 1..=head.last).rev() {
            let time = self.event(rows, number)?.time;
            counted += u64::try_from(next.saturating_sub(time)).unwrap_or(0).min(DAY_MS);
            if counted >= age {
                return Ok(Some((head.floor + 1, number)));
            }
            next = time;
        }
        Ok(None)
    }

    /// Lets go of the first events up to number `last`, `most` of them at a time. What was changed stays, and is found.
    pub(crate) fn forget(&self, rows: &impl Rows, head: Head, last: u64, most: u64) -> Result<Head> {
        let mut head = head;
        let last = last.min(head.last).min(head.floor + most);
        while head.floor < last {
            let number = head.floor + 1;
            let sealed = rows.get(&keys::event(number))?.ok_or_else(|| self.site.missing(Part::Event(number)))?;
            let (event, previous) = self.read(number, &sealed)?;
            if previous != head.floor_commit {
                return Err(self.site.damaged(format!("event {} of the audit log was replaced", head.floor)));
            }
            rows.delete(&keys::event(number))?;
            for person in &event.about {
                rows.delete(&keys::event_of(person, number))?;
            }
            (head.floor, head.floor_commit) = (number, commit_to(&sealed)?);
        }
        Ok(head)
    }

    fn head_context(&self, sequence: u64) -> Context<'_> {
        Context::AuditHead { store: &self.site.store, incarnation: &self.site.incarnation, sequence }
    }
}

/// Events that several threads want written, so that one transaction writes many.
#[derive(Default)]
pub(crate) struct Queue {
    /// What is not being written yet.
    open: Mutex<Arc<Batch>>,
}

/// Events that are written together, or not at all.
#[derive(Default)]
pub(crate) struct Batch {
    events: Mutex<Vec<Event>>,
    /// Once dealt with: why not, if it was not written.
    outcome: OnceLock<Option<String>>,
    /// Who is to be told then.
    waiting: Mutex<Vec<Waker>>,
}

impl Queue {
    /// Puts an event in; answers with the batch it will be written with.
    pub(crate) fn put(&self, event: Event) -> Arc<Batch> {
        let open = lock(&self.open);
        lock(&open.events).push(event);
        open.clone()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&lock(&self.open).events).len()
    }

    /// Closes the open batch and answers with it: what comes later is in another.
    pub(crate) fn close(&self) -> Closed {
        Closed(std::mem::take(&mut *lock(&self.open)))
    }
}

/// A batch that is being written. Whoever waits for it is told how that ended, however it did.
pub(crate) struct Closed(Arc<Batch>);

impl Closed {
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *lock(&self.0.events))
    }

    pub(crate) fn finish(self, outcome: &Result<()>) {
        let _ = self.0.outcome.set(outcome.as_ref().err().map(Error::to_string));
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        // After a panic.
        self.0.outcome.get_or_init(|| Some("internal error".into()));
        let waiting = std::mem::take(&mut *lock(&self.0.waiting));
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Batch {
    /// What became of it, once it was dealt with.
    pub(crate) fn outcome(&self) -> Option<Result<()>> {
        Some(match self.outcome.get()? {
            None => Ok(()),
            Some(why) => {
                Err(Error::Unavailable(format!("the audit log could not be written, so nothing was answered: {why}")))
            }
        })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.outcome.get().is_some()
    }

    pub(crate) fn poll(&self, context: &std::task::Context<'_>) -> Poll<Result<()>> {
        if self.outcome.get().is_none() {
            lock(&self.waiting).push(context.waker().clone());
        }
        // It may have been dealt with in between.
        self.outcome().map_or(Poll::Pending, Poll::Ready)
    }
}
