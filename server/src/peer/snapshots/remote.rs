//! Snapshots over sockets, on connections of their own: a chunk that is under way delays no heartbeat.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_snapshot::{EncodedChunk, ReadError, SnapshotId};
use steeple_wire::peer::v1::peer_client::PeerClient;
use steeple_wire::peer::v1::{SnapshotChunk, SnapshotRequest};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status, Streaming};

use super::super::BoxFuture;
use super::super::connect::PeerConnector;
use super::super::identity::PeerIdentity;
use super::super::limits::SNAPSHOT_ITEM_BYTES_MAX;
use super::super::metrics::{snapshot_received_bytes, snapshot_sent_bytes};
use super::super::outgoing::with_sources;
use super::super::service::snapshot_id;
use super::{Fault, FedChunk, Feed, Origin, ServedSnapshot};

/// How long a receiver may take for a chunk before its stream is given up.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Holds all that use it to a number of bytes per second together.
#[derive(Clone)]
pub(in super::super) struct Throttle {
    /// 0 is no limit.
    bytes_per_second: u64,
    /// When the bytes that were taken so far have been paid for.
    paid: Arc<Mutex<Option<Instant>>>,
}

impl Throttle {
    pub(in super::super) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid: Arc::default() }
    }

    /// Waits until so many bytes may go.
    async fn take(&self, bytes: usize) {
        if self.bytes_per_second > 0 {
            sleep_until(self.turn(bytes, Instant::now())).await;
        }
    }

    /// When the bytes may go. They pay afterwards: the first ones go at once.
    fn turn(&self, bytes: usize, now: Instant) -> Instant {
        let mut paid = self.paid.lock();
        let turn = paid.map_or(now, |paid| paid.max(now));
        let price = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *paid = Some(turn + price);
        turn
    }
}

/// Sends the chunks of an open snapshot from one on, until all are sent or nobody takes them.
pub(in super::super) async fn send_chunks(
    to: NodeId,
    served: Box<dyn ServedSnapshot>,
    from_chunk: u64,
    throttle: Throttle,
    chunks: mpsc::Sender<Result<SnapshotChunk, Status>>,
) {
    let (snapshot, count) = (Bytes::copy_from_slice(&served.id().0), served.chunk_count());
    let sent_bytes = snapshot_sent_bytes(to);
    let mut skip_to = Some(from_chunk);
    let mut served = Some(served);
    while let Some(mut open) = served.take() {
        let start = skip_to.take();
        let read = spawn_blocking(move || {
            start.map_or(Ok(()), |number| open.go_to(number))?;
            let chunk = open.next_chunk()?;
            Ok::<_, ReadError>((open, chunk))
        });
        let (open, chunk) = match read.await {
            Ok(Ok((open, Some(chunk)))) => (open, chunk),
            Ok(Ok((_, None))) | Err(_) => return,
            Ok(Err(error)) => {
                tracing::error!(%error, "a snapshot that is being sent cannot be read");
                let _ = chunks.send(Err(Status::data_loss(format!("the snapshot cannot be read: {error}")))).await;
                return;
            }
        };
        let bytes = chunk.bytes.len();
        throttle.take(bytes).await;
        let item = SnapshotChunk {
            snapshot_id: snapshot.clone(),
            number: chunk.number,
            chunk_count: count,
            content: chunk.bytes,
        };
        if !matches!(timeout(SEND_TIMEOUT, chunks.send(Ok(item))).await, Ok(Ok(()))) {
            return;
        }
        sent_bytes.increment(bytes as u64);
        served = Some(open);
    }
}

/// Another node's snapshots.
pub(in super::super) struct RemoteOrigin {
    pub(in super::super) identity: PeerIdentity,
    pub(in super::super) node: NodeId,
    pub(in super::super) address: String,
    pub(in super::super) connector: Arc<dyn PeerConnector>,
}

impl Origin for RemoteOrigin {
    fn open(
        &self,
        begun: Option<SnapshotId>,
        from_chunk: u64,
        minimum: LogIndex,
    ) -> BoxFuture<'_, Result<Box<dyn Feed>, Fault>> {
        Box::pin(async move {
            let connected = self.connector.connect(&self.address).await;
            let channel = connected.map_err(|error| Fault::Broken(with_sources(&*error)))?;
            let request = SnapshotRequest {
                handshake: Some(self.identity.handshake(self.node)),
                snapshot_id: begun.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(&id.0)),
                from_chunk: if begun.is_some() { from_chunk } else { 0 },
                minimum_index: minimum.0,
            };
            let mut client = PeerClient::new(channel).max_decoding_message_size(SNAPSHOT_ITEM_BYTES_MAX);
            let chunks = client.snapshot(request).await.map_err(fault)?.into_inner();
            let feed: Box<dyn Feed> = Box::new(RemoteFeed { chunks, node: self.node });
            Ok(feed)
        })
    }
}

struct RemoteFeed {
    chunks: Streaming<SnapshotChunk>,
    node: NodeId,
}

impl Feed for RemoteFeed {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<FedChunk>, Fault>> {
        Box::pin(async move {
            let Some(item) = self.chunks.message().await.map_err(fault)? else { return Ok(None) };
            let snapshot = snapshot_id(&item.snapshot_id)
                .ok_or_else(|| Fault::Broken("a chunk without the id of its snapshot".into()))?;
            snapshot_received_bytes(self.node).increment(item.content.len() as u64);
            Ok(Some(FedChunk { snapshot, chunk: EncodedChunk { number: item.number, bytes: item.content } }))
        })
    }
}

fn fault(status: Status) -> Fault {
    let reason = status.message().to_owned();
    match status.code() {
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unimplemented => Fault::Refused(reason),
        Code::Aborted => Fault::BeingMade(reason),
        _ => Fault::Broken(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Throttle;

    #[test]
    fn all_that_share_a_throttle_keep_to_its_rate_together() {
        let (throttle, now) = (Throttle::new(1_000), Instant::now());
        let after = |turn: Instant| turn.duration_since(now);
        assert_eq!(after(throttle.turn(500, now)), Duration::ZERO, "the first goes at once");
        assert_eq!(after(throttle.clone().turn(2_000, now)), Duration::from_millis(500));
        assert_eq!(after(throttle.turn(1, now)), Duration::from_millis(2_500));
        let later = now + Duration::from_secs(60);
        assert_eq!(throttle.turn(1_000, later), later, "time that was not used is not saved up");
    }
}
