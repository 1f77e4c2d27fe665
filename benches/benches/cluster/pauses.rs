//! How long writes pause when nodes are killed and leadership is moved, and whether anything acknowledged is missing after it.

use std::collections::HashSet;
use std::time::Duration;

use rand::RngExt;
use serde::Serialize;
use steeple_benches::spread::{Spread, longest_silence, milliseconds};
use steeple_client::types::RegistrationEntryFilter;
use tokio_stream::StreamExt;

use crate::Arguments;
use crate::steady::{PACE, READERS, Steady, WRITERS};
use steeple_benches::processes::{Group, NAMESPACE};

/// Writes of each client that a fault waits for, so that it meets a group at work.
const WRITES_BETWEEN: usize = 20;

/// What came of one fault.
struct Fault {
    /// The longest time without any acknowledged write.
    silence: Duration,
    /// From the fault until every client has had a write acknowledged that it began after the fault.
    resumed: Duration,
    /// The longest time that any one client had no write acknowledged.
    worst_client: Duration,
    slowest_write: Duration,
    slowest_read: Duration,
}

/// Faults of one kind.
#[derive(Serialize)]
struct Faults {
    kind: &'static str,
    target_ms: Option<f64>,
    over_target: usize,
    failed_requests: usize,
    silence: Spread,
    resumed: Spread,
    worst_client: Spread,
    slowest_write: Spread,
    slowest_read: Spread,
}

/// All that was measured.
#[derive(Serialize)]
pub(crate) struct Pauses {
    faults: Vec<Faults>,
    acknowledged: usize,
    missing: usize,
    failures: Vec<String>,
    digests_equal: bool,
}

/// Runs all faults on a group of three.
pub(crate) async fn run(arguments: &Arguments) -> Pauses {
    let mut group = Group::start(3, arguments.program()).await;
    let load = Steady::start(&group);
    load.all_went_on(load.now(), WRITES_BETWEEN).await;
    let faults = vec![
        leaders_killed(&mut group, &load, arguments.kills).await,
        leaders_moved(&group, &load, arguments.transfers).await,
        followers_killed(&mut group, &load, arguments.follower_kills).await,
    ];
    let (ids, failures) = load.end().await;
    let missing = missing(&group, &ids).await;
    let digests = group.digests().await;
    let digests_equal = digests.iter().all(|digest| digest.digest == digests[0].digest);
    Pauses { faults, acknowledged: ids.len(), missing, failures, digests_equal }
}

async fn leaders_killed(group: &mut Group, load: &Steady, count: usize) -> Faults {
    let (failures, mut faults) = (load.failures(), Vec::new());
    for _ in 0..count {
        faults.push(kill(group, load, true).await);
    }
    Faults::of("SIGKILL of the leader", Some(Duration::from_secs(2)), load.failures() - failures, &faults)
}

async fn followers_killed(group: &mut Group, load: &Steady, count: usize) -> Faults {
    let (failures, mut faults) = (load.failures(), Vec::new());
    for _ in 0..count {
        faults.push(kill(group, load, false).await);
    }
    Faults::of("SIGKILL of a follower", None, load.failures() - failures, &faults)
}

/// Kills a node, waits until all clients go on, starts it again and waits until it has caught up.
async fn kill(group: &mut Group, load: &Steady, leader: bool) -> Fault {
    let victim = if leader { group.leader().await } else { group.follower().await };
    out_of_step().await;
    let moment = load.now();
    group.kill(victim);
    load.all_went_on(moment, WRITES_BETWEEN).await;
    let fault = Fault::at(moment, load);
    group.launch(victim);
    group.wait_until_caught_up(victim).await;
    load.all_went_on(load.now(), WRITES_BETWEEN).await;
    fault
}

async fn leaders_moved(group: &Group, load: &Steady, count: usize) -> Faults {
    let (failures, mut faults) = (load.failures(), Vec::new());
    let admin = group.client().admin();
    for _ in 0..count {
        let successor = group.follower().await;
        out_of_step().await;
        let moment = load.now();
        admin.transfer_leader(successor as u64).await.expect("a transfer");
        load.all_went_on(moment, WRITES_BETWEEN).await;
        faults.push(Fault::at(moment, load));
        assert_eq!(group.leader().await, successor);
    }
    Faults::of("transfer of leadership", Some(Duration::from_millis(300)), load.failures() - failures, &faults)
}

/// Waits for a time that has nothing to do with ticks and heartbeats.
async fn out_of_step() {
    let pause = Duration::from_millis(100).mul_f64(rand::rng().random());
    tokio::time::sleep(pause).await;
}

impl Fault {
    /// What clients saw of a fault that happened at `moment`, and which all of them have overcome.
    fn at(moment: Duration, load: &Steady) -> Self {
        let stretch = load.since(moment.saturating_sub(20 * PACE));
        let silence = |moments: &[Duration]| longest_silence(moments, moment).expect("writes before and after");
        let first = |times: Vec<Duration>| times.into_iter().min().unwrap_or_default();
        let all_resumed = load.begun_after(moment).map(first).into_iter().max().unwrap_or_default();
        Self {
            silence: silence(&stretch.writes).0,
            resumed: all_resumed - moment,
            worst_client: stretch.by_writer.iter().map(|writes| silence(writes).0).max().unwrap_or_default(),
            slowest_write: stretch.slowest_write,
            slowest_read: stretch.slowest_read,
        }
    }
}

impl Faults {
    fn of(kind: &'static str, target: Option<Duration>, failed_requests: usize, faults: &[Fault]) -> Self {
        let spread = |time: fn(&Fault) -> Duration| Spread::of(faults.iter().map(time).collect());
        let is_over = |fault: &&Fault| target.is_some_and(|target| fault.silence > target);
        Self {
            kind,
            target_ms: target.map(milliseconds),
            over_target: faults.iter().filter(is_over).count(),
            failed_requests,
            silence: spread(|fault| fault.silence),
            resumed: spread(|fault| fault.resumed),
            worst_client: spread(|fault| fault.worst_client),
            slowest_write: spread(|fault| fault.slowest_write),
            slowest_read: spread(|fault| fault.slowest_read),
        }
    }

    fn print(&self) {
        println!("\n{}, {} times ({} requests failed)", self.kind, self.silence.count(), self.failed_requests);
        println!("  {:<50}{:>9}{:>9}{:>9}{:>9}", "milliseconds", "min", "median", "p90", "max");
        println!("  {:<50}{}", "no write acknowledged to anybody", self.silence);
        println!("  {:<50}{}", "until each client had a new write acknowledged", self.resumed);
        println!("  {:<50}{}", "no write acknowledged to the worst client", self.worst_client);
        println!("  {:<50}{}", "slowest write", self.slowest_write);
        println!("  {:<50}{}", "slowest read of any node, stale", self.slowest_read);
        if let Some(target) = self.target_ms {
            println!("  over the target of {target} ms: {}", self.over_target);
        }
    }
}

impl Pauses {
    pub(crate) fn print(&self) {
        println!("\npauses: {WRITERS} clients write and {READERS} read, each once in {} ms", PACE.as_millis());
        self.faults.iter().for_each(Faults::print);
        println!(
            "\n{} writes acknowledged, {} of them missing on some node; digests equal: {}",
            self.acknowledged, self.missing, self.digests_equal
        );
        self.failures.iter().for_each(|failure| println!("failed: {failure}"));
    }

    /// Whether nothing was lost.
    pub(crate) fn holds(&self) -> bool {
        self.missing == 0 && self.digests_equal && self.acknowledged > 0
    }
}

/// How many of these entries are not there, over all nodes.
async fn missing(group: &Group, ids: &[String]) -> usize {
    let mut missing = 0;
    for number in group.numbers() {
        let namespace = group.client_of(number).namespace(NAMESPACE);
        let entries = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await;
        let entries =
            entries.expect("a list that begins").collect::<Result<Vec<_>, _>>().await.expect("a list that ends");
        let there: HashSet<String> = entries.into_iter().map(|entry| entry.entry_id).collect();
        missing += ids.iter().filter(|id| !there.contains(*id)).count();
    }
    missing
}
