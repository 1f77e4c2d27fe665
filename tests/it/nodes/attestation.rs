use steeple_client::types::{AttestedNode, AttestedNodeFilter as Filter};
use steeple_tests::check::{case, refused};
use steeple_tests::records::{NOW, node, node_event_ids, selector};
use steeple_tests::server::{namespace, run};
use tonic::Code;

#[test]
fn test_count_attested_nodes() {
    run(async {
        let datastore = namespace().await;
        assert_eq!(datastore.count_attested_nodes(Filter::default()).await.unwrap(), 0);
        datastore.create_attested_node(node("spiffe://example.org/foo", NOW)).await.unwrap();
        datastore.create_attested_node(node("spiffe://example.org/bar", NOW)).await.unwrap();
        assert_eq!(datastore.count_attested_nodes(Filter::default()).await.unwrap(), 2);
    });
}

#[test]
fn test_create_attested_node() {
    run(async {
        let datastore = namespace().await;
        let node = AttestedNode {
            spiffe_id: "foo".into(),
            attestation_data_type: "aws-tag".into(),
            cert_serial_number: "badcafe".into(),
            cert_not_after: NOW,
            new_cert_serial_number: "new badcafe".into(),
            new_cert_not_after: NOW + 1,
            selectors: vec![],
            can_reattest: true,
            agent_version: "1.16.0".into(),
        };
        assert_eq!(datastore.create_attested_node(node.clone()).await.unwrap(), node);
        assert_eq!(datastore.fetch_attested_node("foo").await.unwrap(), Some(node));
        assert_eq!(node_event_ids(&datastore).await, [1]);
    });
}

#[test]
fn test_fetch_attested_node_missing() {
    run(async {
        let datastore = namespace().await;
        assert_eq!(datastore.fetch_attested_node("missing").await.unwrap(), None);
        assert_eq!(datastore.fetch_attested_node("").await.unwrap(), None);
    });
}

#[test]
fn test_fetch_attested_nodes() {
    run(async {
        let datastore = namespace().await;
        let mut nodes = Vec::new();
        for number in 1..=4 {
            let id = format!("spiffe://example.org/node{number}");
            datastore.create_attested_node(node(&id, NOW)).await.unwrap();
            let selectors = vec![selector("B", &number.to_string()), selector("A", &number.to_string())];
            datastore.set_node_selectors(id.as_str(), selectors.clone()).await.unwrap();
            nodes.push(AttestedNode { selectors, ..node(&id, NOW) });
        }
        let deleted = nodes.pop().unwrap().spiffe_id;
        datastore.delete_attested_node(deleted.as_str()).await.unwrap();
        let id = |position: usize| nodes[position - 1].spiffe_id.clone();
        let cases = [
            ("No nodes", vec![], vec![]),
            ("Nodes 1 and 2", vec![id(1), id(2)], vec![1, 2]),
            ("Nodes 1, 2, and 3", vec![id(3), id(2), id(1)], vec![1, 2, 3]),
            ("Deleted node", vec![id(2), deleted.clone()], vec![2]),
            ("empty, unknown and doubled IDs", vec![id(3), String::new(), "unknown".into(), id(3)], vec![3]),
        ];
        for (name, ids, expected) in cases {
            let _case = case(name);
            let expected: Vec<_> = expected.iter().map(|position| nodes[position - 1].clone()).collect();
            assert_eq!(datastore.fetch_attested_nodes(ids.clone()).await.unwrap(), expected);
            // The form that has replaced it upstream; an empty list of IDs is no filter there.
            if !ids.is_empty() {
                let filter = Filter { by_spiffe_ids: ids, ..Filter::default() };
                assert_eq!(datastore.list_attested_nodes(filter, true).await.unwrap(), expected);
            }
        }
    });
}

/// Concurrent creations and reads of distinct nodes.
#[test]
fn test_race() {
    run(async {
        let datastore = namespace().await;
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let datastore = datastore.clone();
            workers.spawn(async move {
                for round in 0..8 {
                    let node = node(&format!("foo{worker}-{round}"), NOW);
                    assert_eq!(datastore.create_attested_node(node.clone()).await.unwrap(), node);
                    assert_eq!(datastore.fetch_attested_node(node.spiffe_id.as_str()).await.unwrap(), Some(node));
                }
            });
        }
        workers.join_all().await;
        assert_eq!(node_event_ids(&datastore).await, (1..=64).collect::<Vec<_>>());
    });
}

// ---- what the suite does not cover

#[test]
fn a_node_is_created_once() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(node("foo", NOW)).await.unwrap();
        refused(
            datastore.create_attested_node(node("foo", NOW + 9)).await,
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: attested_node_entries.spiffe_id",
        );
        assert_eq!(datastore.fetch_attested_node("foo").await.unwrap(), Some(node("foo", NOW)));
        assert_eq!(node_event_ids(&datastore).await, [1]);
    });
}

#[test]
fn selectors_of_a_request_are_ignored() {
    run(async {
        let datastore = namespace().await;
        let given = AttestedNode { selectors: vec![selector("a", "1")], ..node("foo", NOW) };
        assert_eq!(datastore.create_attested_node(given.clone()).await.unwrap(), node("foo", NOW));
        assert_eq!(datastore.update_attested_node(given, None).await.unwrap(), node("foo", NOW));
        assert!(datastore.get_node_selectors("foo").await.unwrap().is_empty());
    });
}

#[test]
fn a_recreated_node_gets_a_new_number() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(node("a", NOW)).await.unwrap();
        datastore.create_attested_node(node("b", NOW)).await.unwrap();
        datastore.delete_attested_node("a").await.unwrap();
        datastore.create_attested_node(node("a", NOW)).await.unwrap();
        let (nodes, token) = datastore.list_attested_nodes_page(Filter::default(), false, "", 10).await.unwrap();
        assert_eq!((nodes, token.as_str()), (vec![node("b", NOW), node("a", NOW)], "3"));
    });
}
