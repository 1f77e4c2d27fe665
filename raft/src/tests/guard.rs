//! The guard of votes, and what a lease may stand on.

use std::time::Duration;

use raft::eraftpb::{Message, MessageType};
use steeple_engine::ids::NodeId;

use crate::membership::Step;
use crate::replica::LeaseGround;

use super::cluster::member;
use super::hand::{Hand, append, change_entry, granted, message, with_entries};

const GUARDED: Duration = Duration::from_millis(600);

const fn at(milliseconds: u64) -> Duration {
    Duration::from_millis(10_000 + milliseconds)
}

/// Node 2 asks for something in term 9, with as much in its log as anybody has.
fn asks(kind: MessageType) -> Message {
    let mut asks = message(kind, 2, 9);
    (asks.index, asks.log_term) = (100, 8);
    asks
}

/// What was answered to a request for a vote.
fn answer_to(hand: &mut Hand, asks: Message) -> Option<bool> {
    hand.take(asks);
    hand.write_all();
    let kinds = [MessageType::MsgRequestVoteResponse, MessageType::MsgRequestPreVoteResponse];
    hand.sent().into_iter().find(|sent| kinds.contains(&sent.get_msg_type())).map(|sent| !sent.reject)
}

fn pass(hand: &mut Hand, now: Duration) {
    hand.state().replica.time_is(now);
}

/// A follower of node 3 in term 3, whose process had nothing to do with a leader before.
fn following() -> Hand {
    let mut hand = Hand::of(3);
    hand.state().replica.guard_votes(GUARDED, at(0));
    hand.take(append(3, 3, (1, 1), &[], 1));
    hand.write_all();
    hand.sent();
    hand
}

/// A leader that has opened its term.
fn leading() -> Hand {
    let mut hand = Hand::of(3);
    hand.state().replica.guard_votes(GUARDED, at(0));
    hand.elect();
    let opened = hand.state().replica.last().index.0;
    hand.acknowledge(2, opened);
    hand.write_all();
    hand
}

fn ground(hand: &mut Hand) -> Option<LeaseGround> {
    hand.state().replica.lease_ground()
}

#[test]
fn a_voter_that_has_heard_its_leader_votes_for_nobody_however_many_ticks_come() {
    for kind in [MessageType::MsgRequestVote, MessageType::MsgRequestPreVote] {
        for sign in [MessageType::MsgHeartbeat, MessageType::MsgAppend, MessageType::MsgSnapshot] {
            let mut hand = following();
            pass(&mut hand, at(1_000));
            let mut sign = message(sign, 3, 3);
            (sign.index, sign.log_term) = (1, 1);
            sign.mut_snapshot().mut_metadata().index = 1;
            sign.mut_snapshot().mut_metadata().term = 1;
            hand.take(sign);
            hand.write_all();
            // All the ticks of a pause at once.
            pass(&mut hand, at(1_100));
            hand.tick(100);
            assert!(!hand.sent().iter().any(|sent| granted(sent).is_some()), "it does not stand itself");
            pass(&mut hand, at(1_599));
            assert_eq!(answer_to(&mut hand, asks(kind)), None);
            assert_eq!(hand.state().replica.leadership().term.0, 3, "it was not heard at all");
            pass(&mut hand, at(1_600));
            // The leader is gone for the consensus crate as well.
            hand.tick(12);
            hand.sent();
            assert_eq!(answer_to(&mut hand, asks(kind)), Some(true));
        }
    }
}

#[test]
fn only_the_leader_of_the_term_is_heard() {
    let mut hand = following();
    for (from, term, kind) in [
        (2, 2, MessageType::MsgHeartbeat),
        (3, 2, MessageType::MsgAppend),
        (3, 3, MessageType::MsgHeartbeatResponse),
        (2, 3, MessageType::MsgRequestVoteResponse),
    ] {
        pass(&mut hand, at(700));
        hand.take(message(kind, from, term));
        hand.write_all();
    }
    hand.tick(30);
    hand.sent();
    assert_eq!(answer_to(&mut hand, asks(MessageType::MsgRequestVote)), Some(true));
}

#[test]
fn a_clock_that_goes_back_shortens_nothing() {
    let mut hand = following();
    pass(&mut hand, at(1_000));
    pass(&mut hand, at(0));
    hand.take(message(MessageType::MsgHeartbeat, 3, 3));
    hand.write_all();
    pass(&mut hand, at(1_599));
    hand.tick(12);
    assert_eq!(answer_to(&mut hand, asks(MessageType::MsgRequestVote)), None);
}

#[test]
fn a_process_that_has_just_started_may_have_heard_a_leader_unless_its_group_never_had_one() {
    let mut first = Hand::of(3);
    first.state().replica.guard_votes(GUARDED, at(0));
    assert_eq!(answer_to(&mut first, asks(MessageType::MsgRequestVote)), Some(true), "founded, and nothing else");

    let mut hand = following();
    let state = hand.state().replica.handed_out();
    hand.go_on_from(state);
    hand.state().replica.guard_votes(GUARDED, at(300));
    pass(&mut hand, at(899));
    hand.tick(100);
    assert!(!hand.sent().iter().any(|sent| granted(sent).is_some()), "it does not stand itself");
    assert_eq!(answer_to(&mut hand, asks(MessageType::MsgRequestVote)), None);
    pass(&mut hand, at(900));
    assert_eq!(answer_to(&mut hand, asks(MessageType::MsgRequestVote)), Some(true));
}

#[test]
fn who_stands_because_the_leader_wants_it_gets_votes_at_once() {
    let mut hand = following();
    let mut wanted = asks(MessageType::MsgRequestVote);
    wanted.context = b"CampaignTransfer"[..].into();
    assert_eq!(answer_to(&mut hand, wanted), Some(true));

    let mut hand = following();
    hand.take(message(MessageType::MsgTimeoutNow, 3, 3));
    hand.write_all();
    assert!(hand.sent().iter().any(|sent| sent.get_msg_type() == MessageType::MsgRequestVote), "it stands");
}

#[test]
fn an_old_candidate_is_told_of_the_newer_term() {
    let mut hand = following();
    let mut old = asks(MessageType::MsgRequestPreVote);
    (old.term, old.log_term) = (2, 1);
    assert_eq!(answer_to(&mut hand, old), Some(false));
}

#[test]
fn a_lone_voter_waits_for_nobody() {
    let mut hand = Hand::of(1);
    hand.state().replica.guard_votes(GUARDED, at(0));
    hand.elect();
    let state = hand.state().replica.handed_out();
    hand.go_on_from(state);
    hand.state().replica.guard_votes(GUARDED, at(0));
    hand.elect();
}

#[test]
fn there_is_a_ground_for_a_lease_only_where_votes_are_guarded_and_only_for_a_leader() {
    let mut hand = Hand::of(3);
    hand.elect();
    assert_eq!(ground(&mut hand), None, "not guarded");
    let mut hand = following();
    assert_eq!(ground(&mut hand), None, "a follower");
    let mut hand = leading();
    let before = ground(&mut hand).expect("a ground");
    assert_eq!(ground(&mut hand), Some(before));
    hand.take(message(MessageType::MsgHeartbeat, 2, 20));
    assert_eq!(ground(&mut hand), None, "deposed, also before anybody was told");
}

#[test]
fn a_leader_that_hands_over_has_no_lease_any_more_in_its_term() {
    let mut hand = leading();
    let before = ground(&mut hand).expect("a ground");
    hand.state().replica.transfer_leadership(NodeId(2)).unwrap();
    assert_eq!(ground(&mut hand), None);
    // The transfer comes to nothing, and the order to stand may still be on its way.
    for _ in 0..30 {
        hand.take(message(MessageType::MsgHeartbeatResponse, 2, 2));
        hand.tick(1);
    }
    assert!(hand.leads());
    assert_eq!(ground(&mut hand), None);
    hand.state().replica.abstain(true);
    hand.state().replica.abstain(false);
    hand.elect();
    let opened = hand.state().replica.last().index.0;
    hand.acknowledge(2, opened);
    hand.write_all();
    let after = ground(&mut hand).expect("a ground in the next term");
    assert_ne!(after, before);
}

#[test]
fn a_change_of_members_takes_the_ground_away_until_it_is_applied_and_gives_another_one() {
    let mut hand = leading();
    let before = ground(&mut hand).expect("a ground");
    let change = crate::MembershipChange::of(vec![Step::Learner { node: 4, member: Some(member(4)) }]);
    let place = hand.state().replica.change_members(&change).unwrap();
    assert_eq!(ground(&mut hand), None, "others may apply it first");
    hand.cluster.drain(1);
    hand.write_all();
    hand.acknowledge(2, place.index.0);
    hand.write_all();
    let after = ground(&mut hand).expect("a ground");
    assert_ne!(after, before);
}

#[test]
fn there_is_no_lease_in_a_joint_configuration() {
    let mut hand = leading();
    let steps = [4, 5].map(|node| Step::Voter { node, member: Some(member(node)) });
    let place = hand.state().replica.change_members(&crate::MembershipChange::of(steps.to_vec())).unwrap();
    hand.cluster.drain(1);
    hand.write_all();
    hand.acknowledge(2, place.index.0);
    hand.write_all();
    assert!(!hand.state().folded.membership.voters_outgoing.is_empty(), "it is joint");
    assert_eq!(ground(&mut hand), None);
}

#[test]
fn a_member_that_follows_through_a_change_of_members_keeps_its_word() {
    let mut hand = following();
    pass(&mut hand, at(500));
    let change = change_entry(2, 3, vec![Step::Learner { node: 4, member: Some(member(4)) }]);
    hand.take(with_entries(append(3, 3, (1, 1), &[], 2), vec![change]));
    hand.write_all();
    hand.sent();
    pass(&mut hand, at(1_000));
    hand.tick(12);
    assert_eq!(answer_to(&mut hand, asks(MessageType::MsgRequestVote)), None);
}
