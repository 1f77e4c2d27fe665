//! The group grows, shrinks and is repaired under load.

use std::time::{Duration, Instant};

use steeple_client::Error;
use steeple_client::administration::{AddMemberRequest, MemberRole};

use crate::aftermath::{Kept, examine};
use crate::cluster::Cluster;
use crate::load::Load;
use crate::settings::PATIENCE;
use crate::settings::{run, seed};

const CLIENTS: usize = 3;
const SOME: usize = 40;
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Asks the leader for a change until it is in force: leadership may move, and one change waits for the other.
async fn change<Running: Future<Output = Result<(), Error>>>(
    cluster: &Cluster,
    among: &[u64],
    ask: impl Fn(steeple_client::Admin) -> Running,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leader = cluster.leader_among(among).await;
        match ask(cluster.node(leader).door.client(Duration::from_secs(10)).admin()).await {
            Ok(()) => return,
            Err(error) => assert!(Instant::now() < deadline, "refused: {error}\n{}", cluster.last_messages()),
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn addition(cluster: &Cluster, node: u64, as_learner: bool) -> AddMemberRequest {
    AddMemberRequest {
        node_id: node,
        peer_address: cluster.address(node).to_string(),
        client_address: cluster.node(node).client_address.to_string(),
        as_learner,
    }
}

async fn wait_for_role(cluster: &Cluster, among: &[u64], node: u64, role: Option<MemberRole>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leader = cluster.leader_among(among).await;
        let status = cluster.client(leader).admin().cluster_status().await.expect("a status");
        let found = status.members.iter().find(|member| member.node_id == node).map(|member| member.role());
        if found == role {
            return;
        }
        assert!(Instant::now() < deadline, "node {node} is {found:?} and not {role:?}: {status:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[test]
fn a_node_is_added_promoted_and_removed() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let founders = cluster.numbers();
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let joiner = cluster.launch_joiner().await;
        let request = addition(&cluster, joiner, true);
        change(&cluster, &founders, |admin| {
            let request = request.clone();
            async move { admin.add_member(request).await }
        })
        .await;
        wait_for_role(&cluster, &founders, joiner, Some(MemberRole::Learner)).await;
        cluster.wait_until_serving(joiner).await;
        load.acknowledge_more(SOME).await;
        change(&cluster, &founders, |admin| async move { admin.promote_member(joiner).await }).await;
        wait_for_role(&cluster, &founders, joiner, Some(MemberRole::Voter)).await;
        load.acknowledge_more(SOME).await;

        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&[1, 2, 3, joiner]), &recorder, &told, Kept::Everything).await;

        // The leader goes, which hands over first.
        let leader = cluster.leader().await;
        let left: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != leader).collect();
        let load = Load::start(&cluster.doors(), CLIENTS, seed() + 1);
        load.acknowledge_more(SOME).await;
        change(&cluster, &left, |admin| async move { admin.remove_member(leader).await }).await;
        wait_for_role(&cluster, &left, leader, None).await;
        cluster.node_mut(leader).kill();
        load.acknowledge_more(SOME).await;
        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&left), &recorder, &told, Kept::Everything).await;
    });
}

#[test]
fn a_dead_node_is_replaced() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let dead = cluster.follower().await;
        cluster.node_mut(dead).kill();
        let alive: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != dead).collect();
        let joiner = cluster.launch_joiner().await;
        let request = addition(&cluster, joiner, true);
        change(&cluster, &alive, |admin| {
            let request = request.clone();
            async move { admin.add_member(request).await }
        })
        .await;
        cluster.wait_until_serving(joiner).await;
        change(&cluster, &alive, |admin| async move { admin.promote_member(joiner).await }).await;
        change(&cluster, &alive, |admin| async move { admin.remove_member(dead).await }).await;
        load.acknowledge_more(SOME).await;
        // The group holds without the one that is gone and with the one that is new.
        let other = *alive.iter().find(|number| **number != joiner).expect("another node");
        cluster.node_mut(other).kill();
        load.acknowledge_more(SOME).await;
        cluster.restart(other).await;
        let (recorder, told) = load.end().await;
        let nodes: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != dead).collect();
        examine(&cluster.doors_of(&nodes), &recorder, &told, Kept::Everything).await;
    });
}

#[test]
fn a_wiped_node_is_not_admitted_under_its_old_number() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let wiped = cluster.follower().await;
        cluster.node_mut(wiped).kill();
        cluster.node_mut(wiped).wipe();
        cluster.launch(wiped);
        load.acknowledge_more(SOME).await;
        // It forgot what it voted for and what it acknowledged, so it must count for nothing.
        let others: Vec<u64> = cluster.numbers().into_iter().filter(|number| *number != wiped).collect();
        let leader = cluster.leader_among(&others).await;
        let other = *others.iter().find(|number| **number != leader).expect("another node");
        cluster.node_mut(other).kill();
        let before = load.acknowledged();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(load.acknowledged() <= before + CLIENTS, "a node without its memory counts for the majority");
        cluster.restart(other).await;
        load.acknowledge_more(SOME).await;
        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&others), &recorder, &told, Kept::Everything).await;
    });
}
