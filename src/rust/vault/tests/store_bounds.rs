//! How much one person may keep in a store.
mod common;
use common::store::*;
use common::*;
use vault::Change;

#[test]
fn ten_thousand_secrets() {
    let place = Place::new();
    let store = place.open();
    let (person, other) = (add(&store), add(&store));
    store
        .change(|t| {
            (0..10_000).try_for_each(|i| t.set(&person, &format!("n{i}"), &value("v"), &Change::default()).map(drop))
        })
        .unwrap();
    let set = |name: &str| store.change(|t| t.set(&person, name, &value("w"), &Change::default()));
    assert_eq!(kind(set("one more")), "too_many");
    // What is there can still be written, and others write theirs.
    assert_eq!(set("n7").unwrap(), 2);
    put(&store, &other, "a", "1");
    // One that was removed can be restored, so it counts until it is purged.
    store.change(|t| t.remove(&person, "n8", None)).unwrap();
    assert_eq!(kind(set("one more")), "too_many");
    store.change(|t| t.purge(&person, "n8")).unwrap();
    assert_eq!(set("one more").unwrap(), 1);
    assert_eq!(store.get_all(&person).unwrap().len(), 10_000);
}

#[test]
fn a_hundred_mebibytes() {
    let place = Place::new();
    let person = add(&place.open());
    let long = "x".repeat(1_048_576);
    let mut kept = 0;
    // Counted on from one process to the next.
    let refused = 'full: loop {
        let store = place.open();
        for _ in 0..30 {
            let name = format!("n{}", kept / 8);
            match store.change(|t| t.set(&person, &name, &value(&long), &Change::default())) {
                Ok(_) => kept += 1,
                Err(e) => break 'full e,
            }
            assert!(kept < 100);
        }
    };
    assert_eq!((refused.kind(), kept), ("too_many", 99));
    assert!(refused.to_string().contains("100 MiB"), "{refused}");
    let store = place.open();
    put(&store, &person, "small", "v");
    // In place of what goes with it: the oldest of ten versions.
    store.change(|t| t.remove(&person, "n0", None)).unwrap();
    store.change(|t| t.purge(&person, "n0")).unwrap();
    assert_eq!(put(&store, &person, "n0", &long), 1);
    assert_eq!(store.verify().unwrap(), 93);
}
