//! A store and what is known while it is served: tickets, and when people and keys were last here.
use crate::budget::Budgets;
use crate::config::InForce;
use crate::cookies::Cookies;
use crate::disk::Disk;
use crate::identity::Caller;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::password::Hasher;
use crate::people::{self, ApiKey, Application, Id, Person};
use crate::problem::{Problem, Result};
use crate::session::{Session, Sessions};
use axum::http::HeaderMap;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use vault::{Event, Recording, Store};
use zeroize::Zeroizing;

/// How long a ticket holds that nobody revokes, in milliseconds: longer than most runs, shorter than a key.
const TICKET_MS: i64 = 24 * 60 * 60 * 1000;
/// More tickets than a server has runs at once.
const MOST_TICKETS: usize = 100_000;
/// And than one person has.
const MOST_OF_ONE: usize = 1_000;
/// How often whoever is to write lets others go first, while more come or somebody else writes.
const MOST_TURNS: usize = 8;
/// Keys of which one change says when they were last used.
const MOST_KEYS_AT_ONCE: usize = 100;
/// Refusals that are written to the log in a minute; how many more there were is told by the next one.
const MOST_REFUSALS: u32 = 60;

/// What a server is: threads share it.
pub struct Server {
    pub store: Store,
    /// By the hash of the ticket.
    tickets: Mutex<HashMap<String, Ticket>>,
    /// The minute that refusals were last counted in, how many were in it, and how many were not written.
    refusals: Mutex<(i64, u32, u64)>,
    /// Where it is reached over TCP without TLS, once that is known.
    pub address: OnceLock<SocketAddr>,
    /// What runs are told, once there is something to tell: of a server that listens on a socket only, once a run asks.
    pub for_runs: watch::Sender<Option<SocketAddr>>,
    pub run_asks: Notify,
    pub sessions: Sessions,
    pub hasher: Hasher,
    pub budgets: Budgets,
    /// By login. Told from memory: since the server began.
    activity: Mutex<HashMap<String, Activity>>,
    /// When each key was last used, in milliseconds since 1970, by its hash. It is written to the store seldom: a read would
    /// else cost a write.
    keys_used: Mutex<HashMap<String, i64>>,
    settings: RwLock<Arc<InForce>>,
    disk: Disk,
    /// Whether a thread is about to write what was submitted.
    writing: AtomicBool,
    pub metrics: Metrics,
    /// For large requests and answers.
    pub memory: Arc<Memory>,
    /// Whether it was told to stop: runs end by that.
    pub stopping: watch::Sender<bool>,
    /// How many connections the limit on open files leaves room for.
    pub room: AtomicUsize,
    requests: AtomicU64,
}

/// The right to act as one person, for the time of a run.
#[derive(Debug, Clone)]
pub struct Ticket {
    pub id: String,
    pub login: String,
    /// Whoever gets the login later is somebody else.
    pub person: Id,
    /// Who asked for it, if not the person.
    pub behalf: Option<String>,
    /// The hash of the key it was asked for with, if it was: it holds no longer than that.
    pub key: Option<String>,
    /// The session it was asked for with, or that of whom it was asked for.
    pub session: Option<Session>,
    /// The application that asked for it, by the headers of the person's browser.
    pub application: Option<Application>,
    /// Whether it opened secrets.
    pub confirmed: bool,
    /// In milliseconds since 1970.
    pub created: i64,
    /// In milliseconds since 1970.
    pub expires: i64,
}

/// When somebody was here, in milliseconds since 1970; 0 for never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activity {
    pub success: i64,
    pub failure: i64,
}

impl Server {
    pub fn new(store: Store) -> Server {
        Server {
            disk: Disk::new(&store),
            store,
            tickets: Mutex::default(),
            refusals: Mutex::default(),
            address: OnceLock::new(),
            for_runs: watch::Sender::new(None),
            run_asks: Notify::new(),
            sessions: Sessions::default(),
            hasher: Hasher::default(),
            budgets: Budgets::new(),
            activity: Mutex::default(),
            keys_used: Mutex::default(),
            settings: RwLock::default(),
            writing: AtomicBool::new(false),
            metrics: Metrics::default(),
            memory: Arc::default(),
            stopping: watch::Sender::new(false),
            room: AtomicUsize::new(usize::MAX),
            // Numbers of different runs of the server are told apart by when it began.
            requests: AtomicU64::new(now().unsigned_abs() << 24),
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> Arc<InForce> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_settings(&self, settings: InForce) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Brings the audit log to the disk, with all that was recorded before.
    pub fn flush(&self) -> Result<()> {
        self.disk.wait(&self.store)
    }

    /// A number for a request, by which its answer is found in the log.
    pub fn request_id(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    pub fn events_not_on_disk(&self) -> u64 {
        self.store.last_event().saturating_sub(self.disk.reached())
    }

    pub fn tickets_that_hold(&self) -> usize {
        let now = now();
        held(&self.tickets).values().filter(|ticket| ticket.expires > now).count()
    }

    /// Makes a ticket for a person.
    pub fn issue_ticket(&self, caller: &Caller, person: &Person) -> Result<(String, Zeroizing<String>)> {
        let text = Zeroizing::new(people::random_text(32)?);
        let ticket = Ticket {
            id: people::random_text(16)?,
            login: person.login.clone(),
            person: person.id,
            behalf: caller.acting.clone(),
            key: caller.key.clone(),
            session: caller.session.clone(),
            application: caller.application.clone(),
            confirmed: caller.opens,
            created: now(),
            // One that comes from another ends with it.
            expires: (now() + TICKET_MS).min(caller.ends.unwrap_or(i64::MAX)),
        };
        let id = ticket.id.clone();
        let mut tickets = held(&self.tickets);
        if tickets.values().filter(|other| other.person == person.id && other.expires > now()).count() >= MOST_OF_ONE {
            return Err(Problem::unavailable("you have too many tickets: wait until some end"));
        }
        if tickets.len() >= MOST_TICKETS {
            tickets.retain(|_, ticket| ticket.expires > now());
        }
        if tickets.len() >= MOST_TICKETS {
            return Err(Problem::unavailable("there are too many tickets: revoke some, or wait until they end"));
        }
        tickets.insert(people::hash(&text), ticket);
        Ok((id, text))
    }

    /// What a ticket that was presented is.
    pub fn ticket(&self, presented: &str) -> Option<Ticket> {
        self.ticket_of_hash(&people::hash(presented))
    }

    pub fn ticket_of_hash(&self, hash: &str) -> Option<Ticket> {
        held(&self.tickets).get(hash).filter(|ticket| ticket.expires > now()).cloned()
    }

    /// The tickets that hold, those that end first first.
    pub fn tickets(&self) -> Vec<Ticket> {
        let now = now();
        let mut all: Vec<Ticket> = held(&self.tickets).values().filter(|t| t.expires > now).cloned().collect();
        all.sort_by(|one, other| (one.expires, &one.id).cmp(&(other.expires, &other.id)));
        all
    }

    /// Whether browsers reach it over TLS.
    pub fn is_secure(&self) -> bool {
        self.is_behind_proxy() || self.settings().tls_cert.is_some()
    }

    pub fn is_behind_proxy(&self) -> bool {
        self.settings().behind_tls_proxy
    }

    /// The cookies of a request.
    pub fn cookies<'h>(&self, headers: &'h HeaderMap) -> Cookies<'h> {
        let all = headers.get_all(axum::http::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        Cookies::new(all, self.is_secure())
    }

    /// Revokes one of a person's tickets, by its id; answers whether there was one.
    pub fn revoke_ticket(&self, id: &str, login: &str) -> bool {
        let mut tickets = held(&self.tickets);
        let before = tickets.len();
        tickets.retain(|_, ticket| ticket.id != id || ticket.login != login);
        tickets.len() < before
    }

    pub fn activity(&self, login: &str) -> Activity {
        held(&self.activity).get(login).copied().unwrap_or_default()
    }

    pub fn was_here(&self, login: &str) {
        held(&self.activity).entry(login.into()).or_default().success = now();
    }

    /// When a key was last used, if it was.
    pub fn key_used(&self, hash: &str, key: &ApiKey) -> Option<i64> {
        held(&self.keys_used).get(hash).copied().or(key.last_used)
    }

    /// Writes to the store when keys were last used, where it says otherwise by more than `behind` milliseconds.
    pub fn keep_keys_used(&self, behind: i64) -> Result<()> {
        let used: Vec<(String, i64)> = held(&self.keys_used).iter().map(|(hash, at)| (hash.clone(), *at)).collect();
        let mut wanted = Vec::new();
        for (hash, at) in used {
            match people::key_of_hash(&self.store, &hash)? {
                Some(key) if key.last_used.is_none_or(|then| at.saturating_sub(then) > behind) => {
                    wanted.push((hash, at));
                }
                Some(_) => {}
                // Revoked.
                None => drop(held(&self.keys_used).remove(&hash)),
            }
        }
        // Others write in between.
        for some in wanted.chunks(MOST_KEYS_AT_ONCE) {
            self.change(|change| {
                for (hash, at) in some {
                    if people::key_of_hash(change, hash)?.is_some() {
                        people::edit_key(change, hash, |key| key.last_used = Some(*at))?;
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    pub fn key_was_used(&self, hash: &str) {
        let mut used = held(&self.keys_used);
        match used.get_mut(hash) {
            Some(time) => *time = now(),
            None => drop(used.insert(hash.into(), now())),
        }
    }

    pub fn was_refused(&self, login: &str) {
        held(&self.activity).entry(login.into()).or_default().failure = now();
    }

    /// Writes to the audit log; until then nothing may be answered.
    pub fn record(&self, event: Event) -> Result<()> {
        self.store.record(event)?;
        if self.settings().wait_for_disk {
            self.flush()?;
        }
        Ok(())
    }

    /// The same for what somebody was refused.
    pub fn record_refusal(&self, event: Event) -> Result<()> {
        self.refusal(event).map_or(Ok(()), |event| self.record(event))
    }

    /// Tells the log of some events.
    pub fn tell(self: &Arc<Self>, events: impl IntoIterator<Item = Event>) -> Telling {
        let mut telling = Telling { server: self.clone(), recordings: Vec::new(), reads: 0, _place: None };
        for event in events {
            telling.reads += u64::from(event.action.starts_with("read") && event.outcome == "ok");
            telling.recordings.push(self.store.submit(event));
        }
        telling
    }

    /// Has a thread write what was submitted to the log, unless one is about to.
    fn write_aside(self: &Arc<Self>) {
        if self.writing.swap(true, Ordering::AcqRel) {
            return;
        }
        let server = self.clone();
        let write = move || {
            // Before: what is submitted from now on may be too late for this time.
            server.writing.store(false, Ordering::Release);
            server.store.write_submitted();
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(write)),
            Err(_) => write(),
        }
    }

    /// What the log is told when somebody was refused: nothing, if very many were in this minute. Nobody fills the disk by
    /// being refused.
    pub fn refusal(&self, mut event: Event) -> Option<Event> {
        let skipped = {
            let mut refusals = held(&self.refusals);
            let minute = now() / 60_000;
            if refusals.0 != minute {
                (refusals.0, refusals.1) = (minute, 0);
            }
            refusals.1 += 1;
            if refusals.1 > MOST_REFUSALS {
                refusals.2 += 1;
                return None;
            }
            std::mem::take(&mut refusals.2)
        };
        if skipped > 0 {
            event.claims.push(("refused and not written before this".into(), skipped.to_string()));
        }
        Some(event)
    }

    pub fn person(&self, login: &str) -> Result<Person> {
        people::present(&self.store, login)
    }

    /// Does something in one change of the store, whose problems may be of any kind. If it is refused, the log is told of
    /// what was recorded until then, and of how that ended.
    pub fn change<T>(&self, act: impl FnOnce(&mut vault::Transaction) -> Result<T>) -> Result<T> {
        let mut events = Vec::new();
        let done = self.try_change(|change| act(change).inspect_err(|_| events = change.recorded()));
        if let Err(problem) = &done
            && problem.status.is_client_error()
        {
            for event in events {
                self.record(Event { outcome: problem.kind.into(), ..event })?;
            }
        }
        done
    }

    /// The same, of which nobody is told if it is refused.
    pub fn try_change<T>(&self, act: impl FnOnce(&mut vault::Transaction) -> Result<T>) -> Result<T> {
        let mut problem = None;
        let done = self.store.change(|change| {
            act(change).map_err(|p| {
                problem = Some(p);
                vault::Error::Internal("a change that was refused")
            })
        });
        match (done, problem) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Some(problem)) => Err(problem),
            (Err(e), None) => Err(e.into()),
        }
    }
}

/// Events on their way into the log. They get there even if nobody waits for it any more.
pub struct Telling {
    server: Arc<Server>,
    recordings: Vec<Recording>,
    /// How many of them are about values that were read.
    reads: u64,
    _place: Option<OwnedSemaphorePermit>,
}

impl Telling {
    /// Keeps somebody's place until the events are there.
    pub fn with(self, place: OwnedSemaphorePermit) -> Telling {
        let mut telling = self;
        telling._place = Some(place);
        telling
    }

    /// Answers once the events are in the log, on the disk if the settings say so.
    pub async fn done(mut self) -> Result<()> {
        if self.recordings.is_empty() {
            return Ok(());
        }
        self.written().await;
        for recording in &mut self.recordings {
            recording.await?;
        }
        if self.server.settings().wait_for_disk {
            let server = self.server.clone();
            let flushed = tokio::task::spawn_blocking(move || server.flush()).await;
            flushed.map_err(|_| Problem::internal("the log could not be brought to the disk"))??;
        }
        self.server.metrics.read(self.reads);
        Ok(())
    }

    /// Those who are ready to be worked on tell theirs first, and one writes for all: a commit costs what ten events cost.
    async fn written(&self) {
        let mut told = 0;
        for _ in 0..MOST_TURNS {
            tokio::task::yield_now().await;
            if self.is_written() {
                return;
            }
            let waiting = self.server.store.submitted();
            // It takes a thread that answers others some tens of microseconds; to hand it to another takes as long.
            if waiting <= told && self.server.store.try_write_submitted() {
                return;
            }
            told = waiting;
        }
        // Somebody writes who takes longer, as a change does, which waits for the disk.
        self.server.write_aside();
    }

    fn is_written(&self) -> bool {
        self.recordings.iter().all(Recording::is_done)
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        if !self.is_written() {
            self.server.write_aside();
        }
    }
}

/// An event about some people.
pub fn event(action: &str, about: &[Id]) -> Event {
    Event { about: about.to_vec(), action: action.into(), outcome: "ok".into(), ..Event::default() }
}

/// Milliseconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_millis()).unwrap_or(0);
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A use is written once an hour, and one of a key that was revoked meanwhile never.
    #[test]
    fn when_keys_were_used_is_written_seldom() {
        const HOUR: i64 = 60 * 60 * 1000;
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("store");
        Store::create(&data).unwrap();
        let server = Server::new(Store::open(&data).unwrap());
        let key = ApiKey {
            id: "id".into(),
            user: None,
            person: None,
            label: String::new(),
            description: String::new(),
            created_on: 0,
            created_by: "alice".into(),
            expires: None,
            confirmed: false,
            by_rule: false,
            administrator: false,
            last_used: None,
        };
        let add = || people::hash(&server.change(|change| people::add_key(change, &key)).unwrap());
        let (hash, other, revoked) = (add(), add(), add());
        let written = |hash: &str| people::key_of_hash(&server.store, hash).unwrap().unwrap().last_used;
        assert_eq!(server.key_used(&hash, &key), None);
        server.key_was_used(&hash);
        server.key_was_used(&revoked);
        server.change(|change| people::remove_key(change, &revoked)).unwrap();
        server.keep_keys_used(HOUR).unwrap();
        let first = written(&hash);
        assert!(first.is_some() && server.key_used(&hash, &key) == first && written(&other).is_none());
        assert_eq!(held(&server.keys_used).len(), 1);
        std::thread::sleep(std::time::Duration::from_millis(5));
        server.key_was_used(&hash);
        server.keep_keys_used(HOUR).unwrap();
        assert_eq!(written(&hash), first);
        server.keep_keys_used(0).unwrap();
        assert!(written(&hash) > first);
        // What was written is what is told after a start.
        let last = written(&hash);
        drop(server);
        let server = Server::new(Store::open(&data).unwrap());
        let key = people::key_of_hash(&server.store, &hash).unwrap().unwrap();
        assert_eq!(server.key_used(&hash, &key), last);
    }
}
