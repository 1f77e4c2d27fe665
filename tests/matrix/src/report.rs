//! The table.

use std::collections::BTreeMap;
use std::fmt;

use crate::group::Outcome;

/// Examples that are kept of each thing worth a look.
const EXAMPLES_MAX: usize = 5;

/// What came of the cases of one experiment.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// The experiment.
    pub name: &'static str,
    /// How many cases there were.
    pub cases: u64,
    /// Every member was whole again.
    pub repaired: u64,
    /// A majority was.
    pub available: u64,
    /// Nothing was served, nothing was lost.
    pub unavailable: u64,
    /// Something was lost or changed.
    pub unsafe_cases: u64,
    /// Cases in which a copy of each committed entry survived on a member that can start.
    pub recoverable: u64,
    /// Those of them in which the group did not become available.
    pub missed: u64,
    /// Entries fetched from others, and their bytes.
    pub fetched: (u64, u64),
    /// Why groups could not go on from what was left, and in how many cases.
    pub causes: BTreeMap<&'static str, u64>,
    /// Whether the damage is more than what is promised to be survived, and only counted.
    pub is_outside: bool,
    /// Unsafe and missed cases.
    pub examples: Vec<String>,
    /// Cases in which a majority serves and somebody is still out.
    pub incomplete: Vec<String>,
}

impl Row {
    /// No cases yet.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    /// Marks the row as one of damage that is more than what is promised to be survived.
    #[must_use]
    pub fn outside_the_model(self) -> Self {
        Self { is_outside: true, ..self }
    }

    /// Whether something came about that must not.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        !self.is_outside && (self.unsafe_cases > 0 || self.missed > 0)
    }

    /// Counts a case. `hopeless` says why a group cannot go on from what is left, if it cannot.
    pub fn count(
        &mut self,
        outcome: &Outcome,
        hopeless: Option<&'static str>,
        fetched: (u64, u64),
        case: impl Fn() -> String,
    ) {
        let recoverable = hopeless.is_none();
        if let Some(cause) = hopeless {
            *self.causes.entry(cause).or_default() += 1;
        }
        self.cases += 1;
        self.fetched = (self.fetched.0 + fetched.0, self.fetched.1 + fetched.1);
        self.recoverable += u64::from(recoverable);
        match outcome {
            Outcome::Repaired => self.repaired += 1,
            Outcome::Available(reason) => {
                self.available += 1;
                if self.incomplete.len() < EXAMPLES_MAX {
                    self.incomplete.push(format!("a member is out, {}: {reason}", case()));
                }
            }
            Outcome::Unavailable(reason) => {
                self.unavailable += 1;
                self.missed += u64::from(recoverable);
                if recoverable {
                    self.keep(format!("missed, {}: {reason}", case()));
                }
            }
            Outcome::Unsafe(reason) => {
                self.unsafe_cases += 1;
                self.keep(format!("UNSAFE, {}: {reason}", case()));
            }
        }
    }

    fn keep(&mut self, example: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example);
        }
    }

    /// The part of the cases in which the group became available, in percent.
    #[must_use]
    pub fn available_percent(&self) -> f64 {
        (self.repaired + self.available) as f64 * 100.0 / self.cases.max(1) as f64
    }
}

/// The first line of the table.
pub const HEADER: &str = "| experiment | cases | unsafe | repaired | available, a member out | safely unavailable | recoverable, \
                          not recovered | entries fetched |\n|---|---|---|---|---|---|---|---|";

impl fmt::Display for Row {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "| {} | {} | {} | {} | {} | {} | {} of {} | {} ({} bytes) |",
            self.name,
            self.cases,
            self.unsafe_cases,
            self.repaired,
            self.available,
            self.unavailable,
            self.missed,
            self.recoverable,
            self.fetched.0,
            self.fetched.1
        )
    }
}
