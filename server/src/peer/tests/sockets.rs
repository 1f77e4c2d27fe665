//! Two nodes over sockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steeple_engine::ids::NodeId;
use steeple_wire::peer::v1::peer_client::PeerClient;
use steeple_wire::peer::v1::{ExchangeRequest, Lane};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::super::messages::{encode_batch, to_wire};
use super::super::{Link, PeerService, SendOptions, Transport};
use super::support::{
    Notes, ONE, Served, THREE, TWO, append, assert_contains, heartbeat, identity, is_heartbeat, transport,
    transport_with,
};

/// Sends heartbeats until one arrives: those before the connection is there are lost.
pub(super) async fn until_connected(from: &impl Transport, sender: NodeId, to: NodeId, notes: &Notes, commit: u64) {
    let arriving = notes.until_received(is_heartbeat(commit));
    tokio::pin!(arriving);
    loop {
        from.send(to, heartbeat(sender, to, commit));
        if timeout(Duration::from_millis(20), &mut arriving).await.is_ok() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_lane_arrive_in_order() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let one = transport(ONE, Notes::new());
    one.set_members(vec![(TWO, served.address.clone())]);
    until_connected(&one, ONE, TWO, &notes, 1).await;
    for index in 0..500 {
        one.send(TWO, append(ONE, TWO, index, 1_000));
    }
    notes.until_received(|message| message.index == 499).await;
    let appends: Vec<_> = notes.received().into_iter().filter(|message| !message.entries.is_empty()).collect();
    let expected: Vec<_> = (0..500).map(|index| append(ONE, TWO, index, 1_000)).collect();
    assert_eq!(appends, expected);
    drop(one);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_entry_passes() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let one = transport(ONE, Notes::new());
    one.set_members(vec![(TWO, served.address.clone())]);
    until_connected(&one, ONE, TWO, &notes, 1).await;
    let largest = append(ONE, TWO, 0, steeple_engine::log::MAX_PAYLOAD_BYTES);
    one.send(TWO, largest.clone());
    let received = notes.until_received(|message| !message.entries.is_empty()).await;
    assert!(received == largest);
    drop(one);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_went_away_is_reported_once_and_found_again() {
    let (at_one, notes) = (Notes::new(), Notes::new());
    let served = Served::start(TWO, notes.clone()).await;
    let address = served.address.clone();
    let one = transport(ONE, at_one.clone());
    one.set_members(vec![(TWO, address.clone())]);
    until_connected(&one, ONE, TWO, &notes, 1).await;
    assert!(at_one.unreachable().is_empty());
    served.stop().await;
    at_one.until_unreachable(1).await;

    let served = Served::start_at(&address, PeerService::new(identity(TWO), notes.clone(), None, 0)).await;
    until_connected(&one, ONE, TWO, &notes, 2).await;
    assert_eq!(at_one.unreachable(), [TWO], "however many attempts there were");
    served.stop().await;
    at_one.until_unreachable(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_peer_costs_bounded_memory_and_delays_no_heartbeat() {
    let (at_one, notes) = (Notes::new(), Notes::new());
    let undelivered = 2 << 20;
    let service = PeerService::with_limits(identity(TWO), notes.clone(), None, 0, undelivered);
    let served = Served::start_at("127.0.0.1:0", service).await;
    let options = SendOptions { bulk_queue_bytes: 8 << 20, ..SendOptions::default() };
    let one = transport_with(ONE, at_one.clone(), options);
    one.set_members(vec![(TWO, served.address.clone())]);
    until_connected(&one, ONE, TWO, &notes, 1).await;

    notes.get_stuck();
    let piece = 256 << 10;
    let mut index = 0;
    // Heartbeats arrive while a hundred times as much as there is room for is sent.
    for commit in 2..50 {
        for _ in 0..64 {
            one.send(TWO, append(ONE, TWO, index, piece));
            index += 1;
            assert!(one.queued_bytes(TWO) <= (8 << 20) + (1 << 20), "the sender's queue grows");
        }
        one.send(TWO, heartbeat(ONE, TWO, commit));
        notes.until_received(is_heartbeat(commit)).await;
        assert!(notes.held_bytes() <= undelivered, "the receiver's share grows");
    }
    assert!(one.queued_bytes(TWO) > (6 << 20), "the queue is full, what does not fit is dropped");
    notes.go_on();
    at_one.until_unreachable(1).await;
    let last = index;
    one.send(TWO, append(ONE, TWO, last, 1));
    // The queue may still be full; Raft sends again.
    loop {
        let arriving = notes.until_received(|message| message.index == last);
        if timeout(Duration::from_millis(50), arriving).await.is_ok() {
            break;
        }
        one.send(TWO, append(ONE, TWO, last, 1));
    }
    drop(one);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_change_their_address_and_leave() {
    let (notes, moved) = (Notes::new(), Notes::new());
    let served = Served::start(TWO, notes.clone()).await;
    let served_elsewhere = Served::start(TWO, moved.clone()).await;
    let one = transport(ONE, Notes::new());
    one.set_members(vec![(ONE, "unused".into()), (TWO, served.address.clone())]);
    until_connected(&one, ONE, TWO, &notes, 1).await;
    one.set_members(vec![(TWO, served_elsewhere.address.clone())]);
    until_connected(&one, ONE, TWO, &moved, 2).await;
    assert!(!notes.received().iter().any(is_heartbeat(2)));
    one.set_members(vec![]);
    one.send(TWO, heartbeat(ONE, TWO, 3));
    one.send(THREE, heartbeat(ONE, THREE, 3));
    // Graceful stops wait for streams: they are over.
    served.stop().await;
    served_elsewhere.stop().await;
    assert!(!moved.received().iter().any(is_heartbeat(3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_node_is_told_why_and_reports_it() {
    let (at_one, notes) = (Notes::new(), Notes::new());
    notes.refuse("node 1 was removed");
    let served = Served::start(TWO, notes.clone()).await;
    let one = transport(ONE, at_one.clone());
    one.set_members(vec![(TWO, served.address.clone())]);
    at_one.until_unreachable(1).await;
    assert_eq!(notes.received(), []);
    assert_contains(&one, &served.address);
    drop(one);
    served.stop().await;
}

/// A stream of node 1 to node 2 by hand.
struct ByHand {
    requests: mpsc::Sender<ExchangeRequest>,
    answers: tonic::Streaming<steeple_wire::peer::v1::ExchangeAnswer>,
}

impl ByHand {
    async fn open(served: &Served, lane: Lane) -> Self {
        let mut client = PeerClient::connect(format!("http://{}", served.address)).await.unwrap();
        let (requests, sending) = mpsc::channel(8);
        let handshake = Some(identity(ONE).handshake(TWO));
        requests.send(ExchangeRequest { handshake, lane: lane.into(), batch: Bytes::new() }).await.unwrap();
        let mut answers = client.exchange(ReceiverStream::new(sending)).await.unwrap().into_inner();
        assert!(answers.message().await.unwrap().is_some());
        Self { requests, answers }
    }

    async fn send(&self, batch: Bytes) {
        self.requests.send(ExchangeRequest { batch, ..Default::default() }).await.unwrap();
    }

    async fn ended(mut self) -> tonic::Status {
        timeout(Duration::from_secs(20), self.answers.message()).await.unwrap().unwrap_err()
    }
}

fn batch(message: raft::eraftpb::Message) -> Bytes {
    encode_batch(vec![to_wire(message, Link { from: ONE, to: TWO }).unwrap()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_message_ends_its_stream_and_nothing_else() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let one = transport(THREE, Notes::new());
    one.set_members(vec![(TWO, served.address.clone())]);
    until_connected(&one, THREE, TWO, &notes, 1).await;

    let mut forged = to_wire(heartbeat(ONE, TWO, 99), Link { from: ONE, to: TWO }).unwrap();
    forged.term = 0;
    let mut gap = to_wire(append(ONE, TWO, 7, 1), Link { from: ONE, to: TWO }).unwrap();
    gap.entries[0].index = 99;
    let hostile = [
        (encode_batch(vec![forged]), "a message without a term"),
        (encode_batch(vec![gap]), "entry 99 where entry 8 follows"),
        (Bytes::from_static(b"\xff\xff\xff"), "a batch that cannot be read"),
        (Bytes::new(), "a batch without messages"),
    ];
    for (bytes, complaint) in hostile {
        let stream = ByHand::open(&served, Lane::Bulk).await;
        stream.send(batch(heartbeat(ONE, TWO, 50))).await;
        stream.send(bytes).await;
        let status = stream.ended().await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(complaint), "{status}");
    }
    let stream = ByHand::open(&served, Lane::Bulk).await;
    let handshake = Some(identity(ONE).handshake(TWO));
    stream.requests.send(ExchangeRequest { handshake, ..Default::default() }).await.unwrap();
    assert_eq!(stream.ended().await.message(), "a second handshake");

    assert!(!notes.received().iter().any(is_heartbeat(99)));
    until_connected(&one, THREE, TWO, &notes, 2).await;
    drop(one);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_larger_than_any_message_is_not_even_received() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let stream = ByHand::open(&served, Lane::Bulk).await;
    stream.send(Bytes::from(vec![0; super::super::limits::EXCHANGE_BYTES_MAX + 1])).await;
    assert_eq!(stream.ended().await.code(), Code::OutOfRange);
    assert_eq!(notes.received(), []);
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_stream_takes_the_place_of_an_older_one() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let older = ByHand::open(&served, Lane::Bulk).await;
    let other_lane = ByHand::open(&served, Lane::Control).await;
    let newer = ByHand::open(&served, Lane::Bulk).await;
    assert_eq!(older.ended().await.code(), Code::Aborted);
    newer.send(batch(heartbeat(ONE, TWO, 1))).await;
    notes.until_received(is_heartbeat(1)).await;
    other_lane.send(batch(heartbeat(ONE, TWO, 2))).await;
    notes.until_received(is_heartbeat(2)).await;
    drop((newer, other_lane));
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_ends_the_streams() {
    let notes: Arc<Notes> = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let stream = ByHand::open(&served, Lane::Control).await;
    notes.close();
    stream.send(batch(heartbeat(ONE, TWO, 1))).await;
    assert_eq!(stream.ended().await.code(), Code::Unavailable);
    let stream = ByHand::open(&served, Lane::Control).await;
    served.stop().await;
    assert_eq!(stream.ended().await.code(), Code::Unavailable);
}
