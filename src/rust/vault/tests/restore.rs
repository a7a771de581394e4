//! Older copies of the whole database, found by the anchor, and what becomes of a restore that is accepted.
mod common;
use common::*;
use vault::hex;
use vault::*;

const COPY: usize = 128;

/// A vault and its state after each of a number of writes: the value of `a` is its number, from 1.
fn history(writes: usize) -> (Home, Vec<State>) {
    let home = Home::new();
    let states = (1..=writes).map(|i| {
        set(&home.vault(), "a", &i.to_string());
        home.state()
    });
    let states = states.collect();
    (home, states)
}

/// Every operation is refused as a rollback, and the file stays as it was.
#[track_caller]
fn assert_is_refused(home: &Home) {
    let vault = home.vault();
    let before = home.state();
    let change = Change { description: Some("new".into()), ..Change::default() };
    let answers = [
        ("get", vault.get("a").err()),
        ("get of a missing one", vault.get("missing").err()),
        ("get_all", vault.get_all().err()),
        ("list", vault.list().err()),
        ("versions", vault.versions("a").err()),
        ("verify", vault.verify().err()),
        ("set", vault.set("a", &value("new"), &change).err()),
        ("describe", vault.describe("a", &change).err()),
        ("rename", vault.rename("a", "b").err()),
        ("restore", vault.restore("a", Some(1)).err()),
        ("purge", vault.purge("a").err()),
        ("remove", vault.remove("a", None).err()),
        ("configure", vault.configure(Some(10), Some(30)).err()),
    ];
    for (what, error) in answers {
        assert_eq!(error.map(|e| e.kind()), Some("rolled_back"), "{what}");
    }
    assert!(vault.info().problems.iter().any(|(kind, _)| kind == "rolled_back"));
    let after = home.state();
    assert!(before.database == after.database && before.anchor == after.anchor);
}

#[test]
fn every_older_copy_is_found() {
    let (home, states) = history(8);
    for old in &states[..7] {
        overwrite(&home.database(), &old.database);
        assert_is_refused(&home);
    }
    overwrite(&home.database(), &states[7].database);
    assert_eq!(get(&home.vault(), "a"), "8");
}

/// The copy is as old as the whole vault: from before the first write.
#[test]
fn the_copy_from_creation_is_found() {
    let home = Home::new();
    home.vault().create(&NewSlot::KeyFile, Retention::default()).unwrap();
    let first = home.state();
    set(&home.vault(), "a", "1");
    overwrite(&home.database(), &first.database);
    assert_is_refused(&home);
}

#[test]
fn an_accepted_copy_can_be_used_and_no_other() {
    let (home, states) = history(6);
    let vault = home.vault();
    for (i, chosen) in states.iter().enumerate() {
        overwrite(&home.database(), &chosen.database);
        let seen = vault.info().anchor_sequence.unwrap();
        assert!(vault.accept_restore(false).unwrap());
        assert!(vault.info().sequence.unwrap() > seen);
        assert_eq!(get(&vault, "a"), (i + 1).to_string());
        assert_eq!(set(&vault, "a", "after"), i as u64 + 2);
        let accepted = home.state();
        // Not the newer copies either, and not the one that was accepted as it was before.
        for (j, other) in states.iter().enumerate() {
            overwrite(&home.database(), &other.database);
            assert_eq!(kind(vault.get("a")), "rolled_back", "{i}, {j}");
        }
        overwrite(&home.database(), &accepted.database);
        assert_eq!(get(&vault, "a"), "after");
        assert_eq!(vault.verify().unwrap(), i as u64 + 2);
        assert!(!vault.accept_restore(false).unwrap());
        // And back to the state that comes next.
    }
}

/// Database and anchor put back together cannot be told from the past: the anchor is what remembers.
#[test]
fn accepting_is_refused_where_there_is_nothing_to_accept() {
    let (home, states) = history(3);
    assert!(!home.vault().accept_restore(false).unwrap());
    let after = home.state();
    assert!(after.database == states[2].database && after.anchor == states[2].anchor);
    assert_eq!(kind(Home::new().vault().accept_restore(false)), "path");
}

/// Killed between the commit and the anchor.
#[test]
fn a_restore_accepted_without_its_anchor_is_accepted_again() {
    let (home, states) = history(4);
    let vault = home.vault();
    overwrite(&home.database(), &states[1].database);
    assert!(vault.accept_restore(false).unwrap());
    overwrite(&home.anchor(), &states[3].anchor);
    assert_is_refused(&home);
    assert!(vault.accept_restore(false).unwrap());
    assert_eq!(get(&vault, "a"), "2");
    overwrite(&home.database(), &states[3].database);
    assert_is_refused(&home);
}

/// An anchor that lags behind, as after a kill or a loss of power, is no reason to refuse, and is raised again by the
/// next that reads or writes.
#[test]
fn an_older_anchor_is_enough() {
    let (home, states) = history(5);
    let vault = home.vault();
    let operations: [&dyn Fn(); 4] = [
        &|| assert_eq!(get(&vault, "a"), "5"),
        &|| assert_eq!(vault.list().unwrap().len(), 1),
        &|| assert_eq!(vault.verify().unwrap(), 5),
        &|| assert_eq!(set(&vault, "a", "6"), 6),
    ];
    for old in &states[..4] {
        for operation in operations {
            overwrite(&home.database(), &states[4].database);
            overwrite(&home.anchor(), &old.anchor);
            operation();
            overwrite(&home.database(), &states[3].database);
            assert_is_refused(&home);
        }
    }
}

#[test]
fn a_deleted_anchor_is_missed() {
    let (home, states) = history(2);
    std::fs::remove_file(home.anchor()).unwrap();
    let error = error(home.vault().get("a"));
    assert_eq!(error.kind(), "rolled_back");
    assert!(error.to_string().contains("anchor"), "{error}");
    assert_eq!(kind(home.vault().set("a", &value("new"), &Change::default())), "rolled_back");
    assert!(home.vault().accept_restore(false).unwrap());
    assert_eq!(get(&home.vault(), "a"), "2");
    overwrite(&home.database(), &states[1].database);
    assert_is_refused(&home);
}

/// Creation makes the anchor last: without a write since, it is made by the first one.
#[test]
fn a_vault_in_its_first_state_needs_no_anchor() {
    let home = Home::new();
    let vault = home.vault();
    vault.create(&NewSlot::KeyFile, Retention::default()).unwrap();
    let first = home.state();
    std::fs::remove_file(home.anchor()).unwrap();
    assert!(vault.list().unwrap().is_empty());
    assert!(!home.anchor().exists());
    set(&vault, "a", "1");
    assert_eq!(vault.info().anchor_sequence, vault.info().sequence);
    overwrite(&home.database(), &first.database);
    assert_is_refused(&home);
}

/// One copy of a mark suffices, and an older database is found by it.
#[test]
fn every_byte_of_the_anchor_flipped() {
    let (home, states) = history(5);
    let vault = home.vault();
    let sound = states[4].anchor.clone();
    assert_eq!(sound.len(), 4 * COPY);
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1 << (at % 8);
        overwrite(&home.anchor(), &bytes);
        println!("byte {at}");
        overwrite(&home.database(), &states[4].database);
        assert_eq!(get(&vault, "a"), "5");
        // The copy that is left may be of the write before.
        overwrite(&home.database(), &states[2].database);
        assert_eq!(kind(vault.get("a")), "rolled_back");
    }
}

/// Where both copies of a mark are changed, the anchor says nothing of that index any more.
#[test]
fn both_copies_of_a_mark_changed() {
    let (home, states) = history(3);
    // Where owner, incarnation, number and MAC are; behind them are zeroes.
    for at in 0..72 {
        for index in [0, 1] {
            let mut bytes = states[2].anchor.clone();
            for copy in [0, 1] {
                bytes[(2 * index + copy) * COPY + at] ^= 0x80;
            }
            overwrite(&home.anchor(), &bytes);
            assert_eq!(kind(home.vault().get("a")), "rolled_back", "byte {at} of index {index}");
        }
    }
    // Marks of both indexes exchanged: each is genuine, wherever it lies.
    let anchor = &states[2].anchor;
    overwrite(&home.anchor(), &[&anchor[2 * COPY..], &anchor[..2 * COPY]].concat());
    assert_eq!(get(&home.vault(), "a"), "3");
    set(&home.vault(), "a", "4");
    overwrite(&home.database(), &states[2].database);
    assert_is_refused(&home);
}

#[test]
fn an_anchor_of_every_length() {
    let (home, states) = history(3);
    let sound = &states[2].anchor;
    for length in 0..sound.len() {
        overwrite(&home.anchor(), &sound[..length]);
        match home.vault().get("a") {
            // With one copy of both marks.
            Ok(found) => assert!(found.value.expose() == "3" && length >= 3 * COPY, "{length}"),
            Err(e) => assert!(e.kind() == "rolled_back" && length < 4 * COPY, "{length}: {e}"),
        }
    }
    overwrite(&home.anchor(), b"");
    assert_is_refused(&home);
    // Too long: what is behind the marks is of no interest.
    overwrite(&home.anchor(), &[&sound[..], &[7; 5000]].concat());
    assert_eq!(get(&home.vault(), "a"), "3");
    set(&home.vault(), "a", "4");
    overwrite(&home.database(), &states[2].database);
    assert_is_refused(&home);
}

#[test]
fn an_anchor_of_another_vault() {
    let (home, _) = history(3);
    let (other, _) = history(3);
    std::fs::copy(other.anchor(), home.anchor()).unwrap();
    assert_is_refused(&home);
    assert!(home.vault().accept_restore(false).unwrap());
    assert_eq!(get(&home.vault(), "a"), "3");
}

/// The whole data directory of another vault that lies under the same configuration.
#[test]
fn a_database_of_another_vault() {
    let (home, _) = history(3);
    let (other, _) = history(3);
    std::fs::copy(other.database(), home.database()).unwrap();
    assert_eq!(kind(home.vault().get("a")), "key_missing");
    // Its key alone is not enough: the anchor knows another vault.
    let key = other.key_file();
    std::fs::copy(&key, home.config().join(key.file_name().unwrap())).unwrap();
    assert_is_refused(&home);
}

/// A damaged copy is accepted only by who says so; then the rest says what is wrong when it is touched.
#[test]
fn a_damaged_copy_is_accepted_as_far_as_it_goes() {
    let home = Home::with_three();
    let vault = home.vault();
    let mut old = rows(&home.database());
    let damaged = keys_of(&old, RECORD).remove(0);
    set(&vault, "a", "newer");
    *old.get_mut(&damaged).unwrap().last_mut().unwrap() ^= 1;
    write_rows(&home.database(), &old);
    assert_eq!(kind(vault.list()), "rolled_back");
    assert_eq!(kind(vault.accept_restore(false)), "damaged");
    assert_eq!(kind(vault.list()), "rolled_back");
    assert_eq!(rows(&home.database()), old);
    assert!(vault.accept_restore(true).unwrap());
    assert_eq!(vault.list().unwrap().len(), 3);
    assert_eq!(kind(vault.verify()), "damaged");
}

/// Whatever is damaged in the copy is found before it is accepted, also by a process that knows the vault's keys already.
#[test]
fn a_damaged_copy_is_not_accepted_unasked() {
    let home = Home::with_three();
    let vault = home.vault();
    let old = rows(&home.database());
    set(&vault, "a", "newer");
    let newer = home.state();
    for key in old.keys() {
        home.put_back(&newer);
        assert_eq!(get(&vault, "a"), "newer");
        let mut damaged = old.clone();
        *damaged.get_mut(key).unwrap().last_mut().unwrap() ^= 1;
        write_rows(&home.database(), &damaged);
        assert_eq!(kind(vault.accept_restore(false)), "damaged", "row {}", hex(key));
        assert_eq!(rows(&home.database()), damaged);
    }
    home.put_back(&newer);
    write_rows(&home.database(), &old);
    assert!(vault.accept_restore(false).unwrap());
    assert_eq!(get(&vault, "a"), "value of a");
}
