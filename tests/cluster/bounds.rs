//! Memory stays bounded while somebody does not keep up.

use std::time::Duration;

use steeple_client::{TailOptions, TailStart};

use crate::cluster::Cluster;
use crate::door::NAMESPACE;
use crate::load::Load;
use crate::settings::{rounds, run, seed};

/// More clients than anywhere else: what is not bounded has to grow visibly.
const CLIENTS: usize = 16;

/// Mutations after which everything that is kept for ever so many of them should be full.
const WARM: usize = 1_500;
const MORE: usize = 2_500;

/// What a node may grow by all the same: records, their indexes, caches and what an allocator keeps.
const GROWTH_MAX: u64 = 48 << 20;

/// Lets clients work for a while, then for longer, and looks at what the leader grows by.
async fn watch_growth(cluster: &Cluster, load: &Load) {
    let leader = cluster.leader().await;
    load.acknowledge_more(WARM).await;
    let before = cluster.node(leader).memory_bytes();
    for _ in 0..rounds(1) {
        load.acknowledge_more(MORE).await;
    }
    let after = cluster.node(leader).memory_bytes();
    println!("the leader grew from {} to {} KiB over {} mutations", before >> 10, after >> 10, MORE as u64 * rounds(1));
    assert!(after < before + GROWTH_MAX * rounds(1).min(4), "the leader grew from {before} to {after} bytes");
}

#[test]
fn with_a_dead_follower() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        let dead = cluster.follower().await;
        cluster.node_mut(dead).kill();
        watch_growth(&cluster, &load).await;
        cluster.restart(dead).await;
        cluster.examine(load).await;
    });
}

#[test]
fn with_a_slow_follower() {
    run(async {
        let cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        let (leader, slow) = (cluster.leader().await, cluster.follower().await);
        cluster.network.delay(leader, slow, Duration::from_millis(250));
        watch_growth(&cluster, &load).await;
        cluster.network.heal();
        cluster.examine(load).await;
    });
}

#[test]
fn with_a_follower_that_is_not_heard() {
    run(async {
        let cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        let follower = cluster.follower().await;
        cluster.mute(follower);
        watch_growth(&cluster, &load).await;
        cluster.network.heal();
        cluster.examine(load).await;
    });
}

#[test]
fn with_a_consumer_that_does_not_read() {
    run(async {
        let cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let options = TailOptions { start: TailStart::Oldest, ..TailOptions::default() };
        let mut tail = cluster.client(leader).namespace(NAMESPACE).tail(options);
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(1).await;
        tail.next().await.expect("it has begun");
        watch_growth(&cluster, &load).await;
        drop(tail);
        cluster.examine(load).await;
    });
}
