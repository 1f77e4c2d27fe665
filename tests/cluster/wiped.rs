//! A founder comes back without its disk: it is refused, and replaced under another number.

use std::time::{Duration, Instant};

use steeple_client::administration::AddMemberRequest;

use crate::cluster::Cluster;
use crate::load::Load;
use crate::settings::{PATIENCE, run, seed};

/// Clients at work meanwhile.
const CLIENTS: usize = 2;

/// Acknowledged mutations in between.
const SOME: usize = 40;

/// Waits until a node ends by itself, which is not how a node should end.
async fn wait_for_the_end(cluster: &mut Cluster, number: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = cluster.node_mut(number).ended() {
            return assert!(!status.success(), "node {number} ended with {status}");
        }
        assert!(Instant::now() < deadline, "node {number} goes on:\n{}", cluster.node(number).last_messages());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_founder_without_its_disk_is_refused_and_another_one_takes_its_place() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let wiped = cluster.follower().await;
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != wiped).collect();
        cluster.node_mut(wiped).kill();
        std::fs::remove_dir_all(cluster.node(wiped).data()).expect("its files");
        cluster.launch(wiped);
        wait_for_the_end(&mut cluster, wiped).await;
        let said = cluster.node(wiped).messages();
        assert!(said.contains("was wiped or replaced") && said.contains("never used"), "{said}");
        load.acknowledge_more(SOME).await;

        // The same when all others come up with it.
        for number in &others {
            cluster.node_mut(*number).kill();
        }
        cluster.launch(wiped);
        for number in &others {
            cluster.launch(*number);
        }
        wait_for_the_end(&mut cluster, wiped).await;
        for number in &others {
            cluster.wait_until_serving(*number).await;
        }
        load.acknowledge_more(SOME).await;

        let leader = cluster.leader_among(&others).await;
        let admin = cluster.client(leader).admin();
        admin.remove_member(wiped).await.expect("it is removed");
        let number = cluster.prepare().await;
        cluster.restart(number).await;
        let member = AddMemberRequest {
            node_id: number,
            peer_address: cluster.address(number).to_string(),
            client_address: cluster.node(number).client_address.to_string(),
            as_learner: false,
        };
        admin.add_member(member).await.expect("it is added");
        load.acknowledge_more(SOME).await;
        let (recorder, told) = load.end().await;
        let doors = cluster.doors_of(&[others[0], others[1], number]);
        crate::aftermath::examine(&doors, &recorder, &told, crate::aftermath::Kept::Everything).await;
    });
}
