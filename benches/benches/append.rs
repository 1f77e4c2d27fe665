//! Appending: the log alone, a whole node, and beside them the bare disk.
//!
//! Wall time where there is a disk, because a sync is waiting. What a create costs in CPU time on all threads, those of its callers
//! included, is printed after the node's figures. Creations stay, so a small table grows while it is measured.

use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use steeple_benches::appending::AppendingLog;
use steeple_benches::bare_file::BareFile;
use steeple_benches::cpu_time::process_cpu_time;
use steeple_benches::deployment::{Deployment, creation_event};
use steeple_benches::running::{RunningNode, undisturbed};
use steeple_benches::{scratch_directory, sizes};
use steeple_engine::log::{FRAME_HEADER_BYTES, PERSIST_RECORD_BYTES};
use tokio::runtime::Runtime;

/// Commands in one batch, or in flight.
const BATCHES: [usize; 3] = [1, 16, 256];

fn payloads(count: usize) -> Vec<Bytes> {
    let deployment = Deployment::new(1, 10_000);
    (0..count as u64).map(|number| creation_event(&deployment, number).encode()).collect()
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20).measurement_time(Duration::from_secs(6));
    for batch in BATCHES {
        let payloads = payloads(batch);
        let framed: usize =
            payloads.iter().map(|payload| payload.len() + FRAME_HEADER_BYTES + PERSIST_RECORD_BYTES).sum();
        group.throughput(Throughput::Elements(batch as u64));
        let directory = scratch_directory();
        let mut log = AppendingLog::open(directory.path());
        group.bench_function(format!("log/{batch}"), |bencher| bencher.iter(|| log.append(&payloads)));
        let directory = scratch_directory();
        let mut file = BareFile::create(directory.path()).expect("a file");
        let bytes = vec![7; framed];
        group.bench_function(format!("bare_fdatasync/{batch}"), |bencher| {
            bencher.iter(|| file.write_durably(&bytes).expect("a write"));
        });
    }
    group.finish();
}

fn node(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("node_create");
    group.sample_size(20).measurement_time(Duration::from_secs(6));
    for entries in sizes() {
        let directory = scratch_directory();
        let deployment = Deployment::new(1, entries);
        let mut node = runtime.block_on(RunningNode::filled(undisturbed(directory.path()), deployment));
        for in_flight in BATCHES {
            let (mut cpu, mut created) = (Duration::ZERO, 0);
            group.throughput(Throughput::Elements(in_flight as u64));
            group.bench_function(format!("in_flight/{in_flight}/{entries}"), |bencher| {
                bencher.iter_custom(|iterations| {
                    let (started, cpu_started) = (Instant::now(), process_cpu_time());
                    for _ in 0..iterations {
                        runtime.block_on(node.create(in_flight as u64));
                    }
                    cpu += process_cpu_time() - cpu_started;
                    created += iterations * in_flight as u64;
                    started.elapsed()
                });
            });
            let cpu_micros = cpu.as_secs_f64() * 1e6 / created.max(1) as f64;
            println!("node_create/in_flight/{in_flight}/{entries}: {cpu_micros:.1} us of CPU per create");
        }
        runtime.block_on(node.node.stop());
    }
    group.finish();
}

criterion_group!(disk, append, node);
criterion_main!(disk);
