//! What the group writes by itself, and what it hands over.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use steeple_engine::disk::SimulatedDisk;
use steeple_engine::disk::simulated::Failure as DiskFailure;
use steeple_engine::domain::Command;
use steeple_engine::ids::{LogIndex, NamespaceId};
use steeple_engine::log::LogWriter;
use steeple_engine::namespaces;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{Failure, Message};
use crate::node::log_writer::Task;
use crate::node::stepped::{Shelf, SimulatedStorage, SteppedNode};
use crate::node::submissions::{Answering, Decided, Waiting};
use crate::node::{NodeOptions, NodeParts, SubmitError};

/// A group that leads alone and writes by itself, with a command that is proposed and not written.
struct Setting {
    node: SteppedNode,
    log: SimulatedDisk,
    answered: oneshot::Receiver<Decided>,
    /// The last entry before it.
    before: LogIndex,
}

impl Setting {
    fn new() -> Self {
        let log = SimulatedDisk::new();
        let storage =
            SimulatedStorage { log: Arc::new(log.clone()), base: SimulatedDisk::new(), stores: Shelf::default() };
        let mut node =
            SteppedNode::start(NodeOptions::in_memory(), &NodeParts::default(), Arc::new(storage), 1).unwrap();
        settle(&mut node);
        let before = durable(&node);
        let group = node.group_mut();
        group.keeps_writes = true;
        let (answer, answered) = oneshot::channel();
        let answer = Answering::Alone { answer, _permit: Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap() };
        let command = Command::Namespace(namespaces::Command::Open { name: "one".into() });
        let waiting = Waiting::new(NamespaceId::SYSTEM, None, command, answer);
        let (_, mut nothing) = mpsc::channel(1);
        group.take_turn(Message::Submit(Box::new(waiting)), &mut nothing).unwrap();
        assert_eq!(group.kept.len(), 1, "it is kept for the end of the turn");
        Self { node, log, answered, before }
    }

    /// What the group does at the end of a turn, with these messages in its inbox.
    fn end_turn(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), Failure> {
        let (inbox, mut received) = mpsc::channel(8);
        messages.into_iter().for_each(|message| assert!(inbox.try_send(message).is_ok()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.node.group_mut().write_kept(&mut received))
    }

    /// Whether the log's thread has something to do.
    fn is_handed_over(&mut self) -> bool {
        let group = self.node.group_mut();
        assert!(group.kept.is_empty());
        !group.log.rests()
    }
}

fn settle(node: &mut SteppedNode) {
    while node.turn() || node.has_writes() {
        node.write();
    }
}

fn durable(node: &SteppedNode) -> LogIndex {
    node.node().log().durable().index
}

#[test]
fn a_small_write_is_done_by_the_group_and_answered_when_nothing_else_waits() {
    let mut setting = Setting::new();
    let syncs = setting.node.node().shared.log_counters.syncs.load(Ordering::Relaxed);
    setting.end_turn([]).unwrap();
    assert!(!setting.is_handed_over() && !setting.node.has_writes());
    assert_eq!(setting.node.node().shared.log_counters.syncs.load(Ordering::Relaxed), syncs + 1);
    assert!(durable(&setting.node) > setting.before);
    setting.answered.try_recv().expect("it is answered in the same turn").unwrap();
}

#[test]
fn what_was_kept_is_handed_over_when_something_has_come_meanwhile() {
    let mut setting = Setting::new();
    setting.end_turn([Message::Tick]).unwrap();
    assert!(setting.is_handed_over());
    assert_eq!(durable(&setting.node), setting.before);
    assert!(setting.answered.try_recv().is_err());
    settle(&mut setting.node);
    assert!(durable(&setting.node) > setting.before);
    setting.answered.try_recv().expect("the log's thread has written it").unwrap();
}

#[test]
fn the_threads_other_tasks_have_their_turn_however_much_waits_and_with_nothing_to_write() {
    let mut setting = Setting::new();
    setting.end_turn([]).unwrap();
    let (inbox, mut received) = mpsc::channel(1);
    assert!(inbox.try_send(Message::Tick).is_ok());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let group = setting.node.group_mut();
    assert!(group.kept.is_empty());
    let was_done = runtime.block_on(async {
        let other = tokio::spawn(async {});
        group.write_kept(&mut received).await.unwrap();
        other.is_finished()
    });
    assert!(was_done);
}

#[test]
fn what_else_is_done_with_the_log_comes_behind_what_was_kept() {
    let mut setting = Setting::new();
    let (done, mut seen) = oneshot::channel();
    let look = move |writer: &mut LogWriter| {
        // The test waits for it.
        let _ = done.send(writer.reader().durable().index);
    };
    setting.node.group_mut().hand_to_log(Task::Run(Box::new(look))).unwrap();
    assert!(setting.is_handed_over());
    settle(&mut setting.node);
    assert!(seen.try_recv().unwrap() > setting.before);
}

#[test]
fn a_write_of_the_group_that_fails_ends_it_and_nothing_is_acknowledged() {
    let mut setting = Setting::new();
    setting.log.fail_after(0, DiskFailure::Sync);
    let failed = setting.end_turn([]);
    assert!(matches!(failed, Err(Failure::Log(_))), "{failed:?}");
    assert!(setting.answered.try_recv().is_err());
    drop(setting.node);
    let told = setting.answered.try_recv();
    assert!(!matches!(told, Ok(Ok(_) | Err(SubmitError::NotLeader { .. }))), "its outcome is unknown");
}
