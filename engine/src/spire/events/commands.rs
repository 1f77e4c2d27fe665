//! What can be asked of the event streams.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use crate::ids::{StreamId, StreamSequence, Timestamp};
use crate::spire::{self, Answer, AnswerSource, NODES, REGISTRATIONS, limits};
use crate::transaction::Transaction;
use crate::view::StreamState;

/// A change to an event stream.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 8.4 for registration entries: moves the mark, which hides what is older; answers [`super::super::Answer::Progress`].
    PruneEntryEvents {
        /// Items older than this (exclusive), in microseconds since the Unix epoch, go.
        older_than_micros: u64,
        /// Items at the most; 0 for as many as one event may give up.
        limit: u32,
    },
    /// 8.4 for nodes.
    PruneNodeEvents {
        /// Items older than this (exclusive), in microseconds since the Unix epoch, go.
        older_than_micros: u64,
        /// Items at the most; 0 for as many as one event may give up.
        limit: u32,
    },
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, spire::Error> {
        match *self {
            Self::PruneEntryEvents { older_than_micros, limit } => {
                prune(transaction, REGISTRATIONS, Timestamp(older_than_micros), limit)
            }
            Self::PruneNodeEvents { older_than_micros, limit } => {
                prune(transaction, NODES, Timestamp(older_than_micros), limit)
            }
        }
    }
}

fn prune(
    transaction: &mut Transaction<'_>,
    stream: StreamId,
    older_than: Timestamp,
    limit: u32,
) -> Result<AnswerSource, spire::Error> {
    let state = transaction.reader().stream(transaction.namespace(), stream);
    let kept = first_kept(transaction, stream, state, older_than)?;
    let step_end = StreamSequence(state.low_water.0.saturating_add(limits::step_items(limit)));
    let to = kept.min(step_end);
    transaction.raise_low_water(stream, to);
    let changed = to.0.saturating_sub(state.low_water.0);
    Ok(AnswerSource::Inline(Answer::Progress { changed, more: to < kept }))
}

/// The oldest item that is not older than an instant, or the one after the newest. Items are in time order, so a
/// binary search finds it.
fn first_kept(
    transaction: &Transaction<'_>,
    stream: StreamId,
    state: StreamState,
    older_than: Timestamp,
) -> Result<StreamSequence, spire::Error> {
    let (mut low, mut high) = (state.low_water.0, state.last.next().0);
    while low < high {
        let middle = low + (high - low) / 2;
        let before = StreamSequence(middle.saturating_sub(1));
        let rows = transaction.reader().stream_rows(transaction.namespace(), stream, before, 1)?;
        if rows.first().is_some_and(|row| row.time < older_than) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(StreamSequence(low))
}
