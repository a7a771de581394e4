//! How a vault comes to be: by several processes at once, and killed at every point.
mod common;
use common::*;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;
use vault::*;

/// Lets that many processes begin at once, in a place without a vault, each with a read or a write of its own.
fn at_once(test: &str, processes: usize) {
    let home = Home::new();
    let mut children: Vec<Talk> =
        (0..processes).map(|i| Talk::start(again(test, &i.to_string(), home.path()))).collect();
    for child in &mut children {
        assert_eq!(child.hear().unwrap(), "ready");
    }
    for child in &mut children {
        child.go_on();
    }
    for mut child in children {
        child.must_succeed();
    }
    let vault = home.vault();
    for i in 0..processes {
        assert_eq!(get(&vault, &format!("of process {i}")), format!("value {i}"));
    }
    assert_is_whole(&home, processes as u64);
}

/// One good vault with that many values, and nothing beside it.
fn assert_is_whole(home: &Home, values: u64) {
    assert_eq!(home.vault().verify().unwrap(), values);
    assert_eq!(names(&home.data()), ["vault.db"]);
    let key = home.key_file().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(names(&home.config()), ["anchor", "creation.lock", &key]);
    for file in [home.data(), home.config()].iter().flat_map(|d| files(d)) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

fn at_once_child(role: &str, home: &Path) {
    let vault = Vault::under(home);
    say("ready");
    wait();
    if role.parse::<usize>().unwrap() % 4 == 3 {
        // Reads while it comes to be: nothing yet, or what is there, never an error.
        vault.list().unwrap();
    }
    set(&vault, &format!("of process {role}"), &format!("value {role}"));
}

#[test]
fn two_processes_at_once() {
    if let Some((role, home)) = role() {
        return at_once_child(&role, &home);
    }
    for _ in 0..10 {
        at_once("two_processes_at_once", 2);
    }
}

#[test]
fn eight_processes_at_once() {
    if let Some((role, home)) = role() {
        return at_once_child(&role, &home);
    }
    for _ in 0..10 {
        at_once("eight_processes_at_once", 8);
    }
}

/// One process is held up for half a second after its first such system call on a file; meanwhile another one writes.
/// Neither may end in an error, or undo what the other did.
fn held_up(test: &str, prepare: fn(&Home), file: &str, call: &str) {
    if let Some((role, home)) = role() {
        let vault = Vault::under(home);
        say("ready");
        if role == "create" {
            match vault.create(&NewSlot::KeyFile, Retention::default()) {
                Ok(()) | Err(Error::VaultExists(_)) => {}
                Err(e) => panic!("{e}"),
            }
        } else {
            set(&vault, "slow", "slow");
        }
        return;
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    for what in ["create", "set"] {
        let home = Home::new();
        prepare(&home);
        if what == "create" && home.database().exists() {
            continue;
        }
        let (path, log) = (home.path().join(file), home.path().join("log"));
        let inject = format!("inject={call}:delay_exit=500000:when=1");
        let wrapper = ["strace", "-f", "-o", log.to_str().unwrap(), "-P", path.to_str().unwrap(), "-e", &inject];
        let mut slow = Talk::start(under(&wrapper, test, what, home.path()));
        assert_eq!(slow.hear().unwrap(), "ready");
        std::thread::sleep(Duration::from_millis(250));
        let vault = home.vault();
        set(&vault, "fast", "fast");
        slow.must_succeed();
        assert!(std::fs::read_to_string(log).unwrap().contains("(DELAYED)"), "it was not held up");
        assert_eq!(get(&vault, "fast"), "fast");
        if what == "set" {
            assert_eq!(get(&vault, "slow"), "slow");
        }
        let info = vault.info();
        assert_eq!(info.anchor_sequence, info.sequence);
        assert_is_whole(&home, if what == "set" { 2 } else { 1 });
    }
}

#[test]
fn another_creates_after_the_database_was_looked_for() {
    let prepare = |home: &Home| {
        for directory in [home.data(), home.config()] {
            std::fs::DirBuilder::new().mode(0o700).create(directory).unwrap();
        }
    };
    held_up("another_creates_after_the_database_was_looked_for", prepare, "data/vault.db", "newfstatat");
}

#[test]
fn another_writes_between_database_and_anchor() {
    held_up("another_writes_between_database_and_anchor", |_| {}, "data/vault.db", "renameat2");
}

#[test]
fn another_writes_before_the_anchor_is_written() {
    held_up("another_writes_before_the_anchor_is_written", |_| {}, "config/anchor.new", "unlink");
}

#[test]
fn another_writes_while_the_anchor_is_written() {
    held_up("another_writes_while_the_anchor_is_written", |_| {}, "config/anchor.new", "openat");
}

#[test]
fn another_makes_the_anchor_after_it_was_looked_for() {
    let prepare = |home: &Home| {
        home.vault().create(&NewSlot::KeyFile, Retention::default()).unwrap();
        // As if its creation had been cut short there.
        std::fs::remove_file(home.anchor()).unwrap();
    };
    held_up("another_makes_the_anchor_after_it_was_looked_for", prepare, "config/anchor", "openat");
}
