//! Planted bugs are found: what the checkers do not find when it is there, they would not find when it is not planted
//! either.

use steeple_engine::simulation::Bug;
use steeple_simulation::directed::direction;
use steeple_simulation::script::Script;
use steeple_simulation::{Length, Settings, runs};

/// Runs that a bug may take to be found here; `simulate bugs` looks for longer.
const RUNS_MAX: u64 = 1_500;

/// Runs without a bug in each direction.
const CLEAN_RUNS: u64 = 6;

/// Looks for the bugs whose place in the list leaves `part` of four, so that the parts run at the same time.
fn check(part: usize) {
    let wanted = Bug::ALL.into_iter().enumerate().filter(|(place, _)| place % 4 == part);
    let missed: Vec<Bug> = wanted.map(|(_, bug)| bug).filter(|bug| runs::find(*bug, 0, RUNS_MAX).is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn bugs_are_found_first_part() {
    check(0);
}

#[test]
fn bugs_are_found_second_part() {
    check(1);
}

#[test]
fn bugs_are_found_third_part() {
    check(2);
}

#[test]
fn bugs_are_found_fourth_part() {
    check(3);
}

#[test]
fn directed_runs_find_nothing_without_a_bug() {
    for direct in Bug::ALL.into_iter().filter_map(direction) {
        for seed in 0..CLEAN_RUNS {
            let mut settings = Settings::of(seed, Length::Short);
            direct(&mut settings);
            let outcome = runs::run_settings(settings, false, None);
            assert_eq!(outcome.violation, None, "seed {seed}");
        }
    }
}

/// What each script leads to is reached, and nothing is wrong then.
#[test]
fn scripts_come_to_their_end() {
    for (script, end) in [
        (Script::StaleLeader, "script: leader deposed while it stood still"),
        (Script::LateAnswer, "script: late answer to a read"),
        (Script::AnswerToEarlierRun, "script: late answer to a read"),
        (Script::OvertakenSnapshot, "script: snapshot that its receiver has overtaken"),
        (Script::LonelyRepair, "script: damaged member with nobody but one that lags"),
        (Script::SlowVote, "script: killed the moment it leads"),
        (Script::ForgottenMembers, "script: killed after it has confirmed its own removal"),
        (Script::RequestsInSnapshot, "script: calls repeated behind a snapshot"),
        (Script::ForgottenWord, "script: vote asked for after a start"),
        (Script::OlderVoter, "script: vote asked for after a start"),
        (Script::LateConfirmation, "script: late confirmation of a lease"),
        (Script::HandedOver, "script: leadership handed over by a leader that hears nothing of it"),
    ] {
        let mut reached = 0;
        for seed in 0..CLEAN_RUNS {
            let mut settings = Settings::of(seed, Length::Short);
            script.direct(&mut settings);
            let outcome = runs::run_settings(settings, false, None);
            assert_eq!(outcome.violation, None, "{script:?}, seed {seed}");
            reached += outcome.counters.branches.get(end).copied().unwrap_or(0);
        }
        assert!(reached > 0, "{script:?}");
    }
}
