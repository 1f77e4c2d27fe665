//! The record stores in the pattern that the view has: small batches in sequence order, a flush now and then, reads
//! by sequence.
//!
//! With `STEEPLE_RECORD_STORE_LIFE=1000000` (a number of records) it measures one whole life of each store instead,
//! with memory and disk: the figures in the decision on the record store come from there. `STEEPLE_RECORD_STORE_KIND`
//! (`sled` or `fjall`) picks one, so that the memory of one does not count for the next.

#[path = "record_store/life.rs"]
mod life;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use steeple_engine::record_store::{RecordStore, RecordStoreKind, RecordStoreOptions, open};

use life::{BATCH_RECORDS, Values, batch, record_key};

/// Enough that leaves split and tables are written, and quick to fill.
const RECORDS: u64 = 100_000;

const KINDS: [(&str, RecordStoreKind); 3] =
    [("memory", RecordStoreKind::Memory), ("sled", RecordStoreKind::Sled), ("fjall", RecordStoreKind::Fjall)];

fn open_in(kind: RecordStoreKind, directory: &Path) -> Arc<dyn RecordStore> {
    open(kind, directory, &RecordStoreOptions::default()).unwrap()
}

fn filled(kind: RecordStoreKind, directory: &Path) -> Arc<dyn RecordStore> {
    let store = open_in(kind, directory);
    let values = Values::new();
    for number in 0..RECORDS / BATCH_RECORDS {
        let first = number * BATCH_RECORDS;
        store.apply(batch(number, first..first + BATCH_RECORDS, &values)).unwrap();
    }
    store.flush().unwrap();
    store
}

fn reads_and_writes(criterion: &mut Criterion) {
    for (name, kind) in KINDS {
        let directory = tempfile::tempdir().unwrap();
        let store = filled(kind, directory.path());
        let mut random = SmallRng::seed_from_u64(2);
        let values = Values::new();
        let mut group = criterion.benchmark_group(format!("record_store/{name}"));

        group.throughput(Throughput::Elements(1));
        group.bench_function("get", |bencher| {
            bencher.iter(|| store.get(&record_key(random.random_range(0..RECORDS))).unwrap());
        });
        group.throughput(Throughput::Elements(100));
        group.bench_function("scan 100", |bencher| {
            bencher.iter(|| {
                let first = random.random_range(0..RECORDS - 100);
                let mut bytes = 0;
                let mut visit = |_: &[u8], value: &[u8]| {
                    bytes += value.len();
                    ControlFlow::Continue(())
                };
                store.scan(&record_key(first), &record_key(first + 100), &mut visit).unwrap();
                bytes
            });
        });
        group.throughput(Throughput::Elements(BATCH_RECORDS));
        let mut next = RECORDS;
        group.bench_function("apply 100 new", |bencher| {
            let make = || {
                next += BATCH_RECORDS;
                batch(next, next..next + BATCH_RECORDS, &values)
            };
            bencher.iter_batched(make, |batch| store.apply(batch).unwrap(), BatchSize::SmallInput);
        });
        group.finish();
    }
}

fn lives(records: u64) {
    let only = std::env::var("STEEPLE_RECORD_STORE_KIND").ok();
    for (name, kind) in KINDS {
        if kind != RecordStoreKind::Memory && only.as_deref().is_none_or(|only| only == name) {
            let directory = tempfile::tempdir().unwrap();
            life::live(name, records, || open_in(kind, directory.path()));
        }
    }
}

criterion_group! {
    name = quick;
    config = Criterion::default().sample_size(20);
    targets = reads_and_writes
}

fn main() {
    match std::env::var("STEEPLE_RECORD_STORE_LIFE") {
        Ok(records) => lives(records.parse().unwrap()),
        Err(_) => {
            quick();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
