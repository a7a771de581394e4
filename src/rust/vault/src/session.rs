//! A vault that is open for one transaction: from the rows to the index of its owner, each step checked.
use crate::anchor::{self, Anchor, Mark};
use crate::directory::{self, Directory, Fact};
use crate::index::{Entry, Index, OwnerKeys};
use crate::key::{Id, Key};
use crate::name::close_matches;
use crate::place::Place;
use crate::rows::{Rows, keys};
use crate::sealed_box::{BoxError, Context, open, seal};
use crate::secret::{Head, Removal, VersionHead};
use crate::site::{Part, Site, commit_to};
use crate::slot::Slot;
use crate::sqlite::Sqlite;
use crate::vault::Secret;
use crate::{Error, Result, Value, creation};
use std::rc::Rc;

/// What can be known of a vault without a key.
pub(crate) struct Opened {
    pub(crate) rows: Sqlite,
    pub(crate) site: Site,
    pub(crate) slots: Vec<Slot>,
}

pub(crate) fn opened(rows: Sqlite, place: &Place) -> Result<Opened> {
    let row = rows.get(keys::STORE)?;
    let site = Site::parse(place.database(), row.as_deref())?;
    let row = rows.get(keys::SLOTS)?.ok_or_else(|| site.missing(Part::Slots))?;
    let slots = Slot::parse_all(&site, &row)?;
    Ok(Opened { rows, site, slots })
}

pub(crate) fn mark<E: Entry>(site: &Site, index: &Index<E>) -> Mark {
    Mark { owner: index.owner(), incarnation: site.incarnation, sequence: index.sequence }
}

/// A vault that is open for one transaction, every key found and everything up to the index checked.
pub(crate) struct Session {
    pub(crate) rows: Sqlite,
    pub(crate) place: Place,
    pub(crate) site: Rc<Site>,
    pub(crate) root: Key,
    pub(crate) directory: Directory,
    pub(crate) user: Id,
    pub(crate) secrets: Index<Head>,
    /// Whether an anchor is still to be made: only a vault in its first state may lack one.
    pub(crate) anchor_absent: bool,
}

impl Session {
    pub(crate) fn load(rows: Sqlite, place: Place, anchor: &Anchor) -> Result<Session> {
        let Opened { rows, site, slots } = opened(rows, &place)?;
        let (slot, root) = open_any(&slots, &site, &place)?;
        let site = Rc::new(site);
        let directory: Directory =
            Index::load(&rows, site.clone(), site.store, OwnerKeys::new(&root, creation::FIRST_EPOCH)?, "directory")?;
        match directory.find(&rows, &directory::slot_name(slot.number))?.map(|l| l.fact) {
            Some(Fact::Slot { parameters, commit }) => slot.check(&site, &parameters, &commit)?,
            _ => return Err(site.damaged(format!("key slot {} is not one of this vault's", slot.number))),
        }
        let missing = |what: &str| site.damaged(format!("the directory does not name {what}"));
        let Some(Fact::Owner { user }) = directory.find(&rows, directory::OWNER)?.map(|l| l.fact) else {
            return Err(missing("the vault's owner"));
        };
        let Some(Fact::User(known)) = directory.find(&rows, &directory::user_name(&user))?.map(|l| l.fact) else {
            return Err(missing("the owner's key"));
        };
        let context = Context::UserKey { store: &site.store, user: &user, epoch: known.epoch };
        let sealed = site.read_expected(&rows, &keys::user_key(&user, known.epoch), &known.commit, Part::OwnerKey)?;
        let key = open(&directory.keys.boxes, &context, &sealed).map_err(|e| site.unsealed(Part::OwnerKey, e))?;
        let key = Key::from_bytes(&key).ok_or_else(|| site.unsealed(Part::OwnerKey, BoxError::Malformed))?;
        let secrets = Index::load(&rows, site.clone(), user, OwnerKeys::new(&key, known.epoch)?, "index")?;
        Ok(Session { rows, place, site, root, directory, user, secrets, anchor_absent: anchor.is_absent() })
    }

    /// What the anchor says of the directory and of the index.
    pub(crate) fn marks(&self, anchor: &Anchor) -> Result<[Option<Mark>; 2]> {
        Ok([anchor.mark(&self.site, &self.root, &self.site.store)?, anchor.mark(&self.site, &self.root, &self.user)?])
    }

    /// Refuses a database that is older than what was seen before, or of another line.
    pub(crate) fn check_anchor(&mut self, anchor: &Anchor) -> Result<()> {
        let rolled_back = |what: String| Err(Error::RolledBack { path: self.site.database.clone(), what });
        if anchor.is_absent() {
            // Creation makes the anchor last: a vault that was never written to since may still lack it.
            return match (self.directory.sequence, self.secrets.sequence) {
                (1, 1) => Ok(()),
                _ => rolled_back(format!("its anchor {} is missing", self.place.anchor().display())),
            };
        }
        for (mark, sequence) in self.marks(anchor)?.iter().zip([self.directory.sequence, self.secrets.sequence]) {
            match mark {
                None => {
                    return rolled_back(format!(
                        "its anchor {} is damaged, or belongs to another vault",
                        self.place.anchor().display()
                    ));
                }
                Some(mark) if mark.incarnation != self.site.incarnation => {
                    return rolled_back("it comes from before or after another restore".into());
                }
                Some(mark) if mark.sequence > sequence => {
                    return rolled_back(format!(
                        "it is at write {sequence}, and write {} was seen here",
                        mark.sequence
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Before the first write, so that a kill between the two cannot leave a vault that was written and has no anchor.
    pub(crate) fn establish_anchor(&mut self) -> Result<()> {
        if !self.anchor_absent {
            return Ok(());
        }
        let marks = [mark(&self.site, &self.directory), mark(&self.site, &self.secrets)];
        anchor::establish(&self.site, &self.root, &self.place, &marks)
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
        let prefix = keys::records(&self.user);
        self.rows.scan(&prefix, &mut |key, sealed| {
            let wanted =
                |head: &Head| head.current().is_some_and(|v| keys::record(&self.user, &head.id, v.version) == key);
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
        let key = keys::record(&self.user, &head.id, version.version);
        let sealed = self.rows.get(&key)?.ok_or_else(|| self.site.missing(Part::Value(&head.name, version.version)))?;
        self.unseal(head, version, &sealed)
    }

    fn unseal(&self, head: &Head, version: &VersionHead, sealed: &[u8]) -> Result<Value> {
        let part = Part::Value(&head.name, version.version);
        self.site.check_expected(sealed, &version.commit, part)?;
        let context =
            Context::Record { store: &self.site.store, user: &self.user, secret: &head.id, version: version.version };
        let plain = open(&self.secrets.keys.boxes, &context, sealed).map_err(|e| self.site.unsealed(part, e))?;
        Value::from_record(&plain).ok_or_else(|| self.site.unsealed(part, BoxError::UnknownFormat))
    }

    /// Seals a value as the next version of a secret, and lets go of versions beyond what is kept.
    pub(crate) fn add_version(&mut self, mut head: Head, value: &Value, expires: Option<i32>, now: i64) -> Result<u64> {
        let version = head.current().map_or(0, |v| v.version) + 1;
        let context = Context::Record { store: &self.site.store, user: &self.user, secret: &head.id, version };
        let sealed = seal(&self.secrets.keys.boxes, self.secrets.keys.epoch, &context, &value.to_record())?;
        self.rows.put(&keys::record(&self.user, &head.id, version), &sealed)?;
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
            self.rows.delete(&keys::record(&self.user, secret, version.version))?;
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
        let said = self.rows.integrity()?;
        if said != "ok" {
            return Err(self.site.damaged(format!("SQLite's check says: {said}")));
        }
        self.directory.load_all(&self.rows)?;
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

/// The root key, by the first slot that opens.
fn open_any<'s>(slots: &'s [Slot], site: &Site, place: &Place) -> Result<(&'s Slot, Key)> {
    let mut first = None;
    for slot in slots {
        match slot.open(site, place) {
            Ok(root) => return Ok((slot, root)),
            Err(e) => first = first.or(Some(e)),
        }
    }
    Err(first.unwrap_or_else(|| site.missing(Part::Slots)))
}

/// A value with what its index says of it.
fn dressed(value: Value, head: &Head, current: &VersionHead, today: i64) -> Secret {
    let expired = current.expires.is_some_and(|day| i64::from(day) < today);
    Secret { name: head.name.clone(), value, version: current.version, expires: current.expires, expired }
}
