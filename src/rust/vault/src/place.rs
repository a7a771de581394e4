//! Where a vault lies, and whether that is safe: looked at before every operation.
use crate::platform::{self, check_ancestors, check_private_directory, check_private_file};
use crate::{Error, Result, key_file};
use std::path::{Path, PathBuf};

/// The directories of a vault: its data, and apart from them its key and anchor.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// A directory that must be there already: chosen by a person, so if it is not, it was misspelt or not mounted.
    pub(crate) home: Option<PathBuf>,
    pub(crate) data: PathBuf,
    pub(crate) config: PathBuf,
}

/// What was found at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No vault, and no trace of one.
    Nothing,
    /// A vault. Its paths are canonical in the place that comes with it.
    Vault,
}

impl Place {
    pub(crate) fn database(&self) -> PathBuf {
        self.data.join("vault.db")
    }

    pub(crate) fn anchor(&self) -> PathBuf {
        self.config.join("anchor")
    }

    /// Held while a vault is created.
    pub(crate) fn creation_lock(&self) -> PathBuf {
        self.config.join("creation.lock")
    }

    /// Looks at the place and refuses what is unsafe. Answers with the place in canonical paths.
    pub(crate) fn survey(&self) -> Result<(Found, Place)> {
        if let Some(home) = &self.home {
            self.check_home(home)?;
        }
        let place = Place { home: None, data: settle(&self.data)?, config: settle(&self.config)? };
        if let Some(found) = platform::look(&place.config)? {
            refuse_non_directory(&place.config, &found)?;
            check_private_directory(&place.config, &found)?;
        }
        let Some(found) = platform::look(&place.data)? else {
            return place.without_database();
        };
        refuse_non_directory(&place.data, &found)?;
        check_private_directory(&place.data, &found)?;
        let database = place.database();
        match platform::look(&database)? {
            None => place.without_database(),
            Some(found) => {
                check_private_file(&database, &found)?;
                Ok((Found::Vault, place))
            }
        }
    }

    /// Makes the directories, safely, for a vault that is about to be created.
    pub(crate) fn prepare(&self) -> Result<Place> {
        for directory in [&self.config, &self.data] {
            check_ancestors(&nearest(directory)?)?;
            platform::make_private_directory(directory)?;
        }
        Ok(Place { home: None, data: platform::canonical(&self.data)?, config: platform::canonical(&self.config)? })
    }

    fn check_home(&self, home: &Path) -> Result<()> {
        if !home.is_absolute() {
            return Err(Error::Path { path: home.into(), reason: "is not an absolute path; the vault's directory must be one".into() });
        }
        match std::fs::metadata(home) {
            Ok(found) => refuse_non_directory(home, &found),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Path {
                path: home.into(),
                reason: "does not exist: create it (mode 0700) if the vault is to lie there, or is a disk not mounted?".into(),
            }),
            Err(e) => Err(Error::io("look at", home, e)),
        }
    }

    /// No database: fine for a place that never had one. A key alone is what a creation leaves that was cut short.
    fn without_database(self) -> Result<(Found, Place)> {
        let witness = self.anchor();
        if platform::look(&witness)?.is_some() {
            return Err(Error::VaultMissing { database: self.database(), witness });
        }
        Ok((Found::Nothing, self))
    }

    /// The one key file that a creation which was cut short has left; more than one cannot come from that.
    pub(crate) fn orphaned_key(&self) -> Result<Option<[u8; 8]>> {
        match key_file::find_all(&self.config)?.as_slice() {
            [] => Ok(None),
            [(_, id)] => Ok(Some(*id)),
            [(first, _), ..] => Err(Error::VaultMissing { database: self.database(), witness: first.clone() }),
        }
    }
}

fn refuse_non_directory(path: &Path, found: &std::fs::Metadata) -> Result<()> {
    if found.is_dir() {
        return Ok(());
    }
    Err(Error::Path { path: path.into(), reason: "is not a directory, and the vault needs one there".into() })
}

/// The part of a path that exists.
fn nearest(path: &Path) -> Result<PathBuf> {
    for ancestor in path.ancestors() {
        match std::fs::canonicalize(ancestor) {
            Ok(there) => return Ok(there),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("look at", ancestor, e)),
        }
    }
    Err(Error::Path { path: path.into(), reason: "is not an absolute path".into() })
}

/// A path without links if it exists, or as it is.
fn settle(path: &Path) -> Result<PathBuf> {
    match std::fs::canonicalize(path) {
        Ok(there) => Ok(there),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(path.into()),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}
