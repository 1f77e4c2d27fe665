//! What a view reads of its record store when it is opened: counters, and the keys of all records for the indexes.
//!
//! The records are read in pieces. While the keys of one piece go into the indexes, the next one is read and hashed; a
//! caller with threads lets both happen at the same time.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use super::committed::{ViewError, unreadable};
use super::digest::Digest;
use super::keys::{self, FoldedPosition, MEMBERSHIP_BYTES_MAX, StoreKey};
use super::removal::Removed;
use super::state::State;
use crate::ids::{NamespaceId, Sequence, TableId};
use crate::record_store::RecordStore;
use crate::table::Catalog;

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
    let mut indexing = Piece::default();
    while reading.from.is_some() || !indexing.records.is_empty() {
        let (mut read, mut indexed) = (Ok(()), Ok(()));
        fork.both(&mut || read = reading.read(store, &to), &mut || indexed = indexing.index(catalog, state));
        // What comes first in the store is told first, whoever was sooner.
        indexed.and(read)?;
        (indexing.from, indexing.digest) = (reading.from.take(), reading.digest);
        std::mem::swap(&mut reading, &mut indexing);
    }
    Ok(reading.digest)
}

/// Some records that follow one another.
#[derive(Default)]
struct Piece {
    records: Vec<(NamespaceId, TableId, Sequence, Range<usize>)>,
    bodies: Vec<u8>,
    /// Where the records behind it begin; `None` when there are none.
    from: Option<Vec<u8>>,
    /// Of all records up to its last one.
    digest: Digest,
}

impl Piece {
    /// Reads the records from `from` on, and says in `from` where to go on.
    fn read(&mut self, store: &dyn RecordStore, to: &[u8]) -> Result<(), ViewError> {
        self.records.clear();
        self.bodies.clear();
        let Some(from) = self.from.take() else { return Ok(()) };
        let mut outcome = Ok(());
        let mut next = None;
        store.scan(&from, to, &mut |key, value| {
            if self.records.len() == PIECE_RECORDS || self.bodies.len() >= PIECE_BYTES {
                next = Some(key.to_vec());
                return ControlFlow::Break(());
            }
            outcome = self.take(key, value);
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        self.from = next;
        outcome
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        let (Some(StoreKey::Record(namespace, table, sequence)), Some((modified, body))) =
            (StoreKey::decode(key), keys::split_record(value))
        else {
            return Err(unreadable(key));
        };
        self.digest.add(namespace, table, sequence, modified, body);
        let begin = self.bodies.len();
        self.bodies.extend_from_slice(body);
        self.records.push((namespace, table, sequence, begin..self.bodies.len()));
        Ok(())
    }

    /// Puts the keys of its records into the indexes.
    fn index(&self, catalog: Catalog, state: &mut State) -> Result<(), ViewError> {
        for (namespace, table, sequence, body) in &self.records {
            let unknown = ViewError::UnknownTable { table: *table };
            let table_state = state.table_mut(catalog, *namespace, *table).ok_or(unknown)?;
            table_state.indexes.apply(*sequence, None, Some(&self.bodies[body.clone()]))?;
            table_state.last_sequence = table_state.last_sequence.max(*sequence);
        }
        Ok(())
    }
}
