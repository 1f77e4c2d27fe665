//! A replica that folds an event wrongly: it notices, shows nothing of it, and gets the right records.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use steeple_engine::ids::NamespaceId;
use steeple_engine::log::LogOptions;

use super::tests::{hand_over, token};
use crate::embedded::Cluster;
use crate::node::tests::{create, prune_events};
use crate::node::{Node, NodeOptions, NodeParts, QueryError};

const PATIENCE: Duration = Duration::from_secs(30);

/// Records are compared often, small segments are given back at once, and nothing happens by itself.
fn options(store: NodeOptions) -> NodeOptions {
    let log = LogOptions { segment_bytes: 64 << 10, segment_entries: 64, spare_segments: 0, ..LogOptions::default() };
    let mut options = NodeOptions {
        log,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        follower_log_retention: Duration::ZERO,
        compaction_interval: None,
        base_interval_bytes: 1,
        ..store
    };
    options.cluster.check_ticks = 4;
    options
}

struct Setting {
    cluster: Cluster,
    leader: Node,
    /// The one that goes astray.
    astray: Node,
    namespace: NamespaceId,
    created: u64,
}

impl Setting {
    async fn new(store: NodeOptions, data: Option<&Path>) -> Self {
        let parts = NodeParts::default();
        let cluster = Cluster::start_with(3, data.map(Path::to_owned), options(store), parts).unwrap();
        let leader = cluster.leader(PATIENCE).await.unwrap().clone();
        let namespace = leader.open_namespace("one").await.unwrap();
        let astray = cluster.nodes().find(|node| node.node_id() != leader.node_id()).unwrap().clone();
        let mut setting = Self { cluster, leader, astray, namespace, created: 0 };
        setting.create(100).await;
        setting
    }

    async fn create(&mut self, count: u64) {
        create(&self.leader, self.namespace, self.created..self.created + count).await;
        self.created += count;
    }

    /// Folds the next event wrongly on one replica.
    async fn go_wrong(&mut self) {
        let next = self.leader.revision().next();
        self.astray.shared.fold_wrongly_at.store(next.0, Ordering::SeqCst);
        self.create(1).await;
        self.astray.reach(next, PATIENCE).await.unwrap();
        assert_ne!(self.astray.status().digest, self.leader.status().digest);
    }

    /// Mutations go on until the replica says that it has noticed.
    async fn until_noticed(&mut self) {
        let noticed = tokio::time::timeout(PATIENCE, async {
            while self.astray.check_records().is_ok() {
                self.create(1).await;
            }
        });
        noticed.await.expect("it notices");
    }

    async fn until_mended(&mut self) {
        let mended = tokio::time::timeout(PATIENCE, async {
            while self.astray.check_records().is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        mended.await.expect("it is mended");
        self.assert_equal().await;
    }

    async fn assert_equal(&self) {
        for node in self.cluster.nodes() {
            node.reach(self.leader.revision(), PATIENCE).await.unwrap();
            let (own, leaders) = (node.status(), self.leader.status());
            assert_eq!((own.revision, own.digest), (leaders.revision, leaders.digest), "node {}", node.node_id());
            assert_eq!(node.view().recompute_digest().unwrap(), (own.revision, own.digest));
        }
    }

    /// Some checks later nobody complains.
    async fn stays_mended(&mut self) {
        for _ in 0..60 {
            self.create(1).await;
            assert!(self.astray.check_records().is_ok());
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
        self.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_records_are_not_read_and_are_made_anew_from_the_own_log() {
    let data = tempfile::tempdir().unwrap();
    for (store, data) in [(NodeOptions::in_memory(), None), (NodeOptions::default(), Some(data.path()))] {
        let mut setting = Setting::new(store, data).await;
        setting.go_wrong().await;
        // Nobody gives space back, and nothing is made anew meanwhile.
        let alone = setting.astray.shared.maintenance.clone().lock_owned().await;
        setting.until_noticed().await;
        assert!(matches!(setting.astray.current().await, Err(QueryError::Astray)));
        let status = setting.astray.cluster_status().await;
        assert!(status.not_ready.is_some_and(|reason| reason.contains("differ from the leader's")));
        drop(alone);
        setting.until_mended().await;
        setting.stays_mended().await;
        setting.cluster.stop().await;
    }
}

/// The base snapshot was written after the records went wrong, or the beginning of the log is gone and there is none.
async fn is_mended_by_the_leader(store: NodeOptions, data: Option<&Path>) {
    let mut setting = Setting::new(store, data).await;
    setting.create(200).await;
    let last = setting.leader.log().last().index;
    setting.leader.submit_to_end(setting.namespace, None, prune_events(u64::MAX)).await.unwrap();
    setting.create(100).await;
    setting.go_wrong().await;
    // Nothing happens until it has given back the log, so that nobody compares the records.
    setting.astray.compact().await.unwrap();
    assert!(setting.astray.log().contiguous_from() > last, "the beginning of the log is gone");
    if data.is_some() {
        assert!(setting.astray.status().base_covers > last, "what is wrong is in the base snapshot");
    }
    setting.until_noticed().await;
    setting.until_mended().await;
    setting.stays_mended().await;
    setting.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_the_own_log_cannot_mend_come_from_the_leader() {
    let data = tempfile::tempdir().unwrap();
    is_mended_by_the_leader(NodeOptions::in_memory(), None).await;
    is_mended_by_the_leader(NodeOptions::default(), Some(data.path())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_does_not_show_wrong_records() {
    let data = tempfile::tempdir().unwrap();
    let mut setting = Setting::new(NodeOptions::default(), Some(data.path())).await;
    setting.go_wrong().await;
    let alone = setting.astray.shared.maintenance.clone().lock_owned().await;
    setting.until_noticed().await;
    let number = setting.astray.node_id();
    let mark = data.path().join(number.to_string()).join("group-0/base/astray");
    assert!(mark.exists());
    // It stops before anything was made anew.
    setting.astray.shared.fail("stopped by the test".into());
    drop(alone);
    setting.cluster.stop_node(number.0).await;
    setting.astray = setting.leader.clone();
    setting.astray = setting.cluster.start_node(number.0).unwrap();
    assert!(setting.astray.status().rebuilt.is_some() && !mark.exists());
    setting.assert_equal().await;
    setting.stays_mended().await;
    setting.cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_knows_the_whole_log_does_not_take_a_wrong_leaders_records() {
    let mut setting = Setting::new(NodeOptions::in_memory(), None).await;
    let (wrong, right) = (setting.leader.clone(), setting.astray.clone());
    let next = wrong.revision().next();
    wrong.shared.fold_wrongly_at.store(next.0, Ordering::SeqCst);
    // In a table of its own: what the leader decides over the wrong records afterwards is right by the log as well.
    wrong.submit(setting.namespace, None, token("wrong")).await.unwrap();
    right.reach(next, PATIENCE).await.unwrap();
    assert_ne!(right.status().digest, wrong.status().digest);
    let alone = right.shared.maintenance.clone().lock_owned().await;
    setting.until_noticed().await;
    drop(alone);
    let looked_again = tokio::time::timeout(PATIENCE, async {
        while right.check_records().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    looked_again.await.expect("it serves again");
    assert_ne!(right.status().digest, wrong.status().digest, "it keeps what the log says");
    // Once another node leads, the one that was wrong notices.
    let alone = wrong.shared.maintenance.clone().lock_owned().await;
    setting.leader = hand_over(&setting.cluster, right.node_id()).await;
    setting.astray = wrong;
    setting.until_noticed().await;
    drop(alone);
    setting.until_mended().await;
    setting.stays_mended().await;
    setting.cluster.stop().await;
}
