//! Throughput and latency of three nodes beside one, in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use serde::Serialize;
use steeple_benches::asking::{self, Asker, Window};
use steeple_benches::cpu_time::process_cpu_time;
use steeple_benches::spread::{Spread, middle_turn, milliseconds};
use steeple_client::{Error, Namespace};
use tokio::task::JoinHandle;

use crate::Arguments;
use crate::steady::{entry, entry_id};
use steeple_benches::processes::{Group, NAMESPACE};
use steeple_benches::usage::Usage;

/// Connections that the clients share.
const CONNECTIONS: usize = 4;

/// Entries that are read.
const ENTRIES_READ: u64 = 1_000;

/// Who created the entries that are read, and who creates those that are measured.
const WRITER_OF_READ: u64 = 0;
const WRITER: u64 = 1;

/// Of what each turn takes, so much passes before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    CreateEntry,
    CreateToken,
    Read(From),
}

/// Which node a read is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Leader,
    Follower,
}

const WORK: [Work; 4] = [Work::CreateEntry, Work::CreateToken, Work::Read(From::Leader), Work::Read(From::Follower)];

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CreateEntry => "create an entry",
            Self::CreateToken => "create a join token",
            Self::Read(From::Leader) => "linearizable read, leader",
            Self::Read(From::Follower) => "linearizable read, follower",
        }
    }

    async fn ask(self, namespace: &Namespace, number: u64) -> Result<(), Error> {
        match self {
            Self::CreateEntry => namespace.create_registration_entry(entry(WRITER, number)).await.map(drop),
            Self::CreateToken => namespace.create_join_token(format!("token-{number}"), 4_000_000_000).await,
            Self::Read(_) => {
                let id = entry_id(WRITER_OF_READ, rand::rng().random_range(0..ENTRIES_READ));
                let found = namespace.fetch_registration_entry(id).await?;
                assert!(found.is_some(), "an entry is missing");
                Ok(())
            }
        }
    }
}

/// A group and the ways to it.
pub(crate) struct Side {
    pub(crate) group: Group,
    leader: usize,
    /// To whichever node decides.
    writing: Vec<Namespace>,
    /// To each node alone.
    reading: Vec<Vec<Namespace>>,
    next: Arc<AtomicU64>,
}

/// One client, and what it asks.
struct Client {
    namespace: Namespace,
    work: Work,
    next: Arc<AtomicU64>,
}

impl Asker for Client {
    type Error = Error;

    async fn ask(&mut self) -> Result<u64, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.work.ask(&self.namespace, number).await.map(|()| 1)
    }
}

/// What came of one turn.
struct Turn {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    failed: u64,
    /// CPU time for each request: of the clients, of the leader, of all followers together.
    cpu_micros: [f64; 3],
    usage: Vec<Usage>,
    done: f64,
}

/// What clients saw of one turn.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) failed: u64,
}

/// Of the turn of one side that is in the middle by throughput.
#[derive(Serialize)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// In all turns.
    failed: u64,
    client_cpu_us: f64,
    leader_cpu_us: f64,
    followers_cpu_us: f64,
    nodes: Vec<NodeFigures>,
}

/// What a node did, for each request. From the same turn.
#[derive(Serialize)]
struct NodeFigures {
    node: usize,
    leads: bool,
    threads_us: Vec<(String, f64)>,
    syncs_per_second: f64,
    sync_ms: f64,
    append_ms: f64,
    entries_per_sync: f64,
    folds_per_second: f64,
    fold_ms: f64,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Comparison {
    work: &'static str,
    in_flight: usize,
    one: Figures,
    three: Figures,
    /// Throughput of three nodes by that of one.
    ratio: f64,
}

/// Measures everything, one group after the other and again.
pub(crate) async fn run(arguments: &Arguments) -> Vec<Comparison> {
    let one = Side::start(1, arguments).await;
    let three = Side::start(3, arguments).await;
    let length = Duration::from_secs_f64(arguments.seconds);
    let mut comparisons = Vec::new();
    for work in WORK {
        for in_flight in &arguments.in_flight {
            let (mut with_one, mut with_three) = (Vec::new(), Vec::new());
            for _ in 0..arguments.turns {
                with_one.push(one.turn(work, *in_flight, length).await);
                with_three.push(three.turn(work, *in_flight, length).await);
            }
            let comparison = Comparison::of(work, *in_flight, (&one, &with_one), (&three, &with_three));
            comparison.print(comparisons.is_empty());
            comparisons.push(comparison);
        }
    }
    comparisons
}

impl Side {
    pub(crate) async fn start(nodes: usize, arguments: &Arguments) -> Self {
        let group = Group::start(nodes, arguments.program()).await;
        let leader = group.leader().await;
        let writing: Vec<_> = (0..CONNECTIONS).map(|_| group.client().namespace(NAMESPACE)).collect();
        let to = |number| (0..CONNECTIONS).map(|_| group.client_of(number).namespace(NAMESPACE)).collect();
        let reading = group.numbers().map(to).collect();
        for number in 0..ENTRIES_READ {
            let created = writing[0].create_registration_entry(entry(WRITER_OF_READ, number)).await;
            created.expect("an entry to read");
        }
        Self { group, leader, writing, reading, next: Arc::default() }
    }

    fn namespaces(&self, work: Work) -> &[Namespace] {
        let follower = || self.group.numbers().find(|number| *number != self.leader).unwrap_or(self.leader);
        match work {
            Work::CreateEntry | Work::CreateToken => &self.writing,
            Work::Read(From::Leader) => &self.reading[self.leader - 1],
            Work::Read(From::Follower) => &self.reading[follower() - 1],
        }
    }

    async fn usage(&self) -> Vec<Usage> {
        let mut usage = Vec::new();
        for number in self.group.numbers() {
            usage.push(Usage::of(self.group.process(number), self.group.http_address(number)).await);
        }
        usage
    }

    /// So many requests in flight for as long.
    async fn turn(&self, work: Work, in_flight: usize, length: Duration) -> Turn {
        let window = Window::after(WARM_UP, length);
        let clients = self.clients(work, in_flight, window);
        tokio::time::sleep_until(window.begin.into()).await;
        let (usage, cpu) = (self.usage().await, process_cpu_time());
        tokio::time::sleep_until(window.end.into()).await;
        let (cpu, after) = (process_cpu_time().saturating_sub(cpu), self.usage().await);
        let told = asking::all_of(clients).await;
        let times = Spread::of(told.times);
        let usage: Vec<_> = after.iter().zip(&usage).map(|(after, before)| after.since(before)).collect();
        let done = times.count().max(1) as f64;
        let leader = usage[self.leader - 1].cpu();
        let followers = usage.iter().map(Usage::cpu).sum::<Duration>() - leader;
        Turn {
            per_second: done / length.as_secs_f64(),
            p50: times.percentile(50),
            p99: times.percentile(99),
            failed: told.failures.len() as u64,
            cpu_micros: [cpu, leader, followers].map(|time| time.as_secs_f64() * 1e6 / done),
            usage,
            done,
        }
    }

    /// As a turn, with nothing looked at but what clients see: not all nodes may be there.
    pub(crate) async fn ask(&self, work: Work, in_flight: usize, length: Duration) -> Asked {
        let told = asking::all_of(self.clients(work, in_flight, Window::after(WARM_UP, length))).await;
        let times = Spread::of(told.times);
        Asked {
            per_second: times.count() as f64 / length.as_secs_f64(),
            p50_ms: milliseconds(times.percentile(50)),
            p99_ms: milliseconds(times.percentile(99)),
            failed: told.failures.len() as u64,
        }
    }

    fn clients(&self, work: Work, in_flight: usize, window: Window) -> Vec<JoinHandle<asking::Asked<Error>>> {
        let namespaces = self.namespaces(work);
        let client = |number: usize| {
            let namespace = namespaces[number % namespaces.len()].clone();
            Client { namespace, work, next: Arc::clone(&self.next) }
        };
        asking::start((0..in_flight).map(client), window)
    }

    fn figures(&self, turns: &[Turn]) -> Figures {
        let middle = middle_turn(turns, |turn| turn.per_second);
        let node =
            |(place, usage): (usize, &Usage)| NodeFigures::of(place + 1, place + 1 == self.leader, usage, middle);
        let [client_cpu_us, leader_cpu_us, followers_cpu_us] = middle.cpu_micros;
        Figures {
            per_second: middle.per_second,
            p50_ms: milliseconds(middle.p50),
            p99_ms: milliseconds(middle.p99),
            failed: turns.iter().map(|turn| turn.failed).sum(),
            client_cpu_us,
            leader_cpu_us,
            followers_cpu_us,
            nodes: middle.usage.iter().enumerate().map(node).collect(),
        }
    }
}

impl NodeFigures {
    fn of(node: usize, leads: bool, usage: &Usage, turn: &Turn) -> Self {
        let seconds = turn.done / turn.per_second;
        let micros = |time: &Duration| time.as_secs_f64() * 1e6 / turn.done;
        let (syncs, sync) = usage.mean("steeple_log_sync_seconds");
        let (folds, fold) = usage.mean("steeple_fold_seconds");
        Self {
            node,
            leads,
            threads_us: usage.threads().iter().map(|(name, time)| (name.clone(), micros(time))).collect(),
            syncs_per_second: syncs / seconds,
            sync_ms: sync * 1e3,
            append_ms: usage.mean("steeple_log_append_seconds").1 * 1e3,
            entries_per_sync: usage.mean("steeple_log_batch_entries").1,
            folds_per_second: folds / seconds,
            fold_ms: fold * 1e3,
        }
    }
}

impl Comparison {
    fn of(work: Work, in_flight: usize, one: (&Side, &[Turn]), three: (&Side, &[Turn])) -> Self {
        let (one, three) = (one.0.figures(one.1), three.0.figures(three.1));
        let ratio = three.per_second / one.per_second;
        Self { work: work.name(), in_flight, one, three, ratio }
    }

    fn print(&self, first: bool) {
        if first {
            println!("\nthroughput: {CONNECTIONS} connections; milliseconds; CPU in us for each request");
            println!("{:>40}{:^50}|{:^62}", "", "one node", "three nodes");
            let columns = ["a second", "p50", "p99", "clients", "node"];
            print!("{:<30}{:>10}", "", "in flight");
            columns.iter().for_each(|column| print!("{column:>10}"));
            print!("|");
            ["a second", "p50", "p99", "clients", "leader", "others"].iter().for_each(|column| print!("{column:>10}"));
            println!("   ratio");
        }
        print!("{:<30}{:>10}", self.work, self.in_flight);
        for (figures, is_group) in [(&self.one, false), (&self.three, true)] {
            print!("{:>10.0}{:>10.2}{:>10.2}", figures.per_second, figures.p50_ms, figures.p99_ms);
            print!("{:>10.0}{:>10.0}", figures.client_cpu_us, figures.leader_cpu_us);
            if is_group {
                print!("{:>10.0}", figures.followers_cpu_us);
            } else {
                print!("|");
            }
        }
        println!("{:>8.2}", self.ratio);
        let failed = self.one.failed + self.three.failed;
        if failed > 0 {
            println!("  {failed} requests failed");
        }
    }
}
