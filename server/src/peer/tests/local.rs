//! The transport inside a process.

use std::sync::Arc;

use steeple_engine::ids::NodeId;
use steeple_raft::Incarnation;

use super::super::limits::{BULK_UNDELIVERED_BYTES, CONTROL_UNDELIVERED_BYTES};
use super::super::{LocalHub, LocalTransport, PeerIdentity, Transport};
use super::support::{Notes, ONE, THREE, TWO, append, heartbeat, identity, is_heartbeat};

fn members() -> Vec<(NodeId, String)> {
    [ONE, TWO, THREE].map(|node| (node, String::new())).into()
}

fn join(hub: &LocalHub, node: NodeId) -> (Arc<Notes>, LocalTransport) {
    let notes = Notes::new();
    let transport = hub.join(identity(node), notes.clone(), None);
    transport.set_members(members());
    (notes, transport)
}

#[test]
fn messages_arrive_in_order() {
    let hub = LocalHub::new();
    let (_, one) = join(&hub, ONE);
    let (notes, _two) = join(&hub, TWO);
    for commit in 0..10 {
        one.send(TWO, heartbeat(ONE, TWO, commit));
    }
    let commits: Vec<u64> = notes.received().iter().map(|message| message.commit).collect();
    assert_eq!(commits, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_link_is_cut_in_one_direction() {
    let hub = LocalHub::new();
    let (at_one, one) = join(&hub, ONE);
    let (at_two, two) = join(&hub, TWO);
    hub.cut(ONE, TWO);
    one.send(TWO, heartbeat(ONE, TWO, 1));
    two.send(ONE, heartbeat(TWO, ONE, 2));
    assert_eq!(at_two.received(), []);
    assert_eq!(at_one.received(), [heartbeat(TWO, ONE, 2)]);
    assert!(at_one.unreachable().is_empty(), "who is cut off does not notice");
    hub.mend(ONE, TWO);
    one.send(TWO, heartbeat(ONE, TWO, 3));
    assert_eq!(at_two.received(), [heartbeat(ONE, TWO, 3)]);
}

#[test]
fn an_isolated_node_reaches_nobody_and_is_not_reached() {
    let hub = LocalHub::new();
    let (at_one, one) = join(&hub, ONE);
    let (at_two, two) = join(&hub, TWO);
    let (at_three, three) = join(&hub, THREE);
    hub.isolate(ONE);
    one.send(TWO, heartbeat(ONE, TWO, 1));
    two.send(ONE, heartbeat(TWO, ONE, 1));
    three.send(TWO, heartbeat(THREE, TWO, 1));
    assert_eq!((at_one.received().len(), at_two.received().len()), (0, 1));
    hub.mend_all();
    one.send(THREE, heartbeat(ONE, THREE, 2));
    assert_eq!(at_three.received(), [heartbeat(ONE, THREE, 2)]);
}

#[test]
fn what_is_not_taken_up_is_bounded_and_does_not_hold_heartbeats_back() {
    let hub = LocalHub::new();
    let (at_one, one) = join(&hub, ONE);
    let (notes, _two) = join(&hub, TWO);
    notes.get_stuck();
    let piece = 8 << 20;
    for index in 0..20 {
        one.send(TWO, append(ONE, TWO, index, piece));
    }
    let held = notes.held_bytes();
    assert!(held <= BULK_UNDELIVERED_BYTES && held + 2 * piece > BULK_UNDELIVERED_BYTES, "{held} bytes");
    assert_eq!(at_one.unreachable(), [TWO], "reported once");
    one.send(TWO, heartbeat(ONE, TWO, 5));
    assert!(notes.received().iter().any(is_heartbeat(5)));
    for _ in 0..CONTROL_UNDELIVERED_BYTES / 100 {
        one.send(TWO, heartbeat(ONE, TWO, 6));
    }
    assert!(notes.received().len() < CONTROL_UNDELIVERED_BYTES / 100);
    notes.go_on();
    one.send(TWO, append(ONE, TWO, 77, piece));
    assert_eq!(notes.received().last().map(|message| message.index), Some(77));
}

#[test]
fn a_node_that_is_gone_is_reported_once_until_it_is_back() {
    let hub = LocalHub::new();
    let (at_one, one) = join(&hub, ONE);
    let (_, two) = join(&hub, TWO);
    drop(two);
    one.send(TWO, heartbeat(ONE, TWO, 1));
    one.send(TWO, heartbeat(ONE, TWO, 2));
    assert_eq!(at_one.unreachable(), [TWO]);
    let (notes, two) = join(&hub, TWO);
    one.send(TWO, heartbeat(ONE, TWO, 3));
    assert_eq!(notes.received(), [heartbeat(ONE, TWO, 3)]);
    notes.close();
    one.send(TWO, heartbeat(ONE, TWO, 4));
    assert_eq!(at_one.unreachable(), [TWO, TWO]);
    drop(two);
}

#[test]
fn a_transport_that_outlives_its_successor_takes_nothing_away() {
    let hub = LocalHub::new();
    let (_, one) = join(&hub, ONE);
    let (_, older) = join(&hub, TWO);
    let (notes, _newer) = join(&hub, TWO);
    drop(older);
    one.send(TWO, heartbeat(ONE, TWO, 1));
    assert_eq!(notes.received().len(), 1);
}

#[test]
fn only_messages_between_members_travel() {
    let hub = LocalHub::new();
    let (_, one) = join(&hub, ONE);
    let (notes, _two) = join(&hub, TWO);
    one.send(TWO, heartbeat(THREE, TWO, 1));
    one.send(TWO, heartbeat(ONE, THREE, 1));
    one.set_members(vec![(THREE, String::new())]);
    one.send(TWO, heartbeat(ONE, TWO, 1));
    assert_eq!(notes.received(), []);
    notes.refuse("node 1 was removed");
    one.set_members(members());
    one.send(TWO, heartbeat(ONE, TWO, 1));
    assert_eq!(notes.received(), []);
}

#[test]
fn a_node_with_another_data_directory_than_the_known_one_reaches_nobody_and_is_not_reached() {
    let hub = LocalHub::new();
    let (at_one, one) = join(&hub, ONE);
    let (at_two, two) = join(&hub, TWO);
    one.greet(TWO);
    two.send(ONE, heartbeat(TWO, ONE, 1));
    assert_eq!(at_one.received(), [heartbeat(TWO, ONE, 1)]);

    let known = identity(ONE).introduction();
    at_two.know(known);
    drop(one);
    let wiped = PeerIdentity { incarnation: Incarnation([9; 16]), ..identity(ONE) };
    let notes = Notes::new();
    let one = hub.join(wiped, notes.clone(), None);
    one.set_members(members());
    one.send(TWO, heartbeat(ONE, TWO, 2));
    two.send(ONE, heartbeat(TWO, ONE, 3));
    assert_eq!((at_two.received().len(), notes.received().len()), (0, 0));
    let reason = notes.turned_away();
    assert!(reason.iter().all(|reason| reason.contains("wiped or replaced")) && !reason.is_empty(), "{reason:?}");
}
