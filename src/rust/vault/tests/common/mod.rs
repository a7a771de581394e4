//! What the tests share: vaults to throw away, the database's rows as anyone can write them, and child processes.
#![allow(dead_code)] // each test program uses a part of it
pub mod store;

use rusqlite::Connection;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use tempfile::TempDir;
use vault::{Change, Error, Result, Value, Vault};

/// A directory with a vault, removed at the end.
pub struct Home {
    directory: TempDir,
}

impl Home {
    /// In memory if the system has such a place: what a test checks does not depend on the disk, its time does.
    pub fn new() -> Home {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Home { directory: directory.unwrap() }
    }

    pub fn on_disk() -> Home {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    /// With a vault of three secrets, `a` to `c`, where `b` has two versions.
    pub fn with_three() -> Home {
        let home = Home::new();
        let vault = home.vault();
        for (name, text) in [("a", "value of a"), ("b", "old value of b"), ("b", "value of b"), ("c", "value of c")] {
            vault.set(name, &value(text), &Change::default()).unwrap();
        }
        home
    }

    /// Another home with the same files.
    pub fn copy(&self) -> Home {
        let home = Home::new();
        for (from, to) in [(self.data(), home.data()), (self.config(), home.config())] {
            std::fs::DirBuilder::new().mode(0o700).create(&to).unwrap();
            for file in files(&from) {
                std::fs::copy(&file, to.join(file.file_name().unwrap())).unwrap();
            }
        }
        home
    }

    pub fn vault(&self) -> Vault {
        Vault::under(self.path())
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("config")
    }

    pub fn database(&self) -> PathBuf {
        self.data().join("vault.db")
    }

    pub fn anchor(&self) -> PathBuf {
        self.config().join("anchor")
    }

    pub fn key_file(&self) -> PathBuf {
        let mut found = files(&self.config());
        found.retain(|p| p.extension().is_some_and(|e| e == "key"));
        assert_eq!(found.len(), 1, "key files: {found:?}");
        found.remove(0)
    }

    /// Database and anchor, to be put back later.
    pub fn state(&self) -> State {
        State { database: std::fs::read(self.database()).unwrap(), anchor: std::fs::read(self.anchor()).unwrap() }
    }

    pub fn put_back(&self, state: &State) {
        overwrite(&self.database(), &state.database);
        overwrite(&self.anchor(), &state.anchor);
    }
}

/// The two files that change.
#[derive(Clone)]
pub struct State {
    pub database: Vec<u8>,
    pub anchor: Vec<u8>,
}

/// Writes into a file that is there, so that mode and owner stay.
pub fn overwrite(path: &Path, bytes: &[u8]) {
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// The names in a directory, sorted; none if it is not there.
pub fn names(directory: &Path) -> Vec<String> {
    files(directory).iter().map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

pub fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    found.sort();
    found
}

/// The mode of what lies at a path, links not followed.
pub fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

pub fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).unwrap()
}

pub fn set(vault: &Vault, name: &str, text: &str) -> u64 {
    vault.set(name, &value(text), &Change::default()).unwrap()
}

pub fn get(vault: &Vault, name: &str) -> String {
    vault.get(name).unwrap().value.expose().to_owned()
}

/// The error of something that must fail, by its kind.
#[track_caller]
pub fn kind<T>(answer: Result<T>) -> &'static str {
    error(answer).kind()
}

#[track_caller]
pub fn error<T>(answer: Result<T>) -> Error {
    match answer {
        Ok(_) => panic!("this had to fail"),
        Err(e) => e,
    }
}

/// The rows of a vault's database. `FORMAT.md`, "Rows".
pub type Table = BTreeMap<Vec<u8>, Vec<u8>>;

pub const STORE: u8 = 0;
pub const SLOTS: u8 = 1;
pub const USER_KEY: u8 = 2;
pub const RECORD: u8 = 3;
pub const MANIFEST: u8 = 4;
pub const PAGE: u8 = 6;

pub fn rows(database: &Path) -> Table {
    let connection = Connection::open(database).unwrap();
    let mut query = connection.prepare("SELECT key, value FROM row").unwrap();
    query.query_map([], |r| Ok((r.get(0)?, r.get(1)?))).unwrap().map(|r| r.unwrap()).collect()
}

/// Makes a vault's database hold these rows.
pub fn write_rows(database: &Path, rows: &Table) {
    let mut connection = Connection::open(database).unwrap();
    let transaction = connection.transaction().unwrap();
    transaction.execute("DELETE FROM row", []).unwrap();
    for (key, value) in rows {
        transaction.execute("INSERT INTO row (key, value) VALUES (?1, ?2)", [key, value]).unwrap();
    }
    transaction.commit().unwrap();
}

/// The keys of all rows of one kind.
pub fn keys_of(rows: &Table, kind: u8) -> Vec<Vec<u8>> {
    rows.keys().filter(|k| k[0] == kind).cloned().collect()
}

/// The key of a row of which there is one: of the manifests and pages, the one whose owner is a person.
pub fn key_of(rows: &Table, kind: u8) -> Vec<u8> {
    let store = &rows[&[STORE][..]][4..20];
    let mut keys = keys_of(rows, kind);
    keys.retain(|k| kind == STORE || kind == SLOTS || &k[1..17] != store);
    assert_eq!(keys.len(), 1, "rows of kind {kind}");
    keys.remove(0)
}

/// Says on standard output, past the test runner's capture, that a test could not be made here.
pub fn skipped(test: &str, reason: &str) {
    let _ = writeln!(std::io::stdout().lock(), "skipped: {test}: {reason}");
}

pub fn is_root() -> bool {
    vault::effective_user() == 0
}

/// Whether a program is in the path.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|d| d.join(program).is_file()))
}

const ROLE: &str = "VAULT_TEST_ROLE";
const HOME: &str = "VAULT_TEST_HOME";

/// In a process that [`Role::command`] started: what it is to do, and in which home.
pub fn role() -> Option<(String, PathBuf)> {
    Some((std::env::var(ROLE).ok()?, std::env::var_os(HOME)?.into()))
}

/// The command that runs this test program again, for the test of that name only, which then finds its `role()`.
pub fn again(test: &str, role: &str, home: &Path) -> Command {
    under(&[], test, role, home)
}

/// The same, run by another program.
pub fn under(wrapper: &[&str], test: &str, role: &str, home: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let command = match wrapper {
        [] => Command::new(&this),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&this);
            command
        }
    };
    as_role(command, test, role, home)
}

/// The same, by a command that runs a copy of this program.
pub fn as_role(mut command: Command, test: &str, role: &str, home: &Path) -> Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(HOME, home).stdin(Stdio::null());
    command
}

/// Runs a command that must succeed; answers with what it [`say`]s.
#[track_caller]
pub fn run(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines().filter_map(|l| l.strip_prefix(SAID)).map(str::to_owned).collect()
}

const SAID: &str = "@ ";

/// Says something to the process that started this one. At the start of a line: the runner may have begun one.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    // Who cannot be heard has nobody to tell that to.
    let _ = out.write_all(format!("\n{SAID}{text}\n").as_bytes());
    let _ = out.flush();
}

/// Waits until the process that started this one lets it go on, or ends.
pub fn wait() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A child process and what it says.
pub struct Talk {
    pub child: Child,
    /// A program that does something to it.
    pub helper: Option<Child>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    pub fn start(mut command: Command) -> Talk {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Talk { child, helper: None, lines }
    }

    /// The next thing it says; none when it has ended. What was cut off by its end was not said.
    pub fn hear(&mut self) -> Option<String> {
        loop {
            let line = self.lines.next()?.unwrap();
            if let Some(said) = line.strip_prefix(SAID) {
                return Some(said.to_owned());
            }
        }
    }

    /// Lets a child go on that [`wait`]s.
    pub fn go_on(&mut self) {
        drop(self.child.stdin.take());
    }

    #[track_caller]
    pub fn must_succeed(&mut self) {
        while self.hear().is_some() {}
        let status = self.child.wait().unwrap();
        assert!(status.success(), "a child ended with {status}; what it said of that is above");
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        for child in std::iter::once(&mut self.child).chain(&mut self.helper) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
