//! Which vault this is, and the words for what is wrong with a part of it.
use crate::error::quoted;
use crate::key::Id;
use crate::plain::Plain;
use crate::rows::Rows;
use crate::sealed_box::{BoxError, Commit, commit_of};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The format this version writes and reads. `FORMAT.md`.
pub(crate) const FORMAT: u32 = 1;

/// Which vault this is: what every context begins with, and the path that messages name.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) database: PathBuf,
    pub(crate) store: Id,
    pub(crate) incarnation: Id,
}

impl Site {
    /// The store's row: format, store id, incarnation.
    pub(crate) fn row(&self) -> Vec<u8> {
        [&FORMAT.to_be_bytes()[..], &self.store, &self.incarnation].concat()
    }

    /// Reads the store's row, whose first four bytes are the format in every version.
    pub(crate) fn parse(database: PathBuf, row: Option<&[u8]>) -> Result<Site> {
        let mut site = Site { database, store: [0; 16], incarnation: [0; 16] };
        let row = row.ok_or_else(|| site.damaged("the store's row is missing"))?;
        match row.split_first_chunk().map(|(format, rest)| (u32::from_be_bytes(*format), rest)) {
            Some((FORMAT, ids)) if ids.len() == 32 => {
                site.store.copy_from_slice(&ids[..16]);
                site.incarnation.copy_from_slice(&ids[16..]);
                Ok(site)
            }
            Some((found, _)) if found > FORMAT => Err(Error::NewerFormat { path: site.database, found }),
            _ => Err(site.damaged("the store's row was changed")),
        }
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.database.clone(), what: what.into() }
    }

    pub(crate) fn missing(&self, part: Part) -> Error {
        self.damaged(format!("{part} is missing"))
    }

    /// Why a box under a key that is known to be right did not open.
    pub(crate) fn unsealed(&self, part: Part, error: BoxError) -> Error {
        self.damaged(match error {
            BoxError::Malformed => format!("{part} is cut short or not a sealed box"),
            BoxError::UnknownFormat => format!("{part} has an unknown format"),
            BoxError::WrongKeyOrContext => format!("{part} was changed, or belongs to another place"),
            BoxError::Tampered => format!("{part} was changed"),
        })
    }

    /// Reads the sealed box of a row, which must be the very one that the index knows.
    pub(crate) fn read_expected(&self, rows: &impl Rows, key: &[u8], expected: &[u8], part: Part) -> Result<Vec<u8>> {
        let sealed = rows.get(key)?.ok_or_else(|| self.missing(part))?;
        self.check_expected(&sealed, expected, part)?;
        Ok(sealed)
    }

    /// Refuses a box that is not the very one that the index knows.
    pub(crate) fn check_expected(&self, sealed: &[u8], expected: &[u8], part: Part) -> Result<()> {
        match commit_of(sealed) {
            Some(commit) if commit[..] == *expected => Ok(()),
            Some(_) => Err(self.damaged(format!("{part} was changed, or replaced by another or an older one"))),
            None => Err(self.unsealed(part, BoxError::Malformed)),
        }
    }

    /// The value that bytes stand for.
    pub(crate) fn decode<'b, T: Deserialize<'b>>(&self, part: Part, bytes: &'b [u8]) -> Result<T> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            _ => {
                Err(self
                    .damaged(format!("{part} cannot be understood; perhaps a newer version of dkusecrets wrote it")))
            }
        }
    }
}

/// A part of a vault, as messages call it.
#[derive(Clone, Copy)]
pub(crate) enum Part<'a> {
    Slots,
    Slot(u32),
    OwnerKey,
    /// Of which index.
    Manifest(&'a str),
    /// Which page of which index.
    Page(u32, &'a str),
    /// Of which secret, in which version.
    Value(&'a str, u64),
    /// Which event of the audit log.
    Event(u64),
    AuditHead,
}

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Slots => f.write_str("the row of key slots"),
            Part::Slot(number) => write!(f, "key slot {number}"),
            Part::OwnerKey => f.write_str("the owner's key"),
            Part::Manifest(index) => write!(f, "the manifest of the {index}"),
            Part::Page(number, index) => write!(f, "page {number} of the {index}"),
            Part::Event(number) => write!(f, "event {number} of the audit log"),
            Part::AuditHead => f.write_str("the head of the audit log"),
            Part::Value(name, version) => write!(f, "the value of {} (version {version})", quoted(name)),
        }
    }
}

/// The commitment of a box that was just sealed.
pub(crate) fn commit_to(sealed: &[u8]) -> Result<Commit> {
    commit_of(sealed).ok_or(Error::Internal("a sealed box without a commitment"))
}

/// The plain form of what is sealed: postcard, whose wire format is published.
pub(crate) fn encode(value: &impl Serialize) -> Result<Plain> {
    postcard::to_allocvec(value).map(Plain::from).map_err(|_| Error::Internal("could not encode"))
}
