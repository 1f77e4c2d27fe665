//! Folding straight into a record store, without indexes: how a store is filled from a snapshot.
//!
//! The store holds nothing that a view would accept until [`StoreFold::finish`] has written the folded position, so
//! an attempt that was broken off is recognised when the view is opened.

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::committed::ViewError;
use super::fold::{raw_writes, write_stream_state};
use super::keys::{self, FoldedPosition, MEMBERSHIP_BYTES_MAX, StoreKey};
use super::reader::StreamState;
use crate::event::Event;
use crate::ids::{NamespaceId, StreamId};
use crate::record_store::{RecordStore, WriteBatch};

/// Most rows of streams that one event may give up. A snapshot with an event that gives up more is refused: a build that
/// removes rows while it folds must not be made to write without end.
pub const MAX_MARK_SPAN: u64 = 1 << 20;

/// Writes are handed to the store in batches of about this many operations.
const BATCH_OPERATIONS: usize = 2_000;
/// Writes are handed to the store in batches of about this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Puts pairs, and then folds events, into a record store.
pub struct StoreFold<'a> {
    store: &'a dyn RecordStore,
    streams: HashMap<(NamespaceId, StreamId), StreamState, RandomState>,
    batch: WriteBatch,
    batch_bytes: usize,
}

impl<'a> StoreFold<'a> {
    /// Starts on a store that holds nothing, or pairs that an earlier `StoreFold` has put there.
    #[must_use]
    pub fn new(store: &'a dyn RecordStore) -> Self {
        Self { store, streams: HashMap::default(), batch: WriteBatch::default(), batch_bytes: 0 }
    }

    /// Puts a pair as another store held it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), ViewError> {
        self.batch.put(key, value);
        self.batch_bytes += key.len() + value.len();
        self.apply_full_batch()
    }

    /// Folds an event. Folding one whose writes the store already holds changes nothing.
    ///
    /// # Errors
    /// When the store fails or holds an unreadable stream state.
    pub fn fold(&mut self, event: &Event) -> Result<(), ViewError> {
        raw_writes(event, &mut self.batch);
        for item in &event.items {
            self.follow_stream(event.namespace, item.stream, |state| state.last = state.last.max(item.sequence))?;
        }
        for mark in &event.marks {
            self.follow_stream(event.namespace, mark.stream, |state| state.low_water = state.low_water.max(mark.to))?;
        }
        self.batch_bytes += event.changes.iter().map(|change| change.after.as_ref().map_or(0, Vec::len)).sum::<usize>();
        self.apply_full_batch()
    }

    /// Writes the members of the group, if there are any, and the folded position, which makes the store one that a view
    /// accepts, and makes everything durable.
    ///
    /// # Errors
    /// When the store fails, or the membership is larger than any may be.
    pub fn finish(mut self, folded: FoldedPosition, membership: Option<&[u8]>) -> Result<(), ViewError> {
        if let Some(membership) = membership {
            if membership.len() > MEMBERSHIP_BYTES_MAX {
                return Err(ViewError::MembershipTooLarge { bytes: membership.len() });
            }
            self.batch.put(StoreKey::Membership.encode(), membership);
        }
        self.apply_batch()?;
        // The position must never be there without what it stands for.
        self.store.flush()?;
        self.batch.put(StoreKey::Folded.encode(), folded.encode());
        self.apply_batch()?;
        self.store.flush()?;
        Ok(())
    }

    fn follow_stream(
        &mut self,
        namespace: NamespaceId,
        stream: StreamId,
        advance: impl FnOnce(&mut StreamState),
    ) -> Result<(), ViewError> {
        let mut state = match self.streams.get(&(namespace, stream)) {
            Some(state) => *state,
            None => self.stored_stream(namespace, stream)?,
        };
        advance(&mut state);
        self.streams.insert((namespace, stream), state);
        write_stream_state(namespace, stream, state, &mut self.batch);
        Ok(())
    }

    fn stored_stream(&mut self, namespace: NamespaceId, stream: StreamId) -> Result<StreamState, ViewError> {
        // A pair that was put may still be in the batch.
        self.apply_batch()?;
        let key = StoreKey::StreamState(namespace, stream).encode();
        match self.store.get(&key)? {
            Some(value) => keys::read_stream(&value).ok_or_else(|| ViewError::unreadable(&key)),
            None => Ok(StreamState::EMPTY),
        }
    }

    fn apply_full_batch(&mut self) -> Result<(), ViewError> {
        let full = self.batch.operations.len() >= BATCH_OPERATIONS || self.batch_bytes >= BATCH_BYTES;
        if full { self.apply_batch() } else { Ok(()) }
    }

    fn apply_batch(&mut self) -> Result<(), ViewError> {
        if !self.batch.operations.is_empty() {
            self.store.apply(std::mem::take(&mut self.batch))?;
        }
        self.batch_bytes = 0;
        Ok(())
    }
}
