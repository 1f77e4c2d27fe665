//! Tails: what arrives at 1, 10 and 100 consumers of everything, live and from history.
//!
//! Wall time, per item that one consumer gets. The CPU time of all threads is printed after it, the creation of the
//! entries included.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use steeple_benches::cpu_time::process_cpu_time;
use steeple_benches::deployment::Deployment;
use steeple_benches::running::{RunningNode, undisturbed};
use steeple_benches::{scratch_directory, sizes};
use steeple_engine::ids::StreamSequence;
use steeple_engine::spire;
use steeple_engine::view::Reader as _;
use steeple_server::node::NodeOptions;
use steeple_server::node::tail::{StreamPosition, Tail};
use tokio::runtime::Runtime;

/// Events of one iteration.
const EVENTS: u64 = 100;

/// Consumers of the same stream.
const CONSUMERS: [usize; 3] = [1, 10, 100];

/// Longer than any event takes to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// History that the catching-up consumer reads at the most.
const HISTORY_MAX: u64 = 100_000;

fn tail(source: &RunningNode, after: StreamSequence) -> Tail {
    let position = StreamPosition { stream: spire::REGISTRATIONS, after };
    source.node.tail(source.namespace, vec![position], None).expect("a tail")
}

fn tail_from_now(source: &RunningNode) -> Tail {
    tail(source, source.node.read(|reader| reader.stream(source.namespace, spire::REGISTRATIONS)).last)
}

/// Reads so many items and gives the tail back.
async fn consume(mut tail: Tail, items: u64) -> Tail {
    let mut seen = 0;
    while seen < items {
        let item = tail.next(PATIENCE).await.expect("a tail that goes on").expect("an item in time");
        seen += item.items.len() as u64;
    }
    tail
}

async fn fan_out(source: &mut RunningNode, tails: Vec<Tail>) -> Vec<Tail> {
    let consumers: Vec<_> = tails.into_iter().map(|tail| tokio::spawn(consume(tail, EVENTS))).collect();
    source.create(EVENTS).await;
    let mut tails = Vec::with_capacity(consumers.len());
    for consumer in consumers {
        tails.push(consumer.await.expect("a task that ends"));
    }
    tails
}

fn live(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = criterion.benchmark_group("tail_live");
    bench.sample_size(20).measurement_time(Duration::from_secs(4));
    let mut source = runtime.block_on(RunningNode::start(NodeOptions::in_memory(), Deployment::new(1, 1_000_000)));
    for consumers in std::iter::once(0).chain(CONSUMERS) {
        let mut tails: Vec<Tail> = (0..consumers).map(|_| tail_from_now(&source)).collect();
        let (mut cpu, mut events) = (Duration::ZERO, 0);
        bench.throughput(Throughput::Elements(EVENTS * consumers.max(1) as u64));
        bench.bench_function(format!("consumers/{consumers}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let (started, cpu_started) = (Instant::now(), process_cpu_time());
                for _ in 0..iterations {
                    tails = runtime.block_on(fan_out(&mut source, std::mem::take(&mut tails)));
                }
                cpu += process_cpu_time() - cpu_started;
                events += iterations * EVENTS;
                started.elapsed()
            });
        });
        let cpu_micros = cpu.as_secs_f64() * 1e6 / events.max(1) as f64;
        println!("tail_live/consumers/{consumers}: {cpu_micros:.1} us of CPU per event, its creation included");
    }
    bench.finish();
}

fn history(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = criterion.benchmark_group("tail_history");
    bench.sample_size(10).measurement_time(Duration::from_secs(4));
    let directory = scratch_directory();
    let items = sizes().into_iter().max().unwrap_or(0).clamp(1, HISTORY_MAX);
    let filled = RunningNode::filled(undisturbed(directory.path()), Deployment::new(1, items));
    let source = runtime.block_on(filled);
    bench.throughput(Throughput::Elements(items));
    bench.bench_function(format!("items/{items}"), |bencher| {
        bencher.iter(|| runtime.block_on(consume(tail(&source, StreamSequence::ZERO), items)));
    });
    bench.finish();
    runtime.block_on(source.node.stop());
}

criterion_group!(benches, live, history);
criterion_main!(benches);
