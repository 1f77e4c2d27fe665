//! Files are damaged while the node is stopped: what can be made again is, and what cannot is refused, never guessed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter, Selector};
use steeple_client::{Client, Error, Options};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::checks::checked_digest;
use crate::steeple::{NodeProcess, Site, run};

/// Entries that fill several files of the log.
const ENTRIES: usize = 1_600;

/// Writers at a time.
const WRITERS: usize = 16;

/// Rounds of damage to the record store.
const ROUNDS: u64 = 8;

/// Events are wanted no longer than the shortest time that can be set.
const FORGETFUL: [&str; 3] = ["--retention-history=1s", "--retention-request-ids=1m", "--retention-streams=1s"];

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn entry(number: usize) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: format!("entry-{number}"),
        parent_id: "spiffe://example.org/spire/agent".into(),
        spiffe_id: format!("spiffe://example.org/workload-{number}"),
        selectors: vec![Selector { r#type: "unix".into(), value: format!("uid:{number}") }],
        ..Default::default()
    }
}

/// Creates entries with these numbers.
async fn fill(client: &Client, numbers: std::ops::Range<usize>) {
    let mut writers = JoinSet::new();
    for first in numbers.start..(numbers.start + WRITERS).min(numbers.end) {
        let (namespace, end) = (client.namespace("default"), numbers.end);
        writers.spawn(async move {
            for number in (first..end).step_by(WRITERS) {
                namespace.create_registration_entry(entry(number)).await.expect("an entry");
            }
        });
    }
    writers.join_all().await;
}

/// A stopped node with several files of log, and its digest.
fn filled(site: &Site, runtime: &Runtime) -> Vec<u8> {
    let mut process = site.start();
    let digest = runtime.block_on(async {
        let client = process.client().await;
        fill(&client, 0..ENTRIES).await;
        checked_digest(&client).await
    });
    process.stop();
    assert!(site.segments().len() > 2, "{:?}", site.segments());
    digest
}

fn digest_of(process: &NodeProcess, runtime: &Runtime) -> Vec<u8> {
    runtime.block_on(async {
        let client = process.client().await;
        let count = client.namespace("default").count_registration_entries(RegistrationEntryFilter::default()).await;
        assert!(count.expect("a count") > 0);
        checked_digest(&client).await
    })
}

fn flip(path: &Path, offset: usize, mask: u8) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[offset] ^= mask;
    fs::write(path, bytes).expect("writing");
}

fn name(path: &Path) -> String {
    path.file_name().expect("a name").to_string_lossy().into_owned()
}

/// Where a file of the log holds an entry from the middle of it, as the command tells.
fn middle_entry(site: &Site, segment: &Path) -> usize {
    let inspected = run(&["log", "inspect", "--entries", &site.data_text(), "--output", "json"]);
    assert!(inspected.status.success(), "{inspected:?}");
    let (file, text) = (name(segment), String::from_utf8_lossy(&inspected.stdout).into_owned());
    let offset = |line: &str| -> Option<usize> {
        let after = line.split("\"offset\":").nth(1)?;
        after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
    };
    let of_events = |line: &&str| line.contains(&file) && line.contains("\"kind\":\"event\"");
    let offsets: Vec<usize> = text.lines().filter(of_events).filter_map(offset).collect();
    offsets[offsets.len() / 2]
}

#[test]
fn damage_in_an_old_file_of_the_log_is_named_and_never_cut_off() {
    let (site, runtime) = (Site::new(), runtime());
    let digest = filled(&site, &runtime);
    let segment = site.segments().remove(0);
    let offset = middle_entry(&site, &segment);
    let damaged = offset + 60;
    flip(&segment, damaged, 0x10);

    let verified = run(&["log", "verify", &site.data_text()]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert_eq!(verified.status.code(), Some(1), "{said}");
    assert!(said.contains(&name(&segment)) && said.contains(&offset.to_string()), "{said}");

    let refused = |flags: &[&str]| {
        let (code, said) = site.start_in_vain(flags);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("error: ") && said.contains(&name(&segment)), "{said}");
        assert!(said.contains(&offset.to_string()), "{said}");
    };
    refused(&["--log-verify-everything"]);
    // Without the records every entry is needed, also when the log is not verified for its own sake.
    fs::rename(site.group("records"), site.group("aside")).expect("renaming");
    refused(&[]);

    flip(&segment, damaged, 0x10);
    let mut process = site.start_with(&["--log-verify-everything"]);
    assert_eq!(digest_of(&process, &runtime), digest);
    process.stop();
}

fn files_under(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files_under(&path, found);
        } else if fs::metadata(&path).expect("a file").len() > 0 {
            found.push(path);
        }
    }
}

#[test]
fn a_damaged_record_store_is_made_again() {
    let (site, runtime) = (Site::new(), runtime());
    let digest = filled(&site, &runtime);
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let mut files = Vec::new();
        files_under(&site.group("records"), &mut files);
        files.sort();
        for _ in 0..random.random_range(1..20) {
            let file = &files[random.random_range(0..files.len())];
            let bytes = usize::try_from(fs::metadata(file).expect("a file").len()).expect("a small file");
            flip(file, random.random_range(0..bytes), 1 << random.random_range(0..8));
        }
        let mut process = site.start();
        assert_eq!(digest_of(&process, &runtime), digest, "round {round}");
        if random.random_range(0..2) == 0 { process.stop() } else { process.kill() }
    }
    // All of it, so that at least one round had to rebuild.
    let mut files = Vec::new();
    files_under(&site.group("records"), &mut files);
    for file in files {
        let bytes: Vec<u8> = fs::read(&file).expect("a file").iter().map(|byte| !byte).collect();
        fs::write(&file, bytes).expect("writing");
    }
    let mut process = site.start();
    assert_eq!(digest_of(&process, &runtime), digest);
    process.stop();
    assert!(site.messages().contains("is rebuilt from base snapshot and log"), "{}", site.messages());
}

/// Creates entries until the log no longer reaches back to its beginning.
async fn fill_until_purged(client: &Client) {
    for batch in 0.. {
        fill(client, batch * ENTRIES..(batch + 1) * ENTRIES).await;
        if client.admin().log_statistics().await.expect("statistics").first_log_index > 1 {
            return;
        }
    }
}

#[test]
fn a_damaged_base_snapshot_is_never_taken_for_a_whole_one() {
    let (site, runtime) = (Site::new(), runtime());
    let mut process = site.start_with(&FORGETFUL);
    let digest = runtime.block_on(async {
        let client = process.client().await;
        fill_until_purged(&client).await;
        checked_digest(&client).await
    });
    process.stop();
    let base = site.group("base").join("base.snapshot");
    let middle = fs::read(&base).expect("the base snapshot").len() / 2;
    flip(&base, middle, 0x04);

    // With the records whole nobody needs it.
    let mut process = site.start_with(&["--compaction-interval=0"]);
    assert_eq!(digest_of(&process, &runtime), digest);
    process.stop();

    fs::remove_dir_all(site.group("records")).expect("the record store");
    let (code, said) = site.start_in_vain(&["--compaction-interval=0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("error: ") && said.contains("it cannot be read"), "{said}");

    flip(&base, middle, 0x04);
    let mut process = site.start();
    assert_eq!(digest_of(&process, &runtime), digest);
    process.stop();
}

#[test]
fn a_node_whose_disk_takes_no_more_stops_and_keeps_what_it_acknowledged() {
    let (site, runtime) = (Site::new(), runtime());
    let mut process = site.start();
    let (acknowledged, last_error) = runtime.block_on(async {
        let client = process.client().await.with_options(Options::default().with_deadline(Duration::from_secs(5)));
        fill(&client, 0..100).await;
        process.refuse_writes_behind(4096);
        let namespace = client.namespace("default");
        for number in 100.. {
            if let Err(error) = namespace.create_registration_entry(entry(number)).await {
                return (number, error);
            }
        }
        unreachable!("there are numbers enough")
    });
    assert!(matches!(last_error, Error::OutcomeUnknown { .. } | Error::Unavailable { .. }), "{last_error:?}");
    assert_eq!(process.wait_for_end(), Some(1), "{}", site.messages());
    assert!(site.messages().contains("error: the node stopped by itself: log: cannot"), "{}", site.messages());

    let mut process = site.start();
    let count = runtime.block_on(async {
        let client = process.client().await;
        checked_digest(&client).await;
        client.namespace("default").count_registration_entries(RegistrationEntryFilter::default()).await
    });
    let count = usize::try_from(count.expect("a count")).expect("a count");
    // The one that failed may have happened, whatever it was answered with.
    assert!((acknowledged..=acknowledged + 1).contains(&count), "{count} of {acknowledged}");
    process.stop();
}
