//! A node without threads, clock and chance, which whoever owns it drives: the way into a simulator.
//!
//! It is made of the same pieces as a [`Node`] with threads, and holds no logic of its own. Each of the threads is a
//! method here that does what the thread would do next, when the owner says so:
//!
//! | thread | here |
//! | --- | --- |
//! | of the group | [`SteppedNode::turn`] |
//! | log writer | [`SteppedNode::write`] |
//! | runtime with fetching, preparing, flushing and compacting | [`SteppedNode::work`] |
//! | ticks and timers | [`SteppedNode::tick`], [`SteppedNode::pass`] |
//!
//! Time comes from the clock in the [`NodeParts`], messages go out through their transport and come in through the sink
//! that it was given, all random numbers follow from one seed. Mutations, reads and tails go through the handle
//! ([`SteppedNode::node`]), whose futures need no runtime as long as they do not wait with patience: [`Node::submit`],
//! [`Node::flush`], [`Node::compact`], [`Node::change_cluster`], and [`SteppedNode::current`] in the place of
//! [`Node::current`]. Dropping a node is a crash: what it had not written is lost, and the owner decides what of the
//! rest survives.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steeple_engine::ids::{LogIndex, LogPosition, NodeId};
use steeple_engine::log::{Entry, LogError};
use steeple_raft::{Leadership, Membership, MembershipChange, Need, Question, Statement};
use tokio::sync::mpsc::{Receiver, Sender};

use super::group::{Failure, Group, Message};
use super::install::Arrived;
use super::log_writer::LogWork;
use super::random::Random;
use super::repair::Damaged;
use super::storage::Storage;
use super::work::{Steps, Work};
use super::{Assembled, INBOX_MAX, Node, NodeOptions, NodeParts, QueryError, StartError};

use crate::peer::repair::WantedEntries;
use crate::peer::{HandshakeError, Introduction};

pub use super::storage::{Shelf, SimulatedStorage};

/// A member whose log is damaged, and which [`SteppedNode::start`] refuses for that: whoever drives it carries questions
/// and entries between it and the others. When nothing is missing any more, it is closed and started.
pub struct SteppedPatient(Damaged);

impl SteppedPatient {
    /// Opens the damaged log. `None` when there is nobody to ask.
    ///
    /// # Errors
    /// When it cannot be opened even with holes.
    pub fn open(options: &NodeOptions, storage: Arc<SimulatedStorage>) -> Result<Option<Self>, StartError> {
        Ok(Damaged::open_in(&Storage::Simulated(storage), options)?.map(Self))
    }

    /// As whom it introduces itself.
    #[must_use]
    pub fn introduction(&self) -> Introduction {
        self.0.roster().own()
    }

    /// Whether a member may ask it, or be asked.
    ///
    /// # Errors
    /// When it may not.
    pub fn admit(&self, peer: &Introduction) -> Result<(), HandshakeError> {
        self.0.roster().admit(peer)
    }

    /// The members to ask.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        self.0.peers().collect()
    }

    /// What to ask them now.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn ask(&self) -> Result<Option<Question>, LogError> {
        self.0.with(|patient| patient.ask()).transpose()
    }

    /// Answers another one whose log is damaged.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn answer(&self, question: &Question) -> Result<Option<Statement>, LogError> {
        self.0.with(|patient| patient.answer(question)).transpose()
    }

    /// Entries for another one whose log is damaged.
    #[must_use]
    pub fn entries(&self, wanted: WantedEntries) -> Vec<Entry> {
        self.0.with(|patient| wanted.gather(|index| patient.entry(index))).unwrap_or_default()
    }

    /// Takes the answer of a member.
    ///
    /// # Errors
    /// In words, when it does not count.
    pub fn hear(&self, who: &Introduction, statement: Statement) -> Result<(), String> {
        self.0.hear(who, statement)
    }

    /// Does what follows from the answers, and says what is needed next.
    ///
    /// # Errors
    /// When the log cannot be read or written.
    pub fn step(&self) -> Result<Need, LogError> {
        self.0.with(|patient| patient.step()).unwrap_or(Ok(Need::Nothing))
    }

    /// Puts entries back; how many of them.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn receive(&self, entries: Vec<Entry>) -> Result<usize, LogError> {
        self.0.with(|patient| patient.receive(entries)).unwrap_or(Ok(0))
    }

    /// Whether nothing is wrong with the log: then records and base snapshot are lost, and it takes a snapshot of another
    /// member that holds at least [`SteppedPatient::base`].
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.is_whole()
    }

    /// The entry behind which the log begins.
    #[must_use]
    pub fn base(&self) -> LogIndex {
        self.0.with(|patient| patient.base()).unwrap_or_default()
    }

    /// Makes a snapshot of another member the base snapshot, and puts it in the place of a log that is not whole.
    ///
    /// # Errors
    /// In words, when it is of no use, or the log cannot be written.
    pub fn take_over(&self, snapshot: Bytes) -> Result<(), String> {
        self.0.take_over(Arrived::Memory(snapshot))
    }

    /// Closes the log, for the next start to open.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn close(&self) -> Result<(), LogError> {
        self.0.close()
    }
}

/// A node that its owner drives.
pub struct SteppedNode {
    node: Node,
    group: Group,
    /// Until the log has failed.
    log: Option<LogWork>,
    /// Keeps the inbox open.
    inbox: Sender<Message>,
    messages: Receiver<Message>,
    steps: Arc<Steps>,
    has_ended: bool,
}

impl Drop for SteppedNode {
    fn drop(&mut self) {
        self.steps.give_up();
    }
}

impl SteppedNode {
    /// Opens what is stored and recovers. Takes as many steps as that takes.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        options: NodeOptions,
        parts: &NodeParts,
        storage: Arc<SimulatedStorage>,
        seed: u64,
    ) -> Result<Self, StartError> {
        let steps = Arc::<Steps>::default();
        let work = Work::Steps(Arc::clone(&steps));
        let (storage, random) = (Storage::Simulated(storage), Random::seeded(seed));
        let opened = Node::open(&options, &storage, &random)?;
        let assembled = Node::assemble(opened, options, parts, storage, random, work);
        let Assembled { node, group, log, inbox, messages, has_started: _ } = assembled;
        let mut stepped = Self { node, group, log: Some(log), inbox, messages, steps, has_ended: false };
        let begun = stepped.group.begin();
        stepped.note(begun);
        match stepped.node.failure() {
            Some(reason) => Err(StartError::Failed(reason)),
            None => Ok(stepped),
        }
    }

    /// The handle, for mutations, reads and tails.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Proposes a change of several members at once, for which there is no call of an operator; whether it was taken. The
    /// next turn sends it, and [`SteppedNode::membership`] says when it is made.
    pub fn change_members(&mut self, change: &MembershipChange) -> bool {
        self.group.replica.change_members(change).is_ok()
    }

    #[cfg(test)]
    pub(super) fn group_mut(&mut self) -> &mut Group {
        &mut self.group
    }

    /// Tells the group that a tick has passed.
    pub fn tick(&mut self) {
        let shared = &self.node.shared;
        if let Some(inbox) = shared.inbox_sender().filter(|_| !shared.needs_no_ticks()) {
            // A group that has ended needs no ticks, and one whose inbox is full has ticks in it.
            let _ = inbox.try_send(Message::Tick);
        }
    }

    /// Lets time pass for what waits with a timer.
    pub fn pass(&mut self, time: Duration) {
        self.steps.pass(time);
    }

    /// Whether [`SteppedNode::turn`] would find something to do.
    #[must_use]
    pub fn has_messages(&self) -> bool {
        !self.has_ended && !self.messages.is_empty()
    }

    /// Lets the group take up what has come in, and do what follows from it; whether there was anything.
    pub fn turn(&mut self) -> bool {
        if self.has_ended {
            return false;
        }
        let Ok(message) = self.messages.try_recv() else { return false };
        let mut done = self.group.take_turn(message, &mut self.messages);
        if done.is_ok() && self.messages.is_empty() {
            done = self.group.spread_news();
        }
        self.note(done);
        true
    }

    /// Whether [`SteppedNode::write`] would find something to do.
    #[must_use]
    pub fn has_writes(&mut self) -> bool {
        self.inbox.capacity() > 0 && self.log.as_mut().is_some_and(LogWork::is_ready)
    }

    /// Carries out what waits for the log, in the order in which it came: writes that wait together with one sync.
    pub fn write(&mut self) {
        self.write_some(true);
    }

    /// Carries out the first write that waits, as if the others had come while it was under way.
    pub fn write_first(&mut self) {
        self.write_some(false);
    }

    fn write_some(&mut self, gathers: bool) {
        // Its report has to find room, because the log does not wait for the group here.
        if self.inbox.capacity() == 0 {
            return;
        }
        let inbox = &self.inbox;
        let report = &mut |message| inbox.try_send(message).is_ok();
        if self.log.as_mut().is_some_and(|log| !log.step(gathers, report)) {
            self.log = None;
        }
    }

    /// Whether [`SteppedNode::work`] would find something to do.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.steps.is_ready()
    }

    /// Goes on with one thing that is done in the background: fetching and preparing a snapshot, rebuilding records,
    /// flushing, compacting; whether there was one.
    pub fn work(&mut self) -> bool {
        self.steps.step()
    }

    /// As [`Node::current`], for as long as it takes. It must not borrow the node while that is driven.
    pub fn current(&self) -> impl Future<Output = Result<(), QueryError>> + Send + 'static {
        let node = self.node.clone();
        async move { if node.is_current()? { Ok(()) } else { node.confirm().await } }
    }

    /// Asks the node to finish what is in flight and to end; [`SteppedNode::has_ended`] says when it has.
    pub fn begin_to_stop(&mut self) {
        // With a full inbox it looks after each turn whether the doors were closed.
        drop(self.inbox.try_send(Message::Stop));
        self.node.shared.fail("node stopped".into());
    }

    /// Whether the group has ended, because it was asked to or because the log or the view has failed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Closes the log of a node that has ended, as the end of the process does.
    pub fn close(mut self) {
        self.node.shared.tasks.lock().take();
        while self.has_writes() {
            self.write();
        }
        if let Some(log) = self.log.take() {
            log.close();
        }
    }

    /// Who leads, as far as this node knows.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.group.replica.leadership()
    }

    /// What the log holds, for a member whose log is damaged: the answer comes with one of the next turns.
    pub fn describe_log(&self, question: Question) -> impl Future<Output = Option<Statement>> + Send + 'static {
        let inbox = self.inbox.clone();
        async move {
            let (answer, answered) = tokio::sync::oneshot::channel();
            inbox.send(Message::Describe(question, answer)).await.ok()?;
            drop(inbox);
            answered.await.ok()
        }
    }

    /// Entries of the log for such a member.
    #[must_use]
    pub fn entries(&self, wanted: WantedEntries) -> Vec<Entry> {
        let log = self.node.log();
        wanted.gather(|index| log.read(index).ok().flatten())
    }

    /// Whether the node decides commands now.
    #[must_use]
    pub fn decides(&self) -> bool {
        self.group.decides()
    }

    /// Whether a founder keeps silent until every other one has admitted it.
    #[must_use]
    pub fn is_on_probation(&self) -> bool {
        self.group.is_on_probation()
    }

    /// Who belongs to the group, as far as it is folded here.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        self.group.replica.membership()
    }

    /// The newest entry that is known to be committed.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        self.group.replica.committed()
    }

    /// The end of the log, durable or not.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.group.replica.last()
    }

    /// Whether a snapshot is being taken over, or the records are being rebuilt.
    #[must_use]
    pub fn is_taking_over(&self) -> bool {
        self.group.is_taking_over()
    }

    /// Messages that wait, and how many may.
    #[must_use]
    pub fn waiting_messages(&self) -> (usize, usize) {
        (self.messages.len(), INBOX_MAX)
    }

    fn note(&mut self, done: Result<(), Failure>) {
        if let Err(failure) = done {
            tracing::error!(%failure, "node stops taking mutations");
            self.node.shared.fail(failure.to_string());
            self.has_ended = true;
        } else if !self.group.goes_on() {
            self.group.end();
            self.has_ended = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use steeple_engine::disk::SimulatedDisk;
    use steeple_engine::disk::simulated::{CrashLoss, Failure};

    use steeple_engine::ids::{NamespaceId, StreamId};
    use steeple_engine::spire::REGISTRATIONS;
    use steeple_engine::view::{Reader, StoreKey};

    use super::super::tests::{create, prune_events};
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    fn started(storage: &Arc<SimulatedStorage>) -> SteppedNode {
        SteppedNode::start(NodeOptions::in_memory(), &NodeParts::default(), Arc::clone(storage), 1).unwrap()
    }

    /// Drives a node until something is done.
    fn until_done<T>(node: &mut SteppedNode, future: impl Future<Output = T>) -> T {
        let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
        for _ in 0..10_000 {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            node.tick();
            node.pass(TICK);
            while node.turn() || node.work() || node.has_writes() {
                node.write();
            }
        }
        panic!("it is not done");
    }

    /// As [`until_done`], while nothing is done in the background.
    fn until_done_in_front<T>(node: &mut SteppedNode, future: impl Future<Output = T>) -> T {
        let (mut future, mut context) = (pin!(future), Context::from_waker(Waker::noop()));
        for _ in 0..10_000 {
            if let Poll::Ready(done) = future.as_mut().poll(&mut context) {
                return done;
            }
            if !node.turn() {
                node.tick();
            }
            if node.has_writes() {
                node.write();
            }
        }
        panic!("it is not done");
    }

    /// Rows of a stream in the store, listed or not.
    fn stored_rows(node: &SteppedNode, namespace: NamespaceId) -> usize {
        let row = |stream: StreamId| StoreKey::Row(namespace, stream, 0.into()).encode();
        let (from, to) = (row(REGISTRATIONS), row(StreamId(REGISTRATIONS.0 + 1)));
        let mut rows = 0;
        let count = &mut |_: &[u8], _: &[u8]| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        };
        node.node().view().store().scan(&from, &to, count).unwrap();
        rows
    }

    fn do_all_work(node: &mut SteppedNode) {
        while node.work() {}
    }

    /// What a power loss leaves of everything.
    fn after_power_loss(
        before: &SimulatedStorage,
        disk: &SimulatedDisk,
        unflushed: usize,
    ) -> (Arc<SimulatedStorage>, SimulatedDisk) {
        let disk = disk.crash(CrashLoss::Nothing, 1);
        let after = SimulatedStorage {
            log: Arc::new(disk.clone()),
            base: before.base.crash(CrashLoss::Nothing, 1),
            stores: before.stores.crash(|there| there.min(unflushed)),
        };
        (Arc::new(after), disk)
    }

    #[test]
    fn a_founder_that_loses_power_at_any_moment_of_its_first_start_still_knows_the_other_founders() {
        let members = (1..=3).map(|node| (node, steeple_raft::Member::default())).collect();
        let mut options = NodeOptions::in_memory();
        options.cluster.node = steeple_engine::ids::NodeId(1);
        let (cluster, history) = (steeple_engine::ids::ClusterId([1; 16]), steeple_engine::ids::HistoryId([1; 16]));
        options.cluster.origin = super::super::ClusterOrigin::Founding { cluster, history, members };
        let storage = |disk: &SimulatedDisk| {
            let (base, stores) = (SimulatedDisk::new(), Shelf::default());
            Arc::new(SimulatedStorage { log: Arc::new(disk.clone()), base, stores })
        };
        let mut moments = 0;
        for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
            for moment in 0.. {
                let disk = SimulatedDisk::new();
                disk.fail_after(moment, Failure::Stop);
                drop(SteppedNode::start(options.clone(), &NodeParts::default(), storage(&disk), 1));
                let ended = !disk.has_stopped();
                let again =
                    SteppedNode::start(options.clone(), &NodeParts::default(), storage(&disk.crash(loss, moment)), 1);
                let voters = again.unwrap().membership().voters.clone();
                assert_eq!(voters, (1..=3).collect(), "{loss:?}, operation {moment}");
                if ended {
                    break;
                }
                moments += 1;
            }
        }
        assert!(moments > 20, "{moments}");
    }

    #[test]
    fn rows_that_were_given_up_are_hidden_at_once_and_removed_in_the_background_also_after_a_crash() {
        // Batches of the store that survive: from none, over the mark without the removal, to everything.
        for (works, unflushed) in [(false, 0), (false, usize::MAX), (true, 1), (true, 2), (true, usize::MAX)] {
            let disk = SimulatedDisk::new();
            let (base, stores) = (SimulatedDisk::new(), Shelf::default());
            let before = Arc::new(SimulatedStorage { log: Arc::new(disk.clone()), base, stores });
            let mut node = started(&before);
            let handle = node.node().clone();
            let namespace = until_done(&mut node, async {
                let namespace = handle.open_namespace("one").await.unwrap();
                create(&handle, namespace, 0..60).await;
                handle.flush().await.unwrap();
                namespace
            });
            let pruned = until_done_in_front(&mut node, handle.submit(namespace, None, prune_events(u64::MAX)));
            assert_eq!(pruned.unwrap().answer.progress(), Some((60, false)));
            until_done_in_front(&mut node, create(&handle, namespace, 60..63));
            assert_eq!(stored_rows(&node, namespace), 63, "none is removed before the answer");
            let listed = |node: &Node| {
                let rows =
                    node.read(|reader| reader.stream_rows(namespace, REGISTRATIONS, 0.into(), usize::MAX)).unwrap();
                rows.iter().map(|row| row.sequence.0).collect::<Vec<_>>()
            };
            assert_eq!(listed(&handle), [61, 62, 63]);
            if works {
                do_all_work(&mut node);
                assert_eq!(stored_rows(&node, namespace), 3);
                assert_eq!(listed(&handle), [61, 62, 63]);
            }
            drop((node, handle));
            let (after, _) = after_power_loss(&before, &disk, unflushed);
            let mut node = started(&after);
            assert_eq!(listed(node.node()), [61, 62, 63], "{works} {unflushed}");
            do_all_work(&mut node);
            assert_eq!(stored_rows(&node, namespace), 3, "{works} {unflushed}");
            assert_eq!(listed(node.node()), [61, 62, 63]);
        }
    }

    #[test]
    fn a_second_prune_goes_on_from_the_first_one_while_its_rows_are_removed() {
        let storage = Arc::new(SimulatedStorage {
            log: Arc::new(SimulatedDisk::new()),
            base: SimulatedDisk::new(),
            stores: Shelf::default(),
        });
        let mut node = started(&storage);
        let handle = node.node().clone();
        let namespace = until_done(&mut node, async {
            let namespace = handle.open_namespace("one").await.unwrap();
            create(&handle, namespace, 0..1_300).await;
            namespace
        });
        let everything = || {
            let prune =
                steeple_engine::spire::events::Command::PruneEntryEvents { older_than_micros: u64::MAX, limit: 0 };
            steeple_engine::domain::Command::Spire(steeple_engine::spire::Command::Event(prune))
        };
        let pruned = until_done_in_front(&mut node, handle.submit(namespace, None, everything()));
        assert_eq!(pruned.unwrap().answer.progress(), Some((1_300, false)), "one step");
        // Two steps of the work: a portion of several is removed.
        while stored_rows(&node, namespace) == 1_300 {
            assert!(node.work());
        }
        assert!(stored_rows(&node, namespace) > 0);
        until_done_in_front(&mut node, create(&handle, namespace, 2_000..2_010));
        let pruned = until_done_in_front(&mut node, handle.submit(namespace, None, everything()));
        assert_eq!(pruned.unwrap().answer.progress(), Some((10, false)));
        do_all_work(&mut node);
        assert_eq!(stored_rows(&node, namespace), 0);
        let (revision, digest) = handle.view().recompute_digest().unwrap();
        assert_eq!((revision, digest), (handle.revision(), handle.status().digest));
    }

    #[test]
    fn what_a_crash_has_left_is_flushed_before_it_is_served() {
        let disk = SimulatedDisk::new();
        let before =
            SimulatedStorage { log: Arc::new(disk.clone()), base: SimulatedDisk::new(), stores: Shelf::default() };
        let before = Arc::new(before);
        let mut node = started(&before);
        let handle = node.node().clone();
        until_done(&mut node, async {
            let namespace = handle.open_namespace("one").await.unwrap();
            create(&handle, namespace, 0..20).await;
            handle.flush().await.unwrap();
            create(&handle, namespace, 20..30).await;
        });
        let expected = handle.view().folded();
        drop((node, handle));
        // Killed in the middle of a flush: what is there can be read from one end to the other, and not be written.
        before.stores.fail_at_flush("a slot is lost");
        let after = Arc::new(SimulatedStorage {
            log: Arc::new(disk.crash(CrashLoss::Nothing, 1)),
            base: before.base.crash(CrashLoss::Nothing, 1),
            stores: before.stores.crash(|unflushed| unflushed),
        });
        let mut node = started(&after);
        let handle = node.node().clone();
        let status = handle.status();
        assert!(
            status.rebuilt.is_some_and(|reason| reason.contains("a slot is lost")),
            "{:?}",
            handle.status().rebuilt
        );
        assert_eq!((status.revision, status.digest), (expected.revision, expected.digest));
        until_done(&mut node, async { handle.flush().await }).unwrap();
        assert!(handle.check_records().is_ok());
    }
}
