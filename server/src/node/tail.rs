//! Following a namespace's streams: from any position, history and then live, without a seam.
//!
//! A tail holds positions and one chunk of rows, however slow its consumer is: it reads what comes next from the view
//! and the log, and waits only when there is nothing. Positions advance with what was handed out, never ahead of it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use steeple_engine::domain::CATALOG;
use steeple_engine::event::{Event, StreamItem};
use steeple_engine::ids::{NamespaceId, Revision, StreamId, StreamSequence};
use steeple_engine::simulation::{Bug, is_planted};
use steeple_engine::view::{Reader, StreamRow, StreamState, ViewReader};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::core::Events;
use super::{Node, QueryError};

/// How long a tail looks through rows that are not followed before it says where it is.
const BEHIND_TURN: Duration = Duration::from_secs(1);

/// Rows read of each stream in one turn.
const CHUNK: usize = 256;

/// Where a consumer stands in one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamPosition {
    /// The stream.
    pub stream: StreamId,
    /// The last item handed out; zero for none.
    pub after: StreamSequence,
}

/// What one event has for the consumer.
#[derive(Clone, Debug)]
pub struct TailItem {
    /// The event.
    pub event: Arc<Event>,
    /// Its items that the consumer follows, in stream order; never empty.
    pub items: Vec<StreamItem>,
}

/// Why a tail cannot go on.
#[derive(Debug, Error)]
pub enum TailError {
    /// Items that come next were pruned.
    #[error("stream {} is compacted up to {oldest}: the item after {after} is no longer kept", name(*.stream))]
    Compacted {
        /// The stream.
        stream: StreamId,
        /// Where the consumer stood.
        after: StreamSequence,
        /// The oldest item left.
        oldest: StreamSequence,
    },
    /// The position lies beyond the stream's end.
    #[error("stream {} ends at {last}: there is nothing after {after} to wait for yet", name(*.stream))]
    Ahead {
        /// The stream.
        stream: StreamId,
        /// Where the consumer claims to stand.
        after: StreamSequence,
        /// The newest item.
        last: StreamSequence,
    },
    /// The node serves as many tails as it was configured to.
    #[error("the node serves {max} tails already, the limit: try another node, or later")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The view or the log failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

/// The name of a stream; its number where this build has none for it.
fn name(id: StreamId) -> String {
    CATALOG.stream(id).map_or_else(|| id.to_string(), |stream| stream.name.to_owned())
}

/// Rows of several streams, gathered by the event that made them.
type RowsByEvent = BTreeMap<Revision, Vec<(StreamId, StreamRow)>>;

/// A consumer of one or more streams of a namespace.
pub struct Tail {
    node: Node,
    namespace: NamespaceId,
    positions: Vec<StreamPosition>,
    /// Only items about these; all when there is none.
    keys: Option<HashSet<Vec<u8>>>,
    folded: watch::Receiver<Revision>,
    failure: watch::Receiver<Option<String>>,
    /// Given back when the tail is dropped.
    _permit: OwnedSemaphorePermit,
    /// Events read and not yet handed out, each with the positions that hold once it is.
    ready: VecDeque<(Option<TailItem>, Vec<StreamPosition>)>,
    /// Whether the last look found rows, so that there may be more.
    behind: bool,
}

impl Node {
    /// Follows streams from positions. Opening fails where reading on from there would.
    ///
    /// # Errors
    /// See [`TailError`].
    pub fn tail(
        &self,
        namespace: NamespaceId,
        positions: Vec<StreamPosition>,
        keys: Option<HashSet<Vec<u8>>>,
    ) -> Result<Tail, TailError> {
        let max = self.shared.options.tails_max;
        let permit = Arc::clone(&self.shared.tails).try_acquire_owned().map_err(|_| TailError::TooMany { max })?;
        // Subscribed before the first look, so that nothing folded in between is missed.
        let folded = self.watch();
        self.read(|reader| {
            for position in &positions {
                let state = reader.stream(namespace, position.stream);
                check_position(*position, state)?;
                if position.after > state.last {
                    let StreamPosition { stream, after } = *position;
                    return Err(TailError::Ahead { stream, after, last: state.last });
                }
            }
            Ok(())
        })?;
        let failure = self.shared.failure.subscribe();
        let mut positions = positions;
        if is_planted(Bug::TailRepeatsItem) {
            let back = |position: &mut StreamPosition| position.after.0 = position.after.0.saturating_sub(1);
            positions.iter_mut().for_each(back);
        }
        Ok(Tail {
            node: self.clone(),
            namespace,
            positions,
            keys,
            folded,
            failure,
            _permit: permit,
            ready: VecDeque::new(),
            behind: true,
        })
    }
}

impl Node {
    /// The oldest item of a stream that a tail can hand out; the one to come when there is none.
    ///
    /// It may lie above the stream's mark: a node that was restored from a snapshot without events has the rows of
    /// items whose events it never had.
    ///
    /// # Errors
    /// When the view cannot be read.
    pub fn oldest_followable(&self, namespace: NamespaceId, stream: StreamId) -> Result<StreamSequence, QueryError> {
        let core = self.shared.core();
        let base = Revision(core.log.base_tag());
        let reader = core.view.read();
        let kept = |sequence: u64| {
            let rows = reader.stream_rows(namespace, stream, StreamSequence(sequence.saturating_sub(1)), 1)?;
            Ok::<_, QueryError>(rows.first().is_none_or(|row| row.revision > base))
        };
        let state = reader.stream(namespace, stream);
        let (mut oldest, mut end) = (state.low_water.0, state.last.next().0);
        if kept(oldest)? {
            return Ok(state.low_water);
        }
        // Items are in the order of their events.
        while oldest < end {
            let middle = oldest + (end - oldest) / 2;
            if kept(middle)? {
                end = middle;
            } else {
                oldest = middle + 1;
            }
        }
        Ok(StreamSequence(oldest))
    }
}

impl Tail {
    /// The next event, or `None` when there is none within `patience`; [`Tail::positions`] may have advanced even then.
    /// While rows that are not followed are passed over, `None` comes every now and then, and [`Tail::is_behind`] says so.
    ///
    /// # Errors
    /// See [`TailError`].
    pub async fn next(&mut self, patience: Duration) -> Result<Option<TailItem>, TailError> {
        let now = tokio::time::Instant::now();
        let (deadline, turn_end) = (now + patience, now + patience.max(BEHIND_TURN));
        loop {
            if let Some(item) = self.take_ready() {
                return Ok(Some(item));
            }
            self.look()?;
            if self.behind {
                if tokio::time::Instant::now() >= turn_end && self.pass_over_ready() {
                    return Ok(None);
                }
                // Rows that nobody follows may go on for long; others want the thread too.
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                folded = tokio::time::timeout_at(deadline, self.folded.changed()) => match folded {
                    Err(_) => return Ok(None),
                    Ok(Err(_)) => return Err(TailError::Stopped),
                    Ok(Ok(())) => {}
                },
                // Nothing more will come; what was folded until now has been handed out.
                _ = self.failure.wait_for(Option::is_some) => return Err(TailError::Stopped),
            }
        }
    }

    /// The next event, if there is one now; [`Tail::positions`] may have advanced even when there is none.
    ///
    /// # Errors
    /// See [`TailError`].
    pub fn try_next(&mut self) -> Result<Option<TailItem>, TailError> {
        loop {
            if let Some(item) = self.take_ready() {
                return Ok(Some(item));
            }
            self.look()?;
            if !self.behind {
                return Ok(None);
            }
        }
    }

    /// The first event that was read and is for the consumer, which then stands behind it.
    fn take_ready(&mut self) -> Option<TailItem> {
        while let Some((item, positions)) = self.ready.pop_front() {
            self.positions = positions;
            if is_planted(Bug::TailAheadOfDelivery)
                && let Some((_, positions)) = self.ready.back()
            {
                self.positions = positions.clone();
            }
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// Looks for what comes next.
    fn look(&mut self) -> Result<(), TailError> {
        self.folded.borrow_and_update();
        self.behind = match self.read_chunk() {
            // Everybody is woken once what comes next can be read again.
            Err(TailError::Query(QueryError::Replaced)) => !self.ready.is_empty(),
            read => read?,
        };
        Ok(())
    }

    /// Whether the tail has more to look through before it has caught up.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.behind
    }

    /// Moves on when nothing that was read is for the consumer.
    fn pass_over_ready(&mut self) -> bool {
        let nothing = self.ready.iter().all(|(item, _)| item.is_none());
        if nothing && let Some((_, positions)) = self.ready.drain(..).next_back() {
            self.positions = positions;
        }
        nothing
    }

    /// Where the consumer stands after what was handed out.
    #[must_use]
    pub fn positions(&self) -> &[StreamPosition] {
        &self.positions
    }

    /// Reads the rows that come next; whether there were any.
    fn read_chunk(&mut self) -> Result<bool, TailError> {
        let core = self.node.shared.core();
        let mut limit = CHUNK;
        let rows = loop {
            let (rows, cut) = self.rows(&core.view.read(), limit)?;
            // Items of one event are handed out together, so a chunk has to hold all of at least one.
            if !rows.is_empty() || !cut {
                break rows;
            }
            limit *= 4;
        };
        let mut positions = self.positions.clone();
        let found = !rows.is_empty();
        let mut events = self.node.shared.events_in(&core);
        for (revision, rows) in rows {
            for (stream, row) in &rows {
                advance(&mut positions, *stream, row.sequence);
            }
            let wanted =
                |(_, row): &(StreamId, StreamRow)| self.keys.as_ref().is_none_or(|keys| keys.contains(&row.key[..]));
            let item = if rows.iter().any(wanted) { Some(self.item(&mut events, revision, &rows)?) } else { None };
            self.ready.push_back((item, positions.clone()));
        }
        Ok(found)
    }

    /// Rows of all streams by event, and whether some were left out. An event is whole or left out.
    fn rows(&self, reader: &ViewReader<'_>, limit: usize) -> Result<(RowsByEvent, bool), TailError> {
        let mut events = RowsByEvent::new();
        let mut whole_below = None;
        for position in &self.positions {
            check_position(*position, reader.stream(self.namespace, position.stream))?;
            let rows =
                reader.stream_rows(self.namespace, position.stream, position.after, limit).map_err(QueryError::from)?;
            if rows.len() == limit
                && let Some(last) = rows.last()
            {
                whole_below = Some(whole_below.map_or(last.revision, |below: Revision| below.min(last.revision)));
            }
            for row in rows {
                events.entry(row.revision).or_default().push((position.stream, row));
            }
        }
        if let Some(below) = whole_below {
            events.split_off(&below);
        }
        Ok((events, whole_below.is_some()))
    }

    fn item(
        &self,
        events: &mut Events<'_>,
        revision: Revision,
        rows: &[(StreamId, StreamRow)],
    ) -> Result<TailItem, TailError> {
        let event = match events.read(revision) {
            Ok(event) => event,
            Err(QueryError::Compacted(_)) => return Err(self.compacted(rows)?),
            Err(error) => return Err(error.into()),
        };
        let followed = |item: &&StreamItem| {
            rows.iter().any(|(stream, row)| *stream == item.stream && row.sequence == item.sequence)
                && self.keys.as_ref().is_none_or(|keys| keys.contains(&item.key))
        };
        let items = event.items.iter().filter(followed).cloned().collect();
        Ok(TailItem { event, items })
    }

    /// A row was there a moment ago and its event is not: the mark was raised in between, or the event never was here.
    fn compacted(&self, rows: &[(StreamId, StreamRow)]) -> Result<TailError, QueryError> {
        let Some((stream, row)) = rows.first() else { return Ok(TailError::Stopped) };
        let oldest = self.node.oldest_followable(self.namespace, *stream)?;
        let after = StreamSequence(row.sequence.0.saturating_sub(1));
        Ok(TailError::Compacted { stream: *stream, after, oldest })
    }
}

fn check_position(position: StreamPosition, state: StreamState) -> Result<(), TailError> {
    if position.after < state.last && position.after.next() < state.low_water && !is_planted(Bug::TailSkipsPruned) {
        let StreamPosition { stream, after } = position;
        return Err(TailError::Compacted { stream, after, oldest: state.low_water });
    }
    Ok(())
}

fn advance(positions: &mut [StreamPosition], stream: StreamId, to: StreamSequence) {
    for position in positions.iter_mut().filter(|position| position.stream == stream) {
        position.after = position.after.max(to);
    }
}
