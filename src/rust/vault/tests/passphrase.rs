//! Vaults with a passphrase: unlocked in a process, or for a time in the kernel's keyring.
mod common;
use common::*;
use std::time::Duration;
use vault::*;

const RIGHT: &str = "correct horse battery staple";

fn phrase(text: &str) -> Passphrase {
    Passphrase::new(text)
}

/// A vault with a passphrase and one secret, locked.
fn locked() -> Home {
    let home = Home::new();
    let vault = home.vault();
    vault.create(&NewSlot::Passphrase(&phrase(RIGHT)), Retention::default()).unwrap();
    set(&vault, "a", "value of a");
    assert!(vault.lock().unwrap());
    home
}

#[test]
fn locked_unlocked_and_locked_again() {
    let home = locked();
    let vault = home.vault();
    assert!(names(&home.config()).iter().all(|n| !n.ends_with(".key")));
    for _ in 0..2 {
        assert!(vault.info().locked);
        assert!(!vault.lock().unwrap(), "there was nothing to forget");
        let before = home.state();
        let change = Change::default();
        for error in [
            vault.get("a").err(),
            vault.get("missing").err(),
            vault.list().err(),
            vault.get_all().err(),
            vault.verify().err(),
            vault.set("a", &value("new"), &change).err(),
            vault.remove("a", None).err(),
            vault.purge("a").err(),
            vault.accept_restore(false).err(),
        ] {
            let error = error.expect("this had to fail");
            assert!(matches!(error, Error::Locked(ref path) if *path == home.database()), "{error}");
        }
        let info = vault.info();
        assert!(info.locked && info.problems.is_empty() && info.secrets.is_none());
        assert_eq!((info.provider.as_deref(), info.key_file), (Some("passphrase"), None));
        assert!(home.state().database == before.database);

        vault.unlock(&phrase(RIGHT), None).unwrap();
        assert!(!vault.info().locked);
        assert_eq!(get(&vault, "a"), "value of a");
        // Another handle in the same process, and the vault by another way.
        assert_eq!(get(&Vault::at(home.data(), home.config()), "a"), "value of a");
        assert!(vault.lock().unwrap());
    }
}

#[test]
fn wrong_passphrases() {
    let home = locked();
    let vault = home.vault();
    for wrong in ["", "correct horse battery stapl", "Correct horse battery staple", "correct horse battery staple "] {
        let error = error(vault.unlock(&phrase(wrong), None));
        assert!(matches!(error, Error::WrongPassphrase(ref path) if *path == home.database()), "{error}");
        assert!(!error.to_string().contains("horse"), "{error}");
        assert!(vault.info().locked);
    }
    // A wrong one does not lock what is unlocked.
    vault.unlock(&phrase(RIGHT), None).unwrap();
    assert_eq!(kind(vault.unlock(&phrase("wrong passphrase"), None)), "wrong_passphrase");
    assert_eq!(get(&vault, "a"), "value of a");
}

/// However a keyboard spells it: composed or decomposed.
#[test]
fn passphrases_are_normalised() {
    let home = Home::new();
    let vault = home.vault();
    vault.create(&NewSlot::Passphrase(&phrase("mon gar\u{e7}on \u{e0} No\u{eb}l")), Retention::default()).unwrap();
    vault.lock().unwrap();
    vault.unlock(&phrase("mon garc\u{327}on a\u{300} Noe\u{308}l"), None).unwrap();
    set(&vault, "a", "1");
}

#[test]
fn short_passphrases_make_no_vault() {
    let home = Home::new();
    let vault = home.vault();
    // Fourteen characters, of which two are written with combining marks.
    for short in ["", "12345678901234", "e\u{301}e\u{301}345678901234"] {
        assert_eq!(kind(vault.create(&NewSlot::Passphrase(&phrase(short)), Retention::default())), "invalid_argument");
    }
    assert!(names(home.path()).is_empty());
    vault.create(&NewSlot::Passphrase(&phrase("\u{e9}\u{e9}\u{e9}\u{e9}56789012345")), Retention::default()).unwrap();
    assert_eq!(kind(vault.create(&NewSlot::Passphrase(&phrase("123456789012345")), Retention::default())), "exists");
    assert_eq!(format!("{:?}", phrase("12345678")), "Passphrase(..)");
}

/// Whoever has just chosen the passphrase need not type it again.
#[test]
fn a_new_vault_is_unlocked() {
    let home = Home::new();
    let vault = home.vault();
    vault.create(&NewSlot::Passphrase(&phrase(RIGHT)), Retention::default()).unwrap();
    assert!(!vault.info().locked);
    set(&vault, "a", "1");
}

#[test]
fn vaults_without_a_passphrase_need_none() {
    let home = Home::with_three();
    let vault = home.vault();
    assert!(!vault.info().locked);
    vault.unlock(&phrase("whatever"), None).unwrap();
    // What it answers depends on the other tests of this process, which remembers the keys of one vault.
    vault.lock().unwrap();
    assert_eq!(get(&vault, "a"), "value of a");
    // And where there is none yet.
    let vault = Home::new();
    assert!(!vault.vault().info().locked);
    vault.vault().lock().unwrap();
    assert_eq!(kind(vault.vault().unlock(&phrase("whatever"), None)), "path");
}

/// What one process unlocks stays locked for others.
#[test]
fn unlocked_for_this_process_only() {
    let test = "unlocked_for_this_process_only";
    if let Some((_, home)) = role() {
        say(Vault::under(home).get("a").map_or_else(|e| e.kind(), |_| "found"));
        return;
    }
    let home = locked();
    home.vault().unlock(&phrase(RIGHT), None).unwrap();
    assert_eq!(run(again(test, "", home.path())), ["locked"]);
    assert_eq!(get(&home.vault(), "a"), "value of a");
}

/// Unlocks for a time; nothing where the kernel's keyring cannot be used.
fn unlock_for(test: &str, home: &Home, time: Duration) -> Option<Vault> {
    let vault = home.vault();
    match vault.unlock(&phrase(RIGHT), Some(time)) {
        Ok(()) => Some(vault),
        Err(Error::Unavailable(reason)) => {
            skipped(test, &reason);
            None
        }
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn unlocked_for_a_time_for_other_processes() {
    let test = "unlocked_for_a_time_for_other_processes";
    if let Some((role, home)) = role() {
        let vault = Vault::under(home);
        say(vault.get("a").map_or_else(|e| e.kind(), |_| "found"));
        if role == "lock" {
            assert!(vault.lock().unwrap());
        }
        return;
    }
    let home = locked();
    let Some(vault) = unlock_for(test, &home, Duration::from_secs(60)) else { return };
    let child = |role| run(again(test, role, home.path()));
    assert_eq!(get(&vault, "a"), "value of a");
    assert_eq!(child(""), ["found"]);
    assert!(vault.lock().unwrap());
    assert_eq!(kind(vault.get("a")), "locked");
    assert_eq!(child(""), ["locked"]);

    // Another process may lock as well.
    unlock_for(test, &home, Duration::from_secs(60)).unwrap();
    assert_eq!(child("lock"), ["found"]);
    assert_eq!(kind(vault.get("a")), "locked");

    // Who holds the keyring finds the key, and whose user id it has may read it.
    unlock_for(test, &home, Duration::from_secs(60)).unwrap();
    let keys = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    let store = vault.info().store.unwrap();
    if let Some(ours) = keys.lines().find(|l| l.contains(&store)) {
        // Permissions: possessor, user, group, others.
        assert!(ours.contains(" 09260000 "), "{ours}");
    }
    vault.lock().unwrap();
    // The kernel clears away later; until then a key that nobody can use any more has the flag "i".
    let keys = std::fs::read_to_string("/proc/keys").unwrap_or_default();
    let mut ours = keys.lines().filter(|l| l.contains(&store));
    assert!(ours.all(|l| l.split_whitespace().nth(1).unwrap().ends_with('i')), "{keys}");
}

/// Something else under the name of our key in the keyring does not open the vault, and does not make it look damaged.
#[test]
fn another_key_in_the_keyring() {
    let test = "another_key_in_the_keyring";
    if !has("keyctl") {
        return skipped(test, "there is no keyctl to put a key into the keyring with");
    }
    let home = locked();
    let Some(vault) = unlock_for(test, &home, Duration::from_secs(60)) else { return };
    let store = vault.info().store.unwrap();
    let keys = std::fs::read_to_string("/proc/keys").unwrap();
    let Some(name) = keys.split_whitespace().find(|w| w.contains(&store)).map(|w| w.trim_end_matches(':').to_owned())
    else {
        return skipped(test, "the keyring's names cannot be read");
    };
    vault.lock().unwrap();
    for wrong in ["short", "thirty-two bytes of another key."] {
        let added = std::process::Command::new("keyctl").args(["add", "user", &name, wrong, "@us"]).output().unwrap();
        assert!(added.status.success());
        assert_eq!(kind(vault.get("a")), "locked");
        unlock_for(test, &home, Duration::from_secs(60)).unwrap();
        assert_eq!(get(&vault, "a"), "value of a");
        assert!(vault.lock().unwrap());
        assert_eq!(kind(vault.get("a")), "locked");
    }
}

#[test]
fn the_time_ends() {
    let test = "the_time_ends";
    if let Some((_, home)) = role() {
        say(Vault::under(home).get("a").map_or_else(|e| e.kind(), |_| "found"));
        return;
    }
    let home = locked();
    // Less than a second is not for ever.
    for time in [Duration::from_millis(1_000), Duration::from_millis(10), Duration::ZERO] {
        let Some(vault) = unlock_for(test, &home, time) else { return };
        let child = || run(again(test, "", home.path()));
        assert_eq!(child(), ["found"]);
        assert_eq!(get(&vault, "a"), "value of a");
        std::thread::sleep(Duration::from_millis(2_100));
        assert_eq!(child(), ["locked"]);
        assert_eq!(kind(vault.get("a")), "locked");
        assert!(vault.info().locked);
    }
    // Unlocked for the process, then for a time: the time counts.
    let vault = home.vault();
    vault.unlock(&phrase(RIGHT), None).unwrap();
    unlock_for(test, &home, Duration::from_secs(1)).unwrap();
    assert_eq!(get(&vault, "a"), "value of a");
    std::thread::sleep(Duration::from_millis(2_100));
    assert_eq!(kind(vault.get("a")), "locked");
    // For longer than any number the kernel takes.
    unlock_for(test, &home, Duration::MAX).unwrap();
    assert_eq!(get(&vault, "a"), "value of a");
    assert!(vault.lock().unwrap());
}

/// The slot is in clear: changed, it opens nothing, or is refused before anything runs.
#[test]
fn every_byte_of_the_slot_changed() {
    let home = locked();
    let vault = home.vault();
    let sound = rows(&home.database());
    let row = &sound[&vec![SLOTS]];
    // `FORMAT.md`, "Slots": count, number, length, kind, length and salt, memory, passes, lanes, length of the box.
    assert_eq!((row[..3].to_vec(), &row[3..5]), (vec![1, 1, 23], &[1_u8, 16][..]));
    assert_eq!(row[21..26], [128, 128, 4, 3, 4]);
    for at in [0, 1, 2, 3, 4, 5, 20, 24, 25, 26, 30, 60, 90, 110, row.len() - 1] {
        let mut changed = row.clone();
        changed[at] ^= 1;
        let mut rows = sound.clone();
        rows.insert(vec![SLOTS], changed);
        write_rows(&home.database(), &rows);
        let kind = kind(vault.unlock(&phrase(RIGHT), None));
        assert!(matches!(kind, "wrong_passphrase" | "damaged"), "byte {at}: {kind}");
    }
    write_rows(&home.database(), &sound);
    vault.unlock(&phrase(RIGHT), None).unwrap();
    assert_eq!(get(&vault, "a"), "value of a");
}

/// A cost beyond all bounds is refused at once: 4 GiB of memory, or passes for days.
#[test]
fn costs_beyond_bounds_are_not_run() {
    let home = locked();
    let sound = rows(&home.database());
    let row = &sound[&vec![SLOTS]];
    assert_eq!(row[21..26], [128, 128, 4, 3, 4]);
    let costs: [&[u8]; 5] = [
        // 3 GiB in KiB: 3,145,728.
        &[128, 128, 192, 1, 3, 4],
        &[255, 255, 255, 255, 15, 3, 4],
        &[128, 128, 4, 17, 4],
        &[128, 128, 4, 255, 255, 255, 255, 15, 4],
        &[128, 128, 4, 3, 17],
    ];
    for cost in costs {
        let parameters = [&row[3..21], cost].concat();
        let slot = [&row[..2], &[parameters.len() as u8], &parameters, &row[26..]].concat();
        let mut rows = sound.clone();
        rows.insert(vec![SLOTS], slot);
        write_rows(&home.database(), &rows);
        let begun = std::time::Instant::now();
        assert_eq!(kind(home.vault().unlock(&phrase(RIGHT), None)), "damaged");
        assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    }
}
