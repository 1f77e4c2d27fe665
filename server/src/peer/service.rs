//! Receiving over sockets: the `steeple.peer.v1.Peer` service.
//!
//! Each stream has a reader of its own that decodes, checks and delivers. It reads on only while what it delivered and
//! the node has not taken up is within bounds; beyond, the stream's flow control holds the sender back. A message that
//! is wrong ends its stream, and nothing else.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_snapshot::SnapshotId;
use steeple_wire::peer::v1::peer_server::{Peer, PeerServer};
use steeple_wire::peer::v1::{self as wire, ExchangeAnswer, ExchangeRequest, SnapshotChunk, SnapshotRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::connect::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use super::identity::{Introduction, PeerIdentity, WRONG_DIRECTORY};
use super::limits::{
    BULK_UNDELIVERED_BYTES, CONNECT_TIMEOUT, CONTROL_UNDELIVERED_BYTES, EXCHANGE_BYTES_MAX, FETCHED_BYTES_MAX,
    KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT, PEERS_MAX, REPAIR_PATIENCE, SNAPSHOT_ITEM_BYTES_MAX, SNAPSHOTS_MAX,
};
use super::messages::decode_batch;
use super::metrics::{LaneCounters, refusals, violations};
use super::repair;
use super::snapshots::{ProvideError, Throttle, send_chunks};
use super::{Delivered, Delivery, Lane, Link, PeerSink, Room, SnapshotProvider};
use crate::authorization::{Access, Authorize};

/// Calls that one connection may have in flight: two lanes and a snapshot, old and new ones at the same time.
const CALLS_PER_CONNECTION_MAX: u32 = 16;

/// The service that other nodes call. Clones are the same service.
#[derive(Clone)]
pub struct PeerService {
    shared: Arc<Shared>,
}

struct Shared {
    identity: PeerIdentity,
    sink: Arc<dyn PeerSink>,
    snapshots: Option<Arc<dyn SnapshotProvider>>,
    throttle: Throttle,
    snapshots_at_once: Arc<Semaphore>,
    undelivered: Undelivered,
    /// Streams that are open, each with the way to end it.
    streams: Mutex<Streams>,
    stop: watch::Sender<bool>,
}

/// Bytes that one stream may have delivered and the node has not taken up.
#[derive(Clone, Copy, Debug)]
struct Undelivered {
    control: usize,
    bulk: usize,
}

#[derive(Default)]
struct Streams {
    /// The newest stream of each lane of each peer.
    open: BTreeMap<(NodeId, Lane), OpenStream>,
    last: u64,
}

struct OpenStream {
    number: u64,
    replaced: watch::Sender<bool>,
}

impl PeerService {
    /// Receives for a node. Snapshots are sent to others from `snapshots` at `snapshot_bytes_per_second` altogether; 0 is
    /// as fast as it goes.
    #[must_use]
    pub fn new(
        identity: PeerIdentity,
        sink: Arc<dyn PeerSink>,
        snapshots: Option<Arc<dyn SnapshotProvider>>,
        snapshot_bytes_per_second: u64,
    ) -> Self {
        Self::with_limits(identity, sink, snapshots, snapshot_bytes_per_second, BULK_UNDELIVERED_BYTES)
    }

    /// As [`PeerService::new`], with another bound on what a bulk stream may have delivered.
    pub(super) fn with_limits(
        identity: PeerIdentity,
        sink: Arc<dyn PeerSink>,
        snapshots: Option<Arc<dyn SnapshotProvider>>,
        snapshot_bytes_per_second: u64,
        bulk_undelivered_bytes: usize,
    ) -> Self {
        let shared = Shared {
            identity,
            sink,
            snapshots,
            throttle: Throttle::new(snapshot_bytes_per_second),
            snapshots_at_once: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            undelivered: Undelivered { control: CONTROL_UNDELIVERED_BYTES, bulk: bulk_undelivered_bytes },
            streams: Mutex::default(),
            stop: watch::Sender::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Ends all streams, and those that begin later.
    pub fn stop(&self) {
        self.shared.stop.send_replace(true);
    }

    /// Serves those whom `access` lets in over connections that are accepted already, TLS included, until `shutdown` is
    /// done.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve<Incoming, Connection>(
        self,
        access: Access,
        incoming: Incoming,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), tonic::transport::Error>
    where
        Incoming: Stream<Item = Result<Connection, io::Error>>,
        Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let stopping = self.clone();
        let shutdown = async move {
            shutdown.await;
            stopping.stop();
        };
        peer_server()
            .layer(crate::grpc::CatchPanics)
            .layer(Authorize::new(access))
            .add_service(self.into_server())
            .serve_with_incoming_shutdown(incoming, shutdown)
            .await
    }

    /// The service with its limits, to be added to a server made by [`peer_server`].
    #[must_use]
    pub fn into_server(self) -> PeerServer<Self> {
        PeerServer::new(self)
            .max_decoding_message_size(EXCHANGE_BYTES_MAX)
            .max_encoding_message_size(SNAPSHOT_ITEM_BYTES_MAX.max(FETCHED_BYTES_MAX))
    }
}

/// A server with the settings that connections between nodes have.
#[must_use]
pub fn peer_server() -> Server {
    Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
}

#[tonic::async_trait]
impl Peer for PeerService {
    type ExchangeStream = ReceiverStream<Result<ExchangeAnswer, Status>>;
    type SnapshotStream = ReceiverStream<Result<SnapshotChunk, Status>>;

    async fn exchange(
        &self,
        request: Request<Streaming<ExchangeRequest>>,
    ) -> Result<Response<Self::ExchangeStream>, Status> {
        let mut requests = request.into_inner();
        let first = timeout(CONNECT_TIMEOUT, requests.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no handshake in time"))??
            .unwrap_or_default();
        let from = self.shared.admit(first.handshake.as_ref())?;
        let lane = match wire::Lane::try_from(first.lane) {
            Ok(wire::Lane::Control) => Lane::Control,
            Ok(wire::Lane::Bulk) => Lane::Bulk,
            _ => return Err(Status::invalid_argument("a stream without a lane")),
        };
        let place = self.shared.take_place(from, lane)?;
        let (answers, answering) = mpsc::channel(1);
        // There is room for one.
        let _ = answers.try_send(Ok(self.shared.identity.answer(self.shared.sink.log_end())));
        let stream = IncomingStream::new(place, answers);
        tokio::spawn(stream.run(requests));
        Ok(Response::new(ReceiverStream::new(answering)))
    }

    async fn snapshot(&self, request: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let request = request.into_inner();
        let shared = &self.shared;
        let from = shared.admit(request.handshake.as_ref())?.node;
        let begun = match request.snapshot_id.len() {
            0 => None,
            _ => Some(snapshot_id(&request.snapshot_id).ok_or_else(|| Status::invalid_argument("not a snapshot id"))?),
        };
        let turn = Arc::clone(&shared.snapshots_at_once).try_acquire_owned();
        let turn = turn.map_err(|_| Status::resource_exhausted("enough snapshots are being sent; try again later"))?;
        let provider = shared.snapshots.as_ref().ok_or_else(|| Status::unavailable("this node has no snapshots"))?;
        let opened =
            provider.open(from, begun, LogIndex(request.minimum_index)).await.map_err(|error| match error {
                ProvideError::NotNow(reason) => Status::unavailable(reason),
                error @ ProvideError::BeingMade => Status::aborted(error.to_string()),
                ProvideError::Refused(reason) => Status::failed_precondition(reason),
            })?;
        let from_chunk = if Some(opened.id()) == begun { request.from_chunk } else { 0 };
        let (chunks, sending) = mpsc::channel(1);
        let (throttle, mut stop) = (shared.throttle.clone(), shared.stop.subscribe());
        tokio::spawn(async move {
            let _turn = turn;
            tokio::select! {
                () = send_chunks(from, opened, from_chunk, throttle, chunks) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(sending)))
    }

    async fn describe_log(
        &self,
        request: Request<wire::DescribeLogRequest>,
    ) -> Result<Response<wire::LogDescription>, Status> {
        let request = request.into_inner();
        let from = self.shared.admit(request.handshake.as_ref())?.node;
        let question = repair::question_from_wire(&request).ok_or_else(|| Status::invalid_argument("out of range"))?;
        let described = timeout(REPAIR_PATIENCE, self.shared.sink.describe_log(from, question)).await;
        let statement = described.map_err(|_| not_now("the node is busy".into()))?.map_err(not_now)?;
        let accepted = Some(self.shared.identity.answer(self.shared.sink.log_end()));
        Ok(Response::new(wire::LogDescription { accepted, ..repair::statement_to_wire(&statement) }))
    }

    async fn fetch_entries(
        &self,
        request: Request<wire::FetchEntriesRequest>,
    ) -> Result<Response<wire::FetchEntriesAnswer>, Status> {
        let request = request.into_inner();
        self.shared.admit(request.handshake.as_ref())?;
        let wanted = repair::wanted_from_wire(&request).ok_or_else(|| Status::invalid_argument("out of range"))?;
        let entries = self.shared.sink.entries(wanted).await.map_err(not_now)?;
        Ok(Response::new(repair::entries_to_wire(entries)))
    }
}

/// An answer that is not there now, and may be later.
fn not_now(reason: String) -> Status {
    Status::unavailable(reason)
}

/// Sixteen bytes.
pub(super) fn snapshot_id(bytes: &[u8]) -> Option<SnapshotId> {
    bytes.try_into().ok().map(SnapshotId)
}

impl Shared {
    fn admit(&self, handshake: Option<&wire::Handshake>) -> Result<Introduction, Status> {
        let admitted = self.identity.check(handshake).and_then(|from| {
            self.sink.admit(&from)?;
            Ok(from)
        });
        admitted.map_err(|error| {
            refusals().increment(1);
            tracing::warn!(%error, "a node was refused");
            let mut status = Status::failed_precondition(error.to_string());
            if error.is_for_good() {
                status.metadata_mut().insert(WRONG_DIRECTORY, MetadataValue::from_static("1"));
            }
            status
        })
    }

    /// Makes a stream the one of its peer and lane. An older one is over: its connection was lost, even if nobody has
    /// noticed here.
    fn take_place(self: &Arc<Self>, peer: Introduction, lane: Lane) -> Result<Place, Status> {
        let from = peer.node;
        let mut streams = self.streams.lock();
        if !streams.open.contains_key(&(from, lane)) && streams.open.len() >= PEERS_MAX * Lane::ALL.len() {
            return Err(Status::resource_exhausted(format!("more than {PEERS_MAX} nodes are sending to this one")));
        }
        streams.last += 1;
        let number = streams.last;
        let replaced = watch::Sender::new(false);
        let watching = replaced.subscribe();
        if let Some(older) = streams.open.insert((from, lane), OpenStream { number, replaced }) {
            older.replaced.send_replace(true);
        }
        Ok(Place { shared: Arc::clone(self), peer, lane, number, replaced: watching })
    }
}

/// A stream's place among those that are open.
struct Place {
    shared: Arc<Shared>,
    peer: Introduction,
    lane: Lane,
    number: u64,
    replaced: watch::Receiver<bool>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.shared.streams.lock();
        let key = (self.peer.node, self.lane);
        if streams.open.get(&key).is_some_and(|open| open.number == self.number) {
            streams.open.remove(&key);
        }
    }
}

/// One stream from one peer.
struct IncomingStream {
    place: Place,
    answers: mpsc::Sender<Result<ExchangeAnswer, Status>>,
    link: Link,
    room: Arc<Semaphore>,
    capacity: u32,
    counters: LaneCounters,
}

impl IncomingStream {
    fn new(place: Place, answers: mpsc::Sender<Result<ExchangeAnswer, Status>>) -> Self {
        let capacity = match place.lane {
            Lane::Control => place.shared.undelivered.control,
            Lane::Bulk => place.shared.undelivered.bulk,
        };
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        Self {
            link: Link { from: place.peer.node, to: place.shared.identity.node },
            room: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
            counters: LaneCounters::new(place.peer.node, place.lane),
            place,
            answers,
        }
    }

    async fn run(self, requests: Streaming<ExchangeRequest>) {
        let mut stop = self.place.shared.stop.subscribe();
        let mut replaced = self.place.replaced.clone();
        let end = tokio::select! {
            status = self.receive(requests) => status,
            _ = stop.wait_for(|stop| *stop) => Some(Status::unavailable("the node is stopping")),
            _ = replaced.wait_for(|replaced| *replaced) => Some(self.replaced()),
            () = self.answers.closed() => None,
        };
        if let Some(status) = end {
            // The answer of the handshake may not have been read yet; it is the only one before this.
            let _ = timeout(Duration::from_secs(1), self.answers.send(Err(status))).await;
        }
    }

    fn replaced(&self) -> Status {
        let from = self.link.from;
        tracing::warn!(peer = %from, lane = self.place.lane.name(), "a stream of a peer was replaced by a newer one");
        Status::aborted(format!(
            "a newer stream of node {from} took its place; if that happens again and again, two processes run as node {from}"
        ))
    }

    /// Delivers until the stream ends; answers the status that it ends with, if there is anybody to tell.
    async fn receive(&self, mut requests: Streaming<ExchangeRequest>) -> Option<Status> {
        loop {
            match requests.message().await {
                Ok(Some(request)) => {
                    if let Err(status) = self.take(request).await {
                        return Some(status);
                    }
                }
                Ok(None) => return None,
                Err(status) => {
                    tracing::debug!(peer = %self.link.from, %status, "a stream of a peer broke");
                    return Some(status);
                }
            }
        }
    }

    async fn take(&self, request: ExchangeRequest) -> Result<(), Status> {
        if request.handshake.is_some() {
            return Err(self.violated(&"a second handshake"));
        }
        let bytes = request.batch.len();
        let messages = decode_batch(request.batch, self.link).map_err(|error| self.violated(&error))?;
        self.counters.received(messages.len(), bytes);
        let room = Room::new(self.reserve(bytes).await?, self.counters.clone());
        match self.place.shared.sink.deliver_when_room(Delivery::holding(&self.place.peer, messages, room)).await {
            Delivered::Taken | Delivered::Crowded => Ok(()),
            Delivered::Closed => Err(Status::unavailable("the node is stopping")),
        }
    }

    /// Waits until there is room for so many bytes.
    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Status> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        room.map_err(|_| Status::unavailable("the node is stopping"))
    }

    fn violated(&self, violation: &dyn std::fmt::Display) -> Status {
        violations(self.link.from).increment(1);
        tracing::warn!(peer = %self.link.from, %violation, "a peer broke the protocol; its stream is closed");
        Status::invalid_argument(violation.to_string())
    }
}
