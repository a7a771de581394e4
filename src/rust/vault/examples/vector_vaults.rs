//! Makes the whole vaults of `vectors/`, which are there already: for one more, give it a new name here.
//! `cargo run --release --example vector_vaults`
use serde_json::{Map, Value as Json, json};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use vault::{Change, NewSlot, Passphrase, Retention, Value, Vault};

fn main() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    make(&vectors.join("vault-file"), None, Retention { versions: 5, days: 36_500 }, every_kind);
    // Typed as two characters, e and an accent: the key comes from the passphrase in NFC.
    let passphrase = "a cafe\u{301} of test vectors";
    make(&vectors.join("vault-passphrase"), Some(passphrase), Retention::default(), few);
}

/// A second goes by each time somebody looks, from 2025-01-01.
fn clock() -> i64 {
    static NOW: AtomicI64 = AtomicI64::new(1_735_689_600_000);
    NOW.fetch_add(1000, Ordering::Relaxed)
}

fn make(home: &Path, passphrase: Option<&str>, retention: Retention, fill: fn(&mut Maker)) {
    if home.exists() {
        return println!("{} is there", home.display());
    }
    std::fs::create_dir_all(home).unwrap();
    let vault = Vault::under(home).with_clock(clock);
    let secret = passphrase.map(Passphrase::new);
    vault.create(&secret.as_ref().map_or(NewSlot::KeyFile, NewSlot::Passphrase), retention).unwrap();
    let mut maker = Maker { vault, values: Map::new() };
    fill(&mut maker);
    let expected = maker.expected(passphrase, retention);
    std::fs::write(home.join("expected.json"), format!("{expected:#}\n")).unwrap();
    println!("made {}", home.display());
}

/// A vault, and by name and version the values that were put into it.
struct Maker {
    vault: Vault,
    values: Map<String, Json>,
}

impl Maker {
    fn set(&mut self, name: &str, value: &str) {
        self.set_with(name, value, &Change::default());
    }

    fn set_with(&mut self, name: &str, value: &str, change: &Change) {
        let version = self.vault.set(name, &Value::new(value.as_bytes()).unwrap(), change).unwrap();
        self.note(name, version, value.into());
    }

    fn note(&mut self, name: &str, version: u64, value: Json) {
        let versions = self.values.entry(name).or_insert_with(|| json!({}));
        versions[version.to_string()] = value;
    }

    /// What a reader must find: the values as they were given, everything else as the vault tells it.
    fn expected(&self, passphrase: Option<&str>, retention: Retention) -> Json {
        let secret = |name: &str| {
            let mut versions = self.vault.versions(name).unwrap();
            versions.reverse();
            let version = |v: &vault::Version| {
                let value = &self.values[name][v.version.to_string()];
                json!({ "version": v.version, "created": v.created, "expires": v.expires, "value": value })
            };
            versions.iter().map(version).collect::<Vec<_>>()
        };
        let secrets: Map<String, Json> = self
            .vault
            .list()
            .unwrap()
            .into_iter()
            .map(|s| {
                let json = json!({
                    "description": s.description,
                    "created": s.created,
                    "updated": s.updated,
                    "removed": s.removed,
                    "versions": secret(&s.name),
                });
                (s.name, json)
            })
            .collect();
        let info = self.vault.info();
        json!({
            "store": info.store,
            "sequence": info.sequence,
            "keep_versions": retention.versions,
            "keep_days": retention.days,
            "passphrase": passphrase,
            "secrets": secrets,
        })
    }
}

fn few(maker: &mut Maker) {
    maker.set("api-key", "old");
    maker.set("api-key", "new");
    maker.set("empty", "");
}

fn every_kind(maker: &mut Maker) {
    few(maker);
    maker.set("multi-line", "first\n\n\tsecond\r\n");
    maker.set("trailing newline", "value\n");
    maker.set("emoji \u{1f511}", "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f600}");
    maker.set("\u{5e1}\u{5d5}\u{5d3}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd} left \u{202e}right");
    // Names are in NFC, values are kept byte for byte.
    maker.vault.set("cafe\u{301}", &Value::new("cafe\u{301}".as_bytes()).unwrap(), &Change::default()).unwrap();
    maker.note("caf\u{e9}", 1, "cafe\u{301}".into());
    maker.set(&"n".repeat(255), "the longest name");
    // A record is one byte longer than the value.
    for length in [62, 63, 64, 10_000] {
        maker.set(&format!("{length} bytes"), &"x".repeat(length));
    }
    for version in 1..=7 {
        maker.set("many versions", &format!("version {version}"));
    }

    let day = |day| Change { expires: Some(Some(day)), ..Change::default() };
    maker.set_with("expires in 2099", "value", &day(47_481));
    maker.set_with("expired before 1970", "value", &day(-1));
    maker.set("described", "value");
    let description = "Weather service\n\tby \u{e9} \u{1f327}".to_owned();
    maker.vault.describe("described", &Change { description: Some(description), ..day(22_644) }).unwrap();

    maker.set("removed", "one");
    maker.set("removed", "two");
    maker.vault.remove("removed", None).unwrap();
    maker.set("removed and restored", "value");
    maker.vault.remove("removed and restored", None).unwrap();
    maker.vault.restore("removed and restored", None).unwrap();
    maker.set("put back", "one");
    maker.set("put back", "two");
    maker.vault.restore("put back", Some(1)).unwrap();
    maker.note("put back", 3, "one".into());
    maker.set("before", "value");
    maker.vault.rename("before", "renamed").unwrap();
    maker.note("renamed", 1, "value".into());
    maker.set("purged", "value");
    maker.vault.remove("purged", None).unwrap();
    maker.vault.purge("purged").unwrap();

    // Descriptions that fill several pages of the index.
    for number in 0..20 {
        let change = Change { description: Some("d".repeat(1000)), ..Change::default() };
        maker.set_with(&format!("page filler {number:02}"), &format!("value {number}"), &change);
    }

    // A restore that was accepted: a second incarnation.
    let database = maker.vault.info().database;
    let copy = std::fs::read(&database).unwrap();
    maker.vault.remove("api-key", None).unwrap();
    std::fs::write(&database, copy).unwrap();
    assert!(maker.vault.accept_restore(false).unwrap());
}
