//! What a mutation costs without log and threads: deciding, folding, and both together. CPU time.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use steeple_benches::cpu_time::{ThreadCpuTime, thread_cpu_time};
use steeple_benches::deployment::{Deployment, NOW, create_entry, delete_entry};
use steeple_benches::population::{Group, NAMESPACE};
use steeple_benches::sizes;
use steeple_engine::domain::{CATALOG, Command};
use steeple_engine::event::Event;
use steeple_engine::ids::LogIndex;
use steeple_engine::local::{LocalGroup, SeededEntropy};
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::transaction::Transaction;
use steeple_engine::view::{Committed, Overlay, OverlayReader, Reader as _, View};

/// Commands decided before their events are folded, and then undone, so that the table stays as large as it is said.
const BATCH: u64 = 100;

const STORES: [(&str, RecordStoreKind); 2] = [("memory", RecordStoreKind::Memory), ("sled", RecordStoreKind::Sled)];

/// Entries that a deployment does not have yet, in batches.
struct NewEntries {
    deployment: Deployment,
    next: u64,
}

impl NewEntries {
    fn of(deployment: Deployment) -> Self {
        Self { deployment, next: deployment.entries() }
    }

    fn batch(&mut self) -> Vec<Entry> {
        let first = self.next;
        self.next += BATCH;
        (first..self.next).map(|number| self.deployment.entry(number)).collect()
    }
}

fn creations(entries: &[Entry]) -> Vec<Command> {
    entries.iter().cloned().map(create_entry).collect()
}

fn deletions(entries: &[Entry]) -> Vec<Command> {
    entries.iter().map(|entry| delete_entry(entry.entry_id.clone())).collect()
}

/// Time of one command, from the time of rounds of [`BATCH`] each.
fn measure(iterations: u64, mut round: impl FnMut() -> Duration) -> Duration {
    let rounds = iterations.div_ceil(BATCH);
    let total: Duration = (0..rounds).map(|_| round()).sum();
    total.mul_f64(iterations as f64 / (rounds * BATCH) as f64)
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = thread_cpu_time();
    work();
    thread_cpu_time() - started
}

/// The whole way of a command through the pipeline: decide, encode, overlay, fold, answer.
fn pipeline(criterion: &mut Criterion<ThreadCpuTime>) {
    let mut bench = criterion.benchmark_group("pipeline");
    bench.sample_size(20).throughput(Throughput::Elements(1));
    for entries in sizes() {
        for (name, kind) in STORES {
            let deployment = Deployment::new(1, entries);
            let mut group = Group::filled(kind, &deployment);
            let mut new = NewEntries::of(deployment);
            bench.bench_function(format!("create/{name}/{entries}"), |bencher| {
                bencher.iter_custom(|iterations| {
                    measure(iterations, || {
                        let batch = new.batch();
                        let commands = creations(&batch);
                        let time = timed(|| group.carry_out(NAMESPACE, commands));
                        group.carry_out(NAMESPACE, deletions(&batch));
                        time
                    })
                });
            });
            bench.bench_function(format!("delete/{name}/{entries}"), |bencher| {
                bencher.iter_custom(|iterations| {
                    measure(iterations, || {
                        let batch = new.batch();
                        group.carry_out(NAMESPACE, creations(&batch));
                        let commands = deletions(&batch);
                        timed(|| group.carry_out(NAMESPACE, commands))
                    })
                });
            });
        }
    }
    bench.finish();
}

/// Decides commands over the view as the pipeline does, each on top of those before it.
fn decide(view: &View, commands: Vec<Command>) -> Vec<Committed> {
    let mut overlay = Overlay::new(CATALOG);
    let mut entropy = SeededEntropy::new(1);
    let mut decided = Vec::with_capacity(commands.len());
    for command in commands {
        let below = view.read();
        let (content, answer, revision) = {
            let reader = OverlayReader::new(&below, &overlay);
            let mut transaction = Transaction::new(&reader, CATALOG, NAMESPACE, NOW, &mut entropy);
            let answer = command.decide(&mut transaction).expect("a command that is accepted");
            (transaction.into_content(), answer.encode(), reader.revision().next())
        };
        let event = Arc::new(Event {
            revision,
            time: NOW,
            namespace: NAMESPACE,
            request: None,
            changes: content.changes,
            items: content.items,
            marks: content.marks,
            answer,
        });
        overlay.push(Arc::clone(&event), &below).expect("an event that can be read");
        decided.push(Committed { index: LogIndex(revision.0 + 1), event });
    }
    decided
}

/// The two halves on their own.
fn halves(criterion: &mut Criterion<ThreadCpuTime>) {
    for entries in sizes() {
        for (name, kind) in STORES {
            let deployment = Deployment::new(1, entries);
            let group = Group::filled(kind, &deployment);
            let view = group.view();
            let mut new = NewEntries::of(deployment);
            let mut bench = criterion.benchmark_group("decide");
            bench.sample_size(20).throughput(Throughput::Elements(1));
            bench.bench_function(format!("create/{name}/{entries}"), |bencher| {
                bencher.iter_custom(|iterations| {
                    measure(iterations, || {
                        let commands = creations(&new.batch());
                        timed(|| drop(black_box(decide(view, commands))))
                    })
                });
            });
            bench.finish();
            let mut bench = criterion.benchmark_group("fold");
            bench.sample_size(20).throughput(Throughput::Elements(1));
            bench.bench_function(format!("create/{name}/{entries}"), |bencher| {
                bencher.iter_custom(|iterations| {
                    measure(iterations, || {
                        let batch = new.batch();
                        let created = decide(view, creations(&batch));
                        let time = timed(|| view.fold(&created).expect("a fold"));
                        view.fold(&decide(view, deletions(&batch))).expect("a fold");
                        time
                    })
                });
            });
            bench.finish();
        }
    }
}

fn local_group(criterion: &mut Criterion<ThreadCpuTime>) {
    let mut bench = criterion.benchmark_group("local_group");
    bench.sample_size(20).throughput(Throughput::Elements(1));
    let deployment = Deployment::new(1, 10_000);
    bench.bench_function("create", |bencher| {
        bencher.iter_custom(|iterations| {
            measure(iterations, || {
                let mut group = LocalGroup::new(1, NOW).expect("a view");
                let open = steeple_engine::namespaces::Command::Open { name: "bench".to_owned() };
                group.submit(steeple_engine::ids::NamespaceId::SYSTEM, &Command::Namespace(open)).expect("a namespace");
                for bundle in deployment.bundles() {
                    group.submit(NAMESPACE, &steeple_benches::deployment::create_bundle(bundle)).expect("a bundle");
                }
                let commands: Vec<Command> = (0..BATCH).map(|number| create_entry(deployment.entry(number))).collect();
                timed(|| {
                    for command in &commands {
                        group.submit(NAMESPACE, command).expect("a creation");
                    }
                })
            })
        });
    });
    bench.finish();
}

/// The stored forms.
fn codec(criterion: &mut Criterion<ThreadCpuTime>) {
    let mut bench = criterion.benchmark_group("codec");
    let entry = Deployment::new(1, 10_000).entry(4711);
    let body = entry.encode();
    bench.bench_function("entry_encode", |bencher| bencher.iter(|| black_box(&entry).encode()));
    bench.bench_function("entry_view", |bencher| bencher.iter(|| Entry::view(black_box(&body)).map(drop)));
    bench.bench_function("entry_decode", |bencher| bencher.iter(|| Entry::decode(black_box(&body))));
    let group = Group::new(RecordStoreKind::Memory);
    let event = decide(group.view(), vec![create_entry(Entry { federates_with: Vec::new(), ..entry })]).remove(0).event;
    let stored = event.encode();
    bench.bench_function("event_encode", |bencher| bencher.iter(|| black_box(&event).encode()));
    bench.bench_function("event_view", |bencher| bencher.iter(|| Event::view(black_box(&stored)).map(drop)));
    bench.bench_function("event_decode", |bencher| bencher.iter(|| Event::decode(black_box(&stored))));
    println!("codec: record of {} bytes, event of {} bytes", body.len(), stored.len());
    bench.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(ThreadCpuTime)
        .warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = codec, local_group, halves, pipeline
}
criterion_main!(benches);
