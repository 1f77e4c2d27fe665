//! Clusters in one process.

use std::sync::Arc;
use std::time::Duration;

use steeple_engine::disk::SimulatedDisk;
use steeple_engine::domain::Command;
use steeple_engine::ids::{ClusterId, HistoryId, LogIndex, NamespaceId, NodeId, RequestId, Revision, Term, Timestamp};
use steeple_engine::spire;
use steeple_raft::{Leadership, Member};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Semaphore, oneshot};

use super::{Answering, ClusterOrigin, Group, Waiting};
use crate::embedded::Cluster;
use crate::node::cluster::{ClusterChange, ClusterError};
use crate::node::stepped::{Shelf, SimulatedStorage, SteppedNode};
use crate::node::{Clock as _, Node, NodeOptions, NodeParts, SubmitError, SystemClock};

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn token(text: &str) -> Command {
    let token = spire::tokens::records::JoinToken { token: text.into(), expiry: 50 };
    Command::Spire(spire::Command::Token(spire::tokens::Command::Create(Some(token))))
}

/// Hands leadership to a node, again where it did not take over in time, as on a busy machine. Answers who leads then.
pub(super) async fn hand_over(cluster: &Cluster, to: NodeId) -> Node {
    let handed_over = async {
        loop {
            let leader = cluster.leader(PATIENCE).await.unwrap();
            if leader.node_id() == to {
                return leader.clone();
            }
            match leader.change_cluster(ClusterChange::TransferLeader(to)).await {
                Ok(()) | Err(ClusterError::Refused(_) | ClusterError::NotLeader { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, handed_over).await.expect("it takes over")
}

async fn opened(cluster: &Cluster) -> NamespaceId {
    cluster.leader(PATIENCE).await.unwrap().open_namespace("one").await.unwrap()
}

/// Waits until every node has folded what the leader has, and compares the records.
async fn assert_equal(cluster: &Cluster) {
    let leader = cluster.leader(PATIENCE).await.unwrap();
    leader.current().await.unwrap();
    let revision = leader.revision();
    for node in cluster.nodes() {
        node.reach(revision, PATIENCE).await.unwrap();
        let (own, leaders) = (node.status(), leader.status());
        assert_eq!((own.revision, own.digest), (leaders.revision, leaders.digest), "node {}", node.node_id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_elect_a_leader_and_fold_the_same_events() {
    let cluster = Cluster::start(3).unwrap();
    let namespace = opened(&cluster).await;
    let leader = cluster.leader(PATIENCE).await.unwrap();
    for number in 0..100 {
        leader.submit(namespace, None, token(&format!("token-{number}"))).await.unwrap();
    }
    assert_eq!(leader.revision(), Revision(101));
    assert_equal(&cluster).await;
    let follower = cluster.nodes().find(|node| node.node_id() != leader.node_id()).unwrap();
    let refused = follower.submit(namespace, None, token("elsewhere")).await.unwrap_err();
    match refused {
        SubmitError::NotLeader { leader: Some((node, address)) } => {
            assert_eq!((node, address), (leader.node_id(), format!("node-{}", leader.node_id())));
        }
        other => panic!("{other:?}"),
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_current_read_on_a_follower_sees_what_was_acknowledged_before_it() {
    let cluster = Cluster::start(3).unwrap();
    let namespace = opened(&cluster).await;
    let leader = cluster.leader(PATIENCE).await.unwrap();
    for number in 0..50 {
        let accepted = leader.submit(namespace, None, token(&format!("token-{number}"))).await.unwrap();
        for node in cluster.nodes() {
            node.current().await.unwrap();
            assert!(node.revision() >= accepted.revision);
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_loses_leadership_and_what_it_proposed_is_told_as_unknown() {
    let cluster = Cluster::start(3).unwrap();
    let namespace = opened(&cluster).await;
    let old = cluster.leader(PATIENCE).await.unwrap().clone();
    cluster.hub().isolate(old.node_id());
    let lost = old.submit(namespace, Some(RequestId([1; 16])), token("lost")).await.unwrap_err();
    assert!(matches!(lost, SubmitError::OutcomeUnknown(_)), "{lost:?}");
    assert!(old.current().await.is_err(), "nobody confirms it");
    let new = loop {
        let others = cluster.nodes().filter(|node| node.node_id() != old.node_id());
        let statuses = others.map(|node| async move { (node, node.cluster_status().await.leader) });
        let mut found = None;
        for status in statuses {
            let (node, leader) = status.await;
            found = found.or((leader == Some(node.node_id())).then_some(node));
        }
        if let Some(node) = found {
            break node.clone();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let repeated = new.submit(namespace, Some(RequestId([1; 16])), token("lost")).await.unwrap();
    assert_eq!(repeated.revision, Revision(2));
    cluster.hub().mend_all();
    assert_equal(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_transfer_tells_whoever_asked_for_the_first() {
    let cluster = Cluster::start(3).unwrap();
    opened(&cluster).await;
    assert_equal(&cluster).await;
    let old = cluster.leader(PATIENCE).await.unwrap().clone();
    let (first, second) = (NodeId(old.node_id().0 % 3 + 1), NodeId((old.node_id().0 + 1) % 3 + 1));
    // It does not hear that it is to lead.
    cluster.hub().cut(old.node_id(), first);
    let ask = |to| old.change_cluster(ClusterChange::TransferLeader(to));
    let (overtaken, done) = tokio::join!(ask(first), ask(second));
    let expected = format!("before node {first} took over, somebody asked for node {second}");
    assert_eq!(overtaken, Err(ClusterError::Refused(expected)));
    assert_eq!(done, Ok(()));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_and_a_node_is_added_promoted_and_removed() {
    let mut cluster = Cluster::start(3).unwrap();
    let namespace = opened(&cluster).await;
    let old = cluster.leader(PATIENCE).await.unwrap().clone();
    let leader = hand_over(&cluster, NodeId(old.node_id().0 % 3 + 1)).await;
    leader.submit(namespace, None, token("after")).await.unwrap();

    let joined = cluster.start_node(4).unwrap();
    let add = ClusterChange::Add {
        node: NodeId(4),
        peer_address: "node-4".into(),
        client_address: "node-4".into(),
        as_learner: true,
    };
    leader.change_cluster(add).await.unwrap();
    joined.reach(leader.revision(), PATIENCE).await.unwrap();
    promote(&leader, NodeId(4)).await;
    leader.change_cluster(ClusterChange::Remove(old.node_id())).await.unwrap();
    let status = leader.cluster_status().await;
    let members: Vec<_> = status.members.iter().map(|member| member.node).collect();
    assert!(!members.contains(&old.node_id()) && members.contains(&NodeId(4)), "{members:?}");
    leader.submit(namespace, None, token("with four")).await.unwrap();
    let again = ClusterChange::Add {
        node: old.node_id(),
        peer_address: "again".into(),
        client_address: String::new(),
        as_learner: true,
    };
    match leader.change_cluster(again).await {
        Err(ClusterError::Refused(reason)) => assert!(reason.contains("never used again"), "{reason}"),
        other => panic!("{other:?}"),
    }
    cluster.stop_node(old.node_id().0).await;
    assert_equal(&cluster).await;
    cluster.stop().await;
}

/// Waits until the leader has heard nothing of a node for some time.
async fn until_silent(leader: &Node, node: NodeId) {
    let mut looks = 0;
    let silent = async {
        while looks < 40 {
            let status = leader.cluster_status().await;
            let member = status.members.iter().find(|member| member.node == node).unwrap();
            looks = if member.recently_active == Some(false) { looks + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, silent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_would_leave_no_majority_of_live_voters_is_refused() {
    let mut cluster = Cluster::start(3).unwrap();
    let namespace = opened(&cluster).await;
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    let others: Vec<_> = cluster.nodes().map(Node::node_id).filter(|node| *node != leader.node_id()).collect();
    let (dead, live) = (others[0], others[1]);
    cluster.stop_node(dead.0).await;
    until_silent(&leader, dead).await;
    match leader.change_cluster(ClusterChange::Remove(live)).await {
        Err(ClusterError::Refused(reason)) => assert!(reason.contains(&format!("of node {dead}")), "{reason}"),
        other => panic!("{other:?}"),
    }
    let address = String::from("node-9");
    let (peer_address, client_address) = (address.clone(), address);
    let add = ClusterChange::Add { node: NodeId(9), peer_address, client_address, as_learner: false };
    assert!(matches!(leader.change_cluster(add).await, Err(ClusterError::Refused(_))), "three of four are too many");
    leader.submit(namespace, None, token("it goes on")).await.unwrap();
    leader.change_cluster(ClusterChange::Remove(dead)).await.unwrap();
    leader.submit(namespace, None, token("with two")).await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_how_far_it_is_committed_also_when_the_node_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_at(3, data.path()).unwrap();
    let namespace = opened(&cluster).await;
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    for number in 0..20 {
        leader.submit(namespace, None, token(&format!("token-{number}"))).await.unwrap();
    }
    let folded = leader.view().folded().index;
    for node in 1..=3_u64 {
        let log = data.path().join(node.to_string()).join("group-0/log");
        let noted = async {
            while noted_commit(&log) < folded {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, noted).await.unwrap();
    }
    cluster.stop().await;
}

/// What a start would find if the node were killed now.
fn noted_commit(log: &std::path::Path) -> LogIndex {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(log).unwrap() {
        let file = file.unwrap();
        // A file may be renamed or removed meanwhile.
        let _ = std::fs::copy(file.path(), copy.path().join(file.file_name()));
    }
    let disk = steeple_engine::disk::RealDisk::open(copy.path()).unwrap();
    let Ok(Some(identity)) = steeple_engine::log::read_identity(&disk) else { return LogIndex::ZERO };
    let opened = steeple_engine::log::Log::open(std::sync::Arc::new(disk), Default::default(), identity);
    opened.map_or(LogIndex::ZERO, |(writer, ..)| writer.hard_state().commit)
}

async fn promote(leader: &Node, node: NodeId) {
    let promoted = tokio::time::timeout(PATIENCE, async {
        while leader.change_cluster(ClusterChange::Promote(node)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    promoted.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_on_disk_goes_on_after_all_nodes_were_stopped() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_at(3, data.path()).unwrap();
    let namespace = opened(&cluster).await;
    for number in 0..20 {
        let leader = cluster.leader(PATIENCE).await.unwrap();
        leader.submit(namespace, None, token(&format!("token-{number}"))).await.unwrap();
    }
    for node in 1..=3 {
        cluster.stop_node(node).await;
    }
    for node in 1..=3 {
        cluster.start_node(node).unwrap();
    }
    let leader = cluster.leader(PATIENCE).await.unwrap();
    assert_eq!(leader.revision(), Revision(21));
    leader.submit(namespace, None, token("again")).await.unwrap();
    assert_equal(&cluster).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_after_the_log_was_given_back_takes_over_a_snapshot_with_the_history() {
    let data = tempfile::tempdir().unwrap();
    let mut options = crate::node::NodeOptions { history_retention: Duration::ZERO, ..Default::default() };
    options.request_window = Duration::ZERO;
    options.follower_log_retention = Duration::ZERO;
    options.compaction_interval = None;
    options.base_interval_bytes = 1;
    options.log.segment_bytes = 1 << 20;
    options.log.segment_entries = 64;
    let parts = crate::node::NodeParts::default();
    let mut cluster = Cluster::start_with(3, Some(data.path().to_owned()), options, parts).unwrap();
    let namespace = opened(&cluster).await;
    let leader = cluster.leader(PATIENCE).await.unwrap().clone();
    for number in 0..500 {
        leader.submit(namespace, None, token(&format!("token-{number}"))).await.unwrap();
    }
    leader.compact().await.unwrap();
    assert!(leader.log().first() > LogIndex(1), "the beginning of the log is gone");
    let joined = cluster.start_node(4).unwrap();
    let add = ClusterChange::Add {
        node: NodeId(4),
        peer_address: "node-4".into(),
        client_address: "node-4".into(),
        as_learner: true,
    };
    leader.change_cluster(add).await.unwrap();
    joined.reach(leader.revision(), PATIENCE).await.unwrap();
    leader.submit(namespace, None, token("after")).await.unwrap();
    assert_equal(&cluster).await;
    drop(joined);
    cluster.stop_node(4).await;
    cluster.start_node(4).unwrap();
    assert_equal(&cluster).await;
    cluster.stop().await;
}

/// What becomes of a command that has waited since some time for a term to be opened, when something happens to its group.
fn of_early(
    founders: u64,
    since: Timestamp,
    request: Option<RequestId>,
    happens: impl FnOnce(&mut Group),
) -> Result<(), SubmitError> {
    let mut options = NodeOptions::in_memory();
    options.cluster.node = NodeId(1);
    let (cluster, history) = (ClusterId([1; 16]), HistoryId([1; 16]));
    let members = (1..=founders).map(|node| (node, Member::default())).collect();
    options.cluster.origin = ClusterOrigin::Founding { cluster, history, members };
    let (log, base, stores) = (Arc::new(SimulatedDisk::new()), SimulatedDisk::new(), Shelf::default());
    let storage = Arc::new(SimulatedStorage { log, base, stores });
    let mut node = SteppedNode::start(options, &NodeParts::default(), storage, 1).unwrap();
    let (answer, mut answered) = oneshot::channel();
    let answer = Answering::Alone { answer, _permit: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap() };
    let waiting = Waiting::new(NamespaceId::SYSTEM, request, token("early"), answer);
    let group = node.group_mut();
    group.early.push_back((since, waiting));
    happens(group);
    match answered.try_recv() {
        Ok(told) => told.map(drop),
        Err(error) => {
            assert_eq!(error, TryRecvError::Empty, "it was dropped without an answer");
            Ok(())
        }
    }
}

fn assert_turned_away(outcome: Result<(), SubmitError>) {
    let turned_away = outcome.unwrap_err();
    assert!(matches!(turned_away, SubmitError::NotLeader { leader: None }), "{turned_away:?}");
}

#[test]
fn what_waits_for_a_term_does_not_wait_for_another_leader() {
    let lost = |group: &mut Group| group.follow_leadership(Leadership { term: Term(2), leader: None, opened: None });
    assert_turned_away(of_early(3, Timestamp(u64::MAX), None, lost));
    of_early(1, Timestamp(u64::MAX), None, lost).expect("a group of one has nowhere else to send it");
}

#[test]
fn what_waits_for_a_term_is_decided_soon_or_turned_away() {
    let overdue = Group::turn_away_overdue;
    let (request, a_minute_ago) = (Some(RequestId([1; 16])), Timestamp(SystemClock.now().0 - 60_000_000));
    of_early(3, Timestamp(u64::MAX), request, overdue).expect("it has just come");
    assert_turned_away(of_early(3, a_minute_ago, request, overdue));
    of_early(1, a_minute_ago, request, overdue).expect("a group of one has nowhere else to send it");
    // If it was carried out before, that may be forgotten.
    assert_turned_away(of_early(1, Timestamp(0), request, overdue));
    of_early(1, Timestamp(0), None, overdue).expect("there is nothing to forget");
}
