//! The members of a node's group: how they are doing, and changing who they are.

use steeple_engine::ids::{ClusterId, GroupId, LogIndex, NodeId, Revision, Term};
use thiserror::Error;

use super::Node;

/// The members of a group, as one node knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The node that says so.
    pub node: NodeId,
    /// Who decides, if the node knows.
    pub leader: Option<NodeId>,
    /// The newest term that the node knows.
    pub term: Term,
    /// The newest event folded.
    pub revision: Revision,
    /// The newest entry folded.
    pub folded: LogIndex,
    /// The newest entry known to be committed.
    pub committed: LogIndex,
    /// Why the node does not serve; `None` while it does.
    pub not_ready: Option<String>,
    /// All members, ascending by number.
    pub members: Vec<MemberStatus>,
}

/// One member, as one node knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its number.
    pub node: NodeId,
    /// Where the others reach it; empty in a group of one that has none.
    pub peer_address: String,
    /// Where clients reach it; empty when it did not say.
    pub client_address: String,
    /// What it takes part in.
    pub role: MemberRole,
    /// The newest entry that it is known to have on disk. Only the leader knows of others.
    pub matched: Option<LogIndex>,
    /// Entries that it has still to get. Only the leader knows.
    pub lag_entries: Option<u64>,
    /// Whether it was heard of lately. Only the leader knows of others.
    pub recently_active: Option<bool>,
}

/// What a member takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberRole {
    /// Elections, and the decision what is committed.
    Voter,
    /// Replication only.
    Learner,
    /// A voter that a change under way takes out.
    Outgoing,
}

/// A change that an operator asks for. One that is so already succeeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterChange {
    /// Another member.
    Add {
        /// Its number, never used before.
        node: NodeId,
        /// Where the others reach it.
        peer_address: String,
        /// Where clients reach it; may be empty.
        client_address: String,
        /// Without a vote until it is promoted.
        as_learner: bool,
    },
    /// A member less.
    Remove(NodeId),
    /// A vote for a learner.
    Promote(NodeId),
    /// Other addresses of a member.
    ChangeAddress {
        /// Its number.
        node: NodeId,
        /// Where the others reach it; empty to leave it.
        peer_address: String,
        /// Where clients reach it; empty to leave it.
        client_address: String,
    },
    /// Another leader.
    TransferLeader(NodeId),
}

/// Why a change was not made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClusterError {
    /// The group cannot do that; the text says why and what helps.
    #[error("{0}")]
    Refused(String),
    /// Another node decides.
    #[error("{}", super::errors::not_leader(.leader.as_ref()))]
    NotLeader {
        /// Which one, and where clients reach it, if that is known.
        leader: Option<(NodeId, String)>,
    },
    /// It may have happened or not; the cluster's status tells.
    #[error("the outcome is unknown: {0}")]
    OutcomeUnknown(String),
    /// It did not happen: the node takes no changes now.
    #[error("the node takes no changes: {0}")]
    Unavailable(String),
}

impl Node {
    /// The members of the group, as this node knows them.
    #[must_use]
    pub fn cluster_status(&self) -> ClusterStatus {
        let (folded, end) = (self.view().folded(), self.log().durable());
        // With one member, what is durable is committed.
        let itself = MemberStatus {
            node: self.node_id(),
            peer_address: String::new(),
            client_address: String::new(),
            role: MemberRole::Voter,
            matched: Some(end.index),
            lag_entries: Some(0),
            recently_active: Some(true),
        };
        ClusterStatus {
            cluster: self.cluster_id(),
            group: GroupId::ZERO,
            node: self.node_id(),
            leader: Some(self.node_id()),
            term: end.term,
            revision: folded.revision,
            folded: folded.index,
            committed: end.index,
            not_ready: self.failure(),
            members: vec![itself],
        }
    }

    /// Changes the group, and waits until the change is in force.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn change_cluster(&self, change: ClusterChange) -> Result<(), ClusterError> {
        Err(ClusterError::Refused(format!(
            "this node is a group of its own, which has no members to change: {change:?}"
        )))
    }
}
