//! Everything that can go wrong, by kind. Messages name the thing and the way out and never hold a value.
use std::path::{Path, PathBuf};

/// The result of anything a vault does.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation was refused or could not be done. Unless a variant says otherwise, nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No live secret has this name.
    #[error("there is no secret named {}{}", quoted(name), not_found_hint(close, *removed))]
    NotFound {
        /// The name that was asked for.
        name: String,
        /// Names that are close to it, best first, at most three.
        close: Vec<String>,
        /// Whether a removed secret of that name can still be restored.
        removed: bool,
    },
    /// The secret exists, this version of it does not (or no longer).
    #[error("the secret {} has no version {version}; kept are: {kept}", quoted(name))]
    NoVersion {
        /// The secret's name.
        name: String,
        /// The version that was asked for.
        version: u64,
        /// The versions that are kept, as text.
        kept: String,
    },
    /// The new name is taken, by a live secret or by a removed one that can still be restored.
    #[error("the name {} is taken by {}", quoted(name), if *removed { "a removed secret that can still be restored; purge it first, or choose another name" } else { "another secret; choose another name, or remove and purge that one first" })]
    Exists {
        /// The name that is taken.
        name: String,
        /// Whether it is taken by a removed secret.
        removed: bool,
    },
    /// The secret's version is not the one that was expected: somebody else was faster, perhaps.
    #[error("{}", conflict(name, *expected, *found))]
    Conflict {
        /// The secret's name.
        name: String,
        /// The version the caller expected; 0 for none.
        expected: u64,
        /// The version found; 0 for none.
        found: u64,
    },
    /// A name that cannot be a secret's name.
    #[error("a secret's name {0}")]
    InvalidName(String),
    /// A value that cannot be stored. The message never holds the value.
    #[error("the value {0}")]
    InvalidValue(String),
    /// Another argument that cannot be right.
    #[error("{0}")]
    InvalidArgument(String),
    /// Somebody would have more than one person may.
    #[error("{0}")]
    TooMany(String),
    /// A store does not know this person, or not any more.
    #[error("this person was removed, or was never here")]
    NoPerson,
    /// A vault exists where one was to be created.
    #[error("there is a vault already at {}", .0.display())]
    VaultExists(PathBuf),
    /// Key or anchor exist and the database does not: a disk that is not mounted, or a database that was moved.
    #[error("the vault's database {} is missing, though {} belongs to it: is a disk not mounted? Bring the database back; to begin a new vault instead, first move every file out of {}", database.display(), witness.display(), witness.parent().unwrap_or(witness).display())]
    VaultMissing {
        /// Where the database should be.
        database: PathBuf,
        /// The file that shows that there was one.
        witness: PathBuf,
    },
    /// The vault exists, its key file does not.
    #[error("the key file {} of the vault {} is missing: without it nothing in the vault can be read. Put it back from your copy{}", key.display(), database.display(), other_keys(others))]
    KeyMissing {
        /// The file that is needed.
        key: PathBuf,
        /// The vault that needs it.
        database: PathBuf,
        /// Key files that are there and do not fit.
        others: Vec<PathBuf>,
    },
    /// The key file holds another key than its name says, or is damaged.
    #[error("the key file {} {reason}: it is not the key of this vault. Put the right file back from your copy", path.display())]
    WrongKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The passphrase does not open the vault.
    #[error("this passphrase does not open the vault {} (or its key slot was damaged)", .0.display())]
    WrongPassphrase(PathBuf),
    /// The vault has a passphrase and was not unlocked.
    #[error("the vault {} is locked: unlock it with its passphrase first", .0.display())]
    Locked(PathBuf),
    /// Others could read or replace a file, or it belongs to someone else.
    #[error("{} {reason}", path.display())]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The path is not what it should be (a file where a directory is needed, a directory that is missing).
    #[error("{} {reason}", path.display())]
    Path {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and how to mend it.
        reason: String,
    },
    /// The vault was written by a newer version of this software.
    #[error("the vault {} has format {found}, this version of dkusecrets reads format {}: install a newer version", path.display(), crate::site::FORMAT)]
    NewerFormat {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A row or page is not what the vault's index says it must be.
    #[error("the vault {} is damaged: {what}. Nothing was changed; restore the file from a backup", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// Which part, and how.
        what: String,
    },
    /// The whole file is an older or another copy than the last one seen here.
    #[error("the vault {} is not the copy last used here: {what}. If you restored it on purpose, accept the restore; if not, put the newer file back", path.display())]
    RolledBack {
        /// The database.
        path: PathBuf,
        /// How that was seen.
        what: String,
    },
    /// The place holds the store of a server, which opens it alone.
    #[error("{} is the store of a server, not a vault of one person: ask the server for your secrets", .0.display())]
    ServerStore(PathBuf),
    /// Another process has the store of a server open.
    #[error("the store {} is in use by another process, which must be stopped first: one at a time has it", .0.display())]
    InUse(PathBuf),
    /// What was destroyed is out of reach, and the file could not be written anew: the next change tries again.
    #[error("what was destroyed can't be read any more, but copies of it that SQLite made may still lie, encrypted, in {}, which could not be written anew: {why}. The next change of any secret tries again", path.display())]
    Untidy {
        /// The database.
        path: PathBuf,
        /// Why not.
        why: String,
        /// Whether because another process has the vault.
        busy: bool,
    },
    /// Another process held the vault for too long.
    #[error("the vault {} is busy: another process is writing to it and did not finish in time; try again, or look for a process that hangs", .0.display())]
    Busy(PathBuf),
    /// No space is left.
    #[error("no space is left for {}: free some, then try again; what was stored before is safe", .0.display())]
    NoSpace(PathBuf),
    /// The place cannot be written to.
    #[error("{} cannot be written to: {reason}", path.display())]
    ReadOnly {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// This user may not do that.
    #[error("permission to {action} {} is denied", path.display())]
    Permission {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
    },
    /// The operating system refused something else.
    #[error("could not {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A service of the operating system that is needed is not there.
    #[error("{0}")]
    Unavailable(String),
    /// A mistake in this software.
    #[error("internal error: {0}; please report it")]
    Internal(&'static str),
}

impl Error {
    /// A short word for the kind of failure; front ends make their error classes and exit codes from it.
    pub fn kind(&self) -> &'static str {
        match self {
            Error::NotFound { .. } | Error::NoVersion { .. } => "not_found",
            Error::Exists { .. } | Error::VaultExists(_) => "exists",
            Error::Conflict { .. } => "conflict",
            Error::InvalidName(_) => "invalid_name",
            Error::InvalidValue(_) => "invalid_value",
            Error::InvalidArgument(_) => "invalid_argument",
            Error::TooMany(_) => "too_many",
            Error::NoPerson => "no_person",
            Error::VaultMissing { .. } => "vault_missing",
            Error::KeyMissing { .. } => "key_missing",
            Error::WrongKey { .. } => "wrong_key",
            Error::WrongPassphrase(_) => "wrong_passphrase",
            Error::Locked(_) => "locked",
            Error::Unsafe { .. } => "unsafe",
            Error::Path { .. } => "path",
            Error::NewerFormat { .. } => "newer_format",
            Error::Damaged { .. } => "damaged",
            Error::RolledBack { .. } => "rolled_back",
            Error::ServerStore(_) => "server_store",
            Error::InUse(_) => "in_use",
            Error::Untidy { .. } => "untidy",
            Error::Busy(_) => "busy",
            Error::NoSpace(_) => "no_space",
            Error::ReadOnly { .. } => "read_only",
            Error::Permission { .. } => "permission",
            Error::Io { .. } => "io",
            Error::Unavailable(_) => "unavailable",
            Error::Internal(_) => "internal",
        }
    }

    /// The failure of a system call on `path`, sorted into the kinds a caller can act on.
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<std::io::Error>) -> Error {
        use std::io::ErrorKind::*;
        let source = source.into();
        let path = path.to_path_buf();
        match source.kind() {
            StorageFull | QuotaExceeded => Error::NoSpace(path),
            ReadOnlyFilesystem => Error::ReadOnly { path, reason: "the file system is mounted read-only".into() },
            PermissionDenied => Error::Permission { action, path },
            NotADirectory => Error::Path { path, reason: "lies under something that is not a directory".into() },
            _ => Error::Io { action, path, source },
        }
    }
}

/// A name as messages show it. Marks that turn the direction of text would turn the rest of the line with them (UAX #9), and
/// a quote could end the name before its time.
pub(crate) fn quoted(name: &str) -> String {
    let mut shown = String::with_capacity(name.len() + 2);
    shown.push('"');
    for c in name.chars() {
        match c {
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => shown.push('\u{fffd}'),
            '"' | '\\' => shown.extend(['\\', c]),
            c => shown.push(c),
        }
    }
    shown.push('"');
    shown
}

fn conflict(name: &str, expected: u64, found: u64) -> String {
    let name = quoted(name);
    match (expected, found) {
        (_, 0) => format!("there is no secret named {name}, and version {expected} of it was expected"),
        (0, _) => format!("there is a secret named {name} already, at version {found}, and none was expected"),
        _ => format!(
            "the secret {name} is at version {found}, not {expected}: somebody changed it; read it again and decide anew"
        ),
    }
}

fn not_found_hint(close: &[String], removed: bool) -> String {
    if removed {
        return ": it was removed and can still be restored".into();
    }
    match close {
        [] => String::new(),
        names => format!("; close to it: {}", names.iter().map(|n| quoted(n)).collect::<Vec<_>>().join(", ")),
    }
}

fn other_keys(others: &[PathBuf]) -> String {
    match others {
        [] => String::new(),
        some => {
            let some: Vec<_> = some.iter().map(|p| p.display().to_string()).collect();
            format!(" (there, but of another vault: {})", some.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn names_are_quoted_in_every_message() {
        assert_eq!(quoted("a \u{e9} b"), "\"a \u{e9} b\"");
        assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
        let name = String::from("a\u{202e}b\u{2066}\"c");
        let shown = "\"a\u{fffd}b\u{fffd}\\\"c\"";
        for error in [
            Error::NotFound { name: name.clone(), close: vec![], removed: true },
            Error::NotFound { name: "x".into(), close: vec![name.clone()], removed: false },
            Error::NoVersion { name: name.clone(), version: 1, kept: "2".into() },
            Error::Exists { name: name.clone(), removed: false },
            Error::Conflict { name: name.clone(), expected: 1, found: 2 },
            Error::Conflict { name: name.clone(), expected: 1, found: 0 },
            Error::Conflict { name: name.clone(), expected: 0, found: 2 },
        ] {
            assert!(error.to_string().contains(shown), "{error}");
        }
        assert!(crate::site::Part::Value(&name, 1).to_string().contains(shown));
    }

    #[test]
    fn failures_of_the_system_by_kind() {
        let kind = |code: rustix::io::Errno| Error::io("write", Path::new("/file"), code).kind();
        use rustix::io::Errno;
        assert_eq!((kind(Errno::NOSPC), kind(Errno::DQUOT)), ("no_space", "no_space"));
        assert_eq!(
            (kind(Errno::ROFS), kind(Errno::ACCESS), kind(Errno::PERM)),
            ("read_only", "permission", "permission")
        );
        assert_eq!((kind(Errno::NOTDIR), kind(Errno::IO), kind(Errno::NOENT)), ("path", "io", "io"));
        let error = Error::io("write", Path::new("/file"), io::Error::other("said"));
        assert_eq!(error.to_string(), "could not write /file: said");
    }
}
