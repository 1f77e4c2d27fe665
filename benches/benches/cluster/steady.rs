//! Clients that write and read at a steady pace while things go wrong, and remember what they were told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steeple_client::types::{RegistrationEntry, Selector};
use steeple_client::{Client, Namespace};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use steeple_benches::processes::{Group, NAMESPACE};

/// Clients that create entries, and clients that read from any node.
pub(crate) const WRITERS: usize = 8;
pub(crate) const READERS: usize = 2;

/// Each client begins its next request so long after the last one, or once that is answered.
pub(crate) const PACE: Duration = Duration::from_millis(10);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// How long a fault may keep any client from going on before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A write that was acknowledged. Times are since the load began.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    at: Duration,
    began: Duration,
    writer: usize,
    number: u64,
}

/// What all clients were told.
#[derive(Debug, Default)]
struct Told {
    acknowledged: Vec<Acknowledged>,
    /// Requests that failed although the client library repeats what can be repeated.
    failures: Vec<String>,
    /// When reads were answered, and how long each took.
    reads: Vec<(Duration, Duration)>,
}

/// Clients at work.
pub(crate) struct Steady {
    began: Instant,
    told: Arc<Mutex<Told>>,
    stop: watch::Sender<bool>,
    clients: Vec<JoinHandle<()>>,
}

/// What a stretch of time looked like to the clients.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    /// When writes were acknowledged to anybody, ascending.
    pub(crate) writes: Vec<Duration>,
    /// The same for each writer.
    pub(crate) by_writer: Vec<Vec<Duration>>,
    /// The longest that any request took that was answered then.
    pub(crate) slowest_write: Duration,
    pub(crate) slowest_read: Duration,
}

impl Steady {
    /// Starts the clients, each with connections of its own.
    pub(crate) fn start(group: &Group) -> Self {
        let (began, told) = (Instant::now(), Arc::<Mutex<Told>>::default());
        let (stop, stopping) = watch::channel(false);
        let writer = |writer| tokio::spawn(write(group.client(), writer, began, Arc::clone(&told), stopping.clone()));
        let reader = |_| tokio::spawn(read(group.client(), began, Arc::clone(&told), stopping.clone()));
        let clients = (0..WRITERS).map(writer).chain((0..READERS).map(reader)).collect();
        Self { began, told, stop, clients }
    }

    /// Now, as the clients count time.
    pub(crate) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }

    /// Requests that failed so far.
    pub(crate) fn failures(&self) -> usize {
        self.told().failures.len()
    }

    /// Waits until every writer has had so many writes acknowledged that it began after `moment`.
    pub(crate) async fn all_went_on(&self, moment: Duration, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counts = self.begun_after(moment).map(|times| times.len());
            if counts.iter().all(|written| *written >= count) {
                return;
            }
            assert!(Instant::now() < deadline, "some client gets no answer: {counts:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// When those writes were acknowledged that each writer began after `moment`.
    pub(crate) fn begun_after(&self, moment: Duration) -> [Vec<Duration>; WRITERS] {
        let mut times = [const { Vec::new() }; WRITERS];
        for write in self.told().acknowledged.iter().filter(|write| write.began >= moment) {
            times[write.writer].push(write.at);
        }
        times
    }

    /// What happened from `moment` until now.
    pub(crate) fn since(&self, moment: Duration) -> Stretch {
        let told = self.told();
        let mut writes: Vec<_> = told.acknowledged.iter().filter(|write| write.at >= moment).collect();
        writes.sort_unstable_by_key(|write| write.at);
        let of = |writer| writes.iter().filter(|write| write.writer == writer).map(|write| write.at).collect();
        Stretch {
            writes: writes.iter().map(|write| write.at).collect(),
            by_writer: (0..WRITERS).map(of).collect(),
            slowest_write: writes.iter().map(|write| write.at - write.began).max().unwrap_or_default(),
            slowest_read: told
                .reads
                .iter()
                .filter(|read| read.0 >= moment)
                .map(|read| read.1)
                .max()
                .unwrap_or_default(),
        }
    }

    /// Ends the load; the ids of all entries that were acknowledged, and what failed.
    pub(crate) async fn end(self) -> (Vec<String>, Vec<String>) {
        self.stop.send_replace(true);
        for client in self.clients {
            client.await.expect("a client that ends");
        }
        let told = std::mem::take(&mut *self.told.lock().expect("no panic"));
        let ids = told.acknowledged.iter().map(|write| entry_id(write.writer as u64, write.number)).collect();
        (ids, told.failures)
    }
}

async fn write(client: Client, writer: usize, began: Instant, told: Arc<Mutex<Told>>, stop: watch::Receiver<bool>) {
    let namespace = client.namespace(NAMESPACE);
    // Not all at the same time, so that there is nearly always one about to be answered.
    tokio::time::sleep(PACE.mul_f64(writer as f64 / WRITERS as f64)).await;
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0;
    while !*stop.borrow() {
        pace.tick().await;
        let sent = began.elapsed();
        let created = namespace.create_registration_entry(entry(writer as u64, number)).await;
        let at = began.elapsed();
        let mut told = told.lock().expect("no panic");
        match created {
            Ok(_) => told.acknowledged.push(Acknowledged { at, began: sent, writer, number }),
            Err(error) => told.failures.push(format!("write: {error}")),
        }
        number += 1;
    }
}

async fn read(client: Client, began: Instant, told: Arc<Mutex<Told>>, stop: watch::Receiver<bool>) {
    let namespace: Namespace = client.namespace(NAMESPACE).stale();
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow() {
        pace.tick().await;
        let sent = began.elapsed();
        let found = namespace.fetch_registration_entry(entry_id(0, 0)).await;
        let at = began.elapsed();
        let mut told = told.lock().expect("no panic");
        match found {
            Ok(_) => told.reads.push((at, at - sent)),
            Err(error) => told.failures.push(format!("read: {error}")),
        }
    }
}

/// Id of the entry that a writer creates under a number.
pub(crate) fn entry_id(writer: u64, number: u64) -> String {
    format!("{writer:08x}-0000-4000-8000-{number:012x}")
}

/// The entry that a writer creates under a number: a Kubernetes workload with three selectors.
pub(crate) fn entry(writer: u64, number: u64) -> RegistrationEntry {
    let selector = |value: String| Selector { r#type: "k8s".into(), value };
    RegistrationEntry {
        entry_id: entry_id(writer, number),
        parent_id: format!("spiffe://prod.example/spire/agent/k8s_psat/eu-west/{:012x}", number % 200),
        spiffe_id: format!("spiffe://prod.example/ns/billing/sa/api-{}", number % 1_000),
        selectors: vec![
            selector("ns:billing".into()),
            selector(format!("sa:api-{}", number % 1_000)),
            selector(format!("pod-label:instance:{writer}-{number}")),
        ],
        x509_svid_ttl: 3_600,
        ..RegistrationEntry::default()
    }
}
