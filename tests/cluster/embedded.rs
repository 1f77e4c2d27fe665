//! A group inside one process, whose nodes are cut off from each other, stopped and started again.

use std::time::{Duration, Instant};

use steeple_client::Client;
use steeple_engine::ids::NodeId;
use steeple_server::embedded::Cluster;
use steeple_server::grpc;
use steeple_server::node::{NodeOptions, NodeParts};

use crate::aftermath::{Kept, examine};
use crate::door::{Attempt, Door, Freshness, NAMESPACE};
use crate::history::{Answer, Call, Recorder};
use crate::load::Load;
use crate::register::is_linearizable;
use crate::settings::{PATIENCE, rounds, run, seed};

const CLIENTS: usize = 4;
const SOME: usize = 60;
const ATTEMPT_MAX: Duration = Duration::from_secs(2);

/// Longer than an election takes.
const ELECTIONS: Duration = Duration::from_secs(3);

/// Nodes, and ways in to them that survive their being started again.
struct Group {
    cluster: Cluster,
    doors: Vec<(u64, Door)>,
}

impl Group {
    async fn of(cluster: Cluster) -> Self {
        let mut group = Self { cluster, doors: Vec::new() };
        let numbers: Vec<u64> = group.cluster.nodes().map(|node| node.node_id().0).collect();
        for number in numbers {
            group.open_door(number).await;
        }
        let leader = group.leader().await;
        group.cluster.node(leader).expect("a node").open_namespace(NAMESPACE).await.expect("a namespace");
        for (_, door) in &group.doors {
            // A read that tolerates old answers may otherwise be told that there is no such namespace yet.
            door.client(PATIENCE).admin().list_namespaces().await.expect("a current answer");
        }
        group
    }

    async fn start() -> Self {
        Self::of(Cluster::start(3).expect("a cluster")).await
    }

    async fn open_door(&mut self, number: u64) {
        let node = self.cluster.node(number).expect("a node").clone();
        let channel = grpc::connect(node).await.expect("a connection");
        match self.doors.iter().find(|(other, _)| *other == number) {
            Some((_, door)) => door.replace(channel),
            None => self.doors.push((number, Door::through(channel))),
        }
    }

    /// From now on nobody gets in, and nothing holds on to the node.
    fn close_door(&self, number: u64) {
        let nowhere = Client::endpoint("http://127.0.0.1:1").expect("an address").connect_lazy();
        self.door(number).replace(nowhere);
    }

    async fn leader(&self) -> u64 {
        self.cluster.leader(PATIENCE).await.expect("a leader").node_id().0
    }

    fn load(&self) -> Load {
        let doors: Vec<Door> = self.doors.iter().map(|(_, door)| door.clone()).collect();
        Load::start(&doors, CLIENTS, seed())
    }

    fn door(&self, number: u64) -> &Door {
        &self.doors.iter().find(|(other, _)| *other == number).expect("a node").1
    }

    async fn examine(self, load: Load) {
        let (recorder, told) = load.end().await;
        examine(&self.doors, &recorder, &told, Kept::Everything).await;
        self.cluster.stop().await;
    }
}

#[test]
fn a_group_at_peace_answers_like_one_copy() {
    run(async {
        let group = Group::start().await;
        let load = group.load();
        load.acknowledge_more(2 * SOME).await;
        group.examine(load).await;
    });
}

#[test]
fn a_group_whose_leader_is_cut_off_again_and_again() {
    partitions(|group, leader, _| group.cluster.hub().isolate(NodeId(leader)));
}

#[test]
fn a_group_whose_leader_is_not_heard() {
    partitions(|group, leader, _| {
        for other in (1..=3).filter(|other| *other != leader) {
            group.cluster.hub().cut(NodeId(leader), NodeId(other));
        }
    });
}

#[test]
fn a_group_whose_leader_hears_nothing() {
    partitions(|group, leader, _| {
        for other in (1..=3).filter(|other| *other != leader) {
            group.cluster.hub().cut(NodeId(other), NodeId(leader));
        }
    });
}

#[test]
fn a_group_whose_leader_and_follower_do_not_reach_each_other() {
    partitions(|group, leader, follower| {
        group.cluster.hub().cut(NodeId(leader), NodeId(follower));
        group.cluster.hub().cut(NodeId(follower), NodeId(leader));
    });
}

fn partitions(cut: fn(&Group, u64, u64)) {
    run(async {
        let group = Group::start().await;
        let load = group.load();
        for _ in 0..rounds(2) {
            load.acknowledge_more(SOME).await;
            let leader = group.leader().await;
            cut(&group, leader, leader % 3 + 1);
            let began = Instant::now();
            load.acknowledge_more(SOME).await;
            tokio::time::sleep(ELECTIONS.saturating_sub(began.elapsed())).await;
            group.cluster.hub().mend_all();
        }
        load.acknowledge_more(SOME).await;
        group.examine(load).await;
    });
}

#[test]
fn a_group_whose_leadership_is_handed_round() {
    run(async {
        let group = Group::start().await;
        let load = group.load();
        for _ in 0..rounds(6) {
            load.acknowledge_more(SOME / 3).await;
            let leader = group.leader().await;
            let next = leader % 3 + 1;
            group.door(leader).client(PATIENCE).admin().transfer_leader(next).await.expect("a transfer");
            assert_eq!(group.leader().await, next, "who was asked for leads");
        }
        group.examine(load).await;
    });
}

#[test]
fn a_group_whose_nodes_are_stopped_and_started_again() {
    run(async {
        let directory = tempfile::tempdir().expect("a directory");
        let options = NodeOptions { flush_interval: Duration::from_millis(200), ..NodeOptions::default() };
        let cluster = Cluster::start_with(3, Some(directory.path().to_owned()), options, NodeParts::default());
        let mut group = Group::of(cluster.expect("a cluster")).await;
        let load = group.load();
        for number in [1, 2, 3] {
            load.acknowledge_more(SOME / 2).await;
            group.close_door(number);
            group.cluster.stop_node(number).await;
            load.acknowledge_more(SOME / 2).await;
            let deadline = Instant::now() + PATIENCE;
            while let Err(error) = group.cluster.start_node(number) {
                // Calls that were under way hold a part of the node for a moment.
                assert!(Instant::now() < deadline, "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            group.open_door(number).await;
        }
        load.acknowledge_more(SOME / 2).await;
        group.examine(load).await;
    });
}

/// Mutates through whichever of the nodes accepts it.
async fn mutate(group: &Group, nodes: &[u64], recorder: &Recorder, key: &str, call: Call) {
    let (begun, request) = (recorder.begin(key, call), rand::random());
    let deadline = Instant::now() + PATIENCE;
    loop {
        for node in nodes {
            let attempt = group.door(*node).mutate(key, call, request, ATTEMPT_MAX).await;
            if let Attempt::Answered { answer, .. } = attempt {
                return begun.answered(answer);
            }
            assert!(Instant::now() < deadline, "nothing is accepted: {attempt:?}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn read(group: &Group, node: u64, recorder: &Recorder, key: &str, freshness: Freshness) -> Option<Answer> {
    let begun = recorder.begin(key, Call::Read);
    match group.door(node).read(key, freshness, ATTEMPT_MAX).await {
        Attempt::Answered { answer, .. } => {
            begun.answered(answer);
            Some(answer)
        }
        _ => None,
    }
}

/// A leader that does not know yet that it was deposed is read without its confirming that it leads: that is what a read
/// that tolerates old answers is. Recorded as if it had promised a current one, it must not pass; a read that did promise
/// must not be answered by that node at all.
#[test]
fn a_read_without_confirmed_leadership_is_caught() {
    run(async {
        let group = Group::start().await;
        let deposed = group.leader().await;
        let all = [1, 2, 3];
        let others: Vec<u64> = all.into_iter().filter(|number| *number != deposed).collect();
        let recorder = Recorder::default();
        for key in ["planted", "sound"] {
            mutate(&group, &all, &recorder, key, Call::Create(1)).await;
            read(&group, deposed, &recorder, key, Freshness::Current).await.expect("an answer at peace");
        }
        group.cluster.hub().isolate(NodeId(deposed));
        for key in ["planted", "sound"] {
            mutate(&group, &others, &recorder, key, Call::Update(2)).await;
        }
        let planted = read(&group, deposed, &recorder, "planted", Freshness::Stale(0)).await;
        assert!(matches!(planted, Some(Answer::Found(Some(held))) if held.revision == 0), "not deposed: {planted:?}");
        assert!(!is_linearizable(&recorder.keys()["planted"]), "the planted fault passes: {:?}", recorder.keys());

        let sound = read(&group, deposed, &recorder, "sound", Freshness::Current).await;
        assert_eq!(sound, None, "a deposed leader confirms that it leads");
        group.cluster.hub().mend_all();
        let deadline = Instant::now() + PATIENCE;
        while read(&group, deposed, &recorder, "sound", Freshness::Current).await.is_none() {
            assert!(Instant::now() < deadline, "no current read after mending");
        }
        assert!(is_linearizable(&recorder.keys()["sound"]), "{:?}", recorder.keys());
        group.cluster.stop().await;
    });
}
