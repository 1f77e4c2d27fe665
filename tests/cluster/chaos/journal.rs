//! What was done and what came of it: a line for each fault, one for each round, and sums at the end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::faults::Fault;
use crate::load::Told;

/// Says where the journal goes.
const PLACE_VARIABLE: &str = "STEEPLE_TEST_CHAOS_LOG";

/// A file that grows with the run.
pub(super) struct Journal {
    file: File,
    began: Instant,
    faults: BTreeMap<&'static str, u64>,
    rounds: Vec<Round>,
}

/// Sums of one round.
#[derive(Clone, Copy, Debug)]
struct Round {
    acknowledged: usize,
    without_effect: usize,
    unknown: u64,
    read: usize,
    unread: u64,
    /// Without an acknowledged mutation.
    longest_pause: Duration,
    /// From when everything was mended until everybody was served.
    served: Duration,
}

impl Journal {
    pub(super) fn create(seed: u64) -> Self {
        let usual = || Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}.log"));
        let place = std::env::var_os(PLACE_VARIABLE).map_or_else(usual, PathBuf::from);
        println!("the journal is {}", place.display());
        let file = File::create(&place).expect("a file");
        let mut journal = Self { file, began: Instant::now(), faults: BTreeMap::new(), rounds: Vec::new() };
        journal.line(&format!("# seed {seed}; seconds since the beginning, fault, nodes, until"));
        journal
    }

    fn line(&mut self, text: &str) {
        writeln!(self.file, "{text}").expect("a line");
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// A fault begins.
    pub(super) fn fault(&mut self, fault: &Fault, duration: Duration) {
        *self.faults.entry(fault.name()).or_default() += 1;
        let until =
            if fault.is_brief() { String::new() } else { format!("{:.1}", self.now() + duration.as_secs_f64()) };
        self.line(&format!("{:.1}\t{fault}\t{until}", self.now()));
    }

    /// Something else happens.
    pub(super) fn note(&mut self, text: &str) {
        self.line(&format!("{:.1}\t{text}", self.now()));
    }

    /// A round has ended, and what was told has been found to be true.
    pub(super) fn round(&mut self, number: u64, served: Duration, told: &Told) {
        let round = Round {
            acknowledged: told.acknowledged.len(),
            without_effect: told.without_effect.len(),
            unknown: told.unknown,
            read: told.observations.len(),
            unread: told.unread,
            longest_pause: longest_pause(&told.moments),
            served,
        };
        self.note(&format!("round {number} examined: {}", described(&[round])));
        self.rounds.push(round);
    }

    /// The run has ended well.
    pub(super) fn sum_up(&mut self, whole: Duration) {
        let total: u64 = self.faults.values().sum();
        let mut lines = vec![format!("# {total} faults in {:.0} s (asked for: {whole:?})", self.now())];
        lines.extend(self.faults.iter().map(|(name, count)| format!("# {name}: {count}")));
        lines.push(format!("# {} rounds: {}", self.rounds.len(), described(&self.rounds)));
        for line in lines {
            println!("{line}");
            self.line(&line);
        }
    }
}

fn longest_pause(moments: &[Instant]) -> Duration {
    moments.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
}

fn described(rounds: &[Round]) -> String {
    let sum = |count: fn(&Round) -> u64| rounds.iter().map(count).sum::<u64>();
    let longest = |time: fn(&Round) -> Duration| rounds.iter().map(time).max().unwrap_or_default().as_secs_f64();
    format!(
        "{} mutations acknowledged, {} without effect, {} unknown; {} reads answered, {} not; longest pause {:.1} s; \
         everybody served {:.1} s after everything was mended, at most",
        sum(|round| round.acknowledged as u64),
        sum(|round| round.without_effect as u64),
        sum(|round| round.unknown),
        sum(|round| round.read as u64),
        sum(|round| round.unread),
        longest(|round| round.longest_pause),
        longest(|round| round.served),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_is_between_two_moments() {
        let began = Instant::now();
        let moments = [0, 3, 10, 12].map(|seconds| began + Duration::from_secs(seconds));
        assert_eq!(longest_pause(&moments), Duration::from_secs(7));
        assert_eq!(longest_pause(&moments[..1]), Duration::ZERO);
    }
}
