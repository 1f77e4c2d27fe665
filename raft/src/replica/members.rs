//! Changes of members: proposed, noted when they come into the log, applied when they are folded.

use raft::StateRole;
use raft::eraftpb::{self, ConfChangeV2, EntryType};
use steeple_engine::ids::{LogIndex, LogPosition};
use steeple_engine::log::{Entry, EntryKind, LogError};
use steeple_engine::simulation::{Bug, is_planted, reached};

use super::{ProposalRefused, Replica};
use crate::membership::{Membership, MembershipChange, MembershipError};
use crate::repair::Configuration;

/// Entries that are not applied and are looked at for a change of members, to answer one question.
const UNAPPLIED_MAX: u64 = 1 << 16;

impl Replica {
    /// Proposes a change of members.
    ///
    /// # Errors
    /// See [`ProposalRefused`]; nothing happened.
    pub fn change_members(&mut self, change: &MembershipChange) -> Result<LogPosition, ProposalRefused> {
        self.may_propose()?;
        let joint = !self.membership.voters_outgoing.is_empty();
        if self.node.raft.has_pending_conf() || joint || change.founding.is_some() {
            return Err(ProposalRefused::ChangeUnderWay);
        }
        let voters = change.voters_after(&self.membership);
        if voters.is_empty() {
            return Err(ProposalRefused::NobodyVotes);
        }
        if !voters.contains(&self.id.0) {
            return Err(ProposalRefused::Leads(self.id));
        }
        // Once it is in the log, every member has to be able to carry it out and to store what comes of it.
        let payload = change.encode();
        let after = self.membership.after_entry(&payload).map_err(|_| ProposalRefused::Senseless)?;
        let conf_change = change.conf_change(&self.membership);
        if conf_change.get_changes().is_empty() || after == self.membership || after.check().is_err() {
            return Err(ProposalRefused::Senseless);
        }
        self.node.propose_conf_change(payload, conf_change).map_err(|_| ProposalRefused::ChangeUnderWay)?;
        // The consensus crate appends an empty entry in place of a change that it does not want.
        let appended = self.node.raft.raft_log.unstable_entries().last();
        if appended.is_none_or(|entry| entry.get_entry_type() != EntryType::EntryConfChangeV2) {
            return Err(ProposalRefused::ChangeUnderWay);
        }
        Ok(self.proposed())
    }

    /// Who votes, unless the log holds a change of that which is not applied.
    pub(super) fn settled_configuration(&self) -> Result<Option<Configuration>, LogError> {
        let log = self.node.store();
        let (applied, last) = (self.node.raft.raft_log.applied, log.last().index.0);
        if last.saturating_sub(applied) > UNAPPLIED_MAX {
            return Ok(None);
        }
        for index in applied + 1..=last {
            if log.entry(LogIndex(index))?.is_none_or(|entry| entry.kind == EntryKind::Membership) {
                return Ok(None);
            }
        }
        Ok(Some(Configuration::of(&self.membership)))
    }

    /// A joint configuration is left by whoever leads, as soon as it has folded the entry that opened its term.
    pub(super) fn leave_joint_configuration(&mut self) {
        let raft = &self.node.raft;
        let is_settled = self.leadership.opened.is_some_and(|opened| raft.raft_log.applied >= opened.0)
            && !is_planted(Bug::JointConfigurationNotLeft);
        if is_settled && !self.membership.voters_outgoing.is_empty() && !raft.has_pending_conf() {
            reached("members: joint configuration to be left");
            // Refused while leadership is being handed over. Whoever gets it leaves, or this replica with a later tick.
            drop(self.node.propose_conf_change(Vec::new(), ConfChangeV2::default()));
        }
    }

    /// Applies a committed membership entry; must come before [`Replica::applied`] covers it. Answers the membership
    /// from there on, which is a pure function of the one before and the entry. A change that makes no sense changes
    /// nothing.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub fn apply_membership(&mut self, entry: &Entry) -> Result<&Membership, MembershipError> {
        let change = MembershipChange::decode_payload(&entry.payload)?;
        let steps = self.membership.conf_changes(change.as_ref());
        self.step_down_before(&steps);
        let mut state = self.membership.conf_state();
        for step in &steps {
            match self.node.apply_conf_change(step) {
                Ok(after) => state = after,
                Err(error) => tracing::warn!(%error, index = %entry.position.index, "a change of members was void"),
            }
        }
        self.membership = self.membership.after(change.as_ref(), &state);
        self.changes_applied += 1;
        Ok(&self.membership)
    }

    /// A leader without a vote would answer reads on its own word, and the consensus crate does not survive its removal.
    fn step_down_before(&mut self, steps: &[ConfChangeV2]) {
        let takes_own_vote = steps
            .iter()
            .flat_map(ConfChangeV2::get_changes)
            .any(|change| change.node_id == self.id.0 && change.get_change_type() != eraftpb::ConfChangeType::AddNode);
        let leaves_without =
            steps.iter().any(|step| step.get_changes().is_empty()) && !self.membership.voters.contains(&self.id.0);
        if (takes_own_vote || leaves_without) && self.node.raft.state != StateRole::Follower {
            self.forget_leader();
        }
    }

    /// Looks for changes of members among entries that are about to be written. Answers the commit index to be stored with
    /// them when it covers a change that is not folded: whoever confirms what follows on the change helps to commit that
    /// with the members from there on, and must not start again with those from before. Folding comes later, and a crash
    /// may come first.
    pub(super) fn note_changes(&mut self, entries: &[Entry]) -> Option<LogIndex> {
        let first = entries.first()?.position.index;
        drop(self.changes.split_off(&first));
        let changes = entries.iter().filter(|entry| entry.kind == EntryKind::Membership);
        self.changes.extend(changes.map(|entry| entry.position.index));
        self.changes = self.changes.split_off(&self.stored.commit.next());
        let committed = self.committed();
        if self.changes.first().is_none_or(|change| *change > committed) || is_planted(Bug::CommitOfChangeForgotten) {
            return None;
        }
        reached("members: commit index of a change stored with what follows on it");
        self.stored.commit = committed;
        Some(committed).filter(|_| !is_planted(Bug::MembersBeforeCommit))
    }
}
