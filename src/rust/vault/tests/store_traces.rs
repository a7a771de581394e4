//! What was destroyed in a store is in none of its files.
mod common;
use common::store::*;
use common::*;
use std::collections::HashMap;
use vault::{Change, Store};

/// The files of a store that is open, read by another process: this one's locks would go with what it closes.
fn every_byte(place: &Place) -> Vec<Vec<u8>> {
    let copy = Home::new();
    for part in ["data", "config"] {
        let copied =
            std::process::Command::new("cp").arg("-a").arg(place.home.path().join(part)).arg(copy.path()).status();
        assert!(copied.unwrap().success());
    }
    files(&copy.data()).iter().chain(&files(&copy.config())).map(|file| std::fs::read(file).unwrap()).collect()
}

/// A piece of each sealed row under a tag, by key: enough to tell it from all others.
fn sealed(place: &Place, tag: u8) -> HashMap<Vec<u8>, [u8; 16]> {
    let copy = Home::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(place.home.data()).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    let rows = rusqlite::Connection::open(copy.data().join("store.db")).unwrap();
    let mut query =
        rows.prepare("SELECT key, value FROM row WHERE substr(key, 1, 1) = ?1 AND length(value) > 100").unwrap();
    let piece = |value: Vec<u8>| value[70..86].try_into().unwrap();
    query.query_map([[tag]], |r| Ok((r.get(0)?, piece(r.get(1)?)))).unwrap().map(Result::unwrap).collect()
}

fn found(everything: &[Vec<u8>], pieces: &HashMap<Vec<u8>, [u8; 16]>) -> usize {
    let wanted: std::collections::HashSet<&[u8]> = pieces.values().map(<[u8; 16]>::as_slice).collect();
    let mut found = std::collections::HashSet::new();
    for bytes in everything {
        found.extend(bytes.windows(16).filter(|window| wanted.contains(window)));
    }
    found.len()
}

/// Secrets of many sizes, written again and again, so that SQLite moves rows between its pages.
fn filled() -> (Place, Store, Person, Person) {
    let place = Place::new();
    let store = place.open();
    let (person, other) = (add(&store), add(&store));
    for round in 0..6 {
        store
            .change(|t| {
                for i in 0..60_usize {
                    let text = "x".repeat((i * 37 + round * 211) % 2_500 + 1);
                    t.set(&person, &format!("secret {i}"), &value(&text), &Change::default())?;
                    t.set(&other, &format!("other {i}"), &value(&text), &Change::default())?;
                    t.record(event(&person, &format!("wrote {i}")));
                }
                Ok(())
            })
            .unwrap();
    }
    (place, store, person, other)
}

#[test]
fn what_is_purged_is_in_no_file() {
    let (place, store, person, _) = filled();
    let all = sealed(&place, 3);
    assert_eq!(all.len(), 720);
    assert_eq!(found(&every_byte(&place), &all), 720);
    store
        .change(|t| {
            for i in 0..60 {
                t.remove(&person, &format!("secret {i}"), None)?;
                assert_eq!(t.purge(&person, &format!("secret {i}"))?, 6);
            }
            Ok(())
        })
        .unwrap();
    let left = sealed(&place, 3);
    let gone: HashMap<_, _> = all.into_iter().filter(|(key, _)| !left.contains_key(key)).collect();
    assert_eq!((left.len(), gone.len()), (360, 360));
    println!("left behind by SQLite: {}", found(&every_byte(&place), &gone));
    assert!(store.tidy(false).unwrap());
    assert_eq!(found(&every_byte(&place), &gone), 0);
    assert_eq!(found(&every_byte(&place), &left), 360);
    assert_eq!(store.verify().unwrap(), 360);
}

#[test]
fn who_was_removed_is_in_no_file() {
    let (place, store, person, other) = filled();
    let all = sealed(&place, 3);
    let own: HashMap<_, _> = all.into_iter().filter(|(key, _)| key[1..17] == person).collect();
    let keys: HashMap<_, _> = sealed(&place, 2).into_iter().filter(|(key, _)| key[1..17] == person).collect();
    assert_eq!((own.len(), keys.len()), (360, 1));
    store.change(|t| t.remove_person(&person)).unwrap();
    assert!(store.tidy(false).unwrap());
    let everything = every_byte(&place);
    assert_eq!((found(&everything, &own), found(&everything, &keys)), (0, 0));
    assert_eq!(store.get_all(&other).unwrap().len(), 60);
}

#[test]
fn events_that_were_let_go_are_in_no_file() {
    let (place, store, ..) = filled();
    let all = sealed(&place, 7);
    assert_eq!(store.forget_events(i64::MAX, event_of_owner()).unwrap(), 360);
    assert!(store.tidy(false).unwrap());
    assert_eq!(found(&every_byte(&place), &all), 0);
    assert_eq!(all.len(), 360);
}

/// That it is still to be done outlives the process; it is done for a small part of the time only.
#[test]
fn tidying_is_remembered_and_not_done_all_the_time() {
    let (place, store, person, _) = filled();
    let purge = |store: &Store, i: usize| {
        store
            .change(|t| {
                t.remove(&person, &format!("secret {i}"), None)?;
                t.purge(&person, &format!("secret {i}"))
            })
            .unwrap();
    };
    let size = || std::fs::metadata(place.database()).unwrap().len();
    (0..30).for_each(|i| purge(&store, i));
    drop(store);
    let (before, store) = (size(), place.open());
    assert!(store.tidy(false).unwrap());
    assert!(size() < before);
    purge(&store, 30);
    assert!(!store.tidy(false).unwrap());
    assert!(!store.tidy(false).unwrap());
    assert!(store.tidy(true).unwrap());
    assert!(store.tidy(false).unwrap());
    drop(store);
    // Nothing is left to do.
    let count: i64 = place.rows().query_row("SELECT count(*) FROM row WHERE key = x'0a'", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 0);
}
