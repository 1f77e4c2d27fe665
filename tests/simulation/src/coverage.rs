//! What many runs together must have reached: faults of every kind while the cluster was at everything that it can be at,
//! and rare branches of the code. Hours mean little without it.

use crate::counters::Counters;

/// Runs from which on everything is asked for.
pub const RUNS_MIN: u64 = 200;

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

/// Kinds of faults that must come in every phase.
pub const FAULTS: &[&str] = &[];

/// Combinations that cannot be, and why not.
pub const IMPOSSIBLE: &[(&str, Phase, &str)] = &[];

/// Branches that must be reached.
pub const BRANCHES: &[&str] = &[];

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
            if count == 0 && is_possible {
                missing.push(format!("fault {kind:?} during {}", phase.name()));
            }
        }
    }
    let unreached = BRANCHES.iter().filter(|name| !counters.branches.contains_key(**name));
    missing.extend(unreached.map(|name| format!("branch {name:?}")));
    missing
}
