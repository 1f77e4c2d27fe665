//! Runs that are led step by step: for courses of events whose parts are all drawn now and then, and never one after the
//! other.
//!
//! A script looks at the cluster after each step of a member. When what its stage waits for is there, it lets the next
//! thing happen: a way is cut, a message held back, a member killed. Whatever does not come in time ends the attempt,
//! and the script begins anew. Only faults are scripted that are drawn in other runs as well; nothing is done to a
//! member that could not happen to it.

use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::EntryKind;
use steeple_raft::{MembershipChange, Step};
use steeple_server::node::stepped::SteppedNode;

use raft::eraftpb::{Message, MessageType};

use crate::actors::FetchMail;
use crate::machine::OLDEST_VERSION;
use crate::settings::{Intervals, Settings};
use crate::time::{Instant, MILLISECOND, SECOND};
use crate::violation::Checked;
use crate::world::{Event, World};

mod leases;

/// What a run is led through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// A leader stands still and is cut off from the others, who choose another one. When it goes on, it still takes itself
    /// for the leader for a while, and clients read there.
    StaleLeader,
    /// An answer to a read request of a follower is late, and it does not hear of what is committed next. Then the answer
    /// comes, and clients have asked to read there since.
    LateAnswer,
    /// An answer to a read request of a follower is late; meanwhile that one is killed and started again, and does not hear
    /// of what is committed next. Then the answer comes, and clients read there.
    AnswerToEarlierRun,
    /// A follower fetches a snapshot. While it is on its way its sender dies, and the other member, which has forgotten how
    /// far its log is committed, leads and fills the log of the follower beyond the snapshot. That one has confirmed all of
    /// it, and not heard yet that it is committed, when the snapshot comes.
    OvertakenSnapshot,
    /// A member is cut off, and the newest entries are committed by the two others. One of these dies, the newest entry of
    /// the other one is damaged, and only the one that never had it is there to ask.
    LonelyRepair,
    /// One member is cut off, the leader is killed, and the third one is elected while its disk is slow. It is killed the moment it
    /// leads, and then left alone with the one that was cut off.
    SlowVote,
    /// A leader takes the vote from one of its two followers, which does not hear that this is committed, and then from the other
    /// one, which had lagged and gets both changes at once. That one is killed as soon as it has confirmed them, and the
    /// two who lost their votes are left to themselves.
    ForgottenMembers,
    /// A follower takes over a snapshot and leads then; calls come again that were answered while it was cut off.
    RequestsInSnapshot,
    /// A leader answers reads from a lease. The follower that has confirmed it last is killed and started again, and the other
    /// one, which has not heard the leader for a while, asks it for its vote, while clients go on reading at the leader.
    ForgottenWord,
    /// The same with a follower that is older than leases are.
    OlderVoter,
    /// A leader that answers reads from a lease is cut off from everybody else. What confirms it arrives when the others are about
    /// to choose another one.
    LateConfirmation,
    /// A leader that answers reads from a lease hands over, and hears nothing of what comes of it.
    HandedOver,
}

impl Script {
    /// Nothing else goes wrong in a run that follows a script.
    pub fn direct(self, settings: &mut Settings) {
        settings.script = Some(self);
        (settings.members, settings.clients, settings.think) = (3, 6, 20 * MILLISECOND);
        (settings.loss, settings.duplication, settings.reordering) = (0, 0, 0);
        (settings.delay, settings.sync) = (5 * MILLISECOND, 500);
        settings.intervals = Intervals::default();
        settings.window = 4 * SECOND;
        settings.faulty = 40 * SECOND;
        settings.lease_reads = self.is_about_leases();
        if settings.lease_reads {
            // Most of them wait for a write that does not come about, and some must be there to read.
            (settings.clients, settings.think) = (24, 200 * MILLISECOND);
        }
    }

    fn is_about_leases(self) -> bool {
        matches!(self, Self::ForgottenWord | Self::OlderVoter | Self::LateConfirmation | Self::HandedOver)
    }
}

/// How far a script is.
pub(crate) struct Course {
    script: Script,
    stage: u32,
    since: Instant,
    /// When something that is done again and again was done last.
    repeated: Instant,
    leader: usize,
    follower: usize,
    other: usize,
    /// An entry or a revision that matters.
    mark: u64,
    from_revision: u64,
}

/// What a script holds back of what is on its way.
#[derive(Default)]
pub(crate) struct Withheld {
    /// The next answer to a read request on this way that comes from a late enough round.
    answers: Option<(usize, usize)>,
    answer: Option<Message>,
    /// The next snapshot that is fetched by this member.
    snapshots_to: Option<usize>,
    snapshot: Option<FetchMail>,
    leases: leases::Withheld,
}

/// Rounds of reads that a process must have asked for before the answer to one is held back, doubled: the next process begins
/// to count anew, and must not get as far.
const LATE_ROUND: u64 = 16;

/// How long a cluster has to have been undisturbed before a script begins.
const CALM: u64 = 2 * SECOND;

/// How long a stage may wait.
const PATIENCE: u64 = 12 * SECOND;

impl Withheld {
    /// Takes a message that is held back; whether it was one.
    pub(crate) fn takes(&mut self, from: usize, to: usize, message: &Message) -> bool {
        if self.leases.takes((from, to), message) {
            return true;
        }
        let is_wanted = self.answers == Some((from, to)) && message.get_msg_type() == MessageType::MsgReadIndexResp;
        if !is_wanted || self.answer.is_some() || read_round(message) < LATE_ROUND {
            return false;
        }
        self.answer = Some(message.clone());
        true
    }

    /// Takes a snapshot that is held back; gives back any other one.
    pub(crate) fn take_snapshot(&mut self, fetched: FetchMail) -> Option<FetchMail> {
        let (to, _, result, _) = &fetched;
        if self.snapshots_to != Some(*to) || result.is_err() || self.snapshot.is_some() {
            return Some(fetched);
        }
        self.snapshot = Some(fetched);
        None
    }
}

/// The round that a read request was for; it is the last part of its context.
fn read_round(message: &Message) -> u64 {
    let context = message.get_entries().first().map(|entry| &entry.data[..]).unwrap_or_default();
    let round = context.last_chunk::<8>();
    round.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

impl Course {
    pub(crate) fn of(script: Script) -> Self {
        Self { script, stage: 0, since: 0, repeated: 0, leader: 0, follower: 0, other: 0, mark: 0, from_revision: 0 }
    }

    fn go_on(&mut self, now: Instant) {
        self.stage += 1;
        (self.since, self.repeated) = (now, now);
    }

    fn is_due(&mut self, now: Instant, interval: u64) -> bool {
        let is_due = now >= self.repeated + interval;
        if is_due {
            self.repeated = now;
        }
        is_due
    }
}

impl World {
    /// Lets happen what the script of this run wants next, if it has one.
    pub(crate) fn follow_script(&mut self) -> Checked {
        // Whatever it does looks at the members again; the script waits until that is done.
        let Some(mut course) = self.course.take() else { return Ok(()) };
        if self.healing_since.is_some() {
            self.withheld = Withheld::default();
            return Ok(());
        }
        let now = self.time.now();
        let followed = match (course.stage, course.script) {
            (0, _) => self.begin_script(&mut course, now),
            _ if now > course.since + PATIENCE => self.give_up_script(&mut course, now),
            (stage, Script::StaleLeader) => self.lead_stale_leader(&mut course, stage, now),
            (stage, Script::LateAnswer | Script::AnswerToEarlierRun) => self.lead_late_answer(&mut course, stage, now),
            (stage, Script::OvertakenSnapshot) => self.lead_overtaken_snapshot(&mut course, stage, now),
            (stage, Script::SlowVote) => self.lead_slow_vote(&mut course, stage, now),
            (stage, Script::ForgottenMembers) => self.lead_forgotten_members(&mut course, stage, now),
            (stage, Script::LonelyRepair) => self.lead_lonely_repair(&mut course, stage, now),
            (stage, Script::RequestsInSnapshot) => self.lead_requests_in_snapshot(&mut course, stage, now),
            (stage, Script::ForgottenWord | Script::OlderVoter) => self.lead_forgotten_word(&mut course, stage, now),
            (stage, Script::LateConfirmation) => self.lead_late_confirmation(&mut course, stage, now),
            (stage, Script::HandedOver) => self.lead_handed_over(&mut course, stage, now),
        };
        self.course = Some(course);
        followed
    }

    /// Gives out the parts, once the cluster is calm.
    fn begin_script(&mut self, course: &mut Course, now: Instant) -> Checked {
        let Some(leader) = self.leader().filter(|_| now >= course.since + CALM && self.history.revision() > 20) else {
            return Ok(());
        };
        let count = self.machines.len();
        let (mut follower, mut other) = ((leader + 1) % count, (leader + 2) % count);
        if course.script == Script::OlderVoter {
            if self.machines[leader].version == OLDEST_VERSION {
                return if course.is_due(now, SECOND) { self.transfer(follower) } else { Ok(()) };
            }
            if self.machines[follower].version != OLDEST_VERSION {
                (follower, other) = (other, follower);
            }
        }
        let (Some(leads), Some(follows)) = (&self.machines[leader].node, &self.machines[follower].node) else {
            return Ok(());
        };
        let is_calm = self.machines.iter().all(|machine| {
            let leadership = machine.node.as_ref().map(SteppedNode::leadership);
            leadership.is_some_and(|it| it.term == leads.leadership().term && it.leader.is_some())
        });
        if !is_calm {
            return Ok(());
        }
        (course.leader, course.follower, course.other) = (leader, follower, other);
        (course.mark, course.from_revision) = (follows.last().index.0, follows.node().revision().0);
        course.go_on(now);
        match course.script {
            Script::StaleLeader => {
                self.network.cut_off(leader, count);
                self.machines[leader].paused_until = now + 4 * SECOND;
            }
            Script::SlowVote
            | Script::ForgottenWord
            | Script::OlderVoter
            | Script::LateConfirmation
            | Script::HandedOver => {}
            Script::LonelyRepair => self.network.cut_off(other, count),
            Script::LateAnswer | Script::AnswerToEarlierRun => self.withheld.answers = Some((leader, follower)),
            Script::OvertakenSnapshot | Script::RequestsInSnapshot | Script::ForgottenMembers => {
                self.network.cut_off(follower, count)
            }
        }
        Ok(())
    }

    /// Ends an attempt: everything is as it should be, and the script begins anew.
    fn give_up_script(&mut self, course: &mut Course, now: Instant) -> Checked {
        self.network.heal_partition();
        self.withheld = Withheld::default();
        for number in 0..self.machines.len() {
            if std::mem::take(&mut self.machines[number].stays_down) {
                self.put(MILLISECOND, Event::Start(number));
            }
        }
        *course = Course { since: now, ..Course::of(course.script) };
        Ok(())
    }

    fn lead_stale_leader(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        match stage {
            1 if self.leader().is_some_and(|leader| leader != course.leader) => {
                self.counters.branch("script: leader deposed while it stood still");
                course.go_on(now);
            }
            // It has gone on by then, and given up to lead.
            2 if now > course.since + 6 * SECOND => return self.give_up_script(course, now),
            _ => {}
        }
        Ok(())
    }

    fn lead_late_answer(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, .. } = *course;
        match stage {
            1 if self.withheld.answer.is_some() => {
                course.go_on(now);
                match course.script {
                    Script::AnswerToEarlierRun => self.kill_for_script(follower, CrashLoss::Nothing),
                    _ => Ok(()),
                }
            }
            2 => {
                let (Some(leads), Some(follows)) = (&self.machines[leader].node, &self.machines[follower].node) else {
                    return Ok(());
                };
                let has_caught_up = follows.leadership().leader == Some(self.machines[leader].id())
                    && follows.node().revision() == leads.node().revision();
                if has_caught_up {
                    self.network.cut_to(follower, self.machines.len());
                    course.go_on(now);
                }
                Ok(())
            }
            // Longer, and it would look for votes.
            3 if now > course.since + 900 * MILLISECOND => self.give_up_script(course, now),
            3 if course.is_due(now, 10 * MILLISECOND) => {
                let Some(follows) = &self.machines[follower].node else { return Ok(()) };
                let revision = follows.node().revision().0;
                let reads_there = self.clients.iter().any(|client| {
                    client.target == follower
                        && client.operation.as_ref().is_some_and(|it| it.floor > revision && it.call.is_current_read())
                });
                if reads_there
                    && let Some(answer) = self.withheld.answer.clone()
                    && let Some(introduction) = self.introduce(leader, follower)
                {
                    self.counters.branch("script: late answer to a read");
                    self.machines[follower].deliver(&introduction, vec![answer]);
                    self.schedule(follower);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn lead_overtaken_snapshot(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, other, .. } = *course;
        match stage {
            1 => {
                self.withheld.snapshots_to = Some(follower);
                self.purge_beyond(course, &[leader], now)
            }
            2 => {
                let Some((.., Ok(snapshot), _)) = &self.withheld.snapshot else { return Ok(()) };
                let end = snapshot.memory().and_then(|bytes| steeple_snapshot::verify(&bytes[..], &mut |_| {}).ok());
                let Some(end) = end.map(|report| report.manifest.state.index) else { return Ok(()) };
                course.mark = end.0;
                course.go_on(now);
                self.machines[leader].stays_down = true;
                self.kill_for_script(leader, CrashLoss::Nothing)?;
                self.kill_for_script(other, CrashLoss::Everything)
            }
            3 => {
                let (Some(leads), Some(follows)) = (&self.machines[other].node, &self.machines[follower].node) else {
                    return Ok(());
                };
                let end = LogIndex(course.mark);
                let is_overtaken = leads.committed() > end && follows.last().index > end;
                if !is_overtaken || follows.committed() >= end {
                    return Ok(());
                }
                self.counters.branch("script: snapshot that its receiver has overtaken");
                self.network.cut_to(follower, self.machines.len());
                if let Some((_, _, fetched, answer)) = self.withheld.snapshot.take() {
                    drop(answer.send(fetched));
                }
                self.schedule(follower);
                course.go_on(now);
                Ok(())
            }
            4 if now > course.since + 500 * MILLISECOND => {
                self.network.heal_partition();
                course.go_on(now);
                Ok(())
            }
            5 if now > course.since + 2 * SECOND => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    fn lead_slow_vote(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, other, .. } = *course;
        let count = self.machines.len();
        match stage {
            1 => {
                let last = |number: usize| self.machines[number].node.as_ref().map(SteppedNode::last);
                if last(leader) != last(follower) || last(leader) != last(other) {
                    return Ok(());
                }
                self.network.cut_off(other, count);
                self.machines[follower].slow_until = now + PATIENCE;
                course.go_on(now);
                self.kill_for_script(leader, CrashLoss::Nothing)
            }
            2 if self.machines[follower].node.as_ref().is_some_and(|node| node.leadership().opened.is_some()) => {
                self.counters.branch("script: killed the moment it leads");
                course.go_on(now);
                self.network.heal_partition();
                self.network.cut_off(leader, count);
                self.machines[follower].slow_until = now;
                self.kill_for_script(follower, CrashLoss::Everything)
            }
            3 if now > course.since + 6 * SECOND => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    fn lead_forgotten_members(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, other, .. } = *course;
        let count = self.machines.len();
        match stage {
            1 => {
                course.mark = self.take_vote(leader, other);
                course.go_on(now);
                Ok(())
            }
            2 => {
                let Some(leads) = &self.machines[leader].node else { return Ok(()) };
                if leads.committed().0 >= course.mark {
                    // The one that loses its vote has confirmed the change, and does not hear that it is committed.
                    self.network.cut_off(other, count);
                    course.go_on(now);
                }
                Ok(())
            }
            3 => {
                let Some(leads) = &self.machines[leader].node else { return Ok(()) };
                if leads.membership().voters.contains(&(other as u64 + 1)) {
                    return Ok(());
                }
                self.network.heal_partition();
                self.network.cut_off(other, count);
                course.mark = self.take_vote(leader, follower);
                course.go_on(now);
                Ok(())
            }
            4 => {
                let Some(follows) = &self.machines[follower].node else { return Ok(()) };
                if follows.node().log().last().index.0 < course.mark {
                    return Ok(());
                }
                // The turn that confirms comes within a tenth of a millisecond; what is written then does not get done.
                self.machines[follower].dying = Some(CrashLoss::Everything);
                let life = self.machines[follower].life;
                self.put(115, Event::PowerLost(follower, life));
                course.go_on(now);
                Ok(())
            }
            5 if self.machines[follower].node.is_none() => {
                self.counters.branch("script: killed after it has confirmed its own removal");
                course.go_on(now);
                Ok(())
            }
            6 if now > course.since + 50 * MILLISECOND => {
                self.network.heal_partition();
                self.network.cut_off(leader, count);
                course.go_on(now);
                Ok(())
            }
            7 if now > course.since + 8 * SECOND => {
                // Members do not come back to what they were, so that there is one attempt.
                self.network.heal_partition();
                course.go_on(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Lets a leader take the vote from a member; the place of the change.
    fn take_vote(&mut self, leader: usize, from: usize) -> u64 {
        let Some(node) = &mut self.machines[leader].node else { return 0 };
        let step = Step::Learner { node: from as u64 + 1, member: None };
        node.change_members(&MembershipChange::of(vec![step]));
        let last = node.last().index.0;
        self.schedule(leader);
        last
    }

    fn lead_lonely_repair(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let Course { leader, follower, other, .. } = *course;
        match stage {
            1 => {
                let node = |number: usize| self.machines[number].node.as_ref();
                let (Some(leads), Some(follows), Some(lags)) = (node(leader), node(follower), node(other)) else {
                    return Ok(());
                };
                let newest = follows.node().log().last().index;
                let is_committed = leads.committed() >= newest && self.history.entry(newest.0).is_some();
                if !is_committed || newest.0 <= lags.last().index.0 + 1 {
                    return Ok(());
                }
                let Ok(Some(entry)) = follows.node().log().read(newest) else { return Ok(()) };
                if entry.kind != EntryKind::Event {
                    return Ok(());
                }
                course.go_on(now);
                self.machines[leader].stays_down = true;
                self.kill_for_script(leader, CrashLoss::Nothing)?;
                self.kill_for_script(follower, CrashLoss::Nothing)?;
                if self.machines[follower].rot_entry(&entry.payload) {
                    self.counters.branch("script: damaged member with nobody but one that lags");
                }
                self.network.heal_partition();
                Ok(())
            }
            2 if now > course.since + 8 * SECOND => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    fn lead_requests_in_snapshot(&mut self, course: &mut Course, stage: u32, now: Instant) -> Checked {
        let follower = course.follower;
        match stage {
            1 => self.purge_beyond(course, &[course.leader, course.other], now),
            2 => {
                let Some(leader) = self.leader().and_then(|leader| self.machines[leader].node.as_ref()) else {
                    return Ok(());
                };
                let newest = leader.node().revision();
                let Some(follows) = &self.machines[follower].node else { return Ok(()) };
                let log = follows.node().log();
                if !follows.is_taking_over()
                    && log.contiguous_from().0 > course.mark
                    && follows.node().revision() == newest
                {
                    course.mark = newest.0;
                    course.go_on(now);
                }
                Ok(())
            }
            3 if self.leader() == Some(follower) => {
                self.counters.branch("script: calls repeated behind a snapshot");
                course.go_on(now);
                let wanted = course.from_revision + 1..=course.mark;
                self.repeat_calls(follower, &wanted);
                Ok(())
            }
            3 if course.is_due(now, 300 * MILLISECOND) => self.transfer(follower),
            4 if now > course.since + SECOND => self.give_up_script(course, now),
            _ => Ok(()),
        }
    }

    /// Has members give space back until their logs begin behind the entry that is marked, and then lets everybody talk again.
    fn purge_beyond(&mut self, course: &mut Course, members: &[usize], now: Instant) -> Checked {
        let begins_behind = |number: &usize| {
            let node = self.machines[*number].node.as_ref();
            node.is_some_and(|node| node.node().log().contiguous_from().0 > course.mark + 1)
        };
        if members.iter().all(begins_behind) {
            self.network.heal_partition();
            course.go_on(now);
            return Ok(());
        }
        if course.is_due(now, 500 * MILLISECOND) {
            for number in members {
                self.maintain(*number, false)?;
                self.maintain(*number, true)?;
            }
        }
        Ok(())
    }

    /// A process ends, and another one is there soon, unless the script says when.
    fn kill_for_script(&mut self, number: usize, loss: CrashLoss) -> Checked {
        self.counters.fault("process killed by a script");
        self.machines[number].crash(loss, &mut self.chance);
        self.break_connections(number);
        self.put(60 * MILLISECOND, Event::Start(number));
        self.settle_others(number)
    }
}
