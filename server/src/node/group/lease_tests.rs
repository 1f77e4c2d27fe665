//! Reads that a leader answers without asking anybody.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steeple_engine::ids::{NodeId, Timestamp};
use steeple_raft::ReplicaOptions;

use super::tests::hand_over;
use crate::embedded::Cluster;
use crate::node::options::{VOTES_GUARDED_FROM, lease_within};
use crate::node::{Clock, FEATURES_SUPPORTED, LEASE, Node, NodeOptions, NodeParts, SystemClock, TICK_MIN_MILLISECONDS};

const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for what is done while a lease holds, on a busy machine as well.
const TICK: Duration = Duration::from_millis(100);

/// How long a read waits that nobody can confirm.
const WAIT: Duration = Duration::from_millis(300);

/// A monotonic clock that stands still when it is told to.
#[derive(Clone, Default)]
struct StoppedClock(Arc<Mutex<Option<Duration>>>);

impl StoppedClock {
    fn stop(&self) {
        *self.0.lock() = Some(SystemClock.monotonic());
    }

    fn go_on(&self, by: Duration) {
        let mut stands = self.0.lock();
        *stands = stands.map(|at| at + by);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().unwrap_or_else(|| SystemClock.monotonic())
    }
}

fn guarded() -> Duration {
    TICK * ReplicaOptions::default().election_ticks as u32
}

/// Three members with leases, or without, and one clock.
fn cluster(lease: Option<Duration>, features: u32) -> (Cluster, StoppedClock) {
    let clock = StoppedClock::default();
    let mut options = NodeOptions::in_memory();
    (options.cluster.tick, options.cluster.lease, options.cluster.features) = (TICK, lease, features);
    options.cluster.read_patience = WAIT;
    let parts = NodeParts { clock: Arc::new(clock.clone()), ..NodeParts::default() };
    (Cluster::start_with(3, None, options, parts).unwrap(), clock)
}

/// The leader of a group that uses what its members support, and whose members have become known.
async fn settled(cluster: &Cluster, features: u32) -> Node {
    let settled = async {
        loop {
            let leader = cluster.leader(PATIENCE).await.unwrap();
            if leader.features() == features && leader.current().await.is_ok() {
                return leader.clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settled).await.expect("a leader that is confirmed")
}

/// Cuts the leader off a moment after it was confirmed, for the clock at that moment. Whether it answers a read then.
async fn reads_when_cut_off(cluster: &Cluster, clock: &StoppedClock, leader: &Node) -> bool {
    clock.stop();
    leader.current().await.unwrap();
    cluster.hub().isolate(leader.node_id());
    leader.current().await.is_ok()
}

#[test]
fn leases_are_shorter_than_any_member_guards_its_votes() {
    let shortest = Duration::from_millis(TICK_MIN_MILLISECONDS) * ReplicaOptions::default().election_ticks as u32;
    assert_eq!(LEASE, lease_within(shortest));
    // Clocks that differ by a tenth, and then some.
    assert!(LEASE.mul_f64(1.1 / 0.9) < shortest);
    const { assert!(VOTES_GUARDED_FROM <= FEATURES_SUPPORTED) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_with_a_lease_answers_until_it_is_over_by_its_clock() {
    let lease = lease_within(guarded());
    let (cluster, clock) = cluster(Some(lease), FEATURES_SUPPORTED);
    let leader = settled(&cluster, FEATURES_SUPPORTED).await;
    assert!(reads_when_cut_off(&cluster, &clock, &leader).await, "nobody else can have been elected");
    clock.go_on(lease - Duration::from_millis(1));
    assert!(leader.current().await.is_ok(), "the last moment of the lease");
    clock.go_on(Duration::from_millis(1));
    assert!(leader.current().await.is_err(), "the lease is over, whatever ticks have come");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leases_or_with_an_older_member_every_read_is_confirmed() {
    let lease = lease_within(guarded());
    for (lease, features) in [(None, FEATURES_SUPPORTED), (Some(lease), VOTES_GUARDED_FROM - 1)] {
        let (cluster, clock) = cluster(lease, features);
        let leader = settled(&cluster, features).await;
        assert!(!reads_when_cut_off(&cluster, &clock, &leader).await, "{lease:?}, features {features}");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hands_over_leaves_its_lease_and_the_next_one_has_its_own() {
    let (cluster, clock) = cluster(Some(lease_within(guarded())), FEATURES_SUPPORTED);
    let leader = settled(&cluster, FEATURES_SUPPORTED).await;
    let to = NodeId(leader.node_id().0 % 3 + 1);
    clock.stop();
    leader.current().await.unwrap();
    let next = hand_over(&cluster, to).await;
    assert!(reads_when_cut_off(&cluster, &clock, &next).await, "votes for it were given at once");
    assert!(leader.current().await.is_err(), "it follows one that it does not hear");
    cluster.stop().await;
}
