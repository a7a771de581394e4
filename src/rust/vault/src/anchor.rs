//! The anchor: the highest sequence number seen of each index, and the store's incarnation, kept outside the
//! database. It tells an older copy of the whole file, which nothing inside the file can.
//!
//! It is read before a read transaction begins, and raised after a commit: it may lag behind the database and never
//! leads it, so it needs no fsync. Each index has a cell with two copies, written in turn, so that a torn write
//! leaves the other one. Byte layout: `FORMAT.md`, "The anchor".
use crate::key::{Id, Key};
use crate::place::Place;
use crate::plain::Plain;
use crate::platform::{self, User};
use crate::site::Site;
use crate::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One copy: format, owner, incarnation, sequence, zeroes, MAC.
const COPY: usize = 128;
/// What the MAC is over, after the store's id.
const FIELDS: usize = 96;
const CELL: usize = 2 * COPY;
const FORMAT: u32 = 1;
/// More than the anchor of an embedded vault has, in bytes.
const LIMIT: usize = 1024;

/// What an anchor says of one index.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) owner: Id,
    pub(crate) incarnation: Id,
    pub(crate) sequence: u64,
}

impl Mark {
    fn encode(&self, site: &Site, key: &Key) -> Result<[u8; COPY]> {
        let mut copy = [0; COPY];
        copy[..4].copy_from_slice(&FORMAT.to_be_bytes());
        copy[4..20].copy_from_slice(&self.owner);
        copy[20..36].copy_from_slice(&self.incarnation);
        copy[36..44].copy_from_slice(&self.sequence.to_be_bytes());
        let mac = mac(site, key, &copy[..FIELDS])?.finalize().into_bytes();
        copy[FIELDS..].copy_from_slice(&mac);
        Ok(copy)
    }

    /// The mark of a copy that is genuine, and of this format: a later one may mean something else by its fields.
    fn decode(site: &Site, key: &Key, copy: &[u8; COPY]) -> Option<Mark> {
        mac(site, key, &copy[..FIELDS]).ok()?.verify_slice(&copy[FIELDS..]).ok()?;
        if copy[..4] != FORMAT.to_be_bytes() {
            return None;
        }
        Some(Mark {
            owner: copy[4..20].try_into().ok()?,
            incarnation: copy[20..36].try_into().ok()?,
            sequence: u64::from_be_bytes(copy[36..44].try_into().ok()?),
        })
    }
}

fn mac(site: &Site, key: &Key, fields: &[u8]) -> Result<Hmac<Sha256>> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key.bytes()).map_err(|_| Error::Internal("HMAC key length"))?;
    Ok(mac.chain_update(site.store).chain_update(fields))
}

/// The anchor file as it was before the transaction began, not yet verified: the key to that comes later.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Anchor {
    bytes: Option<Arc<Plain>>,
}

impl Anchor {
    pub(crate) fn read(place: &Place) -> Result<Anchor> {
        Ok(Anchor { bytes: platform::read_private(&place.anchor(), LIMIT, User::now())?.map(Arc::new) })
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.bytes.is_none()
    }

    /// The newest genuine mark of an index.
    pub(crate) fn mark(&self, site: &Site, key: &Key, owner: &Id) -> Option<Mark> {
        newest(site, key, owner, self.bytes.as_deref()?).map(|(_, mark)| mark)
    }
}

/// The newest genuine mark of `owner`, with the offset of its cell. Other cells are passed over.
fn newest(site: &Site, key: &Key, owner: &Id, bytes: &[u8]) -> Option<(usize, Mark)> {
    let (copies, _) = bytes.as_chunks::<COPY>();
    let mut copies: Vec<_> = copies.iter().enumerate().filter(|(_, copy)| copy[4..20] == *owner).collect();
    // The highest number first, so that the other copy need not be checked.
    copies.sort_by(|(_, a), (_, b)| b[36..44].cmp(&a[36..44]));
    copies.into_iter().find_map(|(i, copy)| Some((i * COPY / CELL * CELL, Mark::decode(site, key, copy)?)))
}

/// Raises the marks after a commit. `key` is the anchor key's subkey, here and below. A lock that is not had within a second is let go: the anchor may lag.
pub(crate) fn raise(site: &Site, key: &Key, place: &Place, marks: &[Mark]) -> Result<()> {
    let path = place.anchor();
    let Some((file, _)) = platform::open_private(&path, true, User::now())? else { return Ok(()) };
    platform::wait_for_lock(&file, &path, Duration::from_secs(1))?;
    let bytes = platform::read_up_to(&file, LIMIT).map_err(|e| Error::io("read", &path, e))?;
    for mark in marks {
        match newest(site, key, &mark.owner, &bytes) {
            Some((cell, seen)) if seen.incarnation == mark.incarnation && seen.sequence < mark.sequence => {
                let offset = cell + COPY * (mark.sequence % 2) as usize;
                let copy = mark.encode(site, key)?;
                platform::write_at(&file, &copy, offset as u64).map_err(|e| Error::io("write", &path, e))?;
            }
            // As high already, or of an incarnation that came after ours.
            _ => {}
        }
    }
    Ok(())
}

/// Makes the anchor of a new vault, durably. The caller holds the creation lock; if the anchor is there already,
/// somebody made it first, and perhaps raised it since.
pub(crate) fn establish(site: &Site, key: &Key, place: &Place, marks: &[Mark]) -> Result<()> {
    let path = place.anchor();
    if platform::look(&path)?.is_some() {
        return Ok(());
    }
    platform::write_durably(&path, &place.config.join("anchor.new"), &cells(site, key, marks)?)
}

/// Writes the marks of an accepted restore, durably, over whatever the anchor said. The caller holds the creation lock.
pub(crate) fn reset(site: &Site, key: &Key, place: &Place, marks: &[Mark]) -> Result<()> {
    let path = place.anchor();
    let Some((file, _)) = platform::open_private(&path, true, User::now())? else {
        return establish(site, key, place, marks);
    };
    // In place, so that everyone who waits for its lock waits for the same file.
    place.wait_for(&file, &path)?;
    let bytes = cells(site, key, marks)?;
    let written = file.set_len(bytes.len() as u64).and_then(|()| platform::write_at(&file, &bytes, 0));
    written.and_then(|()| file.sync_all()).map_err(|e| Error::io("write", &path, e))
}

fn cells(site: &Site, key: &Key, marks: &[Mark]) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(marks.len() * CELL);
    for mark in marks {
        let copy = mark.encode(site, key)?;
        bytes.extend_from_slice(&copy);
        bytes.extend_from_slice(&copy);
    }
    Ok(bytes)
}

/// The anchor of a store with many owners, kept open by the one process that has the store. It knows where each cell
/// lies, and writes at the end of the file for an owner it does not know yet.
pub(crate) struct Cells {
    file: File,
    path: PathBuf,
    /// By owner: the cell's offset in bytes, and its mark.
    known: HashMap<Id, (u64, Mark)>,
    /// Where the next cell goes.
    end: u64,
}

impl Cells {
    /// Reads all marks; those that are not genuine are not known.
    pub(crate) fn open(site: &Site, key: &Key, place: &Place) -> Result<Option<Cells>> {
        let path = place.anchor();
        let Some((file, found)) = platform::open_private(&path, true, User::now())? else { return Ok(None) };
        let length = usize::try_from(found.bytes()).map_err(|_| Error::Internal("the anchor's size"))?;
        let bytes = platform::read_up_to(&file, length).map_err(|e| Error::io("read", &path, e))?;
        let (cells, _) = bytes.as_chunks::<CELL>();
        let mut known = HashMap::with_capacity(cells.len());
        for (i, cell) in cells.iter().enumerate() {
            let (copies, _) = cell.as_chunks::<COPY>();
            let marks = copies.iter().filter_map(|copy| Mark::decode(site, key, copy));
            if let Some(mark) = marks.max_by_key(|mark| mark.sequence) {
                known.insert(mark.owner, ((i * CELL) as u64, mark));
            }
        }
        // What a kill in the middle of a write at the end has left is written over.
        let end = (cells.len() * CELL) as u64;
        Ok(Some(Cells { file, path, known, end }))
    }

    pub(crate) fn mark(&self, owner: &Id) -> Option<Mark> {
        self.known.get(owner).map(|(_, mark)| *mark)
    }

    /// Raises a mark after a commit.
    pub(crate) fn raise(&mut self, site: &Site, key: &Key, mark: Mark) -> Result<()> {
        let copy = mark.encode(site, key)?;
        let failed = |e| Error::io("write", &self.path, e);
        match self.known.get(&mark.owner) {
            Some((_, seen)) if seen.sequence >= mark.sequence => {}
            Some(&(cell, _)) => {
                let offset = cell + COPY as u64 * (mark.sequence % 2);
                platform::write_at(&self.file, &copy, offset).map_err(failed)?;
                self.known.insert(mark.owner, (cell, mark));
            }
            None => {
                platform::write_at(&self.file, &[copy, copy].concat(), self.end).map_err(failed)?;
                self.known.insert(mark.owner, (self.end, mark));
                self.end += CELL as u64;
            }
        }
        Ok(())
    }

    /// Forgets owners who came last and never came to be, so that those who come next have their cells.
    pub(crate) fn take_back(&mut self, owners: &[Id]) -> Result<()> {
        for owner in owners.iter().rev() {
            match self.known.get(owner) {
                Some((cell, _)) if cell + CELL as u64 == self.end => self.end = *cell,
                _ => continue,
            }
            self.known.remove(owner);
        }
        self.file.set_len(self.end).map_err(|e| Error::io("write", &self.path, e))
    }

    /// The file, for flushing it while others go on.
    pub(crate) fn file(&self) -> Result<File> {
        self.file.try_clone().map_err(|e| Error::io("open", &self.path, e))
    }

    /// Makes what was raised survive a loss of power.
    pub(crate) fn flush(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| Error::io("flush", &self.path, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{Purpose, unhex};
    use crate::place::Kind;
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

    /// The cells of `vectors/keys.json`, which the Python implementation shares: as an embedded vault and as a store read them.
    #[test]
    fn cells_of_the_vectors() {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/keys.json");
        let vectors: serde_json::Value = serde_json::from_slice(&std::fs::read(vectors).unwrap()).unwrap();
        let vectors = vectors["cell"].as_array().unwrap();
        assert!(vectors.len() >= 15);
        for vector in vectors {
            let bytes = |field: &str| unhex(vector[field].as_str().unwrap()).unwrap();
            let id = |field: &str| Id::try_from(bytes(field).as_slice()).unwrap();
            let site = Site { database: PathBuf::new(), store: id("store"), incarnation: [0; 16] };
            let key = Key::from_bytes(&bytes("anchor_key")).unwrap().subkey(Purpose::Anchor).unwrap();
            let (owner, cell) = (id("owner"), bytes("cell"));
            let mark = &vector["mark"];
            let expected = mark["sequence"].as_u64().map(|sequence| {
                let incarnation = unhex(mark["incarnation"].as_str().unwrap()).unwrap();
                (incarnation.to_vec(), sequence)
            });
            let told = |mark: Option<Mark>| mark.map(|mark| (mark.incarnation.to_vec(), mark.sequence));
            let found = newest(&site, &key, &owner, &cell).map(|(_, mark)| mark);
            assert_eq!(told(found), expected, "{vector}");

            let home = tempfile::tempdir().unwrap();
            let place = Place::under(Kind::Store, home.path().into());
            std::fs::DirBuilder::new().mode(0o700).create(&place.config).unwrap();
            let file =
                std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(place.anchor()).unwrap();
            platform::write_at(&file, &cell, 0).unwrap();
            let cells = Cells::open(&site, &key, &place).unwrap().unwrap();
            assert_eq!(told(cells.mark(&owner)), expected, "{vector}");
        }
    }

    /// A copy that a later version has written, its MAC right, says nothing here.
    #[test]
    fn a_copy_of_another_format_counts_as_none() {
        let site = Site { database: "/nowhere".into(), store: [1; 16], incarnation: [2; 16] };
        let key = Key::random().unwrap();
        let mark = |sequence| Mark { owner: [3; 16], incarnation: [2; 16], sequence };
        let [known, mut other] = [mark(4), mark(5)].map(|mark| mark.encode(&site, &key).unwrap());
        let found = |copies: [[u8; COPY]; 2]| newest(&site, &key, &[3; 16], &copies.concat()).map(|(_, m)| m.sequence);
        assert_eq!(found([known, other]), Some(5));
        for format in [0, 2, 1 << 24] {
            other[..4].copy_from_slice(&u32::to_be_bytes(format));
            let mac = mac(&site, &key, &other[..FIELDS]).unwrap().finalize().into_bytes();
            other[FIELDS..].copy_from_slice(&mac);
            assert_eq!(found([known, other]), Some(4), "{format}");
            assert_eq!(found([other, other]), None, "{format}");
        }
    }
}
