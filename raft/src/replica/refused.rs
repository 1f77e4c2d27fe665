//! Why a replica could not be made, or does not do what it is asked for.

use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::LogError;
use thiserror::Error;

use crate::membership::MembershipError;

/// Why a replica could not be made.
#[derive(Debug, Error)]
pub enum ReplicaError {
    /// The consensus crate refuses the state.
    #[error("consensus cannot start from this state: {0}")]
    Consensus(#[from] raft::Error),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The view does not belong to the log: one of them was restored or lost without the other.
    #[error(
        "the records are folded up to entry {folded}, but the log holds entries {first} to {last} and what is folded must \
         lie among them; one of the two was replaced without the other"
    )]
    Apart {
        /// How far the view is.
        folded: LogIndex,
        /// The first entry that the log can hold.
        first: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
    /// The members contradict each other.
    #[error(transparent)]
    Membership(#[from] MembershipError),
}

/// Why nothing was proposed. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposalRefused {
    /// The replica does not lead.
    #[error("this node does not lead its group")]
    NotLeader,
    /// Leadership is being handed over.
    #[error("leadership is being handed to node {0}")]
    Transferring(NodeId),
    /// A change of members is under way.
    #[error("another change of members is not finished yet; repeat this one when it is")]
    ChangeUnderWay,
    /// The change contradicts itself, names what cannot be, changes nothing, or makes too many members.
    #[error("the change of members makes no sense: it contradicts itself, changes nothing, or makes too many members")]
    Senseless,
    /// The change would leave nobody who votes.
    #[error("the change would leave the group without a voter")]
    NobodyVotes,
    /// A leader does not take the vote from itself.
    #[error("node {0} leads; hand leadership to another node first")]
    Leads(NodeId),
}

/// Why leadership was not handed over. Nothing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferRefused {
    /// The replica does not lead.
    #[error("this node does not lead its group")]
    NotLeader,
    /// Only a voter can lead.
    #[error("node {0} has no vote in this group")]
    NoVoter(NodeId),
    /// It has not answered for the length of an election time-out.
    #[error("node {0} has not answered lately")]
    Unreachable(NodeId),
    /// Writing would stop until it has caught up.
    #[error("node {node} is {entries} entries behind; repeat this when it has caught up")]
    Behind {
        /// Who.
        node: NodeId,
        /// By how much.
        entries: u64,
    },
}
