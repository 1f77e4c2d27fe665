//! What must hold on every node once things go right again.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use steeple_client::events::record::Record as Kind;
use steeple_client::events::{Event, Record};
use steeple_client::types::RegistrationEntryFilter;
use steeple_client::{TailContent, TailOptions, TailStart};
use tokio_stream::StreamExt;

use crate::door::Door;
use crate::door::{Attempt, Freshness, NAMESPACE, held};
use crate::history::{Answer, Call, Held, Recorder};
use crate::load::{Observation, Told};
use crate::register::assert_linearizable;
use crate::settings::PATIENCE;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How much of what happened is still told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Events from the first one.
    Everything,
    /// Older events were given up.
    WhatIsRecent,
}

/// Holds everything that these nodes say against what clients were told: all of them must run and reach each other.
///
/// # Panics
/// When anything is not as it was told.
pub(crate) async fn examine(nodes: &[(u64, Door)], recorder: &Recorder, told: &Told, kept: Kept) {
    Examined::default().go_on(nodes, recorder, told, kept).await;
}

/// Examinations whose requests are still known when a later one comes upon them.
const EXAMINATIONS_REMEMBERED: usize = 16;

/// What was examined so far: the next examination takes up behind it, so that a long run is looked at in pieces.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    /// Behind the last event; good on every node.
    cursor: Option<String>,
    /// Time of the last event.
    time_micros: i64,
    /// Last sequence of each stream.
    ends: BTreeMap<String, u64>,
    /// What all changes come to.
    replica: BTreeMap<String, Held>,
    /// Requests that must not take effect any more, by the examination that came upon them.
    settled: VecDeque<HashSet<Vec<u8>>>,
}

/// What one examination came upon.
#[derive(Debug)]
pub(crate) struct Piece {
    /// The same on all nodes.
    pub(crate) events: Vec<Event>,
    /// Of the last mutation.
    pub(crate) revision: u64,
}

impl Examined {
    /// As [`examine`], of what came after the last examination: by clients that have worked on other keys.
    ///
    /// # Panics
    /// When anything is not as it was told.
    pub(crate) async fn go_on(&mut self, nodes: &[(u64, Door)], recorder: &Recorder, told: &Told, kept: Kept) -> Piece {
        println!(
            "{} mutations acknowledged, {} without effect, {} unknown, {} reads answered, {} not",
            told.acknowledged.len(),
            told.without_effect.len(),
            told.unknown,
            told.observations.len(),
            told.unread
        );
        assert!(told.acknowledged.len() > 10, "there was no load worth the name");
        let revision = mark(nodes).await;
        read_everything(nodes, recorder).await;
        assert_linearizable(&recorder.keys());
        let start = self.cursor.clone().map_or(TailStart::Oldest, TailStart::Cursor);
        let mut first: Option<Vec<Event>> = None;
        for (node, door) in nodes {
            let (events, cursor) = follow_from(start.clone(), *node, door, revision).await;
            check_streams(*node, self.time_micros, self.ends.clone(), &events, kept);
            if kept == Kept::Everything {
                check_requests(*node, &events, told);
            }
            match &first {
                None => (first, self.cursor) = (Some(events), Some(cursor)),
                Some(first) => check_same(first, &events, *node, kept),
            }
        }
        let events = first.expect("a node");
        self.fold(&events, told);
        if kept == Kept::Everything {
            for (node, door) in nodes {
                check_records(*node, door, &self.replica).await;
            }
            check_observations(&events, told);
        }
        check_digests(nodes).await;
        Piece { events, revision }
    }

    /// Takes up what all nodes tell of.
    fn fold(&mut self, events: &[Event], told: &Told) {
        for (_, key, held) in changes(events) {
            match held {
                Some(held) => self.replica.insert(key, held),
                None => self.replica.remove(&key),
            };
        }
        self.time_micros = events.last().map_or(self.time_micros, |event| event.time_micros);
        for item in events.iter().flat_map(|event| &event.items) {
            self.ends.insert(item.stream.clone(), item.sequence);
        }
        let made: HashSet<Vec<u8>> =
            events.iter().map(|event| event.request_id.to_vec()).filter(|request| !request.is_empty()).collect();
        for earlier in &self.settled {
            assert!(made.is_disjoint(earlier), "a request that was settled took effect later");
        }
        let answered = told.acknowledged.iter().map(|(request, ..)| request).chain(&told.without_effect);
        let settled = made.into_iter().chain(answered.map(|request| request.to_vec())).collect();
        self.settled.push_back(settled);
        if self.settled.len() > EXAMINATIONS_REMEMBERED {
            self.settled.pop_front();
        }
    }
}

/// A last mutation; its revision is what everything is looked at up to.
async fn mark(nodes: &[(u64, Door)]) -> u64 {
    let deadline = Instant::now() + PATIENCE;
    let request = rand::random();
    loop {
        for (_, door) in nodes {
            let key = format!("mark-{}", u128::from_be_bytes(request));
            let attempt = door.mutate(&key, Call::Create(0), request, PATIENCE).await;
            if let Attempt::Answered { answer: Answer::Created, revision } = attempt {
                return revision;
            }
            assert!(Instant::now() < deadline, "nothing is accepted: {attempt:?}");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Reads every key through every node, as part of the history.
async fn read_everything(nodes: &[(u64, Door)], recorder: &Recorder) {
    for key in recorder.keys().keys() {
        for (node, door) in nodes {
            let begun = recorder.begin(key, Call::Read);
            match door.read(key, Freshness::Current, PATIENCE).await {
                Attempt::Answered { answer, .. } => begun.answered(answer),
                other => panic!("node {node} cannot be read: {other:?}"),
            }
        }
    }
}

/// All events that a node tells of, from the oldest up to a revision, and a cursor behind them.
pub(crate) async fn follow(node: u64, door: &Door, revision: u64) -> (Vec<Event>, String) {
    follow_from(TailStart::Oldest, node, door, revision).await
}

async fn follow_from(start: TailStart, node: u64, door: &Door, revision: u64) -> (Vec<Event>, String) {
    let options = TailOptions { start, ..TailOptions::default() };
    let mut tail = door.client(PATIENCE).namespace(NAMESPACE).tail(options);
    let (mut events, mut cursor): (Vec<Event>, _) = (Vec::new(), String::new());
    let caught_up = async {
        // The event of the revision is the last one: what comes behind it is left to who goes on from the cursor.
        while events.last().is_none_or(|event| event.revision < revision) {
            let message = tail.next().await.expect("a tail goes on");
            match message.content {
                TailContent::Event(event) if event.revision > revision => break,
                TailContent::Event(event) => events.push(event),
                // Nothing of this namespace lies between the two revisions.
                TailContent::Progress { revision: reached, .. } if reached >= revision => return message.cursor,
                TailContent::Progress { .. } => {}
            }
            cursor = message.cursor;
        }
        cursor
    };
    let in_time = tokio::time::timeout(PATIENCE, caught_up).await;
    let cursor = in_time.unwrap_or_else(|_| panic!("the tail of node {node} does not reach {revision}"));
    (events, cursor)
}

/// Two nodes tell of the same events, of which older ones may have gone between asking the one and asking the other.
fn check_same(first: &[Event], events: &[Event], node: u64, kept: Kept) {
    let skipped = match (kept, events.first()) {
        (Kept::WhatIsRecent, Some(event)) => first.iter().take_while(|other| other.revision < event.revision).count(),
        _ => 0,
    };
    assert_eq!(&first[skipped..], events, "events of node {node} and of the first one");
    assert!(!events.is_empty(), "node {node} tells of nothing");
}

/// No hole and no repetition, and time that does not go back.
fn check_streams(node: u64, since_micros: i64, mut ends: BTreeMap<String, u64>, events: &[Event], kept: Kept) {
    for pair in events.windows(2) {
        assert!(pair[0].revision < pair[1].revision, "node {node}: {pair:?}");
        assert!(pair[0].time_micros <= pair[1].time_micros, "node {node}: time went back: {pair:?}");
    }
    assert!(events.first().is_none_or(|event| event.time_micros >= since_micros), "node {node}: time went back");
    for item in events.iter().flat_map(|event| &event.items) {
        let before_first = if kept == Kept::Everything { 0 } else { item.sequence - 1 };
        let end = ends.entry(item.stream.clone()).or_insert(before_first);
        assert_eq!(item.sequence, *end + 1, "node {node}: a hole or a repetition in {}", item.stream);
        *end = item.sequence;
    }
}

/// Each acknowledged request made one event, and those that changed nothing made none.
fn check_requests(node: u64, events: &[Event], told: &Told) {
    let mut made: HashMap<&[u8], u64> = HashMap::new();
    for event in events.iter().filter(|event| !event.request_id.is_empty()) {
        *made.entry(&event.request_id).or_default() += 1;
    }
    for (request, key, answer) in &told.acknowledged {
        let count = made.get(&request[..]).copied().unwrap_or_default();
        assert_eq!(count, 1, "node {node}: events of the request answered with {answer:?} under {key}");
    }
    for request in &told.without_effect {
        assert!(!made.contains_key(&request[..]), "node {node}: a request without effect made an event");
    }
    assert!(made.values().all(|count| *count == 1), "node {node}: one request made two events");
}

/// What the changes make of nothing is what the node holds.
async fn check_records(node: u64, door: &Door, replica: &BTreeMap<String, Held>) {
    let namespace = door.client(PATIENCE).namespace(NAMESPACE);
    let mut entries = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await.expect("entries");
    let mut actual = BTreeMap::new();
    while let Some(entry) = entries.next().await {
        let entry = entry.expect("an entry");
        actual.insert(entry.entry_id.clone(), held(Some(&entry)));
    }
    assert_eq!(replica, &actual, "what the events of node {node} come to, and what it holds");
}

/// Revision, key, and what was held from then on.
fn changes(events: &[Event]) -> impl Iterator<Item = (u64, String, Option<Held>)> {
    events.iter().flat_map(|event| {
        event.items.iter().map(|item| {
            let change = item.change.as_ref().expect("a change");
            (event.revision, item.key.clone(), held_in(change.after.as_ref()))
        })
    })
}

fn held_in(record: Option<&Record>) -> Option<Held> {
    match record?.record.as_ref()? {
        Kind::RegistrationEntry(entry) => Some(held(Some(entry))),
        other => panic!("nobody wrote {other:?}"),
    }
}

/// Every read showed the state of the revision that it named, and no client's stale reads went back.
fn check_observations(events: &[Event], told: &Told) {
    let mut states: HashMap<String, Vec<(u64, Option<Held>)>> = HashMap::new();
    for (revision, key, held) in changes(events) {
        states.entry(key).or_default().push((revision, held));
    }
    let state_at = |observation: &Observation| {
        let states = states.get(&observation.key)?;
        states.iter().rev().find(|(revision, _)| *revision <= observation.revision)?.1
    };
    let mut stale = 0;
    for observation in &told.observations {
        assert_eq!(observation.held, state_at(observation), "what was read and what there was: {observation:?}");
        assert!(observation.revision >= observation.revision_min, "older than what was seen: {observation:?}");
        stale += u64::from(observation.stale);
    }
    assert!(stale > 0 || told.observations.is_empty(), "no stale read was answered");
    let sessions =
        told.observations.iter().map(|observation| observation.session).collect::<std::collections::BTreeSet<_>>();
    assert!(sessions.len() > 1 || told.observations.is_empty(), "only one client was answered");
}

/// The digests of all nodes, kept and read anew, are equal at one revision.
pub(crate) async fn check_digests(nodes: &[(u64, Door)]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut digests = Vec::new();
        for (node, door) in nodes {
            for recompute in [false, true] {
                let digest = door.client(PATIENCE).admin().digest(recompute).await.expect("a digest");
                digests.push((*node, digest.revision, digest.digest));
            }
        }
        if digests.iter().all(|(_, revision, _)| *revision == digests[0].1) {
            assert!(digests.iter().all(|(_, _, digest)| *digest == digests[0].2), "digests differ: {digests:?}");
            return;
        }
        assert!(Instant::now() < deadline, "the nodes are never at the same revision: {digests:?}");
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
