//! A transport inside a process: for clusters that an application embeds, and for tests.
//!
//! A [`LocalHub`] connects nodes. It needs no threads: a message that is sent is handed to the other node's sink at
//! once, if there is room and the link is not cut. What the other node has not taken up is bounded as with sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use raft::eraftpb::Message;
use steeple_engine::ids::NodeId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits::{BULK_UNDELIVERED_BYTES, CONTROL_UNDELIVERED_BYTES};
use super::messages::{encoded_bytes, travels};
use super::metrics::LaneCounters;
use super::snapshots::{LocalOrigin, fetch};
use super::{
    BoxFuture, Delivered, Delivery, FetchError, FetchOptions, FetchedSnapshot, HandshakeError, Introduction, Lane,
    PeerIdentity, PeerSink, Room, SnapshotProvider, Transport, WantedSnapshot,
};

/// Connects nodes of one process. Clones are the same hub.
#[derive(Clone, Default)]
pub struct LocalHub {
    state: Arc<Mutex<State>>,
    fetch: FetchOptions,
}

#[derive(Default)]
struct State {
    nodes: BTreeMap<NodeId, Joined>,
    /// Directed: from, to.
    cut: BTreeSet<(NodeId, NodeId)>,
    links: BTreeMap<(NodeId, NodeId, Lane), Way>,
    registrations: u64,
}

#[derive(Clone)]
struct Joined {
    /// Tells a node from a later one with the same number.
    registration: u64,
    introduction: Introduction,
    sink: Arc<dyn PeerSink>,
    snapshots: Option<Arc<dyn SnapshotProvider>>,
}

/// One lane from one node to another.
#[derive(Clone)]
struct Way {
    room: Arc<Semaphore>,
    capacity: u32,
    counters: Arc<LaneCounters>,
}

impl Way {
    fn new(to: NodeId, lane: Lane) -> Self {
        let capacity = match lane {
            Lane::Control => CONTROL_UNDELIVERED_BYTES,
            Lane::Bulk => BULK_UNDELIVERED_BYTES,
        };
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX);
        let room = Arc::new(Semaphore::new(capacity as usize));
        Self { room, capacity, counters: Arc::new(LaneCounters::new(to, lane)) }
    }

    fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.capacity);
        Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()
    }
}

/// What sending found.
enum Found {
    /// The link is cut, and the sender does not notice.
    Cut,
    /// There is no such node.
    Nobody,
    Somebody(Joined, Way),
}

impl LocalHub {
    /// A hub without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A hub without nodes, where snapshots are fetched in another way than usual.
    #[must_use]
    pub fn with_fetch_options(fetch: FetchOptions) -> Self {
        Self { fetch, ..Self::default() }
    }

    /// Connects a node; one with the same number that was there before is forgotten. It is connected until the transport
    /// is dropped.
    #[must_use]
    pub fn join(
        &self,
        identity: PeerIdentity,
        sink: Arc<dyn PeerSink>,
        snapshots: Option<Arc<dyn SnapshotProvider>>,
    ) -> LocalTransport {
        let (node, introduction) = (identity.node, identity.introduction());
        let mut state = self.state.lock();
        state.registrations += 1;
        let joined = Joined { registration: state.registrations, introduction, sink, snapshots };
        state.nodes.insert(node, joined.clone());
        // What an earlier process of the node has not taken up does not burden the new one.
        state.links.retain(|(_, to, _), _| *to != node);
        LocalTransport { hub: self.clone(), node, joined, members: Mutex::default(), lost: Mutex::default() }
    }

    /// Cuts the way from one node to another; the way back stays open. Messages on it are lost without notice.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.insert((from, to));
    }

    /// Opens the way again.
    pub fn mend(&self, from: NodeId, to: NodeId) {
        self.state.lock().cut.remove(&(from, to));
    }

    /// Cuts all ways to and from a node that there are now.
    pub fn isolate(&self, node: NodeId) {
        let mut state = self.state.lock();
        let others: Vec<NodeId> = state.nodes.keys().copied().filter(|other| *other != node).collect();
        for other in others {
            state.cut.insert((node, other));
            state.cut.insert((other, node));
        }
    }

    /// Opens all ways again.
    pub fn mend_all(&self) {
        self.state.lock().cut.clear();
    }

    fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        let state = self.state.lock();
        state.nodes.contains_key(&to) && !state.cut.contains(&(from, to))
    }

    fn find(&self, from: NodeId, to: NodeId, lane: Lane) -> Found {
        let mut state = self.state.lock();
        if state.cut.contains(&(from, to)) {
            return Found::Cut;
        }
        let Some(joined) = state.nodes.get(&to).cloned() else { return Found::Nobody };
        let way = state.links.entry((from, to, lane)).or_insert_with(|| Way::new(to, lane));
        Found::Somebody(joined, way.clone())
    }
}

impl fmt::Debug for LocalHub {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        formatter.debug_struct("LocalHub").field("nodes", &state.nodes.keys()).field("cut", &state.cut).finish()
    }
}

/// A node's connection to a [`LocalHub`].
pub struct LocalTransport {
    hub: LocalHub,
    node: NodeId,
    joined: Joined,
    members: Mutex<BTreeSet<NodeId>>,
    /// Nodes that were reported as unreachable and have not been reached since.
    lost: Mutex<BTreeSet<NodeId>>,
}

impl fmt::Debug for LocalTransport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LocalTransport").field("node", &self.node).finish_non_exhaustive()
    }
}

impl LocalTransport {
    fn report(&self, to: NodeId) {
        if self.lost.lock().insert(to) {
            self.joined.sink.unreachable(to);
        }
    }

    /// What two nodes ask of each other when they connect. Whether both of them want to.
    fn introduce(&self, other: &Joined) -> bool {
        let introduced = |joined: &Joined| Introduction { log_end: joined.sink.log_end(), ..joined.introduction };
        match self.joined.sink.admit(&introduced(other)) {
            // A node that is stopping takes nothing up any more and has still something to say: who is to lead.
            Ok(()) | Err(HandshakeError::NotAdmitted(_)) => {}
            Err(refused) => {
                tracing::debug!(%refused, "a node is not the one that was expected");
                return false;
            }
        }
        match other.sink.admit(&introduced(&self.joined)) {
            Ok(()) => true,
            Err(refused) => {
                let for_good = refused.is_for_good();
                self.joined.sink.turned_away_by(other.introduction.node, &refused.to_string(), for_good);
                false
            }
        }
    }
}

impl Transport for LocalTransport {
    fn send(&self, to: NodeId, message: Message) {
        let lane = Lane::of(&message);
        let fits = message.from == self.node.0 && message.to == to.0 && travels(message.msg_type);
        if !fits || !self.members.lock().contains(&to) {
            return;
        }
        let bytes = encoded_bytes(&message);
        let (joined, way) = match self.hub.find(self.node, to, lane) {
            Found::Somebody(joined, way) => (joined, way),
            Found::Nobody => return self.report(to),
            Found::Cut => return,
        };
        let Some(room) = way.reserve(bytes).filter(|_| self.introduce(&joined)) else {
            way.counters.dropped(1, bytes);
            return self.report(to);
        };
        let room = Room::new(room, LaneCounters::clone(&way.counters));
        match joined.sink.deliver(Delivery::holding(&self.joined.introduction, vec![message], room)) {
            Delivered::Taken => {
                way.counters.sent(1, bytes);
                self.lost.lock().remove(&to);
            }
            Delivered::Crowded => {
                way.counters.dropped(1, bytes);
                self.report(to);
            }
            Delivered::Closed => self.report(to),
        }
    }

    fn set_members(&self, members: Vec<(NodeId, String)>) {
        *self.members.lock() = members.into_iter().map(|(node, _)| node).filter(|node| *node != self.node).collect();
    }

    fn greet(&self, to: NodeId) {
        let is_there = self.hub.is_open(self.node, to) && self.hub.is_open(to, self.node);
        let Found::Somebody(other, _) = self.hub.find(self.node, to, Lane::Control) else { return };
        if is_there && self.introduce(&other) {
            self.joined.sink.admitted_by(to);
        }
    }

    fn fetch_snapshot(
        &self,
        from: NodeId,
        wanted: WantedSnapshot,
        target: PathBuf,
    ) -> BoxFuture<'static, Result<FetchedSnapshot, FetchError>> {
        let provider = self.hub.state.lock().nodes.get(&from).and_then(|joined| joined.snapshots.clone());
        let (hub, node, options) = (self.hub.clone(), self.node, self.hub.fetch);
        Box::pin(async move {
            let provider = provider.ok_or(FetchError::NoWay)?;
            let is_open = Arc::new(move || hub.is_open(from, node) && hub.is_open(node, from));
            let origin = LocalOrigin { node, provider, is_open };
            fetch(&origin, wanted.minimum, target, options).await
        })
    }
}

impl Drop for LocalTransport {
    fn drop(&mut self) {
        let mut state = self.hub.state.lock();
        if state.nodes.get(&self.node).is_some_and(|joined| joined.registration == self.joined.registration) {
            let left = state.nodes.remove(&self.node);
            state.links.retain(|(_, to, _), _| *to != self.node);
            // Whatever the sink owns is dropped without the lock.
            drop(state);
            drop(left);
        }
    }
}
