//! The test vectors of `vectors/`, which the Python implementation shares: see the `README.md` there.
mod common;

use common::{Home, get};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value as Json;
use sha2::Sha256;
use std::fs::{DirBuilder, Permissions, read_dir, set_permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use vault::inside::{BoxError, Context, Key, open, seal_with_salt};
use vault::{Passphrase, Vault};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn read(path: &Path) -> Json {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn bytes(digits: &Json) -> Vec<u8> {
    let digits = digits.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn array<const N: usize>(digits: &Json) -> [u8; N] {
    bytes(digits).try_into().unwrap()
}

fn number(json: &Json) -> u64 {
    json.as_u64().unwrap()
}

/// What `FORMAT.md` says of subkeys, with the crates that the vault uses.
fn subkey(key: &Json, label: &str) -> [u8; 32] {
    let mut subkey = [0; 32];
    Hkdf::<Sha256>::new(None, &bytes(key)).expand(label.as_bytes(), &mut subkey).unwrap();
    subkey
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    <Hmac<Sha256> as KeyInit>::new_from_slice(key).unwrap().chain_update(data).finalize().into_bytes().to_vec()
}

/// Calls `act` with the context that a vector describes.
fn with_context<T>(fields: &Json, act: impl FnOnce(&Context) -> T) -> T {
    let id = |field: &str| fields.get(field).map_or([0; 16], array::<16>);
    let n = |field: &str| fields.get(field).map_or(0, number);
    let (store, user, secret, owner, incarnation) =
        (&id("store"), &id("user"), &id("secret"), &id("owner"), &id("incarnation"));
    match fields["holds"].as_str().unwrap() {
        "slot" => act(&Context::Slot { store, slot: n("slot") as u32, parameters: &array(&fields["parameters"]) }),
        "user key" => act(&Context::UserKey { store, user, epoch: n("epoch") as u32 }),
        "record" => act(&Context::Record { store, user, secret, version: n("version") }),
        "manifest" => act(&Context::Manifest { store, owner, incarnation, sequence: n("sequence") }),
        "page" => act(&Context::Page { store, owner, page: n("page") as u32 }),
        other => panic!("no box holds a {other}"),
    }
}

#[test]
fn boxes() {
    let vectors = read(&folder().join("box.json"));
    for vector in vectors.as_array().unwrap() {
        let name = &vector["name"];
        let key = Key::from_bytes(&subkey(&vector["key"], "dkusecrets/v1/box")).unwrap();
        let sealed = bytes(&vector["box"]);
        let opened = with_context(&vector["context"], |context| open(&key, context, &sealed));
        let result = match opened {
            Ok(plaintext) => {
                assert_eq!(*plaintext, bytes(&vector["plaintext"]), "{name}");
                "ok"
            }
            Err(BoxError::Malformed) => "Malformed",
            Err(BoxError::UnknownFormat) => "UnknownFormat",
            Err(BoxError::WrongKeyOrContext) => "WrongKeyOrContext",
            Err(BoxError::Tampered) => "Tampered",
        };
        assert_eq!(result, vector["result"].as_str().unwrap(), "{name}");
        if result == "ok" {
            let (epoch, salt) = (number(&vector["epoch"]) as u32, array(&vector["salt"]));
            let again = with_context(&vector["context"], |context| {
                seal_with_salt(&key, epoch, context, &bytes(&vector["plaintext"]), &salt).unwrap()
            });
            assert_eq!(again, sealed, "{name}");
        }
    }
    assert!(vectors.as_array().unwrap().len() >= 61);
}

// That the vault itself derives keys, pages and anchors like this is shown by the whole vaults, which it reads.
#[test]
fn keys() {
    let vectors = read(&folder().join("keys.json"));
    for vector in vectors["subkey"].as_array().unwrap() {
        assert_eq!(subkey(&vector["key"], vector["label"].as_str().unwrap()), array(&vector["subkey"]), "{vector}");
    }
    for vector in vectors["page"].as_array().unwrap() {
        let tag = mac(&subkey(&vector["key"], "dkusecrets/v1/page"), vector["name"].as_str().unwrap().as_bytes());
        let first = u32::from_be_bytes(tag[..4].try_into().unwrap());
        assert_eq!(u64::from(first) % number(&vector["pages"]), number(&vector["page"]), "{vector}");
    }
    for vector in vectors["anchor"].as_array().unwrap() {
        let part = |name: &str| bytes(&vector[name]);
        let ids = [part("owner"), part("incarnation")].concat();
        let sequence = number(&vector["sequence"]).to_be_bytes();
        let data = [&part("store")[..], &[0, 0, 0, 1], &ids, &sequence, &[0; 52]].concat();
        assert_eq!(
            mac(&subkey(&vector["anchor_key"], "dkusecrets/v1/anchor"), &data),
            bytes(&vector["mac"]),
            "{vector}"
        );
    }
}

/// A private copy of a vault, unlocked, and what is expected in it.
fn copy(which: &str) -> (Home, Vault, Json) {
    let home = Home::new();
    for directory in ["data", "config"] {
        DirBuilder::new().mode(0o700).create(home.path().join(directory)).unwrap();
        for entry in read_dir(folder().join(which).join(directory)).unwrap() {
            let from = entry.unwrap().path();
            let to = home.path().join(directory).join(from.file_name().unwrap());
            std::fs::copy(&from, &to).unwrap();
            set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
        }
    }
    let expected = read(&folder().join(which).join("expected.json"));
    let vault = home.vault();
    if let Some(passphrase) = expected["passphrase"].as_str() {
        vault.unlock(&Passphrase::new(passphrase), None).unwrap();
    }
    (home, vault, expected)
}

fn reads_everything(which: &str) {
    let (_home, vault, expected) = copy(which);
    let info = vault.info();
    assert_eq!(info.problems, []);
    assert_eq!(info.store.as_deref(), expected["store"].as_str());
    assert_eq!(info.sequence, expected["sequence"].as_u64());
    assert_eq!(info.keep_versions.map(u64::from), expected["keep_versions"].as_u64());
    assert_eq!(info.keep_days.map(u64::from), expected["keep_days"].as_u64());

    let secrets = expected["secrets"].as_object().unwrap();
    let names: Vec<String> = vault.list().unwrap().into_iter().map(|s| s.name).collect();
    assert_eq!(names, secrets.keys().cloned().collect::<Vec<_>>());
    let mut values = 0;
    for summary in vault.list().unwrap() {
        let name = summary.name.as_str();
        let secret = &secrets[name];
        assert_eq!(summary.description, secret["description"].as_str().unwrap(), "{name}");
        assert_eq!(Some(summary.created), secret["created"].as_i64(), "{name}");
        assert_eq!(Some(summary.updated), secret["updated"].as_i64(), "{name}");
        assert_eq!(summary.removed, secret["removed"].as_i64(), "{name}");
        let versions = secret["versions"].as_array().unwrap();
        let mut found = vault.versions(name).unwrap();
        found.reverse();
        assert_eq!(found.len(), versions.len(), "{name}");
        for (found, version) in found.iter().zip(versions) {
            assert_eq!(Some(found.version), version["version"].as_u64(), "{name}");
            assert_eq!(Some(found.created), version["created"].as_i64(), "{name}");
            assert_eq!(found.expires.map(i64::from), version["expires"].as_i64(), "{name}");
        }
        let current = versions.last().unwrap();
        if summary.removed.is_none() {
            assert_eq!(get(&vault, name), current["value"].as_str().unwrap(), "{name}");
        }
        values += versions.len() as u64;
    }
    assert_eq!(vault.verify().unwrap(), values);
    // Values that no read answers with are there once they were restored, in a copy each: it changes the vault.
    for (name, secret) in secrets {
        let versions = secret["versions"].as_array().unwrap();
        let of_removed = if secret["removed"].is_null() { versions.len() - 1 } else { versions.len() };
        for version in &versions[..of_removed] {
            let (_home, vault, _) = copy(which);
            vault.restore(name, version["version"].as_u64()).unwrap();
            assert_eq!(get(&vault, name), version["value"].as_str().unwrap(), "{name}");
        }
    }
}

#[test]
fn a_vault_with_a_key_file() {
    reads_everything("vault-file");
}

#[test]
fn a_vault_with_a_passphrase() {
    reads_everything("vault-passphrase");
}

#[test]
fn old_vaults_can_be_written() {
    for which in ["vault-file", "vault-passphrase"] {
        let (_home, vault, expected) = copy(which);
        vault.configure(Some(2), Some(0)).unwrap();
        common::set(&vault, "new", "value");
        assert_eq!(get(&vault, "new"), "value");
        let removed = expected["secrets"].as_object().unwrap().values().filter(|s| !s["removed"].is_null()).count();
        assert_eq!(vault.list().unwrap().len(), expected["secrets"].as_object().unwrap().len() - removed + 1);
        vault.verify().unwrap();
    }
}
