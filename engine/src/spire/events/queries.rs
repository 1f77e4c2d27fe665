//! What can be asked about the event streams.
//!
//! A row's key is the entry id or SPIFFE ID; its number is the event ID.

use super::Error;
use crate::ids::{NamespaceId, StreamId, StreamSequence};
use crate::spire::pages::Few;
use crate::spire::{self, NODES, REGISTRATIONS};
use crate::view::{Reader, StreamRow};

/// Which events are listed (8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRange {
    /// Exclusive.
    pub after: StreamSequence,
    /// Exclusive; `None` for no bound.
    pub before: Option<StreamSequence>,
}

impl EventRange {
    /// The range between two event IDs, both exclusive; 0 means absent.
    ///
    /// # Errors
    /// When both are given.
    pub fn new(greater_than: u64, less_than: u64) -> Result<Self, Error> {
        if greater_than > 0 && less_than > 0 {
            return Err(Error::TwoBounds);
        }
        let before = (less_than > 0).then_some(StreamSequence(less_than));
        Ok(Self { after: StreamSequence(greater_than), before })
    }
}

/// The event before the first one of a stream within `range`, and how many there are, if there are any.
fn bounds_within(
    reader: &dyn Reader,
    namespace: NamespaceId,
    stream: StreamId,
    range: EventRange,
) -> Option<(StreamSequence, u64)> {
    let state = reader.stream(namespace, stream);
    let after = range.after.0.max(state.low_water.0.saturating_sub(1));
    let end = range.before.map_or(state.last.0, |before| state.last.0.min(before.0.saturating_sub(1)));
    (after < end).then(|| (StreamSequence(after), end - after))
}

/// Up to `limit` events of a stream within `range`, ascending. Fewer mean that there are no more; else the next
/// piece starts after the last one.
///
/// # Errors
/// When the state cannot be read.
pub fn events_chunk(
    reader: &dyn Reader,
    namespace: NamespaceId,
    stream: StreamId,
    range: EventRange,
    limit: usize,
) -> Result<Vec<StreamRow>, spire::Error> {
    let Some((after, within)) = bounds_within(reader, namespace, stream, range) else { return Ok(Vec::new()) };
    let within = usize::try_from(within).unwrap_or(usize::MAX);
    Ok(reader.stream_rows(namespace, stream, after, within.min(limit))?)
}

/// Up to `limit` events of a stream within `range`, if those are few. That there are none, or many, is told from memory.
///
/// # Errors
/// When the state cannot be read.
pub fn list_few_events(
    reader: &dyn Reader,
    namespace: NamespaceId,
    stream: StreamId,
    range: EventRange,
    limit: usize,
    few: Few,
) -> Result<Option<Vec<StreamRow>>, spire::Error> {
    let within = bounds_within(reader, namespace, stream, range).map_or(0, |(_, within)| within);
    let within = usize::try_from(within).unwrap_or(usize::MAX).min(limit);
    if within > few.records {
        return Ok(None);
    }
    events_chunk(reader, namespace, stream, range, within).map(Some)
}

/// All events of a stream within two bounds (8.2).
///
/// # Errors
/// When both bounds are given or the state cannot be read.
pub fn list_events(
    reader: &dyn Reader,
    namespace: NamespaceId,
    stream: StreamId,
    greater_than: u64,
    less_than: u64,
) -> Result<Vec<StreamRow>, spire::Error> {
    let range = EventRange::new(greater_than, less_than)?;
    events_chunk(reader, namespace, stream, range, usize::MAX)
}

/// One event of a stream (8.3).
///
/// # Errors
/// When there is no such event or the state cannot be read.
pub fn fetch_event(
    reader: &dyn Reader,
    namespace: NamespaceId,
    stream: StreamId,
    event_id: u64,
) -> Result<StreamRow, spire::Error> {
    let before = event_id.checked_sub(1).ok_or(Error::NotFound)?;
    let range = EventRange { after: StreamSequence(before), before: Some(StreamSequence(event_id.saturating_add(1))) };
    let row = events_chunk(reader, namespace, stream, range, 1)?.into_iter().next();
    Ok(row.filter(|row| row.sequence.0 == event_id).ok_or(Error::NotFound)?)
}

/// The newest event of a stream that there ever was; 0 when there never was one.
pub fn last_event_id(reader: &dyn Reader, namespace: NamespaceId, stream: StreamId) -> u64 {
    reader.stream(namespace, stream).last.0
}

/// [`list_events`] of entries.
///
/// # Errors
/// As [`list_events`].
pub fn list_entry_events(
    reader: &dyn Reader,
    namespace: NamespaceId,
    greater_than: u64,
    less_than: u64,
) -> Result<Vec<StreamRow>, spire::Error> {
    list_events(reader, namespace, REGISTRATIONS, greater_than, less_than)
}

/// [`list_events`] of nodes.
///
/// # Errors
/// As [`list_events`].
pub fn list_node_events(
    reader: &dyn Reader,
    namespace: NamespaceId,
    greater_than: u64,
    less_than: u64,
) -> Result<Vec<StreamRow>, spire::Error> {
    list_events(reader, namespace, NODES, greater_than, less_than)
}

/// [`fetch_event`] of entries.
///
/// # Errors
/// As [`fetch_event`].
pub fn fetch_entry_event(
    reader: &dyn Reader,
    namespace: NamespaceId,
    event_id: u64,
) -> Result<StreamRow, spire::Error> {
    fetch_event(reader, namespace, REGISTRATIONS, event_id)
}

/// [`fetch_event`] of nodes.
///
/// # Errors
/// As [`fetch_event`].
pub fn fetch_node_event(reader: &dyn Reader, namespace: NamespaceId, event_id: u64) -> Result<StreamRow, spire::Error> {
    fetch_event(reader, namespace, NODES, event_id)
}
