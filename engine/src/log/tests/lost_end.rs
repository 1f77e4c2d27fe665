//! A log that was killed and has lost its newest segment: nobody knows how far it reached until the peers have said so.

use super::damage::tiny_options;
use super::support::{Opened, all, entries, open_with};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::{CrashLoss, Failure};
use crate::ids::{LogIndex, NodeId, Term};
use crate::log::{FaultPolicy, FillError, Finding, HardState, LogError, LogOptions, LogWriter, inspect};

/// The last entry that the state promises.
const PROMISED: u64 = 20;
/// The last entry that was confirmed.
const LAST: u64 = 22;
const TERM: u64 = 3;

/// Killed with entries 1 to [`LAST`] durable and [`PROMISED`] of them promised, its newest segment gone.
fn without_newest_segment() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, tiny_options()).unwrap();
    writer.append(&entries(1..=PROMISED, TERM)).unwrap();
    let commit = LogIndex(PROMISED);
    writer.save_hard_state(HardState { term: Term(TERM), vote: Some(NodeId(2)), commit }).unwrap();
    writer.append(&entries(PROMISED + 1..=LAST, TERM)).unwrap();
    writer.sync().unwrap();
    let newest = reader.segments().last().unwrap().clone();
    assert!(newest.first < LogIndex(PROMISED), "what is promised must be in the newest segment too");
    let killed = disk.crash(CrashLoss::Everything, 0);
    assert!(killed.lose(&newest.file));
    killed
}

fn open_damaged(disk: &SimulatedDisk) -> Result<Opened, LogError> {
    open_with(disk, LogOptions { faults: FaultPolicy::Report, ..tiny_options() })
}

fn fill_holes(writer: &mut LogWriter, term: u64) -> Result<(), FillError> {
    while let Some(hole) = writer.holes().first().cloned() {
        writer.fill(&entries(hole.first.0..=hole.last.0, term))?;
    }
    Ok(())
}

fn is_damaged(disk: &SimulatedDisk) -> bool {
    match open_with(&disk.duplicate(), tiny_options()) {
        Ok((_, reader, _)) => {
            assert_eq!(all(&reader).len() as u64, LAST, "a shortened log was taken for whole");
            false
        }
        Err(LogError::Corrupt { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_promised_is_back_and_the_end_is_still_unknown() {
    let disk = without_newest_segment();
    let (mut writer, reader, _) = open_damaged(&disk).unwrap();
    assert!(writer.is_end_unknown());
    fill_holes(&mut writer, TERM).unwrap();
    assert_eq!(reader.last().index, LogIndex(PROMISED));
    assert!(writer.holes().is_empty() && writer.is_end_unknown());
    assert!(!writer.outline().unwrap().is_certain(), "it cannot be said what was not in this log");

    writer.settle_end(LogIndex(LAST)).unwrap();
    assert_eq!(writer.holes().iter().map(|hole| (hole.first.0, hole.last.0)).collect::<Vec<_>>(), [(21, LAST)]);
    assert!(!writer.outline().unwrap().is_whole());
    fill_holes(&mut writer, TERM).unwrap();
    assert!(writer.outline().unwrap().is_whole());
    assert_eq!(all(&reader), entries(1..=LAST, TERM));
}

#[test]
fn an_unknown_end_stays_so_over_a_restart() {
    for closed in [true, false] {
        let disk = without_newest_segment();
        let (mut writer, ..) = open_damaged(&disk).unwrap();
        fill_holes(&mut writer, TERM).unwrap();
        if closed {
            writer.close().unwrap();
        } else {
            drop(writer);
        }
        let restarted = disk.crash(CrashLoss::Everything, 0);
        assert!(is_damaged(&restarted));
        let mut faults = 0;
        inspect(&restarted, &mut |finding| faults += u64::from(matches!(finding, Finding::Fault(_)))).unwrap();
        assert_eq!(faults, 1);
        let (mut writer, reader, _) = open_damaged(&restarted).unwrap();
        assert!(writer.is_end_unknown() && !writer.outline().unwrap().is_certain());
        writer.settle_end(LogIndex(LAST)).unwrap();
        fill_holes(&mut writer, TERM).unwrap();
        drop(writer);
        assert_eq!(all(&reader), entries(1..=LAST, TERM));
        assert!(!is_damaged(&restarted.crash(CrashLoss::Everything, 0)));
    }
}

#[test]
fn an_end_that_turns_out_to_be_here_makes_the_log_whole() {
    let disk = without_newest_segment();
    let (mut writer, reader, _) = open_damaged(&disk).unwrap();
    fill_holes(&mut writer, TERM).unwrap();
    writer.settle_end(LogIndex(PROMISED)).unwrap();
    assert!(writer.outline().unwrap().is_whole() && !writer.is_end_unknown());
    writer.append(&entries(PROMISED + 1..=LAST, TERM + 1)).unwrap();
    writer.sync().unwrap();
    drop(writer);
    assert_eq!(reader.last().index, LogIndex(LAST));
    assert!(!is_damaged(&disk.crash(CrashLoss::Everything, 0)));
}

#[test]
fn no_crash_makes_a_shortened_log_look_whole() {
    let repair = |disk: &SimulatedDisk| -> Result<(), FillError> {
        let (mut writer, ..) = open_damaged(disk)?;
        fill_holes(&mut writer, TERM)?;
        writer.settle_end(LogIndex(LAST))?;
        fill_holes(&mut writer, TERM)
    };
    for operations in 0.. {
        let interrupted = without_newest_segment();
        interrupted.fail_after(operations, Failure::Stop);
        let finished = repair(&interrupted).is_ok();
        for (seed, loss) in CrashLoss::ALL.into_iter().enumerate() {
            let left = interrupted.crash(loss, operations * 7 + seed as u64);
            // What it holds is what it had, and it says so when that is not all.
            if is_damaged(&left) {
                repair(&left).unwrap();
                assert!(!is_damaged(&left), "{operations} operations, {loss:?}");
            }
        }
        if finished {
            break;
        }
    }
}

#[test]
fn entries_of_a_later_term_bring_the_log_into_it_without_a_vote() {
    let disk = without_newest_segment();
    let (mut writer, ..) = open_damaged(&disk).unwrap();
    fill_holes(&mut writer, TERM).unwrap();
    let state = writer.hard_state();
    assert_eq!((state.term, state.vote), (Term(TERM), Some(NodeId(2))), "a vote in the same term is kept");
    writer.settle_end(LogIndex(LAST)).unwrap();
    drop(writer);
    for operations in 0.. {
        let interrupted = disk.crash(CrashLoss::Everything, 0);
        let (mut writer, ..) = open_damaged(&interrupted).unwrap();
        interrupted.fail_after(operations, Failure::Stop);
        let filled = fill_holes(&mut writer, TERM + 2);
        for loss in CrashLoss::ALL {
            let (writer, reader, recovery) = open_damaged(&interrupted.crash(loss, operations)).unwrap();
            recovery.check_term().unwrap();
            let HardState { term, vote, .. } = writer.hard_state();
            let expected = if term == Term(TERM) { Some(NodeId(2)) } else { None };
            assert_eq!(vote, expected, "the vote of another term was taken along");
            assert!(reader.last().term <= term, "an entry was durable before its term");
            assert!(filled.is_err() || term == Term(TERM + 2));
        }
        if filled.is_ok() {
            break;
        }
    }
}
