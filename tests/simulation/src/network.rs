//! The network between the members, and between clients and members: messages are lost, late, doubled or out of order,
//! and ways are cut, in one direction or both.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use raft::eraftpb::Message;
use steeple_engine::ids::NodeId;
use steeple_server::peer::{BoxFuture, FetchError, FetchedSnapshot, Transport, WantedSnapshot};
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::counters::Counters;
use crate::settings::Settings;

/// What members want to send, until the scheduler takes it.
#[derive(Clone, Default)]
pub(crate) struct Outbox(Arc<Mutex<Sent>>);

#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) messages: Vec<(usize, Message)>,
    pub(crate) fetches: Vec<Fetch>,
    /// Whom a member wants to be introduced to.
    pub(crate) greetings: Vec<usize>,
}

/// A member wants a snapshot of another one.
pub(crate) struct Fetch {
    pub(crate) from: usize,
    pub(crate) wanted: WantedSnapshot,
    pub(crate) answer: oneshot::Sender<Result<FetchedSnapshot, FetchError>>,
}

impl Outbox {
    pub(crate) fn take(&self) -> Sent {
        std::mem::take(&mut *self.0.lock())
    }
}

/// The member's number among the machines.
pub(crate) fn machine_of(node: NodeId) -> usize {
    usize::try_from(node.0).unwrap_or(usize::MAX).wrapping_sub(1)
}

/// The transport of one member.
impl Transport for Outbox {
    fn send(&self, to: NodeId, message: Message) {
        self.0.lock().messages.push((machine_of(to), message));
    }

    fn greet(&self, to: NodeId) {
        self.0.lock().greetings.push(machine_of(to));
    }

    fn set_members(&self, _: Vec<(NodeId, String)>) {}

    fn fetch_snapshot(
        &self,
        from: NodeId,
        wanted: WantedSnapshot,
        _: PathBuf,
    ) -> BoxFuture<'static, Result<FetchedSnapshot, FetchError>> {
        let (answer, fetched) = oneshot::channel();
        self.0.lock().fetches.push(Fetch { from: machine_of(from), wanted, answer });
        Box::pin(async move { fetched.await.unwrap_or(Err(FetchError::CutOff)) })
    }
}

/// Whom clients count as in what is cut.
pub(crate) const CLIENTS: usize = usize::MAX;

/// What becomes of messages.
pub(crate) struct Network {
    chance: Chance,
    delay: u64,
    loss: u64,
    duplication: u64,
    reordering: u64,
    cut: BTreeSet<(usize, usize)>,
}

impl Network {
    pub(crate) fn new(chance: Chance, settings: &Settings) -> Self {
        Self {
            chance,
            delay: settings.delay,
            loss: settings.loss,
            duplication: settings.duplication,
            reordering: settings.reordering,
            cut: BTreeSet::new(),
        }
    }

    /// When a message arrives, each time that it does; never when it is lost.
    pub(crate) fn delays(&mut self, from: usize, to: usize, counters: &mut Counters) -> Vec<u64> {
        if self.is_cut(from, to) {
            counters.fault("message lost: the way is cut");
            return Vec::new();
        }
        if self.chance.happens(self.loss) {
            counters.fault("message lost");
            return Vec::new();
        }
        let mut delays = vec![self.delay(counters)];
        if self.chance.happens(self.duplication) {
            counters.fault("message doubled");
            delays.push(self.delay(counters));
        }
        delays
    }

    fn delay(&mut self, counters: &mut Counters) -> u64 {
        let delay = 20 + self.chance.around(self.delay);
        if self.chance.happens(self.reordering) {
            counters.fault("message late");
            return delay * self.chance.between(2, 100);
        }
        delay
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts ways between the machines; some of the cuts are in one direction only. Clients may be cut off as well.
    pub(crate) fn partition(&mut self, machines: usize, counters: &mut Counters) {
        self.cut.clear();
        let one_way = self.chance.happens(300);
        let asks_clients = self.chance.happens(300);
        let lonely = self.chance.happens(500).then(|| self.chance.below(machines as u64) as usize);
        let sides: Vec<bool> = (0..machines)
            .map(|machine| lonely.map_or_else(|| self.chance.happens(500), |lonely| machine == lonely))
            .collect();
        for from in 0..machines {
            for to in 0..machines {
                if sides[from] != sides[to] && (!one_way || sides[from]) {
                    self.cut.insert((from, to));
                }
            }
            if asks_clients && sides[from] {
                self.cut.insert((from, CLIENTS));
                self.cut.insert((CLIENTS, from));
            }
        }
        counters.fault(if one_way { "partition, one way" } else { "partition" });
    }

    /// Cuts a machine off from the others, and not from the clients.
    pub(crate) fn cut_off(&mut self, machine: usize, machines: usize) {
        self.cut_to(machine, machines);
        self.cut.extend((0..machines).filter(|to| *to != machine).map(|to| (machine, to)));
    }

    /// Nothing reaches a machine any more; what it says still reaches the others.
    pub(crate) fn cut_to(&mut self, machine: usize, machines: usize) {
        self.cut.extend((0..machines).filter(|from| *from != machine).map(|from| (from, machine)));
    }

    pub(crate) fn heal_partition(&mut self) {
        self.cut.clear();
    }

    /// From now on every message arrives, once and soon.
    pub(crate) fn behave(&mut self) {
        self.cut.clear();
        self.loss = 0;
        self.duplication = 0;
        self.reordering = 0;
    }
}
