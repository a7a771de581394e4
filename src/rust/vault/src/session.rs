//! A vault that is open for one transaction: from the rows to the index of its owner, each step checked.
use crate::anchor::{self, Anchor, Mark};
use crate::chain::{self, Chain};
use crate::index::Index;
use crate::key::Id;
use crate::name::close_matches;
use crate::place::Place;
use crate::rows::{Intent, Rows, keys};
use crate::sealed_box::{BoxError, Context, open, seal};
use crate::secret::{Head, Removal, VersionHead};
use crate::site::{Part, Site, commit_to};
use crate::vault::Secret;
use crate::{Error, Result, Value};
use std::rc::Rc;
use std::sync::Arc;

/// A vault that is open for one transaction, every key found and everything up to the index checked.
pub(crate) struct Session<R> {
    pub(crate) rows: R,
    pub(crate) place: Place,
    pub(crate) site: Rc<Site>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) secrets: Index<Head>,
    /// Whether an anchor is still to be made: only a vault in its first state may lack one.
    anchor_absent: bool,
    /// Whether removed secrets were purged.
    pub(crate) purged: bool,
}

impl<R: Rows> Session<R> {
    pub(crate) fn load(rows: R, place: Place, anchor: &Anchor, intent: Intent) -> Result<Session<R>> {
        let (site, chain) = chain::follow(&rows, &place, intent)?;
        let secrets = Index::load(&rows, site.clone(), chain.user, chain.owner.clone(), "index")?;
        Ok(Session { rows, place, site, chain, secrets, anchor_absent: anchor.is_absent(), purged: false })
    }

    /// How far the directory and the index are.
    pub(crate) fn now(&self) -> [Mark; 2] {
        let mark = |owner, sequence| Mark { owner, incarnation: self.site.incarnation, sequence };
        [mark(self.site.store, self.chain.directory_sequence), mark(self.chain.user, self.secrets.sequence)]
    }

    /// How far they were when the anchor last heard of them.
    pub(crate) fn anchored(&self, anchor: &Anchor) -> [Option<Mark>; 2] {
        self.now().map(|mark| anchor.mark(&self.site, &self.chain.anchor, &mark.owner))
    }

    /// Refuses a database that is older than what was seen before, or of another line. Answers whether the anchor lags
    /// behind it.
    pub(crate) fn check_anchor(&self, anchor: &Anchor) -> Result<bool> {
        let mut lags = false;
        let rolled_back = |what: String| Err(Error::RolledBack { path: self.site.database.clone(), what });
        let file = || self.place.anchor().display().to_string();
        for (now, seen) in self.now().iter().zip(self.anchored(anchor)) {
            match seen {
                // Creation makes the anchor last: a vault that was never written to since may still lack it.
                None if anchor.is_absent() && now.sequence == 1 => {}
                None if anchor.is_absent() => return rolled_back(format!("its anchor {} is missing", file())),
                None => return rolled_back(format!("its anchor {} is damaged, or belongs to another vault", file())),
                Some(seen) if seen.incarnation != now.incarnation => {
                    return rolled_back("it comes from before or after another restore".into());
                }
                Some(seen) if seen.sequence > now.sequence => {
                    return rolled_back(format!(
                        "it is at write {}, and write {} was seen here",
                        now.sequence, seen.sequence
                    ));
                }
                Some(seen) => lags |= seen.sequence < now.sequence,
            }
        }
        Ok(lags)
    }

    /// Raises an anchor that lags behind what was just found sound: a write may have been cut short before it got
    /// there. Should it not be writable, it lags on.
    pub(crate) fn raise_anchor(&self) {
        let _ = anchor::raise(&self.site, &self.chain.anchor, &self.place, &self.now());
    }

    /// Before the first write, so that a kill between the two cannot leave a vault that was written and has no anchor.
    pub(crate) fn establish_anchor(&self) -> Result<()> {
        if !self.anchor_absent {
            return Ok(());
        }
        // Whoever creates the vault may be about to make the anchor, too.
        let _lock = self.place.lock_creation()?;
        anchor::establish(&self.site, &self.chain.anchor, &self.place, &self.now())
    }

    pub(crate) fn live(&mut self, name: &str) -> Result<Head> {
        match self.secrets.find(&self.rows, name)? {
            Some(head) if head.is_live() => Ok(head),
            found => {
                let removed = found.is_some();
                Err(self.not_found(name, removed)?)
            }
        }
    }

    pub(crate) fn any(&mut self, name: &str) -> Result<Head> {
        match self.secrets.find(&self.rows, name)? {
            Some(head) => Ok(head),
            None => Err(self.not_found(name, false)?),
        }
    }

    fn not_found(&mut self, name: &str, removed: bool) -> Result<Error> {
        let live = self.secrets.all(&self.rows)?.filter(|h| h.is_live());
        Ok(Error::NotFound { name: name.into(), close: close_matches(name, live.map(|h| h.name.as_str())), removed })
    }

    pub(crate) fn secret(&self, head: Head, today: i64) -> Result<Secret> {
        let current = head.current().ok_or_else(|| self.site.damaged("a secret has no version"))?;
        let value = self.value(&head, current)?;
        Ok(dressed(value, &head, current, today))
    }

    pub(crate) fn all_secrets(&mut self, today: i64) -> Result<Vec<Secret>> {
        // Rows of records lie in the order of secret ids, then versions: one pass over both.
        let mut heads = self.secrets.take_all(&self.rows)?;
        heads.retain(Head::is_live);
        heads.sort_unstable_by_key(|h| h.id);
        let mut found = Vec::with_capacity(heads.len());
        let mut heads = heads.into_iter().peekable();
        let prefix = keys::records(&self.chain.user);
        self.rows.scan(&prefix, &mut |key, sealed| {
            let wanted = |head: &Head| {
                head.current().is_some_and(|v| keys::record(&self.chain.user, &head.id, v.version) == key)
            };
            // Other rows are older versions, of removed secrets, or unknown to the index: all passed over.
            if let Some(head) = heads.next_if(wanted)
                && let Some(current) = head.current()
            {
                let value = self.unseal(&head, current, sealed)?;
                found.push(dressed(value, &head, current, today));
            }
            Ok(())
        })?;
        if let Some(head) = heads.next() {
            return Err(self.site.missing(Part::Value(&head.name, head.current().map_or(0, |v| v.version))));
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// One value, from its row.
    pub(crate) fn value(&self, head: &Head, version: &VersionHead) -> Result<Value> {
        let key = keys::record(&self.chain.user, &head.id, version.version);
        let sealed = self.rows.get(&key)?.ok_or_else(|| self.site.missing(Part::Value(&head.name, version.version)))?;
        self.unseal(head, version, &sealed)
    }

    fn unseal(&self, head: &Head, version: &VersionHead, sealed: &[u8]) -> Result<Value> {
        let part = Part::Value(&head.name, version.version);
        self.site.check_expected(sealed, &version.commit, part)?;
        let context = Context::Record {
            store: &self.site.store,
            user: &self.chain.user,
            secret: &head.id,
            version: version.version,
        };
        let plain = open(&self.secrets.keys.boxes, &context, sealed).map_err(|e| self.site.unsealed(part, e))?;
        Value::from_record(&plain).ok_or_else(|| self.site.unsealed(part, BoxError::UnknownFormat))
    }

    /// Seals a value as the next version of a secret, and lets go of versions beyond what is kept.
    pub(crate) fn add_version(&mut self, mut head: Head, value: &Value, expires: Option<i32>, now: i64) -> Result<u64> {
        let version = head.current().map_or(0, |v| v.version) + 1;
        let context = Context::Record { store: &self.site.store, user: &self.chain.user, secret: &head.id, version };
        let sealed = seal(&self.secrets.keys.boxes, self.secrets.keys.epoch, &context, &value.to_record())?;
        self.rows.put(&keys::record(&self.chain.user, &head.id, version), &sealed)?;
        head.versions.push(VersionHead { version, created: now, expires, commit: commit_to(&sealed)? });
        head.updated = now;
        let keep = self.secrets.ledger().retention.versions as usize;
        let excess: Vec<VersionHead> = head.versions.drain(..head.versions.len().saturating_sub(keep)).collect();
        self.destroy(&head.id, &excess)?;
        self.secrets.put(&self.rows, head)?;
        Ok(version)
    }

    pub(crate) fn destroy(&self, secret: &Id, versions: &[VersionHead]) -> Result<()> {
        for version in versions {
            self.rows.delete(&keys::record(&self.chain.user, secret, version.version))?;
        }
        Ok(())
    }

    /// Destroys removed secrets whose time is over.
    pub(crate) fn purge_due(&mut self) -> Result<()> {
        let ledger = *self.secrets.ledger();
        if ledger.due.is_none_or(|due| ledger.ticks < due) {
            return Ok(());
        }
        let over = |h: &&Head| h.removed.is_some_and(|r| ledger.is_due(r));
        let over: Vec<Head> = self.secrets.all(&self.rows)?.filter(over).cloned().collect();
        self.purged = !over.is_empty();
        for head in over {
            self.secrets.take(&self.rows, &head.name)?;
            self.destroy(&head.id, &head.versions)?;
        }
        self.schedule()
    }

    /// Notes when the next purge could be needed.
    pub(crate) fn schedule(&mut self) -> Result<()> {
        let removals: Vec<Removal> = self.secrets.all(&self.rows)?.filter_map(|h| h.removed).collect();
        self.secrets.ledger().schedule(removals.into_iter());
        Ok(())
    }

    /// Opens every page and every record, and has SQLite check the file's structure.
    pub(crate) fn check_all(&mut self) -> Result<u64> {
        if let Some(wrong) = self.rows.integrity()? {
            return Err(self.site.damaged(wrong));
        }
        chain::directory(&self.rows, &self.site, &self.chain.root)?.load_all(&self.rows)?;
        let heads: Vec<Head> = self.secrets.all(&self.rows)?.cloned().collect();
        let mut values = 0;
        for head in &heads {
            for version in &head.versions {
                self.value(head, version)?;
                values += 1;
            }
        }
        Ok(values)
    }
}

/// A value with what its index says of it.
fn dressed(value: Value, head: &Head, current: &VersionHead, today: i64) -> Secret {
    let expired = current.expires.is_some_and(|day| i64::from(day) < today);
    Secret { name: head.name.clone(), value, version: current.version, expires: current.expires, expired }
}
