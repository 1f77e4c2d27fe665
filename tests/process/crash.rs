//! A node is killed again and again under load, and must come back with exactly what it acknowledged.

use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;

use crate::checks::checked_digest;
use crate::deployment::{Deployment, some_moment};
use crate::steeple::{Site, run};

/// Kills under load, unless the environment asks for another number.
const KILLS: u64 = 50;
const KILLS_VARIABLE: &str = "STEEPLE_TEST_KILLS";
const SEED_VARIABLE: &str = "STEEPLE_TEST_SEED";

/// After so many kills the node is stopped in good order once.
const STOP_EVERY: u64 = 6;
/// After so many kills its record store is deleted once.
const REBUILD_EVERY: u64 = 7;
/// How long the load lasts before the node is ended, in milliseconds.
const LOAD_MILLISECONDS: std::ops::Range<u64> = 50..1_600;
/// How far a start may come that is killed, in milliseconds.
const STARTING_MILLISECONDS: std::ops::Range<u64> = 0..120;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn a_killed_node_comes_back_with_exactly_what_it_acknowledged() {
    let seed = number_from(SEED_VARIABLE).unwrap_or_else(rand::random);
    let kills = number_from(KILLS_VARIABLE).unwrap_or(KILLS);
    println!("seed {seed}: {SEED_VARIABLE}={seed} repeats the workload and the moments of the kills");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    Campaign::new(&runtime, seed).run(kills);
}

/// One node after the other on the same files.
struct Campaign<'a> {
    runtime: &'a Runtime,
    site: Site,
    random: StdRng,
    deployment: Deployment,
    killed: u64,
    killed_starting: u64,
    stopped: u64,
    rebuilt: u64,
}

impl<'a> Campaign<'a> {
    fn new(runtime: &'a Runtime, seed: u64) -> Self {
        Self {
            runtime,
            site: Site::new(),
            random: StdRng::seed_from_u64(seed),
            deployment: Deployment::new(seed),
            killed: 0,
            killed_starting: 0,
            stopped: 0,
            rebuilt: 0,
        }
    }

    fn run(mut self, kills: u64) {
        let began = Instant::now();
        // Nothing is written again before request ids are forgotten, and few kills may not take so long.
        while self.killed < kills || (kills >= KILLS && self.killed < 3 * kills && !self.is_rewritten()) {
            self.kill_some_starts();
            let orderly = self.killed > self.stopped * STOP_EVERY + STOP_EVERY;
            self.round(orderly);
            if self.killed > self.rebuilt * REBUILD_EVERY + REBUILD_EVERY {
                self.rebuild();
            }
        }
        self.rebuild();
        self.look_at_log(kills);
        let counts = self.deployment.counts();
        println!(
            "{} kills under load, {} while starting, {} stops, {} rebuilds in {:?}; {counts:?}; {} items delivered, \
             {} again",
            self.killed,
            self.killed_starting,
            self.stopped,
            self.rebuilt,
            began.elapsed(),
            self.deployment.delivered(),
            self.deployment.delivered_again()
        );
        assert!(counts.acknowledged > kills && counts.refused > 0 && counts.repeated > 0, "a load: {counts:?}");
        if kills >= KILLS {
            // Otherwise the kills missed what they are for.
            assert!(counts.unknown_had_happened > 0 && counts.unknown > counts.unknown_had_happened, "{counts:?}");
        }
    }

    /// Starts a node, checks it, puts it under load and ends it.
    fn round(&mut self, orderly: bool) {
        let mut process = self.site.start();
        let load = self.random.random_range(LOAD_MILLISECONDS);
        self.runtime.block_on(async {
            let client = process.client().await;
            self.deployment.open_namespaces(&client).await;
            self.deployment.verify(&client).await;
            self.deployment.prepare(&client).await;
            let end = async {
                some_moment(load).await;
                let ended = tokio::task::spawn_blocking(move || if orderly { process.stop() } else { process.kill() });
                ended.await.expect("an end");
            };
            self.deployment.load(&client, end).await;
        });
        if orderly {
            self.stopped += 1;
        } else {
            self.killed += 1;
        }
    }

    /// Kills nodes that have not come far: recovery has to survive its own interruption.
    fn kill_some_starts(&mut self) {
        while self.random.random_range(0..4) == 0 {
            let mut process = self.site.launch(&[]);
            let moment = self.random.random_range(STARTING_MILLISECONDS);
            self.runtime.block_on(some_moment(moment));
            process.kill();
            self.killed_starting += 1;
        }
    }

    /// Deletes the record store and finds the same records afterwards.
    fn rebuild(&mut self) {
        let mut process = self.site.start();
        let before = self.runtime.block_on(async { self.deployment.verify(&process.client().await).await });
        process.stop();
        std::fs::remove_dir_all(self.site.group("records")).expect("the record store");
        let mut process = self.site.start();
        let after = self.runtime.block_on(async { checked_digest(&process.client().await).await });
        assert_eq!(after, before, "digest of the rebuilt records");
        self.runtime.block_on(async { self.deployment.verify(&process.client().await).await });
        process.kill();
        self.rebuilt += 1;
    }

    /// Whether files of the log were written again without what nobody wants any more.
    fn is_rewritten(&self) -> bool {
        let inspected = run(&["log", "inspect", &self.site.data_text()]);
        String::from_utf8_lossy(&inspected.stdout).contains("rewritten")
    }

    /// The log must be whole, and long campaigns must have led through compaction.
    fn look_at_log(&self, kills: u64) {
        let verified = run(&["log", "verify", &self.site.data_text()]);
        assert!(verified.status.success(), "{verified:?}");
        if kills >= KILLS {
            assert!(self.is_rewritten(), "no file of the log was written again");
            assert!(self.site.group("base").join("base.snapshot").exists(), "there is no base snapshot");
        }
    }
}
