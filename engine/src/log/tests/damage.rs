//! Damage to what was once durable.

use std::collections::BTreeSet;

use super::support::{all, entries, entry, open, open_with, small_options};
use crate::disk::simulated::CrashLoss;
use crate::disk::{Disk, SimulatedDisk};
use crate::ids::{LogIndex, LogPosition, NodeId, Term};
use crate::log::frame::FRAME_HEADER_BYTES;
use crate::log::{
    Entry, Fault, FaultKind, FaultPolicy, Finding, FrameVerdict, HardState, LogError, LogOptions, LogReader,
    Verification, inspect,
};

const HARD_STATE: HardState = HardState { term: Term(3), vote: Some(NodeId(2)), commit: LogIndex(50) };

pub(super) fn tiny_options() -> LogOptions {
    LogOptions { segment_bytes: 8192 + 768, segment_entries: 6, ..small_options() }
}

/// A log with a rewritten segment, one that was never used before, one in a recycled file with entries of its earlier
/// life behind the end, and a spare file.
pub(super) fn sample(clean: bool) -> (SimulatedDisk, Vec<Entry>) {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, tiny_options()).unwrap();
    writer.append(&entries(1..=28, 3)).unwrap();
    writer.set_hard_state(HARD_STATE).unwrap();
    writer.sync().unwrap();
    writer.purge_prefix(LogIndex(12)).unwrap();
    writer.rewrite_sparse(&mut |index, _| index.0 % 5 == 1, LogIndex(20), 0.9).unwrap();
    writer.append(&entries(29..=32, 3)).unwrap();
    writer.sync().unwrap();
    writer.append(&entries(33..=34, 3)).unwrap();
    writer.sync().unwrap();
    let expected = all(&reader);
    assert!(reader.segments().iter().any(|segment| segment.rewritten));
    if clean {
        writer.close().unwrap();
        (disk, expected)
    } else {
        (disk.crash(CrashLoss::Everything, 0), expected)
    }
}

/// The log is as it was, or it says which entries are not.
fn check_opened(disk: &SimulatedDisk, expected: &[Entry], place: &str) -> bool {
    match open_with(disk, tiny_options()) {
        Ok((_, reader, recovery)) => {
            assert_eq!(all(&reader), expected, "{place}");
            assert_eq!((recovery.hard_state.term, recovery.hard_state.vote), (Term(3), Some(NodeId(2))), "{place}");
            true
        }
        Err(LogError::Corrupt { faults }) => {
            for fault in &faults {
                assert!(place.starts_with(&fault.segment), "{place}: {fault}");
                assert!(fault.last.is_some_and(|last| last >= fault.first), "{place}: {fault}");
            }
            false
        }
        Err(error) => panic!("{place}: {error}"),
    }
}

fn flip_everywhere(clean: bool) {
    let (disk, expected) = sample(clean);
    let mut reported = BTreeSet::new();
    let mut checked = 0;
    for name in disk.list().unwrap() {
        let bytes = disk.contents(&name).unwrap().len() as u64;
        for offset in 0..bytes {
            let damaged = disk.duplicate();
            assert!(damaged.flip(&name, offset, 1 << (offset % 8)));
            if !check_opened(&damaged, &expected, &format!("{name} byte {offset}")) {
                reported.insert((name.clone(), offset));
            }
            checked += 1;
        }
    }
    assert!(checked > 40_000);
    // Every byte of every live frame matters, except for padding; nothing else may stop the log from opening.
    let mut live_bytes = 0;
    inspect(&disk, &mut |finding| {
        if let Finding::Slot { file, offset, frame: FrameVerdict::Good(header), .. } = finding {
            let frame = offset..offset + 40 + u64::from(header.payload_bytes);
            assert!(frame.clone().all(|offset| reported.contains(&(file.clone(), offset))), "{file} {frame:?}");
            live_bytes += 40 + u64::from(header.payload_bytes);
        }
    })
    .unwrap();
    assert_eq!(reported.len() as u64, live_bytes);
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_log_is_healed_or_reported() {
    flip_everywhere(true);
}

#[test]
fn a_flipped_bit_anywhere_after_a_crash_is_healed_or_reported() {
    flip_everywhere(false);
}

#[test]
fn damage_found_only_when_reading_is_reported_then() {
    let (disk, expected) = sample(true);
    let options = LogOptions { verification: Verification::Newest, ..tiny_options() };
    let segments = open_with(&disk.duplicate(), options).unwrap().1.segments();
    for segment in &segments[..segments.len() - 1] {
        for offset in (8192..segment.file_bytes).step_by(3) {
            let damaged = disk.duplicate();
            damaged.flip(&segment.file, offset, 0x10);
            let (_, reader, _) = open_with(&damaged, options).unwrap();
            for entry in &expected {
                match reader.read(entry.position.index) {
                    Ok(found) => assert_eq!(found.as_ref(), Some(entry), "{} {offset}", segment.file),
                    Err(LogError::Corrupt { faults }) => assert_eq!(faults[0].segment, segment.file),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

fn faults_of(disk: &SimulatedDisk) -> Vec<Fault> {
    match open_with(disk, tiny_options()) {
        Err(LogError::Corrupt { faults }) => faults,
        other => panic!("{other:?}"),
    }
}

fn report(disk: &SimulatedDisk) -> (crate::log::LogWriter, LogReader, Vec<Fault>) {
    let (writer, reader, recovery) =
        open_with(disk, LogOptions { faults: FaultPolicy::Report, ..tiny_options() }).unwrap();
    (writer, reader, recovery.faults)
}

#[test]
fn a_missing_or_short_segment_is_a_fault_of_all_its_entries_and_can_be_repaired() {
    let (disk, expected) = sample(true);
    let segments = open_with(&disk.duplicate(), tiny_options()).unwrap().1.segments();
    let (newest, completed) = segments.split_last().unwrap();
    assert!(completed.len() >= 2);
    for segment in completed {
        for shortened in [None, Some(0), Some(100), Some(5000), Some(segment.file_bytes - 1)] {
            let damaged = disk.duplicate();
            match shortened {
                None => assert!(damaged.lose(&segment.file)),
                Some(bytes) => assert!(damaged.shorten(&segment.file, bytes)),
            }
            let faults = faults_of(&damaged);
            assert_eq!(faults.len(), 1);
            let fault = &faults[0];
            assert_eq!((&fault.segment, fault.first, fault.last), (&segment.file, segment.first, Some(segment.last)));
            match shortened {
                None => assert_eq!(fault.kind, FaultKind::FileMissing),
                Some(_) => assert!(matches!(fault.kind, FaultKind::FileShort { .. }), "{fault}"),
            }
            if segment.rewritten {
                continue;
            }
            let (mut writer, reader, faults) = report(&damaged);
            assert!(matches!(reader.read(segment.first), Err(LogError::Corrupt { .. })));
            assert_eq!(reader.read(newest.first).unwrap().unwrap().position.index, newest.first);
            let held = |index: LogIndex| expected.iter().find(|entry| entry.position.index == index).cloned();
            let missing = writer.repair(&faults, &mut |index| held(index).filter(|_| index != segment.first)).unwrap();
            assert_eq!((missing.segments, missing.missing), (0, vec![segment.first]));
            assert_eq!(writer.repair(&faults, &mut |index| held(index)).unwrap().segments, 1);
            assert_eq!(all(&reader), expected);
            drop(writer);
            assert_eq!(all(&open_with(&damaged.crash(CrashLoss::Everything, 0), tiny_options()).unwrap().1), expected);
        }
    }
}

#[test]
fn a_missing_newest_segment_blocks_appending_until_it_is_cut_off() {
    for place in [0, 2] {
        let (disk, expected) = sample(true);
        let segments = open_with(&disk.duplicate(), tiny_options()).unwrap().1.segments();
        let kept = segments.len() - 1;
        for segment in segments.iter().skip(if place == 0 { 0 } else { kept }) {
            assert!(disk.lose(&segment.file));
        }
        let first = if place == 0 { segments[0].first } else { segments[kept].first };
        let faults = faults_of(&disk);
        assert_eq!((faults.len(), faults[0].first, faults[0].last), (1, first, None));
        let (mut writer, reader, _) = report(&disk);
        assert!(matches!(writer.append(&entries(60..=60, 4)), Err(LogError::Corrupt { .. })));
        writer.truncate_suffix(first).unwrap();
        let mut left: Vec<Entry> = expected.into_iter().filter(|entry| entry.position.index < first).collect();
        assert_eq!(all(&reader), left);
        assert_eq!(all(&open_with(&disk.duplicate(), tiny_options()).unwrap().1), left);
        let more = entries(first.0..=first.0 + 4, 4);
        writer.append(&more).unwrap();
        writer.sync().unwrap();
        left.extend(more);
        assert_eq!(all(&open_with(&disk.crash(CrashLoss::Everything, 0), tiny_options()).unwrap().1), left);
    }
}

#[test]
fn a_damaged_entry_is_repaired_only_by_itself() {
    let (disk, expected) = sample(true);
    let segments = open_with(&disk.duplicate(), tiny_options()).unwrap().1.segments();
    for segment in &segments {
        let damaged = disk.duplicate();
        damaged.flip(&segment.file, 8192 + 45, 4);
        let (mut writer, reader, faults) = report(&damaged);
        let lost = faults[0].first;
        assert!(matches!(faults[0].kind, FaultKind::Frame { .. }), "{}", faults[0]);
        assert_eq!(faults[0].identity.unwrap().0.index, lost);
        let held = expected.iter().find(|entry| entry.position.index == lost).unwrap();
        let mut wrong = held.clone();
        wrong.position.term = Term(2);
        assert_eq!(writer.repair(&faults, &mut |_| Some(wrong.clone())).unwrap().missing, [lost]);
        assert_eq!(writer.repair(&faults, &mut |_| Some(held.clone())).unwrap().segments, 1);
        assert_eq!(all(&reader), expected);
        writer.append(&entries(35..=36, 3)).unwrap();
        writer.close().unwrap();
        let reopened = all(&open_with(&damaged, tiny_options()).unwrap().1);
        assert_eq!(reopened, [expected.clone(), entries(35..=36, 3)].concat());
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_its_entries_only() {
    let disk = SimulatedDisk::new();
    let options = LogOptions { segment_bytes: 64 << 10, segment_entries: 200, ..small_options() };
    let (mut writer, ..) = open_with(&disk, options).unwrap();
    writer.append(&entries(1..=200, 1)).unwrap();
    writer.close().unwrap();
    let bad = 8192 + 4096;
    disk.fail_reads("segment-0000000000000001", bad);
    let Err(LogError::Corrupt { faults }) = open_with(&disk, options) else { panic!("opened") };
    assert_eq!(faults.len(), 1);
    assert!(faults[0].offset.unwrap() <= bad && bad < faults[0].offset.unwrap() + 100, "{}", faults[0]);
}

#[test]
fn lost_state_is_never_taken_for_a_new_log() {
    let (disk, _) = sample(true);
    let lost = disk.duplicate();
    lost.lose("state");
    lost.lose("state-twin");
    assert!(matches!(open_with(&lost, tiny_options()), Err(LogError::StateMissing)));
    for copy in 0..4 {
        disk.flip("state", copy * 4096 + 80, 1);
        disk.flip("state-twin", copy * 4096 + 80, 1);
    }
    assert!(matches!(open_with(&disk, tiny_options()), Err(LogError::StateDamaged)));
}

/// Either file is enough, whatever is wrong with the other one, and is given a twin again.
#[test]
fn a_lost_state_file_is_made_anew_from_its_twin() {
    for (lost, kept) in [("state", "state-twin"), ("state-twin", "state")] {
        for damage in 0..4 {
            let (disk, expected) = sample(true);
            match damage {
                0 => assert!(disk.lose(lost)),
                1 => assert!(disk.shorten(lost, 5000)),
                2 => disk.fail_opening(lost),
                _ => (0..4).for_each(|copy| assert!(disk.flip(lost, copy * 4096 + 80, 1))),
            }
            let (mut writer, ..) = open_with(&disk, tiny_options()).unwrap();
            assert_eq!(writer.hard_state().vote, HARD_STATE.vote);
            writer.save_hard_state(HardState { term: Term(9), vote: None, commit: LogIndex(34) }).unwrap();
            drop(writer);
            let disk = disk.crash(CrashLoss::Everything, 0);
            disk.lose(kept);
            let (writer, reader, _) = open_with(&disk, tiny_options()).unwrap();
            assert_eq!((writer.hard_state().term, all(&reader)), (Term(9), expected), "{lost}, {damage}");
        }
    }
}

#[test]
fn a_full_disk_stops_the_log_and_loses_nothing() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    let first = entries(1..=4, 1);
    writer.append(&first).unwrap();
    writer.sync().unwrap();
    disk.limit_capacity(32 << 10);
    assert!(matches!(writer.append(&entries(5..=60, 1)), Err(LogError::Io { .. })));
    assert!(matches!(writer.sync(), Err(LogError::Poisoned { .. })));
    disk.limit_capacity(u64::MAX);
    let found = all(&open(&disk.duplicate()).unwrap().1);
    assert_eq!(found, entries(1..=found.len() as u64, 1));
    assert!(found.len() >= first.len());
}

#[test]
fn entries_of_an_earlier_life_of_the_file_do_not_count() {
    let disk = SimulatedDisk::new();
    // A page each: what is left in a page that is written is overwritten with zeros.
    let frames = 4096 - FRAME_HEADER_BYTES;
    let options = LogOptions { segment_bytes: 64 << 10, ..small_options() };
    let (mut writer, reader, _) = open_with(&disk, options).unwrap();
    let old: Vec<_> = (1..=8).map(|index| entry(index, 1, &format!("{index:0frames$}"))).collect();
    writer.append(&old).unwrap();
    writer.sync().unwrap();
    // The same file, the same positions, the same sizes, and the indexes that would continue the new log.
    writer.reset_to(LogPosition::default(), 0).unwrap();
    writer.reset_to(LogPosition::default(), 0).unwrap();
    writer.append(&old[..3]).unwrap();
    writer.sync().unwrap();
    let name = &reader.segments()[0].file;
    let bytes = disk.contents(name).unwrap();
    // Right behind the new ones.
    let stale = &old[3].payload;
    assert!(bytes.windows(stale.len()).any(|window| window == stale.as_ref()), "the file was not reused");
    for crashed in [disk.duplicate(), disk.crash(CrashLoss::Everything, 0)] {
        assert_eq!(all(&open_with(&crashed, options).unwrap().1), old[..3]);
    }
}

#[test]
fn inspecting_changes_nothing_and_finds_everything() {
    let (disk, expected) = sample(true);
    let before: Vec<_> = disk.list().unwrap().iter().map(|name| disk.contents(name)).collect();
    let (operations, mut good, mut faults) = (disk.operations(), 0, 0);
    let mut count = |finding: Finding| match finding {
        Finding::Slot { frame: FrameVerdict::Good(_), .. } => good += 1,
        Finding::Fault(_) => faults += 1,
        _ => {}
    };
    inspect(&disk, &mut count).unwrap();
    assert_eq!((good, faults), (expected.len(), 0));
    let after: Vec<_> = disk.list().unwrap().iter().map(|name| disk.contents(name)).collect();
    assert_eq!((before, operations), (after, disk.operations()));
}
