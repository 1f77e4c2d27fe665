use steeple_client::types::AttestedNode;
use steeple_client::{Namespace, Pruned};
use steeple_tests::check::case;
use steeple_tests::records::{MICROS, NOW, entry_event_ids, node, node_event_ids, selector};
use steeple_tests::server::{namespace, run};

use super::deletion::{alias, join_token_node};

/// One node of each kind that expires at `NOW`, one that is valid for longer, and one banned.
async fn load() -> (Namespace, Vec<AttestedNode>) {
    let datastore = namespace().await;
    let reattestable = |id: &str, expiry| AttestedNode { can_reattest: true, ..node(id, expiry) };
    let nodes = vec![
        reattestable("reattestable", NOW),
        node("non-reattestable", NOW),
        reattestable("valid", NOW + 3600),
        AttestedNode { cert_serial_number: String::new(), ..reattestable("banned", NOW) },
    ];
    for node in &nodes {
        datastore.create_attested_node(node.clone()).await.unwrap();
        datastore.set_node_selectors(node.spiffe_id.as_str(), vec![selector("TYPE", "VALUE")]).await.unwrap();
    }
    (datastore, nodes)
}

#[test]
fn test_prune_attested_expired_nodes() {
    run(async {
        let (datastore, nodes) = load().await;
        let cases = [
            ("prune before expiry", NOW - 60, true, vec![]),
            ("strictly", NOW, true, vec![]),
            ("prune expired attested nodes", NOW + 60, false, vec!["reattestable"]),
            (
                "prune expired attested nodes including non-reattestable nodes",
                NOW + 60,
                true,
                vec!["reattestable", "non-reattestable"],
            ),
        ];
        let (mut gone_before, mut events) = (0, 8);
        for (name, before, non_reattestable, gone) in cases {
            let _case = case(name);
            let pruned = datastore.prune_attested_expired_nodes(before * MICROS, non_reattestable, 100).await.unwrap();
            assert_eq!(pruned.pruned, gone.len() as u64 - gone_before);
            gone_before = gone.len() as u64;
            events += pruned.pruned;
            assert_eq!(node_event_ids(&datastore).await.len() as u64, events);
            for node in &nodes {
                let id = node.spiffe_id.as_str();
                let stays = !gone.contains(&id);
                assert_eq!(datastore.fetch_attested_node(id).await.unwrap(), stays.then(|| node.clone()));
                assert_eq!(datastore.get_node_selectors(id).await.unwrap().is_empty(), !stays);
            }
        }
    });
}

#[test]
fn test_prune_attested_expired_nodes_batch_size() {
    run(async {
        let datastore = namespace().await;
        for number in 0..5 {
            let node = AttestedNode { can_reattest: true, ..node(&format!("node{number}"), NOW - number) };
            datastore.create_attested_node(node).await.unwrap();
        }
        for (left, pruned) in [(3, 2), (1, 2), (0, 1), (0, 0)] {
            let found = datastore.prune_attested_expired_nodes((NOW + 60) * MICROS, false, 2).await.unwrap();
            assert_eq!(
                (found.pruned, datastore.count_attested_nodes(Default::default()).await.unwrap()),
                (pruned, left)
            );
        }
        assert_eq!(node_event_ids(&datastore).await, (1..=10).collect::<Vec<_>>());
    });
}

#[test]
fn the_oldest_expiry_goes_first() {
    run(async {
        let datastore = namespace().await;
        for (id, expiry) in [("b", NOW - 10), ("a", NOW - 30), ("c", NOW - 20)] {
            let node = AttestedNode { can_reattest: id != "a", ..node(id, expiry) };
            datastore.create_attested_node(node).await.unwrap();
        }
        for left in [vec!["b", "c"], vec!["b"], vec![]] {
            datastore.prune_attested_expired_nodes(NOW * MICROS, true, 1).await.unwrap();
            let nodes = datastore.list_attested_nodes(Default::default(), false).await.unwrap();
            assert_eq!(nodes.iter().map(|node| node.spiffe_id.as_str()).collect::<Vec<_>>(), left);
        }
    });
}

/// Zero and negative batch sizes mean 1,000.
#[test]
fn the_default_batch_is_a_thousand() {
    run(async {
        let datastore = namespace().await;
        let create = |number| {
            let node = AttestedNode { can_reattest: true, ..node(&format!("node{number}"), NOW - 1) };
            steeple_client::Operation::CreateAttestedNode(steeple_client::types::CreateAttestedNodeRequest {
                context: None,
                node: Some(node),
            })
        };
        crate::registration_entries::batch(&datastore, (0..2_100).map(create).collect()).await;
        for (batch_size, expected) in [(0, 1_000), (-7, 1_000), (0, 100)] {
            let Pruned { pruned, .. } =
                datastore.prune_attested_expired_nodes(NOW * MICROS, false, batch_size).await.unwrap();
            assert_eq!(pruned, expected, "batch size {batch_size}");
        }
    });
}

#[test]
fn test_prune_attested_expired_nodes_cascades_entries() {
    run(async {
        let datastore = namespace().await;
        let mut aliases = Vec::new();
        for (id, expiry) in [("expired", NOW - 60), ("valid", NOW + 60)] {
            let node = AttestedNode { can_reattest: true, ..join_token_node(id, expiry) };
            datastore.create_attested_node(node).await.unwrap();
            aliases.push(datastore.create_registration_entry(alias(id)).await.unwrap());
        }
        datastore.prune_attested_expired_nodes(NOW * MICROS, false, 100).await.unwrap();
        assert_eq!(datastore.list_registration_entries(Default::default()).await.unwrap(), aliases[1..]);
        let events = datastore.list_registration_entry_events(2, 0).await.unwrap();
        assert_eq!(events.iter().map(|event| event.entry_id.as_str()).collect::<Vec<_>>(), [&aliases[0].entry_id]);
        assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3]);
        assert_eq!(node_event_ids(&datastore).await, [1, 2, 3]);
    });
}
