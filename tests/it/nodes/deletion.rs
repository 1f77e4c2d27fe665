use steeple_client::Namespace;
use steeple_client::types::{AttestedNode, RegistrationEntry};
use steeple_tests::check::not_found;
use steeple_tests::records::{NOW, entry, entry_event_ids, node, node_event_ids, selector};
use steeple_tests::server::{namespace, run};

pub(super) const AGENT: &str = "spiffe://example.org/spire/agent/join_token/token";

pub(super) fn join_token_node(spiffe_id: &str, cert_not_after: i64) -> AttestedNode {
    AttestedNode { attestation_data_type: "join_token".into(), ..node(spiffe_id, cert_not_after) }
}

/// What SPIRE writes for a join token with an alias.
pub(super) fn alias(agent: &str) -> RegistrationEntry {
    entry(agent, "spiffe://example.org/alias", vec![selector("spiffe_id", agent)])
}

#[test]
fn test_delete_attested_node() {
    run(async {
        let datastore = namespace().await;
        // delete non-existing attested node
        not_found(datastore.delete_attested_node("foo").await);
        assert_eq!(node_event_ids(&datastore).await, [0u64; 0]);

        // delete attested node that don't have selectors associated
        datastore.create_attested_node(node("foo", NOW)).await.unwrap();
        assert_eq!(datastore.delete_attested_node("foo").await.unwrap(), node("foo", NOW));
        assert_eq!(datastore.fetch_attested_node("foo").await.unwrap(), None);

        // delete attested node with associated selectors
        let selectors = vec![
            selector("TYPE1", "VALUE1"),
            selector("TYPE2", "VALUE2"),
            selector("TYPE3", "VALUE3"),
            selector("TYPE4", "VALUE4"),
        ];
        datastore.create_attested_node(node("foo", NOW)).await.unwrap();
        datastore.set_node_selectors("foo", selectors.clone()).await.unwrap();
        datastore.set_node_selectors("other", selectors.clone()).await.unwrap();
        assert_eq!(datastore.get_node_selectors("foo").await.unwrap(), selectors);
        assert_eq!(datastore.delete_attested_node("foo").await.unwrap(), node("foo", NOW));
        assert_eq!(datastore.fetch_attested_node("foo").await.unwrap(), None);
        assert!(datastore.get_node_selectors("foo").await.unwrap().is_empty());
        assert_eq!(datastore.get_node_selectors("other").await.unwrap(), selectors);
        not_found(datastore.delete_attested_node("foo").await);
        assert_eq!(node_event_ids(&datastore).await, [1, 2, 3, 4, 5, 6]);
    });
}

async fn created(datastore: &Namespace, entry: RegistrationEntry) -> RegistrationEntry {
    datastore.create_registration_entry(entry).await.unwrap()
}

async fn fetched(datastore: &Namespace, entry: &RegistrationEntry) -> Option<RegistrationEntry> {
    datastore.fetch_registration_entry(entry.entry_id.as_str()).await.unwrap()
}

#[test]
fn test_delete_attested_node_cascades_entries() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(join_token_node(AGENT, NOW)).await.unwrap();
        let alias = created(&datastore, alias(AGENT)).await;
        datastore.delete_attested_node(AGENT).await.unwrap();
        assert_eq!(fetched(&datastore, &alias).await, None);
        let events = datastore.list_registration_entry_events(1, 0).await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!((events[0].event_id, events[0].entry_id.as_str()), (2, alias.entry_id.as_str()));
        assert_eq!(node_event_ids(&datastore).await, [1, 2]);
    });
}

#[test]
fn test_delete_attested_node_join_token_preserves_non_alias_child_entries() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(join_token_node(AGENT, NOW)).await.unwrap();
        datastore.set_node_selectors(AGENT, vec![selector("spiffe_id", AGENT)]).await.unwrap();
        let alias_entry = created(&datastore, alias(AGENT)).await;
        // Each of these misses the shape of an alias by one thing.
        let others = [
            entry(AGENT, "workload", vec![selector("unix", "uid:1")]),
            entry(AGENT, "two selectors", vec![selector("spiffe_id", AGENT), selector("unix", "uid:1")]),
            entry(AGENT, "another value", vec![selector("spiffe_id", "spiffe://example.org/other")]),
            entry("spiffe://example.org/other", "another parent", vec![selector("spiffe_id", AGENT)]),
        ];
        let mut kept = Vec::new();
        for other in others {
            kept.push(created(&datastore, other).await);
        }
        let before = entry_event_ids(&datastore).await.len() as u64;
        datastore.delete_attested_node(AGENT).await.unwrap();
        assert_eq!(fetched(&datastore, &alias_entry).await, None);
        assert_eq!(datastore.list_registration_entries(Default::default()).await.unwrap(), kept);
        assert!(datastore.get_node_selectors(AGENT).await.unwrap().is_empty());
        let events = datastore.list_registration_entry_events(before, 0).await.unwrap();
        assert_eq!(events.iter().map(|event| event.entry_id.as_str()).collect::<Vec<_>>(), [alias_entry.entry_id]);
    });
}

#[test]
fn test_delete_attested_node_non_join_token_does_not_cascade() {
    run(async {
        let datastore = namespace().await;
        for kind in ["x509pop", "join_token2", "Join_Token", ""] {
            let agent = format!("spiffe://example.org/spire/agent/{kind}");
            let node = AttestedNode { attestation_data_type: kind.into(), ..node(&agent, NOW) };
            datastore.create_attested_node(node).await.unwrap();
            let alias = created(&datastore, alias(&agent)).await;
            let before = entry_event_ids(&datastore).await;
            datastore.delete_attested_node(agent.as_str()).await.unwrap();
            assert_eq!(fetched(&datastore, &alias).await, Some(alias));
            assert_eq!(entry_event_ids(&datastore).await, before);
        }
    });
}

/// More alias entries than go with a node in one event.
#[test]
fn a_node_with_many_aliases_is_deleted_in_one_call() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(join_token_node(AGENT, NOW)).await.unwrap();
        let entry = |number| RegistrationEntry { spiffe_id: format!("alias{number}"), ..alias(AGENT) };
        let operations = (0..2_100).map(|number| crate::registration_entries::create_operation(entry(number)));
        crate::registration_entries::batch(&datastore, operations.collect()).await;
        assert_eq!(datastore.delete_attested_node(AGENT).await.unwrap(), join_token_node(AGENT, NOW));
        assert_eq!(datastore.fetch_attested_node(AGENT).await.unwrap(), None);
        assert_eq!(datastore.count_registration_entries(Default::default()).await.unwrap(), 0);
        assert_eq!(entry_event_ids(&datastore).await, (1..=4_200).collect::<Vec<_>>());
        assert_eq!(node_event_ids(&datastore).await, [1, 2]);
    });
}
