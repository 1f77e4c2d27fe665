//! Log, base snapshot and record store are damaged by chance on several nodes while they are down, again and again: the
//! part of the storage-fault matrix in which whole nodes take part.
//!
//! The damage leaves a good copy of everything somewhere: entries are damaged on one node, and one node keeps its records or
//! its snapshot. So every case must end with all nodes serving.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::aftermath::{Kept, check_digests, examine};
use crate::cluster::Cluster;
use crate::compacted::{BATCH, BATCHES_KEPT, BATCHES_PRUNED, FORGETFUL, JUMP_MICROS, filler};
use crate::door::NAMESPACE;
use crate::load::Load;
use crate::settings::{PATIENCE, run, seed, store_cases};

const CLIENTS: usize = 3;

/// Acknowledged mutations before the first damage, and between one and the next.
const SOME: usize = 200;
const FEW: usize = 15;

/// Cases that are run always.
const CASES: u64 = 4;

const LOOK_INTERVAL: Duration = Duration::from_millis(20);

const BLOCK_BYTES: usize = 4096;

/// What is at the beginning of a snapshot.
const MANIFEST_BYTES: usize = 512;

/// What is damaged on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Log,
    BaseSnapshot,
    Manifest,
    Records,
}

impl Part {
    fn files(self, data: &Path) -> Vec<PathBuf> {
        let group = data.join("group-0");
        let files = match self {
            Self::Log => files_below(&group.join("log")),
            Self::BaseSnapshot | Self::Manifest => files_below(&group.join("base")),
            Self::Records => {
                let stores = fs::read_dir(&group).expect("a directory").map(|entry| entry.expect("an entry").path());
                let is_store =
                    |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("records"));
                stores.filter(is_store).flat_map(|store| files_below(&store)).collect()
            }
        };
        // One of the files with term and vote stays: they cannot be had from anybody. The roster is who a node is.
        let is_spared = |path: &PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            ["state", "roster", "lock"].contains(&name.as_str()) || name.starts_with("spare-")
        };
        files
            .into_iter()
            .filter(|path| !is_spared(path) && fs::metadata(path).is_ok_and(|file| file.len() > 0))
            .collect()
    }
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Damages a file in one of the ways in which disks and file systems do; says how.
fn damage(path: &Path, part: Part, random: &mut StdRng) -> String {
    let mut bytes = fs::read(path).expect("a file");
    let length = if part == Part::Manifest { bytes.len().min(MANIFEST_BYTES) } else { bytes.len() };
    let place = random.random_range(0..length);
    let block = place - place % BLOCK_BYTES..(place - place % BLOCK_BYTES + BLOCK_BYTES).min(bytes.len());
    let how = match if part == Part::Manifest { 0 } else { random.random_range(0..6) } {
        0 => {
            bytes[place] ^= 1 << random.random_range(0..8);
            format!("bit at {place}")
        }
        1 => {
            bytes[block.clone()].fill(0);
            format!("zeros at {block:?}")
        }
        2 => {
            random.fill(&mut bytes[block.clone()]);
            format!("nonsense at {block:?}")
        }
        3 => {
            bytes.truncate(place);
            format!("short, {place} bytes")
        }
        4 => {
            bytes.extend_from_slice(&[0xa5; 3000]);
            "long".to_owned()
        }
        _ => {
            fs::remove_file(path).expect("removing");
            return "missing".to_owned();
        }
    };
    fs::write(path, bytes).expect("writing");
    how
}

/// Draws damage and carries it out. `log` is the node whose log may be hit, `spared` the one that does not lose records and
/// snapshot together.
fn strike(cluster: &Cluster, random: &mut StdRng, hit: &mut BTreeMap<Part, u64>) -> Vec<String> {
    let (log, spared) = (random.random_range(1..=3), random.random_range(1..=3));
    let mut struck = Vec::new();
    while struck.is_empty() {
        for node in cluster.numbers() {
            let loses_records = random.random_range(0..2) == 0;
            for part in [Part::Log, Part::BaseSnapshot, Part::Manifest, Part::Records] {
                let may = match part {
                    Part::Log => node == log,
                    Part::Records => node != spared || loses_records,
                    Part::BaseSnapshot | Part::Manifest => node != spared || !loses_records,
                };
                let files = part.files(&cluster.node(node).data());
                if !may || files.is_empty() || random.random_range(0..2) == 0 {
                    continue;
                }
                let path = &files[random.random_range(0..files.len())];
                let how = damage(path, part, random);
                struck.push(format!("node {node}: {part:?}, {}, {how}", path.display()));
                *hit.entry(part).or_default() += 1;
            }
        }
    }
    struck
}

/// Creates entries that nobody touches again, so that snapshots are worth writing and old events can go.
async fn fill(cluster: &Cluster, batches: std::ops::Range<u64>) {
    let leader = cluster.leader().await;
    let namespace = cluster.client(leader).namespace(NAMESPACE);
    for batch in batches {
        let operations = (batch * BATCH..(batch + 1) * BATCH).map(filler).collect();
        for outcome in namespace.batch(operations).await {
            outcome.answer.expect("created");
        }
    }
}

/// Waits until the beginning of the log is gone everywhere, so that records that are lost need a snapshot.
async fn forget_the_beginning(cluster: &Cluster) {
    fill(cluster, 0..BATCHES_PRUNED).await;
    let leader = cluster.leader().await;
    let namespace = cluster.client(leader).namespace(NAMESPACE);
    namespace.prune_registration_entry_events(Duration::ZERO).await.expect("pruned");
    let mut filled = BATCHES_PRUNED + BATCHES_KEPT;
    fill(cluster, BATCHES_PRUNED..filled).await;
    for number in cluster.numbers() {
        cluster.node(number).shift_clock(JUMP_MICROS);
    }
    let deadline = Instant::now() + PATIENCE;
    for number in cluster.numbers() {
        while cluster.client(number).admin().log_statistics().await.expect("an answer").first_log_index <= 1 {
            assert!(Instant::now() < deadline, "the log is not given back\n{}", cluster.last_messages());
            fill(cluster, filled..filled + 1).await;
            filled += 1;
        }
    }
}

/// Waits until a node answers.
async fn serve(cluster: &mut Cluster, number: u64) {
    let deadline = Instant::now() + PATIENCE;
    while cluster.status(number).await.is_none() {
        if let Some(status) = cluster.node_mut(number).ended() {
            panic!("node {number} has ended: {status}\n{}", cluster.last_messages());
        }
        assert!(Instant::now() < deadline, "node {number} does not serve\n{}", cluster.last_messages());
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// Starts all nodes, and waits until they serve. Answers how long that took.
async fn heal(cluster: &mut Cluster, load: &Load) -> Duration {
    let begun = Instant::now();
    for number in cluster.numbers() {
        cluster.launch(number);
    }
    for number in cluster.numbers() {
        serve(cluster, number).await;
    }
    let healed = begun.elapsed();
    load.acknowledge_more(FEW).await;
    for number in cluster.numbers() {
        serve(cluster, number).await;
    }
    healed
}

/// Kills all nodes, so that the next start reads all of the records.
fn kill_all(cluster: &mut Cluster) {
    for number in cluster.numbers() {
        cluster.node_mut(number).kill();
    }
}

/// Fills every file of a part with nonsense, so that it is there and cannot be read.
fn spoil(cluster: &Cluster, node: u64, part: Part) {
    for path in part.files(&cluster.node(node).data()) {
        let bytes = fs::metadata(&path).expect("a file").len();
        fs::write(&path, vec![0xa5; usize::try_from(bytes).expect("a small file")]).expect("writing");
    }
}

#[test]
fn a_majority_that_has_lost_records_and_snapshots_gets_them_from_the_rest() {
    run(async {
        let mut cluster = Cluster::start_with(3, FORGETFUL).await;
        forget_the_beginning(&cluster).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let hit = cluster.numbers()[..2].to_vec();
        for lost in [true, false] {
            kill_all(&mut cluster);
            for node in hit.iter().copied() {
                // sled keeps hold of files that it could not read until its process ends.
                spoil(&cluster, node, Part::Records);
                for path in Part::BaseSnapshot.files(&cluster.node(node).data()).into_iter().filter(|_| lost) {
                    fs::remove_file(path).expect("removing");
                }
                spoil(&cluster, node, Part::BaseSnapshot);
            }
            heal(&mut cluster, &load).await;
        }
        let (recorder, told) = load.end().await;
        let doors = cluster.doors_of(&cluster.numbers());
        examine(&doors, &recorder, &told, Kept::WhatIsRecent).await;
        check_digests(&doors).await;
    });
}

#[test]
fn logs_snapshots_and_records_damaged_by_chance_heal() {
    run(async {
        let mut random = StdRng::seed_from_u64(seed());
        // Else damage to old segments would be found when somebody reads them.
        let settings = FORGETFUL.replace("[log]\n", "[log]\nverify_everything = true\n");
        let mut cluster = Cluster::start_with(3, &settings).await;
        forget_the_beginning(&cluster).await;
        let load = Load::start(&cluster.doors(), CLIENTS, seed());
        load.acknowledge_more(SOME).await;
        let (mut hit, mut longest) = (BTreeMap::new(), Duration::ZERO);
        let cases = store_cases(CASES);
        for case in 0..cases {
            kill_all(&mut cluster);
            let struck = strike(&cluster, &mut random, &mut hit);
            println!("case {case}: {}", struck.join("; "));
            longest = longest.max(heal(&mut cluster, &load).await);
        }
        let (recorder, told) = load.end().await;
        let doors = cluster.doors_of(&cluster.numbers());
        examine(&doors, &recorder, &told, Kept::WhatIsRecent).await;
        check_digests(&doors).await;
        println!("{cases} cases, all nodes whole after each of them, after {longest:?} at most; places hit: {hit:?}");
    });
}
