//! What nodes use and count: CPU time of their threads, and their own metrics.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

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

/// Seconds of CPU time of a process since it was started, by names of threads; those of threads that have ended are under
/// `ended`, and those of the first one, which is named for its program, under `first`.
#[must_use]
pub fn cpu_by_thread(process: u32) -> BTreeMap<String, f64> {
    let mut times = threads(process);
    // Those who have ended are part of what the process has used, which is counted in coarser steps.
    let ended = cpu(process).saturating_sub(times.values().sum());
    let first = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
    if let Some(time) = times.remove(first.trim()) {
        *times.entry("first".to_owned()).or_default() += time;
    }
    *times.entry("ended".to_owned()).or_default() += ended;
    times.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect()
}

/// Waits until a process has come to rest: it uses next to no CPU time for a while. When that while began; nothing when it has not
/// within `patience`.
///
/// What a node does in the background, as removing the rows that a prune has hidden, it does without pause, so it is over then.
pub async fn wait_until_at_rest(process: u32, patience: Duration) -> Option<Instant> {
    const WHILE: Duration = Duration::from_millis(300);
    // Two steps of the kernel's clock: timers, and a thread that was just about to sleep.
    const NEXT_TO_NONE: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        let (began, before) = (Instant::now(), cpu(process));
        tokio::time::sleep(WHILE).await;
        if cpu(process).saturating_sub(before) <= NEXT_TO_NONE {
            return Some(began);
        }
    }
    None
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
/// memory has been written: by whoever, so nobody else may write meanwhile. Nothing where the kernel does not tell, as of a
/// directory in memory.
///
/// What the kernel counts for each process is of no use: a change of a few bytes counts as all of the pages that the kernel
/// keeps together, up to 1 MiB of a file that was written in one piece (seen with ext4 on Linux 6.18).
#[must_use]
pub fn disk_written_bytes(directory: &Path) -> Option<u64> {
    const SECTOR_BYTES: u64 = 512;
    rustix::fs::sync();
    let device = fs::metadata(directory).ok()?.dev();
    let device = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
    let text = fs::read_to_string(device).ok()?;
    // Reads, merged ones, sectors read, time, writes, merged ones, sectors written.
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * SECTOR_BYTES)
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
        // A directory in memory has no disk.
        let Some(before) = disk_written_bytes(directory.path()) else { return };
        fs::write(directory.path().join("file"), vec![7; 1 << 20]).expect("a file");
        let after = disk_written_bytes(directory.path()).expect("the same disk");
        assert!(after - before >= 1 << 20, "{}", after - before);
    }

    #[test]
    fn nothing_is_known_of_what_is_not_there() {
        assert_eq!(disk_written_bytes(Path::new("/proc/self/nothing")), None);
    }

    #[test]
    fn the_cpu_time_of_threads_is_that_of_the_process() {
        let worker = std::thread::Builder::new().name("a-worker".to_owned());
        let spin = || while crate::cpu_time::thread_cpu_time() < Duration::from_millis(50) {};
        worker.spawn(spin).expect("a thread").join().expect("an end");
        let times = cpu_by_thread(std::process::id());
        assert!(times["ended"] > 0.0 && !times.contains_key("a-worker"), "{times:?}");
    }

    #[tokio::test]
    async fn a_process_that_is_not_there_is_at_rest_and_one_at_work_is_not() {
        let patience = Duration::from_secs(1);
        assert!(wait_until_at_rest(u32::MAX, patience).await.is_some());
        let is_over = std::sync::atomic::AtomicBool::new(false);
        let over = std::sync::Arc::new(is_over);
        let other = std::sync::Arc::clone(&over);
        let worker = std::thread::spawn(move || while !other.load(std::sync::atomic::Ordering::Relaxed) {});
        assert_eq!(wait_until_at_rest(std::process::id(), patience).await, None);
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        worker.join().expect("an end");
    }

    #[test]
    fn a_process_has_memory() {
        let own = memory(std::process::id());
        assert!(own.resident > 0 && own.anonymous <= own.resident && own.resident <= own.peak, "{own:?}");
        assert_eq!(memory(u32::MAX).resident, 0);
    }
}
