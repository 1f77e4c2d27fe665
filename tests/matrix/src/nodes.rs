//! Groups of whole nodes over simulated disks in virtual time: log, base snapshot, records, repair and takeovers, as in a
//! server; only sockets, threads and sled are left out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::domain::Command;
use steeple_engine::ids::{ClusterId, HistoryId, LogIndex, NamespaceId, NodeId, Timestamp};
use steeple_engine::log::{Entry, LogError, LogOptions, Verification};
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire;
use steeple_raft::eraftpb::Message;
use steeple_raft::{Member, Need, Question, ReplicaOptions, Statement, Wanted};
use steeple_server::node::stepped::{Shelf, SimulatedStorage, SteppedNode, SteppedPatient};
use steeple_server::node::{Clock, ClusterOptions, ClusterOrigin, Connect, Node, NodeOptions, NodeParts, StartError};
use steeple_server::peer::repair::WantedEntries;
use steeple_server::peer::{
    BoxFuture, Delivery, FetchError, FetchedSnapshot, HandshakeError, Introduction, PeerSink, SnapshotProvider,
    Transport, WantedSnapshot,
};
use steeple_snapshot::ChunkReceiver;
use tokio::sync::oneshot;

use crate::chance::Chance;

/// How far time goes in one round.
const TICK: Duration = Duration::from_millis(100);

/// Rounds of work that follow from one tick at the most.
const STEPS_MAX: usize = 2_000;

/// What the clocks say at the beginning.
const EPOCH_MICROS: u64 = 1_800_000_000_000_000;

/// Bytes of a snapshot at the most.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

/// Steps that a snapshot on its way may take without anything that a member has to do.
const SERVING_STEPS: usize = 3;

/// How often the questions of one round may lead to something new.
const TREATMENTS_MAX: usize = 100;

/// What survives of a member.
pub struct Disks {
    /// With the log.
    pub log: SimulatedDisk,
    /// With the base snapshot.
    pub base: SimulatedDisk,
    /// The record stores.
    pub stores: Shelf,
}

impl Disks {
    fn new() -> Self {
        Self { log: SimulatedDisk::new(), base: SimulatedDisk::new(), stores: Shelf::default() }
    }

    /// The same again, independent of these.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let stores = self.stores.crash(|unflushed| unflushed);
        Self { log: self.log.duplicate_with_failures(), base: self.base.duplicate_with_failures(), stores }
    }

    /// What a crash leaves.
    fn crash(&self, loss: CrashLoss, seed: u64) -> Self {
        let kept = |unflushed: usize| if loss == CrashLoss::Everything { 0 } else { unflushed };
        Self { log: self.log.crash(loss, seed), base: self.base.crash(loss, seed), stores: self.stores.crash(kept) }
    }

    fn storage(self) -> Arc<SimulatedStorage> {
        Arc::new(SimulatedStorage { log: Arc::new(self.log), base: self.base, stores: self.stores })
    }
}

/// The time of a group.
#[derive(Clone, Default)]
struct Time(Arc<AtomicU64>);

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MICROS + self.0.load(Ordering::Relaxed))
    }
}

/// What a member wants to send.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<Sent>>);

#[derive(Default)]
struct Sent {
    messages: Vec<Message>,
    greetings: Vec<NodeId>,
    fetches: Vec<Fetch>,
}

struct Fetch {
    from: NodeId,
    minimum: LogIndex,
    answer: oneshot::Sender<Result<FetchedSnapshot, FetchError>>,
}

impl Transport for Outbox {
    fn send(&self, _: NodeId, message: Message) {
        self.0.lock().messages.push(message);
    }

    fn greet(&self, to: NodeId) {
        self.0.lock().greetings.push(to);
    }

    fn set_members(&self, _: Vec<(NodeId, String)>) {}

    fn fetch_snapshot(
        &self,
        from: NodeId,
        wanted: WantedSnapshot,
        _: PathBuf,
    ) -> BoxFuture<'static, Result<FetchedSnapshot, FetchError>> {
        let (answer, fetched) = oneshot::channel();
        self.0.lock().fetches.push(Fetch { from, minimum: wanted.minimum, answer });
        Box::pin(async move { fetched.await.unwrap_or(Err(FetchError::CutOff)) })
    }
}

/// How others reach a member.
#[derive(Clone, Default)]
struct Connected {
    sink: Arc<Mutex<Option<Arc<dyn PeerSink>>>>,
    snapshots: Arc<Mutex<Option<Arc<dyn SnapshotProvider>>>>,
    introduction: Arc<Mutex<Option<Introduction>>>,
}

/// What a member is doing.
enum Doing {
    Stopped,
    Running(Box<SteppedNode>),
    Repairing(Box<Repairing>),
    /// It does not start.
    Refusing(String),
}

struct Repairing {
    patient: SteppedPatient,
    /// The log was whole when it was opened: records and base snapshot are missing.
    lacks_records: bool,
    obstacle: String,
}

/// One member.
struct MemberNode {
    log: SimulatedDisk,
    base: SimulatedDisk,
    storage: Arc<SimulatedStorage>,
    outbox: Outbox,
    connected: Connected,
    doing: Doing,
    /// Counts its starts.
    lives: u64,
}

impl MemberNode {
    fn over(disks: Disks) -> Self {
        let (log, base) = (disks.log.clone(), disks.base.clone());
        let (outbox, connected) = (Outbox::default(), Connected::default());
        Self { log, base, storage: disks.storage(), outbox, connected, doing: Doing::Stopped, lives: 0 }
    }

    fn disks(&self) -> Disks {
        let stores = self.storage.stores.crash(|unflushed| unflushed);
        Disks { log: self.log.clone(), base: self.base.clone(), stores }
    }

    fn running(&self) -> Option<&SteppedNode> {
        match &self.doing {
            Doing::Running(node) => Some(node),
            _ => None,
        }
    }

    fn running_mut(&mut self) -> Option<&mut SteppedNode> {
        match &mut self.doing {
            Doing::Running(node) => Some(node),
            _ => None,
        }
    }

    fn sink(&self) -> Option<Arc<dyn PeerSink>> {
        self.connected.sink.lock().clone().filter(|_| self.running().is_some())
    }

    fn introduction(&self) -> Option<Introduction> {
        let known = (*self.connected.introduction.lock())?;
        self.sink().map(|sink| Introduction { log_end: sink.log_end(), ..known })
    }
}

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A group.
pub struct Nodes {
    time: Time,
    chance: Chance,
    members: BTreeMap<u64, MemberNode>,
    /// Snapshots on their way.
    serving: Vec<Serving>,
    /// What must not happen and did.
    pub violation: Option<String>,
    /// Entries that were fetched by members that repair their logs, and their bytes.
    pub fetched: (u64, u64),
    /// Snapshots that they have taken over.
    pub snapshots: u64,
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Option<T> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

/// Settings of the members. Nothing is kept for longer than it is wanted, and everything is read when a log is opened.
fn options(id: u64, members: u64) -> NodeOptions {
    let member = |number: u64| {
        let address = format!("member-{number}");
        (number, Member { peer_address: address.clone(), client_address: address })
    };
    let log = LogOptions {
        segment_bytes: 32 << 10,
        segment_entries: 16,
        spare_segments: 0,
        verification: Verification::Everything,
        ..LogOptions::default()
    };
    NodeOptions {
        data: None,
        log,
        store: RecordStoreKind::Memory,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        follower_log_retention: Duration::ZERO,
        compaction_interval: None,
        base_interval_bytes: 1,
        // Entries stand where the group has them, so that it can be said what is left of each.
        rewrite_below: 0.0,
        cluster: ClusterOptions {
            node: NodeId(id),
            origin: ClusterOrigin::Founding {
                cluster: ClusterId([1; 16]),
                history: HistoryId([1; 16]),
                members: (1..=members).map(member).collect(),
            },
            tick: TICK,
            replica: ReplicaOptions { heartbeat_ticks: 2, election_ticks: 10, ..ReplicaOptions::default() },
            ..ClusterOptions::default()
        },
        ..NodeOptions::default()
    }
}

impl Nodes {
    /// Members without anything yet, that are not started.
    #[must_use]
    pub fn new(members: u64, seed: u64) -> Self {
        Self::over((1..=members).map(|id| (id, Disks::new())).collect(), seed)
    }

    /// Members with these disks, that are not started.
    #[must_use]
    pub fn over(disks: BTreeMap<u64, Disks>, seed: u64) -> Self {
        let members = disks.into_iter().map(|(id, disks)| (id, MemberNode::over(disks))).collect();
        Self {
            time: Time::default(),
            chance: Chance::new(seed),
            members,
            serving: Vec::new(),
            violation: None,
            fetched: (0, 0),
            snapshots: 0,
        }
    }

    /// Numbers of all members.
    #[must_use]
    pub fn ids(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    /// Lets a lot of time go by at once.
    pub fn jump(&self, by: Duration) {
        self.time.0.fetch_add(u64::try_from(by.as_micros()).unwrap_or(0), Ordering::Relaxed);
    }

    /// Starts a member as a server does: one that lacks something is repaired first.
    pub fn start(&mut self, id: u64) {
        let (count, seed) = (self.members.len() as u64, self.chance.number());
        let Some(member) = self.members.get_mut(&id) else { return };
        member.lives += 1;
        member.connected = Connected::default();
        drop(std::mem::take(&mut *member.outbox.0.lock()));
        let (outbox, connected) = (member.outbox.clone(), member.connected.clone());
        let connect: Connect = Arc::new(move |identity, sink, snapshots| {
            *connected.introduction.lock() = Some(identity.introduction());
            *connected.sink.lock() = Some(sink);
            *connected.snapshots.lock() = snapshots;
            Arc::new(outbox.clone())
        });
        let parts = NodeParts { clock: Arc::new(self.time.clone()), connect: Some(connect) };
        let options = options(id, count);
        let storage = Arc::clone(&member.storage);
        member.doing = match SteppedNode::start(options.clone(), &parts, Arc::clone(&storage), seed) {
            Ok(node) => Doing::Running(Box::new(node)),
            Err(StartError::Log(LogError::Corrupt { .. }) | StartError::MissingEvents { .. }) => {
                match SteppedPatient::open(&options, storage) {
                    Ok(Some(patient)) => {
                        let lacks_records = patient.is_whole();
                        Doing::Repairing(Box::new(Repairing { patient, lacks_records, obstacle: String::new() }))
                    }
                    Ok(None) => Doing::Refusing("it has nobody to ask".into()),
                    Err(error) => Doing::Refusing(error.to_string()),
                }
            }
            Err(error) => Doing::Refusing(error.to_string()),
        };
    }

    /// Starts all of them.
    pub fn start_all(&mut self) {
        self.ids().into_iter().for_each(|id| self.start(id));
    }

    /// Ends a member as if its process was killed, or its power went.
    pub fn kill(&mut self, id: u64, loss: CrashLoss) {
        let seed = self.chance.number();
        let Some(member) = self.members.get_mut(&id) else { return };
        member.doing = Doing::Stopped;
        let crashed = member.disks().crash(loss, seed);
        *member = MemberNode { lives: member.lives, ..MemberNode::over(crashed) };
    }

    /// Ends a member properly.
    pub fn stop(&mut self, id: u64) {
        if let Some(node) = self.members.get_mut(&id).and_then(MemberNode::running_mut) {
            node.begin_to_stop();
        }
        for _ in 0..100 {
            let ended = |member: &MemberNode| member.running().is_none_or(SteppedNode::has_ended);
            if self.members.get(&id).is_none_or(ended) {
                break;
            }
            self.round();
        }
        let Some(member) = self.members.get_mut(&id) else { return };
        if let Doing::Running(node) = std::mem::replace(&mut member.doing, Doing::Stopped) {
            node.close();
        }
        self.kill(id, CrashLoss::Nothing);
    }

    /// The disks of all members, which have ended.
    #[must_use]
    pub fn into_disks(mut self) -> BTreeMap<u64, Disks> {
        self.members.values_mut().for_each(|member| member.doing = Doing::Stopped);
        self.members.iter().map(|(id, member)| (*id, member.disks())).collect()
    }

    /// The disks of all members as they are now.
    #[must_use]
    pub fn disks_now(&self) -> BTreeMap<u64, Disks> {
        self.members.iter().map(|(id, member)| (*id, member.disks().duplicate())).collect()
    }

    /// Handles of the members that run, whose records are right as far as they know.
    #[must_use]
    pub fn serving(&self) -> BTreeMap<u64, Node> {
        let handle = |member: &MemberNode| Some(member.running()?.node().clone());
        let handles = self.members.iter().filter_map(|(id, member)| Some((*id, handle(member)?)));
        handles.filter(|(_, node)| node.check_records().is_ok() && node.failure().is_none()).collect()
    }

    /// How far a member knows the log to be committed.
    #[must_use]
    pub fn committed(&self, id: u64) -> LogIndex {
        self.members.get(&id).and_then(MemberNode::running).map_or(LogIndex::ZERO, SteppedNode::committed)
    }

    /// Whoever decides.
    #[must_use]
    pub fn leader(&self) -> Option<(u64, Node)> {
        let leads =
            |member: &MemberNode| member.running().filter(|node| node.decides()).map(|node| node.node().clone());
        self.members.iter().find_map(|(id, member)| Some((*id, leads(member)?)))
    }

    /// What is in the way of those who do not take part.
    #[must_use]
    pub fn obstacles(&self) -> String {
        let obstacle = |(id, member): (&u64, &MemberNode)| match &member.doing {
            Doing::Stopped => Some(format!("{id}: stopped")),
            Doing::Refusing(reason) => Some(format!("{id}: {reason}")),
            Doing::Repairing(repairing) => Some(format!("{id}: {}", repairing.obstacle)),
            Doing::Running(node) if node.node().check_records().is_err() => {
                Some(format!("{id}: makes its records anew"))
            }
            Doing::Running(_) => None,
        };
        self.members.iter().filter_map(obstacle).collect::<Vec<_>>().join("; ")
    }

    /// Drives everybody until something is done, for so many rounds at the most.
    pub fn until_done<T>(&mut self, rounds: usize, future: impl Future<Output = T>) -> Option<T> {
        let mut future = std::pin::pin!(future);
        for _ in 0..rounds {
            if let Some(done) = poll(future.as_mut()) {
                return Some(done);
            }
            self.round();
        }
        poll(future)
    }

    /// A tick for everybody, and all that follows from it.
    pub fn round(&mut self) {
        self.jump(TICK);
        for member in self.members.values_mut() {
            if let Some(node) = member.running_mut() {
                node.tick();
                node.pass(TICK);
            }
        }
        self.settle();
        for id in self.ids() {
            self.repair(id);
        }
        self.settle();
    }

    /// Lets everybody work until nothing is left to do now.
    fn settle(&mut self) {
        let mut idle = 0;
        for _ in 0..STEPS_MAX {
            // First, because that may be what gives members something to do.
            let before = self.serving.len();
            self.serving.retain_mut(|serving| poll(serving.as_mut()).is_none());
            let mut moved = self.serving.len() < before;
            for id in self.ids() {
                moved |= self.work(id);
                moved |= self.send_out(id);
            }
            idle = if moved { 0 } else { idle + 1 };
            if idle > if self.serving.is_empty() { 0 } else { SERVING_STEPS } {
                return;
            }
        }
    }

    fn work(&mut self, id: u64) -> bool {
        let Some(member) = self.members.get_mut(&id) else { return false };
        let Some(node) = member.running_mut() else { return false };
        let mut moved = false;
        for _ in 0..STEPS_MAX {
            let mut stepped = node.turn();
            while node.has_writes() {
                node.write();
                stepped = true;
            }
            stepped |= node.work();
            if !stepped {
                break;
            }
            moved = true;
        }
        if node.has_ended() && node.node().failure().is_some_and(|reason| reason != "node stopped") {
            let reason = node.node().failure().unwrap_or_default();
            member.doing = Doing::Refusing(format!("it has ended: {reason}"));
        }
        moved
    }

    fn send_out(&mut self, id: u64) -> bool {
        let Some(member) = self.members.get(&id) else { return false };
        let sent = std::mem::take(&mut *member.outbox.0.lock());
        let moved = !sent.messages.is_empty() || !sent.greetings.is_empty() || !sent.fetches.is_empty();
        for to in sent.greetings {
            if self.introduce(id, to.0).is_some()
                && let Some(sink) = self.members.get(&id).and_then(MemberNode::sink)
            {
                sink.admitted_by(to);
            }
        }
        for message in sent.messages {
            let to = message.to;
            if let Some(who) = self.introduce(id, to)
                && let Some(sink) = self.members.get(&to).and_then(MemberNode::sink)
            {
                // A member that is ending takes nothing.
                let _ = sink.deliver(Delivery::introduced(&who, vec![message]));
            }
        }
        for Fetch { from, minimum, answer } in sent.fetches {
            let serving = self.serve(from.0, id, minimum, move |fetched| {
                let in_memory = |bytes: Bytes| FetchedSnapshot::in_memory(bytes);
                drop(answer.send(fetched.map_err(given_up).and_then(in_memory)));
            });
            self.serving.extend(serving);
        }
        moved
    }

    /// Two members get to know each other.
    fn introduce(&self, from: u64, to: u64) -> Option<Introduction> {
        let (sender, receiver) = (self.members.get(&from)?, self.members.get(&to)?);
        let (own, other) = (sender.introduction()?, receiver.introduction()?);
        let (own_sink, other_sink) = (sender.sink()?, receiver.sink()?);
        match own_sink.admit(&other) {
            Ok(()) | Err(HandshakeError::NotAdmitted(_)) => {}
            Err(_) => return None,
        }
        match other_sink.admit(&own) {
            Ok(()) => Some(own),
            Err(refused) => {
                let for_good = matches!(refused, HandshakeError::WrongDirectory { .. });
                own_sink.turned_away_by(other.node, &refused.to_string(), for_good);
                None
            }
        }
    }

    /// A snapshot that a member makes for another one.
    fn serve(
        &self,
        from: u64,
        to: u64,
        minimum: LogIndex,
        done: impl FnOnce(Result<Bytes, String>) + Send + 'static,
    ) -> Option<Serving> {
        let member = self.members.get(&from).filter(|member| member.running().is_some());
        let Some(provider) = member.and_then(|member| member.connected.snapshots.lock().clone()) else {
            done(Err("there is no way".into()));
            return None;
        };
        Some(Box::pin(async move {
            let opened = provider.open(NodeId(to), None, minimum).await.map_err(|error| error.to_string());
            let received = opened.and_then(|mut served| {
                let mut receiver = ChunkReceiver::new(Vec::new(), SNAPSHOT_BYTES_MAX);
                while let Some(chunk) = served.next_chunk().map_err(|error| error.to_string())? {
                    receiver.accept(&chunk).map_err(|error| error.to_string())?;
                }
                Ok(Bytes::from(receiver.into_inner()))
            });
            done(received);
        }))
    }

    /// One round of questions of a member that repairs itself, and what follows from the answers.
    fn repair(&mut self, id: u64) {
        let Some(member) = self.members.get_mut(&id) else { return };
        if !matches!(member.doing, Doing::Repairing(_)) {
            return;
        }
        let Doing::Repairing(mut repairing) = std::mem::replace(&mut member.doing, Doing::Stopped) else { return };
        let treated = match repairing.lacks_records {
            true => Ok(self.fetch_base(id, &repairing.patient)),
            false => self.treat(id, &repairing.patient),
        };
        let Some(member) = self.members.get_mut(&id) else { return };
        match treated {
            Err(error) => member.doing = Doing::Refusing(error.to_string()),
            Ok(Some(obstacle)) => {
                repairing.obstacle = obstacle;
                member.doing = Doing::Repairing(repairing);
            }
            Ok(None) => match repairing.patient.close() {
                Ok(()) => self.start(id),
                Err(error) => member.doing = Doing::Refusing(error.to_string()),
            },
        }
    }

    /// `None` when the log is whole, else what is in the way.
    fn treat(&mut self, id: u64, patient: &SteppedPatient) -> Result<Option<String>, LogError> {
        self.ask_all(id, patient)?;
        for _ in 0..TREATMENTS_MAX {
            match patient.step()? {
                Need::Nothing => return Ok(None),
                Need::Answers => self.ask_all(id, patient)?,
                Need::Patience(obstacle) => return Ok(Some(obstacle.to_string())),
                Need::Snapshot { at_least, .. } => return Ok(self.fetch_snapshot(id, patient, at_least)),
                Need::Entries(wanted) => {
                    let mut taken = 0;
                    for wanted in wanted {
                        let source = wanted.sources[self.chance.below(wanted.sources.len() as u64) as usize];
                        let entries = self.entries_of(source.0, &wanted);
                        self.fetched.0 += entries.len() as u64;
                        self.fetched.1 += entries.iter().map(|entry| entry.payload.len() as u64).sum::<u64>();
                        taken += patient.receive(entries)?;
                    }
                    if taken == 0 {
                        return Ok(Some("what was fetched does not fit".into()));
                    }
                }
            }
        }
        Ok(Some("it goes on".into()))
    }

    fn fetch_base(&mut self, id: u64, patient: &SteppedPatient) -> Option<String> {
        self.fetch_snapshot(id, patient, patient.base())
    }

    /// `None` when a snapshot was taken over, else what is in the way.
    fn fetch_snapshot(&mut self, id: u64, patient: &SteppedPatient, minimum: LogIndex) -> Option<String> {
        let mut last = "nobody has a snapshot".to_owned();
        for from in self.ids().into_iter().filter(|from| *from != id) {
            let fetched: Arc<Mutex<Option<Result<Bytes, String>>>> = Arc::default();
            let arrived = Arc::clone(&fetched);
            let serving = self.serve(from, id, minimum, move |outcome| *arrived.lock() = Some(outcome));
            self.serving.extend(serving);
            self.settle();
            let outcome = fetched.lock().take().unwrap_or_else(|| Err("it takes long".into()));
            match outcome.and_then(|snapshot| patient.take_over(snapshot)) {
                Ok(()) => {
                    self.snapshots += 1;
                    return None;
                }
                Err(reason) => {
                    last = format!("a snapshot that reaches entry {minimum} is needed; member {from}: {reason}")
                }
            }
        }
        Some(last)
    }

    fn ask_all(&mut self, id: u64, patient: &SteppedPatient) -> Result<(), LogError> {
        let Some(question) = patient.ask()? else { return Ok(()) };
        for other in self.ids().into_iter().filter(|other| *other != id) {
            if let Some((who, statement)) = self.answer_of(other, question) {
                // Another data directory than the group knows says nothing.
                drop(patient.hear(&who, statement));
            }
        }
        Ok(())
    }

    fn answer_of(&mut self, id: u64, question: Question) -> Option<(Introduction, Statement)> {
        let member = self.members.get(&id)?;
        if let Doing::Repairing(repairing) = &member.doing {
            return Some((repairing.patient.introduction(), repairing.patient.answer(&question).ok()??));
        }
        let who = member.introduction()?;
        let mut answering = Box::pin(member.running()?.describe_log(question));
        for _ in 0..STEPS_MAX {
            if let Some(answer) = poll(answering.as_mut()) {
                return Some((who, answer?));
            }
            if !self.work(id) {
                break;
            }
        }
        None
    }

    fn entries_of(&self, id: u64, wanted: &Wanted) -> Vec<Entry> {
        let range = WantedEntries { first: wanted.first, last: wanted.last, term: wanted.term };
        match self.members.get(&id).map(|member| &member.doing) {
            Some(Doing::Running(node)) => node.entries(range),
            Some(Doing::Repairing(repairing)) => repairing.patient.entries(range),
            _ => Vec::new(),
        }
    }
}

fn given_up(last: String) -> FetchError {
    FetchError::GaveUp { attempts: 1, last }
}

/// An entry that nobody else creates.
#[must_use]
pub fn creation(number: u64, bytes: usize) -> Command {
    let entry = spire::entries::records::Entry {
        spiffe_id: format!("spiffe://example.org/workload/{number}"),
        parent_id: "spiffe://example.org/agent".into(),
        selectors: vec![spire::selectors::Selector { kind: "unix".into(), value: format!("{number:0>bytes$}") }],
        ..spire::entries::records::Entry::default()
    };
    Command::Spire(spire::Command::Entry(spire::entries::Command::CreateOrReturn(Some(entry))))
}

/// A command that lets all events go.
#[must_use]
pub fn prune() -> Command {
    let prune = spire::events::Command::PruneEntryEvents { older_than_micros: u64::MAX, limit: 1000 };
    Command::Spire(spire::Command::Event(prune))
}

/// Where the members' records of a group are.
pub const NAMESPACE: &str = "one";

/// The namespace, as a node has it.
#[must_use]
pub fn namespace(node: &Node) -> Option<NamespaceId> {
    node.namespace(NAMESPACE)
}
