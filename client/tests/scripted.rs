//! The client against a node that answers by script: retries, tails that resume, batches, long lists.

// Not every test binary uses all of it.
#[allow(dead_code)]
mod fake;

use std::time::Duration;

use fake::{Fake, Reply, Then};
use steeple_client::events::tail_response::Content;
use steeple_client::events::{
    BootstrapEnd, BootstrapResponse, Collection, Event, HistoryResponse, Progress, StateAtResponse,
    StreamStatusResponse, TailRequest, TailResponse, bootstrap_response,
};
use steeple_client::types::mutation_outcome::Result as Answer;
use steeple_client::types::{
    AttestedNode, BatchRequest, BatchResponse, CountBundlesRequest, CountBundlesResponse, CreateAttestedNodeRequest,
    CreateAttestedNodeResponse, DeleteAttestedNodeRequest, DeleteAttestedNodeResponse, MutationFailure,
    MutationOutcome, RegistrationEntry, RegistrationEntryFilter, StreamRegistrationEntriesResponse,
};
use steeple_client::{
    Error, Moment, Operation, Options, RequestId, TailContent, TailOptions, TailStart, Writer, WriterOptions, Written,
};
use steeple_wire::common::v1::Consistency;
use steeple_wire::status::{ErrorKind, refusal};
use tokio_stream::StreamExt;
use tonic::Code;

fn node() -> AttestedNode {
    AttestedNode { spiffe_id: "spiffe://td.example/agent".into(), ..Default::default() }
}

fn created(revision: u64) -> Reply {
    Reply::answer(&CreateAttestedNodeResponse { node: Some(node()) }, revision)
}

fn event(revision: u64) -> TailResponse {
    let content = Some(Content::Event(Event { revision, ..Default::default() }));
    TailResponse { content, cursor: format!("c{revision}") }
}

fn progress(revision: u64) -> TailResponse {
    let content = Some(Content::Progress(Progress { revision, live: true }));
    TailResponse { content, cursor: format!("c{revision}") }
}

#[tokio::test]
async fn a_mutation_is_repeated_under_its_request_id() {
    let fake = Fake::new([
        Reply::Refuse(ErrorKind::Overloaded.status("busy")),
        Reply::Break,
        Reply::Refuse(ErrorKind::OutcomeUnknown.status("lost leadership")),
        created(5),
    ]);
    let namespace = fake.client().await.namespace("prod");
    assert_eq!(namespace.create_attested_node(node()).await.unwrap(), node());
    assert_eq!(namespace.seen_revision(), 5);
    let requests: Vec<CreateAttestedNodeRequest> = fake.arrived().iter().map(fake::Arrived::decode).collect();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| *request == requests[0]), "{requests:?}");
    let context = requests[0].context.clone().unwrap();
    assert_eq!((context.namespace.as_str(), context.request_id.len()), ("prod", 16));
}

#[tokio::test]
async fn two_mutations_have_two_ids_unless_the_caller_chose_one() {
    let fake = Fake::new([created(1), created(2), created(2), created(2)]);
    let namespace = fake.client().await.namespace("prod");
    namespace.create_attested_node(node()).await.unwrap();
    namespace.create_attested_node(node()).await.unwrap();
    let chosen = namespace.with_request(RequestId([9; 16]));
    chosen.create_attested_node(node()).await.unwrap();
    chosen.create_attested_node(node()).await.unwrap();
    let ids: Vec<_> = fake
        .arrived()
        .iter()
        .map(|arrived| arrived.decode::<CreateAttestedNodeRequest>().context.unwrap().request_id)
        .collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[2..], [[9; 16], [9; 16]]);
}

#[tokio::test]
async fn a_mutation_that_stays_open_says_so() {
    let script = std::iter::repeat_with(|| Reply::Refuse(ErrorKind::OutcomeUnknown.status("?"))).take(1000);
    let fake = Fake::new(script);
    let namespace = fake.client().await.namespace("prod").with_deadline(Duration::from_millis(200));
    let error = namespace.with_request(RequestId([3; 16])).create_attested_node(node()).await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { request: RequestId([3, ..]), .. }), "{error:?}");
}

#[tokio::test]
async fn refusals_come_with_code_and_text_and_are_not_repeated() {
    let fake = Fake::new([Reply::Refuse(refusal(Code::Unknown, "datastore-sql: missing bundle in request"))]);
    let error = fake.client().await.namespace("prod").create_attested_node(node()).await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::Unknown, "datastore-sql: missing bundle in request"));
    assert_eq!(fake.arrived().len(), 1);
}

#[tokio::test]
async fn a_stale_read_is_never_behind_what_was_seen() {
    let count = || Reply::answer(&CountBundlesResponse { count: 1 }, 8);
    let fake = Fake::new([created(7), count(), count()]);
    let namespace = fake.client().await.namespace("prod");
    namespace.create_attested_node(node()).await.unwrap();
    namespace.stale().count_bundles().await.unwrap();
    namespace.count_bundles().await.unwrap();
    let contexts: Vec<_> =
        fake.arrived()[1..].iter().map(|arrived| arrived.decode::<CountBundlesRequest>().context.unwrap()).collect();
    assert_eq!((contexts[0].consistency(), contexts[0].min_revision), (Consistency::TolerateStale, 7));
    assert_eq!((contexts[1].consistency(), contexts[1].min_revision), (Consistency::RequireCurrent, 0));
    assert_eq!(namespace.seen_revision(), 8);
}

#[tokio::test]
async fn a_tail_resumes_behind_its_last_message() {
    let fake = Fake::new([
        Reply::answer(&StreamStatusResponse { cursor: "c0".into(), ..Default::default() }, 0),
        Reply::Break,
        Reply::stream(&[progress(0), event(1), event(2)], Then::Hang),
        Reply::Refuse(ErrorKind::Unavailable.status("starting")),
        Reply::stream(&[event(3)], Then::End),
        Reply::stream(&[event(4)], Then::Hang),
        Reply::stream(&[event(5)], Then::Hang),
        Reply::Refuse(ErrorKind::Compacted.status("compacted: oldest sequence is 9")),
    ]);
    let options = Options::default()
        .with_pauses(Duration::from_millis(1), Duration::from_millis(5))
        .with_tail_silence_max(Duration::from_millis(150));
    let namespace = fake.client().await.with_options(options).namespace("prod");
    let mut tail = namespace.tail(TailOptions { streams: vec!["nodes".into()], ..Default::default() }).into_stream();
    let mut revisions = Vec::new();
    let error = loop {
        match tail.next().await.unwrap() {
            Ok(message) => match message.content {
                TailContent::Event(event) => {
                    revisions.push(event.revision);
                    if event.revision == 2 {
                        fake.cut();
                    }
                }
                TailContent::Progress { revision, live } => assert_eq!((revision, live), (0, true)),
            },
            Err(error) => break error,
        }
    };
    assert_eq!(revisions, [1, 2, 3, 4, 5]);
    assert_eq!(error.kind(), Some(ErrorKind::Compacted));
    assert!(tail.next().await.is_none());
    let cursors: Vec<_> = fake.arrived()[1..].iter().map(|arrived| arrived.decode::<TailRequest>().cursor).collect();
    assert_eq!(fake.arrived()[0].call, "StreamStatus");
    assert_eq!(cursors, ["c0", "c0", "c2", "c2", "c3", "c4", "c5"]);
}

#[tokio::test]
async fn a_tail_from_a_cursor_asks_for_nothing_else_first() {
    let fake = Fake::new([Reply::stream(&[event(8)], Then::Hang)]);
    let start = TailStart::Cursor("c7".into());
    let mut tail = fake.client().await.namespace("prod").tail(TailOptions { start, ..Default::default() });
    assert_eq!(tail.cursor(), Some("c7"));
    assert_eq!(tail.next().await.unwrap().cursor, "c8");
    assert_eq!(tail.cursor(), Some("c8"));
    assert_eq!(fake.arrived()[0].decode::<TailRequest>().cursor, "c7");
}

#[tokio::test]
async fn a_tail_gives_up_when_told_to() {
    let script = std::iter::repeat_with(|| Reply::Refuse(ErrorKind::Unavailable.status("down"))).take(1000);
    let client = Fake::new(script).client().await;
    let unreachable_max = Some(Duration::from_millis(50));
    let mut tail = client.namespace("prod").tail(TailOptions { unreachable_max, ..Default::default() });
    assert!(matches!(tail.next().await, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn a_batch_sends_again_what_is_open() {
    let delete = |spiffe_id: &str| {
        Operation::DeleteAttestedNode(DeleteAttestedNodeRequest { context: None, spiffe_id: spiffe_id.into() })
    };
    let done = |revision| MutationOutcome {
        revision,
        result: Some(Answer::DeleteAttestedNode(DeleteAttestedNodeResponse {
            node: Some(node()),
            ..Default::default()
        })),
    };
    let open = MutationFailure { code: Code::Aborted.into(), message: "?".into(), error: "outcome-unknown".into() };
    let open = MutationOutcome { revision: 0, result: Some(Answer::Failure(open)) };
    let fake = Fake::new([
        Reply::Break,
        Reply::answer(&BatchResponse { outcomes: vec![done(3), open] }, 0),
        Reply::answer(&BatchResponse { outcomes: vec![done(4)] }, 0),
    ]);
    let namespace = fake.client().await.namespace("prod");
    let outcomes = namespace.batch(vec![delete("a"), delete("b")]).await;
    assert!(outcomes.iter().all(|outcome| outcome.answer.is_ok()), "{outcomes:?}");
    assert_eq!(namespace.seen_revision(), 4);
    let requests: Vec<BatchRequest> = fake.arrived().iter().map(fake::Arrived::decode).collect();
    assert_eq!(requests[0], requests[1]);
    assert_eq!(requests[2].mutations, requests[1].mutations[1..]);
}

#[tokio::test]
async fn a_long_list_arrives_record_by_record() {
    let entry = |id: &str| RegistrationEntry { entry_id: id.into(), ..Default::default() };
    let messages = [
        StreamRegistrationEntriesResponse { entries: vec![entry("a"), entry("b")], revision: 4 },
        StreamRegistrationEntriesResponse { entries: vec![], revision: 6 },
        StreamRegistrationEntriesResponse { entries: vec![entry("c")], revision: 0 },
    ];
    let fake = Fake::new([Reply::stream(&messages, Then::End), Reply::stream(&messages, Then::Hang)]);
    let namespace = fake.client().await.namespace("prod");
    let whole = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await.unwrap();
    let whole: Vec<_> = whole.map(|entry| entry.unwrap().entry_id).collect().await;
    assert_eq!((whole, namespace.seen_revision()), (["a", "b", "c"].map(String::from).to_vec(), 6));
    let mut broken = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await.unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(broken.next().await.unwrap().unwrap().entry_id, id);
    }
    fake.cut();
    assert!(matches!(broken.next().await, Some(Err(Error::Unavailable { .. }))));
    assert!(broken.next().await.is_none());
}

#[tokio::test]
async fn whatever_shows_a_revision_is_seen() {
    let end = BootstrapEnd { revision: 6, cursor: "c6".into() };
    let messages = [BootstrapResponse { content: Some(bootstrap_response::Content::End(end)) }];
    let fake = Fake::new([
        Reply::stream(&[event(3), progress(4)], Then::Hang),
        Reply::stream(&messages, Then::End),
        Reply::answer(&HistoryResponse::default(), 7),
        Reply::answer(&StateAtResponse::default(), 8),
    ]);
    let namespace = fake.client().await.namespace("prod");
    let mut tail = namespace.tail(TailOptions { start: TailStart::Cursor("c0".into()), ..Default::default() });
    for revision in [3, 4] {
        tail.next().await.unwrap();
        assert_eq!(namespace.seen_revision(), revision);
    }
    namespace.bootstrap_state(&[]).await.unwrap();
    assert_eq!(namespace.seen_revision(), 6);
    namespace.history(Collection::Bundles, "td", 0, 0).await.unwrap();
    assert_eq!(namespace.seen_revision(), 7);
    namespace.state_at(Collection::Bundles, "td", Moment::Revision(1)).await.unwrap();
    assert_eq!(namespace.seen_revision(), 8);
}

#[tokio::test]
async fn options_without_end_are_taken() {
    let count = Reply::answer(&CountBundlesResponse { count: 1 }, 8);
    let status = Reply::answer(&StreamStatusResponse { cursor: "c0".into(), ..Default::default() }, 0);
    let fake = Fake::new([count, status, Reply::Break, Reply::stream(&[event(1)], Then::Hang)]);
    let forever = Duration::MAX;
    let mut options = Options::default().with_deadline(forever).with_tail_silence_max(forever);
    options = options.with_node_patience(forever).with_pauses(Duration::from_millis(1), forever);
    let namespace = fake.client().await.with_options(options).namespace("prod");
    namespace.count_bundles().await.unwrap();
    let mut tail = namespace.tail(TailOptions { unreachable_max: Some(forever), ..Default::default() });
    assert_eq!(tail.next().await.unwrap().cursor, "c1");
}

/// Deletions of these nodes, handed to a writer.
async fn write(writer: &Writer, names: &[&str]) -> Vec<Written> {
    let mut written = Vec::new();
    for name in names {
        let request = DeleteAttestedNodeRequest { context: None, spiffe_id: (*name).into() };
        written.push(writer.write(Operation::DeleteAttestedNode(request)).await);
    }
    written
}

fn deleted(revision: u64) -> MutationOutcome {
    let answer = Answer::DeleteAttestedNode(DeleteAttestedNodeResponse::default());
    MutationOutcome { revision, result: Some(answer) }
}

fn turned_down(kind: ErrorKind) -> MutationOutcome {
    let status = kind.status("text");
    let failure = MutationFailure { code: status.code().into(), message: "text".into(), error: kind.text().to_owned() };
    MutationOutcome { revision: 0, result: Some(Answer::Failure(failure)) }
}

fn outcomes(outcomes: &[MutationOutcome]) -> Reply {
    Reply::answer(&BatchResponse { outcomes: outcomes.to_vec() }, 0)
}

/// The nodes that each message was about, and the ids under which.
fn messages(fake: &Fake) -> Vec<Vec<(String, Vec<u8>)>> {
    let about = |mutation: &steeple_client::types::Mutation| match mutation.operation.clone() {
        Some(Operation::DeleteAttestedNode(request)) => (request.spiffe_id, request.context.unwrap().request_id),
        other => panic!("{other:?}"),
    };
    let arrived = fake.arrived().into_iter().filter(|arrived| arrived.call == "StreamBatches");
    arrived.map(|arrived| arrived.decode::<BatchRequest>().mutations.iter().map(about).collect()).collect()
}

fn names(message: &[(String, Vec<u8>)]) -> Vec<&str> {
    message.iter().map(|(name, _)| name.as_str()).collect()
}

#[tokio::test]
async fn a_writer_sends_again_what_was_not_answered_in_its_order_and_under_its_ids() {
    // What was handed over at once travels together.
    let fake = Fake::new([Reply::Break, outcomes(&[deleted(1), deleted(2), deleted(3)])]);
    let namespace = fake.client().await.namespace("prod");
    let written = write(&namespace.writer(WriterOptions::default()), &["a", "b", "c"]).await;
    let ids: Vec<_> = written.iter().map(|written| written.request_id().0.to_vec()).collect();
    for (written, revision) in written.into_iter().zip(1..) {
        let outcome = written.await;
        assert_eq!((outcome.revision, outcome.answer.is_ok()), (revision, true), "{outcome:?}");
    }
    assert_eq!(namespace.seen_revision(), 3);
    let messages = messages(&fake);
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0], messages[1]);
    assert_eq!(names(&messages[0]), ["a", "b", "c"]);
    assert_eq!(messages[0].iter().map(|(_, id)| id.clone()).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn a_writer_settles_what_it_can_and_sends_the_rest_again() {
    let first = [deleted(4), turned_down(ErrorKind::Overloaded), turned_down(ErrorKind::RequestIdReused)];
    let fake = Fake::new([outcomes(&first), outcomes(&[deleted(5)])]);
    let writer = fake.client().await.namespace("prod").writer(WriterOptions::default());
    let mut written = write(&writer, &["a", "b", "c"]).await.into_iter();
    assert_eq!(written.next().unwrap().await.revision, 4);
    assert_eq!(written.next().unwrap().await.revision, 5);
    let refused = written.next().unwrap().await.answer.unwrap_err();
    assert_eq!(refused.kind(), Some(ErrorKind::RequestIdReused));
    assert_eq!(
        messages(&fake).iter().map(|message| names(message)).collect::<Vec<_>>(),
        [vec!["a", "b", "c"], vec!["b"]]
    );
}

#[tokio::test]
async fn what_a_writer_cannot_settle_in_time_is_told_apart_by_whether_it_may_have_happened() {
    for (kind, is_unknown) in [(ErrorKind::Overloaded, false), (ErrorKind::OutcomeUnknown, true)] {
        let fake = Fake::new(std::iter::repeat_with(|| outcomes(&[turned_down(kind)])).take(1_000));
        let namespace = fake.client().await.namespace("prod").with_deadline(Duration::from_millis(150));
        let written = write(&namespace.writer(WriterOptions::default()), &["a"]).await.remove(0);
        let id = written.request_id();
        match written.await.answer.unwrap_err() {
            Error::OutcomeUnknown { request, .. } => assert!(is_unknown && request == id),
            Error::Unavailable { .. } => assert!(!is_unknown),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_refused_for_good_fails_all_that_is_under_way() {
    let fake = Fake::new([Reply::Refuse(ErrorKind::NamespaceUnknown.status("no such namespace"))]);
    let writer = fake.client().await.namespace("prod").writer(WriterOptions::default());
    for written in write(&writer, &["a", "b"]).await {
        assert_eq!(written.await.answer.unwrap_err().kind(), Some(ErrorKind::NamespaceUnknown));
    }
}

#[tokio::test]
async fn a_writer_takes_no_more_than_it_is_told_to_and_goes_on_when_there_is_room() {
    let fake = Fake::new([Reply::Late(Duration::from_millis(100), Box::new(outcomes(&[deleted(1), deleted(2)])))]);
    let writer = fake.client().await.namespace("prod").writer(WriterOptions { in_flight_max: 2 });
    let mut written = write(&writer, &["a", "b"]).await;
    let third = tokio::time::timeout(Duration::from_millis(20), write(&writer, &["c"])).await;
    assert!(third.is_err(), "two are under way");
    fake.then(outcomes(&[deleted(3)]));
    written.extend(write(&writer, &["c"]).await);
    drop(writer);
    for (written, revision) in written.into_iter().zip(1..) {
        assert_eq!(written.await.revision, revision);
    }
}

#[tokio::test]
async fn a_refusal_for_good_leaves_open_what_an_earlier_attempt_may_have_done() {
    let fake = Fake::new([Reply::Break, Reply::Refuse(ErrorKind::NamespaceUnknown.status("no such namespace"))]);
    let writer = fake.client().await.namespace("prod").writer(WriterOptions::default());
    let written = write(&writer, &["a"]).await.remove(0);
    let id = written.request_id();
    let error = written.await.answer.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { request, .. } if request == id), "{error:?}");
}

#[tokio::test]
async fn a_mutation_that_no_message_can_hold_is_refused_and_does_not_disturb_the_others() {
    let fake = Fake::new([outcomes(&[deleted(1)])]);
    let writer = fake.client().await.namespace("prod").writer(WriterOptions::default());
    let large = "x".repeat(steeple_wire::MESSAGE_BYTES_MAX);
    let mut written = write(&writer, &[&large, "a"]).await.into_iter();
    assert_eq!(written.next().unwrap().await.answer.unwrap_err().kind(), Some(ErrorKind::LimitExceeded));
    assert_eq!(written.next().unwrap().await.revision, 1);
}
