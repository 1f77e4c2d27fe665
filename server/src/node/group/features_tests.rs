//! Upgrades: the group uses new features once all of its nodes support them, and refuses older ones from then on.

use std::time::Duration;

use steeple_engine::ids::NodeId;
use tempfile::TempDir;

use crate::embedded::{Cluster, ClusterError};
use crate::node::cluster::ClusterChange;
use crate::node::{Node, NodeOptions, NodeParts, StartError};

const PATIENCE: Duration = Duration::from_secs(20);

const OLD: u32 = 1;
const NEW: u32 = 2;

fn cluster(data: &TempDir) -> Cluster {
    let mut options = NodeOptions::default();
    options.cluster.tick = Duration::from_millis(10);
    Cluster::prepare(3, Some(data.path().to_owned()), options, NodeParts::default())
}

fn start(cluster: &mut Cluster, node: u64, features: u32) -> Result<Node, ClusterError> {
    cluster.options_mut().cluster.features = features;
    cluster.start_node(node)
}

async fn until_using(cluster: &Cluster, features: u32) {
    let raised = async {
        while !cluster.nodes().all(|node| node.features() == features) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, raised).await.expect("the features are raised");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_are_used_once_the_last_member_supports_them_and_older_nodes_are_refused_then() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = cluster(&data);
    for (node, features) in [(1, NEW), (2, NEW), (3, OLD)] {
        start(&mut cluster, node, features).unwrap();
    }
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    leader.open_namespace("one").await.unwrap();
    let recorded = async {
        while leader.cluster_status().await.members.iter().any(|member| member.features.is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, recorded).await.expect("every member says what it supports");
    let status = leader.cluster_status().await;
    let supported: Vec<_> = status.members.iter().map(|member| member.features).collect();
    assert_eq!((status.features, supported), (OLD, vec![Some(NEW), Some(NEW), Some(OLD)]));
    drop(leader);

    cluster.stop_node(3).await;
    start(&mut cluster, 3, NEW).unwrap();
    until_using(&cluster, NEW).await;

    cluster.stop_node(2).await;
    match start(&mut cluster, 2, OLD).map(drop).unwrap_err() {
        ClusterError::Start { node: 2, source } => {
            assert!(matches!(*source, StartError::Features { supported: OLD, active: NEW }), "{source}");
        }
        other => panic!("{other}"),
    }
    start(&mut cluster, 2, NEW).unwrap();

    // One that has nothing yet learns it from the others.
    let older = start(&mut cluster, 4, OLD).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap();
    let (peer_address, client_address) = ("node-4".to_owned(), "node-4".to_owned());
    let add = ClusterChange::Add { node: NodeId(4), peer_address, client_address, as_learner: true };
    leader.change_cluster(add).await.unwrap();
    let told = async {
        loop {
            let reason = older.cluster_status().await.not_ready.unwrap_or_default();
            if reason.contains("supports features up to version 1") && reason.contains("upgrade node 4") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    assert!(told.is_ok(), "{:?}", older.cluster_status().await.not_ready);
    assert_eq!(older.log().last().index.0, 0, "it got nothing");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_one_uses_what_it_supports() {
    let data = tempfile::tempdir().unwrap();
    let options = |features| {
        let mut options = NodeOptions::at(data.path());
        options.cluster.features = features;
        options
    };
    let node = Node::start(options(OLD), NodeParts::default()).unwrap();
    assert_eq!(node.features(), OLD);
    node.stop().await;
    drop(node);
    let node = Node::start(options(NEW), NodeParts::default()).unwrap();
    node.open_namespace("one").await.unwrap();
    assert_eq!(node.features(), NEW);
    node.stop().await;
    drop(node);
    let refused = Node::start(options(OLD), NodeParts::default()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("start a newer build"), "{refused}");
}
