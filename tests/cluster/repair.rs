//! Files are damaged on several nodes while they are stopped; the nodes repair their logs with each other's help.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::load::Load;
use crate::settings::{run, seed};

/// Clients at work before and afterwards.
const CLIENTS: usize = 4;

/// Acknowledged mutations before and after the damage.
const SOME: usize = 200;

/// The unit in which files are destroyed.
const CHUNK_BYTES: usize = 4096;

/// Where the entries of a segment begin.
const ENTRIES_OFFSET: usize = 8192;

/// Bytes that are damaged to damage an entry: what fills it up to a multiple of eight means nothing and is not missed, and
/// is at most seven bytes.
const DAMAGED_BYTES: usize = 8;

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The segments of a node's log, oldest first.
fn segments(cluster: &Cluster, node: u64) -> Vec<PathBuf> {
    let mut files = files_below(&cluster.node(node).data().join("group-0").join("log"));
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("segment-")));
    assert!(!files.is_empty());
    files
}

fn destroy(path: &Path, chunks: impl Iterator<Item = usize>) {
    let mut bytes = fs::read(path).expect("a file");
    for chunk in chunks {
        let end = ((chunk + 1) * CHUNK_BYTES).min(bytes.len());
        bytes[(chunk * CHUNK_BYTES).min(end)..end].fill(0x5a);
    }
    fs::write(path, bytes).expect("writing");
}

async fn loaded() -> (Cluster, Load) {
    let cluster = Cluster::start(3).await;
    let load = Load::start(&cluster.doors(), CLIENTS, seed());
    load.acknowledge_more(SOME).await;
    (cluster, load)
}

fn stop_all(cluster: &mut Cluster) {
    for number in cluster.numbers() {
        cluster.node_mut(number).stop();
    }
}

async fn start_all(cluster: &mut Cluster) {
    for number in cluster.numbers() {
        cluster.launch(number);
    }
    for number in cluster.numbers() {
        cluster.wait_until_serving(number).await;
    }
}

fn assert_repaired(cluster: &Cluster, node: u64) {
    let messages = cluster.node(node).messages();
    assert!(messages.contains("the log is repaired with the help of other members"), "node {node}:\n{messages}");
}

#[test]
fn entries_damaged_on_every_node_are_repaired_without_an_operator() {
    run(async {
        let (mut cluster, load) = loaded().await;
        stop_all(&mut cluster);
        for node in 1..=3 {
            let newest = segments(&cluster, node).pop().expect("a segment");
            let mut bytes = fs::read(&newest).expect("a file");
            let damaged = ENTRIES_OFFSET + usize::try_from(node).expect("small") * 900;
            bytes[damaged..damaged + DAMAGED_BYTES].iter_mut().for_each(|byte| *byte ^= 4);
            fs::write(&newest, bytes).expect("writing");
        }
        start_all(&mut cluster).await;
        load.acknowledge_more(SOME).await;
        cluster.examine(load).await;
        (1..=3).for_each(|node| assert_repaired(&cluster, node));
    });
}

#[test]
fn lost_files_of_two_nodes_come_back_from_the_third() {
    run(async {
        let (mut cluster, load) = loaded().await;
        stop_all(&mut cluster);
        for node in 1..=2 {
            fs::remove_file(segments(&cluster, node).pop().expect("a segment")).expect("removing");
        }
        start_all(&mut cluster).await;
        load.acknowledge_more(SOME).await;
        cluster.examine(load).await;
        (1..=2).for_each(|node| assert_repaired(&cluster, node));
    });
}

#[test]
fn a_node_that_was_killed_and_damaged_comes_back_while_the_others_serve() {
    run(async {
        let (mut cluster, load) = loaded().await;
        let follower = cluster.follower().await;
        cluster.node_mut(follower).kill();
        load.acknowledge_more(SOME).await;
        let newest = segments(&cluster, follower).pop().expect("a segment");
        destroy(&newest, 3..5);
        cluster.restart(follower).await;
        load.acknowledge_more(SOME).await;
        cluster.examine(load).await;
        assert_repaired(&cluster, follower);
    });
}

#[test]
fn every_third_chunk_of_every_file_heals() {
    run(async {
        let (mut cluster, load) = loaded().await;
        // What is in flight when a node stops has fewer copies than three.
        cluster.examine(load).await;
        stop_all(&mut cluster);
        for node in 1..=3_usize {
            for path in files_below(&cluster.node(node as u64).data().join("group-0")) {
                let chunks = fs::metadata(&path).expect("a file").len().div_ceil(CHUNK_BYTES as u64);
                destroy(&path, (node % 3..usize::try_from(chunks).expect("small")).step_by(3));
            }
        }
        start_all(&mut cluster).await;
        let load = Load::start_on("again", &cluster.doors(), CLIENTS, seed().wrapping_add(1 << 40));
        load.acknowledge_more(SOME).await;
        cluster.examine(load).await;
        (1..=3).for_each(|node| assert_repaired(&cluster, node));
    });
}
