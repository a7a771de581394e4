//! Keys from passphrases: Argon2id (RFC 9106).
use crate::key::Key;
use crate::{Error, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// A passphrase: text that wipes itself and cannot be printed, normalised (NFC) so that every keyboard spells it alike.
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// The shortest new passphrase, in characters: what NIST SP 800-63B-4, 3.1.1.2, asks of a password that is the only
    /// factor. It can be guessed offline by whoever has the database.
    pub const MIN_CHARACTERS: usize = 15;

    /// A passphrase to unlock with. For a new one see [`Passphrase::check_new`].
    pub fn new(text: &str) -> Passphrase {
        // Normalising may lengthen text, at most threefold in UTF-8 (UAX 15): room for all, so that no copy is left.
        let mut normal = Zeroizing::new(String::with_capacity(text.len() * 3));
        normal.extend(text.nfc());
        Passphrase(normal)
    }

    /// Refuses what is too short to protect anything.
    pub(crate) fn check_new(&self) -> Result<()> {
        if self.0.chars().count() < Passphrase::MIN_CHARACTERS {
            return Err(Error::InvalidArgument(format!(
                "a passphrase has at least {} characters; several words are better",
                Passphrase::MIN_CHARACTERS
            )));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// The cost of trying one passphrase, stored with the salt.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) memory_kib: u32,
    pub(crate) passes: u32,
    pub(crate) lanes: u32,
}

impl Cost {
    /// RFC 9106, section 4, second recommended option: 64 MiB, 3 passes, 4 lanes.
    pub(crate) const RECOMMENDED: Cost = Cost { memory_kib: 64 * 1024, passes: 3, lanes: 4 };

    /// Looked at before anything runs: a changed file must not make us take all memory or all day.
    fn is_bearable(self) -> bool {
        self.memory_kib <= 2 * 1024 * 1024 && self.passes <= 16 && self.lanes <= 16
    }
}

/// The provider key a passphrase stands for; nothing if the cost is out of bounds.
pub(crate) fn derive(passphrase: &Passphrase, salt: &[u8; 16], cost: Cost) -> Result<Option<Key>> {
    if !cost.is_bearable() {
        return Ok(None);
    }
    let Ok(parameters) = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)) else { return Ok(None) };
    // Our own memory, wiped when dropped: it is filled from the passphrase.
    let mut memory = Zeroizing::new(Vec::new());
    memory.try_reserve_exact(parameters.block_count()).map_err(|_| {
        Error::Unavailable(format!("{} KiB of memory are needed to check a passphrase", cost.memory_kib))
    })?;
    memory.resize(parameters.block_count(), Block::default());
    let mut key = Zeroizing::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into_with_memory(passphrase.0.as_bytes(), salt, key.as_mut_slice(), memory.as_mut_slice())
        .map_err(|_| Error::Internal("Argon2 refused its parameters"))?;
    Ok(Key::from_bytes(key.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::hex;

    fn derived(text: &str, salt: &[u8; 16], cost: Cost) -> String {
        hex(derive(&Passphrase::new(text), salt, cost).unwrap().unwrap().bytes())
    }

    /// RFC 9106 has one answer for Argon2id, with a secret and associated data, which slots lack (`known_answers.rs`
    /// asks for it). These come from OpenSSL 3's Argon2id by way of Python's `cryptography`, after it gave that one.
    #[test]
    fn argon2id() {
        let salt: [u8; 16] = std::array::from_fn(|i| i as u8);
        assert_eq!(
            derived("correct horse battery staple", &salt, Cost::RECOMMENDED),
            "853b272a44db1421c02962669a55eb0994f3cab385ed1c4c79253eee19bab49e"
        );
        let least = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let expected = "1962a13408e42148549585482c2a12d22b4142cf5e443fb6d9e0960b4294a7d6";
        assert_eq!(derived("gar\u{e7}on", b"ssssssssssssssss", least), expected);
        assert_eq!(derived("garc\u{327}on", b"ssssssssssssssss", least), expected);
    }

    /// RFC 9106, section 4: the second recommended option.
    #[test]
    fn the_recommended_cost() {
        let Cost { memory_kib, passes, lanes } = Cost::RECOMMENDED;
        assert_eq!((memory_kib, passes, lanes), (65_536, 3, 4));
        assert!(Cost::RECOMMENDED.is_bearable());
    }

    #[test]
    fn costs_beyond_bounds_are_refused_before_anything_runs() {
        let bearable = Cost { memory_kib: 2 * 1024 * 1024, passes: 16, lanes: 16 };
        assert!(bearable.is_bearable());
        for cost in [
            Cost { memory_kib: 3 * 1024 * 1024, ..Cost::RECOMMENDED },
            Cost { memory_kib: bearable.memory_kib + 1, ..bearable },
            Cost { memory_kib: u32::MAX, passes: u32::MAX, lanes: u32::MAX },
            Cost { passes: 17, ..bearable },
            Cost { lanes: 17, ..bearable },
            // Argon2 itself refuses these.
            Cost { passes: 0, ..Cost::RECOMMENDED },
            Cost { lanes: 0, ..Cost::RECOMMENDED },
            Cost { memory_kib: 8 * 4 - 1, ..Cost::RECOMMENDED },
        ] {
            let begun = std::time::Instant::now();
            assert!(derive(&Passphrase::new("passphrase"), &[0; 16], cost).unwrap().is_none());
            assert!(begun.elapsed() < std::time::Duration::from_millis(50), "{:?}", begun.elapsed());
        }
    }
}
