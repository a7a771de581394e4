//! One of the files of a vault is missing, another one's, cut short, or of a newer format.
mod common;
use common::*;
use rusqlite::Connection;
use vault::*;

/// Reads and writes end in this kind of error, and leave all files as they are.
#[track_caller]
fn assert_is_refused(home: &Home, expected: &str) -> Error {
    let all = || {
        let all = [home.data(), home.config()].into_iter().flat_map(|d| files(&d));
        all.filter(|f| f != &home.config().join("creation.lock"))
            .map(|f| (std::fs::read(&f).unwrap(), f))
            .collect::<Vec<_>>()
    };
    let before = all();
    let vault = home.vault();
    let answers = [
        vault.get("a").err(),
        vault.get("missing").err(),
        vault.list().err(),
        vault.get_all().err(),
        vault.set("a", &value("new"), &Change::default()).err(),
        vault.set("missing", &value("new"), &Change { if_version: Some(0), ..Change::default() }).err(),
        vault.create(&NewSlot::KeyFile, Retention::default()).err(),
        vault.accept_restore(false).err(),
        vault.get("a").err(),
    ];
    for error in &answers {
        let error = error.as_ref().expect("this had to fail");
        assert!(error.kind() == expected || error.kind() == "exists", "{error}");
    }
    assert!(vault.info().problems.iter().any(|(kind, _)| kind == expected));
    assert!(all() == before);
    answers.into_iter().flatten().last().unwrap()
}

#[test]
fn the_key_is_missing() {
    let home = Home::with_three();
    let (key, elsewhere) = (home.key_file(), home.path().join("elsewhere"));
    std::fs::rename(&key, &elsewhere).unwrap();
    let message = assert_is_refused(&home, "key_missing").to_string();
    assert!(message.contains(key.to_str().unwrap()) && !message.contains("another vault"), "{message}");
    // Another one is there: named, since it may help to see what went wrong.
    let other = Home::with_three().key_file();
    let other = home.config().join(other.file_name().unwrap());
    std::fs::copy(&elsewhere, &other).unwrap();
    let message = assert_is_refused(&home, "key_missing").to_string();
    assert!(message.contains(other.to_str().unwrap()), "{message}");
    std::fs::rename(&elsewhere, &key).unwrap();
    assert_eq!(get(&home.vault(), "a"), "value of a");
}

#[test]
fn the_key_is_another_or_damaged() {
    let home = Home::with_three();
    let key = home.key_file();
    let sound = std::fs::read_to_string(&key).unwrap();
    let other = std::fs::read_to_string(Home::with_three().key_file()).unwrap();
    let digits = sound.split("\nkey ").nth(1).unwrap().trim_end();
    let flipped = format!("{}{}", if digits.starts_with('0') { '1' } else { '0' }, &digits[1..]);
    let wrong = [
        other,
        String::new(),
        "\n".into(),
        digits.into(),
        sound.replace("format 1", "format 2"),
        sound.replace(digits, &flipped),
        sound.replace(digits, &digits[2..]),
        sound.replace(digits, &format!("{digits}00")),
        sound.replace(digits, &format!("{digits} ")),
        sound.replace(digits, &digits.replace(|c: char| c.is_ascii_hexdigit(), "g")),
        sound.replace("\nkey ", "\nyek "),
        sound.replace("\nkey ", "\n key "),
        sound[..sound.len() / 2].into(),
        " ".repeat(100_000),
    ];
    for text in wrong {
        overwrite(&key, text.as_bytes());
        let message = assert_is_refused(&home, "wrong_key").to_string();
        assert!(message.contains(key.to_str().unwrap()), "{message}");
        assert!(!message.contains(&digits[2..10]), "{message}");
    }
    // Not text at all.
    overwrite(&key, &[0xff; 212]);
    assert_is_refused(&home, "wrong_key");
    // What a person may add or an editor change.
    for text in
        [sound.replace('\n', "\r\n"), sound.trim_end().into(), format!("{sound}a note of mine\n"), sound.clone()]
    {
        overwrite(&key, text.as_bytes());
        assert_eq!(get(&home.vault(), "a"), "value of a");
    }
}

/// Each digit of the key counts.
#[test]
fn every_byte_of_the_key_file_changed() {
    let home = Home::with_three();
    let (vault, key) = (home.vault(), home.key_file());
    let sound = std::fs::read(&key).unwrap();
    let digits = sound.len() - 65..sound.len() - 1;
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        overwrite(&key, &bytes);
        let _ = vault.lock();
        match vault.get("a") {
            Ok(found) => assert!(found.value.expose() == "value of a" && !digits.contains(&at), "{at}"),
            Err(e) => assert_eq!(e.kind(), "wrong_key"),
        }
    }
}

#[test]
fn a_newer_format() {
    let home = Home::with_three();
    let sound = rows(&home.database());
    for (format, expected) in [(2_u32, "newer_format"), (u32::MAX, "newer_format"), (0, "damaged")] {
        let mut changed = sound.clone();
        changed.get_mut(&[STORE][..]).unwrap()[..4].copy_from_slice(&format.to_be_bytes());
        write_rows(&home.database(), &changed);
        let message = assert_is_refused(&home, expected).to_string();
        assert!(expected == "damaged" || message.contains(&format!("format {format},")), "{message}");
        // Whatever comes after the format may be new, too.
        changed.insert(vec![STORE], [&format.to_be_bytes()[..], &[1; 99]].concat());
        write_rows(&home.database(), &changed);
        assert_is_refused(&home, expected);
    }
    write_rows(&home.database(), &sound);
    // Other tables: then the number tells where SQLite keeps one.
    let connection = Connection::open(home.database()).unwrap();
    connection.execute_batch("ALTER TABLE row RENAME TO rows; PRAGMA user_version = 7").unwrap();
    let message = assert_is_refused(&home, "newer_format").to_string();
    assert!(message.contains("format 7,"), "{message}");
    connection.execute_batch("PRAGMA user_version = 1").unwrap();
    assert_is_refused(&home, "damaged");
    connection.execute_batch("ALTER TABLE rows RENAME TO row").unwrap();
    assert_eq!(get(&home.vault(), "a"), "value of a");
}

#[test]
fn the_database_is_empty_or_cut_short() {
    let home = Home::with_three();
    let sound = std::fs::read(home.database()).unwrap();
    for length in (0..sound.len()).step_by(512).chain([1, 99, 100, 101]) {
        overwrite(&home.database(), &sound[..length]);
        assert_is_refused(&home, "damaged");
    }
    // No database at all.
    for bytes in [b"hello".to_vec(), vec![0; 4096], vec![0xff; 8192]] {
        overwrite(&home.database(), &bytes);
        assert_is_refused(&home, "damaged");
    }
    overwrite(&home.database(), &[&sound[..], &[0; 4096]].concat());
    assert_eq!(get(&home.vault(), "a"), "value of a");
}

/// A disk that is not mounted is no reason to begin a new vault.
#[test]
fn the_database_is_missing() {
    let home = Home::with_three();
    let elsewhere = home.path().join("elsewhere");
    for part in [home.database(), home.data()] {
        std::fs::rename(&part, &elsewhere).unwrap();
        let message = assert_is_refused(&home, "vault_missing").to_string();
        let named = [home.database(), home.anchor(), home.config()];
        assert!(named.iter().all(|p| message.contains(p.to_str().unwrap())), "{message}");
        assert!(!part.exists());
        std::fs::rename(&elsewhere, &part).unwrap();
        assert_eq!(get(&home.vault(), "a"), "value of a");
    }
    // The advice helps: with all files out of the way there is a new vault.
    for directory in [home.data(), home.config()] {
        std::fs::rename(&directory, home.path().join(format!("old {}", directory.file_name().unwrap().display())))
            .unwrap();
    }
    assert!(home.vault().list().unwrap().is_empty());
    set(&home.vault(), "a", "new");
}

/// A key alone may be what a creation left that was cut short: it is taken up, never replaced.
#[test]
fn only_the_key_is_there() {
    let home = Home::with_three();
    let key = std::fs::read(home.key_file()).unwrap();
    std::fs::remove_file(home.database()).unwrap();
    std::fs::remove_file(home.anchor()).unwrap();
    assert!(home.vault().list().unwrap().is_empty());
    set(&home.vault(), "a", "new");
    assert_eq!(std::fs::read(home.key_file()).unwrap(), key);

    // A vault with a passphrase would leave it behind.
    std::fs::remove_file(home.database()).unwrap();
    std::fs::remove_file(home.anchor()).unwrap();
    let passphrase = Passphrase::new("correct horse battery staple");
    let refused = home.vault().create(&NewSlot::Passphrase(&passphrase), Retention::default());
    assert_eq!(kind(refused), "path");
    // A damaged one is not replaced either.
    overwrite(&home.key_file(), b"damaged");
    assert_eq!(kind(home.vault().set("a", &value("1"), &Change::default())), "wrong_key");
    assert_eq!(std::fs::read(home.key_file()).unwrap(), b"damaged");
    assert!(names(&home.data()).is_empty());
    // Two do not come from a creation.
    std::fs::copy(home.key_file(), home.config().join("root-0123456789abcdef.key")).unwrap();
    assert_eq!(kind(home.vault().set("a", &value("1"), &Change::default())), "vault_missing");
}

/// Left by a creation or a write that was killed: removed by the next one, and in nobody's way.
#[test]
fn what_a_killed_process_left() {
    let home = Home::new();
    for (directory, left) in
        [(home.config(), ["root.key.new", "anchor.new"]), (home.data(), ["vault.db.new", "vault.db.new-journal"])]
    {
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        for name in left {
            std::fs::write(directory.join(name), "half of it").unwrap();
        }
    }
    set(&home.vault(), "a", "1");
    assert_eq!(names(&home.data()), ["vault.db"]);
    assert_eq!(names(&home.config())[..2], ["anchor", "creation.lock"]);
    assert_eq!(names(&home.config()).len(), 3);
}
