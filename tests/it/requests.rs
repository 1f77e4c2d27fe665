//! Mutations that are repeated.

use steeple_client::types::{Bundle, RegistrationEntry};
use steeple_client::{Operation, RequestId};
use steeple_tests::check::{not_found, refused, unsuitable};
use steeple_tests::records::{NOW, bundle, entry, entry_event_ids, key, letters, node, node_event_ids};
use steeple_tests::server::{namespace, run};
use steeple_wire::status::ErrorKind;
use tonic::Code;

#[test]
fn a_repeated_mutation_is_carried_out_once() {
    run(async {
        let datastore = namespace().await;
        let again = datastore.with_request(RequestId::random());
        let new = entry("p", "w", letters("A"));
        let created = again.create_registration_entry(new.clone()).await.unwrap();
        assert_eq!(again.create_registration_entry(new).await.unwrap(), created);
        // As the answer was then, not as the entry is now.
        let update = RegistrationEntry { hint: "h".into(), ..created.clone() };
        let updating = datastore.with_request(RequestId::random());
        let updated = updating.update_registration_entry(update.clone(), None).await.unwrap();
        datastore.delete_registration_entry(created.entry_id.as_str()).await.unwrap();
        assert_eq!(updating.update_registration_entry(update, None).await.unwrap(), updated);
        assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3]);
    });
}

#[test]
fn a_repeated_deletion_still_succeeds() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(node("n", NOW)).await.unwrap();
        let again = datastore.with_request(RequestId::random());
        for _ in 0..3 {
            assert_eq!(again.delete_attested_node("n").await.unwrap(), node("n", NOW));
        }
        not_found(datastore.delete_attested_node("n").await);
        assert_eq!(node_event_ids(&datastore).await, [1, 2]);

        datastore.create_join_token("t", NOW).await.unwrap();
        let again = datastore.with_request(RequestId::random());
        again.delete_join_token("t").await.unwrap();
        again.delete_join_token("t").await.unwrap();
        // Another request is another caller.
        not_found(datastore.with_request(RequestId::random()).delete_join_token("t").await);
    });
}

#[test]
fn a_repeated_append_appends_once() {
    run(async {
        let datastore = namespace().await;
        datastore.create_bundle(bundle("spiffe://td", &[1])).await.unwrap();
        let twice = Bundle { jwt_signing_keys: vec![key("k", 0), key("k", 0)], ..bundle("spiffe://td", &[]) };
        let again = datastore.with_request(RequestId::random());
        let appended = again.append_bundle(twice.clone()).await.unwrap();
        assert_eq!(again.append_bundle(twice).await.unwrap(), appended);
        assert_eq!(datastore.fetch_bundle("spiffe://td").await.unwrap(), Some(appended));
    });
}

#[test]
fn a_request_id_stands_for_one_request() {
    run(async {
        let datastore = namespace().await;
        let again = datastore.with_request(RequestId::random());
        again.create_registration_entry(entry("p", "w", letters("A"))).await.unwrap();
        unsuitable(again.create_registration_entry(entry("p", "x", letters("A"))).await, ErrorKind::RequestIdReused);
        unsuitable(again.create_attested_node(node("n", NOW)).await, ErrorKind::RequestIdReused);
        assert_eq!(entry_event_ids(&datastore).await, [1]);
        // Namespaces have ids of their own.
        let id = RequestId::random();
        for datastore in [datastore, namespace().await] {
            datastore.with_request(id).create_attested_node(node("n", NOW)).await.unwrap();
        }
    });
}

/// Each of a batch has its own outcome.
#[test]
fn a_batch_is_several_mutations() {
    run(async {
        let datastore = namespace().await;
        let create = |id: &str| {
            Operation::CreateAttestedNode(steeple_client::types::CreateAttestedNodeRequest {
                context: None,
                node: Some(node(id, NOW)),
            })
        };
        let outcomes = datastore.batch(vec![create("a"), create("a"), create("b")]).await;
        let refused_one = outcomes.iter().map(|outcome| outcome.answer.is_err()).collect::<Vec<_>>();
        assert_eq!(refused_one, [false, true, false]);
        assert!(outcomes[2].revision > outcomes[0].revision && outcomes[1].revision == 0);
        let refusal = outcomes.into_iter().nth(1).unwrap().answer;
        let text = "datastore-sql: UNIQUE constraint failed: attested_node_entries.spiffe_id";
        refused(refusal, Code::AlreadyExists, text);
        assert_eq!(node_event_ids(&datastore).await, [1, 2]);
    });
}

#[test]
fn a_read_sees_what_was_acknowledged() {
    run(async {
        let datastore = namespace().await;
        for number in 0..50 {
            let id = format!("n{number}");
            datastore.create_attested_node(node(&id, NOW)).await.unwrap();
            assert!(datastore.fetch_attested_node(id.as_str()).await.unwrap().is_some());
            // With what was seen, a stale read is not behind either.
            assert!(datastore.stale().fetch_attested_node(id).await.unwrap().is_some());
        }
    });
}
