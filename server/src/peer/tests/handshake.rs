//! Who may speak to whom, and what the others are told.

use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::ids::{ClusterId, GroupId};
use steeple_raft::Incarnation;
use steeple_wire::peer::v1::peer_client::PeerClient;
use steeple_wire::peer::v1::{ExchangeRequest, Handshake, Lane, SnapshotRequest};
use tonic::Code;

use super::super::{PeerIdentity, PlainConnector, SendOptions, SocketTransport, Transport};
use super::support::{Notes, ONE, Served, THREE, TWO, identity, transport};

fn refusal(handshake: &Handshake) -> String {
    identity(TWO).check(Some(handshake)).unwrap_err().to_string()
}

#[test]
fn the_right_handshake_is_accepted() {
    assert_eq!(identity(TWO).check(Some(&identity(ONE).handshake(TWO))), Ok(identity(ONE).introduction()));
}

#[test]
fn every_difference_is_named_with_what_to_do() {
    let right = identity(ONE).handshake(TWO);
    assert_eq!(
        refusal(&Handshake { protocol: 9, ..right.clone() }),
        "protocol version 9 meets version 1; upgrade the older node, one release at a time, so that both speak the same version"
    );
    let cluster = PeerIdentity { cluster: ClusterId([9; 16]), ..identity(ONE) };
    assert_eq!(
        refusal(&cluster.handshake(TWO)),
        "node 1 belongs to cluster 09090909090909090909090909090909 and node 2 to cluster \
         07070707070707070707070707070707; one of them has the data directory of another cluster, or an address in its \
         configuration points to the wrong cluster"
    );
    let malformed = Handshake { cluster: Bytes::from_static(b"short"), ..right.clone() };
    assert!(refusal(&malformed).starts_with("node 1 belongs to cluster (malformed)"));
    let group = PeerIdentity { group: GroupId(5), ..identity(ONE) };
    assert_eq!(
        refusal(&group.handshake(TWO)),
        "node 1 speaks for group 5 and node 2 serves group 1; correct its peer addresses"
    );
    assert_eq!(
        refusal(&identity(ONE).handshake(THREE)),
        "node 1 expects node 3 at this address, where node 2 is now; correct the address of node 3 in the list of members"
    );
    assert_eq!(
        refusal(&identity(TWO).handshake(TWO)),
        "node 2 was called by a node that says that it is node 2 too; two processes run with the same number or with copies \
         of one data directory: stop one of them, and add it as a new node with an empty directory"
    );
    assert_eq!(refusal(&Handshake { from: 0, ..right }), "a node cannot have the number 0");
    let anonymous = Handshake { incarnation: Bytes::from_static(b"short"), ..identity(ONE).handshake(TWO) };
    assert_eq!(refusal(&anonymous), "node 1 does not say which data directory it has; upgrade it");
    let missing = identity(TWO).check(None).unwrap_err().to_string();
    assert!(missing.starts_with("the call does not begin with a handshake"));
}

async fn exchange_refused(address: &str, first: ExchangeRequest) -> tonic::Status {
    let mut client = PeerClient::connect(format!("http://{address}")).await.unwrap();
    client.exchange(tokio_stream::iter([first])).await.unwrap_err()
}

#[tokio::test]
async fn both_calls_refuse_with_the_text() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let wrong = Some(identity(ONE).handshake(THREE));
    let first = ExchangeRequest { handshake: wrong.clone(), lane: Lane::Bulk.into(), ..Default::default() };
    let status = exchange_refused(&served.address, first).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("expects node 3 at this address"), "{status}");

    let mut client = PeerClient::connect(format!("http://{}", served.address)).await.unwrap();
    let request = SnapshotRequest { handshake: wrong, ..Default::default() };
    let status = client.snapshot(request).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("expects node 3 at this address"), "{status}");

    let right = Some(identity(ONE).handshake(TWO));
    let laneless = ExchangeRequest { handshake: right.clone(), ..Default::default() };
    assert_eq!(exchange_refused(&served.address, laneless).await.code(), Code::InvalidArgument);

    notes.refuse("node 1 was removed from the group; add it again as a new node");
    let removed = ExchangeRequest { handshake: right, lane: Lane::Bulk.into(), ..Default::default() };
    let status = exchange_refused(&served.address, removed).await;
    assert_eq!(status.message(), "node 1 was removed from the group; add it again as a new node");
    drop(client);
    served.stop().await;
}

#[tokio::test]
async fn a_wiped_node_is_turned_away_with_the_text_and_not_spoken_to() {
    let notes = Notes::new();
    let served = Served::start(TWO, notes.clone()).await;
    let at_one = Notes::new();
    let one = transport(ONE, at_one.clone());
    one.set_members(vec![(TWO, served.address.clone())]);
    at_one.until_admitted_by(TWO).await;
    drop(one);

    let wiped = PeerIdentity { incarnation: Incarnation([9; 16]), ..identity(ONE) };
    notes.know(identity(ONE).introduction());
    let connect = |identity, sink| {
        let runtime = tokio::runtime::Handle::current();
        SocketTransport::new(identity, Arc::new(PlainConnector), sink, SendOptions::default(), runtime)
    };
    let at_wiped = Notes::new();
    let transport = connect(wiped, at_wiped.clone());
    transport.set_members(vec![(TWO, served.address.clone())]);
    let reason = at_wiped.until_turned_away().await;
    assert!(reason.contains("wiped or replaced") && reason.contains("a number that was never used"), "{reason}");
    drop(transport);

    // The other way round: whoever calls a node that is not the one it knows goes away again.
    let at_one = Notes::new();
    at_one.know(PeerIdentity { incarnation: Incarnation([8; 16]), ..identity(TWO) }.introduction());
    let one = connect(identity(ONE), at_one.clone());
    one.set_members(vec![(TWO, served.address.clone())]);
    at_one.until_unreachable(1).await;
    assert!(at_one.received().is_empty());
    drop(one);
    served.stop().await;
}
