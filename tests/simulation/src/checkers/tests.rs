//! Each checker finds what it is there for, and lets pass what is right. Planted bugs show the same with whole clusters;
//! some checkers would hardly ever be the first to notice one there.

use std::collections::BTreeMap;
use std::sync::Arc;

use steeple_engine::disk::SimulatedDisk;
use steeple_engine::domain::{Answer, CATALOG};
use steeple_engine::event::{Event, LowWaterMark, RequestStamp, StreamItem};
use steeple_engine::ids::{
    ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NamespaceId, NodeId, RequestId, Revision, StreamSequence,
    Term, Timestamp,
};
use steeple_engine::log::{Entry, EntryKind, Log, LogIdentity, LogOptions, LogReader};
use steeple_engine::record_store::MemoryStore;
use steeple_engine::spire::{self, REGISTRATIONS};
use steeple_engine::view::{Digest, View};
use steeple_raft::{Leadership, Member, Membership, MembershipChange};
use steeple_server::node::Accepted;
use steeple_server::node::tail::TailItem;

use super::acknowledged::Acknowledged;
use super::digests::Digests;
use super::leaders::Leaders;
use super::linearizability::{Order, check_held};
use super::log_matching::Logs;
use super::members::Members;
use super::requests::Requests;
use super::tails::Seen;
use super::{features, lists, marks, queues, revisions, stale_reads, state_machine, streams};
use crate::history::{Committed, Held, History, Item};
use crate::workload::place_of;

const NAMESPACE: NamespaceId = NamespaceId(1);

fn event(revision: u64, time: u64) -> Event {
    Event {
        revision: Revision(revision),
        time: Timestamp(time),
        namespace: NAMESPACE,
        request: None,
        changes: Vec::new(),
        items: Vec::new(),
        marks: Vec::new(),
        answer: Vec::new(),
    }
}

fn item(sequence: u64) -> StreamItem {
    StreamItem { stream: REGISTRATIONS, sequence: StreamSequence(sequence), key: b"key".to_vec(), change: None }
}

/// Events 1 and 2, at times 10 and 20; the first has an item.
fn history() -> History {
    let mut history = History::default();
    history.push_event(Event { items: vec![item(1)], ..event(1, 10) });
    history.push_event(event(2, 20));
    history
}

fn entry(index: u64, term: u64, payload: &'static [u8]) -> Entry {
    let position = LogPosition { term: Term(term), index: LogIndex(index) };
    Entry { position, kind: EntryKind::Event, tag: index, payload: payload.into() }
}

#[test]
fn acknowledged_writes() {
    let (request, other) = (RequestId([1; 16]), RequestId([2; 16]));
    let mut history = history();
    history.push_event(Event { request: Some(RequestStamp { id: request, fingerprint: 0 }), ..event(3, 30) });
    let answer = |revision| Accepted {
        revision: Revision(revision),
        answer: Answer::Spire(spire::Answer::Nothing),
        notices: Vec::new(),
    };
    let mut acknowledged = Acknowledged::default();
    assert!(acknowledged.check(&history, request, &answer(3), true).is_ok());
    assert!(acknowledged.check(&history, other, &answer(3), true).is_err(), "the event of another request");
    assert!(acknowledged.check(&history, request, &answer(4), true).is_err(), "an event that nobody has folded");
    assert!(acknowledged.check_held(0, 4).is_ok());
    assert!(acknowledged.check_held(0, 3).is_err(), "a member without what was acknowledged");
}

#[test]
fn linearizability() {
    let history = history();
    let mut order = Order::default();
    assert!(order.check(&history, 0, 1, true, "a write").is_ok());
    assert_eq!(order.floor(), 1);
    assert!(order.check(&history, 1, 1, false, "a read").is_ok());
    assert!(order.check(&history, 1, 1, true, "a write").is_err(), "a change where one was answered before");
    assert!(order.check(&history, 1, 0, false, "a read").is_err(), "an answer from the past");
    assert!(order.check(&history, 1, 3, false, "a read").is_err(), "an answer from the future");
    assert!(check_held(&history, "key", 1, None).is_ok());
    assert!(check_held(&history, "key", 1, Some(Held { value: 1, updates: 0 })).is_err());
}

#[test]
fn stale_reads_and_lists() {
    let held = Held { value: 7, updates: 0 };
    let mut history = history();
    history.keys.insert("key-1".into(), vec![(2, Some(held))]);
    assert!(stale_reads::check(&history, "key-1", 1, 2, Some(held)).is_ok());
    assert!(stale_reads::check(&history, "key-1", 1, 1, None).is_ok());
    assert!(stale_reads::check(&history, "key-1", 2, 1, None).is_err(), "older than what the session has seen");
    assert!(stale_reads::check(&history, "key-1", 0, 2, None).is_err(), "not what was there");
    let place = place_of("key-1");
    let full = BTreeMap::from([("key-1".to_owned(), held)]);
    assert!(lists::check(&history, place, 2, &full).is_ok());
    assert!(lists::check(&history, place, 1, &BTreeMap::new()).is_ok());
    assert!(lists::check(&history, place, 2, &BTreeMap::new()).is_err(), "an entry is missing");
    assert!(lists::check(&history, place, 1, &full).is_err(), "an entry too many");
    assert!(lists::check(&history, (place.0 + 1, place.1), 2, &full).is_err(), "an entry of another parent");
}

#[test]
fn leaders() {
    let mut history = History::default();
    history.entries.push(Committed::of(&entry(1, 1, b"first")));
    let leads = |term, opened| Leadership { term: Term(term), leader: None, opened: Some(LogIndex(opened)) };
    let mut leaders = Leaders::default();
    assert_eq!(leaders.check(&history, 0, leads(2, 2)), Ok(true));
    assert_eq!(leaders.check(&history, 0, leads(2, 2)), Ok(false));
    assert!(leaders.check(&history, 1, leads(2, 2)).is_err(), "two leaders of a term");
    assert!(leaders.check(&history, 1, leads(3, 1)).is_err(), "a leader without what was committed");
}

#[test]
fn state_machine_safety() {
    let mut history = History::default();
    let (first, other) = (Committed::of(&entry(1, 1, b"first")), Committed::of(&entry(1, 1, b"other")));
    assert!(state_machine::check(&history, 0, 1, &first).is_ok());
    assert!(state_machine::check(&history, 0, 2, &first).is_err(), "an entry was left out");
    history.entries.push(first);
    assert!(state_machine::check(&history, 1, 1, &first).is_ok());
    assert!(state_machine::check(&history, 1, 1, &other).is_err(), "another entry at the same index");
}

/// A log with these entries.
fn log(entries: &[Entry]) -> LogReader {
    let identity =
        LogIdentity { cluster: ClusterId([1; 16]), node: NodeId(1), group: GroupId(0), history: HistoryId([1; 16]) };
    let (mut writer, reader, _) = Log::open(Arc::new(SimulatedDisk::new()), LogOptions::default(), identity).unwrap();
    writer.append(entries).unwrap();
    writer.sync().unwrap();
    reader
}

#[test]
fn log_matching() {
    let mut logs = Logs::default();
    assert!(logs.check(0, &log(&[entry(1, 1, b"one"), entry(2, 1, b"two")]), LogIndex(1)).is_ok());
    assert!(logs.check(1, &log(&[entry(1, 1, b"one"), entry(2, 2, b"another")]), LogIndex(1)).is_ok());
    let other = log(&[entry(1, 1, b"one"), entry(2, 1, b"changed")]);
    assert!(logs.check(2, &other, LogIndex(1)).is_err(), "another entry of the same term");
    let other = log(&[entry(1, 1, b"one"), entry(2, 2, b"another"), entry(3, 3, b"three")]);
    assert!(logs.check(2, &other, LogIndex(1)).is_ok());
    let other = log(&[entry(1, 1, b"one"), entry(2, 1, b"two"), entry(3, 3, b"three")]);
    assert!(logs.check(2, &other, LogIndex(1)).is_err(), "the same entry after another one");
}

#[test]
fn revisions_and_streams() {
    let history = history();
    assert!(revisions::check(&history, &event(3, 20)).is_ok());
    assert!(revisions::check(&history, &event(4, 30)).is_err(), "a gap");
    assert!(revisions::check(&history, &event(2, 30)).is_err(), "a revision twice");
    assert!(revisions::check(&history, &event(3, 19)).is_err(), "time went back");
    let with = |items| Event { items, ..event(3, 30) };
    assert!(streams::check_event(&history, &with(vec![item(2), item(3)])).is_ok());
    assert!(streams::check_event(&history, &with(vec![item(3)])).is_err(), "a number left out");
    assert!(streams::check_event(&history, &with(vec![item(1)])).is_err(), "a number given twice");
    assert!(streams::check_event(&history, &with(vec![item(2), item(2)])).is_err(), "twice in one event");
}

#[test]
fn low_water_marks() {
    let mut history = history();
    let marked = |from, to| {
        let mark = LowWaterMark { stream: REGISTRATIONS, from: StreamSequence(from), to: StreamSequence(to) };
        Event { marks: vec![mark], ..event(3, 30) }
    };
    assert!(marks::check(&mut history, &marked(1, 5)).is_ok());
    assert!(marks::check(&mut history, &marked(5, 7)).is_ok());
    assert!(marks::check(&mut history, &marked(5, 8)).is_err(), "from where it was before");
    assert!(marks::check(&mut history, &marked(7, 3)).is_err(), "a mark that falls");
}

#[test]
fn what_was_given_up_is_removed() {
    let view = View::open(CATALOG, Arc::new(MemoryStore::new())).unwrap();
    let mark = LowWaterMark { stream: REGISTRATIONS, from: StreamSequence(1), to: StreamSequence(3) };
    let events =
        [Event { items: vec![item(1), item(2), item(3)], ..event(1, 10) }, Event { marks: vec![mark], ..event(2, 20) }];
    for event in events {
        assert!(streams::check_removed(0, &view).is_ok());
        let index = LogIndex(event.revision.0);
        view.fold(&[steeple_engine::view::Committed { index, event: Arc::new(event) }]).unwrap();
    }
    assert!(streams::check_removed(0, &view).is_err(), "two rows that are left");
    assert!(view.remove_given_up(1).unwrap());
    assert!(streams::check_removed(0, &view).is_err(), "one that is left");
    while view.remove_given_up(1).unwrap() {}
    assert!(streams::check_removed(0, &view).is_ok());
}

#[test]
fn exactly_once() {
    let mut requests = Requests::new(100);
    let of = |revision, time| {
        let request = Some(RequestStamp { id: RequestId([1; 16]), fingerprint: 0 });
        Event { request, ..event(revision, time) }
    };
    assert!(requests.check(&of(1, 1_000)).is_ok());
    assert!(requests.check(&of(2, 1_101)).is_ok(), "it is forgotten by then");
    assert!(requests.check(&of(3, 1_201)).is_err(), "carried out twice");
}

#[test]
fn digests() {
    let mut digests = Digests::default();
    let mut other = Digest::default();
    other.add(NAMESPACE, spire::tables::ENTRIES, steeple_engine::ids::Sequence(1), Revision(1), b"body");
    assert!(digests.check(0, 1, other).is_ok());
    assert!(digests.check(1, 1, other).is_ok());
    assert!(digests.check(2, 1, Digest::default()).is_err(), "other records at the same revision");
}

#[test]
fn members() {
    let member = |number: u64| (number, Member { peer_address: format!("{number}"), client_address: String::new() });
    let founders = BTreeMap::from([member(1), member(2), member(3)]);
    let mut members = Members::default();
    assert!(members.check(0, 0, &Membership::default()).is_ok());
    let payload = MembershipChange::founding(founders.clone()).encode();
    let founding = Entry { kind: EntryKind::Membership, payload: payload.into(), ..entry(1, 1, b"") };
    members.push(&founding).unwrap();
    assert!(members.check(0, 1, &Membership::of_voters(founders)).is_ok());
    assert!(members.check(0, 0, &Membership::default()).is_ok(), "a member that has not folded it");
    assert!(members.check(0, 1, &Membership::default()).is_err(), "a member that has forgotten it");
    let fewer = Membership::of_voters(BTreeMap::from([member(1), member(2)]));
    assert!(members.check(0, 1, &fewer).is_err(), "a member that knows others");
}

#[test]
fn tails() {
    let mut history = history();
    let items = history.streams.entry((NAMESPACE, REGISTRATIONS)).or_default();
    items.push(Item { revision: 2, key: b"key".to_vec() });
    let handed_out =
        |revision, sequence| TailItem { event: Arc::new(event(revision, 10)), items: vec![item(sequence)] };
    let mut seen = Seen::default();
    assert!(seen.check(&history, NAMESPACE, &handed_out(1, 1)).is_ok());
    assert!(seen.at_cursor(&[(REGISTRATIONS, 1)]).is_ok());
    assert!(seen.at_cursor(&[(REGISTRATIONS, 2)]).is_err(), "a cursor ahead of what was handed out");
    assert!(seen.clone().check(&history, NAMESPACE, &handed_out(1, 1)).is_err(), "an item twice");
    assert!(seen.clone().check(&history, NAMESPACE, &handed_out(1, 2)).is_err(), "an item of another event");
    assert!(seen.clone().check(&history, NAMESPACE, &handed_out(3, 3)).is_err(), "an item left out");
    assert!(seen.check(&history, NAMESPACE, &handed_out(2, 2)).is_ok());
    assert!(seen.skip_to(&history, NAMESPACE, REGISTRATIONS, 5).is_err(), "nothing was pruned");
    history.marks.insert((NAMESPACE, REGISTRATIONS), 5);
    assert!(seen.skip_to(&history, NAMESPACE, REGISTRATIONS, 5).is_ok());
}

#[test]
fn queue_bounds() {
    assert!(queues::check("calls", 3, 3).is_ok());
    assert!(queues::check("calls", 4, 3).is_err());
}

#[test]
fn wiped_members() {
    use raft::eraftpb::{Message, MessageType};
    let says = |kind, reject| {
        let mut message = Message { reject, index: 1, term: 2, ..Message::default() };
        message.set_msg_type(kind);
        super::wiped::check(0, &message)
    };
    assert!(says(MessageType::MsgRequestVoteResponse, true).is_ok());
    assert!(says(MessageType::MsgHeartbeatResponse, false).is_ok());
    assert!(says(MessageType::MsgRequestVoteResponse, false).is_err(), "a vote");
    assert!(says(MessageType::MsgAppendResponse, false).is_err(), "a confirmation");
    assert!(says(MessageType::MsgRequestVote, false).is_err(), "a candidate");
}

#[test]
fn features_bite_on_what_a_member_does_not_support() {
    assert_eq!(features::check_folded(0, 2, 2), Ok(()));
    assert_eq!(features::check_message(0, 1, 2, 3), Ok(()));
    assert_eq!(features::check_folded(0, 1, 2).unwrap_err().checker, "features");
    assert_eq!(features::check_message(0, 1, 3, 2).unwrap_err().checker, "features");
}
