//! A database that somebody changed: every byte, and every row, deleted, swapped, added or put back from an older state.
//! A read answers rightly or with an error: never a wrong value, never a wrong "not found".
mod common;
use common::*;
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use std::os::unix::fs::DirBuilderExt;
use vault::hex;
use vault::inside::{Context, Key, open, seal};
use vault::*;

/// What a sound vault answers.
struct Truth {
    list: Vec<Summary>,
    values: Vec<(String, u64, String)>,
}

impl Truth {
    fn of(vault: &Vault) -> Truth {
        Truth { list: vault.list().unwrap(), values: plain(vault.get_all().unwrap()) }
    }

    /// Asks for everything and holds each answer against the truth. Answers with how many errors there were instead.
    fn ask(&self, vault: &Vault) -> usize {
        let mut errors = 0;
        let mut refused = |e: Error| {
            assert_ne!(e.kind(), "not_found");
            let message = e.to_string();
            assert!(self.values.iter().all(|(_, _, value)| !message.contains(value)), "{message}");
            errors += 1;
        };
        // What the process remembers is not looked at again: from the start.
        let _ = vault.lock();
        for (name, version, value) in &self.values {
            match vault.get(name) {
                Ok(found) => assert_eq!((&found.name, found.version, found.value.expose()), (name, *version, &**value)),
                Err(e) => refused(e),
            }
        }
        let gone = self.list.iter().filter(|s| s.removed.is_some()).map(|s| (s.name.as_str(), true));
        for (name, was_removed) in gone.chain([("missing", false)]) {
            match vault.get(name) {
                Ok(_) => panic!("{name} was found"),
                Err(Error::NotFound { removed, close, .. }) => {
                    assert_eq!(removed, was_removed);
                    assert!(close.iter().all(|c| self.values.iter().any(|(n, _, _)| n == c)));
                }
                Err(e) => refused(e),
            }
        }
        match vault.list() {
            Ok(found) => assert_eq!(found, self.list),
            Err(e) => refused(e),
        }
        match vault.get_all() {
            Ok(found) => assert_eq!(plain(found), self.values),
            Err(e) => refused(e),
        }
        errors
    }
}

fn plain(secrets: Vec<Secret>) -> Vec<(String, u64, String)> {
    secrets.into_iter().map(|s| (s.name, s.version, s.value.expose().to_owned())).collect()
}

/// Three live secrets, one of them with two versions, and a removed one.
fn small() -> Home {
    let home = Home::with_three();
    set(&home.vault(), "gone", "value of the removed one");
    home.vault().remove("gone", None).unwrap();
    home
}

#[test]
fn every_byte_of_the_file_flipped() {
    let home = small();
    let vault = home.vault();
    let truth = Truth::of(&vault);
    let sound = std::fs::read(home.database()).unwrap();
    let mut found = 0;
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        // One bit, or where there is something (most of so small a database is empty) another time all of them.
        for mask in [1 << (at % 8), 0xff].into_iter().take(if sound[at] == 0 { 1 } else { 2 }) {
            bytes[at] = sound[at] ^ mask;
            overwrite(&home.database(), &bytes);
            // Shown if it fails.
            println!("byte {at}, mask {mask:#x}");
            found += usize::from(truth.ask(&vault) > 0);
            assert_eq!(names(&home.data()), ["vault.db"]);
        }
    }
    overwrite(&home.database(), &sound);
    assert_eq!(truth.ask(&vault), 0);
    assert!(found > 2000, "only {found} were found");
}

/// What nobody asked for is found by `verify`, whether the process remembers the keys or not.
#[test]
fn every_byte_of_every_row_flipped() {
    let home = small();
    let vault = home.vault();
    let sound = std::fs::read(home.database()).unwrap();
    for (key, value) in rows(&home.database()) {
        let row = [&key[..], &value].concat();
        let at = sound.windows(row.len()).position(|w| w == row).expect("a row in one piece");
        for i in 0..row.len() {
            vault.get("a").unwrap();
            let mut bytes = sound.clone();
            bytes[at + i] ^= 1 << (i % 8);
            overwrite(&home.database(), &bytes);
            // Shown if it fails.
            println!("row {}, byte {i} of key and value", hex(&key));
            assert_ne!(kind(vault.verify()), "not_found");
            let _ = vault.lock();
            assert_ne!(kind(vault.verify()), "not_found");
            overwrite(&home.database(), &sound);
        }
    }
}

/// A home whose rows are to be changed, and what is true of it.
struct Case {
    home: Home,
    rows: Table,
    truth: Truth,
}

impl Case {
    fn new() -> Case {
        let home = small();
        Case { rows: rows(&home.database()), truth: Truth::of(&home.vault()), home }
    }

    /// Puts these rows into the database. Everything must still be answered rightly or refused; answers with how many
    /// questions were refused, and the kind of error that `verify` ends in.
    fn try_rows(&self, rows: &Table) -> (usize, Option<&'static str>) {
        write_rows(&self.home.database(), rows);
        let vault = self.home.vault();
        (self.truth.ask(&vault), vault.verify().err().map(|e| e.kind()))
    }

    /// Whether a row is needed to answer: not that of an older version, nor of a removed secret.
    fn is_asked_for(&self, key: &[u8]) -> bool {
        let mut rows = self.rows.clone();
        rows.remove(key);
        write_rows(&self.home.database(), &rows);
        let vault = self.home.vault();
        let _ = vault.lock();
        vault.get_all().is_err() || vault.list().is_err()
    }

    /// The rows with another value under one key.
    fn with(&self, key: &[u8], value: &[u8]) -> Table {
        let mut rows = self.rows.clone();
        rows.insert(key.to_vec(), value.to_vec());
        rows
    }
}

#[test]
fn every_row_deleted() {
    let case = Case::new();
    let mut silent = Vec::new();
    for key in case.rows.keys() {
        let mut rows = case.rows.clone();
        rows.remove(key);
        let (errors, verified) = case.try_rows(&rows);
        assert_eq!(verified, Some("damaged"), "row {}", hex(key));
        if errors == 0 {
            silent.push(key[0]);
        }
    }
    // Nobody asked for the old value of b and for that of the removed secret.
    assert_eq!(silent, [RECORD, RECORD]);
    assert_eq!(case.try_rows(&case.rows), (0, None));
}

#[test]
fn every_two_rows_swapped() {
    let case = Case::new();
    let keys: Vec<_> = case.rows.keys().collect();
    for (i, one) in keys.iter().enumerate() {
        for other in &keys[i + 1..] {
            let mut rows = case.with(one, &case.rows[*other]);
            rows.insert(other.to_vec(), case.rows[*one].clone());
            let (errors, verified) = case.try_rows(&rows);
            // The first four bytes of the store's row are the format.
            assert!(matches!(verified, Some("damaged" | "newer_format")), "rows {} and {}", hex(one), hex(other));
            assert!(errors > 0 || !case.is_asked_for(one) && !case.is_asked_for(other));
        }
    }
}

/// The rows of another vault put in the place of those of this one: one at a time, and all of a kind.
fn rows_of_another(case: &Case, other: &Home) {
    let foreign = rows(&other.database());
    assert_eq!(case.truth.list.len(), other.vault().list().unwrap().len());
    for kind in [STORE, SLOTS, USER_KEY, RECORD, MANIFEST, PAGE] {
        let (ours, theirs) = (keys_of(&case.rows, kind), keys_of(&foreign, kind));
        for (one, other) in ours.iter().flat_map(|one| theirs.iter().map(move |other| (one, other))) {
            let (errors, verified) = case.try_rows(&case.with(one, &foreign[other]));
            assert!(verified.is_some(), "row {}", hex(one));
            assert!(errors > 0 || !case.is_asked_for(one));
        }
        // As they are, and under our keys.
        let mut rows = case.rows.clone();
        rows.retain(|k, _| k[0] != kind);
        rows.extend(theirs.iter().map(|k| (k.clone(), foreign[k].clone())));
        assert!(case.try_rows(&rows).0 > 0);
        rows.retain(|k, _| k[0] != kind);
        rows.extend(ours.iter().zip(&theirs).map(|(one, other)| (one.clone(), foreign[other].clone())));
        assert!(case.try_rows(&rows).0 > 0);
    }
    assert_eq!(case.try_rows(&case.rows), (0, None));
    // All of them: another vault, which is not the one that was last used here.
    let (errors, verified) = case.try_rows(&foreign);
    assert_eq!(errors, case.truth.values.len() + 4);
    assert!(matches!(verified, Some("rolled_back" | "key_missing")), "{verified:?}");
}

/// The same names with other values.
fn fill(home: &Home) {
    let vault = home.vault();
    for (name, text) in [("a", "1"), ("b", "2"), ("b", "3"), ("c", "4"), ("gone", "5")] {
        set(&vault, name, &format!("of the other vault: {text}"));
    }
    vault.remove("gone", None).unwrap();
}

#[test]
fn rows_of_a_vault_with_another_key() {
    let other = Home::new();
    fill(&other);
    rows_of_another(&Case::new(), &other);
}

#[test]
fn rows_of_a_vault_with_the_same_key() {
    let case = Case::new();
    let other = Home::new();
    // A key alone is taken up by the next creation.
    std::fs::DirBuilder::new().mode(0o700).create(other.config()).unwrap();
    let key = case.home.key_file();
    std::fs::copy(&key, other.config().join(key.file_name().unwrap())).unwrap();
    fill(&other);
    assert_eq!(std::fs::read(other.key_file()).unwrap(), std::fs::read(&key).unwrap());
    rows_of_another(&case, &other);
}

/// Any choice of the rows that changed, put back as they were in any earlier state.
#[test]
fn rows_put_back_from_every_older_state() {
    let case = Case::new();
    let vault = case.home.vault();
    let mut history = vec![case.rows];
    let steps: [&dyn Fn(); 6] = [
        &|| assert_eq!(set(&vault, "b", "newer value of b"), 3),
        &|| vault.describe("a", &Change { description: Some("of a".into()), ..Change::default() }).unwrap(),
        &|| assert_eq!(vault.restore("gone", None).unwrap(), 1),
        &|| vault.rename("c", "d").unwrap(),
        &|| assert_eq!(vault.purge("b").unwrap(), 2),
        &|| assert_eq!(set(&vault, "e", "value of e"), 1),
    ];
    for step in steps {
        step();
        history.push(rows(&case.home.database()));
    }
    let now = history.pop().unwrap();
    let truth = Truth::of(&vault);
    for (i, then) in history.iter().enumerate() {
        let mut changed: Vec<&Vec<u8>> =
            then.keys().chain(now.keys()).filter(|k| then.get(*k) != now.get(*k)).collect();
        changed.sort();
        changed.dedup();
        for choice in 0..1_u32 << changed.len() {
            let mut rows = now.clone();
            for (_, key) in changed.iter().enumerate().filter(|(bit, _)| choice >> bit & 1 == 1) {
                match then.get(*key) {
                    Some(value) => rows.insert(key.to_vec(), value.clone()),
                    None => rows.remove(*key),
                };
            }
            write_rows(&case.home.database(), &rows);
            println!("state {i}, choice {choice:#b} of {}", changed.len());
            let errors = truth.ask(&vault);
            let verified = vault.verify().err().map(|e| e.kind());
            if choice == 0 {
                assert_eq!((errors, verified), (0, None));
            } else if choice == (1 << changed.len()) - 1 {
                assert_eq!((errors, verified), (truth.values.len() + 3, Some("rolled_back")));
            } else if keys_of(&rows, MANIFEST).iter().any(|k| rows[k] != now[k]) || errors > 0 {
                assert!(matches!(verified, Some("rolled_back" | "damaged")));
            } else {
                // Only a value that nobody knows any more.
                assert_eq!(verified, None);
            }
        }
    }
}

#[test]
fn rows_added() {
    let case = Case::new();
    let store = case.rows[&vec![STORE]][4..20].to_vec();
    let (manifest, page) = (key_of(&case.rows, MANIFEST), key_of(&case.rows, PAGE));
    let records = keys_of(&case.rows, RECORD);
    let beside = |key: &[u8], at: usize| {
        let mut key = key.to_vec();
        key[at] ^= 1;
        key
    };
    let mut rows = case.rows.clone();
    for key in &records {
        // The same value as another version, of another secret and of another person.
        for at in [key.len() - 1, 20, 3] {
            rows.entry(beside(key, at)).or_insert_with(|| case.rows[key].clone());
        }
    }
    for key in [&manifest, &page] {
        rows.insert(beside(key, 3), case.rows[key].clone());
    }
    rows.insert(beside(&page, page.len() - 1), case.rows[&page].clone());
    rows.insert([&[RECORD], &store[..], &[0; 24]].concat(), b"not a box".to_vec());
    rows.insert(vec![RECORD], Vec::new());
    rows.insert(vec![5], b"reserved".to_vec());
    rows.insert(Vec::new(), Vec::new());
    rows.insert(vec![255; 300], vec![0; 5000]);
    assert!(rows.len() > case.rows.len() + 10);
    assert_eq!(case.try_rows(&rows), (0, None));
}

#[test]
fn the_row_of_slots_changed() {
    let case = Case::new();
    let slots = &case.rows[&vec![SLOTS]];
    // `FORMAT.md`, "Slots": count, number, length and parameters, length and box.
    assert_eq!(slots[..5], [1, 1, 10, 0, 8]);
    let slot = &slots[1..];
    let changed = |change: fn(&mut Vec<u8>)| {
        let mut slot = slot.to_vec();
        change(&mut slot);
        slot
    };
    let row = |slots: &[&[u8]]| [&[slots.len() as u8][..], &slots.concat()].concat();
    let other_number = changed(|s| s[0] = 2);
    let other_key = changed(|s| s[4] ^= 1);
    let other_kind = changed(|s| s[2] = 1);
    let unknown_kind = changed(|s| s[2] = 2);
    let refused = [
        ("none", row(&[]), "damaged"),
        ("empty", Vec::new(), "damaged"),
        ("another number", row(&[&other_number]), "damaged"),
        ("another key", row(&[&other_key]), "key_missing"),
        ("another kind", row(&[&other_kind]), "damaged"),
        ("an unknown kind", row(&[&unknown_kind]), "damaged"),
        ("one and a half", [&row(&[slot, slot])[..slots.len() + 50]].concat(), "damaged"),
        ("more after it", [&row(&[slot]), &[0][..]].concat(), "damaged"),
        ("more than 16", row(&[slot; 17]), "damaged"),
    ];
    for (what, row, expected) in refused {
        let (errors, verified) = case.try_rows(&case.with(&[SLOTS], &row));
        assert_eq!((errors, verified), (case.truth.values.len() + 4, Some(expected)), "{what}");
    }
    // With no slot that is known there is nothing a passphrase could unlock.
    for row in [row(&[]), row(&[&unknown_kind])] {
        write_rows(&case.home.database(), &case.with(&[SLOTS], &row));
        assert_eq!(kind(case.home.vault().unlock(&Passphrase::new("passphrase"), None)), "damaged");
        let info = case.home.vault().info();
        assert!(!info.locked && info.problems[0].0 == "damaged", "{:?}", info.problems);
    }
    // A slot beside the genuine one opens nothing and is in nobody's way.
    let beside = [&[slot, &other_number][..], &[&other_key, slot], &[slot, slot], &[&unknown_kind, slot], &[slot; 16]];
    for row in beside.map(row) {
        assert_eq!(case.try_rows(&case.with(&[SLOTS], &row)), (0, None));
    }
}

/// A value so long that SQLite keeps it in pages of its own.
#[test]
fn bytes_of_a_long_value_flipped() {
    let home = Home::with_three();
    let vault = home.vault();
    set(&vault, "long", &"long value ".repeat(2000));
    let truth = Truth::of(&vault);
    let sound = std::fs::read(home.database()).unwrap();
    let (_, row) = rows(&home.database()).into_iter().max_by_key(|(_, value)| value.len()).unwrap();
    // Pages that hold nothing but a piece of it, behind the number of the next such page.
    let whole = |page: &usize| row.windows(4092).any(|piece| piece == &sound[page * 4096 + 4..][..4092]);
    let pages: Vec<usize> = (0..sound.len() / 4096).filter(whole).collect();
    assert_eq!(pages.len(), row.len() / 4096);
    for at in pages.iter().flat_map(|page| (page * 4096 + 4..(page + 1) * 4096).step_by(53)) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        overwrite(&home.database(), &bytes);
        println!("byte {at} of {}", sound.len());
        let errors = truth.ask(&vault);
        assert!(errors > 0);
    }
}

/// A slot that opens, with the right root key in it, and is still not the one that the directory knows: one that was
/// there before, say.
#[test]
fn another_slot_that_opens() {
    let case = Case::new();
    let key_file = std::fs::read_to_string(case.home.key_file()).unwrap();
    let digits = key_file.split("\nkey ").nth(1).unwrap().trim_end();
    let key: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&digits[2 * i..][..2], 16).unwrap()).collect();
    let mut provider = [0; 32];
    Hkdf::<Sha256>::new(None, &key).expand(b"dkusecrets/v1/box", &mut provider).unwrap();
    let provider = Key::from_bytes(&provider).unwrap();

    let store: [u8; 16] = case.rows[&vec![STORE]][4..20].try_into().unwrap();
    let slots = &case.rows[&vec![SLOTS]];
    // Number 1, ten bytes of parameters, and two bytes for the length of the box.
    let (front, sealed) = slots.split_at(15);
    let parameters: [u8; 32] = Sha256::digest(&slots[3..13]).into();
    let context = Context::Slot { store: &store, slot: 1, parameters: &parameters };
    let root = open(&provider, &context, sealed).unwrap();
    let again = [front, &seal(&provider, 1, &context, &root).unwrap()].concat();
    let (errors, verified) = case.try_rows(&case.with(&[SLOTS], &again));
    assert_eq!((errors, verified), (case.truth.values.len() + 4, Some("damaged")));
}

/// `FORMAT.md`, "The database": a writer compares the statement byte by byte, and wants no other object.
#[test]
fn a_schema_that_differs_in_a_byte() {
    for other in [
        "CREATE TABLE row (key BLOB NOT NULL UNIQUE, value  BLOB NOT NULL) STRICT",
        "CREATE TABLE row (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL) STRICT; CREATE INDEX more ON row (value)",
    ] {
        let case = Case::new();
        let connection = rusqlite::Connection::open(case.home.database()).unwrap();
        let sql = format!("ALTER TABLE row RENAME TO old; {other}; INSERT INTO row SELECT * FROM old; DROP TABLE old");
        connection.execute_batch(&sql).unwrap();
        drop(connection);
        let vault = case.home.vault();
        let before = case.home.state();
        assert_eq!(case.truth.ask(&vault), 0, "{other}");
        assert_eq!(kind(vault.set("a", &value("1"), &Change::default())), "damaged", "{other}");
        assert_eq!(kind(vault.verify()), "damaged", "{other}");
        assert!(case.home.state().database == before.database);
    }
}

/// Looking at everything does not end at the first thing that is wrong, and counts what is left.
#[test]
fn everything_that_is_damaged_is_found_at_once() {
    let case = Case::new();
    let vault = case.home.vault();
    assert_eq!(vault.look_at_everything().unwrap().0, 5);
    let records = keys_of(&case.rows, RECORD);
    let mut rows = case.rows.clone();
    rows.remove(&records[0]);
    let swapped = rows[&records[2]].clone();
    rows.insert(records[1].clone(), swapped);
    write_rows(&case.home.database(), &rows);
    let (values, wrong) = vault.look_at_everything().unwrap();
    assert_eq!((values, wrong.iter().map(Error::kind).collect::<Vec<_>>()), (3, vec!["damaged"; 2]));
    assert!(wrong.iter().all(|e| e.to_string().contains("the value of \"")), "{wrong:?}");
    assert_ne!(wrong[0].to_string(), wrong[1].to_string());
    // A page that can't be opened hides the secrets in it, and not the state of the directory.
    let page = key_of(&case.rows, PAGE);
    rows.remove(&page);
    write_rows(&case.home.database(), &rows);
    let (values, wrong) = vault.look_at_everything().unwrap();
    assert!(values == 0 && wrong.len() == 1 && wrong[0].to_string().contains("page 0 of the index"), "{wrong:?}");
}

/// Whoever can write the file can give it more tables, triggers and views: none of them acts, no write is done, and `verify`
/// finds them.
#[test]
fn a_schema_that_acts_by_itself() {
    let case = Case::new();
    let vault = case.home.vault();
    let connection = rusqlite::Connection::open(case.home.database()).unwrap();
    let acts = "CREATE TABLE kept (value);
        CREATE TRIGGER on_insert AFTER INSERT ON row BEGIN INSERT INTO kept VALUES (new.value); END;
        CREATE TRIGGER on_update BEFORE UPDATE ON row BEGIN INSERT INTO kept VALUES (old.value); END;
        CREATE TRIGGER on_delete BEFORE DELETE ON row BEGIN INSERT INTO kept VALUES (old.value); END;";
    connection.execute_batch(acts).unwrap();
    assert_eq!(case.truth.ask(&vault), 0);
    assert_eq!(kind(vault.verify()), "damaged");
    assert_eq!(kind(vault.set("b", &value("newer value of b"), &Change::default())), "damaged");
    assert_eq!(kind(vault.purge("b")), "damaged");
    let kept: i64 = connection.query_row("SELECT count(*) FROM kept", [], |r| r.get(0)).unwrap();
    assert_eq!(kept, 0);
    connection
        .execute_batch("DROP TRIGGER on_insert; DROP TRIGGER on_update; DROP TRIGGER on_delete; DROP TABLE kept")
        .unwrap();
    vault.verify().unwrap();

    // Rows by way of a view, which could call functions.
    connection.execute_batch("ALTER TABLE row RENAME TO rows; CREATE VIEW row AS SELECT key, value FROM rows").unwrap();
    let _ = vault.lock();
    assert_eq!(kind(vault.get("a")), "damaged");
    assert_eq!(kind(vault.set("a", &value("1"), &Change::default())), "damaged");
}
