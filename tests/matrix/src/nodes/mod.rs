//! Groups of whole nodes over simulated disks in virtual time: log, base snapshot, records, repair and takeovers, as in a
//! server; only sockets, threads and sled are left out.

mod member;
mod nursing;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::domain::Command;
use steeple_engine::ids::{LogIndex, NamespaceId, NodeId};
use steeple_engine::log::LogError;
use steeple_engine::spire;
use steeple_server::node::stepped::{SteppedNode, SteppedPatient};
use steeple_server::node::{Connect, Node, NodeParts, StartError};
use steeple_server::peer::{Delivery, FetchError, FetchedSnapshot, HandshakeError, Introduction};
use steeple_snapshot::ChunkReceiver;

use crate::chance::Chance;

pub use self::member::Disks;
use self::member::{Connected, Doing, Fetch, MemberNode, Repairing, Time, options};

/// How far time goes in one round.
const TICK: Duration = Duration::from_millis(100);

/// Rounds of work that follow from one tick at the most.
const STEPS_MAX: usize = 2_000;

/// Bytes of a snapshot at the most.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

/// Steps that a snapshot on its way may take without anything that a member has to do.
const SERVING_STEPS: usize = 3;

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
        // What was doing is dropped behind it: a process that is killed tidies nothing up.
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
