//! Removing the rows that streams have given up, which the fold only hides.
//!
//! No reader sees a row below the mark of its stream, no digest covers rows, and an event never writes one below a mark that
//! came before it. So each store removes them for itself, whenever that suits, and all of them still hold the same state. How
//! far it has come is stored in the same batch as each removal. The store keeps its batches in order: after a crash, a mark
//! that it has lost is never without its rows, and rows that came back are found again behind what it says of them.

use std::ops::ControlFlow;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::View;
use super::committed::{ViewError, unreadable};
use super::keys::{StoreKey, removed_value};
use super::state::State;
use crate::ids::{NamespaceId, StreamId, StreamSequence};
use crate::record_store::WriteBatch;
use crate::simulation::{Bug, is_planted};

/// The oldest row of each stream that may still be in the store; that of a stream which is not in it is the first.
pub(super) type Removed = HashMap<(NamespaceId, StreamId), StreamSequence, RandomState>;

/// Rows of one stream that are to be removed.
#[derive(Clone, Copy)]
struct GivenUp {
    namespace: NamespaceId,
    stream: StreamId,
    from: StreamSequence,
    /// The oldest row that is kept.
    mark: StreamSequence,
}

impl View {
    /// Removes up to `rows_max` of the rows that were given up; whether it is to be called again, because there may be more.
    ///
    /// Folding and readers wait while they are removed, and not while they are looked for.
    ///
    /// # Errors
    /// When the store fails or holds something that is no row among them. It must be rebuilt, as after a failed fold.
    pub fn remove_given_up(&self, rows_max: usize) -> Result<bool, ViewError> {
        let mut removed = self.removed.lock();
        let Some(given_up) = first_given_up(&self.state.read(), &removed) else { return Ok(false) };
        // Long where earlier removals have left empty leaves. Nobody else changes these rows: no event that is folded meanwhile
        // writes one below a mark that was folded before.
        let (rows, left_from) = self.find_given_up(given_up, rows_max.max(1))?;
        let key = (given_up.namespace, given_up.stream);
        let mut batch = WriteBatch::default();
        rows.into_iter().for_each(|row| batch.delete(row));
        batch.put(StoreKey::Removed(key.0, key.1).encode(), removed_value(left_from));
        {
            // A store takes one batch at a time, and nobody scans it meanwhile.
            let _alone = self.state.write();
            self.store.apply(batch)?;
        }
        removed.insert(key, left_from);
        Ok(true)
    }

    /// Keys of rows that were given up, and the oldest row that may be there once these are gone.
    fn find_given_up(
        &self,
        GivenUp { namespace, stream, from, mark }: GivenUp,
        rows_max: usize,
    ) -> Result<(Vec<Vec<u8>>, StreamSequence), ViewError> {
        let end = if is_planted(Bug::RowsRemovedAtMark) { mark.next() } else { mark };
        let (first, end) = (StoreKey::Row(namespace, stream, from), StoreKey::Row(namespace, stream, end));
        let (mut rows, mut left_from, mut outcome) = (Vec::new(), mark, Ok(()));
        self.store.scan(&first.encode(), &end.encode(), &mut |key, _| {
            let Some(StoreKey::Row(_, _, sequence)) = StoreKey::decode(key) else {
                outcome = Err(unreadable(key));
                return ControlFlow::Break(());
            };
            if rows.len() == rows_max {
                left_from = sequence;
                return ControlFlow::Break(());
            }
            rows.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        outcome.map(|()| (rows, left_from))
    }
}

/// The first stream, by its number, of which rows may have to be removed.
fn first_given_up(state: &State, removed: &Removed) -> Option<GivenUp> {
    let streams = state.namespaces.iter().flat_map(|(namespace, state)| {
        state.streams.iter().map(move |(stream, state)| (*namespace, *stream, state.low_water))
    });
    let given_up = streams.filter_map(|(namespace, stream, mark)| {
        let from = removed.get(&(namespace, stream)).copied().unwrap_or(StreamSequence(1));
        (from < mark).then_some(GivenUp { namespace, stream, from, mark })
    });
    given_up.min_by_key(|given_up| (given_up.namespace, given_up.stream))
}
