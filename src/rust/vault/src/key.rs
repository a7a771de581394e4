//! Keys: 32 bytes that wipe themselves and cannot be printed, and what is derived from them.
use crate::{Error, Result};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A key of 32 bytes: a root key, a user's key, a provider's key, or a subkey of one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

/// An identifier of 16 random bytes: of a store, a person, a secret, an incarnation.
pub(crate) type Id = [u8; 16];

/// What a subkey is for. No key is used directly: each use has a subkey with a name of its own.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// Seals boxes.
    Box,
    /// Decides in which page of an index a name lies.
    Page,
    /// Authenticates the anchor file.
    Anchor,
    /// Stands for values where they are edited but not shown.
    Token,
    /// Seals the audit log.
    Audit,
    /// Tells keys apart in public: the key id.
    Id,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Box => b"dkusecrets/v1/box",
            Purpose::Page => b"dkusecrets/v1/page",
            Purpose::Anchor => b"dkusecrets/v1/anchor",
            Purpose::Token => b"dkusecrets/v1/token",
            Purpose::Audit => b"dkusecrets/v1/audit",
            Purpose::Id => b"dkusecrets/v1/key-id",
        }
    }
}

impl Key {
    /// A new key from the operating system's generator.
    pub fn random() -> Result<Key> {
        let mut key = Key([0; 32]);
        fill(&mut key.0)?;
        Ok(key)
    }

    /// The key with these bytes, or nothing if they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let mut key = Key([0; 32]);
        if bytes.len() != key.0.len() {
            return None;
        }
        key.0.copy_from_slice(bytes);
        Some(key)
    }

    /// The key's bytes, for sealing it under another key or deriving from it.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The subkey for one purpose: HKDF-SHA-256 (RFC 5869) without salt, the purpose's label as info.
    pub(crate) fn subkey(&self, purpose: Purpose) -> Result<Key> {
        let mut subkey = Key([0; 32]);
        expand(&self.0, None, &[purpose.label()], &mut subkey.0)?;
        Ok(subkey)
    }

    /// A public name of this key: the first 8 bytes of its subkey for that purpose.
    pub(crate) fn id(&self) -> Result<[u8; 8]> {
        let subkey = self.subkey(Purpose::Id)?;
        let mut id = [0; 8];
        id.copy_from_slice(&subkey.0[..8]);
        Ok(id)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// HKDF-SHA-256 (RFC 5869), `info` being the parts joined.
pub(crate) fn expand(key: &[u8], salt: Option<&[u8]>, info: &[&[u8]], out: &mut [u8]) -> Result<()> {
    // Fails only above 255 * 32 bytes of output; everything here asks for 32 or 64.
    Hkdf::<Sha256>::new(salt, key).expand_multi_info(info, out).map_err(|_| Error::Internal("HKDF output too long"))
}

/// Fills a buffer from the operating system's generator.
pub(crate) fn fill(out: &mut [u8]) -> Result<()> {
    getrandom::fill(out)
        .map_err(|_| Error::Unavailable("the operating system's random generator does not answer".into()))
}

/// A new identifier.
pub(crate) fn random_id() -> Result<Id> {
    let mut id = [0; 16];
    fill(&mut id)?;
    Ok(id)
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)].into());
        out.push(DIGITS[usize::from(byte & 15)].into());
    }
    out
}

/// The bytes that lower-case hexadecimal digits stand for; nothing if they do not.
pub(crate) fn unhex(digits: &str) -> Option<Zeroizing<Vec<u8>>> {
    let value = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let digits = digits.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(digits.len() / 2));
    for pair in digits.chunks_exact(2) {
        out.push(value(pair[0])? << 4 | value(pair[1])?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, appendix A: test cases 1 to 3, those of SHA-256.
    #[test]
    fn hkdf() {
        let range = |from: u8, to: u8| (from..=to).collect::<Vec<u8>>();
        let cases = [
            (
                vec![0x0b; 22],
                Some(range(0, 0x0c)),
                range(0xf0, 0xf9),
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                range(0, 0x4f),
                Some(range(0x60, 0xaf)),
                range(0xb0, 0xff),
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c\
                 59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71\
                 cc30c58179ec3e87c14c01d5c1f3434f1d87",
            ),
            (
                vec![0x0b; 22],
                None,
                Vec::new(),
                "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            ),
        ];
        for (key, salt, info, expected) in cases {
            let mut out = vec![0; expected.len() / 2];
            expand(&key, salt.as_deref(), &[&info], &mut out).unwrap();
            assert_eq!(hex(&out), expected);
            // In parts.
            let (front, back) = info.split_at(info.len() / 3);
            expand(&key, salt.as_deref(), &[front, &[], back], &mut out).unwrap();
            assert_eq!(hex(&out), expected);
        }
        assert_eq!(expand(&[1], None, &[], &mut vec![0; 255 * 32 + 1]).unwrap_err().kind(), "internal");
    }

    #[test]
    fn hexadecimal_digits() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(hex(&bytes[..17]), "000102030405060708090a0b0c0d0e0f10");
        assert_eq!(*unhex(&hex(&bytes)).unwrap(), bytes);
        for wrong in ["0", "0g", "0A", " 0", "+1", "\u{e9}", "\u{664}\u{664}"] {
            assert!(unhex(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn subkeys_differ() {
        let key = Key::from_bytes(&[1; 32]).unwrap();
        let all = [Purpose::Box, Purpose::Page, Purpose::Anchor, Purpose::Token, Purpose::Audit, Purpose::Id]
            .map(|p| key.subkey(p).unwrap());
        assert!(all.iter().enumerate().all(|(i, k)| *k != key && !all[..i].contains(k)));
        assert_eq!(key.id().unwrap(), all[5].bytes()[..8]);
    }
}
