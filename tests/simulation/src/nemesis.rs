//! What goes wrong: faults of processes, disks, clocks and the network, and what operators do meanwhile.

use std::sync::Arc;

use parking_lot::Mutex;
use steeple_engine::disk::simulated::{CrashLoss, Failure};
use steeple_engine::ids::NodeId;
use steeple_raft::{Membership, MembershipChange, Step};
use steeple_server::node::ClusterOrigin;
use steeple_server::node::cluster::ClusterChange;

use crate::copies::Lost;
use crate::machine::{Machine, NEWEST_VERSION, Serving};
use crate::network::machine_of;
use crate::time::{MILLISECOND, SECOND};
use crate::violation::Checked;
use crate::world::{Event, World};

/// Machines at the most.
const MACHINES_MAX: usize = 7;

/// What may happen to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Crash,
    Pause,
    Partition,
    ClockJump,
    SlowDisk,
    Stop,
    Flush,
    Compact,
    Transfer,
    Membership,
    FullDisk,
    FailedSync,
    FailedWrite,
    FailedStore,
    Blackout,
    JointChange,
    LostRecords,
    Wipe,
    Rot,
    Upgrade,
}

const FAULTS: [Fault; 20] = [
    Fault::Crash,
    Fault::Pause,
    Fault::Partition,
    Fault::ClockJump,
    Fault::SlowDisk,
    Fault::Stop,
    Fault::Flush,
    Fault::Compact,
    Fault::Transfer,
    Fault::Membership,
    Fault::FullDisk,
    Fault::FailedSync,
    Fault::FailedWrite,
    Fault::FailedStore,
    Fault::Blackout,
    Fault::JointChange,
    Fault::LostRecords,
    Fault::Wipe,
    Fault::Rot,
    Fault::Upgrade,
];

/// A change of members that is under way until this is dropped, by an answer or with the process.
struct UnderWay(Arc<Mutex<usize>>);

impl UnderWay {
    fn begin(count: &Arc<Mutex<usize>>) -> Self {
        *count.lock() += 1;
        Self(Arc::clone(count))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.lock() -= 1;
    }
}

impl World {
    fn interval(&self, fault: Fault) -> u64 {
        let intervals = &self.settings.intervals;
        match fault {
            Fault::Crash => intervals.crash,
            Fault::Pause => intervals.pause,
            Fault::Partition => intervals.partition,
            Fault::ClockJump => intervals.clock_jump,
            Fault::SlowDisk => intervals.slow_disk,
            Fault::Stop => intervals.stop,
            Fault::Flush => intervals.flush,
            Fault::Compact => intervals.compact,
            Fault::Transfer => intervals.transfer,
            Fault::Membership => intervals.membership,
            Fault::FullDisk => intervals.full_disk,
            Fault::FailedSync => intervals.failed_sync,
            Fault::FailedWrite => intervals.failed_write,
            Fault::FailedStore => intervals.failed_store,
            Fault::Blackout => intervals.blackout,
            Fault::JointChange => intervals.joint_change,
            Fault::LostRecords => intervals.lost_records,
            Fault::Wipe => intervals.wipe,
            Fault::Rot => intervals.rot,
            Fault::Upgrade => intervals.upgrade,
        }
    }

    pub(crate) fn begin_faults(&mut self) {
        for fault in FAULTS {
            self.plan(fault);
        }
    }

    fn plan(&mut self, fault: Fault) {
        let interval = self.interval(fault);
        if interval > 0 {
            let delay = self.chance.around(interval / 2) + MILLISECOND;
            self.put(delay, Event::Strike(fault));
        }
    }

    /// Lets a fault happen to a machine that is drawn, and plans the next one of its kind.
    pub(crate) fn strike(&mut self, fault: Fault) -> Checked {
        if self.healing_since.is_some() {
            return Ok(());
        }
        self.plan(fault);
        let number = self.chance.below(self.machines.len() as u64) as usize;
        self.befall(fault, number)
    }

    /// Lets a fault come soon, of any kind that this run has, while what a machine has just begun is under way. What takes
    /// milliseconds would hardly ever be met otherwise.
    pub(crate) fn aim(&mut self, number: usize, within: u64, probability: u64) {
        let kinds: Vec<Fault> = FAULTS.into_iter().filter(|fault| self.interval(*fault) > 0).collect();
        if self.healing_since.is_some() || kinds.is_empty() || !self.chance.happens(probability) {
            return;
        }
        let fault = *self.chance.pick(&kinds);
        let machine = match self.chance.happens(700) {
            true => number,
            false => self.chance.below(self.machines.len() as u64) as usize,
        };
        let delay = self.chance.below(within);
        self.put(delay, Event::Aimed(fault, machine));
    }

    /// Lets a fault happen to a machine.
    pub(crate) fn befall(&mut self, fault: Fault, number: usize) -> Checked {
        if self.healing_since.is_some() {
            return Ok(());
        }
        self.note("strike", &[fault as u64, number as u64]);
        self.note_phases();
        match fault {
            Fault::Partition => {
                let machines = self.machines.len();
                self.network.partition(machines, &mut self.counters);
                let duration = 100 * MILLISECOND + self.chance.around(2 * SECOND);
                self.put(duration, Event::Mend);
                Ok(())
            }
            Fault::Crash => self.crash(number),
            Fault::Pause => {
                let duration = 10 * MILLISECOND + self.chance.around(SECOND);
                self.machines[number].paused_until = self.time.now() + duration;
                self.counters.fault("process paused");
                Ok(())
            }
            Fault::ClockJump => {
                // Two clocks differ by less than a request is remembered: more than that, and an id may be forgotten.
                let distance = self.chance.below(self.settings.window / 10) as i64;
                let (jump, kind) = match self.chance.happens(500) {
                    true => (distance, "clock jumped ahead"),
                    false => (-distance, "clock jumped back"),
                };
                self.machines[number].clock.jump(jump);
                self.counters.fault(kind);
                Ok(())
            }
            Fault::SlowDisk => {
                let duration = self.chance.around(2 * SECOND);
                self.machines[number].slow_until = self.time.now() + duration;
                self.counters.fault("disk slow");
                Ok(())
            }
            Fault::Stop => {
                if let Some(node) = &mut self.machines[number].node {
                    node.begin_to_stop();
                    self.counters.fault("process asked to stop");
                }
                self.schedule(number);
                Ok(())
            }
            Fault::Flush => self.maintain(number, false),
            Fault::Compact => self.maintain(number, true),
            Fault::Transfer => self.transfer(number),
            Fault::Membership => self.change_members(),
            Fault::FullDisk => self.fill_disk(number),
            Fault::FailedSync => self.fail_disk(number, Failure::Sync, "sync failed"),
            Fault::FailedWrite => self.fail_disk(number, Failure::Once, "write failed half-way"),
            Fault::FailedStore => {
                if self.machines[number].node.is_some() && self.may_lose(number, Lost::Records) {
                    self.machines[number].fail_stores(&mut self.chance);
                    self.counters.fault("record store failed");
                }
                Ok(())
            }
            Fault::Blackout => self.black_out(number),
            Fault::JointChange => self.change_jointly(),
            Fault::LostRecords => self.lose_records(number),
            Fault::Wipe => self.wipe(number),
            Fault::Rot => self.rot_log(number),
            Fault::Upgrade => self.upgrade(number),
        }
    }

    fn crash(&mut self, number: usize) -> Checked {
        let machine = &self.machines[number];
        if machine.node.is_none() && machine.patient.is_none() {
            return Ok(());
        }
        if self.chance.happens(500) {
            // A write is one step: only so can the power go in the middle of it.
            let machine = &mut self.machines[number];
            machine.lose_power_soon(&mut self.chance);
            let (life, patience) = (machine.life, self.chance.around(SECOND));
            self.put(patience, Event::PowerLost(number, life));
            return Ok(());
        }
        let loss = *self.chance.pick(&CrashLoss::ALL);
        self.crash_with(number, loss)
    }

    /// The power of a machine goes in the middle of a write, or has waited long enough for one.
    pub(crate) fn lose_power(&mut self, number: usize, life: u32) -> Checked {
        let machine = &self.machines[number];
        let Some(loss) = machine.dying.filter(|_| machine.life == life) else { return Ok(()) };
        if machine.has_lost_power() {
            self.counters.branch("power lost in the middle of a write");
        }
        self.crash_with(number, loss)
    }

    /// Several machines lose their power at the same moment, often all of them.
    fn black_out(&mut self, number: usize) -> Checked {
        let spares = self.chance.happens(500);
        let loss = *self.chance.pick(&CrashLoss::ALL);
        self.counters.fault("several members crashed at once");
        for machine in 0..self.machines.len() {
            let is_hit = machine == number || !spares || self.chance.happens(500);
            if is_hit && self.machines[machine].node.is_some() {
                self.crash_with(machine, loss)?;
            }
        }
        Ok(())
    }

    /// A process ends, and its record store is gone; in half of the runs its base snapshot is damaged instead. Each can be
    /// had from the other and the log; both together, if a store fails besides, from another member only.
    fn lose_records(&mut self, number: usize) -> Checked {
        let machine = &self.machines[number];
        if machine.node.as_ref().is_none_or(steeple_server::node::stepped::SteppedNode::is_taking_over) {
            return Ok(());
        }
        let lost = if self.settings.spoils_base { Lost::Base } else { Lost::Records };
        if !self.may_lose(number, lost) {
            return Ok(());
        }
        if lost == Lost::Records {
            self.counters.fault("record store lost");
            self.crash_with(number, CrashLoss::Nothing)?;
            self.machines[number].lose_stores();
        } else if self.machines[number].damage_base(&mut self.chance) {
            self.counters.fault("base snapshot damaged");
            self.crash_with(number, CrashLoss::Nothing)?;
        }
        Ok(())
    }

    /// Puts the next version of the program on a machine, on one of those first that have the oldest. Its process is asked to
    /// stop or killed; if it has ended anyway, the next one is of that version.
    fn upgrade(&mut self, number: usize) -> Checked {
        let lives = |machine: &&Machine| !machine.retired;
        let Some(oldest) = self.machines.iter().filter(lives).map(|machine| machine.version).min() else {
            return Ok(());
        };
        let number = match self.machines[number].version == oldest && !self.machines[number].retired {
            true => number,
            false => self.machines.iter().find(|it| lives(it) && it.version == oldest).map_or(number, |it| it.number),
        };
        let machine = &mut self.machines[number];
        if oldest >= NEWEST_VERSION {
            return Ok(());
        }
        self.counters.fault("member upgraded");
        machine.next_version = oldest + 1;
        if self.machines[number].node.is_some() && self.chance.happens(300) {
            return self.crash_with(number, CrashLoss::Nothing);
        }
        if let Some(node) = &mut self.machines[number].node {
            node.begin_to_stop();
        }
        self.schedule(number);
        Ok(())
    }

    /// A machine loses its disk, at a moment at which all members are up, follow one leader and hold the same: whatever is
    /// agreed upon has other copies, and what was asked for before is done. An operator then takes the member out.
    fn wipe(&mut self, number: usize) -> Checked {
        // Whoever founded a group alone knows of nobody else: wiped, it founds another one, and decides there.
        let founded_alone = self.settings.members == 1 && number == 0;
        if founded_alone {
            return Ok(());
        }
        let is_open = *self.changes_under_way.lock() > 0
            || self.machines.iter().any(|it| (it.wiped || it.is_rotten) && !it.retired)
            || self.is_anyone_without_records();
        let Some(leader) = self.leader().filter(|_| !is_open && self.settings.intervals.joint_change == 0) else {
            return Ok(());
        };
        let Some(node) = &self.machines[leader].node else { return Ok(()) };
        let (membership, leadership, last) = (node.membership().clone(), node.leadership(), node.last());
        let follows = |id: &u64| {
            let machine = self.machines.get(machine_of(NodeId(*id)));
            machine.and_then(|machine| machine.node.as_ref()).is_some_and(|node| {
                let follows = (node.leadership().term, node.leadership().leader);
                follows == (leadership.term, leadership.leader)
                    && node.last() == last
                    && node.committed() == last.index
                    && node.node().view().folded().index == last.index
            })
        };
        let id = number as u64 + 1;
        let is_voter = membership.voters.contains(&id) && membership.incarnations.contains_key(&id);
        if !is_voter || membership.voters.len() < 3 || !membership.members.keys().all(follows) {
            return Ok(());
        }
        self.counters.fault("disk of a member wiped");
        self.crash_with(number, CrashLoss::Nothing)?;
        self.machines[number].wipe();
        self.put(SECOND, Event::TakeOut(number));
        Ok(())
    }

    /// An operator asks whoever leads to remove a member whose disk was lost, until that is done.
    pub(crate) fn take_out(&mut self, number: usize) -> Checked {
        if self.machines[number].retired {
            self.counters.branch("members: a wiped member removed by an operator");
            return Ok(());
        }
        let pause = self.chance.between(SECOND, 3 * SECOND);
        self.put(pause, Event::TakeOut(number));
        match self.leader().filter(|leader| *leader != number) {
            Some(leader) => self.ask_for_change(leader, ClusterChange::Remove(self.machines[number].id())),
            None => Ok(()),
        }
    }

    /// Asks a leader to change the members, and remembers what came of it.
    fn ask_for_change(&mut self, leader: usize, change: ClusterChange) -> Checked {
        let machine = &mut self.machines[leader];
        let Some(node) = &machine.node else { return Ok(()) };
        let (handle, changed) = (node.node().clone(), Arc::clone(&self.changed));
        let under_way = UnderWay::begin(&self.changes_under_way);
        machine.serve(Box::pin(async move {
            let _under_way = under_way;
            let made = handle.change_cluster(change.clone()).await.is_ok();
            changed.lock().push((change, made));
        }));
        self.settle(leader)
    }

    pub(crate) fn crash_with(&mut self, number: usize, loss: CrashLoss) -> Checked {
        self.counters.fault(match loss {
            CrashLoss::Everything => "power lost: nothing unsynced survives",
            CrashLoss::Nothing => "process killed",
            CrashLoss::Suffix => "power lost: a prefix of the unsynced writes survives",
            CrashLoss::Sectors => "power lost: some unsynced sectors survive",
            CrashLoss::Bytes => "power lost: unsynced sectors are torn",
        });
        if self
            .machines
            .iter()
            .any(|machine| machine.node.as_ref().is_some_and(|node| !node.membership().voters_outgoing.is_empty()))
        {
            self.counters.branch("members: a member crashed in a joint configuration");
        }
        if self.machines[number].node.as_ref().is_some_and(|node| node.is_taking_over()) {
            self.counters.branch("snapshot: the member that takes it over crashed");
        }
        self.trace.explain(|| format!("member {number} crashes with {loss:?}"));
        self.machines[number].crash(loss, &mut self.chance);
        self.break_connections(number);
        let pause = 50 * MILLISECOND + self.chance.around(SECOND);
        self.put(pause, Event::Start(number));
        self.settle_others(number)
    }

    pub(crate) fn maintain(&mut self, number: usize, compact: bool) -> Checked {
        let machine = &mut self.machines[number];
        let Some(node) = &machine.node else { return Ok(()) };
        let handle = node.node().clone();
        let work: Serving = if compact {
            let compacting = Arc::clone(&machine.compacting);
            Box::pin(async move {
                drop(handle.compact().await);
                drop(compacting);
            })
        } else {
            Box::pin(async move { drop(handle.flush().await) })
        };
        machine.serve(work);
        self.counters.fault(if compact { "compaction" } else { "flush" });
        if compact {
            self.aim(number, 10 * MILLISECOND, 150);
        }
        self.settle(number)
    }

    /// Asks whoever leads to add, promote or remove a member.
    fn change_members(&mut self) -> Checked {
        let Some(leader) = self.leader() else { return Ok(()) };
        let Some(node) = &self.machines[leader].node else { return Ok(()) };
        if self.machines.iter().any(|machine| (machine.wiped || machine.is_rotten) && !machine.retired)
            || self.is_anyone_without_records()
        {
            // Whoever is to be taken out first, or is to be repaired, does not count as a member that lives.
            return Ok(());
        }
        let membership = node.membership().clone();
        let learners: Vec<u64> = membership.learners.iter().copied().collect();
        let others: Vec<u64> = membership.voters.iter().copied().filter(|id| *id != leader as u64 + 1).collect();
        let change = match self.chance.below(3) {
            0 if self.machines.len() < MACHINES_MAX => {
                let number = self.machines.len();
                self.add_machine(&membership);
                self.start(number)?;
                let address = format!("member-{}", number + 1);
                self.counters.fault("member added");
                ClusterChange::Add {
                    node: NodeId(number as u64 + 1),
                    peer_address: address.clone(),
                    client_address: address,
                    as_learner: self.chance.happens(500),
                }
            }
            1 if !learners.is_empty() => {
                self.counters.fault("learner promoted");
                ClusterChange::Promote(NodeId(*self.chance.pick(&learners)))
            }
            // A founder that waits for one that is removed would wait for ever: docs/cluster.md.
            _ if others.len() >= 2 && self.has_every_founder_been_admitted() => {
                self.counters.fault("member removed");
                ClusterChange::Remove(NodeId(*self.chance.pick(&others)))
            }
            _ => return Ok(()),
        };
        self.aim(leader, 50 * MILLISECOND, 200);
        self.ask_for_change(leader, change)
    }

    fn has_every_founder_been_admitted(&self) -> bool {
        self.machines.iter().all(|machine| machine.was_admitted || machine.retired)
    }

    /// Asks whoever leads to change the roles of several members at once, which takes two steps. No operator's call does
    /// that so far; the code can, and a log may hold it.
    fn change_jointly(&mut self) -> Checked {
        let is_anyone_damaged = self.machines.iter().any(|machine| machine.is_rotten && !machine.retired)
            || self.is_anyone_without_records();
        let Some(leader) = self.leader().filter(|_| !is_anyone_damaged) else { return Ok(()) };
        let Some(node) = &mut self.machines[leader].node else { return Ok(()) };
        let membership = node.membership();
        let known = |id: &u64| membership.incarnations.contains_key(id);
        let gains: Vec<u64> = membership.learners.iter().copied().filter(known).collect();
        let mut loses: Vec<u64> = membership.voters.iter().copied().filter(|id| *id != leader as u64 + 1).collect();
        let mut steps = Vec::new();
        if !gains.is_empty() {
            steps.push(Step::Voter { node: *self.chance.pick(&gains), member: None });
        }
        // A majority of those who voted before goes on voting.
        while steps.len() < 2 && loses.len() >= 2 {
            let lost = loses.swap_remove(self.chance.below(loses.len() as u64) as usize);
            steps.push(Step::Learner { node: lost, member: None });
        }
        if steps.len() == 2 && node.change_members(&MembershipChange::of(steps)) {
            self.counters.fault("members changed jointly");
            self.aim(leader, 50 * MILLISECOND, 500);
        }
        self.settle(leader)
    }

    /// A machine that is no member yet.
    fn add_machine(&mut self, membership: &Membership) {
        let mut options = self.options.clone();
        let number = self.machines.len();
        options.cluster.node = NodeId(number as u64 + 1);
        if let ClusterOrigin::Founding { cluster, history, .. } = options.cluster.origin {
            options.cluster.origin = ClusterOrigin::Joining { cluster, history, members: membership.members.clone() };
        }
        let mut machine = Machine::new(number, self.time.clone(), options, self.settings.seed);
        // A new one may be as old as the oldest of the others.
        let oldest = self.machines.iter().filter(|it| !it.retired).map(|it| it.version).min();
        machine.version = match self.chance.happens(500) {
            true => oldest.unwrap_or(NEWEST_VERSION),
            false => NEWEST_VERSION,
        };
        machine.next_version = machine.version;
        self.machines.push(machine);
        let first = self.chance.below(self.settings.tick);
        self.put(first, Event::Tick(number));
    }

    /// Switches off the machines of members that were removed.
    pub(crate) fn retire_removed(&mut self) -> Checked {
        let changed = std::mem::take(&mut *self.changed.lock());
        for (change, made) in changed {
            let ClusterChange::Remove(node) = change else { continue };
            let number = machine_of(node);
            if made && !self.machines[number].retired {
                self.note("retire", &[number as u64]);
                self.machines[number].retired = true;
                self.machines[number].crash(CrashLoss::Nothing, &mut self.chance);
                self.break_connections(number);
                self.settle_others(number)?;
                self.counters.branch("members: removed member switched off");
            }
        }
        Ok(())
    }

    /// Asks whoever leads to hand over to the machine.
    pub(crate) fn transfer(&mut self, to: usize) -> Checked {
        let Some(leader) = self.leader() else { return Ok(()) };
        let id = self.machines[to].id();
        let machine = &mut self.machines[leader];
        let Some(node) = &machine.node else { return Ok(()) };
        let handle = node.node().clone();
        machine.serve(Box::pin(async move { drop(handle.change_cluster(ClusterChange::TransferLeader(id)).await) }));
        self.counters.fault("leadership handed over");
        self.settle(leader)
    }

    fn fill_disk(&mut self, number: usize) -> Checked {
        let machine = &mut self.machines[number];
        machine.disk.limit_capacity(0);
        machine.base.limit_capacity(0);
        (machine.is_failing, machine.is_full) = (true, true);
        self.counters.fault("disk full");
        let duration = self.chance.between(SECOND, 5 * SECOND);
        self.put(duration, Event::Free(number));
        Ok(())
    }

    fn fail_disk(&mut self, number: usize, failure: Failure, kind: &'static str) -> Checked {
        let machine = &mut self.machines[number];
        if machine.node.is_none() {
            return Ok(());
        }
        machine.disk.fail_after(self.chance.below(4), failure);
        machine.is_failing = true;
        self.counters.fault(kind);
        Ok(())
    }

    /// A full disk has room again.
    pub(crate) fn free(&mut self, number: usize) -> Checked {
        let machine = &mut self.machines[number];
        machine.disk.limit_capacity(u64::MAX);
        machine.base.limit_capacity(u64::MAX);
        machine.is_full = false;
        Ok(())
    }

    /// Nothing goes wrong from now on.
    pub(crate) fn end_faults(&mut self) -> Checked {
        self.note("end of faults", &[]);
        self.healing_since = Some(self.time.now());
        self.network.behave();
        for number in 0..self.machines.len() {
            let now = self.time.now();
            let machine = &mut self.machines[number];
            machine.clock.set_right();
            machine.slow_until = now;
            machine.paused_until = machine.paused_until.min(now);
            machine.stays_down = false;
            machine.next_version = NEWEST_VERSION;
            // What is damaged and was not noticed is looked for, and everybody gets the newest program.
            let is_outdated = machine.node.is_some() && (machine.is_rotten || machine.version < NEWEST_VERSION);
            if is_outdated {
                self.crash_with(number, CrashLoss::Nothing)?;
            }
            self.free(number)?;
            self.start(number)?;
        }
        Ok(())
    }

    /// The member that decides, if one does.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |machine: &crate::machine::Machine| machine.node.as_ref().is_some_and(|node| node.decides());
        let newest = self.machines.iter().filter(|machine| leads(machine));
        newest
            .max_by_key(|machine| machine.node.as_ref().map(|node| node.leadership().term))
            .map(|machine| machine.number)
    }

    /// What the members look like, for whoever wants to know why they do not get on.
    pub(crate) fn describe_members(&self) -> String {
        let describe = |machine: &crate::machine::Machine| match &machine.node {
            None => format!("member {} is down", machine.number),
            Some(node) => {
                let leadership = node.leadership();
                format!(
                    "member {}: term {}, leader {:?}, revision {}, log to {}, committed {}, serves {} calls, takes over {}",
                    machine.number,
                    leadership.term,
                    leadership.leader.map(machine_of),
                    node.node().revision(),
                    node.last(),
                    node.committed(),
                    machine.served(),
                    node.is_taking_over()
                )
            }
        };
        let members: Vec<String> = self.machines.iter().map(describe).collect();
        let waiting = self.clients.iter().filter_map(|client| client.operation.as_ref());
        let waiting: Vec<String> = waiting.map(|operation| format!("{operation:?}")).collect();
        format!("the cluster has not recovered in time.\n  {}\n  {}", members.join("\n  "), waiting.join("\n  "))
    }
}
