//! Events that follow one another are found as each of them is on its own.

use super::damage::{sample, tiny_options};
use super::support::{entries, entry, open, open_with, small_options};
use crate::disk::SimulatedDisk;
use crate::ids::{LogIndex, LogPosition, Term};
use crate::log::{Entry, EntryKind, FaultPolicy, LogError, LogOptions, LogReader, Verification};

/// Room for all entries of a test in one segment.
fn roomy_options() -> LogOptions {
    LogOptions { segment_bytes: 1 << 20, segment_entries: 1000, ..small_options() }
}

fn events_of(entries: &[Entry]) -> Vec<Entry> {
    entries.iter().filter(|entry| entry.kind == EntryKind::Event).cloned().collect()
}

/// What was found, and where the damage begins that is in the way of the rest.
fn outcome(read: Result<Option<Entry>, LogError>) -> Result<Option<Entry>, Vec<LogIndex>> {
    read.map_err(|error| match error {
        LogError::Corrupt { faults } => faults.iter().map(|fault| fault.first).collect(),
        error => panic!("{error}"),
    })
}

/// One after the other they are what each is on its own: all of them, every third one, and backwards.
fn check_alike(reader: &LogReader, last_tag: u64, place: &str) {
    let (all, some) = ((0..=last_tag + 1).collect::<Vec<_>>(), (0..=last_tag).step_by(3).collect::<Vec<_>>());
    let backwards = all.iter().rev().copied().collect();
    for tags in [all, some, backwards] {
        let mut events = reader.events();
        for tag in tags {
            assert_eq!(outcome(events.read_tag(tag)), outcome(reader.read_tag(tag)), "{place}: {tag}");
        }
    }
}

#[test]
fn events_of_one_segment_are_found_by_walking_and_those_of_the_next_one_by_looking() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let written = entries(1..=30, 1);
    writer.append(&written).unwrap();
    let segments = reader.segments();
    assert!(segments.len() > 2);
    let segment_of = |entry: &Entry| segments.iter().position(|segment| entry.position.index <= segment.last).unwrap();
    let mut events = reader.events();
    let mut before = None;
    for event in events_of(&written) {
        let walked = events.walk_to(event.tag);
        assert_eq!(walked.is_some(), before == Some(segment_of(&event)), "{event:?}");
        assert_eq!(walked.map_or_else(|| events.read_tag(event.tag).unwrap(), Some), Some(event.clone()));
        before = Some(segment_of(&event));
    }
    check_alike(&reader, reader.last_tag(), "whole");
}

#[test]
fn what_lies_far_behind_is_looked_for() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, roomy_options()).unwrap();
    let written = entries(1..=200, 1);
    writer.append(&written).unwrap();
    let large = [entry(201, 1, &"z".repeat(70 << 10)), entry(202, 1, "behind")];
    writer.append(&large).unwrap();
    let mut events = reader.events();
    for (from, to, is_close) in [(1, 65, true), (1, 66, false), (160, 161, true), (160, 162, false), (5, 4, false)] {
        events.read_tag(from).unwrap().unwrap();
        assert_eq!(events.walk_to(to).is_some(), is_close, "{from} to {to}");
        assert_eq!(events.read_tag(to).unwrap(), reader.read_tag(to).unwrap());
    }
    assert_eq!(events.read_tag(162).unwrap().as_ref(), Some(&large[1]));
}

#[test]
fn entries_without_events_lie_in_between() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, roomy_options()).unwrap();
    let mut written = entries(1..=1, 1);
    let other = |index, kind| Entry { kind, tag: 1, ..entry(index, 1, "other") };
    written.extend([other(2, EntryKind::Membership), other(3, EntryKind::Check), other(4, EntryKind::Empty)]);
    written.push(Entry { tag: 2, ..entry(6, 1, "event") });
    written[4].position.index = LogIndex(5);
    writer.append(&written).unwrap();
    let mut events = reader.events();
    assert_eq!(events.read_tag(1).unwrap().as_ref(), Some(&written[0]));
    assert_eq!(events.walk_to(2).as_ref(), Some(&written[4]));
    check_alike(&reader, 2, "others");
}

#[test]
fn what_a_compaction_removed_or_moved_under_the_reader_is_found_as_it_is_then() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let written = entries(1..=60, 1);
    writer.append(&written).unwrap();
    writer.sync().unwrap();
    let mut under_way: Vec<_> = events_of(&written).iter().map(|event| (event.tag, reader.events())).collect();
    for (tag, events) in &mut under_way {
        assert!(events.read_tag(*tag).unwrap().is_some());
    }
    writer.rewrite_sparse(&mut |index, _| index.0.is_multiple_of(7), LogIndex(50), 0.5).unwrap();
    let gone = |tag| reader.read_tag(tag).unwrap().is_none();
    assert!(gone(2) && !gone(6) && !gone(reader.last_tag()));
    for (tag, events) in &mut under_way {
        assert_eq!(events.read_tag(*tag + 1).unwrap(), reader.read_tag(*tag + 1).unwrap(), "{tag}");
    }
    check_alike(&reader, reader.last_tag(), "rewritten");
    writer.purge_prefix(LogIndex(30)).unwrap();
    writer.append(&entries(61..=80, 1)).unwrap();
    for (tag, events) in &mut under_way {
        assert_eq!(events.read_tag(*tag + 2).unwrap(), reader.read_tag(*tag + 2).unwrap(), "{tag}");
    }
}

#[test]
fn an_event_that_was_cut_off_is_not_taken_for_the_one_in_its_place() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, roomy_options()).unwrap();
    writer.append(&entries(1..=9, 1)).unwrap();
    let mut events = reader.events();
    events.read_tag(1).unwrap().unwrap();
    writer.truncate_suffix(LogIndex(2)).unwrap();
    let others = entries(2..=9, 2);
    writer.append(&others).unwrap();
    // The window still holds the bytes of before.
    assert!(events.walk_to(2).is_none());
    assert_eq!(events.read_tag(2).unwrap().as_ref(), Some(&others[0]));
    assert_eq!(events.walk_to(3).as_ref(), Some(&others[1]));
}

#[test]
fn a_frame_of_another_term_or_place_is_damage_and_not_an_event() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, roomy_options()).unwrap();
    writer.append(&entries(1..=9, 1)).unwrap();
    writer.sync().unwrap();
    let segment = reader.segments().remove(0);
    let frames = 8192..8192 + usize::try_from(segment.frames_bytes).unwrap();
    let before = disk.contents(&segment.file).unwrap();
    writer.truncate_suffix(LogIndex(4)).unwrap();
    writer.append(&entries(4..=9, 2)).unwrap();
    writer.sync().unwrap();
    assert!(disk.overwrite(&segment.file, frames.start as u64, &before[frames]));
    let mut events = reader.events();
    assert!(events.read_tag(3).unwrap().is_some());
    assert!(events.walk_to(4).is_none());
    assert!(matches!(events.read_tag(4), Err(LogError::Corrupt { .. })));
    check_alike(&reader, reader.last_tag(), "old content");
}

#[test]
fn damage_anywhere_is_reported_as_for_an_event_on_its_own() {
    let (disk, _) = sample(true);
    let options = LogOptions { verification: Verification::Newest, faults: FaultPolicy::Report, ..tiny_options() };
    let (segments, last_tag) = {
        let (_, reader, _) = open_with(&disk.duplicate(), options).unwrap();
        (reader.segments(), reader.last_tag())
    };
    for segment in &segments {
        for offset in (8192..segment.file_bytes).step_by(11) {
            let damaged = disk.duplicate();
            damaged.flip(&segment.file, offset, 0x10);
            let (_, reader, _) = open_with(&damaged, options).unwrap();
            check_alike(&reader, last_tag, &format!("{} {offset}", segment.file));
        }
        let damaged = disk.duplicate();
        let (_, reader, _) = open_with(&damaged, options).unwrap();
        damaged.fail_reads(&segment.file, 8192 + 128);
        check_alike(&reader, last_tag, &format!("{} unreadable", segment.file));
    }
}

#[test]
fn a_reset_under_the_reader_leaves_nothing_of_before() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open_with(&disk, roomy_options()).unwrap();
    writer.append(&entries(1..=9, 1)).unwrap();
    let mut events = reader.events();
    events.read_tag(1).unwrap().unwrap();
    writer.reset_to(LogPosition { term: Term(2), index: LogIndex(100) }, 80).unwrap();
    assert_eq!(events.read_tag(2).unwrap(), None);
}
