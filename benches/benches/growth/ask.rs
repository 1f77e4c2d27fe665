//! Questions again and again, and how long their answers take.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use steeple_benches::deployment::{Deployment, list_forms};
use steeple_benches::messages;
use steeple_benches::spread::{Spread, milliseconds};
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
        let form = |name| {
            let forms = list_forms(deployment, number % deployment.agents());
            let (_, filter) = forms.into_iter().find(|form| form.0 == name).expect("a form of list");
            messages::filter(filter)
        };
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

/// So many clients ask over these connections for so long. `next` numbers what is asked about.
pub(crate) async fn ask_for(
    connections: &[Namespace],
    deployment: Deployment,
    work: Work,
    clients: usize,
    length: Duration,
    next: &Arc<AtomicU64>,
) -> Result<Latency, Error> {
    let begin = Instant::now() + WARM_UP;
    let client = |number: usize| {
        let (namespace, next) = (connections[number % connections.len()].clone(), Arc::clone(next));
        tokio::spawn(ask_again(namespace, deployment, work, next, begin, begin + length))
    };
    let tasks: Vec<_> = (0..clients).map(client).collect();
    let (mut times, mut items, mut answers) = (Vec::new(), 0, 0);
    for task in tasks {
        let asked = task.await.expect("a client that ends")?;
        times.extend(asked.times);
        (items, answers) = (items + asked.items, answers + asked.answers);
    }
    let times = Spread::of(times);
    Ok(Latency {
        work: work.name(),
        clients,
        per_second: times.count() as f64 / length.as_secs_f64(),
        p50_ms: milliseconds(times.percentile(50)),
        p99_ms: milliseconds(times.percentile(99)),
        items: items as f64 / times.count().max(1) as f64,
        answers,
        written_bytes_each: None,
    })
}

/// What one client was told.
#[derive(Default)]
struct Asked {
    times: Vec<Duration>,
    items: u64,
    answers: u64,
}

async fn ask_again(
    namespace: Namespace,
    deployment: Deployment,
    work: Work,
    next: Arc<AtomicU64>,
    begin: Instant,
    end: Instant,
) -> Result<Asked, Error> {
    let mut client = Asked::default();
    loop {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let found = work.ask(&namespace, &deployment, turn).await?;
        let answered = Instant::now();
        client.answers += 1;
        if answered >= end {
            return Ok(client);
        }
        if answered >= begin {
            client.times.push(answered - asked);
            client.items += found;
        }
    }
}
