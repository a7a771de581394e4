//! The store of a server: many people in one, and what its log tells.
mod common;

use common::store::*;
use common::*;
use std::path::Path;
use vault::{Change, Result, Store, Value, Vault, hex};

#[test]
fn each_person_has_secrets_of_their_own() {
    let place = Place::new();
    let people: Vec<Person> = {
        let store = place.open();
        let people: Vec<Person> = (0..20).map(|_| add(&store)).collect();
        for (i, person) in people.iter().enumerate() {
            assert_eq!(put(&store, person, "name", &format!("value of {i}")), 1);
            put(&store, person, &format!("only {i}"), "x");
        }
        people
    };
    let store = place.open();
    for (i, person) in people.iter().enumerate() {
        assert_eq!(got(&store, person, "name"), format!("value of {i}"));
        let all: Vec<String> = store.get_all(person).unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(all, ["name".to_owned(), format!("only {i}")]);
        assert_eq!(kind(store.get(person, &format!("only {}", i + 1))), "not_found");
    }
    assert_eq!(store.verify().unwrap(), 40);
    // Somebody who was never here.
    assert_eq!(kind(store.get_all(&[7; 16])), "no_person");
}

#[test]
fn everything_that_can_be_done() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "a", "1");
    assert_eq!(put(&store, &person, "a", "2"), 2);
    let change = Change { description: Some("what it is".into()), expires: Some(Some(20_000)), if_version: None };
    store.change(|t| t.describe(&person, "a", &change)).unwrap();
    let listed = store.list(&person).unwrap();
    assert_eq!((listed[0].description.as_str(), listed[0].expires), ("what it is", Some(20_000)));
    assert_eq!(store.change(|t| t.restore(&person, "a", Some(1))).unwrap(), 3);
    assert_eq!(got(&store, &person, "a"), "1");
    store.change(|t| t.rename(&person, "a", "b")).unwrap();
    assert_eq!(store.versions(&person, "b").unwrap().len(), 3);
    let conflict = Change { if_version: Some(2), ..Change::default() };
    assert_eq!(kind(store.change(|t| t.set(&person, "b", &value("late"), &conflict))), "conflict");
    store.change(|t| t.remove(&person, "b", None)).unwrap();
    assert_eq!(kind(store.get(&person, "b")), "not_found");
    assert_eq!(store.change(|t| t.restore(&person, "b", None)).unwrap(), 3);
    store.change(|t| t.remove(&person, "b", None)).unwrap();
    assert_eq!(store.change(|t| t.purge(&person, "b")).unwrap(), 3);
    assert!(store.list(&person).unwrap().is_empty());
}

/// All of a change, or nothing of it.
#[test]
fn a_change_that_fails_changes_nothing() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "a", "1");
    let failed: Result<()> = store.change(|t| {
        t.set(&person, "a", &value("2"), &Change::default())?;
        t.set(&person, "b", &value("2"), &Change::default())?;
        t.put_document("d", b"2")?;
        t.add_person()?;
        t.record(event(&person, "never happened"));
        t.remove(&person, "missing", None)
    });
    assert_eq!(kind(failed), "not_found");
    assert_eq!(got(&store, &person, "a"), "1");
    assert_eq!(kind(store.get(&person, "b")), "not_found");
    assert!(store.document("d").is_none());
    assert!(store.events(10).unwrap().is_empty());
    assert_eq!(put(&store, &person, "a", "3"), 2);
    drop(store);
    let store = place.open();
    assert_eq!(got(&store, &person, "a"), "3");
    assert_eq!(store.verify().unwrap(), 2);
}

/// Even a mistake in the middle of one leaves the store as it was, and open to the next.
#[test]
fn a_change_that_panics_changes_nothing() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "a", "1");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.change(|t| {
            t.set(&person, "a", &value("2"), &Change::default())?;
            t.put_document("d", b"2")?;
            if true { panic!("on purpose") } else { Ok(()) }
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(got(&store, &person, "a"), "1");
    store.record(event(&person, "read")).unwrap();
    assert_eq!(put(&store, &person, "a", "3"), 2);
    assert!(store.document("d").is_none());
    drop(store);
    let store = place.open();
    assert_eq!(got(&store, &person, "a"), "3");
    assert_eq!(store.verify().unwrap(), 2);
}

#[test]
fn documents() {
    let place = Place::new();
    let store = place.open();
    let many = |t: &mut vault::Transaction| {
        (0..1_000).try_for_each(|i| t.put_document(&format!("login:{i:04}"), format!("{i}").as_bytes()))
    };
    store.change(many).unwrap();
    store
        .change(|t| {
            t.put_document("login:0007", b"new")?;
            t.put_document("group:a", b"g")?;
            assert_eq!(t.document("login:0007").unwrap()[..], *b"new");
            assert_eq!(t.document("login:0008").unwrap()[..], *b"8");
            t.remove_document("login:0009")
        })
        .unwrap();
    assert_eq!(store.documents("login:").len(), 999);
    drop(store);
    let store = place.open();
    assert_eq!(store.documents("login:").len(), 999);
    assert_eq!(store.documents("login:000").len(), 9);
    assert_eq!(store.document("login:0007").unwrap()[..], *b"new");
    assert!(store.document("login:0009").is_none());
    assert_eq!(store.documents("group:").len(), 1);
}

#[test]
fn a_person_who_goes_leaves_nothing() {
    let place = Place::new();
    let store = place.open();
    let (gone, stays) = (add(&store), add(&store));
    put(&store, &gone, "a", "gone");
    put(&store, &stays, "a", "stays");
    store.change(|t| t.remove_person(&gone)).unwrap();
    assert_eq!(kind(store.get(&gone, "a")), "no_person");
    assert_eq!(kind(store.change(|t| t.set(&gone, "a", &value("x"), &Change::default()))), "no_person");
    assert_eq!(got(&store, &stays, "a"), "stays");
    drop(store);
    let count: i64 = place
        .rows()
        .query_row("SELECT count(*) FROM row WHERE substr(key, 2, 16) = ?1", [&gone[..]], |r| r.get(0))
        .unwrap();
    assert_eq!(count, 0);
}

#[test]
fn there_is_one_server_on_a_store_and_it_is_no_vault() {
    let place = Place::new();
    assert_eq!(kind(Store::create(place.home.path())), "exists");
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "a", "1");
    assert_eq!(kind(Store::open(place.home.path())), "in_use");
    // R looks for a vault and finds a store, whether a server runs on it or not.
    let vault = place.home.vault();
    for _ in 0..2 {
        assert_eq!(kind(vault.get("a")), "server_store");
        assert_eq!(kind(vault.set("a", &value("x"), &Change::default())), "server_store");
    }
    drop(store);
    assert_eq!(kind(vault.list()), "server_store");
    std::fs::rename(place.database(), place.home.database()).unwrap();
    assert_eq!(kind(vault.get("a")), "server_store");
    // And the other way round.
    let person = Home::with_three();
    assert_eq!(kind(Store::open(person.path())), "path");
}

#[test]
fn an_older_copy_is_refused() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "a", "1");
    drop(store);
    let old = place.state();
    let store = place.open();
    put(&store, &person, "a", "2");
    drop(store);
    overwrite(&old[0].0, &old[0].1);
    // The log is older than the anchor knows, or the person's index is.
    let refused = Store::open(place.home.path()).map(|store| store.get(&person, "a").map(drop));
    assert!(matches!(&refused, Ok(Err(e)) | Err(e) if e.kind() == "rolled_back"));
    std::fs::remove_file(place.home.anchor()).unwrap();
    assert_eq!(kind(Store::open(place.home.path())), "rolled_back");
}

/// Rows put back from an older state, swapped between people, changed or removed, while no server runs.
#[test]
fn rows_that_were_meddled_with() {
    let place = Place::new();
    let store = place.open();
    let (a, b) = (add(&store), add(&store));
    for person in [&a, &b] {
        put(&store, person, "name", "old");
    }
    drop(store);
    let all = |place: &Place| -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = place.rows();
        let mut query = rows.prepare("SELECT key, value FROM row").unwrap();
        query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(std::result::Result::unwrap).collect()
    };
    let old = all(&place);
    let store = place.open();
    put(&store, &a, "name", "new of a");
    put(&store, &b, "name", "new of b");
    drop(store);
    let before = place.state();
    let write = |key: &[u8], value: &[u8]| {
        place.rows().execute("UPDATE row SET value = ?2 WHERE key = ?1", rusqlite::params![key, value]).unwrap();
    };
    let check = |what: &str| {
        if let Ok(store) = Store::open(place.home.path()) {
            for (person, expected) in [(&a, "new of a"), (&b, "new of b")] {
                match store.get(person, "name") {
                    Ok(secret) => assert_eq!(secret.value.expose(), expected, "{what}"),
                    Err(e) => assert!(["damaged", "rolled_back"].contains(&e.kind()), "{what}: {e}"),
                }
            }
        }
        for (path, bytes) in &before {
            overwrite(path, bytes);
        }
    };
    let now = all(&place);
    for (key, value) in &old {
        if now.iter().any(|(k, v)| k == key && v != value) {
            write(key, value);
            check(&format!("{key:x?} put back"));
        }
    }
    for (key, value) in &now {
        place.rows().execute("DELETE FROM row WHERE key = ?1", [key]).unwrap();
        check(&format!("{key:x?} removed"));
        for at in [0, value.len() / 2, value.len().saturating_sub(1)] {
            let mut changed = value.clone();
            if let Some(byte) = changed.get_mut(at) {
                *byte ^= 1;
                write(key, &changed);
                check(&format!("{key:x?} changed at {at}"));
            }
        }
        // What is the other person's.
        if key.len() > 16 && key[1..17] == a {
            let others = [&key[..1], &b, &key[17..]].concat();
            if let Some((_, other)) = now.iter().find(|(k, _)| *k == others) {
                write(key, other);
                check(&format!("{key:x?} swapped"));
            }
        }
    }
}

#[test]
fn the_log_tells_what_happened_and_cannot_be_changed() {
    let place = Place::new();
    let store = place.open();
    let (a, b) = (add(&store), add(&store));
    for i in 0..30 {
        store.record(event(if i % 3 == 0 { &b } else { &a }, &format!("action {i}"))).unwrap();
    }
    store
        .change(|t| {
            t.record(event(&a, "in a change"));
            t.set(&a, "n", &value("v"), &Change::default())
        })
        .unwrap();
    let newest = store.events(3).unwrap();
    assert_eq!(
        newest.iter().map(|(n, e)| (*n, e.action.as_str())).collect::<Vec<_>>(),
        [(31, "in a change"), (30, "action 29"), (29, "action 28")]
    );
    assert!(newest[0].1.time > 1_600_000_000_000);
    let of_b = store.events_about(&b, 100).unwrap();
    assert!(of_b.len() == 10 && of_b.iter().all(|(_, e)| e.about == [b]));
    assert_eq!(store.verify_events().unwrap(), 31);
    store.flush().unwrap();
    drop(store);
    assert!(!std::fs::read(place.database()).unwrap().windows(8).any(|w| w == b"action 2"));

    let before = place.state();
    let meddle = |sql: &str| {
        place.rows().execute_batch(sql).unwrap();
        let said = Store::open(place.home.path()).and_then(|store| store.verify_events());
        for (path, bytes) in &before {
            overwrite(path, bytes);
        }
        kind(said)
    };
    for number in [1, 2, 17, 30, 31] {
        let key = format!("x'07{number:016x}'");
        assert_eq!(meddle(&format!("DELETE FROM row WHERE key = {key}")), "damaged", "{number} dropped");
        assert_eq!(meddle(&format!("UPDATE row SET value = zeroblob(300) WHERE key = {key}")), "damaged");
        let other = format!("x'07{:016x}'", number % 31 + 1);
        let swap = format!(
            "UPDATE row SET value = (SELECT r.value FROM row AS r WHERE r.key = CASE row.key WHEN {key} THEN {other} ELSE {key} END) WHERE key IN ({key}, {other})"
        );
        assert_eq!(meddle(&swap), "damaged", "{number} swapped");
        let hidden = format!("DELETE FROM row WHERE substr(key, 1, 1) = x'09' AND substr(key, 18) = x'{number:016x}'");
        assert_eq!(meddle(&hidden), "damaged", "{number} hidden");
    }
    // Shown to whom it is not about.
    let planted = format!("INSERT INTO row VALUES (x'09{}{:016x}', x'')", hex(&b), 2);
    assert_eq!(meddle(&planted), "damaged");
    place.rows().execute_batch(&planted).unwrap();
    assert_eq!(kind(place.open().events_about(&b, 100)), "damaged");
    for (path, bytes) in &before {
        overwrite(path, bytes);
    }
    let cut = "DELETE FROM row WHERE key > x'070000000000000014' AND key <= x'08'";
    assert_eq!(meddle(cut), "rolled_back");
    assert_eq!(place.open().verify_events().unwrap(), 31);
}

/// Rows of the directory, put back by another process while the server has the store open.
#[test]
fn an_older_directory_is_refused_at_the_next_change() {
    let test = "an_older_directory_is_refused_at_the_next_change";
    let directory = |rows: &rusqlite::Connection| -> Vec<(Vec<u8>, Vec<u8>)> {
        let sql = "SELECT key, value FROM row WHERE substr(key, 1, 1) IN (x'04', x'06')";
        let mut query = rows.prepare(sql).unwrap();
        query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(std::result::Result::unwrap).collect()
    };
    if let Some((_, home)) = role() {
        // Another process: this one's locks would go with any other descriptor that it closes.
        let rows = rusqlite::Connection::open(home.join("data/store.db")).unwrap();
        let old = directory(&rows);
        say("read");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        for (key, value) in old {
            rows.execute("UPDATE row SET value = ?2 WHERE key = ?1", rusqlite::params![key, value]).unwrap();
        }
        say("written");
        return;
    }
    let place = Place::new();
    let store = place.open();
    store.change(|t| t.put_document("key", b"valid")).unwrap();
    let mut other = Talk::start(again(test, "other", place.home.path()));
    assert_eq!(other.hear().unwrap(), "read");
    store.change(|t| t.remove_document("key")).unwrap();
    std::io::Write::write_all(other.child.stdin.as_mut().unwrap(), b"go\n").unwrap();
    assert_eq!(other.hear().unwrap(), "written");
    other.must_succeed();
    assert!(store.document("key").is_none());
    assert_eq!(kind(store.change(|t| t.put_document("other", b"x"))), "rolled_back");
    assert_eq!(kind(store.verify()), "rolled_back");
    drop(store);
    assert_eq!(kind(Store::open(place.home.path())), "rolled_back");
}

/// What the disk has after a loss of power: the anchor never knows of more than the database does.
#[test]
fn the_anchor_never_leads() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "a", "1");
    store.flush().unwrap();
    let anchor = || std::fs::read(place.home.anchor()).unwrap();
    let before = anchor();
    for i in 0..20 {
        store.record(event(&person, &format!("read {i}"))).unwrap();
    }
    // The events may be lost with the power, so the anchor may not know of them.
    assert_eq!(anchor(), before);
    store.flush().unwrap();
    assert_ne!(anchor(), before);
    // Somebody new has a cell before there is anything to lose.
    let length = anchor().len();
    let someone = store.change(|t| {
        let id = t.add_person()?;
        assert_eq!(anchor().len(), length + 256);
        Ok(id)
    });
    put(&store, &someone.unwrap(), "a", "1");
    assert_eq!(store.verify().unwrap(), 2);
}

#[test]
fn an_older_log_is_refused() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    store.record(event(&person, "one")).unwrap();
    store.flush().unwrap();
    drop(store);
    let old = place.state();
    let store = place.open();
    store.record(event(&person, "two")).unwrap();
    store.flush().unwrap();
    drop(store);
    overwrite(&old[0].0, &old[0].1);
    assert_eq!(kind(Store::open(place.home.path())), "rolled_back");
}

#[test]
fn many_threads_at_once() {
    let place = Place::new();
    let store = place.open();
    let people: Vec<Person> = (0..4).map(|_| add(&store)).collect();
    for person in &people {
        put(&store, person, "count", "0");
    }
    std::thread::scope(|scope| {
        for (i, person) in people.iter().enumerate() {
            let store = &store;
            scope.spawn(move || {
                for n in 1..=50 {
                    put(store, person, "count", &format!("{i} {n}"));
                    store.record(event(person, "wrote")).unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..50 {
                    store.change(|t| t.put_document(&format!("document {i}"), b"x")).unwrap();
                    assert!(store.info().documents >= 1);
                    store.flush().unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..200 {
                    let value = got(store, person, "count");
                    assert!(value == "0" || value.starts_with(&format!("{i} ")), "{value}");
                    store.record(event(person, "read")).unwrap();
                }
            });
        }
    });
    for (i, person) in people.iter().enumerate() {
        assert_eq!(got(&store, person, "count"), format!("{i} 50"));
        assert_eq!(store.events_about(person, 10_000).unwrap().len(), 250);
    }
    assert_eq!(store.verify_events().unwrap(), 1_000);
}

/// Killed at any moment: what was acknowledged is there, and the log tells of every read that was answered.
#[test]
fn kill_and_go_on() {
    let test = "kill_and_go_on";
    if let Some((_, home)) = role() {
        let store = Store::open(home).unwrap();
        let person: Person = store.document("person").unwrap()[..].try_into().unwrap();
        let begin = store.get_all(&person).unwrap().len();
        for n in begin.. {
            put(&store, &person, &format!("secret {n}"), &format!("value {n}"));
            say(&format!("wrote {n}"));
            store.record(event(&person, &format!("read {n}"))).unwrap();
            say(&format!("read {n}"));
        }
        return;
    }
    let place = Place::new();
    let person = {
        let store = place.open();
        store
            .change(|t| {
                let person = t.add_person()?;
                t.put_document("person", &person)?;
                Ok(person)
            })
            .unwrap()
    };
    let (mut wrote, mut read) = (0, Vec::new());
    for round in 0..20 {
        let mut talk = Talk::start(again(test, "server", place.home.path()));
        for _ in 0..round % 7 + 1 {
            let said = talk.hear().unwrap();
            match said.split_once(' ').unwrap() {
                ("wrote", n) => wrote = n.parse::<usize>().unwrap() + 1,
                (_, n) => read.push(format!("read {n}")),
            }
        }
        talk.child.kill().unwrap();
        talk.child.wait().unwrap();
        let store = place.open();
        let all = store.get_all(&person).unwrap();
        assert!(all.len() >= wrote, "{} of {wrote} in round {round}", all.len());
        let events = store.events_about(&person, 100_000).unwrap();
        assert!(read.iter().all(|read| events.iter().any(|(_, e)| e.action == *read)), "round {round}");
        store.verify().unwrap();
    }
    assert!(wrote > 20);
}

/// Values, names and what the server keeps are nowhere in clear.
#[test]
fn nothing_in_clear() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    put(&store, &person, "MARKER-name", "MARKER-value");
    store.change(|t| t.put_document("MARKER-document", b"MARKER-bytes")).unwrap();
    store.record(event(&person, "MARKER-event")).unwrap();
    let look = |directory: &Path| {
        for file in files(directory) {
            let bytes = std::fs::read(&file).unwrap();
            assert!(!bytes.windows(6).any(|w| w == b"MARKER"), "{}", file.display());
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    };
    // Copied by another process, as this one's locks would go if it closed the database here.
    let copy = Home::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(place.home.path()).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let copied = copy.path().join(place.home.path().file_name().unwrap());
    look(&copied.join("data"));
    look(&copied.join("config"));
    assert_eq!(store.verify().unwrap(), 1);
    assert!(Value::new(b"x").is_ok() && Vault::under(place.home.path()).list().is_err());
}
