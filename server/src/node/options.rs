//! Settings and parts of a node: plain values on one side, clock and randomness on the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use steeple_engine::ids::{ClusterId, HistoryId, NodeId, Timestamp};
use steeple_engine::log::LogOptions;
use steeple_engine::record_store::{RecordStoreKind, RecordStoreOptions};
use steeple_raft::{Member, ReplicaOptions};

use crate::peer::{PeerIdentity, PeerSink, SnapshotProvider, Transport};

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// Where its files are; `None` keeps everything in memory, for tests.
    pub data: Option<PathBuf>,
    /// The log.
    pub log: LogOptions,
    /// Which record store.
    pub store: RecordStoreKind,
    /// Its settings.
    pub store_options: RecordStoreOptions,
    /// How often the record store is flushed. Bounds what a start has to fold again.
    pub flush_interval: Duration,
    /// How long a carried-out request is remembered.
    pub request_window: Duration,
    /// How long events are kept when nothing else wants them.
    pub history_retention: Duration,
    /// How long the log is kept whole for members of the group that are away. Not where there are none.
    pub follower_log_retention: Duration,
    /// Items of the streams older than this are pruned; `None` leaves pruning to the callers.
    pub stream_retention: Option<Duration>,
    /// How often space is given back; `None` leaves that to the callers.
    pub compaction_interval: Option<Duration>,
    /// A new base snapshot is due once the log has grown by this much since the last one.
    pub base_interval_bytes: u64,
    /// Sealed segments with a smaller share of wanted bytes are rewritten.
    pub rewrite_below: f64,
    /// Commands waiting or in flight at the most; more wait at the door.
    pub submissions_max: usize,
    /// Tails served at a time.
    pub tails_max: usize,
    /// The group that the node belongs to.
    pub cluster: ClusterOptions,
}

/// Which member of which group a node is.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its number in the group.
    pub node: NodeId,
    /// The members with which a new group begins, the same on each of them.
    pub origin: ClusterOrigin,
    /// Length of a tick, by which elections and heartbeats are timed.
    pub tick: Duration,
    /// Heartbeats, elections, and what may be on its way to a follower.
    pub replica: ReplicaOptions,
    /// Ticks between two comparisons of the members' records, unless nothing was folded between them.
    pub check_ticks: u64,
    /// How long a read waits for a leader to confirm it.
    pub read_patience: Duration,
    /// For how long a leader that was confirmed answers reads without asking; `None` for not at all. At the most
    /// [`lease_within`] what the member takes at the least to begin an election that has the shortest time-outs. It stands
    /// on clocks that run at nearly the same rate (`docs/raft.md`).
    pub lease: Option<Duration>,
    /// Where its configuration says that it is reached; empty where that says nothing. Compared with what the group knows.
    pub advertised: Member,
    /// The version of the features that it supports. Only tests have a reason to say less, or more, than is true.
    pub features: u32,
}

/// The version of the features that this build supports. A change that older builds could not follow raises it, and asks
/// for the group's version before it is used (`Node::features`).
pub const FEATURES_SUPPORTED: u32 = 2;

/// The version from which on a voter guards its votes. A leader has a lease only in a group that uses it.
pub const VOTES_GUARDED_FROM: u32 = 2;

/// The shortest tick that a configuration may name.
pub const TICK_MIN_MILLISECONDS: u64 = 10;

/// How long a lease is where leases are used. Members may have ticks of other lengths, at least while an operator changes that
/// on one after the other, and each guards its votes for as long as its own ticks say: so it follows from the shortest one
/// and not from the own.
pub const LEASE: Duration = lease_within(Duration::from_millis(TICK_MIN_MILLISECONDS * 12));

/// A lease is this much of the time for which votes are guarded. The monotonic clocks of any two members are taken to run at
/// rates that differ by less than a tenth (those of sound machines differ by less than one part in a thousand); the other
/// tenth is a margin.
const LEASE_PERCENT: u64 = 80;

/// How long a lease may be where every voter guards its votes for so long.
#[must_use]
pub const fn lease_within(guarded: Duration) -> Duration {
    Duration::from_micros(guarded.as_micros() as u64 / 100 * LEASE_PERCENT)
}

/// How a data directory that is empty begins.
#[derive(Clone, Debug)]
pub enum ClusterOrigin {
    /// As a group of its own, with one member.
    Alone(Member),
    /// As one of the members that found a group together.
    Founding {
        /// The cluster, the same on all of them.
        cluster: ClusterId,
        /// The line of revisions, the same on all of them.
        history: HistoryId,
        /// All of them.
        members: BTreeMap<u64, Member>,
    },
    /// As a member that a group which is there already adds, or has added.
    Joining {
        /// The cluster.
        cluster: ClusterId,
        /// The line of revisions.
        history: HistoryId,
        /// The members that it has now, as far as they are known: whom to answer before the log says who they are.
        members: BTreeMap<u64, Member>,
    },
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            node: NodeId(1),
            origin: ClusterOrigin::Alone(Member::default()),
            tick: Duration::from_millis(50),
            replica: ReplicaOptions::default(),
            check_ticks: 200,
            read_patience: Duration::from_secs(5),
            lease: None,
            advertised: Member::default(),
            features: FEATURES_SUPPORTED,
        }
    }
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            data: None,
            log: LogOptions::default(),
            store: RecordStoreKind::Sled,
            store_options: RecordStoreOptions::default(),
            flush_interval: Duration::from_secs(5),
            request_window: Duration::from_secs(600),
            history_retention: Duration::from_secs(24 * 3600),
            follower_log_retention: Duration::from_secs(3600),
            stream_retention: None,
            compaction_interval: Some(Duration::from_secs(60)),
            base_interval_bytes: 256 << 20,
            rewrite_below: 0.3,
            submissions_max: 8192,
            tails_max: 10_000,
            cluster: ClusterOptions::default(),
        }
    }
}

impl NodeOptions {
    /// Everything in memory; nothing survives. A namespace or a node of this kind costs next to nothing.
    #[must_use]
    pub fn in_memory() -> Self {
        let log = LogOptions { segment_bytes: 8 << 20, segment_entries: 16 << 10, ..LogOptions::default() };
        Self { log, store: RecordStoreKind::Memory, ..Self::default() }
    }

    /// Everything under a directory, which is created when it is missing.
    #[must_use]
    pub fn at(data: impl Into<PathBuf>) -> Self {
        Self { data: Some(data.into()), ..Self::default() }
    }
}

/// What a node is given from outside.
#[derive(Clone)]
pub struct NodeParts {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Connects the node to its peers; `None` for one that will never have any.
    pub connect: Option<Connect>,
}

/// Connects a node to its peers. It is called in the context of the runtime that the group's thread drives.
pub type Connect =
    Arc<dyn Fn(PeerIdentity, Arc<dyn PeerSink>, Option<Arc<dyn SnapshotProvider>>) -> Arc<dyn Transport> + Send + Sync>;

impl Default for NodeParts {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), connect: None }
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// How long ago some moment was that stays the same while the process runs, whatever is done to the machine's clock. It
    /// goes on while the process stands still.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        let time = rustix::time::clock_gettime(MONOTONIC);
        // It counts from when the machine was started.
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
    }
}

/// Where there is one, the clock that goes on while the machine sleeps.
#[cfg(target_os = "linux")]
const MONOTONIC: rustix::time::ClockId = rustix::time::ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
