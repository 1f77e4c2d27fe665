//! Nodes are killed, stopped, cut off and filled up under load.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, SMALL_FILES, with_leases};
use crate::load::Load;
use crate::settings::PATIENCE;
use crate::settings::{rounds, run, seed};

/// Clients at work while things go wrong.
const CLIENTS: usize = 4;

/// Acknowledged mutations before, between and after faults.
const SOME: usize = 60;

/// Longer than an election takes.
const ELECTIONS: Duration = Duration::from_secs(4);

async fn loaded() -> (Cluster, Load) {
    let cluster = Cluster::start(3).await;
    let load = Load::start(&cluster.doors(), CLIENTS, seed());
    load.acknowledge_more(SOME).await;
    (cluster, load)
}

#[test]
fn one_node_alone_is_killed() {
    run(async {
        let mut cluster = Cluster::start(1).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        for _ in 0..rounds(2) {
            load.acknowledge_more(SOME).await;
            cluster.node_mut(1).kill();
            cluster.restart(1).await;
        }
        load.acknowledge_more(SOME).await;
        cluster.examine(load).await;
    });
}

#[test]
fn a_cluster_at_peace_answers_like_one_copy() {
    run(async {
        let (cluster, load) = loaded().await;
        load.acknowledge_more(SOME).await;
        let told = cluster.examine(load).await;
        assert_eq!((told.unknown, told.unread), (0, 0), "nothing went wrong");
    });
}

#[test]
fn the_leader_is_killed() {
    run(async {
        let (mut cluster, load) = loaded().await;
        for _ in 0..rounds(2) {
            let leader = cluster.leader().await;
            cluster.node_mut(leader).kill();
            load.acknowledge_more(SOME).await;
            cluster.restart(leader).await;
            load.acknowledge_more(SOME).await;
        }
        cluster.examine(load).await;
    });
}

#[test]
fn a_follower_is_killed() {
    run(async {
        let (mut cluster, load) = loaded().await;
        for _ in 0..rounds(2) {
            let follower = cluster.follower().await;
            cluster.node_mut(follower).kill();
            load.acknowledge_more(SOME).await;
            cluster.restart(follower).await;
            load.acknowledge_more(SOME).await;
        }
        let told = cluster.examine(load).await;
        assert_eq!(told.unknown, 0, "the death of a follower leaves nothing open");
    });
}

#[test]
fn all_are_killed_at_once() {
    run(async {
        let (mut cluster, load) = loaded().await;
        for _ in 0..rounds(2) {
            for number in cluster.numbers() {
                cluster.node_mut(number).kill();
            }
            for number in cluster.numbers() {
                cluster.launch(number);
            }
            for number in cluster.numbers() {
                cluster.wait_until_serving(number).await;
            }
            load.acknowledge_more(SOME).await;
        }
        cluster.examine(load).await;
    });
}

#[test]
fn the_leader_is_stopped_for_longer_than_an_election() {
    run(async {
        let (cluster, load) = loaded().await;
        for _ in 0..rounds(1) {
            let leader = cluster.leader().await;
            cluster.node(leader).pause();
            let others: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != leader).collect();
            load.acknowledge_more(SOME).await;
            assert_ne!(cluster.leader_among(&others).await, leader);
            cluster.node(leader).resume();
            load.acknowledge_more(SOME).await;
        }
        cluster.examine(load).await;
    });
}

#[test]
fn a_leader_with_a_lease_stands_still_is_cut_off_killed_and_hands_over() {
    run(async {
        let mut cluster = Cluster::start_with(3, &with_leases(SMALL_FILES)).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        for _ in 0..rounds(1) {
            let leader = cluster.leader().await;
            cluster.node(leader).pause();
            load.acknowledge_more(SOME).await;
            cluster.node(leader).resume();
            load.acknowledge_more(SOME).await;
            let leader = cluster.leader().await;
            cluster.isolate(leader);
            load.acknowledge_more(SOME).await;
            cluster.network.heal();
            load.acknowledge_more(SOME).await;
            let leader = cluster.leader().await;
            cluster.node_mut(leader).kill();
            load.acknowledge_more(SOME).await;
            cluster.restart(leader).await;
            let leader = cluster.leader().await;
            // It hands over to another one before it ends.
            cluster.node_mut(leader).stop();
            load.acknowledge_more(SOME).await;
            cluster.restart(leader).await;
            load.acknowledge_more(SOME).await;
        }
        cluster.examine(load).await;
    });
}

#[test]
fn a_follower_is_stopped_for_longer_than_an_election() {
    run(async {
        let (cluster, load) = loaded().await;
        let (leader, follower) = (cluster.leader().await, cluster.follower().await);
        cluster.node(follower).pause();
        tokio::time::sleep(ELECTIONS).await;
        load.acknowledge_more(SOME).await;
        cluster.node(follower).resume();
        load.acknowledge_more(SOME).await;
        assert_eq!(cluster.leader().await, leader, "the one that comes back disturbs nobody");
        cluster.examine(load).await;
    });
}

#[test]
fn the_leader_is_cut_off() {
    partition(|cluster, leader, _| cluster.isolate(leader));
}

#[test]
fn a_follower_is_cut_off() {
    partition(|cluster, _, follower| cluster.isolate(follower));
}

#[test]
fn the_leader_is_not_heard() {
    partition(|cluster, leader, _| cluster.mute(leader));
}

#[test]
fn the_leader_hears_nothing() {
    partition(|cluster, leader, _| cluster.deafen(leader));
}

#[test]
fn a_follower_is_not_heard() {
    partition(|cluster, _, follower| cluster.mute(follower));
}

#[test]
fn a_follower_hears_nothing() {
    partition(|cluster, _, follower| cluster.deafen(follower));
}

#[test]
fn leader_and_follower_do_not_reach_each_other() {
    partition(|cluster, leader, follower| {
        cluster.network.cut(leader, follower);
        cluster.network.cut(follower, leader);
    });
}

/// Cuts something, lets the rest work on and elect, and heals.
fn partition(cut: fn(&Cluster, u64, u64)) {
    run(async {
        let (cluster, load) = loaded().await;
        for _ in 0..rounds(1) {
            let (leader, follower) = (cluster.leader().await, cluster.follower().await);
            cut(&cluster, leader, follower);
            let began = Instant::now();
            load.acknowledge_more(SOME).await;
            tokio::time::sleep(ELECTIONS.saturating_sub(began.elapsed())).await;
            load.acknowledge_more(SOME).await;
            cluster.network.heal();
            load.acknowledge_more(SOME).await;
        }
        cluster.examine(load).await;
    });
}

#[test]
fn a_slow_network_and_broken_connections() {
    run(async {
        let (cluster, load) = loaded().await;
        for (from, to) in [(1, 2), (2, 1), (1, 3), (3, 2)] {
            cluster.network.delay(from, to, Duration::from_millis(30));
        }
        load.acknowledge_more(SOME).await;
        for _ in 0..rounds(3) {
            cluster.network.reset(1, 2);
            cluster.network.reset(2, 3);
            load.acknowledge_more(SOME / 2).await;
        }
        cluster.network.heal();
        load.acknowledge_more(SOME).await;
        cluster.examine(load).await;
    });
}

#[test]
fn the_disk_of_a_node_is_full() {
    for victim_leads in [false, true] {
        run(async {
            let (mut cluster, load) = loaded().await;
            let (leader, follower) = (cluster.leader().await, cluster.follower().await);
            let victim = if victim_leads { leader } else { follower };
            cluster.node(victim).refuse_writes_behind(0);
            load.acknowledge_more(SOME).await;
            let deadline = Instant::now() + PATIENCE;
            while cluster.node_mut(victim).ended().is_none() {
                assert!(Instant::now() < deadline, "a node whose disk is full goes on");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            load.acknowledge_more(SOME).await;
            cluster.restart(victim).await;
            load.acknowledge_more(SOME).await;
            cluster.examine(load).await;
        });
    }
}

#[test]
fn clocks_jump() {
    const HOUR_MICROS: i64 = 3_600_000_000;
    run(async {
        let (cluster, load) = loaded().await;
        for jump in [HOUR_MICROS, -2 * HOUR_MICROS, 0] {
            let leader = cluster.leader().await;
            cluster.node(leader).shift_clock(jump);
            cluster.node(leader % 3 + 1).shift_clock(-jump);
            load.acknowledge_more(SOME).await;
        }
        cluster.examine(load).await;
    });
}

#[test]
fn one_after_the_other_is_restarted() {
    run(async {
        let (mut cluster, load) = loaded().await;
        for number in cluster.numbers() {
            let leader = cluster.leader().await;
            let order = (leader + number) % 3 + 1;
            cluster.node_mut(order).stop();
            load.acknowledge_more(SOME / 2).await;
            cluster.restart(order).await;
            load.acknowledge_more(SOME / 2).await;
        }
        cluster.examine(load).await;
    });
}
