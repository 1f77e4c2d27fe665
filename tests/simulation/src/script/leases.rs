//! Scripts about leaders that answer reads without asking.
//!
//! What they have in common is that another leader is, or would be, chosen while the first one believes itself to be safe,
//! and that the way between the two is cut. Clients reach all of them.

use raft::eraftpb::{Message, MessageType};
use steeple_engine::disk::simulated::CrashLoss;
use steeple_server::node::stepped::SteppedNode;

use super::Course;
use crate::time::{Instant, MILLISECOND, SECOND};
use crate::violation::Checked;
use crate::world::World;

/// From whom to whom.
type Way = (usize, usize);

/// What these scripts hold back or wait for of what is on its way.
#[derive(Default)]
pub(super) struct Withheld {
    /// Entries are lost on this way.
    entries: Option<Way>,
    /// The next request for a vote on this way.
    votes: Option<Way>,
    vote: Option<Message>,
    /// The next confirmation of reads on this way.
    confirmations: Option<Way>,
    confirmation: Option<Message>,
    /// The next order to stand on this way, which arrives.
    orders: Option<Way>,
    is_ordered: bool,
}

impl Withheld {
    /// Takes a message that is lost or held back; whether it was one.
    pub(super) fn takes(&mut self, way: Way, message: &Message) -> bool {
        match message.get_msg_type() {
            MessageType::MsgAppend => self.entries == Some(way),
            MessageType::MsgRequestPreVote if self.votes == Some(way) && self.vote.is_none() => {
                self.vote = Some(message.clone());
                true
            }
            MessageType::MsgHeartbeatResponse
                if self.confirmations == Some(way) && self.confirmation.is_none() && !message.context.is_empty() =>
            {
                self.confirmation = Some(message.clone());
                true
            }
            MessageType::MsgTimeoutNow => {
                self.is_ordered |= self.orders == Some(way);
                false
            }
            _ => false,
        }
    }
}

/// How late what confirms a lease arrives. Votes are guarded for a second.
const LATE: u64 = 950 * MILLISECOND;

/// How long a script looks on while clients read.
const READING: u64 = 3 * SECOND;

impl World {
    /// Lets one follower fall silent towards the leader, as complete as the other one, to which only heartbeats get through:
    /// it stands as soon as it may, and the leader goes on with the word of the other one. Whether it has asked for a vote.
    fn part_followers(&mut self, course: &mut Course, stage: u32, now: Instant) -> bool {
        let Course { leader, follower, other, .. } = *course;
        match stage {
            1 => {
                let last = |number: usize| self.machines[number].node.as_ref().map(SteppedNode::last);
                if last(follower).is_some() && last(follower) == last(other) {
                    self.withheld.leases.entries = Some((leader, follower));
                    self.withheld.leases.votes = Some((other, follower));
                    self.network.cut_to(other, self.machines.len());
                    course.go_on(now);
                }
                false
            }
            _ => self.withheld.leases.vote.is_some(),
        }
    }

    pub(super) fn lead_forgotten_word(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, other, .. } = *course;
        match stage {
            1 | 2 => {
                if !self.part_followers(course, stage, now) {
                    return Ok(());
                }
                self.network.heal_partition();
                self.network.cut_off(leader, self.machines.len());
                course.go_on(now);
                self.kill_for_script(follower, CrashLoss::Nothing)
            }
            3 if self.machines[follower].node.is_some() => {
                self.counters.branch("script: vote asked for after a start");
                course.go_on(now);
                self.hand_over_withheld(other, follower);
                Ok(())
            }
            4 if now > course.since + READING => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    pub(super) fn lead_late_confirmation(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, .. } = *course;
        match stage {
            1 | 2 => {
                if self.part_followers(course, stage, now) {
                    self.withheld.leases.vote = None;
                    self.withheld.leases.votes = None;
                    self.withheld.leases.confirmations = Some((follower, leader));
                    course.go_on(now);
                }
                Ok(())
            }
            3 if self.withheld.leases.confirmation.is_some() => {
                self.network.heal_partition();
                self.network.cut_off(leader, self.machines.len());
                course.go_on(now);
                Ok(())
            }
            4 if now >= course.since + LATE => {
                self.counters.branch("script: late confirmation of a lease");
                course.go_on(now);
                self.hand_over_withheld(follower, leader);
                Ok(())
            }
            5 if now > course.since + READING => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    pub(super) fn lead_handed_over(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, other, .. } = *course;
        match stage {
            1 => {
                self.withheld.leases.orders = Some((leader, other));
                course.go_on(now);
                self.transfer(other)
            }
            2 if self.withheld.leases.is_ordered => {
                self.counters.branch("script: leadership handed over by a leader that hears nothing of it");
                self.network.cut_off(leader, self.machines.len());
                course.go_on(now);
                Ok(())
            }
            3 if now > course.since + READING => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    /// What was held back arrives.
    fn hand_over_withheld(&mut self, from: usize, to: usize) {
        let leases = &mut self.withheld.leases;
        leases.entries = None;
        let withheld = leases.vote.take().or(leases.confirmation.take());
        if let Some(message) = withheld
            && let Some(introduction) = self.introduce(from, to)
        {
            self.machines[to].deliver(&introduction, vec![message]);
            self.schedule(to);
        }
    }
}
