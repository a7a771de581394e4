//! A store whose files were put back from a backup: refused, until that is accepted.
mod common;
use common::store::*;
use common::*;
use vault::{Restored, Store, hex};

/// A store with two people and some events, its state, and then a later one of it.
fn two_states() -> (Place, [Person; 2], State) {
    let place = Place::new();
    let store = place.open();
    let (a, b) = (add(&store), add(&store));
    put(&store, &a, "name", "old of a");
    put(&store, &b, "name", "of b");
    store.change(|t| t.put_document("document", b"old")).unwrap();
    for i in 0..3 {
        store.record(event(&a, &format!("old {i}"))).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let old = place.state();
    let store = place.open();
    put(&store, &a, "name", "new of a");
    store.change(|t| t.put_document("document", b"new")).unwrap();
    for i in 0..5 {
        store.record(event(&a, &format!("new {i}"))).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    (place, [a, b], old)
}

/// The bytes of files.
type State = Vec<(std::path::PathBuf, Vec<u8>)>;

fn accept(place: &Place) -> vault::Result<Option<Restored>> {
    once_free(|| Store::accept_restore(place.home.path(), false, event_of_owner()))
}

#[test]
fn nothing_to_accept_changes_nothing() {
    let (place, [a, _], _) = two_states();
    let before = place.state();
    assert_eq!(accept(&place).unwrap(), None);
    assert_eq!(place.state(), before);
    let store = place.open();
    assert_eq!(kind(accept(&place)), "in_use");
    assert_eq!(got(&store, &a, "name"), "new of a");
    drop(store);
    let nowhere = Home::new();
    assert_eq!(kind(Store::accept_restore(nowhere.path(), false, event_of_owner())), "path");
}

#[test]
fn an_older_database_is_accepted_by_name() {
    let (place, [a, b], old) = two_states();
    let newer = place.state();
    overwrite(&old[0].0, &old[0].1);
    assert_eq!(kind(once_free(|| Store::open(place.home.path()))), "rolled_back");
    let accepted = accept(&place).unwrap().unwrap();
    assert_eq!(accepted, Restored { older: 1, damaged: 0, events: (3, 8) });

    let store = place.open();
    assert_eq!((got(&store, &a, "name").as_str(), got(&store, &b, "name").as_str()), ("old of a", "of b"));
    assert_eq!(store.document("document").unwrap()[..], *b"old");
    // The log holds, and tells of it: to whom has lost something, not to whom has not.
    assert_eq!(store.verify_events().unwrap(), 4);
    let (number, told) = store.events_about(&a, 1).unwrap().remove(0);
    assert_eq!((number, told.action.as_str(), told.who.as_str()), (4, "restore accepted", "the owner"));
    assert_eq!(told.names, ["event 3 was the last, event 8 had been seen"]);
    assert!(store.events_about(&b, 10).unwrap().is_empty());
    // It goes on from here: with another version than the one that was lost.
    put(&store, &a, "name", "newest of a");
    store.record(event(&b, "later")).unwrap();
    assert_eq!(store.verify().unwrap(), 3);
    drop(store);
    assert_eq!(got(&place.open(), &a, "name"), "newest of a");

    // What belongs to the line before is not taken for this one: each file of both states, by itself.
    let now = place.state();
    for (path, bytes) in newer.iter().chain(&old) {
        overwrite(path, bytes);
        assert_eq!(kind(once_free(|| Store::open(place.home.path()))), "rolled_back", "{}", path.display());
        for (path, bytes) in &now {
            overwrite(path, bytes);
        }
    }
    assert_eq!(accept(&place).unwrap(), None);
}

#[test]
fn a_lost_anchor_is_made_anew() {
    let (place, [a, b], _) = two_states();
    std::fs::remove_file(place.home.anchor()).unwrap();
    assert_eq!(kind(once_free(|| Store::open(place.home.path()))), "rolled_back");
    assert_eq!(accept(&place).unwrap().unwrap(), Restored { older: 0, damaged: 0, events: (8, 8) });
    let store = place.open();
    assert_eq!(got(&store, &a, "name"), "new of a");
    assert_eq!(store.events(1).unwrap()[0].1.names, ["event 8 was the last"]);
    put(&store, &b, "name", "x");
    store.verify().unwrap();
    drop(store);
    // One that was cut short, too.
    let anchor = std::fs::read(place.home.anchor()).unwrap();
    overwrite(&place.home.anchor(), &anchor[..300]);
    assert_eq!(kind(once_free(|| Store::open(place.home.path()))), "rolled_back");
    assert!(accept(&place).unwrap().is_some());
    place.open().verify().unwrap();
}

/// Nothing is overwritten by a guess: what cannot be opened is refused, and the files stay as they were put back.
#[test]
fn what_is_damaged_is_not_accepted_unless_it_is_meant() {
    let (place, [a, b], old) = two_states();
    overwrite(&old[0].0, &old[0].1);
    let key = |tag: u8, id: &Person| format!("x'{tag:02x}{}'", hex(id));
    for (what, sql) in [
        ("a record", format!("UPDATE row SET value = zeroblob(150) WHERE substr(key, 1, 17) = {}", key(3, &a))),
        ("a manifest", format!("UPDATE row SET value = zeroblob(300) WHERE key = {}", key(4, &a))),
        ("a key", format!("DELETE FROM row WHERE substr(key, 1, 17) = {}", key(2, &a))),
        ("an event", "DELETE FROM row WHERE key = x'070000000000000002'".into()),
    ] {
        place.rows().execute_batch(&sql).unwrap();
        let before = place.state();
        assert_eq!(kind(accept(&place)), "damaged", "{what}");
        assert_eq!(place.state(), before, "{what}");
        let accepted = once_free(|| Store::accept_restore(place.home.path(), true, event_of_owner())).unwrap().unwrap();
        assert_eq!(accepted.damaged, usize::from(["a manifest", "a key"].contains(&what)), "{what}");
        let store = place.open();
        assert_eq!(got(&store, &b, "name"), "of b", "{what}");
        assert_eq!(kind(store.verify()), "damaged", "{what}");
        if what != "an event" {
            assert_eq!(kind(store.get_all(&a)), "damaged", "{what}");
        }
        drop(store);
        for (path, bytes) in &before {
            overwrite(path, bytes);
        }
        overwrite(&old[0].0, &old[0].1);
    }
    // Of what leads to everything else nothing can be let go.
    place.rows().execute_batch("UPDATE row SET value = zeroblob(300) WHERE key = x'08'").unwrap();
    let refused = once_free(|| Store::accept_restore(place.home.path(), true, event_of_owner()));
    assert_eq!(kind(refused), "damaged");
}

/// Cut short at any moment, the store is as before, or accepted, or to be accepted once more.
#[test]
fn killed_while_accepting() {
    let test = "killed_while_accepting";
    if let Some((_, home)) = role() {
        say("begin");
        Store::accept_restore(home, false, event_of_owner()).unwrap();
        return;
    }
    let (place, [a, _], old) = two_states();
    let newer = place.state();
    for round in 0..30 {
        for (path, bytes) in &newer {
            overwrite(path, bytes);
        }
        overwrite(&old[0].0, &old[0].1);
        let mut talk = Talk::start(again(test, "owner", place.home.path()));
        assert_eq!(talk.hear().unwrap(), "begin");
        std::thread::sleep(std::time::Duration::from_micros(round * 400));
        let _ = talk.child.kill();
        talk.child.wait().unwrap();
        if let Err(e) = once_free(|| Store::open(place.home.path())) {
            assert_eq!(e.kind(), "rolled_back", "round {round}: {e}");
            assert!(accept(&place).unwrap().is_some());
        }
        let store = place.open();
        assert_eq!(got(&store, &a, "name"), "old of a");
        store.verify().unwrap();
        let told = store.events(100).unwrap().iter().filter(|(_, e)| e.action == "restore accepted").count();
        assert!((1..=2).contains(&told), "round {round}: {told}");
    }
}
