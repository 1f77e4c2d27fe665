//! What a leader sends of its own accord: entries once for all that are proposed in a turn, and news of what is committed.

use raft::eraftpb::{Message, MessageType};
use raft::{Progress, StateRole};

use super::Replica;

impl Replica {
    /// Sends what was proposed to those who can take more and were not sent it yet.
    pub(super) fn send_proposed(&mut self) {
        let raft = &mut self.node.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let last = raft.raft_log.last_index();
        let waits = |progress: &Progress| progress.next_idx <= last && !progress.is_paused();
        let others = raft.prs().iter().filter(|(node, progress)| **node != self.id.0 && waits(progress));
        let others: Vec<_> = others.map(|(node, _)| *node).collect();
        for node in others {
            raft.send_append(node);
        }
    }

    /// Whether this replica leads and others were not told yet what is committed. They hear it with the next entries, with a
    /// heartbeat, or by [`Replica::spread_news`].
    #[must_use]
    pub fn has_news(&self) -> bool {
        let raft = &self.node.raft;
        raft.state == StateRole::Leader
            && raft.prs().iter().any(|(node, progress)| *node != self.id.0 && self.misses_news(*node, progress))
    }

    /// Tells others what is committed, with the next output. Whoever drives the replica calls it when nothing else has been
    /// sent for a moment; a tick does it as well. Each message wakes a node, and so does its answer: under load the next
    /// entries tell them for nothing.
    pub fn spread_news(&mut self) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            return;
        }
        let miss_it = |(node, progress): &(&u64, &Progress)| **node != self.id.0 && self.misses_news(**node, progress);
        let others: Vec<_> = raft.prs().iter().filter(miss_it).map(|(node, _)| *node).collect();
        let committed = raft.raft_log.committed;
        for node in others {
            self.node.raft.send_append(node);
            // Also when there is nothing to be sent to it now: then it needs more than news.
            self.told.insert(node, committed);
        }
    }

    fn misses_news(&self, node: u64, progress: &Progress) -> bool {
        let told = self.told.get(&node).copied().unwrap_or_default();
        !progress.is_paused() && told < self.node.raft.raft_log.committed
    }

    /// Remembers which commit index goes to whom.
    pub(super) fn note_told(&mut self, messages: &[Message]) {
        for message in messages.iter().filter(|message| message.get_msg_type() == MessageType::MsgAppend) {
            let told = self.told.entry(message.to).or_default();
            *told = (*told).max(message.commit);
        }
    }
}
