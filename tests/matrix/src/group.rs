//! A group of members over simulated disks in virtual time, damaged ones included.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{
    Entry, EntryKind, FaultPolicy, HardState, Log, LogError, LogIdentity, LogOptions, LogReader, LogWriter,
    Verification,
};
use steeple_raft::eraftpb::Message;
use steeple_raft::{
    Configuration, Member, Membership, MembershipChange, Need, Obstacle, Output, Patient, Question, Replica,
    ReplicaOptions, Statement,
};

use crate::chance::Chance;

/// Ticks after which a group that got nowhere is taken for stuck: ten elections.
const TICKS_MAX: u64 = 240;

/// Entries that a damaged member fetches at once.
const FETCH_ENTRIES_MAX: usize = 64;

/// What a case came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every member is whole again and holds the same log with everything that was committed, and a new entry was
    /// committed.
    Repaired,
    /// As before, by a majority; somebody is still damaged or down.
    Available(String),
    /// Nothing new was committed, and nothing was lost or changed.
    Unavailable(String),
    /// Something that was committed is lost or changed, or members disagree.
    Unsafe(String),
}

/// Settings of the logs: small segments, in which entries and their records share no block, as they hardly ever do in
/// large ones; and everything is read when they are opened.
#[must_use]
pub fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 32 << 10,
        segment_entries: 16,
        spare_segments: 1,
        verification: Verification::Everything,
        faults: FaultPolicy::Report,
        create: true,
    }
}

fn identity(node: u64) -> LogIdentity {
    LogIdentity { cluster: ClusterId([1; 16]), node: NodeId(node), group: GroupId(0), history: HistoryId([2; 16]) }
}

/// A member that takes part.
pub struct Running {
    /// Its consensus.
    pub replica: Replica,
    /// Its log.
    pub writer: LogWriter,
    log: LogReader,
    folded: LogIndex,
    tag: u64,
}

/// What a member is doing.
pub enum Doing {
    /// It is not there.
    Stopped,
    /// It takes part.
    Running(Box<Running>),
    /// Its log is damaged.
    Repairing(Box<Patient>, Option<Obstacle>),
    /// It cannot start.
    Refusing(String),
}

/// A member and its disk.
pub struct Node {
    /// Its disk.
    pub disk: SimulatedDisk,
    /// What it is doing.
    pub doing: Doing,
    runs: u64,
}

/// The members, and what is known to be committed.
pub struct Group {
    /// By their numbers.
    pub nodes: BTreeMap<u64, Node>,
    /// Entries that somebody has folded.
    pub committed: BTreeMap<u64, Entry>,
    /// Something that must not be.
    pub violation: Option<String>,
    /// Messages between these pairs are lost.
    pub blocked: BTreeSet<(u64, u64)>,
    /// Entries that damaged members have fetched, and their bytes.
    pub fetched: (u64, u64),
    network: Vec<Message>,
    payloads: u64,
    chance: Chance,
}

impl Group {
    /// Nodes 1 to `voters` found a group.
    #[must_use]
    pub fn founded(voters: u64, seed: u64) -> Self {
        let disks = (1..=voters).map(|node| (node, SimulatedDisk::new())).collect();
        let mut group = Self::over(disks, BTreeMap::new(), seed);
        for node in 1..=voters {
            group.found(node, voters);
        }
        group
    }

    /// Members over disks that there are already, none of them running.
    #[must_use]
    pub fn over(disks: BTreeMap<u64, SimulatedDisk>, committed: BTreeMap<u64, Entry>, seed: u64) -> Self {
        let node = |(node, disk)| (node, Node { disk, doing: Doing::Stopped, runs: seed % 1000 });
        Self {
            nodes: disks.into_iter().map(node).collect(),
            committed,
            violation: None,
            blocked: BTreeSet::new(),
            fetched: (0, 0),
            network: Vec::new(),
            payloads: 0,
            chance: Chance::new(seed),
        }
    }

    fn found(&mut self, node: u64, voters: u64) {
        let member = |node: u64| Member { peer_address: format!("p{node}:1"), client_address: format!("c{node}:1") };
        let change = MembershipChange::founding((1..=voters).map(|node| (node, member(node))).collect());
        let disk = Arc::new(self.nodes[&node].disk.clone());
        let opened = Log::open(disk, log_options(), identity(node)).and_then(|(mut writer, ..)| {
            let position = LogPosition { term: Term(1), index: LogIndex(1) };
            let payload = change.encode().into();
            writer.append(&[Entry { position, kind: EntryKind::Membership, tag: 0, payload }])?;
            writer.save_hard_state(HardState { term: Term(1), vote: None, commit: LogIndex(1) })
        });
        self.note(opened);
    }

    /// An error where none may come is a violation.
    fn note<T>(&mut self, outcome: Result<T, LogError>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(error) => {
                self.violation.get_or_insert(format!("unexpected: {error}"));
                None
            }
        }
    }

    fn configuration(&self) -> Configuration {
        Configuration { voters: self.nodes.keys().copied().collect(), voters_outgoing: BTreeSet::new() }
    }

    /// Opens the log of a member; it takes part if that is whole.
    pub fn start(&mut self, id: u64) {
        let configuration = self.configuration();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.runs += 1;
        // A log that is not there is not made anew: an empty one would forget what it has promised.
        let options = LogOptions { create: false, ..log_options() };
        let disk = Arc::new(node.disk.clone());
        node.doing = match Log::open(disk, options, identity(id)) {
            Err(error) => Doing::Refusing(error.to_string()),
            Ok((_, _, recovery)) if recovery.check_term().is_err() => {
                Doing::Refusing(recovery.check_term().err().map(|error| error.to_string()).unwrap_or_default())
            }
            Ok((writer, _, recovery)) if recovery.faults.is_empty() => run(id, node.runs, writer),
            Ok((writer, ..)) => Doing::Repairing(Box::new(Patient::new(writer, Some(configuration))), None),
        };
        self.drain(id);
    }

    /// Ends a member properly.
    pub fn stop(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if let Doing::Running(running) = std::mem::replace(&mut node.doing, Doing::Stopped) {
            let Running { replica, mut writer, .. } = *running;
            let closed = writer.set_hard_state(replica.handed_out()).and_then(|()| writer.close());
            self.note(closed);
        }
    }

    /// Members that take part.
    #[must_use]
    pub fn running(&self) -> Vec<u64> {
        let runs = |node: &&u64| matches!(self.nodes[node].doing, Doing::Running(_));
        self.nodes.keys().filter(runs).copied().collect()
    }

    /// Whoever leads the newest term and has folded the entry that opened it.
    #[must_use]
    pub fn leader(&self) -> Option<u64> {
        let leading = self.nodes.iter().filter_map(|(id, node)| match &node.doing {
            Doing::Running(running) => {
                let leadership = running.replica.leadership();
                let opened = leadership.opened.filter(|opened| running.folded >= *opened);
                opened.map(|_| (leadership.term, *id))
            }
            _ => None,
        });
        leading.max().map(|(_, id)| id)
    }

    /// What the members look like, for whoever wants to know why they do not get on.
    #[must_use]
    pub fn describe(&self) -> String {
        let describe = |(id, node): (&u64, &Node)| match &node.doing {
            Doing::Running(running) => {
                let leadership = running.replica.leadership();
                format!("{id}: term {}, leader {:?}, folded {}", leadership.term, leadership.leader, running.folded)
            }
            Doing::Stopped => format!("{id}: stopped"),
            Doing::Repairing(_, obstacle) => format!("{id}: damaged, {obstacle:?}"),
            Doing::Refusing(reason) => format!("{id}: {reason}"),
        };
        self.nodes.iter().map(describe).collect::<Vec<_>>().join("; ")
    }

    /// Proposes an event to a member that leads.
    pub fn propose(&mut self, id: u64, bytes: usize) -> Option<LogPosition> {
        self.payloads += 1;
        let text = format!("{} {} ", self.payloads, self.chance.number());
        let payload = Bytes::from(text.clone() + &"x".repeat(bytes.saturating_sub(text.len())));
        let Doing::Running(running) = &mut self.nodes.get_mut(&id)?.doing else { return None };
        let tag = running.tag.max(running.log.last_tag()) + 1;
        let proposed = running.replica.propose(EntryKind::Event, tag, payload).ok();
        running.tag = tag;
        self.drain(id);
        proposed
    }

    /// One tick for everybody, and all that follows from it.
    pub fn round(&mut self) {
        for id in self.running() {
            if let Some(Doing::Running(running)) = self.nodes.get_mut(&id).map(|node| &mut node.doing) {
                running.replica.tick();
            }
            self.drain(id);
        }
        for _ in 0..100 {
            if self.network.is_empty() {
                break;
            }
            for message in std::mem::take(&mut self.network) {
                self.deliver(message);
            }
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.repair(id);
        }
    }

    fn deliver(&mut self, message: Message) {
        let to = message.to;
        if self.blocked.contains(&(message.from, to)) {
            return;
        }
        let Some(Doing::Running(running)) = self.nodes.get_mut(&to).map(|node| &mut node.doing) else { return };
        if let Err(refused) = running.replica.receive(message) {
            self.violation.get_or_insert(format!("node {to} refused the message of a sane peer: {refused}"));
        }
        self.drain(to);
    }

    /// Takes what follows from the inputs of a member, and carries it out.
    fn drain(&mut self, id: u64) {
        loop {
            let Some(Doing::Running(running)) = self.nodes.get_mut(&id).map(|node| &mut node.doing) else { return };
            match running.replica.take_output() {
                Ok(Some(output)) => self.take(id, output),
                Ok(None) => return,
                Err(error) => {
                    if let Some(node) = self.nodes.get_mut(&id) {
                        node.doing = Doing::Refusing(error.to_string());
                    }
                    return;
                }
            }
        }
    }

    fn take(&mut self, id: u64, output: Output) {
        let Some(Doing::Running(running)) = self.nodes.get_mut(&id).map(|node| &mut node.doing) else { return };
        if let Some(write) = output.write {
            let number = write.number;
            if let Err(error) = carry_out(&mut running.writer, &write) {
                self.violation.get_or_insert(format!("node {id} cannot write: {error}"));
                return;
            }
            running.replica.persisted(number);
        }
        self.network.extend(output.messages);
        for entry in output.committed {
            running.folded = entry.position.index;
            if entry.kind == EntryKind::Membership && running.replica.apply_membership(&entry).is_err() {
                self.violation.get_or_insert(format!("node {id} cannot apply a membership"));
            }
            running.replica.applied(entry.position.index);
            let known = self.committed.entry(entry.position.index.0).or_insert_with(|| entry.clone());
            if !is_same(known, &entry) {
                let text = format!("node {id} has {} where {} was committed", entry.position, known.position);
                self.violation.get_or_insert(text);
            }
        }
    }

    /// One round of questions of a damaged member, and what follows from the answers.
    fn repair(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if !matches!(node.doing, Doing::Repairing(..)) {
            return;
        }
        let Doing::Repairing(mut patient, _) = std::mem::replace(&mut node.doing, Doing::Stopped) else { return };
        let outcome = self.treat(id, &mut patient);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        match outcome {
            Err(error) => node.doing = Doing::Refusing(error.to_string()),
            Ok(None) => {
                drop(patient.into_writer().close());
                self.start(id);
            }
            Ok(Some(obstacle)) => node.doing = Doing::Repairing(patient, obstacle),
        }
    }

    /// Answers `None` when the log is whole, else what is in the way.
    fn treat(&mut self, id: u64, patient: &mut Patient) -> Result<Option<Option<Obstacle>>, LogError> {
        self.ask_all(id, patient)?;
        for _ in 0..200 {
            match patient.step()? {
                Need::Nothing => return Ok(None),
                Need::Answers => self.ask_all(id, patient)?,
                Need::Patience(obstacle) => return Ok(Some(Some(obstacle))),
                Need::Snapshot { .. } => return Ok(Some(None)),
                Need::Entries(wanted) => {
                    let mut taken = 0;
                    let (first, last) = (wanted[0].first, wanted[wanted.len() - 1].last);
                    for wanted in wanted {
                        let source = wanted.sources[self.chance.below(wanted.sources.len() as u64) as usize];
                        let indexes = (wanted.first.0..=wanted.last.0).take(FETCH_ENTRIES_MAX);
                        let entries: Vec<Entry> =
                            indexes.filter_map(|index| self.entry_of(source.0, LogIndex(index))).collect();
                        self.fetched.0 += entries.len() as u64;
                        self.fetched.1 += entries.iter().map(|entry| entry.payload.len() as u64).sum::<u64>();
                        taken += patient.receive(entries)?;
                    }
                    if taken == 0 {
                        return Ok(Some(Some(Obstacle::NotTaken { first, last })));
                    }
                }
            }
        }
        Ok(Some(None))
    }

    fn ask_all(&mut self, id: u64, patient: &mut Patient) -> Result<(), LogError> {
        let question = patient.ask()?;
        let others: Vec<u64> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        for other in others {
            let is_lost = self.blocked.contains(&(id, other)) || self.chance.one_in(20);
            if let Some(statement) = self.answer_of(other, &question).filter(|_| !is_lost)
                && patient.hear(NodeId(other), statement).is_err()
            {
                self.violation.get_or_insert(format!("node {other} says what makes no sense"));
            }
        }
        Ok(())
    }

    fn answer_of(&mut self, id: u64, question: &Question) -> Option<Statement> {
        let statement = match &mut self.nodes.get_mut(&id)?.doing {
            Doing::Running(running) => running.replica.state_for(question).ok(),
            Doing::Repairing(patient, _) => patient.answer(question).ok(),
            _ => None,
        };
        self.drain(id);
        statement
    }

    fn entry_of(&self, id: u64, index: LogIndex) -> Option<Entry> {
        match &self.nodes.get(&id)?.doing {
            Doing::Running(running) => running.replica.entry(index).ok().flatten(),
            Doing::Repairing(patient, _) => patient.entry(index),
            _ => None,
        }
    }

    /// Starts everybody, lets time pass, and looks at what became of the history.
    #[must_use]
    pub fn recover(&mut self) -> Outcome {
        let history = self.committed.clone();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.start(id);
        }
        let mut proposed = None;
        for _ in 0..TICKS_MAX {
            self.round();
            if let Some(violation) = &self.violation {
                return Outcome::Unsafe(violation.clone());
            }
            if proposed.is_none_or(|index| !self.is_spread(index))
                && let Some(leader) = self.leader()
            {
                proposed = self.propose(leader, 40).map(|position| position.index).or(proposed);
            }
            if proposed.is_some_and(|index| self.is_spread(index)) && self.running().len() == self.nodes.len() {
                break;
            }
        }
        self.judge(&history)
    }

    /// Whether everybody who runs has folded an entry that is committed.
    fn is_spread(&self, index: LogIndex) -> bool {
        self.committed.contains_key(&index.0)
            && self.nodes.values().all(|node| match &node.doing {
                Doing::Running(running) => running.folded >= index,
                _ => true,
            })
    }

    fn judge(&self, history: &BTreeMap<u64, Entry>) -> Outcome {
        let is_available = self.committed.len() > history.len();
        for id in self.running() {
            let Some(Doing::Running(running)) = self.nodes.get(&id).map(|node| &node.doing) else { continue };
            if !is_available || running.folded.0 < history.len() as u64 {
                continue;
            }
            for (index, entry) in history.range(running.log.first().0..) {
                match running.log.read(LogIndex(*index)) {
                    Ok(Some(found)) if is_same(&found, entry) => {}
                    other => return Outcome::Unsafe(format!("node {id} holds {other:?} in the place of {entry:?}")),
                }
            }
        }
        let obstacles = self.nodes.iter().filter_map(|(id, node)| match &node.doing {
            Doing::Repairing(patient, obstacle) => Some(format!(
                "{id}: {:?} {obstacle:?}",
                patient.holes().iter().map(|hole| hole.first).collect::<Vec<_>>()
            )),
            Doing::Refusing(reason) => Some(format!("{id}: {reason}")),
            _ => None,
        });
        let obstacles = obstacles.collect::<Vec<_>>().join("; ");
        match (is_available, obstacles.is_empty()) {
            (false, _) => Outcome::Unavailable(obstacles),
            (true, true) => Outcome::Repaired,
            (true, false) => Outcome::Available(obstacles),
        }
    }
}

/// The tag of what is no event is not told when it is committed.
fn is_same(left: &Entry, right: &Entry) -> bool {
    (left.position, left.kind, &left.payload) == (right.position, right.kind, &right.payload)
}

fn run(id: u64, runs: u64, writer: LogWriter) -> Doing {
    let log = writer.reader();
    let state = writer.hard_state();
    let options = ReplicaOptions { message_bytes_max: 2_000, messages_in_flight_max: 8, ..ReplicaOptions::default() };
    let base = log.base().index;
    match Replica::new(NodeId(id), options, log.clone(), state, base, Membership::default(), runs) {
        Ok(replica) => Doing::Running(Box::new(Running { replica, tag: 0, folded: base, log, writer })),
        Err(error) => Doing::Refusing(error.to_string()),
    }
}

fn carry_out(writer: &mut LogWriter, write: &steeple_raft::Write) -> Result<(), LogError> {
    if let Some(state) = write.hard_state {
        writer.save_hard_state(state)?;
    }
    if let Some(first) = write.entries.first() {
        if first.position.index <= writer.reader().last().index {
            writer.truncate_suffix(first.position.index)?;
        }
        writer.append(&write.entries)?;
    }
    if let Some(committed) = write.committed {
        writer.save_hard_state(HardState { commit: committed, ..writer.hard_state() })?;
    }
    writer.sync().map(drop)
}
