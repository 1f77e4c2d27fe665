//! A node comes back after its log was compacted away under it: it takes over a snapshot while clients work, and is killed
//! in the middle of that.

use std::time::{Duration, Instant};

use steeple_client::types::{CreateRegistrationEntryRequest, RegistrationEntry, Selector};
use steeple_client::{Namespace, Operation};

use crate::aftermath::{Kept, examine, follow};
use crate::cluster::Cluster;
use crate::door::NAMESPACE;
use crate::load::Load;
use crate::settings::{PATIENCE, run, seed};

const CLIENTS: usize = 3;
const SOME: usize = 40;

/// Far enough from the seed of another load that no client makes the same choices.
const SEED_STEP: u64 = 10_000;

/// Between two looks; what is waited for may last a few milliseconds only.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Everything is given up that nobody follows any more and that is older than a minute.
pub(crate) const FORGETFUL: &str = "[log]\nsegment_bytes = \"1MiB\"\nsegment_entries = 128\n\
    [retention]\nhistory = \"1m\"\nfollowers = \"1m\"\nrequest_ids = \"1m\"\n\
    [compaction]\ninterval = \"200ms\"\nbase_interval_bytes = \"1MiB\"\n\
    [store]\nflush_interval = \"100ms\"\n[tracing]\nlevel = \"info\"\n";

/// Longer than anything is kept.
pub(crate) const JUMP_MICROS: i64 = 3_600_000_000;

/// Entries in one request, and bytes of each.
pub(crate) const BATCH: u64 = 100;
const ENTRY_BYTES: usize = 4_000;

/// Requests before events are pruned, and after.
pub(crate) const BATCHES_PRUNED: u64 = 6;
pub(crate) const BATCHES_KEPT: u64 = 4;

/// How often the node may miss the moment to be killed.
const ROUNDS_MAX: u64 = 8;

const BEGUN: &str = "fetching a snapshot";
const ARRIVED: &str = "a snapshot has arrived: filling a record store from it";
const FILLING: &str = "filling the log from a snapshot";
const TAKEN_OVER: &str = "goes on from a snapshot";
const RESUMED: &str = "taking over a snapshot was interrupted and is finished now";

/// When the node is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// A part of the snapshot has arrived.
    Fetching,
    /// All of it has, and becomes records.
    FillingRecords,
    /// The log is replaced.
    FillingLog,
}

#[test]
fn a_node_whose_log_was_compacted_away_takes_over_a_snapshot_and_survives_kills_meanwhile() {
    run(async {
        let mut scene = Scene::start().await;
        let mut moments = vec![Moment::FillingLog, Moment::FillingRecords, Moment::Fetching];
        while !moments.is_empty() {
            scene.fall_behind().await;
            scene.come_back(&mut moments).await;
            assert!(scene.round < ROUNDS_MAX, "never killed at {moments:?}\n{}", scene.cluster.last_messages());
        }
        // And once in peace.
        scene.fall_behind().await;
        scene.come_back(&mut moments).await;
        scene.nodes_tell_the_same().await;
        scene.cluster.assert_nobody_panicked();
    });
}

/// A group, one node of which goes away again and again.
struct Scene {
    cluster: Cluster,
    /// The node that goes away; another one in each round, because it must not lead.
    victim: u64,
    round: u64,
    filled: u64,
}

impl Scene {
    async fn start() -> Self {
        let cluster = Cluster::start_with(3, FORGETFUL).await;
        let victim = cluster.follower().await;
        Self { cluster, victim, round: 0, filled: 0 }
    }

    /// The others write, prune and compact while the node is away, until they could not bring it up from the log.
    async fn fall_behind(&mut self) {
        self.round += 1;
        if self.round > 1 {
            self.forget_snapshots().await;
            self.victim = self.cluster.follower().await;
        }
        self.fill(1).await;
        let last = self.log_of(self.victim).await.1;
        self.cluster.node_mut(self.victim).kill();
        self.fill(BATCHES_PRUNED).await;
        let namespace = self.leaders_namespace().await;
        namespace.prune_registration_entry_events(Duration::ZERO).await.expect("pruned");
        self.fill(BATCHES_KEPT).await;
        let shift = JUMP_MICROS * i64::try_from(self.round).expect("a small number");
        for number in self.cluster.numbers() {
            self.cluster.node(number).shift_clock(shift);
        }
        let deadline = Instant::now() + PATIENCE;
        for number in self.others() {
            while self.log_of(number).await.0 <= last + 1 {
                assert!(Instant::now() < deadline, "the log is not given back\n{}", self.cluster.last_messages());
                self.fill(1).await;
            }
        }
    }

    /// Whoever has sent a snapshot keeps it, and the log behind it, for a while: until it is started again.
    async fn forget_snapshots(&mut self) {
        for number in self.others() {
            self.cluster.node_mut(number).stop();
            self.cluster.restart(number).await;
            self.cluster.leader().await;
        }
    }

    /// The node comes back under load, and is killed at the moments that are left, the last one first.
    async fn come_back(&mut self, moments: &mut Vec<Moment>) {
        let doors = self.cluster.doors();
        let keys = format!("round-{}", self.round);
        let load = Load::start_on(&keys, &doors, CLIENTS, seed().wrapping_add(self.round * SEED_STEP));
        load.acknowledge_more(SOME).await;
        for number in self.others() {
            // Slow enough to be seen, and killed, on its way.
            self.cluster.network.delay(number, self.victim, Duration::from_millis(5));
        }
        let begun = self.said(BEGUN);
        if moments.last() == Some(&Moment::Fetching) {
            assert!(self.is_killed_at(Moment::Fetching).await, "a part of a snapshot is never there");
            moments.pop();
        }
        if let Some(moment) = moments.last().copied() {
            let resumed = self.said(RESUMED);
            if self.is_killed_at(moment).await {
                self.cluster.restart(self.victim).await;
                if self.said(RESUMED) > resumed {
                    moments.pop();
                }
            }
        } else {
            self.cluster.launch(self.victim);
        }
        self.cluster.network.heal();
        self.cluster.wait_until_serving(self.victim).await;
        load.acknowledge_more(SOME).await;
        let (recorder, told) = load.end().await;
        examine(&self.cluster.doors_of(&self.cluster.numbers()), &recorder, &told, Kept::WhatIsRecent).await;
        assert!(self.said(BEGUN) > begun, "it caught up without a snapshot");
    }

    /// Starts the node and kills it at this point of taking over a snapshot. `false` when it got past all of it.
    async fn is_killed_at(&mut self, moment: Moment) -> bool {
        let text = match moment {
            Moment::Fetching => BEGUN,
            Moment::FillingRecords => ARRIVED,
            Moment::FillingLog => FILLING,
        };
        let (before, taken_over) = (self.said(text), self.said(TAKEN_OVER));
        self.cluster.launch(self.victim);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let partial = || self.partial_snapshot().is_ok_and(|file| file.len() > 0);
            let is_there = self.said(text) > before && (moment != Moment::Fetching || partial());
            if is_there {
                self.cluster.node_mut(self.victim).kill();
                println!("round {}: killed at {moment:?}", self.round);
                return true;
            }
            if self.said(TAKEN_OVER) > taken_over {
                return false;
            }
            assert!(Instant::now() < deadline, "no snapshot is taken over\n{}", self.cluster.last_messages());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What has arrived of a snapshot.
    fn partial_snapshot(&self) -> std::io::Result<std::fs::Metadata> {
        let base = self.cluster.node(self.victim).data().join("group-0").join("base");
        std::fs::metadata(base.join(".incoming.snapshot.partial"))
    }

    fn said(&self, text: &str) -> usize {
        self.cluster.node(self.victim).said(text)
    }

    fn others(&self) -> Vec<u64> {
        self.cluster.numbers().into_iter().filter(|number| *number != self.victim).collect()
    }

    async fn leaders_namespace(&self) -> Namespace {
        let leader = self.cluster.leader().await;
        self.cluster.client(leader).namespace(NAMESPACE)
    }

    /// The first and the last entry of a node's log.
    async fn log_of(&self, number: u64) -> (u64, u64) {
        let log = self.cluster.client(number).admin().log_statistics().await.expect("an answer");
        (log.first_log_index, log.last_log_index)
    }

    /// Creates entries that nobody touches again.
    async fn fill(&mut self, batches: u64) {
        let namespace = self.leaders_namespace().await;
        for _ in 0..batches {
            let operations = (self.filled..self.filled + BATCH).map(filler).collect();
            self.filled += BATCH;
            for outcome in namespace.batch(operations).await {
                outcome.answer.expect("created");
            }
        }
    }

    /// All nodes keep the same events, also the one that got them with a snapshot.
    async fn nodes_tell_the_same(&self) {
        let leader = self.cluster.leader().await;
        let revision = self.cluster.status(leader).await.expect("an answer").revision;
        let (expected, _) = follow(leader, &self.cluster.node(leader).door, revision).await;
        assert!(expected.len() as u64 > BATCH * BATCHES_KEPT, "{} events are kept", expected.len());
        for number in self.cluster.numbers() {
            let (events, _) = follow(number, &self.cluster.node(number).door, revision).await;
            assert!(
                events == expected,
                "node {number} tells of {} events, the leader of {}",
                events.len(),
                expected.len()
            );
        }
    }
}

/// An entry of some size.
pub(crate) fn filler(number: u64) -> Operation {
    let entry = RegistrationEntry {
        entry_id: format!("filler-{number}"),
        parent_id: "spiffe://cluster.test/agent".into(),
        spiffe_id: format!("spiffe://cluster.test/filler/{number}"),
        selectors: vec![Selector { r#type: "filler".into(), value: format!("{number:0>ENTRY_BYTES$}") }],
        hint: "0".into(),
        ..RegistrationEntry::default()
    };
    Operation::CreateRegistrationEntry(CreateRegistrationEntryRequest { context: None, entry: Some(entry) })
}
