//! Items of the streams as SPIRE's events.

use std::marker::PhantomData;

use prost::Message;
use steeple_engine::ids::{NamespaceId, Sequence, StreamId, StreamSequence};
use steeple_engine::spire::events::queries::{EventRange, events_chunk, list_few_events};
use steeple_engine::spire::pages::Chunk;
use steeple_engine::spire::{self, NODES, REGISTRATIONS};
use steeple_engine::view::{StreamRow, ViewReader};
use steeple_wire::spire::v1 as wire;
use tonic::Status;

use super::{FEW, Items, Pieces};
use crate::grpc::convert::{key_text, micros};
use crate::grpc::errors;

/// What SPIRE calls an event of one of the streams.
pub(crate) trait EventMessage: Message + Clone + 'static {
    /// The stream that it is of.
    const STREAM: StreamId;

    /// An item of that stream as a message.
    fn of(row: StreamRow) -> Self;
}

impl EventMessage for wire::RegistrationEntryEvent {
    const STREAM: StreamId = REGISTRATIONS;

    fn of(row: StreamRow) -> Self {
        Self { event_id: row.sequence.0, entry_id: key_text(&row.key), created_at_micros: micros(row.time) }
    }
}

impl EventMessage for wire::AttestedNodeEvent {
    const STREAM: StreamId = NODES;

    fn of(row: StreamRow) -> Self {
        Self { event_id: row.sequence.0, spiffe_id: key_text(&row.key), created_at_micros: micros(row.time) }
    }
}

/// Items of a stream, as SPIRE's events.
#[derive(Clone)]
pub(crate) struct Events<M> {
    range: EventRange,
    limit: u32,
    message: PhantomData<fn() -> M>,
}

impl<M: EventMessage> Events<M> {
    pub(crate) fn new(greater_than: u64, less_than: u64, limit: u32) -> Result<Self, Status> {
        let range = EventRange::new(greater_than, less_than).map_err(|error| errors::refused(&error.into()))?;
        Ok(Self { range, limit, message: PhantomData })
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
}

impl<M: EventMessage> Pieces for Events<M> {
    type Stored = StreamRow;
    type Sent = Items<M>;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<StreamRow>, spire::Error> {
        let range = self.range_behind(after);
        let items = events_chunk(reader, namespace, M::STREAM, range, limit)?;
        let next = items.last().filter(|_| items.len() >= limit).map(|row| Sequence(row.sequence.0));
        Ok(Chunk { items, next })
    }

    fn few(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Option<Vec<StreamRow>>, spire::Error> {
        list_few_events(reader, namespace, M::STREAM, self.range_behind(after), limit, FEW)
    }

    fn sequence(stored: &StreamRow) -> Sequence {
        Sequence(stored.sequence.0)
    }

    fn add(sent: &mut Items<M>, stored: StreamRow) -> Result<(), spire::Error> {
        sent.push(M::of(stored));
        Ok(())
    }
}
