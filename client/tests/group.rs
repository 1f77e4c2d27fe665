//! The client against several nodes that answer by script: finding the leader, failing over, tails that move.

// Not every test binary uses all of it.
#[allow(dead_code)]
mod fake;

use std::time::Duration;

use fake::{Fake, Reply, Then};
use steeple_client::administration::{ClusterMember, ClusterStatusResponse, StatusResponse};
use steeple_client::events::tail_response::Content;
use steeple_client::events::{Event, Progress, StreamStatusResponse, TailRequest, TailResponse};
use steeple_client::types::mutation_outcome::Result as Answer;
use steeple_client::types::{
    AttestedNode, BatchResponse, CountBundlesResponse, CreateAttestedNodeRequest, CreateAttestedNodeResponse,
    DeleteAttestedNodeRequest, DeleteAttestedNodeResponse, MutationOutcome,
};
use steeple_client::{Client, Error, Namespace, Operation, Options, Tail, TailContent, TailOptions, TailStart};
use steeple_wire::status::{ErrorKind, LeaderHint};
use tonic::Status;

fn node() -> AttestedNode {
    AttestedNode { spiffe_id: "spiffe://td.example/agent".into(), ..Default::default() }
}

fn created(revision: u64) -> Reply {
    Reply::answer(&CreateAttestedNodeResponse { node: Some(node()) }, revision)
}

fn counted() -> Reply {
    Reply::answer(&CountBundlesResponse { count: 1 }, 1)
}

fn not_leader(address: Option<&str>) -> Reply {
    Reply::Refuse(LeaderHint { node: None, address: address.map(str::to_owned) }.status("text"))
}

fn event(revision: u64) -> TailResponse {
    let content = Some(Content::Event(Event { revision, ..Default::default() }));
    TailResponse { content, cursor: format!("c{revision}") }
}

fn behind() -> Reply {
    Reply::Refuse(ErrorKind::CursorAhead.status("the cursor is at revision 2, this node at 1"))
}

fn options() -> Options {
    Options::default().with_pauses(Duration::from_millis(1), Duration::from_millis(5))
}

/// A client of nodes at `a:1`, `b:1` and so on.
async fn client(fakes: &[&Fake]) -> Client {
    let mut channels = Vec::new();
    for (fake, name) in fakes.iter().zip(["a:1", "b:1", "c:1"]) {
        channels.push((name, fake.channel().await));
    }
    Client::from_channels(channels).with_options(options())
}

async fn namespace(fakes: &[&Fake]) -> Namespace {
    client(fakes).await.namespace("prod")
}

/// The request ids that nodes got, which have to be one and the same.
fn one_request_id(fakes: &[&Fake]) -> usize {
    let arrived = fakes.iter().flat_map(|fake| fake.arrived());
    let ids: Vec<_> =
        arrived.map(|arrived| arrived.decode::<CreateAttestedNodeRequest>().context.unwrap().request_id).collect();
    assert!(ids.iter().all(|id| id.len() == 16 && *id == ids[0]), "{ids:?}");
    ids.len()
}

#[tokio::test]
async fn a_mutation_goes_where_the_hint_points_and_the_next_one_too() {
    let (a, b) = (Fake::new([not_leader(Some("b:1"))]), Fake::new([created(1), created(2), counted()]));
    let namespace = namespace(&[&a, &b]).await;
    namespace.create_attested_node(node()).await.unwrap();
    assert_eq!(one_request_id(&[&a, &b]), 2);
    namespace.create_attested_node(node()).await.unwrap();
    namespace.count_bundles().await.unwrap();
    assert_eq!((a.calls().len(), b.calls().len()), (1, 3));
}

#[tokio::test]
async fn a_mutation_waits_for_an_election_under_one_request_id() {
    let a =
        Fake::new([not_leader(None), Reply::Refuse(ErrorKind::OutcomeUnknown.status("?")), not_leader(Some("b:1"))]);
    let b = Fake::new([not_leader(None), created(1)]);
    namespace(&[&a, &b]).await.create_attested_node(node()).await.unwrap();
    assert_eq!(one_request_id(&[&a, &b]), 5);
}

#[tokio::test]
async fn an_election_without_end_ends_with_the_deadline() {
    let endless = || Fake::new(std::iter::repeat_with(|| not_leader(None)).take(10_000));
    let (a, b) = (endless(), endless());
    let namespace = namespace(&[&a, &b]).await.with_deadline(Duration::from_millis(200));
    let error = namespace.create_attested_node(node()).await.unwrap_err();
    // The deadline may as well come while an attempt is under way, which then may have arrived.
    assert!(matches!(error, Error::Unavailable { .. } | Error::OutcomeUnknown { .. }), "{error:?}");
    assert!(a.calls().len().abs_diff(b.calls().len()) <= 1, "both were asked");
}

#[tokio::test]
async fn nodes_that_point_at_each_other_are_not_asked_without_pause() {
    let a = Fake::new(std::iter::repeat_with(|| not_leader(Some("b:1"))).take(10_000));
    let b = Fake::new(std::iter::repeat_with(|| not_leader(Some("a:1"))).take(10_000));
    let client = client(&[&a, &b]).await;
    let pauses = Duration::from_millis(50);
    let namespace = client.with_options(options().with_pauses(pauses, pauses)).namespace("prod");
    let namespace = namespace.with_deadline(Duration::from_millis(300));
    assert!(namespace.create_attested_node(node()).await.is_err());
    let asked = a.calls().len() + b.calls().len();
    assert!((2..=65).contains(&asked), "{asked}");
}

#[tokio::test]
async fn the_death_of_the_leader_costs_no_failed_request() {
    let (a, b) = (Fake::new([created(1), Reply::Die]), Fake::new([not_leader(None), created(2), created(3)]));
    let namespace = namespace(&[&a, &b]).await;
    for revision in 1..=3 {
        namespace.create_attested_node(node()).await.unwrap();
        assert_eq!(namespace.seen_revision(), revision);
    }
    assert_eq!((a.calls().len(), b.calls().len()), (2, 3));
}

#[tokio::test]
async fn a_node_that_says_nothing_is_left_for_another() {
    let (a, b) = (Fake::new([Reply::hang()]), Fake::new([created(1)]));
    let client = client(&[&a, &b]).await.with_options(options().with_node_patience(Duration::from_millis(50)));
    client.namespace("prod").create_attested_node(node()).await.unwrap();
    assert_eq!(one_request_id(&[&a, &b]), 2);
    let alone = Fake::new([Reply::hang()]);
    let client = Client::from_channel(alone.channel().await);
    let client = client.with_options(options().with_node_patience(Duration::from_millis(10)));
    let namespace = client.namespace("prod").with_deadline(Duration::from_millis(100));
    assert!(matches!(namespace.create_attested_node(node()).await, Err(Error::OutcomeUnknown { .. })));
    assert_eq!(alone.calls().len(), 1, "there is nobody else to ask");
}

#[tokio::test]
async fn a_batch_is_sent_where_the_hint_points() {
    let delete = DeleteAttestedNodeRequest { context: None, spiffe_id: "n".into() };
    let done = Answer::DeleteAttestedNode(DeleteAttestedNodeResponse::default());
    let outcomes = vec![MutationOutcome { revision: 4, result: Some(done) }];
    let (a, b) = (Fake::new([not_leader(Some("b:1"))]), Fake::new([Reply::answer(&BatchResponse { outcomes }, 4)]));
    let outcomes = namespace(&[&a, &b]).await.batch(vec![Operation::DeleteAttestedNode(delete)]).await;
    assert!(outcomes[0].answer.is_ok(), "{outcomes:?}");
    assert_eq!(a.arrived()[0].request, b.arrived()[0].request);
}

#[tokio::test]
async fn stale_reads_go_round_and_current_ones_stay() {
    let fakes: Vec<_> = (0..3).map(|_| Fake::new(std::iter::repeat_with(counted).take(20))).collect();
    let namespace = namespace(&fakes.iter().collect::<Vec<_>>()).await;
    for _ in 0..6 {
        namespace.stale().count_bundles().await.unwrap();
    }
    assert!(fakes.iter().all(|fake| fake.calls().len() == 2));
    for _ in 0..4 {
        namespace.count_bundles().await.unwrap();
    }
    let mut calls: Vec<_> = fakes.iter().map(|fake| fake.calls().len()).collect();
    calls.sort_unstable();
    assert_eq!(calls, [2, 2, 6]);
}

#[tokio::test]
async fn a_follower_that_dies_costs_no_failed_read() {
    let (a, b) = (Fake::new(std::iter::repeat_with(counted).take(20)), Fake::new([]));
    let namespace = namespace(&[&a, &b]).await.stale();
    b.kill();
    for _ in 0..8 {
        namespace.count_bundles().await.unwrap();
    }
    assert_eq!(a.calls().len(), 8);
}

#[tokio::test]
async fn a_node_that_cannot_confirm_a_read_is_left_for_another() {
    let unconfirmed = Reply::Refuse(ErrorKind::Unavailable.status("no quorum"));
    let (a, b) = (Fake::new([unconfirmed]), Fake::new([counted(), counted()]));
    let namespace = namespace(&[&a, &b]).await;
    namespace.count_bundles().await.unwrap();
    namespace.count_bundles().await.unwrap();
    assert_eq!((a.calls().len(), b.calls().len()), (1, 2));
}

#[tokio::test]
async fn what_is_about_a_node_is_asked_of_the_first() {
    let status = || Reply::answer(&StatusResponse { node_id: 1, ..Default::default() }, 0);
    let (a, b) = (Fake::new([not_leader(Some("b:1")), status()]), Fake::new([created(1), status()]));
    let client = client(&[&a, &b]).await;
    client.namespace("prod").create_attested_node(node()).await.unwrap();
    client.admin().status().await.unwrap();
    assert_eq!(a.calls(), ["CreateAttestedNode", "Status"]);
    a.kill();
    client.admin().status().await.unwrap();
    assert_eq!(b.calls(), ["CreateAttestedNode", "Status"]);
}

fn tail_from(namespace: &Namespace, cursor: &str) -> Tail {
    namespace.tail(TailOptions { start: TailStart::Cursor(cursor.into()), ..Default::default() })
}

async fn revision(tail: &mut Tail) -> u64 {
    let message = tokio::time::timeout(Duration::from_secs(20), tail.next()).await.unwrap().unwrap();
    let TailContent::Event(event) = message.content else { panic!("{message:?}") };
    event.revision
}

fn cursors(fake: &Fake) -> Vec<String> {
    let tails = fake.arrived().into_iter().filter(|arrived| arrived.call == "Tail");
    tails.map(|arrived| arrived.decode::<TailRequest>().cursor).collect()
}

#[tokio::test]
async fn a_tail_goes_on_at_another_node_without_gap_or_repetition() {
    let stream = |revisions: &[u64]| {
        let events: Vec<_> = revisions.iter().map(|revision| event(*revision)).collect();
        Reply::stream(&events, Then::Hang)
    };
    // Where a tail begins is a matter of turns: both can serve it.
    let (a, b) = (Fake::new([stream(&[1, 2])]), Fake::new([stream(&[1, 2])]));
    let namespace = namespace(&[&a, &b]).await;
    let mut tail = tail_from(&namespace, "c0");
    assert_eq!((revision(&mut tail).await, revision(&mut tail).await), (1, 2));
    let (dying, other) = if a.calls().is_empty() { (&b, &a) } else { (&a, &b) };
    other.forget();
    other.then(behind());
    other.then(behind());
    other.then(stream(&[3, 4]));
    dying.kill();
    assert_eq!((revision(&mut tail).await, revision(&mut tail).await), (3, 4));
    assert_eq!((cursors(dying), cursors(other)), (vec!["c0".into()], vec!["c2".into(); 3]));
    assert_eq!(tail.cursor(), Some("c4"));
}

#[tokio::test]
async fn a_silent_node_is_left_by_its_tail() {
    let (a, b) = (Fake::new([]), Fake::new([]));
    for fake in [&a, &b] {
        fake.then(Reply::hang());
        fake.then(Reply::stream(&[event(1)], Then::Hang));
    }
    let options = options().with_tail_silence_max(Duration::from_millis(50));
    let namespace = client(&[&a, &b]).await.with_options(options).namespace("prod");
    assert_eq!(revision(&mut tail_from(&namespace, "c0")).await, 1);
    assert!(!a.calls().is_empty() && !b.calls().is_empty(), "the other one was asked");
}

fn progress(revision: u64, live: bool) -> TailResponse {
    let content = Some(Content::Progress(Progress { revision, live }));
    TailResponse { content, cursor: format!("c{revision}") }
}

/// Says how far it is again and again.
fn stays_at(revision: u64, live: bool) -> Reply {
    Reply::stream(&[progress(revision, live)], Then::Repeat(Duration::from_millis(10)))
}

fn impatient() -> Options {
    options().with_tail_silence_max(Duration::from_millis(150))
}

async fn first_event(mut tail: Tail) -> u64 {
    let found = async {
        loop {
            if let TailContent::Event(event) = tail.next().await.unwrap().content {
                return event.revision;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap()
}

#[tokio::test]
async fn a_tail_leaves_a_node_that_is_out_of_touch() {
    let (a, b) = (Fake::new([]), Fake::new([]));
    for fake in [&a, &b] {
        fake.then(stays_at(5, false));
        fake.then(Reply::stream(&[event(6)], Then::Hang));
    }
    let namespace = client(&[&a, &b]).await.with_options(impatient()).namespace("prod");
    assert_eq!(first_event(tail_from(&namespace, "c5")).await, 6);
    assert!(!a.calls().is_empty() && !b.calls().is_empty(), "the other one was asked");
    assert_eq!(namespace.seen_revision(), 6);
}

#[tokio::test]
async fn a_tail_stays_where_it_is_live_and_where_there_is_nobody_else() {
    let quiet = || Fake::new([stays_at(5, true)]);
    let (a, b, alone) = (quiet(), quiet(), Fake::new([stays_at(5, false)]));
    let pair = client(&[&a, &b]).await.with_options(impatient()).namespace("prod");
    let one = client(&[&alone]).await.with_options(impatient()).namespace("prod");
    for namespace in [&pair, &one] {
        let mut tail = tail_from(namespace, "c5");
        let until = tokio::time::Instant::now() + impatient().tail_silence_max * 2;
        while tokio::time::Instant::now() < until {
            assert!(matches!(tail.next().await.unwrap().content, TailContent::Progress { revision: 5, .. }));
        }
    }
    assert_eq!((a.calls().len() + b.calls().len(), alone.calls().len()), (1, 1));
}

#[tokio::test]
async fn a_tail_leaves_a_node_that_has_left_the_group() {
    let (a, b) = (Fake::new([]), Fake::new([stays_at(5, true)]));
    let (first, second) = (a.listen(), b.listen());
    let member =
        |node_id, address: &str| ClusterMember { node_id, client_address: address.into(), ..Default::default() };
    let group = |members| ClusterStatusResponse { cluster_id: "1".into(), members, ..Default::default() };
    a.tell(group(vec![member(1, &first), member(2, &second)]));
    b.tell(group(vec![member(1, &first), member(2, &second)]));
    let refuse = || Reply::Refuse(ErrorKind::Unavailable.status("text"));
    for _ in 0..3 {
        a.then(refuse());
    }
    let client = Client::connect(first.clone()).await.unwrap().with_options(options());
    let mut tail = tail_from(&client.namespace("prod"), "c5");
    while b.calls().is_empty() {
        tail.next().await.unwrap();
    }
    // It stays as long as it belongs to the group; who does is asked for again after some trouble.
    for fake in [&a, &b] {
        fake.tell(group(vec![member(1, &first)]));
        fake.forget();
        for _ in 0..10_000 {
            fake.then(refuse());
        }
    }
    let quick = Duration::from_millis(100);
    assert!(client.namespace("prod").with_deadline(quick).count_bundles().await.is_err());
    a.forget();
    a.then(Reply::stream(&[event(6)], Then::Hang));
    assert_eq!(first_event(tail).await, 6);
    assert_eq!(cursors(&b), ["c5"]);
}

#[tokio::test]
async fn a_tail_that_is_asked_again_and_again_notices_silence_and_connects() {
    let (a, b) = (Fake::new([]), Fake::new([]));
    for fake in [&a, &b] {
        fake.then(Reply::hang());
        fake.then(Reply::Late(Duration::from_millis(60), Box::new(Reply::stream(&[event(6)], Then::Hang))));
    }
    let namespace = client(&[&a, &b]).await.with_options(impatient()).namespace("prod");
    let mut tail = tail_from(&namespace, "c5");
    let polled = async {
        loop {
            if let Ok(message) = tokio::time::timeout(Duration::from_millis(5), tail.next()).await {
                return message.unwrap().cursor;
            }
        }
    };
    let cursor = tokio::time::timeout(Duration::from_secs(20), polled).await;
    assert_eq!(cursor.as_deref(), Ok("c6"));
    assert!(a.calls().len() <= 2 && b.calls().len() <= 2, "{:?} {:?}", a.calls(), b.calls());
}

#[tokio::test]
async fn a_tail_that_is_ended_after_each_message_pauses_longer_and_longer() {
    let fake = Fake::new((1..=6).map(|revision| Reply::stream(&[event(revision)], Then::End)));
    let pauses = options().with_pauses(Duration::from_millis(20), Duration::from_secs(10));
    let namespace = client(&[&fake]).await.with_options(pauses).namespace("prod");
    let mut tail = tail_from(&namespace, "c0");
    let begun = tokio::time::Instant::now();
    for expected in 1..=6 {
        assert_eq!(revision(&mut tail).await, expected);
    }
    // Halves of 20, 40, 80, 160 and 320 milliseconds.
    assert!(begun.elapsed() >= Duration::from_millis(310), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cursor_ahead_of_every_node_is_told_after_the_deadline() {
    let endless = || Fake::new(std::iter::repeat_with(behind).take(10_000));
    let (a, b) = (endless(), endless());
    let namespace = namespace(&[&a, &b]).await.with_deadline(Duration::from_millis(100));
    let error = tail_from(&namespace, "c9").next().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CursorAhead));
    assert!(!a.calls().is_empty() && !b.calls().is_empty(), "both were asked");
    let alone = Fake::new([behind()]);
    let error = tail_from(&alone.client().await.namespace("prod"), "c9").next().await.unwrap_err();
    assert_eq!((error.kind(), alone.calls().len()), (Some(ErrorKind::CursorAhead), 1));
}

#[tokio::test]
async fn a_tail_from_now_begins_through_an_election() {
    let status = Reply::answer(&StreamStatusResponse { cursor: "c5".into(), ..Default::default() }, 5);
    let refuse = || Reply::Refuse(ErrorKind::Unavailable.status("no leader"));
    let (a, b) = (Fake::new([refuse(), status]), Fake::new([refuse()]));
    for fake in [&a, &b] {
        fake.then(Reply::stream(&[event(6)], Then::Hang));
    }
    let namespace = namespace(&[&a, &b]).await;
    let mut tail = namespace.tail(TailOptions::default());
    assert_eq!(revision(&mut tail).await, 6);
    assert_eq!([cursors(&a), cursors(&b)].concat(), ["c5"]);
}

#[tokio::test]
async fn one_address_leads_to_the_others() {
    let (a, b) = (Fake::new([]), Fake::new([]));
    for _ in 0..10_000 {
        a.then(counted());
        b.then(counted());
    }
    let (first, second) = (a.listen(), b.listen());
    let member =
        |node_id, address: &str| ClusterMember { node_id, client_address: address.into(), ..Default::default() };
    let members = vec![member(1, &first), member(2, &second)];
    a.tell(ClusterStatusResponse { cluster_id: "1".into(), leader_node_id: 2, members, ..Default::default() });
    b.tell(ClusterStatusResponse { cluster_id: "1".into(), ..Default::default() });
    // Nobody answers at port 1.
    let client = Client::connect(["127.0.0.1:1".to_owned(), first]).await.unwrap().with_options(options());
    let namespace = client.namespace("prod").stale();
    let found = async {
        while b.calls().is_empty() {
            namespace.count_bundles().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
    assert!(matches!(Client::connect("127.0.0.1:1").await, Err(Error::Connect(_))));
    assert!(matches!(Client::connect("").await, Err(Error::Unavailable { .. })));
    assert!(matches!(Client::connect_lazy("http://not an address"), Err(Error::Connect(_))));
}

#[tokio::test]
async fn a_hint_leads_to_a_node_that_was_not_known() {
    let (a, b) = (Fake::new([]), Fake::new([created(1)]));
    let second = b.listen();
    for fake in [&a, &b] {
        fake.tell(ClusterStatusResponse { cluster_id: "1".into(), ..Default::default() });
    }
    a.then(not_leader(Some(&second)));
    let client = Client::connect_lazy(a.listen()).unwrap().with_options(options());
    client.namespace("prod").create_attested_node(node()).await.unwrap();
    assert_eq!(one_request_id(&[&a, &b]), 2);
    let refused = Reply::Refuse(Status::already_exists("taken"));
    b.then(refused);
    assert!(client.namespace("prod").create_attested_node(node()).await.unwrap_err().is_already_exists());
}

#[tokio::test]
async fn a_node_of_another_cluster_at_an_address_of_this_one_is_asked_for_nothing() {
    let (a, b) = (Fake::new(std::iter::repeat_with(counted).take(100)), Fake::new([]));
    let second = b.listen();
    let member = ClusterMember { node_id: 2, client_address: second.clone(), ..Default::default() };
    let status = ClusterStatusResponse { cluster_id: "1".into(), ..Default::default() };
    a.tell(ClusterStatusResponse { leader_node_id: 2, members: vec![member], ..status });
    b.tell(ClusterStatusResponse { cluster_id: "2".into(), ..Default::default() });
    let client = Client::connect(a.listen()).await.unwrap().with_options(options());
    let namespace = client.namespace("prod").with_deadline(Duration::from_secs(5));
    for _ in 0..20 {
        namespace.count_bundles().await.unwrap();
        namespace.stale().count_bundles().await.unwrap();
    }
    a.forget();
    for _ in 0..10_000 {
        a.then(not_leader(Some(&second)));
    }
    let namespace = namespace.with_deadline(Duration::from_millis(300));
    let error = namespace.create_attested_node(node()).await.unwrap_err();
    // The time may have run out amid an attempt.
    assert!(matches!(error, Error::Unavailable { .. } | Error::OutcomeUnknown { .. }), "{error:?}");
    assert!(b.calls().is_empty(), "{:?}", b.calls());
}
