//! Which requests were carried out of late, recalled from the log when a node starts or has taken over a snapshot.

use std::ops::ControlFlow;

use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, Timestamp};
use steeple_engine::log::{Entry, EntryKind, LogError, LogReader};
use steeple_engine::simulation::{Bug, is_planted};
use steeple_raft::RequestLedger;

use super::errors::StartError;
use super::options::NodeOptions;

/// Fills the ledger from the recent events. Walks back segment by segment, so that only what lies within the window
/// (and the rest of its oldest segment) is read.
pub(super) fn requests(
    options: &NodeOptions,
    log: &LogReader,
    now: Timestamp,
    folded: LogIndex,
) -> Result<RequestLedger, StartError> {
    let window = u64::try_from(options.request_window.as_micros()).unwrap_or(u64::MAX);
    let window = if is_planted(Bug::RequestsForgottenEarly) { window / 64 } else { window };
    let mut recalled = RequestLedger::new(window);
    if is_planted(Bug::RequestsNotRecalled) {
        return Ok(recalled);
    }
    let oldest = Timestamp(now.0.saturating_sub(window));
    let mut from = log.last().index.next();
    for segment in log.segments().iter().rev() {
        from = segment.first;
        // A segment without an event says nothing: a crash just after a roll leaves the newest one empty.
        if first_event_time(log, from)?.is_some_and(|time| time < oldest) {
            break;
        }
    }
    remember(&mut recalled, log, from, folded)?;
    Ok(recalled)
}

/// Fills the ledger from the recent ones of the committed events, however far they are folded.
pub(super) fn committed_requests(
    options: &NodeOptions,
    log: &LogReader,
    committed: LogIndex,
) -> Result<RequestLedger, StartError> {
    // Without an event there is no request either.
    let now = last_event_time(log, committed)?.unwrap_or_default();
    requests(options, log, now, committed)
}

/// Adds the requests of the events from `from` on.
pub(super) fn remember(
    requests: &mut RequestLedger,
    log: &LogReader,
    from: LogIndex,
    up_to: LogIndex,
) -> Result<(), StartError> {
    if is_planted(Bug::RequestsNotRecalled) {
        return Ok(());
    }
    let mut outcome = Ok(());
    log.scan(from, &mut |entry| {
        if entry.position.index > up_to {
            return ControlFlow::Break(());
        }
        if entry.kind == EntryKind::Event {
            match Event::view(&entry.payload) {
                Ok(event) => requests.remember_stored(event),
                Err(source) => outcome = Err(StartError::Event { index: entry.position.index, source }),
            }
        }
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    outcome
}

/// The time of the last event up to an entry, if the log has any. It is nearly always among the last entries, so that these are
/// looked through first, and then more and more of those before them: also of those that are not replicated, because there are
/// holes behind them or they have other numbers here than in the group's log. A history that was taken over with a snapshot is all
/// there is until the next event.
fn last_event_time(log: &LogReader, up_to: LogIndex) -> Result<Option<Timestamp>, LogError> {
    const LOOKED_THROUGH_FIRST: u64 = 64;
    let first = log.first();
    let last = up_to.min(log.last().index);
    let mut behind = last.next();
    let mut entries = LOOKED_THROUGH_FIRST;
    while behind > first {
        let from = LogIndex(behind.0.saturating_sub(entries)).max(first);
        let mut time = None;
        log.scan(from, &mut |entry| {
            if entry.position.index >= behind {
                return ControlFlow::Break(());
            }
            time = event_time(&entry).or(time);
            ControlFlow::Continue(())
        })?;
        if time.is_some() {
            return Ok(time);
        }
        (behind, entries) = (from, entries.saturating_mul(2));
    }
    Ok(None)
}

fn event_time(entry: &Entry) -> Option<Timestamp> {
    match entry.kind {
        EntryKind::Event => Event::view(&entry.payload).ok().map(|event| Timestamp(event.time.0.to_native())),
        EntryKind::Membership | EntryKind::Empty | EntryKind::Check => None,
    }
}

/// The time of the first event at or after `from`.
fn first_event_time(log: &LogReader, from: LogIndex) -> Result<Option<Timestamp>, LogError> {
    let mut time = None;
    log.scan(from, &mut |entry| {
        time = event_time(&entry);
        if time.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok(time)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use steeple_engine::disk::simulated::SimulatedDisk;
    use steeple_engine::event::RequestStamp;
    use steeple_engine::ids::{
        ClusterId, GroupId, HistoryId, LogPosition, NamespaceId, NodeId, RequestId, Revision, Term,
    };
    use steeple_engine::log::{Log, LogIdentity, LogOptions, LogWriter, Refill};
    use steeple_raft::requests::Known;

    use super::*;

    const WINDOW: Duration = Duration::from_micros(100);
    const NAMESPACE: NamespaceId = NamespaceId(1);

    fn stamp(revision: u64) -> RequestStamp {
        RequestStamp { id: RequestId(u128::from(revision).to_be_bytes()), fingerprint: 1 }
    }

    fn event(revision: u64, time: u64) -> Event {
        Event {
            revision: Revision(revision),
            time: Timestamp(time),
            namespace: NAMESPACE,
            request: Some(stamp(revision)),
            changes: Vec::new(),
            items: Vec::new(),
            marks: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// A log of small segments: an event for each time, and as many entries without one behind it as are said with it.
    fn log(events: &[(u64, u64)]) -> (LogWriter, LogReader) {
        let (cluster, history) = (ClusterId([1; 16]), HistoryId([2; 16]));
        let identity = LogIdentity { cluster, node: NodeId(1), group: GroupId(0), history };
        let options = LogOptions { segment_bytes: 16 << 10, segment_entries: 64, ..LogOptions::default() };
        let (mut writer, reader, _) = Log::open(Arc::new(SimulatedDisk::new()), options, identity).unwrap();
        let mut index = LogIndex::ZERO;
        let mut append = |kind, tag, payload| {
            index = index.next();
            writer.append(&[Entry { position: LogPosition { term: Term(1), index }, kind, tag, payload }]).unwrap();
        };
        for (revision, (time, others)) in (1..).zip(events) {
            append(EntryKind::Event, revision, event(revision, *time).encode());
            (0..*others).for_each(|_| append(EntryKind::Empty, revision, Bytes::new()));
        }
        (writer, reader)
    }

    fn known(requests: &mut RequestLedger, revisions: u64) -> Vec<u64> {
        let caused = |revision: &u64| {
            let known = requests.look_up(NAMESPACE, stamp(*revision), Timestamp::default());
            assert!(matches!(known, Known::New) || known == Known::Caused(Revision(*revision)));
            known != Known::New
        };
        (1..=revisions).filter(caused).collect()
    }

    #[test]
    fn what_is_recalled_in_two_parts_is_what_the_events_of_the_window_were_caused_by() {
        let options = NodeOptions { request_window: WINDOW, ..NodeOptions::in_memory() };
        // Steps of 7; now and then many entries that are no events follow.
        let events: Vec<_> =
            (1..=150).map(|number| (1_000 + number * 7, [0, 0, 1, 90][number as usize % 50 % 4])).collect();
        let (_writer, log) = log(&events);
        let last = log.last().index;
        assert!(log.segments().len() > 5);
        let recent: Vec<u64> = (1..=150).filter(|number| 1_000 + number * 7 + 100 >= 1_000 + 150 * 7).collect();
        for committed in (0..=last.0).step_by(97).chain([1, 2, last.0]) {
            let mut requests = committed_requests(&options, &log, LogIndex(committed)).unwrap();
            remember(&mut requests, &log, LogIndex(committed).next(), last).unwrap();
            assert_eq!(known(&mut requests, 150), recent, "committed up to {committed}");
        }
    }

    /// Last event times up to every entry, by a search and by looking through the whole log.
    fn assert_last_events_are_found(log: &LogReader) {
        let (mut time, mut next) = (None, LogIndex(1));
        let check = |up_to: LogIndex, time| {
            assert_eq!(last_event_time(log, up_to).unwrap(), time, "up to {up_to}");
        };
        log.scan(LogIndex(1), &mut |entry| {
            // Up to the end of a hole, what is known before it.
            let before = LogIndex(entry.position.index.0 - 1);
            if before >= next {
                check(before, time);
            }
            time = event_time(&entry).or(time);
            check(entry.position.index, time);
            next = entry.position.index.next();
            ControlFlow::Continue(())
        })
        .unwrap();
        check(LogIndex(9_999), time);
        assert!(time.is_some());
    }

    #[test]
    fn the_last_event_is_found_behind_holes() {
        let (mut writer, log) = log(&[(10, 0), (20, 70), (30, 150), (40, 200), (50, 300)]);
        writer.sync().unwrap();
        let last_event = log.last().index.0 - 300;
        // Of the completed segments, only events and every 50th other entry are kept.
        let completed = log.segments().iter().rev().nth(1).unwrap().last;
        let mut events = Vec::new();
        log.scan(LogIndex(1), &mut |entry| {
            events.extend((entry.kind == EntryKind::Event).then_some(entry.position.index));
            ControlFlow::Continue(())
        })
        .unwrap();
        let mut wanted = |index: LogIndex, _| events.contains(&index) || index.0.is_multiple_of(50);
        let rewritten = writer.rewrite_sparse(&mut wanted, completed, 1.0).unwrap();
        assert!(rewritten.entries_removed > 300, "{rewritten:?}");
        assert!(log.contiguous_from().0 > last_event, "what may be replicated has no event");
        assert_last_events_are_found(&log);
        assert_eq!(last_event_time(&log, log.last().index).unwrap(), Some(Timestamp(50)));
    }

    #[test]
    fn the_last_event_is_found_in_a_history_that_was_taken_over() {
        let (mut writer, log) = log(&[(10, 0)]);
        writer.sync().unwrap();
        let base = LogPosition { term: Term(3), index: LogIndex(1_000) };
        let renumbered_to = LogIndex(1_200);
        writer.reset_for(base, 80, Refill { renumbered_to, ..Refill::default() }).unwrap();
        // A history of 200 events, and then entries of the group's own log without any.
        for index in 1_001..=1_500 {
            let revision = (index - 900).min(300);
            let kind = if index <= renumbered_to.0 { EntryKind::Event } else { EntryKind::Empty };
            let payload = if kind == EntryKind::Event { event(revision, index * 10).encode() } else { Bytes::new() };
            let position = LogPosition { term: Term(3), index: LogIndex(index) };
            writer.append(&[Entry { position, kind, tag: revision, payload }]).unwrap();
        }
        assert!(log.segments().len() > 5);
        assert_eq!(log.contiguous_from(), renumbered_to.next());
        assert_last_events_are_found(&log);
        let options = NodeOptions { request_window: WINDOW, ..NodeOptions::in_memory() };
        let mut requests = committed_requests(&options, &log, log.last().index).unwrap();
        // Recalled is what is recent, and what is in the same segment; a log without any event would be recalled as a whole.
        let known = known(&mut requests, 300);
        assert_eq!(known.last(), Some(&300));
        assert!(known.contains(&290) && !known.contains(&101), "{known:?}");
    }

    #[test]
    fn the_last_event_is_found_behind_any_number_of_entries_without_one() {
        let (_writer, log) = log(&[(10, 0), (20, 1), (30, 63), (40, 64), (50, 500), (60, 0)]);
        let mut time = None;
        let mut expected = Vec::new();
        log.scan(LogIndex(1), &mut |entry| {
            time = event_time(&entry).or(time);
            expected.push(time);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(expected.len(), 634);
        for (up_to, expected) in (1..).zip(expected) {
            assert_eq!(last_event_time(&log, LogIndex(up_to)).unwrap(), expected, "up to {up_to}");
        }
        assert_eq!(last_event_time(&log, LogIndex::ZERO).unwrap(), None);
        assert_eq!(last_event_time(&log, LogIndex(9_999)).unwrap(), Some(Timestamp(60)));
    }
}
