//! Messages on their way out and in.

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use steeple_engine::ids::NodeId;
use steeple_wire::peer::v1 as wire;

use super::super::limits::{
    BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_MESSAGES_MAX, CONTEXT_BYTES_MAX, MEMBERS_MAX,
    MEMBERSHIP_CONTEXT_BYTES_MAX, POSITION_MAX,
};
use super::*;

const LINK: Link = Link { from: NodeId(1), to: NodeId(2) };

fn message(kind: MessageType) -> Message {
    Message { msg_type: kind, from: 1, to: 2, term: 7, ..Message::default() }
}

fn entry(term: u64, index: u64, data: &'static [u8]) -> Entry {
    let context = Bytes::from_static(b"\0\0\0\0\0\0\0\x09");
    Entry { term, index, data: Bytes::from_static(data), context, ..Entry::default() }
}

fn append() -> Message {
    let mut message = message(MessageType::MsgAppend);
    (message.log_term, message.index, message.commit) = (5, 10, 9);
    let membership = Entry { entry_type: EntryType::EntryConfChangeV2, ..entry(7, 12, b"members") };
    message.entries = vec![entry(5, 11, b"one"), membership, entry(7, 13, b"")].into();
    message
}

fn snapshot() -> Message {
    let mut message = message(MessageType::MsgSnapshot);
    let mut snapshot = Snapshot::default();
    snapshot.mut_metadata().index = 100;
    snapshot.mut_metadata().term = 6;
    snapshot.mut_metadata().set_conf_state(ConfState {
        voters: vec![1, 2, 3],
        voters_outgoing: vec![1, 2, 4],
        learners: vec![5],
        learners_next: vec![4],
        auto_leave: true,
        ..ConfState::default()
    });
    message.set_snapshot(snapshot);
    message
}

fn read_index(kind: MessageType, term: u64) -> Message {
    let data = Bytes::from_static(b"context");
    Message { term, entries: vec![Entry { data, ..Entry::default() }].into(), ..message(kind) }
}

fn samples() -> Vec<Message> {
    use MessageType as Kind;
    let plain = [
        Kind::MsgAppendResponse,
        Kind::MsgRequestVote,
        Kind::MsgRequestVoteResponse,
        Kind::MsgRequestPreVote,
        Kind::MsgRequestPreVoteResponse,
        Kind::MsgHeartbeat,
        Kind::MsgHeartbeatResponse,
        Kind::MsgTimeoutNow,
    ];
    let mut samples: Vec<Message> = plain.map(message).into();
    samples.push(append());
    samples.push(snapshot());
    samples.push(Message { term: 0, ..message(Kind::MsgTransferLeader) });
    samples.push(read_index(Kind::MsgReadIndex, 0));
    samples.push(read_index(Kind::MsgReadIndexResp, 7));
    samples
}

fn wired(message: Message) -> wire::RaftMessage {
    to_wire(message, LINK).unwrap()
}

fn encoded(messages: Vec<Message>) -> Bytes {
    encode_batch(messages.into_iter().map(wired).collect())
}

/// What a receiver says to a message that was changed on its way.
fn refused(message: Message, change: impl FnOnce(&mut wire::RaftMessage)) -> MessageError {
    let mut message = wired(message);
    from_wire(message.clone(), LINK).expect("it is right before the change");
    change(&mut message);
    from_wire(message, LINK).unwrap_err()
}

#[test]
fn every_kind_comes_through_as_it_was() {
    let samples = samples();
    assert_eq!(decode_batch(encoded(samples.clone()), LINK), Ok(samples));
}

#[test]
fn bytes_on_the_wire_stay_as_they_are() {
    // Message: kind, from, to, term, log term, index; three entries: kind, term, index, data, context; commit.
    let golden = concat!(
        "0a4e",
        "08011001180220072805300a",
        "3a13",
        "1005180b22036f6e652a080000000000000009",
        "3a19",
        "08011007180c22076d656d626572732a080000000000000009",
        "3a0e",
        "1007180d2a080000000000000009",
        "4009",
    );
    let bytes = encoded(vec![append()]);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden);
}

#[test]
fn payloads_share_the_buffer_they_arrived_in() {
    let batch = encoded(vec![append()]);
    let range = batch.as_ptr_range();
    let messages = decode_batch(batch.clone(), LINK).unwrap();
    assert!(range.contains(&messages[0].entries[0].data.as_ptr()));
}

#[test]
fn kinds_that_stay_inside_a_node_do_not_travel() {
    use MessageType as Kind;
    for kind in [Kind::MsgHup, Kind::MsgBeat, Kind::MsgPropose, Kind::MsgUnreachable, Kind::MsgSnapStatus] {
        assert_eq!(to_wire(message(kind), LINK), Err(MessageError::Kind { kind: kind as i32 }));
        assert!(!travels(kind));
    }
    assert_eq!(refused(append(), |message| message.kind = 0), MessageError::Kind { kind: 0 });
    assert_eq!(refused(append(), |message| message.kind = 14), MessageError::Kind { kind: 14 });
    assert_eq!(refused(append(), |message| message.kind = -1), MessageError::Kind { kind: -1 });
}

#[test]
fn a_message_that_was_forwarded_for_somebody_else_does_not_travel() {
    let forwarded = Message { from: 3, ..read_index(MessageType::MsgReadIndex, 0) };
    let error = MessageError::Sender { expected: NodeId(1), found: NodeId(3) };
    assert_eq!(to_wire(forwarded, LINK), Err(error.clone()));
    assert_eq!(refused(append(), |message| message.from = 3), error);
    let error = MessageError::Receiver { expected: NodeId(2), found: NodeId(3) };
    assert_eq!(refused(append(), |message| message.to = 3), error);
}

#[test]
fn a_transfer_travels_without_the_term_that_forwarding_it_would_stumble_over() {
    let transfer = message(MessageType::MsgTransferLeader);
    assert_eq!(wired(transfer.clone()).term, 0);
    assert_eq!(refused(transfer, |message| message.term = 7), MessageError::TermUnexpected);
    let read = read_index(MessageType::MsgReadIndex, 0);
    assert_eq!(refused(read, |message| message.term = 7), MessageError::TermUnexpected);
}

#[test]
fn no_message_passes_for_one_of_the_node_itself() {
    for sample in samples().into_iter().filter(|sample| sample.term > 0) {
        let kind = sample.msg_type;
        assert_eq!(refused(sample, |message| message.term = 0), MessageError::TermMissing, "{kind:?}");
    }
}

#[test]
fn entries_follow_each_other_in_index_and_term() {
    let gap = |expected, found| MessageError::Gap { expected, found };
    assert_eq!(refused(append(), |message| message.index = 11), gap(12, 11));
    assert_eq!(refused(append(), |message| message.entries[1].index = 11), gap(12, 11));
    assert_eq!(refused(append(), |message| message.entries[2].index = 14), gap(13, 14));
    let wrong = |index, term, after| MessageError::EntryTerm { index, term, after, until: 7 };
    assert_eq!(refused(append(), |message| message.entries[0].term = 4), wrong(11, 4, 5));
    assert_eq!(refused(append(), |message| message.entries[2].term = 6), wrong(13, 6, 7));
    assert_eq!(refused(append(), |message| message.entries[2].term = 8), wrong(13, 8, 7));
    assert_eq!(refused(append(), |message| message.log_term = 8), wrong(10, 8, 0));
    let first = |message: &mut wire::RaftMessage| (message.log_term, message.entries[0].term) = (0, 0);
    assert_eq!(refused(append(), first), wrong(11, 0, 0));
}

#[test]
fn entries_come_only_with_kinds_that_have_them() {
    let extra = wired(append()).entries;
    let heartbeat = message(MessageType::MsgHeartbeat);
    assert_eq!(refused(heartbeat, |message| message.entries = extra), MessageError::Entries { found: 3 });
    let read = read_index(MessageType::MsgReadIndex, 0);
    assert_eq!(refused(read, |message| message.entries.clear()), MessageError::Entries { found: 0 });
    assert_eq!(refused(append(), |message| message.entries[0].kind = 2), MessageError::EntryKind { kind: 2 });
}

#[test]
fn numbers_near_their_end_are_refused() {
    let value = POSITION_MAX + 1;
    type Change = fn(&mut wire::RaftMessage, u64);
    let changes: [(&str, Change); 7] = [
        ("term", |message, value| message.term = value),
        ("log term", |message, value| message.log_term = value),
        ("index", |message, value| message.index = value),
        ("commit", |message, value| message.commit = value),
        ("commit term", |message, value| message.commit_term = value),
        ("requested snapshot", |message, value| message.request_snapshot = value),
        ("reject hint", |message, value| message.reject_hint = value),
    ];
    for (field, change) in changes {
        let error = refused(message(MessageType::MsgAppendResponse), |message| change(message, value));
        assert_eq!(error, MessageError::Position { field, value });
    }
    let last = |message: &mut wire::RaftMessage| {
        message.index = POSITION_MAX;
        message.entries.truncate(1);
        message.entries[0].index = value;
    };
    assert_eq!(refused(append(), last), MessageError::Position { field: "index", value });
}

#[test]
fn contexts_are_bounded() {
    let long = Bytes::from(vec![0; CONTEXT_BYTES_MAX + 1]);
    let is_too_large = |error| matches!(error, MessageError::TooLarge { bytes, .. } if bytes == CONTEXT_BYTES_MAX + 1);
    let heartbeat = message(MessageType::MsgHeartbeat);
    assert!(is_too_large(refused(heartbeat, |message| message.context = long.clone())));
    assert!(is_too_large(refused(append(), |message| message.entries[0].context = long.clone())));
    let read = read_index(MessageType::MsgReadIndex, 0);
    assert!(is_too_large(refused(read, |message| message.entries[0].data = long.clone())));
}

#[test]
fn a_change_of_members_as_large_as_one_can_be_arrives() {
    let with_context = |bytes: usize| {
        let mut message = append();
        message.entries[1].context = Bytes::from(vec![b' '; bytes]);
        from_wire(to_wire(message, LINK).unwrap(), LINK)
    };
    let arrived = with_context(MEMBERSHIP_CONTEXT_BYTES_MAX).unwrap();
    assert_eq!(arrived.entries[1].context.len(), MEMBERSHIP_CONTEXT_BYTES_MAX);
    let refused = with_context(MEMBERSHIP_CONTEXT_BYTES_MAX + 1);
    assert!(matches!(refused, Err(MessageError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn a_snapshot_names_members_that_can_be() {
    fn members(change: impl FnOnce(&mut wire::SnapshotPosition)) -> &'static str {
        match refused(snapshot(), |message| change(message.snapshot.as_mut().unwrap())) {
            MessageError::Members { problem } => problem,
            other => panic!("{other}"),
        }
    }
    assert_eq!(members(|members| members.voters.clear()), "nobody votes");
    assert_eq!(members(|members| members.voters[0] = 0), "there is no node 0");
    assert_eq!(members(|members| members.voters[0] = 2), "one is named twice");
    assert_eq!(members(|members| members.learners[0] = 1), "a learner votes");
    assert_eq!(members(|members| members.learners[0] = 4), "a learner votes");
    let next = "who becomes a learner is no voter that leaves";
    assert_eq!(members(|members| members.learners_next[0] = 9), next);
    assert_eq!(members(|members| members.learners_next[0] = 1), next);
    let alone = |members: &mut wire::SnapshotPosition| {
        members.voters_outgoing.clear();
        members.learners_next.clear();
    };
    assert_eq!(members(alone), "there is no change to finish");
    let many = |members: &mut wire::SnapshotPosition| members.voters = (10..).take(MEMBERS_MAX + 1).collect();
    assert_eq!(members(many), "there are too many");
}

#[test]
fn a_snapshot_comes_with_its_own_kind_only() {
    assert_eq!(refused(snapshot(), |message| message.snapshot = None), MessageError::Snapshot);
    let position = wired(snapshot()).snapshot;
    let heartbeat = message(MessageType::MsgHeartbeat);
    assert_eq!(refused(heartbeat, |message| message.snapshot = position), MessageError::Snapshot);
    let newer = |message: &mut wire::RaftMessage| message.snapshot.as_mut().unwrap().term = 8;
    let error = MessageError::Position { field: "term of a snapshot", value: 8 };
    assert_eq!(refused(snapshot(), newer), error);
    let nowhere = |message: &mut wire::RaftMessage| message.snapshot.as_mut().unwrap().index = 0;
    let error = MessageError::Position { field: "index of a snapshot", value: 0 };
    assert_eq!(refused(snapshot(), nowhere), error);
}

#[test]
fn a_batch_is_counted_before_it_gets_memory() {
    // Two bytes each: thousands of them fit where one entry does.
    let empty =
        wire::RaftMessage { entries: vec![wire::RaftEntry::default(); BATCH_ENTRIES_MAX + 1], ..wired(append()) };
    let too_many = |what, max| Err(BatchError::TooMany { what, max });
    assert_eq!(decode_batch(encode_batch(vec![empty]), LINK), too_many("entries", BATCH_ENTRIES_MAX));
    let many = vec![wire::RaftMessage::default(); BATCH_MESSAGES_MAX + 1];
    assert_eq!(decode_batch(encode_batch(many), LINK), too_many("messages", BATCH_MESSAGES_MAX));
    let mut crowded = wired(snapshot());
    crowded.snapshot.as_mut().unwrap().voters = vec![1; 20_000];
    assert!(matches!(decode_batch(encode_batch(vec![crowded]), LINK), Err(BatchError::TooMany { .. })));
    let large = Bytes::from(vec![0; BATCH_BYTES_MAX + 1]);
    assert!(matches!(decode_batch(large, LINK), Err(BatchError::TooLarge { .. })));
}

#[test]
fn a_batch_that_is_none_is_refused() {
    assert_eq!(decode_batch(Bytes::new(), LINK), Err(BatchError::Empty));
    let whole = encoded(vec![append()]);
    for end in 1..whole.len() {
        assert!(matches!(decode_batch(whole.slice(..end), LINK), Err(BatchError::Malformed(_))), "{end} bytes");
    }
    // The start of a group.
    assert!(matches!(decode_batch(Bytes::from_static(&[0x0b]), LINK), Err(BatchError::Malformed(_))));
    let mut second = wired(append());
    second.to = 3;
    let error = decode_batch(encode_batch(vec![wired(append()), second]), LINK).unwrap_err();
    assert_eq!(error.to_string(), "message 1 of a batch: a message to node 3 was sent to node 2");
}

#[test]
fn sizes_are_estimated_from_above() {
    for sample in samples() {
        let estimate = encoded_bytes(&sample);
        let bytes = wired(sample).encoded_len() + 8;
        assert!(bytes <= estimate, "{bytes} bytes, estimated {estimate}");
    }
    let crowded = Message { term: u64::MAX, log_term: u64::MAX, index: u64::MAX, commit: u64::MAX, ..append() };
    assert!(wired(crowded.clone()).encoded_len() <= encoded_bytes(&crowded));
}

prop_compose! {
    fn any_entries()(index in 0..POSITION_MAX / 2, start in 1..1000_u64)(
        index in Just(index),
        start in Just(start),
        steps in prop::collection::vec((0..3_u64, any::<bool>(), prop::collection::vec(any::<u8>(), 0..64)), 0..8),
    ) -> (u64, u64, Vec<Entry>) {
        let mut term = start;
        let entry = |(number, (step, membership, data)): (usize, (u64, bool, Vec<u8>))| {
            term += step;
            let entry_type = if membership { EntryType::EntryConfChangeV2 } else { EntryType::EntryNormal };
            Entry { entry_type, term, index: index + 1 + number as u64, data: data.into(), ..Entry::default() }
        };
        (index, start, steps.into_iter().enumerate().map(entry).collect())
    }
}

prop_compose! {
    fn any_append()(
        (index, log_term, entries) in any_entries(),
        ahead in 0..5_u64,
        commit in 0..POSITION_MAX,
        context in prop::collection::vec(any::<u8>(), 0..CONTEXT_BYTES_MAX),
        reject: bool,
        priority in 0..i64::MAX,
    ) -> Message {
        let term = entries.last().map_or(log_term, |entry| entry.term) + ahead;
        Message {
            msg_type: MessageType::MsgAppend,
            from: 1,
            to: 2,
            term,
            log_term,
            index,
            commit,
            reject,
            priority,
            deprecated_priority: priority.unsigned_abs(),
            context: context.into(),
            entries: entries.into(),
            ..Message::default()
        }
    }
}

proptest! {
    #[test]
    fn appends_come_through_as_they_were(messages in prop::collection::vec(any_append(), 1..4)) {
        prop_assert_eq!(decode_batch(encoded(messages.clone()), LINK), Ok(messages));
    }

    #[test]
    fn changed_bytes_are_refused_or_give_messages_of_the_link(
        messages in prop::collection::vec(any_append(), 1..3),
        at: prop::sample::Index,
        value: u8,
    ) {
        let mut batch = encoded(messages).to_vec();
        let at = at.index(batch.len());
        batch[at] = value;
        if let Ok(messages) = decode_batch(batch.into(), LINK) {
            prop_assert!(messages.iter().all(|message| message.from == 1 && message.to == 2));
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = decode_batch(bytes.into(), LINK);
    }
}
