//! Accepting a store whose files were put back from a backup on purpose: it begins a new line (incarnation), so that what
//! belongs to the line before, files and anchor, is not taken for it.
use super::{Store, hold};
use crate::anchor::{self, Cells, Mark};
use crate::audit::{Event, Log};
use crate::chain;
use crate::directory;
use crate::key::{Id, random_id};
use crate::rows::{Rows, keys};
use crate::secrets::Secrets;
use crate::site::Site;
use crate::sqlite::{Durability, Lasting};
use crate::{Error, Result};
use std::path::PathBuf;
use std::sync::Arc;

/// What was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// How many people's secrets are older than they were.
    pub older: usize,
    /// How many people's secrets cannot be opened.
    pub damaged: usize,
    /// The last event of the log, and the last that had been seen.
    pub events: (u64, u64),
}

impl Store {
    /// Accepts a store as it is, though its anchor knows a newer state, or another incarnation, or is lost. Nobody may have
    /// it open. Everything is opened first; `even_damaged` accepts what can be opened at all, and what cannot is found by
    /// whoever touches it. `event` goes into the log, about those whose secrets are older than they were.
    ///
    /// Answers with nothing if there was nothing to accept.
    ///
    /// # Errors
    /// `in_use`; `damaged` if anything else is wrong with it; then nothing is changed.
    pub fn accept_restore(home: impl Into<PathBuf>, even_damaged: bool, event: Event) -> Result<Option<Restored>> {
        let (place, _held) = hold(home.into())?;
        let _lock = place.lock_creation()?;
        let mut connection = Lasting::open(&place.database())?;
        // Until it is accepted, the files stay as they were put back.
        connection.leave_log(true)?;
        if !even_damaged && let Some(wrong) = connection.read(|rows| rows.integrity())? {
            return Err(Error::Damaged { path: place.database(), what: wrong });
        }
        let accepted = connection.write(Durability::Power, |rows| {
            let (old, root, mut directory) = chain::open_store(rows, &place)?;
            let anchor_key = chain::anchor_key(rows, &old, &directory)?;
            let cells = Cells::open(&old, &anchor_key, &place)?;
            let log = Log::new(old.clone(), &root)?;
            let head = log.head(rows)?;
            let people: Vec<Id> = directory.all(rows)?.filter_map(directory::person_of).collect();
            let seen = |owner: &Id| cells.as_ref().and_then(|cells| cells.mark(owner));
            let holds = |owner: &Id, sequence| {
                seen(owner).is_some_and(|seen| seen.incarnation == old.incarnation && seen.sequence <= sequence)
            };
            let load = |person: &Id| {
                let keys = chain::person_keys(rows, &old, &directory, person)?.ok_or(Error::NoPerson)?;
                Secrets::load(rows, old.clone(), *person, keys)
            };

            let mut restored = Restored { events: (head.last, head.last), ..Restored::default() };
            let mut nothing = holds(&old.store, directory.sequence) && holds(&log.owner(), head.last);
            if let Some(seen) = seen(&log.owner()) {
                restored.events.1 = seen.sequence.max(head.last);
            }
            if !even_damaged {
                log.verify(rows)?;
            }
            let mut older = Vec::new();
            for person in &people {
                let mut secrets = match load(person) {
                    Err(Error::Damaged { .. }) if even_damaged => {
                        restored.damaged += 1;
                        continue;
                    }
                    other => other?,
                };
                nothing &= holds(person, secrets.index.sequence);
                if seen(person).is_some_and(|seen| seen.sequence > secrets.index.sequence) {
                    older.push(*person);
                }
                if !even_damaged {
                    secrets.check_all(rows)?;
                }
            }
            if nothing {
                return Ok(None);
            }

            let site = Arc::new(Site { incarnation: random_id()?, ..Site::clone(&old) });
            let mark = |owner, sequence| Mark { owner, incarnation: site.incarnation, sequence };
            rows.put(keys::STORE, &site.row())?;
            let mut marks = Vec::with_capacity(people.len() + 2);
            for person in &people {
                let mut secrets = match load(person) {
                    // It stays so, without a mark.
                    Err(Error::Damaged { .. }) if even_damaged => continue,
                    other => other?,
                };
                secrets.index.reincarnate(site.clone(), seen(person).map_or(0, |seen| seen.sequence));
                secrets.index.write_manifest(rows)?;
                marks.push(mark(*person, secrets.index.sequence));
            }
            let beyond = seen(&old.store).map_or(0, |seen| seen.sequence);
            directory.reincarnate(site.clone(), beyond);
            directory.write_manifest(rows)?;
            marks.push(mark(site.store, directory.sequence));
            restored.older = older.len();
            let mut event = Event { time: crate::vault::system_clock(), about: older, ..event };
            let (last, seen) = restored.events;
            event.names.push(match seen - last {
                0 => format!("event {last} was the last"),
                _ => format!("event {last} was the last, event {seen} had been seen"),
            });
            let log = Log::new(site.clone(), &root)?;
            let head = log.append(rows, head, &[event])?;
            marks.push(mark(log.owner(), head.last));
            Ok(Some((site, anchor_key, marks, restored)))
        })?;
        let Some((site, anchor_key, marks, restored)) = accepted else { return Ok(None) };
        // Should this be cut short, the anchor is of another line still, and the restore is accepted once more.
        anchor::reset(&site, &anchor_key, &place, &marks)?;
        connection.leave_log(false)?;
        connection.checkpoint()?;
        Ok(Some(restored))
    }
}
