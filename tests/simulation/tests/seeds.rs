//! Runs that are made with every test: from fixed seeds, from fresh ones, and twice from the same one.

use steeple_simulation::{Length, runs};

/// Runs from seeds in order, and fails with what was found and how to see it again.
fn check(seeds: impl IntoIterator<Item = u64>) {
    let (counters, failed) = runs::run_all(seeds, Length::Short, |_, _| {});
    let found: Vec<String> = failed.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "{}\n{counters}", found.join("\n\n"));
}

#[test]
fn two_hundred_fixed_seeds() {
    check(0..200);
}

#[test]
fn twenty_fresh_seeds() {
    let first = rand::random::<u32>();
    check((0..20).map(|number| u64::from(first) + number));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..10 {
        let (one, other) = (runs::run(seed, Length::Short, false), runs::run(seed, Length::Short, false));
        assert_eq!(one.digest, other.digest, "seed {seed}");
        assert_eq!(one.counters, other.counters, "seed {seed}");
    }
    assert_ne!(runs::run(1, Length::Short, false).digest, runs::run(2, Length::Short, false).digest);
}
