//! Changes that an operator asks for: who belongs to the group, and who leads it.
//!
//! A change of members is answered once it is folded here and, when it took two steps, once the joint configuration is
//! left. A change that is so already is answered at once.

use std::collections::BTreeSet;

use steeple_engine::ids::{LogIndex, NodeId};
use steeple_raft::{
    FollowerProgress, Leadership, Member, Membership, MembershipChange, ProposalRefused, Role, Step, TransferRefused,
};
use tokio::sync::oneshot;

use super::Group;
use crate::node::cluster::{ClusterChange, ClusterError};

/// Ticks that a hand-over of leadership may take before whoever asked is told that it did not happen.
const TRANSFER_TICKS: u64 = 40;

/// Entries that a learner may be behind when it is given a vote: with more, it would be counted on and could not keep up.
const PROMOTE_BEHIND_MAX: u64 = 1_000;

/// Changes that wait until what is known of the members is recorded; more are refused.
const DEFERRED_MAX: usize = 16;

/// Where the answer to a change goes.
type Answer = oneshot::Sender<Result<(), ClusterError>>;

/// How the group is doing, as the group's thread knows it.
pub(in crate::node) struct GroupStatus {
    pub(in crate::node) membership: Membership,
    pub(in crate::node) leadership: Leadership,
    pub(in crate::node) committed: LogIndex,
    pub(in crate::node) last: LogIndex,
    pub(in crate::node) progress: Vec<FollowerProgress>,
    pub(in crate::node) fetching: bool,
    /// Founders that are still to be heard of.
    pub(in crate::node) awaited: BTreeSet<NodeId>,
    /// Why others do not want this node.
    pub(in crate::node) turned_away: Option<String>,
    /// Whether the records are known to be wrong.
    pub(in crate::node) astray: bool,
    /// Whether their store has failed.
    pub(in crate::node) store_failed: bool,
}

/// Changes under way.
#[derive(Default)]
pub(super) struct Changes {
    /// The entry of the change of members, and who waits for it.
    members: Option<(LogIndex, Answer)>,
    /// The entry by which this leader tells the group what it knows of the members, until it is folded.
    recording: Option<LogIndex>,
    /// Changes that wait for that, or until it is known who is up.
    deferred: Vec<(ClusterChange, Answer)>,
    /// Who is to lead, since when, and who waits for that.
    transfer: Option<(NodeId, u64, Answer)>,
    ticks: u64,
    /// Ticks since this node began to lead.
    led_ticks: u64,
}

impl Group {
    pub(super) fn status(&self) -> GroupStatus {
        GroupStatus {
            membership: self.replica.membership().clone(),
            leadership: self.replica.leadership(),
            committed: self.replica.committed(),
            last: self.replica.last().index,
            progress: self.replica.progress(),
            fetching: self.is_taking_over(),
            awaited: self.shared.roster.awaited(),
            turned_away: self.shared.roster.turned_away(),
            astray: self.is_astray(),
            store_failed: self.astray.failed.is_some(),
        }
    }

    pub(super) fn change(&mut self, change: ClusterChange, answer: Answer) {
        if self.leading.is_none() {
            drop(answer.send(Err(ClusterError::NotLeader { leader: self.leader() })));
            return;
        }
        if let ClusterChange::TransferLeader(to) = change {
            return self.transfer(to, answer);
        }
        if self.changes.recording.is_some() && self.changes.deferred.len() < DEFERRED_MAX {
            // Nobody asked for what is under way, so nobody should be refused because of it.
            return self.changes.deferred.push((change, answer));
        }
        let steps = match self.plan(change.clone()) {
            Err(reason) => return drop(answer.send(Err(ClusterError::Refused(reason)))),
            Ok(None) => return drop(answer.send(Ok(()))),
            Ok(Some(steps)) => MembershipChange::of(steps),
        };
        match self.check_majority(&steps) {
            Ok(()) => self.propose_change(&steps, answer),
            // Who is silent is not known yet.
            Err(_) if self.has_just_begun_to_lead() && self.changes.deferred.len() < DEFERRED_MAX => {
                self.changes.deferred.push((change, answer));
            }
            Err(reason) => drop(answer.send(Err(ClusterError::Refused(reason)))),
        }
    }

    /// Whether members that are up may not have been heard yet. A group of one has nobody to hear, and no ticks.
    fn has_just_begun_to_lead(&self) -> bool {
        let enough = self.shared.options.cluster.replica.election_ticks as u64;
        self.changes.led_ticks <= enough && !self.is_alone()
    }

    fn propose_change(&mut self, change: &MembershipChange, answer: Answer) {
        let proposed = match change.check() {
            Ok(()) => self.replica.change_members(change),
            Err(error) => return drop(answer.send(Err(ClusterError::Refused(error.to_string())))),
        };
        match proposed {
            Ok(position) => self.changes.members = Some((position.index, answer)),
            Err(ProposalRefused::NotLeader) => {
                drop(answer.send(Err(ClusterError::NotLeader { leader: self.leader() })));
            }
            Err(refused) => drop(answer.send(Err(ClusterError::Refused(refused.to_string())))),
        }
    }

    /// Makes sure that those who have answered lately can go on deciding: with the voters that there would be,
    /// and with those that there are.
    fn check_majority(&self, change: &MembershipChange) -> Result<(), String> {
        let membership = self.replica.membership();
        let after = change.voters_after(membership);
        if after == membership.voters {
            return Ok(());
        }
        let heard = self.replica.progress().into_iter().filter(|progress| progress.active);
        let live: BTreeSet<_> = heard.map(|progress| progress.node).chain([self.id]).collect();
        for voters in [&after, &membership.voters] {
            let silent: Vec<_> = voters.iter().filter(|voter| !live.contains(&NodeId(**voter))).collect();
            if (voters.len() - silent.len()) * 2 <= voters.len() {
                let silent: Vec<_> = silent.into_iter().map(|node| format!("node {node}")).collect();
                return Err(format!(
                    "nothing was heard lately of {}, and the others would be no majority of the {} voters: the group would \
                     stop for good. Start what is down, or remove it first while a majority is left; a new node is added \
                     as a learner and promoted when it has caught up",
                    silent.join(" and "),
                    voters.len()
                ));
            }
        }
        Ok(())
    }

    /// What a change comes to; `None` when nothing has to change.
    fn plan(&self, change: ClusterChange) -> Result<Option<Vec<Step>>, String> {
        let membership = self.replica.membership();
        match change {
            ClusterChange::Add { node, peer_address, client_address, as_learner } => {
                let member = Member { peer_address, client_address };
                if membership.role(node).is_none() && membership.removed.contains(&node.0) {
                    return Err(format!(
                        "node {node} was a member and was removed; a number is never used again, because what was confirmed \
                         under it may still be on its way: take another one, and an empty data directory"
                    ));
                }
                match (membership.role(node), as_learner) {
                    (Some(Role::Voter), false) | (Some(Role::Learner), true)
                        if membership.member(node) == Some(&member) =>
                    {
                        Ok(None)
                    }
                    (Some(_), _) => Err(format!(
                        "node {node} is a member already; change its address or promote it, or take a number that was never \
                         used"
                    )),
                    (None, true) => {
                        let mut steps = vec![Step::Learner { node: node.0, member: Some(member) }];
                        steps.extend(self.incarnation_of(node).ok());
                        Ok(Some(steps))
                    }
                    (None, false) => {
                        let mut steps = vec![Step::Voter { node: node.0, member: Some(member) }];
                        steps.push(self.incarnation_of(node)?);
                        // Nobody gets a vote before it knows who the other voters are.
                        steps.extend(self.unrecorded());
                        Ok(Some(steps))
                    }
                }
            }
            ClusterChange::Remove(node) => match membership.role(node) {
                None => Ok(None),
                Some(_) => Ok(Some(vec![Step::Remove { node: node.0 }])),
            },
            ClusterChange::Promote(node) => match membership.role(node) {
                Some(Role::Voter) => Ok(None),
                Some(Role::Learner) => {
                    self.check_caught_up(node)?;
                    let mut steps = vec![Step::Voter { node: node.0, member: None }];
                    if membership.incarnation(node).is_none() {
                        steps.push(self.incarnation_of(node)?);
                    }
                    steps.extend(self.unrecorded().filter(|step| !steps.contains(step)).collect::<Vec<_>>());
                    Ok(Some(steps))
                }
                _ => Err(format!("node {node} is no member; add it first")),
            },
            ClusterChange::ChangeAddress { node, peer_address, client_address } => {
                let Some(known) = membership.member(node) else {
                    return Err(format!("node {node} is no member; add it with its addresses"));
                };
                let either = |new: String, known: &String| if new.is_empty() { known.clone() } else { new };
                let member = Member {
                    peer_address: either(peer_address, &known.peer_address),
                    client_address: either(client_address, &known.client_address),
                };
                let is_known = member == *known;
                Ok((!is_known).then(|| vec![Step::Address { node: node.0, member }]))
            }
            ClusterChange::TransferLeader(_) => Ok(None),
        }
    }

    /// The step that ties a node's number to the data directory that it has.
    fn incarnation_of(&self, node: NodeId) -> Result<Step, String> {
        let heard = self.shared.roster.heard(node).ok_or_else(|| {
            format!(
                "node {node} has not called this one yet; start it with `cluster.join` and repeat this, or add it as a \
                 learner and promote it later"
            )
        })?;
        Ok(Step::Incarnation { node: node.0, incarnation: heard.incarnation })
    }

    /// Steps that tie the members' numbers to their data directories, as far as they are known and the group does not
    /// know them yet.
    fn unrecorded(&self) -> impl Iterator<Item = Step> {
        let known = self.shared.roster.unrecorded().into_iter();
        known.map(|(node, incarnation)| Step::Incarnation { node: node.0, incarnation })
    }

    /// Tells the group which data directories its members have, and which features all of them support, as soon as that
    /// is known.
    pub(super) fn record_members(&mut self) {
        if self.leading.is_none() || self.changes.members.is_some() || self.changes.recording.is_some() {
            return;
        }
        // A group of one has nobody to tell; what it has is told with the change that ends that.
        let mut steps: Vec<_> = if self.is_alone() { Vec::new() } else { self.unrecorded().collect() };
        steps.extend(self.shared.roster.features_to_raise().map(|version| Step::Features { version }));
        if !steps.is_empty() {
            // Refused while another change is under way; the next tick tries again.
            let proposed = self.replica.change_members(&MembershipChange::of(steps));
            self.changes.recording = proposed.ok().map(|position| position.index);
        }
    }

    /// Goes on with changes that came while what is known of the members was recorded, once that is folded up to `index`.
    pub(super) fn resume_changes(&mut self, index: LogIndex) {
        if self.changes.recording.take_if(|recording| *recording <= index).is_some() {
            self.take_up_deferred();
        }
    }

    fn take_up_deferred(&mut self) {
        for (change, answer) in std::mem::take(&mut self.changes.deferred) {
            self.change(change, answer);
        }
    }

    fn check_caught_up(&self, node: NodeId) -> Result<(), String> {
        let progress = self.replica.progress().into_iter().find(|progress| progress.node == node);
        let Some(progress) = progress.filter(|progress| progress.active) else {
            return Err(format!("node {node} has not answered lately; promote it when it is up"));
        };
        let behind = self.replica.last().index.0.saturating_sub(progress.matched.0);
        if progress.needs_snapshot || behind > PROMOTE_BEHIND_MAX {
            return Err(format!("node {node} is {behind} entries behind; promote it when it has caught up"));
        }
        Ok(())
    }

    fn transfer(&mut self, to: NodeId, answer: Answer) {
        if to == self.id {
            return drop(answer.send(Ok(())));
        }
        match self.replica.transfer_leadership(to) {
            Ok(()) => {
                let before = self.changes.transfer.replace((to, self.changes.ticks, answer));
                if let Some((earlier, _, answer)) = before {
                    let reason = format!("before node {earlier} took over, somebody asked for node {to}");
                    drop(answer.send(Err(ClusterError::Refused(reason))));
                }
            }
            Err(TransferRefused::NotLeader) => {
                drop(answer.send(Err(ClusterError::NotLeader { leader: self.leader() })));
            }
            Err(refused) => drop(answer.send(Err(ClusterError::Refused(refused.to_string())))),
        }
    }

    /// A membership entry is folded.
    pub(super) fn settle_changes(&mut self, index: LogIndex) {
        let is_left = self.replica.membership().voters_outgoing.is_empty();
        if let Some((_, answer)) = self.changes.members.take_if(|(proposed, _)| *proposed <= index && is_left) {
            // Whoever asked may have gone.
            drop(answer.send(Ok(())));
        }
    }

    /// Leadership is gone: what was proposed may or may not come into force.
    pub(super) fn fail_changes(&mut self) {
        self.changes.recording = None;
        self.changes.led_ticks = 0;
        for (_, answer) in std::mem::take(&mut self.changes.deferred) {
            drop(answer.send(Err(ClusterError::NotLeader { leader: self.leader() })));
        }
        if let Some((_, answer)) = self.changes.members.take() {
            let reason = "leadership has moved to another node".to_owned();
            drop(answer.send(Err(ClusterError::OutcomeUnknown(reason))));
        }
        self.settle_transfer();
    }

    pub(super) fn tick_changes(&mut self) {
        self.changes.ticks += 1;
        self.settle_transfer();
        if self.leading.is_some() {
            self.changes.led_ticks += 1;
            if self.changes.recording.is_none() && !self.changes.deferred.is_empty() {
                self.take_up_deferred();
            }
        }
    }

    /// Answers whoever waits for another leader, once there is one or it has taken too long.
    fn settle_transfer(&mut self) {
        let leader = self.replica.leadership().leader;
        let now = self.changes.ticks;
        let done =
            self.changes.transfer.take_if(|(to, since, _)| leader == Some(*to) || now >= *since + TRANSFER_TICKS);
        if let Some((to, _, answer)) = done {
            let reply = if leader == Some(to) {
                Ok(())
            } else {
                Err(ClusterError::Refused(format!("node {to} did not take over in time; {}", leads(leader))))
            };
            drop(answer.send(reply));
        }
    }

    /// A leader that is told to stop hands over first, so that nobody waits for an election.
    pub(super) fn hand_over(&mut self) {
        let mut others = self.replica.progress();
        others.retain(|progress| self.replica.membership().voters.contains(&progress.node.0));
        others.sort_by_key(|progress| std::cmp::Reverse((progress.active, progress.matched)));
        for other in others {
            if self.replica.transfer_leadership(other.node).is_ok() {
                return;
            }
        }
    }

    /// Whether leadership could still move while the node waits to stop.
    pub(super) fn may_hand_over(&self) -> bool {
        self.replica.progress().iter().any(|progress| progress.active)
    }
}

/// Who leads, in words.
fn leads(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "nobody leads now".into(), |leader| format!("node {leader} leads"))
}
