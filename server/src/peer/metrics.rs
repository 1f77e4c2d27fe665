//! Counters and gauges about peers. All carry the number of the peer; those about messages the lane too.

use metrics::{Counter, Gauge, counter, gauge};
use steeple_engine::ids::NodeId;

use super::messages::Lane;

/// What a queue holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// Counters and gauges of one lane to or from one peer.
#[derive(Clone, Debug)]
pub(super) struct LaneCounters {
    pub(super) sent_messages: Counter,
    pub(super) sent_bytes: Counter,
    pub(super) dropped_messages: Counter,
    pub(super) dropped_bytes: Counter,
    pub(super) received_messages: Counter,
    pub(super) received_bytes: Counter,
    /// Received, and not taken up yet by the group's thread.
    pub(super) undelivered_bytes: Gauge,
    /// Holds to be sent.
    queued_messages: Gauge,
    queued_bytes: Gauge,
}

impl LaneCounters {
    pub(super) fn new(peer: NodeId, lane: Lane) -> Self {
        let labels = [("peer", peer.to_string()), ("lane", lane.name().to_owned())];
        Self {
            sent_messages: counter!("steeple_peer_sent_messages_total", &labels),
            sent_bytes: counter!("steeple_peer_sent_bytes_total", &labels),
            dropped_messages: counter!("steeple_peer_dropped_messages_total", &labels),
            dropped_bytes: counter!("steeple_peer_dropped_bytes_total", &labels),
            received_messages: counter!("steeple_peer_received_messages_total", &labels),
            received_bytes: counter!("steeple_peer_received_bytes_total", &labels),
            undelivered_bytes: gauge!("steeple_peer_undelivered_bytes", &labels),
            queued_messages: gauge!("steeple_peer_queued_messages", &labels),
            queued_bytes: gauge!("steeple_peer_queued_bytes", &labels),
        }
    }

    pub(super) fn sent(&self, messages: usize, bytes: usize) {
        self.sent_messages.increment(messages as u64);
        self.sent_bytes.increment(bytes as u64);
    }

    pub(super) fn dropped(&self, messages: usize, bytes: usize) {
        self.dropped_messages.increment(messages as u64);
        self.dropped_bytes.increment(bytes as u64);
    }

    pub(super) fn queued(&self, holds: Holds) {
        self.queued_messages.set(holds.messages as f64);
        self.queued_bytes.set(holds.bytes as f64);
    }

    pub(super) fn received(&self, messages: usize, bytes: usize) {
        self.received_messages.increment(messages as u64);
        self.received_bytes.increment(bytes as u64);
    }
}

/// Attempts to connect to a peer after a connection broke or could not be made.
pub(super) fn reconnects(peer: NodeId) -> Counter {
    counter!("steeple_peer_reconnects_total", "peer" => peer.to_string())
}

/// Streams of a peer that were closed because of what it sent.
pub(super) fn violations(peer: NodeId) -> Counter {
    counter!("steeple_peer_violations_total", "peer" => peer.to_string())
}

/// Calls of nodes that were refused because of who they are.
pub(super) fn refusals() -> Counter {
    counter!("steeple_peer_refusals_total")
}

/// Bytes of snapshots sent to a peer.
pub(super) fn snapshot_sent_bytes(peer: NodeId) -> Counter {
    counter!("steeple_peer_snapshot_sent_bytes_total", "peer" => peer.to_string())
}

/// Bytes of snapshots received from a peer.
pub(super) fn snapshot_received_bytes(peer: NodeId) -> Counter {
    counter!("steeple_peer_snapshot_received_bytes_total", "peer" => peer.to_string())
}
