//! A sealed map from names to entries, cut into pages under a manifest: the authority on what a vault answers.
//!
//! The manifest is sealed for its place in the sequence and holds the commitment of every page; an entry holds the
//! commitments of the records it stands for. A read, and a miss, opens the manifest and one page; a write replaces
//! one page and the manifest in one transaction. So a row that was deleted, swapped, added or put back from an older
//! state is found by the first read that touches it. Byte layout: `FORMAT.md`, "The index".
use crate::key::{Id, Key, Purpose};
use crate::rows::{Rows, keys};
use crate::sealed_box::{BoxError, Context, open, seal};
use crate::secret::Ledger;
use crate::site::{Part, Site, commit_to, encode};
use crate::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use sha2::Sha256;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use zeroize::Zeroizing;

/// The layout of manifests and pages inside their boxes.
const LAYOUT: u8 = 1;
/// Pages are doubled in number when they hold more than this on average, in bytes. A read opens one manifest, of 32
/// bytes a page, and one page: at 10,000 secrets of one version the two are about even.
const PAGE_TARGET: u64 = 8 * 1024;

/// The key of an index's owner, and its subkey for boxes.
#[derive(Clone)]
pub(crate) struct OwnerKeys {
    pub(crate) epoch: u32,
    pub(crate) boxes: Key,
    key: Key,
}

impl OwnerKeys {
    pub(crate) fn new(key: &Key, epoch: u32) -> Result<OwnerKeys> {
        Ok(OwnerKeys { epoch, boxes: key.subkey(Purpose::Box)?, key: key.clone() })
    }
}

/// What an index holds, found by name, which must be its first field.
pub(crate) trait Entry: Serialize + DeserializeOwned + Clone {
    fn name(&self) -> &str;
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    layout: u8,
    /// The pages' commitments, one after the other. The number of pages is a power of two.
    #[serde(with = "serde_bytes")]
    commits: Vec<u8>,
    /// How many entries all pages hold.
    entries: u64,
    /// How many bytes all pages have before sealing.
    bytes: u64,
    ledger: Ledger,
}

/// A page inside its box. Each entry is encoded on its own and begins with its name, so that a search decodes only
/// what it looks for.
#[derive(Serialize, Deserialize)]
struct SealedPage<'a> {
    layout: u8,
    #[serde(borrow)]
    entries: Vec<&'a Bytes>,
}

struct Page<E> {
    /// In the order of their names' bytes.
    entries: Vec<E>,
    /// As it was read; 0 if it is new.
    bytes: u64,
    changed: bool,
}

/// An index as one transaction sees it, with the pages that were looked at.
pub(crate) struct Index<E> {
    site: Rc<Site>,
    owner: Id,
    pub(crate) keys: OwnerKeys,
    /// What messages call it.
    what: &'static str,
    /// The manifest's row as it was read; none for an index that is new.
    row: Option<Vec<u8>>,
    pub(crate) sequence: u64,
    manifest: Manifest,
    pages: BTreeMap<u32, Page<E>>,
    /// The page that was searched last, as it came out of its box.
    opened: RefCell<Option<(u32, Zeroizing<Vec<u8>>)>>,
}

impl<E: Entry> Index<E> {
    /// An index that is not stored yet: one empty page.
    pub(crate) fn new(site: Rc<Site>, owner: Id, keys: OwnerKeys, what: &'static str, ledger: Ledger) -> Index<E> {
        let manifest = Manifest { layout: LAYOUT, commits: vec![0; 32], entries: 0, bytes: 0, ledger };
        let pages = BTreeMap::from([(0, Page { entries: Vec::new(), bytes: 0, changed: true })]);
        Index { site, owner, keys, what, row: None, sequence: 0, manifest, pages, opened: RefCell::default() }
    }

    /// Opens the manifest of `owner`.
    pub(crate) fn load(
        rows: &impl Rows,
        site: Rc<Site>,
        owner: Id,
        keys: OwnerKeys,
        what: &'static str,
    ) -> Result<Index<E>> {
        let part = Part::Manifest(what);
        let row = rows.get(&keys::manifest(&owner))?.ok_or_else(|| site.missing(part))?;
        let (sequence, sealed) = row.split_first_chunk().ok_or_else(|| site.unsealed(part, BoxError::Malformed))?;
        let sequence = u64::from_be_bytes(*sequence);
        let context = Context::Manifest { store: &site.store, owner: &owner, incarnation: &site.incarnation, sequence };
        let plain = open(&keys.boxes, &context, sealed).map_err(|e| site.unsealed(part, e))?;
        let manifest: Manifest = site.decode(part, &plain)?;
        let pages = manifest.commits.len() / 32;
        if manifest.layout != LAYOUT || !pages.is_power_of_two() || !manifest.commits.len().is_multiple_of(32) {
            return Err(site.unsealed(part, BoxError::UnknownFormat));
        }
        Ok(Index {
            site,
            owner,
            keys,
            what,
            row: Some(row),
            sequence,
            manifest,
            pages: BTreeMap::new(),
            opened: RefCell::default(),
        })
    }

    /// The entry of that name.
    pub(crate) fn find(&self, rows: &impl Rows, name: &str) -> Result<Option<E>> {
        let number = self.page_of(name)?;
        if let Some(page) = self.pages.get(&number) {
            let found = page.entries.binary_search_by(|e| e.name().cmp(name));
            return Ok(found.ok().map(|i| page.entries[i].clone()));
        }
        let mut opened = self.opened.borrow_mut();
        let plain = match opened.as_ref() {
            Some((last, plain)) if *last == number => plain,
            _ => &opened.insert((number, self.open_page(rows, number)?)).1,
        };
        let page = self.read_page(number, plain)?;
        // Each entry begins with its name.
        let named = |entry: &&&Bytes| postcard::take_from_bytes::<&str>(entry).is_ok_and(|(n, _)| n == name);
        page.entries.iter().find(named).map(|entry| self.read_entry(number, entry)).transpose()
    }

    /// Adds an entry, or replaces the one of the same name.
    pub(crate) fn put(&mut self, rows: &impl Rows, entry: E) -> Result<()> {
        let number = self.page_of(entry.name())?;
        let page = self.page(rows, number)?;
        page.changed = true;
        match page.entries.binary_search_by(|e| e.name().cmp(entry.name())) {
            Ok(i) => page.entries[i] = entry,
            Err(i) => {
                page.entries.insert(i, entry);
                self.manifest.entries += 1;
            }
        }
        Ok(())
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, rows: &impl Rows, name: &str) -> Result<Option<E>> {
        let number = self.page_of(name)?;
        let page = self.page(rows, number)?;
        let Ok(i) = page.entries.binary_search_by(|e| e.name().cmp(name)) else { return Ok(None) };
        page.changed = true;
        let entry = page.entries.remove(i);
        self.manifest.entries = self.manifest.entries.saturating_sub(1);
        Ok(Some(entry))
    }

    /// All entries, in no order that means anything.
    pub(crate) fn all(&mut self, rows: &impl Rows) -> Result<impl Iterator<Item = &E>> {
        self.load_all(rows)?;
        Ok(self.pages.values().flat_map(|p| &p.entries))
    }

    /// All entries, taken out of the index as this transaction sees it.
    pub(crate) fn take_all(&mut self, rows: &impl Rows) -> Result<Vec<E>> {
        self.load_all(rows)?;
        Ok(std::mem::take(&mut self.pages).into_values().flat_map(|p| p.entries).collect())
    }

    /// Opens every page.
    pub(crate) fn load_all(&mut self, rows: &impl Rows) -> Result<()> {
        for number in 0..self.page_count() {
            self.page(rows, number)?;
        }
        Ok(())
    }

    /// The owner's settings and clock, sealed with the manifest.
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.manifest.ledger
    }

    /// Writes what was changed, as the next in the sequence.
    pub(crate) fn save(&mut self, rows: &impl Rows) -> Result<()> {
        let mut encoded = BTreeMap::new();
        for (&number, page) in self.pages.iter_mut().filter(|(_, p)| p.changed) {
            let bytes = encode_page(&page.entries)?;
            self.manifest.bytes = (self.manifest.bytes + bytes.len() as u64).saturating_sub(page.bytes);
            page.bytes = bytes.len() as u64;
            encoded.insert(number, bytes);
        }
        if self.manifest.bytes > u64::from(self.page_count()) * PAGE_TARGET {
            encoded = self.divide(rows)?;
        }
        for (number, plain) in encoded {
            let context = Context::Page { store: &self.site.store, owner: &self.owner, page: number };
            let sealed = seal(&self.keys.boxes, self.keys.epoch, &context, &plain)?;
            self.manifest.commits[number as usize * 32..][..32].copy_from_slice(&commit_to(&sealed)?);
            rows.put(&keys::page(&self.owner, number), &sealed)?;
        }
        self.write_manifest(rows)
    }

    /// Writes the manifest alone, as the next in the sequence: for a new incarnation.
    pub(crate) fn write_manifest(&mut self, rows: &impl Rows) -> Result<()> {
        self.sequence += 1;
        let context = Context::Manifest {
            store: &self.site.store,
            owner: &self.owner,
            incarnation: &self.site.incarnation,
            sequence: self.sequence,
        };
        let sealed = seal(&self.keys.boxes, self.keys.epoch, &context, &encode(&self.manifest)?)?;
        let row = [&self.sequence.to_be_bytes()[..], &sealed].concat();
        let key = keys::manifest(&self.owner);
        match &self.row {
            None => rows.put(&key, &row)?,
            Some(read) if rows.replace(&key, read, &row)? => {}
            // A database that locks less than SQLite does: its writers try again.
            Some(_) => return Err(Error::Busy(self.site.database.clone())),
        }
        self.row = Some(row);
        Ok(())
    }

    /// Moves to a new incarnation, at a sequence number no copy has seen.
    pub(crate) fn reincarnate(&mut self, site: Rc<Site>, beyond: u64) {
        self.site = site;
        self.sequence = self.sequence.max(beyond);
    }

    /// Spreads all entries over so many pages that they hold at most half of [`PAGE_TARGET`] on average.
    fn divide(&mut self, rows: &impl Rows) -> Result<BTreeMap<u32, Zeroizing<Vec<u8>>>> {
        self.load_all(rows)?;
        let mut count = u64::from(self.page_count());
        while self.manifest.bytes > count * PAGE_TARGET {
            count *= 2;
        }
        let count = u32::try_from(count).map_err(|_| Error::Internal("too many pages"))?;
        let entries: Vec<E> = std::mem::take(&mut self.pages).into_values().flat_map(|p| p.entries).collect();
        self.manifest.commits = vec![0; count as usize * 32];
        for number in 0..count {
            self.pages.insert(number, Page { entries: Vec::new(), bytes: 0, changed: true });
        }
        for entry in entries {
            let number = self.page_of(entry.name())?;
            if let Some(page) = self.pages.get_mut(&number) {
                page.entries.push(entry);
            }
        }
        self.manifest.bytes = 0;
        let mut encoded = BTreeMap::new();
        for (&number, page) in &mut self.pages {
            page.entries.sort_by(|a, b| a.name().cmp(b.name()));
            let bytes = encode_page(&page.entries)?;
            page.bytes = bytes.len() as u64;
            self.manifest.bytes += page.bytes;
            encoded.insert(number, bytes);
        }
        Ok(encoded)
    }

    fn page_count(&self) -> u32 {
        (self.manifest.commits.len() / 32) as u32
    }

    /// The page a name lies in: the low bits of a keyed hash, so that rows do not tell how names are spelt.
    fn page_of(&self, name: &str) -> Result<u32> {
        if self.page_count() == 1 {
            return Ok(0);
        }
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.keys.key.subkey(Purpose::Page)?.bytes());
        let tag =
            mac.map_err(|_| Error::Internal("HMAC key length"))?.chain_update(name.as_bytes()).finalize().into_bytes();
        Ok(u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]) & (self.page_count() - 1))
    }

    /// A page with all its entries, for changing it or for going through them.
    fn page(&mut self, rows: &impl Rows, number: u32) -> Result<&mut Page<E>> {
        if !self.pages.contains_key(&number) {
            let plain = self.open_page(rows, number)?;
            let page = self.read_page(number, &plain)?;
            let entries = page.entries.iter().map(|entry| self.read_entry(number, entry)).collect::<Result<_>>()?;
            self.pages.insert(number, Page { entries, bytes: plain.len() as u64, changed: false });
        }
        self.pages.get_mut(&number).ok_or(Error::Internal("a page that was just read is gone"))
    }

    fn open_page(&self, rows: &impl Rows, number: u32) -> Result<Zeroizing<Vec<u8>>> {
        let part = Part::Page(number, self.what);
        let expected = &self.manifest.commits[number as usize * 32..][..32];
        let sealed = self.site.read_expected(rows, &keys::page(&self.owner, number), expected, part)?;
        let context = Context::Page { store: &self.site.store, owner: &self.owner, page: number };
        open(&self.keys.boxes, &context, &sealed).map_err(|e| self.site.unsealed(part, e))
    }

    fn read_page<'p>(&self, number: u32, plain: &'p [u8]) -> Result<SealedPage<'p>> {
        let page: SealedPage = self.site.decode(Part::Page(number, self.what), plain)?;
        if page.layout != LAYOUT {
            return Err(self.site.unsealed(Part::Page(number, self.what), BoxError::UnknownFormat));
        }
        Ok(page)
    }

    fn read_entry(&self, number: u32, entry: &[u8]) -> Result<E> {
        self.site.decode(Part::Page(number, self.what), entry)
    }
}

fn encode_page<E: Entry>(entries: &[E]) -> Result<Zeroizing<Vec<u8>>> {
    let entries = entries.iter().map(encode).collect::<Result<Vec<_>>>()?;
    let entries = entries.iter().map(|e| Bytes::new(e)).collect();
    encode(&SealedPage { layout: LAYOUT, entries })
}
