//! Writes that were lost: old but valid content in the place of new.

use std::ops::ControlFlow;

use super::support::{all, entries, entry, open};
use crate::disk::SimulatedDisk;
use crate::ids::{LogIndex, LogPosition, Term};
use crate::log::frame::frame_bytes;
use crate::log::{Entry, FaultKind, HardState, LogError, LogReader, LogWriter};

const SEGMENT: &str = "segment-0000000000000001";
const FRAMES: usize = 8192;
const RECORDS: usize = 8192 + 1024 - 8 * 48;

fn state(term: u64) -> HardState {
    HardState { term: Term(term), vote: None, commit: LogIndex(0) }
}

/// A log whose entries 3 and 4 have taken the place of others, and the disk before that.
fn replaced_and_open() -> (SimulatedDisk, SimulatedDisk, LogWriter, LogReader) {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    writer.save_hard_state(state(1)).unwrap();
    writer.append(&entries(1..=4, 1)).unwrap();
    writer.sync().unwrap();
    let before = disk.duplicate();
    writer.save_hard_state(state(2)).unwrap();
    writer.truncate_suffix(LogIndex(3)).unwrap();
    writer.append(&entries(3..=4, 2)).unwrap();
    writer.sync().unwrap();
    (disk, before, writer, reader)
}

/// The same, closed, with what it holds.
fn replaced() -> (SimulatedDisk, SimulatedDisk, Vec<Entry>) {
    let (disk, before, writer, reader) = replaced_and_open();
    let expected = all(&reader);
    writer.close().unwrap();
    (disk, before, expected)
}

/// Puts a part of the segment back as it was.
fn bring_back(disk: &SimulatedDisk, before: &SimulatedDisk, from: usize, to: usize) {
    let (now, then) = (disk.contents(SEGMENT).unwrap(), before.contents(SEGMENT).unwrap());
    assert_ne!(now[from..to], then[from..to], "there is nothing to bring back");
    assert!(disk.overwrite(SEGMENT, from as u64, &then[from..to]));
}

fn scanned(reader: &LogReader) -> (Vec<Entry>, Result<(), LogError>) {
    let mut found = Vec::new();
    let scanned = reader.scan(LogIndex(1), &mut |entry| {
        found.push(entry);
        ControlFlow::Continue(())
    });
    (found, scanned)
}

#[test]
fn readers_of_an_open_log_are_not_given_an_entry_that_was_cut_off() {
    for with_records in [false, true] {
        let (disk, before, _writer, reader) = replaced_and_open();
        let expected = all(&reader);
        bring_back(&disk, &before, FRAMES, if with_records { RECORDS + 8 * 48 } else { RECORDS });
        let (found, outcome) = scanned(&reader);
        assert_eq!(found, expected[..2]);
        assert!(matches!(outcome, Err(LogError::Corrupt { .. })), "{outcome:?}");
        for index in [3, 4] {
            assert!(matches!(reader.read(LogIndex(index)), Err(LogError::Corrupt { .. })), "{index}");
            assert!(matches!(reader.read_tag(index), Err(LogError::Corrupt { .. })), "{index}");
        }
        assert_eq!(reader.read(LogIndex(2)).unwrap().as_ref(), Some(&expected[1]));
    }
}

#[test]
fn readers_of_an_open_log_get_by_without_a_record_that_is_old() {
    let (disk, before, _writer, reader) = replaced_and_open();
    let expected = all(&reader);
    bring_back(&disk, &before, RECORDS, RECORDS + 8 * 48);
    let (found, outcome) = scanned(&reader);
    assert_eq!((found, outcome.is_ok()), (expected.clone(), true));
    for entry in &expected {
        assert_eq!(reader.read(entry.position.index).unwrap().as_ref(), Some(entry));
        assert_eq!(reader.term(entry.position.index).unwrap(), Some(entry.position.term));
    }
}

#[test]
fn readers_of_an_open_log_are_not_given_an_entry_of_another_place() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    writer.append(&[entry(1, 1, "of"), entry(2, 1, "as"), entry(3, 1, "so")]).unwrap();
    let frame = usize::try_from(frame_bytes(2)).unwrap();
    let bytes = disk.contents(SEGMENT).unwrap();
    assert!(disk.overwrite(SEGMENT, (FRAMES + frame) as u64, &bytes[FRAMES..FRAMES + frame]));
    let (found, outcome) = scanned(&reader);
    assert_eq!(found.len(), 1);
    assert!(matches!(outcome, Err(LogError::Corrupt { .. })), "{outcome:?}");
}

fn first_fault(disk: &SimulatedDisk) -> (LogIndex, FaultKind) {
    let Err(LogError::Corrupt { faults }) = open(disk) else { panic!("old content was taken for current") };
    (faults[0].first, faults[0].kind.clone())
}

#[test]
fn an_entry_that_was_cut_off_is_not_taken_for_the_one_in_its_place() {
    let (disk, before, _) = replaced();
    bring_back(&disk, &before, FRAMES, RECORDS);
    let (first, kind) = first_fault(&disk);
    assert_eq!(first, LogIndex(3));
    assert!(matches!(kind, FaultKind::Frame { .. }), "{kind:?}");
}

#[test]
fn the_terms_in_the_state_tell_when_entries_and_records_are_both_old() {
    let (disk, before, _) = replaced();
    bring_back(&disk, &before, FRAMES, RECORDS + 8 * 48);
    assert_eq!(first_fault(&disk).0, LogIndex(3));
}

#[test]
fn an_old_record_does_not_cost_the_entry() {
    let (disk, before, expected) = replaced();
    bring_back(&disk, &before, RECORDS, RECORDS + 8 * 48);
    let (_, reader, recovery) = open(&disk).unwrap();
    assert_eq!((all(&reader), recovery.healed), (expected, 2));
}

#[test]
fn a_record_of_a_lower_term_behind_a_newer_one_does_not_count() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.save_hard_state(state(1)).unwrap();
    writer.append(&entries(1..=4, 1)).unwrap();
    writer.sync().unwrap();
    let before = disk.duplicate();
    writer.save_hard_state(state(2)).unwrap();
    writer.truncate_suffix(LogIndex(3)).unwrap();
    writer.append(&entries(3..=3, 2)).unwrap();
    writer.sync().unwrap();
    let expected = all(&writer.reader());
    writer.close().unwrap();
    bring_back(&disk, &before, RECORDS + 3 * 48, RECORDS + 4 * 48);
    let (_, reader, recovery) = open(&disk).unwrap();
    assert_eq!((all(&reader), recovery.faults), (expected, Vec::new()));
}

/// Each record says what was durable before it was written. One of entries that were cut off must not say it of those that
/// took their place.
#[test]
fn a_record_of_a_lower_term_does_not_tell_what_was_durable() {
    for closes in [true, false] {
        let disk = SimulatedDisk::new();
        let (mut writer, ..) = open(&disk).unwrap();
        writer.save_hard_state(state(1)).unwrap();
        for batch in [1..=4, 5..=6] {
            writer.append(&entries(batch, 1)).unwrap();
            writer.sync().unwrap();
        }
        let before = disk.duplicate();
        writer.save_hard_state(state(2)).unwrap();
        writer.truncate_suffix(LogIndex(3)).unwrap();
        writer.append(&entries(3..=3, 2)).unwrap();
        writer.sync().unwrap();
        let expected = all(&writer.reader());
        if closes {
            writer.close().unwrap();
        } else {
            drop(writer);
        }
        bring_back(&disk, &before, RECORDS + 4 * 48, RECORDS + 5 * 48);
        let (_, reader, recovery) = open(&disk).unwrap();
        assert_eq!((all(&reader), recovery.faults), (expected, Vec::new()), "closed: {closes}");
    }
}

#[test]
fn a_copy_of_a_header_from_an_earlier_life_of_the_file_is_not_used() {
    for copy in [0, 4096] {
        let disk = SimulatedDisk::new();
        let (mut writer, ..) = open(&disk).unwrap();
        writer.append(&entries(1..=4, 1)).unwrap();
        writer.sync().unwrap();
        let before = disk.contents(SEGMENT).unwrap();
        // The file becomes a spare one, and then a later segment.
        (0..2).for_each(|_| writer.reset_to(LogPosition::default(), 0).unwrap());
        writer.append(&entries(1..=3, 1)).unwrap();
        writer.sync().unwrap();
        let expected = all(&writer.reader());
        let name = writer.reader().segments()[0].file.clone();
        writer.close().unwrap();
        let mut now = disk.contents(&name).unwrap();
        assert_ne!(now[copy..copy + 512], before[copy..copy + 512]);
        now[copy..copy + 512].copy_from_slice(&before[copy..copy + 512]);
        disk.place(&name, &now);
        let (_, reader, recovery) = open(&disk).unwrap();
        assert_eq!((all(&reader), recovery.healed), (expected, 1), "copy at {copy}");
    }
}

#[test]
fn a_state_older_than_the_segments_is_not_believed() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.append(&entries(1..=2, 1)).unwrap();
    writer.sync().unwrap();
    let before = disk.duplicate();
    writer.append(&entries(3..=40, 1)).unwrap();
    writer.close().unwrap();
    for file in ["state", "state-twin"] {
        disk.place(file, &before.contents(file).unwrap());
    }
    let Err(error @ LogError::StateOutdated { .. }) = open(&disk) else { panic!("it was believed") };
    assert!(error.to_string().contains("remove the node from its group and add it anew"), "{error}");
}

#[test]
fn a_state_of_an_earlier_term_than_the_entries_is_told() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.save_hard_state(state(1)).unwrap();
    let before = disk.duplicate();
    writer.save_hard_state(state(2)).unwrap();
    for index in 1..=2 {
        writer.append(&entries(index..=index, 2)).unwrap();
        writer.sync().unwrap();
    }
    drop(writer);
    assert!(open(&disk.duplicate()).unwrap().2.check_term().is_ok());
    for file in ["state", "state-twin"] {
        disk.place(file, &before.contents(file).unwrap());
    }
    assert!(matches!(open(&disk).unwrap().2.check_term(), Err(LogError::StateOutdated { .. })));
}
