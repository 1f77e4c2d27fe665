//! Folding: what an event writes into the record store, as a pure function of the event alone.
//!
//! Folding an event twice writes the same keys with the same values, so a crash between the store and anything
//! else is mended by folding again from a point that is old enough.

use super::keys::{StoreKey, record_value, row_value, sequence_value, stream_value};
use super::reader::{StreamRow, StreamState};
use crate::event::{Change, Event, StreamItem};
use crate::ids::{NamespaceId, StreamSequence};
use crate::record_store::WriteBatch;

/// Adds the raw writes of an event: records, counters, stream rows, marks. The folded position is not among them.
pub fn raw_writes(event: &Event, batch: &mut WriteBatch) {
    for change in &event.changes {
        write_change(event, change, batch);
    }
    for item in &event.items {
        batch.put(
            StoreKey::Row(event.namespace, item.stream, item.sequence).encode(),
            row_value(&stream_row(event, item)),
        );
    }
    for mark in &event.marks {
        for sequence in mark.from.0..mark.to.0 {
            batch.delete(StoreKey::Row(event.namespace, mark.stream, StreamSequence(sequence)).encode());
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

/// Adds the write of a stream's state, which depends on all events so far and is therefore written once a batch.
pub(super) fn write_stream_state(
    namespace: NamespaceId,
    stream: crate::ids::StreamId,
    state: StreamState,
    batch: &mut WriteBatch,
) {
    batch.put(StoreKey::StreamState(namespace, stream).encode(), stream_value(state));
}

fn write_change(event: &Event, change: &Change, batch: &mut WriteBatch) {
    let key = StoreKey::Record(event.namespace, change.table, change.sequence).encode();
    match &change.after {
        Some(after) => batch.put(key, record_value(event.revision, after)),
        None => batch.delete(key),
    }
    if change.before.is_none() {
        // Creations come in sequence order, so the last one written is the highest.
        batch.put(StoreKey::LastSequence(event.namespace, change.table).encode(), sequence_value(change.sequence));
    }
}
