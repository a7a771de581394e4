//! How a store's log is let go of, and what is proved of the rest.
mod common;
use common::store::*;
use common::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};
use vault::{Event, Store, hex};

fn forgotten() -> Event {
    Event { who: "the server".into(), action: "events let go".into(), outcome: "ok".into(), ..Event::default() }
}

thread_local! {
    /// What `ticking` says: each test has a thread.
    static TICKS: Cell<i64> = const { Cell::new(0) };
}

/// A clock that is a second later each time it is asked: the time of event `n` is `1000 * n`.
fn ticking(place: &Place) -> Store {
    place.open().with_clock(|| {
        TICKS.set(TICKS.get() + 1_000);
        TICKS.get()
    })
}

#[test]
fn old_events_are_let_go_and_the_rest_still_holds() {
    let place = Place::new();
    let person = add(&place.open());
    let store = ticking(&place);
    for i in 1..=10 {
        store.record(event(&person, &format!("action {i}"))).unwrap();
    }
    assert_eq!(store.forget_events(10_001, forgotten()).unwrap(), 0);
    assert_eq!(store.last_event(), 10);
    assert_eq!(store.forget_events(8_000, forgotten()).unwrap(), 4);
    // That is an event itself.
    assert_eq!(store.verify_events().unwrap(), 7);
    let (number, told) = store.events(1).unwrap().remove(0);
    assert_eq!((number, told.action.as_str(), told.names), (11, "events let go", vec!["events 1 to 4".to_owned()]));
    assert_eq!(store.events(100).unwrap().last().unwrap().1.action, "action 5");
    let own = store.events_about(&person, 100).unwrap();
    assert!(own.len() == 6 && own.last().unwrap().1.action == "action 5");
    store.record(event(&person, "later")).unwrap();
    assert_eq!(store.forget_events(8_000, forgotten()).unwrap(), 2);
    store.flush().unwrap();
    drop(store);
    let store = place.open();
    assert_eq!(store.verify().unwrap(), 0);
    assert_eq!(store.verify_events().unwrap(), 7);

    // All of them, in portions: the one that tells of it stays.
    for i in 0..2_500 {
        store.record(event(&person, &format!("one more {i}"))).unwrap();
    }
    assert_eq!(store.forget_events(0, forgotten()).unwrap(), 2_507);
    assert_eq!(store.verify_events().unwrap(), 1);
    assert_eq!(store.events(10).unwrap()[0].1.names, ["events 7 to 2513"]);
    assert!(store.events_about(&person, 10).unwrap().is_empty());
}

/// Whoever writes to the database while it is open cuts off the last events, and puts back the head of before.
#[test]
fn a_log_that_is_cut_while_it_is_open_is_found_at_once() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    store.record(event(&person, "first")).unwrap();
    let rows = place.rows();
    let all = || -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = rows.prepare("SELECT key, value FROM row").unwrap();
        all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(std::result::Result::unwrap).collect()
    };
    let before = all();
    for i in 0..5 {
        store.record(event(&person, &format!("read {i}"))).unwrap();
    }
    assert_eq!(store.verify_events().unwrap(), 6);
    for (key, value) in all() {
        match before.iter().find(|(other, _)| *other == key) {
            None => drop(rows.execute("DELETE FROM row WHERE key = ?1", [&key]).unwrap()),
            Some((_, old)) if *old != value => {
                rows.execute("UPDATE row SET value = ?2 WHERE key = ?1", [&key, old]).unwrap();
            }
            Some(_) => {}
        }
    }
    assert_eq!(kind(store.verify_events()), "damaged");
    assert_eq!(kind(store.verify()), "damaged");
    assert_eq!(kind(store.events(10)), "damaged");
    assert_eq!(kind(store.events_about(&person, 10)), "damaged");
    assert_eq!(kind(store.forget_events(0, forgotten())), "damaged");
    let told = store.verify_events().unwrap_err().to_string();
    assert!(told.contains("event 2 "), "{told}");
    // What is written later does not hide it.
    store.record(event(&person, "later")).unwrap();
    assert_eq!(kind(store.verify_events()), "damaged");
}

/// A clock that jumps ahead, and back, makes nothing older than it is: no more than a day is counted between two events.
#[test]
fn a_clock_that_jumps_lets_nothing_go_early() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    static NOW: AtomicI64 = AtomicI64::new(0);
    let place = Place::new();
    let store = place.open().with_clock(|| NOW.load(Ordering::Relaxed));
    let person = add(&store);
    let on = |day: i64| {
        NOW.store(day * DAY as i64, Ordering::Relaxed);
        store.record(event(&person, &format!("day {day}"))).unwrap();
    };
    [0, 1, 2, 3650].into_iter().for_each(on);
    assert_eq!(store.forget_events(30 * DAY, forgotten()).unwrap(), 0);
    assert_eq!(store.forget_events(4 * DAY, forgotten()).unwrap(), 0);
    // It was set right, and goes on.
    (3..=40).for_each(on);
    // Of days 0, 1, 2, that of the jump, and 3 to 10.
    assert_eq!(store.forget_events(30 * DAY, forgotten()).unwrap(), 12);
    assert_eq!(store.forget_events(30 * DAY, forgotten()).unwrap(), 0);
    assert_eq!(store.events(100).unwrap().last().unwrap().1.action, "day 11");
    assert_eq!(store.verify_events().unwrap(), 31);
    // A server that was off for a year keeps them for longer.
    NOW.store(400 * DAY as i64, Ordering::Relaxed);
    assert_eq!(store.forget_events(31 * DAY, forgotten()).unwrap(), 0);
}

/// A cut that nobody told of is found, before and after one that was.
#[test]
fn what_somebody_else_cuts_is_found() {
    let place = Place::new();
    let person = add(&place.open());
    let store = ticking(&place);
    for i in 1..=20 {
        store.record(event(&person, &format!("action {i}"))).unwrap();
    }
    store.flush().unwrap();
    drop(store);
    let whole = place.state();
    let store = ticking(&place);
    assert_eq!(store.forget_events(14_000, forgotten()).unwrap(), 7);
    drop(store);
    let before = place.state();
    let meddle = |sql: &str| {
        place.rows().execute_batch(sql).unwrap();
        let said = once_free(|| Store::open(place.home.path())).and_then(|store| store.verify_events());
        for (path, bytes) in &before {
            overwrite(path, bytes);
        }
        kind(said)
    };
    let rows = |from: u64, to: u64| {
        format!(
            "DELETE FROM row WHERE key BETWEEN x'07{from:016x}' AND x'07{to:016x}';
             DELETE FROM row WHERE substr(key, 1, 1) = x'09' AND substr(key, 18) BETWEEN x'{from:016x}' AND x'{to:016x}'"
        )
    };
    assert_eq!(meddle(&rows(8, 8)), "damaged");
    assert_eq!(meddle(&rows(8, 12)), "damaged");
    assert_eq!(meddle(&rows(21, 21)), "damaged");
    assert_eq!(meddle(&rows(8, 21)), "damaged");
    // The head of before, which knows of no cut, with the events that it knows.
    let old = Place::new();
    overwrite(&old.database(), &whole[0].1);
    let head: Vec<u8> = old.rows().query_row("SELECT value FROM row WHERE key = x'08'", [], |r| r.get(0)).unwrap();
    assert_eq!(meddle(&format!("UPDATE row SET value = x'{}' WHERE key = x'08'", hex(&head))), "rolled_back");
    overwrite(&place.database(), &whole[0].1);
    assert_eq!(kind(once_free(|| Store::open(place.home.path()))), "rolled_back");
    for (path, bytes) in &before {
        overwrite(path, bytes);
    }
    // What was changed is not let go: it stays, for whoever looks.
    let changed = "UPDATE row SET value = zeroblob(300) WHERE key = x'07000000000000000a'";
    place.rows().execute_batch(changed).unwrap();
    let store = place.open();
    assert_eq!(kind(store.forget_events(0, forgotten())), "damaged");
    assert_eq!(kind(store.verify_events()), "damaged");
    assert_eq!(store.last_event(), 21);
}

/// Killed in the middle: either an event is let go or it is there, the rest is proved, and the log tells of it.
#[test]
fn killed_while_events_are_let_go() {
    let test = "killed_while_events_are_let_go";
    if let Some((_, home)) = role() {
        let store = Store::open(home).unwrap();
        say("begin");
        store.forget_events(0, forgotten()).unwrap();
        return;
    }
    const EVENTS: u64 = 4_000;
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    store
        .change(|t| {
            (0..EVENTS).for_each(|i| t.record(event(&person, &format!("action {i}"))));
            Ok(())
        })
        .unwrap();
    store.flush().unwrap();
    drop(store);
    let before = place.state();
    let mut portions = std::collections::BTreeSet::new();
    // How long it takes undisturbed.
    let mut whole = std::time::Duration::ZERO;
    for round in (0..=10).rev() {
        for (path, bytes) in &before {
            overwrite(path, bytes);
        }
        let mut talk = Talk::start(again(test, "server", place.home.path()));
        assert_eq!(talk.hear().unwrap(), "begin");
        if round == 10 {
            let begun = std::time::Instant::now();
            talk.must_succeed();
            whole = begun.elapsed();
        } else {
            std::thread::sleep(whole * round / 10);
            let _ = talk.child.kill();
            talk.child.wait().unwrap();
        }
        let store = place.open();
        let left = store.verify_events().unwrap();
        let told = store.events(1).unwrap()[0].1.action == "events let go";
        assert_eq!(told, left < EVENTS, "{left} in round {round}");
        assert_eq!(store.events_about(&person, 10_000).unwrap().len() as u64, left - u64::from(told));
        portions.insert(left);
        // And again, from wherever that was.
        store.forget_events(0, forgotten()).unwrap();
        assert_eq!(store.verify_events().unwrap(), 1);
    }
    println!("left: {portions:?}");
    assert!(portions.len() > 2, "{portions:?}");
}
