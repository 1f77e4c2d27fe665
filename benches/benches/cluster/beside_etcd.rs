//! Three nodes beside three members of etcd: on one machine, in turns, with the same durability, the same sizes, the same
//! gRPC library and as many connections.
//!
//! etcd overwrites 100,000 keys by chance; Steeple creates records that were not there before, which is more work. Both are
//! asked at the leader.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prost::Message as _;
use rand::RngExt;
use serde::Serialize;
use steeple_benches::asking::{self, Asked, Asker, Window};
use steeple_benches::cpu_time::process_cpu_time;
use steeple_benches::spread::{Spread, middle_turn, milliseconds};
use steeple_client::types::{CreateJoinTokenRequest, CreateRegistrationEntryRequest, JoinToken};
use steeple_client::{Namespace, Operation, Tail, TailContent, TailOptions, TailStart, WriterOptions};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::Arguments;
use crate::etcd::{EtcdClient, EtcdGroup, PREFIX, is_installed};
use crate::steady::{entry, entry_id};
use steeple_benches::processes::{Group, NAMESPACE, Settings};
use steeple_benches::usage;

/// Connections that the clients of each side share.
const CONNECTIONS: usize = 4;

/// Keys of etcd that are written.
const KEYS: u64 = 100_000;

/// Records and keys that are read, and who created the records.
const READ: u64 = 1_000;
const WRITER_OF_READ: u64 = 0;
const WRITER: u64 = 1;

/// So much passes of each turn before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// How much longer than other turns those are in which events are followed: what nodes do every five seconds, as flushing their
/// records, is to be in each of them.
const FOLLOWED_LONGER: u32 = 5;

/// Writers while events are followed.
const PACED_WRITERS: u64 = 64;

/// How long the last event may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Entry,
    Token,
    /// The same over a stream for each connection, which etcd does not have: it gets a call for each.
    StreamedEntry,
    StreamedToken,
    Read,
    /// Of a leader that has a lease; etcd is asked for the same as without.
    LeasedRead,
}

const WORK: [Work; 6] =
    [Work::Entry, Work::StreamedEntry, Work::Token, Work::StreamedToken, Work::Read, Work::LeasedRead];

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::Entry => "create an entry / put",
            Self::Token => "create a join token / put",
            Self::StreamedEntry => "create an entry, streamed / put",
            Self::StreamedToken => "create a token, streamed / put",
            Self::Read => "linearizable read, leader / range",
            Self::LeasedRead => "linearizable read, lease / range",
        }
    }

    /// Bytes of what is written, as the client sends it.
    fn bytes(self) -> usize {
        match self {
            Self::Entry | Self::StreamedEntry => entry(WRITER, 10_000).encoded_len(),
            Self::Token | Self::StreamedToken | Self::Read | Self::LeasedRead => token(10_000).encoded_len(),
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Read | Self::LeasedRead)
    }

    fn is_streamed(self) -> bool {
        matches!(self, Self::StreamedEntry | Self::StreamedToken)
    }

    /// One mutation of a stream.
    fn operation(self, number: u64) -> Operation {
        match self {
            Self::StreamedToken => {
                let join_token = Some(token(number));
                Operation::CreateJoinToken(CreateJoinTokenRequest { context: None, join_token })
            }
            _ => {
                let entry = Some(entry(WRITER, number));
                Operation::CreateRegistrationEntry(CreateRegistrationEntryRequest { context: None, entry })
            }
        }
    }
}

/// Where every token ends.
const FAR: i64 = 4_000_000_000;

fn token(number: u64) -> JoinToken {
    JoinToken { token: format!("token-{number}"), expires_at: FAR }
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:06}")
}

/// To whichever node decides, and to the leader alone.
#[derive(Clone)]
struct SteepleCaller {
    writing: Namespace,
    reading: Namespace,
}

/// One connection to either side.
#[derive(Clone)]
enum Caller {
    Steeple(Box<SteepleCaller>),
    Etcd(EtcdClient),
}

impl Caller {
    /// Asks once; what went wrong if something did.
    async fn ask(&self, work: Work, number: u64) -> Result<(), String> {
        match self {
            Self::Steeple(caller) => ask_steeple(&caller.writing, &caller.reading, work, number).await,
            Self::Etcd(client) => ask_etcd(client, work).await,
        }
    }
}

async fn ask_steeple(writing: &Namespace, reading: &Namespace, work: Work, number: u64) -> Result<(), String> {
    let text = |error: steeple_client::Error| error.to_string();
    match work {
        Work::Entry | Work::StreamedEntry => {
            writing.create_registration_entry(entry(WRITER, number)).await.map(drop).map_err(text)?
        }
        Work::Token | Work::StreamedToken => {
            let JoinToken { token, expires_at } = token(number);
            writing.create_join_token(token, expires_at).await.map_err(text)?;
        }
        Work::Read | Work::LeasedRead => {
            let id = entry_id(WRITER_OF_READ, rand::rng().random_range(0..READ));
            if reading.fetch_registration_entry(id).await.map_err(text)?.is_none() {
                return Err("an entry is missing".to_owned());
            }
        }
    }
    Ok(())
}

async fn ask_etcd(client: &EtcdClient, work: Work) -> Result<(), String> {
    let text = |status: tonic::Status| status.to_string();
    if work.reads() {
        let key = key(rand::rng().random_range(0..READ));
        let found = client.get(key).await.map_err(text)?;
        return if found { Ok(()) } else { Err("a key is missing".to_owned()) };
    }
    let key = key(rand::rng().random_range(0..KEYS));
    let value = vec![b'v'; work.bytes().saturating_sub(key.len()).max(1)];
    client.put(key, value).await.map_err(text)
}

/// One client, and what it asks.
struct Client {
    caller: Caller,
    work: Work,
    next: Arc<AtomicU64>,
}

/// Three nodes, and connections to them.
struct Nodes {
    group: Group,
    callers: Vec<Caller>,
}

/// Everything that runs.
struct Sides {
    steeple: Nodes,
    /// Three more, with leases; idle while they are not asked.
    leased: Nodes,
    etcd: EtcdGroup,
    etcd_callers: Vec<Caller>,
    next: Arc<AtomicU64>,
}

/// What came of one turn.
struct Turn {
    per_second: f64,
    times: Spread,
    failures: Vec<String>,
    /// CPU time for each request: of the clients, and of all three servers.
    cpu_micros: [f64; 2],
}

/// Of the turn of one side that is in the middle by throughput.
#[derive(Serialize)]
struct Figures {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// In all turns.
    failed: usize,
    clients_cpu_us: f64,
    servers_cpu_us: f64,
    /// The turns, in order.
    turns_per_second: Vec<f64>,
}

/// One line of the table.
#[derive(Serialize)]
struct Comparison {
    work: &'static str,
    bytes: usize,
    in_flight: usize,
    steeple: Figures,
    etcd: Figures,
    /// Steeple's throughput by etcd's.
    ratio: f64,
}

/// A consumer that follows everything.
#[derive(Clone, Copy)]
enum Consumer {
    /// At the node that the writes go to, as etcd's.
    AtLeader,
    /// At another one, which hears later what is committed.
    AtFollower,
    /// At etcd's leader, which its writes go to.
    OfEtcd,
}

impl Consumer {
    fn name(self) -> &'static str {
        match self {
            Self::AtLeader => "Steeple, leader",
            Self::AtFollower => "Steeple, follower",
            Self::OfEtcd => "etcd, leader",
        }
    }
}

/// How long events took to a consumer that follows everything. Milliseconds.
#[derive(Clone, Serialize)]
struct Followed {
    consumer: &'static str,
    per_second: f64,
    events: usize,
    /// From the moment at which the write was acknowledged to its writer; below zero when the consumer had it before.
    since_acknowledged_p50_ms: f64,
    since_acknowledged_p99_ms: f64,
    /// From the moment at which the write was sent.
    since_sent_p50_ms: f64,
    since_sent_p99_ms: f64,
}

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Report {
    etcd_version: String,
    /// What our nodes took of memory before anything was asked of them, if anything.
    reserved_memory: Option<String>,
    comparisons: Vec<Comparison>,
    followed: Vec<Followed>,
}

/// Measures everything, one side after the other and again; nothing where there is no etcd.
pub(crate) async fn run(arguments: &Arguments) -> Option<Report> {
    if !is_installed() {
        println!("\nno `etcd` in the path (Debian: apt-get install etcd-server): not compared");
        return None;
    }
    let sides = Sides::start(arguments).await;
    let length = Duration::from_secs_f64(arguments.seconds);
    let mut comparisons: Vec<Comparison> = Vec::new();
    for work in WORK.into_iter().filter(|work| arguments.work.as_ref().is_none_or(|part| work.name().contains(part))) {
        for in_flight in &arguments.in_flight {
            let mut turns = [Vec::new(), Vec::new()];
            for _ in 0..arguments.turns {
                for (side, turns) in turns.iter_mut().enumerate() {
                    turns.push(sides.turn(side, work, *in_flight, length).await);
                }
            }
            let [steeple, etcd] = turns.map(|turns| Figures::of(&turns));
            let ratio = steeple.per_second / etcd.per_second;
            let comparison =
                Comparison { work: work.name(), bytes: work.bytes(), in_flight: *in_flight, steeple, etcd, ratio };
            comparison.print(comparisons.is_empty());
            comparisons.push(comparison);
        }
    }
    let followed = sides.follow(&comparisons, arguments.turns, length * FOLLOWED_LONGER).await;
    let etcd_version = sides.etcd.version().to_owned();
    Some(Report { etcd_version, reserved_memory: arguments.reserved_memory.clone(), comparisons, followed })
}

/// What a group is told in which leaders answer reads from leases.
const LEASES: &str = "lease_reads = true\n";

impl Nodes {
    /// Three nodes with something to read.
    async fn start(arguments: &Arguments, more: &str) -> Self {
        let node = arguments.reserved_memory.as_ref().map(|size| format!("reserved_memory = {size:?}\n"));
        let settings = Settings { node: node.unwrap_or_default(), more: more.to_owned() };
        let group = Group::start_with(3, arguments.program(), settings).await;
        let leader = group.leader().await;
        let caller = |_| {
            let writing = group.client().namespace(NAMESPACE);
            let reading = group.client_of(leader).namespace(NAMESPACE);
            Caller::Steeple(Box::new(SteepleCaller { writing, reading }))
        };
        let callers = (0..CONNECTIONS).map(caller).collect();
        let namespace = group.client().namespace(NAMESPACE);
        for number in 0..READ {
            let created = namespace.create_registration_entry(entry(WRITER_OF_READ, number)).await;
            created.expect("an entry to read");
        }
        Self { group, callers }
    }

    /// Follows everything from now on, at one node that stays the same.
    async fn tail(&self, consumer: Consumer) -> Tail {
        let leader = self.group.leader().await;
        let is_right = |number: &usize| (*number == leader) == matches!(consumer, Consumer::AtLeader);
        let number = self.group.numbers().find(is_right).expect("three nodes");
        let namespace = self.group.client_of(number).namespace(NAMESPACE);
        let mut tail = namespace.tail(TailOptions { start: TailStart::Now, ..TailOptions::default() });
        while !matches!(tail.next().await.expect("a tail").content, TailContent::Progress { live: true, .. }) {}
        tail
    }

    fn processes(&self) -> Vec<u32> {
        self.group.numbers().map(|number| self.group.process(number)).collect()
    }
}

impl Sides {
    async fn start(arguments: &Arguments) -> Self {
        let steeple = Nodes::start(arguments, "").await;
        let leased = Nodes::start(arguments, LEASES).await;
        let etcd = EtcdGroup::start().await;
        let client = etcd.client();
        for number in 0..READ {
            let value = vec![b'v'; Work::Entry.bytes() - key(number).len()];
            client.put(key(number), value).await.expect("a key to read");
        }
        let etcd_callers = (0..CONNECTIONS).map(|_| Caller::Etcd(etcd.client())).collect();
        Self { steeple, leased, etcd, etcd_callers, next: Arc::default() }
    }

    fn nodes(&self, work: Work) -> &Nodes {
        if work == Work::LeasedRead { &self.leased } else { &self.steeple }
    }

    fn callers(&self, side: usize, work: Work) -> &[Caller] {
        if side == 0 { &self.nodes(work).callers } else { &self.etcd_callers }
    }

    fn servers_cpu(&self, side: usize, work: Work) -> Duration {
        let processes = if side == 0 { self.nodes(work).processes() } else { self.etcd.processes() };
        processes.into_iter().map(usage::cpu).sum()
    }

    /// So many requests in flight for as long, at one side.
    async fn turn(&self, side: usize, work: Work, in_flight: usize, length: Duration) -> Turn {
        let window = Window::after(WARM_UP, length);
        let callers = self.callers(side, work);
        let clients: Vec<_> = match &callers[0] {
            Caller::Steeple(_) if work.is_streamed() => {
                let streams = in_flight.min(CONNECTIONS);
                let share = |number: usize| (in_flight + streams - 1 - number) / streams;
                let stream = |number: usize| {
                    let Caller::Steeple(caller) = &callers[number] else { unreachable!("one side") };
                    let (writing, next) = (caller.writing.clone(), Arc::clone(&self.next));
                    tokio::spawn(stream_again(writing, work, next, share(number), window))
                };
                (0..streams).map(stream).collect()
            }
            _ => {
                let client = |number: usize| {
                    let caller = callers[number % CONNECTIONS].clone();
                    Client { caller, work, next: Arc::clone(&self.next) }
                };
                asking::start((0..in_flight).map(client), window)
            }
        };
        tokio::time::sleep_until(window.begin.into()).await;
        let before = (process_cpu_time(), self.servers_cpu(side, work));
        tokio::time::sleep_until(window.end.into()).await;
        let used = [process_cpu_time() - before.0, self.servers_cpu(side, work).saturating_sub(before.1)];
        let told = asking::all_of(clients).await;
        let done = told.times.len().max(1) as f64;
        Turn {
            per_second: done / length.as_secs_f64(),
            times: Spread::of(told.times),
            failures: told.failures,
            cpu_micros: used.map(|time| time.as_secs_f64() * 1e6 / done),
        }
    }

    /// Follows what happens on both sides at half of what etcd could take with 64 in flight, and on ours at half of
    /// what it could take itself, one after the other and again. Of each the turn in the middle by the 99th percentile.
    async fn follow(&self, comparisons: &[Comparison], turns: usize, length: Duration) -> Vec<Followed> {
        let entries = |line: &&Comparison| line.work == Work::Entry.name() && line.in_flight <= PACED_WRITERS as usize;
        let Some(line) = comparisons.iter().rfind(entries) else { return Vec::new() };
        println!("\nevents to a consumer of everything, {PACED_WRITERS} writers; milliseconds");
        println!("{:<20}{:>10}{:>28}{:>28}", "", "a second", "since acknowledged p50/p99", "since sent p50/p99");
        let (rate, own_rate) = (line.etcd.per_second / 2.0, line.steeple.per_second / 2.0);
        let kinds = [
            (Consumer::AtLeader, rate),
            (Consumer::AtFollower, rate),
            (Consumer::OfEtcd, rate),
            (Consumer::AtLeader, own_rate),
            (Consumer::AtFollower, own_rate),
        ];
        let mut found = kinds.map(|_| Vec::new());
        for _ in 0..turns {
            for (found, (consumer, rate)) in found.iter_mut().zip(kinds) {
                let followed = self.follow_one(consumer, rate, length).await;
                followed.print();
                found.push(followed);
            }
        }
        found.iter().map(|turns| middle_turn(turns, |turn| -turn.since_acknowledged_p99_ms).clone()).collect()
    }

    async fn follow_one(&self, consumer: Consumer, rate: f64, length: Duration) -> Followed {
        let first = self.next.fetch_add(KEYS, Ordering::Relaxed);
        let (until, expected) = watch::channel(None);
        let (side, consuming) = match consumer {
            Consumer::AtLeader | Consumer::AtFollower => {
                (0, tokio::spawn(consume_events(self.steeple.tail(consumer).await, expected)))
            }
            Consumer::OfEtcd => {
                let watch = self.etcd.client().watch().await.expect("a watch");
                (1, tokio::spawn(consume_keys(watch, expected)))
            }
        };
        let pace = Duration::from_secs_f64(PACED_WRITERS as f64 / rate);
        let write = |writer| {
            let caller = self.callers(side, Work::Entry)[writer as usize % CONNECTIONS].clone();
            tokio::spawn(write_paced(caller, first + writer, pace, length))
        };
        let writers: Vec<_> = (0..PACED_WRITERS).map(write).collect();
        let mut written = Vec::new();
        for writer in writers {
            written.extend(writer.await.expect("a writer that ends"));
        }
        until.send_replace(Some(written.len()));
        let received = tokio::time::timeout(PATIENCE, consuming).await.expect("all events").expect("a consumer");
        Followed::of(consumer, length, &written, &received)
    }
}

/// A write that was acknowledged.
struct Written {
    number: u64,
    sent: Instant,
    acknowledged: Instant,
}

impl Asker for Client {
    type Error = String;

    async fn ask(&mut self) -> Result<u64, String> {
        self.caller.ask(self.work, self.next.fetch_add(1, Ordering::Relaxed)).await.map(|()| 1)
    }
}

/// Keeps so many mutations under way on a stream.
async fn stream_again(
    namespace: Namespace,
    work: Work,
    next: Arc<AtomicU64>,
    in_flight: usize,
    window: Window,
) -> Asked<String> {
    let writer = namespace.writer(WriterOptions { in_flight_max: in_flight });
    let (mut told, mut under_way) = (Asked::default(), VecDeque::new());
    loop {
        while under_way.len() < in_flight {
            let operation = work.operation(next.fetch_add(1, Ordering::Relaxed));
            under_way.push_back((Instant::now(), writer.write(operation).await));
        }
        let Some((asked, written)) = under_way.pop_front() else { continue };
        let answer = written.await.answer;
        if !told.note(window, asked, answer.map(|_| 1).map_err(|error| error.to_string())) {
            return told;
        }
    }
}

/// Writes an entry, or a key of its own, in each interval.
async fn write_paced(caller: Caller, first: u64, pace: Duration, length: Duration) -> Vec<Written> {
    // Not all at the same time.
    tokio::time::sleep(pace.mul_f64((first % PACED_WRITERS) as f64 / PACED_WRITERS as f64)).await;
    let (mut interval, end) = (tokio::time::interval(pace), Instant::now() + length);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut number, mut written) = (first, Vec::new());
    loop {
        interval.tick().await;
        let sent = Instant::now();
        if sent >= end {
            return written;
        }
        let outcome = match &caller {
            Caller::Steeple(_) => caller.ask(Work::Entry, number).await,
            Caller::Etcd(client) => {
                let value = vec![b'v'; Work::Entry.bytes() - key(0).len()];
                client.put(format!("{PREFIX}{number}"), value).await.map_err(|status| status.to_string())
            }
        };
        outcome.expect("a write");
        written.push(Written { number, sent, acknowledged: Instant::now() });
        number += PACED_WRITERS;
    }
}

/// When each number arrived, once as many have as are expected.
type Received = HashMap<u64, Instant>;

async fn consume_events(mut tail: Tail, mut expected: watch::Receiver<Option<usize>>) -> Received {
    let mut received = Received::new();
    let prefix = entry_id(WRITER, 0);
    let prefix = prefix.trim_end_matches('0');
    while expected.borrow().is_none_or(|expected| received.len() < expected) {
        tokio::select! {
            message = tail.next() => {
                let at = Instant::now();
                let TailContent::Event(event) = message.expect("an event").content else { continue };
                let numbers = event.items.iter().filter_map(|item| item.key.strip_prefix(prefix));
                received.extend(numbers.filter_map(|text| Some((u64::from_str_radix(text, 16).ok()?, at))));
            }
            // Nobody expects anything any more when the sender is gone.
            changed = expected.changed() => if changed.is_err() { break },
        }
    }
    received
}

async fn consume_keys(mut keys: crate::etcd::Watch, mut expected: watch::Receiver<Option<usize>>) -> Received {
    let mut received = Received::new();
    while expected.borrow().is_none_or(|expected| received.len() < expected) {
        tokio::select! {
            next = keys.next() => {
                let (next, at) = (next.expect("keys"), Instant::now());
                assert!(!next.is_empty(), "the watch was ended");
                let numbers = next.iter().filter_map(|key| key.strip_prefix(PREFIX)?.parse().ok());
                received.extend(numbers.map(|number: u64| (number, at)));
            }
            // Nobody expects anything any more when the sender is gone.
            changed = expected.changed() => if changed.is_err() { break },
        }
    }
    received
}

impl Figures {
    fn of(turns: &[Turn]) -> Self {
        let middle = middle_turn(turns, |turn| turn.per_second);
        let failures: Vec<_> = turns.iter().flat_map(|turn| &turn.failures).collect();
        if let Some(first) = failures.first() {
            println!("  {} requests failed, the first with: {first}", failures.len());
        }
        Self {
            per_second: middle.per_second,
            p50_ms: milliseconds(middle.times.percentile(50)),
            p99_ms: milliseconds(middle.times.percentile(99)),
            failed: failures.len(),
            clients_cpu_us: middle.cpu_micros[0],
            servers_cpu_us: middle.cpu_micros[1],
            turns_per_second: turns.iter().map(|turn| turn.per_second).collect(),
        }
    }

    fn print(&self) {
        print!("{:>10.0}{:>9.2}{:>9.2}", self.per_second, self.p50_ms, self.p99_ms);
        print!("{:>9.0}{:>9.0} |", self.clients_cpu_us, self.servers_cpu_us);
    }
}

impl Comparison {
    fn print(&self, first: bool) {
        if first {
            println!("\nbeside etcd: {CONNECTIONS} connections; milliseconds; CPU in us for each mutation or read");
            println!("{:>54}{:^47}|{:^47}|", "", "three nodes", "three members of etcd");
            print!("{:<34}{:>10}{:>10}", "", "bytes", "in flight");
            for _ in 0..2 {
                print!("{:>10}{:>9}{:>9}{:>9}{:>9} |", "a second", "p50", "p99", "clients", "servers");
            }
            println!("   ratio");
        }
        print!("{:<34}{:>10}{:>10}", self.work, self.bytes, self.in_flight);
        self.steeple.print();
        self.etcd.print();
        println!("{:>8.2}", self.ratio);
    }
}

impl Followed {
    fn of(consumer: Consumer, length: Duration, written: &[Written], received: &Received) -> Self {
        let arrival = |write: &Written| *received.get(&write.number).expect("every write arrives");
        let mut acknowledged: Vec<f64> =
            written.iter().map(|write| signed_milliseconds(write.acknowledged, arrival(write))).collect();
        acknowledged.sort_by(f64::total_cmp);
        let rank = |percent: usize| (acknowledged.len() * percent).div_ceil(100).max(1) - 1;
        let sent = Spread::of(written.iter().map(|write| arrival(write) - write.sent).collect());
        Self {
            consumer: consumer.name(),
            per_second: written.len() as f64 / length.as_secs_f64(),
            events: written.len(),
            since_acknowledged_p50_ms: acknowledged.get(rank(50)).copied().unwrap_or_default(),
            since_acknowledged_p99_ms: acknowledged.get(rank(99)).copied().unwrap_or_default(),
            since_sent_p50_ms: milliseconds(sent.percentile(50)),
            since_sent_p99_ms: milliseconds(sent.percentile(99)),
        }
    }

    fn print(&self) {
        let acknowledged = format!("{:.2} / {:.2}", self.since_acknowledged_p50_ms, self.since_acknowledged_p99_ms);
        let sent = format!("{:.2} / {:.2}", self.since_sent_p50_ms, self.since_sent_p99_ms);
        println!("{:<20}{:>10.0}{acknowledged:>28}{sent:>28}", self.consumer, self.per_second);
    }
}

/// From one moment to another one, which may have been before.
fn signed_milliseconds(from: Instant, to: Instant) -> f64 {
    if to >= from { milliseconds(to - from) } else { -milliseconds(from - to) }
}
