//! A sealed map from names to entries, cut into pages under a manifest: the authority on what a vault answers.
//!
//! The manifest is sealed for its place in the sequence and holds the commitment of every page; an entry holds the
//! commitments of the records it stands for. A read, and a miss, opens the manifest and one page; a write replaces
//! one page and the manifest in one transaction. So a row that was deleted, swapped, added or put back from an older
//! state is found by the first read that touches it. Byte layout: `FORMAT.md`, "The index".
use crate::key::{Id, Key, Purpose};
use crate::plain::Plain;
use crate::rows::{Rows, keys};
use crate::sealed_box::{BoxError, Context, open, seal};
use crate::secret::Ledger;
use crate::site::{Part, Site, commit_to, encode};
use crate::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};
use sha2::Sha256;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The layout of manifests and pages inside their boxes.
const LAYOUT: u8 = 1;
/// Pages are doubled in number when they hold more than this on average, in bytes. A read opens one manifest, of 32
/// bytes a page, and one page: at 10,000 secrets of one version the two are about even.
const PAGE_TARGET: u64 = 8 * 1024;

/// The subkeys of an index's owner: for boxes, for choosing pages, and for tokens.
pub(crate) struct OwnerKeys {
    pub(crate) epoch: u32,
    pub(crate) boxes: Key,
    pages: Key,
    pub(crate) tokens: Key,
}

impl OwnerKeys {
    pub(crate) fn new(key: &Key, epoch: u32) -> Result<Arc<OwnerKeys>> {
        let [boxes, pages, tokens] = [Purpose::Box, Purpose::Page, Purpose::Token].map(|purpose| key.subkey(purpose));
        Ok(Arc::new(OwnerKeys { epoch, boxes: boxes?, pages: pages?, tokens: tokens? }))
    }
}

/// What an index holds, found by name, which must be its first field.
pub(crate) trait Entry: Serialize + DeserializeOwned + Clone {
    fn name(&self) -> &str;
}

#[derive(Clone, Serialize, Deserialize)]
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
    extra: Extra,
}

/// A manifest that was opened, with the row it was in: the same row need not be opened again.
pub(crate) struct Opened {
    row: Vec<u8>,
    sequence: u64,
    manifest: Arc<Manifest>,
}

/// Room for what later versions add: numbered fields, kept as they are by versions that don't know them. An entry and
/// a manifest end with it.
pub(crate) type Extra = Vec<(u32, ByteBuf)>;

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
    site: Arc<Site>,
    owner: Id,
    pub(crate) keys: Arc<OwnerKeys>,
    /// What messages call it.
    what: &'static str,
    /// The manifest's row as it was read; none for an index that is new.
    row: Option<Vec<u8>>,
    pub(crate) sequence: u64,
    manifest: Arc<Manifest>,
    pages: BTreeMap<u32, Page<E>>,
    /// The page that was searched last, as it came out of its box.
    opened: RefCell<Option<(u32, Plain)>>,
}

impl Opened {
    fn open(row: Vec<u8>, site: &Site, owner: &Id, keys: &OwnerKeys, what: &str) -> Result<Opened> {
        let part = Part::Manifest(what);
        let (sequence, sealed) = row.split_first_chunk().ok_or_else(|| site.unsealed(part, BoxError::Malformed))?;
        let sequence = u64::from_be_bytes(*sequence);
        let context = Context::Manifest { store: &site.store, owner, incarnation: &site.incarnation, sequence };
        let plain = open(&keys.boxes, &context, sealed).map_err(|e| site.unsealed(part, e))?;
        let manifest: Manifest = site.decode(part, &plain)?;
        let pages = manifest.commits.len() / 32;
        if manifest.layout != LAYOUT || !pages.is_power_of_two() || !manifest.commits.len().is_multiple_of(32) {
            return Err(site.unsealed(part, BoxError::UnknownFormat));
        }
        Ok(Opened { row, sequence, manifest: Arc::new(manifest) })
    }
}

impl<E: Entry> Index<E> {
    /// An index that is not stored yet: one empty page.
    pub(crate) fn new(
        site: Arc<Site>,
        owner: Id,
        keys: Arc<OwnerKeys>,
        what: &'static str,
        ledger: Ledger,
    ) -> Index<E> {
        let manifest =
            Manifest { layout: LAYOUT, commits: vec![0; 32], entries: 0, bytes: 0, ledger, extra: Extra::new() };
        let manifest = Arc::new(manifest);
        let pages = BTreeMap::from([(0, Page { entries: Vec::new(), bytes: 0, changed: true })]);
        Index { site, owner, keys, what, row: None, sequence: 0, manifest, pages, opened: RefCell::default() }
    }

    /// Opens the manifest of `owner`, whose row this is, unless it is the one that was opened before.
    pub(crate) fn open(
        row: Option<Vec<u8>>,
        before: &mut Option<Opened>,
        site: Arc<Site>,
        owner: Id,
        keys: Arc<OwnerKeys>,
        what: &'static str,
    ) -> Result<Index<E>> {
        let row = row.ok_or_else(|| site.missing(Part::Manifest(what)))?;
        let opened = match before.take() {
            Some(opened) if opened.row == row => opened,
            _ => Opened::open(row.clone(), &site, &owner, &keys, what)?,
        };
        let (sequence, manifest) = (opened.sequence, opened.manifest.clone());
        *before = Some(opened);
        let (pages, opened) = (BTreeMap::new(), RefCell::default());
        Ok(Index { site, owner, keys, what, row: Some(row), sequence, manifest, pages, opened })
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
        // In the order of their names (FORMAT.md, "The index"); `page()` refuses a page that is not.
        let at = page.entries.partition_point(|entry| name_of(entry) < name);
        let found = page.entries.get(at).filter(|entry| name_of(entry) == name);
        found.map(|entry| self.read_entry(number, entry)).transpose()
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
                Arc::make_mut(&mut self.manifest).entries += 1;
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
        let manifest = Arc::make_mut(&mut self.manifest);
        manifest.entries = manifest.entries.saturating_sub(1);
        Ok(Some(entry))
    }

    /// All entries, in no order that means anything.
    pub(crate) fn all(&mut self, rows: &impl Rows) -> Result<impl Iterator<Item = &E>> {
        self.load_all(rows)?;
        Ok(self.loaded())
    }

    /// The entries of the pages that were opened so far.
    pub(crate) fn loaded(&self) -> impl Iterator<Item = &E> {
        self.pages.values().flat_map(|p| &p.entries)
    }

    /// All entries, taken out of the index as this transaction sees it.
    pub(crate) fn take_all(&mut self, rows: &impl Rows) -> Result<Vec<E>> {
        self.load_all(rows)?;
        Ok(std::mem::take(&mut self.pages).into_values().flat_map(|p| p.entries).collect())
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> u64 {
        self.manifest.entries
    }

    /// A number that a version which does not know it keeps as it is. `FORMAT.md`, "The index".
    pub(crate) fn number(&self, field: u32) -> Option<u64> {
        let (_, bytes) = self.manifest.extra.iter().find(|(number, _)| *number == field)?;
        bytes.as_slice().try_into().ok().map(u64::from_be_bytes)
    }

    pub(crate) fn set_number(&mut self, field: u32, value: u64) {
        let extra = &mut Arc::make_mut(&mut self.manifest).extra;
        extra.retain(|(number, _)| *number != field);
        extra.push((field, ByteBuf::from(value.to_be_bytes())));
    }

    /// Opens every page that can be opened; answers with what is wrong.
    pub(crate) fn load_each(&mut self, rows: &impl Rows) -> Vec<Error> {
        let wrong: Vec<Error> = (0..self.page_count()).filter_map(|number| self.page(rows, number).err()).collect();
        if wrong.is_empty() { self.check_count().err().into_iter().collect() } else { wrong }
    }

    /// Opens every page.
    pub(crate) fn load_all(&mut self, rows: &impl Rows) -> Result<()> {
        for number in 0..self.page_count() {
            self.page(rows, number)?;
        }
        self.check_count()
    }

    /// Refuses if all pages together hold more or fewer entries than the manifest says.
    fn check_count(&self) -> Result<()> {
        let entries: usize = self.pages.values().map(|page| page.entries.len()).sum();
        if entries as u64 != self.manifest.entries {
            return Err(self.site.unsealed(Part::Manifest(self.what), BoxError::Tampered));
        }
        Ok(())
    }

    /// The owner's settings and clock, sealed with the manifest.
    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut Arc::make_mut(&mut self.manifest).ledger
    }

    /// Writes what was changed, as the next in the sequence.
    pub(crate) fn save(&mut self, rows: &impl Rows) -> Result<()> {
        let mut encoded = BTreeMap::new();
        let manifest = Arc::make_mut(&mut self.manifest);
        for (&number, page) in self.pages.iter_mut().filter(|(_, p)| p.changed) {
            let bytes = encode_page(&page.entries)?;
            manifest.bytes = (manifest.bytes + bytes.len() as u64).saturating_sub(page.bytes);
            page.bytes = bytes.len() as u64;
            encoded.insert(number, bytes);
        }
        if self.manifest.bytes > u64::from(self.page_count()) * PAGE_TARGET {
            encoded = self.divide(rows)?;
        }
        for (number, plain) in encoded {
            let context = Context::Page { store: &self.site.store, owner: &self.owner, page: number };
            let sealed = seal(&self.keys.boxes, self.keys.epoch, &context, &plain)?;
            let commits = &mut Arc::make_mut(&mut self.manifest).commits;
            commits[number as usize * 32..][..32].copy_from_slice(&commit_to(&sealed)?);
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
        let sealed = seal(&self.keys.boxes, self.keys.epoch, &context, &encode(&*self.manifest)?)?;
        let row = [&self.sequence.to_be_bytes()[..], &sealed].concat();
        let key = keys::manifest(&self.owner);
        match &self.row {
            None => rows.put(&key, &row)?,
            Some(read) if rows.replace(&key, read, &row)? => {}
            // Only where a database lets two transactions write at once, as SQLite does not.
            Some(_) => return Err(Error::Busy(self.site.database.clone())),
        }
        self.row = Some(row);
        Ok(())
    }

    /// Moves to a new incarnation, at a sequence number no copy has seen.
    pub(crate) fn reincarnate(&mut self, site: Arc<Site>, beyond: u64) {
        self.site = site;
        self.sequence = self.sequence.max(beyond);
    }

    /// Spreads all entries over so many pages that they hold at most [`PAGE_TARGET`] on average.
    fn divide(&mut self, rows: &impl Rows) -> Result<BTreeMap<u32, Plain>> {
        self.load_all(rows)?;
        let mut count = u64::from(self.page_count());
        while self.manifest.bytes > count * PAGE_TARGET {
            count *= 2;
        }
        let count = u32::try_from(count).map_err(|_| Error::Internal("too many pages"))?;
        let entries: Vec<E> = std::mem::take(&mut self.pages).into_values().flat_map(|p| p.entries).collect();
        Arc::make_mut(&mut self.manifest).commits = vec![0; count as usize * 32];
        for number in 0..count {
            self.pages.insert(number, Page { entries: Vec::new(), bytes: 0, changed: true });
        }
        for entry in entries {
            let number = self.page_of(entry.name())?;
            if let Some(page) = self.pages.get_mut(&number) {
                page.entries.push(entry);
            }
        }
        let manifest = Arc::make_mut(&mut self.manifest);
        manifest.bytes = 0;
        let mut encoded = BTreeMap::new();
        for (&number, page) in &mut self.pages {
            page.entries.sort_by(|a, b| a.name().cmp(b.name()));
            let bytes = encode_page(&page.entries)?;
            page.bytes = bytes.len() as u64;
            manifest.bytes += page.bytes;
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
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(self.keys.pages.bytes());
        let tag =
            mac.map_err(|_| Error::Internal("HMAC key length"))?.chain_update(name.as_bytes()).finalize().into_bytes();
        Ok(u32::from_be_bytes([tag[0], tag[1], tag[2], tag[3]]) & (self.page_count() - 1))
    }

    /// A page with all its entries, for changing it or for going through them.
    fn page(&mut self, rows: &impl Rows, number: u32) -> Result<&mut Page<E>> {
        if !self.pages.contains_key(&number) {
            let plain = match self.opened.take() {
                Some((searched, plain)) if searched == number => plain,
                _ => self.open_page(rows, number)?,
            };
            let page = self.read_page(number, &plain)?;
            let entries =
                page.entries.iter().map(|entry| self.read_entry(number, entry)).collect::<Result<Vec<E>>>()?;
            // A search relies on it.
            if !entries.is_sorted_by(|a, b| a.name() < b.name()) {
                return Err(self.site.unsealed(Part::Page(number, self.what), BoxError::UnknownFormat));
            }
            self.pages.insert(number, Page { entries, bytes: plain.len() as u64, changed: false });
        }
        self.pages.get_mut(&number).ok_or(Error::Internal("a page that was just read is gone"))
    }

    fn open_page(&self, rows: &impl Rows, number: u32) -> Result<Plain> {
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

/// An entry begins with its name. What begins with none is found under no name, and refused by `page()`.
fn name_of(entry: &[u8]) -> &str {
    postcard::take_from_bytes(entry).map_or("", |(name, _)| name)
}

fn encode_page<E: Entry>(entries: &[E]) -> Result<Plain> {
    let entries = entries.iter().map(encode).collect::<Result<Vec<_>>>()?;
    let entries = entries.iter().map(|e| Bytes::new(e)).collect();
    encode(&SealedPage { layout: LAYOUT, entries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Visit;
    use proptest::prelude::*;

    /// Rows in a map.
    #[derive(Default)]
    struct Memory(RefCell<BTreeMap<Vec<u8>, Vec<u8>>>);

    impl Rows for Memory {
        fn get_each(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
            Ok(keys.iter().map(|key| self.0.borrow().get(*key).cloned()).collect())
        }
        fn scan(&self, prefix: &[u8], visit: &mut Visit) -> Result<()> {
            self.0.borrow().iter().filter(|(k, _)| k.starts_with(prefix)).try_for_each(|(k, v)| visit(k, v))
        }
        fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
            self.0.borrow_mut().insert(key.into(), value.into());
            Ok(())
        }
        fn replace(&self, key: &[u8], expected: &[u8], value: &[u8]) -> Result<bool> {
            let was = self.get(key)?.as_deref() == Some(expected);
            if was {
                self.put(key, value)?;
            }
            Ok(was)
        }
        fn delete(&self, key: &[u8]) -> Result<bool> {
            Ok(self.0.borrow_mut().remove(key).is_some())
        }
        fn integrity(&self) -> Result<Option<String>> {
            Ok(None)
        }
        fn commit(self) -> Result<()> {
            Ok(())
        }
    }

    #[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
    struct Word {
        name: String,
        text: String,
    }

    impl Entry for Word {
        fn name(&self) -> &str {
            &self.name
        }
    }

    fn site() -> Arc<Site> {
        Arc::new(Site { database: "/nowhere".into(), store: [1; 16], incarnation: [2; 16] })
    }

    fn owner_keys() -> Arc<OwnerKeys> {
        OwnerKeys::new(&Key::from_bytes(&[3; 32]).unwrap(), 1).unwrap()
    }

    fn new() -> Index<Word> {
        Index::new(site(), [4; 16], owner_keys(), "index", Ledger::default())
    }

    fn load(rows: &Memory) -> Index<Word> {
        let manifest = rows.get(&keys::manifest(&[4; 16])).unwrap();
        Index::open(manifest, &mut None, site(), [4; 16], owner_keys(), "index").unwrap()
    }

    /// `FORMAT.md`, "The index": the number of which the remainder is the page.
    fn format_says(name: &str) -> u32 {
        let mut key = [0; 32];
        crate::key::expand(&[3; 32], None, &[b"dkusecrets/v1/page"], &mut key).unwrap();
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap().chain_update(name).finalize().into_bytes();
        u32::from_be_bytes(mac[..4].try_into().unwrap())
    }

    /// What the manifest says of the pages is so, and each entry lies where a search looks for it.
    fn check(rows: &Memory, expected: &BTreeMap<String, String>) {
        let mut index = load(rows);
        let pages = index.page_count();
        assert!(pages.is_power_of_two() && index.manifest.bytes <= u64::from(pages) * PAGE_TARGET);
        let plain: Vec<_> = (0..pages).map(|number| index.open_page(rows, number).unwrap()).collect();
        assert_eq!(plain.iter().map(|p| p.len() as u64).sum::<u64>(), index.manifest.bytes);
        assert_eq!(index.manifest.entries, expected.len() as u64);
        for (name, text) in expected {
            assert_eq!(index.find(rows, name).unwrap().unwrap().text, *text);
            assert_eq!(index.find(rows, &format!("{name} ")).unwrap(), None);
        }
        index.load_all(rows).unwrap();
        for (&number, page) in &index.pages {
            assert!(page.entries.is_sorted_by(|a, b| a.name < b.name));
            assert!(page.entries.iter().all(|e| format_says(&e.name) % pages == number));
        }
        let all: BTreeMap<_, _> = index.take_all(rows).unwrap().into_iter().map(|w| (w.name, w.text)).collect();
        assert_eq!(all, *expected);
    }

    #[test]
    fn every_name_is_found_at_any_size() {
        let (rows, mut expected) = (Memory::default(), BTreeMap::new());
        new().save(&rows).unwrap();
        check(&rows, &expected);
        let mut counts = Vec::new();
        for size in [1, 2, 10, 100, 500, 2_000, 10_000] {
            let mut index = load(&rows);
            for i in expected.len()..size {
                let word = Word { name: format!("name {i}"), text: "text ".repeat(i % 30) };
                expected.insert(word.name.clone(), word.text.clone());
                index.put(&rows, word).unwrap();
            }
            let before = index.sequence;
            index.save(&rows).unwrap();
            assert_eq!(index.sequence, before + 1);
            check(&rows, &expected);
            counts.push(index.page_count());
        }
        assert!(counts[0] == 1 && counts.is_sorted() && counts[6] >= 64, "{counts:?}");
        let mut index = load(&rows);
        for i in (0..10_000).step_by(3) {
            let name = format!("name {i}");
            assert_eq!(index.take(&rows, &name).unwrap().map(|w| w.name), expected.remove_entry(&name).map(|e| e.0));
            assert_eq!(index.take(&rows, &name).unwrap(), None);
        }
        index.save(&rows).unwrap();
        check(&rows, &expected);
    }

    /// An entry alone that is larger than a page is meant to be.
    #[test]
    fn entries_larger_than_a_page() {
        let (rows, mut expected) = (Memory::default(), BTreeMap::new());
        let mut index = new();
        for i in 0..20 {
            let word = Word { name: format!("name {i}"), text: "x".repeat(i * 3_000) };
            expected.insert(word.name.clone(), word.text.clone());
            index.put(&rows, word).unwrap();
            index.save(&rows).unwrap();
            check(&rows, &expected);
        }
    }

    /// Pages that hold more or fewer entries than the manifest says: only other software can have written that.
    #[test]
    fn a_manifest_that_cannot_count() {
        for wrong in [0, 2, u64::MAX] {
            let (rows, mut index) = (Memory::default(), new());
            index.put(&rows, Word { name: "a".into(), text: "1".into() }).unwrap();
            Arc::make_mut(&mut index.manifest).entries = wrong;
            index.save(&rows).unwrap();
            assert_eq!(load(&rows).load_all(&rows).unwrap_err().kind(), "damaged");
        }
    }

    /// Two that read the same state cannot both write.
    #[test]
    fn the_second_of_two_writers_is_refused() {
        let rows = Memory::default();
        new().save(&rows).unwrap();
        let (mut one, mut other) = (load(&rows), load(&rows));
        one.put(&rows, Word { name: "a".into(), text: "1".into() }).unwrap();
        one.save(&rows).unwrap();
        assert_eq!(other.write_manifest(&rows).unwrap_err().kind(), "busy");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, usize),
        Take(u8),
        Find(u8),
        All,
        Save,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (any::<u8>(), 0..2_000_usize).prop_map(|(name, length)| Step::Put(name, length)),
            2 => any::<u8>().prop_map(Step::Take),
            3 => any::<u8>().prop_map(Step::Find),
            1 => Just(Step::All),
            2 => Just(Step::Save),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_sequence_agrees_with_a_map(steps in prop::collection::vec(step(), 1..120)) {
            let (rows, mut expected) = (Memory::default(), BTreeMap::new());
            let mut index = new();
            index.save(&rows).unwrap();
            for step in steps {
                match step {
                    Step::Put(name, length) => {
                        let word = Word { name: format!("{name}"), text: "x".repeat(length) };
                        expected.insert(word.name.clone(), word.text.clone());
                        index.put(&rows, word).unwrap();
                    }
                    Step::Take(name) => {
                        let taken = index.take(&rows, &name.to_string()).unwrap().map(|w| w.text);
                        prop_assert_eq!(taken, expected.remove(&name.to_string()));
                    }
                    Step::Find(name) => {
                        let found = index.find(&rows, &name.to_string()).unwrap().map(|w| w.text);
                        prop_assert_eq!(found.as_ref(), expected.get(&name.to_string()));
                    }
                    Step::All => prop_assert_eq!(index.all(&rows).unwrap().count(), expected.len()),
                    Step::Save => {
                        index.save(&rows).unwrap();
                        index = load(&rows);
                    }
                }
            }
            index.save(&rows).unwrap();
            check(&rows, &expected);
        }
    }
}
