//! What was destroyed in a store is in none of its files.
mod common;
use common::store::*;
use common::*;
use std::collections::{HashMap, HashSet};
use vault::{Change, Store, Transaction};

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

/// The sealed rows under a tag, by key.
fn sealed(place: &Place, tag: u8) -> HashMap<Vec<u8>, Vec<u8>> {
    let copy = Home::new();
    let copied = std::process::Command::new("cp").arg("-a").arg(place.home.data()).arg(copy.path()).status();
    assert!(copied.unwrap().success());
    let rows = rusqlite::Connection::open(copy.data().join("store.db")).unwrap();
    let sql = "SELECT key, value FROM row WHERE substr(key, 1, 1) = ?1 AND length(value) > 100";
    let mut query = rows.prepare(sql).unwrap();
    query.query_map([[tag]], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// Of how many rows eight bytes in a row, a box's header aside, are anywhere.
fn found(everything: &[Vec<u8>], boxes: &HashMap<Vec<u8>, Vec<u8>>) -> usize {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let mut pieces = HashMap::new();
    for (key, sealed) in boxes {
        pieces.extend(sealed[6..].windows(8).map(|piece| (number(piece), key)));
    }
    let windows = everything.iter().flat_map(|bytes| bytes.windows(8));
    windows.filter_map(|window| pieces.get(&number(window))).collect::<HashSet<_>>().len()
}

/// Numbers that are the same each time.
fn dice() -> impl FnMut(usize) -> usize {
    let mut dice: u64 = 12_345;
    move |sides| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    }
}

/// Secrets of many sizes, written in no order.
fn filled() -> (Place, Store, Person, Person) {
    let place = Place::new();
    let store = place.open();
    let (person, other) = (add(&store), add(&store));
    let lengths = [0, 10, 70, 200, 900, 2_000, 3_800, 4_000];
    let mut roll = dice();
    for _ in 0..200 {
        let (name, text) = (format!("secret {}", roll(60)), "x".repeat(lengths[roll(8)]));
        let change = |t: &mut Transaction| {
            t.set(&person, &name, &value(&text), &Change::default())?;
            t.set(&other, &name, &value(&text), &Change::default())?;
            t.record(event(&person, &"wrote ".repeat(roll(50))));
            if roll(5) == 0 { t.purge(&other, &name) } else { Ok(0) }
        };
        store.change(change).unwrap();
    }
    (place, store, person, other)
}

#[test]
fn what_is_purged_is_in_no_file() {
    let (place, store, person, _) = filled();
    let all = sealed(&place, 3);
    for i in (0..60).step_by(2) {
        let _ = store.change(|t| {
            t.remove(&person, &format!("secret {i}"), None)?;
            t.purge(&person, &format!("secret {i}"))
        });
    }
    let left = sealed(&place, 3);
    let gone: HashMap<_, _> = all.into_iter().filter(|(key, _)| !left.contains_key(key)).collect();
    assert!(gone.len() > 50 && left.len() > 100, "{} {}", gone.len(), left.len());
    assert!(store.tidy(false).unwrap());
    assert_eq!(found(&every_byte(&place), &gone), 0);
    assert_eq!(found(&every_byte(&place), &left), left.len());
    assert_eq!(store.verify().unwrap(), left.len() as u64);
}

/// What SQLite leaves behind when it moves rows between its pages, as it seldom does with those of a store.
#[test]
fn what_was_moved_leaves_no_copy() {
    let place = Place::new();
    let mut gone = HashMap::new();
    {
        let rows = place.rows();
        rows.execute_batch("PRAGMA secure_delete=ON; PRAGMA synchronous=OFF; BEGIN").unwrap();
        let (mut roll, mut live) = (dice(), Vec::<(Vec<u8>, Vec<u8>)>::new());
        let lengths = [150, 200, 300, 900, 2_000, 3_800];
        let put = "INSERT INTO row VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        for i in 0..4_000_u32 {
            // Of a tag that nothing has.
            let key = [&[0xee][..], &(roll(1 << 30) as u32).to_be_bytes(), &i.to_be_bytes()].concat();
            let new = std::iter::repeat_with(|| roll(256) as u8).take(lengths[i as usize % 6]).collect::<Vec<u8>>();
            let at = new[0] as usize * live.len() / 256;
            let kind = if live.is_empty() { 0 } else { new[1] % 4 };
            if kind == 3 {
                let (key, value) = live.swap_remove(at);
                rows.execute("DELETE FROM row WHERE key = ?1", [&key]).unwrap();
                gone.insert(key, value);
                continue;
            }
            if kind == 2 {
                rows.execute(put, [&live[at].0, &new]).unwrap();
                gone.insert(key, std::mem::replace(&mut live[at].1, new));
            } else {
                rows.execute(put, [&key, &new]).unwrap();
                live.push((key, new));
            }
        }
        rows.execute_batch("INSERT INTO row VALUES (x'0a', x''); COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    }
    let behind = found(&every_byte(&place), &gone);
    assert!(behind > 0);
    assert!(place.open().tidy(false).unwrap());
    assert_eq!(found(&every_byte(&place), &gone), 0);
}

#[test]
fn who_was_removed_is_in_no_file() {
    let (place, store, person, other) = filled();
    let own = |tag| {
        let mut rows = sealed(&place, tag);
        rows.retain(|key, _| key[1..17] == person);
        rows
    };
    let (records, keys) = (own(3), own(2));
    assert!(records.len() > 100 && keys.len() == 1);
    store.change(|t| t.remove_person(&person)).unwrap();
    assert!(store.tidy(false).unwrap());
    let everything = every_byte(&place);
    assert_eq!((found(&everything, &records), found(&everything, &keys)), (0, 0));
    assert!(store.get_all(&other).unwrap().len() > 20);
}

#[test]
fn events_that_were_let_go_are_in_no_file() {
    let (place, store, ..) = filled();
    let all = sealed(&place, 7);
    assert_eq!(store.forget_events(0, event_of_owner()).unwrap(), 200);
    assert!(store.tidy(false).unwrap());
    assert_eq!(found(&every_byte(&place), &all), 0);
    assert_eq!(all.len(), 200);
}

/// That it is still to be done outlives the process; it is done for a small part of the time only.
#[test]
fn tidying_is_remembered_and_not_done_all_the_time() {
    let (place, store, person, _) = filled();
    let purge = |store: &Store, i: usize| {
        let _ = store.change(|t| {
            t.remove(&person, &format!("secret {i}"), None)?;
            t.purge(&person, &format!("secret {i}"))
        });
    };
    let size = || std::fs::metadata(place.database()).unwrap().len();
    (0..30).for_each(|i| purge(&store, i));
    drop(store);
    let (before, store) = (size(), place.open());
    assert!(store.tidy(false).unwrap());
    assert!(size() < before);
    (30..60).for_each(|i| purge(&store, i));
    assert!(!store.tidy(false).unwrap());
    assert!(!store.tidy(false).unwrap());
    assert!(store.tidy(true).unwrap());
    assert!(store.tidy(false).unwrap());
    drop(store);
    // Nothing is left to do.
    let count: i64 = place.rows().query_row("SELECT count(*) FROM row WHERE key = x'0a'", [], |r| r.get(0)).unwrap();
    assert_eq!(count, 0);
}
