//! The leader's view of what it has decided and not yet committed.
//!
//! The records of proposed events lie over the committed view: what they touch is masked below, and small indexes of
//! their own answer for it. So the second command of a pipeline sees what the first will have done. The overlay
//! is generic and knows nothing of domains. When leadership is lost it is dropped whole.
//!
//! Commands ask few of a table's indexes, and most records lie here for a few milliseconds only. So an index is kept from when
//! it is asked for the first time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::committed::{ViewReader, check_without_holes};
use super::fold::stream_row;
use super::reader::{ReadError, Reader, Record, StreamRow, StreamState};
use crate::event::{Change, Event};
use crate::ids::{IndexId, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId};
use crate::index::{IndexSet, Keys, Query, TableIndexes};
use crate::simulation::{Bug, is_planted};
use crate::table::{Catalog, IndexKind, RecordDecodeError, TableDefinition};

/// Events proposed and not yet folded, and the records that they leave.
#[derive(Debug)]
pub struct Overlay {
    catalog: Catalog,
    /// In revision order.
    events: VecDeque<Arc<Event>>,
    tables: HashMap<(NamespaceId, TableId), TableOverlay>,
    /// What has been asked of a table, of any namespace, while it was in `tables`; it is likely to be asked again.
    asked: HashMap<TableId, IndexSet>,
    streams: HashMap<(NamespaceId, StreamId), StreamOverlay>,
}

#[derive(Debug)]
struct TableOverlay {
    /// Of the overlaid records only.
    indexed: Mutex<Indexed>,
    /// What the newest event about each record leaves of it.
    records: BTreeMap<Sequence, OverlaidRecord>,
    last_sequence: Sequence,
}

#[derive(Debug)]
struct Indexed {
    indexes: TableIndexes,
    /// Those that are kept. The others are empty.
    kept: IndexSet,
    /// A body that could not be read when an index was asked for the first time.
    failure: Option<RecordDecodeError>,
}

/// What one change leaves of a record.
#[derive(Debug)]
struct OverlaidRecord {
    left: Left,
    /// What it is found by, in the indexes that were kept when it was laid, so that it can be taken out again without reading
    /// its body.
    keys: Keys,
}

/// The change that left a record as it is.
#[derive(Clone, Debug)]
struct Left {
    event: Arc<Event>,
    change: usize,
}

impl Left {
    /// `None` when it was deleted.
    fn body(&self) -> Option<&[u8]> {
        self.event.changes[self.change].after.as_deref()
    }
}

/// As what the body of a record may be held.
impl AsRef<[u8]> for Left {
    fn as_ref(&self) -> &[u8] {
        self.body().unwrap_or_default()
    }
}

#[derive(Debug)]
struct StreamOverlay {
    /// The event that moved it last.
    revision: Revision,
    state: StreamState,
    rows: VecDeque<StreamRow>,
}

impl Overlay {
    /// An overlay without events.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            events: VecDeque::new(),
            tables: HashMap::default(),
            asked: HashMap::default(),
            streams: HashMap::default(),
        }
    }

    /// The newest proposed event, if any is not yet folded.
    #[must_use]
    pub fn newest(&self) -> Option<&Arc<Event>> {
        self.events.back()
    }

    /// Events proposed and not yet folded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether every proposed event is folded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Lays an event that was just proposed over what is there. `committed` is the view below.
    ///
    /// # Errors
    /// When a body cannot be read; the overlay must then be dropped.
    pub fn push(&mut self, event: Arc<Event>, committed: &dyn Reader) -> Result<(), RecordDecodeError> {
        for (number, change) in event.changes.iter().enumerate() {
            self.lay(&event, number, change)?;
        }
        for item in &event.items {
            let stream = self.stream_mut(&event, item.stream, committed);
            stream.state.last = item.sequence;
            stream.rows.push_back(stream_row(&event, item));
        }
        for mark in &event.marks {
            self.stream_mut(&event, mark.stream, committed).state.low_water = mark.to;
        }
        self.events.push_back(event);
        Ok(())
    }

    /// Takes out the events up to and with `folded`, which the view below holds from now on.
    ///
    /// # Errors
    /// When a body cannot be read; the overlay must then be dropped.
    pub fn drop_folded(&mut self, folded: Revision) -> Result<(), RecordDecodeError> {
        while let Some(event) = self.events.pop_front_if(|event| event.revision <= folded) {
            for change in &event.changes {
                self.lift(&event, change)?;
            }
            for item in &event.items {
                if let Some(stream) = self.streams.get_mut(&(event.namespace, item.stream)) {
                    stream.rows.pop_front();
                }
            }
            let moved = event.items.iter().map(|item| item.stream).chain(event.marks.iter().map(|mark| mark.stream));
            for stream in moved {
                let settled = |overlay: &StreamOverlay| overlay.revision <= event.revision;
                if self.streams.get(&(event.namespace, stream)).is_some_and(settled) {
                    self.streams.remove(&(event.namespace, stream));
                }
            }
        }
        Ok(())
    }

    fn lay(&mut self, event: &Arc<Event>, number: usize, change: &Change) -> Result<(), RecordDecodeError> {
        let definition = self.catalog.table(change.table).ok_or_else(|| unknown_table(change.table))?;
        let table = self.tables.entry((event.namespace, change.table)).or_insert_with(|| TableOverlay {
            indexed: Mutex::new(Indexed {
                indexes: TableIndexes::new(definition),
                kept: self.asked.get(&change.table).copied().unwrap_or_else(|| asked_by_all(definition)),
                failure: None,
            }),
            records: BTreeMap::new(),
            last_sequence: Sequence::ZERO,
        });
        let left = Left { event: Arc::clone(event), change: number };
        let replaced = table.records.remove(&change.sequence);
        let keys = table.indexed.get_mut().replace(change.sequence, replaced.as_ref(), change.after.as_deref())?;
        table.records.insert(change.sequence, OverlaidRecord { left, keys });
        table.last_sequence = table.last_sequence.max(change.sequence);
        Ok(())
    }

    fn lift(&mut self, event: &Event, change: &Change) -> Result<(), RecordDecodeError> {
        let key = (event.namespace, change.table);
        let Some(table) = self.tables.get_mut(&key) else { return Ok(()) };
        if table.records.get(&change.sequence).is_some_and(|laid| laid.left.event.revision == event.revision) {
            let lifted = table.records.remove(&change.sequence);
            table.indexed.get_mut().replace(change.sequence, lifted.as_ref(), None)?;
        }
        if table.records.is_empty() {
            let asked = self.asked.entry(change.table).or_default();
            *asked = asked.and(table.indexed.get_mut().kept);
            self.tables.remove(&key);
        }
        Ok(())
    }

    fn stream_mut(&mut self, event: &Event, stream: StreamId, committed: &dyn Reader) -> &mut StreamOverlay {
        let overlay = self.streams.entry((event.namespace, stream)).or_insert_with(|| StreamOverlay {
            revision: event.revision,
            state: committed.stream(event.namespace, stream),
            rows: VecDeque::new(),
        });
        overlay.revision = event.revision;
        overlay
    }
}

/// The indexes that every change asks about.
fn asked_by_all(definition: &TableDefinition) -> IndexSet {
    definition.indexes.iter().filter(|index| matches!(index.kind, IndexKind::Unique)).map(|index| index.id).collect()
}

fn unknown_table(table: TableId) -> RecordDecodeError {
    RecordDecodeError::Malformed { table: "unknown", detail: format!("table {table} is not in the catalog") }
}

/// The committed state with the overlay on top: what deciding reads.
pub struct OverlayReader<'a> {
    below: &'a ViewReader<'a>,
    overlay: &'a Overlay,
}

impl<'a> OverlayReader<'a> {
    /// Reads `overlay` on top of `below`.
    #[must_use]
    pub fn new(below: &'a ViewReader<'a>, overlay: &'a Overlay) -> Self {
        Self { below, overlay }
    }

    fn table(&self, namespace: NamespaceId, table: TableId) -> Option<&'a TableOverlay> {
        self.overlay.tables.get(&(namespace, table))
    }
}

impl TableOverlay {
    /// Whether the committed record still stands.
    fn leaves(&self, sequence: Sequence) -> bool {
        !self.records.contains_key(&sequence)
    }

    /// The overlaid records' indexes, of which these may be asked. They are kept from now on.
    fn indexed(&self, asked: IndexSet) -> MutexGuard<'_, Indexed> {
        let mut indexed = self.indexed.lock();
        let missing = asked.without(indexed.kept);
        if !missing.is_empty() {
            indexed.take_up(missing, &self.records);
        }
        indexed
    }
}

impl Indexed {
    /// Puts a body in the place of what was laid before, and answers the keys that it is found by.
    fn replace(
        &mut self,
        sequence: Sequence,
        before: Option<&OverlaidRecord>,
        after: Option<&[u8]>,
    ) -> Result<Keys, RecordDecodeError> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let collected;
        let nothing = Keys::default();
        let before = match before {
            Some(laid) if laid.keys.of() == self.kept => &laid.keys,
            // More indexes were asked for since it was laid.
            Some(laid) => {
                collected = self.indexes.keys_of(self.kept, laid.left.body())?;
                &collected
            }
            None => &nothing,
        };
        let keys = self.indexes.keys_of(self.kept, after)?;
        self.indexes.follow(sequence, before, &keys, after.is_some());
        Ok(keys)
    }

    /// Puts what is laid already into indexes that were not kept so far.
    fn take_up(&mut self, missing: IndexSet, records: &BTreeMap<Sequence, OverlaidRecord>) {
        self.kept = self.kept.and(missing);
        for (sequence, laid) in records {
            // It was read when it was laid, so it can be. If not, the next change says so.
            if let Err(failure) = self.indexes.apply_to(missing, *sequence, None, laid.left.body()) {
                self.failure = Some(failure);
            }
        }
    }
}

/// Merges two ascending lists without common elements.
fn merge<T: Ord>(left: Vec<T>, right: Vec<T>, limit: usize) -> Vec<T> {
    if right.is_empty() {
        return left;
    }
    let mut merged = left;
    merged.extend(right);
    merged.sort_unstable();
    merged.truncate(limit);
    merged
}

impl Reader for OverlayReader<'_> {
    fn revision(&self) -> Revision {
        let newest = self.overlay.newest().filter(|_| !is_planted(Bug::RevisionBeforeCommit));
        newest.map_or_else(|| self.below.revision(), |event| event.revision)
    }

    fn get(&self, namespace: NamespaceId, table: TableId, sequence: Sequence) -> Result<Option<Record>, ReadError> {
        match self.table(namespace, table).and_then(|overlay| overlay.records.get(&sequence)) {
            Some(laid) => Ok(laid.left.body().is_some().then(|| Record {
                sequence,
                modified: laid.left.event.revision,
                body: Bytes::from_owner(laid.left.clone()),
            })),
            None => self.below.get(namespace, table, sequence),
        }
    }

    fn find(&self, namespace: NamespaceId, table: TableId, index: IndexId, key: &[u8]) -> Option<Sequence> {
        let below = self.below.find(namespace, table, index, key);
        match self.table(namespace, table) {
            None => below,
            Some(overlay) => {
                let asked = [index].into_iter().collect();
                let laid = overlay.indexed(asked).indexes.find(index, key);
                laid.or_else(|| below.filter(|sequence| overlay.leaves(*sequence)))
            }
        }
    }

    fn select(
        &self,
        namespace: NamespaceId,
        table: TableId,
        query: &Query,
        after: Sequence,
        limit: usize,
    ) -> Vec<Sequence> {
        let Some(overlay) = self.table(namespace, table) else {
            return self.below.select(namespace, table, query, after, limit);
        };
        let leaves = |sequence| overlay.leaves(sequence);
        let below = self.below.select_kept((namespace, table), query, after, limit, &leaves);
        let laid = overlay.indexed(query.indexes()).indexes.select(query, after, limit, &|_| true);
        merge(below, laid, limit)
    }

    fn count(&self, namespace: NamespaceId, table: TableId, query: &Query) -> u64 {
        let below = self.below.count(namespace, table, query);
        let Some(overlay) = self.table(namespace, table) else { return below };
        let masked = overlay.records.keys().filter(|sequence| self.below.matches(namespace, table, query, **sequence));
        below - masked.count() as u64 + overlay.indexed(query.indexes()).indexes.count(query)
    }

    fn select_lowest(
        &self,
        namespace: NamespaceId,
        table: TableId,
        index: IndexId,
        below: i64,
        limit: usize,
    ) -> Vec<Sequence> {
        let Some(overlay) = self.table(namespace, table) else {
            return self.below.select_lowest(namespace, table, index, below, limit);
        };
        let leaves = |sequence| overlay.leaves(sequence);
        let committed = self.below.lowest((namespace, table), index, below, limit, &leaves);
        let laid = overlay.indexed([index].into_iter().collect()).indexes.lowest(index, below).take(limit).collect();
        merge(committed, laid, limit).into_iter().map(|(_, sequence)| sequence).collect()
    }

    fn last_sequence(&self, namespace: NamespaceId, table: TableId) -> Sequence {
        let below = self.below.last_sequence(namespace, table);
        let overlay = self.table(namespace, table).filter(|_| !is_planted(Bug::SequenceBeforeCommit));
        overlay.map_or(below, |overlay| below.max(overlay.last_sequence))
    }

    fn stream(&self, namespace: NamespaceId, stream: StreamId) -> StreamState {
        let overlay = self.overlay.streams.get(&(namespace, stream));
        let overlay = overlay.filter(|_| !is_planted(Bug::StreamNumberBeforeCommit));
        overlay.map_or_else(|| self.below.stream(namespace, stream), |overlay| overlay.state)
    }

    fn stream_rows(
        &self,
        namespace: NamespaceId,
        stream: StreamId,
        after: StreamSequence,
        limit: usize,
    ) -> Result<Vec<StreamRow>, ReadError> {
        let Some(overlay) = self.overlay.streams.get(&(namespace, stream)) else {
            return self.below.stream_rows(namespace, stream, after, limit);
        };
        if after >= overlay.state.last {
            return Ok(Vec::new());
        }
        let first = after.next().max(overlay.state.low_water);
        let mut rows = self.below.stream_rows(namespace, stream, StreamSequence(first.0 - 1), limit)?;
        let laid = overlay.rows.iter().filter(|row| row.sequence >= first).cloned();
        rows.extend(laid);
        rows.truncate(limit);
        check_without_holes(&rows, first, overlay.state.last, limit)?;
        Ok(rows)
    }
}
