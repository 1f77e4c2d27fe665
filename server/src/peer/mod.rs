//! How the nodes of a group reach each other: messages of Raft both ways, and snapshots.
//!
//! [`Transport`] is what a node sends through, [`PeerSink`] what it receives with, [`SnapshotProvider`] where the
//! snapshots come from that others fetch. Two transports: [`local`] inside a process, and sockets ([`SocketTransport`]
//! and [`PeerService`]).
//!
//! Nothing here is reliable, because Raft repeats what is lost: a message that finds no room is dropped and counted.
//! What must not happen is that a sender waits, that a heartbeat waits behind entries, that memory grows with a peer
//! that is slow or gone, or that a peer's bytes do harm.

mod connect;
mod identity;
pub mod limits;
pub mod local;
pub mod messages;
mod metrics;
mod outgoing;
mod queue;
pub mod repair;
mod service;
pub mod snapshots;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::pin::Pin;

use raft::eraftpb::Message;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::Entry;
use steeple_raft::{Incarnation, Question, Statement};
use tokio::sync::OwnedSemaphorePermit;

use self::metrics::LaneCounters;

pub use self::connect::{ConnectError, EncryptedConnector, PeerConnector, PlainConnector, peer_endpoint};
pub use self::identity::{HandshakeError, Introduction, PeerIdentity};
pub use self::local::{LocalHub, LocalTransport};
pub use self::messages::{Lane, Link};
pub use self::outgoing::{SendOptions, SocketTransport};
pub use self::service::{PeerService, peer_server};
pub use self::snapshots::{
    FetchError, FetchOptions, FetchedSnapshot, ProvideError, ServedFile, ServedSnapshot, SnapshotProvider,
    WantedSnapshot,
};

/// A future that can be kept in a box, for traits that are used as objects.
pub type BoxFuture<'a, Output> = Pin<Box<dyn Future<Output = Output> + Send + 'a>>;

/// Sends to the other nodes of the group.
pub trait Transport: Send + Sync {
    /// Sends a message, or drops it when there is no way or no room. Never waits.
    fn send(&self, to: NodeId, message: Message);

    /// Says who the other nodes are and where, in place of what was said before. The own node may be among them.
    fn set_members(&self, members: Vec<(NodeId, String)>);

    /// Makes contact with a node even if there is nothing to send, so that both are introduced to each other
    /// ([`PeerSink::admit`]) and this one learns that it is admitted ([`PeerSink::admitted_by`]). Called again and again as
    /// long as that has not happened.
    fn greet(&self, to: NodeId);

    /// Fetches a snapshot from another node into a file beside `target`, going on with what an earlier attempt has left
    /// there, and verifies it. The caller publishes it.
    ///
    /// Needs a tokio runtime. Dropping the future keeps what has arrived.
    fn fetch_snapshot(
        &self,
        from: NodeId,
        wanted: WantedSnapshot,
        target: PathBuf,
    ) -> BoxFuture<'static, Result<FetchedSnapshot, FetchError>>;
}

/// Takes up what other nodes send. No call may block its thread.
pub trait PeerSink: Send + Sync {
    /// Takes up messages of one node, in the order in which it sent them, or drops them when there is no room. All of them
    /// are checked. They count against what may be waiting until the delivery is dropped; while there is no room, nothing
    /// more is read from that node.
    fn deliver(&self, delivery: Delivery) -> Delivered;

    /// As [`PeerSink::deliver`], but waits for room: for a transport that can hold the sender back meanwhile.
    fn deliver_when_room(&self, delivery: Delivery) -> BoxFuture<'_, Delivered> {
        let delivered = self.deliver(delivery);
        Box::pin(std::future::ready(delivered))
    }

    /// A node cannot be reached any more. Called once when its connection breaks or cannot be made, or when messages to
    /// it were dropped because it is too slow, and not again before messages went through to it.
    fn unreachable(&self, _node: NodeId) {}

    /// What this node's log holds, for a member whose log is damaged; the term of the question is taken up.
    fn describe_log(&self, _from: NodeId, _question: Question) -> BoxFuture<'static, Result<Statement, String>> {
        Box::pin(async { Err("this node does not tell what its log holds".into()) })
    }

    /// Entries of this node's log for such a member, as many as are there, intact and fit into one answer.
    fn entries(&self, _wanted: repair::WantedEntries) -> BoxFuture<'static, Result<Vec<Entry>, String>> {
        Box::pin(async { Err("this node hands out no entries".into()) })
    }

    /// Whether a node may send to this one, or be sent to. What has to be remembered of it is durable when this returns.
    ///
    /// # Errors
    /// When it may not. The text says why and what to do; it travels to that node.
    fn admit(&self, _peer: &Introduction) -> Result<(), HandshakeError> {
        Ok(())
    }

    /// Where this node's log ends, as it tells the others when it introduces itself; `None` while that is being changed.
    fn log_end(&self) -> Option<LogIndex> {
        None
    }

    /// A node has admitted this one.
    fn admitted_by(&self, _node: NodeId) {}

    /// A node does not admit this one: `for_good` because of its data directory, or else for a reason that may go away.
    fn turned_away_by(&self, _node: NodeId, _reason: &str, _for_good: bool) {}
}

/// Messages from one node.
#[derive(Debug)]
pub struct Delivery {
    /// Who sent them.
    pub from: NodeId,
    /// They themselves.
    pub messages: Vec<Message>,
    /// The data directory with which it was admitted; `None` for whom that was not asked.
    pub incarnation: Option<Incarnation>,
    /// Their part of what may be waiting.
    _room: Option<Room>,
}

/// A part of what may be waiting, given back when it is dropped.
#[derive(Debug)]
struct Room {
    permit: OwnedSemaphorePermit,
    counters: LaneCounters,
}

impl Room {
    fn new(permit: OwnedSemaphorePermit, counters: LaneCounters) -> Self {
        counters.undelivered_bytes.increment(permit.num_permits() as f64);
        Self { permit, counters }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.counters.undelivered_bytes.decrement(self.permit.num_permits() as f64);
    }
}

impl Delivery {
    /// Messages that count against nothing.
    #[must_use]
    pub fn new(from: NodeId, messages: Vec<Message>) -> Self {
        Self { from, messages, incarnation: None, _room: None }
    }

    /// Messages of a node that was introduced, which count against nothing.
    #[must_use]
    pub fn introduced(from: &Introduction, messages: Vec<Message>) -> Self {
        Self { incarnation: Some(from.incarnation), ..Self::new(from.node, messages) }
    }

    fn holding(from: &Introduction, messages: Vec<Message>, room: Room) -> Self {
        Self { from: from.node, messages, incarnation: Some(from.incarnation), _room: Some(room) }
    }
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivered {
    /// It was taken up.
    Taken,
    /// There is no room for it; it is lost.
    Crowded,
    /// The node is stopping and takes up nothing more.
    Closed,
}
