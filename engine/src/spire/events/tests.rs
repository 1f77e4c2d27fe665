//! Behaviour of the event streams, named after the contract's subcases.

use super::Command;
use super::queries::{EventRange, events_chunk, fetch_event, last_event_id, list_events, list_few_events};
use crate::ids::{StreamId, StreamSequence, Timestamp};
use crate::spire::entries::records::Entry;
use crate::spire::fixture::{CountingReader, Datastore};
use crate::spire::nodes::records::Node;
use crate::spire::pages::Few;
use crate::spire::selectors::Selector;
use crate::spire::{self, Answer, Code, NODES, REGISTRATIONS, entries, nodes};

const TWO_BOUNDS: &str = "datastore-sql: can't set both greater and less than event id";

fn node(command: nodes::Command) -> spire::Command {
    spire::Command::Node(command)
}

fn create_node(spiffe_id: &str) -> spire::Command {
    node(nodes::Command::Create(Some(Node { spiffe_id: spiffe_id.into(), ..Node::default() })))
}

fn set_selectors(spiffe_id: &str, values: &[&str]) -> spire::Command {
    let selectors = values.iter().map(|value| Selector { kind: "T".into(), value: (*value).into() }).collect();
    node(nodes::Command::SetSelectors { spiffe_id: spiffe_id.into(), selectors })
}

fn entry(command: entries::Command) -> spire::Command {
    spire::Command::Entry(command)
}

fn new_entry(entry_id: &str) -> Entry {
    Entry {
        entry_id: entry_id.into(),
        spiffe_id: entry_id.into(),
        selectors: vec![Selector { kind: "a".into(), value: "1".into() }],
        ..Entry::default()
    }
}

/// Event IDs and keys between two bounds.
fn list(store: &Datastore, stream: StreamId, greater_than: u64, less_than: u64) -> Vec<(u64, String)> {
    let rows =
        store.query(|reader, namespace| list_events(reader, namespace, stream, greater_than, less_than)).unwrap();
    rows.iter().map(|row| (row.sequence.0, String::from_utf8(row.key.to_vec()).unwrap())).collect()
}

/// The five cases that both list tests have, on a stream with these keys.
fn check_ranges(store: &Datastore, stream: StreamId, keys: &[&str]) {
    let all: Vec<(u64, String)> = (1..).zip(keys.iter().map(|key| (*key).to_owned())).collect();
    let count = all.len() as u64;
    let half = count / 2;
    let half_place = all.len() / 2;
    assert_eq!(list(store, stream, 0, 0), all, "All Events");
    assert_eq!(list(store, stream, half, 0), all[half_place..], "Greater than half of the Events");
    assert_eq!(list(store, stream, 0, half), all[..half_place - 1], "Less than half of the Events");
    assert_eq!(list(store, stream, count, 0), [], "Greater than largest Event ID");
    assert_eq!(list(store, stream, u64::MAX, 0), []);
    assert_eq!(list(store, stream, 0, 1), []);
    assert_eq!(list(store, stream, 0, u64::MAX), all);
    let refusal = store.query(|reader, namespace| list_events(reader, namespace, stream, 1, 1)).unwrap_err();
    assert_eq!(refusal.to_string(), TWO_BOUNDS, "Setting both greater and less than");

    for (event_id, key) in &all {
        let row = store.query(|reader, namespace| fetch_event(reader, namespace, stream, *event_id)).unwrap();
        assert_eq!((row.sequence.0, row.key.as_ref()), (*event_id, key.as_bytes()));
    }
    for absent in [0, count + 1, u64::MAX] {
        check_absent(store, stream, absent);
    }
    assert_eq!(store.query(|reader, namespace| last_event_id(reader, namespace, stream)), count);
}

fn check_absent(store: &Datastore, stream: StreamId, event_id: u64) {
    let refusal = store.query(|reader, namespace| fetch_event(reader, namespace, stream, event_id)).unwrap_err();
    let expected = (Code::NotFound, "datastore-sql: record not found".to_owned());
    assert_eq!((refusal.code(), refusal.to_string()), expected, "event {event_id}");
}

/// `TestListAttestedNodeEvents`: one event after each call.
#[test]
fn list_attested_node_events() {
    let mut store = Datastore::new();
    let commands = [
        ("n1", create_node("n1")),
        ("n1", set_selectors("n1", &["a"])),
        ("n2", create_node("n2")),
        ("n2", set_selectors("n2", &["b"])),
        ("n1", node(nodes::Command::Update(Some(Node { spiffe_id: "n1".into(), ..Node::default() }), None))),
        ("n1", set_selectors("n1", &["a"])),
        ("n2", node(nodes::Command::Delete { spiffe_id: "n2".into() })),
        ("n2", set_selectors("n2", &[])),
    ];
    for (count, (spiffe_id, command)) in (1..).zip(&commands) {
        store.submit(command.clone());
        assert_eq!(list(&store, NODES, 0, 0).last(), Some(&(count, (*spiffe_id).to_owned())));
    }
    check_ranges(&store, NODES, &commands.map(|(spiffe_id, _)| spiffe_id));
    assert_eq!(list(&store, REGISTRATIONS, 0, 0), [], "the streams are independent");
}

/// `TestListRegistrationEntryEvents`.
#[test]
fn list_registration_entry_events() {
    let mut store = Datastore::new();
    store.submit(entry(entries::Command::CreateOrReturn(Some(new_entry("e1")))));
    store.submit(entry(entries::Command::CreateOrReturn(Some(new_entry("e2")))));
    store.submit(entry(entries::Command::CreateOrReturn(Some(new_entry("e2")))));
    store.refuse(entry(entries::Command::Update(Some(new_entry("e3")), None)));
    store.submit(entry(entries::Command::Update(Some(new_entry("e1")), None)));
    store.submit(entry(entries::Command::Delete { entry_id: "e2".into() }));
    check_ranges(&store, REGISTRATIONS, &["e1", "e2", "e1", "e2"]);
}

/// Ten node events, one each second from 2,000 on, and one entry event.
fn timed() -> Datastore {
    let mut store = Datastore::new();
    store.submit(entry(entries::Command::CreateOrReturn(Some(new_entry("e1")))));
    for number in 0..10 {
        store.set_now(Timestamp::from_seconds(2_000 + number));
        store.submit(set_selectors(&format!("n{}", number + 1), &[]));
    }
    store
}

fn prune(seconds: i64, limit: u32) -> spire::Command {
    let older_than_micros = Timestamp::from_seconds(seconds).0;
    spire::Command::Event(Command::PruneNodeEvents { older_than_micros, limit })
}

fn kept(store: &Datastore) -> Vec<u64> {
    list(store, NODES, 0, 0).into_iter().map(|(event_id, _)| event_id).collect()
}

#[test]
fn prune_is_strict_and_leaves_a_suffix() {
    for (before, first_kept) in [(0, 1), (2_000, 1), (2_001, 2), (2_005, 6), (2_009, 10), (2_010, 11), (9_999, 11)] {
        let mut store = timed();
        let revision = store.revision();
        assert_eq!(store.submit(prune(before, 0)), Answer::Progress { changed: first_kept - 1, more: false });
        assert_eq!(kept(&store), (first_kept..=10).collect::<Vec<_>>(), "before {before}");
        assert_eq!(store.revision() > revision, first_kept > 1, "nothing to prune is no event");
        for event_id in 1..first_kept {
            check_absent(&store, NODES, event_id);
        }
        assert_eq!(list(&store, NODES, 4, 0).len() as u64, 6.min(11 - first_kept), "bounds below the mark");
        assert_eq!(list(&store, NODES, 0, 4).len() as u64, 4_u64.saturating_sub(first_kept));
        assert_eq!(list(&store, REGISTRATIONS, 0, 0).len(), 1, "the streams are pruned apart");
    }
}

#[test]
fn numbers_go_on_after_everything_was_pruned() {
    let mut store = timed();
    store.submit(prune(9_999, 0));
    assert_eq!(store.query(|reader, namespace| last_event_id(reader, namespace, NODES)), 10);
    store.submit(set_selectors("n11", &[]));
    assert_eq!(list(&store, NODES, 0, 0), [(11, "n11".to_owned())]);
    let command = Command::PruneEntryEvents { older_than_micros: u64::MAX, limit: 1 };
    assert_eq!(store.submit(spire::Command::Event(command)), Answer::Progress { changed: 1, more: false });
    assert_eq!(list(&store, REGISTRATIONS, 0, 0), []);
}

#[test]
fn prune_goes_in_steps() {
    let mut store = timed();
    assert_eq!(store.finish(&prune(2_007, 3)), [3, 3, 1]);
    assert_eq!(kept(&store), [8, 9, 10]);
    assert_eq!(store.finish(&prune(2_010, 3)), [3], "a step that fits exactly is the last");
}

#[test]
fn prune_reads_few_rows() {
    let mut store = Datastore::new();
    for number in 0..1_500 {
        store.set_now(Timestamp(2_000_000_000 + number));
        store.submit(set_selectors("n", &[]));
    }
    assert_eq!(store.submit(prune(2_000, 0)), Answer::Progress { changed: 0, more: false });
    let range = EventRange::new(1_490, 0).unwrap();
    let (rows, reads) = store.query(|reader, namespace| {
        let counting = CountingReader::new(reader);
        (events_chunk(&counting, namespace, NODES, range, 4).unwrap(), counting.reads.get())
    });
    assert_eq!(
        rows.iter().map(|row| row.sequence).collect::<Vec<_>>(),
        (1_491..=1_494).map(StreamSequence).collect::<Vec<_>>()
    );
    assert_eq!(reads, 1);
    let nothing_newer = EventRange::new(1_500, 0).unwrap();
    let reads = store.query(|reader, namespace| {
        let counting = CountingReader::new(reader);
        let few = Few { records: 1, bytes: 0 };
        let list = |range| list_few_events(&counting, namespace, NODES, range, usize::MAX, few).unwrap();
        assert_eq!(list(nothing_newer), Some(Vec::new()));
        assert_eq!(list(EventRange::new(1_498, 0).unwrap()), None, "two are more than few");
        assert_eq!(events_chunk(&counting, namespace, NODES, nothing_newer, 4).unwrap(), []);
        counting.reads.get()
    });
    assert_eq!(reads, 0, "the usual poll finds nothing and reads nothing");
    let last = store.query(|reader, namespace| {
        let few = Few { records: 1, bytes: 0 };
        let range = EventRange::new(1_499, 0).unwrap();
        list_few_events(reader, namespace, NODES, range, usize::MAX, few).unwrap()
    });
    assert_eq!(last.map(|rows| rows.len()), Some(1));
    let revision = store.revision();
    assert_eq!(store.submit(prune(3_000, 0)), Answer::Progress { changed: 1_500, more: false }, "all in one step");
    assert_eq!(store.revision(), revision + 1);
    assert!(kept(&store).is_empty());
}
