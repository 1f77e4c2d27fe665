//! The encoding of memberships and of changes, byte by byte: logs and records of every later version hold them.

use std::collections::{BTreeMap, BTreeSet};

use steeple_engine::ids::NodeId;

use crate::incarnation::Incarnation;
use crate::membership::{Membership, MembershipChange, MembershipError, Step};

use super::cluster::member;

fn check(encoded: &[u8], golden: &str) {
    assert_eq!(std::str::from_utf8(encoded).unwrap(), golden);
}

#[test]
fn changes_are_encoded_as_ever() {
    let founding = MembershipChange::founding(BTreeMap::from([(1, member(1)), (2, member(2))]));
    let golden = concat!(
        r#"{"version":1,"founding":{"1":{"peer_address":"node1:1","client_address":"node1:2"},"#,
        r#""2":{"peer_address":"node2:1","client_address":"node2:2"}}}"#
    );
    check(&founding.encode(), golden);
    assert_eq!(MembershipChange::decode(golden.as_bytes()).unwrap(), founding);

    let steps = MembershipChange::of(vec![
        Step::Voter { node: 2, member: None },
        Step::Learner { node: 4, member: Some(member(4)) },
        Step::Remove { node: 3 },
        Step::Address { node: 1, member: member(1) },
    ]);
    let golden = concat!(
        r#"{"version":1,"steps":[{"voter":{"node":2,"member":null}},"#,
        r#"{"learner":{"node":4,"member":{"peer_address":"node4:1","client_address":"node4:2"}}},"#,
        r#"{"remove":{"node":3}},"#,
        r#"{"address":{"node":1,"member":{"peer_address":"node1:1","client_address":"node1:2"}}}]}"#
    );
    check(&steps.encode(), golden);
    assert_eq!(MembershipChange::decode(golden.as_bytes()).unwrap(), steps);

    let facts = MembershipChange::of(vec![
        Step::Incarnation { node: 2, incarnation: Incarnation([0xab; 16]) },
        Step::Features { version: 3 },
    ]);
    let golden = concat!(
        r#"{"version":1,"steps":[{"incarnation":{"node":2,"incarnation":"abababababababababababababababab"}},"#,
        r#"{"features":{"version":3}}]}"#
    );
    check(&facts.encode(), golden);
    assert_eq!(MembershipChange::decode(golden.as_bytes()).unwrap(), facts);
    assert_eq!(MembershipChange::decode_payload(&[]).unwrap(), None, "leaves a joint configuration");
}

#[test]
fn memberships_are_encoded_as_ever() {
    let mut membership = Membership::of_voters(BTreeMap::from([(1, member(1))]));
    membership.voters = BTreeSet::from([1, 2]);
    membership.voters_outgoing = BTreeSet::from([1, 3]);
    membership.learners = BTreeSet::from([4]);
    membership.learners_next = BTreeSet::from([3]);
    let golden = concat!(
        r#"{"version":1,"voters":[1,2],"voters_outgoing":[1,3],"learners":[4],"learners_next":[3],"auto_leave":false,"#,
        r#""members":{"1":{"peer_address":"node1:1","client_address":"node1:2"}}}"#
    );
    check(&membership.encode(), golden);
    assert_eq!(Membership::decode(golden.as_bytes()).unwrap(), membership);
    assert!(Membership::decode(&[]).unwrap().is_empty());

    let facts = MembershipChange::of(vec![
        Step::Incarnation { node: 1, incarnation: Incarnation([1; 16]) },
        Step::Features { version: 3 },
    ]);
    let membership = Membership::of_voters(BTreeMap::from([(1, member(1))]));
    let golden = concat!(
        r#"{"version":1,"voters":[1],"voters_outgoing":[],"learners":[],"learners_next":[],"auto_leave":false,"#,
        r#""members":{"1":{"peer_address":"node1:1","client_address":"node1:2"}},"#,
        r#""incarnations":{"1":"01010101010101010101010101010101"},"features":3}"#
    );
    let after = membership.after_entry(&facts.encode()).unwrap();
    check(&after.encode(), golden);
    assert_eq!(Membership::decode(golden.as_bytes()).unwrap(), after);
}

#[test]
fn what_is_known_of_a_member_changes_no_role_and_never_changes_itself() {
    let after = |membership: &Membership, steps| membership.after_entry(&MembershipChange::of(steps).encode()).unwrap();
    let incarnation = |node, byte| Step::Incarnation { node, incarnation: Incarnation([byte; 16]) };
    let start = Membership::of_voters(BTreeMap::from([(1, member(1)), (2, member(2))]));
    let known =
        after(&start, vec![incarnation(1, 1), incarnation(2, 2), incarnation(3, 3), Step::Features { version: 2 }]);
    assert_eq!((&known.voters, &known.members), (&start.voters, &start.members));
    assert!(known.voters_outgoing.is_empty(), "not a joint configuration");
    assert_eq!(known.incarnation(NodeId(2)), Some(Incarnation([2; 16])));
    assert_eq!((known.incarnation(NodeId(3)), start.features(), known.features()), (None, 1, 2));
    let same = after(&known, vec![incarnation(2, 9), Step::Features { version: 1 }]);
    assert_eq!(same, known);
    let removed = after(&known, vec![Step::Remove { node: 2 }]);
    assert_eq!(removed.removed, BTreeSet::from([2]), "its number is not given to another node");
    assert!(String::from_utf8(removed.encode()).unwrap().ends_with(r#","removed":[2]}"#));
    assert_eq!(Membership::decode(&removed.encode()).unwrap(), removed);
    assert_eq!((removed.incarnation(NodeId(2)), removed.incarnations.len()), (None, 1));
    let added = after(&removed, vec![Step::Voter { node: 2, member: Some(member(2)) }, incarnation(2, 9)]);
    assert_eq!((added.incarnation(NodeId(2)), added.voters.len()), (Some(Incarnation([9; 16])), 2));
    assert!(added.voters_outgoing.is_empty(), "one node changes its role");
}

#[test]
fn what_cannot_be_meant_is_not_decoded() {
    let change = |text: &str| MembershipChange::decode(text.as_bytes());
    assert!(matches!(change(r#"{"version":2}"#), Err(MembershipError::Version { found: 2 })));
    assert!(matches!(change(r#"{"version":1,"founding":{}}"#), Err(MembershipError::Contradiction)));
    assert!(matches!(change(r#"{"version":1,"stops":[]}"#), Err(MembershipError::Malformed(_))));
    assert!(matches!(change(r#"{"version":1,"steps":[{"remove":{"node":0}}]}"#), Err(MembershipError::NodeZero)));
    let spaces = " ".repeat(70_000);
    assert!(matches!(change(&spaces), Err(MembershipError::TooLarge { .. })));

    let membership = |voters: &str, outgoing: &str, learners: &str, next: &str| {
        let text = format!(
            r#"{{"version":1,"voters":{voters},"voters_outgoing":{outgoing},"learners":{learners},"learners_next":{next},"#
        );
        Membership::decode((text + r#""auto_leave":false,"members":{}}"#).as_bytes())
    };
    assert!(membership("[1,2]", "[1,3]", "[4]", "[3]").is_ok());
    for (voters, outgoing, learners, next) in [
        ("[1]", "[]", "[1]", "[]"),
        ("[1]", "[2]", "[2]", "[]"),
        ("[1]", "[]", "[]", "[2]"),
        ("[1]", "[1]", "[]", "[1]"),
        ("[]", "[]", "[2]", "[]"),
        ("[]", "[1]", "[]", "[]"),
    ] {
        let refused = membership(voters, outgoing, learners, next);
        assert!(matches!(refused, Err(MembershipError::Contradiction)), "{voters} {outgoing} {learners} {next}");
    }
    assert!(matches!(membership("[0]", "[]", "[]", "[]"), Err(MembershipError::NodeZero)));
}
