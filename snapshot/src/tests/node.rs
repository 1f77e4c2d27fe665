//! A node in miniature: it decides, appends to a log and folds, all at random from a seed.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::event::Event;
use steeple_engine::ids::{
    ClusterId, GroupId, HistoryId, IndexId, LogIndex, LogPosition, NamespaceId, NodeId, Revision, Sequence, StreamId,
    StreamSequence, TableId, Term, Timestamp,
};
use steeple_engine::index::Query;
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::{
    Entry, EntryKind, FaultPolicy, Log, LogIdentity, LogOptions, LogReader, LogWriter, Verification,
};
use steeple_engine::record_store::{MemoryStore, RecordStore};
use steeple_engine::table::{
    Catalog, IndexDefinition, IndexKind, KeySink, RecordDecodeError, StreamDefinition, TableDefinition,
};
use steeple_engine::transaction::Transaction;
use steeple_engine::view::{Committed, Reader, StoreKey, View};

use crate::format::{Origin, SnapshotId};
use crate::source::LiveSource;
use crate::stream::{SnapshotOptions, StepSize};

pub(super) const ITEMS: TableId = TableId(900);
const FEED: StreamId = StreamId(9);
pub(super) const NAMESPACES: [NamespaceId; 2] = [NamespaceId(3), NamespaceId(7)];

/// Body: colour, then anything.
static TABLE: TableDefinition = TableDefinition {
    id: ITEMS,
    name: "items",
    indexes: &[IndexDefinition { id: IndexId(0), name: "colour", kind: IndexKind::Set }],
    keys: colour,
    secret: false,
};

pub(super) static CATALOG: Catalog =
    Catalog { tables: &[&TABLE], streams: &[&StreamDefinition { id: FEED, name: "feed" }] };

fn colour(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    keys.key(IndexId(0), &body[..1]);
    Ok(())
}

pub(super) const ORIGIN: Origin =
    Origin { cluster: ClusterId([1; 16]), group: GroupId(4), history: HistoryId([2; 16]) };

pub(super) fn options() -> SnapshotOptions {
    SnapshotOptions {
        step: StepSize { pairs: 7, bytes: 900 },
        ..SnapshotOptions::new(SnapshotId([9; 16]), ORIGIN, Timestamp(77))
    }
}

pub(super) fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        segment_entries: 64,
        spare_segments: 0,
        verification: Verification::Everything,
        faults: FaultPolicy::Refuse,
        create: true,
    }
}

pub(super) fn identity(history: HistoryId) -> LogIdentity {
    LogIdentity { cluster: ORIGIN.cluster, node: NodeId(1), group: ORIGIN.group, history }
}

pub(super) struct Node {
    pub(super) view: Arc<View>,
    pub(super) log: LogReader,
    pub(super) writer: LogWriter,
    pub(super) random: StdRng,
    entropy: SeededEntropy,
    term: Term,
}

impl Node {
    pub(super) fn new(seed: u64) -> Self {
        let disk = Arc::new(SimulatedDisk::new());
        let (writer, log, _) = Log::open(disk, log_options(), identity(ORIGIN.history)).unwrap();
        Self {
            view: Arc::new(View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap()),
            log,
            writer,
            random: StdRng::seed_from_u64(seed),
            entropy: SeededEntropy::new(seed),
            term: Term(1),
        }
    }

    /// A node that has lived through so many events.
    pub(super) fn lived(seed: u64, events: u64) -> Self {
        let mut node = Self::new(seed);
        node.live(events);
        node
    }

    pub(super) fn source(&self) -> LiveSource<Arc<View>, LogReader> {
        LiveSource { view: Arc::clone(&self.view), log: self.log.clone() }
    }

    pub(super) fn live(&mut self, events: u64) {
        let until = self.view.folded().revision.0 + events;
        while self.view.folded().revision.0 < until {
            if self.random.random_bool(0.1) {
                self.term = self.term.next();
                let index = self.append(EntryKind::Empty, self.view.folded().revision, Bytes::new());
                self.view.note_folded(index);
            }
            if self.random.random_bool(0.05) {
                let members = vec![b'm'; self.random.random_range(1..9)];
                let index = self.append(EntryKind::Membership, self.view.folded().revision, members.clone().into());
                self.view.fold_membership(index, &members).unwrap();
            }
            if self.random.random_bool(0.05) {
                let index = self.append(EntryKind::Check, self.view.folded().revision, Bytes::from_static(b"digest"));
                self.view.note_folded(index);
            }
            let event = self.decide();
            let index = self.append(EntryKind::Event, event.revision, event.encode());
            self.view.fold(&[Committed { index, event: Arc::new(event) }]).unwrap();
        }
        self.writer.sync().unwrap();
    }

    fn append(&mut self, kind: EntryKind, revision: Revision, payload: Bytes) -> LogIndex {
        let index = self.log.last().index.next();
        let position = LogPosition { term: self.term, index };
        self.writer.append(&[Entry { position, kind, tag: revision.0, payload }]).unwrap();
        index
    }

    /// Creations, updates and deletions of several records at once, stream items, raised marks.
    fn decide(&mut self) -> Event {
        let random = &mut self.random;
        let namespace = NAMESPACES[random.random_range(0..2)];
        let folded = self.view.folded();
        let reader = self.view.read();
        let time = Timestamp(folded.time.0 + random.random_range(0..5));
        let mut transaction = Transaction::new(&reader, CATALOG, namespace, time, &mut self.entropy);
        let mut existing = reader.select(namespace, ITEMS, &Query::all(), Sequence::ZERO, usize::MAX);
        for _ in 0..random.random_range(1..4) {
            let length = random.random_range(1..120);
            let mut body: Vec<u8> = (0..length).map(|_| random.random()).collect();
            body[0] %= 4;
            let change = if existing.is_empty() || random.random_bool(0.45) {
                transaction.insert(ITEMS, body).unwrap().1
            } else {
                let place = random.random_range(0..existing.len());
                let record = reader.get(namespace, ITEMS, existing.swap_remove(place)).unwrap().unwrap();
                if random.random_bool(0.5) {
                    transaction.delete(ITEMS, &record)
                } else {
                    transaction.update(ITEMS, &record, body).unwrap()
                }
            };
            transaction.emit(FEED, [b'k', random.random()], Some(change));
        }
        if random.random_bool(0.1) {
            let last = reader.stream(namespace, FEED).last.0;
            transaction.raise_low_water(FEED, StreamSequence(last.saturating_sub(15)));
        }
        let content = transaction.into_content();
        Event {
            revision: folded.revision.next(),
            time,
            namespace,
            request: None,
            changes: content.changes,
            items: content.items,
            marks: content.marks,
            answer: b"done".to_vec(),
        }
    }

    /// A view that folded, one by one and without any snapshot, what the node has folded up to a log entry.
    pub(super) fn reference(&self, index: LogIndex) -> View {
        let view = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
        for entry in entries(&self.log) {
            if entry.position.index <= index {
                fold_entry(&view, &entry);
            }
        }
        view
    }

    /// What the newest membership entry up to a log entry says; nothing when there is none.
    pub(super) fn membership_at(&self, index: LogIndex) -> Vec<u8> {
        let before = |entry: &Entry| entry.kind == EntryKind::Membership && entry.position.index <= index;
        let newest = entries(&self.log).into_iter().filter(before).last();
        newest.map(|entry| entry.payload.to_vec()).unwrap_or_default()
    }
}

pub(super) fn fold_entry(view: &View, entry: &Entry) {
    let index = entry.position.index;
    match entry.kind {
        EntryKind::Event => {
            view.fold(&[Committed { index, event: Arc::new(Event::decode(&entry.payload).unwrap()) }]).unwrap();
        }
        EntryKind::Membership => view.fold_membership(index, &entry.payload).unwrap(),
        EntryKind::Empty | EntryKind::Check => view.note_folded(index),
    }
}

pub(super) fn entries(log: &LogReader) -> Vec<Entry> {
    let mut entries = Vec::new();
    log.scan(log.first(), &mut |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    })
    .unwrap();
    entries
}

/// All pairs but the folded position.
pub(super) fn pairs(store: &dyn RecordStore) -> Vec<(Vec<u8>, Vec<u8>)> {
    let (_, to) = StoreKey::everything();
    let mut pairs = Vec::new();
    store
        .scan(&[1], &to, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    pairs
}

/// Records, indexes, streams, counters and position are the same.
pub(super) fn assert_same_view(found: &View, expected: &View) {
    assert_eq!(found.folded(), expected.folded());
    assert_eq!(found.membership(), expected.membership());
    assert_eq!(pairs(found.store().as_ref()), pairs(expected.store().as_ref()));
    let (found, expected) = (found.read(), expected.read());
    for namespace in NAMESPACES {
        for colour in 0..4 {
            let query = Query::all().and(steeple_engine::index::Predicate::Is { index: IndexId(0), key: vec![colour] });
            let select = |reader: &dyn Reader| reader.select(namespace, ITEMS, &query, Sequence::ZERO, usize::MAX);
            assert_eq!(select(&found), select(&expected));
        }
        assert_eq!(found.last_sequence(namespace, ITEMS), expected.last_sequence(namespace, ITEMS));
        assert_eq!(found.stream(namespace, FEED), expected.stream(namespace, FEED));
        let rows = |reader: &dyn Reader| reader.stream_rows(namespace, FEED, StreamSequence::ZERO, usize::MAX).unwrap();
        assert_eq!(rows(&found), rows(&expected));
    }
}
