//! Deleting and pruning (7.9, 7.10).

use super::*;
use crate::spire::notices::notices;
use crate::spire::{Code, limits};

fn delete(entry_id: &str) -> spire::Command {
    spire::Command::Entry(Command::Delete { entry_id: entry_id.into() })
}

fn prune(expires_before: i64, limit: u32) -> spire::Command {
    spire::Command::Entry(Command::Prune { expires_before, limit })
}

#[test]
fn delete_answers_the_entry_and_leaves_the_others() {
    let mut store = with_bundles("12");
    let absent = (Code::NotFound, "datastore-sql: record not found".into());
    assert_eq!(store.refuse(delete("foobarAB12")), absent);
    let kept = create(&mut store, entry("foobarB1"));
    let created = create(&mut store, entry("foobarAB12"));
    assert_eq!(store.submit(delete("foobarAB12")), Answer::Entry { entry: created.clone(), existing: false });
    assert_eq!(store.refuse(delete("foobarAB12")), absent);
    assert_eq!(fetch(&store, "foobarAB12"), None);
    assert_eq!(fetch(&store, &kept.entry_id), Some(kept));
    assert_eq!(announced(&store, 2), ["foobarAB12"]);
    assert_eq!(create(&mut store, entry("foobarAB12")), created, "the id and the similarity are free again");
}

/// Cases of `TestPruneRegistrationEntries`.
#[test]
fn prune_is_strict_and_announces_each_entry() {
    let mut store = Datastore::new();
    for (notation, expiry) in [("foobarA", 0), ("foobarB", 5_000), ("foobarC", 5_001)] {
        create(&mut store, Entry { expiry, ..entry(notation) });
    }
    let revision = store.revision();
    for (name, before) in [("Don't prune valid entries", 4_000), ("Don't prune exact ExpiresBefore", 5_000)] {
        assert_eq!(store.submit(prune(before, 0)), Answer::Progress { changed: 0, more: false }, "{name}");
    }
    assert_eq!(store.revision(), revision, "nothing pruned is no event");
    assert_eq!(store.submit(prune(5_001, 0)), Answer::Progress { changed: 1, more: false }, "Prune old entries");
    assert_eq!(fetch(&store, "foobarB"), None);
    assert_eq!(announced(&store, 3), ["foobarB"]);

    let lines = notices(&prune(5_001, 0), &store.last_event().changes).unwrap();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(line.message(), "Pruned an expired registration");
    let fields = [("spiffe_id", "bar"), ("parent_id", "foo"), ("entry_id", "foobarB")];
    assert_eq!(line.fields(), fields.map(|(name, value)| (name, value.to_owned())));
    assert_eq!(notices(&delete("foobarB"), &store.last_event().changes).unwrap(), []);
}

#[test]
fn prune_goes_in_steps_from_the_oldest() {
    let mut store = Datastore::new();
    let entries: Vec<Entry> = (0..7)
        .map(|number| Entry { entry_id: format!("e{number}"), expiry: 100 - number, ..entry("foobarA") })
        .collect();
    store.plant_entries(&entries);
    assert_eq!(store.submit(prune(100, 2)), Answer::Progress { changed: 2, more: true });
    assert_eq!(announced(&store, 0), ["e6", "e5"]);
    assert_eq!(store.finish(&prune(100, 2)), [2, 2], "the one that expires at the instant stays");
    assert_eq!(fetch(&store, "e0").map(|entry| entry.expiry), Some(100));
}

#[test]
fn a_step_of_large_entries_ends_early() {
    let mut store = Datastore::new();
    let hint = "h".repeat(limits::PRUNE_STEP_BYTES / 3);
    let entries: Vec<Entry> = (0..5)
        .map(|number| Entry { entry_id: format!("e{number}"), expiry: 1, hint: hint.clone(), ..entry("foobarA") })
        .collect();
    store.plant_entries(&entries);
    assert_eq!(store.finish(&prune(2, 100)), [2, 2, 1]);
}
