//! What nodes use and count: CPU time of their threads, and their own metrics.

// Threads are told apart by their numbers. By name alone one that ends takes all of its life from the sum of those that are called
// the same, so that what they have used since an earlier look would be too little, or less than nothing.

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

use crate::cpu_time::process_cpu_time;

/// What a node has used and counted since it was started.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    threads: Threads,
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
        let metric = |name: &String| before.metrics.get(name).copied().unwrap_or_default();
        let metrics = self.metrics.iter().map(|(name, value)| (name.clone(), value - metric(name)));
        Self { threads: used_since(&self.threads, &before.threads), metrics: metrics.collect() }
    }

    /// CPU time of all threads that are there.
    pub fn cpu(&self) -> Duration {
        sum(&self.threads)
    }

    /// CPU time by names of threads.
    pub fn threads(&self) -> BTreeMap<String, Duration> {
        by_name(&self.threads)
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

/// CPU time of a process since it was started, and of each of its threads that are there.
#[derive(Clone, Debug, Default)]
pub struct CpuTimes {
    process: Duration,
    threads: Threads,
}

impl CpuTimes {
    /// Until now.
    #[must_use]
    pub fn of(process: u32) -> Self {
        let mut threads = threads(process);
        let program = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        for (name, _) in threads.values_mut().filter(|(name, _)| name == program.trim()) {
            "first".clone_into(name);
        }
        Self { process: cpu(process), threads }
    }

    /// Seconds since an earlier look at the same process, or since it was started when that look is the default, by names of
    /// threads; those of threads that have ended are under `ended`, and those of the first one, which is named for its program,
    /// under `first`. All of them together are what the process has used.
    #[must_use]
    pub fn since(&self, before: &Self) -> BTreeMap<String, f64> {
        let threads = used_since(&self.threads, &before.threads);
        // What a process has used is counted in coarser steps than what its threads have.
        let ended = self.process.saturating_sub(before.process).saturating_sub(sum(&threads));
        let mut times = by_name(&threads);
        *times.entry("ended".to_owned()).or_default() += ended;
        times.into_iter().map(|(name, time)| (name, time.as_secs_f64())).collect()
    }
}

/// Waits until a process has come to rest: it uses next to no CPU time for a while. When that while began; nothing when it has not
/// within `patience`.
///
/// What a node does in the background, as removing the rows that a prune has hidden, it does without pause, so it is over then.
pub async fn wait_until_at_rest(process: u32, patience: Duration) -> Option<Instant> {
    let mut before = threads(process);
    let used = || {
        let now = threads(process);
        let used = sum(&used_since(&now, &before));
        before = now;
        used
    };
    wait_until_quiet(patience, used).await
}

/// The same of this process, in which whoever waits must not have anything to do.
pub async fn wait_until_this_process_rests(patience: Duration) -> Option<Instant> {
    let mut before = process_cpu_time();
    let used = || {
        let now = process_cpu_time();
        let used = now.saturating_sub(before);
        before = now;
        used
    };
    wait_until_quiet(patience, used).await
}

/// `used` tells what was used since it was asked before.
async fn wait_until_quiet(patience: Duration, mut used: impl FnMut() -> Duration) -> Option<Instant> {
    // How exact the answer is.
    const STEP: Duration = Duration::from_millis(10);
    let began = Instant::now();
    let mut work = LastWork::new(began);
    while began.elapsed() < patience {
        tokio::time::sleep(STEP).await;
        let at_rest = work.note(Instant::now(), used());
        if at_rest.is_some() {
            return at_rest;
        }
    }
    None
}

/// When a process was last seen at work, by looks at it one after the other.
struct LastWork {
    at: Instant,
    /// What it has used since then.
    used: Duration,
}

impl LastWork {
    /// So long it has to be quiet.
    const WHILE: Duration = Duration::from_millis(300);
    /// More than this from one look to the next is work, and not timers or a thread that was just about to sleep.
    const NOTICEABLE: Duration = Duration::from_millis(1);
    /// More than this in all is work as well, however it is spread over the looks: others may keep it from the processors.
    const NEXT_TO_NONE: Duration = Duration::from_millis(20);

    fn new(at: Instant) -> Self {
        Self { at, used: Duration::ZERO }
    }

    /// Takes note of the CPU time used between the look before and this one. When the process was last at work, once it has been
    /// quiet for long enough.
    fn note(&mut self, now: Instant, used: Duration) -> Option<Instant> {
        self.used += used;
        if used > Self::NOTICEABLE || self.used > Self::NEXT_TO_NONE {
            *self = Self::new(now);
        }
        (now - self.at >= Self::WHILE).then_some(self.at)
    }
}

/// Names of threads and their CPU time, by their numbers.
type Threads = BTreeMap<u32, (String, Duration)>;

/// Those that a process has now.
fn threads(process: u32) -> Threads {
    let mut threads = Threads::new();
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return threads };
    for task in tasks.filter_map(Result::ok) {
        let read = |name: &str| fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let Some(number) = task.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Nanoseconds on a processor; the other numbers are about waiting for one.
        let nanoseconds = read("schedstat").split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0);
        threads.insert(number, (read("comm").trim().to_owned(), Duration::from_nanos(nanoseconds)));
    }
    threads
}

/// What the threads that are still there have used since an earlier look.
fn used_since(now: &Threads, before: &Threads) -> Threads {
    let earlier = |number: &u32| before.get(number).map_or(Duration::ZERO, |(_, time)| *time);
    let used = |(number, (name, time)): (&u32, &(String, Duration))| {
        (*number, (name.clone(), time.saturating_sub(earlier(number))))
    };
    now.iter().map(used).collect()
}

fn sum(threads: &Threads) -> Duration {
    threads.values().map(|(_, time)| *time).sum()
}

fn by_name(threads: &Threads) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for (name, time) in threads.values() {
        *times.entry(name.clone()).or_default() += *time;
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
        let times = CpuTimes::of(std::process::id()).since(&CpuTimes::default());
        assert!(times["ended"] > 0.0 && !times.contains_key("a-worker"), "{times:?}");
    }

    fn times(process: u64, threads: &[(u32, &str, u64)]) -> CpuTimes {
        let thread =
            |(number, name, time): &(u32, &str, u64)| (*number, ((*name).to_owned(), Duration::from_secs(*time)));
        CpuTimes { process: Duration::from_secs(process), threads: threads.iter().map(thread).collect() }
    }

    fn used(after: &CpuTimes, before: &CpuTimes) -> Vec<(String, f64)> {
        after.since(before).into_iter().collect()
    }

    #[test]
    fn threads_that_end_take_nothing_from_those_that_stay() {
        let before = times(10, &[(1, "worker", 4), (2, "worker", 2), (3, "loader", 2)]);
        let after = times(15, &[(1, "worker", 5), (4, "writer", 1)]);
        // One of two of the same name is gone, and the only one of another name: the three seconds that nobody shows are theirs.
        let expected = [("ended", 3.0), ("worker", 1.0), ("writer", 1.0)];
        assert_eq!(used(&after, &before), expected.map(|(name, seconds)| (name.to_owned(), seconds)));
        let usage = |times: &CpuTimes| Usage { threads: times.threads.clone(), ..Usage::default() };
        assert_eq!(usage(&after).since(&usage(&before)).cpu(), Duration::from_secs(2));
    }

    #[test]
    fn nothing_that_has_ended_is_less_than_nothing() {
        let (before, after) = (times(10, &[(1, "worker", 4)]), times(11, &[(1, "worker", 6)]));
        assert_eq!(used(&after, &before), [("ended".to_owned(), 0.0), ("worker".to_owned(), 2.0)]);
    }

    /// Looks every 10 ms at a process that uses as many microseconds before each: in which millisecond it was last at work, and in
    /// which that was certain.
    fn last_work(used: impl Fn(u64) -> u64) -> Option<(u64, u64)> {
        let began = Instant::now();
        let mut work = LastWork::new(began);
        (1..100).map(|look| look * 10).find_map(|millisecond| {
            let now = began + Duration::from_millis(millisecond);
            let last = work.note(now, Duration::from_micros(used(millisecond)))?;
            Some(((last - began).as_millis() as u64, millisecond))
        })
    }

    #[test]
    fn rest_begins_when_work_was_last_seen_and_not_with_a_window() {
        assert_eq!(last_work(|_| 100), Some((0, 300)));
        // Short work is not none.
        assert_eq!(last_work(|at| if at <= 20 { 4_000 } else { 100 }), Some((20, 320)));
        assert_eq!(last_work(|at| if at <= 450 { 9_000 } else { 0 }), Some((450, 750)));
        // A pause that is too short for rest.
        assert_eq!(last_work(|at| if at == 10 || at == 300 { 5_000 } else { 0 }), Some((300, 600)));
        // Steady work of which each look shows little.
        assert_eq!(last_work(|_| 900), None);
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
