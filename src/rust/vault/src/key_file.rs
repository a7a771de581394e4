//! The key file: the default way to the root key. `FORMAT.md`, "The key file".
use crate::key::{Key, hex, unhex};
use crate::platform::{self, User};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const TITLE: &str = "dkusecrets root key, format 1";
const ADVICE: &str = "Keep a copy apart from the vault: who has both reads all secrets, who loses this loses them.";
/// More than any key file has, in bytes.
const LIMIT: usize = 1024;

/// Where the key of that id lies.
pub(crate) fn path(directory: &Path, id: &[u8; 8]) -> PathBuf {
    directory.join(format!("root-{}.key", hex(id)))
}

/// Writes a new key, durably, and answers with it and its id.
pub(crate) fn create(directory: &Path) -> Result<(Key, [u8; 8])> {
    let key = Key::random()?;
    let id = key.id()?;
    let digits = Zeroizing::new(hex(key.bytes()));
    let text = Zeroizing::new(format!("{TITLE}\n{ADVICE}\nid {}\nkey {}\n", hex(&id), *digits));
    platform::write_durably(&path(directory, &id), &directory.join("root.key.new"), text.as_bytes())?;
    Ok((key, id))
}

/// The key of that id; nothing if there is no such file.
pub(crate) fn read(directory: &Path, id: &[u8; 8]) -> Result<Option<Key>> {
    let path = path(directory, id);
    let Some(bytes) = platform::read_private(&path, LIMIT, User::now())? else { return Ok(None) };
    let wrong = |reason: &str| Error::WrongKey { path: path.clone(), reason: reason.into() };
    let key = parse(&bytes).ok_or_else(|| wrong("is damaged"))?;
    if key.id()? != *id {
        return Err(wrong("holds another key than its name says"));
    }
    Ok(Some(key))
}

fn parse(bytes: &[u8]) -> Option<Key> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != TITLE {
        return None;
    }
    let digits = lines.find_map(|l| l.strip_prefix("key "))?;
    Key::from_bytes(&unhex(digits)?)
}

/// All key files in a directory, with the ids their names tell.
pub(crate) fn find_all(directory: &Path) -> Result<Vec<(PathBuf, [u8; 8])>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("list", directory, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| Error::io("list", directory, e))?.path();
        let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("root-")?.strip_suffix(".key"));
        if let Some(id) = id.and_then(unhex).and_then(|id| id.as_slice().try_into().ok()) {
            found.push((path, id));
        }
    }
    found.sort();
    Ok(found)
}
