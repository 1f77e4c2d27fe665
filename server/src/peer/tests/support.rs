//! Nodes that only note what happens to them.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::{Entry, Message, MessageType};
use steeple_engine::ids::{ClusterId, GroupId, NodeId};
use steeple_raft::Incarnation;
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::server::TcpIncoming;

use super::super::{
    Delivered, Delivery, HandshakeError, Introduction, PeerIdentity, PeerService, PeerSink, PlainConnector,
    SendOptions, SnapshotProvider, SocketTransport,
};

pub(super) const ONE: NodeId = NodeId(1);
pub(super) const TWO: NodeId = NodeId(2);
pub(super) const THREE: NodeId = NodeId(3);

/// Longer than anything takes that is going to happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn identity(node: NodeId) -> PeerIdentity {
    let incarnation = Incarnation([u8::try_from(node.0).expect("a small number"); 16]);
    PeerIdentity { cluster: ClusterId([7; 16]), group: GroupId(1), node, incarnation, features: 1 }
}

pub(super) fn heartbeat(from: NodeId, to: NodeId, commit: u64) -> Message {
    Message { msg_type: MessageType::MsgHeartbeat, from: from.0, to: to.0, term: 1, commit, ..Message::default() }
}

/// An append of one entry with so many bytes.
pub(super) fn append(from: NodeId, to: NodeId, index: u64, bytes: usize) -> Message {
    let entry = Entry { term: 1, index: index + 1, data: Bytes::from(vec![b'x'; bytes]), ..Entry::default() };
    Message {
        msg_type: MessageType::MsgAppend,
        from: from.0,
        to: to.0,
        term: 1,
        log_term: u64::from(index > 0),
        index,
        entries: vec![entry].into(),
        ..Message::default()
    }
}

/// Waits until something holds, looking again whenever `changed` is told.
pub(super) async fn until<Output>(changed: &Notify, mut look: impl FnMut() -> Option<Output>) -> Output {
    let looking = async {
        loop {
            let notified = changed.notified();
            if let Some(output) = look() {
                return output;
            }
            notified.await;
        }
    };
    timeout(PATIENCE, looking).await.expect("it happens in time")
}

/// Notes what it gets. While it is stuck, it holds on to the room of its deliveries.
#[derive(Default)]
pub(super) struct Notes {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    received: Vec<Message>,
    unreachable: Vec<NodeId>,
    stuck: Option<Vec<Delivery>>,
    refusal: Option<String>,
    known: Option<Introduction>,
    admitted_by: Vec<NodeId>,
    turned_away: Vec<String>,
    closed: bool,
}

impl Notes {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn received(&self) -> Vec<Message> {
        self.state.lock().received.clone()
    }

    pub(super) fn unreachable(&self) -> Vec<NodeId> {
        self.state.lock().unreachable.clone()
    }

    pub(super) fn get_stuck(&self) {
        self.state.lock().stuck = Some(Vec::new());
    }

    /// Takes up what was delivered, and all that comes.
    pub(super) fn go_on(&self) {
        let stuck = self.state.lock().stuck.take();
        drop(stuck);
    }

    pub(super) fn refuse(&self, reason: &str) {
        self.state.lock().refusal = Some(reason.into());
    }

    /// From now on this node is admitted only as it introduces itself here.
    pub(super) fn know(&self, peer: Introduction) {
        self.state.lock().known = Some(peer);
    }

    /// Waits until a node has admitted this one.
    pub(super) async fn until_admitted_by(&self, node: NodeId) {
        until(&self.changed, || self.state.lock().admitted_by.contains(&node).then_some(())).await;
    }

    /// Waits until this node was turned away, and says why.
    pub(super) async fn until_turned_away(&self) -> String {
        until(&self.changed, || self.state.lock().turned_away.first().cloned()).await
    }

    /// Why this node was turned away.
    pub(super) fn turned_away(&self) -> Vec<String> {
        self.state.lock().turned_away.clone()
    }

    pub(super) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// Bytes of entries that it holds on to.
    pub(super) fn held_bytes(&self) -> usize {
        let state = self.state.lock();
        let held = state.stuck.iter().flatten().flat_map(|delivery| &delivery.messages);
        held.flat_map(|message| message.entries.iter()).map(|entry| entry.data.len()).sum()
    }

    pub(super) async fn until_received(&self, is_it: impl Fn(&Message) -> bool) -> Message {
        until(&self.changed, || self.state.lock().received.iter().find(|message| is_it(message)).cloned()).await
    }

    pub(super) async fn until_unreachable(&self, times: usize) {
        until(&self.changed, || (self.state.lock().unreachable.len() >= times).then_some(())).await;
    }
}

impl PeerSink for Notes {
    fn deliver(&self, delivery: Delivery) -> Delivered {
        let mut state = self.state.lock();
        if state.closed {
            return Delivered::Closed;
        }
        state.received.extend(delivery.messages.iter().cloned());
        if let Some(stuck) = &mut state.stuck {
            stuck.push(delivery);
        }
        drop(state);
        self.changed.notify_waiters();
        Delivered::Taken
    }

    fn unreachable(&self, node: NodeId) {
        self.state.lock().unreachable.push(node);
        self.changed.notify_waiters();
    }

    fn admit(&self, peer: &Introduction) -> Result<(), HandshakeError> {
        let state = self.state.lock();
        if let Some(known) = state.known.filter(|known| known.node == peer.node && known != peer) {
            let (from, known) = (peer.node, known.incarnation);
            return Err(HandshakeError::WrongDirectory { from, theirs: peer.incarnation, known });
        }
        state.refusal.clone().map_or(Ok(()), |reason| Err(HandshakeError::NotAdmitted(reason)))
    }

    fn admitted_by(&self, node: NodeId) {
        self.state.lock().admitted_by.push(node);
        self.changed.notify_waiters();
    }

    fn turned_away_by(&self, _node: NodeId, reason: &str, for_good: bool) {
        if for_good {
            self.state.lock().turned_away.push(reason.to_owned());
            self.changed.notify_waiters();
        }
    }
}

/// A node that receives over a socket.
pub(super) struct Served {
    pub(super) address: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Served {
    pub(super) async fn start(node: NodeId, sink: Arc<Notes>) -> Self {
        Self::start_at("127.0.0.1:0", PeerService::new(identity(node), sink, None, 0)).await
    }

    pub(super) async fn with_snapshots(node: NodeId, snapshots: Arc<dyn SnapshotProvider>) -> Self {
        Self::start_at("127.0.0.1:0", PeerService::new(identity(node), Notes::new(), Some(snapshots), 0)).await
    }

    pub(super) async fn start_at(address: &str, service: PeerService) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (stop, stopped) = oneshot::channel::<()>();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let task = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            service.serve(crate::authorization::Access::Everyone, incoming, shutdown).await.expect("serving ends well");
        });
        Self { address, stop, task }
    }

    /// Stops, and waits until the address is free.
    pub(super) async fn stop(self) {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.task).await.expect("it ends in time").expect("it does not panic");
    }
}

pub(super) fn transport(node: NodeId, sink: Arc<Notes>) -> SocketTransport {
    transport_with(node, sink, SendOptions::default())
}

pub(super) fn transport_with(node: NodeId, sink: Arc<Notes>, options: SendOptions) -> SocketTransport {
    let runtime = tokio::runtime::Handle::current();
    SocketTransport::new(identity(node), Arc::new(PlainConnector), sink, options, runtime)
}

pub(super) fn is_heartbeat(commit: u64) -> impl Fn(&Message) -> bool {
    move |message| message.msg_type == MessageType::MsgHeartbeat && message.commit == commit
}

pub(super) fn assert_contains(text: &impl Debug, part: &str) {
    let text = format!("{text:?}");
    assert!(text.contains(part), "no {part:?} in {text}");
}
