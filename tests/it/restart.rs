//! What survives a restart: everything, counters of deleted records included.

use std::time::Duration;

use steeple_client::Namespace;
use steeple_client::types::{CaJournal, RegistrationEntry};
use steeple_engine::record_store::RecordStoreKind;
use steeple_server::node::NodeOptions;
use steeple_tests::check::case;
use steeple_tests::records::{
    MICROS, NOW, bundle, entry, entry_event_ids, letters, node, node_event_ids, web_relationship,
};
use steeple_tests::server::{Server, run};

const STORES: [RecordStoreKind; 3] = [RecordStoreKind::Sled, RecordStoreKind::Fjall, RecordStoreKind::Memory];

fn options(directory: &tempfile::TempDir, store: RecordStoreKind) -> NodeOptions {
    let mut options = NodeOptions { store, ..NodeOptions::at(directory.path()) };
    options.log.segment_bytes = 32 << 20;
    options
}

/// The same data set after a restart of its node.
async fn restart(server: Server, datastore: Namespace, options: NodeOptions) -> (Server, Namespace) {
    let name = datastore.name().to_owned();
    drop(datastore);
    let server = server.restart(options).await;
    let datastore = server.client().namespace(name);
    (server, datastore)
}

#[test]
fn records_and_counters_survive() {
    run(async {
        for store in STORES {
            let _case = case(format!("{store:?}"));
            let directory = tempfile::tempdir().unwrap();
            let server = Server::start(options(&directory, store)).await;
            let datastore = server.namespace().await;
            datastore.create_bundle(bundle("spiffe://td", &[1])).await.unwrap();
            let federated = RegistrationEntry {
                federates_with: vec!["spiffe://td".into()],
                hint: "h".into(),
                ..entry("p", "kept", letters("AB"))
            };
            let kept = datastore.create_registration_entry(federated).await.unwrap();
            let gone = datastore.create_registration_entry(entry("p", "gone", letters("A"))).await.unwrap();
            datastore.delete_registration_entry(gone.entry_id).await.unwrap();
            datastore.create_attested_node(node("kept", NOW)).await.unwrap();
            datastore.set_node_selectors("kept", letters("BA")).await.unwrap();
            datastore.create_attested_node(node("gone", NOW)).await.unwrap();
            datastore.delete_attested_node("gone").await.unwrap();
            datastore.create_join_token("t", NOW).await.unwrap();
            datastore.create_federation_relationship(web_relationship("td.org")).await.unwrap();
            let journal = CaJournal { id: 0, active_x509_authority_id: "a".into(), data: b"data".to_vec() };
            let journal = datastore.set_ca_journal(journal).await.unwrap();

            let (server, datastore) = restart(server, datastore, options(&directory, store)).await;
            assert_eq!(datastore.list_bundles().await.unwrap(), [bundle("spiffe://td", &[1])]);
            assert_eq!(datastore.list_registration_entries(Default::default()).await.unwrap(), [kept]);
            let nodes = datastore.list_attested_nodes(Default::default(), true).await.unwrap();
            assert_eq!(nodes.len(), 1);
            assert_eq!(nodes[0].selectors, letters("BA"));
            assert_eq!(datastore.fetch_join_token("t").await.unwrap().unwrap().expires_at, NOW);
            assert_eq!(datastore.list_federation_relationships().await.unwrap(), [web_relationship("td.org")]);
            assert_eq!(datastore.fetch_ca_journal("a").await.unwrap(), Some(journal));
            assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3]);
            assert_eq!(node_event_ids(&datastore).await, [1, 2, 3, 4]);

            // Numbers go on where they were, those of deleted records included.
            datastore.create_registration_entry(entry("p", "new", letters("A"))).await.unwrap();
            let (_, token) = datastore.list_registration_entries_page(Default::default(), "", 9).await.unwrap();
            assert_eq!(token, "3");
            datastore.create_attested_node(node("new", NOW)).await.unwrap();
            let (_, token) = datastore.list_attested_nodes_page(Default::default(), false, "", 9).await.unwrap();
            assert_eq!(token, "3");
            assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3, 4]);
            assert_eq!(node_event_ids(&datastore).await, [1, 2, 3, 4, 5]);
            server.node.stop().await;
        }
    });
}

/// Numbers are not used again even when nothing is left that would tell them.
#[test]
fn counters_survive_pruning_of_everything() {
    run(async {
        for store in STORES {
            let _case = case(format!("{store:?}"));
            let directory = tempfile::tempdir().unwrap();
            let server = Server::start(options(&directory, store)).await;
            let datastore = server.namespace().await;
            for number in 0..3 {
                let expiring = RegistrationEntry { entry_expiry: 1, ..entry("p", &format!("w{number}"), letters("A")) };
                datastore.create_registration_entry(expiring).await.unwrap();
                let id = format!("n{number}");
                let node = steeple_client::types::AttestedNode { can_reattest: true, ..node(&id, 1) };
                datastore.create_attested_node(node).await.unwrap();
                datastore.create_join_token(id, 1).await.unwrap();
                datastore.set_ca_journal(CaJournal { data: vec![], ..Default::default() }).await.unwrap();
            }
            assert_eq!(datastore.prune_registration_entries(NOW * MICROS).await.unwrap().pruned, 3);
            assert_eq!(datastore.prune_attested_expired_nodes(NOW * MICROS, true, 0).await.unwrap().pruned, 3);
            assert_eq!(datastore.prune_join_tokens(NOW * MICROS).await.unwrap(), 3);
            assert_eq!(datastore.prune_ca_journals(NOW).await.unwrap(), 3);
            loop {
                datastore.prune_registration_entry_events(Duration::ZERO).await.unwrap();
                datastore.prune_attested_node_events(Duration::ZERO).await.unwrap();
                if entry_event_ids(&datastore).await.is_empty() && node_event_ids(&datastore).await.is_empty() {
                    break;
                }
            }

            let (server, datastore) = restart(server, datastore, options(&directory, store)).await;
            assert_eq!(entry_event_ids(&datastore).await, [0u64; 0]);
            datastore.create_registration_entry(entry("p", "new", letters("A"))).await.unwrap();
            datastore.create_attested_node(node("new", NOW)).await.unwrap();
            assert_eq!(entry_event_ids(&datastore).await, [7]);
            assert_eq!(node_event_ids(&datastore).await, [7]);
            let (_, token) = datastore.list_registration_entries_page(Default::default(), "", 9).await.unwrap();
            assert_eq!(token, "4");
            let (_, token) = datastore.list_attested_nodes_page(Default::default(), false, "", 9).await.unwrap();
            assert_eq!(token, "4");
            assert_eq!(datastore.set_ca_journal(CaJournal::default()).await.unwrap().id, 4);
            server.node.stop().await;
        }
    });
}

/// A caller that lost the answer to a crash asks again under the same id.
#[test]
fn a_request_is_remembered_across_a_restart() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(options(&directory, RecordStoreKind::Sled)).await;
        let datastore = server.namespace().await;
        let id = steeple_client::RequestId::random();
        let new = entry("p", "w", letters("A"));
        let created = datastore.with_request(id).create_registration_entry(new.clone()).await.unwrap();
        let (server, datastore) = restart(server, datastore, options(&directory, RecordStoreKind::Sled)).await;
        assert_eq!(datastore.with_request(id).create_registration_entry(new).await.unwrap(), created);
        assert_eq!(entry_event_ids(&datastore).await, [1]);
        server.node.stop().await;
    });
}
