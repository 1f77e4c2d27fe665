//! The committed view: the records on disk and the indexes in memory that folding keeps in step.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use thiserror::Error;

use super::digest::Digest;
use super::fold::{Counters, record_writes};
use super::keys::{self, FoldedPosition, MEMBERSHIP_BYTES_MAX, StoreKey};
use super::load::{self, Fork, InTurn};
use super::reader::{ReadError, Reader, ReaderExtension as _, Record, Records, StreamRow, StreamState};
use super::removal::Removed;
use super::state::State;
use crate::event::{Change, Event};
use crate::ids::{IndexId, LogIndex, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId};
use crate::index::Query;
use crate::record_store::{RecordStore, RecordStoreError, WriteBatch};
use crate::simulation::{Bug, is_planted, reached};
use crate::table::{Catalog, RecordDecodeError};

/// Counters and positions that a batch writes besides, as a rule.
const COUNTERS_USUAL: usize = 8;

/// From so many records on that are made one after another in a table, one index after the other takes all of them. With fewer
/// there is nothing to gain; but the batches of simulated groups are small.
const CREATED_MANY: usize = if cfg!(feature = "simulation") { 2 } else { 16 };

/// Records that the indexes take together at the most, so that their keys lie close together and take little memory.
const CREATED_AT_ONCE: usize = 1024;

/// What folding produces; always rebuildable from events.
///
/// One thread folds; any number of threads read. A reader holds a lock that folding waits for, so long results are
/// read in chunks.
pub struct View {
    catalog: Catalog,
    pub(super) store: Arc<dyn RecordStore>,
    pub(super) state: RwLock<State>,
    /// Taken before the state.
    pub(super) removed: Mutex<Removed>,
}

/// Why a view could not be opened or folded. The answer to all of them is to rebuild the record store.
#[derive(Debug, Error)]
pub enum ViewError {
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] RecordStoreError),
    /// A stored body cannot be read.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
    /// The store holds a key or value that is none of ours.
    #[error("record store holds an unreadable pair under key {key}")]
    Unreadable {
        /// The key, in hexadecimal.
        key: String,
    },
    /// The store holds records of a table that this build does not know.
    #[error("record store holds records of unknown table {table}; was it written by a newer version?")]
    UnknownTable {
        /// The table.
        table: TableId,
    },
    /// The records are not those that were folded.
    #[error("records have digest {found}, but {expected} was folded up to revision {revision}")]
    Digest {
        /// The position that the store remembers.
        revision: Revision,
        /// The digest that it remembers.
        expected: Digest,
        /// The digest of the records that it holds.
        found: Digest,
    },
    /// A membership is larger than any may be.
    #[error("a membership of {bytes} bytes is larger than any may be ({MEMBERSHIP_BYTES_MAX})")]
    MembershipTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// An event does not follow the one folded last.
    #[error("event {found} does not follow revision {folded}")]
    Gap {
        /// The revision folded last.
        folded: Revision,
        /// The revision given.
        found: Revision,
    },
}

/// A committed event and its place in the log.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Its place.
    pub index: LogIndex,
    /// The event.
    pub event: Arc<Event>,
}

impl View {
    /// Opens the view over a record store, rebuilding the indexes from its records and checking their digest.
    ///
    /// # Errors
    /// When the store does not hold exactly what was folded into it; it must then be rebuilt.
    pub fn open(catalog: Catalog, store: Arc<dyn RecordStore>) -> Result<Self, ViewError> {
        Self::open_with(catalog, store, &InTurn)
    }

    /// As [`View::open`], with the work shared out by `fork`.
    ///
    /// # Errors
    /// As for that.
    pub fn open_with(catalog: Catalog, store: Arc<dyn RecordStore>, fork: &dyn Fork) -> Result<Self, ViewError> {
        let state = load::state(catalog, store.as_ref(), fork)?;
        let removed = load::removed(store.as_ref())?;
        Ok(Self { catalog, store, state: RwLock::new(state), removed: Mutex::new(removed) })
    }

    /// The state now. Folding waits until the reader is dropped.
    #[must_use]
    pub fn read(&self) -> ViewReader<'_> {
        ViewReader { store: self.store.as_ref(), state: self.state.read() }
    }

    /// How far the view is folded.
    #[must_use]
    pub fn folded(&self) -> FoldedPosition {
        self.state.read().folded
    }

    /// The members of the group as the newest membership entry folded says; `None` before the first one.
    #[must_use]
    pub fn membership(&self) -> Option<Arc<[u8]>> {
        self.state.read().membership.clone()
    }

    /// The tables and streams that the view knows.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        self.catalog
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn RecordStore> {
        &self.store
    }

    /// Folds events, which must follow the one folded last without a gap. They become visible together.
    ///
    /// # Errors
    /// After an error the view must be dropped and rebuilt: the store may hold more than the indexes.
    pub fn fold(&self, events: &[Committed]) -> Result<(), ViewError> {
        let Some(last) = events.last() else { return Ok(()) };
        let mut state = self.state.write();
        let mut batch = WriteBatch::default();
        let writes: usize = events.iter().map(|it| it.event.changes.len() + it.event.items.len()).sum();
        batch.operations.reserve(writes + COUNTERS_USUAL);
        let mut counters = Counters::default();
        let mut folded = state.folded;
        for Committed { event, .. } in events {
            if event.revision != folded.revision.next() {
                return Err(ViewError::Gap { folded: folded.revision, found: event.revision });
            }
            folded.revision = event.revision;
            record_writes(event, &mut batch);
            follow_digest(&mut folded.digest, event);
            follow_streams(&mut state, event);
            counters.touch(event);
        }
        if !is_planted(Bug::StreamCounterNotKept) {
            counters.write(|namespace, stream| state.stream(namespace, stream), &mut batch);
        }
        folded.index = last.index;
        folded.time = last.event.time;
        batch.put(StoreKey::Folded.encode(), folded.encode());
        if is_planted(Bug::FoldedIndexApart) {
            let mut ahead = WriteBatch::default();
            ahead.put(StoreKey::Folded.encode(), folded.encode());
            self.store.apply(ahead)?;
        }
        self.store.apply(batch)?;
        self.follow_indexes(&mut state, events)?;
        state.folded = folded;
        state.folded_stored = true;
        Ok(())
    }

    /// Folds a membership entry: its content, opaque here, becomes what [`View::membership`] says, and its index the
    /// folded one, both at once. An entry that was folded before changes nothing.
    ///
    /// # Errors
    /// When it has more than [`MEMBERSHIP_BYTES_MAX`] bytes; nothing has changed then. When the store fails, as
    /// [`View::fold`].
    pub fn fold_membership(&self, index: LogIndex, membership: &[u8]) -> Result<(), ViewError> {
        if membership.len() > MEMBERSHIP_BYTES_MAX {
            return Err(ViewError::MembershipTooLarge { bytes: membership.len() });
        }
        let mut state = self.state.write();
        if index <= state.folded.index {
            return Ok(());
        }
        let folded = FoldedPosition { index, ..state.folded };
        let mut batch = WriteBatch::default();
        batch.put(StoreKey::Membership.encode(), membership);
        batch.put(StoreKey::Folded.encode(), folded.encode());
        self.store.apply(batch)?;
        state.folded = folded;
        state.folded_stored = true;
        state.membership = Some(membership.into());
        Ok(())
    }

    /// Notes that every entry up to `index` is folded where those behind the last folded one have nothing to fold. The
    /// store learns of it with the next batch or [`View::flush`].
    pub fn note_folded(&self, index: LogIndex) {
        let mut state = self.state.write();
        if index > state.folded.index {
            state.folded.index = index;
            state.folded_stored = false;
        }
    }

    /// Makes everything folded so far survive in the store, and returns how far that is.
    ///
    /// # Errors
    /// When the store fails.
    pub fn flush(&self) -> Result<FoldedPosition, ViewError> {
        let folded = {
            let mut state = self.state.write();
            if !state.folded_stored {
                let mut batch = WriteBatch::default();
                batch.put(StoreKey::Folded.encode(), state.folded.encode());
                self.store.apply(batch)?;
                state.folded_stored = true;
            }
            state.folded
        };
        self.store.flush()?;
        Ok(folded)
    }

    fn follow_indexes(&self, state: &mut State, events: &[Committed]) -> Result<(), ViewError> {
        let mut changes = events.iter().flat_map(|it| changes_of(&it.event));
        if events.iter().map(|it| it.event.changes.len()).sum::<usize>() < CREATED_MANY {
            return changes.try_for_each(|(namespace, change)| self.follow_change(state, namespace, change));
        }
        let changes: Vec<_> = changes.collect();
        let alike = changes.chunk_by(|one, other| are_created_alike(*one, *other));
        for alike in alike.flat_map(|alike| alike.chunks(CREATED_AT_ONCE)) {
            if alike.len() >= CREATED_MANY {
                self.follow_created(state, alike)?;
            } else {
                alike.iter().try_for_each(|(namespace, change)| self.follow_change(state, *namespace, change))?;
            }
        }
        Ok(())
    }

    fn follow_change(&self, state: &mut State, namespace: NamespaceId, change: &Change) -> Result<(), ViewError> {
        let table = state
            .table_mut(self.catalog, namespace, change.table)
            .ok_or(ViewError::UnknownTable { table: change.table })?;
        let before = change.before.as_deref().filter(|_| !is_planted(Bug::IndexKeepsRemoved));
        table.indexes.apply(change.sequence, before, change.after.as_deref())?;
        table.last_sequence = table.last_sequence.max(change.sequence);
        Ok(())
    }

    /// Follows changes that make a record each, ascending by number, in one table.
    fn follow_created(&self, state: &mut State, changes: &[(NamespaceId, &Change)]) -> Result<(), ViewError> {
        let (Some((namespace, Change { table, .. })), Some((_, last))) = (changes.first(), changes.last()) else {
            return Ok(());
        };
        reached("fold: records made one after another taken together");
        let mut keys = std::mem::take(&mut state.keys_of_created);
        let table_state =
            state.table_mut(self.catalog, *namespace, *table).ok_or(ViewError::UnknownTable { table: *table })?;
        let created = changes.iter().filter_map(|(_, change)| Some((change.sequence, change.after.as_deref()?)));
        table_state.indexes.create(&mut keys, created)?;
        table_state.last_sequence = table_state.last_sequence.max(last.sequence);
        state.keys_of_created = keys.unless_large();
        Ok(())
    }

    /// The digest of the records as the store holds them now, worked out anew. Folding waits meanwhile.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recompute_digest(&self) -> Result<(Revision, Digest), ViewError> {
        let state = self.state.read();
        let mut digest = Digest::default();
        visit_records(self.store.as_ref(), &mut |namespace, table, sequence, modified, body| {
            digest.add(namespace, table, sequence, modified, body);
            Ok(())
        })?;
        Ok((state.folded.revision, digest))
    }
}

impl ViewError {
    pub(super) fn unreadable(key: &[u8]) -> Self {
        unreadable(key)
    }
}

pub(super) fn unreadable(key: &[u8]) -> ViewError {
    use std::fmt::Write;
    let key = key.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    ViewError::Unreadable { key }
}

fn changes_of(event: &Event) -> impl Iterator<Item = (NamespaceId, &Change)> {
    event.changes.iter().map(|change| (event.namespace, change))
}

/// Whether both changes make a record of the same table, the other one with a higher number, as numbers are given.
fn are_created_alike(one: (NamespaceId, &Change), other: (NamespaceId, &Change)) -> bool {
    let is_created = |change: &Change| change.before.is_none() && change.after.is_some();
    let place = |(namespace, change): (NamespaceId, &Change)| (namespace, change.table);
    is_created(one.1) && is_created(other.1) && place(one) == place(other) && one.1.sequence < other.1.sequence
}

fn follow_digest(digest: &mut Digest, event: &Event) {
    for change in &event.changes {
        if let (Some(before), Some(previous)) = (&change.before, change.previous)
            && !is_planted(Bug::DigestKeepsReplaced)
        {
            digest.remove(event.namespace, change.table, change.sequence, previous, before);
        }
        if let Some(after) = &change.after {
            digest.add(event.namespace, change.table, change.sequence, event.revision, after);
        }
    }
}

fn follow_streams(state: &mut State, event: &Event) {
    for item in &event.items {
        let stream = state.stream_mut(event.namespace, item.stream);
        stream.last = stream.last.max(item.sequence);
    }
    for mark in &event.marks {
        let stream = state.stream_mut(event.namespace, mark.stream);
        let to = if is_planted(Bug::MarkBeyondRows) { mark.to.next() } else { mark.to };
        stream.low_water = stream.low_water.max(to);
    }
}

/// Receives a record: where it stands, the revision that last changed it, its body.
type RecordVisitor<'a> = &'a mut dyn FnMut(NamespaceId, TableId, Sequence, Revision, &[u8]) -> Result<(), ViewError>;

fn visit_records(store: &dyn RecordStore, visit: RecordVisitor<'_>) -> Result<(), ViewError> {
    let (from, to) = StoreKey::all_records();
    let mut outcome = Ok(());
    store.scan(&from, &to, &mut |key, value| {
        outcome = match (StoreKey::decode(key), keys::split_record(value)) {
            (Some(StoreKey::Record(namespace, table, sequence)), Some((modified, body))) => {
                visit(namespace, table, sequence, modified, body)
            }
            _ => Err(unreadable(key)),
        };
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

/// The committed state at one revision, for as long as it is held.
pub struct ViewReader<'a> {
    store: &'a dyn RecordStore,
    state: RwLockReadGuard<'a, State>,
}

impl ViewReader<'_> {
    /// How far the view is folded.
    #[must_use]
    pub fn folded(&self) -> FoldedPosition {
        self.state.folded
    }

    /// The members of the group at that position.
    #[must_use]
    pub fn membership(&self) -> Option<&Arc<[u8]>> {
        self.state.membership.as_ref()
    }

    /// The namespaces that hold anything.
    #[must_use]
    pub fn namespaces(&self) -> Vec<NamespaceId> {
        self.state.namespaces.keys().copied().collect()
    }

    /// Calls `visit` with every table of a namespace, its records, and each index's name and number of keys.
    pub fn visit_sizes(&self, namespace: NamespaceId, visit: &mut dyn FnMut(TableId, u64, &'static str, usize)) {
        let tables = self.state.namespaces.get(&namespace).map(|state| &state.tables[..]).unwrap_or_default();
        for (table, state) in tables {
            for (name, keys) in state.indexes.sizes() {
                visit(*table, state.indexes.len(), name, keys);
            }
        }
    }

    /// As [`Reader::select`], leaving out what `keep` refuses.
    pub(super) fn select_kept(
        &self,
        (namespace, table): (NamespaceId, TableId),
        query: &Query,
        after: Sequence,
        limit: usize,
        keep: &dyn Fn(Sequence) -> bool,
    ) -> Vec<Sequence> {
        self.state
            .table(namespace, table)
            .map(|state| state.indexes.select(query, after, limit, keep))
            .unwrap_or_default()
    }

    pub(super) fn matches(&self, namespace: NamespaceId, table: TableId, query: &Query, sequence: Sequence) -> bool {
        self.state.table(namespace, table).is_some_and(|state| state.indexes.matches(query, sequence))
    }

    /// The lowest numbers of an ordered index that `keep` lets through, with their records.
    pub(super) fn lowest(
        &self,
        (namespace, table): (NamespaceId, TableId),
        index: IndexId,
        below: i64,
        limit: usize,
        keep: &dyn Fn(Sequence) -> bool,
    ) -> Vec<(i64, Sequence)> {
        let Some(state) = self.state.table(namespace, table) else { return Vec::new() };
        state.indexes.lowest(index, below).filter(|(_, sequence)| keep(*sequence)).take(limit).collect()
    }
}

/// Records wanted of a table are read in runs of this many, each in the way that suits it.
const RUN_MAX: usize = 256;

/// Fewer records are always looked up one by one.
const RUN_SCANNED_MIN: usize = 8;

/// A look-up costs as much as walking over about this many records.
const LOOKUP_STEPS: u64 = 6;

/// Looks at the indexes (as [`TableIndexes::select_soon`] counts them) for a list that is wanted only if it is short: some
/// tens of microseconds.
const STEPS_SOON_MAX: u64 = 2048;

/// Whether walking from the first to the last is cheaper than looking each of them up. They are ascending.
fn lies_close(sequences: &[Sequence]) -> bool {
    let [first, .., last] = sequences else { return false };
    sequences.len() >= RUN_SCANNED_MIN && last.0.saturating_sub(first.0) < LOOKUP_STEPS * sequences.len() as u64
}

impl ViewReader<'_> {
    /// As [`Reader::select`], if the query selects no more than `few` records (or `limit` is no more), and a short look at
    /// the indexes is enough to tell.
    #[must_use]
    pub fn select_few(
        &self,
        namespace: NamespaceId,
        table: TableId,
        query: &Query,
        after: Sequence,
        limit: usize,
        few: usize,
    ) -> Option<Vec<Sequence>> {
        let Some(state) = self.state.table(namespace, table) else { return Some(Vec::new()) };
        let limit = limit.min(few.saturating_add(1));
        let selected = state.indexes.select_soon(query, after, limit, STEPS_SOON_MAX, &|_| true)?;
        (selected.len() <= few).then_some(selected)
    }

    /// Adds the records of `sequences`, each looked up.
    fn look_up(
        &self,
        namespace: NamespaceId,
        table: TableId,
        sequences: &[Sequence],
        records: &mut Records,
    ) -> Result<ControlFlow<()>, ReadError> {
        for sequence in sequences {
            if records.push(self.get_listed(namespace, table, *sequence)?).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds the records of ascending `sequences`, found by walking over all from the first to the last.
    fn walk(
        &self,
        namespace: NamespaceId,
        table: TableId,
        sequences: &[Sequence],
        records: &mut Records,
    ) -> Result<ControlFlow<()>, ReadError> {
        let [first, .., last] = sequences else { return Ok(ControlFlow::Continue(())) };
        let from = StoreKey::Record(namespace, table, *first).encode_inline();
        let to = StoreKey::Record(namespace, table, Sequence(last.0.saturating_add(1))).encode_inline();
        let mut wanted = sequences.iter().copied().peekable();
        let mut outcome = Ok(ControlFlow::Continue(()));
        self.store.scan(&from, &to, &mut |key, value| {
            let Some(StoreKey::Record(_, _, found)) = StoreKey::decode(key) else {
                outcome = Err(malformed("record", "unreadable key"));
                return ControlFlow::Break(());
            };
            // A wanted record that was passed over stays first in line and is reported below.
            if wanted.next_if_eq(&found).is_some() {
                outcome = read_record(table, found, &Bytes::copy_from_slice(value)).map(|record| records.push(record));
            }
            let goes_on = matches!(outcome, Ok(ControlFlow::Continue(()))) && wanted.peek().is_some();
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        match (outcome?, wanted.next()) {
            (ControlFlow::Continue(()), Some(sequence)) => Err(ReadError::Missing { namespace, table, sequence }),
            (outcome, _) => Ok(outcome),
        }
    }
}

impl Reader for ViewReader<'_> {
    fn revision(&self) -> Revision {
        self.state.folded.revision
    }

    fn get(&self, namespace: NamespaceId, table: TableId, sequence: Sequence) -> Result<Option<Record>, ReadError> {
        let key = StoreKey::Record(namespace, table, sequence).encode_inline();
        let Some(value) = self.store.get(&key)? else { return Ok(None) };
        read_record(table, sequence, &value).map(Some)
    }

    fn get_up_to(
        &self,
        namespace: NamespaceId,
        table: TableId,
        sequences: &[Sequence],
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let mut records = Records::new(sequences.len(), bytes_max);
        for run in sequences.chunks(RUN_MAX) {
            let outcome = if lies_close(run) {
                self.walk(namespace, table, run, &mut records)?
            } else {
                self.look_up(namespace, table, run, &mut records)?
            };
            if outcome.is_break() {
                break;
            }
        }
        Ok(records.into_vec())
    }

    fn find(&self, namespace: NamespaceId, table: TableId, index: IndexId, key: &[u8]) -> Option<Sequence> {
        self.state.table(namespace, table)?.indexes.find(index, key)
    }

    fn select(
        &self,
        namespace: NamespaceId,
        table: TableId,
        query: &Query,
        after: Sequence,
        limit: usize,
    ) -> Vec<Sequence> {
        self.select_kept((namespace, table), query, after, limit, &|_| true)
    }

    fn count(&self, namespace: NamespaceId, table: TableId, query: &Query) -> u64 {
        self.state.table(namespace, table).map_or(0, |state| state.indexes.count(query))
    }

    fn select_lowest(
        &self,
        namespace: NamespaceId,
        table: TableId,
        index: IndexId,
        below: i64,
        limit: usize,
    ) -> Vec<Sequence> {
        let lowest = self.lowest((namespace, table), index, below, limit, &|_| true);
        lowest.into_iter().map(|(_, sequence)| sequence).collect()
    }

    fn last_sequence(&self, namespace: NamespaceId, table: TableId) -> Sequence {
        self.state.table(namespace, table).map_or(Sequence::ZERO, |state| state.last_sequence)
    }

    fn stream(&self, namespace: NamespaceId, stream: StreamId) -> StreamState {
        self.state.stream(namespace, stream)
    }

    fn stream_rows(
        &self,
        namespace: NamespaceId,
        stream: StreamId,
        after: StreamSequence,
        limit: usize,
    ) -> Result<Vec<StreamRow>, ReadError> {
        let state = self.stream(namespace, stream);
        let mut rows = Vec::new();
        // Before anything is added to a number that a caller may have made up.
        if limit == 0 || after >= state.last {
            return Ok(rows);
        }
        let first = after.next().max(state.low_water);
        if first > state.last {
            return Ok(rows);
        }
        let from = StoreKey::Row(namespace, stream, first).encode_inline();
        let to = StoreKey::Row(namespace, stream, state.last.next()).encode_inline();
        let mut damage = None;
        self.store.scan(&from, &to, &mut |key, value| {
            let row = match StoreKey::decode(key) {
                Some(StoreKey::Row(_, _, sequence)) => keys::read_row(sequence, value),
                _ => None,
            };
            match row {
                Some(row) => rows.push(row),
                None => damage = Some(malformed("stream row", "unreadable")),
            }
            if rows.len() == limit || damage.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        damage.map_or(Ok(()), Err)?;
        check_without_holes(&rows, first, state.last, limit)?;
        Ok(rows)
    }
}

/// Checks that rows are those from `first` up to `last`, or the first `limit` of them. Consumers go on behind the last
/// row that they got, so one that is missing would never be noticed.
pub(super) fn check_without_holes(
    rows: &[StreamRow],
    first: StreamSequence,
    last: StreamSequence,
    limit: usize,
) -> Result<(), ReadError> {
    let mut expected = first.0;
    for row in rows {
        if row.sequence.0 != expected {
            let detail = format!("row {expected} is missing, {} comes instead", row.sequence);
            return Err(malformed("stream row", &detail));
        }
        expected += 1;
    }
    if rows.len() < limit && expected <= last.0 {
        return Err(malformed("stream row", &format!("row {expected} is missing, of {last}")));
    }
    Ok(())
}

fn read_record(table: TableId, sequence: Sequence, value: &Bytes) -> Result<Record, ReadError> {
    keys::read_record(sequence, value)
        .ok_or_else(|| malformed("record", &format!("record {sequence} of table {table} has no revision in front")))
}

fn malformed(table: &'static str, detail: &str) -> ReadError {
    ReadError::Record(RecordDecodeError::Malformed { table, detail: detail.to_owned() })
}
