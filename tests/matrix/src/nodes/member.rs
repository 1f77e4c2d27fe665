//! One member of a group: its disks, what it sends, how others reach it, and what it is doing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::ids::{ClusterId, HistoryId, LogIndex, NodeId, Timestamp};
use steeple_engine::log::{LogOptions, Verification};
use steeple_engine::record_store::RecordStoreKind;
use steeple_raft::eraftpb::Message;
use steeple_raft::{Member, ReplicaOptions};
use steeple_server::node::stepped::{Shelf, SimulatedStorage, SteppedNode, SteppedPatient};
use steeple_server::node::{Clock, ClusterOptions, ClusterOrigin, NodeOptions};
use steeple_server::peer::{
    BoxFuture, FetchError, FetchedSnapshot, Introduction, PeerSink, SnapshotProvider, Transport, WantedSnapshot,
};
use tokio::sync::oneshot;

use super::TICK;

/// What the clocks say at the beginning.
const EPOCH_MICROS: u64 = 1_800_000_000_000_000;

/// What survives of a member.
pub struct Disks {
    /// With the log.
    pub log: SimulatedDisk,
    /// With the base snapshot.
    pub base: SimulatedDisk,
    /// The record stores.
    pub stores: Shelf,
}

impl Disks {
    pub(super) fn new() -> Self {
        Self { log: SimulatedDisk::new(), base: SimulatedDisk::new(), stores: Shelf::default() }
    }

    /// The same again, independent of these.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let stores = self.stores.crash(|unflushed| unflushed);
        Self { log: self.log.duplicate_with_failures(), base: self.base.duplicate_with_failures(), stores }
    }

    /// What a crash leaves.
    pub(super) fn crash(&self, loss: CrashLoss, seed: u64) -> Self {
        let kept = |unflushed: usize| if loss == CrashLoss::Everything { 0 } else { unflushed };
        Self { log: self.log.crash(loss, seed), base: self.base.crash(loss, seed), stores: self.stores.crash(kept) }
    }

    pub(super) fn storage(self) -> Arc<SimulatedStorage> {
        Arc::new(SimulatedStorage { log: Arc::new(self.log), base: self.base, stores: self.stores })
    }
}

/// The time of a group.
#[derive(Clone, Default)]
pub(super) struct Time(pub(super) Arc<AtomicU64>);

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MICROS + self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// What a member wants to send.
#[derive(Clone, Default)]
pub(super) struct Outbox(pub(super) Arc<Mutex<Sent>>);

#[derive(Default)]
pub(super) struct Sent {
    pub(super) messages: Vec<Message>,
    pub(super) greetings: Vec<NodeId>,
    pub(super) fetches: Vec<Fetch>,
}

pub(super) struct Fetch {
    pub(super) from: NodeId,
    pub(super) minimum: LogIndex,
    pub(super) answer: oneshot::Sender<Result<FetchedSnapshot, FetchError>>,
}

impl Transport for Outbox {
    fn send(&self, _: NodeId, message: Message) {
        self.0.lock().messages.push(message);
    }

    fn greet(&self, to: NodeId) {
        self.0.lock().greetings.push(to);
    }

    fn set_members(&self, _: Vec<(NodeId, String)>) {}

    fn fetch_snapshot(
        &self,
        from: NodeId,
        wanted: WantedSnapshot,
        _: PathBuf,
    ) -> BoxFuture<'static, Result<FetchedSnapshot, FetchError>> {
        let (answer, fetched) = oneshot::channel();
        self.0.lock().fetches.push(Fetch { from, minimum: wanted.minimum, answer });
        Box::pin(async move { fetched.await.unwrap_or(Err(FetchError::CutOff)) })
    }
}

/// How others reach a member.
#[derive(Clone, Default)]
pub(super) struct Connected {
    pub(super) sink: Arc<Mutex<Option<Arc<dyn PeerSink>>>>,
    pub(super) snapshots: Arc<Mutex<Option<Arc<dyn SnapshotProvider>>>>,
    pub(super) introduction: Arc<Mutex<Option<Introduction>>>,
}

/// What a member is doing.
pub(super) enum Doing {
    Stopped,
    Running(Box<SteppedNode>),
    Repairing(Box<Repairing>),
    /// It does not start.
    Refusing(String),
}

pub(super) struct Repairing {
    pub(super) patient: SteppedPatient,
    /// The log was whole when it was opened: records and base snapshot are missing.
    pub(super) lacks_records: bool,
    pub(super) obstacle: String,
}

/// One member.
pub(super) struct MemberNode {
    pub(super) log: SimulatedDisk,
    pub(super) base: SimulatedDisk,
    pub(super) storage: Arc<SimulatedStorage>,
    pub(super) outbox: Outbox,
    pub(super) connected: Connected,
    pub(super) doing: Doing,
    /// Counts its starts.
    pub(super) lives: u64,
}

impl MemberNode {
    pub(super) fn over(disks: Disks) -> Self {
        let (log, base) = (disks.log.clone(), disks.base.clone());
        let (outbox, connected) = (Outbox::default(), Connected::default());
        Self { log, base, storage: disks.storage(), outbox, connected, doing: Doing::Stopped, lives: 0 }
    }

    pub(super) fn disks(&self) -> Disks {
        let stores = self.storage.stores.crash(|unflushed| unflushed);
        Disks { log: self.log.clone(), base: self.base.clone(), stores }
    }

    pub(super) fn running(&self) -> Option<&SteppedNode> {
        match &self.doing {
            Doing::Running(node) => Some(node),
            _ => None,
        }
    }

    pub(super) fn running_mut(&mut self) -> Option<&mut SteppedNode> {
        match &mut self.doing {
            Doing::Running(node) => Some(node),
            _ => None,
        }
    }

    pub(super) fn sink(&self) -> Option<Arc<dyn PeerSink>> {
        self.connected.sink.lock().clone().filter(|_| self.running().is_some())
    }

    pub(super) fn introduction(&self) -> Option<Introduction> {
        let known = (*self.connected.introduction.lock())?;
        self.sink().map(|sink| Introduction { log_end: sink.log_end(), ..known })
    }
}

/// Settings of the members. Nothing is kept for longer than it is wanted, and everything is read when a log is opened.
pub(super) fn options(id: u64, members: u64) -> NodeOptions {
    let member = |number: u64| {
        let address = format!("member-{number}");
        (number, Member { peer_address: address.clone(), client_address: address })
    };
    let log = LogOptions {
        segment_bytes: 32 << 10,
        segment_entries: 16,
        spare_segments: 0,
        verification: Verification::Everything,
        ..LogOptions::default()
    };
    NodeOptions {
        data: None,
        log,
        store: RecordStoreKind::Memory,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        follower_log_retention: Duration::ZERO,
        compaction_interval: None,
        base_interval_bytes: 1,
        // Entries stand where the group has them, so that it can be said what is left of each.
        rewrite_below: 0.0,
        cluster: ClusterOptions {
            node: NodeId(id),
            origin: ClusterOrigin::Founding {
                cluster: ClusterId([1; 16]),
                history: HistoryId([1; 16]),
                members: (1..=members).map(member).collect(),
            },
            tick: TICK,
            replica: ReplicaOptions { heartbeat_ticks: 2, election_ticks: 10, ..ReplicaOptions::default() },
            ..ClusterOptions::default()
        },
        ..NodeOptions::default()
    }
}
