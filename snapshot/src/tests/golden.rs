//! The format as released: a file that every later version must read, and that this one still writes.

use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::event::{Change, Event, StreamItem};
use steeple_engine::ids::{
    LogIndex, LogPosition, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId, Term, Timestamp,
};
use steeple_engine::log::{Entry, EntryKind, Log, LogReader, LogWriter};
use steeple_engine::record_store::{MemoryStore, RecordStore, WriteBatch};
use steeple_engine::view::{Committed, StoreKey, View};

use super::node::{CATALOG, ITEMS, ORIGIN, identity, log_options, options};
use crate::source::LiveSource;
use crate::stream::{SnapshotOptions, SnapshotStream, StepSize};
use crate::{load_base, verify};

const GOLDEN: &[u8] = include_bytes!("../../testdata/golden/snapshot-v1.bin");

const MEMBERS: &[u8] = b"one, two";

struct Fixed {
    view: Arc<View>,
    log: LogReader,
    writer: LogWriter,
}

impl Fixed {
    fn new() -> Self {
        let disk = Arc::new(SimulatedDisk::new());
        let (writer, log, _) = Log::open(disk, log_options(), identity(ORIGIN.history)).unwrap();
        let store = Arc::new(MemoryStore::new());
        let mut members = WriteBatch::default();
        members.put(StoreKey::Membership.encode(), MEMBERS);
        store.apply(members).unwrap();
        Self { view: Arc::new(View::open(CATALOG, store).unwrap()), log, writer }
    }

    fn append(&mut self, kind: EntryKind, tag: u64, payload: Bytes) -> LogIndex {
        let position = LogPosition { term: Term(2), index: self.log.last().index.next() };
        self.writer.append(&[Entry { position, kind, tag, payload }]).unwrap();
        position.index
    }

    /// An event that changes one record of the table.
    fn change(&mut self, sequence: u64, previous: Option<(u64, &[u8])>, after: Option<&[u8]>) {
        let revision = self.view.folded().revision.next();
        let event = Event {
            revision,
            time: Timestamp(1000 + revision.0),
            namespace: NamespaceId(1),
            request: None,
            changes: vec![Change {
                table: TableId(ITEMS.0),
                sequence: Sequence(sequence),
                previous: previous.map(|(revision, _)| Revision(revision)),
                before: previous.map(|(_, before)| before.to_vec()),
                after: after.map(<[u8]>::to_vec),
            }],
            items: vec![StreamItem {
                stream: StreamId(9),
                sequence: StreamSequence(revision.0),
                key: vec![b'k'],
                change: Some(0),
            }],
            marks: Vec::new(),
            answer: Vec::new(),
        };
        let index = self.append(EntryKind::Event, revision.0, event.encode());
        self.view.fold(&[Committed { index, event: Arc::new(event) }]).unwrap();
    }
}

/// Three records; while they are read, one is changed, one deleted and one created.
fn written() -> Vec<u8> {
    let mut node = Fixed::new();
    node.append(EntryKind::Empty, 0, Bytes::new());
    for (sequence, body) in [(1, b"\x01first"), (2, b"\x02secnd"), (3, b"\x03third")] {
        node.change(sequence, None, Some(body));
    }
    let source = LiveSource { view: Arc::clone(&node.view), log: node.log.clone() };
    let step = StepSize { pairs: 2, bytes: 1 << 20 };
    let options = SnapshotOptions { include_history: true, step, ..options() };
    let mut stream = SnapshotStream::new(source, options);
    let mut file = Vec::new();
    while let Some(chunk) = stream.next_chunk().unwrap() {
        file.extend_from_slice(&chunk.bytes);
        if chunk.number == 1 {
            node.change(1, Some((1, b"\x01first")), Some(b"\x01newer"));
            node.change(3, Some((3, b"\x03third")), None);
            node.change(4, None, Some(b"\x00fourth"));
        }
    }
    file
}

#[test]
fn the_golden_file_is_read_and_still_written() {
    let manifest = verify(GOLDEN, &mut |_| {}).unwrap().manifest;
    assert_eq!((manifest.start, manifest.state.revision), (Revision(3), Revision(6)));
    assert_eq!((manifest.records(), manifest.events, manifest.entries), (3, 6, 7));
    let store = Arc::new(MemoryStore::new());
    load_base(GOLDEN, store.as_ref()).unwrap();
    let view = View::open(CATALOG, store).unwrap();
    assert_eq!((view.folded(), view.membership().as_deref()), (manifest.state, Some(MEMBERS)));
    assert!(written() == GOLDEN, "the format has changed: it needs a new version and a new golden file");
}

/// Writes the golden file anew when asked to, for a new version of the format.
#[test]
fn golden_file_can_be_made() {
    let file = written();
    if let Some(path) = std::env::var_os("STEEPLE_WRITE_GOLDEN_SNAPSHOT") {
        std::fs::write(path, &file).unwrap();
    }
    verify(&file[..], &mut |_| {}).unwrap();
}
