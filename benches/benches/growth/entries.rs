//! More and more entries, each size on a node of its own; and what a start with all of them and half as many retained events
//! comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use steeple_benches::usage::Memory;
use steeple_client::Error;

use crate::Arguments;
use crate::ask::{Latency, WORK, Work, ask_for};
use crate::subject::{Disk, Loaded, Subject, Written, mebibytes};

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
    /// What went to the disk before anything was asked of the node: all that others write meanwhile is counted as the node's.
    others_written_bytes_per_second: f64,
    /// Creating them, over one stream.
    filling: Written,
    /// The same until no more is written: with a base snapshot, and log files that went.
    filling_amplification_at_rest: f64,
    /// Before anything was read.
    memory_filled: Memory,
    latencies: Vec<Latency>,
    memory_asked: Memory,
    snapshot: Loaded,
    snapshot_with_events: Loaded,
    prune_seconds: f64,
    pruned_events: u64,
    retained_events: u64,
    /// Updates in no order, each a retained event.
    steady: Written,
    steady_amplification_at_rest: f64,
    disk_with_events: Disk,
    start_seconds: f64,
    memory_started: Memory,
    load_entries: Loaded,
    load_events: Loaded,
    memory_loaded: Memory,
    /// With no event retained.
    disk_without_events: Disk,
    /// What is on disk by the bytes of all entries, and of all retained events, as a client gets them.
    disk_to_raw_with_events: f64,
    disk_to_raw_without_events: f64,
}

/// Measures each size.
pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Point>, Error> {
    let mut points = Vec::new();
    for entries in &arguments.sizes {
        let point = measure(arguments, *entries).await?;
        point.print();
        points.push(point);
    }
    Ok(points)
}

async fn measure(arguments: &Arguments, entries: u64) -> Result<Point, Error> {
    let mut subject = Subject::start(arguments, entries).await?;
    let others_written_bytes_per_second = subject.written_by_others().await;
    let before = subject.disk_written_bytes();
    let filling = subject.fill().await?;
    let memory_filled = subject.memory();
    let filling_amplification_at_rest = at_rest(&subject, filling.raw_bytes, before).await?;
    let latencies = latencies(&mut subject, arguments).await?;
    let memory_asked = subject.memory();
    let snapshot = subject.snapshot(false).await?;
    let snapshot_with_events = subject.snapshot(true).await?;
    // Only what comes from here on is retained.
    let (pruned_events, prune_time) = subject.prune().await?;

    let retained_events = entries / 2;
    let before = subject.disk_written_bytes();
    let steady = subject.update(retained_events).await?;
    subject.settle().await;
    let steady_amplification_at_rest = at_rest(&subject, steady.raw_bytes, before).await?;
    let disk_with_events = subject.disk();

    let start = subject.restart().await;
    let memory_started = subject.memory();
    let load_entries = subject.load_entries().await?;
    let load_events = subject.load_events().await?;
    let memory_loaded = subject.memory();

    subject.prune().await?;
    subject.compact().await?;
    let disk_without_events = subject.disk();
    let raw = load_entries.bytes;
    Ok(Point {
        entries,
        others_written_bytes_per_second,
        filling,
        filling_amplification_at_rest,
        memory_filled,
        latencies,
        memory_asked,
        snapshot,
        snapshot_with_events,
        prune_seconds: prune_time.as_secs_f64(),
        pruned_events,
        retained_events,
        steady,
        steady_amplification_at_rest,
        disk_to_raw_with_events: disk_with_events.total as f64 / (raw + load_events.bytes) as f64,
        disk_to_raw_without_events: disk_without_events.total as f64 / raw as f64,
        disk_with_events,
        start_seconds: start.as_secs_f64(),
        memory_started,
        load_entries,
        load_events,
        memory_loaded,
        disk_without_events,
    })
}

/// What was written since then for so many raw bytes, once all that can wait has been written.
async fn at_rest(subject: &Subject, raw_bytes: u64, before: u64) -> Result<f64, Error> {
    subject.compact().await?;
    Ok((subject.disk_written_bytes() - before) as f64 / raw_bytes.max(1) as f64)
}

async fn latencies(subject: &mut Subject, arguments: &Arguments) -> Result<Vec<Latency>, Error> {
    let (connections, deployment, next) = (subject.connections(), subject.deployment, Arc::new(AtomicU64::new(0)));
    let mut latencies = Vec::new();
    for work in WORK {
        for clients in &arguments.clients {
            let (before, first) = (subject.disk_written_bytes(), next.load(Ordering::Relaxed));
            let mut latency = ask_for(&connections, deployment, work, *clients, arguments.length(), &next).await?;
            if work == Work::Create {
                let written = subject.disk_written_bytes() - before;
                latency.written_bytes_each = Some(written as f64 / latency.answers.max(1) as f64);
                // The table stays as large as it is said.
                subject.take_back(first..next.load(Ordering::Relaxed)).await?;
            }
            latencies.push(latency);
        }
    }
    Ok(latencies)
}

impl Point {
    fn print(&self) {
        println!("\n{} entries", self.entries);
        println!("  {:<28}{:>9.0} bytes a second", "others write to the disk", self.others_written_bytes_per_second);
        let written = |name: &str, written: &Written, at_rest: f64| {
            println!(
                "  {name:<28}{:>9} mutations, {:>7.0} a second; written {:.2} times the raw {:.1} MiB, {at_rest:.2} times at rest",
                written.mutations,
                written.per_second,
                written.amplification,
                mebibytes(written.raw_bytes)
            );
        };
        written("filling", &self.filling, self.filling_amplification_at_rest);
        written("updates", &self.steady, self.steady_amplification_at_rest);
        self.latencies.iter().for_each(Latency::print);
        let memory = [
            ("filled", self.memory_filled),
            ("asked", self.memory_asked),
            ("started", self.memory_started),
            ("loaded", self.memory_loaded),
        ];
        for (name, memory) in memory {
            let (resident, peak) = (mebibytes(memory.resident), mebibytes(memory.peak));
            println!("  memory once {name:<16}{resident:>9.0} MiB, {peak:.0} at the most");
        }
        for (name, loaded) in [
            ("snapshot", &self.snapshot),
            ("snapshot with events", &self.snapshot_with_events),
            ("a client loads all entries", &self.load_entries),
            ("and all retained events", &self.load_events),
        ] {
            let (seconds, size) = (loaded.seconds, mebibytes(loaded.bytes));
            println!("  {name:<28}{seconds:>9.2} s, {size:.1} MiB, {} of them", loaded.count);
        }
        println!("  {:<28}{:>9.2} s, {} events", "prune", self.prune_seconds, self.pruned_events);
        println!("  {:<28}{:>9.2} s, with {} retained events", "start", self.start_seconds, self.retained_events);
        for (name, disk, ratio) in [
            ("disk with events", &self.disk_with_events, self.disk_to_raw_with_events),
            ("disk without events", &self.disk_without_events, self.disk_to_raw_without_events),
        ] {
            println!(
                "  {name:<28}{:>9.1} MiB: log {:.1}, records {:.1}, base snapshot {:.1}; {ratio:.2} times the raw bytes, {:.0} bytes an entry",
                mebibytes(disk.total),
                mebibytes(disk.log),
                mebibytes(disk.records),
                mebibytes(disk.base_snapshot),
                disk.total as f64 / self.load_entries.count.max(1) as f64
            );
        }
        if self.entries == AIMED_AT {
            self.print_aims();
        }
    }

    fn print_aims(&self) {
        let line = |name: &str, measured: f64, aim: f64, unit: &str| {
            let verdict = if measured <= aim { "met" } else { "MISSED" };
            println!("  aim: {name:<42}{measured:>8.2} of {aim:.2} {unit}, {verdict}");
        };
        line("start", self.start_seconds, START_MAX.as_secs_f64(), "s");
        let load = self.load_entries.seconds + self.load_events.seconds;
        line("then loading entries and events", load, LOAD_MAX.as_secs_f64(), "s");
        let most = [self.memory_filled, self.memory_asked, self.memory_started, self.memory_loaded];
        let most = most.iter().map(|memory| memory.resident).max().unwrap_or(0);
        line("resident memory", mebibytes(most), mebibytes(MEMORY_MAX), "MiB");
        line("disk to raw bytes, no event retained", self.disk_to_raw_without_events, DISK_MAX, "times");
        line("disk to raw bytes, with events", self.disk_to_raw_with_events, DISK_MAX, "times");
    }
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
