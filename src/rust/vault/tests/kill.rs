//! Killed at any point: nothing acknowledged is lost, nothing is left half done. Every system call on a file is the last
//! one in turn.
mod common;
use common::*;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use vault::*;

/// System calls that touch files.
const CALLS: &str = "open,openat,creat,read,pread64,write,pwrite64,writev,pwritev,ftruncate,truncate,fsync,fdatasync,\
    fcntl,flock,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,chmod,fchmod,fchmodat,fchown,close,\
    stat,lstat,fstat,newfstatat,statx,getdents64";

/// In the child: waits until strace has a hold of it.
fn wait_for_strace() {
    // Where only a parent may trace.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    say(std::fs::read_link("/proc/thread-self").unwrap().file_name().unwrap().to_str().unwrap());
    wait();
}

/// Starts a child and lets it go on under strace, which sees of it only the thread with the test.
fn trace(test: &str, home: &Path, arguments: &[&str]) -> Talk {
    let mut talk = Talk::start(again(test, "child", home));
    let thread = talk.hear().unwrap();
    let mut strace = Command::new("strace");
    strace.args(arguments).args(["-p", &thread]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut strace = strace.spawn().unwrap();
    let mut attached = String::new();
    BufReader::new(strace.stderr.take().unwrap()).read_line(&mut attached).unwrap();
    assert!(attached.contains("attached"), "{attached}");
    talk.go_on();
    talk.helper = Some(strace);
    talk
}

/// How often a child makes each system call.
fn count_calls(test: &str, home: &Path) -> BTreeMap<String, u32> {
    let log = home.join("log");
    trace(test, home, &["-o", log.to_str().unwrap(), "-e", &format!("trace={CALLS}")]).must_succeed();
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        if let Some((call, _)) = line.split_once('(') {
            *counts.entry(call.to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

/// What befalls a system call.
#[derive(Clone, Copy)]
enum Fate {
    /// The process is killed as it enters the call.
    Kill,
    /// The call fails with this error.
    Fail(&'static str),
}

/// Runs a child again and again, each time with another one of its system calls meeting its fate. `prepare` makes a home
/// for it; `check` looks at what it left and hears what it said. Answers with how often that was.
fn at_every_call(test: &str, fate: Fate, prepare: impl Fn() -> Home, check: impl Fn(&Home, &[String])) -> usize {
    let mut times = 0;
    for (call, count) in count_calls(test, prepare().path()) {
        if matches!(fate, Fate::Fail(_)) && call == "close" {
            // Nobody can act on that. (The standard library panics if it is a directory's.)
            continue;
        }
        for number in 1..=count {
            let home = prepare();
            let inject = match fate {
                Fate::Kill => format!("inject={call}:signal=KILL:when={number}"),
                Fate::Fail(error) => format!("inject={call}:error={error}:when={number}"),
            };
            let mut talk =
                trace(test, home.path(), &["-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
            let mut said = Vec::new();
            while let Some(line) = talk.hear() {
                said.push(line);
            }
            let status = talk.child.wait().unwrap();
            // Shown if the check fails.
            println!("{call} {number} of {count}: {status}, {said:?}");
            match fate {
                // It made fewer calls than the first time: it waited less for a lock, say.
                Fate::Kill if status.success() => continue,
                Fate::Kill => assert_eq!(status.signal(), Some(9)),
                // What failed is how it tells the answer.
                Fate::Fail(_) if call == "write" && number == count => {}
                Fate::Fail(_) => assert!(status.success() && said.len() == 1),
            }
            check(&home, &said);
            times += 1;
        }
    }
    times
}

/// What a child says of an operation: that it is done, or the kind of its error.
fn tell<T>(answer: Result<T>) {
    match answer {
        Ok(_) => say("done"),
        Err(e) => say(e.kind()),
    }
}

fn is_done(said: &[String]) -> bool {
    said.iter().any(|s| s == "done")
}

fn creation(test: &str, fate: Fate) {
    if let Some((_, home)) = role() {
        wait_for_strace();
        return tell(Vault::under(home).set("first", &value("value"), &Change::default()));
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    let times = at_every_call(test, fate, Home::new, |home, said| {
        let vault = home.vault();
        // Whoever looks first finds a sound place, and the write if it was acknowledged.
        let found = vault.list().unwrap();
        assert!(found.len() == 1 || found.is_empty() && !is_done(said));
        if found.len() == 1 {
            assert_eq!(get(&vault, "first"), "value");
        }
        let version = set(&vault, "first", "again");
        assert_eq!(version, found.len() as u64 + 1);
        assert_eq!(get(&vault, "first"), "again");
        assert_is_whole(home, version);
    });
    assert!(times > 100, "{times}");
}

#[test]
fn killed_at_every_point_of_creation_and_first_write() {
    creation("killed_at_every_point_of_creation_and_first_write", Fate::Kill);
}

#[test]
fn every_call_of_creation_and_first_write_fails() {
    creation("every_call_of_creation_and_first_write_fails", Fate::Fail("EIO"));
}

#[test]
fn no_space_at_every_call_of_creation_and_first_write() {
    creation("no_space_at_every_call_of_creation_and_first_write", Fate::Fail("ENOSPC"));
}

const DAY: i64 = 24 * 60 * 60 * 1000;

/// A vault on which one write lets go of an old version, purges a removed secret and doubles the number of pages.
fn before_much() -> Home {
    let home = Home::with_three();
    let vault = home.vault().with_clock(|| 50_000 * DAY);
    vault.configure(Some(2), Some(1)).unwrap();
    vault.remove("c", None).unwrap();
    let pages = |home: &Home| keys_of(&rows(&home.database()), PAGE).len();
    let begun = pages(&home);
    for i in 0..100 {
        let before = home.copy();
        let change = Change { description: Some("d".repeat(900)), ..Change::default() };
        vault.set(&format!("more {i}"), &value("value"), &change).unwrap();
        if pages(&home) > begun {
            return before;
        }
    }
    panic!("a hundred kilobytes in one page");
}

fn much(vault: &Vault) -> Result<u64> {
    let change = Change { description: Some("d".repeat(1000)), ..Change::default() };
    vault.clone().with_clock(|| 50_002 * DAY).set("b", &value("new value of b"), &change)
}

fn write(test: &str, fate: Fate) {
    if let Some((_, home)) = role() {
        wait_for_strace();
        return tell(much(&Vault::under(home)));
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    let before = before_much();
    let after = before.copy();
    much(&after.vault()).unwrap();
    let pages = |home: &Home| keys_of(&rows(&home.database()), PAGE).len();
    assert_eq!(pages(&after), pages(&before) + 1);
    let (old, new) = (before.vault().list().unwrap(), after.vault().list().unwrap());
    assert_eq!(new.len(), old.len() - 1);

    let times = at_every_call(
        test,
        fate,
        || before.copy(),
        |home, said| {
            let vault = home.vault();
            let done = get(&vault, "b") == "new value of b";
            assert!(done || get(&vault, "b") == "value of b" && !is_done(said));
            let kept: Vec<u64> = vault.versions("b").unwrap().iter().map(|v| v.version).collect();
            assert_eq!(kept, if done { [3, 2] } else { [2, 1] });
            assert_eq!(vault.list().unwrap(), if done { new.as_slice() } else { &old });
            let values = vault.list().unwrap().len() as u64 + 1;
            assert_eq!(vault.verify().unwrap(), values);
            // The removed secret goes now, if it has not gone.
            much(&vault).unwrap();
            assert_is_whole(home, values - u64::from(!done));
        },
    );
    assert!(times > 50, "{times}");
}

#[test]
fn killed_at_every_point_of_a_write() {
    write("killed_at_every_point_of_a_write", Fate::Kill);
}

#[test]
fn every_call_of_a_write_fails() {
    write("every_call_of_a_write_fails", Fate::Fail("EIO"));
}

#[test]
fn no_space_at_every_call_of_a_write() {
    write("no_space_at_every_call_of_a_write", Fate::Fail("ENOSPC"));
}

/// A vault whose database was put back from an older state, and its newer database.
fn put_back() -> (Home, Vec<u8>) {
    let home = Home::with_three();
    let old = home.state();
    set(&home.vault(), "b", "newer value of b");
    let newer = home.state();
    overwrite(&home.database(), &old.database);
    (home, newer.database)
}

fn accept(test: &str, fate: Fate) {
    if let Some((_, home)) = role() {
        wait_for_strace();
        return tell(Vault::under(home).accept_restore(false));
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    let (before, newer) = put_back();
    let times = at_every_call(
        test,
        fate,
        || before.copy(),
        |home, said| {
            let vault = home.vault();
            match vault.get("b") {
                Ok(secret) => assert_eq!(secret.value.expose(), "value of b"),
                Err(e) => assert_eq!((e.kind(), is_done(said)), ("rolled_back", false)),
            }
            vault.accept_restore(false).unwrap();
            assert_eq!(get(&vault, "b"), "value of b");
            set(&vault, "b", "newest");
            assert_is_whole(home, 5);
            overwrite(&home.database(), &newer);
            assert_eq!(kind(vault.get("b")), "rolled_back");
        },
    );
    assert!(times > 50, "{times}");
}

#[test]
fn killed_at_every_point_of_accepting_a_restore() {
    accept("killed_at_every_point_of_accepting_a_restore", Fate::Kill);
}

#[test]
fn every_call_of_accepting_a_restore_fails() {
    accept("every_call_of_accepting_a_restore_fails", Fate::Fail("EIO"));
}

/// Two hundred times a process writes as fast as it can, says each version when it is acknowledged, and is killed.
#[test]
fn killed_while_writing_two_hundred_times() {
    if let Some((_, home)) = role() {
        let vault = Vault::under(home);
        for _ in 0..10_000 {
            let next = vault.versions("counter").map_or(0, |v| v[0].version) + 1;
            assert_eq!(set(&vault, "counter", &format!("value {next}")), next);
            say(&next.to_string());
        }
        return;
    }
    let home = Home::on_disk();
    let vault = home.vault();
    let mut last = 0;
    for round in 0..200_u64 {
        let mut child = Talk::start(again("killed_while_writing_two_hundred_times", "", home.path()));
        // The first rounds hit creation, others a write after a few, at a moment that is a little later each time.
        for _ in 0..round % 7 {
            last = child.hear().unwrap().parse().unwrap();
        }
        std::thread::sleep(Duration::from_micros(round * 37 % 2000));
        child.child.kill().unwrap();
        while let Some(said) = child.hear() {
            last = said.parse().unwrap();
        }
        let found = match vault.versions("counter") {
            Ok(versions) => versions,
            Err(e) if last == 0 => {
                assert_eq!(e.kind(), "not_found");
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        let newest = found[0].version;
        assert!(newest == last || newest == last + 1, "version {last} was acknowledged, {newest} is there");
        let kept: Vec<u64> = found.iter().map(|v| v.version).collect();
        assert_eq!(kept, (newest.saturating_sub(9).max(1)..=newest).rev().collect::<Vec<_>>());
        assert_eq!(get(&vault, "counter"), format!("value {newest}"));
        assert_eq!(vault.verify().unwrap(), kept.len() as u64);
        last = newest;
    }
    assert!(last > 200, "{last}");
}

fn assert_is_whole(home: &Home, values: u64) {
    assert_eq!(home.vault().verify().unwrap(), values);
    assert_eq!(names(&home.data()), ["vault.db"]);
    let key = home.key_file().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(names(&home.config()), ["anchor", "creation.lock", &key]);
}

/// Loss of power cannot be brought about here, the order of things can be looked at: at creation and at a write, what is
/// written is flushed before anything that relies on it is done, and names are flushed after they are made or removed.
#[test]
fn everything_is_flushed_in_order() {
    let test = "everything_is_flushed_in_order";
    if let Some((_, home)) = role() {
        wait_for_strace();
        return tell(Vault::under(home).set("a", &value("1"), &Change::default()));
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    let home = Home::new();
    let log = home.path().join("log");
    let calls = "trace=write,pwrite64,ftruncate,fsync,fdatasync,renameat2,unlink,mkdir,flock";
    trace(test, home.path(), &["-y", "-o", log.to_str().unwrap(), "-e", calls]).must_succeed();
    let log = std::fs::read_to_string(&log).unwrap();
    let root = home.path().to_str().unwrap();

    // Files written to and directories changed, since they were last flushed.
    let mut unsafe_yet: Vec<String> = Vec::new();
    let mut seen = BTreeMap::new();
    for line in log.lines().filter(|l| l.contains(root) && l.contains(" = ") && !l.contains("= -1")) {
        let (call, rest) = line.split_once('(').unwrap();
        *seen.entry(call).or_insert(0) += 1;
        // Paths in quotes, or of a descriptor in angle brackets.
        let mut paths = rest.split(['"', '<', '>']).filter(|p| p.starts_with(root)).map(str::to_owned);
        let path = paths.next().unwrap();
        let parent = |path: &str| Path::new(path).parent().unwrap().to_str().unwrap().to_owned();
        let is_journal = path.ends_with("-journal");
        match call {
            "fsync" | "fdatasync" => unsafe_yet.retain(|p| *p != path),
            "mkdir" => unsafe_yet.push(parent(path.trim_end_matches('/'))),
            "renameat2" => {
                assert_eq!(unsafe_yet, [""; 0], "{line}");
                unsafe_yet.push(parent(&path));
            }
            "unlink" => {
                assert!(!is_journal || unsafe_yet.is_empty(), "{unsafe_yet:?} before {line}");
                unsafe_yet.push(parent(&path));
            }
            // Without waiting for the disk: the anchor may lag. But not before what it speaks of.
            "pwrite64" if path.ends_with("/anchor") => assert_eq!(unsafe_yet, [""; 0], "{line}"),
            "write" | "pwrite64" | "ftruncate" => {
                // Pages of the database only when what they were is safe in the journal.
                assert!(is_journal || unsafe_yet.iter().all(|p| *p == path), "{unsafe_yet:?} before {line}");
                unsafe_yet.push(path);
            }
            "flock" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(unsafe_yet, [""; 0], "at the end");
    assert!(seen["renameat2"] == 3 && seen["unlink"] == 3 && seen["mkdir"] == 2 && seen["fsync"] > 15, "{seen:?}");
}
