//! Keys that are kept for long, in memory that is never swapped out. There is little of such memory, so it is one pool, and
//! who finds no place in it derives a key anew each time.
use crate::key::Key;
use crate::sync::lock;
use std::sync::{Arc, Mutex};
use zeroize::Zeroize;

/// A page has at least so many keys on every machine this runs on: 4 KiB of them.
const KEYS_OF_PAGE: usize = 128;
/// Pages that are locked at once: 64 KiB.
const PAGES: usize = 16;
/// And how often, at most: 512 KiB in all, half of what the shipped unit allows.
const CHUNKS: usize = 8;

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([[u8; 32]; KEYS_OF_PAGE]);

struct Chunk {
    pages: Box<[Page]>,
    _locked: region::LockGuard,
}

#[derive(Default)]
struct State {
    chunks: Vec<Chunk>,
    /// Places where there is no key, counted through all chunks.
    free: Vec<usize>,
    /// Whether the system gives no more memory of this kind.
    full: bool,
}

/// Where the keys are.
#[derive(Default)]
pub(crate) struct Pool(Mutex<State>);

/// Some keys in a pool. They are wiped when this is dropped.
pub(crate) struct Kept {
    pool: Arc<Pool>,
    places: Box<[usize]>,
}

impl State {
    fn grow(&mut self) {
        let pages = vec![Page([[0; 32]; KEYS_OF_PAGE]); PAGES].into_boxed_slice();
        match region::lock(pages.as_ptr(), size_of_val(&*pages)) {
            Ok(_locked) => {
                let first = self.chunks.len() * PAGES * KEYS_OF_PAGE;
                self.free.extend(first..first + PAGES * KEYS_OF_PAGE);
                self.chunks.push(Chunk { pages, _locked });
                self.full = self.chunks.len() >= CHUNKS;
            }
            // More than the limit on it (RLIMIT_MEMLOCK).
            Err(_) => self.full = true,
        }
    }

    fn key(&mut self, place: usize) -> Option<&mut [u8; 32]> {
        let (page, key) = (place / KEYS_OF_PAGE, place % KEYS_OF_PAGE);
        self.chunks.get_mut(page / PAGES)?.pages.get_mut(page % PAGES)?.0.get_mut(key)
    }
}

impl Pool {
    /// Keeps some keys, if there is a place for all of them.
    pub(crate) fn keep(self: &Arc<Self>, keys: &[Key]) -> Option<Kept> {
        let mut state = lock(&self.0);
        while state.free.len() < keys.len() && !state.full {
            state.grow();
        }
        let rest = state.free.len().checked_sub(keys.len())?;
        let places = state.free.split_off(rest).into_boxed_slice();
        for (place, key) in places.iter().zip(keys) {
            state.key(*place)?.copy_from_slice(key.bytes());
        }
        Some(Kept { pool: self.clone(), places })
    }
}

impl Kept {
    /// The keys, in the order they came in.
    pub(crate) fn keys(&self) -> Vec<Key> {
        let mut state = lock(&self.pool.0);
        self.places.iter().filter_map(|place| Key::from_bytes(state.key(*place)?)).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut state = lock(&self.pool.0);
        for place in &self.places {
            if let Some(key) = state.key(*place) {
                key.zeroize();
            }
        }
        state.free.extend(&self.places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(from: usize, number: usize) -> Vec<Key> {
        let key = |i: usize| Key::from_bytes(&[&i.to_be_bytes()[..], &[7; 24]].concat()).unwrap();
        (from..from + number).map(key).collect()
    }

    #[test]
    fn keys_are_kept_apart_and_wiped() {
        let pool = Arc::new(Pool::default());
        let one = pool.keep(&keys(0, 10)).unwrap();
        let other = pool.keep(&keys(10, KEYS_OF_PAGE * PAGES)).unwrap();
        assert!(one.keys() == keys(0, 10) && other.keys() == keys(10, KEYS_OF_PAGE * PAGES));
        assert!(pool.keep(&[]).unwrap().keys().is_empty());
        let places = one.places.clone();
        drop(one);
        {
            let mut state = lock(&pool.0);
            assert!(places.iter().all(|place| *state.key(*place).unwrap() == [0; 32]));
            assert_eq!(state.chunks.len(), 2);
        }
        assert!(other.keys() == keys(10, KEYS_OF_PAGE * PAGES));
        // What was given back is used again.
        let again: Vec<_> = (0..1000).map(|i| pool.keep(&keys(i, 1)).unwrap().keys() == keys(i, 1)).collect();
        assert!(again.iter().all(|same| *same) && lock(&pool.0).chunks.len() == 2);
    }

    #[test]
    fn no_more_is_locked_than_there_is_room_for() {
        let pool = Arc::new(Pool::default());
        let all: Vec<_> = std::iter::from_fn(|| pool.keep(&keys(0, 100))).take(10_000).collect();
        assert_eq!(all.len(), CHUNKS * PAGES * KEYS_OF_PAGE / 100);
        assert!(all.iter().all(|kept| kept.keys() == keys(0, 100)));
        drop(all);
        assert_eq!(lock(&pool.0).free.len(), CHUNKS * PAGES * KEYS_OF_PAGE);
    }
}
