//! Every point at which one node can crash, and everything that a disk may then have kept.
//!
//! | file | what it is |
//! | --- | --- |
//! | `node` | one node without threads: the real log, pipeline, view and snapshot over a simulated disk |
//! | `workload` | what it is told to do: creates, updates, deletes, prunes, flushes, snapshots, compaction, restarts |
//! | `outcomes` | which of the unsynced writes and names survive: all combinations, or as many as the budget allows |
//! | `expected` | what must be found afterwards, from a run in which nothing failed |
//!
//! The workload is run once for each operation on the disk, up to that operation, and then crashed in each way.
//! What the crash has left is opened like a node opens it, and must hold what was acknowledged, nothing that was not
//! submitted, in the right order and with the right digest; it must go on from there. A part of these starts is crashed in
//! its turn, at each of its operations, and repeated. What one sector holds after a crash is one of the contents that it
//! has had since it was synced last: a write of several sectors tears, one of a single sector does not.
//!
//! `engine/src/log/tests/crash.rs` does the same for the log alone, with losses by chance, also within a sector.
//!
//! A larger budget:
//!
//! ```sh
//! STEEPLE_TEST_CRASH_BITS=12 cargo test --release -p steeple-tests --test crash_points -- --nocapture
//! ```

mod expected;
mod node;
mod outcomes;
mod workload;

use std::time::Instant;

use steeple_engine::disk::SimulatedDisk;
use steeple_engine::disk::simulated::Failure;

use expected::Expected;
use node::{Kept, MiniNode, Problem, Stopped};
use outcomes::Budget;
use workload::{Step, workload};

/// What was found on the way, so that a run which found nothing of interest fails.
#[derive(Debug, Default)]
struct Tally {
    operations: u64,
    crashes: u64,
    /// Crashes of which every outcome was tried.
    exhausted: u64,
    crashes_of_starts: u64,
    /// Starts that cut an unfinished write off, and those of them that an operator had to allow it.
    torn: u64,
    undecided: u64,
    rebuilt: u64,
    /// Starts that found more than was acknowledged.
    unacknowledged: u64,
    /// Files that were made for the next segment when nothing failed.
    spares: u64,
}

/// Runs the workload until the disk stops; what then is known and what is kept besides the disk.
fn run_until_stop(disk: &SimulatedDisk, steps: &[Step]) -> (Kept, bool) {
    let mut kept = Kept::default();
    let Ok(mut node) = MiniNode::open(disk, &mut kept) else { return (kept, false) };
    for step in steps {
        if let Step::Stop | Step::Kill = step {
            kept.store = node.store_after_crash(kept.submitted);
            let Ok(store) = node.end(matches!(step, Step::Stop)) else { return (kept, false) };
            kept.store = store;
            let Ok(next) = MiniNode::open(disk, &mut kept) else { return (kept, false) };
            node = next;
        } else if node.perform(step, &mut kept).is_err() {
            kept.store = node.store_after_crash(kept.submitted);
            return (kept, false);
        }
    }
    kept.store = node.store_after_crash(kept.submitted);
    (kept, true)
}

/// Opens what is left, and holds it against what must be there.
fn check_start(left: &SimulatedDisk, kept: &Kept, expected: &Expected, tally: &mut Tally, context: &str) {
    let mut kept = kept.clone();
    let started = MiniNode::start(left, &mut kept).unwrap_or_else(|problem| panic!("{context}: {problem}"));
    tally.torn += u64::from(started.is_torn);
    tally.undecided += u64::from(started.is_undecided);
    tally.rebuilt += u64::from(started.is_rebuilt);
    let found = expected.check(&started.node, &kept).unwrap_or_else(|problem| panic!("{context}: {problem}"));
    tally.unacknowledged += u64::from(found > kept.acknowledged);
    go_on(started.node, left, kept, expected, context);
}

/// What a start has accepted stays, and what comes on top of it as well, even when all that is unsynced is lost.
fn go_on(mut node: MiniNode, left: &SimulatedDisk, mut kept: Kept, expected: &Expected, context: &str) {
    let before = node.revision();
    kept.submitted = before;
    node.perform(&workload::one_more(), &mut kept).unwrap_or_else(|Stopped| panic!("{context}: it does not go on"));
    kept.store = node.store_after_crash(0);
    drop(node);
    let left = left.crash_as(&[]);
    let again = MiniNode::start(&left, &mut kept).unwrap_or_else(|problem| panic!("{context}, again: {problem}"));
    assert_eq!(again.node.revision(), before + 1, "{context}: what was acknowledged after the crash");
    assert!(!again.is_torn, "{context}: what the first start cut off came back");
    expected.check_history(&again.node, before).unwrap_or_else(|problem| panic!("{context}, again: {problem}"));
}

/// Crashes a start at each of its operations, and repeats it.
fn crash_start(
    left: &SimulatedDisk,
    kept: &Kept,
    expected: &Expected,
    budget: Budget,
    tally: &mut Tally,
    context: &str,
) {
    for operation in 0.. {
        let disk = left.duplicate();
        disk.fail_after(operation, Failure::Stop);
        let context = format!("{context}, crashed again at {operation} of the start");
        let finished = match MiniNode::start(&disk, &mut kept.clone()) {
            Ok(_) => true,
            Err(Problem::Stopped) => false,
            Err(Problem::Wrong(problem)) => panic!("{context}: {problem}"),
        };
        for outcomes in budget.outcomes(&disk.crash_outcomes(), operation).list {
            tally.crashes_of_starts += 1;
            check_start(&disk.crash_as(&outcomes), kept, expected, tally, &context);
        }
        if finished {
            return;
        }
    }
}

fn explore(bits: u32) -> Tally {
    let steps = workload();
    let expected = Expected::of(&steps);
    let mut tally = Tally::default();
    let (budget, budget_of_starts) = (Budget { bits }, Budget { bits: bits / 3 });
    for operation in 0.. {
        let disk = SimulatedDisk::new();
        disk.fail_after(operation, Failure::Stop);
        let (kept, finished) = run_until_stop(&disk, &steps);
        let outcomes = budget.outcomes(&disk.crash_outcomes(), operation);
        tally.operations += 1;
        tally.exhausted += u64::from(outcomes.is_all);
        for (number, outcome) in outcomes.list.iter().enumerate() {
            let context = format!("crash at operation {operation}, outcome {outcome:?}");
            tally.crashes += 1;
            check_start(&disk.crash_as(outcome), &kept, &expected, &mut tally, &context);
            // One for each operation; all of them would take most of the time.
            if number as u64 == operation % outcomes.list.len() as u64 {
                crash_start(&disk.crash_as(outcome), &kept, &expected, budget_of_starts, &mut tally, &context);
            }
        }
        if finished {
            tally.spares = kept.spares;
            return tally;
        }
    }
    unreachable!("the workload ends")
}

#[test]
fn a_node_that_crashes_anywhere_holds_what_it_acknowledged() {
    let bits = std::env::var("STEEPLE_TEST_CRASH_BITS").ok().and_then(|bits| bits.parse().ok()).unwrap_or(4);
    let started = Instant::now();
    let tally = explore(bits);
    println!("{tally:?} in {:?}", started.elapsed());
    assert!(tally.operations > 100 && tally.crashes > 1_000 && tally.exhausted > 50, "{tally:?}");
    assert!(tally.crashes_of_starts > 1_000 && tally.rebuilt > 0 && tally.unacknowledged > 0, "{tally:?}");
    assert!(tally.spares > 0, "{tally:?}");
    // The undecidable case is real, and it is the exception.
    assert!(tally.undecided > 0 && tally.undecided * 4 < tally.crashes + tally.crashes_of_starts, "{tally:?}");
}
