//! What was read of people's secrets, kept in memory as it is on the disk: sealed. So a read that comes again asks no
//! database, and opens what it answers with and nothing else. The process that has a store is the only one that writes
//! to it, so it knows when what it keeps is over.
use crate::key::Id;
use crate::secrets::Sealed;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Whoever has more than this, in bytes, is read from the database each time.
pub(super) const MOST_OF_ONE: usize = 64 * 1024;
/// What is kept of all people, in bytes: a thousand people with twenty secrets each.
const MOST: usize = 8 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Recall(Mutex<State>);

#[derive(Default)]
struct State {
    people: HashMap<Id, Arc<Sealed>>,
    /// Of all of them.
    bytes: usize,
    /// How often somebody's secrets were changed since the store was opened.
    changes: u64,
}

impl State {
    fn remove(&mut self, person: &Id) {
        if let Some(sealed) = self.people.remove(person) {
            self.bytes -= sealed.bytes;
        }
    }
}

impl Recall {
    pub(super) fn find(&self, person: &Id) -> Option<Arc<Sealed>> {
        lock(&self.0).people.get(person).cloned()
    }

    /// To be asked before a read begins whose answer is to be kept.
    pub(super) fn changes(&self) -> u64 {
        lock(&self.0).changes
    }

    /// Keeps what was read, unless anybody's secrets were changed since: it may be from before the change.
    pub(super) fn put(&self, person: &Id, sealed: Arc<Sealed>, changes: u64) {
        let mut state = lock(&self.0);
        if state.changes != changes {
            return;
        }
        state.remove(person);
        // All at once: to know who was here last would cost each read more than reading anew costs a few.
        if state.bytes + sealed.bytes > MOST {
            (state.people, state.bytes) = Default::default();
        }
        state.bytes += sealed.bytes;
        state.people.insert(*person, sealed);
    }

    /// After a change that was committed.
    pub(super) fn forget(&self, people: &[Id]) {
        if people.is_empty() {
            return;
        }
        let mut state = lock(&self.0);
        state.changes += 1;
        people.iter().for_each(|person| state.remove(person));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: usize) -> Arc<Sealed> {
        Arc::new(Sealed::empty(bytes))
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let (recall, person, other) = (Recall::default(), [1; 16], [2; 16]);
        let before = recall.changes();
        recall.put(&person, of(1), before);
        assert!(recall.find(&person).is_some() && recall.find(&other).is_none());
        recall.forget(&[other]);
        assert!(recall.find(&person).is_some());
        recall.forget(&[person]);
        assert!(recall.find(&person).is_none());
        // A read that began before.
        recall.put(&person, of(1), before);
        assert!(recall.find(&person).is_none());
        recall.put(&person, of(1), recall.changes());
        assert!(recall.find(&person).is_some());
        // A change of no secrets.
        recall.forget(&[]);
        assert!(recall.find(&person).is_some());
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let recall = Recall::default();
        for i in 0..10 * MOST / MOST_OF_ONE {
            let mut person = [0; 16];
            person[..8].copy_from_slice(&i.to_be_bytes());
            recall.put(&person, of(MOST_OF_ONE), recall.changes());
            recall.put(&person, of(MOST_OF_ONE), recall.changes());
            let state = lock(&recall.0);
            assert!(state.bytes <= MOST && state.people.contains_key(&person));
            assert_eq!(state.bytes, state.people.values().map(|sealed| sealed.bytes).sum::<usize>());
        }
    }
}
