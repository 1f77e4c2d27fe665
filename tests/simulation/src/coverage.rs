//! What many runs together must have reached: faults of every kind while the cluster was at everything that it can be at,
//! and rare branches of the code. Hours mean little without it.

use steeple_server::node::stepped::SteppedNode;

use crate::counters::Counters;
use crate::machine::Machine;
use crate::time::MILLISECOND;
use crate::world::World;

/// Runs from which on everything is asked for.
pub const RUNS_MIN: u64 = 1_000;

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
}

/// All of them.
pub const PHASES: [Phase; 7] = [
    Phase::Idle,
    Phase::Election,
    Phase::LeaderChange,
    Phase::Snapshot,
    Phase::Membership,
    Phase::Compaction,
    Phase::Restart,
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
        let starts = |machine: &Machine| !machine.retired && (machine.node.is_none() || now < machine.started + MOMENT);
        let changes = *self.changes_under_way.lock() > 0;
        let phases = [
            (Phase::Election, leader.is_none()),
            (Phase::LeaderChange, leader.is_some() && now < self.decider.1 + MOMENT),
            (Phase::Snapshot, nodes().any(SteppedNode::is_taking_over)),
            (Phase::Membership, changes || nodes().any(|node| !node.membership().voters_outgoing.is_empty())),
            (Phase::Compaction, self.machines.iter().any(Machine::is_compacting)),
            (Phase::Restart, self.machines.iter().any(starts)),
        ];
        let there = phases.into_iter().filter(|(_, is_there)| *is_there);
        self.counters.phases = Phases::of(there.map(|(phase, _)| phase));
    }
}

/// Kinds of faults that must come in every phase.
pub const FAULTS: &[&str] = &[
    "clock jumped ahead",
    "clock jumped back",
    "compaction",
    "disk full",
    "disk slow",
    "flush",
    "leadership handed over",
    "learner promoted",
    "member added",
    "member removed",
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
    "record store failed",
    "sync failed",
    "write failed half-way",
];

/// Combinations that are not asked for, and why not.
pub const IMPOSSIBLE: &[(&str, Phase, &str)] = &[
    ("leadership handed over", Phase::Election, "a leader carries it out"),
    ("learner promoted", Phase::Election, "a leader carries it out"),
    ("member added", Phase::Election, "a leader carries it out"),
    ("member removed", Phase::Election, "a leader carries it out"),
];

/// Branches that must be reached.
pub const BRANCHES: &[&str] = &[
    "call: arrived after its client had given it up",
    "compaction: segments purged",
    "election won",
    "introduction: turned away",
    "leadership: a command waited for the term to be opened",
    "leadership: lost with undecided events",
    "log: end replaced by another leader's entries",
    "members: entries held until a commit index is durable",
    "members: removed member switched off",
    "message: came at a time at which it must not be heard",
    "process: ended because its disk failed",
    "process: stopped in order",
    "read: confirmation asked for again",
    "request: repeated",
    "snapshot: fetched",
    "snapshot: taken over",
    "tail: opened on a member that is behind",
    "tail: what comes next was pruned",
];

/// What so many runs should have reached and did not; nothing is asked of fewer than [`RUNS_MIN`].
#[must_use]
pub fn missing(counters: &Counters) -> Vec<String> {
    if counters.runs < RUNS_MIN {
        return Vec::new();
    }
    let mut missing = Vec::new();
    for kind in FAULTS {
        let counts = counters.faults_in_phases.get(kind).copied().unwrap_or_default();
        for (phase, count) in PHASES.into_iter().zip(counts) {
            let is_possible = !IMPOSSIBLE.iter().any(|(other, impossible, _)| other == kind && *impossible == phase);
            // Taking over a snapshot is too short to be met by chance: nothing aims at it yet.
            if count == 0 && is_possible && phase != Phase::Snapshot {
                missing.push(format!("fault {kind:?} during {}", phase.name()));
            }
        }
    }
    let unreached = BRANCHES.iter().filter(|name| !counters.branches.contains_key(**name));
    missing.extend(unreached.map(|name| format!("branch {name:?}")));
    missing
}
