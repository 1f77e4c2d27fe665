//! Items of the streams as SPIRE's events.

use steeple_engine::ids::{NamespaceId, Sequence, StreamId, StreamSequence};
use steeple_engine::spire;
use steeple_engine::spire::events::queries::{EventRange, events_chunk, list_few_events};
use steeple_engine::spire::pages::Chunk;
use steeple_engine::view::{StreamRow, ViewReader};
use steeple_wire::spire::v1 as wire;
use tonic::Status;

use super::{FEW, Items, Pieces};
use crate::grpc::convert::{key_text, micros};
use crate::grpc::errors;

/// Items of a stream, as SPIRE's events.
#[derive(Clone, Copy)]
pub(crate) struct Events {
    stream: StreamId,
    range: EventRange,
    limit: u32,
}

impl Events {
    pub(crate) fn new(stream: StreamId, greater_than: u64, less_than: u64, limit: u32) -> Result<Self, Status> {
        let range = EventRange::new(greater_than, less_than).map_err(|error| errors::refused(&error.into()))?;
        Ok(Self { stream, range, limit })
    }

    /// Where the list begins. Stream numbers stand in for the numbers of records.
    pub(crate) fn after(&self) -> Sequence {
        Sequence(self.range.after.0)
    }

    /// Events at the most.
    pub(crate) fn limit(&self) -> usize {
        if self.limit == 0 { usize::MAX } else { self.limit as usize }
    }

    fn range_behind(&self, after: Sequence) -> EventRange {
        EventRange { after: StreamSequence(after.0), ..self.range }
    }

    fn few(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Option<Vec<StreamRow>>, spire::Error> {
        list_few_events(reader, namespace, self.stream, self.range_behind(after), limit, FEW)
    }

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<StreamRow>, spire::Error> {
        let range = self.range_behind(after);
        let items = events_chunk(reader, namespace, self.stream, range, limit)?;
        let next = items.last().filter(|_| items.len() >= limit).map(|row| Sequence(row.sequence.0));
        Ok(Chunk { items, next })
    }
}

/// Events of registration entries.
#[derive(Clone, Copy)]
pub(crate) struct EntryEvents(pub(crate) Events);

/// Events of attested nodes.
#[derive(Clone, Copy)]
pub(crate) struct NodeEvents(pub(crate) Events);

macro_rules! event_pieces {
    ($($pieces:ident => $item:ident: $decode:ident;)*) => {
        $(
            impl Pieces for $pieces {
                type Stored = StreamRow;
                type Sent = Items<wire::$item>;

                fn piece(
                    &self,
                    reader: &ViewReader<'_>,
                    namespace: NamespaceId,
                    after: Sequence,
                    limit: usize,
                ) -> Result<Chunk<StreamRow>, spire::Error> {
                    self.0.piece(reader, namespace, after, limit)
                }

                fn sequence(stored: &StreamRow) -> Sequence {
                    Sequence(stored.sequence.0)
                }

                fn few(
                    &self,
                    reader: &ViewReader<'_>,
                    namespace: NamespaceId,
                    after: Sequence,
                    limit: usize,
                ) -> Result<Option<Vec<StreamRow>>, spire::Error> {
                    self.0.few(reader, namespace, after, limit)
                }

                fn add(sent: &mut Items<wire::$item>, stored: StreamRow) -> Result<(), spire::Error> {
                    sent.push($decode(stored));
                    Ok(())
                }
            }
        )*
    };
}

event_pieces! {
    EntryEvents => RegistrationEntryEvent: entry_event;
    NodeEvents => AttestedNodeEvent: node_event;
}

pub(crate) fn entry_event(row: StreamRow) -> wire::RegistrationEntryEvent {
    wire::RegistrationEntryEvent {
        event_id: row.sequence.0,
        entry_id: key_text(&row.key),
        created_at_micros: micros(row.time),
    }
}

pub(crate) fn node_event(row: StreamRow) -> wire::AttestedNodeEvent {
    wire::AttestedNodeEvent {
        event_id: row.sequence.0,
        spiffe_id: key_text(&row.key),
        created_at_micros: micros(row.time),
    }
}
