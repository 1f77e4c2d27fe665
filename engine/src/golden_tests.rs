//! The stored forms as released: bytes that every later version must read, and that this one still writes.
//!
//! After a deliberate change of a format, with a new version byte, `STEEPLE_WRITE_GOLDEN=1` writes the files anew;
//! the difference is for the reviewer to see.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use crate::event::{Change, Event, EventDecodeError, LowWaterMark, RequestStamp, StreamItem};
use crate::ids::{
    IndexId, LogIndex, NamespaceId, RequestId, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp,
};
use crate::record_store::{MemoryStore, RecordStore, WriteBatch};
use crate::table::{
    Catalog, IndexDefinition, IndexKind, KeySink, RecordDecodeError, StreamDefinition, TableDefinition,
};
use crate::view::{Committed, StoreFold, StoreKey, View};

static TABLE: TableDefinition = TableDefinition {
    id: TableId(0x0102),
    name: "golden",
    indexes: &[IndexDefinition { id: IndexId(0), name: "body", kind: IndexKind::Set }],
    keys: whole_body,
    secret: false,
};

static CATALOG: Catalog =
    Catalog { tables: &[&TABLE], streams: &[&StreamDefinition { id: StreamId(0x0304), name: "golden" }] };

fn whole_body(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    keys.key(IndexId(0), body);
    Ok(())
}

/// An event with nothing left out.
fn full_event() -> Event {
    Event {
        revision: Revision(2),
        time: Timestamp(1_700_000_000_000_002),
        namespace: NamespaceId(0x0a0b),
        request: Some(RequestStamp { id: RequestId(*b"sixteen bytes id"), fingerprint: 0x1122_3344_5566_7788 }),
        changes: vec![
            Change {
                table: TABLE.id,
                sequence: Sequence(1),
                previous: Some(Revision(1)),
                before: Some(b"before".to_vec()),
                after: Some(b"after".to_vec()),
            },
            Change {
                table: TABLE.id,
                sequence: Sequence(2),
                previous: Some(Revision(1)),
                before: Some(b"deleted".to_vec()),
                after: None,
            },
            Change {
                table: TABLE.id,
                sequence: Sequence(3),
                previous: None,
                before: None,
                after: Some(b"created".to_vec()),
            },
        ],
        items: vec![
            StreamItem { stream: StreamId(0x0304), sequence: StreamSequence(3), key: b"key".to_vec(), change: Some(2) },
            StreamItem { stream: StreamId(0x0304), sequence: StreamSequence(4), key: b"none".to_vec(), change: None },
        ],
        marks: vec![LowWaterMark { stream: StreamId(0x0304), from: StreamSequence(1), to: StreamSequence(2) }],
        answer: b"answer".to_vec(),
    }
}

/// What has to come before it: two records and two stream items.
fn event_before() -> Event {
    let create = |sequence, body: &[u8]| Change {
        table: TABLE.id,
        sequence: Sequence(sequence),
        previous: None,
        before: None,
        after: Some(body.to_vec()),
    };
    let item = |sequence: u64, change| StreamItem {
        stream: StreamId(0x0304),
        sequence: StreamSequence(sequence),
        key: vec![b'a'],
        change: Some(change),
    };
    Event {
        revision: Revision(1),
        time: Timestamp(1_700_000_000_000_001),
        namespace: NamespaceId(0x0a0b),
        request: None,
        changes: vec![create(1, b"before"), create(2, b"deleted")],
        items: vec![item(1, 0), item(2, 1)],
        marks: Vec::new(),
        answer: Vec::new(),
    }
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden").join(name)
}

fn golden(name: &str, written_now: &[u8]) -> Vec<u8> {
    if std::env::var_os("STEEPLE_WRITE_GOLDEN").is_some() {
        std::fs::write(path(name), written_now).unwrap();
    }
    std::fs::read(path(name)).unwrap()
}

/// One pair a line: key, space, value, in hexadecimal.
fn dump(store: &dyn RecordStore) -> String {
    let (from, to) = StoreKey::everything();
    let mut text = String::new();
    store
        .scan(&from, &to, &mut |key, value| {
            for (bytes, end) in [(key, ' '), (value, '\n')] {
                bytes.iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
                text.push(end);
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    text
}

#[test]
fn events_are_read_and_written_as_released() {
    for (name, event) in [("event-v1-full.bin", full_event()), ("event-v1-small.bin", event_before())] {
        let stored = golden(name, &event.encode());
        assert_eq!(Event::decode(&stored).unwrap(), event, "{name}");
        assert_eq!(event.encode(), stored, "{name} is written differently: that needs a new version");
        let mut newer = stored;
        newer[0] = 2;
        assert_eq!(Event::decode(&newer), Err(EventDecodeError::Version { found: 2 }));
    }
}

/// What [`dump`] has made a text of.
fn store_of(pairs: &str) -> MemoryStore {
    let store = MemoryStore::new();
    let mut batch = WriteBatch::default();
    let bytes = |digits: &str| -> Vec<u8> {
        digits.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    for (key, value) in pairs.lines().map(|line| line.split_once(' ').unwrap()) {
        batch.put(bytes(key), bytes(value));
    }
    store.apply(batch).unwrap();
    store
}

/// A store after both events, before and after what they gave up is removed.
#[test]
fn the_record_store_is_written_as_released() {
    let store = Arc::new(MemoryStore::new());
    let view = View::open(CATALOG, store.clone()).unwrap();
    for event in [event_before(), full_event()] {
        view.fold(&[Committed { index: LogIndex(event.revision.0 + 10), event: Arc::new(event) }]).unwrap();
    }
    for (name, is_removed) in [("record-store-v1-given-up.txt", false), ("record-store-v1-removed.txt", true)] {
        if is_removed {
            assert!(view.remove_given_up(10).unwrap());
        }
        let pairs = dump(store.as_ref());
        let released = golden(name, pairs.as_bytes());
        assert_eq!(pairs, String::from_utf8(released).unwrap(), "{name}");
    }
}

/// Builds before 2026-11-22 removed rows while they folded, and did not say how far they had come.
#[test]
fn a_record_store_whose_rows_were_removed_by_the_fold_is_read_and_becomes_one_of_now() {
    let read = |name| String::from_utf8(std::fs::read(path(name)).unwrap()).unwrap();
    let before = Arc::new(store_of(&read("record-store-v1.txt")));
    let view = View::open(CATALOG, before.clone()).unwrap();
    assert_eq!(dump(before.as_ref()), read("record-store-v1.txt"), "opening writes nothing");
    assert!(view.remove_given_up(10).unwrap());
    assert!(!view.remove_given_up(10).unwrap());
    assert_eq!(dump(before.as_ref()), read("record-store-v1-removed.txt"));
}

#[test]
fn folding_into_a_bare_store_writes_what_a_view_writes() {
    let store = Arc::new(MemoryStore::new());
    let view = View::open(CATALOG, store.clone()).unwrap();
    let bare = MemoryStore::new();
    let mut fold = StoreFold::new(&bare);
    // Folding an event again, or one whose writes are there already, changes nothing.
    for event in [event_before(), full_event(), event_before(), full_event()] {
        fold.fold(&event).unwrap();
    }
    for event in [event_before(), full_event()] {
        view.fold(&[Committed { index: LogIndex(event.revision.0 + 10), event: Arc::new(event) }]).unwrap();
    }
    fold.finish(view.folded(), None).unwrap();
    assert_eq!(dump(&bare), dump(store.as_ref()));
}

#[test]
fn an_unfinished_store_is_not_taken_for_a_state() {
    let store = Arc::new(MemoryStore::new());
    let mut fold = StoreFold::new(store.as_ref());
    for sequence in 0..3_000_u64 {
        let key = StoreKey::Record(NamespaceId(1), TABLE.id, Sequence(sequence)).encode();
        fold.put(&key, &[0, 0, 0, 0, 0, 0, 0, 1, 7]).unwrap();
    }
    drop(fold);
    assert!(!dump(store.as_ref()).is_empty());
    assert!(View::open(CATALOG, store).is_err());
}
