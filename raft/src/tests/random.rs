//! Groups in bad times: thousands of random steps from many seeds, and what must hold at every one of them.

use crate::membership::{MembershipChange, Step};
use steeple_engine::ids::NodeId;
use steeple_engine::log::EntryKind;

use super::cluster::{Cluster, member};

/// Nodes there ever are at the most.
const NODES_MAX: usize = 8;

/// What besides messages, ticks and writes happens in a run, each once in so many steps; 0 is never.
#[derive(Clone, Copy, Default)]
struct Weather {
    crashes: usize,
    partitions: usize,
    changes: usize,
    purges: usize,
    transfers: usize,
    losses: usize,
}

impl Cluster {
    fn happens(&mut self, once_in: usize) -> bool {
        once_in > 0 && self.chance.one_in(once_in)
    }

    fn step(&mut self, weather: Weather) {
        let running = self.running_ids();
        let Some(id) = self.chance.pick(&running) else {
            let all: Vec<_> = self.nodes.keys().copied().collect();
            let id = self.chance.pick(&all).unwrap();
            return self.start(id);
        };
        match self.chance.below(40) {
            0..20 => self.deliver_one(weather),
            20..22 => self.tick(id),
            22..28 => {
                let count = 1 + self.chance.below(3);
                self.running(id).write(count);
            }
            28..34 => {
                self.running(id).report_written();
                self.drain(id);
            }
            34..37 => drop(self.propose(id)),
            37 => self.read(id),
            // Several inputs before what follows from them is taken.
            _ => self.running(id).replica.tick(),
        }
        self.trouble(weather);
    }

    fn deliver_one(&mut self, weather: Weather) {
        if self.network.is_empty() {
            return;
        }
        let place = self.chance.below(self.network.len());
        if self.happens(weather.losses) {
            self.network.swap_remove(place);
            return;
        }
        if self.happens(weather.losses) {
            let again = self.network[place].clone();
            self.network.push(again);
        }
        self.deliver(place);
    }

    fn trouble(&mut self, weather: Weather) {
        let all: Vec<_> = self.nodes.keys().copied().collect();
        let id = self.chance.pick(&all).unwrap();
        if self.happens(weather.crashes) {
            match self.nodes[&id].running {
                Some(_) => self.crash(id),
                None => self.start(id),
            }
        }
        if self.happens(weather.partitions) {
            self.blocked.clear();
            if self.chance.one_in(2) {
                self.part(&all);
            }
        }
        if !self.offers.is_empty() && self.chance.one_in(10) {
            let place = self.chance.below(self.offers.len());
            self.install(place);
        }
        if self.happens(weather.purges) {
            let keeps = self.chance.below(20) as u64;
            self.flush(id, keeps);
        }
        let leaders = self.deciders();
        let Some(leader) = self.chance.pick(&leaders) else { return };
        if self.happens(weather.transfers) {
            // Many of these are refused.
            self.running(leader).replica.transfer_leadership(NodeId(id)).ok();
            self.drain(leader);
        }
        if self.happens(weather.changes) {
            self.change_members(leader);
        }
    }

    /// Nobody of one half hears the other, or only in one direction.
    fn part(&mut self, all: &[u64]) {
        let half: Vec<_> = all.iter().filter(|_| self.chance.one_in(2)).copied().collect();
        let one_way = self.chance.one_in(4);
        for from in all {
            for to in all {
                let crosses = half.contains(from) != half.contains(to);
                if crosses && !(one_way && half.contains(from)) {
                    self.blocked.insert((*from, *to));
                }
            }
        }
    }

    fn membership_entries(&self) -> usize {
        self.committed.values().filter(|(entry, _)| entry.kind == EntryKind::Membership).count()
    }

    fn change_members(&mut self, leader: u64) {
        let membership = self.running(leader).replica.membership().clone();
        let voters: Vec<_> = membership.voters.iter().copied().collect();
        let learners: Vec<_> = membership.learners.iter().copied().collect();
        let voter = self.chance.pick(&voters);
        let learner = self.chance.pick(&learners);
        let steps = match self.chance.below(7) {
            0 | 1 if self.nodes.len() < NODES_MAX => {
                let node = self.add_empty();
                vec![Step::Learner { node, member: Some(member(node)) }]
            }
            2 if let Some(node) = learner => vec![Step::Voter { node, member: None }],
            3 if voters.len() > 2
                && let Some(node) = voter =>
            {
                vec![Step::Remove { node }]
            }
            4 if let (Some(node), Some(new)) = (voter, learner) => {
                vec![Step::Voter { node: new, member: None }, Step::Remove { node }]
            }
            5 if voters.len() > 2
                && let Some(node) = voter =>
            {
                vec![Step::Learner { node, member: None }]
            }
            6 if let Some(node) = voter => vec![Step::Address { node, member: member(node + 100) }],
            _ => return,
        };
        // Refused while another one is under way, and when it concerns the leader.
        self.running(leader).replica.change_members(&MembershipChange::of(steps)).ok();
        self.drain(leader);
    }
}

/// Runs one group through many steps, and answers it when it has recovered.
fn run(voters: u64, seed: u64, steps: usize, weather: Weather) -> Cluster {
    eprintln!("{voters} voters, seed {seed}");
    let mut cluster = Cluster::founded(voters, seed);
    for _ in 0..steps {
        cluster.step(weather);
    }
    cluster.settle();
    check_logs(&mut cluster);
    cluster
}

/// The seeds of a test. `STEEPLE_SEEDS_FACTOR` asks for so many times more of them.
fn seeds(test: u64, count: u64) -> std::ops::Range<u64> {
    let factor = std::env::var("STEEPLE_SEEDS_FACTOR").ok().and_then(|text| text.parse().ok()).unwrap_or(1u64);
    test * 1_000_000..test * 1_000_000 + count * factor
}

/// What is durable is what was committed.
fn check_logs(cluster: &mut Cluster) {
    let leader = cluster.leader().unwrap();
    let members: Vec<_> = cluster.running(leader).folded.membership.iter().map(|(node, _)| node.0).collect();
    for id in members {
        let (log, last) = (cluster.running(id).log.clone(), cluster.running(id).folded.position.index.0);
        for index in log.first().0..=last {
            let stored = log.read(steeple_engine::ids::LogIndex(index)).unwrap().unwrap();
            let (expected, _) = &cluster.committed[&index];
            assert_eq!(
                (stored.position, stored.kind, &stored.payload),
                (expected.position, expected.kind, &expected.payload)
            );
        }
    }
}

/// What all runs of a test have done together.
#[derive(Debug, Default)]
struct Totals {
    acknowledged: u64,
    reads: u64,
    changes: usize,
    snapshots: u64,
}

fn run_all(seeds: std::ops::Range<u64>, voters: impl Fn(u64) -> u64, weather: Weather) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        let cluster = run(voters(seed), seed, 20_000, weather);
        totals.acknowledged += cluster.acknowledged;
        totals.reads += cluster.reads_answered;
        totals.changes += cluster.membership_entries();
        totals.snapshots += cluster.snapshots_installed;
    }
    totals
}

#[test]
fn a_group_survives_losses_delays_and_partitions() {
    let weather = Weather { partitions: 1_500, losses: 10, ..Weather::default() };
    let totals = run_all(seeds(0, 16), |seed| if seed % 4 == 0 { 5 } else { 3 }, weather);
    assert!(totals.acknowledged > 2_000 && totals.reads > 500, "{totals:?}");
}

#[test]
fn a_group_survives_crashes_amid_writes() {
    let weather = Weather { crashes: 500, losses: 20, partitions: 3_000, ..Weather::default() };
    let totals = run_all(seeds(1, 16), |_| 3, weather);
    assert!(totals.acknowledged > 2_000 && totals.reads > 500, "{totals:?}");
}

#[test]
fn members_change_under_load() {
    let weather = Weather { changes: 50, transfers: 500, losses: 30, partitions: 4_000, ..Weather::default() };
    let totals = run_all(seeds(2, 24), |seed| 1 + seed % 4, weather);
    assert!(totals.acknowledged > 2_000 && totals.changes > 200, "{totals:?}");
}

#[test]
fn members_change_amid_crashes_and_followers_fall_behind_the_log() {
    let weather = Weather { changes: 100, transfers: 1_000, losses: 30, partitions: 2_000, crashes: 500, purges: 200 };
    let totals = run_all(seeds(3, 24), |seed| 1 + seed % 4, weather);
    assert!(totals.changes > 100 && totals.snapshots > 20, "{totals:?}");
}
