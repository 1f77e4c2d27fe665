//! Sending over sockets: for each peer one task with one connection, on it one stream for each lane.
//!
//! Sending puts a message into a queue and is done. The streams take batches from there whenever the connection has
//! room, so that what has piled up meanwhile travels together. Two lanes are two streams: a batch of entries that is
//! under way delays a heartbeat by one frame and not by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use raft::eraftpb::Message;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_wire::peer::v1::peer_client::PeerClient;
use steeple_wire::peer::v1::{self as wire, ExchangeAnswer, ExchangeRequest, Handshake};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::Stream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::connect::PeerConnector;
use super::identity::{Introduction, PeerIdentity, WRONG_DIRECTORY};
use super::limits::{
    BULK_QUEUE_BYTES, CONNECT_TIMEOUT, CONTROL_QUEUE_BYTES, EXCHANGE_BYTES_MAX, RECONNECT_PAUSE_MAX,
    RECONNECT_PAUSE_MIN,
};
use super::messages::{encode_batch, to_wire, travels};
use super::metrics::{LaneCounters, reconnects};
use super::queue::{Dropped, Queue};
use super::snapshots::{RemoteOrigin, fetch};
use super::{BoxFuture, FetchError, FetchOptions, FetchedSnapshot, Lane, Link, PeerSink, Transport, WantedSnapshot};

/// Sizes and times of sending.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// Bytes that wait for one peer in the bulk lane.
    pub bulk_queue_bytes: usize,
    /// Bytes that wait for one peer in the control lane.
    pub control_queue_bytes: usize,
    /// How snapshots are fetched.
    pub fetch: FetchOptions,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            bulk_queue_bytes: BULK_QUEUE_BYTES,
            control_queue_bytes: CONTROL_QUEUE_BYTES,
            fetch: FetchOptions::default(),
        }
    }
}

/// Sends to peers over sockets. Dropping it ends all connections that it made.
pub struct SocketTransport {
    shared: Arc<Shared>,
    runtime: Handle,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
}

struct Shared {
    identity: PeerIdentity,
    connector: Arc<dyn PeerConnector>,
    sink: Arc<dyn PeerSink>,
    options: SendOptions,
}

struct Peer {
    address: String,
    lanes: Arc<Lanes>,
    task: AbortHandle,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
        self.lanes.close();
    }
}

impl SocketTransport {
    /// Without peers yet; [`Transport::set_members`] names them. Its tasks run on `runtime`.
    #[must_use]
    pub fn new(
        identity: PeerIdentity,
        connector: Arc<dyn PeerConnector>,
        sink: Arc<dyn PeerSink>,
        options: SendOptions,
        runtime: Handle,
    ) -> Self {
        let shared = Arc::new(Shared { identity, connector, sink, options });
        Self { shared, runtime, peers: Mutex::default() }
    }

    fn start(&self, node: NodeId, address: String) -> Peer {
        let lanes = Arc::new(Lanes::new(node, &self.shared.options));
        let task =
            PeerTask { node, address: address.clone(), shared: Arc::clone(&self.shared), lanes: Arc::clone(&lanes) };
        let task = self.runtime.spawn(task.run()).abort_handle();
        Peer { address, lanes, task }
    }

    #[cfg(test)]
    pub(super) fn queued_bytes(&self, to: NodeId) -> usize {
        let peers = self.peers.lock();
        peers.get(&to).map_or(0, |peer| Lane::ALL.iter().map(|lane| peer.lanes.of(*lane).queue.holds().bytes).sum())
    }
}

impl fmt::Debug for SocketTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.peers.lock();
        let addresses: Vec<_> = peers.iter().map(|(node, peer)| (node, &peer.address)).collect();
        formatter.debug_struct("SocketTransport").field("peers", &addresses).finish_non_exhaustive()
    }
}

impl Transport for SocketTransport {
    fn send(&self, to: NodeId, message: Message) {
        let from = self.shared.identity.node;
        if message.from != from.0 || message.to != to.0 || !travels(message.msg_type) {
            return;
        }
        let Some(lanes) = self.peers.lock().get(&to).map(|peer| Arc::clone(&peer.lanes)) else { return };
        let lane = lanes.of(Lane::of(&message));
        if let Err(Dropped(bytes)) = lane.queue.push(message) {
            lane.counters.dropped(1, bytes);
        }
        lane.counters.queued(lane.queue.holds());
    }

    fn set_members(&self, members: Vec<(NodeId, String)>) {
        let mut members: BTreeMap<NodeId, String> = members.into_iter().collect();
        members.remove(&self.shared.identity.node);
        let mut peers = self.peers.lock();
        peers.retain(|node, peer| members.get(node) == Some(&peer.address));
        for (node, address) in members {
            peers.entry(node).or_insert_with(|| self.start(node, address));
        }
    }

    /// Connections are made as soon as the members are known, and whoever makes one introduces itself.
    fn greet(&self, _to: NodeId) {}

    fn fetch_snapshot(
        &self,
        from: NodeId,
        wanted: WantedSnapshot,
        target: PathBuf,
    ) -> BoxFuture<'static, Result<FetchedSnapshot, FetchError>> {
        let address = self.peers.lock().get(&from).map(|peer| peer.address.clone());
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let address = address.ok_or(FetchError::NoWay)?;
            let origin = RemoteOrigin {
                identity: shared.identity,
                node: from,
                address,
                connector: Arc::clone(&shared.connector),
            };
            fetch(&origin, wanted.minimum, target, shared.options.fetch).await
        })
    }
}

/// The queues of a peer.
struct Lanes {
    control: SendingLane,
    bulk: SendingLane,
}

struct SendingLane {
    queue: Queue,
    counters: LaneCounters,
}

impl Lanes {
    fn new(peer: NodeId, options: &SendOptions) -> Self {
        let lane = |lane, bytes| SendingLane { queue: Queue::new(bytes), counters: LaneCounters::new(peer, lane) };
        Self {
            control: lane(Lane::Control, options.control_queue_bytes),
            bulk: lane(Lane::Bulk, options.bulk_queue_bytes),
        }
    }

    fn of(&self, lane: Lane) -> &SendingLane {
        match lane {
            Lane::Control => &self.control,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Drops what waits. It would be out of date by the time of the next connection.
    fn clear(&self) {
        for lane in Lane::ALL.map(|lane| self.of(lane)) {
            let (messages, bytes) = lane.queue.clear();
            lane.counters.dropped(messages, bytes);
            lane.counters.queued(lane.queue.holds());
        }
    }

    /// Lets messages go to a peer that has accepted both streams.
    fn accept(&self) {
        for lane in Lane::ALL {
            self.of(lane).queue.accept();
        }
    }

    /// Ends the streams that read from the queues.
    fn close(&self) {
        for lane in Lane::ALL {
            self.of(lane).queue.next_reader();
        }
    }
}

/// Keeps the connection to one peer.
struct PeerTask {
    node: NodeId,
    address: String,
    shared: Arc<Shared>,
    lanes: Arc<Lanes>,
}

/// Both streams of a connection, accepted by the other side.
struct Connection {
    control: Streaming<ExchangeAnswer>,
    bulk: Streaming<ExchangeAnswer>,
}

/// Why there is no connection any more, or none yet.
struct Broken {
    reason: String,
    /// The other side does not want this node, or this node not it. Trying often is of no use.
    refused: bool,
    /// The other side said that it does not want this node, and whether that is for good.
    turned_away: Option<bool>,
}

impl Broken {
    fn lost(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), refused: false, turned_away: None }
    }
}

impl PeerTask {
    async fn run(self) {
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut reported = false;
        let mut last_reason = String::new();
        loop {
            let broken = match self.connect().await {
                Ok(connection) => {
                    tracing::info!(peer = %self.node, address = %self.address, "connected to a peer");
                    reported = false;
                    last_reason.clear();
                    self.shared.sink.admitted_by(self.node);
                    self.lanes.accept();
                    let since = Instant::now();
                    let broken = connection.ended().await;
                    // One that ends at once is no reason to hurry: the peer may be closing them over what it gets.
                    if since.elapsed() >= RECONNECT_PAUSE_MAX {
                        pause = RECONNECT_PAUSE_MIN;
                    }
                    broken
                }
                Err(broken) => broken,
            };
            self.lanes.close();
            self.lanes.clear();
            if let Some(for_good) = broken.turned_away {
                self.shared.sink.turned_away_by(self.node, &broken.reason, for_good);
            }
            if broken.reason != last_reason {
                tracing::warn!(peer = %self.node, address = %self.address, reason = %broken.reason, "no connection to a peer");
                last_reason = broken.reason;
            }
            if !std::mem::replace(&mut reported, true) {
                self.shared.sink.unreachable(self.node);
            }
            if broken.refused {
                pause = RECONNECT_PAUSE_MAX;
            }
            sleep(with_jitter(pause)).await;
            pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            reconnects(self.node).increment(1);
        }
    }

    async fn connect(&self) -> Result<Connection, Broken> {
        let connecting = async {
            let channel = self
                .shared
                .connector
                .connect(&self.address)
                .await
                .map_err(|error| Broken::lost(with_sources(&*error)))?;
            let control = self.open(channel.clone(), Lane::Control).await?;
            let bulk = self.open(channel, Lane::Bulk).await?;
            Ok(Connection { control, bulk })
        };
        timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(Broken::lost("no answer in time")))
    }

    /// Opens a stream and waits until the other side has accepted it.
    async fn open(&self, channel: Channel, lane: Lane) -> Result<Streaming<ExchangeAnswer>, Broken> {
        let log_end = self.shared.sink.log_end().map(LogIndex::get);
        let handshake = ExchangeRequest {
            handshake: Some(Handshake { log_end, ..self.shared.identity.handshake(self.node) }),
            lane: wire_lane(lane).into(),
            ..ExchangeRequest::default()
        };
        let requests = LaneStream {
            handshake: Some(handshake),
            reader: self.lanes.of(lane).queue.next_reader(),
            lanes: Arc::clone(&self.lanes),
            lane,
            link: Link { from: self.shared.identity.node, to: self.node },
            sink: Arc::clone(&self.shared.sink),
        };
        let mut client = PeerClient::new(channel).max_encoding_message_size(EXCHANGE_BYTES_MAX);
        let mut answers = client.exchange(requests).await.map_err(Broken::from)?.into_inner();
        let answer = answers.message().await?.ok_or_else(|| Broken::lost("the peer closed the stream"))?;
        self.admit(&answer)?;
        Ok(answers)
    }
}

impl PeerTask {
    /// Makes sure that it is the node that is meant which has accepted a stream, and not another one in its place.
    fn admit(&self, answer: &ExchangeAnswer) -> Result<(), Broken> {
        let admitted = Introduction::of_answer(self.node, answer).and_then(|peer| self.shared.sink.admit(&peer));
        admitted.map_err(|error| Broken { refused: true, ..Broken::lost(error.to_string()) })
    }
}

impl Connection {
    /// Waits until one of the streams is over.
    async fn ended(mut self) -> Broken {
        loop {
            let answer = tokio::select! {
                answer = self.control.message() => answer,
                answer = self.bulk.message() => answer,
            };
            match answer {
                // Nothing that this version knows.
                Ok(Some(_)) => {}
                Ok(None) => return Broken::lost("the peer closed the stream"),
                Err(status) => return status.into(),
            }
        }
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        let refused = matches!(status.code(), Code::FailedPrecondition | Code::InvalidArgument);
        let turned_away = status.code() == Code::FailedPrecondition;
        let turned_away = turned_away.then(|| status.metadata().contains_key(WRONG_DIRECTORY));
        Self { reason: status.message().to_owned(), refused, turned_away }
    }
}

/// The requests of one stream: the handshake, then batches as there is room for them.
struct LaneStream {
    handshake: Option<ExchangeRequest>,
    reader: u64,
    lanes: Arc<Lanes>,
    lane: Lane,
    link: Link,
    sink: Arc<dyn PeerSink>,
}

impl Stream for LaneStream {
    type Item = ExchangeRequest;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<ExchangeRequest>> {
        if let Some(handshake) = self.handshake.take() {
            return Poll::Ready(Some(handshake));
        }
        let lane = self.lanes.of(self.lane);
        loop {
            let Some(taken) = std::task::ready!(lane.queue.poll_batch(self.reader, context)) else {
                return Poll::Ready(None);
            };
            lane.counters.queued(lane.queue.holds());
            if taken.after_loss {
                self.sink.unreachable(self.link.to);
            }
            // What must not travel on this link was made to be forwarded for somebody else. Raft repeats it.
            let messages: Vec<_> =
                taken.messages.into_iter().filter_map(|message| to_wire(message, self.link).ok()).collect();
            if messages.is_empty() {
                continue;
            }
            let count = messages.len();
            let batch = encode_batch(messages);
            lane.counters.sent(count, batch.len());
            return Poll::Ready(Some(ExchangeRequest { batch, ..ExchangeRequest::default() }));
        }
    }
}

fn wire_lane(lane: Lane) -> wire::Lane {
    match lane {
        Lane::Control => wire::Lane::Control,
        Lane::Bulk => wire::Lane::Bulk,
    }
}

/// Between half of a pause and one and a half, so that nodes that lost each other at one moment do not return at one.
fn with_jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}

/// An error and what caused it, in one line.
pub(super) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
