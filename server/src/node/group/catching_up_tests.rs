//! A member that comes back after the log was compacted away under it.

use std::time::Duration;

use steeple_engine::ids::{LogIndex, NamespaceId, StreamSequence};
use steeple_engine::log::LogOptions;
use steeple_engine::spire;
use steeple_raft::ReplicaOptions;

use crate::embedded::Cluster;
use crate::node::options::ClusterOptions;
use crate::node::tail::{StreamPosition, Tail};
use crate::node::tests::{create, prune_events};
use crate::node::{Node, NodeOptions, NodeParts};

const PATIENCE: Duration = Duration::from_secs(30);

/// Elections are not what this is about: so patient that a disk which is busy with something else for a second starts none, while
/// only one follower can confirm who leads.
const ELECTION_TICKS: usize = 48;

/// Small segments and no retention, so that little data is enough to purge and rewrite.
fn eager(store: NodeOptions) -> NodeOptions {
    let log = LogOptions { segment_bytes: 64 << 10, segment_entries: 256, spare_segments: 0, ..LogOptions::default() };
    let patient = ReplicaOptions { election_ticks: ELECTION_TICKS, ..store.cluster.replica };
    NodeOptions {
        log,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        follower_log_retention: Duration::ZERO,
        compaction_interval: None,
        cluster: ClusterOptions { replica: patient, ..store.cluster },
        ..store
    }
}

fn from_start(node: &Node, namespace: NamespaceId) -> Tail {
    let position = StreamPosition { stream: spire::REGISTRATIONS, after: StreamSequence::ZERO };
    node.tail(namespace, vec![position], None).unwrap()
}

/// Takes items until it has come to `last`, and makes sure that none is missing or repeated.
async fn follow(tail: &mut Tail, last: u64) {
    let mut next = tail.positions()[0].after.next();
    while next.0 <= last {
        let Some(item) = tail.next(PATIENCE).await.unwrap() else { panic!("item {next} does not come") };
        for item in item.items {
            assert_eq!(item.sequence, next);
            next = next.next();
        }
    }
}

async fn comes_back(mut cluster: Cluster) {
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    let kept = leader.open_namespace("kept").await.unwrap();
    let pruned = leader.open_namespace("pruned").await.unwrap();
    create(&leader, kept, 0..50).await;
    let away = cluster.nodes().find(|node| node.node_id() != leader.node_id()).unwrap().clone();
    away.reach(leader.revision(), PATIENCE).await.unwrap();
    let mut tail = from_start(&away, kept);
    follow(&mut tail, 10).await;

    cluster.hub().isolate(away.node_id());
    create(&leader, pruned, 0..1000).await;
    create(&leader, kept, 50..60).await;
    leader.submit_to_end(pruned, None, prune_events(u64::MAX)).await.unwrap();
    create(&leader, pruned, 1000..1400).await;
    let others = cluster.nodes().filter(|node| node.node_id() != away.node_id());
    for node in others {
        node.reach(leader.revision(), PATIENCE).await.unwrap();
        node.compact().await.unwrap();
        assert!(node.log().contiguous_from() > away.log().last().index.next(), "node {}", node.node_id());
    }
    cluster.hub().mend_all();
    away.reach(leader.revision(), PATIENCE).await.unwrap();
    assert!(away.log().contiguous_from() > LogIndex(400), "it came back by a snapshot");
    follow(&mut tail, 60).await;
    follow(&mut from_start(&away, kept), 60).await;

    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    create(&leader, kept, 60..80).await;
    for node in cluster.nodes() {
        node.reach(leader.revision(), PATIENCE).await.unwrap();
        assert_eq!(node.status().digest, leader.status().digest, "node {}", node.node_id());
    }
    follow(&mut tail, 80).await;
    if cluster.node(away.node_id().0).is_some_and(|node| node.status().base_covers > LogIndex::ZERO) {
        // What it took over is still there after a restart.
        drop((tail, leader));
        let number = away.node_id().0;
        drop(away);
        cluster.stop_node(number).await;
        let again = cluster.start_node(number).unwrap();
        assert_eq!(again.status().rebuilt, None);
        follow(&mut from_start(&again, kept), 80).await;
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_in_memory_comes_back_by_a_snapshot_with_history() {
    let options = eager(NodeOptions::in_memory());
    comes_back(Cluster::start_with(3, None, options, NodeParts::default()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_disk_comes_back_by_a_snapshot_with_history() {
    let data = tempfile::tempdir().unwrap();
    let options = eager(NodeOptions::default());
    comes_back(Cluster::start_with(3, Some(data.path().to_owned()), options, NodeParts::default()).unwrap()).await;
}
