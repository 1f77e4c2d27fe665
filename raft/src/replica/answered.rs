//! Who has answered a leader lately. The consensus crate notes it, too, but forgets all of it once in an election time-out, so that
//! for a moment afterwards nobody seems to be there.

use raft::StateRole;
use raft::eraftpb::MessageType;

use super::Replica;

impl Replica {
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
    pub(super) fn has_answered(&self, node: u64) -> bool {
        let is_recent = |at: &u64| self.ticks.saturating_sub(*at) <= self.election_ticks as u64;
        self.answered.get(&node).is_some_and(is_recent)
    }
}
