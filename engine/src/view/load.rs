//! What a view reads of its record store when it is opened: counters, and the keys of all records for the indexes.
//!
//! The records are read in pieces. While the keys of one piece go into the indexes, the next one is read and hashed; a
//! caller with threads lets both happen at the same time. Whoever has read helps to fill: each index by itself, so that two
//! who fill never meet, and what comes out does not depend on who did what.

use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;

use super::committed::{ViewError, unreadable};
use super::digest::Digest;
use super::keys::{self, FoldedPosition, MEMBERSHIP_BYTES_MAX, StoreKey};
use super::removal::Removed;
use super::state::State;
use crate::ids::{NamespaceId, Sequence};
use crate::index::{KeysOfMany, Part, TableIndexes};
use crate::record_store::RecordStore;
use crate::table::{Catalog, TableDefinition};

/// Records of a piece at the most. Tests have few records and want several pieces.
const PIECE_RECORDS: usize = if cfg!(test) { 7 } else { 8192 };

/// A piece ends behind the record with which it has so many bytes.
const PIECE_BYTES: usize = 4 << 20;

/// Two pieces of work that have nothing to do with each other: the engine has no threads, whoever opens a view may.
pub trait Fork {
    /// Does both, in any order or at the same time, and returns when both are done.
    fn both(&self, one: &mut (dyn FnMut() + Send), other: &mut (dyn FnMut() + Send));
}

/// Does one after the other.
#[derive(Clone, Copy, Debug)]
pub struct InTurn;

impl Fork for InTurn {
    fn both(&self, one: &mut (dyn FnMut() + Send), other: &mut (dyn FnMut() + Send)) {
        one();
        other();
    }
}

/// The state that belongs to what a store holds.
pub(super) fn state(catalog: Catalog, store: &dyn RecordStore, fork: &dyn Fork) -> Result<State, ViewError> {
    let mut state = State::default();
    if let Some(value) = store.get(&StoreKey::Folded.encode())? {
        state.folded = FoldedPosition::decode(&value).ok_or_else(|| unreadable(&StoreKey::Folded.encode()))?;
    }
    state.folded_stored = true;
    state.membership = membership(store)?;
    counters(catalog, store, &mut state)?;
    let found = records(catalog, store, &mut state, fork)?;
    if found != state.folded.digest {
        let FoldedPosition { revision, digest: expected, .. } = state.folded;
        return Err(ViewError::Digest { revision, expected, found });
    }
    Ok(state)
}

/// Up to where the rows that each stream has given up are removed.
pub(super) fn removed(store: &dyn RecordStore) -> Result<Removed, ViewError> {
    let mut removed = Removed::default();
    let mut outcome = Ok(());
    let (from, to) = StoreKey::all_removed();
    store.scan(&from, &to, &mut |key, value| match (StoreKey::decode(key), keys::read_removed(value)) {
        (Some(StoreKey::Removed(namespace, stream)), Some(oldest)) => {
            removed.insert((namespace, stream), oldest);
            ControlFlow::Continue(())
        }
        _ => {
            outcome = Err(unreadable(key));
            ControlFlow::Break(())
        }
    })?;
    outcome.map(|()| removed)
}

fn membership(store: &dyn RecordStore) -> Result<Option<Arc<[u8]>>, ViewError> {
    let key = StoreKey::Membership.encode();
    match store.get(&key)? {
        Some(value) if value.len() > MEMBERSHIP_BYTES_MAX => Err(unreadable(&key)),
        value => Ok(value.map(|value| Arc::from(&value[..]))),
    }
}

fn counters(catalog: Catalog, store: &dyn RecordStore, state: &mut State) -> Result<(), ViewError> {
    let (from, to) = StoreKey::all_counters();
    let mut outcome = Ok(());
    store.scan(&from, &to, &mut |key, value| {
        outcome = counter(catalog, state, key, value);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

fn counter(catalog: Catalog, state: &mut State, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
    match StoreKey::decode(key) {
        Some(StoreKey::LastSequence(namespace, table)) => {
            let last = keys::read_sequence(value).ok_or_else(|| unreadable(key))?;
            let table_state = state.table_mut(catalog, namespace, table).ok_or(ViewError::UnknownTable { table })?;
            table_state.last_sequence = last;
        }
        Some(StoreKey::StreamState(namespace, stream)) => {
            *state.stream_mut(namespace, stream) = keys::read_stream(value).ok_or_else(|| unreadable(key))?;
        }
        _ => return Err(unreadable(key)),
    }
    Ok(())
}

/// Fills the indexes, and returns the digest of all records.
fn records(catalog: Catalog, store: &dyn RecordStore, state: &mut State, fork: &dyn Fork) -> Result<Digest, ViewError> {
    let (from, to) = StoreKey::all_records();
    let mut reading = Piece { from: Some(from), ..Piece::default() };
    let mut filling = Piece::default();
    let mut tables = Vec::new();
    while reading.from.is_some() || !filling.runs.is_empty() {
        let parts = Mutex::new(parts(state, &mut tables, &mut filling));
        let mut read = Ok(());
        let mut read_and_fill = || {
            read = reading.read(catalog, store, &to);
            fill(&parts);
        };
        fork.both(&mut read_and_fill, &mut || fill(&parts));
        read?;
        drop(parts);
        (filling.from, filling.digest) = (reading.from.take(), reading.digest);
        std::mem::swap(&mut reading, &mut filling);
    }
    for Table { namespace, definition, indexes, last_sequence } in tables {
        let unknown = ViewError::UnknownTable { table: definition.id };
        let table_state = state.table_mut(catalog, namespace, definition.id).ok_or(unknown)?;
        (table_state.indexes, table_state.last_sequence) = (indexes, last_sequence);
    }
    Ok(reading.digest)
}

/// Fills indexes until there are no more to fill.
fn fill(parts: &Mutex<Vec<Part<'_>>>) {
    let next = || parts.lock().pop();
    while let Some(part) = next() {
        part.fill();
    }
}

/// What there is to do for a piece, the largest part last, as that is taken first. New tables are put behind the others.
fn parts<'a>(state: &State, tables: &'a mut Vec<Table>, piece: &'a mut Piece) -> Vec<Part<'a>> {
    for Run { namespace, definition, .. } in &piece.runs {
        if tables.last().is_none_or(|table| !table.is(*namespace, definition)) {
            tables.push(Table::new(state, *namespace, definition));
        }
    }
    // Records come in the order of their tables, so those of a piece belong to the last tables.
    let behind = tables.len() - piece.runs.len();
    let tables = tables[behind..].iter_mut().zip(&mut piece.runs);
    let mut parts: Vec<_> = tables.flat_map(|(table, run)| table.parts(&mut run.keys)).collect();
    parts.sort_by_key(Part::size);
    parts
}

/// A table whose indexes are being filled.
struct Table {
    namespace: NamespaceId,
    definition: &'static TableDefinition,
    indexes: TableIndexes,
    last_sequence: Sequence,
}

impl Table {
    fn new(state: &State, namespace: NamespaceId, definition: &'static TableDefinition) -> Self {
        let last_sequence = state.table(namespace, definition.id).map_or(Sequence::ZERO, |table| table.last_sequence);
        Self { namespace, definition, indexes: TableIndexes::new(definition), last_sequence }
    }

    fn is(&self, namespace: NamespaceId, definition: &TableDefinition) -> bool {
        self.namespace == namespace && self.definition.id == definition.id
    }

    fn parts<'a>(&'a mut self, keys: &'a mut KeysOfMany) -> impl Iterator<Item = Part<'a>> {
        self.last_sequence = self.last_sequence.max(keys.last().unwrap_or_default());
        self.indexes.parts(keys)
    }
}

/// Some records that follow one another.
#[derive(Default)]
struct Piece {
    runs: Vec<Run>,
    /// Buffers for further runs.
    spare: Vec<KeysOfMany>,
    records: usize,
    bytes: usize,
    /// Where the records behind it begin; `None` when there are none.
    from: Option<Vec<u8>>,
    /// Of all records up to its last one.
    digest: Digest,
}

/// The keys of those of the records that are of one table.
struct Run {
    namespace: NamespaceId,
    definition: &'static TableDefinition,
    keys: KeysOfMany,
}

impl Piece {
    /// Reads the records from `from` on, and says in `from` where to go on.
    fn read(&mut self, catalog: Catalog, store: &dyn RecordStore, to: &[u8]) -> Result<(), ViewError> {
        self.spare.extend(self.runs.drain(..).map(|run| run.keys));
        (self.records, self.bytes) = (0, 0);
        let Some(from) = self.from.take() else { return Ok(()) };
        let mut outcome = Ok(());
        let mut next = None;
        store.scan(&from, to, &mut |key, value| {
            if self.records == PIECE_RECORDS || self.bytes >= PIECE_BYTES {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            outcome = self.take(catalog, key, value);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.from = next;
        outcome
    }

    fn take(&mut self, catalog: Catalog, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        let (Some(StoreKey::Record(namespace, table, sequence)), Some((modified, body))) =
            (StoreKey::decode(key), keys::split_record(value))
        else {
            return Err(unreadable(key));
        };
        self.digest.add(namespace, table, sequence, modified, body);
        (self.records, self.bytes) = (self.records + 1, self.bytes + body.len());
        let is_same = |run: &&mut Run| run.namespace == namespace && run.definition.id == table;
        if let Some(run) = self.runs.last_mut().filter(is_same) {
            return Ok(run.keys.collect(run.definition, sequence, body)?);
        }
        let definition = catalog.table(table).ok_or(ViewError::UnknownTable { table })?;
        let mut keys = self.spare.pop().unwrap_or_default();
        keys.clear(definition);
        keys.collect(definition, sequence, body)?;
        self.runs.push(Run { namespace, definition, keys });
        Ok(())
    }
}
