//! The anchor: the highest sequence number seen of each index, and the store's incarnation, kept outside the
//! database. It tells an older copy of the whole file, which nothing inside the file can.
//!
//! It is read before a read transaction begins, and raised after a commit: it may lag behind the database and never
//! leads it, so it needs no fsync. Each index has a cell with two copies, written in turn, so that a torn write
//! leaves the other one. Byte layout: `FORMAT.md`, "The anchor".
use crate::key::{Id, Key};
use crate::place::Place;
use crate::platform;
use crate::site::Site;
use crate::{Error, Result};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// One copy: owner, incarnation, sequence, MAC, then zeroes.
const COPY: usize = 128;
const CELL: usize = 2 * COPY;
const MAC: usize = 32;
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
    fn mac(&self, site: &Site, key: &Key) -> Result<Hmac<Sha256>> {
        let mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(key.bytes()).map_err(|_| Error::Internal("HMAC key length"))?;
        Ok(mac.chain_update(site.store).chain_update(self.fields()))
    }

    fn fields(&self) -> [u8; 40] {
        let mut fields = [0; 40];
        fields[..16].copy_from_slice(&self.owner);
        fields[16..32].copy_from_slice(&self.incarnation);
        fields[32..].copy_from_slice(&self.sequence.to_be_bytes());
        fields
    }

    fn encode(&self, site: &Site, key: &Key) -> Result<[u8; COPY]> {
        let mut copy = [0; COPY];
        copy[..40].copy_from_slice(&self.fields());
        copy[40..40 + MAC].copy_from_slice(&self.mac(site, key)?.finalize().into_bytes());
        Ok(copy)
    }

    fn decode(site: &Site, key: &Key, copy: &[u8]) -> Option<Mark> {
        let mark = Mark {
            owner: copy.get(..16)?.try_into().ok()?,
            incarnation: copy.get(16..32)?.try_into().ok()?,
            sequence: u64::from_be_bytes(copy.get(32..40)?.try_into().ok()?),
        };
        mark.mac(site, key).ok()?.verify_slice(copy.get(40..40 + MAC)?).ok()?;
        Some(mark)
    }
}

/// The anchor file as it was before the transaction began, not yet verified: the key to that comes later.
#[derive(PartialEq, Eq)]
pub(crate) struct Anchor {
    bytes: Option<Vec<u8>>,
}

impl Anchor {
    pub(crate) fn read(place: &Place) -> Result<Anchor> {
        let bytes = platform::read_private(&place.anchor(), LIMIT)?;
        Ok(Anchor { bytes: bytes.map(|b| b.to_vec()) })
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.bytes.is_none()
    }

    /// The newest genuine mark of an index.
    pub(crate) fn mark(&self, site: &Site, key: &Key, owner: &Id) -> Option<Mark> {
        newest(site, key, owner, self.bytes.as_deref()?).map(|(_, mark)| mark)
    }
}

/// The newest genuine mark of `owner`, with the offset of its cell.
fn newest(site: &Site, key: &Key, owner: &Id, bytes: &[u8]) -> Option<(usize, Mark)> {
    let mut copies: Vec<(usize, &[u8])> =
        bytes.chunks_exact(COPY).enumerate().filter(|(_, c)| c[..16] == *owner).collect();
    // The highest number first, so that the other copy need not be checked.
    copies.sort_by(|(_, a), (_, b)| b[32..40].cmp(&a[32..40]));
    copies.into_iter().find_map(|(i, copy)| Some((i * COPY / CELL * CELL, Mark::decode(site, key, copy)?)))
}

/// Raises the marks after a commit. `key` is the root key's subkey for the anchor, here and below. A lock that is not had within a second is let go: the anchor may lag.
pub(crate) fn raise(site: &Site, key: &Key, place: &Place, marks: &[Mark]) -> Result<()> {
    let path = place.anchor();
    let Some(file) = platform::open_private(&path, true)? else { return Ok(()) };
    platform::wait_for_lock(&file, &path, Duration::from_secs(1))?;
    let bytes = contents(&file, &path)?;
    for mark in marks {
        match newest(site, key, &mark.owner, &bytes) {
            Some((cell, seen)) if seen.incarnation == mark.incarnation && seen.sequence < mark.sequence => {
                let offset = cell + COPY * (mark.sequence % 2) as usize;
                let copy = mark.encode(site, key)?;
                file.write_all_at(&copy, offset as u64).map_err(|e| Error::io("write", &path, e))?;
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
    let Some(file) = platform::open_private(&path, true)? else { return establish(site, key, place, marks) };
    // In place, so that everyone who waits for its lock waits for the same file.
    platform::wait_for_lock(&file, &path, Duration::from_secs(60))?;
    let bytes = cells(site, key, marks)?;
    let written = file.set_len(bytes.len() as u64).and_then(|()| file.write_all_at(&bytes, 0));
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

fn contents(file: &File, path: &Path) -> Result<Vec<u8>> {
    let length = file.metadata().map_err(|e| Error::io("look at", path, e))?.len().min(LIMIT as u64);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(|e| Error::io("read", path, e))?;
    Ok(bytes)
}
