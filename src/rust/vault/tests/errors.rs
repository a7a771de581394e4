//! Every kind of error: what brings it about, what it says, and that it never says a value.
//!
//! Elsewhere are those that need more: `permission`, `read_only`, `no_space`, `io` and `unsafe` in `place.rs`, `damaged`
//! in `damage.rs`, `rolled_back` in `restore.rs`, `locked` and `wrong_passphrase` in `passphrase.rs`, `vault_missing`,
//! `key_missing`, `wrong_key` and `newer_format` in `files.rs`. `busy` takes more than a minute: the tests of `platform`,
//! `sqlite` and `index` ask for it with less patience. `internal` is a mistake of ours; that of too long a derivation is
//! in `key`.
mod common;
use common::*;
use vault::*;

const SECRET: &str = "tb4-value-of-which-no-error-speaks";

#[test]
fn not_found() {
    let home = Home::new();
    let vault = home.vault();
    assert_eq!(error(vault.get("a")).to_string(), "there is no secret named \"a\"");
    for name in ["api-key", "api-keys", "apikey", "api_key", "postgres"] {
        set(&vault, name, SECRET);
    }
    let error = error(vault.get("api-kye"));
    let Error::NotFound { name, close, removed: false } = &error else { panic!("{error:?}") };
    assert_eq!(name, "api-kye");
    assert!(close.len() == 3 && close.contains(&"api-key".into()) && !close.contains(&"postgres".into()), "{close:?}");
    assert!(error.to_string().contains("; close to it: \"") && !error.to_string().contains(SECRET));
    // A removed one is no suggestion, and says so itself.
    vault.remove("postgres", None).unwrap();
    assert!(matches!(vault.get("postgre"), Err(Error::NotFound { close, removed: false, .. }) if close.is_empty()));
    let text = common::error(vault.get("postgres")).to_string();
    assert_eq!(text, "there is no secret named \"postgres\": it was removed and can still be restored");
    for kind_of in [
        kind(vault.remove("postgres", None)),
        kind(vault.describe("postgres", &Change::default())),
        kind(vault.rename("postgres", "b")),
        kind(vault.versions("missing")),
        kind(vault.restore("missing", None)),
        kind(vault.purge("missing")),
    ] {
        assert_eq!(kind_of, "not_found");
    }
}

#[test]
fn no_version() {
    let home = Home::with_three();
    let error = error(home.vault().restore("b", Some(7)));
    assert_eq!(error.kind(), "not_found");
    assert_eq!(error.to_string(), "the secret \"b\" has no version 7; kept are: 1, 2");
    assert_eq!(kind(home.vault().restore("b", Some(0))), "not_found");
}

#[test]
fn exists() {
    let home = Home::with_three();
    let vault = home.vault();
    let error = error(vault.rename("a", "b"));
    assert!(matches!(&error, Error::Exists { name, removed: false } if name == "b"), "{error:?}");
    vault.remove("b", None).unwrap();
    let error = common::error(vault.rename("a", "b"));
    assert!(matches!(&error, Error::Exists { removed: true, .. }) && error.to_string().contains("purge"), "{error}");
    vault.purge("b").unwrap();
    vault.rename("a", "b").unwrap();
    assert_eq!(get(&vault, "b"), "value of a");
    let error = common::error(vault.create(&NewSlot::KeyFile, Retention::default()));
    assert!(matches!(error, Error::VaultExists(path) if path == home.database()));
}

#[test]
fn conflict() {
    let home = Home::with_three();
    let vault = home.vault();
    let before = home.state();
    let only = |version| Change { if_version: Some(version), description: Some("new".into()), ..Change::default() };
    for (answer, expected, found) in [
        (vault.set("b", &value(SECRET), &only(1)).err(), 1, 2),
        (vault.set("b", &value(SECRET), &only(0)).err(), 0, 2),
        (vault.set("missing", &value(SECRET), &only(1)).err(), 1, 0),
        (vault.describe("b", &only(3)).err(), 3, 2),
        (vault.remove("b", Some(1)).err(), 1, 2),
    ] {
        let error = answer.unwrap();
        assert!(
            matches!(error, Error::Conflict { expected: e, found: f, .. } if (e, f) == (expected, found)),
            "{error:?}"
        );
        assert!(!error.to_string().contains(SECRET));
    }
    assert!(home.state().database == before.database, "nothing was changed");
    assert_eq!(vault.set("b", &value("new"), &only(2)).unwrap(), 3);
    assert_eq!(vault.set("new", &value("new"), &only(0)).unwrap(), 1);
    vault.describe("b", &only(3)).unwrap();
    vault.remove("b", Some(3)).unwrap();
    // A removed secret counts as none.
    assert_eq!(kind(vault.set("b", &value("new"), &only(3))), "conflict");
    assert_eq!(vault.set("b", &value("new"), &only(0)).unwrap(), 4);
}

/// Without a vault there is no version to find, and none is made for saying so.
#[test]
fn a_version_is_expected_where_there_is_no_vault() {
    let home = Home::new();
    let vault = home.vault();
    let only = |version| Change { if_version: Some(version), ..Change::default() };
    let error = error(vault.set("a", &value(SECRET), &only(3)));
    assert!(matches!(&error, Error::Conflict { expected: 3, found: 0, .. }), "{error:?}");
    assert!(error.to_string().starts_with("there is no secret named \"a\""), "{error}");
    assert!(names(home.path()).is_empty(), "a vault was made");
    assert_eq!(vault.set("a", &value(SECRET), &only(0)).unwrap(), 1);
    let error = common::error(vault.set("a", &value(SECRET), &only(0)));
    assert!(error.to_string().starts_with("there is a secret named \"a\" already"), "{error}");
}

/// What changes nothing writes nothing, and is refused where a change would be.
#[test]
fn nothing_to_change() {
    let home = Home::new();
    let vault = home.vault();
    assert_eq!(vault.configure(None, None).unwrap(), Retention::default());
    assert_eq!(kind(vault.rename("a", "a")), "not_found");
    assert_eq!(kind(vault.describe("a", &Change::default())), "not_found");
    assert!(names(home.path()).is_empty(), "a vault was made");
    let home = Home::with_three();
    let vault = home.vault();
    vault.configure(Some(5), None).unwrap();
    let before = home.state();
    assert_eq!(vault.configure(None, None).unwrap(), Retention { versions: 5, days: 30 });
    vault.rename("b", "b").unwrap();
    vault.describe("b", &Change::default()).unwrap();
    vault.describe("b", &Change { if_version: Some(2), ..Change::default() }).unwrap();
    assert_eq!(kind(vault.describe("b", &Change { if_version: Some(1), ..Change::default() })), "conflict");
    assert!(home.state().database == before.database && home.state().anchor == before.anchor);
}

#[test]
fn invalid_names_change_nothing() {
    let home = Home::new();
    let vault = home.vault();
    for name in ["", "a\nb", "\0", "\u{7f}", &"x".repeat(256)] {
        let kinds = [
            kind(vault.get(name)),
            kind(vault.set(name, &value(SECRET), &Change::default())),
            kind(vault.describe(name, &Change::default())),
            kind(vault.remove(name, None)),
            kind(vault.restore(name, None)),
            kind(vault.rename(name, "b")),
            kind(vault.rename("b", name)),
            kind(vault.purge(name)),
            kind(vault.versions(name)),
        ];
        assert_eq!(kinds, ["invalid_name"; 9]);
    }
    let change = Change { description: Some("x".repeat(1001)), ..Change::default() };
    assert_eq!(kind(vault.set("a", &value(SECRET), &change)), "invalid_argument");
    assert_eq!(kind(vault.describe("a", &change)), "invalid_argument");
    assert!(names(home.path()).is_empty(), "a vault was made");
}

#[test]
fn invalid_values() {
    let long = "x".repeat(Value::MAX_BYTES + 1);
    for (bytes, reason) in [
        (long.as_bytes(), "1048577 bytes; at most 1048576"),
        (b"tb4-value\0", "NUL"),
        (b"tb4-value\xff", "not valid UTF-8 (at byte 10)"),
        (b"\xed\xa0\x80", "not valid UTF-8 (at byte 1)"),
    ] {
        let error = error(Value::new(bytes));
        assert_eq!(error.kind(), "invalid_value");
        assert!(error.to_string().contains(reason) && !error.to_string().contains("tb4-value"), "{error}");
    }
}

#[test]
fn values_at_the_edge() {
    let home = Home::new();
    let vault = home.vault();
    let texts = [
        String::new(),
        " \n\r\n\t ".into(),
        "x".repeat(Value::MAX_BYTES),
        "\u{1f511}".repeat(Value::MAX_BYTES / 4),
        "\u{5e9}\u{202e}\u{feff}\u{e9}e\u{301}".into(),
    ];
    for (i, text) in texts.iter().enumerate() {
        assert_eq!(set(&vault, "a", text), i as u64 + 1);
        assert!(get(&vault, "a") == *text);
        assert!(vault.get_all().unwrap()[0].value.expose() == text);
    }
    for (i, text) in texts.iter().enumerate() {
        vault.restore("a", Some(i as u64 + 1)).unwrap();
        assert!(get(&vault, "a") == *text);
    }
}

#[test]
fn restoring_what_is_not_removed() {
    let home = Home::with_three();
    let error = error(home.vault().restore("b", None));
    assert_eq!(error.kind(), "invalid_argument");
    assert!(error.to_string().contains("kept are: 1, 2"), "{error}");
}

/// Where the kernel has no keyring for us, as in many containers.
#[test]
fn unavailable() {
    let test = "unavailable";
    let passphrase = Passphrase::new("correct horse battery staple");
    if let Some((_, home)) = role() {
        let vault = Vault::under(home);
        let error = error(vault.unlock(&passphrase, Some(std::time::Duration::from_secs(60))));
        say(&format!("{}: {error}", error.kind()));
        say(state(&vault));
        vault.unlock(&passphrase, None).unwrap();
        say(state(&vault));
        return;
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    let home = Home::new();
    let vault = home.vault();
    vault.create(&NewSlot::Passphrase(&passphrase), Retention::default()).unwrap();
    vault.lock().unwrap();
    for call in ["keyctl", "add_key"] {
        let inject = format!("inject={call}:error=EPERM");
        let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", "trace=keyctl,add_key", "-e", &inject];
        let said = run(under(&wrapper, test, "", home.path()));
        assert!(said[0].starts_with("unavailable: ") && said[0].contains("unlock for this process only"), "{said:?}");
        assert_eq!(said[1..], ["locked", "open"]);
    }
    // Looking for the keyring, limiting the key's time, and who may use it: when that fails, no key stays behind.
    for number in [3, 4, 5] {
        let inject = format!("inject=keyctl:error=EPERM:when={number}");
        let wrapper = ["strace", "-f", "-o", "/dev/null", "-e", "trace=keyctl", "-e", &inject];
        let said = run(under(&wrapper, test, "", home.path()));
        assert!(said[0].starts_with("unavailable: "), "{number}: {said:?}");
        assert_eq!(said[1..], ["locked", "open"]);
        assert!(vault.info().locked, "{number}");
    }
}

fn state(vault: &Vault) -> &'static str {
    match vault.list() {
        Ok(_) => "open",
        Err(e) => e.kind(),
    }
}
