//! Following streams: history, then live.

use std::collections::HashSet;
use std::time::Duration;

use steeple_engine::domain::CATALOG;
use steeple_engine::event::{Event, StreamItem};
use steeple_engine::ids::{Revision, StreamId, StreamSequence};
use steeple_engine::view::Reader;
use steeple_wire::events::v1 as wire;
use steeple_wire::events::v1::tail_response::Content;
use steeple_wire::packed::{TailResponse, put_count, put_element, put_message, put_number, put_text};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::positions::Positions;
use super::{changes, stream_name, stream_named};
use crate::grpc::convert::{key_text, micros};
use crate::grpc::scope::Scope;
use crate::grpc::{errors, limits, sending};
use crate::node::tail::{StreamPosition, Tail, TailItem};

/// Numbers of the fields that are written without messages of their own.
mod fields {
    /// Of a message: the event.
    pub(super) const EVENT: u32 = 1;

    /// Of an event.
    pub(super) const REVISION: u32 = 1;
    pub(super) const TIME_MICROS: u32 = 2;
    pub(super) const REQUEST_ID: u32 = 3;
    pub(super) const ITEMS: u32 = 4;

    /// Of an item.
    pub(super) const STREAM: u32 = 1;
    pub(super) const SEQUENCE: u32 = 2;
    pub(super) const KEY: u32 = 3;
    pub(super) const CHANGE: u32 = 4;
}

/// Messages that wait for a slow consumer. What comes behind them waits in the log.
const MESSAGES_WAITING_MAX: usize = 8;

/// A consumer hears something at least this often.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Checks the request and begins to follow.
pub(super) fn begin(
    scope: Scope,
    request: wire::TailRequest,
    stopping: watch::Receiver<bool>,
) -> Result<ReceiverStream<Result<TailResponse, Status>>, Status> {
    limits::check_count("keys", request.keys.len(), limits::TAIL_KEYS_MAX)?;
    limits::check_count("streams", request.streams.len(), CATALOG.streams.len())?;
    let streams = streams(&request.streams)?;
    let (revision, positions) = start(&scope, &request, &streams)?;
    let keys: Option<HashSet<Vec<u8>>> =
        (!request.keys.is_empty()).then(|| request.keys.into_iter().map(String::into_bytes).collect());
    let tail = scope.node.tail(scope.namespace, positions, keys).map_err(|error| errors::not_tailed(&error))?;
    let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
    let follower = Follower { scope, tail, revision, without_changes: request.without_changes, sender };
    tokio::spawn(follower.run(stopping));
    Ok(ReceiverStream::new(messages))
}

/// The streams of these names, each once; all without any name.
fn streams(names: &[String]) -> Result<Vec<StreamId>, Status> {
    if names.is_empty() {
        return Ok(CATALOG.streams.iter().map(|stream| stream.id).collect());
    }
    let mut streams = names.iter().map(|name| Ok(stream_named(name)?.id)).collect::<Result<Vec<_>, Status>>()?;
    streams.sort_unstable();
    streams.dedup();
    Ok(streams)
}

/// Where to begin.
fn start(
    scope: &Scope,
    request: &wire::TailRequest,
    streams: &[StreamId],
) -> Result<(Revision, Vec<StreamPosition>), Status> {
    if !request.cursor.is_empty() {
        let positions = Positions::of_cursor(scope, &request.cursor)?;
        return Ok((positions.revision, positions.within(streams)?));
    }
    match request.start() {
        wire::StartPosition::Now => Ok(now(scope, streams)),
        wire::StartPosition::Oldest => Ok((Revision::ZERO, oldest(scope, streams)?)),
    }
}

fn now(scope: &Scope, streams: &[StreamId]) -> (Revision, Vec<StreamPosition>) {
    scope.node.read(|reader| {
        let position = |stream: &StreamId| {
            let after = reader.stream(scope.namespace, *stream).last;
            StreamPosition { stream: *stream, after }
        };
        (reader.revision(), streams.iter().map(position).collect())
    })
}

fn oldest(scope: &Scope, streams: &[StreamId]) -> Result<Vec<StreamPosition>, Status> {
    let position = |stream: &StreamId| {
        let oldest = scope.node.oldest_followable(scope.namespace, *stream);
        let oldest = oldest.map_err(|error| errors::not_answered(&error))?;
        Ok(StreamPosition { stream: *stream, after: StreamSequence(oldest.0.saturating_sub(1)) })
    };
    streams.iter().map(position).collect()
}

/// Hands a tail's events to one consumer.
struct Follower {
    scope: Scope,
    tail: Tail,
    /// Everything up to here is behind the consumer.
    revision: Revision,
    without_changes: bool,
    sender: mpsc::Sender<Result<TailResponse, Status>>,
}

/// Why following ended.
enum End {
    /// The consumer has gone.
    Gone,
    /// The consumer is told.
    Told(Status),
}

impl Follower {
    async fn run(mut self, mut stopping: watch::Receiver<bool>) {
        let (node, sender) = (self.scope.node.clone(), self.sender.clone());
        let end = tokio::select! {
            end = self.follow() => end,
            _ = stopping.wait_for(|stopping| *stopping) => End::Told(errors::failed(&"the node is stopping")),
            reason = node.failed() => End::Told(errors::failed(&reason)),
            () = sender.closed() => End::Gone,
        };
        // Its place among the tails is given back before the consumer is told, which may take long.
        drop(self);
        if let End::Told(status) = end {
            // Whoever has gone needs no error.
            sending::send(&sender, Err(status)).await;
        }
    }

    async fn follow(&mut self) -> End {
        let mut caught_up = false;
        loop {
            // Read before looking for events: all of them up to here are found below.
            let reached = self.scope.node.revision();
            let patience = if caught_up { SILENCE_MAX } else { Duration::ZERO };
            let message = match self.tail.next(patience).await {
                Ok(Some(item)) => self.event(&item),
                Ok(None) if self.tail.is_behind() => Ok(self.progress(self.revision, false)),
                Ok(None) => {
                    caught_up = true;
                    Ok(self.progress(reached, self.scope.node.is_in_touch()))
                }
                Err(error) => Err(errors::not_tailed(&error)),
            };
            match message {
                Ok(message) => {
                    if self.sender.send(Ok(message)).await.is_err() {
                        return End::Gone;
                    }
                }
                Err(status) => return End::Told(status),
            }
        }
    }

    fn event(&mut self, item: &TailItem) -> Result<TailResponse, Status> {
        self.revision = item.event.revision;
        let encoded = encode(item, self.without_changes)?;
        Ok(self.message(encoded, None))
    }

    fn progress(&mut self, reached: Revision, live: bool) -> TailResponse {
        self.revision = self.revision.max(reached);
        let progress = wire::Progress { revision: self.revision.0, live };
        self.message(Vec::new(), Some(Content::Progress(progress)))
    }

    /// With an event that is encoded, or with something else.
    fn message(&self, encoded: Vec<u8>, content: Option<Content>) -> TailResponse {
        let streams = self.tail.positions().iter().map(|position| (position.stream, position.after)).collect();
        let cursor = Positions { revision: self.revision, streams }.cursor(&self.scope);
        TailResponse { encoded, message: wire::TailResponse { content, cursor } }
    }
}

/// The event of a message, as its field.
fn encode(item: &TailItem, without_changes: bool) -> Result<Vec<u8>, Status> {
    let event = &item.event;
    let mut encoded = Vec::new();
    put_message(&mut encoded, fields::EVENT, |bytes| {
        put_count(bytes, fields::REVISION, event.revision.0);
        put_number(bytes, fields::TIME_MICROS, micros(event.time));
        let request_id = changes::request_id(event);
        if !request_id.is_empty() {
            put_element(bytes, fields::REQUEST_ID, &request_id);
        }
        item.items.iter().try_for_each(|stream_item| put_item(bytes, event, stream_item, without_changes))
    })?;
    Ok(encoded)
}

fn put_item(bytes: &mut Vec<u8>, event: &Event, item: &StreamItem, without_changes: bool) -> Result<(), Status> {
    put_message(bytes, fields::ITEMS, |bytes| {
        put_text(bytes, fields::STREAM, &stream_name(item.stream));
        put_count(bytes, fields::SEQUENCE, item.sequence.0);
        put_text(bytes, fields::KEY, &key_text(&item.key));
        match item.change.filter(|_| !without_changes) {
            Some(position) => changes::put_at(bytes, fields::CHANGE, event, position),
            None => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prost::Message;
    use steeple_engine::domain::Command;
    use steeple_engine::event::{Change, RequestStamp};
    use steeple_engine::ids::{NamespaceId, RequestId, Sequence, TableId, Timestamp};
    use steeple_engine::spire::nodes::records::Node as NodeRecord;
    use steeple_engine::spire::tokens::records::JoinToken;
    use steeple_engine::spire::{self, NODES, REGISTRATIONS, entries::records::Entry, selectors::Selector, tables};

    use super::*;
    use crate::grpc::convert;
    use crate::node::{Node, NodeOptions, NodeParts};

    fn entry_of(number: usize) -> Entry {
        Entry {
            spiffe_id: format!("spiffe://example.org/workload/{number}"),
            parent_id: "spiffe://example.org/agent".into(),
            selectors: vec![Selector { kind: "unix".into(), value: "uid:1".into() }],
            ..Entry::default()
        }
    }

    fn entry(number: usize) -> Command {
        let create = spire::entries::Command::CreateOrReturn(Some(entry_of(number)));
        Command::Spire(spire::Command::Entry(create))
    }

    fn change(table: TableId, previous: Option<u64>, before: Option<Vec<u8>>, after: Option<Vec<u8>>) -> Change {
        Change { table, sequence: Sequence(40), previous: previous.map(Revision), before, after }
    }

    fn shown(entry: Entry) -> Option<wire::Record> {
        let kind = wire::record::Record::RegistrationEntry(convert::entries::to_wire(entry));
        Some(wire::Record { record: Some(kind) })
    }

    /// An event with these changes and items (stream, number, key, which change), from a request or not.
    fn tail_item(
        request: Option<[u8; 16]>,
        changes: Vec<Change>,
        items: &[(StreamId, u64, &str, Option<u16>)],
    ) -> TailItem {
        let items: Vec<_> = items
            .iter()
            .map(|(stream, sequence, key, change)| StreamItem {
                stream: *stream,
                sequence: StreamSequence(*sequence),
                key: key.as_bytes().to_vec(),
                change: *change,
            })
            .collect();
        let event = Event {
            revision: Revision(1_000),
            time: Timestamp(1_700_000_000_000_000),
            namespace: NamespaceId(7),
            request: request.map(|id| RequestStamp { id: RequestId(id), fingerprint: 9 }),
            changes,
            items: items.clone(),
            marks: Vec::new(),
            answer: Vec::new(),
        };
        TailItem { event: Arc::new(event), items }
    }

    /// Checks that what is sent of a tail's item has the bytes of a message with this event.
    fn check(item: &TailItem, without_changes: bool, event: wire::Event) {
        let sent = TailResponse {
            encoded: encode(item, without_changes).unwrap(),
            message: wire::TailResponse { content: None, cursor: "here".into() },
        };
        let message = wire::TailResponse { content: Some(Content::Event(event)), cursor: "here".into() };
        assert_eq!(wire::TailResponse::decode(sent.encode_to_vec().as_slice()).unwrap(), message);
        assert_eq!(sent.encode_to_vec(), message.encode_to_vec());
    }

    #[test]
    fn an_event_is_sent_as_its_message_would_be() {
        let (old, new) = (entry_of(1), entry_of(2));
        let (old_body, new_body) = (Some(old.encode()), Some(new.encode()));
        let wire_item = |stream: &str, sequence, key: &str, change| wire::Item {
            stream: stream.into(),
            sequence,
            key: key.into(),
            change,
        };
        let wire_event = |request_id: &[u8], items| wire::Event {
            revision: 1_000,
            time_micros: 1_700_000_000_000_000,
            request_id: request_id.to_vec(),
            items,
        };

        // Nothing that may be left out is there.
        let item = tail_item(None, Vec::new(), &[(REGISTRATIONS, 3, "", None)]);
        check(&item, false, wire_event(&[], vec![wire_item("registrations", 3, "", None)]));

        // What becomes of an entry, with and without changes.
        let changes = [
            (None, None, new_body.clone(), None, shown(new.clone())),
            (Some(17), old_body.clone(), new_body, shown(old.clone()), shown(new)),
            (Some(18), old_body.clone(), None, shown(old.clone()), None),
        ];
        for (previous, before, after, shown_before, shown_after) in changes {
            let items = [(REGISTRATIONS, 1 << 40, "one", Some(0))];
            let item = tail_item(Some([5; 16]), vec![change(tables::ENTRIES, previous, before, after)], &items);
            let shown =
                wire::Change { before: shown_before, after: shown_after, previous_revision: previous.unwrap_or(0) };
            let expected = |change| wire_event(&[5; 16], vec![wire_item("registrations", 1 << 40, "one", change)]);
            check(&item, false, expected(Some(shown)));
            check(&item, true, expected(None));
        }

        // Two items with the second change and the first, of different tables.
        let node = NodeRecord { spiffe_id: "spiffe://td/agent".into(), ..NodeRecord::default() };
        let changes = vec![
            change(tables::ENTRIES, Some(18), old_body, None),
            change(tables::NODES, None, None, Some(node.encode())),
        ];
        let items = [(NODES, 8, "spiffe://td/agent", Some(1)), (REGISTRATIONS, 9, "one", Some(0))];
        let shown_node = wire::record::Record::AttestedNode(convert::nodes::to_wire(node));
        let created = wire::Change { after: Some(wire::Record { record: Some(shown_node) }), ..Default::default() };
        let deleted = wire::Change { before: shown(old), after: None, previous_revision: 18 };
        let expected = vec![
            wire_item("nodes", 8, "spiffe://td/agent", Some(created)),
            wire_item("registrations", 9, "one", Some(deleted)),
        ];
        check(&tail_item(None, changes, &items), false, wire_event(&[], expected));

        // A table that is not shown, and a change that is not there.
        let token = JoinToken { token: "secret".into(), ..JoinToken::default() };
        let changes = vec![change(tables::JOIN_TOKENS, None, None, Some(token.encode()))];
        let items = [(REGISTRATIONS, 1, "token", Some(0)), (REGISTRATIONS, 2, "beyond", Some(1))];
        let expected =
            vec![wire_item("registrations", 1, "token", None), wire_item("registrations", 2, "beyond", None)];
        check(&tail_item(None, changes, &items), false, wire_event(&[], expected));
    }

    #[tokio::test]
    async fn a_consumer_that_reads_nothing_gives_its_place_back_when_the_tail_ends() {
        let options = NodeOptions { tails_max: 1, ..NodeOptions::in_memory() };
        let node = Node::start(options, NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        let scope = Scope::of(node.clone(), namespace);
        let (stop, stopping) = watch::channel(false);
        let messages = begin(scope, wire::TailRequest::default(), stopping).unwrap().into_inner();
        for number in 0..=MESSAGES_WAITING_MAX {
            node.submit(namespace, None, entry(number)).await.unwrap();
        }
        let filled = async {
            while messages.len() < MESSAGES_WAITING_MAX {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), filled).await.unwrap();
        assert!(node.tail(namespace, Vec::new(), None).is_err(), "the only place is taken");
        stop.send(true).unwrap();
        let freed = async {
            while node.tail(namespace, Vec::new(), None).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), freed).await.unwrap();
        drop(messages);
    }
}
