//! Starting a node: with its record store in place, and with the record store lost, so that it is rebuilt.
//!
//! Wall time, because a start is waited for. The CPU time of all threads is printed after it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use steeple_benches::cpu_time::{process_cpu_time, thread_cpu_time};
use steeple_benches::deployment::Deployment;
use steeple_benches::running::{RunningNode, undisturbed};
use steeple_benches::{scratch_directory, sizes};
use steeple_engine::domain::CATALOG;
use steeple_engine::record_store::{self, RecordStoreKind, RecordStoreOptions};
use steeple_engine::view::View;
use steeple_server::node::{Node, NodeOptions, NodeParts};
use tokio::runtime::Runtime;

/// A data directory that holds a deployment, left behind by a node that was stopped.
async fn prepare(directory: &Path, deployment: Deployment) {
    let filled = RunningNode::filled(undisturbed(directory), deployment).await;
    filled.node.stop().await;
}

fn records(directory: &Path) -> PathBuf {
    directory.join("group-0").join("records")
}

/// Measures starts under `options`, each after `before`.
fn starts(
    bench: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    options: &NodeOptions,
    before: impl Fn(),
) {
    let (mut cpu, mut count) = (Duration::ZERO, 0_u32);
    bench.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                before();
                let (started, cpu_started) = (Instant::now(), process_cpu_time());
                let node = Node::start(options.clone(), NodeParts::default()).expect("a node");
                total += started.elapsed();
                cpu += process_cpu_time() - cpu_started;
                count += 1;
                runtime.block_on(node.stop());
            }
            total
        });
    });
    println!("start/{name}: {:.3} s of CPU", cpu.as_secs_f64() / f64::from(count.max(1)));
}

/// Opens record store and view, without log and node; CPU time of the one thread that does it.
fn view_alone(bench: &mut BenchmarkGroup<'_, WallTime>, entries: u64, records: &Path) {
    let (mut cpu, mut count) = (Duration::ZERO, 0_u32);
    bench.bench_function(format!("view_alone/{entries}"), |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let (started, cpu_started) = (Instant::now(), thread_cpu_time());
                let store = record_store::open(RecordStoreKind::Sled, records, &RecordStoreOptions::default());
                let view = View::open(CATALOG, store.expect("a store")).expect("a view");
                total += started.elapsed();
                cpu += thread_cpu_time() - cpu_started;
                count += 1;
                drop(view);
            }
            total
        });
    });
    println!("start/view_alone/{entries}: {:.3} s of CPU", cpu.as_secs_f64() / f64::from(count.max(1)));
}

fn start(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for entries in sizes() {
        let directory = scratch_directory();
        runtime.block_on(prepare(directory.path(), Deployment::new(1, entries)));
        let mut bench = criterion.benchmark_group("start");
        bench.sample_size(10).throughput(Throughput::Elements(entries));
        view_alone(&mut bench, entries, &records(directory.path()));
        // Requests are remembered for a time, so events of that time are read again. Without it a start is what it is
        // in a deployment that changes slowly; with it, all entries were created within that time.
        let quiet = NodeOptions { request_window: Duration::ZERO, ..undisturbed(directory.path()) };
        starts(&mut bench, &runtime, &format!("quiet/{entries}"), &quiet, || {});
        let busy = NodeOptions { request_window: Duration::from_secs(7 * 24 * 3600), ..undisturbed(directory.path()) };
        starts(&mut bench, &runtime, &format!("all_events_recent/{entries}"), &busy, || {});
        starts(&mut bench, &runtime, &format!("rebuild/{entries}"), &quiet, || {
            record_store::destroy(&records(directory.path())).expect("no record store");
        });
        bench.finish();
    }
}

criterion_group!(benches, start);
criterion_main!(benches);
