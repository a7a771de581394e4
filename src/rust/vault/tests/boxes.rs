//! The sealed box: what was changed, cut short or moved does not open.
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use proptest::prelude::*;
use sha2::Sha256;
use vault::inside::{BoxError, Context, Key, open, seal, seal_with_salt};

const HEADER: usize = 6;
const BODY: usize = 70;

fn key(byte: u8) -> Key {
    Key::from_bytes(&[byte; 32]).unwrap()
}

const RECORD: Context = Context::Record { store: &[1; 16], user: &[2; 16], secret: &[3; 16], version: 4 };

/// Which error a change at this byte ends in.
fn expected(at: usize) -> BoxError {
    match at {
        0 | 1 => BoxError::UnknownFormat,
        2..BODY => BoxError::WrongKeyOrContext,
        _ => BoxError::Tampered,
    }
}

#[test]
fn every_bit_flipped() {
    for length in [0, 63, 64, 200] {
        let sealed = seal(&key(1), 1, &RECORD, &vec![b'x'; length]).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key(1), &RECORD, &changed).unwrap_err(), expected(bit / 8), "bit {bit}");
        }
    }
}

#[test]
fn every_length() {
    let sealed = seal(&key(1), 1, &RECORD, &[b'x'; 200]).unwrap();
    for length in 0..sealed.len() {
        let error = open(&key(1), &RECORD, &sealed[..length]).unwrap_err();
        // Only a whole number of padding blocks is a box at all.
        let is_box = length >= 150 && (length - 86) % 64 == 0;
        assert_eq!(error, if is_box { BoxError::Tampered } else { BoxError::Malformed }, "{length}");
    }
    for more in 1..200 {
        let longer = [&sealed[..], &vec![0; more]].concat();
        let error = open(&key(1), &RECORD, &longer).unwrap_err();
        assert_eq!(error, if more % 64 == 0 { BoxError::Tampered } else { BoxError::Malformed }, "{more}");
    }
}

/// No box opens in another place than its own: another kind, or another value in any field.
#[test]
fn every_other_context() {
    let (a, b) = (&[1; 16], &[2; 16]);
    let contexts = [
        Context::Slot { store: a, slot: 1, parameters: &[1; 32] },
        Context::Slot { store: b, slot: 1, parameters: &[1; 32] },
        Context::Slot { store: a, slot: 2, parameters: &[1; 32] },
        Context::Slot { store: a, slot: 1, parameters: &[2; 32] },
        Context::UserKey { store: a, user: a, epoch: 1 },
        Context::UserKey { store: b, user: a, epoch: 1 },
        Context::UserKey { store: a, user: b, epoch: 1 },
        Context::UserKey { store: a, user: a, epoch: 2 },
        Context::Record { store: a, user: a, secret: a, version: 1 },
        Context::Record { store: b, user: a, secret: a, version: 1 },
        Context::Record { store: a, user: b, secret: a, version: 1 },
        Context::Record { store: a, user: a, secret: b, version: 1 },
        Context::Record { store: a, user: a, secret: a, version: 2 },
        Context::Record { store: a, user: a, secret: a, version: 1 << 32 },
        Context::Manifest { store: a, owner: a, incarnation: a, sequence: 1 },
        Context::Manifest { store: b, owner: a, incarnation: a, sequence: 1 },
        Context::Manifest { store: a, owner: b, incarnation: a, sequence: 1 },
        Context::Manifest { store: a, owner: a, incarnation: b, sequence: 1 },
        Context::Manifest { store: a, owner: a, incarnation: a, sequence: 2 },
        Context::Page { store: a, owner: a, page: 1 },
        Context::Page { store: b, owner: a, page: 1 },
        Context::Page { store: a, owner: b, page: 1 },
        Context::Page { store: a, owner: a, page: 2 },
    ];
    for (i, sealed_for) in contexts.iter().enumerate() {
        let sealed = seal(&key(1), 1, sealed_for, b"value").unwrap();
        for (j, opened_for) in contexts.iter().enumerate() {
            match open(&key(1), opened_for, &sealed) {
                Ok(plain) => assert!(i == j && *plain == *b"value"),
                Err(e) => assert!(i != j && e == BoxError::WrongKeyOrContext, "{i}, {j}: {e:?}"),
            }
        }
    }
}

#[test]
fn every_seal_is_another() {
    let sealed: Vec<_> = (0..100).map(|_| seal(&key(1), 1, &RECORD, b"value").unwrap()).collect();
    for (i, one) in sealed.iter().enumerate() {
        for other in &sealed[..i] {
            // Salt, commitment and ciphertext, all of them.
            assert_eq!(one[..HEADER], other[..HEADER]);
            assert!(one[6..38] != other[6..38] && one[38..70] != other[38..70] && one[70..] != other[70..]);
        }
    }
}

/// A box as `FORMAT.md` has it, by other means: so padding can be wrong and everything else right.
fn seal_padded(padded: &[u8]) -> Vec<u8> {
    let (header, salt, context) =
        ([1, 1, 0, 0, 0, 1], [9; 32], [&[3][..], &[1; 16], &[2; 16], &[3; 16], &[0, 0, 0, 0, 0, 0, 0, 4]].concat());
    let bind = [b"dkusecrets/box/v1\0", &header[..], &context].concat();
    let mut okm = [0; 64];
    Hkdf::<Sha256>::new(Some(&salt), &[1; 32]).expand(&bind, &mut okm).unwrap();
    let cipher = Aes256Gcm::new_from_slice(&okm[..32]).unwrap();
    let body = cipher.encrypt(&[0; 12].into(), Payload { msg: padded, aad: &bind }).unwrap();
    [&header[..], &salt, &okm[32..], &body].concat()
}

fn padded(text: &[u8], length: usize) -> Vec<u8> {
    let mut padded = [text, &[0x80]].concat();
    padded.resize(length, 0);
    padded
}

#[test]
fn wrong_padding() {
    let sealed = seal_padded(&padded(b"value", 64));
    assert_eq!(sealed, seal_with_salt(&key(1), 1, &RECORD, b"value", &[9; 32]).unwrap());
    assert_eq!(*open(&key(1), &RECORD, &sealed).unwrap(), *b"value");
    let mut late = padded(b"value", 64);
    late[63] = 1;
    let wrong = [
        ("none", [0; 64].to_vec()),
        ("no mark", [b'x'; 64].to_vec()),
        ("more after it", late),
        ("a whole block too many", padded(b"value", 128)),
        ("a byte of the block before", padded(&[b'x'; 63], 128)),
    ];
    for (what, padded) in wrong {
        assert_eq!(open(&key(1), &RECORD, &seal_padded(&padded)).unwrap_err(), BoxError::Tampered, "{what}");
    }
    // The longest padding there is.
    assert_eq!(open(&key(1), &RECORD, &seal_padded(&padded(&[b'x'; 64], 128))).unwrap().len(), 64);
}

#[test]
fn keys_are_32_bytes_and_cannot_be_printed() {
    for length in [0, 31, 33, 64] {
        assert!(Key::from_bytes(&vec![1; length]).is_none());
    }
    assert_eq!(format!("{:?}", key(0xab)), "Key(..)");
    let random: Vec<_> = (0..100).map(|_| *Key::random().unwrap().bytes()).collect();
    assert!(random.iter().enumerate().all(|(i, k)| !random[..i].contains(k)));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sealed_and_opened(bytes in prop::array::uniform32(any::<u8>()), epoch: u32, store: [u8; 16], version: u64, plain in prop::collection::vec(any::<u8>(), 0..3000)) {
        let key = Key::from_bytes(&bytes).unwrap();
        let context = Context::Record { store: &store, user: &[0; 16], secret: &[255; 16], version };
        let sealed = seal(&key, epoch, &context, &plain).unwrap();
        prop_assert_eq!(sealed.len(), 86 + 64 * (plain.len() / 64 + 1));
        prop_assert_eq!(&sealed[2..6], &epoch.to_be_bytes()[..]);
        prop_assert_eq!(&*open(&key, &context, &sealed).unwrap(), &plain[..]);
    }

    #[test]
    fn any_bytes_changed(plain in prop::collection::vec(any::<u8>(), 0..500), changes in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..8)) {
        let sealed = seal(&key(1), 1, &RECORD, &plain).unwrap();
        let mut changed = sealed.clone();
        for (at, mask) in changes {
            let at = at.index(changed.len());
            changed[at] ^= mask;
        }
        prop_assume!(changed != sealed);
        prop_assert!(open(&key(1), &RECORD, &changed).is_err());
    }

    #[test]
    fn any_other_key(bytes in prop::array::uniform32(any::<u8>()), plain in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assume!(bytes != [1; 32]);
        let sealed = seal(&key(1), 1, &RECORD, &plain).unwrap();
        prop_assert_eq!(open(&Key::from_bytes(&bytes).unwrap(), &RECORD, &sealed).unwrap_err(), BoxError::WrongKeyOrContext);
    }

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(open(&key(1), &RECORD, &bytes).is_err());
    }
}
