//! All clients of the workload together, and what must hold whenever a node has started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use steeple_client::types::{RegistrationEntry, Selector};
use steeple_client::{Client, Namespace};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::checks::{check_streams, checked_digest, fetch_records};
use crate::consumer::Consumer;
use crate::records::Records;
use crate::worker::{Contest, Counts, Worker, lock};

/// The namespace with several workers in it.
const SHARED: &str = "shared";
const SHARED_WORKERS: u64 = 3;

/// Namespaces with one worker each.
const ALONE: [&str; 3] = ["alone-1", "alone-2", "alone-3"];

/// Tokens a round that several workers try to take.
const RACES: usize = 12;

/// SPIFFE ID of the entry that several workers update.
const COUNTED: &str = "spiffe://example.org/counted";

/// Workers and consumers, who outlive the nodes.
pub(crate) struct Deployment {
    workers: Vec<Worker>,
    consumers: Vec<Consumer>,
    contest: Arc<Contest>,
    races_made: usize,
}

impl Deployment {
    pub(crate) fn new(seed: u64) -> Self {
        let contest = Arc::new(Contest::default());
        let shared = (0..SHARED_WORKERS).map(|number| (number, SHARED, false));
        let alone = (SHARED_WORKERS..).zip(ALONE).map(|(number, name)| (number, name, true));
        let worker = |(number, name, alone)| Worker::new(number, name, alone, Arc::clone(&contest), seed);
        let workers = shared.chain(alone).map(worker).collect();
        let consumers = namespaces().map(|name| Consumer::new(name, seed)).collect();
        Self { workers, consumers, contest, races_made: 0 }
    }

    /// Makes sure that the namespaces exist.
    pub(crate) async fn open_namespaces(&self, client: &Client) {
        for name in namespaces() {
            client.admin().open_namespace(name).await.expect("a namespace");
        }
    }

    /// Makes what the workers share. Not disturbed.
    pub(crate) async fn prepare(&mut self, client: &Client) {
        let shared = client.namespace(SHARED);
        if lock(&self.contest.entry_id).is_empty() {
            let selector = Selector { r#type: "unix".into(), value: "uid:0".into() };
            let entry = RegistrationEntry {
                spiffe_id: COUNTED.into(),
                parent_id: "spiffe://example.org/spire/server".into(),
                selectors: vec![selector],
                ..Default::default()
            };
            let entry = shared.create_registration_entry(entry).await.expect("an entry");
            *lock(&self.contest.entry_id) = entry.entry_id;
        }
        let first = self.races_made;
        self.races_made += RACES;
        let tokens: Vec<String> = (first..self.races_made).map(|number| format!("race-{number}")).collect();
        for token in &tokens {
            shared.create_join_token(token.as_str(), 1_000_000).await.expect("a token");
        }
        for worker in &mut self.workers {
            worker.race_for(&tokens);
        }
    }

    /// Puts the node under load until `end` has ended it.
    pub(crate) async fn load(&mut self, client: &Client, end: impl Future<Output = ()>) {
        let (gone_sender, gone) = watch::channel(false);
        let mut workers = JoinSet::new();
        let mut consumers = JoinSet::new();
        for worker in self.workers.drain(..) {
            workers.spawn(worker.work(client.clone(), gone.clone()));
        }
        for consumer in self.consumers.drain(..) {
            consumers.spawn(consumer.follow(client.clone(), gone.clone()));
        }
        end.await;
        gone_sender.send_replace(true);
        self.workers = workers.join_all().await;
        self.consumers = consumers.join_all().await;
        self.workers.sort_by(|one, other| one.tag.cmp(&other.tag));
    }

    /// Checks a node that has just started, finds out what became of what was under way, and checks again.
    /// Returns the digest of the state.
    pub(crate) async fn verify(&mut self, client: &Client) -> Vec<u8> {
        checked_digest(client).await;
        let found = self.check_records(client).await;
        // Consumers first: the repetitions below are then news to them.
        self.catch_up(client).await;
        for consumer in &self.consumers {
            consumer.check(&found[&consumer.namespace]);
        }
        for worker in &mut self.workers {
            worker.resolve(client, &found[&worker.namespace]).await;
            worker.repeat_some(client).await;
        }
        let settled = self.check_records(client).await;
        self.catch_up(client).await;
        for consumer in &self.consumers {
            consumer.check(&settled[&consumer.namespace]);
            check_streams(&client.namespace(consumer.namespace.as_str()), consumer).await;
        }
        self.check_requests();
        if let Some(counted) = settled[SHARED].entries.get(COUNTED) {
            self.check_contest(&client.namespace(SHARED), counted).await;
        }
        checked_digest(client).await
    }

    /// Holds the records of all namespaces against what the workers know.
    async fn check_records(&self, client: &Client) -> BTreeMap<String, Records> {
        let mut found = BTreeMap::new();
        for name in namespaces() {
            let workers: Vec<&Worker> = self.workers.iter().filter(|worker| worker.namespace == name).collect();
            let known = workers.iter().flat_map(|worker| worker.records.tokens.keys().chain(&worker.gone_tokens));
            let under_way = workers.iter().filter_map(|worker| worker.token_under_way());
            let records = fetch_records(&client.namespace(name), known.chain(under_way)).await;
            let mut owned = usize::from(records.entries.contains_key(COUNTED));
            for worker in workers {
                worker.check(&records);
                owned += records.part(&worker.tag).len();
            }
            assert_eq!(owned, records.len(), "{name}: records that nobody made");
            found.insert(name.to_owned(), records);
        }
        found
    }

    async fn catch_up(&mut self, client: &Client) {
        let revision = client.admin().status().await.expect("a status").revision;
        let mut behind = JoinSet::new();
        for mut consumer in self.consumers.drain(..) {
            let client = client.clone();
            behind.spawn(async move {
                consumer.catch_up(&client, revision).await;
                consumer
            });
        }
        self.consumers = behind.join_all().await;
    }

    /// Each acknowledged request is an event, and no refused one is.
    fn check_requests(&mut self) {
        for worker in &mut self.workers {
            let consumer = self.consumers.iter().find(|consumer| consumer.namespace == worker.namespace);
            let consumer = consumer.expect("a consumer for each namespace");
            for request in worker.announced.drain(..) {
                assert!(consumer.saw_request(request), "{}: no event of acknowledged request {request}", worker.tag);
            }
            for request in &worker.without_effect {
                assert!(!consumer.saw_request(*request), "{}: an event of refused request {request}", worker.tag);
            }
        }
    }

    /// Nothing that workers do to the same record is lost, and nothing happens twice.
    async fn check_contest(&self, shared: &Namespace, counted: &RegistrationEntry) {
        let counted = counted.revision_number;
        let mut increments = lock(&self.contest.increments).clone();
        increments.sort_unstable();
        let expected: Vec<i64> = (1..=counted).collect();
        assert_eq!(increments, expected, "acknowledged increments of an entry at revision number {counted}");
        let taken = lock(&self.contest.taken).clone();
        for (token, times) in taken {
            assert_eq!(times, 1, "how often {token} was taken");
            let left = shared.fetch_join_token(token.as_str()).await.expect("an answer about a token");
            assert_eq!(left, None, "{token} was taken");
        }
        lock(&self.contest.taken).clear();
    }

    /// What all workers went through.
    pub(crate) fn counts(&self) -> Counts {
        self.workers.iter().fold(Counts::default(), |sum, worker| sum.plus(worker.counts))
    }

    /// Items that consumers were given again after they had resumed from a cursor that was stored earlier.
    pub(crate) fn delivered_again(&self) -> u64 {
        self.consumers.iter().map(|consumer| consumer.delivered_again).sum()
    }

    /// Items that were delivered for the first time.
    pub(crate) fn delivered(&self) -> u64 {
        let of = |consumer: &Consumer| consumer.last_sequence("registrations") + consumer.last_sequence("nodes");
        self.consumers.iter().map(of).sum()
    }
}

fn namespaces() -> impl Iterator<Item = &'static str> {
    std::iter::once(SHARED).chain(ALONE)
}

/// Waits for a moment that nothing marks, as a crash comes.
pub(crate) async fn some_moment(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}
