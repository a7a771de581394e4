//! Provider keys of unlocked vaults: in this process, or for a set time in the kernel's session keyring, where
//! scripts and workers started from the same login find them.
use crate::key::{Id, Key, hex};
use crate::{Error, Result};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Vault, digest of the slot's parameters, and the key. A forked child inherits it.
static HERE: Mutex<Vec<(Id, [u8; 32], Key)>> = Mutex::new(Vec::new());

fn here() -> MutexGuard<'static, Vec<(Id, [u8; 32], Key)>> {
    // A panic elsewhere cannot leave this list half changed.
    HERE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a key: until the process ends, or for a time in the kernel's keyring.
pub(crate) fn remember(store: &Id, slot: &[u8; 32], key: Key, time: Option<Duration>) -> Result<()> {
    forget(store, slot);
    match time {
        None => here().push((*store, *slot, key)),
        Some(time) => keyring::put(&description(store, slot), &key, time)?,
    }
    Ok(())
}

/// The key of a slot, if it was unlocked.
pub(crate) fn find(store: &Id, slot: &[u8; 32]) -> Option<Key> {
    let known = here().iter().find(|(s, d, _)| s == store && d == slot).map(|(_, _, key)| key.clone());
    known.or_else(|| keyring::get(&description(store, slot)))
}

/// Forgets a key, here and in the keyring; answers whether there was one.
pub(crate) fn forget(store: &Id, slot: &[u8; 32]) -> bool {
    let mut keys = here();
    let before = keys.len();
    keys.retain(|(s, d, _)| s != store || d != slot);
    let forgotten = keys.len() < before;
    keyring::remove(&description(store, slot)) || forgotten
}

fn description(store: &Id, slot: &[u8; 32]) -> String {
    format!("dkusecrets:{}:{}", hex(store), hex(&slot[..8]))
}

#[cfg(target_os = "linux")]
mod keyring {
    use super::*;
    use linux_keyutils::{KeyPermissionsBuilder, KeyRing, KeyRingIdentifier, Permission};
    use zeroize::Zeroizing;

    /// The session's keyring; where a login has none, the kernel gives the user's.
    fn ring() -> std::result::Result<KeyRing, linux_keyutils::KeyError> {
        KeyRing::from_special_id(KeyRingIdentifier::Session, false)
    }

    pub(super) fn put(description: &str, key: &Key, time: Duration) -> Result<()> {
        let failed = |e: linux_keyutils::KeyError| {
            Error::Unavailable(format!(
                "the kernel's session keyring cannot be used here ({e:?}); unlock for this process only"
            ))
        };
        // Zero would mean for ever.
        let seconds = usize::try_from(time.as_secs()).unwrap_or(usize::MAX).max(1);
        let entry = ring().map_err(failed)?.add_key(description, key.bytes()).map_err(failed)?;
        // The time limit first: should anything fail after it, the key still ends.
        let limited = entry.set_timeout(seconds).and_then(|()| {
            // Finding the key takes the keyring, reading it takes the user id: a program that su or sudo started
            // for someone else may still have the keyring.
            let perms = KeyPermissionsBuilder::builder().posessor(Permission::VIEW | Permission::SEARCH);
            entry.set_perms(perms.user(Permission::READ | Permission::WRITE | Permission::SETATTR).build())
        });
        if let Err(e) = limited {
            let _ = entry.invalidate();
            return Err(failed(e));
        }
        Ok(())
    }

    pub(super) fn get(description: &str) -> Option<Key> {
        let entry = ring().ok()?.search(description).ok()?;
        let mut bytes = Zeroizing::new([0; 32]);
        let length = entry.read(&mut bytes.as_mut_slice()).ok()?;
        if length == 32 { Key::from_bytes(bytes.as_slice()) } else { None }
    }

    pub(super) fn remove(description: &str) -> bool {
        ring().and_then(|r| r.search(description)).and_then(|key| key.invalidate()).is_ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod keyring {
    use super::*;

    pub(super) fn put(_: &str, _: &Key, _: Duration) -> Result<()> {
        Err(Error::Unavailable("this system has no session keyring; unlock for this process only".into()))
    }

    pub(super) fn get(_: &str) -> Option<Key> {
        None
    }

    pub(super) fn remove(_: &str) -> bool {
        false
    }
}
