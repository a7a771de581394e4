//! What is secret is nowhere in clear: not in a file, not in an error, not in what is printed.
mod common;
use common::*;
use std::path::Path;
use vault::hex;
use vault::*;

const VALUE: &str = "tb4-value-that-is-searched-for";
const NAME: &str = "tb4-name-that-is-searched-for";
const DESCRIPTION: &str = "tb4-description-that-is-searched-for";

/// All bytes of all files below a directory.
fn bytes_below(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for path in files(directory) {
        if path.is_dir() {
            all.extend(bytes_below(&path));
        } else {
            all.extend(std::fs::read(path).unwrap());
        }
    }
    all
}

fn is_in(needle: &[u8], hay: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}

#[test]
fn no_value_name_or_description_is_in_any_file() {
    let home = Home::new();
    let vault = home.vault();
    for i in 0..20 {
        let name = format!("{NAME} {i}");
        let change = Change { description: Some(DESCRIPTION.into()), expires: Some(Some(i)), ..Change::default() };
        vault.set(&name, &value(&VALUE.repeat(1 + i as usize % 7 * 40)), &change).unwrap();
        set(&vault, &name, VALUE);
        vault.describe(&name, &change).unwrap();
        vault.rename(&name, &format!("{name} renamed")).unwrap();
        vault.remove(&format!("{name} renamed"), None).unwrap();
        vault.restore(&format!("{name} renamed"), Some(1)).unwrap();
        if i % 5 == 0 {
            vault.purge(&format!("{name} renamed")).unwrap();
        }
    }
    let bytes = bytes_below(home.path());
    for marker in [VALUE, NAME, DESCRIPTION] {
        assert!(!is_in(&marker.as_bytes()[..8], &bytes));
        // Nor as other programs might have written it.
        let wide: Vec<u8> = marker[..6].encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert!(!is_in(&wide, &bytes) && !is_in(hex(&marker.as_bytes()[..6]).as_bytes(), &bytes));
    }
    // That it would be seen.
    std::fs::write(home.path().join("left"), VALUE).unwrap();
    assert!(is_in(&VALUE.as_bytes()[..8], &bytes_below(home.path())));
}

/// Not while it is being written either: stopped at every write, the journal included.
#[test]
fn no_value_is_in_any_file_at_any_moment() {
    let test = "no_value_is_in_any_file_at_any_moment";
    if let Some((_, home)) = role() {
        let vault = Vault::under(home);
        for i in 0..15 {
            let change = Change { description: Some(DESCRIPTION.into()), ..Change::default() };
            vault.set(NAME, &value(&VALUE.repeat(1 + i * 30)), &change).unwrap();
        }
        vault.purge(NAME).unwrap();
        return;
    }
    if !has("strace") {
        return skipped(test, "there is no strace");
    }
    let home = Home::new();
    let log = home.path().join("log");
    let calls = "trace=write,pwrite64,writev,pwritev";
    run(under(
        &["strace", "-f", "-xx", "-s", "100000", "-o", log.to_str().unwrap(), "-e", calls],
        test,
        "",
        home.path(),
    ));
    let log = std::fs::read(&log).unwrap();
    let escaped = |text: &str| text.bytes().map(|b| format!("\\x{b:02x}")).collect::<String>();
    for marker in [VALUE, NAME, DESCRIPTION] {
        assert!(!is_in(escaped(&marker[..8]).as_bytes(), &log));
    }
    // That it would be seen: what is in clear in the key file.
    assert!(is_in(escaped("dkusecrets root key").as_bytes(), &log));
}

/// What is printed for those who look for a mistake.
#[test]
fn nothing_that_is_printed_holds_a_value() {
    let home = Home::new();
    let vault = home.vault();
    set(&vault, NAME, VALUE);
    let secret = vault.get(NAME).unwrap();
    let printed = [
        format!("{:?}", secret.value),
        format!("{secret:?}"),
        format!("{:#?}", vault.get_all().unwrap()),
        format!("{:?}", vault.list().unwrap()),
        format!("{:?}", vault.versions(NAME).unwrap()),
        format!("{:?}", vault.info()),
        serde_json::to_string(&vault.info()).unwrap(),
        format!("{vault:?}"),
    ];
    for text in printed {
        assert!(!text.contains("tb4-value"), "{text}");
    }
    // What is asked for in a bug report names no secrets either.
    assert!(!format!("{:?}", vault.info()).contains("tb4-name"));
}
