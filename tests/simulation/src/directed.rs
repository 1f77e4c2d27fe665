//! Runs that are made for one planted bug: what it takes to be seen is drawn too seldom, or is too short to be met.
//!
//! Everything else is drawn as for any other run. A bug that even a directed run misses says that a checker or a fault is
//! missing.

use steeple_engine::simulation::Bug;

use crate::script::Script;
use crate::settings::Settings;
use crate::time::{MILLISECOND, SECOND};

/// What is set besides what is drawn.
type Direction = fn(&mut Settings);

/// How runs are directed that look for a bug; not at all when undirected ones find it soon.
#[must_use]
pub fn direction(bug: Bug) -> Option<Direction> {
    Some(match bug {
        Bug::LeaseReads => |settings| Script::StaleLeader.direct(settings),
        Bug::ReadOfLaterRound => |settings| Script::LateAnswer.direct(settings),
        Bug::ReadOfEarlierRun => |settings| Script::AnswerToEarlierRun.direct(settings),
        Bug::JointConfigurationNotLeft | Bug::OutgoingVotersForgotten => changes_of_members,
        Bug::MembersBeforeCommit | Bug::CommitOfChangeForgotten => |settings| Script::ForgottenMembers.direct(settings),
        Bug::BaseNotPublished => lost_stores,
        Bug::PurgedTooEarly => old_stores,
        Bug::FlushNotDone => damaged_bases,
        Bug::SnapshotNotNeeded => |settings| Script::OvertakenSnapshot.direct(settings),
        Bug::SnapshotForgetsRequests => |settings| Script::RequestsInSnapshot.direct(settings),
        Bug::GenerationReused => segments,
        Bug::WipedNodeVotes => lost_disks,
        Bug::DamageCutOff => damaged_logs,
        Bug::RepairQuorumTooLow => |settings| Script::LonelyRepair.direct(settings),
        Bug::FeaturesRaisedTooEarly | Bug::OlderMemberAdmitted => upgrades,
        Bug::VoteCountedBeforeDurable => |settings| Script::SlowVote.direct(settings),
        Bug::VoteForgotten => elections,
        Bug::VotesNotGuarded | Bug::GuardForgottenAtStart => |settings| Script::ForgottenWord.direct(settings),
        Bug::LeaseBeforeFeatures => |settings| Script::OlderVoter.direct(settings),
        Bug::LeaseFromAnswer => |settings| Script::LateConfirmation.direct(settings),
        Bug::LeaseKeptOverTransfer => |settings| Script::HandedOver.direct(settings),
        _ => return None,
    })
}

/// Much is done.
fn busy(settings: &mut Settings) {
    (settings.clients, settings.think) = (6, 50 * MILLISECOND);
    settings.members = settings.members.max(3);
}

fn changes_of_members(settings: &mut Settings) {
    busy(settings);
    (settings.intervals.membership, settings.intervals.joint_change) = (3 * SECOND, 2 * SECOND);
    (settings.intervals.crash, settings.intervals.wipe) = (2 * SECOND, 0);
}

/// Short memories, and space given back all the time.
fn compacting(settings: &mut Settings) {
    busy(settings);
    settings.window = 4 * SECOND;
    (settings.intervals.flush, settings.intervals.compact) = (SECOND, SECOND);
    settings.faulty = 40 * SECOND;
}

fn lost_stores(settings: &mut Settings) {
    compacting(settings);
    (settings.spoils_base, settings.intervals.lost_records) = (false, 3 * SECOND);
}

/// Records are hardly ever flushed, and lost with the power.
fn old_stores(settings: &mut Settings) {
    compacting(settings);
    (settings.intervals.flush, settings.intervals.crash) = (20 * SECOND, 2 * SECOND);
}

fn damaged_bases(settings: &mut Settings) {
    compacting(settings);
    (settings.spoils_base, settings.intervals.lost_records) = (true, 3 * SECOND);
    settings.intervals.crash = 2 * SECOND;
}

fn segments(settings: &mut Settings) {
    compacting(settings);
    settings.intervals.crash = 2 * SECOND;
}

fn lost_disks(settings: &mut Settings) {
    busy(settings);
    (settings.intervals.wipe, settings.intervals.joint_change) = (SECOND, 0);
    (settings.intervals.partition, settings.intervals.crash) = (3 * SECOND, 3 * SECOND);
}

fn elections(settings: &mut Settings) {
    busy(settings);
    (settings.delay, settings.reordering) = (20 * MILLISECOND, 50);
    (settings.intervals.crash, settings.intervals.partition) = (2 * SECOND, 2 * SECOND);
}

fn damaged_logs(settings: &mut Settings) {
    busy(settings);
    (settings.intervals.rot, settings.intervals.crash) = (SECOND, 3 * SECOND);
    (settings.intervals.partition, settings.intervals.blackout) = (3 * SECOND, 5 * SECOND);
    (settings.intervals.wipe, settings.intervals.joint_change) = (0, 0);
}

fn upgrades(settings: &mut Settings) {
    busy(settings);
    (settings.intervals.upgrade, settings.intervals.membership) = (2 * SECOND, 2 * SECOND);
}
