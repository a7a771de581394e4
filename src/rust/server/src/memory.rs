//! What large requests and answers take of memory: bounded for all together, and for each who asks, so that nobody takes
//! what the others need.
use crate::problem::{Problem, Result};
use axum::body::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is too small to be counted: as many of these as there may be requests are no harm.
pub const SMALL: usize = 8 * 1024;
/// An answer that is too small to be counted.
pub const SMALL_ANSWER: usize = 64 * 1024;
/// For all together, in bytes.
const MOST: usize = 256 * 1024 * 1024;
/// For one of them.
const MOST_OF_ONE: usize = 64 * 1024 * 1024;

/// What is in use.
#[derive(Default)]
pub struct Memory(Mutex<State>);

#[derive(Default)]
struct State {
    all: usize,
    of: HashMap<String, usize>,
}

/// What one request has of it, until it is dropped.
pub struct Held {
    memory: Arc<Memory>,
    who: String,
    bytes: usize,
}

impl Memory {
    /// Nothing yet, for `who`.
    pub fn of(self: &Arc<Memory>, who: &str) -> Held {
        Held { memory: self.clone(), who: who.into(), bytes: 0 }
    }
}

impl Held {
    /// Takes more. What is more than anybody may have is given to whoever has nothing else.
    pub fn grow(&mut self, bytes: usize) -> Result<()> {
        let mut state = held(&self.memory);
        let full = |used: usize, most: usize| used > self.bytes && used.saturating_add(bytes) > most;
        if full(state.of.get(&self.who).copied().unwrap_or_default(), MOST_OF_ONE) || full(state.all, MOST) {
            return Err(Problem::unavailable(
                "large requests and answers take all the memory there is for them: try again",
            ));
        }
        state.exchange(&self.who, self.bytes, self.bytes.saturating_add(bytes));
        self.bytes = self.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Counts what it has come to.
    pub fn resize(&mut self, bytes: usize) {
        held(&self.memory).exchange(&self.who, self.bytes, bytes);
        self.bytes = bytes;
    }

    /// Bytes that keep this until nobody has them any more.
    pub fn with(mut self, bytes: Vec<u8>) -> Bytes {
        self.resize(bytes.len());
        Bytes::from_owner(Kept { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        held(&self.memory).exchange(&self.who, self.bytes, 0);
    }
}

struct Kept {
    bytes: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl State {
    fn exchange(&mut self, who: &str, before: usize, after: usize) {
        self.all = self.all.saturating_sub(before).saturating_add(after);
        let of_one = self.of.get(who).copied().unwrap_or_default().saturating_sub(before).saturating_add(after);
        if of_one == 0 {
            self.of.remove(who);
        } else {
            self.of.insert(who.into(), of_one);
        }
    }
}

fn held(memory: &Memory) -> MutexGuard<'_, State> {
    memory.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many values a JSON text has, about, before any is made: one byte of text can become a hundred of memory.
pub fn elements(json: &[u8]) -> usize {
    let (mut count, mut text, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if text => escaped = true,
            b'"' => text = !text,
            b',' | b'[' | b'{' if !text => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_a_part_and_all_together_no_more_than_there_is() {
        let memory = Arc::new(Memory::default());
        let mut first = memory.of("bob");
        first.grow(MOST_OF_ONE - 1).unwrap();
        first.grow(1).unwrap();
        assert!(memory.of("bob").grow(1).is_err());
        // The others have theirs, until all is used.
        let mut others: Vec<Held> = (1..MOST / MOST_OF_ONE).map(|i| memory.of(&format!("user{i}"))).collect();
        assert!(others.iter_mut().all(|other| other.grow(MOST_OF_ONE).is_ok()));
        assert!(memory.of("ann").grow(1).is_err());
        let answer = first.with(vec![1; 10]);
        memory.of("ann").grow(MOST_OF_ONE - 10).unwrap();
        let part = answer.slice(1..2);
        drop((answer, others));
        // Whoever has nothing gets one that is larger.
        let mut ann = memory.of("ann");
        assert!(ann.grow(2 * MOST_OF_ONE).is_ok() && ann.grow(1).is_ok());
        assert!(memory.of("ann").grow(1).is_err());
        assert_eq!(held(&memory).of["bob"], 10);
        drop((ann, part));
        assert!(held(&memory).all == 0 && held(&memory).of.is_empty());
    }

    #[test]
    fn elements_are_counted_outside_of_texts() {
        assert_eq!(elements(br#"{"a": [1, 2, {}], "b,[{": "\"\\,[\","}"#), 6);
        assert_eq!(elements(br#""\\",[,"#), 3);
        assert_eq!(elements(b""), 0);
    }
}
