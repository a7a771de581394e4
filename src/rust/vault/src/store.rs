//! The store of a server: the secrets of many people, each under a key of their own, what the server knows of them, and
//! the audit log. One process has it open, for as long as it lives; the database has a write-ahead log.
use crate::anchor::{Cells, Mark};
use crate::audit::{Event, Head, Log, Queue};
use crate::creation::{self, add_person};
use crate::directory::{self, Directory, Fact, Listing};
use crate::index::OwnerKeys;
use crate::key::{Id, Key};
use crate::locked::Pool;
use crate::name::check_name;
use crate::place::{Found, Kind, Place};
use crate::platform::Lock;
use crate::rows::{Rows, keys};
use crate::secrets::{Quota, Sealed, Secrets};
use crate::site::Site;
use crate::slot::{NewSlot, RootKey};
use crate::sqlite::{Durability, Lasting, Sqlite};
use crate::sync::lock;
use crate::{Change, Error, Result, Retention, Secret, Summary, Token, Value, Version, chain, platform};
use rusqlite::Connection;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

mod log;
mod readers;
mod recall;
mod restore;
mod tidy;

pub use log::Recording;
pub use restore::Restored;

use readers::Readers;
use recall::Recall;
use tidy::Tidying;

/// What one person may keep: more secrets than anybody has, and no more bytes than a disk has for each of many people.
const QUOTA: Quota = Quota { secrets: 10_000, bytes: 100 * 1024 * 1024 };

/// A document of the server's, as it is stored.
pub type Document = Arc<[u8]>;

/// The store, open. Threads may share it.
pub struct Store {
    site: Arc<Site>,
    root: RootKey,
    anchor_key: Key,
    log: Log,
    writer: Mutex<Writer>,
    readers: Readers,
    /// The database's write-ahead log, open for bringing it to the disk.
    ahead: File,
    /// What brings the write-ahead log into the database, apart from whoever writes.
    checkpointer: Mutex<Lasting>,
    recall: Recall,
    /// One-time keys of what it holds.
    pool: Arc<Pool>,
    /// What the directory holds beside keys, by name.
    documents: RwLock<BTreeMap<String, Document>>,
    /// Keys of people who were here before.
    people: RwLock<HashMap<Id, Arc<OwnerKeys>>>,
    cells: Mutex<Cells>,
    queue: Queue,
    last_event: AtomicU64,
    tidying: Mutex<Tidying>,
    /// The database file that was opened: device and number.
    file: platform::FileNumber,
    clock: fn() -> i64,
    _lock: Lock,
}

/// What only one thread at a time has.
struct Writer {
    connection: Lasting,
    log: Head,
}

/// Where a server's store is and how it is.
#[derive(Debug, Clone)]
pub struct StoreInfo {
    /// The database file.
    pub database: PathBuf,
    /// The store's id, as 32 hexadecimal digits.
    pub id: String,
    /// How many documents the directory holds.
    pub documents: u64,
    /// How many events were ever written to the audit log.
    pub events: u64,
}

impl Store {
    /// Makes a store in the directories `data` and `config` of one that is made if it is not there.
    ///
    /// # Errors
    /// `exists` if there is one; `unsafe`, `path`, `read_only`, `no_space`, `vault_missing` for the place.
    pub fn create(home: impl Into<PathBuf>) -> Result<()> {
        let home = home.into();
        platform::make_private_directory(&home)?;
        let place = Place::under(Kind::Store, home);
        let (found, canonical) = place.survey()?;
        let now = crate::vault::system_clock();
        if found == Found::Vault || !creation::create(&place, &NewSlot::KeyFile, Retention::default(), now)? {
            return Err(Error::VaultExists(canonical.database()));
        }
        Ok(())
    }

    /// Opens a store, which nobody else may have open.
    ///
    /// # Errors
    /// `path` if there is none; `in_use`; and all that opening a vault can end in.
    pub fn open(home: impl Into<PathBuf>) -> Result<Store> {
        let (place, held) = hold(home.into())?;
        let file = platform::file_number(&place.database())?;
        let connection = Lasting::open(&place.database())?;
        let opened = connection.read(|rows| {
            let (site, root, mut directory) = chain::open_store(rows, &place)?;
            let anchor_key = chain::anchor_key(rows, &site, &directory)?;
            let documents: BTreeMap<String, Document> = directory.all(rows)?.filter_map(document_of).collect();
            let log = Log::new(site.clone(), &root)?;
            let head = log.head(rows)?;
            let tidying = Tidying::begin(rows)?;
            Ok((site, root, anchor_key, documents, directory.sequence, log, head, tidying))
        })?;
        let (site, root, anchor_key, documents, sequence, log, head, tidying) = opened;
        let ahead = connection.log_file()?;
        let checkpointer = Lasting::open(&place.database())?;
        let mark = |owner, sequence| Mark { owner, incarnation: site.incarnation, sequence };
        let marks = [mark(site.store, sequence), mark(log.owner(), head.last)];
        let cells = Cells::open(&site, &anchor_key, &place)?.ok_or_else(|| Error::RolledBack {
            path: place.database(),
            what: format!("its anchor {} is missing", place.anchor().display()),
        })?;
        let store = Store {
            writer: Mutex::new(Writer { connection, log: head }),
            readers: Readers::default(),
            ahead,
            checkpointer: Mutex::new(checkpointer),
            recall: Recall::default(),
            pool: Arc::default(),
            documents: RwLock::new(documents),
            people: RwLock::default(),
            cells: Mutex::new(cells),
            queue: Queue::default(),
            last_event: AtomicU64::new(head.last),
            tidying: Mutex::new(tidying),
            file,
            clock: crate::vault::system_clock,
            _lock: held,
            site,
            root,
            anchor_key,
            log,
        };
        for mark in marks {
            let seen = lock(&store.cells).mark(&mark.owner);
            store.refuse_older(seen, mark)?;
        }
        store.raise(&marks)?;
        Ok(store)
    }

    /// The same store under another clock (milliseconds since 1970), for tests.
    pub fn with_clock(self, clock: fn() -> i64) -> Store {
        Store { clock, ..self }
    }

    /// A document of the server's.
    pub fn document(&self, name: &str) -> Option<Document> {
        self.documents.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All documents whose names begin so, in the order of their names.
    pub fn documents(&self, prefix: &str) -> Vec<(String, Document)> {
        let all = self.documents.read().unwrap_or_else(PoisonError::into_inner);
        let from = all
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix));
        from.map(|(name, document)| (name.clone(), document.clone())).collect()
    }

    /// One secret of a person.
    ///
    /// # Errors
    /// `not_found` with close names.
    pub fn get(&self, person: &Id, name: &str) -> Result<Secret> {
        let name = check_name(name)?;
        if let Some(found) = self.sealed(person)?.and_then(|sealed| sealed.get(&self.site, &name, self.today())) {
            return found;
        }
        self.read(person, |rows, secrets| secrets.get(rows, &name, self.today()))
    }

    /// All live secrets of a person, by name.
    pub fn get_all(&self, person: &Id) -> Result<Vec<Secret>> {
        self.get_all_if(person, |_| Ok(()))
    }

    /// The same, if `room` says that there is room for them. It is asked where they are more than is kept in memory, by how
    /// many bytes they have with all their versions.
    pub fn get_all_if(&self, person: &Id, room: impl FnOnce(u64) -> Result<()>) -> Result<Vec<Secret>> {
        match self.sealed(person)? {
            Some(sealed) => sealed.get_all(&self.site, self.today()),
            None => self.read(person, |rows, secrets| {
                room(secrets.bytes())?;
                secrets.get_all(rows, self.today())
            }),
        }
    }

    /// Whether a person's secrets are in memory: [`Store::get`] and [`Store::get_all`] then wait for no disk.
    pub fn remembers(&self, person: &Id) -> bool {
        self.recall.find(person).is_some()
    }

    /// A person's secrets as they are sealed, unless they are too large to be kept in memory.
    fn sealed(&self, person: &Id) -> Result<Option<Arc<Sealed>>> {
        if let Some(sealed) = self.recall.find(person) {
            return Ok(Some(sealed));
        }
        let changes = self.recall.changes();
        let sealed =
            self.read(person, |rows, secrets| secrets.sealed(rows, recall::MOST_OF_ONE, &self.pool))?.map(Arc::new);
        if let Some(sealed) = &sealed {
            self.recall.put(person, sealed.clone(), changes);
        }
        Ok(sealed)
    }

    /// A person's secrets without their values, removed ones included, by name.
    pub fn list(&self, person: &Id) -> Result<Vec<Summary>> {
        self.read(person, |rows, secrets| secrets.list(rows))
    }

    /// What stands for each live secret's value where it is edited, by name.
    pub fn tokens(&self, person: &Id) -> Result<Vec<Token>> {
        self.read(person, |rows, secrets| secrets.tokens(rows))
    }

    /// The kept versions of a secret, newest first.
    pub fn versions(&self, person: &Id, name: &str) -> Result<Vec<Version>> {
        let name = check_name(name)?;
        self.read(person, |rows, secrets| secrets.versions(rows, &name))
    }

    /// Does all of what `act` does, durably, or nothing of it.
    pub fn change<T>(&self, act: impl FnOnce(&mut Transaction) -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let mut writer = lock(&self.writer);
        self.check_place()?;
        let now = (self.clock)();
        let log = writer.log;
        let mut refused = Vec::new();
        let written = writer.connection.write_since(begun, Durability::Power, |rows| {
            let directory = self.load_directory(rows)?;
            let mut transaction = Transaction {
                store: self,
                rows,
                directory,
                directory_changed: false,
                documents: BTreeMap::new(),
                people: BTreeMap::new(),
                added: Vec::new(),
                removed: Vec::new(),
                events: Vec::new(),
                now,
            };
            let answer = act(&mut transaction).inspect_err(|_| refused = std::mem::take(&mut transaction.added))?;
            Ok((answer, transaction.finish(log)?))
        });
        // Not after a commit that failed: what it wrote may be there all the same.
        if !refused.is_empty() {
            let _ = lock(&self.cells).take_back(&refused);
        }
        let (answer, done) = written?;
        self.set_head(&mut writer, done.log);
        // Before anybody is told.
        self.recall.forget(&done.changed);
        {
            let mut documents = self.documents.write().unwrap_or_else(PoisonError::into_inner);
            for (name, document) in done.documents {
                match document {
                    Some(document) => documents.insert(name, document),
                    None => documents.remove(&name),
                };
            }
        }
        for person in &done.removed {
            self.people.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        }
        // The write is durable. The anchor may lag, so what goes wrong with it now is no failure of the write.
        let _ = self.raise(&done.marks);
        if done.destroyed {
            self.untidy();
            // No failure of the write either: `tidy` does it, too.
            let _ = writer.connection.checkpoint();
        }
        Ok(answer)
    }

    /// Opens everything there is, and has SQLite check the file; answers with the number of values.
    pub fn verify(&self) -> Result<u64> {
        let people = self.with_reader(|rows| {
            if let Some(wrong) = rows.integrity()? {
                return Err(self.site.damaged(wrong));
            }
            let mut directory = self.load_directory(rows)?;
            Ok(directory.all(rows)?.filter_map(directory::person_of).collect::<Vec<Id>>())
        })?;
        self.verify_events()?;
        people.iter().map(|person| self.read(person, |rows, secrets| secrets.check_all(rows))).sum()
    }

    /// Where the store is and how it is.
    pub fn info(&self) -> StoreInfo {
        // One lock at a time: a change holds the writer while it waits for the documents.
        let documents = self.documents.read().unwrap_or_else(PoisonError::into_inner).len() as u64;
        StoreInfo {
            database: self.site.database.clone(),
            id: crate::key::hex(&self.site.store),
            documents,
            events: self.last_event(),
        }
    }

    fn today(&self) -> i64 {
        (self.clock)().div_euclid(24 * 60 * 60 * 1000)
    }

    /// Reads one person's secrets.
    fn read<T>(&self, person: &Id, act: impl FnOnce(&Sqlite<&Connection>, &mut Secrets) -> Result<T>) -> Result<T> {
        // Before the transaction begins: what was seen by then must be in it.
        let seen = lock(&self.cells).mark(person);
        self.with_reader(|rows| {
            let mut secrets = self.load(rows, person, seen)?;
            act(rows, &mut secrets)
        })
    }

    fn with_reader<T>(&self, act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>) -> Result<T> {
        let open = || self.check_place().and_then(|()| Lasting::open(&self.site.database));
        self.readers.with(open, act)
    }

    /// Refuses to go on where the database file is not where it was opened: it was removed, or moved, or another one was
    /// put in its place. What is written to it then could be gone with it, and whoever reads could read another.
    fn check_place(&self) -> Result<()> {
        match platform::file_number(&self.site.database) {
            Ok(found) if found == self.file => Ok(()),
            _ => Err(Error::Unavailable(format!(
                "the store {} was moved, removed or replaced while it is open: stop the server, and start it where the store is",
                self.site.database.display()
            ))),
        }
    }

    /// A person's secrets; `seen` is what was known of them before the transaction began.
    fn load(&self, rows: &impl Rows, person: &Id, seen: Option<Mark>) -> Result<Secrets> {
        let keys = self.keys_of(rows, person)?;
        let loaded = Secrets::load(rows, self.site.clone(), *person, keys);
        let secrets = match loaded {
            // Whose keys are remembered may have been removed since.
            Err(Error::Damaged { .. }) if self.is_gone(rows, person)? => return Err(Error::NoPerson),
            other => other?,
        };
        self.refuse_older(seen, self.mark(*person, secrets.index.sequence))?;
        Ok(secrets)
    }

    fn is_gone(&self, rows: &impl Rows, person: &Id) -> Result<bool> {
        let directory = self.load_directory(rows)?;
        let gone = chain::person_keys(rows, &self.site, &directory, person)?.is_none();
        if gone {
            self.people.write().unwrap_or_else(PoisonError::into_inner).remove(person);
        }
        Ok(gone)
    }

    /// A person's keys: from the directory, and then from memory.
    fn keys_of(&self, rows: &impl Rows, person: &Id) -> Result<Arc<OwnerKeys>> {
        if let Some(keys) = self.people.read().unwrap_or_else(PoisonError::into_inner).get(person) {
            return Ok(keys.clone());
        }
        let directory = self.load_directory(rows)?;
        let keys = chain::person_keys(rows, &self.site, &directory, person)?.ok_or(Error::NoPerson)?;
        self.people.write().unwrap_or_else(PoisonError::into_inner).insert(*person, keys.clone());
        Ok(keys)
    }

    /// The directory, which only this process writes: what others have put back is older than what was seen.
    fn load_directory(&self, rows: &impl Rows) -> Result<Directory> {
        let directory = chain::directory(rows, &self.site, &self.root)?;
        let seen = lock(&self.cells).mark(&self.site.store);
        self.refuse_older(seen, self.mark(self.site.store, directory.sequence))?;
        Ok(directory)
    }

    fn mark(&self, owner: Id, sequence: u64) -> Mark {
        Mark { owner, incarnation: self.site.incarnation, sequence }
    }

    /// Refuses a state that is older than what was seen, or of another line. Every owner has a mark: it is made durable
    /// before the first commit that has the owner in it.
    fn refuse_older(&self, seen: Option<Mark>, now: Mark) -> Result<()> {
        let rolled_back = |what: String| Err(Error::RolledBack { path: self.site.database.clone(), what });
        match seen {
            None => rolled_back("its anchor does not know it".into()),
            Some(seen) if seen.incarnation != now.incarnation => {
                rolled_back("it comes from before or after another restore".into())
            }
            Some(seen) if seen.sequence > now.sequence => {
                rolled_back(format!("it is at write {}, and write {} was seen here", now.sequence, seen.sequence))
            }
            _ => Ok(()),
        }
    }

    fn raise(&self, marks: &[Mark]) -> Result<()> {
        let mut cells = lock(&self.cells);
        marks.iter().try_for_each(|mark| cells.raise(&self.site, &self.anchor_key, *mark))
    }
}

/// A change of a store, while it is being made.
pub struct Transaction<'t> {
    store: &'t Store,
    rows: &'t Sqlite<&'t Connection>,
    directory: Directory,
    directory_changed: bool,
    documents: BTreeMap<String, Option<Document>>,
    people: BTreeMap<Id, Secrets>,
    added: Vec<Id>,
    removed: Vec<Id>,
    events: Vec<Event>,
    now: i64,
}

/// What a change has done, once it is committed.
struct Done {
    log: Head,
    documents: BTreeMap<String, Option<Document>>,
    marks: Vec<Mark>,
    /// Whose secrets are others now.
    changed: Vec<Id>,
    removed: Vec<Id>,
    destroyed: bool,
}

impl Transaction<'_> {
    /// The time of the change, in milliseconds since 1970.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// A document, as this change has left it.
    pub fn document(&self, name: &str) -> Option<Document> {
        match self.documents.get(name) {
            Some(changed) => changed.clone(),
            None => self.store.document(name),
        }
    }

    /// Writes a document, new or not.
    pub fn put_document(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let fact = Fact::Document { bytes: bytes.to_vec() };
        self.directory.put(self.rows, Listing::new(directory::document_name(name), &fact)?)?;
        self.directory_changed = true;
        self.documents.insert(name.into(), Some(bytes.into()));
        Ok(())
    }

    /// Removes a document.
    pub fn remove_document(&mut self, name: &str) -> Result<()> {
        self.directory.take(self.rows, &directory::document_name(name))?;
        self.directory_changed = true;
        self.documents.insert(name.into(), None);
        Ok(())
    }

    /// Makes room and a key for somebody new.
    pub fn add_person(&mut self) -> Result<Id> {
        let root = self.directory.keys.clone();
        let retention = Retention::default();
        let mut secrets = add_person(self.rows, &self.store.site, &root, &mut self.directory, retention, self.now)?;
        self.directory_changed = true;
        let person = secrets.user;
        secrets.limit(self.rows, QUOTA)?;
        // Should the change fail, the cell means nothing, and is taken back.
        self.added.push(person);
        let mut cells = lock(&self.store.cells);
        cells.raise(&self.store.site, &self.store.anchor_key, self.store.mark(person, 0))?;
        cells.flush()?;
        drop(cells);
        self.people.insert(person, secrets);
        Ok(person)
    }

    /// Destroys a person's key and all their rows.
    pub fn remove_person(&mut self, person: &Id) -> Result<()> {
        self.directory.take(self.rows, &directory::user_name(person))?;
        self.directory_changed = true;
        self.people.remove(person);
        let mut rows = Vec::new();
        for prefix in keys::all_of(person) {
            self.rows.scan(&prefix, &mut |key, _| {
                rows.push(key.to_vec());
                Ok(())
            })?;
        }
        for key in rows {
            self.rows.delete(&key)?;
        }
        self.removed.push(*person);
        Ok(())
    }

    /// All documents whose names begin so, as this change has left them.
    pub fn documents(&self, prefix: &str) -> Vec<(String, Document)> {
        let mut all: BTreeMap<String, Document> = self.store.documents(prefix).into_iter().collect();
        for (name, changed) in self.documents.iter().filter(|(name, _)| name.starts_with(prefix)) {
            match changed {
                Some(document) => all.insert(name.clone(), document.clone()),
                None => all.remove(name),
            };
        }
        all.into_iter().collect()
    }

    /// Stores a value as a new version; answers with the version.
    pub fn set(&mut self, person: &Id, name: &str, value: &Value, change: &Change) -> Result<u64> {
        let (name, change) = (check_name(name)?, change.check()?);
        let (rows, now) = (self.rows, self.now);
        self.secrets(person)?.set(rows, &name, value, &change, now)
    }

    /// Changes description and expiry without touching the value.
    pub fn describe(&mut self, person: &Id, name: &str, change: &Change) -> Result<()> {
        let (name, change) = (check_name(name)?, change.check()?);
        let (rows, now) = (self.rows, self.now);
        self.secrets(person)?.describe(rows, &name, &change, now)
    }

    /// Removes a secret; for a time it can be brought back.
    pub fn remove(&mut self, person: &Id, name: &str, if_version: Option<u64>) -> Result<()> {
        let name = check_name(name)?;
        let (rows, now) = (self.rows, self.now);
        self.secrets(person)?.remove(rows, &name, if_version, now)
    }

    /// Brings back a removed secret or an older version; answers with the version that is current then.
    pub fn restore(&mut self, person: &Id, name: &str, version: Option<u64>) -> Result<u64> {
        let name = check_name(name)?;
        let (rows, now) = (self.rows, self.now);
        self.secrets(person)?.restore(rows, &name, version, now)
    }

    /// Gives a secret another name.
    pub fn rename(&mut self, person: &Id, from: &str, to: &str) -> Result<()> {
        let (from, to) = (check_name(from)?, check_name(to)?);
        let (rows, now) = (self.rows, self.now);
        self.secrets(person)?.rename(rows, &from, &to, now)
    }

    /// Destroys what is kept for undoing; answers with the number of versions destroyed.
    pub fn purge(&mut self, person: &Id, name: &str) -> Result<u64> {
        let name = check_name(name)?;
        let (rows, now) = (self.rows, self.now);
        let secrets = self.secrets(person)?;
        secrets.purged = true;
        secrets.purge(rows, &name, now)
    }

    /// One secret, as this change has left it.
    pub fn get(&mut self, person: &Id, name: &str) -> Result<Secret> {
        let name = check_name(name)?;
        let (rows, today) = (self.rows, self.store.today());
        self.secrets(person)?.get(rows, &name, today)
    }

    /// What stands for each live secret's value, as this change has left them.
    pub fn tokens(&mut self, person: &Id) -> Result<Vec<Token>> {
        let rows = self.rows;
        self.secrets(person)?.tokens(rows)
    }

    /// What stood for a version of a secret.
    pub fn token(&mut self, person: &Id, id: &Id, name: &str, version: u64) -> Result<Token> {
        self.secrets(person)?.token(id, name, version)
    }

    /// A person's secrets without their values, as this change has left them.
    pub fn list(&mut self, person: &Id) -> Result<Vec<Summary>> {
        let rows = self.rows;
        self.secrets(person)?.list(rows)
    }

    /// Adds an event to the audit log, in the same transaction.
    pub fn record(&mut self, event: Event) {
        self.events.push(Event { time: self.now, ..event });
    }

    /// What was recorded so far: if the change fails, it is in no log.
    pub fn recorded(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn secrets(&mut self, person: &Id) -> Result<&mut Secrets> {
        if !self.people.contains_key(person) {
            let store = self.store;
            let seen = lock(&store.cells).mark(person);
            let mut secrets = store.load(self.rows, person, seen)?;
            secrets.limit(self.rows, QUOTA)?;
            secrets.begin(self.now);
            self.people.insert(*person, secrets);
        }
        self.people.get_mut(person).ok_or(Error::Internal("a person who was just loaded is gone"))
    }

    fn finish(mut self, log: Head) -> Result<Done> {
        let mut marks = Vec::new();
        let mut destroyed = !self.removed.is_empty();
        for secrets in self.people.values_mut() {
            secrets.end(self.rows)?;
            destroyed |= secrets.purged;
            marks.push(self.store.mark(secrets.user, secrets.index.sequence));
        }
        if self.directory_changed {
            self.directory.save(self.rows)?;
            marks.push(self.store.mark(self.store.site.store, self.directory.sequence));
        }
        if destroyed {
            self.rows.put(keys::UNTIDY, &[])?;
        }
        let log = if self.events.is_empty() { log } else { self.store.log.append(self.rows, log, &self.events)? };
        marks.push(self.store.mark(self.store.log.owner(), log.last));
        let changed = self.people.into_keys().chain(self.removed.iter().copied()).collect();
        Ok(Done { log, documents: self.documents, marks, changed, removed: self.removed, destroyed })
    }
}

/// The place of a store that is there, held against other processes.
fn hold(home: PathBuf) -> Result<(Place, Lock)> {
    let (found, place) = Place::under(Kind::Store, home).survey()?;
    if found == Found::Nothing {
        return Err(Error::Path { path: place.database(), reason: "does not exist: there is no store here".into() });
    }
    let held = platform::lock(&place.config.join("store.lock"), Duration::ZERO).map_err(|e| match e {
        Error::Busy(_) => Error::InUse(place.database()),
        other => other,
    })?;
    Ok((place, held))
}

/// A document of the server's, if that is what a listing is.
fn document_of(listing: &Listing) -> Option<(String, Document)> {
    match listing.read() {
        Some(Fact::Document { bytes }) => Some((directory::document_named(listing)?.to_owned(), Document::from(bytes))),
        _ => None,
    }
}
