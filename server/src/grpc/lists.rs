//! Long lists, read piece by piece so that folding never waits long for a reader.
//!
//! A list that is read in several pieces is not the state of one revision: each record is as it was when its piece was
//! read, and what is created meanwhile may appear at the end.

use prost::Message;
use steeple_engine::ids::{NamespaceId, Sequence, StreamId, StreamSequence};
use steeple_engine::spire::entries::queries::{EntryFilter, list_entries_chunk};
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::events::queries::{EventRange, events_chunk, is_nothing_within};
use steeple_engine::spire::nodes::queries::{ListNodes, NodeRecord, list_node_selectors_chunk, list_nodes_chunk};
use steeple_engine::spire::nodes::records::NodeSelectors;
use steeple_engine::spire::pages::Chunk;
use steeple_engine::spire::{self};
use steeple_engine::view::{Record, StreamRow, ViewReader};
use steeple_wire::CHUNK_BYTES;
use steeple_wire::spire::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::convert::{self, times};
use super::scope::{Scope, blocking, too_large};
use super::{errors, limits, sending};

/// Messages of a stream that wait for a slow reader at the most.
const MESSAGES_WAITING_MAX: usize = 2;

/// A list that can be read piece by piece.
pub(crate) trait Pieces: Clone + Send + Sync + 'static {
    /// What is read under the lock.
    type Stored: Send;
    /// What is sent.
    type Item: Message + Send + 'static;

    /// Reads up to `limit` records behind `after`.
    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Self::Stored>, spire::Error>;

    /// Whether there is nothing behind `after`, if memory alone tells. Whoever looks for news mostly finds none, and need
    /// not be sent to another thread for that.
    fn ends_at(&self, _scope: &Scope, _after: Sequence) -> bool {
        false
    }

    /// Number of a record.
    fn sequence(stored: &Self::Stored) -> Sequence;

    /// The record as it is sent; outside the lock.
    fn decode(stored: Self::Stored) -> Result<Self::Item, spire::Error>;

    /// One piece, ready to be sent, with the number of its last record and where the next one starts.
    fn read_piece(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Piece<Self::Item>, Status> {
        let chunk = scope.read(|reader, namespace| self.piece(reader, namespace, after, limit))?;
        let last = chunk.items.last().map(Self::sequence);
        let items = chunk.items.into_iter().map(Self::decode).collect::<Result<_, _>>();
        Ok(Piece { items: items.map_err(|error| errors::refused(&error))?, last, next: chunk.next })
    }

    /// Up to `limit` records behind `after` in one answer, and the number of the last one.
    async fn collect(
        self,
        scope: &Scope,
        after: Sequence,
        limit: usize,
        instead: &'static str,
    ) -> Result<(Vec<Self::Item>, Option<Sequence>), Status> {
        if self.ends_at(scope, after) {
            return Ok((Vec::new(), None));
        }
        let scope = scope.clone();
        blocking(move || self.collect_now(&scope, after, limit, instead)).await
    }

    /// As [`Pieces::collect`], on this thread.
    fn collect_now(
        &self,
        scope: &Scope,
        after: Sequence,
        limit: usize,
        instead: &str,
    ) -> Result<(Vec<Self::Item>, Option<Sequence>), Status> {
        let (mut items, mut last, mut next, mut bytes) = (Vec::new(), None, Some(after), 0);
        while let Some(after) = next
            && items.len() < limit
        {
            let mut piece = self.read_piece(scope, after, (limit - items.len()).min(limits::READ_STEP))?;
            bytes += piece.items.iter().map(|item| item.encoded_len() + limits::ITEM_FRAME_BYTES).sum::<usize>();
            if bytes > limits::ANSWER_BYTES_MAX {
                return Err(too_large(&format!("use {instead}, or ask for pages")));
            }
            items.append(&mut piece.items);
            last = piece.last.or(last);
            next = piece.next;
        }
        Ok((items, last))
    }

    /// Up to `limit` records behind `after`, in messages of about a mebibyte, each with the newest revision that it or one
    /// before it shows anything of.
    fn stream<M: Send + 'static>(
        self,
        scope: Scope,
        after: Sequence,
        limit: usize,
        pack: fn(Vec<Self::Item>, u64) -> M,
    ) -> ReceiverStream<Result<M, Status>> {
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        if self.ends_at(&scope, after) {
            return ReceiverStream::new(messages);
        }
        tokio::spawn(async move {
            if let Err(status) = send(&self, &scope, after, limit, pack, &sender).await {
                // Whoever has gone needs no error.
                sending::send(&sender, Err(status)).await;
            }
        });
        ReceiverStream::new(messages)
    }
}

/// One piece of a list.
pub(crate) struct Piece<Item> {
    items: Vec<Item>,
    last: Option<Sequence>,
    next: Option<Sequence>,
}

async fn send<P: Pieces, M>(
    pieces: &P,
    scope: &Scope,
    after: Sequence,
    limit: usize,
    pack: fn(Vec<P::Item>, u64) -> M,
    sender: &mpsc::Sender<Result<M, Status>>,
) -> Result<(), Status> {
    let (mut next, mut left, mut told) = (Some(after), limit, scope.shown());
    while let Some(after) = next
        && left > 0
    {
        let (reading, looking) = (pieces.clone(), scope.clone());
        let piece = blocking(move || reading.read_piece(&looking, after, left.min(limits::READ_STEP))).await?;
        left -= piece.items.len().min(left);
        next = piece.next;
        for items in split(piece.items, CHUNK_BYTES) {
            told = scope.shown();
            if sending::send(sender, Ok(pack(items, told.0))).await.is_none() {
                return Ok(());
            }
        }
    }
    if scope.shown() > told {
        // That nothing more was there is news as well. Whoever has gone needs none.
        sending::send(sender, Ok(pack(Vec::new(), scope.shown().0))).await;
    }
    Ok(())
}

/// Cuts a list so that no part but one of a single item is much larger than `bytes`.
pub(crate) fn split<M: Message>(items: Vec<M>, bytes: usize) -> Vec<Vec<M>> {
    let (mut parts, mut part, mut part_bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let item_bytes = item.encoded_len();
        if !part.is_empty() && part_bytes + item_bytes > bytes {
            parts.push(std::mem::take(&mut part));
            part_bytes = 0;
        }
        part_bytes += item_bytes;
        part.push(item);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// Registration entries.
#[derive(Clone)]
pub(crate) struct Entries {
    pub(crate) filter: EntryFilter,
}

impl Pieces for Entries {
    type Stored = Record;
    type Item = wire::RegistrationEntry;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Record>, spire::Error> {
        list_entries_chunk(reader, namespace, &self.filter, after, limit)
    }

    fn sequence(stored: &Record) -> Sequence {
        stored.sequence
    }

    fn decode(stored: Record) -> Result<wire::RegistrationEntry, spire::Error> {
        Ok(convert::entries::to_wire(Entry::decode(&stored.body)?))
    }
}

/// Attested nodes.
#[derive(Clone)]
pub(crate) struct Nodes {
    pub(crate) list: ListNodes,
}

impl Pieces for Nodes {
    type Stored = NodeRecord;
    type Item = wire::AttestedNode;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<NodeRecord>, spire::Error> {
        list_nodes_chunk(reader, namespace, &self.list, after, limit)
    }

    fn sequence(stored: &NodeRecord) -> Sequence {
        stored.node.sequence
    }

    fn decode(stored: NodeRecord) -> Result<wire::AttestedNode, spire::Error> {
        Ok(convert::nodes::with_selectors_to_wire(stored.decode()?))
    }
}

/// Node selectors.
#[derive(Clone)]
pub(crate) struct Selectors {
    valid_at: i64,
}

impl Selectors {
    pub(crate) fn new(valid_at_micros: i64) -> Self {
        Self { valid_at: times::optional_round_down(valid_at_micros) }
    }
}

impl Pieces for Selectors {
    type Stored = Record;
    type Item = wire::NodeSelectors;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Record>, spire::Error> {
        list_node_selectors_chunk(reader, namespace, self.valid_at, after, limit)
    }

    fn sequence(stored: &Record) -> Sequence {
        stored.sequence
    }

    fn decode(stored: Record) -> Result<wire::NodeSelectors, spire::Error> {
        Ok(convert::nodes::selectors_record_to_wire(NodeSelectors::decode(&stored.body)?))
    }
}

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

    fn ends_at(&self, scope: &Scope, after: Sequence) -> bool {
        let range = self.range_behind(after);
        scope.look(|reader| is_nothing_within(reader, scope.namespace, self.stream, range))
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
                type Item = wire::$item;

                fn piece(
                    &self,
                    reader: &ViewReader<'_>,
                    namespace: NamespaceId,
                    after: Sequence,
                    limit: usize,
                ) -> Result<Chunk<StreamRow>, spire::Error> {
                    self.0.piece(reader, namespace, after, limit)
                }

                fn ends_at(&self, scope: &Scope, after: Sequence) -> bool {
                    self.0.ends_at(scope, after)
                }

                fn sequence(stored: &StreamRow) -> Sequence {
                    Sequence(stored.sequence.0)
                }

                fn decode(stored: StreamRow) -> Result<wire::$item, spire::Error> {
                    Ok($decode(stored))
                }
            }
        )*
    };
}

event_pieces! {
    EntryEvents => RegistrationEntryEvent: entry_event;
    NodeEvents => AttestedNodeEvent: node_event;
}

/// What a row is about, as text. Keys of both streams are texts of requests.
pub(crate) fn key_text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

/// Microseconds as the protocol has them.
pub(crate) fn micros(time: steeple_engine::ids::Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
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

pub(crate) fn decode_entries(records: Vec<Record>) -> Result<Vec<wire::RegistrationEntry>, Status> {
    let entries = records.into_iter().map(Entries::decode).collect::<Result<_, _>>();
    entries.map_err(|error| errors::refused(&error))
}

pub(crate) fn decode_nodes(records: Vec<NodeRecord>) -> Result<Vec<wire::AttestedNode>, Status> {
    let nodes = records.into_iter().map(Nodes::decode).collect::<Result<_, _>>();
    nodes.map_err(|error| errors::refused(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(bytes: usize) -> wire::Selector {
        wire::Selector { r#type: String::new(), value: "x".repeat(bytes) }
    }

    #[test]
    fn parts_are_no_larger_than_asked_unless_one_item_is() {
        let sizes = |parts: Vec<Vec<wire::Selector>>| parts.iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(split(vec![selector(40), selector(40), selector(40)], 100)), [2, 1]);
        assert_eq!(sizes(split(vec![selector(40), selector(400), selector(40)], 100)), [1, 1, 1]);
        assert_eq!(sizes(split(Vec::<wire::Selector>::new(), 100)), Vec::<usize>::new());
    }
}
