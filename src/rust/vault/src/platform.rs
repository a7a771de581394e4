//! All that depends on the operating system: owners and modes of files, locks, and renames that replace nothing.
//! This is the file to write again for a system that is not Unix (with `unlocked.rs`, and the defaults in `place.rs`).
use crate::plain::Plain;
use crate::{Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The user id this process acts as.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whom files must belong to: the user this process acts as, asked once for a look at many.
#[derive(Clone, Copy)]
pub(crate) struct User(u32);

impl User {
    pub(crate) fn now() -> User {
        User(effective_user())
    }
}

/// What lies at a path, links not followed; nothing if nothing does.
pub(crate) fn look(path: &Path) -> Result<Option<Inode>> {
    match rustix::fs::lstat(path) {
        Ok(found) => Ok(Some(Inode(found))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}

/// What lies at a path, or is open. (Rust's own `Metadata` takes a quarter longer, and every read looks at some ten paths.)
pub(crate) struct Inode(rustix::fs::Stat);

impl Inode {
    fn of(file: &File, path: &Path) -> Result<Inode> {
        rustix::fs::fstat(file).map(Inode).map_err(|e| Error::io("look at", path, e))
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.kind() == FileType::Symlink
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.0.st_mode)
    }

    /// The bits that chmod(2) sets.
    fn mode(&self) -> u32 {
        self.0.st_mode & 0o7777
    }

    fn owner(&self) -> u32 {
        self.0.st_uid
    }

    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.0.st_size).unwrap_or(0)
    }
}

/// What stays while a file does: device and number.
pub(crate) type FileNumber = (i128, i128);

/// Which file lies at a path.
pub(crate) fn file_number(path: &Path) -> Result<FileNumber> {
    let found = rustix::fs::lstat(path).map_err(|e| Error::io("look at", path, e))?;
    Ok((found.st_dev.into(), found.st_ino.into()))
}

/// What changes whenever a file does: device, number, owner, mode, size, and both times to the nanosecond.
#[derive(Default, PartialEq)]
pub(crate) struct FileIdentity([i128; 9]);

impl FileIdentity {
    pub(crate) fn of(Inode(found): &Inode) -> FileIdentity {
        FileIdentity([
            found.st_dev.into(),
            found.st_ino.into(),
            found.st_uid.into(),
            found.st_mode.into(),
            found.st_size.into(),
            found.st_mtime.into(),
            found.st_mtime_nsec.into(),
            found.st_ctime.into(),
            found.st_ctime_nsec.into(),
        ])
    }
}

/// Refuses a file that is not a plain one of ours which nobody else can read or write.
pub(crate) fn check_private_file(path: &Path, found: &Inode, user: User) -> Result<()> {
    if found.kind() != FileType::RegularFile {
        return Err(Error::Path {
            path: path.into(),
            reason: "is not a plain file (a link or a directory, perhaps)".into(),
        });
    }
    check_owner(path, found, user)?;
    refuse_mode(path, found, 0o077, "can be read or written by others", "chmod 600")
}

/// Refuses a directory that is not ours alone.
pub(crate) fn check_private_directory(path: &Path, found: &Inode, user: User) -> Result<()> {
    check_owner(path, found, user)?;
    refuse_mode(path, found, 0o077, "is open to others", "chmod 700")
}

/// Refuses a directory in which anyone but root and this user could rename what lies there.
pub(crate) fn check_ancestor(directory: &Path, found: &Inode, user: User) -> Result<()> {
    if found.owner() != 0 && found.owner() != user.0 {
        return Err(Error::Unsafe {
            path: directory.into(),
            reason: format!(
                "belongs to user id {}, who could replace what lies under it (you are {}); {OWN_PLACE}",
                found.owner(),
                user.0
            ),
        });
    }
    // In a sticky directory (/tmp) others can add entries, and cannot rename or remove ours.
    if found.mode() & 0o1000 != 0 {
        return Ok(());
    }
    refuse_mode(directory, found, 0o022, "can be written by others, who could replace what lies under it", "chmod go-w")
}

/// Refuses a link that somebody else could turn elsewhere: its owner can, also in a sticky directory.
pub(crate) fn check_link(link: &Path, found: &Inode, user: User) -> Result<()> {
    if found.owner() == 0 || found.owner() == user.0 {
        return Ok(());
    }
    Err(Error::Unsafe {
        path: link.into(),
        reason: format!(
            "is a link of user id {}, who could turn it to another place (you are {}); name the directory itself",
            found.owner(),
            user.0
        ),
    })
}

const OWN_PLACE: &str = "with sudo, use sudo -H, or set DKUSECRETS_HOME to a directory of your own";

fn check_owner(path: &Path, found: &Inode, user: User) -> Result<()> {
    if found.owner() == user.0 {
        return Ok(());
    }
    Err(Error::Unsafe {
        path: path.into(),
        reason: format!(
            "belongs to user id {} and you are {}: a vault is for its owner only; {OWN_PLACE}",
            found.owner(),
            user.0
        ),
    })
}

fn refuse_mode(path: &Path, found: &Inode, bits: u32, what: &str, cure: &str) -> Result<()> {
    if found.mode() & bits == 0 {
        return Ok(());
    }
    Err(Error::Unsafe {
        path: path.into(),
        reason: format!("{what} (mode {:04o}): if that is not meant, run {cure} {}", found.mode(), path.display()),
    })
}

/// Makes a directory and those above it that are missing, each 0700 whatever the umask, and makes them durable.
pub(crate) fn make_private_directory(path: &Path) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|p| matches!(look(p), Ok(None))).collect();
    for directory in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(directory) {
            // Another process was faster.
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => continue,
            made => made.map_err(|e| Error::io("create the directory", directory, e))?,
        }
        grant_owner(directory, 0o700)?;
        directory.parent().map_or(Ok(()), sync_directory)?;
    }
    Ok(())
}

/// Opens a file of ours without following a link, and checks what was opened, which comes with it; nothing if it is
/// not there.
pub(crate) fn open_private(path: &Path, write: bool, user: User) -> Result<Option<(File, Inode)>> {
    // Non-blocking, so that a pipe put in a file's place cannot make us wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).write(write).custom_flags(flags.bits() as i32).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(Error::Path { path: path.into(), reason: "is a link; the file itself must lie there".into() });
        }
        // A file with the wrong owner or mode may be unreadable for us: say that, not "permission denied".
        Err(e) => {
            if let Some(found) = look(path)? {
                check_private_file(path, &found, user)?;
            }
            return Err(Error::io("open", path, e));
        }
    };
    let found = Inode::of(&file, path)?;
    check_private_file(path, &found, user)?;
    Ok(Some((file, found)))
}

/// What a small private file begins with, at most `limit` bytes of it; nothing if it is not there.
pub(crate) fn read_private(path: &Path, limit: usize, user: User) -> Result<Option<Plain>> {
    let Some((file, found)) = open_private(path, false, user)? else { return Ok(None) };
    // As long as it was just now. Nothing of ours grows while it is read: an anchor is written in place, and a key file
    // appears by a rename.
    let length = usize::try_from(found.bytes()).unwrap_or(limit).min(limit);
    read_up_to(&file, length).map(Some).map_err(|e| Error::io("read", path, e))
}

/// What a file begins with, at most `limit` bytes of it.
pub(crate) fn read_up_to(file: &File, limit: usize) -> std::io::Result<Plain> {
    // All in one piece: a buffer that grows leaves copies behind.
    let mut bytes = Plain::from(vec![0; limit]);
    let mut filled = 0;
    while filled < limit {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Writes all of `bytes` at an offset.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Gives the owner of what was just made the rights that an odd umask has taken away.
fn grant_owner(path: &Path, mode: u32) -> Result<()> {
    if look(path)?.is_some_and(|found| found.mode() & 0o777 == mode) {
        return Ok(());
    }
    let mode = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, mode).map_err(|e| Error::io("change the mode of", path, e))
}

/// Creates a file, 0600 from the first byte, that must not exist yet.
pub(crate) fn create_private(path: &Path) -> Result<File> {
    let created = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
    let file = created.map_err(|e| Error::io("create", path, e))?;
    grant_owner(path, 0o600)?;
    Ok(file)
}

/// Writes a new file so that after a crash it is there whole or not at all, and never replaces another.
/// `scratch` is its name while it is being written; a file left there by a crash is removed first.
pub(crate) fn write_durably(path: &Path, scratch: &Path, bytes: &[u8]) -> Result<()> {
    remove_if_there(scratch)?;
    let mut file = create_private(scratch)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| Error::io("write", scratch, e))?;
    drop(file);
    rename_without_replacing(scratch, path)
}

/// Renames a file to a name that must be free, and makes that durable.
pub(crate) fn rename_without_replacing(from: &Path, to: &Path) -> Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Older file systems (NFS) lack that flag; a hard link refuses to replace as well.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).map_err(|e| Error::io("create", to, e))?;
            rustix::fs::unlink(from).map_err(|e| Error::io("remove", from, e))?;
        }
        other => other.map_err(|e| Error::io("create", to, e))?,
    }
    match to.parent() {
        Some(directory) => sync_directory(directory),
        None => Ok(()),
    }
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).map_err(|e| Error::io("flush", path, e))
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Holds a lock on a file until dropped.
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock on `path`, a file made for this purpose, within `patience`.
pub(crate) fn lock(path: &Path, patience: Duration) -> Result<Lock> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = look(path)?.is_none();
    let opened =
        OpenOptions::new().read(true).write(true).create(true).mode(0o600).custom_flags(flags.bits() as i32).open(path);
    if made {
        grant_owner(path, 0o600)?;
    }
    let file = opened.map_err(|e| Error::io("open the lock file", path, e))?;
    wait_for_lock(&file, path, patience)?;
    Ok(Lock { _file: file })
}

/// Locks an open file for this process alone, within `patience`. Closing it unlocks.
pub(crate) fn wait_for_lock(file: &File, path: &Path, patience: Duration) -> Result<()> {
    let begun = Instant::now();
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK | Errno::INTR) if begun.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Err(Error::Busy(path.into())),
            Err(e) => return Err(Error::io("lock", path, e)),
        }
    }
}

/// The kind of file system a path lies on, and whether its locks can be relied on.
pub(crate) fn file_system(path: &Path) -> Option<(String, bool)> {
    // linux/magic.h
    let name = |magic: i64| match magic & 0xffff_ffff {
        0xef53 => ("ext", true),
        0x5846_5342 => ("xfs", true),
        0x9123_683e => ("btrfs", true),
        0x0102_1994 => ("tmpfs", true),
        0x794c_7630 => ("overlay", true),
        0x2fc1_2fc1 => ("zfs", true),
        0xf2f5_2010 => ("f2fs", true),
        0x6969 => ("nfs", false),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("smb", false),
        0x6573_5546 => ("fuse", false),
        _ => ("", true),
    };
    let magic = rustix::fs::statfs(path).ok()?.f_type as i64;
    let (name, reliable) = name(magic);
    let name = if name.is_empty() { format!("type {:#x}", magic & 0xffff_ffff) } else { name.to_owned() };
    Some((name, reliable))
}

/// What a link points to, which must be there at its end: what it leads to may be a disk that is not mounted.
pub(crate) fn read_link(path: &Path) -> Result<PathBuf> {
    std::fs::metadata(path).and_then(|_| std::fs::read_link(path)).map_err(|e| Error::io("look at", path, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_for_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = lock(&path, Duration::ZERO).unwrap();
        let begun = Instant::now();
        assert!(matches!(lock(&path, Duration::from_millis(30)).map(drop), Err(Error::Busy(busy)) if busy == path));
        assert!(begun.elapsed() >= Duration::from_millis(30));
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || lock(&path, Duration::from_secs(60)).map(drop)
        });
        std::thread::sleep(Duration::from_millis(30));
        drop(held);
        waiting.join().unwrap().unwrap();
        assert_eq!(look(&path).unwrap().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn renaming_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert_eq!(rename_without_replacing(&from, &to).unwrap_err().kind(), "io");
        assert_eq!((std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap()), (b"new".to_vec(), b"old".to_vec()));
        std::fs::remove_file(&to).unwrap();
        rename_without_replacing(&from, &to).unwrap();
        assert!(look(&from).unwrap().is_none() && std::fs::read(&to).unwrap() == b"new");
    }

    #[test]
    fn a_small_file_is_read_up_to_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(read_private(&path, 10, User::now()).unwrap().is_none());
        for (length, read) in [(0, 0), (9, 9), (10, 10), (11, 10), (5_000, 10)] {
            remove_if_there(&path).unwrap();
            write_durably(&path, &directory.path().join("scratch"), &vec![b'x'; length]).unwrap();
            assert_eq!(read_private(&path, 10, User::now()).unwrap().unwrap().len(), read);
        }
        assert_eq!(write_durably(&path, &directory.path().join("scratch"), b"other").unwrap_err().kind(), "io");
    }
}
