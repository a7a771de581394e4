//! Published answers of the algorithms the vault is built from, asked of the crates as the vault uses them. What takes
//! the same algorithms through the vault's own functions is beside those: `key`, `sealed_box`, `passphrase`.
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
use hmac::{Hmac, Mac};
use serde_json::Value as Json;
use sha2::Sha256;

fn bytes(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// RFC 9106, section 5.3. It uses a secret and associated data, which the vault does not; the rest is its code.
#[test]
fn argon2id() {
    let mut parameters = ParamsBuilder::new();
    parameters.m_cost(32).t_cost(3).p_cost(4).output_len(32).data(AssociatedData::new(&[4; 12]).unwrap());
    let argon2 =
        Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, parameters.build().unwrap()).unwrap();
    let mut tag = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
    assert_eq!(tag.to_vec(), bytes("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"));
}

/// RFC 4231, section 4: test cases 1 to 4, 6 and 7 (5 is of a truncated tag).
#[test]
fn hmac_sha_256() {
    let cases: [(Vec<u8>, &[u8], &str); 6] = [
        (vec![0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (vec![0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        ((1..=25).collect(), &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be \
              hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ];
    for (key, data, tag) in cases {
        let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap().chain_update(data);
        assert_eq!(mac.clone().finalize().into_bytes().to_vec(), bytes(tag));
        assert!(mac.clone().verify_slice(&bytes(tag)).is_ok());
        let mut wrong = bytes(tag);
        wrong[31] ^= 1;
        assert!(mac.verify_slice(&wrong).is_err());
    }
}

/// Wycheproof's tests of AES-256-GCM: edge cases of counters and tags, and forgeries. They are asked of the crate, not of
/// `sealed_box`: they choose nonces, keys and associated data, and a box has nonce zero, a derived key and data of its own.
#[test]
fn aes_256_gcm() {
    let file: Json = serde_json::from_str(include_str!("known/wycheproof_aes_256_gcm.json")).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for test in file["tests"].as_array().unwrap() {
        let field = |name: &str| bytes(test[name].as_str().unwrap());
        let cipher = Aes256Gcm::new_from_slice(&field("key")).unwrap();
        let nonce: [u8; 12] = field("iv").try_into().unwrap();
        let (aad, message, sealed) = (field("aad"), field("msg"), [field("ct"), field("tag")].concat());
        let opened = cipher.decrypt(&nonce.into(), Payload { msg: &sealed, aad: &aad });
        if test["result"] == "valid" {
            valid += 1;
            assert_eq!(cipher.encrypt(&nonce.into(), Payload { msg: &message, aad: &aad }).unwrap(), sealed, "{test}");
            assert_eq!(opened.unwrap(), message, "{test}");
        } else {
            invalid += 1;
            assert!(opened.is_err(), "{test}");
        }
    }
    assert_eq!((valid, invalid), (39, 27));
}
