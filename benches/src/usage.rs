//! What nodes use and count: CPU time of their threads, and their own metrics.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

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
