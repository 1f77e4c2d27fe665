//! The guard of votes: who has just told a leader that it hears it helps nobody else to lead for a while.
//!
//! A leader may answer reads without asking for as long as no other one can have been elected. Ticks cannot say how long
//! that is: they come late, in bursts, and begin anew with every process. So each voter measures, by a monotonic clock,
//! how long ago it last took up a sign of life of a leader, and neither votes nor stands before [`Guard::length`] is over.
//! A process that has just started may have given such a word before it was killed, and waits for as long.
//!
//! Not guarded are elections that the leader itself has asked for: it takes no lease any more in its term. Nor is a lone
//! voter: whoever lets it be alone has no lease while that change is under way, and no vote afterwards (`docs/raft.md`).

use std::time::Duration;

use raft::StateRole;
use raft::eraftpb::{Message, MessageType};
use steeple_engine::ids::Term;
use steeple_engine::simulation::{Bug, is_planted, reached};

use super::Replica;

/// The term of the entry that founds a group. Every founder writes it by itself, and nobody was ever elected in it.
const FOUNDING_TERM: Term = Term(1);

/// What a request for votes says that is made because the leader wants it.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// When a replica may help somebody to lead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    length: Duration,
    /// What the driver's clock said last.
    now: Duration,
    /// When the word is over that was given last.
    until: Duration,
}

/// What a lease of a leader stands on: it is worth nothing on another ground. There is none where leases must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseGround {
    term: Term,
    /// Changes of members that were applied in this run.
    changes: u64,
}

impl LeaseGround {
    /// The term that is led.
    #[must_use]
    pub fn term(self) -> Term {
        self.term
    }
}

impl Replica {
    /// Guards the votes of this replica from now on. It cannot be told what the process before has confirmed, unless that
    /// was never part of a group that had a leader.
    pub fn guard_votes(&mut self, length: Duration, now: Duration) {
        let may_have_confirmed = Term(self.node.raft.term) > FOUNDING_TERM && !is_planted(Bug::GuardForgottenAtStart);
        let until = if may_have_confirmed { now + length } else { now };
        self.guard = Some(Guard { length, now, until });
    }

    /// What the driver's monotonic clock says. To be told before each tick and before messages are taken up, and read after
    /// they came: a word that is given for them begins no earlier than they were sent.
    pub fn time_is(&mut self, now: Duration) {
        if let Some(guard) = &mut self.guard {
            guard.now = guard.now.max(now);
        }
    }

    /// What a lease would stand on that is asked for now; `None` where none must be used. A round that was asked for and
    /// answered on the same ground lets nobody else be elected for as long as votes are guarded from the question on.
    #[must_use]
    pub fn lease_ground(&self) -> Option<LeaseGround> {
        let raft = &self.node.raft;
        let term = Term(raft.term);
        // Its order to stand may arrive at any later moment of the term, whatever has become of the transfer here.
        let is_handed_over = self.handed_over == Some(term) && !is_planted(Bug::LeaseKeptOverTransfer);
        // Others may have applied a change that is pending here, and stand with a quorum that knows nothing of this leader.
        let members_change = raft.has_pending_conf() || !self.membership.voters_outgoing.is_empty();
        let may_have = raft.state == StateRole::Leader && self.guard.is_some() && !is_handed_over && !members_change;
        may_have.then_some(LeaseGround { term, changes: self.changes_applied })
    }

    fn has_given_its_word(&self) -> bool {
        self.guard.is_some_and(|guard| guard.now < guard.until) && !is_planted(Bug::VotesNotGuarded)
    }

    /// Whether the message asks for a vote that must not be given yet. It is not heard at all then, as the consensus crate
    /// does while it takes the leader for alive.
    pub(super) fn asks_too_early(&self, message: &Message) -> bool {
        let kind = message.get_msg_type();
        let asks = kind == MessageType::MsgRequestVote || kind == MessageType::MsgRequestPreVote;
        // An old term is answered with the newer one.
        let is_new = message.term >= self.node.raft.term;
        let too_early = asks && is_new && message.context != TRANSFER && self.has_given_its_word();
        if too_early {
            reached("vote: not given, a leader was heard");
        }
        too_early
    }

    /// Whether the next tick would begin an election for which it is too early. Ticks may have come in a burst.
    pub(super) fn would_stand_too_early(&self) -> bool {
        let raft = &self.node.raft;
        let is_due = raft.election_elapsed + 1 >= raft.randomized_election_timeout();
        let too_early = is_due && raft.state != StateRole::Leader && self.others_vote() && self.has_given_its_word();
        if too_early {
            reached("election: not begun, a leader was heard");
        }
        too_early
    }

    /// Gives the word of this replica, if the message that was taken up is a sign of life of the leader of its term.
    pub(super) fn note_sign_of_life(&mut self, kind: MessageType, from: u64, term: u64) {
        let raft = &self.node.raft;
        let is_sign = matches!(kind, MessageType::MsgHeartbeat | MessageType::MsgAppend | MessageType::MsgSnapshot);
        let is_from_leader = raft.term == term && raft.leader_id == from && raft.state != StateRole::Leader;
        if let Some(guard) = self.guard.as_mut().filter(|_| is_sign && is_from_leader) {
            guard.until = guard.until.max(guard.now + guard.length);
        }
    }
}
