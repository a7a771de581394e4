//! One person's secrets as one transaction sees them: everything that can be done with them, whatever database keeps
//! the rows, and whether it is the vault of one person or a store of many.
use crate::error::quoted;
use crate::index::{Index, Opened, OwnerKeys};
use crate::key::{Id, Key, hex, random_id};
use crate::locked::{Kept, Pool};
use crate::name::close_matches;
use crate::rows::{Rows, keys};
use crate::sealed_box::{BoxError, Commit, Context, one_time_key, open_with, seal};
use crate::secret::{Head, Ledger, Removal, Secret, Token, VersionHead};
use crate::site::{Part, Site, commit_to};
use crate::{Change, Error, Result, Retention, Summary, Value, Version};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::sync::Arc;

/// How much one person may keep in a store of many. What can be restored counts, as it takes room too.
#[derive(Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) secrets: u64,
    /// Of all sealed values together, in bytes.
    pub(crate) bytes: u64,
}

/// How many bytes the records of one person have.
#[derive(Clone, Copy)]
struct Counted {
    quota: Quota,
    /// When the change began.
    before: u64,
    now: u64,
}

/// The field of a manifest that counts the bytes of all records of its owner (stores only).
const RECORD_BYTES: u32 = 1;

/// A person's index, and what leads from it to the values.
pub(crate) struct Secrets {
    site: Arc<Site>,
    pub(crate) user: Id,
    pub(crate) index: Index<Head>,
    /// Whether something was destroyed of which SQLite may have left copies elsewhere in its file.
    pub(crate) purged: bool,
    /// In a store.
    kept: Option<Counted>,
}

impl Secrets {
    /// The secrets of somebody who has none yet.
    pub(crate) fn new(site: Arc<Site>, user: Id, keys: Arc<OwnerKeys>, ledger: Ledger) -> Secrets {
        let index = Index::new(site.clone(), user, keys, "index", ledger);
        Secrets { site, user, index, purged: false, kept: None }
    }

    /// Lets nobody keep more than this.
    pub(crate) fn limit(&mut self, rows: &impl Rows, quota: Quota) -> Result<()> {
        let before = match self.index.number(RECORD_BYTES) {
            Some(kept) => kept,
            // Nobody has counted yet.
            None => {
                let mut kept = 0;
                rows.scan(&keys::records(&self.user), &mut |_, sealed| {
                    kept += sealed.len() as u64;
                    Ok(())
                })?;
                kept
            }
        };
        self.kept = Some(Counted { quota, before, now: before });
        Ok(())
    }

    pub(crate) fn load(rows: &impl Rows, site: Arc<Site>, user: Id, keys: Arc<OwnerKeys>) -> Result<Secrets> {
        Secrets::open(rows.get(&keys::manifest(&user))?, &mut None, site, user, keys)
    }

    /// From the row of the person's manifest, and what was opened before.
    pub(crate) fn open(
        manifest: Option<Vec<u8>>,
        before: &mut Option<Opened>,
        site: Arc<Site>,
        user: Id,
        keys: Arc<OwnerKeys>,
    ) -> Result<Secrets> {
        let index = Index::open(manifest, before, site.clone(), user, keys, "index")?;
        Ok(Secrets { site, user, index, purged: false, kept: None })
    }

    /// Begins a change: the clock of use goes on.
    pub(crate) fn begin(&mut self, now: i64) {
        self.index.ledger().advance(now);
    }

    /// Ends a change: what is over is purged, and the index written as the next in its sequence.
    pub(crate) fn end(&mut self, rows: &impl Rows) -> Result<()> {
        self.purge_due(rows)?;
        if let Some(Counted { quota, before, now }) = self.kept {
            // Whoever has more already may have less.
            if now > quota.bytes && now > before {
                return Err(Error::TooMany(format!(
                    "one person may keep {} MiB of secrets here, versions and removed ones included: purge some (dkuPurgeSecret in R)",
                    quota.bytes >> 20
                )));
            }
            self.index.set_number(RECORD_BYTES, now);
        }
        self.index.save(rows)
    }

    /// One secret, by a name that was checked; so in all that follow.
    pub(crate) fn get(&mut self, rows: &impl Rows, name: &str, today: i64) -> Result<Secret> {
        let head = self.live(rows, name)?;
        let current = head.current().ok_or_else(|| self.site.damaged("a secret has no version"))?;
        let value = self.value(rows, &head, current)?;
        Ok(dressed(value, &head, current, today))
    }

    /// All live secrets, by name.
    pub(crate) fn get_all(&mut self, rows: &impl Rows, today: i64) -> Result<Vec<Secret>> {
        let mut found = Vec::new();
        let (site, user, keys) = (self.site.clone(), self.user, self.index.keys.clone());
        self.each_live(rows, |head, current, sealed| {
            let value = Record::of(&site, &user, head, current).unseal(&keys, sealed)?;
            found.push(dressed(value, head, current, today));
            Ok(())
        })?;
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// How many bytes all records have, old versions included: what a store counts.
    pub(crate) fn bytes(&self) -> u64 {
        self.index.number(RECORD_BYTES).unwrap_or_default()
    }

    /// All live secrets as they are sealed, if they have no more than `most` bytes together, and what lies beside them does
    /// not take long to pass over.
    pub(crate) fn sealed(&mut self, rows: &impl Rows, most: usize, pool: &Arc<Pool>) -> Result<Option<Sealed>> {
        let few = self.index.len() <= (most / ROOM_OF_ONE) as u64;
        let short = self.index.number(RECORD_BYTES).is_some_and(|bytes| bytes <= 10 * most as u64);
        if !(few && short) {
            return Ok(None);
        }
        let keys = self.index.keys.clone();
        let mut found = Sealed { user: self.user, keys, secrets: Vec::new(), one_time: None, bytes: 0 };
        self.each_live(rows, |head, current, sealed| {
            found.bytes += ROOM_OF_ONE + head.name.len() + sealed.len();
            if found.bytes <= most {
                let head = Head { description: String::new(), versions: vec![current.clone()], ..head.clone() };
                found.secrets.push((head, sealed.into()));
            }
            Ok(())
        })?;
        if found.bytes > most {
            return Ok(None);
        }
        found.secrets.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let one_time_key = |(head, sealed): &(Head, Box<[u8]>)| {
            let current = head.current().ok_or_else(|| self.site.damaged("a secret has no version"))?;
            Record::of(&self.site, &self.user, head, current).one_time_key(&found.keys, sealed)
        };
        let one_time = found.secrets.iter().map(one_time_key).collect::<Result<Vec<Key>>>()?;
        found.one_time = pool.keep(&one_time);
        Ok(Some(found))
    }

    /// Visits the current version of each live secret, with its sealed value. Rows of records lie in the order of secret
    /// ids, then versions: one pass over both.
    fn each_live(
        &mut self,
        rows: &impl Rows,
        mut visit: impl FnMut(&Head, &VersionHead, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut heads = self.index.take_all(rows)?;
        heads.retain(Head::is_live);
        heads.sort_unstable_by_key(|h| h.id);
        let mut heads = heads.into_iter().peekable();
        let prefix = keys::records(&self.user);
        rows.scan(&prefix, &mut |key, sealed| {
            let wanted =
                |head: &Head| head.current().is_some_and(|v| keys::record(&self.user, &head.id, v.version) == key);
            // Other rows are older versions, of removed secrets, or unknown to the index: all passed over.
            if let Some(head) = heads.next_if(wanted)
                && let Some(current) = head.current()
            {
                visit(&head, current, sealed)?;
            }
            Ok(())
        })?;
        match heads.next() {
            Some(head) => Err(self.site.missing(Part::Value(&head.name, head.current().map_or(0, |v| v.version)))),
            None => Ok(()),
        }
    }

    /// All secrets without their values, removed ones included, by name.
    pub(crate) fn list(&mut self, rows: &impl Rows) -> Result<Vec<Summary>> {
        let mut all: Vec<Summary> = self.index.all(rows)?.map(Head::summary).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What stands for each live secret's value where it is edited, by name.
    pub(crate) fn tokens(&mut self, rows: &impl Rows) -> Result<Vec<Token>> {
        let keys = self.index.keys.clone();
        let live = self.index.all(rows)?.filter(|head| head.is_live());
        let mut all = live
            .map(|head| {
                let version = head.current().map_or(0, |v| v.version);
                Token::new(&keys.tokens, &head.id, &head.name, version)
            })
            .collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// What stood, or would stand, for a version of a secret.
    pub(crate) fn token(&self, id: &Id, name: &str, version: u64) -> Result<Token> {
        Token::new(&self.index.keys.tokens, id, name, version)
    }

    /// The kept versions of a secret, live or removed, newest first.
    pub(crate) fn versions(&mut self, rows: &impl Rows, name: &str) -> Result<Vec<Version>> {
        let head = self.any(rows, name)?;
        let current = head.current().map(|v| v.version).filter(|_| head.is_live());
        let one = |v: &VersionHead| Version {
            version: v.version,
            created: v.created,
            expires: v.expires,
            current: Some(v.version) == current,
        };
        Ok(head.versions.iter().rev().map(one).collect())
    }

    /// Stores a value as a new version; answers with the version.
    pub(crate) fn set(
        &mut self,
        rows: &impl Rows,
        name: &str,
        value: &Value,
        change: &Change,
        now: i64,
    ) -> Result<u64> {
        let found = self.index.find(rows, name)?;
        check_version(name, found.as_ref(), change.if_version)?;
        let mut head = match found {
            Some(head) if head.is_live() => head,
            // The name begins anew; what was removed under it stays behind, as older versions.
            Some(removed) => Head { removed: None, description: String::new(), created: now, ..removed },
            None => Head::new(name.into(), random_id()?, now),
        };
        if let Some(description) = &change.description {
            head.description.clone_from(description);
        }
        self.add_version(rows, head, value, change.expires.flatten(), now)
    }

    /// Changes description and expiry without touching the value.
    pub(crate) fn describe(&mut self, rows: &impl Rows, name: &str, change: &Change, now: i64) -> Result<()> {
        let mut head = self.live(rows, name)?;
        check_version(name, Some(&head), change.if_version)?;
        if let Some(description) = &change.description {
            head.description.clone_from(description);
        }
        if let (Some(expires), Some(current)) = (change.expires, head.versions.last_mut()) {
            current.expires = expires;
        }
        head.updated = now;
        self.index.put(rows, head)
    }

    /// Removes a secret; for a time it can be brought back.
    pub(crate) fn remove(&mut self, rows: &impl Rows, name: &str, if_version: Option<u64>, now: i64) -> Result<()> {
        let mut head = self.live(rows, name)?;
        check_version(name, Some(&head), if_version)?;
        let ledger = self.index.ledger();
        let removal = Removal { at: now, ticks: ledger.ticks };
        let end = ledger.end_of(removal);
        ledger.due = Some(ledger.due.map_or(end, |due| due.min(end)));
        head.removed = Some(removal);
        head.updated = now;
        self.index.put(rows, head)
    }

    /// Brings a removed secret back, or the value of an older version as a new version. Answers with the version that
    /// is current then.
    pub(crate) fn restore(&mut self, rows: &impl Rows, name: &str, version: Option<u64>, now: i64) -> Result<u64> {
        let mut head = self.any(rows, name)?;
        let current = head.current().map_or(0, |v| v.version);
        match version {
            _ if head.is_live() && version.is_none_or(|v| v == current) => Err(Error::InvalidArgument(format!(
                "the secret {} is not removed; name an older version to restore (kept are: {})",
                quoted(name),
                kept(&head)
            ))),
            Some(version) if version != current => {
                let older = head.versions.iter().find(|v| v.version == version).cloned();
                let older = older.ok_or_else(|| Error::NoVersion { name: name.into(), version, kept: kept(&head) })?;
                let value = self.value(rows, &head, &older)?;
                head.removed = None;
                self.add_version(rows, head, &value, older.expires, now)
            }
            _ => {
                head.removed = None;
                head.updated = now;
                self.index.put(rows, head)?;
                Ok(current)
            }
        }
    }

    /// Gives a secret another name; versions and history go with it.
    pub(crate) fn rename(&mut self, rows: &impl Rows, from: &str, to: &str, now: i64) -> Result<()> {
        let mut head = self.live(rows, from)?;
        if from == to {
            return Ok(());
        }
        if let Some(taken) = self.index.find(rows, to)? {
            return Err(Error::Exists { name: to.into(), removed: !taken.is_live() });
        }
        self.index.take(rows, from)?;
        head.name = to.into();
        head.updated = now;
        self.index.put(rows, head)
    }

    /// Destroys what is kept for undoing; answers with the number of versions destroyed.
    pub(crate) fn purge(&mut self, rows: &impl Rows, name: &str, now: i64) -> Result<u64> {
        let mut head = self.any(rows, name)?;
        if !head.is_live() {
            self.index.take(rows, name)?;
            self.destroy(rows, &head.id, &head.versions)?;
            return Ok(head.versions.len() as u64);
        }
        let older: Vec<VersionHead> = head.versions.drain(..head.versions.len() - 1).collect();
        self.destroy(rows, &head.id, &older)?;
        head.updated = now;
        self.index.put(rows, head)?;
        Ok(older.len() as u64)
    }

    /// Changes how much is kept; answers with what holds then.
    pub(crate) fn configure(
        &mut self,
        rows: &impl Rows,
        versions: Option<u32>,
        days: Option<u32>,
    ) -> Result<Retention> {
        let old = self.index.ledger().retention;
        let new = Retention { versions: versions.unwrap_or(old.versions), days: days.unwrap_or(old.days) };
        self.index.ledger().retention = new.check()?;
        self.schedule(rows)?;
        Ok(new)
    }

    /// Opens every record; answers with their number.
    pub(crate) fn check_all(&mut self, rows: &impl Rows) -> Result<u64> {
        let (values, wrong) = self.look_at_everything(rows);
        wrong.into_iter().next().map_or(Ok(values), Err)
    }

    /// Opens every record; answers with how many opened, and with what is wrong.
    pub(crate) fn look_at_everything(&mut self, rows: &impl Rows) -> (u64, Vec<Error>) {
        let mut wrong = self.index.load_each(rows);
        let mut values = 0;
        for head in self.index.loaded() {
            for version in &head.versions {
                match self.value(rows, head, version) {
                    Ok(_) => values += 1,
                    Err(e) => wrong.push(e),
                }
            }
        }
        (values, wrong)
    }

    /// Refuses a secret that is not there, or not at the version that is expected.
    pub(crate) fn look_at(&mut self, rows: &impl Rows, name: &str, if_version: Option<u64>) -> Result<()> {
        let head = self.live(rows, name)?;
        check_version(name, Some(&head), if_version)
    }

    fn live(&mut self, rows: &impl Rows, name: &str) -> Result<Head> {
        match self.index.find(rows, name)? {
            Some(head) if head.is_live() => Ok(head),
            found => {
                let removed = found.is_some();
                Err(self.not_found(rows, name, removed)?)
            }
        }
    }

    fn any(&mut self, rows: &impl Rows, name: &str) -> Result<Head> {
        match self.index.find(rows, name)? {
            Some(head) => Ok(head),
            None => Err(self.not_found(rows, name, false)?),
        }
    }

    fn not_found(&mut self, rows: &impl Rows, name: &str, removed: bool) -> Result<Error> {
        let live = self.index.all(rows)?.filter(|h| h.is_live());
        Ok(Error::NotFound { name: name.into(), close: close_matches(name, live.map(|h| h.name.as_str())), removed })
    }

    /// One value, from its row.
    fn value(&self, rows: &impl Rows, head: &Head, version: &VersionHead) -> Result<Value> {
        let key = keys::record(&self.user, &head.id, version.version);
        let sealed = rows.get(&key)?.ok_or_else(|| self.site.missing(Part::Value(&head.name, version.version)))?;
        Record::of(&self.site, &self.user, head, version).unseal(&self.index.keys, &sealed)
    }

    /// Seals a value as the next version of a secret, and lets go of versions beyond what is kept.
    fn add_version(
        &mut self,
        rows: &impl Rows,
        mut head: Head,
        value: &Value,
        expires: Option<i32>,
        now: i64,
    ) -> Result<u64> {
        if let Some(Counted { quota, .. }) = self.kept
            && head.versions.is_empty()
            && self.index.len() >= quota.secrets
        {
            return Err(Error::TooMany(format!(
                "one person may keep {} secrets here, removed ones that can be restored included: purge some (dkuPurgeSecret in R)",
                quota.secrets
            )));
        }
        let version = head.current().map_or(0, |v| v.version) + 1;
        let context = Context::Record { store: &self.site.store, user: &self.user, secret: &head.id, version };
        let sealed = seal(&self.index.keys.boxes, self.index.keys.epoch, &context, &value.to_record())?;
        rows.put(&keys::record(&self.user, &head.id, version), &sealed)?;
        if let Some(kept) = &mut self.kept {
            kept.now += sealed.len() as u64;
        }
        head.versions.push(VersionHead { version, created: now, expires, commit: commit_to(&sealed)? });
        head.updated = now;
        let keep = self.index.ledger().retention.versions as usize;
        let excess: Vec<VersionHead> = head.versions.drain(..head.versions.len().saturating_sub(keep)).collect();
        self.destroy(rows, &head.id, &excess)?;
        self.index.put(rows, head)?;
        Ok(version)
    }

    fn destroy(&mut self, rows: &impl Rows, secret: &Id, versions: &[VersionHead]) -> Result<()> {
        for version in versions {
            let key = keys::record(&self.user, secret, version.version);
            if let Some(kept) = &mut self.kept {
                let sealed = rows.get(&key)?.map_or(0, |sealed| sealed.len() as u64);
                kept.now = kept.now.saturating_sub(sealed);
            }
            rows.delete(&key)?;
        }
        Ok(())
    }

    /// Destroys removed secrets whose time is over.
    fn purge_due(&mut self, rows: &impl Rows) -> Result<()> {
        let ledger = *self.index.ledger();
        if ledger.due.is_none_or(|due| ledger.ticks < due) {
            return Ok(());
        }
        let over = |h: &&Head| h.removed.is_some_and(|r| ledger.is_due(r));
        let over: Vec<Head> = self.index.all(rows)?.filter(over).cloned().collect();
        self.purged |= !over.is_empty();
        for head in over {
            self.index.take(rows, &head.name)?;
            self.destroy(rows, &head.id, &head.versions)?;
        }
        self.schedule(rows)
    }

    /// Notes when the next purge could be needed.
    fn schedule(&mut self, rows: &impl Rows) -> Result<()> {
        let removals: Vec<Removal> = self.index.all(rows)?.filter_map(|h| h.removed).collect();
        self.index.ledger().schedule(removals.into_iter());
        Ok(())
    }
}

/// All live secrets of a person as they are sealed, and what opens them.
pub(crate) struct Sealed {
    user: Id,
    keys: Arc<OwnerKeys>,
    /// By name. Of each the current version only.
    secrets: Vec<(Head, Box<[u8]>)>,
    /// The one-time keys of the boxes, if there was a place for them.
    one_time: Option<Kept>,
    /// How much memory it takes, about.
    pub(crate) bytes: usize,
}

/// What one secret takes in memory beside its name and its box, about.
const ROOM_OF_ONE: usize = 300;

impl Sealed {
    /// One secret, if it is there.
    pub(crate) fn get(&self, site: &Site, name: &str, today: i64) -> Option<Result<Secret>> {
        let found = self.secrets.binary_search_by(|(head, _)| head.name.as_str().cmp(name));
        found.ok().map(|i| self.open(site, i, self.one_time().get(i), today))
    }

    pub(crate) fn get_all(&self, site: &Site, today: i64) -> Result<Vec<Secret>> {
        let one_time = self.one_time();
        (0..self.secrets.len()).map(|i| self.open(site, i, one_time.get(i), today)).collect()
    }

    fn one_time(&self) -> Vec<Key> {
        self.one_time.as_ref().map_or(Vec::new(), Kept::keys)
    }

    fn open(&self, site: &Site, i: usize, one_time: Option<&Key>, today: i64) -> Result<Secret> {
        let (head, sealed) = &self.secrets[i];
        let current = head.current().ok_or_else(|| site.damaged("a secret has no version"))?;
        let record = Record::of(site, &self.user, head, current);
        let value = match one_time {
            Some(one_time) => record.open(one_time, sealed)?,
            None => record.unseal(&self.keys, sealed)?,
        };
        Ok(dressed(value, head, current, today))
    }

    #[cfg(test)]
    pub(crate) fn empty(bytes: usize) -> Sealed {
        let keys = OwnerKeys::new(&Key::from_bytes(&[1; 32]).unwrap(), 1).unwrap();
        Sealed { user: [0; 16], keys, secrets: Vec::new(), one_time: None, bytes }
    }
}

/// A version of a secret, and where its value belongs.
struct Record<'h> {
    site: &'h Site,
    commit: &'h Commit,
    part: Part<'h>,
    context: Context<'h>,
}

impl<'h> Record<'h> {
    fn of(site: &'h Site, user: &'h Id, head: &'h Head, version: &'h VersionHead) -> Record<'h> {
        Record {
            site,
            commit: &version.commit,
            part: Part::Value(&head.name, version.version),
            context: Context::Record { store: &site.store, user, secret: &head.id, version: version.version },
        }
    }

    /// The one-time key of its box, which must be the very one that the index knows.
    fn one_time_key(&self, keys: &OwnerKeys, sealed: &[u8]) -> Result<Key> {
        self.site.check_expected(sealed, self.commit, self.part)?;
        one_time_key(&keys.boxes, &self.context, sealed).map_err(|e| self.site.unsealed(self.part, e))
    }

    fn open(&self, one_time: &Key, sealed: &[u8]) -> Result<Value> {
        let plain = open_with(one_time, &self.context, sealed).map_err(|e| self.site.unsealed(self.part, e))?;
        Value::from_record(&plain).ok_or_else(|| self.site.unsealed(self.part, BoxError::UnknownFormat))
    }

    fn unseal(&self, keys: &OwnerKeys, sealed: &[u8]) -> Result<Value> {
        self.open(&self.one_time_key(keys, sealed)?, sealed)
    }
}

impl Token {
    fn new(key: &Key, id: &Id, name: &str, version: u64) -> Result<Token> {
        let mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(key.bytes()).map_err(|_| Error::Internal("HMAC key length"))?;
        let mac = mac.chain_update(id).chain_update(version.to_be_bytes()).chain_update(name.as_bytes());
        let text = format!("{}{}", Token::PREFIX, hex(&mac.finalize().into_bytes()));
        Ok(Token { name: name.into(), id: *id, version, text })
    }
}

/// A value with what its index says of it.
fn dressed(value: Value, head: &Head, current: &VersionHead, today: i64) -> Secret {
    let expired = current.expires.is_some_and(|day| i64::from(day) < today);
    Secret { name: head.name.clone(), value, version: current.version, expires: current.expires, expired }
}

fn kept(head: &Head) -> String {
    head.versions.iter().map(|v| v.version.to_string()).collect::<Vec<_>>().join(", ")
}

/// Refuses if somebody else was faster. A removed secret counts as none.
fn check_version(name: &str, head: Option<&Head>, expected: Option<u64>) -> Result<()> {
    let found = head.filter(|h| h.is_live()).and_then(Head::current).map_or(0, |v| v.version);
    match expected {
        Some(expected) if expected != found => Err(Error::Conflict { name: name.into(), expected, found }),
        _ => Ok(()),
    }
}
