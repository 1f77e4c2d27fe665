//! A consumer of a namespace's events, which outlives the nodes that serve it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_client::events::record::Record as Kind;
use steeple_client::events::{Change, Event, Item, Record};
use steeple_client::types::{AttestedNode, RegistrationEntry, Selector};
use steeple_client::{Client, RequestId, Tail, TailContent, TailMessage, TailOptions, TailStart};
use tokio::sync::watch;

use crate::records::Records;

/// How long catching up may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One item as it was delivered.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    revision: u64,
    key: String,
}

/// Follows a namespace, keeps everything that it was told, and builds a replica from it.
pub(crate) struct Consumer {
    pub(crate) namespace: String,
    random: StdRng,
    /// The cursor as it was last stored. Behind what was delivered, as with a consumer that stores it now and then.
    stored_cursor: Option<String>,
    /// Items by stream; the first has number 1.
    streams: BTreeMap<String, Vec<Seen>>,
    last_revision: u64,
    last_time_micros: i64,
    entries: BTreeMap<String, RegistrationEntry>,
    nodes: BTreeMap<String, AttestedNode>,
    selectors: BTreeMap<String, Vec<Selector>>,
    /// Events by the request that caused them.
    requests: HashMap<Vec<u8>, u64>,
    pub(crate) delivered_again: u64,
}

impl Consumer {
    pub(crate) fn new(namespace: &str, seed: u64) -> Self {
        Self {
            namespace: namespace.to_owned(),
            random: StdRng::seed_from_u64(seed),
            stored_cursor: None,
            streams: BTreeMap::new(),
            last_revision: 0,
            last_time_micros: 0,
            entries: BTreeMap::new(),
            nodes: BTreeMap::new(),
            selectors: BTreeMap::new(),
            requests: HashMap::new(),
            delivered_again: 0,
        }
    }

    fn tail(&self, client: &Client) -> Tail {
        let start = self.stored_cursor.clone().map_or(TailStart::Oldest, TailStart::Cursor);
        client.namespace(self.namespace.as_str()).tail(TailOptions { start, ..TailOptions::default() })
    }

    /// Follows from the stored cursor until the node is gone.
    pub(crate) async fn follow(mut self, client: Client, mut gone: watch::Receiver<bool>) -> Self {
        let mut tail = self.tail(&client);
        loop {
            let message = tokio::select! {
                message = tail.next() => message.expect("a tail goes on"),
                _ = gone.wait_for(|gone| *gone) => return self,
            };
            self.take(message);
        }
    }

    /// Follows from the stored cursor until everything up to a revision was delivered.
    pub(crate) async fn catch_up(&mut self, client: &Client, target: u64) {
        let mut tail = self.tail(client);
        let caught_up = async {
            loop {
                let message = tail.next().await.expect("a tail goes on");
                if self.take(message).is_some_and(|reached| reached >= target) {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.expect("a tail catches up");
    }

    /// Takes a message; the revision reached when it is a mark of progress.
    fn take(&mut self, message: TailMessage) -> Option<u64> {
        let reached = match message.content {
            TailContent::Event(event) => {
                self.take_event(event);
                None
            }
            TailContent::Progress { revision, live } => live.then_some(revision),
        };
        if self.random.random_range(0..4) == 0 {
            self.stored_cursor = Some(message.cursor);
        }
        reached
    }

    fn take_event(&mut self, event: Event) {
        let name = &self.namespace;
        assert!(!event.items.is_empty(), "{name}: an event without items: {event:?}");
        let is_new = event.revision > self.last_revision;
        if is_new {
            assert!(event.time_micros >= self.last_time_micros, "{name}: time went backwards: {event:?}");
            self.last_revision = event.revision;
            self.last_time_micros = event.time_micros;
            if !event.request_id.is_empty() {
                let earlier = self.requests.insert(event.request_id.clone(), event.revision);
                assert_eq!(earlier, None, "{name}: one request made two events, the second is {event:?}");
            }
        } else {
            self.delivered_again += 1;
        }
        for item in event.items {
            self.take_item(event.revision, is_new, item);
        }
    }

    fn take_item(&mut self, revision: u64, is_new: bool, item: Item) {
        let seen = self.streams.entry(item.stream.clone()).or_default();
        let place = usize::try_from(item.sequence).expect("a small number") - 1;
        let name = &self.namespace;
        if is_new {
            assert_eq!(place, seen.len(), "{name}: a hole or a repetition before {item:?} of revision {revision}");
            seen.push(Seen { revision, key: item.key });
            if let Some(change) = item.change {
                self.fold(change);
            }
        } else {
            let before = seen.get(place);
            assert_eq!(
                before,
                Some(&Seen { revision, key: item.key }),
                "{name}: item {} of {} became another one",
                item.sequence,
                item.stream
            );
        }
    }

    /// Changes the replica, which must be as the change says it was.
    fn fold(&mut self, change: Change) {
        let kind = |record: Option<Record>| record.and_then(|record| record.record);
        match (kind(change.before), kind(change.after)) {
            (None, None) => {}
            (Some(Kind::RegistrationEntry(before)), after) => {
                assert_eq!(self.entries.remove(&before.entry_id).as_ref(), Some(&before), "what the replica had");
                self.put(after);
            }
            (Some(Kind::AttestedNode(before)), after) => {
                assert_eq!(self.nodes.remove(&before.spiffe_id).as_ref(), Some(&before), "what the replica had");
                if after.is_none() {
                    // They go with the node, in the same event.
                    self.selectors.remove(&before.spiffe_id);
                }
                self.put(after);
            }
            (Some(Kind::NodeSelectors(before)), after) => {
                assert_eq!(self.selectors.remove(&before.spiffe_id), Some(before.selectors), "what the replica had");
                self.put(after);
            }
            (None, after) => self.put(after),
            (before, after) => panic!("{}: {before:?} and {after:?} are in no stream", self.namespace),
        }
    }

    fn put(&mut self, after: Option<Kind>) {
        let replaced = match after {
            None => false,
            Some(Kind::RegistrationEntry(entry)) => self.entries.insert(entry.entry_id.clone(), entry).is_some(),
            Some(Kind::AttestedNode(node)) => self.nodes.insert(node.spiffe_id.clone(), node).is_some(),
            Some(Kind::NodeSelectors(stored)) => self.selectors.insert(stored.spiffe_id, stored.selectors).is_some(),
            Some(other) => panic!("{}: {other:?} is in no stream", self.namespace),
        };
        assert!(!replaced, "{}: something was created that the replica had", self.namespace);
    }

    /// Holds the replica against what the node holds.
    pub(crate) fn check(&self, actual: &Records) {
        let entries: BTreeMap<_, _> =
            actual.entries.values().map(|entry| (entry.entry_id.clone(), entry.clone())).collect();
        assert_eq!(self.entries, entries, "{}: entries of the replica and of the node", self.namespace);
        assert_eq!(self.nodes, actual.nodes, "{}: nodes of the replica and of the node", self.namespace);
        assert_eq!(self.selectors, actual.selectors, "{}: selectors of the replica and of the node", self.namespace);
    }

    /// Items of a stream so far.
    pub(crate) fn last_sequence(&self, stream: &str) -> u64 {
        self.streams.get(stream).map_or(0, |seen| seen.len() as u64)
    }

    /// Whether an item was delivered like this.
    pub(crate) fn saw(&self, stream: &str, sequence: u64, key: &str, revision: Option<u64>) -> bool {
        let seen = || self.streams.get(stream)?.get(usize::try_from(sequence).ok()?.checked_sub(1)?);
        seen().is_some_and(|seen| seen.key == key && revision.is_none_or(|revision| revision == seen.revision))
    }

    /// Whether an event of this request was delivered.
    pub(crate) fn saw_request(&self, request: RequestId) -> bool {
        self.requests.contains_key(&request.0[..])
    }
}
