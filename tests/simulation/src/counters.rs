//! What was injected, done and reached, counted over any number of runs.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Operations of clients by kind and outcome.
    pub operations: BTreeMap<&'static str, u64>,
    /// Named rare branches that were reached.
    pub branches: BTreeMap<&'static str, u64>,
    /// Runs.
    pub runs: u64,
    /// Simulated microseconds.
    pub simulated_micros: u64,
    /// Steps of the schedulers.
    pub steps: u64,
    /// Events committed.
    pub events: u64,
}

impl Counters {
    /// Counts a fault.
    pub fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
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
        self.runs += other.runs;
        self.simulated_micros += other.simulated_micros;
        self.steps += other.steps;
        self.events += other.events;
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.simulated_micros as f64 / 1e6;
        writeln!(
            formatter,
            "{} runs, {:.1} simulated cluster hours, {} steps, {} events committed",
            self.runs,
            seconds / 3600.0,
            self.steps,
            self.events
        )?;
        for (title, counts) in
            [("faults", &self.faults), ("operations", &self.operations), ("branches reached", &self.branches)]
        {
            writeln!(formatter, "{title}:")?;
            for (name, count) in counts {
                writeln!(formatter, "  {count:>10}  {name}")?;
            }
        }
        Ok(())
    }
}
