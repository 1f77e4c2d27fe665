//! Folding: what an event writes into the record store, as a pure function of the event alone.
//!
//! A mark hides the rows below it at once and removes none of them: that is done afterwards (`removal.rs`), because a
//! mark may move past a million of them.
//!
//! Folding an event twice writes the same keys with the same values, so a crash between the store and anything
//! else is mended by folding again from a point that is old enough.

use super::keys::{StoreKey, record_value, row_value, sequence_value, stream_value};
use super::reader::{StreamRow, StreamState};
use crate::event::{Change, Event, StreamItem};
use crate::ids::{NamespaceId, Sequence, StreamId, TableId};
use crate::record_store::WriteBatch;
use crate::simulation::{Bug, is_planted};

/// Adds the raw writes of an event: records, counters, stream rows. The folded position is not among them.
pub fn raw_writes(event: &Event, batch: &mut WriteBatch) {
    record_writes(event, batch);
    for change in event.changes.iter().filter(|change| change.before.is_none()) {
        // Creations come in sequence order, so the last one written is the highest.
        write_last_sequence(event.namespace, change.table, change.sequence, batch);
    }
}

/// As [`raw_writes`], without the counters.
pub(super) fn record_writes(event: &Event, batch: &mut WriteBatch) {
    for change in &event.changes {
        write_change(event, change, batch);
    }
    let leaves_out = is_planted(Bug::StreamRowsLeftOut) && event.revision.0.is_multiple_of(7);
    for item in event.items.iter().filter(|_| !leaves_out) {
        let value = row_value(event.revision, event.time, item.change, &item.key);
        batch.put(StoreKey::Row(event.namespace, item.stream, item.sequence).encode(), value);
    }
}

/// The counters that a batch of events moves, each of which is written once, as the last event leaves it.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Few, so that lists are faster than maps.
    sequences: Vec<(NamespaceId, TableId, Sequence)>,
    streams: Vec<(NamespaceId, StreamId)>,
}

impl Counters {
    /// Notes what an event moves. Events come in revision order.
    pub(super) fn touch(&mut self, event: &Event) {
        for change in event.changes.iter().filter(|change| change.before.is_none()) {
            let own = |(namespace, table, _): &&mut (NamespaceId, TableId, Sequence)| {
                (*namespace, *table) == (event.namespace, change.table)
            };
            match self.sequences.iter_mut().find(own) {
                Some((.., last)) => *last = change.sequence,
                None => self.sequences.push((event.namespace, change.table, change.sequence)),
            }
        }
        let moved = event.items.iter().map(|item| item.stream).chain(event.marks.iter().map(|mark| mark.stream));
        for stream in moved.map(|stream| (event.namespace, stream)) {
            if !self.streams.contains(&stream) {
                self.streams.push(stream);
            }
        }
    }

    /// Adds the writes. `stream` says where a stream stands after the batch.
    pub(super) fn write(&self, stream: impl Fn(NamespaceId, StreamId) -> StreamState, batch: &mut WriteBatch) {
        for (namespace, table, last) in &self.sequences {
            write_last_sequence(*namespace, *table, *last, batch);
        }
        for (namespace, id) in &self.streams {
            write_stream_state(*namespace, *id, stream(*namespace, *id), batch);
        }
    }
}

/// The row that an item leaves in its stream.
#[must_use]
pub fn stream_row(event: &Event, item: &StreamItem) -> StreamRow {
    StreamRow {
        sequence: item.sequence,
        revision: event.revision,
        time: event.time,
        key: item.key.clone().into(),
        change: item.change,
    }
}

/// Adds the write of a stream's state, which depends on all events so far.
pub(super) fn write_stream_state(namespace: NamespaceId, stream: StreamId, state: StreamState, batch: &mut WriteBatch) {
    batch.put(StoreKey::StreamState(namespace, stream).encode(), stream_value(state));
}

fn write_change(event: &Event, change: &Change, batch: &mut WriteBatch) {
    let key = StoreKey::Record(event.namespace, change.table, change.sequence).encode();
    match &change.after {
        Some(after) => batch.put(key, record_value(event.revision, after)),
        None => batch.delete(key),
    }
}

fn write_last_sequence(namespace: NamespaceId, table: TableId, last: Sequence, batch: &mut WriteBatch) {
    batch.put(StoreKey::LastSequence(namespace, table).encode(), sequence_value(last));
}
