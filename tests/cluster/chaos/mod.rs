//! Everything goes wrong at random, for as long as one likes: nodes are killed, stopped, cut off, filled up, replaced, and
//! their clocks jump, several at a time. In between all of it is mended; the group must then serve every client
//! again within a bound, and everything is held against what clients were told.
//!
//! The run is a chain of rounds, each with faults, calm and an examination that takes up where the last one ended, so that
//! what has to be kept and searched stays the same however long it goes on.
//!
//! | file | what it is |
//! | --- | --- |
//! | `faults` | what can go wrong, and what is drawn next |
//! | `scene` | lets it go wrong and mends it |
//! | `consumer` | follows the group all the time |
//! | `journal` | what was done and what came of it, in a file |
//!
//! An hour of it; the seed repeats what is drawn, though not what the nodes make of it:
//!
//! ```sh
//! STEEPLE_TEST_CHAOS_SECONDS=3600 STEEPLE_TEST_SEED=7 cargo test -p steeple-tests --test cluster chaos:: -- --nocapture
//! ```
//!
//! `STEEPLE_TEST_CHAOS_LOG` says where the journal goes; `STEEPLE_TEST_PROGRAM` names a program that later builds leave alone.

mod consumer;
mod faults;
mod journal;
mod scene;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::aftermath::{Examined, Kept};
use crate::cluster::with_leases;
use crate::load::{Habits, Load};
use crate::settings::{chaos_seconds, run, seed};
use consumer::Consumer;
use journal::Journal;
use scene::Scene;

/// Clients at work, and how long each rests between two calls: some hundred calls in a second.
const CLIENTS: usize = 8;
const REST: Duration = Duration::from_millis(40);

/// How long things go wrong before they are mended.
const RAGE_MIN: Duration = Duration::from_secs(12);
const RAGE_MAX: Duration = Duration::from_secs(40);

/// How soon every client must be served once everything is mended.
const SERVED_WITHIN: Duration = Duration::from_secs(30);

/// Far enough from the seed of another round that no client makes the same choices.
const SEED_STEP: u64 = 10_000;

/// Longer than any round, so that what has to be examined is still there; short enough that an hour gives up a lot.
const SETTINGS: &str = "[log]\nsegment_bytes = \"1MiB\"\nsegment_entries = 512\n\
    [retention]\nhistory = \"5m\"\nfollowers = \"1m\"\nrequest_ids = \"5m\"\nstreams = \"5m\"\n\
    [compaction]\ninterval = \"1s\"\nbase_interval_bytes = \"1MiB\"\n\
    [store]\nflush_interval = \"1s\"\n[tracing]\nlevel = \"info\"\n";

#[test]
fn everything_goes_wrong_at_random() {
    run(async {
        let whole = Duration::from_secs(chaos_seconds(30));
        let mut random = StdRng::seed_from_u64(seed());
        let settings = if random.random() { with_leases(SETTINGS) } else { SETTINGS.to_owned() };
        let mut scene = Scene::start(&settings, Journal::create(seed())).await;
        let mut examined = Examined::default();
        let mut consumer = Consumer::start(scene.addresses());
        let began = Instant::now();
        for round in 1_u64.. {
            let rage = random.random_range(RAGE_MIN..RAGE_MAX).min(whole.saturating_sub(began.elapsed()));
            let habits = Habits { clients: CLIENTS, seed: seed().wrapping_add(round * SEED_STEP), rest: REST };
            let load = Load::start_with(&format!("round-{round}"), &scene.doors(), habits);
            scene.rage(rage.max(RAGE_MIN), &mut random).await;
            scene.mend().await;
            let served = load.serve_everybody(SERVED_WITHIN).await;
            scene.settle().await;
            let (recorder, told) = load.end().await;
            let doors = scene.doors().borrow().clone();
            let piece = examined.go_on(&doors, &recorder, &told, Kept::Everything).await;
            assert!(consumer.take(piece.revision).await == piece.events, "the consumer was told something else");
            scene.assert_nobody_panicked();
            scene.journal.round(round, served, &told);
            if began.elapsed() >= whole {
                break;
            }
            consumer.go_on_with(scene.addresses()).await;
        }
        scene.journal.sum_up(whole);
    });
}
