//! What a store keeps in memory of people's secrets, and how events get into the log while nobody waits.
mod common;
use common::store::*;
use common::*;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use vault::{Change, Event, Store};

fn names_and_values(store: &Store, person: &Person) -> Vec<(String, String, u64)> {
    let all = store.get_all(person).unwrap();
    all.into_iter().map(|s| (s.name.clone(), s.value.expose().to_owned(), s.version)).collect()
}

/// After each kind of change: what is read again is what somebody reads who remembers nothing.
#[test]
fn every_change_is_seen_at_once() {
    let place = Place::new();
    let mut store = place.open();
    let (ann, bob) = (add(&store), add(&store));
    put(&store, &bob, "b", "of bob");
    for name in ["a", "b", "c"] {
        put(&store, &ann, name, "1");
    }
    type Step = fn(&mut vault::Transaction, &Person) -> vault::Result<()>;
    let steps: [Step; 8] = [
        |t, p| t.set(p, "a", &value("2"), &Change::default()).map(drop),
        |t, p| t.set(p, "new", &value("1"), &Change::default()).map(drop),
        |t, p| t.describe(p, "a", &Change { expires: Some(Some(30_000)), ..Change::default() }),
        |t, p| t.remove(p, "b", None),
        |t, p| t.restore(p, "b", None).map(drop),
        |t, p| t.restore(p, "a", Some(1)).map(drop),
        |t, p| t.rename(p, "a", "renamed"),
        |t, p| t.purge(p, "renamed").map(drop),
    ];
    for step in steps {
        assert_eq!(names_and_values(&store, &bob), [("b".into(), "of bob".into(), 1)]);
        names_and_values(&store, &ann);
        assert!(store.remembers(&ann) && store.remembers(&bob));
        store.change(|t| step(t, &ann)).unwrap();
        assert!(!store.remembers(&ann) && store.remembers(&bob));
        let seen = names_and_values(&store, &ann);
        let one = |(name, value, _): &(String, String, u64)| {
            assert_eq!(store.get(&ann, name).unwrap().value.expose(), value);
        };
        seen.iter().for_each(one);
        assert_eq!(kind(store.get(&ann, "of nobody")), "not_found");
        let expires: Vec<_> = store.get_all(&ann).unwrap().iter().map(|s| s.expires).collect();
        drop(store);
        store = place.open();
        assert_eq!(names_and_values(&store, &ann), seen);
        assert_eq!(store.get_all(&ann).unwrap().iter().map(|s| s.expires).collect::<Vec<_>>(), expires);
    }
    // A change that fails changes nothing of that either.
    let failed = store.change(|t| {
        t.set(&ann, "c", &value("not this"), &Change::default())?;
        t.remove(&ann, "of nobody", None)
    });
    assert_eq!(kind(failed), "not_found");
    assert_eq!(store.get(&ann, "c").unwrap().value.expose(), "1");
    store.change(|t| t.remove_person(&ann)).unwrap();
    assert_eq!(kind(store.get_all(&ann)), "no_person");
    assert_eq!(kind(store.get(&ann, "c")), "no_person");
}

#[test]
fn who_has_very_much_is_not_kept_in_memory() {
    let place = Place::new();
    let store = place.open();
    let (long, many) = (add(&store), add(&store));
    put(&store, &long, "a", &"x".repeat(100_000));
    store
        .change(|t| {
            (0..300).try_for_each(|i| t.set(&many, &format!("n{i}"), &value("v"), &Change::default()).map(drop))
        })
        .unwrap();
    for person in [&long, &many] {
        assert!(!store.get_all(person).unwrap().is_empty());
        assert!(!store.remembers(person));
    }
    assert_eq!(store.get(&long, "a").unwrap().value.expose().len(), 100_000);
    assert_eq!(store.get(&many, "n7").unwrap().value.expose(), "v");
}

/// Whoever reads after a write was answered has at least what was written, whatever reads run beside it.
#[test]
fn no_read_is_older_than_a_write_that_was_answered() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    let written = AtomicU64::new(put(&store, &person, "a", "1"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for i in 2..=200 {
                written.store(put(&store, &person, "a", &i.to_string()), Ordering::SeqCst);
            }
        });
        for _ in 0..3 {
            scope.spawn(|| {
                let mut last = 0;
                while last < 200 {
                    let least = written.load(Ordering::SeqCst);
                    let secret = store.get_all(&person).unwrap().remove(0);
                    assert!(secret.version >= least.max(last), "{} after {least} and {last}", secret.version);
                    assert_eq!(secret.value.expose(), secret.version.to_string());
                    last = secret.version;
                }
            });
        }
    });
}

#[test]
fn events_get_into_the_log_while_nobody_waits() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    let event = |action: &str| Event { about: vec![person], action: action.into(), ..Event::default() };
    let before = store.last_event();
    let mut recordings: Vec<_> = (0..5).map(|i| store.submit(event(&i.to_string()))).collect();
    let mut poll = |i: usize| std::pin::Pin::new(&mut recordings[i]).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll(0).is_pending() && poll(4).is_pending());
    assert_eq!((store.submitted(), store.last_event()), (5, before));
    assert!(store.try_write_submitted());
    assert!((0..5).all(|i| matches!(poll(i), Poll::Ready(Ok(())))));
    assert_eq!((store.submitted(), store.last_event()), (0, before + 5));
    // Nothing to write is no event.
    assert!(store.try_write_submitted());
    store.write_submitted();
    assert_eq!(store.last_event(), before + 5);
    // While somebody changes something, and while another program has the lock, it does not wait.
    let recording = store.submit(event("later"));
    let began = Instant::now();
    store
        .change(|_| {
            std::thread::scope(|scope| scope.spawn(|| assert!(!store.try_write_submitted())).join().unwrap());
            Ok(())
        })
        .unwrap();
    let other = place.rows();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(!store.try_write_submitted() && !recording.is_done());
    assert!(began.elapsed() < Duration::from_secs(5));
    std::thread::scope(|scope| {
        scope.spawn(|| store.write_submitted());
        std::thread::sleep(Duration::from_millis(100));
        assert!(!recording.is_done());
        other.execute_batch("COMMIT").unwrap();
    });
    assert!(recording.is_done());
    // It waits again where it is meant to.
    store.record(event("last")).unwrap();
    let actions: Vec<String> = store.events_about(&person, 7).unwrap().into_iter().map(|(_, e)| e.action).collect();
    assert_eq!(actions, ["last", "later", "4", "3", "2", "1", "0"]);
    store.verify_events().unwrap();
}

/// The write-ahead log does not grow for ever, and what was in it is there after it was brought in.
#[test]
fn the_write_ahead_log_is_brought_in() {
    let place = Place::new();
    let store = place.open();
    let person = add(&store);
    let ahead = || std::fs::metadata(place.database().with_extension("db-wal")).unwrap().len();
    let mut most = 0;
    for i in 0..60 {
        put(&store, &person, "a", &format!("{i}{}", "x".repeat(500_000)));
        store.flush().unwrap();
        store.bring_in().unwrap();
        most = most.max(ahead());
    }
    assert!((1..20_000_000).contains(&most), "{most}");
    assert!(store.get(&person, "a").unwrap().value.expose().starts_with("59x"));
    store.verify().unwrap();
}
