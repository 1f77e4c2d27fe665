//! The members of a group change while clients work: one is added, promoted, removed; a dead one is replaced.

use std::time::{Duration, Instant};

use steeple_client::administration::{ClusterMember, ClusterStatusResponse, MemberRole};

use crate::aftermath::{Kept, examine};
use crate::cluster::Cluster;
use crate::door::{Attempt, Freshness};
use crate::load::Load;
use crate::settings::{PATIENCE, run, seed};

const CLIENTS: usize = 4;
const SOME: usize = 60;

/// Longer than any node waits before it stands for election.
const ELECTIONS: Duration = Duration::from_secs(3);

#[test]
fn members_are_added_promoted_removed_and_replaced() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let (added, replacement) = (cluster.prepare().await, cluster.prepare().await);
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;

        join(&mut cluster, &load, added).await;
        let mut members = vec![1, 2, 3, added];
        refuses_to_remove_the_leader(&cluster).await;
        let removed = follower(&cluster, &members).await;
        cluster.change(&["remove", &removed.to_string()]).await;
        members.retain(|number| *number != removed);
        load.acknowledge_more(SOME).await;
        cluster.node_mut(removed).stop();
        stays_out(&mut cluster, &load, removed, &members).await;

        let dead = follower(&cluster, &members).await;
        cluster.node_mut(dead).kill();
        load.acknowledge_more(SOME).await;
        join(&mut cluster, &load, replacement).await;
        cluster.change(&["remove", &dead.to_string()]).await;
        members.retain(|number| *number != dead);
        members.push(replacement);
        load.acknowledge_more(SOME).await;
        stays_out(&mut cluster, &load, dead, &members).await;

        cluster.change(&["transfer-leader", &replacement.to_string()]).await;
        load.acknowledge_more(SOME).await;
        let leader = cluster.leader_among(&members).await;
        assert_eq!(voters(&cluster.group(leader).await.expect("an answer")), in_order(&members));
        let (recorder, told) = load.end().await;
        examine(&cluster.doors_of(&members), &recorder, &told, Kept::Everything).await;
    });
}

async fn follower(cluster: &Cluster, members: &[u64]) -> u64 {
    let leader = cluster.leader_among(members).await;
    *members.iter().find(|number| **number != leader).expect("more than one node")
}

/// Starts a node, lets it learn everything, and gives it a vote.
async fn join(cluster: &mut Cluster, load: &Load, number: u64) {
    cluster.launch(number);
    cluster.wait_until_serving(number).await;
    cluster.add(number, &[]).await;
    let leader = leader(cluster).await;
    let learner =
        |group: &ClusterStatusResponse| member(group, number).is_some_and(|it| it.role() == MemberRole::Learner);
    cluster.wait_for_group(leader, learner).await;
    load.acknowledge_more(SOME).await;
    let caught_up = |group: &ClusterStatusResponse| {
        member(group, number).is_some_and(|it| it.recently_active == Some(true) && it.lag_entries < Some(SOME as u64))
    };
    cluster.wait_for_group(leader, caught_up).await;
    cluster.change(&["promote", &number.to_string()]).await;
    let promoted = cluster.group(leader).await.expect("an answer");
    assert!(voters(&promoted).contains(&number), "{promoted:?}");
    load.acknowledge_more(SOME).await;
}

async fn leader(cluster: &Cluster) -> u64 {
    let running: Vec<u64> =
        cluster.numbers().into_iter().filter(|number| cluster.node(*number).process().is_some()).collect();
    cluster.leader_among(&running).await
}

fn member(group: &ClusterStatusResponse, number: u64) -> Option<&ClusterMember> {
    group.members.iter().find(|member| member.node_id == number)
}

fn voters(group: &ClusterStatusResponse) -> Vec<u64> {
    let voters = group.members.iter().filter(|member| member.role() == MemberRole::Voter);
    in_order(&voters.map(|member| member.node_id).collect::<Vec<_>>())
}

fn in_order(numbers: &[u64]) -> Vec<u64> {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    numbers
}

async fn refuses_to_remove_the_leader(cluster: &Cluster) {
    let leader = leader(cluster).await;
    let refused = cluster.try_to_change(&["remove", &leader.to_string()]).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("lead"), "{said}");
}

/// A node that was removed is started on its old disk: it disturbs nobody, serves nobody, and is not let in again.
async fn stays_out(cluster: &mut Cluster, load: &Load, removed: u64, members: &[u64]) {
    cluster.restart(removed).await;
    let began = Instant::now();
    let door = cluster.node(removed).door.clone();
    let read = door.read("key-0-0", Freshness::Current, PATIENCE).await;
    assert!(matches!(read, Attempt::NotDone { .. }), "a node that was removed answers: {read:?}");
    load.acknowledge_more(SOME).await;
    tokio::time::sleep(ELECTIONS.saturating_sub(began.elapsed())).await;
    let own = cluster.group(removed).await.expect("an answer");
    let leader = cluster.leader_among(members).await;
    let group = cluster.group(leader).await.expect("an answer");
    assert!(member(&group, removed).is_none(), "{group:?}");
    assert!(own.term <= group.term, "it stood for election: {own:?}, {group:?}");
    assert!(!own.ready && own.not_ready_reason.contains("was removed from the group"), "{own:?}");
    cluster.node_mut(removed).stop();
}
