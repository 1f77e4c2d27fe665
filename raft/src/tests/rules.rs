//! What the consensus crate does not survive, or gets wrong, and is therefore kept from it (`docs/raft.md`).

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::{Message, MessageType};
use steeple_engine::ids::{LogIndex, NodeId, Term};
use steeple_engine::log::{EntryKind, HardState, SEGMENT_HEADER_BYTES};

use crate::membership::{Membership, MembershipChange, Step};
use crate::replica::{ProposalRefused, Replica, ReplicaError, TransferRefused};

use super::cluster::{Cluster, member, open_log, replica_options};
use super::hand::{Hand, append, change_entry, granted, index, message, with_entries};

fn propose(hand: &mut Hand, tag: u64) -> Result<(), ProposalRefused> {
    let proposed = hand.state().replica.propose(EntryKind::Event, tag, Bytes::from_static(b"event"));
    hand.cluster.drain(1);
    proposed.map(drop)
}

/// A leader that folds a change which takes its own vote, proposed by its predecessor.
fn deposed(voters: u64, steps: Vec<Step>) -> Hand {
    let mut hand = Hand::of(voters);
    let entries = vec![super::hand::event(2, 2), change_entry(3, 2, steps)];
    hand.take(with_entries(append(2, 2, (1, 1), &[], 1), entries));
    hand.write_all();
    hand.elect();
    hand.write_all();
    propose(&mut hand, 5).unwrap();
    for node in 2..=voters {
        hand.acknowledge(node, 4);
    }
    assert_eq!(hand.state().replica.committed(), index(4));
    propose(&mut hand, 6).unwrap();
    assert!(hand.state().writes.len() >= 3, "an entry, the state that covers the change, another entry");
    hand.write(2);
    assert_eq!(hand.state().folded.position.index, index(4));
    assert!(!hand.leads(), "it leads no more");
    // The last entry becomes durable: the consensus crate would look for its own progress, which is gone.
    hand.write_all();
    hand
}

#[test]
fn a_leader_that_folds_its_own_removal_leads_no_more() {
    for steps in [
        vec![Step::Remove { node: 1 }],
        vec![Step::Learner { node: 1, member: None }],
        vec![Step::Voter { node: 4, member: Some(member(4)) }, Step::Remove { node: 1 }],
    ] {
        let is_simple = steps.len() == 1;
        let mut hand = deposed(3, steps);
        assert_eq!(propose(&mut hand, 9), Err(ProposalRefused::NotLeader));
        hand.sent();
        hand.tick(100);
        hand.write_all();
        let asks = |message: &Message| message.get_msg_type() == MessageType::MsgRequestPreVote;
        // In a joint configuration its vote still counts.
        assert_eq!(hand.sent().iter().any(asks), !is_simple);
    }
}

#[test]
fn a_leader_that_was_removed_answers_no_reads_on_its_own_word() {
    let mut hand = deposed(2, vec![Step::Remove { node: 1 }]);
    assert_eq!(hand.state().folded.membership.voters.iter().copied().collect::<Vec<_>>(), [2]);
    hand.state().replica.read_index(77);
    while let Some(output) = hand.state().replica.take_output().unwrap() {
        assert!(output.reads.is_empty(), "node 2 may have gone on without it");
    }
}

#[test]
fn a_write_that_is_about_to_be_replaced_does_not_count_as_durable() {
    let mut hand = Hand::of(3);
    hand.take(append(2, 2, (1, 1), &[2], 1));
    hand.take(append(3, 3, (1, 1), &[3], 1));
    hand.take(append(2, 4, (1, 1), &[2], 2));
    assert_eq!(hand.state().replica.committed(), index(2));
    assert_eq!(hand.state().writes.len(), 3, "the same entry, another one, and the first again");
    for _ in 0..2 {
        hand.write(1);
        assert_eq!(hand.state().folded.position.index, index(1), "a crash would leave the other entry");
    }
    hand.write(1);
    assert_eq!(hand.state().folded.position.index, index(2));
}

#[test]
fn a_write_waits_for_a_later_one_that_replaces_its_end() {
    let mut hand = Hand::of(3);
    hand.take(append(2, 2, (1, 1), &[2, 2, 2], 1));
    hand.take(append(3, 3, (2, 2), &[3], 2));
    hand.write(1);
    let acknowledged = |message: &Message| message.get_msg_type() == MessageType::MsgAppendResponse;
    assert!(!hand.sent().iter().any(acknowledged));
    hand.write(1);
    assert_eq!(hand.sent().iter().filter(|message| acknowledged(message)).count(), 2);
    assert_eq!(hand.state().folded.position.index, index(2));
}

/// Nothing elects it while an entry is on its way to the disk, and then it elects itself.
fn check_alone(mut hand: Hand, next: u64) {
    hand.take(append(9, 5, (next - 1, 3), &[5], next - 1));
    assert!(!hand.state().writes.is_empty());
    hand.tick(100);
    hand.state().replica.campaign();
    hand.cluster.drain(1);
    hand.take(message(MessageType::MsgTimeoutNow, 9, 5));
    assert!(!hand.leads());
    hand.write_all();
    hand.tick(100);
    assert!(hand.leads());
    hand.write_all();
    assert!(hand.state().folded.position.index > index(next));
}

#[test]
fn a_lone_voter_is_not_elected_while_it_writes() {
    let mut hand = Hand::of(1);
    hand.take(append(9, 3, (1, 1), &[3], 2));
    hand.write_all();
    check_alone(hand, 3);
}

#[test]
fn a_lone_voter_that_is_joint_with_itself_is_not_elected_while_it_writes() {
    let mut hand = Hand::of(1);
    let learners = [2, 3].map(|node| Step::Learner { node, member: Some(member(node)) });
    let joint = change_entry(2, 3, learners.to_vec());
    hand.take(with_entries(append(9, 3, (1, 1), &[], 2), vec![joint]));
    hand.write_all();
    let membership = &hand.state().folded.membership;
    assert_eq!((membership.voters.len(), membership.voters_outgoing.len()), (1, 1));
    check_alone(hand, 3);
}

#[test]
fn a_lone_voter_is_not_elected_before_a_vote_for_another_node_is_durable() {
    let mut hand = Hand::of(1);
    let mut asks = message(MessageType::MsgRequestVote, 9, 5);
    (asks.index, asks.log_term) = (1, 1);
    // Not even handed out.
    hand.state().replica.receive(asks).unwrap();
    for _ in 0..100 {
        hand.state().replica.tick();
    }
    hand.cluster.drain(1);
    assert!(hand.sent().is_empty() && !hand.leads());
    hand.write_all();
    assert_eq!(hand.sent().len(), 1);
}

#[test]
fn whoever_goes_on_from_what_was_handed_out_promises_again_what_was_not() {
    let mut hand = Hand::of(3);
    let mut asks = message(MessageType::MsgRequestVote, 2, 9);
    (asks.index, asks.log_term) = (1, 1);
    let before = hand.state().replica.handed_out();
    hand.state().replica.receive(asks.clone()).unwrap();
    assert_eq!(hand.state().replica.handed_out(), before, "the vote is not yet on its way to the disk");

    hand.go_on_from(before);
    hand.take(asks);
    let write = hand.state().writes.front().expect("the vote is written before it is sent");
    assert_eq!(write.hard_state.map(|state| (state.term, state.vote)), Some((Term(9), Some(NodeId(2)))));
    assert!(hand.sent().is_empty());
    let promised = hand.state().replica.handed_out();
    assert_eq!((promised.term, promised.vote), (Term(9), Some(NodeId(2))));
    hand.write_all();
    assert_eq!(hand.sent().len(), 1);
}

#[test]
fn a_commit_index_is_not_promised_before_the_entries_that_it_covers() {
    let mut hand = Hand::of(3);
    let change = change_entry(4, 2, vec![Step::Learner { node: 4, member: Some(member(4)) }]);
    let mut entries: Vec<_> = [2, 3].map(|at| super::hand::event(at, 2)).into();
    entries.push(change);
    entries.extend((5..=10).map(|at| super::hand::event(at, 2)));
    hand.take(with_entries(append(2, 2, (1, 1), &[], 1), entries));
    hand.write_all();

    // Another leader keeps the change and replaces what came after it; all that is committed.
    hand.take(append(3, 3, (4, 2), &[3, 3, 3, 3], 8));
    let write = hand.state().writes.front().expect("the term and the entries are written");
    assert_eq!(write.entries.first().map(|entry| entry.position.index), Some(index(5)));
    let state = write.hard_state.expect("a change of members is covered by a durable commit index");
    assert_eq!((state.term, state.commit), (Term(3), index(4)), "the old entries 5 to 8 are not taken for committed");
    assert_eq!(hand.state().replica.committed(), index(8));
    hand.write_all();
    assert_eq!(hand.state().folded.position.index, index(8));
}

#[test]
fn a_change_that_is_committed_is_known_to_be_by_who_confirms_what_follows_on_it() {
    for (commit, expected) in [(1, None), (2, Some(index(2)))] {
        let mut hand = Hand::of(3);
        let change = change_entry(2, 2, vec![Step::Learner { node: 4, member: Some(member(4)) }]);
        // The leader may have folded the change, which is new here, and sends what follows with it.
        let entries = vec![change, super::hand::event(3, 2)];
        hand.take(with_entries(append(2, 2, (1, 1), &[], commit), entries));
        let write = hand.state().writes.front().expect("the entries are written");
        assert_eq!((write.committed, write.entries.len()), (expected, 2));
        hand.write_all();
        assert_eq!(hand.state().replica.committed(), index(commit));
    }
}

#[test]
fn a_vote_counts_only_when_the_own_one_is_durable() {
    let mut hand = Hand::of(3);
    let asked = hand.until_it_asks(MessageType::MsgRequestPreVote);
    let mut vote = granted(&asked).unwrap();
    // Neither handed out nor written, then handed out, then written.
    hand.state().replica.receive(vote.clone()).unwrap();
    vote.set_msg_type(MessageType::MsgRequestVoteResponse);
    hand.state().replica.receive(vote.clone()).unwrap();
    hand.cluster.drain(1);
    assert!(!hand.leads() && hand.state().writes.len() == 1);
    hand.take(vote.clone());
    assert!(!hand.leads() && hand.sent().is_empty());
    hand.write_all();
    assert_eq!(hand.sent().len(), 2, "it asks both");
    hand.take(vote);
    assert!(hand.leads());
}

#[test]
fn a_log_that_cannot_be_read_is_an_error_and_no_panic() {
    let mut hand = Hand::following(3);
    hand.cluster.flush(1, 0);
    let disk = hand.cluster.nodes[&1].disk.duplicate();
    let node = hand.cluster.nodes.get_mut(&1).unwrap();
    node.running = None;
    node.disk = disk.clone();
    hand.cluster.start(1);
    hand.elect();
    hand.write_all();
    // Somewhere in the entries after the first.
    let first = hand.state().log.read(LogIndex(1)).unwrap().unwrap().payload.len() as u64;
    assert!(disk.flip("segment-0000000000000001", SEGMENT_HEADER_BYTES as u64 + first + 130, 0xff));
    let mut rejects = message(MessageType::MsgAppendResponse, 2, hand.state().replica.leadership().term.0);
    (rejects.index, rejects.reject, rejects.reject_hint, rejects.log_term) = (5, true, 1, 1);
    hand.state().replica.receive(rejects).unwrap();
    assert!(matches!(hand.state().replica.take_output(), Err(ReplicaError::Log(_))));
}

#[test]
fn a_replica_starts_from_a_view_that_is_ahead_of_the_commit_index_but_not_of_the_log() {
    let mut hand = Hand::following(3);
    let membership = hand.state().folded.membership.clone();
    let disk = hand.cluster.nodes[&1].disk.duplicate();
    let (_writer, log) = open_log(&disk, NodeId(1));
    let start = |state: HardState, folded: u64, membership: Membership| {
        Replica::new(NodeId(1), replica_options(), log.clone(), state, LogIndex(folded), membership, 9)
    };
    let state = HardState { term: Term(3), vote: None, commit: LogIndex(1) };
    let mut replica = start(state, 3, membership.clone()).unwrap();
    assert_eq!(replica.committed(), index(3));
    assert!(replica.take_output().unwrap().is_none(), "nothing is folded twice");
    assert!(matches!(start(state, 6, membership.clone()), Err(ReplicaError::Apart { .. })));
    let beyond = HardState { commit: LogIndex(99), ..state };
    assert_eq!(start(beyond, 3, membership.clone()).unwrap().committed(), index(5));

    let mut contradiction = membership.clone();
    contradiction.learners.insert(2);
    assert!(matches!(start(state, 3, contradiction), Err(ReplicaError::Membership(_))));
}

#[test]
fn a_replica_over_an_installed_snapshot_speaks_in_its_term() {
    let disk = steeple_engine::disk::SimulatedDisk::new();
    let (mut writer, log) = open_log(&disk, NodeId(1));
    let position = steeple_engine::ids::LogPosition { term: Term(4), index: LogIndex(10) };
    writer.reset_to(position, 3).unwrap();
    let membership = Membership::of_voters(BTreeMap::from([(2, member(2)), (3, member(3))]));
    let start = |folded| {
        let state = HardState { term: Term(0), vote: Some(NodeId(3)), commit: LogIndex(0) };
        Replica::new(NodeId(1), replica_options(), log.clone(), state, LogIndex(folded), membership.clone(), 1)
    };
    assert!(matches!(start(9), Err(ReplicaError::Apart { .. })), "entry 10 is not there to be folded");
    let mut replica = start(10).unwrap();
    assert_eq!((replica.leadership().term, replica.committed()), (Term(4), index(10)));
    // A refusal in term 0 would be the end of it.
    let mut asks = message(MessageType::MsgRequestPreVote, 2, 1);
    (asks.index, asks.log_term) = (1, 1);
    replica.receive(asks).unwrap();
    let write = replica.take_output().unwrap().unwrap().write.unwrap();
    assert_eq!(write.hard_state.unwrap(), HardState { term: Term(4), vote: None, commit: index(10) });
    replica.persisted(write.number);
    let refusal = replica.take_output().unwrap().unwrap().messages;
    assert!(refusal[0].reject && refusal[0].term == 4, "{refusal:?}");
}

#[test]
fn changes_that_cannot_be_carried_out_do_not_reach_the_log() {
    let mut cluster = Cluster::founded(3, 5);
    cluster.settle();
    let leader = cluster.leader().unwrap();
    let other = leader % 3 + 1;
    let last = cluster.running(leader).replica.last();
    let long = crate::Member { peer_address: "x".repeat(1_000), client_address: String::new() };
    let many = (10..80).map(|node| Step::Learner { node, member: None }).collect();
    let everybody = (1..=3).map(|node| Step::Remove { node }).collect();
    for (steps, refusal) in [
        (vec![], ProposalRefused::Senseless),
        (vec![Step::Voter { node: 0, member: None }], ProposalRefused::Senseless),
        (vec![Step::Voter { node: other, member: None }], ProposalRefused::Senseless),
        (vec![Step::Remove { node: 77 }], ProposalRefused::Senseless),
        (vec![Step::Address { node: 77, member: member(77) }], ProposalRefused::Senseless),
        (vec![Step::Address { node: other, member: long }], ProposalRefused::Senseless),
        (many, ProposalRefused::Senseless),
        (everybody, ProposalRefused::NobodyVotes),
        (vec![Step::Remove { node: leader }], ProposalRefused::Leads(NodeId(leader))),
        (vec![Step::Learner { node: leader, member: None }], ProposalRefused::Leads(NodeId(leader))),
    ] {
        let change = MembershipChange::of(steps);
        assert_eq!(cluster.running(leader).replica.change_members(&change), Err(refusal), "{change:?}");
        cluster.drain(leader);
        assert_eq!(cluster.running(leader).replica.last(), last);
    }
}

#[test]
fn a_leader_is_removed_after_it_has_handed_over() {
    let mut cluster = Cluster::founded(3, 6);
    cluster.settle();
    let leader = cluster.leader().unwrap();
    let next = leader % 3 + 1;
    cluster.running(leader).replica.transfer_leadership(NodeId(next)).unwrap();
    assert_eq!(cluster.propose(leader), None, "what is proposed now might be lost");
    cluster.drain(leader);
    for _ in 0..5 {
        cluster.round();
    }
    assert_eq!(cluster.leader(), Some(next));
    let change = MembershipChange::of(vec![Step::Remove { node: leader }]);
    cluster.running(next).replica.change_members(&change).unwrap();
    cluster.drain(next);
    cluster.settle();
    assert_eq!(cluster.running(next).folded.membership.voters.len(), 2);
}

#[test]
fn who_has_answered_lately_is_not_forgotten_once_in_an_election_timeout() {
    let mut hand = Hand::of(3);
    hand.elect();
    let term = hand.state().replica.leadership().term.0;
    let active = |hand: &mut Hand| -> Vec<bool> {
        hand.state().replica.progress().iter().map(|progress| progress.active).collect()
    };
    let election_ticks = replica_options().election_ticks;
    for _ in 0..4 * election_ticks {
        for other in [2, 3] {
            hand.take(message(MessageType::MsgHeartbeatResponse, other, term));
        }
        hand.tick(1);
        assert_eq!(active(&mut hand), [true, true]);
    }
    // From now on node 3 cannot be reached: it asks for votes, and answers nothing but what it was asked long ago.
    for passed in 1..3 * election_ticks {
        hand.take(message(MessageType::MsgHeartbeatResponse, 2, term));
        hand.take(message(MessageType::MsgHeartbeatResponse, 3, term - 1));
        hand.take(message(MessageType::MsgRequestPreVote, 3, term + 1));
        hand.tick(1);
        assert_eq!(active(&mut hand), [true, passed < election_ticks], "{passed}");
    }
    let refused = hand.state().replica.transfer_leadership(NodeId(3)).unwrap_err();
    assert!(matches!(refused, TransferRefused::Unreachable(NodeId(3))), "{refused}");
    assert!(hand.leads());
    // Another leadership begins with nobody who has answered, however soon: here node 2 hands it back at once.
    assert_eq!(active(&mut hand), [true, false]);
    hand.take(message(MessageType::MsgHeartbeat, 2, term + 1));
    hand.write_all();
    hand.take(message(MessageType::MsgTimeoutNow, 2, term + 1));
    hand.write_all();
    hand.take(message(MessageType::MsgRequestVoteResponse, 2, term + 2));
    hand.write_all();
    assert!(hand.leads());
    assert_eq!(active(&mut hand), [false, false]);
}

#[test]
fn a_joint_configuration_is_left_after_a_transfer_that_fails() {
    let mut cluster = Cluster::founded(3, 7);
    cluster.settle();
    let leader = cluster.leader().unwrap();
    let (other, gone) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let learner = cluster.add_empty();
    let steps = vec![
        Step::Learner { node: learner, member: Some(member(learner)) },
        Step::Learner { node: gone, member: None },
    ];
    let change = MembershipChange::of(steps);
    cluster.running(leader).replica.change_members(&change).unwrap();
    cluster.drain(leader);
    // The transfer begins before the change is folded, and its goal is never heard of again.
    cluster.running(leader).replica.transfer_leadership(NodeId(other)).unwrap();
    cluster.blocked.extend([(leader, other), (other, leader)]);
    for _ in 0..40 {
        cluster.round();
    }
    cluster.settle();
    let leader = cluster.leader().unwrap();
    assert!(cluster.running(leader).folded.membership.voters_outgoing.is_empty());
}

#[test]
fn a_founding_change_ends_a_joint_configuration() {
    let start = Membership::of_voters((1..=3).map(|node| (node, member(node))).collect());
    let steps = vec![Step::Voter { node: 4, member: Some(member(4)) }, Step::Learner { node: 3, member: None }];
    let joint = start.after_entry(&MembershipChange::of(steps).encode()).unwrap();
    assert_eq!((joint.voters_outgoing.len(), joint.learners_next.len()), (3, 1));
    let alone = MembershipChange::founding(BTreeMap::from([(2, member(20))]));
    let after = joint.after_entry(&alone.encode()).unwrap();
    assert_eq!(after, Membership::of_voters(BTreeMap::from([(2, member(20))])));
}

#[test]
fn a_replica_that_must_not_lead_votes_and_confirms_and_does_not_stand() {
    let mut hand = Hand::following(3);
    hand.state().replica.abstain(true);
    hand.take(message(MessageType::MsgTimeoutNow, 2, 3));
    hand.tick(200);
    hand.state().replica.campaign();
    hand.write_all();
    let asks = |message: &Message| {
        matches!(message.get_msg_type(), MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
    };
    assert!(!hand.sent().iter().any(asks));
    assert_eq!(hand.state().replica.leadership().leader, None, "the leader is gone");
    hand.take(append(2, 4, (5, 3), &[4], 6));
    hand.write_all();
    assert_eq!(hand.state().folded.position.index, index(6), "it goes on with another leader");
    hand.state().replica.abstain(false);
    hand.until_it_asks(MessageType::MsgRequestPreVote);
}

#[test]
fn a_leader_that_must_not_lead_stops_at_once() {
    let mut hand = Hand::of(3);
    hand.elect();
    hand.state().replica.abstain(true);
    hand.cluster.drain(1);
    assert!(!hand.leads());
    assert_eq!(propose(&mut hand, 9), Err(ProposalRefused::NotLeader));
}

#[test]
fn what_is_committed_is_told_with_the_next_entries_or_when_it_is_asked_for_or_with_a_tick() {
    let mut hand = Hand::of(3);
    hand.elect();
    hand.write_all();
    let commit = |hand: &mut Hand| {
        let last = hand.state().replica.last().index;
        for node in 2..=3 {
            hand.acknowledge(node, last.0);
        }
        assert_eq!(hand.state().replica.committed(), last);
        last
    };
    let told = |hand: &mut Hand| {
        let appends = |message: &Message| message.get_msg_type() == MessageType::MsgAppend;
        let sent = hand.sent().into_iter().filter(appends);
        sent.map(|message| (message.to, message.entries.len(), index(message.commit))).collect::<Vec<_>>()
    };
    commit(&mut hand);
    hand.state().replica.spread_news();
    hand.cluster.drain(1);
    told(&mut hand);
    assert!(!hand.state().replica.has_news());

    propose(&mut hand, 5).unwrap();
    hand.write_all();
    told(&mut hand);
    let first = commit(&mut hand);
    assert_eq!(told(&mut hand), [], "each message would wake a node");
    assert!(hand.state().replica.has_news());
    propose(&mut hand, 6).unwrap();
    assert_eq!(told(&mut hand), [(2, 1, first), (3, 1, first)]);
    assert!(!hand.state().replica.has_news());

    hand.write_all();
    let second = commit(&mut hand);
    hand.state().replica.spread_news();
    hand.cluster.drain(1);
    assert_eq!(told(&mut hand), [(2, 0, second), (3, 0, second)]);
    hand.state().replica.spread_news();
    hand.cluster.drain(1);
    assert_eq!(told(&mut hand), [], "they were told");

    propose(&mut hand, 7).unwrap();
    hand.write_all();
    told(&mut hand);
    let third = commit(&mut hand);
    hand.tick(1);
    assert_eq!(told(&mut hand), [(2, 0, third), (3, 0, third)]);
}

#[test]
fn a_note_covers_only_what_is_on_the_disk() {
    let mut hand = Hand::of(3);
    let (before, term) = (hand.state().replica.durable_commit(), hand.state().replica.handed_out().term.0);
    hand.take(append(2, term, (1, 1), &[term], 2));
    assert_eq!(hand.state().replica.committed(), index(2));
    assert_eq!(hand.state().replica.durable_commit(), before, "the entry is still being written");
    hand.write_all();
    assert_eq!(hand.state().replica.durable_commit(), index(2));
}

#[test]
fn whoever_hears_no_answer_asks_again_before_another_election_timeout() {
    let mut hand = Hand::following(3);
    let asked = hand.until_it_asks(MessageType::MsgRequestPreVote);
    let heartbeat_ticks = replica_options().heartbeat_ticks;
    for _ in 0..3 {
        hand.tick(heartbeat_ticks - 1);
        assert_eq!(hand.sent(), []);
        hand.tick(1);
        let again = hand.sent();
        assert_eq!(again.iter().map(|message| message.to).collect::<Vec<_>>(), [2, 3]);
        assert!(again.iter().all(|message| message.get_msg_type() == MessageType::MsgRequestPreVote));
        assert!(again.iter().all(|message| message.term == asked.term), "the term has not changed");
    }
    // Whoever says no has said it, and is not asked over and over.
    for other in [2, 3] {
        let mut refused = message(MessageType::MsgRequestPreVoteResponse, other, 3);
        refused.reject = true;
        hand.take(refused);
    }
    hand.tick(replica_options().election_ticks - 1);
    assert_eq!(hand.sent(), []);
    hand.until_it_asks(MessageType::MsgRequestPreVote);
}
