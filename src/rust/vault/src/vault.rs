//! The operations on a vault. Each opens it, does one thing in one transaction, and closes it.
use crate::anchor::{self, Anchor, Mark};
use crate::chain;
use crate::info::Info;
use crate::key::{hex, random_id};
use crate::name::check_name;
use crate::place::{Found, Kind, Patience, Place};
use crate::rows::{Intent, Rows, keys};
use crate::secrets::Secrets;
use crate::session::Session;
use crate::site::FORMAT;
use crate::site::Site;
use crate::slot::{NewSlot, Parameters, Slot};
use crate::sqlite::Sqlite;
use crate::{
    Change, Error, Passphrase, Result, Retention, Secret, Summary, Value, Version, creation, key_file, platform,
    unlocked,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// A person's vault: where it lies. Nothing is open between calls, so handles may be copied, kept and forked.
#[derive(Debug, Clone)]
pub struct Vault {
    place: Place,
    clock: fn() -> i64,
}

impl Vault {
    /// The vault of whoever runs this process: under `DKUSECRETS_HOME` where that is set, else in the directories that R's
    /// `tools::R_user_dir("dkusecrets", ...)` names.
    pub fn of_caller() -> Vault {
        Vault { place: Place::of_caller(|name| std::env::var_os(name), std::env::home_dir), clock: system_clock }
    }

    /// The vault with these directories; neither need exist.
    pub fn at(data: impl Into<PathBuf>, config: impl Into<PathBuf>) -> Vault {
        Vault {
            place: Place {
                kind: Kind::Vault,
                patience: Patience::Minute,
                home: None,
                data: data.into(),
                config: config.into(),
            },
            clock: system_clock,
        }
    }

    /// The vault in the directories `data` and `config` of one that must exist.
    pub fn under(home: impl Into<PathBuf>) -> Vault {
        Vault { place: Place::under(Kind::Vault, home.into()), clock: system_clock }
    }

    /// The same vault under another clock (milliseconds since 1970), for tests.
    pub fn with_clock(self, clock: fn() -> i64) -> Vault {
        Vault { clock, ..self }
    }

    /// The same vault for a caller who asks again by himself: after a quarter of a second of waiting for another process it
    /// answers `busy`, and not only after a minute. What answers `busy` has done nothing and may be done again; only
    /// [`Vault::accept_restore`] and [`Vault::lock`] may have begun, and do the rest then.
    pub fn impatient(self) -> Vault {
        Vault { place: Place { patience: Patience::Moment, ..self.place }, ..self }
    }

    /// Creates a vault.
    ///
    /// # Errors
    /// `exists` if there is one; `invalid_argument` for a passphrase that is too short; `unsafe`, `path`,
    /// `read_only`, `no_space`, `vault_missing` for the place.
    pub fn create(&self, slot: &NewSlot, retention: Retention) -> Result<()> {
        let retention = retention.check()?;
        let (found, place) = self.place.survey()?;
        if found == Found::Vault || !creation::create(&self.place, slot, retention, (self.clock)())? {
            return Err(Error::VaultExists(place.database()));
        }
        Ok(())
    }

    /// One secret.
    ///
    /// # Errors
    /// `not_found` with close names, and all that opening a vault can end in.
    pub fn get(&self, name: &str) -> Result<Secret> {
        let name = check_name(name)?;
        match self.open(Intent::Read)? {
            Some(Session { rows, mut secrets, .. }) => secrets.get(&rows, &name, self.today()),
            None => Err(not_found(&name)),
        }
    }

    /// All live secrets, by name. Empty if there is no vault.
    pub fn get_all(&self) -> Result<Vec<Secret>> {
        match self.open(Intent::Read)? {
            Some(Session { rows, mut secrets, .. }) => secrets.get_all(&rows, self.today()),
            None => Ok(Vec::new()),
        }
    }

    /// All secrets without their values, removed ones included, by name. No value is opened.
    pub fn list(&self) -> Result<Vec<Summary>> {
        match self.open(Intent::Read)? {
            Some(Session { rows, mut secrets, .. }) => secrets.list(&rows),
            None => Ok(Vec::new()),
        }
    }

    /// The kept versions of a secret, live or removed, newest first.
    pub fn versions(&self, name: &str) -> Result<Vec<Version>> {
        let name = check_name(name)?;
        match self.open(Intent::Read)? {
            Some(Session { rows, mut secrets, .. }) => secrets.versions(&rows, &name),
            None => Err(not_found(&name)),
        }
    }

    /// Stores a value as a new version, and creates the vault if there is none. Answers with the version.
    ///
    /// # Errors
    /// `conflict` if `if_version` does not hold; `invalid_name`, `invalid_argument`.
    pub fn set(&self, name: &str, value: &Value, change: &Change) -> Result<u64> {
        let (name, change) = (check_name(name)?, change.check()?);
        let session = match (self.open(Intent::Write)?, change.if_version) {
            (Some(session), _) => session,
            // In a vault that is not there, no secret has a version.
            (None, Some(expected)) if expected != 0 => return Err(Error::Conflict { name, expected, found: 0 }),
            (None, _) => self.created()?,
        };
        self.act(session, |rows, secrets, now| secrets.set(rows, &name, value, &change, now))
    }

    /// Changes description and expiry without touching the value. With nothing to change it writes nothing.
    ///
    /// # Errors
    /// `not_found`, `conflict`, `invalid_argument`.
    pub fn describe(&self, name: &str, change: &Change) -> Result<()> {
        let (name, change) = (check_name(name)?, change.check()?);
        if change.description.is_none() && change.expires.is_none() {
            return self.look_at(&name, change.if_version);
        }
        self.write_existing(&name, |rows, secrets, now| secrets.describe(rows, &name, &change, now))
    }

    /// Removes a secret; for a time it can be brought back.
    ///
    /// # Errors
    /// `not_found`, `conflict`.
    pub fn remove(&self, name: &str, if_version: Option<u64>) -> Result<()> {
        let name = check_name(name)?;
        self.write_existing(&name, |rows, secrets, now| secrets.remove(rows, &name, if_version, now))
    }

    /// Brings a removed secret back, or the value of an older version as a new version. Answers with the version
    /// that is current then.
    ///
    /// # Errors
    /// `not_found` if there is no such secret or version; `invalid_argument` for a live one without a version.
    pub fn restore(&self, name: &str, version: Option<u64>) -> Result<u64> {
        let name = check_name(name)?;
        self.write_existing(&name, |rows, secrets, now| secrets.restore(rows, &name, version, now))
    }

    /// Gives a secret another name; versions and history go with it. With the name that it has it writes nothing.
    ///
    /// # Errors
    /// `not_found`; `exists` if the name is taken, also by a removed secret.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (check_name(from)?, check_name(to)?);
        if from == to {
            return self.look_at(&from, None);
        }
        self.write_existing(&from, |rows, secrets, now| secrets.rename(rows, &from, &to, now))
    }

    /// Destroys what is kept for undoing: a removed secret altogether, the older versions of a live one. Answers
    /// with the number of versions destroyed. That holds, though copies of them may be left in the file until
    /// [`Vault::tidy`] has written it anew, which is tried here and at each later change until it was done.
    ///
    /// # Errors
    /// `not_found`.
    pub fn purge(&self, name: &str) -> Result<u64> {
        let name = check_name(name)?;
        let answer = self.write_existing(&name, |rows, secrets, now| {
            secrets.purged = true;
            secrets.purge(rows, &name, now)
        });
        if let Err(Error::NotFound { .. }) = answer {
            // It may have been purged before: what that left has another chance to go.
            let _ = self.tidy();
        }
        answer
    }

    /// Writes the database's file anew if something was destroyed since that was last done: SQLite may have left copies.
    ///
    /// # Errors
    /// `untidy` with the reason, which may be that another process has the vault; or what is wrong with the place.
    pub fn tidy(&self) -> Result<()> {
        let Some((place, _)) = self.survey()? else { return Ok(()) };
        let path = place.database();
        let tidied = Sqlite::begin(&path, Intent::Read, place.patience)
            .and_then(|rows| rows.get(keys::UNTIDY))
            .and_then(|asked| if asked.is_some() { Sqlite::rewrite(&path, place.patience) } else { Ok(()) });
        tidied.map_err(|why| Error::Untidy { path, busy: matches!(why, Error::Busy(_)), why: why.to_string() })
    }

    /// Changes how much is kept; none leaves it, and both leave everything as it is. What is too much then goes at the next
    /// write of each secret; removed secrets whose time is over go now. Answers with what holds then.
    ///
    /// # Errors
    /// `invalid_argument`.
    pub fn configure(&self, versions: Option<u32>, days: Option<u32>) -> Result<Retention> {
        if versions.is_none() && days.is_none() {
            let session = self.open(Intent::Read)?;
            return Ok(session.map_or_else(Retention::default, |mut s| s.secrets.index.ledger().retention));
        }
        self.write(|rows, secrets, _| secrets.configure(rows, versions, days))
    }

    /// Unlocks a vault with its passphrase: for this process, or for a time through the kernel's session keyring.
    /// A vault without a passphrase needs no unlocking; then this does nothing.
    ///
    /// # Errors
    /// `wrong_passphrase`; `unavailable` if there is no keyring; `path` if there is no vault.
    pub fn unlock(&self, passphrase: &Passphrase, time: Option<Duration>) -> Result<()> {
        let Some((site, slots)) = self.slots()? else {
            return Err(Error::Path {
                path: self.place.database(),
                reason: "does not exist: there is no vault to unlock yet".into(),
            });
        };
        let mut answer = Ok(());
        for slot in &slots {
            match slot.try_passphrase(&site, passphrase) {
                Ok(Some(key)) => return unlocked::remember(&site.store, &slot.digest, key, time),
                Ok(None) => {}
                Err(e) => answer = Err(e),
            }
        }
        answer
    }

    /// Forgets all keys that this process remembers, and the passphrase's in the kernel's keyring. Answers whether
    /// there were any.
    pub fn lock(&self) -> Result<bool> {
        let mut forgotten = chain::forget();
        if let Some((site, slots)) = self.slots()? {
            for slot in &slots {
                forgotten |= unlocked::forget(&site.store, &slot.digest);
            }
        }
        Ok(forgotten)
    }

    /// Accepts the database as it is, though the anchor knows a newer state or another incarnation: after a restore
    /// on purpose. It opens everything first; `even_damaged` accepts what can be opened at all, and the damage is
    /// then found by whoever touches it. Answers whether there was anything to accept.
    ///
    /// # Errors
    /// `damaged` if anything else is wrong with it; then nothing is changed.
    pub fn accept_restore(&self, even_damaged: bool) -> Result<bool> {
        let Some((place, _)) = self.survey()? else {
            return Err(Error::Path {
                path: self.place.database(),
                reason: "does not exist: there is no vault here".into(),
            });
        };
        // The database first, then the lock, as every writer that needs both.
        let rows = Sqlite::begin(&place.database(), Intent::Write, place.patience)?;
        let _lock = place.lock_creation()?;
        let anchor = Anchor::read(&place)?;
        let mut session = Session::load(rows, place, &anchor, Intent::Write)?;
        if session.check_anchor(&anchor).is_ok() && !anchor.is_absent() {
            return Ok(false);
        }
        if !even_damaged && let Some(first) = session.check_all().1.into_iter().next() {
            return Err(first);
        }
        let site = Arc::new(Site { incarnation: random_id()?, ..Site::clone(&session.site) });
        let beyond = session.anchored(&anchor).iter().flatten().map(|m| m.sequence).max().unwrap_or(0);
        let mut directory = chain::directory(&session.rows, &session.site, &session.chain.root)?;
        let Session { rows, place, chain, mut secrets, .. } = session;
        rows.put(keys::STORE, &site.row())?;
        directory.reincarnate(site.clone(), beyond);
        directory.write_manifest(&rows)?;
        secrets.index.reincarnate(site.clone(), beyond);
        secrets.index.write_manifest(&rows)?;
        rows.commit()?;
        let mark = |owner, sequence| Mark { owner, incarnation: site.incarnation, sequence };
        let marks = [mark(site.store, directory.sequence), mark(chain.user, secrets.index.sequence)];
        anchor::reset(&site, &chain.anchor, &place, &marks)?;
        Ok(true)
    }

    /// Opens everything there is, and checks the file's structure. Answers with the number of values.
    pub fn verify(&self) -> Result<u64> {
        let (values, wrong) = self.look_at_everything()?;
        wrong.into_iter().next().map_or(Ok(values), Err)
    }

    /// The same, past what is damaged. Answers with the number of values that opened, and everything that is wrong.
    ///
    /// # Errors
    /// If it can't be opened at all.
    pub fn look_at_everything(&self) -> Result<(u64, Vec<Error>)> {
        // What is remembered would not be looked at again.
        chain::forget();
        Ok(self.open(Intent::Read)?.map_or((0, Vec::new()), |mut session| session.check_all()))
    }

    /// Where the vault is and how it is. Never fails: what is wrong is part of the answer.
    pub fn info(&self) -> Info {
        let mut info = Info {
            database: self.place.database(),
            config: self.place.config.clone(),
            format: FORMAT,
            sqlite: rusqlite::version().into(),
            ..Info::default()
        };
        if let Err(e) = self.inform(&mut info) {
            info.problems.push((e.kind().into(), e.to_string()));
        }
        info
    }

    fn inform(&self, info: &mut Info) -> Result<()> {
        let Some((place, anchor)) = self.survey()? else { return Ok(()) };
        info.exists = true;
        info.database = place.database();
        info.config.clone_from(&place.config);
        info.file_bytes = platform::look(&place.database())?.map(|f| f.bytes());
        if let Some((name, reliable)) = platform::file_system(&place.data) {
            if !reliable {
                info.problems.push((
                    "warning".into(),
                    format!("the vault lies on {name}, where locks between machines cannot be relied on: use it from one machine at a time"),
                ));
            }
            info.file_system = Some(name);
        }
        let rows = Sqlite::begin(&place.database(), Intent::Read, place.patience)?;
        let (site, slots) = chain::slots(&rows, &place)?;
        info.store = Some(hex(&site.store));
        if let Some(slot) = slots.first() {
            info.provider = Some(slot.provider().into());
            if let Parameters::KeyFile { id } = &slot.parameters {
                info.key_file = Some(key_file::path(&place.config, id));
            }
        }
        info.locked = is_locked(&site, &slots);
        if info.locked {
            return Ok(());
        }
        let mut session = Session::load(rows, place, &anchor, Intent::Read)?;
        info.sequence = Some(session.secrets.index.sequence);
        let mut anchor = anchor;
        let mut lags = session.check_anchor(&anchor);
        if matches!(lags, Ok(true)) {
            session.raise_anchor();
            anchor = Anchor::read(&session.place)?;
            lags = session.check_anchor(&anchor);
        }
        info.anchor_sequence = session.anchored(&anchor)[1].map(|m| m.sequence);
        if matches!(lags, Ok(true)) {
            info.problems.push((
                "warning".into(),
                format!(
                    "the anchor {} could not be brought up to the last write: until it can be written to, an older copy of the database may pass for the present one",
                    session.place.anchor().display()
                ),
            ));
        }
        let ledger = *session.secrets.index.ledger();
        info.keep_versions = Some(ledger.retention.versions);
        info.keep_days = Some(ledger.retention.days);
        lags?;
        let (mut live, mut removed, mut versions) = (0, 0, 0);
        for head in session.secrets.index.all(&session.rows)? {
            versions += head.versions.len() as u64;
            *(if head.is_live() { &mut live } else { &mut removed }) += 1;
        }
        (info.secrets, info.removed, info.versions) = (Some(live), Some(removed), Some(versions));
        Ok(())
    }

    fn today(&self) -> i64 {
        (self.clock)().div_euclid(DAY_MS)
    }

    /// The place and its anchor, the anchor read before any transaction; nothing if there is no vault.
    fn survey(&self) -> Result<Option<(Place, Anchor)>> {
        match self.place.survey()? {
            (Found::Nothing, _) => Ok(None),
            (Found::Vault, place) => {
                let anchor = Anchor::read(&place)?;
                Ok(Some((place, anchor)))
            }
        }
    }

    fn slots(&self) -> Result<Option<(Site, Vec<Slot>)>> {
        let Some((place, _)) = self.survey()? else { return Ok(None) };
        chain::slots(&Sqlite::begin(&place.database(), Intent::Read, place.patience)?, &place).map(Some)
    }

    fn open(&self, intent: Intent) -> Result<Option<Session<Sqlite>>> {
        loop {
            let Some((place, anchor)) = self.survey()? else { return Ok(None) };
            let rows = Sqlite::begin(&place.database(), intent, place.patience)?;
            let session = Session::load(rows, place, &anchor, intent)?;
            match session.check_anchor(&anchor) {
                Ok(lags) => {
                    if lags && intent == Intent::Read {
                        session.raise_anchor();
                    }
                    return Ok(Some(session));
                }
                // Another process made the anchor, or accepted a restore, since it was read: once more from there.
                Err(_) if Anchor::read(&session.place)? != anchor => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Does one thing in one write transaction, in a vault that is made if it is not there.
    fn write<T>(&self, act: impl FnOnce(&Sqlite, &mut Secrets, i64) -> Result<T>) -> Result<T> {
        let session = match self.open(Intent::Write)? {
            Some(session) => session,
            None => self.created()?,
        };
        self.act(session, act)
    }

    /// A vault that is made now, unless another process is faster.
    fn created(&self) -> Result<Session<Sqlite>> {
        creation::create(&self.place, &NewSlot::KeyFile, Retention::default(), (self.clock)())?;
        self.open(Intent::Write)?.ok_or(Error::Internal("a vault that was just made is gone"))
    }

    /// Refuses as a change would, and changes nothing.
    fn look_at(&self, name: &str, if_version: Option<u64>) -> Result<()> {
        match self.open(Intent::Read)? {
            Some(Session { rows, mut secrets, .. }) => secrets.look_at(&rows, name, if_version),
            None => Err(not_found(name)),
        }
    }

    /// The same for a secret that must exist, so without a vault it is not found.
    fn write_existing<T>(&self, name: &str, act: impl FnOnce(&Sqlite, &mut Secrets, i64) -> Result<T>) -> Result<T> {
        match self.open(Intent::Write)? {
            Some(session) => self.act(session, act),
            None => Err(not_found(name)),
        }
    }

    fn act<T>(
        &self,
        mut session: Session<Sqlite>,
        act: impl FnOnce(&Sqlite, &mut Secrets, i64) -> Result<T>,
    ) -> Result<T> {
        let now = (self.clock)();
        session.establish_anchor()?;
        session.secrets.begin(now);
        let answer = act(&session.rows, &mut session.secrets, now)?;
        session.secrets.end(&session.rows)?;
        let marks = session.now();
        if session.secrets.purged {
            session.rows.put(keys::UNTIDY, &session.secrets.index.sequence.to_be_bytes())?;
        }
        let untidy = session.secrets.purged || session.rows.get(keys::UNTIDY)?.is_some();
        let Session { rows, site, place, chain, .. } = session;
        rows.commit()?;
        // The write is durable. The anchor may lag, so what goes wrong with it now is no failure of the write.
        let _ = anchor::raise(&site, &chain.anchor, &place, &marks);
        if untidy {
            // No failure of the write either: the row stays, and the next change tries again.
            let _ = Sqlite::rewrite(&place.database(), place.patience);
        }
        Ok(answer)
    }
}

pub(crate) fn system_clock() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|d| d.as_millis()).unwrap_or(0);
    i64::try_from(now).unwrap_or(i64::MAX)
}

fn is_locked(site: &Site, slots: &[Slot]) -> bool {
    slots.iter().all(|slot| {
        matches!(slot.parameters, Parameters::Passphrase { .. }) && unlocked::find(&site.store, &slot.digest).is_none()
    })
}

/// In a vault that is not there, nothing is.
fn not_found(name: &str) -> Error {
    Error::NotFound { name: name.into(), close: Vec::new(), removed: false }
}
