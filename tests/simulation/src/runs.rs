//! Many runs, one after the other, and what is said about them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use steeple_engine::simulation::{Bug, plant};

use crate::counters::Counters;
use crate::directed::direction;
use crate::settings::{Cuts, Length, Settings};
use crate::violation::Violation;
use crate::world::{Outcome, World};

/// A run that found something wrong.
#[derive(Clone, Debug)]
pub struct Failed {
    /// Its seed.
    pub seed: u64,
    /// How long it was meant to be.
    pub length: Length,
    /// What it found.
    pub violation: Violation,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = if self.length == Length::Short { " --short" } else { "" };
        write!(
            formatter,
            "seed {}: {}\nrepeat it with: cargo run --release -p steeple-simulation -- simulate --seeds 1 --from {}{short} --trace",
            self.seed, self.violation, self.seed
        )
    }
}

/// Lives through one run. A panic of the code under test is a violation as well.
#[must_use]
pub fn run(seed: u64, length: Length, prints: bool) -> Outcome {
    run_with(seed, length, prints, None, &Cuts::default())
}

/// As [`run`], with a bug put back into the code and directed at it, and without what is cut.
#[must_use]
pub fn run_with(seed: u64, length: Length, prints: bool, bug: Option<Bug>, cuts: &Cuts) -> Outcome {
    let mut settings = Settings::of(seed, length);
    if let Some(direct) = bug.and_then(direction) {
        direct(&mut settings);
    }
    run_settings(settings.cut(cuts), prints, bug)
}

/// As [`run`], with these settings, and with a bug put back into the code.
#[must_use]
pub fn run_settings(settings: Settings, prints: bool, bug: Option<Bug>) -> Outcome {
    plant(bug);
    let lived = catch_unwind(AssertUnwindSafe(|| World::new(settings, prints).run()));
    plant(None);
    lived.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let violation = Violation::new("panic", text.unwrap_or_else(|| "of no known kind".into()));
        Outcome { counters: Counters { runs: 1, ..Counters::default() }, digest: 0, violation: Some(violation) }
    })
}

/// Leaves out of a run that fails what it can do without, as long as the same checker fails: first kinds of faults, then
/// time.
#[must_use]
pub fn shrink(seed: u64, length: Length, bug: Option<Bug>) -> Option<(Cuts, Violation)> {
    let mut violation = run_with(seed, length, false, bug, &Cuts::default()).violation?;
    let mut cuts = Cuts::default();
    let fails = |cuts: &Cuts, checker: &str| {
        run_with(seed, length, false, bug, cuts).violation.filter(|violation| violation.checker == checker)
    };
    for name in Cuts::names() {
        let mut fewer = cuts.clone();
        fewer.without.push(name.into());
        if let Some(found) = fails(&fewer, violation.checker) {
            (cuts, violation) = (fewer, found);
        }
    }
    let mut seconds = 256;
    while seconds > 1 {
        seconds /= 2;
        let shorter = Cuts { seconds: Some(seconds), ..cuts.clone() };
        match fails(&shorter, violation.checker) {
            Some(found) => (cuts, violation) = (shorter, found),
            None => break,
        }
    }
    Some((cuts, violation))
}

/// A planted bug that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The seed of the run that found it.
    pub seed: u64,
    /// Runs that it took, this one included.
    pub runs: u64,
    /// What was found.
    pub violation: Violation,
}

/// Looks for a planted bug with one seed after the other; `None` when none of so many runs finds it.
#[must_use]
pub fn find(bug: Bug, from: u64, runs_max: u64) -> Option<Found> {
    (0..runs_max).find_map(|number| {
        let seed = from + number;
        let violation = run_with(seed, Length::Short, false, Some(bug), &Cuts::default()).violation?;
        Some(Found { seed, runs: number + 1, violation })
    })
}

/// Lives through runs with these seeds; `each` is told of every one. Answers what was counted, and what was found.
pub fn run_all(
    seeds: impl IntoIterator<Item = u64>,
    length: Length,
    mut each: impl FnMut(u64, &Outcome),
) -> (Counters, Vec<Failed>) {
    let (mut counters, mut failed) = (Counters::default(), Vec::new());
    for seed in seeds {
        let outcome = run(seed, length, false);
        each(seed, &outcome);
        counters.add(&outcome.counters);
        if let Some(violation) = outcome.violation {
            failed.push(Failed { seed, length, violation });
        }
    }
    (counters, failed)
}
