//! A search through many seeds, on one or several threads, and its report.

use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::counters::Counters;
use crate::coverage;
use crate::runs::{self, Failed};
use crate::settings::{Cuts, Length};
use crate::time::processor_seconds;

/// Time between two lines that say how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(60);

/// Which seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seeds {
    /// So many of them.
    Count(u64),
    /// These.
    Range(Range<u64>),
}

impl FromStr for Seeds {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("..") {
            Some((from, to)) => Ok(Self::Range(from.parse()?..to.parse()?)),
            None => text.parse().map(Self::Count),
        }
    }
}

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Search {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// How long the runs are.
    pub length: Length,
    /// What is left out.
    pub cuts: Cuts,
    /// Whether nothing is left out, so that everything must be reached.
    pub is_whole: bool,
    /// Minutes after which no run is begun.
    pub minutes: Option<u64>,
    /// Runs at the same time.
    pub threads: usize,
    /// Print each step.
    pub prints: bool,
    /// Go on after something was found.
    pub keeps_going: bool,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The first seed, and the one after the last that was begun.
    pub seeds: (u64, u64),
    /// What was counted.
    pub counters: Counters,
    /// Runs that have found something.
    pub violations: Vec<String>,
    /// What should have been reached and was not.
    pub missing: Vec<String>,
    /// What cannot be reached, and why not; told when everything else was asked for.
    pub excused: Vec<String>,
    /// Seconds that processors were busy.
    pub processor_seconds: f64,
}

impl Search {
    /// Runs it.
    #[must_use]
    pub fn run(&self) -> Report {
        let (began, busy_before) = (Instant::now(), processor_seconds());
        let next = AtomicU64::new(self.seeds.start);
        let stops = AtomicBool::new(false);
        let report = Mutex::new(Report {
            seeds: (self.seeds.start, self.seeds.start),
            counters: Counters::default(),
            violations: Vec::new(),
            missing: Vec::new(),
            excused: Vec::new(),
            processor_seconds: 0.0,
        });
        let told = Mutex::new(began);
        let is_over = || self.minutes.is_some_and(|minutes| began.elapsed() >= Duration::from_secs(minutes * 60));
        let work = || {
            while !stops.load(Ordering::Relaxed) && !is_over() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= self.seeds.end {
                    break;
                }
                let outcome = runs::run_with(seed, self.length, self.prints, None, &self.cuts);
                if self.prints {
                    eprintln!("seed {seed}: {:016x}", outcome.digest);
                }
                let mut report = report.lock();
                report.seeds.1 = report.seeds.1.max(seed + 1);
                report.counters.add(&outcome.counters);
                if let Some(violation) = outcome.violation {
                    let failed = Failed { seed, length: self.length, violation };
                    println!("{failed}\n");
                    report.violations.push(failed.to_string());
                    stops.store(!self.keeps_going, Ordering::Relaxed);
                }
                report.processor_seconds = processor_seconds() - busy_before;
                let mut told = told.lock();
                if told.elapsed() >= PROGRESS_INTERVAL {
                    *told = Instant::now();
                    eprintln!("seeds to {seed}: {}", report.summary());
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..self.threads.max(1) {
                scope.spawn(work);
            }
            work();
        });
        let mut report = report.into_inner();
        if self.is_whole {
            report.missing = coverage::missing(&report.counters);
            report.excused = coverage::excused(&report.counters);
        }
        report
    }
}

impl Report {
    /// Whether nothing was found, and everything was reached.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && self.missing.is_empty()
    }

    /// What was done at which rate, what is missing, and a line for the ledger.
    #[must_use]
    pub fn summary(&self) -> String {
        let simulated = self.counters.seconds().max(1e-9);
        let mut lines: Vec<String> = self.missing.iter().map(|what| format!("NEVER REACHED: {what}")).collect();
        lines.extend(self.excused.iter().map(|what| format!("not asked for: {what}")));
        lines.push(format!(
            "{:.1} s of processor time, {:.0} simulated cluster seconds for each of them; in each simulated second {:.1} \
             operations, {:.2} faults besides those of messages, {:.0} steps",
            self.processor_seconds,
            simulated / self.processor_seconds.max(1e-9),
            self.counters.operated() as f64 / simulated,
            self.counters.struck() as f64 / simulated,
            self.counters.steps as f64 / simulated,
        ));
        let seeds = format!("{} to {}", self.seeds.0, self.seeds.1.saturating_sub(1));
        lines.push(self.counters.ledger(&seeds, self.violations.len() as u64));
        lines.join("\n")
    }

    /// All of it, as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}
