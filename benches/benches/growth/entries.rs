//! More and more entries, each size on a node of its own; and what a start with all of them and half as many retained events
//! comes to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use steeple_benches::usage::{CpuTimes, Memory};
use steeple_client::Error;

use crate::Arguments;
use crate::ask::{Latency, WORK, Work, ask_for};
use crate::subject::{Disk, Loaded, Pruned, Subject, Written, mebibytes};

/// What was aimed at with 1,000,000 entries and 500,000 retained events.
const AIMED_AT: u64 = 1_000_000;
const START_MAX: Duration = Duration::from_secs(3);
const LOAD_MAX: Duration = Duration::from_secs(5);
const MEMORY_MAX: u64 = 3 << 29;
const DISK_MAX: f64 = 3.0;

/// A node with so many entries.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    entries: u64,
    #[serde(flatten)]
    filled: Filled,
    #[serde(flatten)]
    asked: Asked,
    #[serde(flatten)]
    updated: Updated,
    #[serde(flatten)]
    started: Started,
    #[serde(flatten)]
    emptied: Emptied,
    /// What is on disk by the bytes of all entries, and of all retained events, as a client gets them.
    disk_to_raw_with_events: f64,
    disk_to_raw_without_events: f64,
    /// The most that was ever in memory, of the process that was filled and of the one that was started after it.
    memory_peak: u64,
}

/// Created over one stream.
#[derive(Clone, Debug, Serialize)]
struct Filled {
    /// What went to the disk before anything was asked of the node: all that others write meanwhile is counted as the node's.
    others_written_bytes_per_second: Option<f64>,
    filling: Written,
    /// The same until no more is written: with a base snapshot, and log files that went.
    filling_amplification_at_rest: Option<f64>,
    /// Before anything was read.
    memory_filled: Memory,
}

/// Asked of all that was created.
#[derive(Clone, Debug, Serialize)]
struct Asked {
    latencies: Vec<Latency>,
    memory_asked: Memory,
    snapshot: Loaded,
    snapshot_with_events: Loaded,
    /// Of all that happened until then: only what comes from then on is retained.
    prune: Pruned,
}

/// Updated in no order, each update a retained event.
#[derive(Clone, Debug, Serialize)]
struct Updated {
    retained_events: u64,
    steady: Written,
    steady_amplification_at_rest: Option<f64>,
    memory_updated: Memory,
    disk_with_events: Disk,
}

/// Started again with all of that.
#[derive(Clone, Debug, Serialize)]
struct Started {
    start_seconds: f64,
    /// CPU time of the node's threads until it answered, in seconds.
    start_cpu_seconds: BTreeMap<String, f64>,
    memory_started: Memory,
    load_entries: Profiled,
    load_events: Profiled,
    memory_loaded: Memory,
}

/// What a client loaded, and the CPU time of the threads of both, in seconds.
#[derive(Clone, Debug, Serialize)]
struct Profiled {
    #[serde(flatten)]
    loaded: Loaded,
    node_cpu_seconds: BTreeMap<String, f64>,
    client_cpu_seconds: BTreeMap<String, f64>,
}

/// With no event retained.
#[derive(Clone, Debug, Serialize)]
struct Emptied {
    prune_after_updates: Pruned,
    disk_without_events: Disk,
    memory_emptied: Memory,
}

/// Measures each size.
pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Point>, Error> {
    let mut points = Vec::new();
    for entries in &arguments.sizes {
        println!("\n{entries} entries");
        points.push(Point::measure(arguments, *entries).await?);
    }
    Ok(points)
}

impl Point {
    async fn measure(arguments: &Arguments, entries: u64) -> Result<Self, Error> {
        let mut subject = Subject::start(arguments, entries).await?;
        let filled = Filled::measure(&mut subject).await?;
        filled.print();
        let asked = Asked::measure(&mut subject, arguments).await?;
        asked.print();
        let updated = Updated::measure(&mut subject, entries / 2).await?;
        updated.print();
        let started = Started::measure(&mut subject).await?;
        started.print();
        let emptied = Emptied::measure(&mut subject).await?;
        let (raw, events) = (started.load_entries.loaded.bytes, started.load_events.loaded.bytes);
        let point = Self {
            entries,
            disk_to_raw_with_events: updated.disk_with_events.total as f64 / (raw + events) as f64,
            disk_to_raw_without_events: emptied.disk_without_events.total as f64 / raw as f64,
            memory_peak: updated.memory_updated.peak.max(emptied.memory_emptied.peak),
            filled,
            asked,
            updated,
            started,
            emptied,
        };
        point.print();
        Ok(point)
    }

    fn print(&self) {
        print_prune("prune of those", &self.emptied.prune_after_updates);
        print_memory("emptied", self.emptied.memory_emptied);
        let entries = self.started.load_entries.loaded.count;
        print_disk("disk with events", &self.updated.disk_with_events, self.disk_to_raw_with_events, entries);
        print_disk("disk without events", &self.emptied.disk_without_events, self.disk_to_raw_without_events, entries);
        if self.entries == AIMED_AT {
            self.print_aims();
        }
    }

    fn print_aims(&self) {
        let line = |name: &str, measured: f64, aim: f64, unit: &str| {
            let verdict = if measured <= aim { "met" } else { "MISSED" };
            println!("  aim: {name:<42}{measured:>8.2} of {aim:.2} {unit}, {verdict}");
        };
        let started = &self.started;
        line("start", started.start_seconds, START_MAX.as_secs_f64(), "s");
        let load = started.load_entries.loaded.seconds + started.load_events.loaded.seconds;
        line("then loading entries and events", load, LOAD_MAX.as_secs_f64(), "s");
        line("resident memory at the most", mebibytes(self.memory_peak), mebibytes(MEMORY_MAX), "MiB");
        line("disk to raw bytes, no event retained", self.disk_to_raw_without_events, DISK_MAX, "times");
        line("disk to raw bytes, with events", self.disk_to_raw_with_events, DISK_MAX, "times");
    }
}

impl Filled {
    async fn measure(subject: &mut Subject) -> Result<Self, Error> {
        let others_written_bytes_per_second = subject.written_by_others().await;
        let before = subject.disk_written_bytes();
        let filling = subject.fill().await?;
        let memory_filled = subject.memory();
        let filling_amplification_at_rest = at_rest(subject, filling.raw_bytes, before).await?;
        Ok(Self { others_written_bytes_per_second, filling, filling_amplification_at_rest, memory_filled })
    }

    fn print(&self) {
        let others = self.others_written_bytes_per_second.map_or("unknown".to_owned(), |bytes| format!("{bytes:.0}"));
        println!("  {:<28}{others:>9} bytes a second", "others write to the disk");
        print_written("filling", &self.filling, self.filling_amplification_at_rest);
        print_memory("filled", self.memory_filled);
    }
}

impl Asked {
    async fn measure(subject: &mut Subject, arguments: &Arguments) -> Result<Self, Error> {
        Ok(Self {
            latencies: latencies(subject, arguments).await?,
            memory_asked: subject.memory(),
            snapshot: subject.snapshot(false).await?,
            snapshot_with_events: subject.snapshot(true).await?,
            prune: subject.prune().await?,
        })
    }

    fn print(&self) {
        self.latencies.iter().for_each(Latency::print);
        print_memory("asked", self.memory_asked);
        print_loaded("snapshot", &self.snapshot);
        print_loaded("snapshot with events", &self.snapshot_with_events);
        print_prune("prune", &self.prune);
    }
}

impl Updated {
    async fn measure(subject: &mut Subject, retained_events: u64) -> Result<Self, Error> {
        let before = subject.disk_written_bytes();
        let steady = subject.update(retained_events).await?;
        subject.settle().await;
        let steady_amplification_at_rest = at_rest(subject, steady.raw_bytes, before).await?;
        let (memory_updated, disk_with_events) = (subject.memory(), subject.disk());
        Ok(Self { retained_events, steady, steady_amplification_at_rest, memory_updated, disk_with_events })
    }

    fn print(&self) {
        print_written("updates", &self.steady, self.steady_amplification_at_rest);
        print_memory("updated", self.memory_updated);
    }
}

impl Started {
    async fn measure(subject: &mut Subject) -> Result<Self, Error> {
        let start = subject.restart().await;
        let start_cpu_seconds = subject.node_cpu().since(&CpuTimes::default());
        let memory_started = subject.memory();
        let load_entries = Profiled::of(subject, subject.load_entries()).await?;
        let load_events = Profiled::of(subject, subject.load_events()).await?;
        Ok(Self {
            start_seconds: start.as_secs_f64(),
            start_cpu_seconds,
            memory_started,
            load_entries,
            load_events,
            memory_loaded: subject.memory(),
        })
    }

    fn print(&self) {
        println!("  {:<28}{:>9.2} s", "start", self.start_seconds);
        print_threads("node", &self.start_cpu_seconds);
        print_memory("started", self.memory_started);
        for (name, profiled) in
            [("a client loads all entries", &self.load_entries), ("and all retained events", &self.load_events)]
        {
            print_loaded(name, &profiled.loaded);
            print_threads("node", &profiled.node_cpu_seconds);
            print_threads("client", &profiled.client_cpu_seconds);
        }
        print_memory("loaded", self.memory_loaded);
    }
}

impl Profiled {
    async fn of(subject: &Subject, load: impl Future<Output = Result<Loaded, Error>>) -> Result<Self, Error> {
        let own = || CpuTimes::of(std::process::id());
        let before = (subject.node_cpu(), own());
        let loaded = load.await?;
        let node_cpu_seconds = subject.node_cpu().since(&before.0);
        Ok(Self { loaded, node_cpu_seconds, client_cpu_seconds: own().since(&before.1) })
    }
}

impl Emptied {
    async fn measure(subject: &mut Subject) -> Result<Self, Error> {
        let prune_after_updates = subject.prune().await?;
        subject.compact().await?;
        let (disk_without_events, memory_emptied) = (subject.disk(), subject.memory());
        Ok(Self { prune_after_updates, disk_without_events, memory_emptied })
    }
}

/// What was written since then for so many raw bytes, once all that can wait has been written.
async fn at_rest(subject: &Subject, raw_bytes: u64, before: Option<u64>) -> Result<Option<f64>, Error> {
    subject.compact().await?;
    Ok(subject.disk_written_since(before).map(|bytes| bytes as f64 / raw_bytes.max(1) as f64))
}

async fn latencies(subject: &mut Subject, arguments: &Arguments) -> Result<Vec<Latency>, Error> {
    let (connections, deployment, next) = (subject.connections(), subject.deployment, Arc::new(AtomicU64::new(0)));
    let mut latencies = Vec::new();
    for work in WORK {
        for clients in &arguments.clients {
            let (before, first) = (subject.disk_written_bytes(), next.load(Ordering::Relaxed));
            let mut latency = ask_for(&connections, deployment, work, *clients, arguments.length(), &next).await?;
            if work == Work::Create {
                let written = subject.disk_written_since(before);
                latency.written_bytes_each = written.map(|bytes| bytes as f64 / latency.answers.max(1) as f64);
                // The table stays as large as it is said; the events of creations and deletions are pruned later.
                subject.take_back(first..next.load(Ordering::Relaxed)).await?;
            }
            latencies.push(latency);
        }
    }
    Ok(latencies)
}

/// A ratio as people read it; what is not known is not zero.
fn times(ratio: Option<f64>) -> String {
    ratio.map_or("unknown".to_owned(), |ratio| format!("{ratio:.2}"))
}

fn print_written(name: &str, written: &Written, at_rest: Option<f64>) {
    println!(
        "  {name:<28}{:>9} mutations, {:>7.0} a second, {:.0} ms without an answer at the most; written {} times the raw {:.1} MiB, {} times at rest",
        written.mutations,
        written.per_second,
        written.longest_pause_ms,
        times(written.amplification),
        mebibytes(written.raw_bytes),
        times(at_rest)
    );
}

fn print_memory(name: &str, memory: Memory) {
    let (resident, peak) = (mebibytes(memory.resident), mebibytes(memory.peak));
    println!("  memory once {name:<16}{resident:>9.0} MiB, {peak:.0} at the most");
}

fn print_loaded(name: &str, loaded: &Loaded) {
    let (seconds, size) = (loaded.seconds, mebibytes(loaded.bytes));
    println!("  {name:<28}{seconds:>9.2} s, {size:.1} MiB, {} of them", loaded.count);
}

fn print_prune(name: &str, pruned: &Pruned) {
    println!(
        "  {name:<28}{:>9.4} s, {} events; rows gone {:.2} s later, {:.2} s of CPU",
        pruned.seconds, pruned.events, pruned.removal_seconds, pruned.node_cpu_seconds
    );
}

/// Those that count, the busiest first.
fn print_threads(whose: &str, threads: &BTreeMap<String, f64>) {
    const LEAST_SECONDS: f64 = 0.005;
    let mut busiest: Vec<_> = threads.iter().filter(|(_, seconds)| **seconds >= LEAST_SECONDS).collect();
    busiest.sort_by(|one, other| other.1.total_cmp(one.1));
    let parts: Vec<_> = busiest.iter().map(|(name, seconds)| format!("{name} {seconds:.2}")).collect();
    println!("    s of CPU, {whose}: {}", parts.join(", "));
}

fn print_disk(name: &str, disk: &Disk, ratio: f64, entries: u64) {
    println!(
        "  {name:<28}{:>9.1} MiB: log {:.1}, records {:.1}, base snapshot {:.1}; {ratio:.2} times the raw bytes, {:.0} bytes an entry",
        mebibytes(disk.total),
        mebibytes(disk.log),
        mebibytes(disk.records),
        mebibytes(disk.base_snapshot),
        disk.total as f64 / entries.max(1) as f64
    );
}

impl Latency {
    pub(crate) fn print(&self) {
        print!(
            "  {:<20}{:>3} clients{:>10.0} a second, p50 {:.3} ms, p99 {:.3} ms, {:.1} entries",
            self.work, self.clients, self.per_second, self.p50_ms, self.p99_ms, self.items
        );
        match self.written_bytes_each {
            Some(bytes) => println!(", {bytes:.0} bytes written"),
            None => println!(),
        }
    }
}
