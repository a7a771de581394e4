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
    /// The shortest new passphrase, in characters (NIST SP 800-63B, 5.1.1.2).
    pub const MIN_CHARACTERS: usize = 8;

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
