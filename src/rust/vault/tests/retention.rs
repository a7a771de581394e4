//! How long versions and removed secrets are kept, by which clock, and that what is purged is gone.
mod common;
use common::*;
use std::cell::Cell;
use std::collections::HashSet;
use vault::*;

const DAY: i64 = 24 * 60 * 60 * 1000;

thread_local! {
    /// Each test has a thread of its own.
    static NOW: Cell<i64> = const { Cell::new(20_000 * DAY) };
}

fn now() -> i64 {
    NOW.get()
}

fn later(milliseconds: i64) {
    NOW.set(NOW.get() + milliseconds);
}

fn vault(home: &Home) -> Vault {
    home.vault().with_clock(now)
}

fn kept(vault: &Vault, name: &str) -> Vec<u64> {
    vault.versions(name).unwrap().iter().map(|v| v.version).collect()
}

/// A write that changes nothing of what is looked at.
fn touch(vault: &Vault) {
    set(vault, "touched", "again");
}

fn is_kept(vault: &Vault, name: &str) -> bool {
    vault.list().unwrap().iter().any(|s| s.name == name)
}

#[test]
fn a_value_is_good_to_the_end_of_its_last_day() {
    let home = Home::new();
    let vault = vault(&home);
    let today = (now() / DAY) as i32;
    let last_day = |day| Change { expires: Some(Some(day)), ..Change::default() };
    for (day, expired) in [(today - 1, true), (today, false), (today + 1, false), (i32::MIN, true), (i32::MAX, false)] {
        vault.set("a", &value("1"), &last_day(day)).unwrap();
        let found = vault.get("a").unwrap();
        assert_eq!((found.expires, found.expired), (Some(day), expired));
    }
    vault.describe("a", &last_day(today)).unwrap();
    later(DAY - 1);
    assert!(!vault.get("a").unwrap().expired && !vault.get_all().unwrap()[0].expired);
    later(1);
    assert!(vault.get("a").unwrap().expired && vault.get_all().unwrap()[0].expired);
    vault.describe("a", &Change { expires: Some(None), ..Change::default() }).unwrap();
    assert!(!vault.get("a").unwrap().expired);
    // Before 1970, too, a day is a day.
    NOW.set(-1);
    vault.describe("a", &last_day(-1)).unwrap();
    assert!(!vault.get("a").unwrap().expired);
    NOW.set(0);
    assert!(vault.get("a").unwrap().expired);
}

#[test]
fn the_eleventh_version_drops_the_first() {
    let home = Home::new();
    let vault = vault(&home);
    for i in 1..=25_u64 {
        assert_eq!(set(&vault, "a", &i.to_string()), i);
        assert_eq!(kept(&vault, "a"), (i.saturating_sub(9).max(1)..=i).rev().collect::<Vec<_>>());
        assert_eq!(keys_of(&rows(&home.database()), RECORD).len() as u64, i.min(10));
    }
    assert!(matches!(vault.restore("a", Some(15)), Err(Error::NoVersion { version: 15, .. })));
    assert_eq!(vault.restore("a", Some(16)).unwrap(), 26);
    assert_eq!(get(&vault, "a"), "16");
    assert_eq!(kept(&vault, "a"), (17..=26).rev().collect::<Vec<_>>());
}

#[test]
fn fewer_versions_are_kept_from_the_next_write_of_each() {
    let home = Home::new();
    let vault = vault(&home);
    for name in ["a", "b"] {
        for i in 1..=10 {
            set(&vault, name, &i.to_string());
        }
    }
    vault.configure(Some(3), Some(30)).unwrap();
    assert_eq!(kept(&vault, "a").len(), 10);
    set(&vault, "a", "11");
    assert_eq!((kept(&vault, "a"), kept(&vault, "b").len()), (vec![11, 10, 9], 10));
    vault.configure(Some(1), Some(30)).unwrap();
    set(&vault, "b", "11");
    assert_eq!((kept(&vault, "a").len(), kept(&vault, "b")), (3, vec![11]));
    vault.configure(Some(1000), Some(30)).unwrap();
    set(&vault, "b", "12");
    assert_eq!(kept(&vault, "b"), [12, 11]);
    assert_eq!(keys_of(&rows(&home.database()), RECORD).len(), 5);
}

#[test]
fn settings_out_of_range() {
    let home = Home::with_three();
    let vault = home.vault();
    for retention in [(0, 30), (1001, 30), (10, 36_501), (u32::MAX, u32::MAX)] {
        let retention = Retention { versions: retention.0, days: retention.1 };
        assert_eq!(kind(vault.configure(Some(retention.versions), Some(retention.days))), "invalid_argument");
        let other = Home::new();
        assert_eq!(kind(other.vault().create(&NewSlot::KeyFile, retention)), "invalid_argument");
        assert!(names(other.path()).is_empty());
    }
    assert_eq!((vault.info().keep_versions, vault.info().keep_days), (Some(10), Some(30)));
    vault.configure(Some(1000), Some(36_500)).unwrap();
    assert_eq!((vault.info().keep_versions, vault.info().keep_days), (Some(1000), Some(36_500)));
}

/// A removed secret is there for 30 days of use, and gone with the first write after that.
#[test]
fn removed_secrets_are_purged_after_thirty_days() {
    let home = Home::new();
    let vault = vault(&home);
    set(&vault, "a", "1");
    vault.remove("a", None).unwrap();
    for _ in 0..30 {
        assert!(is_kept(&vault, "a"));
        later(DAY - 1);
        touch(&vault);
    }
    // 30 times one millisecond short of 30 days.
    later(29);
    touch(&vault);
    assert!(is_kept(&vault, "a"));
    later(1);
    assert!(is_kept(&vault, "a"), "purged by a read");
    touch(&vault);
    assert!(!is_kept(&vault, "a"));
    assert_eq!(kind(vault.restore("a", None)), "not_found");
    assert_eq!(keys_of(&rows(&home.database()), RECORD).len(), kept(&vault, "touched").len());
}

#[test]
fn a_clock_that_jumps_ahead_purges_nothing() {
    let home = Home::new();
    let vault = vault(&home);
    set(&vault, "a", "1");
    vault.remove("a", None).unwrap();
    for _ in 0..29 {
        later(3 * 365 * DAY);
        touch(&vault);
    }
    assert_eq!(vault.restore("a", None).unwrap(), 1);
    assert_eq!(get(&vault, "a"), "1");
    vault.remove("a", None).unwrap();
    for _ in 0..30 {
        later(DAY);
        touch(&vault);
    }
    assert!(!is_kept(&vault, "a"));
}

#[test]
fn a_clock_at_either_end_of_time() {
    let home = Home::new();
    let vault = vault(&home);
    for time in [i64::MAX, i64::MIN, 0, -1, i64::MAX] {
        NOW.set(time);
        set(&vault, "a", "1");
        vault.remove("a", None).unwrap();
        assert_eq!(kind(vault.get("a")), "not_found");
        vault.restore("a", None).unwrap();
        assert_eq!(get(&vault, "a"), "1");
        assert_eq!(vault.list().unwrap()[0].updated, time);
        vault.info();
    }
}

/// Time goes on from where the clock was set back to; the way back counts for nothing.
#[test]
fn a_clock_that_goes_back() {
    let home = Home::new();
    let vault = vault(&home);
    set(&vault, "a", "1");
    vault.remove("a", None).unwrap();
    later(-100 * DAY);
    touch(&vault);
    for _ in 0..29 {
        later(DAY);
        touch(&vault);
    }
    assert!(is_kept(&vault, "a"));
    later(DAY);
    touch(&vault);
    assert!(!is_kept(&vault, "a"));
}

/// A machine without a clock of its own begins each day in 1970, until the network tells it the time.
#[test]
fn a_clock_that_jumps_back_and_forth_purges_nothing() {
    let home = Home::new();
    let vault = vault(&home);
    set(&vault, "a", "1");
    vault.remove("a", None).unwrap();
    let now = NOW.get();
    for _ in 0..100 {
        for time in [0, now + 1000] {
            NOW.set(time);
            touch(&vault);
        }
    }
    assert!(is_kept(&vault, "a"));
}

/// Two machines at one vault whose clocks differ, or one that is set right after each start.
#[test]
fn clocks_that_differ_purge_nothing() {
    for difference in [1_000, DAY / 4, DAY - 1_000, DAY, DAY + 1, 3 * DAY] {
        let home = Home::new();
        let vault = vault(&home);
        set(&vault, "a", "1");
        vault.remove("a", None).unwrap();
        let now = NOW.get();
        for i in 0..400 {
            NOW.set(now + i + i % 2 * difference);
            touch(&vault);
        }
        assert!(is_kept(&vault, "a"), "{difference} ms apart");
    }
}

#[test]
fn no_days_to_keep() {
    let home = Home::with_three();
    let vault = home.vault();
    vault.remove("a", None).unwrap();
    vault.configure(Some(10), Some(0)).unwrap();
    assert!(!is_kept(&vault, "a"), "those whose time is over go with the setting");
    vault.remove("b", None).unwrap();
    assert!(!is_kept(&vault, "b"));
    assert_eq!(keys_of(&rows(&home.database()), RECORD).len(), 1);
}

#[test]
fn more_and_fewer_days_to_keep() {
    let home = Home::new();
    let vault = vault(&home);
    for name in ["a", "b"] {
        set(&vault, name, "1");
        vault.remove(name, None).unwrap();
        for _ in 0..10 {
            later(DAY);
            touch(&vault);
        }
    }
    vault.configure(Some(10), Some(100)).unwrap();
    for _ in 0..79 {
        later(DAY);
        touch(&vault);
    }
    assert!(is_kept(&vault, "a") && is_kept(&vault, "b"));
    later(DAY);
    touch(&vault);
    assert!(!is_kept(&vault, "a") && is_kept(&vault, "b"));
    vault.configure(Some(10), Some(90)).unwrap();
    assert!(!is_kept(&vault, "b"));
}

/// Removed, restored and removed again: the time begins anew.
#[test]
fn a_restored_secret_is_not_purged() {
    let home = Home::new();
    let vault = vault(&home);
    set(&vault, "a", "1");
    for again in 0..3 {
        vault.remove("a", None).unwrap();
        for _ in 0..29 {
            later(DAY);
            touch(&vault);
        }
        match again {
            0 => assert_eq!(vault.restore("a", None).unwrap(), 1),
            // Setting brings it back, too.
            _ => assert_eq!(set(&vault, "a", "new"), again + 1),
        }
        for _ in 0..40 {
            later(DAY);
            touch(&vault);
        }
        assert!(vault.get("a").is_ok());
    }
}

#[test]
fn purging_on_request() {
    let home = Home::new();
    let vault = vault(&home);
    for i in 1..=4 {
        set(&vault, "a", &i.to_string());
    }
    assert_eq!(vault.purge("a").unwrap(), 3);
    assert_eq!((kept(&vault, "a"), get(&vault, "a")), (vec![4], "4".into()));
    assert_eq!(vault.purge("a").unwrap(), 0);
    assert_eq!(set(&vault, "a", "5"), 5);
    vault.remove("a", None).unwrap();
    assert_eq!(vault.purge("a").unwrap(), 2);
    assert!(matches!(vault.get("a"), Err(Error::NotFound { removed: false, .. })));
    assert_eq!(kind(vault.purge("a")), "not_found");
    assert!(keys_of(&rows(&home.database()), RECORD).is_empty());
    // The name is free, and what comes now is another secret.
    assert_eq!(set(&vault, "a", "new"), 1);
}

/// A purge, asked for or due, writes the file anew: what moved within it leaves no copy, and its space is given back.
#[test]
fn a_purge_gives_space_back() {
    let home = Home::new();
    let vault = vault(&home);
    vault.configure(None, Some(1)).unwrap();
    let size = || std::fs::metadata(home.database()).unwrap().len();
    let long = "x".repeat(100_000);
    set(&vault, "a", "1");
    let small = size();
    // The older version of a live secret.
    set(&vault, "b", &long);
    set(&vault, "b", "1");
    assert!(size() > small + 90_000);
    assert_eq!(vault.purge("b").unwrap(), 1);
    assert!(size() < small + 10_000);
    // A removed one.
    set(&vault, "c", &long);
    vault.remove("c", None).unwrap();
    assert!(size() > small + 90_000);
    assert_eq!(vault.purge("c").unwrap(), 1);
    assert!(size() < small + 10_000);
    // One whose time is over.
    set(&vault, "d", &long);
    vault.remove("d", None).unwrap();
    later(DAY);
    assert!(size() > small + 90_000);
    touch(&vault);
    assert!(!is_kept(&vault, "d") && size() < small + 10_000);
    assert_eq!(vault.verify().unwrap(), 3);
}

/// A purge whose file can't be written anew destroys all the same; a row remembers the rest, and the next change or purge
/// does it.
#[test]
fn a_file_that_cannot_be_written_anew_is_written_later() {
    let test = "a_file_that_cannot_be_written_anew_is_written_later";
    if let Some((role, home)) = role() {
        let vault = Vault::under(home).with_clock(now);
        match role.as_str() {
            "purge" => assert_eq!(vault.purge("a").unwrap(), 1),
            _ => {
                later(2 * DAY);
                touch(&vault);
            }
        }
        let error = error(vault.tidy());
        assert!(matches!(&error, Error::Untidy { why, .. } if !why.is_empty()), "{error:?}");
        return;
    }
    for (role, again) in [("purge", "touch"), ("purge", "purge"), ("due", "touch"), ("due", "tidy")] {
        let home = Home::new();
        let vault = vault(&home);
        vault.configure(None, Some(1)).unwrap();
        set(&vault, "a", "gone");
        touch(&vault);
        for name in ["b", "c", "d"] {
            set(&vault, name, &"x".repeat(1_000_000));
        }
        vault.remove("a", None).unwrap();
        // The file may grow by a page. The journal of writing it anew is longer than that: it has eight bytes more a page.
        let blocks = std::fs::metadata(home.database()).unwrap().len() / 512 + 8;
        let limit = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        run(under(&["sh", "-c", &limit, "sh"], test, role, home.path()));
        assert!(!is_kept(&vault, "a"), "{role}");
        let asks = || rows(&home.database()).get(&[10][..]).cloned();
        let index = |home: &Home| rows(&home.database())[&key_of(&rows(&home.database()), MANIFEST)][..8].to_vec();
        assert_eq!(asks(), Some(index(&home)), "{role}");
        vault.verify().unwrap();
        match again {
            "touch" => touch(&vault),
            "purge" => assert_eq!(kind(vault.purge("a")), "not_found"),
            _ => vault.tidy().unwrap(),
        }
        assert_eq!(asks(), None, "{role}, {again}");
    }
}

/// Whether eight bytes in a row of a sealed box, its header aside, are anywhere in a file.
fn is_in(sealed: &[u8], file: &[u8]) -> bool {
    let number = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    let pieces: HashSet<u64> = sealed[6..].windows(8).map(number).collect();
    file.windows(8).any(|w| pieces.contains(&number(w)))
}

/// No part of a purged box is in the file, free space included, and no journal remains. (A version that was dropped
/// because there are newer ones is gone with the next purge.)
#[test]
fn what_is_purged_is_gone() {
    let home = Home::new();
    let vault = vault(&home);
    vault.configure(Some(3), Some(1)).unwrap();
    // Lengths that fit in a page of the file with others, that fill one, and that need several.
    let lengths = [0, 10, 70, 200, 900, 2_000, 3_800, 4_000, 9_000, 30_000];
    let mut dice: u64 = 12_345;
    let mut roll = |sides: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % sides
    };
    let mut known = Table::new();
    let mut gone: Vec<Vec<u8>> = Vec::new();
    let mut checked = 0;
    for _ in 0..400 {
        let name = format!("secret {}", roll(40));
        let value = value(&"x".repeat(lengths[roll(lengths.len())]));
        let mut purged = false;
        match roll(10) {
            0 => drop(vault.remove(&name, None)),
            1 | 2 => purged = vault.purge(&name).is_ok(),
            3 => later(DAY),
            _ => {
                let names = vault.list().unwrap().len();
                let is_new = !is_kept(&vault, &name);
                vault.set(&name, &value, &Change::default()).unwrap();
                // Those whose time was over.
                purged = vault.list().unwrap().len() < names + usize::from(is_new);
            }
        }
        let now = rows(&home.database());
        let lost = known.iter().filter(|(k, v)| k[0] == RECORD && now.get(*k) != Some(v));
        gone.extend(lost.map(|(_, v)| v.clone()));
        if purged {
            let file = std::fs::read(home.database()).unwrap();
            for sealed in gone.drain(..) {
                checked += 1;
                assert!(!is_in(&sealed, &file), "a box of {} bytes is still there", sealed.len());
            }
            // One that was not purged would be seen.
            assert!(now.iter().filter(|(k, _)| k[0] == RECORD).take(1).all(|(_, v)| is_in(v, &file)));
            assert_eq!(names(&home.data()), ["vault.db"]);
        }
        known = now;
    }
    assert!(checked > 100, "{checked}");
}
