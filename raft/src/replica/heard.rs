//! Whom a leader has heard of lately. The consensus crate notes it, too, but forgets all of it once in an election time-out, so that
//! for a moment afterwards nobody seems to be there.

use raft::StateRole;

use super::Replica;

impl Replica {
    /// A message of a member came.
    pub(super) fn note_heard(&mut self, node: u64) {
        if self.node.raft.state == StateRole::Leader && self.node.raft.prs().get(node).is_some() {
            self.heard.insert(node, self.ticks);
        }
    }

    /// Whether that was within the last election time-out, and while this replica leads.
    pub(super) fn is_heard(&self, node: u64) -> bool {
        let is_recent = |at: &u64| self.ticks.saturating_sub(*at) <= self.election_ticks as u64;
        self.heard.get(&node).is_some_and(is_recent)
    }
}
