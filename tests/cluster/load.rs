//! Clients that work while things go wrong, and remember what they were told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::door::{Attempt, Door, Freshness};
use crate::history::{Answer, Call, Held, Recorder};

/// Keys that are worked on at a time.
const KEYS: u64 = 4;

/// Calls after which the clients go on to other keys: short histories are quick to check.
const CALLS_WITH_KEYS: u64 = 240;

/// How long one attempt at a mutation may take, and one at a read: nobody waits long for a node that is cut off.
const ATTEMPT_MAX: Duration = Duration::from_millis(1_000);
const READ_MAX: Duration = Duration::from_millis(400);

/// How long a client tries before it gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between an attempt that did nothing and the next one.
const PAUSE: Duration = Duration::from_millis(10);

/// What a read was answered, from a state of which revision.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) session: usize,
    pub(crate) key: String,
    pub(crate) held: Option<Held>,
    pub(crate) revision: u64,
    /// The answer was to be at least of this revision.
    pub(crate) revision_min: u64,
    pub(crate) stale: bool,
}

/// What all clients together were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Requests that were carried out, with what they were answered.
    pub(crate) acknowledged: Vec<([u8; 16], String, Answer)>,
    /// Requests that changed nothing for certain.
    pub(crate) without_effect: Vec<[u8; 16]>,
    /// Requests of which nobody knows.
    pub(crate) unknown: u64,
    /// Reads without an answer.
    pub(crate) unread: u64,
    pub(crate) observations: Vec<Observation>,
    /// When mutations were acknowledged.
    pub(crate) moments: Vec<Instant>,
}

/// How clients work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) clients: usize,
    /// What their choices follow from.
    pub(crate) seed: u64,
    /// How long each of them does nothing between two calls.
    pub(crate) rest: Duration,
}

/// Clients at work.
pub(crate) struct Load {
    pub(crate) recorder: Recorder,
    shared: Arc<Shared>,
    pace: watch::Sender<Pace>,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    /// How the keys of this load begin.
    keys: String,
    told: Mutex<Told>,
    calls: AtomicU64,
    next_value: AtomicU64,
    /// Mutations of each client that came to a certain end.
    settled: Vec<AtomicU64>,
}

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Work,
    /// Bring what was begun to its end.
    Finish,
    /// Do not even wait for answers that may come yet.
    GiveUp,
}

impl Load {
    /// Starts clients, each of which calls all nodes through these doors.
    pub(crate) fn start(doors: &[Door], clients: usize, seed: u64) -> Self {
        Self::start_on("key", doors, clients, seed)
    }

    /// As [`Load::start`], on keys of its own: for one that follows another, with a seed that is far from the other's.
    pub(crate) fn start_on(keys: &str, doors: &[Door], clients: usize, seed: u64) -> Self {
        let doors: Vec<(u64, Door)> = (1..).zip(doors.iter().cloned()).collect();
        Self::start_with(keys, &watch::Sender::new(doors).subscribe(), Habits { clients, seed, rest: Duration::ZERO })
    }

    /// As [`Load::start_on`], through the doors of nodes with any numbers, which others may take the places of.
    pub(crate) fn start_with(keys: &str, doors: &watch::Receiver<Vec<(u64, Door)>>, habits: Habits) -> Self {
        let Habits { clients, seed, rest } = habits;
        let recorder = Recorder::default();
        let shared = Arc::new(Shared {
            keys: keys.to_owned(),
            told: Mutex::default(),
            calls: AtomicU64::new(0),
            next_value: AtomicU64::new(1),
            settled: (0..clients).map(|_| AtomicU64::new(0)).collect(),
        });
        let (pace, paced) = watch::channel(Pace::Work);
        let clients = (0..clients)
            .map(|number| {
                let client = Client {
                    session: number,
                    doors: doors.clone(),
                    // Everybody begins somewhere else.
                    preferred: number,
                    random: StdRng::seed_from_u64(seed.wrapping_add(number as u64)),
                    rest,
                    seen: 0,
                    recorder: recorder.clone(),
                    shared: Arc::clone(&shared),
                    pace: paced.clone(),
                };
                tokio::spawn(client.work())
            })
            .collect();
        Self { recorder, shared, pace, clients }
    }

    /// Lets the clients work until they have had so many more mutations acknowledged.
    pub(crate) async fn acknowledge_more(&self, count: usize) {
        let target = self.acknowledged() + count;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.acknowledged() < target {
            assert!(Instant::now() < deadline, "the clients get nowhere: {} of {target}", self.acknowledged());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until every client has had another of its mutations settled, and tells how long that took.
    pub(crate) async fn serve_everybody(&self, within: Duration) -> Duration {
        let count = || self.shared.settled.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let (began, before) = (Instant::now(), count());
        loop {
            let now = count();
            if now.iter().zip(&before).all(|(now, before)| now > before) {
                return began.elapsed();
            }
            assert!(began.elapsed() < within, "not everybody is served within {within:?}: {before:?}, then {now:?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Mutations acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.shared.told.lock().expect("no panic").acknowledged.len()
    }

    /// Ends the work, once every client has its last answer, and tells what they were told.
    pub(crate) async fn end(self) -> (Recorder, Told) {
        self.end_at(Pace::Finish).await
    }

    /// Ends the work at once: what has no answer yet is unknown. For nodes that will never answer again.
    pub(crate) async fn give_up(self) -> (Recorder, Told) {
        self.end_at(Pace::GiveUp).await
    }

    async fn end_at(self, pace: Pace) -> (Recorder, Told) {
        self.pace.send_replace(pace);
        for client in self.clients {
            client.await.expect("a client");
        }
        let told = std::mem::take(&mut *self.shared.told.lock().expect("no panic"));
        (self.recorder, told)
    }
}

struct Client {
    session: usize,
    doors: watch::Receiver<Vec<(u64, Door)>>,
    /// The place of a door, which counts on behind the last one from the first.
    preferred: usize,
    random: StdRng,
    rest: Duration,
    /// The greatest revision that any answer told.
    seen: u64,
    recorder: Recorder,
    shared: Arc<Shared>,
    pace: watch::Receiver<Pace>,
}

impl Client {
    async fn work(mut self) {
        while *self.pace.borrow() == Pace::Work {
            let number = self.shared.calls.fetch_add(1, Ordering::Relaxed);
            let keys = &self.shared.keys;
            let key = format!("{keys}-{}-{}", number / CALLS_WITH_KEYS, self.random.random_range(0..KEYS));
            let value = || self.shared.next_value.fetch_add(1, Ordering::Relaxed);
            match self.random.random_range(0..100) {
                0..30 => self.read(&key).await,
                30..45 => self.read_stale(&key).await,
                45..65 => self.mutate(&key, Call::Create(value())).await,
                65..90 => self.mutate(&key, Call::Update(value())).await,
                _ => self.mutate(&key, Call::Delete).await,
            }
            if !self.rest.is_zero() {
                tokio::time::sleep(self.rest).await;
            }
        }
    }

    fn any_door(&mut self) -> Door {
        let doors = self.doors.borrow();
        doors[self.random.random_range(0..doors.len())].1.clone()
    }

    fn preferred_door(&self) -> Door {
        let doors = self.doors.borrow();
        doors[self.preferred % doors.len()].1.clone()
    }

    /// Reads what is current, through any node.
    async fn read(&mut self, key: &str) {
        let door = self.any_door();
        let begun = self.recorder.begin(key, Call::Read);
        match door.read(key, Freshness::Current, READ_MAX).await {
            Attempt::Answered { answer, revision } => {
                begun.answered(answer);
                self.observe(key, answer, revision, 0, false);
            }
            _ => self.told(|told| told.unread += 1),
        }
    }

    /// Reads what is not older than what this client has seen, through any node.
    async fn read_stale(&mut self, key: &str) {
        let (door, seen) = (self.any_door(), self.seen);
        match door.read(key, Freshness::Stale(seen), READ_MAX).await {
            Attempt::Answered { answer, revision } => self.observe(key, answer, revision, seen, true),
            _ => self.told(|told| told.unread += 1),
        }
    }

    fn observe(&mut self, key: &str, answer: Answer, revision: u64, revision_min: u64, stale: bool) {
        let Answer::Found(held) = answer else { panic!("a read was answered with {answer:?}") };
        self.seen = self.seen.max(revision);
        let observation =
            Observation { session: self.session, key: key.to_owned(), held, revision, revision_min, stale };
        self.told(|told| told.observations.push(observation));
    }

    /// Tries a mutation under one id at one node after the other until it is settled.
    async fn mutate(&mut self, key: &str, call: Call) {
        let request: [u8; 16] = self.random.random();
        let begun = self.recorder.begin(key, call);
        let deadline = Instant::now() + PATIENCE;
        let mut open = false;
        while Instant::now() < deadline && *self.pace.borrow() != Pace::GiveUp {
            match self.preferred_door().mutate(key, call, request, ATTEMPT_MAX).await {
                Attempt::Answered { answer, revision } => {
                    self.seen = self.seen.max(revision);
                    match answer {
                        // What changes nothing is not remembered: an earlier attempt may be carried out yet.
                        Answer::Missing | Answer::Exists(_) if open => break,
                        _ => begun.answered(answer),
                    }
                    self.shared.settled[self.session].fetch_add(1, Ordering::Relaxed);
                    let now = Instant::now();
                    self.told(|told| match answer {
                        Answer::Missing | Answer::Exists(_) => told.without_effect.push(request),
                        _ => {
                            told.acknowledged.push((request, key.to_owned(), answer));
                            told.moments.push(now);
                        }
                    });
                    return;
                }
                Attempt::NotDone { leader, reason } => {
                    tracing::debug!(%reason, ?leader, "not done");
                    self.ask_another(leader);
                    tokio::time::sleep(PAUSE).await;
                }
                Attempt::Maybe { reason } => {
                    tracing::debug!(%reason, "may be done");
                    open = true;
                    self.ask_another(None);
                }
            }
        }
        if open {
            begun.answered(Answer::Unknown);
            self.told(|told| told.unknown += 1);
        } else {
            self.told(|told| told.without_effect.push(request));
        }
    }

    /// Goes to the node that is said to lead, or else to the next one.
    fn ask_another(&mut self, leader: Option<u64>) {
        let doors = self.doors.borrow();
        let named = leader.and_then(|leader| doors.iter().position(|(number, _)| *number == leader));
        self.preferred = match named.filter(|place| *place != self.preferred % doors.len()) {
            Some(place) => place,
            None => (self.preferred + 1) % doors.len(),
        };
    }

    fn told(&self, note: impl FnOnce(&mut Told)) {
        note(&mut self.shared.told.lock().expect("no panic"));
    }
}
