//! What somebody could do who can write to the database, or to a directory on the way to it, and has no key.
mod common;
use common::*;
use rusqlite::Connection;
use std::os::unix::fs::{PermissionsExt, symlink};
use vault::*;

/// Runs SQL on the database as its owner's enemy would.
fn sql(home: &Home, text: &str) {
    let database = Connection::open(home.database()).unwrap();
    database.execute_batch(&format!("PRAGMA writable_schema=ON; {text}")).unwrap();
}

/// A database whose tables act by themselves: no trigger runs, no view answers, and nothing is written to it.
#[test]
fn triggers_and_views_never_run() {
    let record = "hex(substr(NEW.key, 1, 1)) = '03'";
    for planted in [
        format!("CREATE TRIGGER t BEFORE INSERT ON row WHEN {record} BEGIN SELECT RAISE(IGNORE); END"),
        "CREATE TRIGGER t AFTER UPDATE ON row BEGIN DELETE FROM row WHERE hex(substr(key, 1, 1)) = '03'; END".into(),
        "CREATE TRIGGER t BEFORE DELETE ON row BEGIN SELECT RAISE(IGNORE); END".into(),
        "CREATE TABLE more (x)".into(),
    ] {
        let home = Home::with_three();
        let vault = home.vault();
        sql(&home, &planted);
        let before = rows(&home.database());
        assert_eq!(get(&vault, "a"), "value of a", "{planted}");
        assert_eq!(kind(vault.set("a", &value("new"), &Change::default())), "damaged", "{planted}");
        assert_eq!(kind(vault.purge("a")), "damaged", "{planted}");
        assert_eq!(kind(vault.verify()), "damaged", "{planted}");
        assert_eq!(rows(&home.database()), before, "{planted}");
    }
    let home = Home::with_three();
    sql(&home, "ALTER TABLE row RENAME TO other; CREATE VIEW row AS SELECT key, value FROM other");
    for answer in [kind(home.vault().get("a")), kind(home.vault().list()), kind(home.vault().verify())] {
        assert_eq!(answer, "damaged");
    }
}

/// A table that is not the vault's own: it looks the same and takes a row twice.
#[test]
fn a_table_without_its_index() {
    let home = Home::with_three();
    sql(
        &home,
        "ALTER TABLE row RENAME TO other; CREATE TABLE row (key BLOB NOT NULL, value BLOB NOT NULL) STRICT;
         INSERT INTO row SELECT * FROM other; DROP TABLE other",
    );
    assert_eq!(kind(home.vault().set("a", &value("new"), &Change::default())), "damaged");
    assert_eq!(kind(home.vault().verify()), "damaged");
}

/// The way may lead over links, but not through a directory in which others could point them elsewhere.
#[test]
fn links_between_links_are_looked_at() {
    let home = Home::with_three();
    let place = tempfile::tempdir().unwrap();
    let open = place.path().join("open");
    std::fs::create_dir(&open).unwrap();
    symlink(home.path(), open.join("hop")).unwrap();
    symlink(open.join("hop"), place.path().join("link")).unwrap();
    let vault = Vault::under(place.path().join("link"));
    assert_eq!(get(&vault, "a"), "value of a");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(kind(vault.get("a")), "unsafe");
}

/// A process that remembers its keys does not go on writing into a vault that no other could open.
#[test]
fn nothing_is_written_on_remembered_keys_alone() {
    for missing in [USER_KEY, PAGE] {
        let home = Home::with_three();
        let vault = home.vault();
        assert_eq!(get(&vault, "a"), "value of a");
        let mut table = rows(&home.database());
        let store = &table[&vec![STORE]][4..20].to_vec();
        let key =
            keys_of(&table, missing).into_iter().find(|key| missing == USER_KEY || key[1..17] == store[..]).unwrap();
        table.remove(&key);
        write_rows(&home.database(), &table);
        assert_eq!(kind(vault.set("a", &value("new"), &Change::default())), "damaged");
        assert_eq!(rows(&home.database()), table);
    }
}

/// An anchor that could not be written lags; the next to find it raises it, and until then info() says so.
#[test]
fn an_anchor_that_lags_is_raised_by_a_read() {
    let home = Home::with_three();
    let vault = home.vault();
    let lagging = std::fs::read(home.anchor()).unwrap();
    set(&vault, "a", "new");
    overwrite(&home.anchor(), &lagging);
    let state = home.state();
    assert_eq!(get(&vault, "a"), "new");
    assert_ne!(std::fs::read(home.anchor()).unwrap(), lagging);
    assert!(vault.info().problems.is_empty());
    // One that nobody can raise: somebody holds its lock.
    set(&vault, "a", "newer");
    overwrite(&home.anchor(), &lagging);
    let held = std::fs::File::open(home.anchor()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(get(&vault, "a"), "newer");
    let problems = vault.info().problems;
    assert!(problems.len() == 1 && problems[0].0 == "warning" && problems[0].1.contains("anchor"), "{problems:?}");
    drop(held);
    assert!(vault.info().problems.is_empty());
    drop(state);
}
