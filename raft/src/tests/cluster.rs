//! A group of replicas over simulated disks and a bad network, driven as a server drives them, and a record of
//! everything that must hold.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use raft::eraftpb::Message;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};
use steeple_engine::log::{
    Entry, EntryKind, FaultPolicy, HardState, Log, LogIdentity, LogOptions, LogReader, LogWriter, Verification,
};

use crate::membership::{Member, Membership, MembershipChange};
use crate::replica::{Output, Replica, ReplicaOptions, SnapshotOffer, Write, WriteNumber};

/// Messages on their way at the most; what comes on top pushes others out.
const MESSAGES_MAX: usize = 300;

/// Everything random follows from a seed.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(super) fn one_in(&mut self, cases: usize) -> bool {
        self.below(cases) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, among: &[T]) -> Option<T> {
        (!among.is_empty()).then(|| among[self.below(among.len())])
    }
}

/// What stands for a view: a digest of everything folded.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Folded {
    pub(super) position: LogPosition,
    pub(super) tag: u64,
    pub(super) chain: u64,
    pub(super) membership: Membership,
}

impl Folded {
    fn take(&mut self, entry: &Entry) {
        let mut hasher = DefaultHasher::new();
        (self.chain, entry.position.index.0, entry.position.term.0, entry.kind, &entry.payload).hash(&mut hasher);
        self.chain = hasher.finish();
        self.position = entry.position;
        if entry.kind == EntryKind::Event {
            assert!(entry.tag > self.tag, "revisions count up");
            self.tag = entry.tag;
        }
    }
}

/// One process.
pub(super) struct Running {
    pub(super) replica: Replica,
    pub(super) writer: LogWriter,
    pub(super) log: LogReader,
    pub(super) folded: Folded,
    /// Handed out and not yet written.
    pub(super) writes: VecDeque<Write>,
    /// Durable and not yet reported.
    pub(super) written: Option<WriteNumber>,
    /// The index that an answer must have at the least, by round.
    reads: BTreeMap<u64, u64>,
    next_tag: u64,
}

/// A node, running or not.
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) disk: SimulatedDisk,
    pub(super) running: Option<Running>,
    /// What the next process finds of the view.
    pub(super) durable: Folded,
    runs: u64,
}

/// The group, its network, and what is known to be true of it.
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) network: Vec<Message>,
    pub(super) blocked: BTreeSet<(u64, u64)>,
    pub(super) offers: Vec<(u64, SnapshotOffer)>,
    pub(super) chance: Chance,
    /// Every entry that anyone folded, with the digest after it.
    pub(super) committed: BTreeMap<u64, (Entry, u64)>,
    pub(super) leaders: BTreeMap<u64, u64>,
    /// The last entry that a leader folded, so that somebody was told of it.
    pub(super) acknowledged: u64,
    pub(super) reads_answered: u64,
    pub(super) snapshots_installed: u64,
    next_round: u64,
    next_payload: u64,
}

pub(super) fn member(node: u64) -> Member {
    Member { peer_address: format!("node{node}:1"), client_address: format!("node{node}:2") }
}

pub(super) fn log_options() -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        segment_entries: 16,
        spare_segments: 1,
        verification: Verification::Everything,
        // Nothing decays on these disks, so that what is doubtful after a crash was never finished.
        faults: FaultPolicy::CutUndecided,
        create: true,
    }
}

pub(super) fn identity(node: NodeId) -> LogIdentity {
    LogIdentity { cluster: ClusterId([1; 16]), node, group: GroupId(1), history: HistoryId([2; 16]) }
}

pub(super) fn open_log(disk: &SimulatedDisk, node: NodeId) -> (LogWriter, LogReader) {
    let (writer, log, _) = Log::open(Arc::new(disk.clone()), log_options(), identity(node)).unwrap();
    (writer, log)
}

pub(super) fn replica_options() -> ReplicaOptions {
    ReplicaOptions { message_bytes_max: 1_000, messages_in_flight_max: 4, ..ReplicaOptions::default() }
}

/// Carries out of a write what comes before its entries.
fn begin(writer: &mut LogWriter, write: &Write) {
    if let Some(state) = write.hard_state {
        writer.save_hard_state(state).unwrap();
    }
}

/// Carries out writes as the thread of the log does: hard states and entries in order, and one sync for all.
pub(super) fn carry_out(writer: &mut LogWriter, writes: &[Write], syncs: bool) {
    for write in writes {
        begin(writer, write);
        let Some(first) = write.entries.first() else { continue };
        if first.position.index <= writer.reader().last().index {
            writer.truncate_suffix(first.position.index).unwrap();
        }
        writer.append(&write.entries).unwrap();
        if let Some(committed) = write.committed {
            writer.save_hard_state(HardState { commit: committed, ..writer.hard_state() }).unwrap();
        }
    }
    if syncs {
        writer.sync().unwrap();
    }
}

impl Node {
    /// A node with an empty log.
    fn empty(id: u64) -> Self {
        Self { id: NodeId(id), disk: SimulatedDisk::new(), running: None, durable: Folded::default(), runs: 0 }
    }

    /// Writes the first entry of a group.
    fn found(&mut self, members: BTreeMap<u64, Member>) {
        let (mut writer, _) = open_log(&self.disk, self.id);
        let position = LogPosition { term: Term(1), index: LogIndex(1) };
        let payload = MembershipChange::founding(members).encode().into();
        writer.save_hard_state(HardState { term: Term(1), vote: None, commit: LogIndex(0) }).unwrap();
        writer.append(&[Entry { position, kind: EntryKind::Membership, tag: 0, payload }]).unwrap();
        writer.save_hard_state(HardState { term: Term(1), vote: None, commit: LogIndex(1) }).unwrap();
    }

    /// Starts a process over what is on the disk.
    pub(super) fn start(&mut self) {
        assert!(self.running.is_none());
        self.runs += 1;
        let (mut writer, log) = open_log(&self.disk, self.id);
        if self.durable.position.index > log.last().index {
            writer.reset_to(self.durable.position, self.durable.tag).unwrap();
        }
        self.running = Some(self.running_over(writer, log));
    }

    fn running_over(&self, writer: LogWriter, log: LogReader) -> Running {
        let folded = self.durable.clone();
        let replica = Replica::new(
            self.id,
            replica_options(),
            log.clone(),
            writer.hard_state(),
            folded.position.index,
            folded.membership.clone(),
            self.runs,
        );
        Running {
            replica: replica.unwrap(),
            writer,
            log,
            folded,
            writes: VecDeque::new(),
            written: None,
            reads: BTreeMap::new(),
            next_tag: 0,
        }
    }

    /// Ends the process; what no sync has covered is lost, or not.
    pub(super) fn crash(&mut self, loss: CrashLoss, seed: u64) {
        self.running = None;
        self.disk = self.disk.crash(loss, seed);
    }
}

impl Running {
    /// The term, while it leads and has folded the entry that opened it.
    pub(super) fn decides(&self) -> Option<Term> {
        let leadership = self.replica.leadership();
        let opened = leadership.opened?;
        (self.folded.position.index >= opened).then_some(leadership.term)
    }

    /// Carries out the oldest writes.
    pub(super) fn write(&mut self, count: usize) {
        let writes: Vec<_> = self.writes.drain(..count.min(self.writes.len())).collect();
        let Some(last) = writes.last() else { return };
        let number = last.number;
        carry_out(&mut self.writer, &writes, true);
        self.written = Some(number);
    }

    pub(super) fn report_written(&mut self) {
        if let Some(number) = self.written.take() {
            self.replica.persisted(number);
        }
    }
}

impl Cluster {
    /// The nodes 1 to `voters` found a group, and all of them run.
    pub(super) fn founded(voters: u64, seed: u64) -> Self {
        let members: BTreeMap<_, _> = (1..=voters).map(|node| (node, member(node))).collect();
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            network: Vec::new(),
            blocked: BTreeSet::new(),
            offers: Vec::new(),
            chance: Chance::new(seed),
            committed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            acknowledged: 0,
            reads_answered: 0,
            snapshots_installed: 0,
            next_round: 0,
            next_payload: 0,
        };
        for id in 1..=voters {
            let mut node = Node::empty(id);
            node.found(members.clone());
            cluster.nodes.insert(id, node);
            cluster.start(id);
        }
        cluster
    }

    /// A node with nothing on its disk, which belongs to no group yet.
    pub(super) fn add_empty(&mut self) -> u64 {
        let id = self.nodes.keys().last().unwrap() + 1;
        self.nodes.insert(id, Node::empty(id));
        self.start(id);
        id
    }

    pub(super) fn start(&mut self, id: u64) {
        self.nodes.get_mut(&id).unwrap().start();
        self.drain(id);
    }

    pub(super) fn running(&mut self, id: u64) -> &mut Running {
        self.nodes.get_mut(&id).unwrap().running.as_mut().unwrap()
    }

    pub(super) fn running_ids(&self) -> Vec<u64> {
        self.nodes.values().filter(|node| node.running.is_some()).map(|node| node.id.0).collect()
    }

    /// Everyone who decides; two of them at a time are possible, in different terms.
    pub(super) fn deciders(&self) -> Vec<u64> {
        let decides = |node: &&Node| node.running.as_ref().is_some_and(|running| running.decides().is_some());
        self.nodes.values().filter(decides).map(|node| node.id.0).collect()
    }

    /// Who decides in the newest term.
    pub(super) fn leader(&self) -> Option<u64> {
        let term = |id: &u64| self.nodes[id].running.as_ref().and_then(Running::decides);
        self.deciders().into_iter().max_by_key(term)
    }

    /// Takes what follows from the inputs of a node until nothing does.
    pub(super) fn drain(&mut self, id: u64) {
        while let Some(output) = self.running(id).replica.take_output().unwrap() {
            self.take(id, output);
        }
    }

    fn take(&mut self, id: u64, output: Output) {
        self.running(id).writes.extend(output.write);
        for message in output.messages {
            assert_eq!(message.from, id);
            assert_ne!(message.to, id);
            self.send(message);
        }
        if let Some(leadership) = output.leadership
            && leadership.opened.is_some()
        {
            let leader = *self.leaders.entry(leadership.term.0).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", leadership.term);
        }
        self.fold(id, output.committed);
        for read in output.reads {
            if let Some(least) = self.running(id).reads.remove(&read.round) {
                assert!(read.index.0 >= least, "node {id} would answer a read with {} before {least}", read.index);
                self.reads_answered += 1;
            }
        }
        if let Some(offer) = output.snapshot {
            self.offers.push((id, offer));
        }
    }

    fn send(&mut self, message: Message) {
        if self.network.len() >= MESSAGES_MAX {
            let lost = self.chance.below(self.network.len());
            self.network.swap_remove(lost);
        }
        self.network.push(message);
    }

    fn fold(&mut self, id: u64, entries: Vec<Entry>) {
        let one_by_one = self.chance.one_in(2);
        let count = entries.len();
        for (place, entry) in entries.into_iter().enumerate() {
            let running = self.nodes.get_mut(&id).unwrap().running.as_mut().unwrap();
            let index = entry.position.index;
            assert_eq!(index, running.folded.position.index.next(), "entries are committed in order");
            assert!(running.log.durable().index >= index, "what is folded is durable");
            if entry.kind == EntryKind::Membership {
                let expected = running.folded.membership.after_entry(&entry.payload).unwrap();
                let membership = running.replica.apply_membership(&entry).unwrap().clone();
                assert_eq!(membership, expected);
                assert!(running.writer.hard_state().commit >= index, "a commit index that covers it is durable");
                running.folded.membership = membership;
            }
            running.folded.take(&entry);
            if one_by_one || place + 1 == count {
                running.replica.applied(index);
            }
            if running.replica.leadership().opened.is_some() {
                self.acknowledged = self.acknowledged.max(index.0);
            }
            let chain = running.folded.chain;
            let known = self.committed.entry(index.0).or_insert_with(|| (entry.clone(), chain));
            assert_eq!(known, &(entry, chain), "node {id} has another entry {index}");
        }
    }

    /// Proposes an event where it is decided.
    pub(super) fn propose(&mut self, id: u64) -> Option<LogPosition> {
        self.next_payload += 1;
        let payload = Bytes::from(format!("event {} {}", self.next_payload, "x".repeat(self.chance.below(200))));
        let running = self.running(id);
        running.decides()?;
        // What this leader has proposed so far is in its log, durable or not.
        running.next_tag = running.next_tag.max(running.folded.tag) + 1;
        let tag = running.next_tag;
        let proposed = running.replica.propose(EntryKind::Event, tag, payload).ok();
        self.drain(id);
        proposed
    }

    /// Asks for a linearizable read.
    pub(super) fn read(&mut self, id: u64) {
        self.next_round += 1;
        let round = self.next_round;
        let least = self.committed.keys().last().copied().unwrap_or(0);
        let running = self.running(id);
        running.reads.insert(round, least);
        running.replica.read_index(round);
        self.drain(id);
    }

    pub(super) fn tick(&mut self, id: u64) {
        self.running(id).replica.tick();
        self.drain(id);
    }

    /// Delivers a message, or loses it when nobody is there.
    pub(super) fn deliver(&mut self, place: usize) {
        let message = self.network.swap_remove(place);
        self.deliver_message(message);
    }

    fn deliver_message(&mut self, message: Message) {
        let to = message.to;
        if self.blocked.contains(&(message.from, to)) {
            return;
        }
        let Some(running) = self.nodes.get_mut(&to).and_then(|node| node.running.as_mut()) else { return };
        let text = format!("{message:?}");
        if let Err(refused) = running.replica.receive(message) {
            panic!("node {to} refused the message of a sane peer: {refused}; {text}");
        }
        self.drain(to);
    }

    /// The follower fetches the snapshot that it was offered, from whoever offered it, and starts anew from it.
    pub(super) fn install(&mut self, place: usize) {
        let (id, offer) = self.offers.swap_remove(place);
        let Some(donor) = self.nodes.get(&offer.from.0).and_then(|node| node.running.as_ref()) else { return };
        let snapshot = donor.folded.clone();
        // One that has started anew since may have less.
        if snapshot.position.index < offer.holds.index {
            return;
        }
        let stops_half_way = self.chance.one_in(10);
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(mut running) = node.running.take() else { return };
        if !running.replica.needs(snapshot.position) {
            node.running = Some(running);
            return;
        }
        let is_ahead_of_log = snapshot.position.index > running.log.last().index;
        self.snapshots_installed += 1;
        node.durable = snapshot;
        if stops_half_way && is_ahead_of_log {
            drop(running);
            let seed = self.chance.next();
            node.crash(CrashLoss::Everything, seed);
            return;
        }
        running.writer.reset_to(node.durable.position, node.durable.tag).unwrap();
        let Running { writer, log, .. } = running;
        node.runs += 1;
        node.running = Some(node.running_over(writer, log));
        self.drain(id);
    }

    /// Ends the process of a node, perhaps amid a write.
    pub(super) fn crash(&mut self, id: u64) {
        let loss = CrashLoss::ALL[self.chance.below(CrashLoss::ALL.len())];
        let seed = self.chance.next();
        let begun = self.chance.below(3);
        let torn = self.chance.below(2) == 0;
        let running = self.running(id);
        let begun = begun.min(running.writes.len());
        let writes: Vec<_> = running.writes.drain(..begun).collect();
        carry_out(&mut running.writer, &writes, false);
        if let Some(cut_short) = running.writes.front().filter(|_| torn) {
            begin(&mut running.writer, cut_short);
        }
        self.nodes.get_mut(&id).unwrap().crash(loss, seed);
    }

    /// Makes the view of a node durable, and gives up log that it does not need any more.
    pub(super) fn flush(&mut self, id: u64, keeps: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let Some(running) = &mut node.running else { return };
        node.durable = running.folded.clone();
        let up_to = LogIndex(node.durable.position.index.0.saturating_sub(keeps));
        running.writer.purge_prefix(up_to).unwrap();
    }

    /// A good hour: everyone runs, every message arrives, and everything is written.
    pub(super) fn settle(&mut self) {
        self.blocked.clear();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.nodes[&id].running.is_none() {
                self.start(id);
            }
        }
        for _ in 0..500 {
            self.round();
            if self.is_settled() {
                return;
            }
            if self.chance.one_in(4)
                && let Some(leader) = self.leader()
            {
                self.propose(leader);
            }
        }
        panic!("the group does not recover: {}", self.describe());
    }

    /// One tick for everyone, and everything that follows from it.
    pub(super) fn round(&mut self) {
        for id in self.running_ids() {
            self.tick(id);
        }
        for _ in 0..50 {
            for message in std::mem::take(&mut self.network) {
                self.deliver_message(message);
            }
            while !self.offers.is_empty() {
                self.install(0);
            }
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                if self.nodes[&id].running.is_none() {
                    self.start(id);
                }
                self.running(id).write(usize::MAX);
                self.running(id).report_written();
                self.drain(id);
            }
            let is_busy = |node: &Node| node.running.as_ref().is_some_and(|running| !running.writes.is_empty());
            if self.network.is_empty() && !self.nodes.values().any(is_busy) {
                return;
            }
        }
    }

    /// Whether somebody leads, and all members hold the same, with everything that was acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let running = self.nodes[&leader].running.as_ref().unwrap();
        let membership = &running.folded.membership;
        let last = running.replica.last().index;
        membership.voters_outgoing.is_empty()
            && running.folded.position.index == last
            && last.0 >= self.acknowledged
            && membership.iter().all(|(node, _)| {
                self.nodes[&node.0].running.as_ref().is_some_and(|other| other.folded == running.folded)
            })
    }

    pub(super) fn describe(&self) -> String {
        let mut text = format!("acknowledged {}, leaders {:?}\n", self.acknowledged, self.leaders);
        for node in self.nodes.values() {
            let Some(running) = &node.running else {
                text += &format!("{}: down\n", node.id);
                continue;
            };
            text += &format!(
                "{}: {:?} folded {} committed {} last {} first {} writes {} voters {:?} x {:?} learners {:?} progress {:?}\n",
                node.id,
                running.replica.leadership(),
                running.folded.position,
                running.replica.committed(),
                running.replica.last(),
                running.log.first(),
                running.writes.len(),
                running.folded.membership.voters,
                running.folded.membership.voters_outgoing,
                running.folded.membership.learners,
                running.replica.progress(),
            );
        }
        text
    }
}
