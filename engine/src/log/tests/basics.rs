//! What a log does on a good day.

use super::support::{IDENTITY, all, entries, entry, open, open_with, small_options};
use crate::disk::simulated::{CrashLoss, Failure};
use crate::disk::{Disk, SimulatedDisk};
use crate::ids::{LogIndex, LogPosition, NodeId, Term};
use crate::log::state::{SEGMENTS_MAX, StateFile};
use crate::log::{Entry, EntryKind, HardState, LogError, LogWriter, Refill, read_identity};

#[test]
fn appended_entries_are_read_before_and_after_a_sync_and_after_reopening() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, recovery) = open(&disk).unwrap();
    assert!(recovery.created);
    let expected = entries(1..=40, 1);
    for batch in expected.chunks(3) {
        writer.append(batch).unwrap();
        assert_eq!(reader.last(), batch.last().unwrap().position);
    }
    assert_eq!(all(&reader), expected);
    assert!(reader.durable() < reader.last());
    assert_eq!(writer.sync().unwrap(), expected[39].position);
    assert_eq!(reader.durable(), reader.last());
    assert!(reader.segments().len() > 3);
    for entry in &expected {
        assert_eq!(reader.read(entry.position.index).unwrap().as_ref(), Some(entry));
        assert_eq!(reader.term(entry.position.index).unwrap(), Some(Term(1)));
        if entry.kind == EntryKind::Event {
            assert_eq!(reader.read_tag(entry.tag).unwrap().as_ref(), Some(entry));
        }
    }
    assert_eq!(reader.read(LogIndex(41)).unwrap(), None);
    assert_eq!(reader.read_tag(1000).unwrap(), None);
    writer.close().unwrap();
    let (_writer, reader, recovery) = open(&disk).unwrap();
    assert!(recovery.clean && !recovery.created);
    assert_eq!(recovery.last, expected[39].position);
    assert_eq!(all(&reader), expected);
}

#[test]
fn entries_out_of_order_are_refused_and_leave_nothing_behind() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    writer.append(&entries(1..=3, 2)).unwrap();
    for wrong in [entry(3, 2, ""), entry(5, 2, ""), entry(4, 1, "")] {
        assert!(matches!(writer.append(&[wrong]), Err(LogError::OutOfOrder { .. })));
    }
    let mut lower_tag = entry(4, 2, "");
    lower_tag.tag = 1;
    assert!(matches!(writer.append(&[lower_tag]), Err(LogError::OutOfOrder { .. })));
    let large = entry(4, 2, &"x".repeat(small_options().max_payload_bytes() + 1));
    assert!(matches!(writer.append(&[large]), Err(LogError::EntryTooLarge { .. })));
    let fitting = entry(4, 2, &"x".repeat(small_options().max_payload_bytes()));
    writer.append(&[fitting]).unwrap();
    assert_eq!(reader.last().index, LogIndex(4));
}

#[test]
fn hard_state_survives() {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.append(&entries(1..=3, 4)).unwrap();
    let hard_state = HardState { term: Term(4), vote: Some(NodeId(2)), commit: LogIndex(3) };
    writer.set_hard_state(hard_state).unwrap();
    writer.sync().unwrap();
    let (_, _, recovery) = open(&disk.duplicate()).unwrap();
    assert_eq!(recovery.hard_state, hard_state);
}

#[test]
fn purged_segments_are_reused() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let expected = entries(1..=30, 1);
    writer.append(&expected).unwrap();
    writer.sync().unwrap();
    let second = reader.segments()[1].clone();
    let base = writer.purge_prefix(second.last).unwrap();
    assert_eq!(base.index, second.last);
    assert_eq!(reader.first(), second.last.next());
    assert_eq!(reader.term(base.index).unwrap(), Some(Term(1)));
    assert_eq!(reader.read(base.index).unwrap(), None);
    let kept = &expected[usize::try_from(base.index.0).unwrap()..];
    assert_eq!(all(&reader), kept);
    let before = disk.operations();
    let more = entries(31..=60, 2);
    writer.append(&more).unwrap();
    writer.sync().unwrap();
    assert!(disk.operations() > before);
    let (_writer, reader, recovery) = open(&disk.duplicate()).unwrap();
    assert_eq!(recovery.base, base);
    assert_eq!(all(&reader), [kept, &more].concat());
}

#[test]
fn a_cut_off_suffix_is_gone_and_can_be_replaced() {
    for from in 1..=20 {
        let disk = SimulatedDisk::new();
        let (mut writer, reader, _) = open(&disk).unwrap();
        let mut expected = entries(1..=20, 1);
        writer.append(&expected).unwrap();
        writer.truncate_suffix(LogIndex(from)).unwrap();
        expected.truncate(usize::try_from(from - 1).unwrap());
        assert_eq!(all(&reader), expected);
        assert_eq!(all(&open(&disk.duplicate()).unwrap().1), expected);
        let replacement = entries(from..=22, 2);
        writer.append(&replacement).unwrap();
        writer.sync().unwrap();
        let (_writer, reader, _) = open(&disk.duplicate()).unwrap();
        assert_eq!(all(&reader), [expected, replacement].concat());
    }
}

#[test]
fn a_reset_log_goes_on_behind_the_snapshot() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    writer.append(&entries(1..=20, 1)).unwrap();
    let position = LogPosition { term: Term(3), index: LogIndex(100) };
    writer.reset_to(position, 80).unwrap();
    assert_eq!((reader.base(), reader.last(), reader.base_tag()), (position, position, 80));
    let more = entries(101..=103, 3);
    writer.append(&more).unwrap();
    writer.sync().unwrap();
    let (_writer, reader, recovery) = open(&disk.duplicate()).unwrap();
    assert_eq!((recovery.base, recovery.hard_state.commit), (position, position.index));
    assert_eq!(all(&reader), more);
}

#[test]
fn a_log_is_not_created_where_that_is_not_allowed_nor_opened_for_others() {
    let disk = SimulatedDisk::new();
    let mut options = small_options();
    options.create = false;
    assert!(matches!(open_with(&disk, options), Err(LogError::Missing)));
    drop(open(&disk).unwrap());
    assert!(open_with(&disk, options).is_ok());
    let mut other = super::support::IDENTITY;
    other.node = NodeId(8);
    let opened = crate::log::Log::open(std::sync::Arc::new(disk), options, other);
    assert!(matches!(opened, Err(LogError::Identity { .. })));
}

#[test]
fn rewriting_leaves_holes_and_nothing_else() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let expected = entries(1..=60, 1);
    writer.append(&expected).unwrap();
    writer.sync().unwrap();
    let up_to = LogIndex(50);
    let size_before = reader.disk_bytes();
    let outcome = writer.rewrite_sparse(&mut |index, _| index.0 % 7 == 0, up_to, 0.5).unwrap();
    assert!(outcome.segments_before > outcome.segments_after, "{outcome:?}");
    assert!(reader.disk_bytes() < size_before);
    let rewritten_to = reader.segments().iter().filter(|segment| segment.rewritten).map(|segment| segment.last.0).max();
    let rewritten_to = rewritten_to.unwrap();
    assert!(rewritten_to <= 50);
    let kept: Vec<_> = expected
        .iter()
        .filter(|entry| entry.position.index.0 > rewritten_to || entry.position.index.0 % 7 == 0)
        .cloned()
        .collect();
    for disk in [disk.clone(), disk.duplicate()] {
        let reader = if disk.operations() == 0 { open(&disk).unwrap().1 } else { reader.clone() };
        assert_eq!(all(&reader), kept);
        for entry in &expected {
            let held = kept.contains(entry).then(|| entry.clone());
            assert_eq!(reader.read(entry.position.index).unwrap(), held);
            if entry.kind == EntryKind::Event {
                assert_eq!(reader.read_tag(entry.tag).unwrap(), held);
            }
        }
    }
    assert!(matches!(writer.truncate_suffix(LogIndex(3)), Err(LogError::Settled { .. })));
    writer.append(&entries(61..=63, 1)).unwrap();
    let again = writer.rewrite_sparse(&mut |index, _| index.0 % 7 == 0, up_to, 0.5).unwrap();
    assert_eq!(again.entries_removed, 0);
}

#[test]
fn an_append_that_needs_more_segments_than_there_can_be_is_refused() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    writer.append(&entries(1..=8, 1)).unwrap();
    writer.sync().unwrap();
    // As if all segments but one had been used.
    writer.state.newest_segment = writer.state.oldest_segment + SEGMENTS_MAX - 2;
    let newest = writer.newest();
    writer.roll(&newest).unwrap();
    // What fits into the last segment is still taken.
    writer.append(&entries(9..=11, 1)).unwrap();
    let before = all(&reader);
    let error = writer.append(&entries(12..=30, 1)).unwrap_err();
    assert!(matches!(error, LogError::TooManySegments { max: SEGMENTS_MAX }), "{error}");
    assert_eq!(all(&reader), before);
    let newest = writer.newest();
    let rolled = writer.roll(&newest);
    assert!(matches!(rolled, Err(LogError::TooManySegments { .. })));
    // Nothing that cannot be read again has reached the state, and the log is as usable as before.
    writer.sync().unwrap();
    assert_eq!(read_identity(&disk).unwrap(), Some(IDENTITY));
    let (_, loaded) = StateFile::open(&disk).unwrap().unwrap();
    assert_eq!(loaded.state.newest_segment, loaded.state.oldest_segment + SEGMENTS_MAX - 1);
}

#[test]
fn each_merge_of_one_pass_replaces_its_own_segments() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let expected = entries(1..=120, 1);
    writer.append(&expected).unwrap();
    writer.sync().unwrap();
    // Half of it is wanted, so two segments at a time become one and the pass makes many such merges.
    let wanted = |index: LogIndex| index.0.is_multiple_of(2);
    let outcome = writer.rewrite_sparse(&mut |index, _| wanted(index), LogIndex(110), 0.9).unwrap();
    assert!(outcome.segments_after > 2 && outcome.segments_before > outcome.segments_after + 2, "{outcome:?}");
    let rewritten_to = reader.segments().iter().filter(|segment| segment.rewritten).map(|segment| segment.last).max();
    let rewritten_to = rewritten_to.unwrap();
    let is_kept = |entry: &&Entry| entry.position.index > rewritten_to || wanted(entry.position.index);
    let kept: Vec<Entry> = expected.iter().filter(is_kept).cloned().collect();
    assert_eq!(all(&reader), kept);
    assert_eq!(all(&open(&disk.duplicate()).unwrap().1), kept);
}

#[test]
fn every_kind_of_entry_comes_back() {
    let disk = SimulatedDisk::new();
    let (mut writer, _, _) = open(&disk).unwrap();
    let kinds = [EntryKind::Event, EntryKind::Empty, EntryKind::Membership, EntryKind::Check];
    let entries: Vec<Entry> =
        kinds.into_iter().zip(1..).map(|(kind, index)| Entry { kind, tag: 1, ..entry(index, 1, "payload") }).collect();
    writer.append(&entries).unwrap();
    writer.close().unwrap();
    assert_eq!(all(&open(&disk).unwrap().1), entries);
}

#[test]
fn what_may_be_replicated_begins_behind_every_hole() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    assert_eq!(reader.contiguous_from(), LogIndex(1));
    writer.append(&entries(1..=60, 1)).unwrap();
    writer.sync().unwrap();
    let segments = reader.segments();
    assert!(segments.len() > 4, "{segments:?}");
    writer.purge_prefix(segments[0].last).unwrap();
    assert_eq!(reader.contiguous_from(), segments[1].first);
    // The last entry of the third segment goes, and its term and tag are known nevertheless.
    let end = segments[2].last;
    let tag = reader.read(end).unwrap().map(|entry| entry.tag);
    assert!(tag.is_some_and(|tag| tag > reader.base_tag()));
    writer.rewrite_sparse(&mut |index, _| index != end, end, 1.0).unwrap();
    assert!(reader.read(end).unwrap().is_none());
    assert_eq!((reader.contiguous_from(), reader.term(end).unwrap()), (end.next(), Some(crate::ids::Term(1))));
    assert_eq!(reader.tag(end).unwrap(), tag);
    let reopened = open(&disk.duplicate()).unwrap().1;
    assert_eq!((reopened.contiguous_from(), reopened.term(end).unwrap()), (end.next(), Some(crate::ids::Term(1))));
    assert_eq!(reopened.tag(end).unwrap(), tag);

    let position = LogPosition { term: crate::ids::Term(3), index: LogIndex(100) };
    let renumbered = Refill { renumbered_to: LogIndex(103), ..Refill::default() };
    writer.reset_for(position, 80, renumbered).unwrap();
    writer.append(&entries(101..=105, 3)).unwrap();
    writer.sync().unwrap();
    assert_eq!(reader.contiguous_from(), LogIndex(104));
    assert_eq!(open(&disk.duplicate()).unwrap().1.contiguous_from(), LogIndex(104));
    writer.reset_to(position, 80).unwrap();
    assert_eq!(reader.contiguous_from(), LogIndex(101));
}

#[test]
fn a_reset_below_what_was_committed_leaves_a_log_that_opens() {
    let disk = SimulatedDisk::new();
    let (mut writer, _, _) = open(&disk).unwrap();
    writer.append(&entries(1..=20, 1)).unwrap();
    let promised = HardState { term: crate::ids::Term(2), vote: Some(NodeId(3)), commit: LogIndex(20) };
    writer.set_hard_state(promised).unwrap();
    writer.sync().unwrap();
    writer.reset_to(LogPosition::default(), 0).unwrap();
    let (_writer, reader, recovery) = open(&disk.duplicate()).unwrap();
    assert_eq!(recovery.hard_state, HardState { commit: LogIndex::ZERO, ..promised });
    assert!(all(&reader).is_empty() && recovery.faults.is_empty());
}

#[test]
fn a_log_that_is_filled_anew_is_not_whole_before_the_last_entry_is_there() {
    let disk = SimulatedDisk::new();
    let (mut writer, _, _) = open(&disk).unwrap();
    writer.append(&entries(1..=20, 1)).unwrap();
    writer.save_hard_state(HardState { term: Term(2), vote: None, commit: LogIndex(20) }).unwrap();
    let position = LogPosition { term: Term(1), index: LogIndex(4) };
    writer.reset_for(position, 4, Refill { last: LogIndex(30), renumbered_to: LogIndex(30) }).unwrap();
    let lost = |disk: &SimulatedDisk| match open(&disk.duplicate()) {
        Err(LogError::Corrupt { faults }) => (faults[0].first, faults[0].last),
        other => panic!("it was taken for whole: {other:?}"),
    };
    assert_eq!(lost(&disk), (LogIndex(5), Some(LogIndex(30))));
    writer.append(&entries(5..=29, 1)).unwrap();
    writer.finish_refill().unwrap();
    assert_eq!(lost(&disk), (LogIndex(30), Some(LogIndex(30))));
    writer.append(&entries(30..=30, 1)).unwrap();
    writer.finish_refill().unwrap();
    let (_, reader, recovery) = open(&disk.duplicate()).unwrap();
    assert_eq!((all(&reader), recovery.faults), (entries(5..=30, 1), Vec::new()));
    // What is cut off afterwards is not missed.
    let (mut writer, ..) = open(&disk).unwrap();
    writer.reset_to(position, 4).unwrap();
    assert!(open(&disk.duplicate()).is_ok());
}

#[test]
fn the_file_of_the_next_segment_can_be_made_beside_everything_else() {
    let disk = SimulatedDisk::new();
    let (mut writer, reader, _) = open(&disk).unwrap();
    let mut waiting = entries(1..=17, 1).into_iter();
    let append_next = |writer: &mut LogWriter, waiting: &mut std::vec::IntoIter<Entry>| {
        let next = waiting.next().unwrap();
        let (has_room, before) = (writer.has_room(std::iter::once(&next)), reader.segments().len());
        writer.append(&[next]).unwrap();
        assert_eq!(has_room, reader.segments().len() == before);
    };
    while !writer.wants_spare() {
        assert!(writer.plan_spare().is_none());
        append_next(&mut writer, &mut waiting);
    }
    assert!((2..8).contains(&reader.last().index.0), "{:?}", reader.last());
    let planned = writer.plan_spare().unwrap();
    assert!(!writer.wants_spare() && writer.plan_spare().is_none(), "once for each segment");
    // Whoever makes it may take longer than the rest of the segment lasts.
    while reader.segments().len() == 1 {
        append_next(&mut writer, &mut waiting);
    }
    let files = |disk: &SimulatedDisk| Disk::list(disk).unwrap().len();
    let before = files(&disk);
    writer.add_spare(planned.make().unwrap()).unwrap();
    assert_eq!(files(&disk), before + 1);
    while reader.segments().len() == 2 {
        append_next(&mut writer, &mut waiting);
    }
    assert_eq!(files(&disk), before + 1, "it became the third segment");
    writer.append(waiting.as_slice()).unwrap();
    writer.sync().unwrap();
    assert_eq!(all(&reader), entries(1..=17, 1));
    drop(writer);
    let again = open(&disk.crash(CrashLoss::Everything, 1)).unwrap();
    assert_eq!(all(&again.1), entries(1..=17, 1));
}

#[test]
fn a_file_for_the_next_segment_that_is_not_needed_or_half_made_does_no_harm() {
    for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
        for moment in 0..4 {
            let disk = SimulatedDisk::new();
            let (mut writer, ..) = open(&disk).unwrap();
            writer.append(&entries(1..=6, 1)).unwrap();
            writer.sync().unwrap();
            let planned = writer.plan_spare().unwrap();
            disk.fail_after(moment, Failure::Stop);
            drop(planned.make());
            let (mut writer, reader, _) = open(&disk.crash(loss, moment)).unwrap();
            writer.append(&entries(7..=40, 1)).unwrap();
            writer.sync().unwrap();
            assert_eq!(all(&reader), entries(1..=40, 1), "{loss:?}, operation {moment}");
        }
    }
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.append(&entries(1..=6, 1)).unwrap();
    let late = writer.plan_spare().unwrap();
    let mut waiting = entries(7..=40, 1).into_iter();
    while !writer.wants_spare() {
        writer.append(&[waiting.next().unwrap()]).unwrap();
    }
    let in_time = writer.plan_spare().unwrap();
    writer.add_spare(in_time.make().unwrap()).unwrap();
    let files = Disk::list(&disk).unwrap().len();
    writer.add_spare(late.make().unwrap()).unwrap();
    assert_eq!(Disk::list(&disk).unwrap().len(), files, "there is one already");
    writer.append(waiting.as_slice()).unwrap();
    writer.sync().unwrap();
    assert_eq!(all(&open(&disk.duplicate()).unwrap().1), entries(1..=40, 1));
}
