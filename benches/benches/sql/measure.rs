//! One side after the other, and again: how many answers, how long each took, and what they cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use steeple_benches::cpu_time::process_cpu_time;
use steeple_benches::spread::{Spread, middle_turn, milliseconds};

use crate::bare::Bare;
use crate::stores::{Side, Store};
use crate::workload::{Request, Work, Workload};

/// What came of one turn of one side.
struct Turn {
    per_second: f64,
    times: Spread,
    cpu_micros: f64,
    /// Entries, or events, in an answer.
    items: f64,
    failures: Vec<String>,
}

/// Of the turn of one side that is in the middle by throughput.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) side: Side,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of clients and servers together, for each answer.
    pub(crate) cpu_us: f64,
    pub(crate) items: f64,
    /// In all turns.
    pub(crate) failed: usize,
    /// The turns, in order.
    pub(crate) turns_per_second: Vec<f64>,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) entries: u64,
    pub(crate) work: &'static str,
    pub(crate) clients: usize,
    pub(crate) sides: Vec<Figures>,
    /// Steeple's throughput by that of each side that is not Steeple, in their order.
    pub(crate) ratios: Vec<f64>,
    /// The same of Steeple within this process.
    pub(crate) embedded_ratios: Vec<f64>,
    /// In what the sides differ besides being who they are, so that the ratios are not of like by like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unlike: Option<&'static str>,
}

/// Creations of one client beside bare writes of as many bytes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    entries: u64,
    bytes: usize,
    bare_per_second: f64,
    bare_p50_ms: f64,
    bare_p99_ms: f64,
    turns_per_second: Vec<f64>,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) turns: usize,
    pub(crate) length: Duration,
    pub(crate) clients: usize,
}

/// Measures one kind of question at all sides, in turns.
pub(crate) async fn compare(
    stores: &[Arc<Store>],
    workload: &Arc<Workload>,
    work: Work,
    extent: &Extent,
    next: &[AtomicU64],
) -> Result<Comparison, String> {
    let mut turns: Vec<Vec<Turn>> = stores.iter().map(|_| Vec::new()).collect();
    let requests = workload.requests(work);
    for turn in 0..extent.turns {
        for ((store, turns), next) in stores.iter().zip(&mut turns).zip(next) {
            store.settle().await?;
            if turn == 0 && work != Work::Prune {
                // What a side makes ready once, such as connections and statements.
                take_turn(store, workload, work, Duration::ZERO, extent.clients, &requests, next).await;
            }
            turns.push(match work {
                Work::Prune => prune(store, workload, turn as u64).await?,
                _ => take_turn(store, workload, work, extent.length, extent.clients, &requests, next).await,
            });
        }
    }
    let sides: Vec<_> = stores.iter().zip(&turns).map(|(store, turns)| Figures::of(store.side, turns)).collect();
    let (ratios, embedded_ratios) = (ratios(&sides, Side::Steeple), ratios(&sides, Side::Embedded));
    let (entries, clients) = (workload.size(), extent.clients);
    Ok(Comparison { entries, work: work.name(), clients, sides, ratios, embedded_ratios, unlike: work.unlike() })
}

/// The throughput of one of our sides by that of each that is none of ours; nothing where it is not compared.
fn ratios(sides: &[Figures], own: Side) -> Vec<f64> {
    let Some(own) = sides.iter().find(|figures| figures.side == own) else { return Vec::new() };
    let others = sides.iter().filter(|figures| !figures.side.is_own());
    others.map(|figures| own.per_second / figures.per_second).collect()
}

/// Every client asks until the time is over, at least once.
async fn take_turn(
    store: &Arc<Store>,
    workload: &Arc<Workload>,
    work: Work,
    length: Duration,
    clients: usize,
    requests: &Arc<[Request]>,
    next: &AtomicU64,
) -> Turn {
    let before = (process_cpu_time(), store.servers_cpu());
    let begin = Instant::now();
    // Each client has numbers of its own for what it creates.
    let numbers = next.fetch_add(NUMBERS_OF_A_TURN * clients as u64, Ordering::Relaxed);
    let ask = |client: usize| {
        let (store, workload, requests) = (Arc::clone(store), Arc::clone(workload), Arc::clone(requests));
        let first = numbers + NUMBERS_OF_A_TURN * client as u64;
        tokio::spawn(async move { ask_again(&store, &workload, work, client, first, begin + length, &requests).await })
    };
    let tasks: Vec<_> = (0..clients).map(ask).collect();
    let (mut times, mut items, mut failures) = (Vec::new(), 0, Vec::new());
    for task in tasks {
        let asked = task.await.expect("a client that ends");
        times.extend(asked.times);
        items += asked.items;
        failures.extend(asked.failures);
    }
    let elapsed = begin.elapsed();
    let cpu = (process_cpu_time() - before.0) + store.servers_cpu().saturating_sub(before.1);
    Turn::of(times, elapsed, cpu, items, failures)
}

/// Numbers of new entries that a client may use in one turn.
const NUMBERS_OF_A_TURN: u64 = 1_000_000;

/// What one client was told.
#[derive(Default)]
struct Asked {
    times: Vec<Duration>,
    items: u64,
    failures: Vec<String>,
}

/// Other than [`steeple_benches::asking`], every answer counts: some take longer than a turn, which ends with the last of them.
async fn ask_again(
    store: &Store,
    workload: &Workload,
    work: Work,
    client: usize,
    first: u64,
    end: Instant,
    requests: &[Request],
) -> Asked {
    let mut asked = Asked::default();
    for number in first.. {
        let created;
        let request = if work == Work::Create {
            created = Request::Create(Box::new(workload.entry(workload.size() + number)));
            &created
        } else {
            // Clients begin at different places.
            &requests[(number as usize).wrapping_add(client * 37) % requests.len()]
        };
        let started = Instant::now();
        let answer = store.ask(client, request).await;
        let answered = Instant::now();
        match answer {
            Ok(answer) => {
                asked.times.push(answered - started);
                asked.items += answer.count();
            }
            Err(error) => asked.failures.push(error),
        }
        if answered >= end {
            break;
        }
    }
    asked
}

/// Makes as many events as there are entries, and prunes all of them; what was there before goes first. The time is that until
/// the answer, the CPU time that until all of it is gone. Looking whether it is gone is no part of what a prune costs, except
/// where all that works is this process.
async fn prune(store: &Store, workload: &Workload, turn: u64) -> Result<Turn, String> {
    store.ask(0, &Request::Prune).await?;
    store.add_events(workload, turn).await?;
    store.come_to_rest().await?;
    let before = (process_cpu_time(), store.servers_cpu());
    let started = Instant::now();
    let pruned = store.ask(0, &Request::Prune).await?.count();
    let (elapsed, mut own) = (started.elapsed(), process_cpu_time() - before.0);
    store.come_to_rest().await?;
    if store.side == Side::Embedded {
        own = process_cpu_time() - before.0;
    }
    let cpu = own + store.servers_cpu().saturating_sub(before.1);
    if pruned != workload.size() {
        return Err(format!("{} pruned {pruned} events of {}", store.side.name(), workload.size()));
    }
    Ok(Turn::of(vec![elapsed], elapsed, cpu, pruned, Vec::new()))
}

/// Turns of bare writes of the bytes of a new entry's event.
pub(crate) fn limit(bare: &mut Bare, workload: &Workload, turns: usize, length: Duration) -> std::io::Result<Limit> {
    let mut spreads = Vec::new();
    for _ in 0..turns {
        spreads.push(Spread::of(bare.write_for(length)?));
    }
    let per_second = |spread: &Spread| spread.count() as f64 / length.as_secs_f64();
    let middle = middle_turn(&spreads, per_second);
    Ok(Limit {
        entries: workload.size(),
        bytes: workload.event_bytes(),
        bare_per_second: per_second(middle),
        bare_p50_ms: milliseconds(middle.percentile(50)),
        bare_p99_ms: milliseconds(middle.percentile(99)),
        turns_per_second: spreads.iter().map(per_second).collect(),
    })
}

impl Turn {
    fn of(times: Vec<Duration>, elapsed: Duration, cpu: Duration, items: u64, failures: Vec<String>) -> Self {
        let done = times.len().max(1) as f64;
        Self {
            per_second: done / elapsed.as_secs_f64(),
            times: Spread::of(times),
            cpu_micros: cpu.as_secs_f64() * 1e6 / done,
            items: items as f64 / done,
            failures,
        }
    }
}

impl Figures {
    fn of(side: Side, turns: &[Turn]) -> Self {
        let middle = middle_turn(turns, |turn| turn.per_second);
        let failures: Vec<_> = turns.iter().flat_map(|turn| &turn.failures).collect();
        if let Some(first) = failures.first() {
            println!("  {}: {} requests failed, the first with: {first}", side.name(), failures.len());
        }
        Self {
            side,
            per_second: middle.per_second,
            p50_ms: milliseconds(middle.times.percentile(50)),
            p99_ms: milliseconds(middle.times.percentile(99)),
            cpu_us: middle.cpu_micros,
            items: middle.items,
            failed: failures.len(),
            turns_per_second: turns.iter().map(|turn| turn.per_second).collect(),
        }
    }
}

impl Comparison {
    /// The line of the table, below a heading if it is the first.
    pub(crate) fn print(&self, first: bool) {
        if first {
            print!("\n{:<28}{:>9}{:>9}", "", "entries", "clients");
            self.sides.iter().for_each(|figures| print!("{:>44} |", figures.side.name()));
            println!("   ratios");
            print!("{:<46}", "");
            for _ in &self.sides {
                print!("{:>9}{:>11}{:>9}{:>9}{:>6} |", "a second", "p50 ms", "p99 ms", "CPU us", "items");
            }
            println!();
        }
        print!("{:<28}{:>9}{:>9}", self.work, self.entries, self.clients);
        for figures in &self.sides {
            print!("{:>9.*}", if figures.per_second < 100.0 { 2 } else { 0 }, figures.per_second);
            print!("{:>11.3}{:>9.2}{:>9.0}{:>6.0} |", figures.p50_ms, figures.p99_ms, figures.cpu_us, figures.items);
        }
        self.ratios.iter().chain(&self.embedded_ratios).for_each(|ratio| print!("{ratio:>9.1}"));
        println!("{}", self.unlike.map(|unlike| format!("  ({unlike})")).unwrap_or_default());
    }
}

impl Limit {
    /// The line below that of one client's creations.
    pub(crate) fn print(&self) {
        let (per_second, p50, p99) = (self.bare_per_second, self.bare_p50_ms, self.bare_p99_ms);
        println!(
            "  bare overwrite and sync of {} bytes: {per_second:.0} a second, p50 {p50:.3}, p99 {p99:.2} ms",
            self.bytes
        );
    }
}
