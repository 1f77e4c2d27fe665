//! Nodes that come back, or come new, after what they lack has gone from the others' logs: they get a snapshot.

use std::time::{Duration, Instant};

use steeple_client::administration::AddMemberRequest;

use crate::aftermath::{Kept, examine};
use crate::cluster::Cluster;
use crate::load::Load;
use crate::settings::PATIENCE;
use crate::settings::{run, seed};

const CLIENTS: usize = 4;
const SOME: usize = 60;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Everything is given up after a few seconds, and space is given back all the time.
const FORGETFUL: &str = "[log]\nsegment_bytes = \"1MiB\"\nsegment_entries = 64\n\
    [store]\nflush_interval = \"100ms\"\n\
    [retention]\nhistory = \"2s\"\nstreams = \"2s\"\nrequest_ids = \"5s\"\n\
    [compaction]\ninterval = \"200ms\"\nbase_interval_bytes = \"64KiB\"\n\
    [tracing]\nlevel = \"info\"\n";

/// The first entry that a node's log still holds.
async fn first_entry(cluster: &Cluster, node: u64) -> u64 {
    cluster.client(node).admin().log_statistics().await.expect("statistics").first_log_index
}

/// Waits until the logs of these nodes no longer hold an entry.
async fn wait_until_gone(cluster: &Cluster, nodes: &[u64], entry: u64) {
    let deadline = Instant::now() + PATIENCE;
    for node in nodes {
        while first_entry(cluster, *node).await <= entry {
            assert!(Instant::now() < deadline, "node {node} keeps its log\n{}", cluster.last_messages());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

#[test]
fn a_node_comes_back_after_its_log_was_compacted_away() {
    run(async {
        let mut cluster = Cluster::start_with(3, FORGETFUL).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let away = cluster.follower().await;
        let last = cluster.status(away).await.expect("a status").last_log_index;
        cluster.node_mut(away).kill();
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != away).collect();
        load.acknowledge_more(SOME).await;
        wait_until_gone(&cluster, &others, last).await;
        cluster.restart(away).await;
        load.acknowledge_more(SOME).await;
        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&[1, 2, 3]), &recorder, &told, Kept::WhatIsRecent).await;
        // It counts like the others again.
        let gone = cluster.leader().await;
        let gone = if gone == away { cluster.follower().await } else { gone };
        cluster.node_mut(gone).kill();
        let load = Load::start(&cluster.doors(), CLIENTS, seed() + 1);
        load.acknowledge_more(SOME).await;
        cluster.restart(gone).await;
        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&[1, 2, 3]), &recorder, &told, Kept::WhatIsRecent).await;
    });
}

#[test]
fn a_new_node_gets_a_snapshot_under_load() {
    run(async {
        let mut cluster = Cluster::start_with(3, FORGETFUL).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let founders = cluster.numbers();
        wait_until_gone(&cluster, &founders, 1).await;
        let joiner = cluster.launch_joiner().await;
        let leader = cluster.leader_among(&founders).await;
        let request = AddMemberRequest {
            node_id: joiner,
            peer_address: cluster.address(joiner).to_string(),
            client_address: cluster.node(joiner).client_address.to_string(),
            as_learner: true,
        };
        cluster.client(leader).admin().add_member(request).await.expect("an addition");
        cluster.wait_until_serving(joiner).await;
        load.acknowledge_more(SOME).await;
        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&cluster.numbers()), &recorder, &told, Kept::WhatIsRecent).await;
    });
}
