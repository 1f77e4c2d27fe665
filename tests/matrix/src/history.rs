//! Histories: disks of a group that has committed something and was then stopped or killed.

use std::collections::{BTreeMap, BTreeSet};

use steeple_engine::disk::SimulatedDisk;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::log::{Entry, EntryKind};

use crate::chance::Chance;
use crate::group::{Doing, Group};

/// Rounds in which a group that is well has elected a leader and committed what was proposed.
const SETTLING_ROUNDS: u64 = 60;

/// Rounds in which a group that is well commits an entry.
const ROUNDS_PER_EVENT_MAX: u64 = 200;

/// Earlier moments of the disks that are kept.
const MOMENTS_MAX: usize = 6;

/// What a group has left behind.
#[derive(Clone)]
pub struct History {
    /// The disks of the members.
    pub disks: BTreeMap<u64, SimulatedDisk>,
    /// The disks at earlier moments, oldest first.
    pub past: Vec<BTreeMap<u64, SimulatedDisk>>,
    /// What they have committed.
    pub committed: BTreeMap<u64, Entry>,
    /// Members that were killed.
    pub killed: BTreeSet<u64>,
}

impl History {
    /// The same again, independent of this one.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let disks = self.disks.iter().map(|(node, disk)| (*node, disk.duplicate())).collect();
        Self { disks, past: self.past.clone(), committed: self.committed.clone(), killed: self.killed.clone() }
    }

    /// The disk of a member at the earlier moments.
    #[must_use]
    pub fn past_of(&self, node: u64) -> Vec<SimulatedDisk> {
        self.past.iter().filter_map(|disks| disks.get(&node).cloned()).collect()
    }

    /// Indexes of the committed events.
    #[must_use]
    pub fn events(&self) -> Vec<u64> {
        let events = self.committed.iter().filter(|(_, entry)| entry.kind == EntryKind::Event);
        events.map(|(index, _)| *index).collect()
    }
}

/// A group of three that has committed `events` of `bytes` each on every member, and was stopped properly.
#[must_use]
pub fn settled(nodes: u64, events: u64, bytes: usize, seed: u64) -> History {
    let mut group = Group::founded(nodes, seed);
    start_all(&mut group);
    let (mut left, mut rounds, mut past) = (events, 0, Vec::new());
    while left > 0 {
        group.round();
        rounds += 1;
        let rounds_max = ROUNDS_PER_EVENT_MAX * (events + 1);
        assert!(
            rounds < rounds_max,
            "{left} of {events} events are not proposed after {rounds} rounds: {}",
            group.describe()
        );
        if rounds.is_multiple_of(events.div_ceil(4)) && past.len() < MOMENTS_MAX {
            past.push(moment(&group));
        }
        if let Some(leader) = group.leader()
            && group.propose(leader, bytes).is_some()
        {
            left -= 1;
        }
    }
    for _ in 0..SETTLING_ROUNDS {
        group.round();
    }
    for node in 1..=nodes {
        group.stop(node);
    }
    History { past, ..left_behind(group) }
}

/// The disks as they are now.
fn moment(group: &Group) -> BTreeMap<u64, SimulatedDisk> {
    group.nodes.iter().map(|(id, node)| (*id, node.disk.duplicate())).collect()
}

/// A group with members that crashed, lagged behind and were cut off over several terms, perhaps with entries at the end
/// that were not committed. In the end some members are stopped and the others killed.
#[must_use]
pub fn troubled(nodes: u64, seed: u64) -> History {
    let mut chance = Chance::new(seed);
    let mut group = Group::founded(nodes, seed);
    start_all(&mut group);
    let terms = 2 + chance.below(4);
    let mut past = Vec::new();
    for _ in 0..terms {
        past.push(moment(&group));
        trouble(&mut group, &mut chance);
        for _ in 0..30 + chance.below(60) {
            group.round();
            propose_now_and_then(&mut group, &mut chance);
        }
    }
    past.push(moment(&group));
    // The end comes in the middle of something, or after everything has arrived.
    if chance.one_in(2) {
        group.blocked.clear();
        (0..SETTLING_ROUNDS).for_each(|_| group.round());
    } else {
        trouble(&mut group, &mut chance);
        for _ in 0..chance.below(20) {
            group.round();
            propose_now_and_then(&mut group, &mut chance);
        }
    }
    let mut killed = BTreeSet::new();
    for node in 1..=nodes {
        if chance.one_in(2) && matches!(group.nodes[&node].doing, Doing::Running(_)) {
            group.stop(node);
        } else {
            killed.insert(node);
            kill(&mut group, node, &mut chance);
        }
    }
    History { killed, past, ..left_behind(group) }
}

fn start_all(group: &mut Group) {
    for node in group.nodes.keys().copied().collect::<Vec<_>>() {
        if matches!(group.nodes[&node].doing, Doing::Stopped) {
            group.start(node);
        }
    }
}

/// Cuts a member off, kills one, or brings everybody back.
fn trouble(group: &mut Group, chance: &mut Chance) {
    let nodes = group.nodes.len() as u64;
    let node = 1 + chance.below(nodes);
    group.blocked.clear();
    match chance.below(4) {
        0 => kill(group, node, chance),
        1 => {
            for other in (1..=nodes).filter(|other| *other != node) {
                group.blocked.extend([(node, other), (other, node)]);
            }
        }
        2 => {
            // What it says is heard, and it hears nothing: its entries get out unconfirmed.
            group.blocked.extend((1..=nodes).map(|other| (other, node)));
        }
        _ => start_all(group),
    }
    let running = group.running().len() as u64;
    if running <= nodes / 2 {
        start_all(group);
    }
}

fn kill(group: &mut Group, node: u64, chance: &mut Chance) {
    let loss = CrashLoss::ALL[chance.below(CrashLoss::ALL.len() as u64) as usize];
    let seed = chance.number();
    if let Some(node) = group.nodes.get_mut(&node) {
        node.doing = Doing::Stopped;
        node.disk = node.disk.crash(loss, seed);
    }
}

fn propose_now_and_then(group: &mut Group, chance: &mut Chance) {
    if chance.one_in(6)
        && let Some(leader) = group.leader()
    {
        let bytes = 40 + chance.below(400);
        group.propose(leader, usize::try_from(bytes).unwrap_or(40));
    }
}

fn left_behind(group: Group) -> History {
    assert!(group.violation.is_none(), "the history itself went wrong: {:?}", group.violation);
    let disks = group.nodes.into_iter().map(|(id, node)| (id, node.disk.duplicate())).collect();
    History { disks, past: Vec::new(), committed: group.committed, killed: BTreeSet::new() }
}
