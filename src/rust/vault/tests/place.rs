//! Where a vault may lie: modes, owners, links, files in the way, and places that cannot be written to.
mod common;
use common::*;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use vault::*;

const NOBODY: u32 = 65534;

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Reads and writes end in this kind of error, which names the path.
#[track_caller]
fn assert_is_refused(home: &Home, expected: &str, path: &Path) {
    let vault = home.vault();
    let answers = [
        vault.get("a").err(),
        vault.list().err(),
        vault.get_all().err(),
        vault.set("a", &value("new"), &Change::default()).err(),
        vault.remove("a", None).err(),
    ];
    for error in answers {
        let error = error.unwrap_or_else(|| panic!("{} was not refused", path.display()));
        assert_eq!(error.kind(), expected, "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    assert!(vault.info().problems.iter().any(|(kind, _)| kind == expected));
}

#[test]
fn files_and_directories_that_others_can_open() {
    let home = Home::with_three();
    let files = [home.database(), home.key_file(), home.anchor()].map(|f| (f, 0o600));
    let directories = [home.data(), home.config()].map(|d| (d, 0o700));
    for (path, right) in files.into_iter().chain(directories) {
        for bits in [0o001, 0o002, 0o004, 0o010, 0o020, 0o040] {
            chmod(&path, right | bits);
            assert_is_refused(&home, "unsafe", &path);
            let error = error(home.vault().get("a")).to_string();
            assert!(error.contains(&format!("chmod {right:o} {}", path.display())), "{error}");
            assert_eq!(mode(&path), right | bits, "nobody changed it");
        }
        chmod(&path, right);
        assert_eq!(get(&home.vault(), "a"), "value of a");
    }
}

#[test]
fn directories_above_that_others_can_write_to() {
    let home = Home::with_three();
    for mode in [0o720, 0o702, 0o777, 0o775] {
        chmod(home.path(), mode);
        assert_is_refused(&home, "unsafe", home.path());
    }
    // To read it is no harm, nor to write where nobody can rename what belongs to others.
    for mode in [0o755, 0o1777, 0o700] {
        chmod(home.path(), mode);
        assert_eq!(get(&home.vault(), "a"), "value of a");
    }
}

#[test]
fn what_belongs_to_someone_else() {
    if !is_root() {
        return skipped("what_belongs_to_someone_else", "only root can give files away");
    }
    let home = Home::with_three();
    for path in [home.database(), home.key_file(), home.anchor(), home.data(), home.config(), home.path().into()] {
        chown(&path, Some(NOBODY), None).unwrap();
        assert_is_refused(&home, "unsafe", &path);
        let message = error(home.vault().get("a")).to_string();
        assert!(message.contains(&NOBODY.to_string()) && message.contains("sudo -H"), "{message}");
        chown(&path, Some(0), None).unwrap();
        assert_eq!(get(&home.vault(), "a"), "value of a");
    }
}

#[test]
fn links_in_the_place_of_files() {
    let home = Home::with_three();
    for path in [home.database(), home.key_file(), home.anchor()] {
        let elsewhere = home.path().join("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_is_refused(&home, "path", &path);
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&elsewhere, &path).unwrap();
    }
    assert_eq!(get(&home.vault(), "a"), "value of a");
}

#[test]
fn links_on_the_way() {
    let home = Home::with_three();
    let link = home.path().join("link");
    symlink(home.path(), &link).unwrap();
    let vault = Vault::under(&link);
    set(&vault, "d", "through the link");
    assert_eq!(get(&home.vault(), "d"), "through the link");
    let vault = Vault::at(link.join("config/../data"), link.join("./link/config"));
    assert_eq!(get(&vault, "d"), "through the link");

    // A directory of the vault may be a link, to one that is as private.
    for directory in [home.data(), home.config()] {
        let elsewhere = home.path().join("elsewhere");
        std::fs::rename(&directory, &elsewhere).unwrap();
        symlink(&elsewhere, &directory).unwrap();
        set(&home.vault(), "d", "elsewhere");
        chmod(&elsewhere, 0o750);
        assert_is_refused(&home, "unsafe", &elsewhere);
        chmod(&elsewhere, 0o700);
        std::fs::remove_file(&directory).unwrap();
        std::fs::rename(&elsewhere, &directory).unwrap();
    }
    // What is on the way behind the link counts.
    let open = home.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::rename(home.data(), open.join("data")).unwrap();
    symlink(open.join("data"), home.data()).unwrap();
    chmod(&open, 0o777);
    assert_is_refused(&home, "unsafe", &open);
}

#[test]
fn links_to_nowhere_and_in_circles() {
    let home = Home::new();
    symlink("nowhere", home.data()).unwrap();
    assert_eq!(kind(home.vault().set("a", &value("1"), &Change::default())), "io");
    std::fs::remove_file(home.data()).unwrap();
    symlink("data", home.data()).unwrap();
    assert_eq!(kind(home.vault().set("a", &value("1"), &Change::default())), "io");
    assert_eq!(kind(home.vault().get("a")), "io");
}

#[test]
fn files_and_pipes_in_the_way() {
    // In the place of a directory.
    for place in ["data", "config"] {
        let home = Home::new();
        let path = home.path().join(place);
        std::fs::write(&path, "").unwrap();
        assert_is_refused(&home, "path", &path);
        assert_eq!(names(home.path()), [place]);
    }
    let home = Home::new();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    for vault in [Vault::under(&file), Vault::under(file.join("below")), Vault::at(file.join("d"), file.join("c"))] {
        assert_eq!(kind(vault.list()), "path");
        assert_eq!(kind(vault.set("a", &value("1"), &Change::default())), "path");
    }
    // In the place of a file: a directory, and a pipe, which must not make anybody wait.
    let home = Home::with_three();
    for path in [home.database(), home.key_file(), home.anchor()] {
        let elsewhere = home.path().join("elsewhere");
        std::fs::rename(&path, &elsewhere).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_is_refused(&home, "path", &path);
        std::fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        chmod(&path, 0o600);
        assert_is_refused(&home, "path", &path);
        std::fs::remove_file(&path).unwrap();
        std::fs::rename(&elsewhere, &path).unwrap();
    }
    assert_eq!(get(&home.vault(), "a"), "value of a");
}

#[test]
fn a_home_that_is_missing_or_relative() {
    let home = Home::new();
    for path in [home.path().join("missing"), PathBuf::from("relative"), PathBuf::from("")] {
        let vault = Vault::under(&path);
        let refused = vault.list().unwrap_err().to_string();
        // The home is what was named wrongly, not what should lie in it.
        assert!(refused.starts_with(&format!("{} ", path.display())), "{refused}");
        assert_eq!(kind(vault.get("a")), "path");
        assert_eq!(kind(vault.set("a", &value("1"), &Change::default())), "path");
        assert_eq!(kind(vault.create(&NewSlot::KeyFile, Retention::default())), "path");
        assert!(!path.exists());
    }
    assert_eq!(kind(Vault::at("data", "config").list()), "path");
}

#[test]
fn directories_are_made_private_all_the_way() {
    let home = Home::new();
    let (data, config) = (home.path().join("some/where/data"), home.path().join("else/where/config"));
    let vault = Vault::at(&data, &config);
    assert!(vault.list().unwrap().is_empty() && names(home.path()).is_empty());
    assert_eq!(kind(vault.get("a")), "not_found");
    assert_eq!(kind(vault.remove("a", None)), "not_found");
    assert!(names(home.path()).is_empty(), "made by a read, or by a write that could not be");
    set(&vault, "a", "1");
    for directory in [&data, &config].iter().flat_map(|d| d.ancestors().take_while(|a| *a != home.path())) {
        assert_eq!(mode(directory), 0o700, "{}", directory.display());
    }
}

/// Whatever the umask, every file is made with 0600 and every directory with 0700, by the very call that makes it.
#[test]
fn modes_do_not_depend_on_the_umask() {
    let test = "modes_do_not_depend_on_the_umask";
    if let Some((_, home)) = role() {
        let vault = Vault::under(home);
        for i in 0..12 {
            set(&vault, "a", &i.to_string());
        }
        vault.remove("a", None).unwrap();
        vault.purge("a").unwrap();
        return;
    }
    let traced = has("strace");
    if !traced {
        skipped(test, "there is no strace: only what is left is looked at, not every call");
    }
    for umask in ["000", "022", "077"] {
        let home = Home::new();
        let log = home.path().join("log");
        let with_umask = format!("umask {umask}; exec \"$0\" \"$@\"");
        let mut wrapper = vec!["sh", "-c", &with_umask];
        if traced {
            wrapper.extend(["strace", "-f", "-o", log.to_str().unwrap(), "-e", "trace=%file,fchmod"]);
        }
        run(under(&wrapper, test, "", home.path()));
        for directory in [home.data(), home.config()] {
            assert_eq!(mode(&directory), 0o700);
            assert!(files(&directory).iter().all(|f| mode(f) == 0o600));
        }
        if !traced {
            continue;
        }
        let log = std::fs::read_to_string(&log).unwrap();
        let ours: Vec<&str> = log.lines().filter(|l| l.contains(home.path().to_str().unwrap())).collect();
        let made: Vec<&&str> = ours.iter().filter(|l| l.contains("O_CREAT") || l.contains("mkdir")).collect();
        assert!(made.len() > 10, "{made:?}");
        for line in made {
            let right = if line.contains("mkdir") { ", 0700)" } else { ", 0600)" };
            assert!(line.contains(right), "{line}");
        }
        assert!(!ours.iter().any(|l| l.contains("chmod(") || l.contains("chmodat(")), "no mode is mended afterwards");
    }
}

/// Runs a part of a test as a user whom modes stop: `nobody` if this is root. The program lies in that user's home, since
/// he may not be let in where it was built. Answers with the home, or nothing if that cannot be done here.
fn as_user(test: &str, role: &str) -> Option<Home> {
    let home = Home::new();
    if !is_root() {
        run(again(test, role, home.path()));
        return Some(home);
    }
    if !has("setpriv") {
        skipped(test, "there is no setpriv to become another user with");
        return None;
    }
    let program = home.path().join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    chmod(&program, 0o755);
    chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command.current_dir("/");
    run(as_role(command, test, role, home.path()));
    Some(home)
}

/// In a sticky directory others can't rename what is ours, but they can turn a link of theirs.
#[test]
fn a_link_of_somebody_else() {
    if !is_root() {
        return skipped("a_link_of_somebody_else", "only root can give a link away");
    }
    let home = Home::with_three();
    let around = tempfile::tempdir().unwrap();
    chmod(around.path(), 0o1777);
    let link = around.path().join("link");
    symlink(home.path(), &link).unwrap();
    assert_eq!(get(&Vault::under(&link), "a"), "value of a");
    std::os::unix::fs::lchown(&link, Some(NOBODY), Some(NOBODY)).unwrap();
    for vault in [Vault::under(&link), Vault::at(link.join("data"), link.join("config"))] {
        let refused = vault.get("a").unwrap_err();
        assert_eq!(refused.kind(), "unsafe");
        assert!(refused.to_string().contains(link.to_str().unwrap()), "{refused}");
    }
}

/// Each step back begins at the root again, and a path has an end.
#[test]
fn a_long_way() {
    let home = Home::with_three();
    let way = |steps: usize| format!("{}{}", "/..".repeat(steps), home.path().display());
    assert_eq!(get(&Vault::under(way(1_000)), "a"), "value of a");
    assert_eq!(kind(Vault::under(way(40_000)).get("a")), "path");
}

#[test]
fn places_that_cannot_be_written_to() {
    let test = "places_that_cannot_be_written_to";
    let Some((_, home)) = role() else {
        as_user(test, "");
        return;
    };
    assert!(!is_root());
    let vault = Vault::under(&home);
    let write = || vault.set("a", &value("new"), &Change::default());
    chmod(&home, 0o500);
    assert!(vault.list().unwrap().is_empty());
    assert_eq!(kind(write()), "permission");
    chmod(&home, 0o700);
    set(&vault, "a", "1");
    set(&vault, "a", "2");

    let (data, config) = (home.join("data"), home.join("config"));
    let (database, anchor) = (data.join("vault.db"), config.join("anchor"));
    let key = files(&config).into_iter().find(|f| f.extension().is_some_and(|e| e == "key")).unwrap();
    // Reading needs no more than reading; what cannot be written says so.
    for (path, restricted, usual, expected) in [
        (&data, 0o500, 0o700, Some("read_only")),
        (&database, 0o400, 0o600, Some("read_only")),
        (&config, 0o500, 0o700, None),
        (&key, 0o400, 0o600, None),
        (&anchor, 0o400, 0o600, None),
    ] {
        chmod(path, restricted);
        let _ = vault.lock();
        let before = get(&vault, "a");
        let answer = write();
        assert_eq!(answer.as_ref().err().map(|e| e.kind()), expected, "{}: {answer:?}", path.display());
        assert_eq!(get(&vault, "a") == before, expected.is_some() || before == "new");
        chmod(path, usual);
    }
    // What may not even be read.
    for (path, usual) in [(&data, 0o700), (&config, 0o700), (&database, 0o600), (&key, 0o600), (&anchor, 0o600)] {
        chmod(path, 0);
        let _ = vault.lock();
        assert!(matches!(kind(vault.get("a")), "permission" | "read_only"), "{}", path.display());
        assert!(matches!(kind(write()), "permission" | "read_only"), "{}", path.display());
        chmod(path, usual);
        assert_eq!(vault.verify().unwrap(), vault.versions("a").unwrap().len() as u64);
    }
}

/// A small file system in memory.
struct Disk {
    home: Home,
}

impl Disk {
    fn new(test: &str, options: &str) -> Option<Disk> {
        let home = Home::new();
        if !is_root() {
            skipped(test, "only root can mount a small disk");
            return None;
        }
        let made = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(home.path()).output();
        match made {
            Ok(made) if made.status.success() => Some(Disk { home }),
            other => {
                skipped(test, &format!("a small disk cannot be mounted here: {other:?}"));
                None
            }
        }
    }

    /// Takes all space but that many pages of 4 KiB.
    fn fill(&self, free: usize) {
        let filler = self.home.path().join("filler");
        let page = [0; 4096];
        let mut file = std::fs::File::create(&filler).unwrap();
        while std::io::Write::write_all(&mut file, &page).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(free as u64 * 4096)).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.home.path().join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.home.path()).status();
    }
}

#[test]
fn a_full_disk() {
    let mut refused = 0;
    for free in 0..12 {
        let Some(disk) = Disk::new("a_full_disk", "size=128k,mode=0700") else { return };
        let vault = disk.home.vault();
        disk.fill(free);
        match vault.set("a", &value("1"), &Change::default()) {
            Ok(version) => assert_eq!((version, get(&vault, "a").as_str()), (1, "1")),
            Err(e) => {
                refused += 1;
                assert_eq!(e.kind(), "no_space", "{free} pages free: {e}");
            }
        }
        disk.empty();
        let version = set(&vault, "a", "2");
        assert_eq!(vault.verify().unwrap(), version);
        assert_eq!(names(&disk.home.data()), ["vault.db"]);
        assert_eq!(names(&disk.home.config()).len(), 3);

        disk.fill(free);
        match vault.set("a", &value(&"long ".repeat(3000)), &Change::default()) {
            Ok(_) => assert_eq!(get(&vault, "a").len(), 15_000),
            Err(e) => {
                refused += 1;
                assert_eq!(e.kind(), "no_space", "{free} pages free: {e}");
                assert_eq!(get(&vault, "a"), "2");
            }
        }
        disk.empty();
        set(&vault, "a", "3");
        vault.verify().unwrap();
    }
    assert!(refused >= 10, "{refused}");
}

#[test]
fn a_disk_that_is_mounted_read_only() {
    let Some(disk) = Disk::new("a_disk_that_is_mounted_read_only", "size=1m,mode=0700") else { return };
    let vault = disk.home.vault();
    set(&vault, "a", "1");
    let remount = |options| {
        let done = Command::new("mount").args(["-o", options]).arg(disk.home.path()).status().unwrap();
        assert!(done.success());
    };
    remount("remount,ro");
    assert_eq!(get(&vault, "a"), "1");
    assert_eq!(kind(vault.set("a", &value("2"), &Change::default())), "read_only");
    remount("remount,rw");
    set(&vault, "a", "2");
    // And one on which there is no vault.
    let Some(disk) = Disk::new("a_disk_that_is_mounted_read_only", "size=1m,mode=0700,ro") else { return };
    let vault = disk.home.vault();
    assert!(vault.list().unwrap().is_empty());
    assert_eq!(kind(vault.set("a", &value("2"), &Change::default())), "read_only");
}

/// Nothing is open between calls, so that a fork takes nothing with it.
#[test]
fn nothing_is_open_between_calls() {
    let home = Home::with_three();
    let vault = home.vault();
    let open = || {
        let links = files(Path::new("/proc/self/fd"));
        links.iter().filter_map(|l| std::fs::read_link(l).ok()).any(|f| f.starts_with(home.path()))
    };
    // That it would be seen.
    let file = std::fs::File::open(home.database()).unwrap();
    assert!(open());
    drop(file);
    let change = Change { description: Some("new".into()), ..Change::default() };
    let old = home.state();
    let operations: [(&str, &dyn Fn() -> bool); 19] = [
        ("get", &|| vault.get("a").is_ok()),
        ("get of a missing one", &|| vault.get("missing").is_err()),
        ("get_all", &|| vault.get_all().is_ok()),
        ("list", &|| vault.list().is_ok()),
        ("versions", &|| vault.versions("b").is_ok()),
        ("set", &|| vault.set("a", &value("new"), &change).is_ok()),
        ("set that comes too late", &|| {
            vault.set("a", &value("new"), &Change { if_version: Some(1), ..Change::default() }).is_err()
        }),
        ("describe", &|| vault.describe("a", &change).is_ok()),
        ("rename", &|| vault.rename("a", "z").is_ok()),
        ("remove", &|| vault.remove("z", None).is_ok()),
        ("restore", &|| vault.restore("z", None).is_ok()),
        ("purge", &|| vault.purge("b").is_ok()),
        ("configure", &|| vault.configure(Some(10), Some(30)).is_ok()),
        ("verify", &|| vault.verify().is_ok()),
        ("info", &|| vault.info().problems.is_empty()),
        ("lock", &|| vault.lock().is_ok()),
        ("create", &|| vault.create(&NewSlot::KeyFile, Retention::default()).is_err()),
        ("get of a copy", &|| {
            overwrite(&home.database(), &old.database);
            vault.get("a").is_err()
        }),
        ("accept_restore", &|| vault.accept_restore(false).is_ok()),
    ];
    for (what, operation) in operations {
        assert!(operation(), "{what}");
        assert!(!open(), "{what}");
    }
}
