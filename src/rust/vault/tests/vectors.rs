//! The test vectors of `vectors/`, which the Python implementation shares: see the `README.md` there.
mod common;

use common::{Home, get};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value as Json, json};
use sha2::Sha256;
use std::fs::{DirBuilder, Permissions, read_dir, set_permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use vault::inside::{BoxError, Context, Key, open, seal_with_salt};
use vault::{Event, Passphrase, Store, Summary, Vault, Version};

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
        "event" => act(&Context::Event { store, sequence: n("number") }),
        "audit head" => act(&Context::AuditHead { store, incarnation, sequence: n("number") }),
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
    assert!(vectors.as_array().unwrap().len() >= 81);
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

/// A private copy of a vault's or a store's directories, and what is expected in it.
fn copy_files(which: &str) -> (Home, Json) {
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
    (home, read(&folder().join(which).join("expected.json")))
}

/// A private copy of a vault, unlocked, and what is expected in it.
fn copy(which: &str) -> (Home, Vault, Json) {
    let (home, expected) = copy_files(which);
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
    let get = |name: &str| get(&vault, name);
    let values = agrees(secrets, vault.list().unwrap(), |name| vault.versions(name).unwrap(), get);
    assert_eq!(vault.verify().unwrap(), values);
    // Values that no read answers with are there once they were restored, in a copy each: it changes the vault.
    for (name, version, value) in old_values(secrets) {
        let (_home, vault, _) = copy(which);
        vault.restore(name, Some(version)).unwrap();
        assert_eq!(common::get(&vault, name), value, "{name}");
    }
}

/// Checks one person's secrets against what is expected; answers with the number of values.
fn agrees(
    secrets: &Map<String, Json>,
    list: Vec<Summary>,
    versions_of: impl Fn(&str) -> Vec<Version>,
    get: impl Fn(&str) -> String,
) -> u64 {
    let names: Vec<&String> = list.iter().map(|s| &s.name).collect();
    assert_eq!(names, secrets.keys().collect::<Vec<_>>());
    let mut values = 0;
    for summary in list {
        let name = summary.name.as_str();
        let secret = &secrets[name];
        assert_eq!(summary.description, secret["description"].as_str().unwrap(), "{name}");
        assert_eq!(Some(summary.created), secret["created"].as_i64(), "{name}");
        assert_eq!(Some(summary.updated), secret["updated"].as_i64(), "{name}");
        assert_eq!(summary.removed, secret["removed"].as_i64(), "{name}");
        let versions = secret["versions"].as_array().unwrap();
        let mut found = versions_of(name);
        found.reverse();
        assert_eq!(found.len(), versions.len(), "{name}");
        for (found, version) in found.iter().zip(versions) {
            assert_eq!(Some(found.version), version["version"].as_u64(), "{name}");
            assert_eq!(Some(found.created), version["created"].as_i64(), "{name}");
            assert_eq!(found.expires.map(i64::from), version["expires"].as_i64(), "{name}");
        }
        let current = versions.last().unwrap();
        if summary.removed.is_none() {
            assert_eq!(get(name), current["value"].as_str().unwrap(), "{name}");
        }
        values += versions.len() as u64;
    }
    values
}

/// Name, version and value of what no read answers with: older versions, and what was removed.
fn old_values(secrets: &Map<String, Json>) -> impl Iterator<Item = (&str, u64, &str)> {
    secrets.iter().flat_map(|(name, secret)| {
        let versions = secret["versions"].as_array().unwrap();
        let live = usize::from(secret["removed"].is_null());
        let old = &versions[..versions.len() - live];
        old.iter().map(|v| (name.as_str(), number(&v["version"]), v["value"].as_str().unwrap()))
    })
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

#[test]
fn a_store() {
    let (home, expected) = copy_files("store");
    let store = Store::open(home.path()).unwrap();
    assert_eq!(store.info().id, expected["store"].as_str().unwrap());
    let documents: Map<String, Json> = store
        .documents("")
        .into_iter()
        .map(|(name, bytes)| (name, String::from_utf8(bytes.to_vec()).unwrap().into()))
        .collect();
    assert_eq!(Json::from(documents), expected["documents"]);

    let log = &expected["log"];
    let mut events = store.events(1000).unwrap();
    events.reverse();
    let told: Vec<Json> = events.iter().map(|(number, event)| told(*number, event)).collect();
    assert_eq!(Json::from(told), log["events"]);
    assert_eq!(store.verify_events().unwrap(), number(&log["last"]) - number(&log["floor"]));
    assert_eq!(store.last_event(), number(&log["last"]));

    let mut values = 0;
    for (person, of) in expected["people"].as_object().unwrap() {
        let secrets = of["secrets"].as_object().unwrap();
        let person = &array::<16>(&Json::from(person.as_str()));
        let (list, versions) = (store.list(person).unwrap(), |name: &str| store.versions(person, name).unwrap());
        values += agrees(secrets, list, versions, |name| common::store::got(&store, person, name));
        let own = store.events_about(person, 1000).unwrap();
        let mut about = events.iter().rev().filter(|(_, event)| event.about.contains(person));
        assert!(own.iter().all(|one| about.next() == Some(one)) && about.next().is_none());
        for (name, version, value) in old_values(secrets) {
            let (home, _) = copy_files("store");
            let store = Store::open(home.path()).unwrap();
            store.change(|t| t.restore(person, name, Some(version))).unwrap();
            assert_eq!(common::store::got(&store, person, name), value, "{name}");
        }
    }
    assert_eq!(store.verify().unwrap(), values);
}

/// An event as `expected.json` has it.
fn told(number: u64, e: &Event) -> Json {
    json!({
        "number": number,
        "time": e.time,
        "about": e.about.iter().map(|id| vault::hex(id)).collect::<Vec<_>>(),
        "who": e.who,
        "behalf": e.behalf,
        "from": e.from,
        "action": e.action,
        "names": e.names,
        "outcome": e.outcome,
        "claims": e.claims,
    })
}

#[test]
fn an_old_store_can_be_written() {
    let (home, expected) = copy_files("store");
    let store = Store::open(home.path()).unwrap();
    let new = common::store::add(&store);
    let old = array(&Json::from(expected["people"].as_object().unwrap().keys().next().unwrap().as_str()));
    for person in [new, old] {
        assert_eq!(common::store::put(&store, &person, "new", "value"), 1);
        store.record(common::store::event(&person, "looked")).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let store = common::store::once_free(|| Store::open(home.path())).unwrap();
    assert_eq!(common::store::got(&store, &old, "new"), "value");
    assert_eq!(store.last_event(), number(&expected["log"]["last"]) + 2);
    store.verify().unwrap();
    store.verify_events().unwrap();
}
