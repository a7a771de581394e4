//! Rows in SQLite. One connection is one transaction: nothing is open between operations, because R forks, and a
//! connection that crosses a fork loses writes.
//!
//! The journal is a rollback journal, not a write-ahead log: SQLite keeps a table of locks per process that a forked
//! child inherits, and with a write-ahead log that loses committed writes in silence.
use crate::place::Patience;
use crate::rows::{Intent, Rows, Visit, keys};
use crate::site::FORMAT;
use crate::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, params};
use std::borrow::Borrow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// "dkus": tells the file's type to `file` and to SQLite.
const APPLICATION_ID: i32 = 0x646b_7573;
/// An index over the short keys and a table of the long values: its trees stay flat, where one tree of both would not.
const SCHEMA: &str = "CREATE TABLE row (key BLOB NOT NULL UNIQUE, value BLOB NOT NULL) STRICT";

/// What is wrong with a file of any other.
const FOREIGN: &str = "its tables are not those of a vault";

/// What every connection sets: sizes in pages are checked when read. (Memory mapping is off unless switched on.)
pub const READ_SETTINGS: &str = "PRAGMA cell_size_check=ON;";
/// What a writing connection sets on top: durable when a commit answers (the journal's removal too), what is deleted
/// is overwritten, and nothing goes to temporary files.
pub const WRITE_SETTINGS: &str =
    "PRAGMA journal_mode=DELETE; PRAGMA synchronous=EXTRA; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;";

/// What a connection that lasts sets. SQLite would bring the log into the database in the middle of somebody's commit:
/// only where nobody else does, once it has 64 MiB. See [`Lasting::bring_in`].
const LASTING_SETTINGS: &str =
    "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=16384; PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;";

/// A transaction on a SQLite file: on a connection of its own, which ends with it, or on one that lasts.
pub struct Sqlite<C = Connection> {
    connection: C,
    path: PathBuf,
}

impl Sqlite {
    /// Begins a transaction on the vault at `path`. `path` must be canonical: SQLite is told to follow no links.
    pub(crate) fn begin(path: &Path, intent: Intent, patience: Patience) -> Result<Sqlite> {
        let sqlite = Sqlite::connect(path, patience)?;
        sqlite.restrict()?;
        if intent == Intent::Write {
            sqlite.batch(WRITE_SETTINGS)?;
        }
        sqlite.batch(match intent {
            Intent::Read => "BEGIN",
            Intent::Write => "BEGIN IMMEDIATE",
        })?;
        if intent == Intent::Write {
            sqlite.check_schema()?;
        }
        Ok(sqlite)
    }

    /// Begins the transaction that fills a new database. The file must exist, empty, with the right mode.
    pub(crate) fn begin_new(path: &Path) -> Result<Sqlite> {
        // Nobody else knows of it yet.
        let sqlite = Sqlite::connect(path, Patience::Minute)?;
        sqlite.batch(WRITE_SETTINGS)?;
        sqlite.batch(&format!(
            "PRAGMA application_id={APPLICATION_ID}; BEGIN IMMEDIATE; {SCHEMA}; PRAGMA user_version={FORMAT};"
        ))?;
        Ok(sqlite)
    }

    /// Writes the whole file anew. What is deleted is overwritten, but moving rows from one of its pages to another
    /// leaves copies behind that SQLite knows nothing of: they would outlive the row. Then takes away the row that asks for it,
    /// unless somebody destroyed something more since, and asks for it again.
    pub(crate) fn rewrite(path: &Path, patience: Patience) -> Result<()> {
        let sqlite = Sqlite::connect(path, patience)?;
        sqlite.restrict()?;
        sqlite.batch(WRITE_SETTINGS)?;
        let asked = sqlite.get(keys::UNTIDY)?;
        sqlite.batch("VACUUM")?;
        drop(sqlite);
        let Some(asked) = asked else { return Ok(()) };
        let rows = Sqlite::begin(path, Intent::Write, patience)?;
        if rows.get(keys::UNTIDY)?.as_ref() == Some(&asked) {
            rows.delete(keys::UNTIDY)?;
            rows.commit()?;
        }
        Ok(())
    }

    fn connect(path: &Path, patience: Patience) -> Result<Sqlite> {
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let mut connection = Connection::open_with_flags(path, flags).map_err(|e| failure(path, e))?;
        let wait = match patience {
            Patience::Minute => wait,
            Patience::Moment => wait_briefly,
        };
        connection.busy_handler(Some(wait)).map_err(|e| failure(path, e))?;
        Ok(Sqlite { connection, path: path.into() })
    }
}

impl<C: Borrow<Connection>> Sqlite<C> {
    fn connection(&self) -> &Connection {
        self.connection.borrow()
    }

    fn restrict(&self) -> Result<()> {
        self.check(self.connection().set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true))?;
        // Whoever can write the file could also give it a schema that acts by itself.
        for off in [
            DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
            DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
            DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
        ] {
            self.check(self.connection().set_db_config(off, false))?;
        }
        self.batch(READ_SETTINGS)
    }

    /// Refuses a file whose tables are not those of a vault: writes might not do what they say. (What SQLite makes by itself,
    /// as the table's index over its keys, has no SQL.)
    fn check_schema(&self) -> Result<()> {
        let mut query = self.check(self.connection().prepare("SELECT sql FROM sqlite_schema"))?;
        let mut rows = self.check(query.query([]))?;
        let mut found = 0;
        while let Some(row) = self.check(rows.next())? {
            match self.check(row.get_ref(0).and_then(|sql| Ok(sql.as_str_or_null()?)))? {
                None => {}
                Some(SCHEMA) if found == 0 => found += 1,
                Some(_) => return Err(self.damaged_or_newer(FOREIGN.into())),
            }
        }
        if found == 1 { Ok(()) } else { Err(self.damaged_or_newer(FOREIGN.into())) }
    }

    fn batch(&self, sql: &str) -> Result<()> {
        self.check(self.connection().execute_batch(sql))
    }

    fn check<T>(&self, answer: rusqlite::Result<T>) -> Result<T> {
        answer.map_err(|e| match failure(&self.path, e) {
            Error::Damaged { what, .. } => self.damaged_or_newer(what),
            other => other,
        })
    }

    /// A newer format may have other tables: then its number, where SQLite keeps one, says more.
    fn damaged_or_newer(&self, what: String) -> Error {
        let path = self.path.clone();
        match self.connection().query_row("PRAGMA user_version", [], |r| r.get(0)) {
            Ok(found) if found > FORMAT => Error::NewerFormat { path, found },
            _ => Error::Damaged { path, what },
        }
    }
}

impl<C: Borrow<Connection>> Rows for Sqlite<C> {
    fn get_each(&self, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut query = self.check(self.connection().prepare_cached("SELECT value FROM row WHERE key = ?1"))?;
        keys.iter().map(|key| self.check(query.query_row([key], |r| r.get(0)).optional())).collect()
    }

    fn scan(&self, prefix: &[u8], visit: &mut Visit) -> Result<()> {
        let sql = "SELECT key, value FROM row WHERE key >= ?1 ORDER BY key";
        let mut query = self.check(self.connection().prepare_cached(sql))?;
        let mut rows = self.check(query.query([prefix]))?;
        while let Some(row) = self.check(rows.next())? {
            let blob = |column| row.get_ref(column).and_then(|v| Ok(v.as_blob()?));
            let key = self.check(blob(0))?;
            if !key.starts_with(prefix) {
                break;
            }
            visit(key, self.check(blob(1))?)?;
        }
        Ok(())
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let sql = "INSERT INTO row (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        let mut query = self.check(self.connection().prepare_cached(sql))?;
        self.check(query.execute([key, value])).map(|_| ())
    }

    fn replace(&self, key: &[u8], expected: &[u8], value: &[u8]) -> Result<bool> {
        let sql = "UPDATE row SET value = ?3 WHERE key = ?1 AND value = ?2";
        let mut query = self.check(self.connection().prepare_cached(sql))?;
        Ok(self.check(query.execute(params![key, expected, value]))? == 1)
    }

    fn delete(&self, key: &[u8]) -> Result<bool> {
        let mut query = self.check(self.connection().prepare_cached("DELETE FROM row WHERE key = ?1"))?;
        Ok(self.check(query.execute([key]))? == 1)
    }

    fn integrity(&self) -> Result<Option<String>> {
        self.check_schema()?;
        let said: String = self.check(self.connection().query_row("PRAGMA integrity_check(1)", [], |r| r.get(0)))?;
        Ok((said != "ok").then(|| format!("SQLite's check says: {said}")))
    }

    fn commit(self) -> Result<()> {
        self.batch("COMMIT")
    }
}

/// How a commit on a lasting connection is made safe.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The operating system has it: it survives this process, killed or not.
    Process,
    /// The disk has it: it survives a loss of power.
    Power,
}

/// What to do where another process has the lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    ForLock,
    Never,
}

/// A connection that stays open, of a server: the database has a write-ahead log, so that reading goes on while
/// something is written. Such a process must not fork (see above).
pub(crate) struct Lasting {
    connection: Connection,
    path: PathBuf,
}

impl Lasting {
    pub(crate) fn open(path: &Path) -> Result<Lasting> {
        let Sqlite { connection, path } = Sqlite::connect(path, Patience::Minute)?;
        let mut lasting = Lasting { connection, path };
        lasting.wait_for_locks(true)?;
        let rows = lasting.rows();
        rows.restrict()?;
        rows.batch(LASTING_SETTINGS)?;
        rows.check_schema()?;
        Ok(lasting)
    }

    fn rows(&self) -> Sqlite<&Connection> {
        Sqlite { connection: &self.connection, path: self.path.clone() }
    }

    /// Reads in one state of the database.
    pub(crate) fn read<T>(&self, act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>) -> Result<T> {
        let rows = self.rows();
        rows.batch("BEGIN")?;
        let answer = act(&rows);
        rows.batch("ROLLBACK")?;
        answer
    }

    /// Writes all of what `act` does, or nothing of it.
    pub(crate) fn write<T>(
        &mut self,
        durability: Durability,
        act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>,
    ) -> Result<T> {
        self.write_since(Instant::now(), durability, act)
    }

    /// The same for somebody who has waited since then: whoever waited for others, who waited for the lock, does not wait
    /// for it as long again.
    pub(crate) fn write_since<T>(
        &mut self,
        since: Instant,
        durability: Durability,
        act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>,
    ) -> Result<T> {
        let wait = if since.elapsed() < LONGEST_WAIT { Wait::ForLock } else { Wait::Never };
        self.write_unless_busy(durability, wait, act)?.ok_or_else(|| Error::Busy(self.path.clone()))
    }

    /// The same; nothing is done, and none is the answer, where another process has the lock and it is not to be waited for.
    pub(crate) fn write_unless_busy<T>(
        &mut self,
        durability: Durability,
        wait: Wait,
        act: impl FnOnce(&Sqlite<&Connection>) -> Result<T>,
    ) -> Result<Option<T>> {
        // What a panic in `act` has left: nothing of it was answered.
        if !self.connection.is_autocommit() {
            self.rows().batch("ROLLBACK")?;
        }
        match wait {
            Wait::ForLock => self.begin(durability)?,
            Wait::Never => {
                self.wait_for_locks(false)?;
                let begun = self.begin(durability);
                self.wait_for_locks(true)?;
                match begun {
                    Err(Error::Busy(_)) => return Ok(None),
                    other => other?,
                }
            }
        }
        let rows = self.rows();
        let answer = act(&rows).and_then(|answer| rows.batch("COMMIT").map(|()| answer));
        if answer.is_err() && !self.connection.is_autocommit() {
            rows.batch("ROLLBACK")?;
        }
        answer.map(Some)
    }

    fn begin(&self, durability: Durability) -> Result<()> {
        self.rows().batch(match durability {
            Durability::Process => "PRAGMA synchronous=NORMAL; BEGIN IMMEDIATE",
            Durability::Power => "PRAGMA synchronous=FULL; BEGIN IMMEDIATE",
        })
    }

    fn wait_for_locks(&mut self, whether: bool) -> Result<()> {
        let done = self.connection.busy_handler(whether.then_some(wait_shortly));
        self.rows().check(done)
    }

    /// The write-ahead log as a file. SQLite keeps no locks on it, so that it can be closed again.
    pub(crate) fn log_file(&self) -> Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        let path = PathBuf::from(path);
        File::open(&path).map_err(|e| Error::io("open", &path, e))
    }

    /// Brings into the database what of the log nobody reads any more, while others write; answers whether that was all, so
    /// that whoever writes next begins the log anew.
    pub(crate) fn bring_in(&self) -> Result<bool> {
        let rows = self.rows();
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        let read = |row: &Row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
        let (busy, log, done) = rows.check(self.connection.query_row(sql, [], read))?;
        Ok(busy == 0 && log == done)
    }

    /// Brings the log into the database and empties it, so that what was deleted is in neither.
    ///
    /// # Errors
    /// `busy` if somebody has read for longer than [`LONGEST_WAIT`].
    pub(crate) fn checkpoint(&self) -> Result<()> {
        let rows = self.rows();
        // SQLite tells in a row that it could not.
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = rows.check(self.connection.query_row(sql, [], |r| r.get(0)))?;
        if busy == 0 { Ok(()) } else { Err(Error::Busy(self.path.clone())) }
    }

    /// Writes the whole file anew, as [`Sqlite::rewrite`] does, and empties the log. Until it is done nobody else writes.
    pub(crate) fn rewrite(&self) -> Result<()> {
        let rows = self.rows();
        // The copy that is made on the way: a store can be larger than memory. It has no name, and holds sealed boxes.
        let written = rows.batch("PRAGMA temp_store=FILE; PRAGMA synchronous=FULL; VACUUM");
        rows.batch("PRAGMA temp_store=MEMORY")?;
        written.and_then(|()| self.checkpoint())
    }

    /// Leaves the log beside the database as it is when this connection is closed, the last one otherwise brings it in.
    pub(crate) fn leave_log(&self, leave: bool) -> Result<()> {
        self.rows().check(self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leave)).map(drop)
    }
}

/// How long a lasting connection waits for another process's lock. Nobody but its own process has business there, and many
/// wait with it, who are better told: a program that makes a copy, or a shell of SQLite's.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Waits for as long, at least: so many waits of 0.7 ms, each of which takes a little longer.
fn wait_shortly(attempts: i32) -> bool {
    wait(attempts) && attempts < 5_000
}

/// Waits for another process's lock, over a minute in all. The waits are short beside a commit, so that the lock is
/// seldom idle, and uneven and equally long on average however long one has waited, so that nobody is starved.
fn wait(attempts: i32) -> bool {
    let mut jitter = [0];
    // Without random bytes all wait the same time: slower, not wrong.
    let _ = getrandom::fill(&mut jitter);
    std::thread::sleep(Duration::from_micros(200 + u64::from(jitter[0]) * 4));
    // 0.7 ms on average.
    attempts < 100_000
}

/// The same, a quarter of a second in all.
fn wait_briefly(attempts: i32) -> bool {
    wait(attempts) && attempts < 350
}

fn failure(path: &Path, error: rusqlite::Error) -> Error {
    let rusqlite::Error::SqliteFailure(code, ref message) = error else {
        return Error::Damaged { path: path.into(), what: format!("a row is not of the expected shape ({error})") };
    };
    let said = message.clone().unwrap_or_else(|| code.to_string());
    match code.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Error::Busy(path.into()),
        ErrorCode::DiskFull => Error::NoSpace(path.into()),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {
            Error::ReadOnly { path: path.into(), reason: format!("SQLite says: {said}") }
        }
        // SQLite answers like this too when it may not make its journal.
        ErrorCode::CannotOpen => Error::ReadOnly {
            path: path.into(),
            reason: format!("SQLite could not open it or its journal beside it ({said}); is the directory read-only?"),
        },
        ErrorCode::SystemIoFailure => {
            Error::Io { action: "read or write", path: path.into(), source: std::io::Error::other(said) }
        }
        _ => Error::Damaged { path: path.into(), what: format!("SQLite says: {said}") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    /// Which of our errors SQLite's become. Those that a test cannot bring about in good time are only asked for here:
    /// a minute's wait for a lock, a disk that fails.
    #[test]
    fn kinds_of_failure() {
        for (code, kind) in [
            (ffi::SQLITE_BUSY, "busy"),
            (ffi::SQLITE_BUSY_SNAPSHOT, "busy"),
            (ffi::SQLITE_LOCKED, "busy"),
            (ffi::SQLITE_FULL, "no_space"),
            (ffi::SQLITE_READONLY, "read_only"),
            (ffi::SQLITE_READONLY_DIRECTORY, "read_only"),
            (ffi::SQLITE_PERM, "read_only"),
            (ffi::SQLITE_CANTOPEN, "read_only"),
            (ffi::SQLITE_IOERR, "io"),
            (ffi::SQLITE_IOERR_FSYNC, "io"),
            (ffi::SQLITE_CORRUPT, "damaged"),
            (ffi::SQLITE_NOTADB, "damaged"),
            (ffi::SQLITE_ERROR, "damaged"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some("said".into()));
            let ours = failure(Path::new("/vault.db"), error);
            assert_eq!(ours.kind(), kind, "{code}");
            assert!(ours.to_string().contains("/vault.db"), "{ours}");
        }
        let shape = failure(Path::new("/vault.db"), rusqlite::Error::QueryReturnedNoRows);
        assert_eq!(shape.kind(), "damaged");
    }

    /// Over a minute in all, and then an end.
    #[test]
    fn waiting_ends() {
        assert!(wait(0) && wait_briefly(0));
        assert!(wait_shortly(0) && !wait_shortly(5_000));
        assert!(!wait(i32::MAX) && !wait_briefly(350));
    }

    fn empty() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("vault.db");
        std::fs::write(&path, "").unwrap();
        (directory, path)
    }

    #[test]
    fn rows_come_and_go() {
        let (_directory, path) = empty();
        let rows = Sqlite::begin_new(&path).unwrap();
        for key in [&[3_u8, 1][..], &[3, 0], &[2, 255], &[4], &[3, 1, 7], &[3]] {
            rows.put(key, b"old").unwrap();
        }
        rows.put(&[3, 1], b"new").unwrap();
        assert!(rows.delete(&[3, 0]).unwrap() && !rows.delete(&[3, 0]).unwrap());
        assert!(!rows.replace(&[4], b"other", b"new").unwrap() && !rows.replace(&[9], b"old", b"new").unwrap());
        assert!(rows.replace(&[4], b"old", b"new").unwrap());
        rows.commit().unwrap();

        // What is not committed is not there.
        let rows = Sqlite::begin(&path, Intent::Write, Patience::Minute).unwrap();
        rows.put(&[3, 2], b"lost").unwrap();
        drop(rows);

        let rows = Sqlite::begin(&path, Intent::Read, Patience::Minute).unwrap();
        assert_eq!(rows.get(&[3, 1]).unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(rows.get(&[3, 2]).unwrap(), None);
        let mut found = Vec::new();
        let visited = rows.scan(&[3], &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(())
        });
        visited.unwrap();
        let expected = [(&[3_u8][..], "old"), (&[3, 1], "new"), (&[3, 1, 7], "old")];
        assert_eq!(found, expected.map(|(k, v)| (k.to_vec(), v.as_bytes().to_vec())));
        // An error ends it.
        let mut visits = 0;
        let ended = rows.scan(&[3], &mut |_, _| {
            visits += 1;
            Err(Error::Internal("enough"))
        });
        assert_eq!((ended.unwrap_err().kind(), visits), ("internal", 1));
        assert_eq!(rows.integrity().unwrap(), None);
    }

    /// A file of the wrong shape: text where bytes belong.
    #[test]
    fn rows_of_the_wrong_type() {
        let (_directory, path) = empty();
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE row (key, value); INSERT INTO row VALUES (x'00', 'text'), (5, 6)")
            .unwrap();
        drop(connection);
        let rows = Sqlite::begin(&path, Intent::Read, Patience::Minute).unwrap();
        assert_eq!(rows.get(&[0]).unwrap_err().kind(), "damaged");
        assert_eq!(rows.scan(&[], &mut |_, _| Ok(())).unwrap_err().kind(), "damaged");
    }

    #[test]
    fn what_a_connection_sets() {
        let (_directory, path) = empty();
        Sqlite::begin_new(&path).unwrap().commit().unwrap();
        let rows = Sqlite::begin(&path, Intent::Write, Patience::Minute).unwrap();
        let setting = |name: &str| rows.connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).unwrap();
        // EXTRA: the journal's removal is durable, too.
        assert_eq!(setting("synchronous"), 3);
        assert_eq!((setting("secure_delete"), setting("temp_store"), setting("cell_size_check")), (1, 2, 1));
        assert_eq!((setting("application_id"), setting("user_version")), (0x646b_7573, 1));
        let journal: String = rows.connection.pragma_query_value(None, "journal_mode", |r| r.get(0)).unwrap();
        assert_eq!(journal, "delete");
    }
}
