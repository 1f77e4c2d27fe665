//! What `docs/raft.md` says of the consensus crate is true of the version in use.
//!
//! Each test shows a fault that the driver keeps from happening. One that fails after an upgrade is good news: the rule
//! that goes with it may no longer be needed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use raft::eraftpb::{ConfChange, ConfChangeType, ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};

fn node(id: u64, voters: &[u64]) -> RawNode<MemStorage> {
    let mut state = ConfState::default();
    state.set_voters(voters.to_vec());
    let storage = MemStorage::new_with_conf_state(state);
    let config = Config { id, check_quorum: true, pre_vote: true, ..Config::default() };
    RawNode::new(&config, storage, &slog::Logger::root(slog::Discard, slog::o!())).unwrap()
}

fn message(kind: MessageType, from: u64, to: u64, term: u64) -> Message {
    let mut message = Message::default();
    message.set_msg_type(kind);
    message.from = from;
    message.to = to;
    message.term = term;
    message
}

fn entries(index: u64, terms: &[u64]) -> Vec<Entry> {
    let numbered = (index..).zip(terms);
    numbered.map(|(index, term)| Entry { index, term: *term, data: vec![1].into(), ..Entry::default() }).collect()
}

/// An append of entries behind a position.
fn append(from: u64, term: u64, behind: (u64, u64), terms: &[u64]) -> Message {
    let mut message = message(MessageType::MsgAppend, from, 2, term);
    (message.index, message.log_term) = behind;
    message.set_entries(entries(behind.0 + 1, terms).into());
    message
}

/// Takes what is ready; it can be read at once and is durable later. Answers its number.
fn hand_out(node: &mut RawNode<MemStorage>) -> u64 {
    let mut ready = node.ready();
    let number = ready.number();
    drop((ready.take_messages(), ready.take_persisted_messages(), ready.take_committed_entries()));
    let entries = ready.take_entries();
    node.mut_store().wl().append(&entries).unwrap();
    if let Some(state) = ready.hs() {
        node.mut_store().wl().set_hardstate(state.clone());
    }
    node.advance_append_async(ready);
    number
}

/// Takes what is ready, all of it durable and applied.
fn settle(node: &mut RawNode<MemStorage>) {
    while node.has_ready() {
        let number = hand_out(node);
        node.on_persist_ready(number);
        node.advance_apply();
    }
}

/// Node 1 leads these voters.
fn leader(voters: &[u64]) -> RawNode<MemStorage> {
    let mut node = node(1, voters);
    node.campaign().unwrap();
    settle(&mut node);
    for voter in voters.iter().filter(|voter| **voter != 1) {
        for kind in [MessageType::MsgRequestPreVoteResponse, MessageType::MsgRequestVoteResponse] {
            drop(node.step(message(kind, *voter, 1, 1)));
            settle(&mut node);
        }
    }
    assert_eq!(node.raft.state, StateRole::Leader);
    node
}

fn remove(node: &mut RawNode<MemStorage>, id: u64) {
    let mut change = ConfChange::default();
    change.set_change_type(ConfChangeType::RemoveNode);
    change.node_id = id;
    node.apply_conf_change(&change).unwrap();
}

fn panics(action: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

#[test]
fn a_removed_leader_panics_over_its_own_write() {
    let mut node = leader(&[1, 2, 3]);
    node.propose(Vec::new(), vec![1]).unwrap();
    let number = hand_out(&mut node);
    remove(&mut node, 1);
    assert_eq!(node.raft.state, StateRole::Leader, "it goes on leading");
    assert!(panics(|| node.on_persist_ready(number)));
}

#[test]
fn a_removed_leader_answers_reads_by_itself() {
    let mut node = leader(&[1, 2]);
    let mut acknowledged = message(MessageType::MsgAppendResponse, 2, 1, node.raft.term);
    acknowledged.index = node.raft.raft_log.last_index();
    node.step(acknowledged).unwrap();
    settle(&mut node);
    remove(&mut node, 1);
    node.read_index(vec![7]);
    assert_eq!(node.ready().read_states().len(), 1, "without having asked anybody");
}

#[test]
fn a_write_that_is_about_to_be_replaced_is_counted() {
    let mut node = node(2, &[1, 2, 3]);
    node.step(append(1, 2, (0, 0), &[2])).unwrap();
    let first = hand_out(&mut node);
    node.step(append(3, 3, (0, 0), &[3])).unwrap();
    hand_out(&mut node);
    let mut again = append(1, 4, (0, 0), &[2]);
    again.term = 4;
    node.step(again).unwrap();
    hand_out(&mut node);
    // The disk holds the first write; the second is about to take its place, and the third to take that one's.
    node.on_persist_ready(first);
    assert_eq!(node.raft.raft_log.persisted, 1);
}

#[test]
fn a_lone_voter_panics_while_a_write_is_in_flight() {
    let mut node = node(2, &[1, 2]);
    node.step(append(1, 2, (0, 0), &[2])).unwrap();
    hand_out(&mut node);
    remove(&mut node, 1);
    assert!(panics(|| drop(node.campaign())));
}

#[test]
fn a_vote_before_its_time_panics() {
    let mut node = node(2, &[1, 2, 3]);
    node.step(append(1, 2, (0, 0), &[2])).unwrap();
    hand_out(&mut node);
    node.campaign().unwrap();
    let early = |kind| message(kind, 3, 2, 3);
    assert!(panics(|| {
        drop(node.step(early(MessageType::MsgRequestPreVoteResponse)));
        drop(node.step(early(MessageType::MsgRequestVoteResponse)));
    }));
}

#[test]
fn an_append_behind_nothing_is_acknowledged() {
    let mut node = node(2, &[1, 2, 3]);
    node.step(append(1, 2, (50, 0), &[])).unwrap();
    let mut ready = node.ready();
    let answers = ready.take_persisted_messages();
    let answer = answers.iter().find(|answer| answer.get_msg_type() == MessageType::MsgAppendResponse).unwrap();
    assert!(!answer.reject && answer.index == 50, "{answer:?} by a node with an empty log");
}

#[test]
fn malformed_messages_panic() {
    let fresh = || node(2, &[1, 2, 3]);
    let mut ahead = message(MessageType::MsgHeartbeat, 1, 2, 1);
    ahead.commit = 9;
    assert!(panics(|| drop(fresh().step(ahead))), "a commit index beyond the log");
    let mut gap = append(1, 1, (0, 0), &[1, 1]);
    gap.mut_entries()[1].index = 7;
    let mut behind = fresh();
    behind.step(append(1, 1, (0, 0), &[1])).unwrap();
    assert!(panics(|| drop(behind.step(gap.clone()))), "entries with a gap");
    let vote = message(MessageType::MsgRequestVote, 1, 2, 0);
    assert!(panics(|| drop(fresh().step(vote))), "a vote without a term");
    let mut reading = leader(&[1, 2, 3]);
    let mut acknowledged = message(MessageType::MsgAppendResponse, 2, 1, reading.raft.term);
    acknowledged.index = reading.raft.raft_log.last_index();
    reading.step(acknowledged).unwrap();
    let empty = message(MessageType::MsgReadIndex, 2, 1, 0);
    assert!(panics(|| drop(reading.step(empty))), "a read without a context");
}

#[test]
fn a_change_of_members_turns_into_an_empty_entry() {
    let mut node = leader(&[1, 2, 3]);
    let mut change = ConfChange::default();
    change.set_change_type(ConfChangeType::RemoveNode);
    change.node_id = 3;
    node.propose_conf_change(Vec::new(), change.clone()).unwrap();
    node.propose_conf_change(Vec::new(), change).unwrap();
    let last = node.ready().take_entries().pop().unwrap();
    assert!(last.data.is_empty() && last.get_entry_type() == raft::eraftpb::EntryType::EntryNormal, "{last:?}");
}
