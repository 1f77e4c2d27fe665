//! The encoding of memberships and of changes, byte by byte: logs and records of every later version hold them.

use std::collections::{BTreeMap, BTreeSet};

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
