//! What a leader knows of the others: how far their logs are, and who has answered lately. The consensus crate notes the latter, too,
//! but forgets all of it once in an election time-out, so that for a moment afterwards nobody seems to be there.

use raft::eraftpb::MessageType;
use raft::{ProgressState, StateRole};
use steeple_engine::ids::{LogIndex, NodeId};

use super::{FollowerProgress, Replica};

impl Replica {
    /// What the leader knows of the others; empty on a follower.
    #[must_use]
    pub fn progress(&self) -> Vec<FollowerProgress> {
        if self.node.raft.state != StateRole::Leader {
            return Vec::new();
        }
        let others = self.node.raft.prs().iter().filter(|(node, _)| **node != self.id.0);
        others
            .map(|(node, progress)| FollowerProgress {
                node: NodeId(*node),
                matched: LogIndex(progress.matched),
                active: self.has_answered(*node),
                needs_snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect()
    }

    /// A message of a member came. Only an answer tells that messages reach it, too: who cannot be reached, but reaches others, asks
    /// for votes for ever.
    pub(super) fn note_answer(&mut self, kind: MessageType, from: u64, term: u64) {
        let raft = &self.node.raft;
        let is_answer = matches!(kind, MessageType::MsgAppendResponse | MessageType::MsgHeartbeatResponse);
        let is_of_follower = raft.state == StateRole::Leader && raft.term == term && raft.prs().get(from).is_some();
        if is_answer && is_of_follower {
            self.answered.insert(from, self.ticks);
        }
    }

    /// Whether it has answered within the last election time-out, and while this replica leads.
    fn has_answered(&self, node: u64) -> bool {
        let is_recent = |at: &u64| self.ticks.saturating_sub(*at) <= self.election_ticks as u64;
        self.answered.get(&node).is_some_and(is_recent)
    }
}
