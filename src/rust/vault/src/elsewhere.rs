//! Whether anything but the embedded vault is to answer. Each read asks, so this looks at environment variables and at
//! two paths at most; R/source.R and the program do the rest, and only where the answer is yes.
use crate::{effective_user, may_serve};
use std::ffi::OsString;
use std::fs::{Metadata, metadata, symlink_metadata};
use std::io::{ErrorKind, Result as IoResult};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Where a server of this machine listens.
const SOCKET: &str = "/run/dkusecrets/dkusecrets.sock";

/// What was found to be configured, the first of these that is.
#[derive(Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// The ticket that a server gives to what it runs.
    Ticket,
    /// A URL and a key in the environment, or one of them.
    Key,
    /// A socket and a directory for an embedded vault, both chosen by a person.
    Both,
    /// A socket.
    Socket {
        /// Where it is.
        path: PathBuf,
        /// Whether a person chose it, or it is there.
        chosen: bool,
    },
    /// A configuration file of Dataiku's clients.
    Config(PathBuf),
}

/// Why what is configured cannot be used.
#[derive(Debug)]
pub struct Refused {
    /// A short word, as [`crate::Error::kind`] gives.
    pub kind: &'static str,
    /// What is wrong, and the way out.
    pub message: String,
}

impl Refused {
    fn new(kind: &'static str, message: impl Into<String>) -> Refused {
        Refused { kind, message: message.into() }
    }
}

/// What is configured for this process, or nothing.
pub fn elsewhere() -> Option<Elsewhere> {
    look(|name| std::env::var_os(name), std::env::home_dir, |path| present(&symlink_metadata(path)))
}

/// What a person chose by a variable comes before what lies around: otherwise a file that another program needs would
/// leave no way to the vault.
fn look(
    variable: impl Fn(&str) -> Option<OsString>,
    home: impl Fn() -> Option<PathBuf>,
    there: impl Fn(&Path) -> bool,
) -> Option<Elsewhere> {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty());
    if named("DKU_API_TICKET").is_some() {
        return Some(Elsewhere::Ticket);
    }
    if named("DKU_DSS_URL").is_some() || named("DKU_API_KEY").is_some() {
        return Some(Elsewhere::Key);
    }
    let embedded = named("DKUSECRETS_HOME").is_some();
    if let Some(socket) = named("DKUSECRETS_SOCKET") {
        let socket = Elsewhere::Socket { path: socket.into(), chosen: true };
        return Some(if embedded { Elsewhere::Both } else { socket });
    }
    if embedded {
        return None;
    }
    let config = home().map(|home| home.join(".dataiku/config.json")).filter(|path| there(path));
    let socket = || there(Path::new(SOCKET)).then(|| Elsewhere::Socket { path: SOCKET.into(), chosen: false });
    config.map(Elsewhere::Config).or_else(socket)
}

/// What cannot be looked at is there: it must not be passed over.
fn present(found: &IoResult<Metadata>) -> bool {
    !matches!(found, Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

impl Elsewhere {
    /// Refuses a file or socket that somebody else may have put there or can read.
    pub fn check(&self) -> Result<(), Refused> {
        match self {
            Elsewhere::Ticket | Elsewhere::Key => Ok(()),
            Elsewhere::Both => Err(Refused::new(
                "two_places",
                "DKUSECRETS_HOME chooses an embedded vault and DKUSECRETS_SOCKET a server: unset one of them",
            )),
            Elsewhere::Config(path) => check_config(path),
            Elsewhere::Socket { path, chosen } => check_socket(path, *chosen),
        }
    }
}

fn check_config(path: &Path) -> Result<(), Refused> {
    let found = metadata(path).map_err(|e| {
        let kind = if e.kind() == ErrorKind::PermissionDenied { "permission" } else { "path" };
        let instead = "DKUSECRETS_HOME chooses an embedded vault instead";
        Refused::new(kind, format!("{} cannot be looked at: {e}; {instead}", path.display()))
    })?;
    let wrong = if !found.is_file() {
        "is not a file"
    } else if found.mode() & 0o077 != 0 {
        "holds an API key and is open to others: chmod 600 makes it private"
    } else {
        return check_owner(path, &found);
    };
    Err(Refused::new("unsafe", format!("{} {wrong}", path.display())))
}

fn check_socket(path: &Path, chosen: bool) -> Result<(), Refused> {
    if !path.is_absolute() {
        return Err(Refused::new(
            "path",
            format!("DKUSECRETS_SOCKET must be an absolute path, not {}", path.display()),
        ));
    }
    match symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => check_socket_owner(path, &found),
        Ok(_) => Err(Refused::new("unsafe", format!("{} is not a socket", path.display()))),
        Err(e) => {
            let by = if chosen { ", which DKUSECRETS_SOCKET names," } else { "" };
            let message = format!("the socket {}{by} cannot be reached: {e}; is the server running?", path.display());
            Err(Refused::new("unavailable", message))
        }
    }
}

fn check_socket_owner(path: &Path, found: &Metadata) -> Result<(), Refused> {
    if may_serve(path, found.uid()) { Ok(()) } else { check_owner(path, found) }
}

/// Root can read everything anyway.
fn check_owner(path: &Path, found: &Metadata) -> Result<(), Refused> {
    let (owner, user) = (found.uid(), effective_user());
    if owner == 0 || owner == user {
        return Ok(());
    }
    let message = format!("{} belongs to the user id {owner}, neither to root nor to you ({user})", path.display());
    Err(Refused::new("unsafe", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "/home/ada";
    const CONFIG: &str = "/home/ada/.dataiku/config.json";

    fn found(set: &[(&str, &str)], there: &[&str]) -> Option<Elsewhere> {
        let variable = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
        look(variable, || Some(HOME.into()), |path| there.iter().any(|p| Path::new(p) == path))
    }

    fn socket(path: &str, chosen: bool) -> Option<Elsewhere> {
        Some(Elsewhere::Socket { path: path.into(), chosen })
    }

    #[test]
    fn nothing_configured_is_the_embedded_vault() {
        assert_eq!(found(&[], &[]), None);
        let empty = ["DKU_API_TICKET", "DKU_DSS_URL", "DKU_API_KEY", "DKUSECRETS_SOCKET", "DKUSECRETS_HOME"];
        assert_eq!(found(&empty.map(|name| (name, "")), &[]), None);
        // Of a ticket's companions none means anything alone.
        assert_eq!(found(&[("DKU_BACKEND_HOST", "h"), ("DKU_BACKEND_PORT", "1")], &[]), None);
        assert_eq!(look(|_| None, || None, |path| path != Path::new(SOCKET)), None);
    }

    #[test]
    fn the_order() {
        let (ticket, key, url) = (("DKU_API_TICKET", "t"), ("DKU_API_KEY", "k"), ("DKU_DSS_URL", "u"));
        let (home, own) = (("DKUSECRETS_HOME", "/v"), ("DKUSECRETS_SOCKET", "/s"));
        let lying = [CONFIG, SOCKET];
        assert_eq!(found(&[key, url, ticket, home, own], &lying), Some(Elsewhere::Ticket));
        assert_eq!(found(&[key, url, home, own], &lying), Some(Elsewhere::Key));
        assert_eq!((found(&[key], &[]), found(&[url], &[])), (Some(Elsewhere::Key), Some(Elsewhere::Key)));
        assert_eq!(found(&[home, own], &lying), Some(Elsewhere::Both));
        assert_eq!(found(&[own], &lying), socket("/s", true));
        assert_eq!(found(&[home], &lying), None);
        assert_eq!(found(&[], &lying), Some(Elsewhere::Config(CONFIG.into())));
        assert_eq!(found(&[], &[SOCKET]), socket(SOCKET, false));
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_passed_over() {
        let error = |kind: ErrorKind| present(&Err(kind.into()));
        assert!(error(ErrorKind::PermissionDenied));
        assert!(!error(ErrorKind::NotFound) && !error(ErrorKind::NotADirectory));
    }
}
