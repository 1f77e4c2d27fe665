//! Messages that no sane peer sends: refused or dropped, and never a panic.

use bytes::Bytes;
use raft::eraftpb::{self, EntryType, Message, MessageType};

use crate::membership::Step;
use crate::replica::MessageRefused;

use super::cluster::{Chance, Cluster, Node, member};
use super::hand::{Hand, append, change_entry, event, index, message, with_entries};

const KINDS: [MessageType; 19] = [
    MessageType::MsgHup,
    MessageType::MsgBeat,
    MessageType::MsgPropose,
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgSnapshot,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgUnreachable,
    MessageType::MsgSnapStatus,
    MessageType::MsgCheckQuorum,
    MessageType::MsgTransferLeader,
    MessageType::MsgTimeoutNow,
    MessageType::MsgReadIndex,
    MessageType::MsgReadIndexResp,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

fn changed(mut message: Message, change: impl FnOnce(&mut Message)) -> Message {
    change(&mut message);
    message
}

/// Entry 6 for a follower that has five.
fn sixth(change: impl FnOnce(&mut eraftpb::Entry)) -> Message {
    let mut entry = event(6, 3);
    change(&mut entry);
    with_entries(append(2, 3, (5, 3), &[], 3), vec![entry])
}

fn read_context(node: u64) -> Bytes {
    [node.to_be_bytes(), 1u64.to_be_bytes(), 1u64.to_be_bytes()].concat().into()
}

fn read(kind: MessageType, term: u64, contexts: &[Bytes]) -> Message {
    let entries = contexts.iter().map(|data| eraftpb::Entry { data: data.clone(), ..Default::default() });
    with_entries(message(kind, 2, term), entries.collect())
}

fn snapshot(term: u64, position: (u64, u64)) -> Message {
    let mut message = message(MessageType::MsgSnapshot, 2, term);
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = position;
    message
}

fn vote(change: impl FnOnce(&mut Message)) -> Message {
    let mut vote = message(MessageType::MsgRequestVote, 2, 9);
    (vote.index, vote.log_term, vote.commit, vote.commit_term) = (9, 8, 5, 3);
    changed(vote, change)
}

/// What no peer says to a follower of node 2 in term 3 with entries of the terms 1, 2, 2, 3 and 3, three of them
/// committed.
fn nonsense() -> Vec<(&'static str, Message)> {
    use MessageType::{
        MsgAppend, MsgBeat, MsgCheckQuorum, MsgHeartbeat, MsgHup, MsgPropose, MsgReadIndex, MsgReadIndexResp,
        MsgSnapStatus, MsgTransferLeader, MsgUnreachable,
    };
    let huge = 1 << 63;
    let garbage = |entry: &mut eraftpb::Entry, context: &'static str| {
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        entry.context = context.into();
    };
    let mut list: Vec<(&'static str, Message)> =
        [MsgHup, MsgBeat, MsgPropose, MsgUnreachable, MsgSnapStatus, MsgCheckQuorum, MsgTransferLeader]
            .map(|kind| ("only a node itself says this", message(kind, 2, 3)))
            .into();
    list.extend([
        ("for another node", changed(append(2, 3, (5, 3), &[3], 3), |message| message.to = 2)),
        ("from itself", append(1, 3, (5, 3), &[3], 3)),
        ("from nobody", append(0, 3, (5, 3), &[3], 3)),
        ("in no term", append(2, 0, (5, 3), &[3], 3)),
        ("in a huge term", append(2, huge, (5, 3), &[3], 3)),
        ("a huge index", append(2, 3, (huge, 3), &[], 3)),
        ("a huge commit index", append(2, 3, (5, 3), &[3], huge)),
        ("follows on an entry of no term", append(2, 3, (9, 0), &[3], 3)),
        ("follows on no entry in a term", append(2, 3, (0, 1), &[1], 3)),
        ("follows on an entry of a later term", append(2, 3, (5, 4), &[], 3)),
        ("an entry of a later term", append(2, 3, (5, 3), &[4], 3)),
        ("terms fall", append(2, 4, (5, 3), &[4, 3], 3)),
        ("terms fall at once", append(2, 3, (5, 3), &[2], 3)),
        ("an entry of no term", append(2, 3, (5, 3), &[0], 3)),
        ("a hole", sixth(|entry| entry.index = 7)),
        ("a huge entry index", sixth(|entry| entry.index = huge)),
        ("the old form of a change", sixth(|entry| entry.set_entry_type(EntryType::EntryConfChange))),
        ("a change that is none", sixth(|entry| garbage(entry, "garbage"))),
        ("a change of node zero", sixth(|entry| garbage(entry, r#"{"version":1,"steps":[{"remove":{"node":0}}]}"#))),
        ("a change of a later version", sixth(|entry| garbage(entry, r#"{"version":2,"steps":[]}"#))),
        ("a revision that falls", sixth(|entry| entry.context = Bytes::copy_from_slice(&1u64.to_be_bytes()))),
        ("revisions that fall", {
            let mut last = event(7, 3);
            last.context = Bytes::copy_from_slice(&2u64.to_be_bytes());
            with_entries(append(2, 3, (5, 3), &[], 3), vec![event(6, 3), last])
        }),
        ("another committed entry", append(2, 4, (2, 2), &[4], 3)),
        ("counts on lost entries", changed(message(MsgHeartbeat, 2, 3), |message| message.commit = 6)),
        ("a long context", changed(message(MsgHeartbeat, 2, 3), |message| message.context = vec![1; 65].into())),
        ("a commit index of no term", vote(|vote| vote.commit_term = 0)),
        ("a commit term of no index", vote(|vote| vote.commit = 0)),
        ("committed beyond its log", vote(|vote| vote.commit = 10)),
        ("a log of a later term", vote(|vote| vote.log_term = 10)),
        ("a log of no term", vote(|vote| vote.log_term = 0)),
        ("an unknown campaign", vote(|vote| vote.context = Bytes::from_static(b"CampaignOfMine"))),
        ("a read without context", read(MsgReadIndex, 0, &[])),
        ("a read with an empty context", read(MsgReadIndex, 0, &[Bytes::new()])),
        ("a read with two contexts", read(MsgReadIndex, 0, &[read_context(2), read_context(2)])),
        ("a read with another node's context", read(MsgReadIndex, 0, &[read_context(3)])),
        ("a read in a term", read(MsgReadIndex, 3, &[read_context(2)])),
        ("an answer to another node's read", read(MsgReadIndexResp, 3, &[read_context(3)])),
        ("an answer to no read", read(MsgReadIndexResp, 3, &[])),
        ("a snapshot of nothing", snapshot(3, (0, 0))),
        ("a snapshot of no term", snapshot(3, (9, 0))),
        ("a snapshot of a later term", snapshot(3, (9, 4))),
        ("a snapshot of everything", snapshot(3, (huge, 3))),
        ("an append without an anchor", changed(message(MsgAppend, 2, 3), |message| message.index = 4)),
    ]);
    list
}

#[test]
fn a_follower_refuses_what_no_peer_says() {
    let mut hand = Hand::following(3);
    for (what, message) in nonsense() {
        assert!(hand.receive(message.clone()).is_err(), "{what}: {message:?}");
        assert!(hand.sent().is_empty() && hand.state().writes.is_empty(), "{what}");
    }
    let replica = &hand.state().replica;
    assert_eq!((replica.leadership().term.0, replica.last().index, replica.committed()), (3, index(5), index(3)));
}

#[test]
fn a_leader_refuses_what_no_peer_says() {
    let mut hand = Hand::following(3);
    hand.elect();
    hand.write_all();
    hand.sent();
    let term = hand.state().replica.leadership().term.0;
    let last = hand.state().replica.last().index.0;
    let answer = || message(MessageType::MsgAppendResponse, 2, term);
    for (what, message) in [
        ("holds what was never sent", changed(answer(), |message| message.index = last + 1)),
        ("hints at what was never sent", {
            changed(answer(), |message| (message.reject, message.reject_hint) = (true, last + 1))
        }),
        ("hints at everything", changed(answer(), |message| (message.reject, message.reject_hint) = (true, u64::MAX))),
    ] {
        assert!(hand.receive(message).is_err(), "{what}");
    }
    for (what, message) in nonsense() {
        // Some of them are sound, but of an old term.
        drop(hand.receive(message));
        assert!(hand.leads(), "{what}");
    }
    hand.acknowledge(2, last);
    assert_eq!(hand.state().replica.committed(), index(last));
}

#[test]
fn an_alarm_is_raised_when_the_leader_counts_on_entries_that_are_gone() {
    let mut hand = Hand::following(3);
    let heartbeat = changed(message(MessageType::MsgHeartbeat, 2, 3), |message| message.commit = 9);
    let Err(MessageRefused::LogLost { committed, last }) = hand.receive(heartbeat.clone()) else { panic!() };
    assert_eq!((committed, last), (index(9), index(5)));
    assert!(hand.receive(changed(heartbeat, |message| message.term = 2)).is_ok(), "an old leader proves nothing");
}

#[test]
fn what_comes_at_the_wrong_time_is_dropped() {
    use MessageType::{
        MsgAppendResponse, MsgHeartbeatResponse, MsgReadIndex, MsgReadIndexResp, MsgRequestPreVoteResponse,
        MsgRequestVoteResponse, MsgTimeoutNow,
    };
    let mut hand = Hand::following(3);
    let before = hand.state().replica.leadership();
    for message in [
        message(MsgRequestVoteResponse, 2, 3),
        message(MsgRequestPreVoteResponse, 2, 4),
        message(MsgAppendResponse, 2, 3),
        changed(message(MsgAppendResponse, 2, 3), |message| message.index = 99),
        message(MsgHeartbeatResponse, 2, 3),
        message(MsgTimeoutNow, 3, 3),
        message(MsgTimeoutNow, 2, 4),
        message(MsgTimeoutNow, 3, 9),
        read(MsgReadIndex, 0, &[read_context(2)]),
        changed(read(MsgReadIndexResp, 3, &[read_context(1)]), |message| message.from = 3),
        read(MsgReadIndexResp, 4, &[read_context(1)]),
        // Nobody asked for it in this run.
        read(MsgReadIndexResp, 3, &[[1u64, 999, 1].map(u64::to_be_bytes).concat().into()]),
    ] {
        hand.state().replica.receive(message.clone()).unwrap();
        while let Some(output) = hand.state().replica.take_output().unwrap() {
            assert!(output.messages.is_empty() && output.write.is_none(), "{message:?}");
            assert!(output.reads.is_empty() && output.leadership.is_none(), "{message:?}");
        }
        assert_eq!(hand.state().replica.leadership(), before, "{message:?}");
    }
}

#[test]
fn a_snapshot_is_offered_once_it_is_needed() {
    let mut hand = Hand::following(3);
    let mut offer = |message: Message| {
        hand.take(message);
        let offers = std::mem::take(&mut hand.cluster.offers);
        let sent = hand.sent();
        (offers.first().map(|(_, offer)| (offer.from.0, offer.holds.index.0)), sent)
    };
    let (none, sent) = offer(snapshot(3, (3, 2)));
    assert_eq!(none, None, "it is committed here");
    assert_eq!((sent[0].get_msg_type(), sent[0].index), (MessageType::MsgAppendResponse, 3));
    assert_eq!(offer(snapshot(3, (5, 3))).0, None, "the log holds it");
    assert_eq!(offer(snapshot(3, (5, 2))).0, Some((2, 5)), "the log holds another entry");
    assert_eq!(offer(snapshot(3, (9, 3))).0, Some((2, 9)));
    assert_eq!(offer(snapshot(2, (9, 2))).0, None, "nobody leads in that term any more");
    assert!(
        hand.state()
            .replica
            .needs(steeple_engine::ids::LogPosition { term: steeple_engine::ids::Term(3), index: index(9) })
    );
    assert_eq!(hand.state().replica.committed(), index(3), "the replica itself installs nothing");
}

/// A message with random content, mostly near what is true of the replica.
fn random_message(chance: &mut Chance, last: u64, term: u64) -> Message {
    let kind = KINDS[chance.below(KINDS.len())];
    let near = |chance: &mut Chance, number: u64| match chance.below(12) {
        0 => chance.next(),
        1 => u64::MAX - chance.below(2) as u64,
        2 => 0,
        _ => (number + 2).saturating_sub(chance.below(6) as u64),
    };
    let mut message = message(kind, 2 + chance.below(4) as u64, near(chance, term));
    if chance.one_in(40) {
        message.from = chance.below(3) as u64;
    }
    message.index = near(chance, last);
    message.log_term = near(chance, term.saturating_sub(1));
    message.commit = near(chance, last.saturating_sub(1));
    message.commit_term = near(chance, term.saturating_sub(1));
    message.reject = chance.one_in(2);
    message.reject_hint = near(chance, last.saturating_sub(2));
    message.request_snapshot = chance.below(2) as u64 * message.index;
    message.priority = chance.next() as i64;
    if chance.one_in(3) {
        message.context = Bytes::from_static(b"CampaignTransfer");
    }
    let (mut place, mut entry_term) = (message.index, message.log_term);
    for _ in 0..chance.below(4) {
        place = place.wrapping_add(1);
        entry_term = if chance.one_in(6) { near(chance, term) } else { entry_term };
        message.mut_entries().push(random_entry(chance, place, entry_term));
    }
    if matches!(kind, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp) && chance.one_in(2) {
        let reader = if kind == MessageType::MsgReadIndex { message.from } else { 1 };
        let entry = eraftpb::Entry { data: read_context(reader), ..Default::default() };
        message.set_entries(vec![entry].into());
        message.term = if kind == MessageType::MsgReadIndex { 0 } else { message.term };
    }
    let position = (near(chance, last), near(chance, term));
    let metadata = message.mut_snapshot().mut_metadata();
    (metadata.index, metadata.term) = position;
    message
}

fn random_entry(chance: &mut Chance, place: u64, term: u64) -> eraftpb::Entry {
    let node = 1 + chance.below(6) as u64;
    match chance.below(12) {
        0 => change_entry(place, term, vec![Step::Remove { node }]),
        1 => change_entry(place, term, vec![Step::Voter { node, member: None }]),
        2 => {
            change_entry(place, term, vec![Step::Learner { node, member: None }, Step::Voter { node: 5, member: None }])
        }
        3 => change_entry(place, term, vec![Step::Address { node, member: member(9) }]),
        4 => changed_entry(change_entry(place, term, Vec::new()), |entry| entry.context = Bytes::new()),
        5 => eraftpb::Entry { index: place, term, ..Default::default() },
        6 => changed_entry(event(place, term), |entry| entry.context = Bytes::new()),
        7 => changed_entry(event(place, term), |entry| entry.set_entry_type(EntryType::EntryConfChangeV2)),
        _ => event(place, term),
    }
}

fn changed_entry(mut entry: eraftpb::Entry, change: impl FnOnce(&mut eraftpb::Entry)) -> eraftpb::Entry {
    change(&mut entry);
    entry
}

/// What a peer would say in truth, with one thing changed.
fn mutated(chance: &mut Chance, mut message: Message) -> Message {
    let number = match chance.below(3) {
        0 => chance.next(),
        1 => 0,
        _ => chance.below(30) as u64,
    };
    match chance.below(10) {
        0 => message.term = number,
        1 => message.index = number,
        2 => message.log_term = number,
        3 => message.commit = number,
        4 => message.commit_term = number,
        5 => message.reject_hint = number,
        6 => message.reject = !message.reject,
        7 => message.set_msg_type(KINDS[chance.below(KINDS.len())]),
        8 if !message.get_entries().is_empty() => {
            let place = chance.below(message.get_entries().len());
            let entry = &mut message.mut_entries()[place];
            match chance.below(4) {
                0 => entry.index = number,
                1 => entry.term = number,
                2 => entry.context = Bytes::from_static(b"{\"version\":1}"),
                _ => entry.set_entry_type(EntryType::EntryConfChangeV2),
            }
        }
        _ => message.context = vec![0; chance.below(80)].into(),
    }
    message
}

/// Tells a lone copy of a node whatever comes to mind, and lets it go on in between.
fn torment(node: Node, overheard: &[Message], chance: &mut Chance, steps: usize) {
    let mut cluster = Cluster::founded(1, chance.next());
    let id = node.id.0;
    cluster.nodes.clear();
    // Whoever lies may also say truly different things about what is committed.
    cluster.leaders.clear();
    cluster.nodes.insert(id, node);
    cluster.start(id);
    for _ in 0..steps {
        match chance.below(16) {
            0..9 => {
                let replica = &cluster.running(id).replica;
                let (last, term) = (replica.last().index.0, replica.leadership().term.0);
                let mut message = match chance.pick(&(0..overheard.len()).collect::<Vec<_>>()) {
                    Some(place) if chance.one_in(2) => mutated(chance, overheard[place].clone()),
                    _ => random_message(chance, last, term),
                };
                if message.to == 1 {
                    message.to = id;
                }
                // What is refused is refused.
                drop(cluster.running(id).replica.receive(message));
                if !chance.one_in(4) {
                    cluster.drain(id);
                }
            }
            9..11 => cluster.tick(id),
            11..13 => cluster.running(id).write(1 + chance.below(2)),
            13 => {
                cluster.running(id).report_written();
                cluster.drain(id);
            }
            14 => drop(cluster.propose(id)),
            _ if chance.one_in(6) => {
                cluster.crash(id);
                // The commit index need not be durable, and a liar may then say that something else was committed.
                cluster.committed.clear();
                cluster.start(id);
            }
            _ => cluster.read(id),
        }
        cluster.network.clear();
        cluster.offers.clear();
    }
}

#[test]
fn no_message_makes_a_replica_panic() {
    let mut chance = Chance::new(4_711);
    for seed in 0..150 {
        eprintln!("seed {seed}");
        let mut cluster = Cluster::founded(1 + seed % 3, seed);
        let mut overheard = Vec::new();
        for _ in 0..chance.below(40) {
            for id in cluster.running_ids() {
                cluster.propose(id);
            }
            overheard.extend(cluster.network.iter().cloned());
            cluster.round();
        }
        let id = chance.below(cluster.nodes.len()) as u64 + 1;
        cluster.flush(id, 5);
        let mut node = cluster.nodes.remove(&id).unwrap();
        let loss = steeple_engine::disk::simulated::CrashLoss::Everything;
        node.crash(loss, seed);
        torment(node, &overheard, &mut chance, 1_500);
    }
}
