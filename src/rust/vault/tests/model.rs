//! Any sequence of operations agrees with a model of a few maps in memory.
mod common;
use common::*;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use vault::*;

const DAY: i64 = 24 * 60 * 60 * 1000;

/// What is known of a secret.
#[derive(Clone, Debug)]
struct Known {
    description: String,
    created: i64,
    updated: i64,
    removed: Option<i64>,
    /// Version, created, expires, value; oldest first.
    versions: Vec<(u64, i64, Option<i32>, String)>,
}

#[derive(Default)]
struct Model {
    secrets: BTreeMap<String, Known>,
    keep: usize,
}

#[derive(Clone, Debug)]
enum Step {
    Set { name: usize, value: String, change: Change },
    Describe { name: usize, change: Change },
    Remove { name: usize, if_version: Option<u64> },
    Restore { name: usize, version: Option<u64> },
    Rename { from: usize, to: usize },
    Purge { name: usize },
    Keep { versions: u32 },
    Look { name: usize },
    Wait { milliseconds: i64 },
    Reopen,
}

/// Names of which some are others in another normal form, with the form they are kept in.
const NAMES: [(&str, &str); 10] = [
    ("a", "a"),
    ("gar\u{e7}on", "gar\u{e7}on"),
    ("garc\u{327}on", "gar\u{e7}on"),
    ("\u{212b}", "\u{c5}"),
    ("A\u{30a}", "\u{c5}"),
    (" ", " "),
    ("\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f511}", "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{1f511}"),
    ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
    ("\u{d55c}", "\u{d55c}"),
    ("../\"'%;--", "../\"'%;--"),
];

fn change() -> impl Strategy<Value = Change> {
    let description = prop::option::weighted(0.3, prop_oneof![Just(String::new()), "\\PC{0,20}"]);
    let day = prop_oneof![any::<i32>(), 19_998..20_003_i32];
    let expires = prop::option::weighted(0.3, prop::option::of(day));
    let if_version = prop::option::weighted(0.2, 0..4_u64);
    (description, expires, if_version).prop_map(|(description, expires, if_version)| Change {
        description,
        expires,
        if_version,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    prop_oneof![
        6 => (name.clone(), "[^\\x00]{0,40}", change()).prop_map(|(name, value, change)| Step::Set { name, value, change }),
        2 => (name.clone(), change()).prop_map(|(name, change)| Step::Describe { name, change }),
        3 => (name.clone(), prop::option::weighted(0.2, 0..4_u64)).prop_map(|(name, if_version)| Step::Remove { name, if_version }),
        3 => (name.clone(), prop::option::of(0..6_u64)).prop_map(|(name, version)| Step::Restore { name, version }),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => name.clone().prop_map(|name| Step::Purge { name }),
        1 => (1..5_u32).prop_map(|versions| Step::Keep { versions }),
        2 => name.prop_map(|name| Step::Look { name }),
        1 => (0..DAY).prop_map(|milliseconds| Step::Wait { milliseconds }),
        1 => Just(Step::Reopen),
    ]
}

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
}

fn now() -> i64 {
    NOW.get()
}

fn is_over(expires: Option<i32>) -> bool {
    expires.is_some_and(|day| i64::from(day) < now().div_euclid(DAY))
}

/// What an operation must answer: a number, or the kind of an error.
type Answer = std::result::Result<u64, &'static str>;

fn found<T>(answer: Result<T>, number: impl Fn(T) -> u64) -> Answer {
    answer.map(number).map_err(|e| e.kind())
}

impl Model {
    fn live(&mut self, name: &str) -> std::result::Result<&mut Known, &'static str> {
        self.secrets.get_mut(name).filter(|k| k.removed.is_none()).ok_or("not_found")
    }

    fn check_version(&mut self, name: &str, expected: Option<u64>) -> std::result::Result<(), &'static str> {
        let found = self.live(name).map_or(0, |k| k.versions.last().unwrap().0);
        if expected.is_some_and(|e| e != found) { Err("conflict") } else { Ok(()) }
    }

    fn add(&mut self, name: &str, expires: Option<i32>, value: String) -> u64 {
        let keep = self.keep;
        let known = self.secrets.get_mut(name).unwrap();
        let version = known.versions.last().map_or(0, |v| v.0) + 1;
        known.versions.push((version, now(), expires, value));
        known.removed = None;
        known.updated = now();
        let excess = known.versions.len().saturating_sub(keep);
        known.versions.drain(..excess);
        version
    }

    fn step(&mut self, step: &Step) -> Answer {
        match step {
            Step::Set { name, value, change } => {
                let name = NAMES[*name].1;
                self.check_version(name, change.if_version)?;
                if let Some(known) = self.secrets.get_mut(name).filter(|k| k.removed.is_some()) {
                    (known.description, known.created) = (String::new(), now());
                }
                let known = self.secrets.entry(name.into()).or_insert_with(|| Known {
                    description: String::new(),
                    created: now(),
                    updated: now(),
                    removed: None,
                    versions: Vec::new(),
                });
                if let Some(description) = &change.description {
                    known.description = normal(description);
                }
                Ok(self.add(name, change.expires.flatten(), value.clone()))
            }
            Step::Describe { name, change } => {
                let name = NAMES[*name].1;
                self.live(name)?;
                self.check_version(name, change.if_version)?;
                if change.description.is_none() && change.expires.is_none() {
                    return Ok(0);
                }
                let known = self.live(name)?;
                if let Some(description) = &change.description {
                    known.description = normal(description);
                }
                if let Some(expires) = change.expires {
                    known.versions.last_mut().unwrap().2 = expires;
                }
                known.updated = now();
                Ok(0)
            }
            Step::Remove { name, if_version } => {
                let name = NAMES[*name].1;
                self.live(name)?;
                self.check_version(name, *if_version)?;
                let known = self.live(name)?;
                (known.removed, known.updated) = (Some(now()), now());
                Ok(0)
            }
            Step::Restore { name, version } => {
                let name = NAMES[*name].1;
                let known = self.secrets.get_mut(name).ok_or("not_found")?;
                let current = known.versions.last().unwrap().0;
                match version {
                    _ if known.removed.is_none() && version.is_none_or(|v| v == current) => Err("invalid_argument"),
                    Some(version) if *version != current => {
                        let (_, _, expires, value) =
                            known.versions.iter().find(|v| v.0 == *version).cloned().ok_or("not_found")?;
                        Ok(self.add(name, expires, value))
                    }
                    _ => {
                        (known.removed, known.updated) = (None, now());
                        Ok(current)
                    }
                }
            }
            Step::Rename { from, to } => {
                let (from, to) = (NAMES[*from].1, NAMES[*to].1);
                self.live(from)?;
                if from == to {
                    return Ok(0);
                }
                if self.secrets.contains_key(to) {
                    return Err("exists");
                }
                let mut known = self.secrets.remove(from).unwrap();
                known.updated = now();
                self.secrets.insert(to.into(), known);
                Ok(0)
            }
            Step::Purge { name } => {
                let name = NAMES[*name].1;
                let known = self.secrets.get_mut(name).ok_or("not_found")?;
                if known.removed.is_some() {
                    return Ok(self.secrets.remove(name).unwrap().versions.len() as u64);
                }
                let older = known.versions.len() - 1;
                known.versions.drain(..older);
                known.updated = now();
                Ok(older as u64)
            }
            Step::Keep { versions } => {
                self.keep = *versions as usize;
                Ok(0)
            }
            Step::Look { name } => Ok(self.live(NAMES[*name].1)?.versions.last().unwrap().0),
            Step::Wait { milliseconds } => {
                NOW.set(now() + milliseconds);
                Ok(0)
            }
            Step::Reopen => Ok(0),
        }
    }

    /// Everything the vault can be asked for.
    fn compare(&self, vault: &Vault) {
        let list: Vec<Summary> = self
            .secrets
            .iter()
            .map(|(name, known)| Summary {
                name: name.clone(),
                description: known.description.clone(),
                version: known.versions.last().unwrap().0,
                created: known.created,
                updated: known.updated,
                expires: known.versions.last().unwrap().2,
                removed: known.removed,
            })
            .collect();
        assert_eq!(vault.list().unwrap(), list);
        let all = vault.get_all().unwrap();
        let live: Vec<_> = self.secrets.iter().filter(|(_, k)| k.removed.is_none()).collect();
        assert_eq!(all.len(), live.len());
        for (secret, (name, known)) in all.iter().zip(live) {
            for secret in [secret, &vault.get(name).unwrap()] {
                let (version, _, expires, value) = known.versions.last().unwrap();
                assert_eq!((&secret.name, secret.value.expose()), (name, value.as_str()));
                assert_eq!((secret.version, secret.expires, secret.expired), (*version, *expires, is_over(*expires)));
            }
        }
        for (written, name) in NAMES {
            let Some(known) = self.secrets.get(name) else {
                assert!(matches!(vault.get(written), Err(Error::NotFound { removed: false, .. })));
                assert_eq!(kind(vault.versions(written)), "not_found");
                continue;
            };
            if known.removed.is_some() {
                assert!(matches!(vault.get(written), Err(Error::NotFound { removed: true, .. })));
            }
            let found: Vec<_> = vault.versions(written).unwrap();
            let found: Vec<_> = found.iter().rev().map(|v| (v.version, v.created, v.expires, v.current)).collect();
            let last = known.versions.last().unwrap().0;
            let current = |version| version == last && known.removed.is_none();
            let expected: Vec<_> = known.versions.iter().map(|v| (v.0, v.1, v.2, current(v.0))).collect();
            assert_eq!(found, expected);
        }
        let versions: usize = self.secrets.values().map(|k| k.versions.len()).sum();
        assert_eq!(vault.verify().unwrap(), versions as u64);
        let info = vault.info();
        let removed = self.secrets.values().filter(|k| k.removed.is_some()).count() as u64;
        assert_eq!(info.secrets.unwrap_or(0), self.secrets.len() as u64 - removed);
        assert_eq!((info.removed.unwrap_or(0), info.versions.unwrap_or(0)), (removed, versions as u64));
    }
}

fn normal(text: &str) -> String {
    use unicode_normalization::UnicodeNormalization;
    text.nfc().collect()
}

fn act(vault: &Vault, step: &Step) -> Answer {
    match step {
        Step::Set { name, value: text, change } => found(vault.set(NAMES[*name].0, &value(text), change), |v| v),
        Step::Describe { name, change } => found(vault.describe(NAMES[*name].0, change), |()| 0),
        Step::Remove { name, if_version } => found(vault.remove(NAMES[*name].0, *if_version), |()| 0),
        Step::Restore { name, version } => found(vault.restore(NAMES[*name].0, *version), |v| v),
        Step::Rename { from, to } => found(vault.rename(NAMES[*from].0, NAMES[*to].0), |()| 0),
        Step::Purge { name } => found(vault.purge(NAMES[*name].0), |n| n),
        Step::Keep { versions } => found(vault.configure(Some(*versions), Some(36_500)), |_| 0),
        Step::Look { name } => found(vault.get(NAMES[*name].0), |s| s.version),
        Step::Wait { .. } => Ok(0),
        // As in another process, which remembers nothing.
        Step::Reopen => found(vault.lock(), |_| 0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations(steps in prop::collection::vec(step(), 1..40)) {
        NOW.set(20_000 * DAY);
        let home = Home::new();
        let vault = home.vault().with_clock(now);
        let mut model = Model { keep: 10, ..Model::default() };
        for step in &steps {
            // The clock first: it is the model's.
            let before = now();
            let expected = model.step(step);
            prop_assert!(now() >= before);
            prop_assert_eq!(act(&vault, step), expected, "{:?}", step);
        }
        model.compare(&vault);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any text without NUL comes back byte for byte; any other bytes are refused, with nothing changed.
    #[test]
    fn any_value(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        any::<String>().prop_map(String::into_bytes),
        "[ \\t\\r\\n]{0,20}".prop_map(String::into_bytes),
    ]) {
        thread_local!(static HOME: Home = Home::new());
        HOME.with(|home| {
            let vault = home.vault();
            match Value::new(&bytes) {
                Ok(value) => {
                    assert!(std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0));
                    vault.set("a", &value, &Change::default()).unwrap();
                    assert_eq!(vault.get("a").unwrap().value.expose().as_bytes(), bytes);
                }
                Err(e) => {
                    assert_eq!(e.kind(), "invalid_value");
                    assert!(std::str::from_utf8(&bytes).is_err() || bytes.contains(&0));
                }
            }
        });
    }

    /// A name is kept in NFC if it has 1 to 255 characters then and no control characters, and refused otherwise.
    #[test]
    fn any_name(name in prop_oneof!["\\PC{1,30}", any::<String>(), "[a\u{301}\u{e9}]{240,280}", "\\PC{250,260}"]) {
        thread_local!(static HOME: Home = Home::new());
        HOME.with(|home| {
            let vault = home.vault();
            let kept = normal(&name);
            let length = kept.chars().count();
            let is_name = (1..=255).contains(&length) && !kept.chars().any(char::is_control);
            match vault.set(&name, &value(&name.replace('\0', "")), &Change::default()) {
                Ok(_) => {
                    assert!(is_name);
                    for name in [&name, &kept] {
                        assert_eq!(vault.get(name).unwrap().name, kept);
                    }
                }
                Err(e) => {
                    assert_eq!(e.kind(), "invalid_name");
                    assert!(!is_name);
                }
            }
        });
    }
}
