//! The scheduler: a cluster, its clients, its network and its disks in one thread and virtual time.
//!
//! Everything that happens is an `Event` in one queue, ordered by time and by when it was put there. Whatever has a
//! duration (a message on its way, a sync, a turn of a thread) is an event in the future, drawn from the run's seed. So
//! one seed is one run, to the byte.
//!
//! A run has two parts. First faults are injected, and only safety is asked for. Then they end: everything is mended, and
//! the cluster has to converge and to serve again within [`LIVENESS_MAX`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raft::eraftpb::Message;
use steeple_engine::disk::simulated::CrashLoss;
use steeple_engine::ids::{ClusterId, HistoryId, NamespaceId, NodeId};
use steeple_engine::log::LogOptions;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::simulation::take_reached;
use steeple_raft::{Member, ReplicaOptions};
use steeple_server::node::cluster::ClusterChange;
use steeple_server::node::{ClusterOptions, ClusterOrigin, NodeOptions, lease_within};
use steeple_server::peer::{FetchError, FetchedSnapshot, HandshakeError, Introduction};
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::checkers::acknowledged::Acknowledged;
use crate::checkers::digests::Digests;
use crate::checkers::features;
use crate::checkers::leaders::Leaders;
use crate::checkers::linearizability::Order;
use crate::checkers::log_matching::Logs;
use crate::checkers::members::Members;
use crate::checkers::requests::Requests;
use crate::client::{Client, Mailbox, Operation, Reply};
use crate::consumer::Consumer;
use crate::counters::Counters;
use crate::history::History;
use crate::machine::{Machine, NEWEST_VERSION, OLDEST_VERSION, Started};
use crate::nemesis::Fault;
use crate::network::Network;
use crate::nursing::{Aid, AidMailbox};
use crate::script::{Course, Script, Withheld};
use crate::settings::Settings;
use crate::time::{Instant, MILLISECOND, SECOND, WorldTime};
use crate::trace::Trace;
use crate::violation::{Checked, Violation};

/// How long a cluster may take, once nothing is wrong any more, until every client was served and all members are equal.
pub const LIVENESS_MAX: u64 = 60 * SECOND;

/// Time between two looks of the slower checkers.
const CHECK_INTERVAL: u64 = 2 * SECOND;

/// Steps that a run may take: more of them without an end is a failure of its own.
const STEPS_MAX: u64 = 20_000_000;

/// Something that happens.
pub(crate) enum Event {
    Tick(usize),
    Turn(usize, u32),
    Write(usize, u32),
    Work(usize, u32),
    Deliver {
        from: usize,
        to: usize,
        message: Box<Message>,
        /// As whom its sender had introduced itself: what is on its way arrives, whatever becomes of who sent it.
        introduction: Option<Introduction>,
    },
    Greet {
        from: usize,
        to: usize,
    },
    Begin(usize),
    Retry {
        client: usize,
        attempt: u64,
    },
    GiveUp {
        client: usize,
        attempt: u64,
    },
    Arrive {
        attempt: u64,
        machine: usize,
        call: Box<Arriving>,
    },
    Answer {
        client: usize,
        attempt: u64,
        reply: Box<Reply>,
    },
    Consume(usize),
    Start(usize),
    Strike(Fault),
    /// A fault that comes while something is under way.
    Aimed(Fault, usize),
    /// The power of a machine goes, if it has not gone in the middle of a write before.
    PowerLost(usize, u32),
    /// An operator takes a member out whose disk was lost.
    TakeOut(usize),
    /// A damaged member asks the others.
    Nurse(usize, u32),
    /// Members tell each other something to repair a log; `life` is that of who sends it.
    Aid {
        from: usize,
        to: usize,
        life: u32,
        aid: Box<Aid>,
    },
    Mend,
    Free(usize),
    Fetched {
        to: usize,
        from: usize,
        fetched: Box<(FetchResult, FetchAnswer)>,
    },
    Check,
}

/// A call on its way to a member.
pub(crate) struct Arriving {
    pub(crate) client: usize,
    pub(crate) operation: Operation,
    pub(crate) namespace: NamespaceId,
}

pub(crate) type FetchResult = Result<FetchedSnapshot, FetchError>;
pub(crate) type FetchAnswer = oneshot::Sender<FetchResult>;

struct Scheduled {
    at: Instant,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A cluster and all around it.
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) time: WorldTime,
    pub(crate) trace: Trace,
    pub(crate) counters: Counters,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    /// For what the scheduler draws.
    pub(crate) chance: Chance,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) clients: Vec<Client>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) mailbox: Mailbox,
    pub(crate) fetched: crate::actors::FetchMailbox,
    /// What members tell damaged ones.
    pub(crate) told: AidMailbox,
    /// Changes of members that were answered, and whether they were made.
    pub(crate) changed: Arc<Mutex<Vec<(ClusterChange, bool)>>>,
    /// Changes of members that were asked for and not answered.
    pub(crate) changes_under_way: Arc<Mutex<usize>>,
    /// Who decides, and since when.
    pub(crate) decider: (Option<usize>, Instant),
    /// Of a member that founds the cluster.
    pub(crate) options: NodeOptions,
    pub(crate) next_value: i64,
    /// The newest version of the features that any member has found in use.
    pub(crate) version_used: u32,
    /// How far the script of this run is, if it has one.
    pub(crate) course: Option<Course>,
    pub(crate) withheld: Withheld,
    /// Calls that were answered last, each with its revision, for a script to repeat.
    pub(crate) answered_calls: VecDeque<(u64, Arriving)>,
    pub(crate) healing_since: Option<Instant>,
    pub(crate) namespace: Option<NamespaceId>,
    pub(crate) history: History,
    pub(crate) leaders: Leaders,
    pub(crate) logs: Logs,
    pub(crate) digests: Digests,
    pub(crate) members: Members,
    pub(crate) requests: Requests,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) answered: Order,
    pub(crate) register: crate::register::Recorder,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was counted.
    pub counters: Counters,
    /// Tells this run from any other one.
    pub digest: u64,
    /// What was found to be wrong.
    pub violation: Option<Violation>,
}

impl World {
    /// A cluster that is about to be founded.
    #[must_use]
    pub fn new(settings: Settings, prints: bool) -> Self {
        let mut chance = Chance::new(settings.seed);
        let time = WorldTime::default();
        let network = Network::new(chance.fork(), &settings);
        let options = node_options(&settings, &mut chance);
        let members = settings.members as usize;
        let machine = |number: usize| {
            let mut options = options.clone();
            options.cluster.node = NodeId(number as u64 + 1);
            let mut machine = Machine::new(number, time.clone(), options, settings.seed);
            let version = first_version(&settings, number);
            (machine.version, machine.next_version) = (version, version);
            machine
        };
        let machines = (0..members).map(machine).collect();
        let clients = (0..settings.clients as usize).map(|_| Client::new(chance.fork(), settings.members)).collect();
        let consumers =
            (0..settings.consumers as usize).map(|_| Consumer::new(chance.fork(), settings.members)).collect();
        Self {
            network,
            machines,
            clients,
            consumers,
            time,
            trace: Trace::new(prints),
            counters: Counters { runs: 1, ..Counters::default() },
            queue: BinaryHeap::new(),
            order: 0,
            mailbox: Mailbox::default(),
            fetched: crate::actors::FetchMailbox::default(),
            told: AidMailbox::default(),
            changed: Arc::default(),
            changes_under_way: Arc::default(),
            decider: (None, 0),
            options,
            next_value: 1,
            version_used: OLDEST_VERSION,
            course: settings.script.map(Course::of),
            withheld: Withheld::default(),
            answered_calls: VecDeque::new(),
            healing_since: None,
            namespace: None,
            history: History::default(),
            leaders: Leaders::default(),
            logs: Logs::default(),
            digests: Digests::default(),
            members: Members::default(),
            requests: Requests::new(settings.window),
            acknowledged: Acknowledged::default(),
            answered: Order::default(),
            register: crate::register::Recorder::default(),
            chance,
            settings,
        }
    }

    /// Lives through the whole run.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        drop(take_reached());
        let violation = self.live().err();
        self.counters.take_branches(take_reached());
        self.counters.simulated_micros = self.time.now();
        self.counters.steps = self.trace.steps();
        self.counters.events = self.history.revision();
        // Before the world goes: what is dropped then says nothing any more.
        Outcome { counters: std::mem::take(&mut self.counters), digest: self.trace.digest(), violation }
    }

    fn live(&mut self) -> Checked {
        for machine in 0..self.machines.len() {
            self.start(machine)?;
            let first = self.chance.below(self.settings.tick);
            self.put(first, Event::Tick(machine));
        }
        for client in 0..self.clients.len() {
            let first = self.chance.below(SECOND);
            self.put(first, Event::Begin(client));
        }
        for consumer in 0..self.consumers.len() {
            self.put(SECOND, Event::Consume(consumer));
        }
        self.put(CHECK_INTERVAL, Event::Check);
        self.begin_faults();
        let end = self.settings.faulty;
        self.advance(end)?;
        self.end_faults()?;
        let deadline = self.time.now() + LIVENESS_MAX;
        while !self.has_recovered() {
            let step = self.time.now() + 100 * MILLISECOND;
            if step > deadline {
                return Err(Violation::new("liveness", self.describe_members()));
            }
            self.advance(step)?;
        }
        self.check_at_the_end()
    }

    /// Lets everything happen that happens until `end`.
    fn advance(&mut self, end: Instant) -> Checked {
        while let Some(next) = self.queue.peek().map(|next| next.0.at).filter(|at| *at <= end) {
            if self.trace.steps() > STEPS_MAX {
                return Err(Violation::new("liveness", "the run does not come to an end"));
            }
            let Some(Reverse(scheduled)) = self.queue.pop() else { break };
            self.time.set(next);
            self.happen(scheduled.event)?;
        }
        self.time.set(end);
        Ok(())
    }

    /// Puts an event into the future.
    pub(crate) fn put(&mut self, delay: u64, event: Event) {
        self.order += 1;
        let scheduled = Scheduled { at: self.time.now() + delay, order: self.order, event };
        self.queue.push(Reverse(scheduled));
    }

    pub(crate) fn note(&mut self, what: &str, numbers: &[u64]) {
        self.trace.note(self.time.now(), what, numbers);
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Tick(machine) => self.tick(machine),
            Event::Turn(machine, life) => self.step(machine, life, Step::Turn),
            Event::Write(machine, life) => self.step(machine, life, Step::Write),
            Event::Work(machine, life) => self.step(machine, life, Step::Work),
            Event::Deliver { from, to, message, introduction } => self.deliver(from, to, *message, introduction),
            Event::Greet { from, to } => self.greet(from, to),
            Event::Begin(client) => self.begin(client),
            Event::Retry { client, attempt } => self.try_again(client, attempt),
            Event::GiveUp { client, attempt } => self.give_up(client, attempt),
            Event::Arrive { attempt, machine, call } => self.arrive(attempt, machine, &call),
            Event::Answer { client, attempt, reply } => self.take_answer(client, attempt, *reply),
            Event::Consume(consumer) => self.consume(consumer),
            Event::Start(machine) => self.start(machine),
            Event::Strike(fault) => self.strike(fault),
            Event::Aimed(fault, machine) => self.befall(fault, machine),
            Event::TakeOut(machine) => self.take_out(machine),
            Event::Nurse(machine, life) => self.nurse(machine, life),
            Event::Aid { from, to, life, aid } => self.take_aid(from, to, life, *aid),
            Event::PowerLost(machine, life) => self.lose_power(machine, life),
            Event::Mend => {
                self.note("mend the network", &[]);
                self.network.heal_partition();
                Ok(())
            }
            Event::Free(machine) => self.free(machine),
            Event::Fetched { to, from, fetched } => self.hand_over_snapshot(to, from, *fetched),
            Event::Check => self.check_slowly(),
        }
    }

    /// Starts the process of a machine, if none runs there.
    pub(crate) fn start(&mut self, number: usize) -> Checked {
        let machine = &mut self.machines[number];
        if machine.node.is_some() || machine.patient.is_some() || machine.retired || machine.stays_down {
            return Ok(());
        }
        machine.started = self.time.now();
        if self.settings.intervals.crash > 0 && self.healing_since.is_none() && self.chance.happens(100) {
            // The power goes again, during the start or soon after it.
            machine.lose_power_soon(&mut self.chance);
        }
        let started = machine.start(&mut self.chance);
        let (life, loses_power) = (machine.life, machine.dying.is_some());
        self.note("start", &[number as u64]);
        if loses_power {
            self.put(SECOND, Event::PowerLost(number, life));
        }
        if self.machines[number].has_lost_power() {
            self.counters.branch("start: power lost meanwhile");
            return self.lose_power(number, life);
        }
        if matches!(started, Ok(Started::Runs | Started::Decided)) {
            self.check_rebuilding(number)?;
        }
        match started {
            Ok(Started::Runs) => {}
            Ok(Started::Decided) => self.counters.branch("start: an operator decided about the last batch"),
            Ok(Started::IsPatient) => {
                self.counters.branch(match self.machines[number].lacks_records {
                    true => "start: records and base snapshot are lost",
                    false => "start: the log is damaged and is to be repaired",
                });
                self.put(MILLISECOND, Event::Nurse(number, life));
                return Ok(());
            }
            Err(error) => return self.take_refusal(number, &error),
        }
        self.settle(number)
    }

    /// Records are rebuilt at a start when they were lost, or when a snapshot was being taken over; else they were spoilt.
    fn check_rebuilding(&mut self, number: usize) -> Checked {
        let may_rebuild = std::mem::take(&mut self.machines[number].may_rebuild);
        let rebuilt = self.machines[number].node.as_ref().and_then(|node| node.node().status().rebuilt);
        match rebuilt.filter(|_| !may_rebuild) {
            Some(reason) => Err(Violation::new("records", format!("member {number} had to rebuild them: {reason}"))),
            None => Ok(()),
        }
    }

    /// A process that does not start in the face of a fault that is over soon is started again.
    fn take_refusal(&mut self, number: usize, error: &steeple_server::node::StartError) -> Checked {
        self.trace.explain(|| format!("member {number} does not start: {error}"));
        if self.machines[number].is_broken() {
            self.counters.branch("start: refused while the disk was bad");
            self.machines[number].crash(CrashLoss::Nothing, &mut self.chance);
            let pause = self.chance.between(SECOND, 3 * SECOND);
            self.put(pause, Event::Start(number));
            return Ok(());
        }
        Err(Violation::new("start", format!("member {number} does not start: {error}")))
    }

    fn tick(&mut self, number: usize) -> Checked {
        let tick = self.settings.tick;
        self.note_phases();
        let drift = tick / 50;
        let next = tick - drift + self.chance.below(2 * drift + 1);
        self.put(next, Event::Tick(number));
        let now = self.time.now();
        let machine = &mut self.machines[number];
        if machine.paused_until > now {
            return Ok(());
        }
        let Some(node) = &mut machine.node else { return Ok(()) };
        node.tick();
        node.pass(Duration::from_micros(tick));
        self.schedule(number);
        Ok(())
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message, sent_as: Option<Introduction>) -> Checked {
        let numbers = [from as u64, to as u64, message.get_msg_type() as u64, message.term, message.index];
        self.note("message", &numbers);
        if self.withheld.takes(from, to, &message) {
            return Ok(());
        }
        // Whom the other does not let in cannot send.
        let is_there = self.machines[from].introduction().is_some();
        let introduced = if is_there { self.introduce(from, to) } else { self.introduce_again(to, sent_as) };
        let Some(introduction) = introduced else { return Ok(()) };
        if let Some(sender) = &self.machines[from].node {
            features::check_message(from, to, sender.node().features(), self.machines[to].version)?;
        }
        self.machines[to].deliver(&introduction, vec![message]);
        self.schedule(to);
        Ok(())
    }

    /// What two processes ask of each other when they connect: as whom the sender is let in, if it is.
    pub(crate) fn introduce(&mut self, from: usize, to: usize) -> Option<Introduction> {
        let (sender, receiver) = (self.machines.get(from)?, self.machines.get(to)?);
        let (own, other) = (sender.introduction()?, receiver.introduction()?);
        let (own_sink, other_sink) = (sender.sink()?, receiver.sink()?);
        match own_sink.admit(&other) {
            Ok(()) | Err(HandshakeError::NotAdmitted(_)) => {}
            Err(_) => return None,
        }
        match other_sink.admit(&own) {
            Ok(()) => Some(own),
            Err(refused) => {
                self.counters.branch("introduction: turned away");
                self.trace.explain(|| format!("member {to} turns member {from} away: {refused}"));
                let for_good = matches!(refused, HandshakeError::WrongDirectory { .. });
                own_sink.turned_away_by(other.node, &refused.to_string(), for_good);
                None
            }
        }
    }

    /// As whom a process that has ended meanwhile was let in, if it was.
    fn introduce_again(&self, to: usize, sent_as: Option<Introduction>) -> Option<Introduction> {
        let sink = self.machines.get(to)?.sink()?;
        sent_as.filter(|introduction| sink.admit(introduction).is_ok())
    }

    /// A member makes contact with another one.
    fn greet(&mut self, from: usize, to: usize) -> Checked {
        self.note("greeting", &[from as u64, to as u64]);
        if !self.network.is_cut(to, from)
            && self.introduce(from, to).is_some()
            && let Some(sink) = self.machines[from].sink()
        {
            sink.admitted_by(self.machines[to].id());
        }
        self.settle(from)
    }

    /// One of the things that the threads of a process do.
    fn step(&mut self, number: usize, life: u32, step: Step) -> Checked {
        let now = self.time.now();
        let machine = &mut self.machines[number];
        if machine.life != life || machine.node.is_none() {
            return Ok(());
        }
        if machine.paused_until > now {
            let rest = machine.paused_until - now;
            self.put(rest, step.event(number, life));
            return Ok(());
        }
        let Some(node) = &mut machine.node else { return Ok(()) };
        match step {
            Step::Turn => {
                machine.turn_due = false;
                node.turn();
            }
            Step::Write => {
                machine.write_due = false;
                // What came while a sync was under way has to wait for the next one.
                if self.chance.happens(500) {
                    node.write();
                } else {
                    node.write_first();
                }
            }
            Step::Work => {
                machine.work_due = false;
                node.work();
            }
        }
        let last = node.last();
        self.note(step.name(), &[number as u64, last.index.0, last.term.0]);
        self.settle(number)
    }

    /// Takes up what follows from a step of a machine.
    pub(crate) fn settle(&mut self, number: usize) -> Checked {
        if self.machines[number].has_lost_power() {
            // What the process did in this step reaches nobody.
            let life = self.machines[number].life;
            return self.lose_power(number, life);
        }
        self.observe(number)?;
        self.follow_script()?;
        while self.machines[number].poll_served() {}
        self.send_out(number)?;
        self.take_mail();
        self.retire_removed()?;
        if self.machines[number].node.as_ref().is_some_and(steeple_server::node::stepped::SteppedNode::has_ended) {
            return self.end_process(number);
        }
        self.schedule(number);
        Ok(())
    }

    /// Lets the threads of a machine run soon if they have something to do.
    pub(crate) fn schedule(&mut self, number: usize) {
        let now = self.time.now();
        let machine = &mut self.machines[number];
        let Some(node) = &mut machine.node else { return };
        let (life, is_slow) = (machine.life, machine.slow_until > now);
        let turn = !machine.turn_due && node.has_messages();
        let write = !machine.write_due && node.has_writes();
        let work = !machine.work_due && node.has_work();
        machine.turn_due |= turn;
        machine.write_due |= write;
        machine.work_due |= work;
        if turn {
            let delay = 10 + self.chance.below(100);
            self.put(delay, Event::Turn(number, life));
        }
        if write {
            let factor = if is_slow { 100 } else { 1 };
            let delay = (20 + self.chance.around(self.settings.sync)) * factor;
            self.put(delay, Event::Write(number, life));
        }
        if work {
            let delay = 50 + self.chance.around(MILLISECOND);
            self.put(delay, Event::Work(number, life));
        }
    }

    /// The process has ended by itself: it was asked to, or its log or view has failed. It is started again.
    fn end_process(&mut self, number: usize) -> Checked {
        let reason = self.machines[number].node.as_ref().and_then(|node| node.node().failure());
        self.trace.explain(|| format!("member {number} has ended: {reason:?}"));
        self.note("end", &[number as u64]);
        if reason.as_deref() == Some("node stopped") {
            self.counters.branch("process: stopped in order");
        } else if self.machines[number].wiped {
            self.counters.branch("process: a wiped member was turned away and ended");
        } else if self.machines[number].is_broken() {
            self.counters.branch("process: ended because its disk failed");
        } else {
            let found = format!("member {number} has ended without a fault: {}", reason.unwrap_or_default());
            return Err(Violation::new("process", found));
        }
        self.machines[number].end(&mut self.chance);
        let pause = self.chance.between(200 * MILLISECOND, 2 * SECOND);
        self.put(pause, Event::Start(number));
        self.settle_others(number)
    }

    /// What one process leaves undone others may wait for.
    pub(crate) fn settle_others(&mut self, number: usize) -> Checked {
        for other in 0..self.machines.len() {
            if other != number {
                self.schedule(other);
            }
        }
        Ok(())
    }
}

/// What one of the threads of a process does.
#[derive(Clone, Copy)]
enum Step {
    Turn,
    Write,
    Work,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Write => "write",
            Self::Work => "work",
        }
    }

    fn event(self, number: usize, life: u32) -> Event {
        match self {
            Self::Turn => Event::Turn(number, life),
            Self::Write => Event::Write(number, life),
            Self::Work => Event::Work(number, life),
        }
    }
}

/// Ticks without a word of a leader after which a member stands, at the least.
const ELECTION_TICKS: u32 = 10;

/// What the first programs of a run support: nothing is upgraded in most runs, and everything is new there.
fn first_version(settings: &Settings, number: usize) -> u32 {
    let is_older = settings.intervals.upgrade > 0 || settings.script == Some(Script::OlderVoter) && number == 0;
    if is_older { OLDEST_VERSION } else { NEWEST_VERSION }
}

/// Small logs, short memories: what takes a day elsewhere happens within seconds here.
fn node_options(settings: &Settings, chance: &mut Chance) -> NodeOptions {
    let member = |number: u64| {
        let address = format!("member-{number}");
        (number, Member { peer_address: address.clone(), client_address: address })
    };
    let members: BTreeMap<u64, Member> = (1..=settings.members).map(member).collect();
    let log = LogOptions {
        segment_bytes: 16 << 10,
        segment_entries: *chance.pick(&[4, 8, 32]),
        spare_segments: chance.below(3) as usize,
        ..LogOptions::default()
    };
    // A script waits until the log begins late.
    let kept: &[u64] = if settings.script.is_some() { &[0] } else { &[0, 0, 5] };
    let seconds = |chance: &mut Chance, choices: &[u64]| Duration::from_secs(*chance.pick(choices));
    let tick = Duration::from_micros(settings.tick);
    NodeOptions {
        data: None,
        log,
        store: RecordStoreKind::Memory,
        request_window: Duration::from_micros(settings.window),
        history_retention: seconds(chance, kept),
        follower_log_retention: seconds(chance, kept),
        compaction_interval: None,
        base_interval_bytes: 1,
        cluster: ClusterOptions {
            node: NodeId(1),
            origin: ClusterOrigin::Founding { cluster: ClusterId([1; 16]), history: HistoryId([1; 16]), members },
            tick,
            replica: ReplicaOptions {
                heartbeat_ticks: 2,
                election_ticks: ELECTION_TICKS as usize,
                ..ReplicaOptions::default()
            },
            read_patience: Duration::from_secs(5),
            lease: settings.lease_reads.then(|| lease_within(tick * ELECTION_TICKS)),
            ..ClusterOptions::default()
        },
        ..NodeOptions::default()
    }
}
