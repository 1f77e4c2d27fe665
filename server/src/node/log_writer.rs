//! The thread that owns the log's writing end: it appends and syncs batches, and gives space back between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use steeple_engine::ids::LogIndex;
use steeple_engine::log::{HardState, LogError, LogWriter};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_raft::{Write, WriteNumber};

use super::group::Message;

/// Bytes of entries that are made durable by one sync, unless a single write has more.
const BATCH_BYTES: usize = 16 << 20;

/// What the thread is asked to do.
pub(super) enum Task {
    /// Make durable, and report that it is.
    Write(Write),
    /// Remember for the next start that the log is committed so far.
    Note(LogIndex),
    /// Do something else with the log, such as giving space back, between what comes before it and what comes after.
    Run(Box<dyn FnOnce(&mut LogWriter) + Send>),
}

/// What the thread has done since the node started.
#[derive(Debug, Default)]
pub(super) struct LogCounters {
    pub(super) syncs: AtomicU64,
    pub(super) entries: AtomicU64,
}

/// The log's writing end, and what is to be done with it.
pub(super) struct LogWork {
    pub(super) writer: LogWriter,
    pub(super) tasks: mpsc::Receiver<Task>,
    pub(super) counters: Arc<LogCounters>,
    /// Taken from the queue, and not done yet.
    pub(super) next: Option<Task>,
}

impl LogWork {
    pub(super) fn new(writer: LogWriter, tasks: mpsc::Receiver<Task>, counters: Arc<LogCounters>) -> Self {
        Self { writer, tasks, counters, next: None }
    }

    /// Runs until the sending side is gone or the log fails.
    pub(super) fn run(mut self, mut report: impl FnMut(Message) -> bool) {
        while let Some(task) = self.next.take().or_else(|| self.tasks.recv().ok()) {
            if !self.carry_out(task, true, &mut report) {
                return;
            }
        }
        self.close();
    }

    /// Does what waits first, if there is anything, with or without the writes that wait behind it; whether the log goes on.
    pub(super) fn step(&mut self, gathers: bool, report: &mut dyn FnMut(Message) -> bool) -> bool {
        match self.next.take().or_else(|| self.tasks.try_recv().ok()) {
            Some(task) => self.carry_out(task, gathers, report),
            None => true,
        }
    }

    /// Whether something waits to be done.
    pub(super) fn is_ready(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.tasks.try_recv().ok();
        }
        self.next.is_some()
    }

    /// Term and vote stay, so that a note promises nothing. What it covers is durable: a commit index alone is written
    /// and not synced.
    fn note(&mut self, committed: LogIndex) -> Result<(), LogError> {
        let state = self.writer.hard_state();
        if committed > state.commit && !is_planted(Bug::WriteNotSynced) {
            self.writer.set_hard_state(HardState { commit: committed, ..state })?;
            self.writer.sync()?;
        }
        Ok(())
    }

    /// A log that was closed has no end to be doubtful about, and opens without looking for one.
    pub(super) fn close(self) {
        if let Err(error) = self.writer.close() {
            tracing::warn!(%error, "the log was not closed; the next start recovers it");
        }
    }

    /// Does one thing, and the writes that wait behind a write with it when it `gathers` them; whether the log goes on.
    fn carry_out(&mut self, task: Task, gathers: bool, report: &mut dyn FnMut(Message) -> bool) -> bool {
        match task {
            Task::Write(write) => {
                let mut writes = vec![write];
                self.next = if gathers { gather(&self.tasks, &mut writes) } else { None };
                let persisted = carry_out(&mut self.writer, &writes);
                self.counters.syncs.fetch_add(1, Ordering::Relaxed);
                let entries: usize = writes.iter().map(|write| write.entries.len()).sum();
                self.counters.entries.fetch_add(entries as u64, Ordering::Relaxed);
                let failed = persisted.is_err();
                report(Message::Persisted(persisted)) && !failed
            }
            Task::Note(committed) => {
                if let Err(error) = self.note(committed) {
                    tracing::warn!(%error, "the log does not take up how far it is committed");
                }
                true
            }
            Task::Run(work) => {
                work(&mut self.writer);
                true
            }
        }
    }
}

/// Takes the writes that wait already, so that one sync serves them all. Answers the task that came after them.
fn gather(tasks: &mpsc::Receiver<Task>, writes: &mut Vec<Write>) -> Option<Task> {
    let mut bytes = weigh(writes);
    while bytes < BATCH_BYTES {
        match tasks.try_recv() {
            Ok(Task::Write(write)) => {
                bytes += weigh(std::slice::from_ref(&write));
                writes.push(write);
            }
            Ok(other) => return Some(other),
            Err(_) => break,
        }
    }
    None
}

fn weigh(writes: &[Write]) -> usize {
    writes.iter().flat_map(|write| &write.entries).map(|entry| entry.payload.len()).sum()
}

fn carry_out(writer: &mut LogWriter, writes: &[Write]) -> Result<WriteNumber, LogError> {
    let started = std::time::Instant::now();
    let mut number = WriteNumber(0);
    for write in writes {
        number = write.number;
        if let Some(state) = write.hard_state.filter(|_| !is_planted(Bug::VoteNotKept)) {
            let forgets = is_planted(Bug::VoteForgotten);
            writer.save_hard_state(HardState { vote: state.vote.filter(|_| !forgets), ..state })?;
        }
        let Some(first) = write.entries.first() else { continue };
        if first.position.index <= writer.reader().last().index {
            reached("log: end replaced by another leader's entries");
            if !is_planted(Bug::SuffixNotCut) {
                writer.truncate_suffix(first.position.index)?;
            }
        }
        writer.append(&write.entries)?;
        if let Some(committed) = write.committed.filter(|_| !is_planted(Bug::VoteNotKept)) {
            let state = writer.hard_state();
            writer.save_hard_state(HardState { commit: state.commit.max(committed), ..state })?;
        }
    }
    let appended = started.elapsed();
    if !is_planted(Bug::WriteNotSynced) {
        writer.sync()?;
    }
    metrics::histogram!("steeple_log_append_seconds").record(appended.as_secs_f64());
    metrics::histogram!("steeple_log_sync_seconds").record((started.elapsed() - appended).as_secs_f64());
    let entries: usize = writes.iter().map(|write| write.entries.len()).sum();
    metrics::histogram!("steeple_log_batch_entries").record(entries as f64);
    metrics::counter!("steeple_log_appended_bytes_total").increment(weigh(writes) as u64);
    Ok(number)
}
