//! Passwords: what may be one, how it is kept, and the one thread that computes hashes.
use crate::people::Id;
use crate::problem::{Problem, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// The shortest password, in characters: NIST SP 800-63B-4, 3.1.1.2, for a password that is the only factor.
const FEWEST_CHARACTERS: usize = 15;
/// The longest, in bytes, so that nobody keeps the server busy with one.
const MOST_BYTES: usize = 1024;
/// Of those who wait for a hash; others are told to come again. Those who are known have places of their own.
const MOST_WAITING: usize = 16;
/// Of those that one person waits for, who is known by another credential.
const MOST_OF_ONE: usize = 2;
/// How nice the thread that computes hashes is (setpriority(2)): it gets a tenth of what those get who read by key.
const NICE: i32 = 10;

/// A password that somebody typed, normalised (NFC) so that every keyboard spells it alike.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// A password to sign in with; one that can be none is refused as a wrong one is.
    pub fn typed(text: &str) -> Password {
        // What is too long is nobody's, as the empty one is. Normalising may lengthen text, at most threefold in UTF-8
        // (UAX 15): room for all, so that no copy is left.
        let text = if text.len() > MOST_BYTES { "" } else { text };
        let mut normal = Zeroizing::new(String::with_capacity(text.len() * 3));
        normal.extend(text.nfc());
        Password(normal)
    }

    /// A new password.
    pub fn new(text: &str) -> Result<Password> {
        let password = Password::typed(text);
        if text.len() > MOST_BYTES || password.0.len() > MOST_BYTES {
            return Err(Problem::bad("password: at most 1024 bytes"));
        }
        if password.0.chars().count() < FEWEST_CHARACTERS {
            return Err(Problem::bad("password: at least 15 characters; several words are better than one"));
        }
        Ok(password)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// What a hash costs, stored with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

/// OWASP, Password Storage Cheat Sheet: "Argon2id with a minimum configuration of 19 MiB of memory, an iteration count of
/// 2, and 1 degree of parallelism".
const COST: Cost = Cost { memory_kib: 19 * 1024, passes: 2, lanes: 1 };

/// What is kept of a password.
#[derive(Clone, Serialize, Deserialize)]
pub struct Hash {
    salt: [u8; 16],
    hash: [u8; 32],
    cost: Cost,
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash(..)")
    }
}

/// A person's password, as a document in the sealed directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stored {
    /// Another one with each password: sessions end with the one that they began with.
    pub id: String,
    pub person: Id,
    pub hash: Hash,
    /// Whether it opens secrets by the person's own word, or because acting as others is allowed.
    pub confirmed: bool,
    /// Whether it does only because acting as others is allowed.
    #[serde(default)]
    pub by_rule: bool,
    /// Whether it opens secrets because nobody could be harmed: when it was set the person had no secrets and no other
    /// credential. That ends once they are known otherwise, by a user id.
    pub claimed: bool,
    /// In milliseconds since 1970.
    pub created: i64,
    pub created_by: String,
    /// What marks browsers that signed in to this account before.
    pub device_key: [u8; 32],
}

impl Stored {
    pub fn opens(&self) -> bool {
        self.confirmed || self.claimed
    }

    /// What the log calls whoever signs in by one that opens nothing.
    pub fn doubted(&self) -> Option<String> {
        (!self.opens()).then(|| format!("password, made by {}", self.created_by))
    }
}

/// Who waits for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A browser that signed in before.
    Known,
    /// Somebody who is known by another credential.
    Own(Id),
    Unknown,
}

/// Something to be computed, by whoever has the thread.
type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Waiting {
    known: VecDeque<Job>,
    own: VecDeque<(Id, Job)>,
    unknown: VecDeque<Job>,
    working: bool,
    /// Whether hashes are computed at all; tests stop it to see what waits.
    #[cfg(test)]
    stopped: bool,
}

/// Computes hashes, one at a time, in a thread of its own that gives way to all others and ends when nobody waits.
#[derive(Clone, Default)]
pub struct Hasher {
    waiting: Arc<Mutex<Waiting>>,
}

impl Hasher {
    /// The hash of a new password.
    pub fn hash(&self, password: &Password, place: Place) -> Result<Hash> {
        let (salt, password) = (random()?, password.clone());
        let hash = self.compute(place, move || compute(&password, &salt, COST))??;
        Ok(Hash { salt, hash: *hash, cost: COST })
    }

    /// Whether this is the password; none takes as long as one that is there. `may` is asked once there is a place, and
    /// before any work: its refusal is the answer.
    pub fn is(
        &self,
        password: &Password,
        stored: Option<&Hash>,
        place: Place,
        may: impl FnOnce() -> Result<()>,
    ) -> Result<bool> {
        let nobody = Hash { salt: [0; 16], hash: [0; 32], cost: COST };
        let (there, stored) = (stored.is_some(), stored.unwrap_or(&nobody).clone());
        let password = password.clone();
        let work = move || {
            let computed = compute(&password, &stored.salt, stored.cost)?;
            Ok(bool::from(computed.ct_eq(&stored.hash)) && there)
        };
        self.compute_if(place, may, work)?
    }

    fn compute<T: Send + 'static>(&self, place: Place, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        self.compute_if(place, || Ok(()), work)
    }

    /// Waits for the work to be done. Runs where waiting keeps nobody else from anything.
    fn compute_if<T: Send + 'static>(
        &self,
        place: Place,
        may: impl FnOnce() -> Result<()>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        let (done, waits): (SyncSender<T>, _) = sync_channel(1);
        {
            let mut waiting = held(&self.waiting);
            let full = match place {
                Place::Known => waiting.known.len() >= MOST_WAITING,
                Place::Own(person) => {
                    let of_one = waiting.own.iter().filter(|(other, _)| *other == person).count();
                    waiting.own.len() >= MOST_WAITING || of_one >= MOST_OF_ONE
                }
                Place::Unknown => waiting.unknown.len() >= MOST_WAITING,
            };
            if full {
                return Err(Problem::unavailable("too many passwords are being checked: try again"));
            }
            may()?;
            let job: Job = Box::new(move || {
                // Whoever waited may have gone.
                let _ = done.send(work());
            });
            match place {
                Place::Known => waiting.known.push_back(job),
                Place::Own(person) => waiting.own.push_back((person, job)),
                Place::Unknown => waiting.unknown.push_back(job),
            }
            self.begin(&mut waiting)?;
        }
        waits.recv().map_err(|_| Problem::internal("a password could not be checked"))
    }

    fn begin(&self, waiting: &mut Waiting) -> Result<()> {
        #[cfg(test)]
        if waiting.stopped {
            return Ok(());
        }
        if waiting.working {
            return Ok(());
        }
        let all = self.waiting.clone();
        let spawned = std::thread::Builder::new().name("passwords".into()).spawn(move || work(&all));
        spawned.map_err(|_| Problem::unavailable("a password cannot be checked now: try again"))?;
        waiting.working = true;
        Ok(())
    }
}

/// Works until nobody waits: first for those who are known.
fn work(waiting: &Mutex<Waiting>) {
    // Of this thread alone: on Linux each has its own. Without it all that is lost is the order of precedence.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    loop {
        let job = {
            let mut waiting = held(waiting);
            let own = |waiting: &mut Waiting| waiting.own.pop_front().map(|(_, job)| job);
            let next = waiting.known.pop_front().or_else(|| own(&mut waiting));
            let next = next.or_else(|| waiting.unknown.pop_front());
            waiting.working = next.is_some();
            next
        };
        match job {
            // A panic would end the thread, and leave all others waiting: whoever waits for this one is told.
            Some(job) => drop(std::panic::catch_unwind(AssertUnwindSafe(job))),
            None => return,
        }
    }
}

fn held(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

fn random() -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Problem::unavailable("no random numbers to be had"))?;
    Ok(bytes)
}

fn compute(password: &Password, salt: &[u8; 16], cost: Cost) -> Result<Zeroizing<[u8; 32]>> {
    let wrong = |_| Problem::internal("Argon2 refused its parameters");
    let parameters = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(wrong)?;
    // Our own memory, wiped when dropped: it is filled from the password.
    let mut memory = Zeroizing::new(Vec::new());
    let blocks = parameters.block_count();
    memory.try_reserve_exact(blocks).map_err(|_| Problem::unavailable("no memory to check a password: try again"))?;
    memory.resize(blocks, Block::default());
    let mut hash = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into_with_memory(password.0.as_bytes(), salt, hash.as_mut_slice(), memory.as_mut_slice())
        .map_err(wrong)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use vault::hex;

    #[test]
    fn what_may_be_a_password() {
        for good in
            ["correct horse battery staple", &"ä".repeat(15), &"x".repeat(15), &"x".repeat(1024), "               "]
        {
            assert!(Password::new(good).is_ok(), "{good}");
        }
        for bad in ["", &"x".repeat(14), &"é".repeat(14), &"e\u{301}".repeat(14), &"x".repeat(1025), &"é".repeat(513)]
        {
            assert!(Password::new(bad).is_err(), "{bad}");
        }
        assert!(!format!("{:?}", Password::typed("hunter2")).contains("hunter2"));
    }

    #[test]
    fn every_keyboard_spells_alike() {
        let hasher = Hasher::default();
        let hash = hasher.hash(&Password::new("caf\u{e9} caf\u{e9} caf\u{e9} x").unwrap(), Place::Known).unwrap();
        let is = |text: &str| hasher.is(&Password::typed(text), Some(&hash), Place::Unknown, || Ok(())).unwrap();
        assert!(is("cafe\u{301} cafe\u{301} cafe\u{301} x"));
        for wrong in ["cafe cafe cafe x", "", "caf\u{e9} caf\u{e9} caf\u{e9} x ", &"x".repeat(1_000_000)] {
            assert!(!is(wrong));
        }
        // Nobody's password is not even the one that stands for it.
        assert!(!hasher.is(&Password::typed(""), None, Place::Unknown, || Ok(())).unwrap());
        assert!(!format!("{hash:?}").contains(&hex(&hash.hash)));
    }

    /// From Python: `Argon2id(salt=bytes(range(16)), length=32, iterations=2, lanes=1, memory_cost=19456)` of
    /// `cryptography`, which is OpenSSL's.
    #[test]
    fn a_known_answer() {
        let salt: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let computed = compute(&Password::typed("correct horse battery staple"), &salt, COST).unwrap();
        assert_eq!(hex(computed.as_slice()), "818259b6310026a8e0dbac5d2e6927abcfdb07b32258fac4f61b18b80f929085");
    }

    #[test]
    fn a_panic_keeps_nobody_waiting() {
        let hasher = Hasher::default();
        let broken = hasher.compute(Place::Known, || panic!("broken"));
        assert_eq!(broken.unwrap_err().status, 500);
        assert_eq!(hasher.compute(Place::Unknown, || 1).unwrap(), 1);
    }

    #[test]
    fn one_at_a_time_known_first_and_no_more_than_may_wait() {
        let hasher = Hasher::default();
        held(&hasher.waiting).stopped = true;
        let (running, most, order) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
        let shared = Arc::new((running, most, order));
        let work = |place| {
            let shared = shared.clone();
            move || {
                let now = shared.0.fetch_add(1, Ordering::SeqCst) + 1;
                shared.1.fetch_max(now, Ordering::SeqCst);
                std::thread::sleep(std::time::Duration::from_millis(1));
                shared.2.lock().unwrap().push(place);
                shared.0.fetch_sub(1, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| {
            for place in [Place::Unknown, Place::Known] {
                for _ in 0..MOST_WAITING {
                    let (hasher, work) = (hasher.clone(), work(place));
                    scope.spawn(move || hasher.compute(place, work).unwrap());
                }
            }
            let full = || {
                let waiting = held(&hasher.waiting);
                waiting.known.len() == MOST_WAITING && waiting.unknown.len() == MOST_WAITING
            };
            while !full() {
                std::thread::yield_now();
            }
            // One more is refused, and costs nothing of a budget.
            for place in [Place::Unknown, Place::Known] {
                let refused = hasher.compute_if(place, || panic!("asked"), || ()).unwrap_err();
                assert_eq!(refused.status, 503);
            }
            let mut waiting = held(&hasher.waiting);
            waiting.stopped = false;
            hasher.begin(&mut waiting).unwrap();
        });
        assert_eq!(shared.1.load(Ordering::SeqCst), 1);
        let order = shared.2.lock().unwrap();
        assert_eq!(order.len(), 2 * MOST_WAITING);
        assert!(order.iter().take(MOST_WAITING).all(|place| *place == Place::Known));
    }
}
