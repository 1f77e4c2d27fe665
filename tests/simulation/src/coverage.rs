//! What many runs together must have reached: faults of every kind while the cluster was at everything that it can be at,
//! and rare branches of the code. Hours mean little without it.

use steeple_server::node::stepped::SteppedNode;

use crate::counters::Counters;
use crate::machine::Machine;
use crate::time::MILLISECOND;
use crate::world::World;

/// Simulated hours from which on everything is asked for: some 3,000 long runs. The rarest combination comes about once in
/// ten of them.
pub const HOURS_MIN: f64 = 100.0;

/// What a cluster is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing but its work.
    Idle,
    /// Nobody decides.
    Election,
    /// Another member has begun to decide a moment ago.
    LeaderChange,
    /// A member takes over a snapshot, or is about to.
    Snapshot,
    /// Members are being changed.
    Membership,
    /// A member gives space back.
    Compaction,
    /// A member is down, or has started a moment ago.
    Restart,
    /// A member repairs its log.
    Repair,
}

/// All of them.
pub const PHASES: [Phase; 8] = [
    Phase::Idle,
    Phase::Election,
    Phase::LeaderChange,
    Phase::Snapshot,
    Phase::Membership,
    Phase::Compaction,
    Phase::Restart,
    Phase::Repair,
];

impl Phase {
    /// How it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Election => "election",
            Self::LeaderChange => "leader change",
            Self::Snapshot => "snapshot",
            Self::Membership => "membership",
            Self::Compaction => "compaction",
            Self::Restart => "restart",
            Self::Repair => "repair",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Several phases at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// These; idle when there are none.
    #[must_use]
    pub fn of(phases: impl IntoIterator<Item = Phase>) -> Self {
        let bits = phases.into_iter().fold(0, |bits, phase| bits | phase.bit());
        Self(if bits == 0 { Phase::Idle.bit() } else { bits })
    }

    /// Whether the phase is among them.
    #[must_use]
    pub fn has(self, phase: Phase) -> bool {
        self.0 & phase.bit() != 0
    }

    /// For each phase whether it is among them.
    pub(crate) fn each(self) -> impl Iterator<Item = bool> {
        PHASES.into_iter().map(move |phase| self.has(phase))
    }
}

/// How long after it has begun to decide a member is new to that, and a process to running, in microseconds.
const MOMENT: u64 = 300 * MILLISECOND;

impl World {
    /// Notes what the cluster is at, for the faults that come next.
    pub(crate) fn note_phases(&mut self) {
        let now = self.time.now();
        let leader = self.leader();
        if leader.is_some() && leader != self.decider.0 {
            self.decider = (leader, now);
        }
        let nodes = || self.machines.iter().filter_map(|machine| machine.node.as_ref());
        let is_down = |machine: &Machine| machine.node.is_none() && machine.patient.is_none();
        let starts = |machine: &Machine| !machine.retired && (is_down(machine) || now < machine.started + MOMENT);
        let changes = *self.changes_under_way.lock() > 0;
        let phases = [
            (Phase::Election, leader.is_none()),
            (Phase::LeaderChange, leader.is_some() && now < self.decider.1 + MOMENT),
            (Phase::Snapshot, nodes().any(SteppedNode::is_taking_over)),
            (Phase::Membership, changes || nodes().any(|node| !node.membership().voters_outgoing.is_empty())),
            (Phase::Compaction, self.machines.iter().any(Machine::is_compacting)),
            (Phase::Restart, self.machines.iter().any(starts)),
            (Phase::Repair, self.machines.iter().any(|machine| machine.patient.is_some())),
        ];
        let there = phases.into_iter().filter(|(_, is_there)| *is_there);
        self.counters.phases = Phases::of(there.map(|(phase, _)| phase));
    }
}

/// Kinds of faults that must come in every phase.
pub const FAULTS: &[&str] = &[
    "base snapshot damaged",
    "call repeated after its answer",
    "clock jumped ahead",
    "clock jumped back",
    "compaction",
    "disk full",
    "disk slow",
    "flush",
    "leadership handed over",
    "learner promoted",
    "log damaged",
    "member added",
    "member removed",
    "member upgraded",
    "message doubled",
    "message late",
    "message lost",
    "message lost: the way is cut",
    "partition",
    "partition, one way",
    "power lost: a prefix of the unsynced writes survives",
    "power lost: nothing unsynced survives",
    "power lost: some unsynced sectors survive",
    "power lost: unsynced sectors are torn",
    "process asked to stop",
    "process killed",
    "process paused",
    "members changed jointly",
    "record store failed",
    "record store lost",
    "several members crashed at once",
    "sync failed",
    "write failed half-way",
];

/// Combinations that are not asked for, and why not.
pub const IMPOSSIBLE: &[(&str, Phase, &str)] = &[
    ("leadership handed over", Phase::Election, "a leader carries it out"),
    ("learner promoted", Phase::Election, "a leader carries it out"),
    ("member added", Phase::Election, "a leader carries it out"),
    ("member removed", Phase::Election, "a leader carries it out"),
    ("members changed jointly", Phase::Election, "a leader carries it out"),
    ("learner promoted", Phase::Repair, "whoever is to be repaired does not count as a member that lives"),
    ("member added", Phase::Repair, "whoever is to be repaired does not count as a member that lives"),
    ("member removed", Phase::Repair, "whoever is to be repaired does not count as a member that lives"),
    ("members changed jointly", Phase::Repair, "whoever is to be repaired does not count as a member that lives"),
    ("log damaged", Phase::Election, "it is the leader's log that says who is sound"),
    ("log damaged", Phase::Membership, "who is a majority has to be certain"),
];

/// Branches that must be reached.
pub const BRANCHES: &[&str] = &[
    "call: arrived after its client had given it up",
    "compaction: segments purged",
    "election won",
    "election: not begun, a leader was heard",
    "features: a newer version is used",
    "introduction: turned away",
    "leadership: a command waited for the term to be opened",
    "election: asked again who would vote",
    "leadership: lost with undecided events",
    "lease: the next one asked for before its end",
    "fold: records made one after another taken together",
    "log: bit rot",
    "log: end replaced by another leader's entries",
    "log: file for the next segment made in advance",
    "log: lost write",
    "log: misdirected write",
    "log: repaired from peers",
    "log: replaced by a snapshot because peers have purged what is missing",
    "log: sector unreadable",
    "log: torn tail cut off",
    "members: a member crashed in a joint configuration",
    "members: entries held until a commit index is durable",
    "members: a wiped member removed by an operator",
    "members: joint configuration to be left",
    "members: removed member switched off",
    "message: came at a time at which it must not be heard",
    "power lost in the middle of a write",
    "process: ended because its disk failed",
    "process: stopped in order",
    "read: answered from a lease",
    "read: answered from a lease without asking the group",
    "read: confirmation asked for again",
    "records: fetched by a member that had lost its base snapshot as well",
    "records: made anew while the node ran",
    "records: rebuilt at the start",
    "records: their store failed in the middle of a run",
    "request: repeated",
    "rows: removed behind a mark",
    "snapshot: fetched",
    "snapshot: interrupted takeover finished at the start",
    "snapshot: taken over",
    "snapshot: the member that takes it over crashed",
    "start: power lost meanwhile",
    "tail: opened on a member that is behind",
    "tail: what comes next was pruned",
    "vote: not given, a leader was heard",
];

/// What so many runs should have reached and did not; nothing is asked of less than [`HOURS_MIN`].
#[must_use]
pub fn missing(counters: &Counters) -> Vec<String> {
    if is_enough(counters) { unreached(counters) } else { Vec::new() }
}

fn is_enough(counters: &Counters) -> bool {
    counters.seconds() >= HOURS_MIN * 3600.0
}

/// What was not reached, however many runs there were; and what was, although it is said to be impossible.
#[must_use]
pub fn unreached(counters: &Counters) -> Vec<String> {
    let mut unreached = Vec::new();
    for kind in FAULTS {
        let counts = counters.faults_in_phases.get(kind).copied().unwrap_or_default();
        for (phase, count) in PHASES.into_iter().zip(counts) {
            match (why_impossible(kind, phase), count) {
                (None, 0) => unreached.push(format!("fault {kind:?} during {}", phase.name())),
                (None, _) | (Some(_), 0) => {}
                (Some(why), _) => {
                    let phase = phase.name();
                    unreached.push(format!("fault {kind:?} during {phase} was, and it is not asked for because {why}"));
                }
            }
        }
    }
    let branches = BRANCHES.iter().filter(|name| !counters.branches.contains_key(**name));
    unreached.extend(branches.map(|name| format!("branch {name:?}")));
    unreached
}

/// What is not asked for although there were enough runs, and why not.
#[must_use]
pub fn excused(counters: &Counters) -> Vec<String> {
    let excused = IMPOSSIBLE.iter().filter(|_| is_enough(counters));
    excused.map(|(kind, phase, why)| format!("fault {kind:?} during {}: {why}", phase.name())).collect()
}

/// Why a kind of fault cannot come in a phase, if it cannot.
#[must_use]
pub fn why_impossible(kind: &str, phase: Phase) -> Option<&'static str> {
    let found = IMPOSSIBLE.iter().find(|(other, impossible, _)| *other == kind && *impossible == phase);
    found.map(|(.., why)| *why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs;
    use crate::settings::{Cuts, Length};

    const ENOUGH: u64 = HOURS_MIN as u64 * 3600 * 1_000_000;

    /// Counts of runs that have reached everything.
    fn everything() -> Counters {
        let mut counters = Counters { simulated_micros: ENOUGH, ..Counters::default() };
        for phase in PHASES {
            counters.phases = Phases::of([phase]);
            FAULTS.iter().filter(|kind| why_impossible(kind, phase).is_none()).for_each(|kind| counters.fault(kind));
        }
        BRANCHES.iter().for_each(|branch| counters.branch(branch));
        counters
    }

    #[test]
    fn asks_for_every_kind_in_every_phase_and_every_branch() {
        assert_eq!(missing(&everything()), Vec::<String>::new());
        for kind in FAULTS {
            for (number, phase) in PHASES.into_iter().enumerate() {
                let mut fewer = everything();
                let count = fewer.faults_in_phases.get_mut(kind).map(|counts| std::mem::take(&mut counts[number]));
                let expected = usize::from(why_impossible(kind, phase).is_none());
                assert_eq!(missing(&fewer).len(), expected, "{kind} during {}: {count:?}", phase.name());
            }
        }
        for branch in BRANCHES {
            let mut fewer = everything();
            fewer.branches.remove(branch);
            assert_eq!(missing(&fewer), [format!("branch {branch:?}")]);
        }
    }

    #[test]
    fn tells_what_was_reached_and_is_said_to_be_impossible() {
        for (kind, phase, why) in IMPOSSIBLE {
            let mut counters = everything();
            counters.phases = Phases::of([*phase]);
            counters.fault(kind);
            assert!(missing(&counters).iter().any(|what| what.contains(why)), "{kind}");
        }
    }

    #[test]
    fn asks_nothing_of_few_runs() {
        let of = |simulated_micros| missing(&Counters { simulated_micros, ..Counters::default() });
        assert_eq!(of(ENOUGH - 1), Vec::<String>::new());
        assert!(!of(ENOUGH).is_empty());
    }

    /// A kind of fault that does not come any more is told.
    #[test]
    fn a_fault_that_is_left_out_is_missed() {
        let unreached_without = |name: Option<&str>, runs: u64| {
            let cuts = Cuts { without: name.map(str::to_owned).into_iter().collect(), seconds: None };
            let mut counters = Counters::default();
            for seed in 0..runs {
                counters.add(&runs::run_with(seed, Length::Short, false, None, &cuts).counters);
            }
            unreached(&counters)
        };
        let whole = unreached_without(None, 150);
        for (name, kind) in [
            ("pause", "process paused"),
            ("partition", "partition"),
            ("clock_jump", "clock jumped ahead"),
            ("slow_disk", "disk slow"),
            ("stop", "process asked to stop"),
            ("flush", "flush"),
            ("compact", "compaction"),
            ("transfer", "leadership handed over"),
            ("membership", "member removed"),
            ("full_disk", "disk full"),
            ("failed_sync", "sync failed"),
            ("failed_write", "write failed half-way"),
            ("failed_store", "record store failed"),
            ("blackout", "several members crashed at once"),
            ("joint_change", "members changed jointly"),
            ("rot", "log damaged"),
            ("upgrade", "member upgraded"),
            ("loss", "message lost"),
            ("duplication", "message doubled"),
            ("reordering", "message late"),
        ] {
            let what = format!("fault {kind:?} during idle");
            assert!(!whole.contains(&what), "{what}");
            assert!(unreached_without(Some(name), 5).contains(&what), "without {name}");
        }
    }
}
