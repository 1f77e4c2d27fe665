//! Planted bugs are found: what the checkers do not find when it is there, they would not find when it is not planted
//! either.

use steeple_engine::simulation::Bug;
use steeple_simulation::runs;

/// Bugs that need more luck than the short runs of a test have; `simulate bugs` tells.
const RARE: [Bug; 26] = [
    Bug::ReplacedWriteIsDurable,
    Bug::SnapshotNotNeeded,
    Bug::ReadOfLaterRound,
    Bug::PurgedTooEarly,
    Bug::BaseNotPublished,
    Bug::FlushNotDone,
    Bug::JointConfigurationNotLeft,
    Bug::LeaseReads,
    Bug::WipedNodeVotes,
    Bug::VoteForgotten,
    Bug::OutgoingVotersForgotten,
    Bug::RejectionBeforeFold,
    Bug::OverlayDroppedTooEarly,
    Bug::TimeForgottenAtElection,
    Bug::RequestsForgottenEarly,
    Bug::StreamCounterNotKept,
    Bug::DirectoryNotSynced,
    Bug::GenerationReused,
    Bug::VoteCountedBeforeDurable,
    Bug::PipelineKeptOverTerms,
    Bug::FoundTakenForDurable,
    Bug::FailedSyncRepeated,
    Bug::SnapshotForgetsRequests,
    Bug::MembersBeforeCommit,
    Bug::ReadOfEarlierRun,
    Bug::TornFrameTaken,
];

/// Runs that a bug may take to be found here; `simulate bugs` looks for longer.
const RUNS_MAX: u64 = 1000;

fn check(bugs: &[Bug]) {
    let missed: Vec<&Bug> = bugs.iter().filter(|bug| runs::find(**bug, 0, RUNS_MAX).is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn every_common_bug_is_found() {
    let common: Vec<Bug> = Bug::ALL.into_iter().filter(|bug| !RARE.contains(bug)).collect();
    check(&common);
}
