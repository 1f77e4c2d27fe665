//! Long lists, read piece by piece so that folding never waits long for a reader.
//!
//! A list that is read in several pieces is not the state of one revision: each record is as it was when its piece was
//! read, and what is created meanwhile may appear at the end.

use std::pin::Pin;
use std::task::{Context, Poll};

use prost::Message;
use steeple_engine::ids::{NamespaceId, Sequence, StreamId, StreamSequence};
use steeple_engine::spire::entries::queries::{EntryFilter, list_entries_chunk, list_few_entries};
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::events::queries::{EventRange, events_chunk, list_few_events};
use steeple_engine::spire::nodes::queries::{ListNodes, NodeRecord, list_node_selectors_chunk, list_nodes_chunk};
use steeple_engine::spire::nodes::records::NodeSelectors;
use steeple_engine::spire::pages::{Chunk, Few};
use steeple_engine::spire::{self};
use steeple_engine::view::{Record, StreamRow, ViewReader};
use steeple_wire::CHUNK_BYTES;
use steeple_wire::packed::{self, Packed};
use steeple_wire::spire::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::convert::{self, times};
use super::scope::{Scope, blocking, too_large};
use super::{errors, limits, sending};

/// Messages of a stream that wait for a slow reader at the most.
const MESSAGES_WAITING_MAX: usize = 2;

/// What makes a list a short one, which is read where the connection is served: sending it to another thread and its result
/// back takes as long as reading it. Others on the connection wait meanwhile, so it may take no longer than a few fetches.
/// The bytes are those before the last record, which may come to more: it is known how long a record is when it is read.
pub(super) const FEW: Few = Few { records: 64, bytes: 256 << 10 };

/// Records in the form that they are sent in.
pub(crate) trait Parcel: Default + Send + 'static {
    /// How long they are in a message, with what goes around each.
    fn bytes(&self) -> usize;
}

/// Records as messages.
pub(crate) struct Items<M> {
    items: Vec<M>,
    bytes: usize,
}

impl<M> Default for Items<M> {
    fn default() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }
}

impl<M: Message> Items<M> {
    fn push(&mut self, item: M) {
        self.bytes += item.encoded_len() + limits::ITEM_FRAME_BYTES;
        self.items.push(item);
    }
}

impl<M: Message + 'static> Parcel for Items<M> {
    fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<M> From<Items<M>> for Vec<M> {
    fn from(items: Items<M>) -> Self {
        items.items
    }
}

/// Registration entries as fields of a message.
#[derive(Default)]
pub(crate) struct EncodedEntries(Vec<u8>);

impl EncodedEntries {
    /// A message with these entries and whatever else it has.
    pub(crate) fn pack<M>(self, message: M) -> Packed<M> {
        Packed { encoded: self.0, message }
    }
}

impl Parcel for EncodedEntries {
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// What is sent of a list in one answer, and the number of its last record.
type Collected<Sent> = (Sent, Option<Sequence>);

/// A list that can be read piece by piece.
pub(crate) trait Pieces: Clone + Send + Sync + 'static {
    /// What is read under the lock.
    type Stored: Send;
    /// What is sent.
    type Sent: Parcel;

    /// Reads up to `limit` records behind `after`.
    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Self::Stored>, spire::Error>;

    /// All that is behind `after`, up to `limit` records, if it is little: their number is known from memory, and reading
    /// them ends where their bytes become many. That there is nothing, as whoever looks for news mostly finds, takes no read.
    fn few(
        &self,
        _reader: &ViewReader<'_>,
        _namespace: NamespaceId,
        _after: Sequence,
        _limit: usize,
    ) -> Result<Option<Vec<Self::Stored>>, spire::Error> {
        Ok(None)
    }

    /// Number of a record.
    fn sequence(stored: &Self::Stored) -> Sequence;

    /// Puts a record to those that are sent; outside the lock.
    fn add(sent: &mut Self::Sent, stored: Self::Stored) -> Result<(), spire::Error>;

    /// Records that were read elsewhere, in one answer; stops where they become too many bytes for one.
    fn gather(records: Vec<Self::Stored>, instead: &str) -> Result<Self::Sent, Status> {
        let mut sent = Self::Sent::default();
        for stored in records {
            Self::add(&mut sent, stored).map_err(|error| errors::refused(&error))?;
            if sent.bytes() > limits::ANSWER_BYTES_MAX {
                return Err(too_large(instead));
            }
        }
        Ok(sent)
    }

    /// A short list as a whole, and the number of its last record.
    fn read_few(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Option<Collected<Self::Sent>>, Status> {
        let few = scope.read(|reader, namespace| self.few(reader, namespace, after, limit))?;
        let Some(records) = few else { return Ok(None) };
        let (mut sent, last) = (Self::Sent::default(), records.last().map(Self::sequence));
        let added = records.into_iter().try_for_each(|stored| Self::add(&mut sent, stored));
        added.map_err(|error| errors::refused(&error))?;
        Ok(Some((sent, last)))
    }

    /// Up to `limit` records behind `after` in one answer, and the number of the last one.
    async fn collect(
        self,
        scope: &Scope,
        after: Sequence,
        limit: usize,
        instead: &'static str,
    ) -> Result<Collected<Self::Sent>, Status> {
        if let Some(few) = self.read_few(scope, after, limit)? {
            return Ok(few);
        }
        let scope = scope.clone();
        blocking(move || self.collect_now(&scope, after, limit, instead)).await
    }

    /// As [`Pieces::collect`], however many they are, on this thread.
    fn collect_now(
        &self,
        scope: &Scope,
        after: Sequence,
        limit: usize,
        instead: &str,
    ) -> Result<Collected<Self::Sent>, Status> {
        let (mut sent, mut last, mut next, mut left) = (Self::Sent::default(), None, Some(after), limit);
        while let Some(after) = next
            && left > 0
        {
            let chunk = self.read_chunk(scope, after, left)?;
            left -= chunk.items.len().min(left);
            last = chunk.items.last().map(Self::sequence).or(last);
            next = chunk.next;
            let added = chunk.items.into_iter().try_for_each(|stored| Self::add(&mut sent, stored));
            added.map_err(|error| errors::refused(&error))?;
            if sent.bytes() > limits::ANSWER_BYTES_MAX {
                return Err(too_large(&format!("use {instead}, or ask for pages")));
            }
        }
        Ok((sent, last))
    }

    /// The records of one piece.
    fn read_chunk(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Chunk<Self::Stored>, Status> {
        scope.read(|reader, namespace| self.piece(reader, namespace, after, limit.min(limits::READ_STEP)))
    }

    /// One piece, ready to be sent.
    fn read_piece(&self, scope: &Scope, after: Sequence, limit: usize) -> Result<Piece<Self::Sent>, Status> {
        let chunk = self.read_chunk(scope, after, limit)?;
        let mut piece = Piece { records: chunk.items.len(), parcels: Vec::new(), next: chunk.next };
        let mut sent = Self::Sent::default();
        for stored in chunk.items {
            Self::add(&mut sent, stored).map_err(|error| errors::refused(&error))?;
            if sent.bytes() >= CHUNK_BYTES {
                piece.parcels.push(std::mem::take(&mut sent));
            }
        }
        if sent.bytes() > 0 {
            piece.parcels.push(sent);
        }
        Ok(piece)
    }

    /// Up to `limit` records behind `after`, in messages of about a mebibyte, each with the newest revision that it or one
    /// before it shows anything of.
    fn stream<M: Send + 'static>(
        self,
        scope: Scope,
        after: Sequence,
        limit: usize,
        pack: fn(Self::Sent, u64) -> M,
    ) -> Result<Messages<M>, Status> {
        if let Some((sent, last)) = self.read_few(&scope, after, limit)? {
            // The answer's head tells the revision of a list without records.
            let message = last.map(|_| pack(sent, scope.shown().0));
            return Ok(Messages::Ready(message));
        }
        let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
        tokio::spawn(async move {
            if let Err(status) = send(&self, &scope, after, limit, pack, &sender).await {
                // Whoever has gone needs no error.
                sending::send(&sender, Err(status)).await;
            }
        });
        Ok(Messages::Coming(ReceiverStream::new(messages)))
    }
}

/// The messages of a list.
pub(crate) enum Messages<M> {
    /// A short list in one message, or nothing.
    Ready(Option<M>),
    /// They are read while they are sent.
    Coming(ReceiverStream<Result<M, Status>>),
}

impl<M: Unpin> Stream for Messages<M> {
    type Item = Result<M, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.get_mut() {
            Self::Ready(message) => Poll::Ready(message.take().map(Ok)),
            Self::Coming(messages) => Pin::new(messages).poll_next(context),
        }
    }
}

/// One piece of a list.
pub(crate) struct Piece<Sent> {
    parcels: Vec<Sent>,
    records: usize,
    next: Option<Sequence>,
}

async fn send<P: Pieces, M>(
    pieces: &P,
    scope: &Scope,
    after: Sequence,
    limit: usize,
    pack: fn(P::Sent, u64) -> M,
    sender: &mpsc::Sender<Result<M, Status>>,
) -> Result<(), Status> {
    let (mut next, mut left, mut told) = (Some(after), limit, scope.shown());
    while let Some(after) = next
        && left > 0
    {
        let (reading, looking) = (pieces.clone(), scope.clone());
        let piece = blocking(move || reading.read_piece(&looking, after, left)).await?;
        left -= piece.records.min(left);
        next = piece.next;
        for sent in piece.parcels {
            told = scope.shown();
            if sending::send(sender, Ok(pack(sent, told.0))).await.is_none() {
                return Ok(());
            }
        }
    }
    if scope.shown() > told {
        // That nothing more was there is news as well. Whoever has gone needs none.
        sending::send(sender, Ok(pack(P::Sent::default(), scope.shown().0))).await;
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
    type Sent = EncodedEntries;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Record>, spire::Error> {
        list_entries_chunk(reader, namespace, &self.filter, after, limit)
    }

    fn few(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Option<Vec<Record>>, spire::Error> {
        list_few_entries(reader, namespace, &self.filter, after, limit, FEW)
    }

    fn sequence(stored: &Record) -> Sequence {
        stored.sequence
    }

    fn add(sent: &mut EncodedEntries, stored: Record) -> Result<(), spire::Error> {
        convert::entries::put(&mut sent.0, packed::ENTRIES, Entry::view(&stored.body)?);
        Ok(())
    }
}

/// Attested nodes.
#[derive(Clone)]
pub(crate) struct Nodes {
    pub(crate) list: ListNodes,
}

impl Pieces for Nodes {
    type Stored = NodeRecord;
    type Sent = Items<wire::AttestedNode>;

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

    fn add(sent: &mut Items<wire::AttestedNode>, stored: NodeRecord) -> Result<(), spire::Error> {
        sent.push(convert::nodes::with_selectors_to_wire(stored.decode()?));
        Ok(())
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
    type Sent = Items<wire::NodeSelectors>;

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

    fn add(sent: &mut Items<wire::NodeSelectors>, stored: Record) -> Result<(), spire::Error> {
        sent.push(convert::nodes::selectors_record_to_wire(NodeSelectors::decode(&stored.body)?));
        Ok(())
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

#[cfg(test)]
mod tests {
    use steeple_engine::domain::Command;
    use steeple_engine::spire::selectors::{Match, Selector, SelectorFilter};
    use tokio_stream::StreamExt;

    use super::*;
    use crate::node::{Node, NodeOptions, NodeParts};

    /// A namespace with so many entries below each parent, `create` of which says what is in them.
    async fn namespace_with(parents: &[usize], create: impl Fn(usize, usize) -> Entry) -> Scope {
        let node = Node::start(NodeOptions::in_memory(), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        for (parent, count) in parents.iter().enumerate() {
            for number in 0..*count {
                let entry = Entry {
                    spiffe_id: format!("spiffe://td/{parent}/{number}"),
                    parent_id: format!("spiffe://td/{parent}"),
                    ..create(parent, number)
                };
                let command = spire::entries::Command::CreateOrReturn(Some(entry));
                node.submit(namespace, None, Command::Spire(spire::Command::Entry(command))).await.unwrap();
            }
        }
        Scope::of(node, namespace)
    }

    fn carrying(values: &[String]) -> Entry {
        let selector = |value: &String| Selector { kind: "unix".into(), value: value.clone() };
        Entry { selectors: values.iter().map(selector).collect(), ..Entry::default() }
    }

    fn below(parent: usize) -> Entries {
        Entries { filter: EntryFilter { parent_id: format!("spiffe://td/{parent}"), ..EntryFilter::default() } }
    }

    async fn streamed(pieces: Entries, scope: &Scope, limit: usize) -> (bool, Vec<u8>) {
        let messages = pieces.stream(scope.clone(), Sequence::ZERO, limit, |sent, _| sent.0).unwrap();
        let is_ready = matches!(messages, Messages::Ready(_));
        (is_ready, messages.map(Result::unwrap).collect::<Vec<_>>().await.concat())
    }

    #[tokio::test]
    async fn short_lists_and_long_ones_say_the_same() {
        let counts = [0, 1, FEW.records - 1, FEW.records, FEW.records + 1, FEW.records + 2];
        let scope = namespace_with(&counts, |_, number| carrying(&[format!("uid:{number}")])).await;
        for (parent, count) in counts.into_iter().enumerate() {
            for limit in [1, FEW.records, FEW.records + 1, usize::MAX] {
                let pieces = below(parent);
                let (long, last) = pieces.collect_now(&scope, Sequence::ZERO, limit, "").unwrap();
                let decoded = wire::ListRegistrationEntriesResponse::decode(long.0.as_slice()).unwrap();
                assert_eq!(decoded.entries.len(), count.min(limit));
                let short = pieces.read_few(&scope, Sequence::ZERO, limit).unwrap();
                assert_eq!(short.is_some(), count.min(limit) <= FEW.records, "{count} up to {limit}");
                if let Some((short, short_last)) = short {
                    assert_eq!((short.0, short_last), (long.0.clone(), last));
                }
                let (collected, collected_last) =
                    pieces.clone().collect(&scope, Sequence::ZERO, limit, "").await.unwrap();
                assert_eq!((&collected.0, collected_last), (&long.0, last));
                let expected = (count.min(limit) <= FEW.records, long.0);
                assert_eq!(streamed(pieces, &scope, limit).await, expected, "{count} up to {limit}");
            }
        }
    }

    #[tokio::test]
    async fn a_few_long_records_are_no_short_list() {
        let scope = namespace_with(&[20], |_, number| carrying(&[format!("{number}{}", "x".repeat(16_000))])).await;
        assert!(below(0).read_few(&scope, Sequence::ZERO, usize::MAX).unwrap().is_none());
        assert!(below(0).read_few(&scope, Sequence::ZERO, 10).unwrap().is_some());
        let (long, _) = below(0).collect_now(&scope, Sequence::ZERO, usize::MAX, "").unwrap();
        assert_eq!(streamed(below(0), &scope, usize::MAX).await, (false, long.0));
    }

    #[tokio::test]
    async fn a_list_that_takes_long_to_look_for_is_no_short_one() {
        // Nobody carries both selectors, which takes a look at everybody who carries the one of which there are fewer.
        let scope = namespace_with(&[1000, 1100], |parent, _| carrying(&[format!("uid:{parent}")])).await;
        let both = |scope: &Scope| {
            let filter = SelectorFilter {
                matching: Match::Superset,
                selectors: carrying(&["uid:0".into(), "uid:1".into()]).selectors,
            };
            let pieces = Entries { filter: EntryFilter { selectors: Some(filter), ..EntryFilter::default() } };
            let is_short = pieces.read_few(scope, Sequence::ZERO, usize::MAX).unwrap().is_some();
            assert_eq!(pieces.collect_now(scope, Sequence::ZERO, usize::MAX, "").unwrap().0.0, b"");
            is_short
        };
        assert!(both(&scope));
        let scope = namespace_with(&[1100, 1100], |parent, _| carrying(&[format!("uid:{parent}")])).await;
        assert!(!both(&scope));
    }

    #[tokio::test]
    async fn a_filter_with_much_to_look_up_gives_no_short_list() {
        let scope = namespace_with(&[1], |_, _| carrying(&["uid:0".into()])).await;
        let asking = |selectors: usize, trust_domains: usize| {
            let values: Vec<_> = (0..selectors).map(|number| format!("uid:{number}")).collect();
            let ids = (0..trust_domains).map(|number| format!("spiffe://other{number}")).collect();
            let filter = SelectorFilter { matching: Match::Any, selectors: carrying(&values).selectors };
            let selectors = (selectors > 0).then_some(filter);
            Entries {
                filter: EntryFilter { selectors, federates_with: Some((Match::Any, ids)), ..EntryFilter::default() },
            }
        };
        for (selectors, trust_domains, is_short) in [
            (1, 1, true),
            (64, 0, true),
            (65, 0, false),
            (0, 64, true),
            (0, 65, false),
            (64, 64, true),
            (1, 10_000, false),
        ] {
            let pieces = asking(selectors, trust_domains);
            let few = pieces.read_few(&scope, Sequence::ZERO, usize::MAX).unwrap();
            assert_eq!(few.is_some(), is_short, "{selectors} selectors, {trust_domains} trust domains");
            let (all, last) = pieces.collect(&scope, Sequence::ZERO, usize::MAX, "").await.unwrap();
            assert_eq!(last.is_some(), trust_domains == 0, "the entry federates with nobody");
            assert!(few.is_none_or(|(sent, _)| sent.0 == all.0));
        }
    }

    #[tokio::test]
    async fn many_sets_to_look_at_for_each_candidate_give_no_short_list() {
        // Each of 64 selectors is carried by some below the third parent, and by nobody below the others.
        let create = |parent, number| match parent {
            2 => carrying(&[format!("uid:{}", number % 64)]),
            _ => carrying(&["gid:0".into()]),
        };
        let scope = namespace_with(&[20, 100, 200], create).await;
        let values: Vec<_> = (0..64).map(|number| format!("uid:{number}")).collect();
        for matching in [Match::Any, Match::Subset] {
            for (parent, is_short) in [(0, true), (1, false)] {
                let selectors = Some(SelectorFilter { matching, selectors: carrying(&values).selectors });
                let pieces = Entries { filter: EntryFilter { selectors, ..below(parent).filter } };
                let few = pieces.read_few(&scope, Sequence::ZERO, usize::MAX).unwrap();
                assert_eq!(few.is_some(), is_short, "{matching:?} below {parent}");
                assert_eq!(pieces.collect_now(&scope, Sequence::ZERO, usize::MAX, "").unwrap().0.0, b"");
            }
        }
    }

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
