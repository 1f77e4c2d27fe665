//! The members of a node's group: how they are doing, and changing who they are.

use std::time::Duration;

use steeple_engine::ids::{ClusterId, GroupId, LogIndex, NodeId, Revision, Term};
use steeple_raft::Role;
use thiserror::Error;
use tokio::sync::oneshot;

use super::Node;
use super::group::{GroupStatus, Message};
use super::roster::Roster;

/// How long a change waits for a node to introduce itself.
const CONTACT_PATIENCE: Duration = Duration::from_secs(2);

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
    /// The version of the features that the group uses.
    pub features: u32,
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
    /// Whether it has answered lately. Only the leader knows of others.
    pub recently_active: Option<bool>,
    /// The version of the features that it supports, as far as the node has heard.
    pub features: Option<u32>,
    /// Whether it waits for a snapshot or fetches one. Only the leader knows of others.
    pub needs_snapshot: Option<bool>,
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
    pub async fn cluster_status(&self) -> ClusterStatus {
        let folded = self.view().folded();
        let mut status = ClusterStatus {
            cluster: self.cluster_id(),
            group: self.shared.identity.group,
            node: self.node_id(),
            leader: None,
            term: Term(0),
            revision: folded.revision,
            folded: folded.index,
            committed: folded.index,
            features: self.features(),
            not_ready: self.failure(),
            members: Vec::new(),
        };
        match self.ask(Message::Status).await {
            Some(group) => fill(&mut status, &group, &self.shared.roster),
            None => drop(status.not_ready.get_or_insert_with(|| "the node has stopped".into())),
        }
        status
    }

    /// The version of the features that every member of the group supports, and that may be used. Raised by the leader
    /// once the last member has been upgraded, and never lowered.
    #[must_use]
    pub fn features(&self) -> u32 {
        self.shared.roster.features()
    }

    /// Changes the group, and waits until the change is in force.
    ///
    /// # Errors
    /// See [`ClusterError`].
    pub async fn change_cluster(&self, change: ClusterChange) -> Result<(), ClusterError> {
        let stopped = || ClusterError::Unavailable(self.failure().unwrap_or_else(|| "it is stopping".into()));
        let Some(inbox) = self.shared.inbox_sender() else { return Err(stopped()) };
        self.wait_for_contact(&change).await;
        let (changed, outcome) = oneshot::channel();
        inbox.send(Message::Change(change, changed)).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| ClusterError::OutcomeUnknown("the node has stopped".into()))?
    }

    /// A node that gets a vote must be known by its data directory; one that has just been started calls in a moment.
    async fn wait_for_contact(&self, change: &ClusterChange) {
        let roster = &self.shared.roster;
        let contact = async {
            match change {
                ClusterChange::Add { node, .. } => roster.until(|roster| roster.heard(*node).is_some()).await,
                ClusterChange::Promote(node) => roster.until(|roster| roster.is_recorded(*node)).await,
                _ => {}
            }
        };
        // Whether it has called is looked at when the change is planned.
        let _ = self.shared.work.within(CONTACT_PATIENCE, contact).await;
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Message) -> Option<T> {
        let (asked, answer) = oneshot::channel();
        self.shared.inbox_sender()?.send(question(asked)).await.ok()?;
        answer.await.ok()
    }
}

fn fill(status: &mut ClusterStatus, group: &GroupStatus, roster: &Roster) {
    let leads = group.leadership.opened.is_some();
    status.leader = group.leadership.leader;
    status.term = group.leadership.term;
    status.committed = group.committed;
    if status.not_ready.is_none() {
        status.not_ready = reason_not_ready(status.node, group);
    }
    let members = group.membership.iter().filter_map(|(node, member)| {
        let role = match group.membership.role(node)? {
            Role::Voter => MemberRole::Voter,
            Role::Learner => MemberRole::Learner,
            Role::Outgoing => MemberRole::Outgoing,
        };
        let is_own = node == status.node;
        let progress = group.progress.iter().find(|progress| progress.node == node);
        let matched = if is_own { Some(group.last) } else { progress.map(|progress| progress.matched) };
        Some(MemberStatus {
            node,
            peer_address: member.peer_address.clone(),
            client_address: member.client_address.clone(),
            role,
            matched,
            lag_entries: matched.filter(|_| leads).map(|matched| group.last.0.saturating_sub(matched.0)),
            recently_active: if is_own { Some(true) } else { progress.map(|progress| progress.active) },
            features: roster.heard(node).map(|heard| heard.features),
            needs_snapshot: if is_own {
                Some(group.fetching)
            } else {
                progress.map(|progress| progress.needs_snapshot)
            },
        })
    });
    status.members = members.collect();
}

fn reason_not_ready(node: NodeId, group: &GroupStatus) -> Option<String> {
    if group.membership.role(node).is_none() && group.membership.removed.contains(&node.0) {
        Some(
            "it was removed from the group; stop it, and add its machine under a new number with an empty directory"
                .into(),
        )
    } else if group.membership.role(node).is_none() {
        let refused = group.turned_away.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
        Some(format!("it waits to be added to the group{refused}"))
    } else if !group.awaited.is_empty() {
        let awaited: Vec<_> = group.awaited.iter().map(ToString::to_string).collect();
        Some(format!("it founds the group as soon as node {} has been heard of", awaited.join(" and node ")))
    } else if group.store_failed {
        Some("its record store has failed and is being made anew".into())
    } else if group.astray {
        Some("its records differ from the leader's and are being made anew".into())
    } else if group.fetching {
        Some("it fetches a snapshot".into())
    } else if group.leadership.leader.is_none() {
        let refused = group.turned_away.as_ref().map(|reason| format!(", and {reason}")).unwrap_or_default();
        Some(format!("it knows of no leader{refused}"))
    } else {
        None
    }
}
