//! One life of a record store, in figures: filled, read, closed and opened again, changed, emptied.

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use steeple_engine::record_store::{RecordStore, WriteBatch};

/// Records in one batch, besides the one key that says how far the store has come.
pub(crate) const BATCH_RECORDS: u64 = 100;
const BATCHES_PER_FLUSH: u64 = 200;
const RECORD_BYTES: usize = 600;
const GETS: u64 = 200_000;
/// Of the records, what is changed at random afterwards.
const CHANGED_PART: u64 = 5;
/// Of the records, counted from the oldest, what is deleted at the end.
const DELETED_TENTHS: u64 = 9;
/// Clock ticks a second in `/proc/self/stat`.
const TICKS_PER_SECOND: u64 = 100;

/// Namespace, table, sequence: what the view uses.
pub(crate) fn record_key(sequence: u64) -> Vec<u8> {
    let mut key = vec![1];
    key.extend(1_u64.to_be_bytes());
    key.extend(1_u16.to_be_bytes());
    key.extend(sequence.to_be_bytes());
    key
}

/// Values to take from, made beforehand so that making them is not measured.
pub(crate) struct Values(Vec<Vec<u8>>);

impl Values {
    const COUNT: u64 = 4096;

    pub(crate) fn new() -> Self {
        let mut random = SmallRng::seed_from_u64(1);
        Self((0..Self::COUNT).map(|_| record_value(&mut random)).collect())
    }
}

/// Half of it compresses.
fn record_value(random: &mut SmallRng) -> Vec<u8> {
    let mut value = vec![0; RECORD_BYTES / 2];
    random.fill_bytes(&mut value);
    let text = b"spiffe://example.org/ns/production/sa/backend k8s:pod-label:app:backend ";
    value.extend(text.iter().cycle().take(RECORD_BYTES / 2));
    value
}

/// A batch that sets these records and says so.
pub(crate) fn batch(number: u64, sequences: impl Iterator<Item = u64>, values: &Values) -> WriteBatch {
    let mut batch = WriteBatch::default();
    for sequence in sequences {
        let value = &values.0[((sequence + number) % Values::COUNT) as usize];
        batch.put(record_key(sequence), value.clone());
    }
    batch.put(vec![0], number.to_be_bytes());
    batch
}

/// What applying a series of batches took.
#[derive(Default)]
struct Applied {
    records: u64,
    cpu: Duration,
    wall: Duration,
    worst_batch: Duration,
    worst_flush: Duration,
}

impl fmt::Display for Applied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_record = |time: Duration| time.as_secs_f64() * 1e6 / self.records as f64;
        write!(
            formatter,
            "{:.1} µs CPU, {:.1} µs wall a record; worst batch {:.1} ms, worst flush {:.0} ms",
            per_record(self.cpu),
            per_record(self.wall),
            self.worst_batch.as_secs_f64() * 1e3,
            self.worst_flush.as_secs_f64() * 1e3,
        )
    }
}

fn timed<T>(call: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let outcome = call();
    (outcome, start.elapsed())
}

/// Applies batches made by `make` until it has no more, flushing in between and at the end.
fn apply_all(store: &dyn RecordStore, mut make: impl FnMut(u64) -> Option<WriteBatch>) -> Applied {
    let mut applied = Applied::default();
    let (start, cpu) = (Instant::now(), cpu_time());
    for number in 0.. {
        let Some(batch) = make(number) else { break };
        applied.records += batch.operations.len() as u64 - 1;
        applied.worst_batch = applied.worst_batch.max(timed(|| store.apply(batch).unwrap()).1);
        if (number + 1) % BATCHES_PER_FLUSH == 0 {
            applied.worst_flush = applied.worst_flush.max(timed(|| store.flush().unwrap()).1);
        }
    }
    applied.worst_flush = applied.worst_flush.max(timed(|| store.flush().unwrap()).1);
    applied.wall = start.elapsed();
    applied.cpu = cpu_time().saturating_sub(cpu);
    applied
}

/// CPU time of the whole process, the engine's own threads included.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks: u64 =
        stat[stat.rfind(')').unwrap()..].split(' ').skip(12).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

fn resident_mebibytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn disk_mebibytes(store: &dyn RecordStore) -> u64 {
    store.disk_bytes().unwrap() >> 20
}

fn scan(store: &dyn RecordStore, limit: u64) -> u64 {
    let mut pairs = 0;
    store
        .scan(&record_key(0), &[0xff], &mut |key, value| {
            black_box((key, value));
            pairs += 1;
            if pairs == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    pairs
}

fn random_gets(store: &dyn RecordStore, records: u64, gets: u64) -> Duration {
    let mut random = SmallRng::seed_from_u64(2);
    let (_, took) = timed(|| {
        for _ in 0..gets {
            assert!(store.get(&record_key(random.random_range(0..records))).unwrap().is_some());
        }
    });
    took / u32::try_from(gets).unwrap()
}

/// Lives one life with `records` records and prints what it took. `open` opens the store, the first time anew.
pub(crate) fn live(name: &str, records: u64, mut open: impl FnMut() -> Arc<dyn RecordStore>) {
    let say = |what: &str, figures: String| println!("{name:<8} {what:<22} {figures}");
    let values = Values::new();
    let mut random = SmallRng::seed_from_u64(3);
    let resident_before = resident_mebibytes();
    let store = open();

    let filled = apply_all(&*store, |number| {
        let first = number * BATCH_RECORDS;
        (first < records).then(|| batch(number, first..first + BATCH_RECORDS, &values))
    });
    say("fill", filled.to_string());
    say(
        "filled",
        format!(
            "{} MiB on disk, {} MiB memory",
            disk_mebibytes(&*store),
            resident_mebibytes().saturating_sub(resident_before)
        ),
    );
    say("random get", format!("{:.1} µs", random_gets(&*store, records, GETS).as_secs_f64() * 1e6));
    let (pairs, took) = timed(|| scan(&*store, u64::MAX));
    assert_eq!(pairs, records);
    say("full scan", format!("{:.2} s", took.as_secs_f64()));

    let (_, closing) = timed(|| drop(store));
    let (store, opening) = timed(&mut open);
    say("close, open", format!("{:.2} s, {:.2} s", closing.as_secs_f64(), opening.as_secs_f64()));
    let (_, took) = timed(|| scan(&*store, u64::MAX));
    say("full scan, just opened", format!("{:.2} s, then {} MiB memory", took.as_secs_f64(), resident_mebibytes()));
    say("random get", format!("{:.1} µs", random_gets(&*store, records, GETS).as_secs_f64() * 1e6));

    let changes = records / CHANGED_PART / BATCH_RECORDS;
    let changed = apply_all(&*store, |number| {
        let sequences: Vec<_> = (0..BATCH_RECORDS).map(|_| random.random_range(0..records)).collect();
        (number < changes).then(|| batch(number, sequences.into_iter(), &values))
    });
    say("change at random", changed.to_string());
    say("changed", format!("{} MiB on disk, {} MiB memory", disk_mebibytes(&*store), resident_mebibytes()));

    let deleted_until = records / 10 * DELETED_TENTHS;
    let deleted = apply_all(&*store, |number| {
        let first = number * BATCH_RECORDS;
        (first < deleted_until).then(|| {
            let mut batch = WriteBatch::default();
            (first..first + BATCH_RECORDS).for_each(|sequence| batch.delete(record_key(sequence)));
            batch.put(vec![0], number.to_be_bytes());
            batch
        })
    });
    say("delete the oldest 90%", deleted.to_string());
    say("deleted", format!("{} MiB on disk, {} MiB memory", disk_mebibytes(&*store), resident_mebibytes()));
    let (_, took) = timed(|| scan(&*store, 1));
    say("find the first record", format!("{:.2} ms", took.as_secs_f64() * 1e3));

    let written = apply_all(&*store, |number| {
        let first = records + number * BATCH_RECORDS;
        (first < records + records / 10).then(|| batch(number, first..first + BATCH_RECORDS, &values))
    });
    say("add 10%", written.to_string());
    drop(store);
    let (store, opening) = timed(&mut open);
    let disk = disk_mebibytes(&*store);
    say("opened again", format!("{:.2} s, {disk} MiB on disk", opening.as_secs_f64()));
    let (_, took) = timed(|| scan(&*store, 1));
    say("find the first record", format!("{:.2} ms", took.as_secs_f64() * 1e3));
    assert_eq!(scan(&*store, u64::MAX), records - deleted_until + records / 10);
}
