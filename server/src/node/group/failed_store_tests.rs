//! Record stores that fail while a node runs: nothing of them is shown, the rest goes on, and they are made anew.

use std::path::Path;
use std::time::Duration;

use steeple_engine::ids::NamespaceId;
use steeple_engine::log::LogOptions;

use crate::embedded::Cluster;
use crate::node::cluster::ClusterChange;
use crate::node::tests::{create, entry, prune_events};
use crate::node::{Node, NodeOptions, NodeParts, QueryError};

const PATIENCE: Duration = Duration::from_secs(30);

/// Small segments are given back at once, and nothing happens by itself.
fn options(store: NodeOptions) -> NodeOptions {
    let log = LogOptions { segment_bytes: 64 << 10, segment_entries: 64, spare_segments: 0, ..LogOptions::default() };
    let mut options = NodeOptions {
        log,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        follower_log_retention: Duration::ZERO,
        compaction_interval: None,
        flush_interval: Duration::from_secs(3600),
        base_interval_bytes: 1,
        ..store
    };
    options.cluster.check_ticks = 4;
    options
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = tokio::time::timeout(PATIENCE, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waiting.await.expect(what);
}

async fn assert_equal(nodes: &[Node]) {
    let furthest = nodes.iter().max_by_key(|node| node.revision()).unwrap();
    for node in nodes {
        node.reach(furthest.revision(), PATIENCE).await.unwrap();
        let (own, expected) = (node.status(), furthest.status());
        assert_eq!((own.revision, own.digest), (expected.revision, expected.digest), "node {}", node.node_id());
        assert_eq!(node.view().recompute_digest().unwrap(), (own.revision, own.digest));
        assert_eq!((own.failure, node.check_records().is_ok()), (None, true));
    }
}

/// How it is found that the store has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Folding,
    Flushing,
}

async fn a_follower_goes_on_without_its_records(store: NodeOptions, data: Option<&Path>, found: Found) {
    let parts = NodeParts::default();
    let mut cluster = Cluster::start_with(3, data.map(Path::to_owned), options(store), parts).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    let namespace = leader.open_namespace("one").await.unwrap();
    let victim = cluster.nodes().find(|node| node.node_id() != leader.node_id()).unwrap().clone();
    let other = (1..=3).find(|number| ![leader.node_id().0, victim.node_id().0].contains(number)).unwrap();
    create(&leader, namespace, 0..100).await;
    victim.reach(leader.revision(), PATIENCE).await.unwrap();
    // Nothing is made anew meanwhile.
    let alone = victim.shared.maintenance.clone().lock_owned().await;
    let shown = victim.revision();
    victim.core().records.break_down();
    match found {
        Found::Folding => create(&leader, namespace, 100..101).await,
        Found::Flushing => drop(victim.flush().await.unwrap_err()),
    }
    until("it notices", || victim.check_records().is_err()).await;
    assert!(matches!(victim.current().await, Err(QueryError::Astray)));
    let status = victim.cluster_status().await;
    assert!(status.not_ready.is_some_and(|reason| reason.contains("record store has failed")), "{found:?}");
    // It votes and confirms all the while: without it nothing is committed now.
    if data.is_some() {
        cluster.stop_node(other).await;
    }
    create(&leader, namespace, 200..250).await;
    let address = "peer.example:1".to_owned();
    let learner = ClusterChange::Add {
        node: steeple_engine::ids::NodeId(9),
        peer_address: address.clone(),
        client_address: String::new(),
        as_learner: true,
    };
    leader.change_cluster(learner).await.unwrap();
    create(&leader, namespace, 250..300).await;
    assert_eq!(victim.revision(), shown, "nothing is folded into a store that has failed");
    drop(alone);
    until("it is mended", || victim.check_records().is_ok()).await;
    create(&leader, namespace, 300..310).await;
    if data.is_some() {
        cluster.start_node(other).unwrap();
    }
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    assert_equal(&nodes).await;
    drop(nodes);
    assert_eq!(victim.view().membership(), leader.view().membership());
    victim.flush().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_store_fails_when_something_is_folded_makes_it_anew() {
    let data = tempfile::tempdir().unwrap();
    a_follower_goes_on_without_its_records(NodeOptions::in_memory(), None, Found::Folding).await;
    a_follower_goes_on_without_its_records(NodeOptions::default(), Some(data.path()), Found::Folding).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_store_fails_at_a_flush_makes_it_anew() {
    let data = tempfile::tempdir().unwrap();
    a_follower_goes_on_without_its_records(NodeOptions::in_memory(), None, Found::Flushing).await;
    a_follower_goes_on_without_its_records(NodeOptions::default(), Some(data.path()), Found::Flushing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_store_fails_leaves_the_lead_to_others() {
    let cluster = Cluster::start_with(3, None, options(NodeOptions::in_memory()), NodeParts::default()).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    let namespace = leader.open_namespace("one").await.unwrap();
    create(&leader, namespace, 0..100).await;
    let alone = leader.shared.maintenance.clone().lock_owned().await;
    leader.core().records.break_down();
    // It may or may not have been carried out.
    drop(leader.submit(namespace, None, entry(100)).await);
    until("it notices", || leader.check_records().is_err()).await;
    let next = tokio::time::timeout(PATIENCE, async {
        loop {
            let next = cluster.nodes().find(|node| node.node_id() != leader.node_id() && node.is_in_touch());
            if let Some(next) = next
                && next.submit(namespace, None, entry(101)).await.is_ok()
            {
                return next.clone();
            }
            let others: Vec<Node> =
                cluster.nodes().filter(|node| node.node_id() != leader.node_id()).cloned().collect();
            for node in others {
                if node.submit(namespace, None, entry(102)).await.is_ok() {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let next = next.await.expect("another one leads");
    create(&next, namespace, 200..250).await;
    drop(alone);
    until("it is mended", || leader.check_records().is_ok()).await;
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    assert_equal(&nodes).await;
    cluster.stop().await;
}

/// Lets the beginning of the log go.
async fn forget_the_beginning(node: &Node, namespace: NamespaceId) {
    create(node, namespace, 1000..1300).await;
    node.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
    create(node, namespace, 2000..2100).await;
    node.compact().await.unwrap();
    assert!(node.log().contiguous_from().0 > 1, "the beginning of the log is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_cannot_make_them_itself_gets_the_leaders() {
    let cluster = Cluster::start_with(3, None, options(NodeOptions::in_memory()), NodeParts::default()).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    let namespace = leader.open_namespace("one").await.unwrap();
    create(&leader, namespace, 0..50).await;
    let victim = cluster.nodes().find(|node| node.node_id() != leader.node_id()).unwrap().clone();
    victim.reach(leader.revision(), PATIENCE).await.unwrap();
    create(&leader, namespace, 1000..1300).await;
    leader.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
    create(&leader, namespace, 2000..2100).await;
    victim.reach(leader.revision(), PATIENCE).await.unwrap();
    // It has no base snapshot, because it has no files.
    victim.compact().await.unwrap();
    assert!(victim.log().contiguous_from().0 > 1, "the beginning of the log is gone");
    victim.core().records.break_down();
    create(&leader, namespace, 3000..3010).await;
    until("it notices", || victim.check_records().is_err() || victim.revision() == leader.revision()).await;
    until("it is mended", || victim.check_records().is_ok()).await;
    create(&leader, namespace, 3010..3020).await;
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    assert_equal(&nodes).await;
    cluster.stop().await;
}

/// Those with the longest logs have lost their records, and do not stand for election; the one that has some is not elected
/// by them. Nobody leads before somebody has got records from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_from_any_member_while_nobody_leads() {
    let data = tempfile::tempdir().unwrap();
    let parts = NodeParts::default();
    let mut cluster =
        Cluster::start_with(3, Some(data.path().to_owned()), options(NodeOptions::default()), parts).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    let namespace = leader.open_namespace("one").await.unwrap();
    create(&leader, namespace, 1000..1300).await;
    leader.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
    create(&leader, namespace, 2000..2100).await;
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    for node in &nodes {
        node.reach(leader.revision(), PATIENCE).await.unwrap();
        node.compact().await.unwrap();
        assert!(node.log().contiguous_from().0 > 1, "the beginning of the log is gone");
    }
    let behind = nodes.iter().find(|node| node.node_id() != leader.node_id()).unwrap().node_id().0;
    drop((leader, nodes));
    cluster.stop_node(behind).await;
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    create(&leader, namespace, 3000..3010).await;
    let victims: Vec<Node> = cluster.nodes().cloned().collect();
    assert_eq!(victims.len(), 2);
    for node in &victims {
        node.reach(leader.revision(), PATIENCE).await.unwrap();
        let base = node.core().base.path().unwrap();
        std::fs::write(base, b"damaged").unwrap();
        node.core().records.break_down();
        assert!(node.flush().await.is_err());
    }
    for node in &victims {
        until("it notices", || node.check_records().is_err()).await;
    }
    cluster.start_node(behind).unwrap();
    for node in &victims {
        until("it is mended", || node.check_records().is_ok()).await;
    }
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    create(&leader, namespace, 4000..4010).await;
    let nodes: Vec<Node> = cluster.nodes().cloned().collect();
    assert_equal(&nodes).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_makes_its_records_anew_while_commands_wait() {
    let data = tempfile::tempdir().unwrap();
    let at = |data: &Path| options(NodeOptions::at(data));
    let node = Node::start(at(data.path()), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("one").await.unwrap();
    create(&node, namespace, 0..100).await;
    forget_the_beginning(&node, namespace).await;
    for (round, found) in [Found::Folding, Found::Flushing].into_iter().enumerate() {
        let alone = node.shared.maintenance.clone().lock_owned().await;
        let revision = node.revision();
        node.core().records.break_down();
        match found {
            Found::Folding => assert!(node.submit(namespace, None, entry(100)).await.is_err(), "nobody knows"),
            Found::Flushing => drop(node.flush().await.unwrap_err()),
        }
        until("it notices", || node.check_records().is_err()).await;
        let number = 5000 + round as u64 * 1000;
        let waiting = {
            let node = node.clone();
            tokio::spawn(async move { create(&node, namespace, number..number + 1).await })
        };
        drop(alone);
        waiting.await.unwrap();
        until("it is mended", || node.check_records().is_ok()).await;
        node.current().await.unwrap();
        // What was in the log already is folded, before anything else is decided.
        let folding = u64::from(found == Found::Folding);
        assert_eq!(node.revision().0, revision.0 + folding + 1, "{found:?}");
        create(&node, namespace, number + 1..number + 50).await;
        assert_equal(std::slice::from_ref(&node)).await;
    }
    let digest = node.status().digest;
    node.stop().await;
    drop(node);
    let node = Node::start(at(data.path()), NodeParts::default()).unwrap();
    assert_eq!((node.status().digest, node.status().rebuilt), (digest, None));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_that_has_nothing_to_make_them_from_ends() {
    let mut options = options(NodeOptions::in_memory());
    options.cluster.tick = Duration::from_millis(5);
    let node = Node::start(options, NodeParts::default()).unwrap();
    let namespace = node.open_namespace("one").await.unwrap();
    forget_the_beginning(&node, namespace).await;
    node.core().records.break_down();
    assert!(node.flush().await.is_err());
    let failed = tokio::time::timeout(PATIENCE, node.failed()).await.expect("it gives up");
    assert!(failed.contains("the record store has failed too often"), "{failed}");
    assert!(node.check_records().is_err());
    node.stop().await;
}
