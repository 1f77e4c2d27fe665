//! Founders that come late, come back without their disk, or come back together.

use std::path::Path;
use std::time::Duration;

use steeple_engine::domain::Command;
use steeple_engine::ids::{NamespaceId, NodeId};
use steeple_engine::spire;
use steeple_raft::Member;
use tempfile::TempDir;

use crate::embedded::Cluster;
use crate::node::cluster::{ClusterChange, ClusterError};
use crate::node::{Node, NodeOptions, NodeParts};

const PATIENCE: Duration = Duration::from_secs(20);

fn token(text: &str) -> Command {
    let token = spire::tokens::records::JoinToken { token: text.into(), expiry: 50 };
    Command::Spire(spire::Command::Token(spire::tokens::Command::Create(Some(token))))
}

fn founders(data: &TempDir) -> Cluster {
    let mut options = NodeOptions::default();
    options.cluster.tick = Duration::from_millis(10);
    Cluster::prepare(3, Some(data.path().to_owned()), options, NodeParts::default())
}

fn wipe(data: &TempDir, node: u64) {
    std::fs::remove_dir_all(data.path().join(node.to_string())).unwrap();
}

/// Waits until a node says that it does not serve because of something.
async fn until_waiting(node: &Node, reason: &str) {
    let waiting = async {
        while node.cluster_status().await.not_ready.is_none_or(|found| !found.contains(reason)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{reason} expected: {:?}", node.cluster_status().await.not_ready);
}

/// Waits until a node stops because nobody wants it.
async fn assert_turned_away(node: &Node) {
    let reason = tokio::time::timeout(PATIENCE, node.failed()).await.expect("it stops");
    assert!(reason.contains("refuses this node") && reason.contains("wiped or replaced"), "{reason}");
}

/// Starts a node that nobody wants, and returns why not.
async fn start_unwanted(cluster: &mut Cluster, node: u64) -> String {
    let reason = match cluster.start_node(node) {
        Ok(node) => {
            let reason = tokio::time::timeout(PATIENCE, node.failed()).await.expect("it stops");
            assert_eq!(node.cluster_status().await.leader, None);
            reason
        }
        // It was told so quickly that it did not even start.
        Err(error) => error.to_string(),
    };
    cluster.stop_node(node).await;
    assert!(reason.contains("refuses this node") && reason.contains("wiped or replaced"), "{reason}");
    reason
}

async fn started(data: &TempDir) -> (Cluster, NamespaceId) {
    let mut cluster = founders(data);
    for node in 1..=3 {
        cluster.start_node(node).unwrap();
    }
    let namespace = cluster.leader(PATIENCE).await.unwrap().open_namespace("one").await.unwrap();
    for number in 0..10 {
        submit(&cluster, namespace, &format!("token-{number}")).await;
    }
    (cluster, namespace)
}

async fn submit(cluster: &Cluster, namespace: NamespaceId, text: &str) {
    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.submit(namespace, None, token(text)).await.unwrap();
}

async fn add(cluster: &Cluster, node: u64) {
    let leader = cluster.leader(PATIENCE).await.unwrap();
    let address = format!("node-{node}");
    let (peer_address, client_address) = (address.clone(), address);
    let add = ClusterChange::Add { node: NodeId(node), peer_address, client_address, as_learner: true };
    leader.change_cluster(add).await.unwrap();
    let promoted = async {
        while leader.change_cluster(ClusterChange::Promote(NodeId(node))).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, promoted).await.expect("it is promoted");
}

async fn assert_equal(cluster: &Cluster, nodes: &[u64]) {
    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.current().await.unwrap();
    for node in nodes {
        let node = cluster.node(*node).unwrap();
        node.reach(leader.revision(), PATIENCE).await.unwrap();
        assert_eq!(node.status().digest, leader.status().digest, "node {}", node.node_id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_founded_when_the_last_founder_has_come() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = founders(&data);
    let one = cluster.start_node(1).unwrap();
    until_waiting(&one, "as soon as node 2 and node 3 has been heard of").await;
    let two = cluster.start_node(2).unwrap();
    for node in [&one, &two] {
        until_waiting(node, "as soon as node 3 has been heard of").await;
        assert_eq!(node.cluster_status().await.leader, None);
    }
    // One that was restarted meanwhile is the same one.
    drop(one);
    cluster.stop_node(1).await;
    cluster.start_node(1).unwrap();
    cluster.start_node(3).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.open_namespace("one").await.unwrap();
    assert_equal(&cluster, &[1, 2, 3]).await;
    drop(two);
    // Once it is founded, a majority is enough.
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    cluster.start_node(2).unwrap();
    cluster.start_node(3).unwrap();
    cluster.leader(PATIENCE).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_was_wiped_is_refused_and_replaced_under_a_new_number() {
    let data = tempfile::tempdir().unwrap();
    let (mut cluster, namespace) = started(&data).await;
    let wiped = cluster.leader(PATIENCE).await.unwrap().node_id();
    cluster.stop_node(wiped.0).await;
    wipe(&data, wiped.0);
    start_unwanted(&mut cluster, wiped.0).await;
    submit(&cluster, namespace, "without it").await;

    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.change_cluster(ClusterChange::Remove(wiped)).await.unwrap();
    cluster.start_node(4).unwrap();
    add(&cluster, 4).await;
    submit(&cluster, namespace, "with another one").await;
    let left: Vec<_> = (1..=4).filter(|node| *node != wiped.0).collect();
    assert_equal(&cluster, &left).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_founder_is_refused_when_all_start_together() {
    let data = tempfile::tempdir().unwrap();
    let (mut cluster, namespace) = started(&data).await;
    let revision = cluster.leader(PATIENCE).await.unwrap().revision();
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    wipe(&data, 1);
    let wiped = cluster.start_node(1).unwrap();
    until_waiting(&wiped, "as soon as node 2 and node 3 has been heard of").await;
    cluster.start_node(2).unwrap();
    assert_turned_away(&wiped).await;
    cluster.stop_node(1).await;
    cluster.start_node(3).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.current().await.unwrap();
    assert_eq!(leader.revision(), revision);
    submit(&cluster, namespace, "nothing was lost").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_wiped_founders_do_not_found_a_group_without_the_third() {
    let data = tempfile::tempdir().unwrap();
    let (mut cluster, _) = started(&data).await;
    let revision = cluster.leader(PATIENCE).await.unwrap().revision();
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    wipe(&data, 1);
    wipe(&data, 2);
    let wiped = [cluster.start_node(1).unwrap(), cluster.start_node(2).unwrap()];
    for node in &wiped {
        until_waiting(node, "as soon as node 3 has been heard of").await;
    }
    let left = cluster.start_node(3).unwrap();
    for node in &wiped {
        assert_turned_away(node).await;
    }
    assert!(left.current().await.is_err(), "it has no majority");
    left.reach(revision, Duration::ZERO).await.ok();
    assert!(left.revision() <= revision && left.log().last().index.0 >= revision.0, "what it has is still there");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_is_wiped_before_the_group_is_founded_is_told_what_helps() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = founders(&data);
    let one = cluster.start_node(1).unwrap();
    let two = cluster.start_node(2).unwrap();
    until_waiting(&two, "as soon as node 3 has been heard of").await;
    until_waiting(&one, "as soon as node 3 has been heard of").await;
    drop(two);
    cluster.stop_node(2).await;
    wipe(&data, 2);
    let reason = start_unwanted(&mut cluster, 2).await;
    assert!(reason.contains("founded anew with empty directories on all nodes"), "{reason}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_added_and_wiped_is_refused_by_all() {
    let data = tempfile::tempdir().unwrap();
    let (mut cluster, namespace) = started(&data).await;
    cluster.start_node(4).unwrap();
    add(&cluster, 4).await;
    submit(&cluster, namespace, "with four").await;
    assert_equal(&cluster, &[1, 2, 3, 4]).await;
    cluster.stop_node(4).await;
    wipe(&data, 4);
    start_unwanted(&mut cluster, 4).await;
    submit(&cluster, namespace, "without it").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_is_given_only_to_a_node_that_has_called() {
    let cluster = Cluster::start(1).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap();
    let (peer_address, client_address) = ("node-2".to_owned(), "node-2".to_owned());
    let add = ClusterChange::Add { node: NodeId(2), peer_address, client_address, as_learner: false };
    let refused = leader.change_cluster(add).await.unwrap_err();
    assert!(matches!(&refused, ClusterError::Refused(text) if text.contains("has not called")), "{refused}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_gone_from_a_used_directory_is_not_begun_anew() {
    let data = tempfile::tempdir().unwrap();
    let (mut cluster, _) = started(&data).await;
    cluster.stop_node(2).await;
    let log = data.path().join("2").join("group-0").join("log");
    for file in std::fs::read_dir(&log).unwrap() {
        let path = file.unwrap().path();
        if path.file_name() != Some(Path::new("roster").as_os_str()) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let error = cluster.start_node(2).map(drop).unwrap_err().to_string();
    assert!(error.contains("its log is gone"), "{error}");
    cluster.stop().await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_a_disk_is_refused_also_when_nobody_remembers_who_confirmed_what() {
    let data = tempfile::tempdir().unwrap();
    let (mut cluster, namespace) = started(&data).await;
    cluster.stop_node(3).await;
    let copied = data.path().join("copy");
    copy(&data.path().join("3"), &copied);
    let end = cluster.start_node(3).unwrap().log().last().index;
    submit(&cluster, namespace, "after the copy").await;
    let knows = |node: &Node| node.shared.roster.held(NodeId(3)).is_some_and(|held| held > end);
    let noted = async {
        while !cluster.nodes().all(knows) {
            // A check is made only when something has happened since the last one.
            submit(&cluster, namespace, &format!("{:?}", std::time::Instant::now())).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noted).await.expect("a check says what the third one has");
    let revision = cluster.leader(PATIENCE).await.unwrap().revision();
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    wipe(&data, 3);
    std::fs::rename(copied, data.path().join("3")).unwrap();
    cluster.start_node(1).unwrap();
    let copy = cluster.start_node(3).unwrap();
    until_waiting(&copy, "is an older copy").await;
    assert_eq!(cluster.node(1).unwrap().cluster_status().await.leader, None, "nobody votes for it");
    cluster.start_node(2).unwrap();
    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.current().await.unwrap();
    assert!(leader.node_id() != NodeId(3) && leader.revision() >= revision);
    submit(&cluster, namespace, "nothing was lost").await;
    assert!(copy.log().last().index <= end, "it got nothing");
    cluster.stop().await;
}

#[test]
fn a_node_that_has_moved_is_told_what_to_do() {
    let member = |peers: &str, clients: &str| Member { peer_address: peers.into(), client_address: clients.into() };
    let command = |advertised: &Member| super::command_after_moving(NodeId(2), advertised, &member("a:1", "a:2"));
    assert_eq!(command(&member("", "")), None, "its configuration says nothing");
    assert_eq!(command(&member("a:1", "a:2")), None);
    assert_eq!(
        command(&member("b:1", "b:2")).unwrap(),
        "steeple cluster change-address 2 --peer-address b:1 --client-address b:2"
    );
    assert_eq!(command(&member("", "b:2")).unwrap(), "steeple cluster change-address 2 --client-address b:2");
}
