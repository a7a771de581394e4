//! The chain of keys: from a slot over the directory to the owner's key. A process that has followed it remembers it,
//! together with what leads to it (the store's row, the slots, the directory's manifest, the key file's identity), and
//! a read takes it again if all of that is the same to the byte: it saves a quarter of a read's time. So it does with
//! the owner's manifest and with the anchor. A write follows the keys anew, so that nothing is written into a vault
//! that nobody else could open.
use crate::anchor::{Anchor, Mark};
use crate::directory::{self, Directory, Fact};
use crate::index::{Index, Opened, OwnerKeys};
use crate::key::{Id, Key, Purpose};
use crate::place::Place;
use crate::platform::{self, FileIdentity};
use crate::rows::{Intent, Rows, keys};
use crate::sealed_box::{BoxError, Context, open};
use crate::secrets::Secrets;
use crate::site::{Part, Site};
use crate::slot::{Parameters, RootKey, Slot};
use crate::sync::lock;
use crate::{Error, Result, key_file, unlocked};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// The keys of a vault, as far as its owner needs them.
pub(crate) struct Chain {
    pub(crate) root: RootKey,
    /// The anchor's key.
    pub(crate) anchor: Key,
    pub(crate) directory_sequence: u64,
    pub(crate) user: Id,
    pub(crate) owner: Arc<OwnerKeys>,
    /// The owner's manifest as it was opened last.
    opened: Mutex<Option<Opened>>,
    /// The anchor that was last found to agree with what it is about.
    pub(crate) agreed: Mutex<Option<(Anchor, [Mark; 2])>>,
}

impl Chain {
    /// The owner's secrets, from the row of the manifest.
    pub(crate) fn secrets(&self, site: &Arc<Site>, manifest: Option<Vec<u8>>) -> Result<Secrets> {
        Secrets::open(manifest, &mut lock(&self.opened), site.clone(), self.user, self.owner.clone())
    }
}

/// The rows that a chain is derived from: the store's, the slots', and the directory's manifest. The directory's pages and
/// the owner's sealed key need not be looked at again: the manifest says what they are.
type Evidence = [Option<Vec<u8>>; 3];

/// Where the provider's key came from.
enum Source {
    KeyFile(PathBuf, FileIdentity),
    /// The slot's digest: the chain holds for as long as the vault stays unlocked.
    Passphrase([u8; 32]),
}

struct Memory {
    evidence: Evidence,
    source: Source,
    site: Arc<Site>,
    chain: Arc<Chain>,
}

/// Where a chain ends.
pub(crate) struct Followed {
    pub(crate) site: Arc<Site>,
    pub(crate) chain: Arc<Chain>,
    /// The row of the owner's manifest.
    pub(crate) manifest: Option<Vec<u8>>,
}

/// The chain that was followed last. A forked child inherits it.
static LAST: Mutex<Option<Memory>> = Mutex::new(None);

/// Forgets the keys that this process remembers; answers whether there were any.
pub(crate) fn forget() -> bool {
    lock(&LAST).take().is_some()
}

/// What can be known of a vault without a key.
pub(crate) fn slots(rows: &impl Rows, place: &Place) -> Result<(Site, Vec<Slot>)> {
    let site = Site::parse(place.database(), rows.get(keys::STORE)?.as_deref())?;
    let row = rows.get(keys::SLOTS)?.ok_or_else(|| site.missing(Part::Slots))?;
    let slots = Slot::parse_all(&site, &row)?;
    Ok((site, slots))
}

/// The chain of keys of a vault.
pub(crate) fn follow(rows: &impl Rows, place: &Place, intent: Intent) -> Result<Followed> {
    let mut last = lock(&LAST);
    if intent == Intent::Read
        && let Some(memory) = last.as_ref()
        && let Some(followed) = memory.recall(rows, place)?
    {
        return Ok(followed);
    }
    // Of no more use: a vault that was locked meanwhile, by time or by another process, leaves no keys here.
    *last = None;
    let store = rows.get(keys::STORE)?;
    let site = Arc::new(Site::parse(place.database(), store.as_deref())?);
    let row = rows.get(keys::SLOTS)?.ok_or_else(|| site.missing(Part::Slots))?;
    let slots = Slot::parse_all(&site, &row)?;
    let (slot, source, root) = open_any(&slots, &site, place)?;
    let directory = directory(rows, &site, &root)?;
    let chain = Arc::new(walk(rows, &site, &directory, slot, root)?);
    let manifest = rows.get(&keys::manifest(&chain.user))?;
    let evidence = [store, Some(row), rows.get(&keys::manifest(&site.store))?];
    *last = Some(Memory { evidence, source, site: site.clone(), chain: chain.clone() });
    Ok(Followed { site, chain, manifest })
}

impl Memory {
    /// The chain, if all that it is derived from is as it was.
    fn recall(&self, rows: &impl Rows, place: &Place) -> Result<Option<Followed>> {
        // As bytes: paths compare part by part.
        if self.site.database.as_os_str() != place.database().as_os_str() {
            return Ok(None);
        }
        let manifests = [keys::manifest(&self.site.store), keys::manifest(&self.chain.user)];
        let mut found = rows.get_each(&[keys::STORE, keys::SLOTS, &manifests[0], &manifests[1]])?;
        let manifest = found.pop().flatten();
        if found != self.evidence || !self.source.still_holds(&self.site)? {
            return Ok(None);
        }
        Ok(Some(Followed { site: self.site.clone(), chain: self.chain.clone(), manifest }))
    }
}

/// The directory, under the root key.
pub(crate) fn directory(rows: &impl Rows, site: &Arc<Site>, root: &RootKey) -> Result<Directory> {
    let manifest = rows.get(&keys::manifest(&site.store))?;
    Index::open(manifest, &mut None, site.clone(), site.store, OwnerKeys::new(&root.key, root.epoch)?, "directory")
}

impl Source {
    fn of(slot: &Slot, place: &Place) -> Result<Source> {
        match &slot.parameters {
            Parameters::KeyFile { id } => {
                let path = key_file::path(&place.config, id);
                // Before the file is read: should it change in between, the next look tells.
                let identity = identity(&path)?.unwrap_or_default();
                Ok(Source::KeyFile(path, identity))
            }
            Parameters::Passphrase { .. } => Ok(Source::Passphrase(slot.digest)),
        }
    }

    fn still_holds(&self, site: &Site) -> Result<bool> {
        match self {
            Source::KeyFile(path, known) => Ok(identity(path)?.as_ref() == Some(known)),
            Source::Passphrase(slot) => Ok(unlocked::find(&site.store, slot).is_some()),
        }
    }
}

fn identity(path: &Path) -> Result<Option<FileIdentity>> {
    Ok(platform::look(path)?.as_ref().map(FileIdentity::of))
}

/// The root key, by the first slot that opens.
fn open_any<'s>(slots: &'s [Slot], site: &Site, place: &Place) -> Result<(&'s Slot, Source, RootKey)> {
    let mut first = None;
    for slot in slots {
        let source = Source::of(slot, place)?;
        match slot.open(site, place) {
            Ok(root) => return Ok((slot, source, root)),
            Err(e) => first = first.or(Some(e)),
        }
    }
    Err(first.unwrap_or_else(|| site.missing(Part::Slots)))
}

/// From the root key to the owner's: the slot must be genuine, and the key the one the directory means.
fn walk(rows: &impl Rows, site: &Arc<Site>, directory: &Directory, slot: &Slot, root: RootKey) -> Result<Chain> {
    check_slot(rows, site, directory, slot)?;
    // A store of many people under the name of a vault has none.
    let Some(Fact::Owner { user }) = directory::fact(rows, site, directory, directory::OWNER)? else {
        return Err(Error::ServerStore(site.database.clone()));
    };
    Ok(Chain {
        owner: person_keys(rows, site, directory, &user)?
            .ok_or_else(|| site.damaged("the directory does not name the owner's key"))?,
        anchor: anchor_key(rows, site, directory)?,
        directory_sequence: directory.sequence,
        user,
        root,
        opened: Mutex::default(),
        agreed: Mutex::default(),
    })
}

/// The root key of a store that no person has unlocked: by the first slot that opens, and is genuine.
pub(crate) fn open_store(rows: &impl Rows, place: &Place) -> Result<(Arc<Site>, RootKey, Directory)> {
    let (site, slots) = slots(rows, place)?;
    let site = Arc::new(site);
    let (slot, _, root) = open_any(&slots, &site, place)?;
    let directory = directory(rows, &site, &root)?;
    check_slot(rows, &site, &directory, slot)?;
    Ok((site, root, directory))
}

fn check_slot(rows: &impl Rows, site: &Site, directory: &Directory, slot: &Slot) -> Result<()> {
    match directory::fact(rows, site, directory, &directory::slot_name(slot.number))? {
        Some(Fact::Slot { parameters, commit }) => slot.check(site, &parameters, &commit),
        _ => Err(site.damaged(format!("key slot {} is not one of this vault's", slot.number))),
    }
}

/// The anchor key's subkey.
pub(crate) fn anchor_key(rows: &impl Rows, site: &Site, directory: &Directory) -> Result<Key> {
    let Some(Fact::Anchor { key }) = directory::fact(rows, site, directory, directory::ANCHOR)? else {
        return Err(site.damaged("the directory does not name the anchor's key"));
    };
    let key = Zeroizing::new(key);
    Key::from_bytes(key.as_slice()).ok_or(Error::Internal("anchor key length"))?.subkey(Purpose::Anchor)
}

/// The keys of a person; none if the directory does not know them.
pub(crate) fn person_keys(
    rows: &impl Rows,
    site: &Site,
    directory: &Directory,
    user: &Id,
) -> Result<Option<Arc<OwnerKeys>>> {
    let Some(Fact::User(known)) = directory::fact(rows, site, directory, &directory::user_name(user))? else {
        return Ok(None);
    };
    let context = Context::UserKey { store: &site.store, user, epoch: known.epoch };
    let sealed = site.read_expected(rows, &keys::user_key(user, known.epoch), &known.commit, Part::OwnerKey)?;
    let key = open(&directory.keys.boxes, &context, &sealed).map_err(|e| site.unsealed(Part::OwnerKey, e))?;
    let key = Key::from_bytes(&key).ok_or_else(|| site.unsealed(Part::OwnerKey, BoxError::Malformed))?;
    OwnerKeys::new(&key, known.epoch).map(Some)
}
