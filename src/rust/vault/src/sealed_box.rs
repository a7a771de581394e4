//! The sealed box: the one construction that seals everything in a vault.
//!
//! HKDF-SHA-256 with a fresh salt turns the sealing key into a one-time key and a commitment; AES-256-GCM seals the
//! padded plaintext. The context, which says what the box holds and where it belongs, is bound into both, so that a
//! box that was moved does not open. It is the construction of the AWS Encryption SDK's committing suite 0x0478,
//! with "wrong key or context" told apart from "tampered with". Byte layout: `FORMAT.md`, "The sealed box".
//!
//! A one-time key seals one message, so the limit of 2^32 random nonces per key (NIST SP 800-38D, 8.3) never
//! applies and a nonce of zeroes is right.
use crate::key::{Id, Key, expand, fill};
use crate::plain::Plain;
use crate::{Error, Result};
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const LABEL: &[u8] = b"dkusecrets/box/v1\0";
/// Version, suite, epoch of the sealing key (u32).
const HEADER: usize = 6;
const SALT: usize = 32;
const COMMIT: usize = 32;
const BODY: usize = HEADER + SALT + COMMIT;
/// Plaintexts are padded to multiples of this, so that lengths up to it do not show.
const PADDING: usize = 64;
const TAG: usize = 16;
/// The longest of what is bound into a box, in bytes.
const MOST_BIND: usize = LABEL.len() + HEADER + 57;

/// What identifies a box: it commits to the one-time key, with which one message was sealed, and GCM's tag binds the
/// bytes to that. So whoever lacks the key cannot make a second box with the same commitment.
pub(crate) type Commit = [u8; COMMIT];

/// What a box holds and where it belongs: a tag and fields of fixed width.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // the fields are FORMAT.md's, by their names
pub enum Context<'a> {
    /// The root key, under a provider's key.
    Slot { store: &'a Id, slot: u32, parameters: &'a [u8; 32] },
    /// A person's key, under the root key.
    UserKey { store: &'a Id, user: &'a Id, epoch: u32 },
    /// One version of a secret's value, under the person's key.
    Record { store: &'a Id, user: &'a Id, secret: &'a Id, version: u64 },
    /// The root of an index, under its owner's key.
    Manifest { store: &'a Id, owner: &'a Id, incarnation: &'a Id, sequence: u64 },
    /// An event of the audit log, under the store's audit key.
    Event { store: &'a Id, sequence: u64 },
    /// How far the audit log goes, under the same key.
    AuditHead { store: &'a Id, incarnation: &'a Id, sequence: u64 },
    /// A page of an index, under its owner's key.
    Page { store: &'a Id, owner: &'a Id, page: u32 },
}

impl Context<'_> {
    /// The tag and the fields, one after the other.
    fn each(&self, put: impl FnMut(&[u8])) {
        match *self {
            Context::Slot { store, slot, parameters } => {
                [&[1][..], store, &slot.to_be_bytes(), parameters].into_iter().for_each(put);
            }
            Context::UserKey { store, user, epoch } => {
                [&[2][..], store, user, &epoch.to_be_bytes()].into_iter().for_each(put);
            }
            Context::Record { store, user, secret, version } => {
                [&[3][..], store, user, secret, &version.to_be_bytes()].into_iter().for_each(put);
            }
            Context::Manifest { store, owner, incarnation, sequence } => {
                [&[4][..], store, owner, incarnation, &sequence.to_be_bytes()].into_iter().for_each(put);
            }
            Context::Page { store, owner, page } => {
                [&[6][..], store, owner, &page.to_be_bytes()].into_iter().for_each(put);
            }
            Context::Event { store, sequence } => {
                [&[7][..], store, &sequence.to_be_bytes()].into_iter().for_each(put);
            }
            Context::AuditHead { store, incarnation, sequence } => {
                [&[8][..], store, incarnation, &sequence.to_be_bytes()].into_iter().for_each(put);
            }
        }
    }
}

/// Why a box did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxError {
    /// Not as long as any box is.
    Malformed,
    /// Another version or suite than this software knows.
    UnknownFormat,
    /// Another key, another context, or a changed header, salt or commitment.
    WrongKeyOrContext,
    /// The right key and context, and a changed ciphertext.
    Tampered,
}

/// What is bound into a box: the label, the header and the context.
struct Bind {
    bytes: [u8; MOST_BIND],
    length: usize,
}

impl Bind {
    fn new(header: &[u8], context: &Context) -> Bind {
        let mut bind = Bind { bytes: [0; MOST_BIND], length: 0 };
        bind.put(LABEL);
        bind.put(header);
        context.each(|field| bind.put(field));
        bind
    }

    fn put(&mut self, field: &[u8]) {
        self.bytes[self.length..][..field.len()].copy_from_slice(field);
        self.length += field.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The one-time key of a box, and its commitment to it.
struct OneTime {
    key: Key,
    commit: Commit,
}

impl OneTime {
    fn derive(key: &Key, salt: &[u8], bind: &Bind) -> Result<OneTime> {
        let mut okm = Zeroizing::new([0; 64]);
        expand(key.bytes(), Some(salt), &[bind.bytes()], okm.as_mut_slice())?;
        let mut commit = [0; COMMIT];
        commit.copy_from_slice(&okm[32..]);
        let key = Key::from_bytes(&okm[..32]).ok_or(Error::Internal("one-time key length"))?;
        Ok(OneTime { key, commit })
    }
}

fn cipher(one_time: &Key) -> Result<Aes256Gcm> {
    Aes256Gcm::new_from_slice(one_time.bytes()).map_err(|_| Error::Internal("AES key length"))
}

/// Seals `plaintext` under `key` for one place. `epoch` says which of its owner's keys this is.
pub fn seal(key: &Key, epoch: u32, context: &Context, plaintext: &[u8]) -> Result<Vec<u8>> {
    // Hedged: should the generator ever repeat itself (a virtual machine's snapshot), another plaintext still has
    // another salt, and so no one-time key seals twice.
    let mut random = Zeroizing::new([0; SALT]);
    fill(random.as_mut_slice())?;
    let mut salt = [0; SALT];
    let digest: [u8; 32] = Sha256::digest(plaintext).into();
    expand(key.bytes(), Some(random.as_slice()), &[b"dkusecrets/v1/salt", &digest], &mut salt)?;
    seal_with_salt(key, epoch, context, plaintext, &salt)
}

/// [`seal`] with a given salt, for test vectors only: a salt must never be used twice.
pub fn seal_with_salt(
    key: &Key,
    epoch: u32,
    context: &Context,
    plaintext: &[u8],
    salt: &[u8; SALT],
) -> Result<Vec<u8>> {
    let mut header = [1, 1, 0, 0, 0, 0];
    header[2..].copy_from_slice(&epoch.to_be_bytes());
    let bind = Bind::new(&header, context);
    let one_time = OneTime::derive(key, salt, &bind)?;
    let padded = (plaintext.len() / PADDING + 1) * PADDING;
    let mut message = Vec::with_capacity(padded);
    message.extend_from_slice(plaintext);
    message.push(0x80);
    message.resize(padded, 0);
    let message = Plain::from(message);
    let sealed = cipher(&one_time.key)?
        .encrypt(&[0; 12].into(), Payload { msg: &message, aad: bind.bytes() })
        .map_err(|_| Error::Internal("AES-GCM refused to seal"))?;
    Ok([&header[..], salt, &one_time.commit, &sealed].concat())
}

/// Opens a box, or says why not. No byte of plaintext is handed out before everything was checked.
pub fn open(key: &Key, context: &Context, sealed: &[u8]) -> std::result::Result<Plain, BoxError> {
    open_with(&one_time_key(key, context, sealed)?, context, sealed)
}

/// The one-time key of a box that commits to it: what [`open_with`] needs to open it again.
pub(crate) fn one_time_key(key: &Key, context: &Context, sealed: &[u8]) -> std::result::Result<Key, BoxError> {
    let Parts { header, salt, .. } = Parts::of(sealed)?;
    let one_time = OneTime::derive(key, salt, &Bind::new(header, context)).map_err(|_| BoxError::Malformed)?;
    if !bool::from(one_time.commit.ct_eq(&sealed[HEADER + SALT..BODY])) {
        return Err(BoxError::WrongKeyOrContext);
    }
    Ok(one_time.key)
}

/// Opens a box of which the one-time key is known.
pub(crate) fn open_with(one_time: &Key, context: &Context, sealed: &[u8]) -> std::result::Result<Plain, BoxError> {
    let Parts { header, body, .. } = Parts::of(sealed)?;
    let bind = Bind::new(header, context);
    let cipher = cipher(one_time).map_err(|_| BoxError::Malformed)?;
    let message = cipher.decrypt(&[0; 12].into(), Payload { msg: body, aad: bind.bytes() });
    let mut message = Plain::from(message.map_err(|_| BoxError::Tampered)?);
    // ISO/IEC 7816-4 padding: 0x80, then zeroes, in the last block.
    let end = message.iter().rposition(|&b| b != 0).filter(|&i| message[i] == 0x80 && message.len() - i <= PADDING);
    let end = end.ok_or(BoxError::Tampered)?;
    message.truncate(end);
    Ok(message)
}

struct Parts<'b> {
    header: &'b [u8],
    salt: &'b [u8],
    body: &'b [u8],
}

impl<'b> Parts<'b> {
    fn of(sealed: &'b [u8]) -> std::result::Result<Parts<'b>, BoxError> {
        if sealed.len() < BODY + PADDING + TAG || !(sealed.len() - BODY - TAG).is_multiple_of(PADDING) {
            return Err(BoxError::Malformed);
        }
        let parts = Parts { header: &sealed[..HEADER], salt: &sealed[HEADER..HEADER + SALT], body: &sealed[BODY..] };
        if parts.header[..2] != [1, 1] {
            return Err(BoxError::UnknownFormat);
        }
        Ok(parts)
    }
}

/// The commitment of a box, if the bytes are long enough to be one.
pub(crate) fn commit_of(sealed: &[u8]) -> Option<Commit> {
    sealed.get(HEADER + SALT..BODY)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::hex;

    /// McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B: test cases 13 and 14, which have a
    /// nonce of zeroes as our boxes have, and no associated data.
    #[test]
    fn aes_256_gcm() {
        let one_time = Key::from_bytes(&[0; 32]).unwrap();
        let seal = |message: &[u8]| hex(&cipher(&one_time).unwrap().encrypt(&[0; 12].into(), message).unwrap());
        assert_eq!(seal(&[]), "530f8afbc74536b9a963b4f1c4cb738b");
        assert_eq!(seal(&[0; 16]), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
    }

    #[test]
    fn the_commitment_is_where_it_is_read() {
        let (key, context) =
            (Key::from_bytes(&[1; 32]).unwrap(), Context::Page { store: &[2; 16], owner: &[3; 16], page: 4 });
        let sealed = seal_with_salt(&key, 5, &context, b"value", &[6; 32]).unwrap();
        let one_time = OneTime::derive(&key, &[6; 32], &Bind::new(&[1, 1, 0, 0, 0, 5], &context)).unwrap();
        assert_eq!(commit_of(&sealed).unwrap(), one_time.commit);
        assert_eq!(commit_of(&sealed[..70]).unwrap(), one_time.commit);
        assert!(commit_of(&sealed[..69]).is_none() && commit_of(&[]).is_none());
    }
}
