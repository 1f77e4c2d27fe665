//! Kills a process that writes, at random moments: what the store holds afterwards must be an exact prefix of the
//! batches that were applied, and no flushed one may be missing.
//!
//! The page cache survives the process, so this says nothing about power cuts.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_engine::record_store::{RecordStoreKind, open};

use crate::workload::{OPTIONS, Pairs, advance, batch, contents, last_batch};

const ROUNDS: u64 = 8;
const BATCHES_PER_ROUND_MAX: u64 = 600;
const BATCHES_PER_FLUSH: u64 = 7;
const DIRECTORY_VARIABLE: &str = "STEEPLE_CRASH_TEST_DIRECTORY";
const KIND_VARIABLE: &str = "STEEPLE_CRASH_TEST_KIND";

/// What the writing process says about itself.
#[derive(Debug, Default)]
struct Progress {
    lines: u64,
    flushes_begun: u64,
    started: u64,
    flushed: u64,
}

impl Progress {
    fn read(&mut self, line: &str) {
        // The test harness may have printed something of its own at the start of the line.
        let Some((_, said)) = line.split_once('@') else { return };
        let (word, number) = said.split_once(' ').unwrap();
        let number = number.trim().parse().unwrap();
        self.lines += 1;
        match word {
            "applying" => self.started = number,
            "flushing" => self.flushes_begun += 1,
            "flushed" => self.flushed = number,
            _ => panic!("unknown word in {line:?}"),
        }
    }
}

/// Applies batches where the last process left off, and says so, until it is killed. Run as a test of its own it
/// works on a directory of its own and must end with all its batches in place.
#[test]
fn writer() {
    let own_directory = tempfile::tempdir().unwrap();
    let directory = std::env::var(DIRECTORY_VARIABLE).map_or(own_directory.path().to_owned(), Into::into);
    let kind = match std::env::var(KIND_VARIABLE).as_deref() {
        Ok("fjall") => RecordStoreKind::Fjall,
        _ => RecordStoreKind::Sled,
    };
    let store = open(kind, &directory, &OPTIONS).unwrap();
    let first = last_batch(&*store).unwrap() + 1;
    for number in first..first + BATCHES_PER_ROUND_MAX {
        println!("@applying {number}");
        store.apply(batch(number)).unwrap();
        if number % BATCHES_PER_FLUSH == 0 {
            println!("@flushing {number}");
            store.flush().unwrap();
            println!("@flushed {number}");
        }
    }
    assert_eq!(last_batch(&*store).unwrap(), first + BATCHES_PER_ROUND_MAX - 1);
}

fn start_writer(kind: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::writer", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY_VARIABLE, directory)
        .env(KIND_VARIABLE, kind)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets a writer run until a random line of its report, or a random flush, and kills it.
fn write_and_kill(kind: &str, directory: &Path, random: &mut StdRng) -> Progress {
    let mut writer = start_writer(kind, directory);
    let mut report = BufReader::new(writer.stdout.take().unwrap());
    let (lines_max, flushes_max) = match random.random() {
        true => (random.random_range(1..600), u64::MAX),
        false => (u64::MAX, random.random_range(1..60)),
    };
    let mut progress = Progress::default();
    let mut line = String::new();
    let mut killed = false;
    // What it said before it died still has to be read.
    while report.read_line(&mut line).unwrap() > 0 {
        if line.ends_with('\n') {
            progress.read(&line);
        }
        line.clear();
        if !killed && (progress.lines >= lines_max || progress.flushes_begun >= flushes_max) {
            writer.kill().unwrap();
            killed = true;
        }
    }
    let status = writer.wait().unwrap();
    assert!(killed || status.success(), "the writer failed by itself: {status}");
    progress
}

fn crash_keeps_a_prefix(kind: RecordStoreKind, kind_name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut random = StdRng::seed_from_u64(42);
    let mut expected = Pairs::new();
    let mut expected_last = 0;
    for round in 0..ROUNDS {
        let progress = write_and_kill(kind_name, directory.path(), &mut random);
        let store = open(kind, directory.path(), &OPTIONS).unwrap();
        let last = last_batch(&*store).unwrap();
        assert!(last >= progress.flushed, "round {round}: {last} is left of {progress:?}");
        assert!(last <= progress.started.max(expected_last), "round {round}: {last} was never applied: {progress:?}");
        assert!(last >= expected_last, "round {round}: opening had made {expected_last} durable");
        advance(&mut expected, expected_last, last);
        expected_last = last;
        assert!(contents(&*store).unwrap() == expected, "round {round}: not the first {last} batches, {progress:?}");
        store.flush().unwrap();
    }
    assert!(expected_last > 100, "only {expected_last} batches got through: nothing was tested");
}

#[test]
fn sled_keeps_a_prefix() {
    crash_keeps_a_prefix(RecordStoreKind::Sled, "sled");
}

#[test]
fn fjall_keeps_a_prefix() {
    crash_keeps_a_prefix(RecordStoreKind::Fjall, "fjall");
}
