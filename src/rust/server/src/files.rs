//! Files and directories that an operator names: nobody else may be able to write to them, or to read what is secret.
use crate::problem::{Problem, Result};
use std::fs::{Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// More than any settings, certificates or key need.
const MOST_BYTES: u64 = 1024 * 1024;

/// What is read by the server and decides what it does.
pub fn read_trusted(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    read(path, |found| {
        (found.mode() & 0o022 != 0).then(|| format!("others can write to it: chmod go-w {}", path.display()))
    })
}

/// What nobody else may read. A group may, where root has given the file to it: so services get at keys of root's.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    read(path, |found| {
        let open = if found.uid() == 0 && vault::effective_user() != 0 { 0o027 } else { 0o077 };
        (found.mode() & open != 0).then(|| format!("others can read or replace it: chmod 600 {}", path.display()))
    })
}

/// Reads a file that belongs to root or to this program's account, and about which `wrong` has nothing to say.
fn read(path: &Path, wrong: impl Fn(&Metadata) -> Option<String>) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |e: std::io::Error| Problem::bad(format!("{} cannot be read: {e}", path.display()));
    let refused = |why: String| Problem::bad(format!("{}: {why}", path.display()));
    // What was opened is what is looked at; of a pipe, opening waits for nobody who writes to it.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err(refused("it is no file".into()));
    }
    if !own(&found) {
        return Err(refused(format!("it belongs to user id {}, neither to root nor to you", found.uid())));
    }
    if let Some(why) = wrong(&found) {
        return Err(refused(why));
    }
    if found.len() > MOST_BYTES {
        return Err(refused("it is too large".into()));
    }
    // In one piece, as a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(found.len()).unwrap_or(0) + 1));
    file.take(found.len()).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Whether others can put something else in the place of what is in a directory.
pub fn replaceable(directory: &Metadata) -> bool {
    let sticky = directory.mode() & 0o1000 != 0;
    !own(directory) || (directory.mode() & 0o022 != 0 && !sticky)
}

fn own(found: &Metadata) -> bool {
    found.uid() == 0 || found.uid() == vault::effective_user()
}
