//! One client of the workload: what it does next, what it was told, and what must therefore hold.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_client::types::{AttestedNode, Bundle, Certificate, DeleteMode, RegistrationEntry, Selector};
use steeple_client::{Client, Error, Namespace, RequestId};
use steeple_wire::status::ErrorKind;
use tokio::sync::watch;

use crate::operation::{Answer, Attempt, Operation};
use crate::records::Records;

/// Records of a kind that a worker keeps at the most, about.
const ENTRIES_MAX: usize = 40;
const NODES_MAX: usize = 20;
const TOKENS_MAX: usize = 20;
const BUNDLES_MAX: usize = 4;

/// How long an answer that is on its way is waited for once the node is gone.
const LAST_ANSWERS: Duration = Duration::from_millis(20);

/// Settled mutations that may be repeated; the node remembers requests for longer.
const REPEATABLE_MAX: usize = 32;
const REPEATABLE_AGE_MAX: Duration = Duration::from_secs(8);

/// Age at which workers give up items of the streams.
const ITEMS_AGE_MAX: Duration = Duration::from_secs(25);

/// Tokens that are gone and looked for all the same.
const GONE_TOKENS_MAX: usize = 50;

/// What workers of one namespace do to the same records, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Contest {
    /// The entry that they increment.
    pub(crate) entry_id: Mutex<String>,
    /// Revision numbers that its increments were answered with.
    pub(crate) increments: Mutex<Vec<i64>>,
    /// How often each token was taken, for those whose taking was tried and settled.
    pub(crate) taken: Mutex<BTreeMap<String, u32>>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no worker panicked")
}

/// What a worker went through.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) not_done: u64,
    pub(crate) unknown: u64,
    pub(crate) unknown_had_happened: u64,
    pub(crate) repeated: u64,
}

impl Counts {
    /// Both together.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            refused: self.refused + other.refused,
            not_done: self.not_done + other.not_done,
            unknown: self.unknown + other.unknown,
            unknown_had_happened: self.unknown_had_happened + other.unknown_had_happened,
            repeated: self.repeated + other.repeated,
        }
    }
}

struct Settled {
    at: Instant,
    request: RequestId,
    operation: Operation,
    answer: Answer,
}

/// One client, which waits for each answer before it goes on. No other writes records with its tag in the key.
pub(crate) struct Worker {
    pub(crate) tag: String,
    pub(crate) namespace: String,
    /// Whether no other worker is in its namespace, so that it can predict what pruning does.
    alone: bool,
    random: StdRng,
    next_number: i64,
    /// What was acknowledged.
    pub(crate) records: Records,
    /// The mutation whose outcome it does not know.
    pub(crate) unknown: Option<(RequestId, Operation)>,
    repeatable: VecDeque<Settled>,
    /// Requests that made one event each that streams tell of; not yet looked for.
    pub(crate) announced: Vec<RequestId>,
    /// Requests that changed nothing.
    pub(crate) without_effect: Vec<RequestId>,
    pub(crate) gone_tokens: VecDeque<String>,
    contest: Arc<Contest>,
    races: Vec<String>,
    pub(crate) counts: Counts,
}

impl Worker {
    pub(crate) fn new(number: u64, namespace: &str, alone: bool, contest: Arc<Contest>, seed: u64) -> Self {
        Self {
            tag: format!("w{number}-"),
            namespace: namespace.to_owned(),
            alone,
            random: StdRng::seed_from_u64(seed.wrapping_add(number)),
            next_number: 1,
            records: Records::default(),
            unknown: None,
            repeatable: VecDeque::new(),
            announced: Vec::new(),
            without_effect: Vec::new(),
            gone_tokens: VecDeque::new(),
            contest,
            races: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// Sets the tokens that this worker will try to take.
    pub(crate) fn race_for(&mut self, tokens: &[String]) {
        if !self.alone {
            self.races = tokens.to_vec();
        }
    }

    /// Works until the node is gone or an outcome is unknown.
    pub(crate) async fn work(mut self, client: Client, mut gone: watch::Receiver<bool>) -> Self {
        let namespace = client.namespace(self.namespace.as_str());
        while !*gone.borrow() {
            let operation = self.next_operation();
            let request = RequestId(self.random.random());
            let attempt = tokio::select! {
                attempt = operation.send(&namespace, request) => attempt,
                () = no_more_answers(&mut gone) => Attempt::Unknown,
            };
            match attempt {
                Attempt::Answered(answer) => self.settle(request, operation, *answer),
                Attempt::NotDone => {
                    self.counts.not_done += 1;
                    self.without_effect.push(request);
                }
                Attempt::Unknown => {
                    self.counts.unknown += 1;
                    self.unknown = Some((request, operation));
                    break;
                }
            }
        }
        self
    }

    /// Holds an answer against what should have been answered, and remembers what follows.
    fn settle(&mut self, request: RequestId, operation: Operation, answer: Answer) {
        match (&operation, &answer) {
            (Operation::Increment(_), Answer::Entry(entry)) => {
                lock(&self.contest.increments).push(entry.revision_number);
            }
            (Operation::Increment(_), _) => panic!("{}: the counted entry is gone: {answer:?}", self.tag),
            (Operation::Take(token), _) => {
                *lock(&self.contest.taken).entry(token.clone()).or_default() += u32::from(answer == Answer::Nothing);
            }
            (Operation::PruneEvents { .. }, _) => assert_eq!(answer, Answer::Nothing),
            _ => {
                let predicted = self.apply(&operation);
                assert!(
                    answer.is_as_predicted(&predicted),
                    "{}: {operation:?} was answered\n{answer:?}\nand not\n{predicted:?}",
                    self.tag
                );
                if let Answer::Entry(entry) = &answer {
                    self.records.learn(entry);
                }
            }
        }
        if answer == Answer::Refused {
            self.counts.refused += 1;
            self.without_effect.push(request);
        } else {
            self.counts.acknowledged += 1;
        }
        if operation.is_announced(&answer) {
            self.announced.push(request);
        }
        if operation.is_remembered(&answer) {
            self.repeatable.push_back(Settled { at: Instant::now(), request, operation, answer });
            if self.repeatable.len() > REPEATABLE_MAX {
                self.repeatable.pop_front();
            }
        }
    }

    fn apply(&mut self, operation: &Operation) -> Answer {
        let before: Vec<String> = self.records.tokens.keys().cloned().collect();
        let predicted = self.records.apply(operation);
        self.gone_tokens.extend(before.into_iter().filter(|token| !self.records.tokens.contains_key(token)));
        while self.gone_tokens.len() > GONE_TOKENS_MAX {
            self.gone_tokens.pop_front();
        }
        predicted
    }

    /// Holds the worker's part of what the node holds against what was acknowledged, with or without the mutation
    /// whose outcome is unknown, and nothing in between.
    pub(crate) fn check(&self, actual: &Records) {
        let actual = actual.part(&self.tag);
        if self.records.agrees_with(&actual) {
            return;
        }
        let mut after = self.records.clone();
        if let Some((_, operation)) = &self.unknown {
            after.apply(operation);
        }
        assert!(
            after.agrees_with(&actual),
            "{}: the node holds\n{actual:#?}\nbut acknowledged\n{:#?}\nand may have carried out {:?}",
            self.tag,
            self.records,
            self.unknown
        );
    }

    /// The token that the mutation with an unknown outcome is about.
    pub(crate) fn token_under_way(&self) -> Option<&String> {
        match &self.unknown {
            Some((_, Operation::CreateToken { token, .. } | Operation::DeleteToken(token))) => Some(token),
            _ => None,
        }
    }

    /// Finds out what became of the mutation whose outcome is unknown, by repeating it.
    pub(crate) async fn resolve(&mut self, client: &Client, found: &Records) {
        let namespace = client.namespace(self.namespace.as_str());
        let Some((request, operation)) = self.unknown.take() else { return };
        let had_happened = !self.records.agrees_with(&found.part(&self.tag));
        self.counts.unknown_had_happened += u64::from(had_happened);
        let answer = settled(&operation, &namespace, request).await;
        if operation.is_remembered(&answer) {
            let again = settled(&operation, &namespace, request).await;
            assert_eq!(again, answer, "{}: {operation:?} was answered differently when it was repeated", self.tag);
        }
        self.settle(request, operation, answer);
    }

    /// Repeats some mutations that were answered, before or after the node was killed.
    pub(crate) async fn repeat_some(&mut self, client: &Client) {
        let namespace = client.namespace(self.namespace.as_str());
        self.repeatable.retain(|settled| settled.at.elapsed() < REPEATABLE_AGE_MAX);
        for _ in 0..self.repeatable.len().min(3) {
            let chosen = self.random.random_range(0..self.repeatable.len());
            let Settled { request, operation, answer, .. } = &self.repeatable[chosen];
            let again = settled(operation, &namespace, *request).await;
            assert_eq!(again, *answer, "{}: {operation:?} was answered differently when it was repeated", self.tag);
            self.counts.repeated += 1;
        }
        if let Some(Settled { request, .. }) = self.repeatable.back() {
            let other = Operation::CreateToken { token: format!("{}never", self.tag), expires_at: 1 };
            match other.call(&namespace.with_request(*request)).await {
                Err(Error::Unsuitable { kind: ErrorKind::RequestIdReused, .. }) => {}
                answer => panic!("{}: another mutation under a used id was answered with {answer:?}", self.tag),
            }
        }
    }

    fn next_operation(&mut self) -> Operation {
        let number = self.next_number;
        self.next_number += 1;
        match self.random.random_range(0..100) {
            0..22 if self.records.entries.len() < ENTRIES_MAX => self.create_entry(number),
            0..38 => self.update_entry(number),
            38..48 => self.delete_entry(),
            48..56 if self.records.nodes.len() < NODES_MAX => self.create_node(number),
            48..64 => self.update_node(number),
            64..68 => Operation::DeleteNode(self.some_node()),
            68..75 => self.set_selectors(number),
            75..80 if self.records.tokens.len() < TOKENS_MAX => self.create_token(number),
            75..83 => Operation::DeleteToken(self.some_token()),
            83..87 => self.grow_bundle(number),
            87..89 => self.delete_bundle(),
            _ if self.alone => self.prune(number),
            _ => self.compete(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// An expiry that lies a bit later with each operation. It has nothing to do with the clock.
    fn expiry(number: i64) -> i64 {
        1_000_000 + 2 * number
    }

    fn selectors_of(&mut self, number: i64) -> Vec<Selector> {
        let count = self.random.random_range(1..4);
        (0..count).map(|place| Selector { r#type: "unix".into(), value: format!("uid:{number}:{place}") }).collect()
    }

    fn create_entry(&mut self, number: i64) -> Operation {
        let bundle = if self.chance(5) { Some(format!("spiffe://{}missing.example", self.tag)) } else { None };
        let bundle = bundle.or_else(|| self.some_bundle()).filter(|_| self.chance(40));
        let tag = self.tag.clone();
        let dns_name = |place: u32| format!("{tag}{number}-{place}.example.org");
        Operation::CreateEntry(RegistrationEntry {
            entry_id: if self.chance(50) { format!("{}{number}", self.tag) } else { String::new() },
            parent_id: "spiffe://example.org/spire/agent".into(),
            spiffe_id: format!("spiffe://example.org/{}entry-{number}", self.tag),
            selectors: self.selectors_of(number),
            dns_names: (0..self.random.random_range(0..8)).map(dns_name).collect(),
            federates_with: bundle.into_iter().collect(),
            entry_expiry: if self.chance(50) { Self::expiry(number) } else { 0 },
            downstream: self.chance(10),
            ..Default::default()
        })
    }

    fn some_entry_id(&mut self) -> String {
        if self.records.entries.is_empty() || self.chance(4) {
            return format!("{}missing", self.tag);
        }
        let chosen = self.random.random_range(0..self.records.entries.len());
        self.records.entries.values().nth(chosen).map(|entry| entry.entry_id.clone()).unwrap_or_default()
    }

    fn update_entry(&mut self, number: i64) -> Operation {
        Operation::UpdateEntry(RegistrationEntry {
            entry_id: self.some_entry_id(),
            selectors: self.selectors_of(number),
            hint: format!("hint-{number}"),
            x509_svid_ttl: self.random.random_range(0..3600),
            entry_expiry: if self.chance(50) { Self::expiry(number) } else { 0 },
            ..Default::default()
        })
    }

    fn delete_entry(&mut self) -> Operation {
        Operation::DeleteEntry(self.some_entry_id())
    }

    fn create_node(&mut self, number: i64) -> Operation {
        let name = if self.chance(5) { self.some_node() } else { self.node_name(&number.to_string()) };
        Operation::CreateNode(AttestedNode {
            spiffe_id: name,
            attestation_data_type: "k8s_psat".into(),
            cert_serial_number: number.to_string(),
            cert_not_after: Self::expiry(number),
            can_reattest: self.chance(70),
            ..Default::default()
        })
    }

    fn node_name(&self, name: &str) -> String {
        format!("spiffe://example.org/spire/agent/{}{name}", self.tag)
    }

    fn some_node(&mut self) -> String {
        if self.records.nodes.is_empty() || self.chance(4) {
            return self.node_name("missing");
        }
        let chosen = self.random.random_range(0..self.records.nodes.len());
        self.records.nodes.keys().nth(chosen).cloned().unwrap_or_default()
    }

    fn update_node(&mut self, number: i64) -> Operation {
        Operation::UpdateNode(AttestedNode {
            spiffe_id: self.some_node(),
            cert_serial_number: format!("renewed-{number}"),
            cert_not_after: Self::expiry(number),
            ..Default::default()
        })
    }

    fn set_selectors(&mut self, number: i64) -> Operation {
        let node = self.some_node();
        let clear = self.records.selectors.contains_key(&node) && self.chance(20);
        let selectors = if clear { Vec::new() } else { self.selectors_of(number) };
        Operation::SetSelectors(node, selectors)
    }

    fn create_token(&mut self, number: i64) -> Operation {
        let token = if self.chance(8) { self.some_token() } else { format!("{}token-{number}", self.tag) };
        Operation::CreateToken { token, expires_at: Self::expiry(number) }
    }

    fn some_token(&mut self) -> String {
        if self.records.tokens.is_empty() || self.chance(5) {
            return self.gone_tokens.back().cloned().unwrap_or_else(|| format!("{}token-missing", self.tag));
        }
        let chosen = self.random.random_range(0..self.records.tokens.len());
        self.records.tokens.keys().nth(chosen).cloned().unwrap_or_default()
    }

    fn some_bundle(&mut self) -> Option<String> {
        let chosen = self.random.random_range(0..self.records.bundles.len().max(1));
        self.records.bundles.keys().nth(chosen).cloned()
    }

    fn grow_bundle(&mut self, number: i64) -> Operation {
        let certificate = Certificate { der_bytes: number.to_be_bytes().to_vec(), ..Default::default() };
        let bundle = |trust_domain_id| Bundle {
            trust_domain_id,
            root_cas: vec![certificate],
            refresh_hint: 60,
            ..Default::default()
        };
        let fresh = self.records.bundles.len() < BUNDLES_MAX && self.chance(50);
        match self.some_bundle().filter(|_| !fresh) {
            Some(id) if self.chance(90) => Operation::AppendBundle(bundle(id)),
            // There is one already, so this is refused.
            Some(id) => Operation::CreateBundle(bundle(id)),
            None => Operation::CreateBundle(bundle(format!("spiffe://{}{number}.example", self.tag))),
        }
    }

    fn delete_bundle(&mut self) -> Operation {
        let id = self.some_bundle().unwrap_or_else(|| format!("spiffe://{}missing.example", self.tag));
        let modes = [DeleteMode::Restrict, DeleteMode::Delete, DeleteMode::Dissociate];
        Operation::DeleteBundle(id, modes[self.random.random_range(0..modes.len())])
    }

    /// Expiries are even and bounds odd, so that no record lies on a bound.
    fn prune(&mut self, number: i64) -> Operation {
        let before = Self::expiry(number - self.random.random_range(20..200)) + 1;
        match self.random.random_range(0..10) {
            0..3 => Operation::PruneEntries { before },
            3..6 => Operation::PruneNodes { before },
            6..9 => Operation::PruneTokens { before },
            _ => Operation::PruneEvents { older_than: ITEMS_AGE_MAX },
        }
    }

    fn compete(&mut self) -> Operation {
        if !self.races.is_empty() && self.chance(30) {
            let chosen = self.random.random_range(0..self.races.len());
            return Operation::Take(self.races.swap_remove(chosen));
        }
        Operation::Increment(lock(&self.contest.entry_id).clone())
    }
}

/// Sends an operation to a node that runs undisturbed.
async fn settled(operation: &Operation, namespace: &Namespace, request: RequestId) -> Answer {
    match operation.send(namespace, request).await {
        Attempt::Answered(answer) => *answer,
        other => panic!("{operation:?} came to {other:?} although nothing disturbed the node"),
    }
}

/// Completes a moment after the node is gone: what it had sent by then has arrived.
async fn no_more_answers(gone: &mut watch::Receiver<bool>) {
    // The other side going away says the same.
    drop(gone.wait_for(|gone| *gone).await);
    tokio::time::sleep(LAST_ANSWERS).await;
}
