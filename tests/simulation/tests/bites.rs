//! Each planted bug is found: what the checkers do not find when it is there, they would not find when it is not planted
//! either.

use steeple_engine::simulation::Bug;
use steeple_simulation::runs;

/// Runs that a bug may take to be found here; `simulate bugs` looks for longer.
const RUNS_MAX: u64 = 300;

fn check(bugs: &[Bug]) {
    let missed: Vec<&Bug> = bugs.iter().filter(|bug| runs::find(**bug, 0, RUNS_MAX).is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_planted_bug_is_found() {
    check(&Bug::ALL);
}
