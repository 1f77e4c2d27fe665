//! Damaged entries are put back with the entries of others, whatever is interrupted on the way.

use super::damage::{sample, tiny_options};
use super::support::{Opened, all, entries, open_with, small_options};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::{CrashLoss, Failure};
use crate::ids::{LogIndex, Term};
use crate::log::{Entry, FaultPolicy, FillError, HoleKind, LogError, LogOptions, LogWriter};

/// What the peers of [`sample`] hold.
fn held(first: LogIndex, last: LogIndex) -> Vec<Entry> {
    entries(first.0..=last.0, 3)
}

fn open_damaged(disk: &SimulatedDisk) -> Opened {
    open_with(disk, LogOptions { faults: FaultPolicy::Report, ..tiny_options() }).unwrap()
}

fn fill_holes(writer: &mut LogWriter) -> Result<(), FillError> {
    while let Some(hole) = writer.holes().first().cloned() {
        writer.fill(&held(hole.first, hole.last))?;
    }
    Ok(())
}

/// Fills the holes, and finds everything again in a log without holes, also after a power cut.
fn check_repaired(disk: &SimulatedDisk, expected: &[Entry], place: &str) {
    let (mut writer, reader, recovery) = open_damaged(disk);
    assert!(!recovery.faults.is_empty(), "{place}");
    assert!(!writer.outline().unwrap().is_whole(), "{place}");
    if writer.is_end_unknown() {
        writer.settle_end(LogIndex(34)).unwrap();
    }
    fill_holes(&mut writer).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(writer.outline().unwrap().is_whole(), "{place}");
    let wanted = |found: Vec<Entry>| -> Vec<Entry> {
        found.into_iter().filter(|entry| expected.iter().any(|old| old.position == entry.position)).collect()
    };
    assert_eq!(wanted(all(&reader)), expected, "{place}");
    writer.append(&entries(35..=36, 4)).unwrap();
    drop(writer);
    let (_, reader, recovery) = open_with(&disk.crash(CrashLoss::Everything, 0), tiny_options()).unwrap();
    assert_eq!(recovery.last.index, LogIndex(34), "{place}");
    assert_eq!(wanted(all(&reader)), expected, "{place}");
}

fn is_hopeless(disk: &SimulatedDisk) -> bool {
    let (writer, ..) = open_damaged(&disk.duplicate());
    writer.holes().iter().any(|hole| hole.kind == HoleKind::Hopeless)
}

/// A disk for each way in which an entry of a closed log can be damaged, with a name.
fn damaged_disks() -> (Vec<(String, SimulatedDisk)>, Vec<Entry>) {
    let (disk, expected) = sample(true);
    let (_, reader, _) = open_with(&disk.duplicate(), tiny_options()).unwrap();
    let segments = reader.segments();
    let mut found = Vec::new();
    let mut add = |name: String, change: &dyn Fn(&SimulatedDisk)| {
        let damaged = disk.duplicate();
        change(&damaged);
        found.push((name, damaged));
    };
    for segment in &segments {
        let records = 8192 + 768 - 6 * 48;
        let (file, bytes) = (segment.file.as_str(), segment.file_bytes);
        for offset in (8192..8192 + segment.frames_bytes).step_by(11) {
            add(format!("frame {file} {offset}"), &|disk| assert!(disk.flip(file, offset, 64)));
        }
        for slot in 0..segment.entries {
            add(format!("everything from {file} {slot}"), &|disk| {
                for offset in records + slot * 48..bytes {
                    disk.flip(file, offset, 255);
                }
                for offset in 8192 + slot * 80..8192 + segment.frames_bytes {
                    disk.flip(file, offset, 255);
                }
            });
            add(format!("frame and record {file} {slot}"), &|disk| {
                disk.flip(file, records + slot * 48 + 2, 255);
                for offset in 8192 + slot * 70..8192 + slot * 70 + 60 {
                    disk.flip(file, offset, 255);
                }
            });
        }
        add(format!("missing {file}"), &|disk| assert!(disk.lose(file)));
        add(format!("short {file}"), &|disk| assert!(disk.shorten(file, bytes - 1)));
        add(format!("headers {file}"), &|disk| assert!(disk.flip(file, 9, 1) && disk.flip(file, 4105, 1)));
    }
    add("all".into(), &|disk| segments.iter().for_each(|segment| assert!(disk.lose(&segment.file))));
    let damaged = found.into_iter().filter(|(_, disk)| open_with(&disk.duplicate(), tiny_options()).is_err());
    (damaged.filter(|(_, disk)| !is_hopeless(disk)).collect(), expected)
}

#[test]
fn any_hole_is_filled_and_stays_so() {
    let (disks, expected) = damaged_disks();
    let kinds: std::collections::BTreeSet<String> = disks
        .iter()
        .flat_map(|(_, disk)| open_damaged(&disk.duplicate()).0.holes().to_vec())
        .map(|hole| format!("{:?}", hole.kind))
        .collect();
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["End", "Frame", "Gap", "Segment"]);
    for (place, disk) in &disks {
        check_repaired(disk, &expected, place);
    }
}

#[test]
fn filling_holes_may_be_interrupted_anywhere() {
    let (disks, expected) = damaged_disks();
    for (place, disk) in disks.iter().step_by(5).chain(disks.last()) {
        for operations in 0.. {
            let interrupted = disk.duplicate();
            interrupted.fail_after(operations, Failure::Stop);
            let options = LogOptions { faults: FaultPolicy::Report, ..tiny_options() };
            let finished =
                open_with(&interrupted, options).is_ok_and(|(mut writer, ..)| fill_holes(&mut writer).is_ok());
            for (seed, loss) in CrashLoss::ALL.into_iter().enumerate() {
                let left = interrupted.crash(loss, operations * 7 + seed as u64);
                let name = format!("{place}, {operations} operations, {loss:?}");
                // Either it is as it was before, or it is whole; what is owed is never forgotten.
                match open_with(&left.duplicate(), tiny_options()) {
                    Ok((_, reader, _)) => {
                        assert_eq!(reader.last().index, LogIndex(34), "{name}");
                        assert!(expected.iter().all(|entry| reader.read(entry.position.index).unwrap().is_some()));
                    }
                    Err(LogError::Corrupt { .. }) => check_repaired(&left, &expected, &name),
                    Err(error) => panic!("{name}: {error}"),
                }
            }
            if finished {
                break;
            }
        }
    }
}

#[test]
fn only_the_entry_that_was_there_is_taken() {
    let (disks, _) = damaged_disks();
    for (place, disk) in &disks {
        let (mut writer, ..) = open_damaged(&disk.duplicate());
        let hole = writer.holes()[0].clone();
        let mut others = held(hole.first, hole.last);
        others.iter_mut().for_each(|entry| entry.position.term = Term(2));
        // The table of terms says that they were of term 3.
        assert!(matches!(writer.fill(&others), Err(FillError::Another { .. })), "{place}");
        assert!(matches!(writer.fill(&entries(35..=35, 3)), Err(FillError::NotMissing { .. })), "{place}");
    }
}

#[test]
fn entries_that_were_not_committed_are_given_up_with_all_behind_them() {
    let (disks, _) = damaged_disks();
    for (place, disk) in disks.iter().step_by(3) {
        for from in [24, 27, 30, 31, 34] {
            let disk = disk.duplicate();
            let (mut writer, reader, _) = open_damaged(&disk);
            writer.discard_from(LogIndex(from)).unwrap_or_else(|error| panic!("{place}, {from}: {error}"));
            assert!(!writer.is_end_unknown());
            assert!(writer.holes().iter().all(|hole| hole.last.0 < from), "{place}, {from}");
            fill_holes(&mut writer).unwrap_or_else(|error| panic!("{place}, {from}: {error}"));
            assert_eq!(reader.last().index.0, from - 1, "{place}");
            writer.append(&entries(from..=from + 3, 4)).unwrap();
            writer.close().unwrap();
            let (_, reader, _) = open_with(&disk, tiny_options()).unwrap();
            assert_eq!(reader.last().index.0, from + 3, "{place}");
            assert_eq!(reader.read(LogIndex(from)).unwrap().unwrap().position.term, Term(4));
        }
    }
}

#[test]
fn an_outline_tells_terms_and_holes() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, small_options()).unwrap();
    for (range, term) in [(1..=9, 1), (10..=10, 2), (11..=30, 5)] {
        writer.append(&entries(range, term)).unwrap();
    }
    writer.sync().unwrap();
    let runs = |outline: crate::log::Outline| -> Vec<(u64, u64, Option<u64>, bool)> {
        outline.runs.iter().map(|run| (run.first.0, run.last.0, run.term.map(|term| term.0), run.intact)).collect()
    };
    let whole = [(1, 9, Some(1), true), (10, 10, Some(2), true), (11, 30, Some(5), true)];
    assert_eq!(runs(writer.outline().unwrap()), whole);
    assert_eq!(runs(reader.outline(LogIndex(10)).unwrap()), whole[1..]);
    assert_eq!(reader.outline(LogIndex(10)).unwrap().term(LogIndex(9)), Some(Term(1)));
    let newest = reader.segments().last().unwrap().clone();
    writer.close().unwrap();
    disk.lose(&newest.file);
    disk.flip("segment-0000000000000001", 8192 + 44, 1);
    let (writer, ..) = open_with(&disk, LogOptions { faults: FaultPolicy::Report, ..small_options() }).unwrap();
    let outline = writer.outline().unwrap();
    assert!(outline.end_known && outline.is_certain() && !outline.is_whole());
    assert_eq!(outline.last(), LogIndex(30));
    assert_eq!(
        outline.damaged().map(|run| (run.first.0, run.last, run.term)).collect::<Vec<_>>(),
        [(1, LogIndex(1), Some(Term(1))), (newest.first.0, LogIndex(30), Some(Term(5)))]
    );
}

#[test]
fn records_that_cannot_be_read_are_written_anew() {
    for clean in [true, false] {
        let (disk, expected) = sample(clean);
        let (_, reader, _) = open_with(&disk.duplicate(), tiny_options()).unwrap();
        for segment in reader.segments().iter().filter(|segment| !segment.rewritten) {
            let damaged = disk.duplicate();
            damaged.fail_reads_within(&segment.file, segment.file_bytes - 6 * 48..segment.file_bytes);
            let (_, reader, recovery) = open_with(&damaged, tiny_options()).unwrap();
            assert_eq!(all(&reader), expected);
            assert_eq!(u64::from(recovery.healed), segment.entries, "{}", segment.file);
            assert_eq!(open_with(&damaged, tiny_options()).unwrap().2.healed, 0);
        }
    }
}

#[test]
fn entries_that_do_not_fit_into_their_places_are_put_back_together() {
    let options = LogOptions { segment_bytes: 8192 + 4096, segment_entries: 16, ..small_options() };
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, options).unwrap();
    let expected = entries(1..=10, 1);
    writer.append(&expected).unwrap();
    let end = 8192 + reader.segments()[0].frames_bytes as usize;
    writer.close().unwrap();
    // The third frame is found further on than it was written, so that there is too much room in front of it.
    let (file, records) = ("segment-0000000000000001", 8192 + 4096 - 16 * 48);
    let mut bytes = disk.contents(file).unwrap();
    let offset = |slot: usize| {
        let at = records + slot * 48 + 28;
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    };
    let (second, third) = (offset(1), bytes[offset(2)..offset(3)].to_vec());
    bytes[second..end].fill(0);
    bytes[end..end + third.len()].copy_from_slice(&third);
    bytes[records..].fill(0);
    disk.place(file, &bytes);
    let report = LogOptions { faults: FaultPolicy::Report, ..options };
    let (mut writer, reader, _) = open_with(&disk, report).unwrap();
    let holes: Vec<_> = writer.holes().iter().map(|hole| (hole.first.0, hole.last.0, hole.kind)).collect();
    assert_eq!(holes, [(2, 2, HoleKind::Gap), (4, 10, HoleKind::End)]);
    let found = |last: usize| expected[..last].iter().map(|entry| (entry.position.index, entry.clone())).collect();
    assert!(matches!(writer.fill(&expected[1..2]), Err(FillError::Incomplete { .. })));
    assert!(matches!(writer.fill_together(LogIndex(2), &found(10)), Err(FillError::Incomplete { .. })));
    writer.fill(&expected[3..]).unwrap();
    assert!(matches!(writer.fill_together(LogIndex(2), &found(1)), Err(FillError::Incomplete { .. })));
    assert_eq!(writer.fill_together(LogIndex(2), &found(10)).unwrap(), 1);
    assert!(writer.outline().unwrap().is_whole());
    drop(writer);
    assert_eq!(all(&reader), expected);
    assert_eq!(all(&open_with(&disk.crash(CrashLoss::Everything, 0), options).unwrap().1), expected);
}
