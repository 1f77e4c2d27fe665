//! Cursors, tails, and questions about the past.

use prost::Message;
use steeple_client::{Client, Namespace, TailOptions, TailStart};
use steeple_server::node::NodeOptions;
use steeple_tests::check::{case, not_found, unsuitable};
use steeple_tests::raw::{self, EVENTS};
use steeple_tests::records::{NOW, letters, node};
use steeple_tests::server::{Server, namespace, run, shared};
use steeple_wire::events::v1 as events;
use steeple_wire::spire::v1 as spire;
use steeple_wire::status::ErrorKind;
use tonic::{Code, Status};

use super::{assert_serves, read_context, send, texts};

fn tail_from(datastore: &Namespace, cursor: &str) -> events::TailRequest {
    events::TailRequest { namespace: datastore.name().into(), cursor: cursor.into(), ..Default::default() }
}

async fn tail(client: &Client, name: &str, cursor: String) -> Result<(), steeple_client::Error> {
    let options = TailOptions { start: TailStart::Cursor(cursor), ..Default::default() };
    client.namespace(name).tail(options).next().await.map(drop)
}

#[test]
fn cursors_are_checked() {
    run(async {
        let (datastore, other) = (namespace().await, namespace().await);
        datastore.create_attested_node(node("n", NOW)).await.unwrap();
        let good = datastore.stream_status().await.unwrap().cursor;
        let client = shared().client();
        let name = datastore.name();
        tail(&client, name, good.clone()).await.unwrap();

        let malformed = ErrorKind::CursorMalformed;
        let changed = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
        let (cut, upper) = (good[..good.len() - 2].to_owned(), good.to_uppercase());
        for wrong in ["garbage".into(), "st1.".into(), "st2.00".into(), changed, cut, upper, "x".repeat(100_000)] {
            unsuitable(tail(&client, name, wrong).await, malformed);
        }

        // Of another namespace.
        let foreign = other.stream_status().await.unwrap().cursor;
        unsuitable(tail(&client, name, foreign).await, ErrorKind::CursorForeign);

        // Of another history.
        let server = Server::start(NodeOptions::in_memory()).await;
        let elsewhere = server.namespace().await;
        let foreign = elsewhere.stream_status().await.unwrap().cursor;
        unsuitable(tail(&client, name, foreign).await, ErrorKind::CursorForeign);
        server.node.stop().await;

        // Of the future, of the node and of a stream.
        let mut cursor = steeple_wire::cursor::Cursor::decode(&good).unwrap();
        cursor.revision = u64::MAX;
        unsuitable(tail(&client, name, cursor.encode()).await, ErrorKind::CursorAhead);
        let mut cursor = steeple_wire::cursor::Cursor::decode(&good).unwrap();
        for (_, sequence) in &mut cursor.streams {
            *sequence = u64::MAX;
        }
        unsuitable(tail(&client, name, cursor.encode()).await, ErrorKind::CursorAhead);

        // Without the streams that are asked for.
        let mut cursor = steeple_wire::cursor::Cursor::decode(&good).unwrap();
        cursor.streams.clear();
        unsuitable(tail(&client, name, cursor.encode()).await, ErrorKind::CursorForeign);
        assert_serves(&datastore).await;
    });
}

#[test]
fn a_cursor_below_what_is_kept_is_told() {
    run(async {
        let datastore = namespace().await;
        let start = datastore.stream_status().await.unwrap().cursor;
        for number in 0..3 {
            datastore.create_attested_node(node(&format!("n{number}"), NOW)).await.unwrap();
        }
        while datastore.fetch_event_bounds().await.unwrap().1.oldest_event_id < 4 {
            datastore.prune_attested_node_events(std::time::Duration::ZERO).await.unwrap();
        }
        let text = unsuitable(tail(&shared().client(), datastore.name(), start).await, ErrorKind::Compacted);
        assert!(text.contains('4'), "{text}");
        assert_serves(&datastore).await;
    });
}

#[test]
fn tails_have_limits() {
    run(async {
        let datastore = namespace().await;
        let begin = async |request: events::TailRequest| -> Result<Option<events::TailResponse>, Status> {
            raw::first(&shared().channel, EVENTS, "Tail", &request).await
        };
        let refusal = begin(events::TailRequest { keys: texts(10_001), ..tail_from(&datastore, "") }).await;
        let refusal = refusal.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::LimitExceeded));
        assert_eq!(refusal.message(), "10001 keys were given, 10000 are allowed");
        let unknown = begin(events::TailRequest { streams: vec!["x".into()], ..tail_from(&datastore, "") }).await;
        assert_eq!(unknown.unwrap_err().code(), Code::InvalidArgument);
        let streams = vec!["nodes".to_owned(); 1_000];
        let refusal = begin(events::TailRequest { streams, ..tail_from(&datastore, "") }).await.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::LimitExceeded));
        begin(tail_from(&datastore, "")).await.unwrap();
        assert_serves(&datastore).await;
    });
}

/// A node serves so many tails and no more; one that ends makes room.
#[test]
fn the_number_of_tails_has_a_limit() {
    run(async {
        let server = Server::start(NodeOptions { tails_max: 2, ..NodeOptions::in_memory() }).await;
        let datastore = server.namespace().await;
        let begin = async || {
            let request = tail_from(&datastore, "").encode_to_vec();
            raw::streaming_bytes(&server.channel, EVENTS, "Tail", request).await
        };
        let first = begin().await.unwrap();
        let second = begin().await.unwrap();
        let refusal = begin().await.unwrap_err();
        assert_eq!(ErrorKind::of(&refusal), Some(ErrorKind::Overloaded), "{refusal}");
        drop((first, second));
        // The node notices with the next message, which comes within a second.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while begin().await.is_err() {
            assert!(std::time::Instant::now() < deadline, "no room was made");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_serves(&datastore).await;
        server.node.stop().await;
    });
}

/// What does not fit waits at the door, and nothing is lost.
#[test]
fn mutations_wait_for_their_turn() {
    run(async {
        let server = Server::start(NodeOptions { submissions_max: 1, ..NodeOptions::in_memory() }).await;
        let datastore = server.namespace().await;
        let mut waiting = tokio::task::JoinSet::new();
        for number in 0..100 {
            let datastore = datastore.clone();
            waiting.spawn(async move { datastore.create_attested_node(node(&format!("n{number}"), NOW)).await });
        }
        for created in waiting.join_all().await {
            created.unwrap();
        }
        let batch = (0..1_000).map(|number| {
            steeple_client::Operation::SetNodeSelectors(spire::SetNodeSelectorsRequest {
                context: None,
                spiffe_id: format!("n{number}"),
                selectors: letters("A"),
            })
        });
        assert!(datastore.batch(batch.collect()).await.iter().all(|outcome| outcome.answer.is_ok()));
        assert_eq!(steeple_tests::records::node_event_ids(&datastore).await, (1..=1_100).collect::<Vec<_>>());
        server.node.stop().await;
    });
}

/// Too long to be the key of anything, which is an answer.
#[test]
fn long_keys_find_nothing() {
    run(async {
        let datastore = namespace().await;
        let long = || "x".repeat(1_000_000);
        assert_eq!(datastore.fetch_bundle(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_registration_entry(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_attested_node(long()).await.unwrap(), None);
        assert_eq!(datastore.get_node_selectors(long()).await.unwrap(), []);
        assert_eq!(datastore.fetch_join_token(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_ca_journal(long()).await.unwrap(), None);
        assert_eq!(datastore.fetch_federation_relationship(long()).await.unwrap(), None);
        not_found(datastore.delete_bundle(long(), Default::default()).await);
        not_found(datastore.delete_registration_entry(long()).await);
        not_found(datastore.delete_attested_node(long()).await);
        not_found(datastore.delete_join_token(long()).await);
        not_found(datastore.delete_federation_relationship(long()).await);
        not_found(datastore.taint_jwt_key(long(), long()).await);
        assert_serves(&datastore).await;
    });
}

#[test]
fn questions_about_the_past_are_checked() {
    run(async {
        let datastore = namespace().await;
        let record = |collection: i32, key: &str| Some(events::RecordKey { collection, key: key.into() });
        let nodes = events::Collection::AttestedNodes.into();
        let journals = events::Collection::CaJournals.into();
        let name = || datastore.name().to_owned();
        for (case_name, record) in [
            ("no record", None),
            ("no collection", record(0, "x")),
            ("unknown collection", record(99, "x")),
            ("not the ID of a journal", record(journals, "x")),
        ] {
            let _case = case(case_name);
            let request = events::HistoryRequest { namespace: name(), record: record.clone(), ..Default::default() };
            let refusal = send(EVENTS, "History", request.encode_to_vec()).await.unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
            let request = events::StateAtRequest { namespace: name(), record, ..Default::default() };
            let refusal = send(EVENTS, "StateAt", request.encode_to_vec()).await.unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
        }
        for key in [String::new(), "x".repeat(1_000_000)] {
            let request =
                events::HistoryRequest { namespace: name(), record: record(nodes, &key), ..Default::default() };
            drop(send(EVENTS, "History", request.encode_to_vec()).await);
            for at in [
                None,
                Some(events::state_at_request::At::Revision(u64::MAX)),
                Some(events::state_at_request::At::TimeMicros(i64::MIN)),
                Some(events::state_at_request::At::TimeMicros(i64::MAX)),
            ] {
                let request =
                    events::StateAtRequest { namespace: name(), record: record(nodes, &key), at, ..Default::default() };
                drop(send(EVENTS, "StateAt", request.encode_to_vec()).await);
            }
        }
        let request = events::ListItemsRequest {
            context: read_context(&datastore),
            stream: "nodes".into(),
            after_sequence: u64::MAX,
            limit: u32::MAX,
            ..Default::default()
        };
        let answer: events::ListItemsResponse =
            raw::unary(&shared().channel, EVENTS, "ListItems", &request).await.unwrap();
        assert_eq!(answer.items, []);
        assert_serves(&datastore).await;
    });
}
