//! Makes the whole store of `vectors/`, which is there already: for one more, give it a new name here.
//! `cargo run --release --example vector_store`
use serde_json::{Map, Value as Json, json};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use vault::{Change, Event, Store, Value};

type Person = [u8; 16];

fn main() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/store");
    if home.exists() {
        return println!("{} is there", home.display());
    }
    Store::create(&home).unwrap();
    let mut maker = Maker { store: Some(open(&home)), people: Vec::new() };
    fill(&home, &mut maker);
    let expected = maker.expected();
    drop(maker);
    std::fs::write(home.join("expected.json"), format!("{expected:#}\n")).unwrap();
    println!("made {}", home.display());
}

/// A second goes by each time somebody looks, from 2025-01-01.
fn clock() -> i64 {
    static NOW: AtomicI64 = AtomicI64::new(1_735_689_600_000);
    NOW.fetch_add(1000, Ordering::Relaxed)
}

fn open(home: &Path) -> Store {
    Store::open(home).unwrap().with_clock(clock)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn event(who: &str, action: &str, about: &[Person]) -> Event {
    Event {
        about: about.to_vec(),
        who: who.into(),
        from: "uid 1000, pid 4711".into(),
        action: action.into(),
        outcome: "ok".into(),
        ..Event::default()
    }
}

/// A store, and of each person by name and version the values that were stored.
struct Maker {
    store: Option<Store>,
    people: Vec<(Person, Map<String, Json>)>,
}

impl Maker {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    /// Somebody whom a server of this version knows by that login.
    fn add(&mut self, login: &str, groups: &[&str]) -> Person {
        let person = self
            .store()
            .change(|t| {
                let id = t.add_person()?;
                let document = json!({
                    "id": id,
                    "login": login,
                    "display_name": login,
                    "groups": groups,
                    "enabled": true,
                    "profile": "DESIGNER",
                    "created": t.now(),
                });
                t.put_document(&format!("person:{login}"), document.to_string().as_bytes())?;
                t.record(Event { names: vec![login.into()], ..event("the owner of the store", "user added", &[id]) });
                Ok(id)
            })
            .unwrap();
        self.people.push((person, Map::new()));
        person
    }

    fn set(&mut self, person: &Person, name: &str, value: &str, change: &Change) {
        let version = self
            .store()
            .change(|t| {
                t.record(Event { names: vec![name.into()], ..event("somebody", "secret stored", &[*person]) });
                t.set(person, name, &Value::new(value.as_bytes()).unwrap(), change)
            })
            .unwrap();
        self.note(person, name, version, value);
    }

    fn note(&mut self, person: &Person, name: &str, version: u64, value: &str) {
        let (_, values) = self.people.iter_mut().find(|(id, _)| id == person).unwrap();
        values.entry(name).or_insert_with(|| json!({}))[version.to_string()] = value.into();
    }

    /// What a reader must find: the values as they were given, everything else as the store tells it.
    fn expected(&self) -> Json {
        let store = self.store();
        let secrets = |(person, values): &(Person, Map<String, Json>)| {
            let secrets = store.list(person).unwrap().into_iter().map(|s| {
                let mut versions = store.versions(person, &s.name).unwrap();
                versions.reverse();
                let version = |v: &vault::Version| {
                    let value = &values[&s.name][v.version.to_string()];
                    json!({ "version": v.version, "created": v.created, "expires": v.expires, "value": value })
                };
                let json = json!({
                    "description": s.description,
                    "created": s.created,
                    "updated": s.updated,
                    "removed": s.removed,
                    "versions": versions.iter().map(version).collect::<Vec<_>>(),
                });
                (s.name, json)
            });
            (hex(person), json!({ "secrets": secrets.collect::<Map<_, _>>() }))
        };
        let document =
            |(name, bytes): (String, vault::Document)| (name, String::from_utf8(bytes.to_vec()).unwrap().into());
        let mut events = store.events(1000).unwrap();
        events.reverse();
        let floor = events[0].0 - 1;
        let one = |(number, e): (u64, Event)| {
            json!({
                "number": number,
                "time": e.time,
                "about": e.about.iter().map(|id| hex(id)).collect::<Vec<_>>(),
                "who": e.who,
                "behalf": e.behalf,
                "from": e.from,
                "action": e.action,
                "names": e.names,
                "outcome": e.outcome,
                "claims": e.claims,
            })
        };
        json!({
            "store": store.info().id,
            "documents": store.documents("").into_iter().map(document).collect::<Map<String, Json>>(),
            "people": self.people.iter().map(secrets).collect::<Map<String, Json>>(),
            "log": { "floor": floor, "last": store.last_event(), "events": events.into_iter().map(one).collect::<Vec<_>>() },
        })
    }
}

fn fill(home: &Path, maker: &mut Maker) {
    let plain = Change::default();
    let alice = maker.add("alice", &["administrators"]);
    let bob = maker.add("bob", &[]);
    let carol = maker.add("carol", &[]);
    let _nothing = maker.add("dave", &[]);

    for person in [&alice, &bob, &carol] {
        maker.set(person, "api-key", &format!("of {}", hex(person)), &plain);
    }
    maker.set(&alice, "api-key", "newer", &plain);
    maker.set(&alice, "emoji \u{1f511}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd}\r\n\tvalue\n", &plain);
    let described = Change {
        description: Some("Weather service\n\tby \u{e9}".into()),
        expires: Some(Some(22_644)),
        ..Change::default()
    };
    maker.set(&bob, "described", "", &described);
    for name in ["removed", "removed and restored", "put back", "purged"] {
        maker.set(&bob, name, "one", &plain);
        maker.set(&bob, name, "two", &plain);
    }
    let store = maker.store();
    store.change(|t| t.remove(&bob, "removed", None)).unwrap();
    store.change(|t| t.remove(&bob, "removed and restored", None)).unwrap();
    store.change(|t| t.restore(&bob, "removed and restored", None)).unwrap();
    store.change(|t| t.restore(&bob, "put back", Some(1))).unwrap();
    store.change(|t| t.remove(&bob, "purged", None).and_then(|()| t.purge(&bob, "purged"))).unwrap();
    maker.note(&bob, "put back", 3, "one");
    // More than one page.
    for i in 1..=20 {
        maker.set(
            &alice,
            &format!("filler {i}"),
            "x",
            &Change { description: Some("d".repeat(1000)), ..Change::default() },
        );
    }

    // Everything up to here is let go of, but for the last few events.
    let store = maker.store();
    let let_go = event("the server", "events let go", &[]);
    assert!(store.forget_events(8_000, let_go).unwrap() > 20);

    // Somebody is gone: of them there are events only, and a mark in the anchor that means nothing any more.
    store
        .change(|t| {
            t.remove_document("person:carol")?;
            t.remove_person(&carol)?;
            t.record(Event { names: vec!["carol".into()], ..event("alice", "user removed", &[alice, carol]) });
            Ok(())
        })
        .unwrap();
    maker.people.retain(|(person, _)| *person != carol);

    // A restore that was accepted: a second incarnation.
    maker.store = None;
    let database = home.join("data/store.db");
    let copy = std::fs::read(&database).unwrap();
    open(home).change(|t| t.remove(&bob, "api-key", None)).unwrap();
    std::fs::write(&database, copy).unwrap();
    let accepted =
        Store::accept_restore(home, false, event("the owner of the store", "restore accepted", &[])).unwrap();
    assert_eq!(accepted.unwrap().older, 1);
    maker.store = Some(open(home));

    // Every field of an event.
    let store = maker.store();
    store
        .record(Event {
            behalf: Some("bob".into()),
            names: vec!["api-key".into(), "emoji \u{1f511}".into()],
            claims: vec![("script".into(), "report.R".into()), ("project".into(), "\u{e9}".into())],
            ..event("alice", "secrets read", &[bob, alice])
        })
        .unwrap();
    store.record(Event { outcome: "not_found".into(), ..event("nobody", "", &[]) }).unwrap();
    maker.set(&bob, "last", "value", &plain);
    maker.store().flush().unwrap();
}
