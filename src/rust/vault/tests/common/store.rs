//! Stores of many people to throw away.
use super::*;
use vault::{Event, Store};

pub type Person = [u8; 16];

pub struct Place {
    pub home: Home,
}

impl Place {
    pub fn new() -> Place {
        let home = Home::new();
        Store::create(home.path()).unwrap();
        Place { home }
    }

    pub fn open(&self) -> Store {
        once_free(|| Store::open(self.home.path())).unwrap()
    }

    pub fn database(&self) -> PathBuf {
        self.home.data().join("store.db")
    }

    /// Database and anchor, as they are while no server runs.
    pub fn state(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = [self.database(), self.home.anchor()];
        files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    pub fn rows(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }
}

pub fn put(store: &Store, person: &Person, name: &str, text: &str) -> u64 {
    store.change(|t| t.set(person, name, &value(text), &Change::default())).unwrap()
}

pub fn got(store: &Store, person: &Person, name: &str) -> String {
    store.get(person, name).unwrap().value.expose().to_owned()
}

pub fn add(store: &Store) -> Person {
    store.change(|t| t.add_person()).unwrap()
}

pub fn event(about: &Person, action: &str) -> Event {
    Event {
        about: vec![*about],
        who: "somebody".into(),
        action: action.into(),
        outcome: "ok".into(),
        ..Event::default()
    }
}

/// Tries again for a second while the store is in use: a process that another test begins has the lock of this one's store
/// until it runs its program.
pub fn once_free<T>(act: impl Fn() -> Result<T>) -> Result<T> {
    for _ in 0..100 {
        match act() {
            Err(Error::InUse(_)) => std::thread::sleep(std::time::Duration::from_millis(10)),
            other => return other,
        }
    }
    act()
}

/// What its owner does with a store.
pub fn event_of_owner() -> Event {
    Event { who: "the owner".into(), action: "restore accepted".into(), outcome: "ok".into(), ..Event::default() }
}
