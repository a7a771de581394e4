//! The limit: how long SQLite and AES-256-GCM alone take over the rows that one operation on a vault touches, none of
//! which is known from before. `bench/README.md` says how this is compared.
//!
//! `limit read-one|read-all|write <vault.db> <seconds> <times>` repeats the work for that long, or that often if that is
//! over sooner, and prints, in seconds, the median, the 90th percentile and the minimum.
//!
//! Nothing here needs the vault's key: which rows belong to what shows in their keys (`FORMAT.md`, "Rows"), and the
//! boxes that are decrypted are of the same lengths as the vault's own. Left out is all that is not SQLite or AES-GCM:
//! the checks of files and directories, the key file, the anchor, key derivation, looking for a name.
use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Result, params};
use std::collections::BTreeMap;
use std::fs::{File, copy, remove_file};
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};
use vault::Retention;
use vault::inside::{READ_SETTINGS, WRITE_SETTINGS};

type Row = (Vec<u8>, Vec<u8>);

/// The tags that rows' keys begin with.
const STORE: u8 = 0;
const SLOTS: u8 = 1;
const RECORD: u8 = 3;
const MANIFEST: u8 = 4;
const PAGE: u8 = 6;
/// What a box has around its ciphertext and tag.
const HEADER: usize = 70;
const TAG: usize = 16;
/// Before measuring, so that everything is in the caches and the processor is at its speed.
const WARM_UP: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [work, path, seconds, most] = args.as_slice() else {
        // `cargo test --all-targets` and a bare `cargo bench` come here.
        eprintln!("usage: limit read-one|read-all|write <vault.db> <seconds> <times>; see bench/README.md");
        return Ok(());
    };
    let path = Path::new(path);
    let time = Duration::from_secs_f64(seconds.parse().expect("a number of seconds"));
    let until = Until { time, most: most.parse().expect("a number of times") };
    let mut times = match work.as_str() {
        "read-one" => read_one(path, until)?,
        "read-all" => read_all(path, until)?,
        "write" => write(path, until)?,
        other => panic!("{other}: read-one, read-all or write"),
    };
    times.sort_unstable();
    let at = |part: f64| times[(part * (times.len() - 1) as f64).round() as usize].as_secs_f64();
    println!("{} {} {}", at(0.5), at(0.9), at(0.0));
    Ok(())
}

/// The way from the store to one value, for a process that walked it before: the store, its slots, both manifests, a
/// page of the index and a record, the last three with boxes to be opened. Page and record are others each time.
fn read_one(path: &Path, until: Until) -> Result<Vec<Duration>> {
    let rows = rows(path)?;
    let parts = Parts::of(&rows);
    let boxes = Boxes::like(&rows);
    repeat(until, |i| {
        let looked_for = [parts.manifest, nth(&parts.pages, i), nth(&parts.records, i)];
        let connection = begin_read(path)?;
        let mut query = connection.prepare("SELECT value FROM row WHERE key = ?1")?;
        for (key, _) in parts.way.iter().chain(&looked_for) {
            black_box(query.query_row([key], |row| row.get::<_, Vec<u8>>(0))?);
        }
        looked_for.iter().for_each(|row| boxes.open(row));
        Ok(())
    })
}

/// The whole table, in the order it lies in the file.
fn read_all(path: &Path, until: Until) -> Result<Vec<Duration>> {
    let rows = rows(path)?;
    let parts = Parts::of(&rows);
    let boxes = Boxes::like(&rows);
    let looked_for = [&[parts.manifest], &parts.pages[..], &parts.records].concat();
    repeat(until, |_| {
        let connection = begin_read(path)?;
        let mut query = connection.prepare("SELECT key, value FROM row")?;
        let mut found = query.query([])?;
        while let Some(row) = found.next()? {
            black_box((row.get_ref(0)?.as_blob()?, row.get::<_, Vec<u8>>(1)?));
        }
        looked_for.iter().for_each(|row| boxes.open(row));
        Ok(())
    })
}

/// A new version of a value: its record comes, the oldest beyond those to be kept goes, a page and the manifest of the
/// index are replaced. In a copy beside the vault, made anew so that its rows are as long as the vault's are now.
fn write(path: &Path, until: Until) -> Result<Vec<Duration>> {
    let copied = path.with_file_name("limit.db");
    copy(path, &copied).and_then(|_| File::open(&copied)?.sync_all()).expect("a copy of the vault");
    let rows = rows(&copied)?;
    let parts = Parts::of(&rows);
    let keep = Retention::default().versions as usize;
    // By user and secret, without the version.
    let mut secrets: BTreeMap<&[u8], Vec<(u64, usize)>> = BTreeMap::new();
    for (key, value) in &parts.records {
        let (secret, version) = key.split_last_chunk().expect("a record's key");
        secrets.entry(secret).or_default().push((u64::from_be_bytes(*version), value.len()));
    }
    let mut secrets: Vec<_> = secrets.into_iter().collect();
    let times = repeat(until, |i| {
        let chosen = shuffled(i, secrets.len());
        let (secret, versions) = &mut secrets[chosen];
        let (newest, length) = versions[versions.len() - 1];
        let key = |version: u64| [*secret, &version.to_be_bytes()].concat();
        let connection = connect(&copied)?;
        connection.execute_batch(READ_SETTINGS)?;
        connection.execute_batch(WRITE_SETTINGS)?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        connection
            .prepare("INSERT INTO row (key, value) VALUES (?1, ?2)")?
            .execute(params![key(newest + 1), other(length, i)])?;
        versions.push((newest + 1, length));
        if versions.len() > keep {
            connection.prepare("DELETE FROM row WHERE key = ?1")?.execute([key(versions.remove(0).0)])?;
        }
        let mut update = connection.prepare("UPDATE row SET value = ?2 WHERE key = ?1")?;
        for (key, value) in [nth(&parts.pages, i), parts.manifest] {
            update.execute(params![key, other(value.len(), i)])?;
        }
        connection.execute_batch("COMMIT")
    });
    remove_file(&copied).expect("to remove the copy");
    times
}

struct Parts<'r> {
    /// What each read begins with.
    way: Vec<&'r Row>,
    /// What it looks for: one of the pages and one of the records. These three hold the person's secrets.
    manifest: &'r Row,
    pages: Vec<&'r Row>,
    records: Vec<&'r Row>,
}

impl Parts<'_> {
    fn of(rows: &[Row]) -> Parts<'_> {
        let store = rows.iter().find(|row| row.0 == [STORE]).expect("a vault");
        let store_id = &store.1[4..20];
        let of_store = |row: &Row| row.0.len() > 16 && row.0[1..17] == *store_id;
        let of_person = |tag| rows.iter().filter(move |row| row.0[0] == tag && !of_store(row));
        let manifest = of_person(MANIFEST).next().expect("an index");
        let way = rows.iter().filter(|row| [STORE, SLOTS].contains(&row.0[0]) || row.0[0] == MANIFEST && of_store(row));
        Parts { way: way.collect(), manifest, pages: of_person(PAGE).collect(), records: of_person(RECORD).collect() }
    }
}

/// Boxes that can be opened here, one of each length there is in the rows: no more memory than what was just read.
struct Boxes {
    cipher: Aes256Gcm,
    sealed: BTreeMap<usize, Vec<u8>>,
}

impl Boxes {
    fn like(rows: &[Row]) -> Boxes {
        let cipher = Aes256Gcm::new(&[7; 32].into());
        let seal = |length| cipher.encrypt(&[0; 12].into(), Payload::from(&vec![0; length][..])).expect("sealing");
        let boxes = rows.iter().filter(|row| [MANIFEST, PAGE, RECORD].contains(&row.0[0])).map(length);
        Boxes { sealed: boxes.map(|length| (length, seal(length))).collect(), cipher }
    }

    /// Opens a box as long as the one in a row.
    fn open(&self, row: &Row) {
        let sealed = &self.sealed[&length(row)][..];
        black_box(self.cipher.decrypt(&[0; 12].into(), Payload::from(sealed)).expect("opening"));
    }
}

/// How much is encrypted in a row. That of a manifest begins with its sequence number.
fn length((key, value): &Row) -> usize {
    value.len() - HEADER - TAG - if key[0] == MANIFEST { 8 } else { 0 }
}

/// As `sqlite.rs` opens a vault.
fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    for off in [
        DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
    ] {
        connection.set_db_config(off, false)?;
    }
    // Nobody else has the file: it is never called.
    connection.busy_handler(Some(|_| false))?;
    Ok(connection)
}

fn begin_read(path: &Path) -> Result<Connection> {
    let connection = connect(path)?;
    connection.execute_batch(READ_SETTINGS)?;
    connection.execute_batch("BEGIN")?;
    Ok(connection)
}

fn rows(path: &Path) -> Result<Vec<Row>> {
    let connection = connect(path)?;
    let mut query = connection.prepare("SELECT key, value FROM row ORDER BY key")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// When to stop.
struct Until {
    time: Duration,
    most: usize,
}

/// Calls `work` at least once, each time with the next number.
fn repeat(until: Until, mut work: impl FnMut(usize) -> Result<()>) -> Result<Vec<Duration>> {
    let begun = Instant::now();
    let mut number = 0;
    let mut once = || {
        let begun = Instant::now();
        number += 1;
        work(number).map(|()| begun.elapsed())
    };
    once()?;
    while begun.elapsed() < WARM_UP {
        once()?;
    }
    let begun = Instant::now();
    let mut times = vec![once()?];
    while begun.elapsed() < until.time && times.len() < until.most {
        times.push(once()?);
    }
    Ok(times)
}

/// A place among `count`, far from the one for the number before.
fn shuffled(number: usize, count: usize) -> usize {
    number * 7919 % count
}

fn nth<'r>(rows: &[&'r Row], number: usize) -> &'r Row {
    rows[shuffled(number, rows.len())]
}

/// Bytes that differ from those of any other number.
fn other(length: usize, number: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(length).collect()
}
