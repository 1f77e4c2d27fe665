//! Following streams: history, then live.

use std::collections::HashSet;
use std::time::Duration;

use steeple_engine::domain::CATALOG;
use steeple_engine::event::StreamItem;
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
use crate::grpc::lists::{key_text, micros};
use crate::grpc::scope::Scope;
use crate::grpc::{errors, limits, sending};
use crate::node::tail::{StreamPosition, Tail, TailItem};

/// The field of a message that is an event.
const EVENT: u32 = 1;

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
        let mut encoded = Vec::new();
        put_message(&mut encoded, EVENT, |bytes| {
            put_count(bytes, 1, item.event.revision.0);
            put_number(bytes, 2, micros(item.event.time));
            let request_id = changes::request_id(&item.event);
            if !request_id.is_empty() {
                put_element(bytes, 3, &request_id);
            }
            item.items.iter().try_for_each(|stream_item| self.put_item(bytes, item, stream_item))
        })?;
        Ok(self.message(encoded, None))
    }

    fn put_item(&self, bytes: &mut Vec<u8>, item: &TailItem, stream_item: &StreamItem) -> Result<(), Status> {
        put_message(bytes, 4, |bytes| {
            put_text(bytes, 1, &stream_name(stream_item.stream));
            put_count(bytes, 2, stream_item.sequence.0);
            put_text(bytes, 3, &key_text(&stream_item.key));
            match stream_item.change.filter(|_| !self.without_changes) {
                Some(position) => changes::put_at(bytes, 4, &item.event, position),
                None => Ok(()),
            }
        })
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

#[cfg(test)]
mod tests {
    use steeple_engine::domain::Command;
    use steeple_engine::spire::{self, entries::records::Entry, selectors::Selector};

    use super::*;
    use crate::node::{Node, NodeOptions, NodeParts};

    fn entry(number: usize) -> Command {
        let entry = Entry {
            spiffe_id: format!("spiffe://example.org/workload/{number}"),
            parent_id: "spiffe://example.org/agent".into(),
            selectors: vec![Selector { kind: "unix".into(), value: "uid:1".into() }],
            ..Entry::default()
        };
        Command::Spire(spire::Command::Entry(spire::entries::Command::CreateOrReturn(Some(entry))))
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
