//! Where a vault lies, and whether that is safe: looked at before every operation.
use crate::platform::{self, Lock, User, check_private_directory, check_private_file};
use crate::{Error, Result, key_file};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The directories of a vault: its data, and apart from them its key and anchor.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// How long to wait for other processes that hold a lock there.
    pub(crate) patience: Patience,
    /// A directory that must be there already: chosen by a person, so if it is not, it was misspelt or not mounted.
    pub(crate) home: Option<PathBuf>,
    pub(crate) data: PathBuf,
    pub(crate) config: PathBuf,
}

/// Whose database lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The vault of one person, opened by any process of that person.
    Vault,
    /// The store of many, opened by one server.
    Store,
}

/// How long to wait for a lock of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Minute,
    /// A quarter of a second, for those who ask again themselves.
    Moment,
}

impl Patience {
    fn duration(self) -> Duration {
        match self {
            Patience::Minute => Duration::from_secs(60),
            Patience::Moment => Duration::from_millis(250),
        }
    }
}

/// Where R keeps users' data and configuration, below their home directories.
const DEFAULTS: [&str; 2] = if cfg!(target_os = "macos") {
    ["Library/Application Support/org.R-project.R", "Library/Preferences/org.R-project.R"]
} else {
    [".local/share", ".config"]
};

/// What was found at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No vault, and no trace of one.
    Nothing,
    /// A vault. Its paths are canonical in the place that comes with it.
    Vault,
}

impl Place {
    /// Below a directory that must be there.
    pub(crate) fn under(kind: Kind, home: PathBuf) -> Place {
        let (data, config) = (home.join("data"), home.join("config"));
        Place { kind, patience: Patience::Minute, data, config, home: Some(home) }
    }

    /// Where the environment says, and the user's home directory; both are asked anew each time.
    pub(crate) fn of_caller(variable: impl Fn(&str) -> Option<OsString>, user: impl Fn() -> Option<PathBuf>) -> Place {
        let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // Without a home directory `~` stays, and is refused for not being an absolute path.
        let user = || user().unwrap_or_else(|| "~".into());
        if let Some(home) = named("DKUSECRETS_HOME") {
            return Place::under(Kind::Vault, home.strip_prefix("~").map(|rest| user().join(rest)).unwrap_or(home));
        }
        let directory = |own: &str, everyones: &str, default: &str| {
            let base = named(own).or_else(|| named(everyones)).unwrap_or_else(|| user().join(default));
            base.join("R/dkusecrets")
        };
        let [data, config] = DEFAULTS;
        Place {
            kind: Kind::Vault,
            patience: Patience::Minute,
            home: None,
            data: directory("R_USER_DATA_DIR", "XDG_DATA_HOME", data),
            config: directory("R_USER_CONFIG_DIR", "XDG_CONFIG_HOME", config),
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.database_of(self.kind)
    }

    fn database_of(&self, kind: Kind) -> PathBuf {
        self.data.join(match kind {
            Kind::Vault => "vault.db",
            Kind::Store => "store.db",
        })
    }

    pub(crate) fn anchor(&self) -> PathBuf {
        self.config.join("anchor")
    }

    /// Held by whoever makes the anchor: at creation, at the first write if that was cut short, and for a restore.
    pub(crate) fn lock_creation(&self) -> Result<Lock> {
        platform::lock(&self.config.join("creation.lock"), self.patience.duration())
    }

    /// Waits for the lock on a file there.
    pub(crate) fn wait_for(&self, file: &File, path: &Path) -> Result<()> {
        platform::wait_for_lock(file, path, self.patience.duration())
    }

    /// Looks at the place and refuses what is unsafe. Answers with the place in canonical paths.
    pub(crate) fn survey(&self) -> Result<(Found, Place)> {
        let mut road = Road::new();
        let (config, there) = self.or_blame_home(road.walk(&self.config))?;
        if let Some(found) = &there {
            check_private_directory(&config, found, road.user)?;
        }
        let (data, there) = road.walk(&self.data)?;
        let place = Place { home: None, data, config, ..*self };
        let Some(found) = &there else { return place.without_database() };
        check_private_directory(&place.data, found, road.user)?;
        let database = place.database();
        match platform::look(&database)? {
            None => place.without_database(),
            Some(found) => {
                check_private_file(&database, &found, road.user)?;
                Ok((Found::Vault, place))
            }
        }
    }

    /// Makes the directories, safely, for a vault that is about to be created. Answers with canonical paths.
    pub(crate) fn prepare(&self) -> Result<Place> {
        let mut road = Road::new();
        for directory in [&self.config, &self.data] {
            let (path, _) = road.walk(directory)?;
            platform::make_private_directory(&path)?;
        }
        let mut road = Road::new();
        Ok(Place { home: None, data: road.walk(&self.data)?.0, config: road.walk(&self.config)?.0, ..*self })
    }

    /// The same, unless the home is to blame, which must be there: where nothing was found, or something wrong.
    fn or_blame_home(
        &self,
        found: Result<(PathBuf, Option<platform::Inode>)>,
    ) -> Result<(PathBuf, Option<platform::Inode>)> {
        let Some(home) = &self.home else { return found };
        match found {
            Ok((_, Some(_))) => found,
            Ok((_, None)) => Place::check_home(home).and(found),
            Err(e) => Err(match Place::check_home(home) {
                Err(better @ Error::Path { .. }) => better,
                _ => e,
            }),
        }
    }

    fn check_home(home: &Path) -> Result<()> {
        if !home.is_absolute() {
            return Err(Error::Path {
                path: home.into(),
                reason: "is not an absolute path; the vault's directory must be one".into(),
            });
        }
        match std::fs::metadata(home) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(not_a_directory(home)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::Path {
                path: home.into(),
                reason: "does not exist: create it (mode 0700) if the vault is to lie there, or is a disk not mounted?"
                    .into(),
            }),
            Err(e) => Err(Error::io("look at", home, e)),
        }
    }

    /// No database: fine for a place that never had one. A key alone is what a creation leaves that was cut short.
    fn without_database(self) -> Result<(Found, Place)> {
        let store = self.database_of(Kind::Store);
        if self.kind == Kind::Vault && platform::look(&store)?.is_some() {
            return Err(Error::ServerStore(store));
        }
        let vault = self.database_of(Kind::Vault);
        if self.kind == Kind::Store && platform::look(&vault)?.is_some() {
            return Err(Error::Path {
                path: vault,
                reason: "is a vault of one person, not the store of a server".into(),
            });
        }
        let witness = self.anchor();
        if platform::look(&witness)?.is_none() {
            return Ok((Found::Nothing, self));
        }
        // Another process may have made both after the database was looked for.
        if platform::look(&self.database())?.is_some() {
            return self.survey();
        }
        Err(Error::VaultMissing { database: self.database(), witness })
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

fn refuse_non_directory(path: &Path, found: &platform::Inode) -> Result<()> {
    if found.is_directory() { Ok(()) } else { Err(not_a_directory(path)) }
}

fn not_a_directory(path: &Path) -> Error {
    Error::Path { path: path.into(), reason: "is not a directory, and the vault needs one there".into() }
}

/// The way from the root to the directories of a vault, checked at each step: whoever can rename a directory on it
/// can put another vault, or another key, in its place.
struct Road {
    user: User,
    /// A directory that was found safe, as were all above it: the vault's two have most of their way in common.
    safe: PathBuf,
    /// How many links were followed.
    links: u32,
}

/// As many as Linux follows (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// In bytes, as Linux has it (PATH_MAX in limits.h).
const LONGEST: usize = 4096;

impl Road {
    fn new() -> Road {
        Road { user: User::now(), safe: PathBuf::new(), links: 0 }
    }

    /// The path without links, and what lies there. The part of it that exists must be safe.
    fn walk(&mut self, path: &Path) -> Result<(PathBuf, Option<platform::Inode>)> {
        let refused = |reason: &str| Error::Path { path: path.into(), reason: reason.into() };
        if !path.is_absolute() {
            return Err(refused("is not an absolute path"));
        }
        if path.as_os_str().len() > LONGEST {
            return Err(refused("is longer than a path can be"));
        }
        let mut way = path.to_path_buf();
        // Once for each link, and each step back: from the root again, so that all between is looked at, too.
        'again: loop {
            let mut here = PathBuf::new();
            let mut parts = way.components().peekable();
            while let Some(part) = parts.next() {
                here.push(part);
                let last = parts.peek().is_none();
                if !last && self.is_safe(&here) {
                    continue;
                }
                match platform::look(&here)? {
                    Some(found) if found.is_symlink() => {
                        platform::check_link(&here, &found, self.user)?;
                        self.links += 1;
                        if self.links > MAX_LINKS {
                            return Err(refused("leads through too many links"));
                        }
                        let target = platform::read_link(&here)?;
                        here.pop();
                        way = here.join(target).join(parts.collect::<PathBuf>());
                        continue 'again;
                    }
                    // What lies before it was no link, so it is the directory above.
                    Some(_) if part == Component::ParentDir => {
                        here.pop();
                        here.pop();
                        way = here.join(parts.collect::<PathBuf>());
                        continue 'again;
                    }
                    Some(found) if last => {
                        refuse_non_directory(&here, &found)?;
                        return Ok((here, Some(found)));
                    }
                    Some(found) => {
                        refuse_non_directory(&here, &found)?;
                        platform::check_ancestor(&here, &found, self.user)?;
                        self.safe.clone_from(&here);
                    }
                    None => return Ok((here.join(parts.collect::<PathBuf>()), None)),
                }
            }
            return Ok((here, None));
        }
    }

    /// Whether this is the safe directory or one above it. By bytes, as both are written alike: comparing paths part by
    /// part would take a microsecond of a read.
    fn is_safe(&self, directory: &Path) -> bool {
        let rest = self.safe.as_os_str().as_encoded_bytes().strip_prefix(directory.as_os_str().as_encoded_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || directory.parent().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_caller(set: &[(&str, &str)], home: Option<&str>) -> [PathBuf; 2] {
        let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        let place = Place::of_caller(variable, || home.map(PathBuf::from));
        [place.data, place.config]
    }

    #[test]
    fn what_lies_on_a_safe_way() {
        let road = Road { safe: "/a/bc/d".into(), ..Road::new() };
        for (directory, safe) in [
            ("/", true),
            ("/a", true),
            ("/a/bc", true),
            ("/a/bc/d", true),
            ("/a/b", false),
            ("/a/bcd", false),
            ("/a/bc/d/e", false),
            ("/a/bc/..", false),
            ("/b", false),
        ] {
            assert_eq!(road.is_safe(Path::new(directory)), safe, "{directory}");
        }
        assert!(!Road::new().is_safe(Path::new("/")));
    }

    /// As `tools::R_user_dir()` in R 4.2 (`tests/testthat/test-place.R` asks R itself).
    #[test]
    fn the_callers_place() {
        let paths = |data: &str, config: &str| [data, config].map(PathBuf::from);
        let home = Some("/home/a");
        let [data, config] = DEFAULTS.map(|d| format!("/home/a/{d}/R/dkusecrets"));
        assert_eq!(of_caller(&[], home), paths(&data, &config));
        assert_eq!(of_caller(&[("XDG_DATA_HOME", "")], home), paths(&data, &config));
        assert_eq!(of_caller(&[], None).map(|path| path.is_absolute()), [false; 2]);
        assert_eq!(of_caller(&[("R_USER_DATA_DIR", "rel")], home), paths("rel/R/dkusecrets", &config));
        let set = [("XDG_DATA_HOME", "/x"), ("XDG_CONFIG_HOME", "/y"), ("R_USER_DATA_DIR", "/r")];
        assert_eq!(of_caller(&set, home), paths("/r/R/dkusecrets", "/y/R/dkusecrets"));
        for (says, home, found) in [
            ("/h", home, "/h"),
            ("~", home, "/home/a"),
            ("~/h", home, "/home/a/h"),
            ("~b/h", home, "~b/h"),
            ("~/h", None, "~/h"),
            ("h", home, "h"),
            // Of these only one's own is known here.
            ("~b", home, "~b"),
        ] {
            let set = [("DKUSECRETS_HOME", says), ("R_USER_DATA_DIR", "/r")];
            assert_eq!(of_caller(&set, home), paths(&format!("{found}/data"), &format!("{found}/config")), "{says}");
        }
    }
}
