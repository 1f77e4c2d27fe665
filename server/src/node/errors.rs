//! Why a node did not start, and why it did not carry something out.

use std::io;
use std::path::PathBuf;

use steeple_engine::domain::Rejection;
use steeple_engine::event::EventDecodeError;
use steeple_engine::ids::{ClusterId, LogIndex, NodeId, RequestId, Revision};
use steeple_engine::log::LogError;
use steeple_engine::record_store::RecordStoreError;
use steeple_engine::table::RecordDecodeError;
use steeple_engine::view::{ReadError, ViewError};
use steeple_raft::ReplicaError;
use steeple_raft::membership::MembershipError;
use thiserror::Error;

use super::roster::RosterError;

/// Why a node did not start. Nothing was lost by trying.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    Directory {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A restore into the directory was not finished.
    #[error(transparent)]
    UnfinishedRestore(#[from] steeple_snapshot::restore::Unfinished),
    /// The log cannot be opened. Damage that may as well be an unfinished write is named so; `log.cut_undecided` is how an
    /// operator decides.
    #[error("log: {0}")]
    Log(#[from] LogError),
    /// It is not known as which data directory this one is known to the other nodes.
    #[error(transparent)]
    Roster(#[from] RosterError),
    /// The view could not be rebuilt.
    #[error("view: {0}")]
    View(#[from] ViewError),
    /// The record store could not even be created anew.
    #[error("record store: {0}")]
    Store(#[from] RecordStoreError),
    /// The record store neither answers nor fails, and a thread that cannot be ended waits for it.
    #[error(
        "the record store in {} neither answers nor fails, and cannot be closed: end this process and start it again, which \
         makes it anew from base snapshot and log; if it does not, delete that directory before",
        directory.display()
    )]
    StuckStore {
        /// Where its files are.
        directory: PathBuf,
    },
    /// The log does not reach back far enough to rebuild the view.
    #[error(
        "the records are folded up to log index {folded} and the log begins at {first}: the events between are gone, \
         and no base snapshot holds them ({base}); restore a snapshot"
    )]
    MissingEvents {
        /// The last entry folded.
        folded: LogIndex,
        /// The oldest entry of the log.
        first: LogIndex,
        /// What became of the base snapshot.
        base: String,
    },
    /// The records are newer than the log.
    #[error(
        "the records are folded up to log index {folded} and the log ends at {last}: log files are missing; put them \
         back, or restore a snapshot"
    )]
    LogBehind {
        /// The last entry folded.
        folded: LogIndex,
        /// The newest entry of the log.
        last: LogIndex,
    },
    /// An entry of the log cannot be read as an event.
    #[error("log entry {index}: {source}")]
    Event {
        /// The entry.
        index: LogIndex,
        /// What is wrong with it.
        source: EventDecodeError,
    },
    /// A snapshot from a peer was being taken over when the node ended, and that cannot be finished.
    #[error("taking over a snapshot was interrupted and cannot be finished: {0}")]
    Takeover(#[from] Box<super::install::InstallError>),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// The data directory belongs to another node.
    #[error(
        "the data directory belongs to node {found} of cluster {cluster}, and this is to be node {wanted}; correct \
         `cluster.node`, or give this node a data directory of its own"
    )]
    OtherNode {
        /// The node that it belongs to.
        found: NodeId,
        /// Its cluster.
        cluster: ClusterId,
        /// The node that was to be started.
        wanted: NodeId,
    },
    /// The group uses what this build does not know.
    #[error(
        "the group uses features up to version {active}, and this build supports them up to version {supported}; start a \
         newer build"
    )]
    Features {
        /// What this build supports.
        supported: u32,
        /// What the group uses.
        active: u32,
    },
    /// The members of the group cannot be read or written.
    #[error("the members of the group: {0}")]
    Membership(#[from] MembershipError),
    /// Consensus does not start from what is stored.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The node stopped before it served.
    #[error("the node stopped while it started: {0}")]
    Failed(String),
}

/// Why a mutation has no answer.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// Refused; nothing changed.
    #[error("{rejection}")]
    Rejected {
        /// The state that the refusal is about.
        revision: Revision,
        /// Why.
        rejection: Rejection,
    },
    /// It may have happened or not. Repeating it with the same request id finds out.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// It did not happen: the node takes no mutations now.
    #[error("the node takes no mutations: {0}")]
    Unavailable(String),
    /// It did not happen: another node decides.
    #[error("{}", not_leader(.leader.as_ref()))]
    NotLeader {
        /// Which one, and where clients reach it, if that is known.
        leader: Option<(NodeId, String)>,
    },
    /// It did not happen: the request id stands for another mutation.
    #[error("request id {0} was used for a different request")]
    RequestReused(RequestId),
    /// It did not happen: it is too large.
    #[error("the change takes {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Size of the event.
        bytes: usize,
        /// The most there may be.
        limit: usize,
    },
}

impl SubmitError {
    /// What the error comes to when earlier steps of the same request stay done, so that "nothing happened" would be wrong.
    pub(crate) fn after_a_step(self) -> Self {
        match self {
            Self::Unavailable(reason) => Self::OutcomeUnknown(reason),
            error @ Self::NotLeader { .. } => Self::OutcomeUnknown(error.to_string()),
            error => error,
        }
    }
}

pub(super) fn not_leader(leader: Option<&(NodeId, String)>) -> String {
    match leader {
        Some((node, address)) if !address.is_empty() => {
            format!("this node does not lead; node {node} at {address} does")
        }
        Some((node, _)) => format!("this node does not lead; node {node} does"),
        None => "this node does not lead, and knows of no leader".into(),
    }
}

/// Why something that was asked about the past or present has no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The view failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A stored event cannot be read.
    #[error(transparent)]
    Event(#[from] EventDecodeError),
    /// A stored body cannot be read.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
    /// What was asked for was being replaced meanwhile by a snapshot from a peer. Trying again finds it.
    #[error("the node is taking over a snapshot; try again")]
    Replaced,
    /// The event is not kept any more.
    #[error("the event of revision {0} is no longer kept")]
    Compacted(Revision),
    /// Nobody confirmed in time that the node's state is current. What it has may still be read as a stale answer.
    #[error("the node cannot tell whether its state is current: {0}")]
    NotConfirmed(String),
    /// The node's records differ from the leader's, or their store has failed, and they are being made anew.
    #[error(
        "the records of this node are wrong, or lost, and are being made anew; ask another node, or this one later"
    )]
    Astray,
    /// The node has not reached that revision and did not in time.
    #[error("revision {wanted} was asked for, this node is at {reached}")]
    Behind {
        /// What was asked for.
        wanted: Revision,
        /// Where the node is.
        reached: Revision,
    },
}
