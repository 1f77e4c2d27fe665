//! More and more consumers of everything that happens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Serialize;
use steeple_benches::cpu_time::process_cpu_time;
use steeple_benches::messages;
use steeple_benches::spread::{Spread, milliseconds};
use steeple_benches::usage::{self, Memory};
use steeple_client::{Error, Tail, TailContent, TailOptions, TailStart};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::Arguments;
use crate::subject::{CONNECTIONS, Subject, mebibytes};

/// Between two creations: what a node with 1,000 consumers can deliver on two cores that it shares with all of them.
const PACE: Duration = Duration::from_millis(100);

/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(60);

/// Several times what each question is asked for, so that there are enough creations.
const LENGTHS: u32 = 5;

/// A node with so many consumers. Milliseconds, and microseconds of CPU time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Point {
    consumers: usize,
    creations: usize,
    create_p50_ms: f64,
    create_p99_ms: f64,
    /// From the moment at which the creation was sent until it was at a consumer; of all consumers.
    arrived_p50_ms: f64,
    arrived_p99_ms: f64,
    /// Of the node for each creation, the delivery to all included.
    node_cpu_us: f64,
    /// The same of all consumers and the one who creates.
    clients_cpu_us: f64,
    memory_before: Memory,
    memory: Memory,
}

/// When each entry was sent.
type Sent = Arc<Mutex<HashMap<String, Instant>>>;

/// Measures each number on the same node.
pub(crate) async fn run(arguments: &Arguments) -> Result<Vec<Point>, Error> {
    let mut subject = Subject::start(arguments, arguments.entries).await?;
    subject.fill().await?;
    println!("\nconsumers of everything, one creation in {} ms, {} entries", PACE.as_millis(), arguments.entries);
    println!(
        "{:>10}{:>18}{:>22}{:>22}{:>16}",
        "consumers", "create p50/p99", "arrived p50/p99 ms", "CPU us node/clients", "memory MiB"
    );
    let (mut points, mut next) = (Vec::new(), arguments.entries);
    for consumers in &arguments.consumers {
        let point = measure(arguments, &subject, *consumers, &mut next).await?;
        point.print();
        points.push(point);
    }
    Ok(points)
}

async fn measure(arguments: &Arguments, subject: &Subject, count: usize, next: &mut u64) -> Result<Point, Error> {
    let memory_before = subject.memory();
    let (sent, (until, expected)) = (Sent::default(), watch::channel(None));
    let consumers = follow(subject, count, &sent, &expected).await?;
    let process = subject.group.process(1);
    let (node_cpu, clients_cpu) = (usage::cpu(process), process_cpu_time());
    let times = create_paced(subject, arguments.length() * LENGTHS, &sent, next).await?;
    until.send_replace(Some(times.len()));
    let mut arrived = Vec::new();
    for consumer in consumers {
        let consumed = tokio::time::timeout(PATIENCE, consumer).await.expect("all events in time");
        arrived.extend(consumed.expect("a consumer that ends")?);
    }
    let creations = times.len();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / creations.max(1) as f64;
    let (node_cpu, clients_cpu) = (usage::cpu(process) - node_cpu, process_cpu_time() - clients_cpu);
    let (times, arrived) = (Spread::of(times), Spread::of(arrived));
    Ok(Point {
        consumers: count,
        creations,
        create_p50_ms: milliseconds(times.percentile(50)),
        create_p99_ms: milliseconds(times.percentile(99)),
        arrived_p50_ms: milliseconds(arrived.percentile(50)),
        arrived_p99_ms: milliseconds(arrived.percentile(99)),
        node_cpu_us: each(node_cpu),
        clients_cpu_us: each(clients_cpu),
        memory_before,
        memory: subject.memory(),
    })
}

/// How long each of many things took.
type Times = Result<Vec<Duration>, Error>;

/// Starts so many consumers, each of which is told of what happens from then on.
async fn follow(
    subject: &Subject,
    count: usize,
    sent: &Sent,
    expected: &watch::Receiver<Option<usize>>,
) -> Result<Vec<JoinHandle<Times>>, Error> {
    let (connections, mut consumers) = (subject.connections(), Vec::new());
    for number in 0..count {
        let options = TailOptions { start: TailStart::Now, ..TailOptions::default() };
        let mut tail = connections[number % CONNECTIONS].tail(options);
        while !matches!(tail.next().await?.content, TailContent::Progress { live: true, .. }) {}
        consumers.push(tokio::spawn(consume(tail, Arc::clone(sent), expected.clone())));
    }
    Ok(consumers)
}

/// Creates an entry at each pace for so long; how long each took.
async fn create_paced(subject: &Subject, length: Duration, sent: &Sent, next: &mut u64) -> Times {
    let namespace = subject.namespace();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (end, mut times) = (Instant::now() + length, Vec::new());
    while Instant::now() < end {
        pace.tick().await;
        let entry = messages::entry(subject.deployment.entry(*next));
        *next += 1;
        let began = Instant::now();
        sent.lock().expect("no panic").insert(entry.entry_id.clone(), began);
        namespace.create_registration_entry(entry).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// Follows everything until so many entries have arrived; how long each took.
async fn consume(mut tail: Tail, sent: Sent, mut expected: watch::Receiver<Option<usize>>) -> Times {
    let mut times = Vec::new();
    while expected.borrow().is_none_or(|expected| times.len() < expected) {
        tokio::select! {
            message = tail.next() => {
                let at = Instant::now();
                let TailContent::Event(event) = message?.content else { continue };
                let sent = sent.lock().expect("no panic");
                times.extend(event.items.iter().filter_map(|item| Some(at - *sent.get(&item.key)?)));
            }
            // Nobody expects anything any more when the sender is gone.
            changed = expected.changed() => if changed.is_err() { break },
        }
    }
    Ok(times)
}

impl Point {
    fn print(&self) {
        let create = format!("{:.2} / {:.2}", self.create_p50_ms, self.create_p99_ms);
        let arrived = format!("{:.2} / {:.2}", self.arrived_p50_ms, self.arrived_p99_ms);
        let cpu = format!("{:.0} / {:.0}", self.node_cpu_us, self.clients_cpu_us);
        let memory = mebibytes(self.memory.resident);
        println!("{:>10}{create:>18}{arrived:>22}{cpu:>22}{memory:>16.0}", self.consumers);
    }
}
