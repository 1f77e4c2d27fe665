//! Questions again and again, and how long their answers take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use steeple_benches::asking::{Asker, Window};
use steeple_benches::deployment::{Deployment, list_form};
use steeple_benches::spread::{Spread, milliseconds};
use steeple_benches::{asking, messages};
use steeple_client::{Error, Namespace};
use tokio_stream::StreamExt;

/// So much passes before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Fetch,
    ListByParent,
    ListBySelectors,
    Create,
}

/// In this order: creations last, because they add to the table.
pub(crate) const WORK: [Work; 4] = [Work::Fetch, Work::ListByParent, Work::ListBySelectors, Work::Create];

/// How long answers took.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) work: &'static str,
    pub(crate) clients: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Entries in an answer.
    pub(crate) items: f64,
    /// Answers in all, those before anything was timed included.
    pub(crate) answers: u64,
    /// What was written to the disk for each, of creations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) written_bytes_each: Option<f64>,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::ListByParent => "list by parent",
            Self::ListBySelectors => "list by selectors",
            Self::Create => "create",
        }
    }

    /// Asks once, about something else for each `turn`; how many entries came back.
    async fn ask(self, namespace: &Namespace, deployment: &Deployment, turn: u64) -> Result<u64, Error> {
        let number = deployment.shuffled(turn);
        let form = |name| messages::filter(list_form(deployment, number % deployment.agents(), name));
        let filter = match self {
            Self::Fetch => {
                let found = namespace.fetch_registration_entry(deployment.entry(number).entry_id).await?;
                return Ok(u64::from(found.is_some()));
            }
            Self::Create => {
                let entry = messages::entry(deployment.entry(deployment.entries() + turn));
                return namespace.create_registration_entry(entry).await.map(|_| 1);
            }
            Self::ListByParent => form("parent"),
            Self::ListBySelectors => form("selectors_exact"),
        };
        let mut entries = namespace.stream_registration_entries(filter).await?;
        let mut count = 0;
        while let Some(entry) = entries.next().await {
            entry?;
            count += 1;
        }
        Ok(count)
    }
}

/// One client, and what it asks.
struct Client {
    namespace: Namespace,
    deployment: Deployment,
    work: Work,
    next: Arc<AtomicU64>,
}

impl Asker for Client {
    type Error = Error;

    async fn ask(&mut self) -> Result<u64, Error> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.work.ask(&self.namespace, &self.deployment, turn).await
    }
}

/// So many clients ask over these connections for so long. `next` numbers what is asked about.
pub(crate) async fn ask_for(
    connections: &[Namespace],
    deployment: Deployment,
    work: Work,
    clients: usize,
    length: Duration,
    next: &Arc<AtomicU64>,
) -> Result<Latency, Error> {
    let window = Window::after(WARM_UP, length);
    let client = |number: usize| {
        let (namespace, next) = (connections[number % connections.len()].clone(), Arc::clone(next));
        Client { namespace, deployment, work, next }
    };
    let told = asking::all_of(asking::start((0..clients).map(client), window)).await;
    if let Some(error) = told.failures.into_iter().next() {
        return Err(error);
    }
    let times = Spread::of(told.times);
    Ok(Latency {
        work: work.name(),
        clients,
        per_second: times.count() as f64 / length.as_secs_f64(),
        p50_ms: milliseconds(times.percentile(50)),
        p99_ms: milliseconds(times.percentile(99)),
        items: told.items as f64 / times.count().max(1) as f64,
        answers: told.answers,
        written_bytes_each: None,
    })
}
