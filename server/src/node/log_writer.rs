//! The thread that owns the log's writing end: it appends and syncs batches, and gives space back between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use steeple_engine::log::{HardState, LogError, LogWriter};
use steeple_raft::{Write, WriteNumber};

use super::group::Message;

/// Bytes of entries that are made durable by one sync, unless a single write has more.
const BATCH_BYTES: usize = 16 << 20;

/// What the thread is asked to do.
pub(super) enum Task {
    /// Make durable, and report that it is.
    Write(Write),
    /// Remember this for the next start, at the next opportunity.
    Note(HardState),
    /// Do something else with the log, such as giving space back, between what comes before it and what comes after.
    Run(Box<dyn FnOnce(&mut LogWriter) + Send>),
}

/// What the thread has done since the node started.
#[derive(Debug, Default)]
pub(super) struct LogCounters {
    pub(super) syncs: AtomicU64,
    pub(super) entries: AtomicU64,
}

/// Runs until the sending side is gone or the log fails.
pub(super) fn run(
    mut writer: LogWriter,
    tasks: &mpsc::Receiver<Task>,
    counters: &LogCounters,
    mut report: impl FnMut(Message) -> bool,
) {
    let mut next = None;
    while let Some(task) = next.take().or_else(|| tasks.recv().ok()) {
        match task {
            Task::Write(write) => {
                let mut writes = vec![write];
                next = gather(tasks, &mut writes);
                let persisted = carry_out(&mut writer, &writes);
                counters.syncs.fetch_add(1, Ordering::Relaxed);
                let entries: usize = writes.iter().map(|write| write.entries.len()).sum();
                counters.entries.fetch_add(entries as u64, Ordering::Relaxed);
                let failed = persisted.is_err();
                if !report(Message::Persisted(persisted)) || failed {
                    return;
                }
            }
            Task::Note(state) => {
                if let Err(error) = writer.set_hard_state(state) {
                    tracing::warn!(%error, "the log does not take up how far it is committed");
                }
            }
            Task::Run(work) => work(&mut writer),
        }
    }
    // A log that was closed has no end to be doubtful about, and opens without looking for one.
    if let Err(error) = writer.close() {
        tracing::warn!(%error, "the log was not closed; the next start recovers it");
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
        if let Some(state) = write.hard_state {
            writer.save_hard_state(state)?;
        }
        let Some(first) = write.entries.first() else { continue };
        if first.position.index <= writer.reader().last().index {
            writer.truncate_suffix(first.position.index)?;
        }
        writer.append(&write.entries)?;
    }
    let appended = started.elapsed();
    writer.sync()?;
    metrics::histogram!("steeple_log_append_seconds").record(appended.as_secs_f64());
    metrics::histogram!("steeple_log_sync_seconds").record((started.elapsed() - appended).as_secs_f64());
    let entries: usize = writes.iter().map(|write| write.entries.len()).sum();
    metrics::histogram!("steeple_log_batch_entries").record(entries as f64);
    metrics::counter!("steeple_log_appended_bytes_total").increment(weigh(writes) as u64);
    Ok(number)
}
