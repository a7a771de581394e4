//! What R calls. Each function takes and returns `Robj` only and is one `reply(|| ...)`: an argument
//! of any other type would be converted before `reply` runs, and its error, with the argument's
//! value in it, would leave as an R error that crashes R on a `%`. `wrappers.rs` checks this.
//!
//! Where the vault lies is asked anew with each call: nothing is kept here.
#![expect(clippy::disallowed_methods, reason = "what #[extendr] expands to; wrappers.rs looks at our own text")]
use crate::args::{expiry, number, optional_number, optional_text, passphrase, text, value};
use crate::reply::{Failure, reply};
use crate::secret_list::secret_list;
use extendr_api::prelude::*;
use std::time::Duration;
use vault::{Change, Elsewhere, Error, NewSlot, Retention, Secret, Summary, Value, Vault, Version, elsewhere};

/// The caller's vault. R asks again while another process has it, and can be interrupted in between (`unwrap()` in
/// R/conditions.R).
fn vault() -> Vault {
    Vault::of_caller().impatient()
}

/// Versions of the Rust side.
/// @noRd
#[extendr]
fn rust_about() -> Robj {
    reply(|| Ok(list!(version = env!("CARGO_PKG_VERSION"), rust_version = env!("RUSTC_VERSION"))))
}

/// The user id that the process acts as.
/// @noRd
#[extendr]
fn rust_effective_user() -> Robj {
    reply(|| Ok(f64::from(vault::effective_user())))
}

/// One secret: its value or, if that is over, a list of it and the last day it was good.
/// @noRd
#[extendr]
fn rust_get(name: Robj) -> Robj {
    reply(|| get(text(&name, "name")?))
}

/// The same for a name that is one string in ASCII, and NULL for anything else: whatever encoding R says a string is
/// in, ASCII is ASCII. NULL too where something else than the embedded vault is to answer.
/// @noRd
#[extendr]
fn rust_get_ascii(name: Robj) -> Robj {
    reply(|| match text(&name, "name") {
        Ok(name) if name.is_ascii() && elsewhere().is_none() => get(name),
        _ => Ok(().into_robj()),
    })
}

/// What else than the embedded vault is configured, once it is known to be safe; NULL for nothing.
/// @noRd
#[extendr]
fn rust_elsewhere() -> Robj {
    reply(|| {
        let Some(found) = elsewhere() else { return Ok(().into_robj()) };
        found.check()?;
        let list = match found {
            Elsewhere::Ticket => list!(kind = "ticket"),
            Elsewhere::Key => list!(kind = "key"),
            Elsewhere::Config(path) => list!(kind = "config", path = self::path(path)),
            Elsewhere::Socket { path, chosen } => list!(kind = "socket", path = self::path(path), chosen = chosen),
            Elsewhere::Both => list!(),
        };
        Ok(list.into_robj())
    })
}

fn get(name: &str) -> std::result::Result<Robj, Failure> {
    let found = vault().get(name)?;
    Ok(match found.expires.filter(|_| found.expired) {
        None => found.value.expose().into_robj(),
        Some(day) => list!(value = found.value.expose(), expired = f64::from(day)).into_robj(),
    })
}

/// All secrets as `dkuGetAuthInfo()` gives them, and those of them that are expired.
/// @noRd
#[extendr]
fn rust_get_all() -> Robj {
    reply(|| {
        let all: Vec<Secret> = vault().get_all()?;
        let expired: Vec<&Secret> = all.iter().filter(|s| s.expired).collect();
        Ok(list!(
            secrets = secret_list(&all),
            expired = expired.iter().map(|s| s.name.as_str()).collect_robj(),
            expires = expired.iter().map(|s| s.expires.map(f64::from)).collect_robj()
        ))
    })
}

/// The columns of the list of secrets.
/// @noRd
#[extendr]
fn rust_list() -> Robj {
    reply(|| {
        let all: Vec<Summary> = vault().list()?;
        Ok(list!(
            name = all.iter().map(|s| s.name.as_str()).collect_robj(),
            description = all.iter().map(|s| s.description.as_str()).collect_robj(),
            version = all.iter().map(|s| s.version as f64).collect_robj(),
            created = all.iter().map(|s| seconds(s.created)).collect_robj(),
            updated = all.iter().map(|s| seconds(s.updated)).collect_robj(),
            expires = all.iter().map(|s| s.expires.map(f64::from)).collect_robj(),
            removed = all.iter().map(|s| s.removed.map(seconds)).collect_robj()
        ))
    })
}

/// The columns of the list of a secret's versions.
/// @noRd
#[extendr]
fn rust_versions(name: Robj) -> Robj {
    reply(|| {
        let all: Vec<Version> = vault().versions(text(&name, "name")?)?;
        Ok(list!(
            version = all.iter().map(|v| v.version as f64).collect_robj(),
            created = all.iter().map(|v| seconds(v.created)).collect_robj(),
            expires = all.iter().map(|v| v.expires.map(f64::from)).collect_robj(),
            current = all.iter().map(|v| v.current).collect_robj()
        ))
    })
}

/// Stores a value; the new version's number.
/// @noRd
#[extendr]
fn rust_set(name: Robj, value: Robj, description: Robj, expires: Robj, if_version: Robj) -> Robj {
    reply(|| {
        let change = Change {
            description: optional_text(&description, "description")?,
            expires: expiry(&expires)?,
            if_version: optional_number(&if_version, "if_version")?,
        };
        // A copy: R may have to make room for the value, and a string that R makes when it is asked for can move.
        let name = text(&name, "name")?.to_owned();
        Ok(vault().set(&name, &self::value(&value)?, &change)? as f64)
    })
}

/// The same for a name and a value that are one string in ASCII each, as a new version without an expiry; NULL for anything
/// else, and where something else than the embedded vault is to answer.
/// @noRd
#[extendr]
fn rust_set_ascii(name: Robj, value: Robj) -> Robj {
    // A copy of the name, as above.
    reply(|| match (text(&name, "name").map(str::to_owned), text(&value, "value")) {
        (Ok(name), Ok(text)) if name.is_ascii() && text.is_ascii() && elsewhere().is_none() => {
            Ok((vault().set(&name, &Value::new(text.as_bytes())?, &Change::default())? as f64).into_robj())
        }
        _ => Ok(().into_robj()),
    })
}

/// Changes description and expiry.
/// @noRd
#[extendr]
fn rust_describe(name: Robj, description: Robj, expires: Robj) -> Robj {
    reply(|| {
        let description = optional_text(&description, "description")?;
        let change = Change { description, expires: expiry(&expires)?, if_version: None };
        Ok(vault().describe(text(&name, "name")?, &change)?)
    })
}

/// Removes a secret.
/// @noRd
#[extendr]
fn rust_remove(name: Robj, if_version: Robj) -> Robj {
    reply(|| Ok(vault().remove(text(&name, "name")?, optional_number(&if_version, "if_version")?)?))
}

/// Brings back a removed secret or an older version; the version that is current then.
/// @noRd
#[extendr]
fn rust_restore(name: Robj, version: Robj) -> Robj {
    reply(|| Ok(vault().restore(text(&name, "name")?, optional_number(&version, "version")?)? as f64))
}

/// Gives a secret another name.
/// @noRd
#[extendr]
fn rust_rename(name: Robj, new_name: Robj) -> Robj {
    reply(|| {
        let name = text(&name, "name")?.to_owned();
        Ok(vault().rename(&name, text(&new_name, "new_name")?)?)
    })
}

/// Destroys what is kept for undoing; how many versions that were.
/// @noRd
#[extendr]
fn rust_purge(name: Robj) -> Robj {
    reply(|| Ok(vault().purge(text(&name, "name")?)? as f64))
}

/// Writes the file anew if a purge could not.
/// @noRd
#[extendr]
fn rust_tidy() -> Robj {
    reply(|| Ok(vault().tidy()?))
}

/// Creates a vault; without a passphrase, with a key file.
/// @noRd
#[extendr]
fn rust_create(passphrase: Robj, keep_versions: Robj, keep_days: Robj) -> Robj {
    reply(|| {
        let retention = retention(&keep_versions, &keep_days)?;
        let vault = vault();
        if passphrase.is_null() {
            return Ok(vault.create(&NewSlot::KeyFile, retention)?);
        }
        Ok(vault.create(&NewSlot::Passphrase(&self::passphrase(&passphrase)?), retention)?)
    })
}

/// Changes how much is kept; NULL leaves it. What holds then.
/// @noRd
#[extendr]
fn rust_configure(keep_versions: Robj, keep_days: Robj) -> Robj {
    reply(|| {
        let versions = optional_number(&keep_versions, "keep_versions")?;
        let days = optional_number(&keep_days, "keep_days")?;
        let now = vault().configure(versions, days)?;
        Ok(list!(keep_versions = now.versions, keep_days = now.days))
    })
}

/// Unlocks a vault: for this process, or for some seconds for this login.
/// @noRd
#[extendr]
fn rust_unlock(passphrase: Robj, seconds: Robj) -> Robj {
    reply(|| {
        let time = optional_number(&seconds, "seconds")?.map(Duration::from_secs);
        Ok(vault().unlock(&self::passphrase(&passphrase)?, time)?)
    })
}

/// Forgets all keys of the vault; whether there were any.
/// @noRd
#[extendr]
fn rust_lock() -> Robj {
    reply(|| Ok(vault().lock()?))
}

/// Accepts a restored database; whether there was anything to accept.
/// @noRd
#[extendr]
fn rust_accept_restore(even_damaged: Robj) -> Robj {
    reply(|| Ok(vault().accept_restore(even_damaged.as_bool() == Some(true))?))
}

/// Opens everything there is: how many values opened, NA if the vault did not, and what is wrong.
/// @noRd
#[extendr]
fn rust_verify() -> Robj {
    reply(|| {
        let (values, wrong) = match vault().look_at_everything() {
            Ok((values, wrong)) => (Some(values as f64), wrong),
            Err(error) => (None, vec![error]),
        };
        Ok(list!(
            verified = values,
            problem_kinds = wrong.iter().map(Error::kind).collect_robj(),
            problems = wrong.iter().map(Error::to_string).collect_robj()
        ))
    })
}

/// Where the vault is and how it is. What could not be found out is NA.
/// @noRd
#[extendr]
fn rust_info() -> Robj {
    reply(|| {
        let info = vault().info();
        Ok(list!(
            database = path(info.database),
            config = path(info.config),
            exists = info.exists,
            provider = info.provider,
            key_file = info.key_file.map(path),
            locked = info.locked,
            store = info.store,
            format = info.format,
            sqlite = info.sqlite,
            secrets = info.secrets.map(|n| n as f64),
            removed = info.removed.map(|n| n as f64),
            versions = info.versions.map(|n| n as f64),
            file_bytes = info.file_bytes.map(|n| n as f64),
            file_system = info.file_system,
            sequence = info.sequence.map(|n| n as f64),
            anchor_sequence = info.anchor_sequence.map(|n| n as f64),
            keep_versions = info.keep_versions.map(f64::from),
            keep_days = info.keep_days.map(f64::from),
            problem_kinds = info.problems.iter().map(|(kind, _)| kind.as_str()).collect_robj(),
            problems = info.problems.iter().map(|(_, message)| message.as_str()).collect_robj()
        ))
    })
}

fn retention(versions: &Robj, days: &Robj) -> std::result::Result<Retention, Failure> {
    Ok(Retention { versions: number(versions, "keep_versions")?, days: number(days, "keep_days")? })
}

fn path(path: std::path::PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

fn seconds(milliseconds: i64) -> f64 {
    milliseconds as f64 / 1000.0
}

extendr_module! {
    mod calls;
    fn rust_about;
    fn rust_effective_user;
    fn rust_get;
    fn rust_get_ascii;
    fn rust_elsewhere;
    fn rust_get_all;
    fn rust_list;
    fn rust_versions;
    fn rust_set;
    fn rust_set_ascii;
    fn rust_describe;
    fn rust_remove;
    fn rust_restore;
    fn rust_rename;
    fn rust_purge;
    fn rust_tidy;
    fn rust_create;
    fn rust_configure;
    fn rust_unlock;
    fn rust_lock;
    fn rust_accept_restore;
    fn rust_verify;
    fn rust_info;
}
