//! What comes out of a replica.

use raft::eraftpb::Message;
use steeple_engine::ids::{LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{Entry, HardState};

/// Number of a write that was handed out; they count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteNumber(pub u64);

/// What has to become durable, in this order and before the next write.
#[derive(Debug)]
pub struct Write {
    /// What to report once it is durable.
    pub number: WriteNumber,
    /// Term, vote and commit; durable before the entries are.
    pub hard_state: Option<HardState>,
    /// Entries to append. The first replaces whatever the log holds at its place and behind it.
    pub entries: Vec<Entry>,
    /// A commit index that has to be durable with the entries, because it covers a change of members: with the change, before
    /// what follows on it is in the log, and as a whole after the entries.
    pub committed: Option<LogIndex>,
}

/// Whether the replica leads, and who does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// The current term.
    pub term: Term,
    /// Who leads it, when that is known.
    pub leader: Option<NodeId>,
    /// The entry that opened the term of this replica, while it leads.
    pub opened: Option<LogIndex>,
}

/// An answer to [`Replica::read_index`](super::Replica::read_index).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// What was given to tell the requests apart.
    pub round: u64,
    /// A view that is folded up to here may answer every read that was asked for before the request.
    pub index: LogIndex,
}

/// A leader's word that this replica is too far behind for its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Who has the snapshot.
    pub from: NodeId,
    /// What it holds at the least.
    pub holds: LogPosition,
}

/// What follows from the inputs.
#[derive(Debug, Default)]
pub struct Output {
    /// To be made durable.
    pub write: Option<Write>,
    /// To be sent now.
    pub messages: Vec<Message>,
    /// Committed and durable here, in order; to be folded.
    pub committed: Vec<Entry>,
    /// Confirmed reads.
    pub reads: Vec<ReadIndex>,
    /// The leadership, when it has changed.
    pub leadership: Option<Leadership>,
    /// A snapshot is needed.
    pub snapshot: Option<SnapshotOffer>,
}

/// What a member knows of another one while it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerProgress {
    /// Who.
    pub node: NodeId,
    /// Its log equals the leader's up to here.
    pub matched: LogIndex,
    /// Whether it has answered within the last election time-out.
    pub active: bool,
    /// Whether it waits for a snapshot.
    pub needs_snapshot: bool,
}
