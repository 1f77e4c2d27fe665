//! One misdirected write that hits the frames of entries and their records at once must not look like the end of the log.

use super::support::{Opened, all, entries, open, open_with};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::CrashLoss;
use crate::ids::LogIndex;
use crate::log::{FaultKind, FaultPolicy, LogError, LogOptions};

const SEGMENT: &str = "segment-0000000000000001";
const FRAMES: usize = 8192;

/// Frames and records in blocks of their own.
fn options() -> LogOptions {
    LogOptions { segment_bytes: 8192 + 3 * 4096, segment_entries: 64, ..super::support::small_options() }
}

fn records(slot: usize) -> usize {
    8192 + 3 * 4096 - 64 * 48 + slot * 48
}

/// Killed after entries 1 to 9 were made durable in two batches, and the disk before the second of them. Nothing but what
/// lies in the segment says that entries 6 to 9 were.
fn killed() -> (SimulatedDisk, Vec<u8>, usize) {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, options()).unwrap();
    writer.append(&entries(1..=5, 1)).unwrap();
    writer.sync().unwrap();
    let (before, end) = (disk.contents(SEGMENT).unwrap(), reader.segments()[0].frames_bytes as usize);
    writer.append(&entries(6..=9, 1)).unwrap();
    writer.sync().unwrap();
    (disk.crash(CrashLoss::Everything, 0), before, FRAMES + end)
}

/// The bytes of a range go to another place, and their own holds what it held before.
fn misdirect(disk: &SimulatedDisk, before: &[u8], from: std::ops::Range<usize>, onto: usize) {
    let mut now = disk.contents(SEGMENT).unwrap();
    let bytes = now[from.clone()].to_vec();
    now[from.clone()].copy_from_slice(&before[from]);
    now[onto..onto + bytes.len()].copy_from_slice(&bytes);
    disk.place(SEGMENT, &now);
}

fn is_reported(disk: &SimulatedDisk) -> bool {
    match open_with(&disk.duplicate(), options()) {
        Ok(_) => false,
        Err(LogError::Corrupt { faults }) => {
            let last = faults.last().unwrap();
            assert!(matches!(last.kind, FaultKind::Astray { .. }), "{last}");
            assert_eq!((last.first, last.last), (LogIndex(6), None), "{last}");
            true
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn frames_in_the_place_of_their_records_are_found() {
    let (disk, before, end) = killed();
    misdirect(&disk, &before, end..end + 512, records(5));
    assert!(is_reported(&disk));
}

#[test]
fn records_in_the_place_of_their_frames_are_found() {
    let (disk, before, end) = killed();
    misdirect(&disk, &before, records(0)..records(16), end);
    assert!(is_reported(&disk));
}

#[test]
fn frames_that_lie_further_on_are_found_when_their_records_are_gone() {
    let (disk, before, end) = killed();
    misdirect(&disk, &before, end..end + 512, 8192 + 4096);
    misdirect(&disk, &before, records(5)..records(9), records(20));
    assert!(is_reported(&disk));
}

#[test]
fn a_payload_over_the_record_of_a_begun_frame_is_found() {
    let (disk, before, end) = killed();
    let mut now = disk.contents(SEGMENT).unwrap();
    now[end + 40..end + 512].copy_from_slice(&before[end + 40..end + 512]);
    now[records(5)..records(9)].fill(b'x');
    disk.place(SEGMENT, &now);
    assert!(is_reported(&disk));
}

#[test]
fn after_a_proper_close_nothing_can_be_missing() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open_with(&disk, options()).unwrap();
    writer.append(&entries(1..=5, 1)).unwrap();
    writer.close().unwrap();
    let mut now = disk.contents(SEGMENT).unwrap();
    let record = now[records(3)..records(4)].to_vec();
    now[records(8)..records(9)].fill(b'x');
    now[12288..12288 + 48].copy_from_slice(&record);
    disk.place(SEGMENT, &now);
    assert_eq!(all(&open_with(&disk, options()).unwrap().1), entries(1..=5, 1));
}

#[test]
fn the_end_that_went_astray_is_had_from_the_peers_or_cut_off_by_an_operator() {
    let (disk, before, end) = killed();
    misdirect(&disk, &before, end..end + 512, records(5));
    let cut = LogOptions { faults: FaultPolicy::CutUndecided, ..options() };
    let (_, reader, recovery) = open_with(&disk.duplicate(), cut).unwrap();
    assert_eq!((all(&reader), recovery.faults), (entries(1..=5, 1), Vec::new()));

    let report = LogOptions { faults: FaultPolicy::Report, ..options() };
    let (mut writer, reader, _): Opened = open_with(&disk, report).unwrap();
    assert!(writer.is_end_unknown());
    writer.settle_end(LogIndex(9)).unwrap();
    writer.fill(&entries(6..=9, 1)).unwrap();
    assert!(writer.outline().unwrap().is_whole());
    drop(writer);
    assert_eq!(all(&reader), entries(1..=9, 1));
    let (_, reader, recovery) = open_with(&disk.crash(CrashLoss::Everything, 0), options()).unwrap();
    assert_eq!((all(&reader), recovery.faults), (entries(1..=9, 1), Vec::new()));
}

#[test]
fn what_an_earlier_life_of_the_file_left_behind_is_no_trace() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.append(&entries(1..=20, 1)).unwrap();
    writer.sync().unwrap();
    writer.purge_prefix(LogIndex(16)).unwrap();
    writer.append(&entries(21..=30, 1)).unwrap();
    writer.sync().unwrap();
    let (_, reader, recovery) = open(&disk.crash(CrashLoss::Everything, 0)).unwrap();
    assert_eq!((reader.last().index, recovery.faults), (LogIndex(30), Vec::new()));
}
