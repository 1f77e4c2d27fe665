//! What nodes use and count: CPU time of their threads, and their own metrics.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{major, minor};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a node has used and counted since it was started.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// CPU time by names of threads.
    threads: BTreeMap<String, Duration>,
    /// Sums, counts and counters by their names, without labels.
    metrics: BTreeMap<String, f64>,
}

impl Usage {
    /// Until now.
    pub async fn of(process: u32, metrics: SocketAddr) -> Self {
        Self { threads: threads(process), metrics: scrape(metrics).await }
    }

    /// Since an earlier look at the same node.
    pub fn since(&self, before: &Self) -> Self {
        let cpu = |name: &String| before.threads.get(name).copied().unwrap_or_default();
        let threads = self.threads.iter().map(|(name, time)| (name.clone(), time.saturating_sub(cpu(name))));
        let metric = |name: &String| before.metrics.get(name).copied().unwrap_or_default();
        let metrics = self.metrics.iter().map(|(name, value)| (name.clone(), value - metric(name)));
        Self { threads: threads.collect(), metrics: metrics.collect() }
    }

    /// CPU time of all threads.
    pub fn cpu(&self) -> Duration {
        self.threads.values().sum()
    }

    /// CPU time by names of threads.
    pub fn threads(&self) -> &BTreeMap<String, Duration> {
        &self.threads
    }

    /// How often a histogram was written to, and the mean of what was written.
    pub fn mean(&self, histogram: &str) -> (f64, f64) {
        let get = |suffix: &str| self.metrics.get(&format!("{histogram}_{suffix}")).copied().unwrap_or_default();
        let (count, sum) = (get("count"), get("sum"));
        (count, if count > 0.0 { sum / count } else { 0.0 })
    }
}

/// CPU time of any process since it was started, in steps of the kernel's clock; threads that have ended are part of it.
pub fn cpu(process: u32) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything; the two times are the 12th and 13th word behind it.
    let words = text.rsplit_once(')').map_or("", |(_, words)| words).split_whitespace();
    words.skip(11).take(2).filter_map(|word| word.parse::<u32>().ok()).map(|ticks| TICK * ticks).sum()
}

fn threads(process: u32) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return times };
    for task in tasks.filter_map(Result::ok) {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        // Nanoseconds on a processor; the other numbers are about waiting for one.
        let nanoseconds = read("schedstat").split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        *times.entry(read("comm").trim().to_owned()).or_default() += Duration::from_nanos(nanoseconds);
    }
    times
}

async fn scrape(address: SocketAddr) -> BTreeMap<String, f64> {
    let mut stream = TcpStream::connect(address).await.expect("a node that tells its metrics");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("metrics");
    let mut metrics = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("steeple_") && !line.contains("_bucket{")) {
        let Some((name, value)) = line.rsplit_once(' ') else { continue };
        let name = name.split('{').next().unwrap_or(name);
        *metrics.entry(name.to_owned()).or_default() += value.parse().unwrap_or(0.0);
    }
    metrics
}

/// Processes that a process has started, and that are there now.
#[must_use]
pub fn children(process: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|number| parent(*number) == Some(process)).collect()
}

fn parent(process: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The second word behind the name, which is in brackets.
    text.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Memory of a process. Bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Memory {
    /// All that is in memory, files that it has mapped included.
    pub resident: u64,
    /// What belongs to it alone and lies in no file.
    pub anonymous: u64,
    /// The most that has been in memory since it was started.
    pub peak: u64,
}

/// Memory of a process now; zero when it is gone.
#[must_use]
pub fn memory(process: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let bytes = |name: &str| field(&text, name) << 10;
    Memory { resident: bytes("VmRSS"), anonymous: bytes("RssAnon"), peak: bytes("VmHWM") }
}

/// Bytes that have been written to the disk beneath a directory since the machine was started, once everything that waits in
/// memory has been written: by whoever, so nobody else may write meanwhile. Zero where the kernel does not tell.
///
/// What the kernel counts for each process is of no use: a change of a few bytes counts as all of the pages that the kernel
/// keeps together, up to 1 MiB of a file that was written in one piece (seen with ext4 on Linux 6.18).
#[must_use]
pub fn disk_written_bytes(directory: &Path) -> u64 {
    const SECTOR_BYTES: u64 = 512;
    rustix::fs::sync();
    let Ok(device) = fs::metadata(directory).map(|facts| facts.dev()) else { return 0 };
    let device = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(device).unwrap_or_default();
    // Reads, merged ones, sectors read, time, writes, merged ones, sectors written.
    text.split_whitespace().nth(6).and_then(|sectors| sectors.parse::<u64>().ok()).unwrap_or(0) * SECTOR_BYTES
}

/// The number behind `name:` at the beginning of a line.
fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "VmRSS:\t  12 kB\nRssAnon: 5 kB\n";
        assert_eq!([field(text, "VmRSS"), field(text, "RssAnon"), field(text, "Vm")], [12, 5, 0]);
    }

    #[test]
    fn what_is_written_to_a_disk_is_counted() {
        let directory = crate::scratch_directory();
        let before = disk_written_bytes(directory.path());
        fs::write(directory.path().join("file"), vec![7; 1 << 20]).expect("a file");
        let written = disk_written_bytes(directory.path()) - before;
        // A directory in memory has no disk.
        assert!(before == 0 || written >= 1 << 20, "{written}");
    }

    #[test]
    fn a_process_has_memory() {
        let own = memory(std::process::id());
        assert!(own.resident > 0 && own.anonymous <= own.resident && own.resident <= own.peak, "{own:?}");
        assert_eq!(memory(u32::MAX).resident, 0);
    }
}
