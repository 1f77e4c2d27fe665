//! Memory and queues while somebody does not keep up: a follower that is dead, one that is stopped, consumers that read an
//! item now and then.
//!
//! Clients overwrite the same few entries all the time, so that what a node has to keep stays the same however long it
//! goes on. Longer: `STEEPLE_TEST_PRESSURE_SECONDS=240`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use steeple_client::types::{RegistrationEntry, RegistrationEntryMask, Selector};
use steeple_client::{Client, Namespace, Options, TailContent, TailOptions, TailStart};
use steeple_server::peer::limits;
use steeple_wire::status::ErrorKind;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::aftermath::check_digests;
use crate::cluster::Cluster;
use crate::door::NAMESPACE;
use crate::gauges::{metrics, resident_bytes};
use crate::settings::{PATIENCE, pressure_seconds, run};

/// Mutations that a node takes at a time: fewer than there are writers, so that the door is always crowded.
const QUEUED_MUTATIONS: usize = 64;
const WRITERS: usize = 96;

/// Entries that are overwritten, and bytes of each. An event holds what was before and is after.
const ENTRIES: u64 = 192;
const ENTRY_BYTES: usize = 15_000;
const EVENT_BYTES: u64 = 2 * ENTRY_BYTES as u64;

/// Consumers that do not keep up, and how long each takes over a message.
const CONSUMERS: usize = 8;
const DAWDLE: Duration = Duration::from_millis(250);

/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

/// Messages that may wait for the thread that owns a group, and writes that may wait for the disk: each message of a
/// leader makes one, and so many may be under way to a follower.
const INBOX_MAX: usize = 4_096;
const WRITES_MAX: usize = 256;

/// Memory that comes and goes: caches that fill up, what allocators keep for later.
const SLACK_BYTES: u64 = 32 << 20;

/// What is kept for whatever happened does not grow; what is written is given back soon.
const SETTINGS: &str = "[log]\nsegment_bytes = \"4MiB\"\nsegment_entries = 1024\n\
    [retention]\nhistory = \"1s\"\nfollowers = \"1s\"\nrequest_ids = \"1m\"\nstreams = \"2s\"\n\
    [compaction]\ninterval = \"500ms\"\nbase_interval_bytes = \"16MiB\"\n\
    [store]\nflush_interval = \"500ms\"\n[limits]\nqueued_mutations = 64\n[tracing]\nlevel = \"info\"\n";

#[test]
fn memory_and_queues_stay_bounded_whoever_does_not_keep_up() {
    run(async {
        let phase = Duration::from_secs(pressure_seconds(21)) / 3;
        let mut cluster = Cluster::start_with(3, SETTINGS).await;
        let writing = Writing::start(&cluster).await;

        let dead = cluster.follower().await;
        cluster.node_mut(dead).kill();
        observe("a dead follower", &cluster, &others(&cluster, dead), &writing, phase).await;
        writing.rest().await;
        cluster.restart(dead).await;
        wait_until_level(&cluster).await;
        writing.go_on();

        let stopped = cluster.follower().await;
        cluster.node(stopped).pause();
        observe("a stopped follower", &cluster, &others(&cluster, stopped), &writing, phase).await;
        writing.rest().await;
        cluster.node(stopped).resume();
        wait_until_level(&cluster).await;
        writing.go_on();

        let consuming = Consuming::start(&cluster);
        observe("slow consumers", &cluster, &cluster.numbers(), &writing, phase).await;
        consuming.end().await;

        writing.rest().await;
        wait_until_level(&cluster).await;
        check_digests(&cluster.doors_of(&cluster.numbers())).await;
        cluster.assert_nobody_panicked();
    });
}

/// Clients that overwrite.
struct Writing {
    written: Arc<AtomicU64>,
    pace: watch::Sender<bool>,
    writers: Vec<JoinHandle<()>>,
    /// Held by each writer while it waits for an answer.
    busy: Arc<Semaphore>,
}

impl Writing {
    async fn start(cluster: &Cluster) -> Self {
        let addresses: Vec<String> =
            cluster.numbers().iter().map(|number| cluster.node(*number).client_address.to_string()).collect();
        let client = Client::connect(addresses).await.expect("a connection");
        let namespace = client.with_options(Options::default().with_deadline(PATIENCE)).namespace(NAMESPACE);
        for number in 0..ENTRIES {
            namespace.create_registration_entry(entry(number, 0)).await.expect("created");
        }
        let (pace, paced) = watch::channel(true);
        let (written, busy) = (Arc::<AtomicU64>::default(), Arc::new(Semaphore::new(WRITERS)));
        let writers = (0..WRITERS as u64).map(|first| {
            let writer =
                Writer { namespace: namespace.clone(), written: Arc::clone(&written), busy: Arc::clone(&busy), first };
            tokio::spawn(writer.overwrite(paced.clone()))
        });
        Self { writers: writers.collect(), written, pace, busy }
    }

    fn bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed) * EVENT_BYTES
    }

    /// Waits until nobody writes any more.
    async fn rest(&self) {
        self.pace.send_replace(false);
        drop(self.busy.acquire_many(WRITERS as u32).await.expect("never closed"));
        assert!(!self.writers.iter().any(JoinHandle::is_finished), "a writer gave up");
    }

    fn go_on(&self) {
        self.pace.send_replace(true);
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.writers.iter().for_each(JoinHandle::abort);
    }
}

struct Writer {
    namespace: Namespace,
    written: Arc<AtomicU64>,
    busy: Arc<Semaphore>,
    first: u64,
}

impl Writer {
    async fn overwrite(self, mut pace: watch::Receiver<bool>) {
        let mask = RegistrationEntryMask { hint: true, ..RegistrationEntryMask::default() };
        for round in 1_u64.. {
            if pace.wait_for(|goes_on| *goes_on).await.is_err() {
                return;
            }
            let _busy = self.busy.acquire().await.expect("never closed");
            let number = (self.first + round * WRITERS as u64) % ENTRIES;
            let updated = self.namespace.update_registration_entry(entry(number, round), Some(mask)).await;
            updated.expect("a leader that takes it in time");
            self.written.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn entry(number: u64, hint: u64) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: format!("overwritten-{number}"),
        parent_id: "spiffe://cluster.test/agent".into(),
        spiffe_id: format!("spiffe://cluster.test/overwritten/{number}"),
        selectors: vec![Selector { r#type: "bulk".into(), value: format!("{number:0>ENTRY_BYTES$}") }],
        hint: hint.to_string(),
        ..RegistrationEntry::default()
    }
}

/// Consumers that read one message now and then.
struct Consuming {
    consumers: Vec<JoinHandle<u64>>,
    stop: watch::Sender<bool>,
}

impl Consuming {
    fn start(cluster: &Cluster) -> Self {
        let (stop, stopping) = watch::channel(false);
        let consumers = (0..CONSUMERS).map(|number| {
            let node = number as u64 % cluster.numbers().len() as u64 + 1;
            tokio::spawn(dawdle(cluster.client(node).namespace(NAMESPACE), stopping.clone()))
        });
        Self { consumers: consumers.collect(), stop }
    }

    async fn end(self) {
        self.stop.send_replace(true);
        for consumer in self.consumers {
            assert!(consumer.await.expect("a consumer") > 2, "a consumer got nothing");
        }
    }
}

/// Reads until it is told to stop; begins anew when what comes next is not kept any more. How much it read.
async fn dawdle(namespace: Namespace, stopping: watch::Receiver<bool>) -> u64 {
    let options = TailOptions { start: TailStart::Oldest, ..TailOptions::default() };
    let mut tail = namespace.tail(options.clone());
    let (mut read, mut revision) = (0, 0);
    while !*stopping.borrow() {
        match tail.next().await {
            Ok(message) => {
                if let TailContent::Event(event) = message.content {
                    assert!(event.revision > revision, "it goes back from {revision} to {}", event.revision);
                    (read, revision) = (read + 1, event.revision);
                }
                tokio::time::sleep(DAWDLE).await;
            }
            Err(error) if error.kind() == Some(ErrorKind::Compacted) => tail = namespace.tail(options.clone()),
            Err(error) => panic!("a tail ended: {error}"),
        }
    }
    read
}

/// What was seen of a node at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    resident_bytes: u64,
    written_bytes: u64,
}

/// Looks on for as long as it is told, and judges what it saw.
async fn observe(what: &str, cluster: &Cluster, nodes: &[u64], writing: &Writing, duration: Duration) {
    let mut samples: BTreeMap<u64, Vec<Sample>> = BTreeMap::new();
    let mut depths = BTreeMap::new();
    let end = Instant::now() + duration;
    while Instant::now() < end {
        for number in nodes.iter().copied() {
            let metrics = metrics(cluster.node(number).http_address).await.expect("metrics");
            for (queue, bound, depth) in queues(&metrics) {
                assert!(
                    depth <= bound as f64,
                    "{what}: node {number}: {queue} holds {depth}, at most {bound} are allowed"
                );
                let deepest: &mut f64 = depths.entry(queue).or_default();
                *deepest = deepest.max(depth);
            }
            let process = cluster.node(number).process().expect("a process");
            let resident_bytes = resident_bytes(process).expect("a process");
            samples.entry(number).or_default().push(Sample { resident_bytes, written_bytes: writing.bytes() });
        }
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    }
    println!("{what}: the most that queues held: {depths:?}");
    for name in [
        "steeple_peer_queued_bytes",
        "steeple_inbox_messages",
        "steeple_mutations_queued",
        "steeple_log_writes_waiting",
    ] {
        assert!(depths.keys().any(|queue| queue.starts_with(name)), "{name} is not told");
    }
    for (number, samples) in &samples {
        let growth = Growth::of(samples);
        println!("{what}: node {number}: {growth}");
        assert!(growth.is_bounded(), "{what}: node {number}: memory grows with what is written: {growth}");
    }
}

fn others(cluster: &Cluster, away: u64) -> Vec<u64> {
    cluster.numbers().into_iter().filter(|number| *number != away).collect()
}

/// Those of a node's metrics that tell how much waits somewhere, and how much may.
fn queues(metrics: &BTreeMap<String, f64>) -> impl Iterator<Item = (String, usize, f64)> {
    metrics.iter().filter_map(|(name, value)| {
        let is_bulk = name.contains("lane=\"bulk\"");
        let bound = match name.split('{').next()? {
            "steeple_peer_queued_bytes" if is_bulk => limits::BULK_QUEUE_BYTES,
            "steeple_peer_queued_bytes" => limits::CONTROL_QUEUE_BYTES,
            "steeple_peer_queued_messages" => limits::QUEUE_MESSAGES_MAX,
            "steeple_peer_undelivered_bytes" if is_bulk => limits::BULK_UNDELIVERED_BYTES,
            "steeple_peer_undelivered_bytes" => limits::CONTROL_UNDELIVERED_BYTES,
            "steeple_inbox_messages" => INBOX_MAX,
            "steeple_mutations_queued" | "steeple_events_in_flight" => QUEUED_MUTATIONS,
            "steeple_log_writes_waiting" => WRITES_MAX,
            "steeple_tails" => CONSUMERS,
            _ => return None,
        };
        Some((name.clone(), bound, *value))
    })
}

/// Windows that a row of samples is cut into. The first is for warming up.
const WINDOWS: usize = 3;

/// Memory early and late, and how much was written between.
#[derive(Debug, PartialEq, Eq)]
struct Growth {
    early_bytes: u64,
    late_bytes: u64,
    written_bytes: u64,
}

impl Growth {
    fn of(samples: &[Sample]) -> Self {
        let window = samples.len() / WINDOWS;
        assert!(window > 0, "too little was seen: {samples:?}");
        let early = &samples[window..2 * window];
        let late = &samples[samples.len() - window..];
        let written = |window: &[Sample]| median(window.iter().map(|sample| sample.written_bytes));
        let resident = |window: &[Sample]| median(window.iter().map(|sample| sample.resident_bytes));
        Self { early_bytes: resident(early), late_bytes: resident(late), written_bytes: written(late) - written(early) }
    }

    /// Whether most of what was written is not in memory.
    fn is_bounded(&self) -> bool {
        self.late_bytes <= self.early_bytes + SLACK_BYTES + self.written_bytes / 8
    }
}

impl std::fmt::Display for Growth {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [early, late, written] = [self.early_bytes, self.late_bytes, self.written_bytes].map(|bytes| bytes >> 20);
        write!(formatter, "{early} MiB early, {late} MiB late, {written} MiB written between")
    }
}

fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// Waits until all nodes have folded what the leader has.
async fn wait_until_level(cluster: &Cluster) {
    let leader = cluster.leader().await;
    let revision = cluster.status(leader).await.expect("an answer").revision;
    let deadline = Instant::now() + PATIENCE;
    for number in cluster.numbers() {
        while cluster.status(number).await.is_none_or(|status| status.revision < revision) {
            assert!(Instant::now() < deadline, "node {number} stays behind {revision}\n{}", cluster.last_messages());
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many MiB resident and written at each moment.
    fn samples(at: impl Fn(u64) -> (u64, u64)) -> Vec<Sample> {
        let sample = |moment| {
            let (resident, written) = at(moment);
            Sample { resident_bytes: resident << 20, written_bytes: written << 20 }
        };
        (0..30).map(sample).collect()
    }

    #[test]
    fn memory_that_grows_with_what_is_written_is_told_from_memory_that_settles() {
        let kept = Growth::of(&samples(|moment| (100 + moment * 10, moment * 10)));
        assert_eq!(kept.written_bytes >> 20, 100);
        assert!(!kept.is_bounded(), "{kept}");
        let settled = Growth::of(&samples(|moment| (100 + (moment * 10).min(90), moment * 10)));
        assert!(settled.is_bounded(), "{settled}");
    }
}
