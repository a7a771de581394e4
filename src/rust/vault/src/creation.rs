//! How a vault comes to be. Two processes may try at once and either may be killed at any point: the lock lets one
//! go first, each step is durable before the next begins, and the database appears whole or not at all.
//!
//! The order is key, database, anchor. A key without a database and anchor is taken up again; a database in its first
//! state without an anchor gets one (`Session::establish_anchor`); a key and an anchor without a database is a loss, never a
//! new vault.
use crate::anchor::{self, Mark};
use crate::audit;
use crate::directory::{self, Directory, Fact, Listing, User};
use crate::index::{Index, OwnerKeys};
use crate::key::{Key, Purpose, random_id};
use crate::passphrase::{self, Cost};
use crate::place::{Found, Kind, Place};
use crate::rows::{Rows, keys};
use crate::sealed_box::{Context, seal};
use crate::secret::{Ledger, Retention};
use crate::secrets::Secrets;
use crate::site::{Site, commit_to};
use crate::slot::{NewSlot, Parameters, RootKey, Slot};
use crate::sqlite::Sqlite;
use crate::{Error, Result, key_file, platform, unlocked};
use std::path::Path;
use std::sync::Arc;

/// The first epoch of a user's key.
const FIRST_EPOCH: u32 = 1;
/// The slot a vault is created with.
const FIRST_SLOT: u32 = 1;

/// Makes a vault unless there is one; answers whether it did.
pub(crate) fn create(place: &Place, slot: &NewSlot, retention: Retention, now: i64) -> Result<bool> {
    if let NewSlot::Passphrase(passphrase) = slot {
        passphrase.check_new()?;
    }
    let place = place.prepare()?;
    let _lock = place.lock_creation()?;
    if place.survey()?.0 == Found::Vault {
        return Ok(false);
    }
    let orphan = place.orphaned_key()?;
    let (provider, parameters) = match (slot, orphan) {
        (NewSlot::KeyFile, None) => {
            let (key, id) = key_file::create(&place.config)?;
            (key, Parameters::KeyFile { id })
        }
        (NewSlot::KeyFile, Some(id)) => {
            let missing = || Error::KeyMissing {
                key: key_file::path(&place.config, &id),
                database: place.database(),
                others: Vec::new(),
            };
            (key_file::read(&place.config, &id)?.ok_or_else(missing)?, Parameters::KeyFile { id })
        }
        (NewSlot::Passphrase(_), Some(id)) => {
            return Err(Error::Path {
                path: key_file::path(&place.config, &id),
                reason: "is the key of another vault, or of a creation that was cut short; move it away to create a vault with a passphrase".into(),
            });
        }
        (NewSlot::Passphrase(passphrase), None) => {
            let (salt, cost) = (random_id()?, Cost::RECOMMENDED);
            let key = passphrase::derive(passphrase, &salt, cost)?.ok_or(Error::Internal("Argon2 cost"))?;
            (key, Parameters::Passphrase { salt, cost })
        }
    };
    let site = Site { database: place.database(), store: random_id()?, incarnation: random_id()? };
    let scratch = place.database().with_added_extension("new");
    let journal = place.database().with_added_extension("new-journal");
    platform::remove_if_there(&journal)?;
    platform::remove_if_there(&scratch)?;
    drop(platform::create_private(&scratch)?);
    let filled = fill(&scratch, place.kind, Arc::new(site), parameters, &provider, retention, now);
    let filled =
        filled.and_then(|filled| platform::rename_without_replacing(&scratch, &place.database()).map(|()| filled));
    let Filled { site, anchor, marks, slot } = match filled {
        Ok(filled) => filled,
        Err(e) => {
            // Best effort: what stays is removed by the next attempt.
            let _ = platform::remove_if_there(&journal);
            let _ = platform::remove_if_there(&scratch);
            return Err(e);
        }
    };
    anchor::establish(&site, &anchor.subkey(Purpose::Anchor)?, &place, &marks)?;
    if let Parameters::Passphrase { .. } = slot.parameters {
        // Whoever has just chosen the passphrase need not type it again.
        unlocked::remember(&site.store, &slot.digest, provider, None)?;
    }
    Ok(true)
}

struct Filled {
    site: Arc<Site>,
    anchor: Key,
    marks: Vec<Mark>,
    slot: Slot,
}

/// Writes the first state of a vault, or of a store that nobody is in yet, into an empty file.
fn fill(
    path: &Path,
    kind: Kind,
    site: Arc<Site>,
    parameters: Parameters,
    provider: &Key,
    retention: Retention,
    now: i64,
) -> Result<Filled> {
    let rows = Sqlite::begin_new(path)?;
    let (root, anchor) = (RootKey::random()?, Key::random()?);
    rows.put(keys::STORE, &site.row())?;
    let slot = Slot::seal(&site, FIRST_SLOT, parameters, provider, &root)?;
    rows.put(keys::SLOTS, &slot.row()?)?;

    let ledger = Ledger::new(retention, now);
    let keys = OwnerKeys::new(&root.key, root.epoch)?;
    let mut directory: Directory = Index::new(site.clone(), site.store, keys.clone(), "directory", ledger);
    let slot_fact = Fact::Slot { parameters: slot.digest, commit: slot.commit()? };
    directory.put(&rows, Listing::new(directory::slot_name(FIRST_SLOT), &slot_fact)?)?;
    directory.put(&rows, Listing::new(directory::ANCHOR.into(), &Fact::Anchor { key: *anchor.bytes() })?)?;

    let mark = |owner, sequence| Mark { owner, incarnation: site.incarnation, sequence };
    let mut marks = Vec::new();
    if kind == Kind::Vault {
        let mut secrets = add_person(&rows, &site, &keys, &mut directory, retention, now)?;
        secrets.index.save(&rows)?;
        let owner = Listing::new(directory::OWNER.into(), &Fact::Owner { user: secrets.user })?;
        directory.put(&rows, owner)?;
        marks.push(mark(secrets.user, secrets.index.sequence));
    }
    directory.save(&rows)?;
    marks.push(mark(site.store, directory.sequence));
    if kind == Kind::Store {
        marks.push(mark(audit::owner(&site.store), 0));
    }
    rows.commit()?;
    Ok(Filled { site, anchor, marks, slot })
}

/// Makes a key for somebody new, whose (still empty) secrets it answers with. Neither index is saved yet.
pub(crate) fn add_person(
    rows: &impl Rows,
    site: &Arc<Site>,
    root: &OwnerKeys,
    directory: &mut Directory,
    retention: Retention,
    now: i64,
) -> Result<Secrets> {
    let (user, key) = (random_id()?, Key::random()?);
    let context = Context::UserKey { store: &site.store, user: &user, epoch: FIRST_EPOCH };
    let sealed = seal(&root.boxes, root.epoch, &context, key.bytes())?;
    rows.put(&keys::user_key(&user, FIRST_EPOCH), &sealed)?;
    let fact = Fact::User(User {
        epoch: FIRST_EPOCH,
        commit: commit_to(&sealed)?,
        uid: platform::effective_user(),
        created: now,
    });
    directory.put(rows, Listing::new(directory::user_name(&user), &fact)?)?;
    Ok(Secrets::new(site.clone(), user, OwnerKeys::new(&key, FIRST_EPOCH)?, Ledger::new(retention, now)))
}
