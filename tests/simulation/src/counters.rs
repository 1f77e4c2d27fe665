//! What was injected, done and reached, counted over any number of runs.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::coverage::{PHASES, Phases};

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Runs.
    pub runs: u64,
    /// Simulated microseconds.
    pub simulated_micros: u64,
    /// Steps of the schedulers.
    pub steps: u64,
    /// Events committed.
    pub events: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults by kind, and by what the cluster was at when they came, in the order of [`PHASES`].
    pub faults_in_phases: BTreeMap<&'static str, [u64; PHASES.len()]>,
    /// Operations of clients by kind and outcome.
    pub operations: BTreeMap<&'static str, u64>,
    /// Named rare branches that were reached.
    pub branches: BTreeMap<&'static str, u64>,
    /// What the cluster is at now.
    #[serde(skip)]
    pub phases: Phases,
}

impl Counters {
    /// Counts a fault.
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
        let counts = self.faults_in_phases.entry(kind).or_default();
        for (count, is_there) in counts.iter_mut().zip(self.phases.each()) {
            *count += u64::from(is_there);
        }
    }

    /// Counts an operation.
    pub fn operation(&mut self, kind: &'static str) {
        *self.operations.entry(kind).or_default() += 1;
    }

    /// Counts a branch.
    pub fn branch(&mut self, name: &'static str) {
        *self.branches.entry(name).or_default() += 1;
    }

    /// Takes up branches that were marked in the code under test.
    pub fn take_branches(&mut self, reached: BTreeMap<&'static str, u64>) {
        for (name, count) in reached {
            *self.branches.entry(name).or_default() += count;
        }
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Self) {
        let sum = |into: &mut BTreeMap<&'static str, u64>, from: &BTreeMap<&'static str, u64>| {
            from.iter().for_each(|(name, count)| *into.entry(name).or_default() += count);
        };
        sum(&mut self.faults, &other.faults);
        sum(&mut self.operations, &other.operations);
        sum(&mut self.branches, &other.branches);
        for (kind, counts) in &other.faults_in_phases {
            let sums = self.faults_in_phases.entry(kind).or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        self.runs += other.runs;
        self.simulated_micros += other.simulated_micros;
        self.steps += other.steps;
        self.events += other.events;
    }

    /// Simulated seconds of whole clusters.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.simulated_micros as f64 / 1e6
    }

    /// Faults of all kinds, messages that were lost, late or doubled left out.
    #[must_use]
    pub fn struck(&self) -> u64 {
        self.faults.iter().filter(|(kind, _)| !kind.starts_with("message")).map(|(_, count)| count).sum()
    }

    /// Operations of clients of all kinds, and events that consumers followed.
    #[must_use]
    pub fn operated(&self) -> u64 {
        self.operations.values().sum()
    }

    /// The line of the ledger: what was run, and how much of it.
    #[must_use]
    pub fn ledger(&self, seeds: &str, violations: u64) -> String {
        format!(
            "| {seeds} | {} | {:.1} | {} | {} | {} | {violations} |",
            self.runs,
            self.seconds() / 3600.0,
            self.events,
            self.operated(),
            self.struck()
        )
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} runs, {:.1} simulated cluster hours, {} steps, {} events committed",
            self.runs,
            self.seconds() / 3600.0,
            self.steps,
            self.events
        )?;
        let names: Vec<&str> = PHASES.iter().map(|phase| phase.name()).collect();
        writeln!(formatter, "faults, and how many of them during: {}", names.join(", "))?;
        for (kind, count) in &self.faults {
            let counts = self.faults_in_phases.get(kind).copied().unwrap_or_default();
            let counts: Vec<String> = counts.iter().map(|count| format!("{count:>9}")).collect();
            writeln!(formatter, "  {count:>10}  {kind:<52} {}", counts.join(" "))?;
        }
        for (title, counts) in [("operations", &self.operations), ("branches reached", &self.branches)] {
            writeln!(formatter, "{title}:")?;
            for (name, count) in counts {
                writeln!(formatter, "  {count:>10}  {name}")?;
            }
        }
        Ok(())
    }
}
