//! Who is signed in in a browser: sessions, kept in memory by the hash of their cookie, so that a server that is started
//! again has none; and the mark of browsers that signed in before.
use crate::password::Stored;
use crate::people::Id;
use crate::problem::{Problem, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A session ends after 8 hours in which its browser asked for nothing...
const IDLE_MS: i64 = 8 * 60 * 60 * 1000;
/// ...and after 7 days in any case.
const LONGEST_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// More browsers than one person has: the one that was used longest ago goes.
const MOST_OF_ONE: usize = 100;
/// More than a server has people.
const MOST: usize = 1_000_000;

/// How long a browser is known after it signed in: a year, in seconds.
pub const DEVICE_SECONDS: i64 = 365 * 24 * 60 * 60;

/// Somebody who is signed in.
#[derive(Clone)]
pub struct Session {
    /// What it is found by: the hash of its cookie.
    pub id: Hash,
    pub login: String,
    pub person: Id,
    /// The id of the password that it began with.
    pub password: String,
    /// What a page of ours shows to show that it was the page, and not another site, that sent a form: other sites do
    /// not see it. It comes from the cookie and tells nothing of it.
    pub csrf: String,
    began: i64,
    used: i64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.login)
    }
}

impl Session {
    /// Whether that is what a page of this session shows.
    pub fn is_csrf(&self, shown: &str) -> bool {
        bool::from(self.csrf.as_bytes().ct_eq(shown.as_bytes()))
    }

    /// When it ends whatever happens, in milliseconds since 1970.
    pub fn ends(&self) -> i64 {
        self.began + LONGEST_MS
    }

    fn lives(&self, now: i64) -> bool {
        now < self.ends() && now < self.used + IDLE_MS
    }
}

pub type Hash = [u8; 32];

/// The sessions of a server.
#[derive(Default)]
pub struct Sessions {
    all: Mutex<HashMap<Hash, Session>>,
}

impl Sessions {
    /// Begins one; answers with what the browser's cookie holds.
    pub fn begin(&self, login: &str, password: &Stored, now: i64) -> Result<Zeroizing<String>> {
        let token = random_token()?;
        let session = Session {
            id: hash(&token),
            login: login.into(),
            person: password.person,
            password: password.id.clone(),
            csrf: csrf(&token),
            began: now,
            used: now,
        };
        let mut all = self.held();
        all.retain(|_, other| other.lives(now));
        let own = |(hash, other): (&Hash, &Session)| (other.person == session.person).then_some((other.used, *hash));
        let mut own: Vec<(i64, Hash)> = all.iter().filter_map(own).collect();
        if own.len() >= MOST_OF_ONE {
            own.sort_unstable();
            own.first().map(|(_, hash)| all.remove(hash));
        } else if all.len() >= MOST {
            return Err(Problem::unavailable("too many people are signed in"));
        }
        all.insert(session.id, session);
        Ok(token)
    }

    /// The session of a cookie. `used`: by its browser itself, which keeps it from ending.
    pub fn find(&self, token: &str, used: bool, now: i64) -> Option<Session> {
        let mut all = self.held();
        let id = hash(token);
        let session = all.get_mut(&id)?;
        if !session.lives(now) {
            all.remove(&id);
            return None;
        }
        if used {
            session.used = now;
        }
        Some(session.clone())
    }

    /// A session that was found before, if it has not ended.
    pub fn of_id(&self, id: &Hash, now: i64) -> Option<Session> {
        self.held().get(id).filter(|session| session.lives(now)).cloned()
    }

    /// Ends a session.
    pub fn end(&self, id: &Hash) {
        self.held().remove(id);
    }

    /// Ends all of a person's; answers with how many those were.
    pub fn end_all(&self, person: &Id) -> usize {
        let mut all = self.held();
        let before = all.len();
        all.retain(|_, session| session.person != *person);
        before - all.len()
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Hash, Session>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SHA-256 suffices: nobody guesses 256 random bits.
fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

fn random_token() -> Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| Problem::unavailable("no random numbers to be had"))?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice())))
}

fn csrf(token: &str) -> String {
    let digest = Sha256::new().chain_update(b"dkusecrets/csrf\0").chain_update(token.as_bytes()).finalize();
    URL_SAFE_NO_PAD.encode(digest)
}

/// What marks a browser that signed in to an account: a number and a time under a MAC whose key belongs to the account.
/// It opens nothing: it gives the browser a budget of its own.
pub fn mark_device(stored: &Stored, now: i64) -> Result<String> {
    let mut content = [0; 24];
    let (number, time) = content.split_at_mut(16);
    getrandom::fill(number).map_err(|_| Problem::unavailable("no random numbers to be had"))?;
    time.copy_from_slice(&now.to_be_bytes());
    let mac = device_mac(stored, &content)?.finalize().into_bytes();
    Ok(URL_SAFE_NO_PAD.encode([&content[..], &mac].concat()))
}

/// Whether a browser is marked for this account; answers with what its budget is found by.
pub fn known_device(stored: &Stored, mark: &str, now: i64) -> Option<Hash> {
    let bytes = URL_SAFE_NO_PAD.decode(mark).ok()?;
    let (content, mac) = bytes.split_first_chunk::<24>()?;
    device_mac(stored, content).ok()?.verify_slice(mac).ok()?;
    let made = i64::from_be_bytes(*content.last_chunk()?);
    (now < made + DEVICE_SECONDS * 1000).then(|| hash(mark))
}

fn device_mac(stored: &Stored, content: &[u8]) -> Result<Hmac<Sha256>> {
    let mac = Hmac::<Sha256>::new_from_slice(&stored.device_key).map_err(|_| Problem::internal("a MAC's key"))?;
    Ok(mac.chain_update(b"dkusecrets/device\0").chain_update(content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::{Hasher, Password, Place};

    fn stored(person: u8) -> Stored {
        let password = Password::new("correct horse battery staple").unwrap();
        Stored {
            id: "id".into(),
            person: [person; 16],
            hash: Hasher::default().hash(&password, Place::Known).unwrap(),
            confirmed: true,
            by_rule: false,
            claimed: false,
            created: 0,
            created_by: "alice".into(),
            device_key: [person; 32],
        }
    }

    #[test]
    fn a_session_ends_when_it_is_idle_and_after_a_week() {
        const HOUR: i64 = 60 * 60 * 1000;
        let sessions = Sessions::default();
        let token = sessions.begin("alice", &stored(1), 0).unwrap();
        assert_eq!(sessions.find(&token, true, 8 * HOUR - 1).unwrap().login, "alice");
        // Asked about by others it is not used.
        assert!(sessions.find(&token, false, 16 * HOUR - 2).is_some());
        assert!(sessions.find(&token, true, 16 * HOUR - 1).is_none());
        assert!(sessions.find(&token, true, 0).is_none(), "ended for good");
        let token = sessions.begin("alice", &stored(1), 0).unwrap();
        let mut now = 0;
        while sessions.find(&token, true, now).is_some() {
            now += HOUR;
        }
        assert_eq!(now, 7 * 24 * HOUR);
    }

    #[test]
    fn sessions_end_one_by_one_or_all() {
        let sessions = Sessions::default();
        let tokens: Vec<_> = (0..3).map(|_| sessions.begin("alice", &stored(1), 0).unwrap()).collect();
        let other = sessions.begin("bob", &stored(2), 0).unwrap();
        let id = sessions.find(&tokens[0], true, 1).unwrap().id;
        assert!(sessions.of_id(&id, 1).is_some());
        sessions.end(&id);
        assert!(sessions.of_id(&id, 1).is_none() && sessions.find(&tokens[0], true, 1).is_none());
        assert_eq!(sessions.end_all(&[1; 16]), 2);
        assert!(sessions.find(&tokens[2], true, 1).is_none() && sessions.find(&other, true, 1).is_some());
        assert!(sessions.find("", true, 1).is_none() && sessions.find(&"x".repeat(43), true, 1).is_none());
    }

    #[test]
    fn one_persons_sessions_have_an_end_in_number() {
        let sessions = Sessions::default();
        let stored = stored(1);
        let tokens: Vec<_> = (0..150).map(|i| sessions.begin("alice", &stored, i).unwrap()).collect();
        let live = tokens.iter().filter(|token| sessions.find(token, false, 200).is_some()).count();
        assert_eq!((live, sessions.held().len()), (MOST_OF_ONE, MOST_OF_ONE));
        assert!(sessions.find(&tokens[149], false, 200).is_some() && sessions.find(&tokens[0], false, 200).is_none());
    }

    #[test]
    fn what_a_page_shows_belongs_to_one_session() {
        let sessions = Sessions::default();
        let [one, other] = [1, 2].map(|_| sessions.begin("alice", &stored(1), 0).unwrap());
        let [session, another] = [&one, &other].map(|token| sessions.find(token, true, 0).unwrap());
        assert!(session.is_csrf(&session.csrf) && another.is_csrf(&another.csrf));
        for wrong in [another.csrf.as_str(), "", &one] {
            assert!(!session.is_csrf(wrong));
        }
        let shown = format!("{session:?}");
        assert!(!shown.contains(&session.csrf) && !shown.contains(one.as_str()));
    }

    #[test]
    fn a_browser_is_known_to_one_account_for_a_year() {
        let (alice, bob) = (stored(1), stored(2));
        let mark = mark_device(&alice, 0).unwrap();
        assert!(known_device(&alice, &mark, DEVICE_SECONDS * 1000 - 1).is_some());
        assert!(known_device(&alice, &mark, DEVICE_SECONDS * 1000).is_none());
        assert!(known_device(&bob, &mark, 0).is_none());
        let mut bytes = URL_SAFE_NO_PAD.decode(&mark).unwrap();
        for i in 0..bytes.len() {
            bytes[i] ^= 1;
            assert!(known_device(&alice, &URL_SAFE_NO_PAD.encode(&bytes), 0).is_none(), "{i}");
            bytes[i] ^= 1;
        }
        assert!(known_device(&alice, "", 0).is_none());
    }
}
