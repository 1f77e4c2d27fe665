//! How long writes pause when a leader dies or hands over.
//!
//! A few by default, to keep the promise checked. For the figures in `docs/performance.md`:
//!
//! ```sh
//! STEEPLE_TEST_ROUNDS=30 cargo test --release -p steeple-tests --test cluster -- --nocapture pauses
//! ```

use std::time::{Duration, Instant};

use crate::cluster::Cluster;
use crate::load::Load;
use crate::settings::{rounds, run, seed};

const CLIENTS: usize = 8;
const SOME: usize = 100;

/// What is promised at default settings.
const KILL_PAUSE_MAX: Duration = Duration::from_secs(2);
const TRANSFER_PAUSE_MAX: Duration = Duration::from_millis(300);

/// Defaults, but for what tests need.
const DEFAULTS: &str = "[tracing]\nlevel = \"info\"\n";

/// From an instant to the first acknowledgement of what was decided after it, and the longest silence around it.
fn pause_after(moments: &[Instant], began: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = began;
    let around = began + Duration::from_secs(10);
    for moment in moments.iter().filter(|moment| **moment > began && **moment < around) {
        longest = longest.max(*moment - last);
        last = *moment;
    }
    longest
}

fn tell(what: &str, pauses: &mut [Duration], promised: Duration) {
    pauses.sort_unstable();
    let at = |percent: usize| pauses[(pauses.len() - 1) * percent / 100];
    println!(
        "{what}, {} times: median {:?}, 90 % {:?}, longest {:?} (promised {promised:?})",
        pauses.len(),
        at(50),
        at(90),
        at(100)
    );
    // One in ten may be worse where the machine is busy with other tests.
    assert!(at(90) <= promised || cfg!(debug_assertions), "{what}: {pauses:?}");
}

#[test]
fn pauses_of_writes_when_the_leader_is_killed() {
    run(async {
        let mut cluster = Cluster::start_with(3, DEFAULTS).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let mut kills = Vec::new();
        for _ in 0..rounds(3) {
            let leader = cluster.leader().await;
            let began = Instant::now();
            cluster.node_mut(leader).kill();
            load.acknowledge_more(SOME).await;
            cluster.restart(leader).await;
            load.acknowledge_more(SOME).await;
            kills.push(began);
        }
        let told = cluster.examine(load).await;
        let mut pauses: Vec<Duration> = kills.iter().map(|began| pause_after(&told.moments, *began)).collect();
        tell("leader killed", &mut pauses, KILL_PAUSE_MAX);
    });
}

#[test]
fn pauses_of_writes_when_the_leader_hands_over() {
    run(async {
        let cluster = Cluster::start_with(3, DEFAULTS).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let mut transfers = Vec::new();
        for _ in 0..rounds(3) {
            let leader = cluster.leader().await;
            let next = leader % 3 + 1;
            let began = Instant::now();
            cluster.client(leader).admin().transfer_leader(next).await.expect("a transfer");
            load.acknowledge_more(SOME).await;
            assert_eq!(cluster.leader().await, next, "the one that was asked for leads");
            transfers.push(began);
        }
        let told = cluster.examine(load).await;
        let mut pauses: Vec<Duration> = transfers.iter().map(|began| pause_after(&told.moments, *began)).collect();
        tell("leadership handed over", &mut pauses, TRANSFER_PAUSE_MAX);
    });
}
