//! Every kind of fault takes effect: alone in runs that are calm otherwise, it makes happen what does not happen without
//! it.

use steeple_simulation::counters::Counters;
use steeple_simulation::settings::{Intervals, Settings};
use steeple_simulation::time::SECOND;
use steeple_simulation::{Length, runs};

const SEEDS: u64 = 12;

/// Runs with three members, in which nothing goes wrong but what `disturb` sets.
fn runs_with(disturb: impl Fn(&mut Settings)) -> Counters {
    let mut counters = Counters::default();
    for seed in 0..SEEDS {
        let mut settings = Settings::of(seed, Length::Short);
        settings.members = 3;
        settings.window = 4 * SECOND;
        settings.faulty = 25 * SECOND;
        (settings.loss, settings.duplication, settings.reordering) = (0, 0, 0);
        settings.repetition = 0;
        settings.intervals = Intervals::default();
        disturb(&mut settings);
        let outcome = runs::run_settings(settings, false, None);
        assert_eq!(outcome.violation, None, "seed {seed}");
        counters.add(&outcome.counters);
    }
    counters
}

fn branch(counters: &Counters, name: &'static str) -> u64 {
    counters.branches.get(name).copied().unwrap_or(0)
}

/// What an interval of faults makes happen.
type Effect = fn(&Counters) -> u64;

fn elections(counters: &Counters) -> u64 {
    branch(counters, "election won")
}

fn failed_processes(counters: &Counters) -> u64 {
    branch(counters, "process: ended because its disk failed")
}

fn unanswered(counters: &Counters) -> u64 {
    counters.operations.get("attempt without an answer").copied().unwrap_or(0)
}

/// For each kind what it makes happen more often. Those that come with others have them in the list as well.
const EFFECTS: &[(&str, &[&str], Effect)] = &[
    ("crash", &[], |counters| branch(counters, "power lost in the middle of a write")),
    ("pause", &[], elections),
    ("partition", &[], |counters| counters.faults.get("message lost: the way is cut").copied().unwrap_or(0)),
    ("slow_disk", &[], unanswered),
    ("stop", &[], |counters| branch(counters, "process: stopped in order")),
    ("compact", &[], |counters| branch(counters, "compaction: segments purged")),
    ("transfer", &[], elections),
    ("membership", &[], |counters| branch(counters, "members: removed member switched off")),
    ("full_disk", &[], failed_processes),
    ("failed_sync", &[], failed_processes),
    ("failed_write", &[], failed_processes),
    ("failed_store", &[], |counters| branch(counters, "records: made anew while the node ran")),
    ("blackout", &[], elections),
    ("joint_change", &["membership"], |counters| branch(counters, "members: joint configuration to be left")),
    ("lost_records", &["flush", "compact"], |counters| branch(counters, "records: rebuilt at the start")),
    ("rot", &[], |counters| branch(counters, "log: repaired from peers")),
    ("upgrade", &[], |counters| branch(counters, "features: a newer version is used")),
    ("wipe", &[], |counters| branch(counters, "members: a wiped member removed by an operator")),
];

/// Kinds that show in nothing but the course of a run.
const SUBTLE: &[&str] = &["clock_jump", "flush"];

#[test]
fn every_kind_takes_effect() {
    let calm = runs_with(|_| {});
    for (kind, others, effect) in EFFECTS {
        let set = |settings: &mut Settings, kind: &str| {
            *settings.intervals.by_name(kind).unwrap() = 2 * SECOND;
        };
        let without = runs_with(|settings| others.iter().for_each(|other| set(settings, other)));
        let with = runs_with(|settings| {
            others.iter().for_each(|other| set(settings, other));
            set(settings, kind);
        });
        let (less, more) = (effect(&without), effect(&with));
        assert!(more > less, "{kind}: {more} times with it, {less} times without");
    }
    assert_eq!(calm.struck(), calm.faults.get("consumer restarted").copied().unwrap_or(0), "{calm}");
}

#[test]
fn every_kind_is_told_of() {
    let listed = |name: &&&str| EFFECTS.iter().any(|(kind, ..)| kind == *name) || SUBTLE.contains(*name);
    let missing: Vec<_> = Intervals::NAMES.iter().filter(|name| !listed(name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A run with a kind of fault is another run than without it.
#[test]
fn what_is_subtle_changes_the_run() {
    for kind in SUBTLE {
        let digest = |interval| {
            let mut settings = Settings::of(1, Length::Short);
            settings.intervals = Intervals::default();
            *settings.intervals.by_name(kind).unwrap() = interval;
            runs::run_settings(settings, false, None).digest
        };
        assert_ne!(digest(2 * SECOND), digest(0), "{kind}");
    }
}

#[test]
fn calls_come_again_after_their_answers() {
    let counters = runs_with(|settings| settings.repetition = 100);
    let calm = runs_with(|_| {});
    assert!(counters.faults.contains_key("call repeated after its answer"), "{counters}");
    let repeated = |counters: &Counters| branch(counters, "request: repeated");
    assert!(repeated(&counters) > repeated(&calm), "{counters}");
}

#[test]
fn messages_are_lost_doubled_and_late() {
    let counters = runs_with(|settings| (settings.loss, settings.duplication, settings.reordering) = (50, 50, 50));
    for kind in ["message lost", "message doubled", "message late"] {
        assert!(counters.faults.contains_key(kind), "{kind}");
    }
    let calm = runs_with(|_| {});
    assert!(unanswered(&counters) > unanswered(&calm));
}
