//! Many processes, and threads, at one vault: nothing lost, no error, no lost update.
mod common;
use common::*;
use std::collections::BTreeSet;
use std::time::Instant;
use vault::*;

/// Starts processes in roles 0 to n - 1, lets them go on together, and sees them end well.
fn together(test: &str, processes: usize, home: &Home) -> Vec<Vec<String>> {
    let mut children: Vec<Talk> =
        (0..processes).map(|i| Talk::start(again(test, &i.to_string(), home.path()))).collect();
    for child in &mut children {
        assert_eq!(child.hear().unwrap(), "ready");
    }
    children.iter_mut().for_each(Talk::go_on);
    let mut said = Vec::new();
    for child in &mut children {
        let mut lines = Vec::new();
        while let Some(line) = child.hear() {
            lines.push(line);
        }
        child.must_succeed();
        said.push(lines);
    }
    said
}

fn begin() {
    say("ready");
    wait();
}

/// Eight processes write a thousand times each: half of it to secrets of their own, half to one that all share.
#[test]
fn eight_processes_write_a_thousand_times_each() {
    let test = "eight_processes_write_a_thousand_times_each";
    if let Some((role, home)) = role() {
        let vault = Vault::under(home);
        begin();
        for i in 0..500 {
            set(&vault, &format!("{role} {}", i % 50), &format!("{role}, {i}"));
            set(&vault, "shared", &format!("{role}, {i}"));
        }
        return;
    }
    let home = Home::on_disk();
    let vault = home.vault();
    vault.create(&NewSlot::KeyFile, Retention { versions: 10, days: 30 }).unwrap();
    let begun = Instant::now();
    together(test, 8, &home);
    println!("{:?}", begun.elapsed());
    assert_eq!(vault.info().sequence, Some(1 + 8 * 1000));
    assert_eq!(vault.versions("shared").unwrap()[0].version, 8 * 500);
    for process in 0..8 {
        for secret in 0..50 {
            let found = vault.get(&format!("{process} {secret}")).unwrap();
            assert_eq!((found.version, found.value.expose()), (10, &*format!("{process}, {}", 450 + secret)));
        }
    }
    assert_eq!(vault.verify().unwrap(), 8 * 50 * 10 + 10);
    assert_eq!(vault.info().anchor_sequence, vault.info().sequence);
    assert_eq!(names(&home.data()), ["vault.db"]);
}

/// Four processes count together: each reads, adds one and writes it back only if nobody was faster.
#[test]
fn no_update_is_lost() {
    let test = "no_update_is_lost";
    const EACH: u64 = 100;
    if let Some((_, home)) = role() {
        let vault = Vault::under(home);
        begin();
        let mut conflicts = 0;
        for _ in 0..EACH {
            loop {
                let (number, version) = match vault.get("counter") {
                    Ok(found) => (found.value.expose().parse::<u64>().unwrap(), found.version),
                    Err(Error::NotFound { .. }) => (0, 0),
                    Err(e) => panic!("{e}"),
                };
                let change = Change { if_version: Some(version), ..Change::default() };
                match vault.set("counter", &value(&(number + 1).to_string()), &change) {
                    Ok(now) => break assert_eq!((now, now), (version + 1, number + 1)),
                    Err(Error::Conflict { expected, found, .. }) => {
                        assert!(expected == version && found > version);
                        conflicts += 1;
                    }
                    Err(e) => panic!("{e}"),
                }
            }
        }
        say(&conflicts.to_string());
        return;
    }
    let home = Home::new();
    let said = together(test, 4, &home);
    assert_eq!(get(&home.vault(), "counter"), (4 * EACH).to_string());
    let conflicts: u64 = said.iter().map(|lines| lines[0].parse::<u64>().unwrap()).sum();
    assert!(conflicts > 0, "they never met");
}

/// Readers beside writers see one state: two secrets that are one at every moment, in one list, are never apart.
#[test]
fn readers_see_one_state() {
    let test = "readers_see_one_state";
    if let Some((role, home)) = role() {
        let vault = Vault::under(home);
        begin();
        for i in 0..200_u64 {
            match role.as_str() {
                "0" => vault.rename(if i % 2 == 0 { "a" } else { "b" }, if i % 2 == 0 { "b" } else { "a" }).unwrap(),
                "1" => drop(set(&vault, "other", &i.to_string())),
                _ => {
                    let all: Vec<String> = vault.get_all().unwrap().into_iter().map(|s| s.name).collect();
                    assert_eq!(all.iter().filter(|n| ["a", "b"].contains(&n.as_str())).count(), 1, "{all:?}");
                    let list = vault.list().unwrap();
                    assert_eq!(list.iter().filter(|s| ["a", "b"].contains(&s.name.as_str())).count(), 1);
                    vault.verify().unwrap();
                }
            }
        }
        return;
    }
    let home = Home::new();
    set(&home.vault(), "a", "1");
    together(test, 4, &home);
    assert_eq!(get(&home.vault(), "a"), "1");
}

/// Threads of one process, to two vaults at once: the keys it remembers are of one of them only.
#[test]
fn threads_at_two_vaults() {
    let homes = [Home::new(), Home::new()];
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let home = &homes[thread % 2];
            scope.spawn(move || {
                let vault = home.vault();
                for i in 0..100 {
                    let text = format!("{thread}, {i}");
                    set(&vault, &format!("of thread {thread}"), &text);
                    assert_eq!(get(&vault, &format!("of thread {thread}")), text);
                }
            });
        }
    });
    for (i, home) in homes.iter().enumerate() {
        let names: BTreeSet<String> = home.vault().list().unwrap().into_iter().map(|s| s.name).collect();
        assert_eq!(names, [i, i + 2].map(|t| format!("of thread {t}")).into());
        assert_eq!(home.vault().verify().unwrap(), 20);
    }
}

/// Whoever is in the middle of a write is waited for by those who write, not by those who read.
#[test]
fn whoever_writes_is_waited_for() {
    let home = Home::with_three();
    let connection = rusqlite::Connection::open(home.database()).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let vault = home.vault();
    // Who reads need not wait.
    assert_eq!(get(&vault, "a"), "value of a");
    let begun = Instant::now();
    let writer = std::thread::spawn(move || set(&vault, "a", "new"));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!writer.is_finished());
    drop(connection);
    assert_eq!(writer.join().unwrap(), 2);
    assert!(begun.elapsed().as_millis() >= 300);
    assert_eq!(get(&home.vault(), "a"), "new");
}

/// Who asks again himself is answered within a moment, whatever is locked, and nothing was done.
#[test]
fn the_impatient_are_told_soon() {
    let home = Home::with_three();
    let (vault, before) = (home.vault().impatient(), home.state());
    let soon = |answers: &[&'static str]| assert!(answers.iter().all(|kind| *kind == "busy"), "{answers:?}");
    let connection = rusqlite::Connection::open(home.database()).unwrap();
    connection.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let begun = Instant::now();
    soon(&[kind(vault.get("a")), kind(vault.set("a", &value("new"), &Change::default())), kind(vault.verify())]);
    soon(&[vault.info().problems[0].0.clone().leak()]);
    assert!(begun.elapsed().as_secs() < 4, "{:?}", begun.elapsed());
    drop(connection);
    // A reader lets a write go as far as its commit.
    let connection = rusqlite::Connection::open(home.database()).unwrap();
    connection.execute_batch("BEGIN; SELECT * FROM row").unwrap();
    let begun = Instant::now();
    soon(&[kind(vault.set("a", &value("new"), &Change::default())), kind(vault.purge("b"))]);
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    drop(connection);
    assert!(home.state().database == before.database);
    // What was destroyed while somebody reads stays destroyed, and the rest waits.
    let purged = home.copy();
    write_rows(&purged.database(), &{
        let mut rows = rows(&purged.database());
        rows.insert(vec![10], vec![0; 8]);
        rows
    });
    let connection = rusqlite::Connection::open(purged.database()).unwrap();
    connection.execute_batch("BEGIN; SELECT * FROM row").unwrap();
    let begun = Instant::now();
    let error = error(purged.vault().impatient().tidy());
    assert!(matches!(error, Error::Untidy { busy: true, .. }), "{error:?}");
    assert!(begun.elapsed().as_secs() < 2);
    drop(connection);
    purged.vault().tidy().unwrap();
    assert!(!rows(&purged.database()).contains_key(&[10][..]));
    assert_eq!(set(&vault, "a", "new"), 2);

    let home = Home::new();
    set(&home.vault(), "a", "1");
    let lock = std::fs::File::open(home.config().join("creation.lock")).unwrap();
    std::fs::remove_file(home.database()).unwrap();
    std::fs::remove_file(home.anchor()).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let begun = Instant::now();
    soon(&[kind(home.vault().impatient().set("a", &value("1"), &Change::default()))]);
    assert!(begun.elapsed().as_secs() < 2 && !home.database().exists());
    drop(lock);
    assert_eq!(set(&home.vault().impatient(), "a", "1"), 1);
}

/// How often the index was written: in clear before the manifest's box, so that looking at it changes nothing.
fn sequence(home: &Home) -> u64 {
    let rows = rows(&home.database());
    u64::from_be_bytes(rows[&key_of(&rows, MANIFEST)][..8].try_into().unwrap())
}

/// Processes that have committed and come late to raise the anchor must not lower it below what others have raised it
/// to, nor take it back behind a restore that was accepted in the meantime.
#[test]
fn whoever_raises_the_anchor_late_does_not_lower_it() {
    let test = "whoever_raises_the_anchor_late_does_not_lower_it";
    if let Some((_, home)) = role() {
        let vault = Vault::under(home);
        say("ready");
        set(&vault, "a", "slow");
        return;
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    for restore in [false, true] {
        let home = Home::with_three();
        let (old, log) = (home.state(), home.path().join("log"));
        // Nothing else is locked in this way.
        let inject = "inject=flock:delay_enter=1000000:when=1";
        let wrapper = ["strace", "-f", "-A", "-o", log.to_str().unwrap(), "-e", "trace=flock", "-e", inject];
        let mut slow = Vec::new();
        for _ in 0..2 {
            let before = sequence(&home);
            slow.push(Talk::start(under(&wrapper, test, "", home.path())));
            let begun = Instant::now();
            while sequence(&home) == before {
                assert!(begun.elapsed().as_secs() < 10);
            }
        }
        assert!(std::fs::read(home.anchor()).unwrap() == old.anchor, "they were not held up");
        let vault = home.vault();
        if restore {
            // The anchor has not heard of the two: what is accepted counts on from a lower number than theirs.
            overwrite(&home.database(), &old.database);
            std::fs::write(home.anchor(), &old.anchor[..256]).unwrap();
            assert!(vault.accept_restore(false).unwrap());
            assert_eq!(sequence(&home), 6);
        } else {
            set(&vault, "a", "fast");
            set(&vault, "a", "faster");
        }
        let raised = std::fs::read(home.anchor()).unwrap();
        slow.iter_mut().for_each(Talk::must_succeed);
        assert_eq!(std::fs::read_to_string(&log).unwrap().matches("(DELAYED)").count(), 2);
        assert!(std::fs::read(home.anchor()).unwrap() == raised);
        assert_eq!(get(&vault, "a"), if restore { "value of a" } else { "faster" });
    }
}
