//! The thread that owns the log's writing end: it appends and syncs batches, and gives space back between them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use steeple_engine::ids::{LogIndex, LogPosition};
use steeple_engine::log::{Entry, HardState, LogError, LogWriter, Rewritten};
use tokio::sync::oneshot;

/// Decides which entries a rewrite keeps, by index and tag.
pub(super) type Wanted = Box<dyn FnMut(LogIndex, u64) -> bool + Send>;

/// What the thread is asked to do.
pub(super) enum Task {
    /// Append, sync, and report the end of the log.
    Append(Vec<Entry>),
    /// Drop whole segments up to and with this entry.
    Purge(LogIndex, oneshot::Sender<Result<LogPosition, LogError>>),
    /// Rewrite mostly-dead segments up to and with `up_to`.
    Rewrite {
        up_to: LogIndex,
        live_fraction_max: f64,
        wanted: Wanted,
        done: oneshot::Sender<Result<Rewritten, LogError>>,
    },
    /// Do something else with the log, between what comes before it and what comes after.
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
    mut report: impl FnMut(Result<LogPosition, LogError>) -> bool,
) {
    while let Ok(task) = tasks.recv() {
        match task {
            Task::Append(entries) => {
                let persisted = append(&mut writer, &entries);
                counters.syncs.fetch_add(1, Ordering::Relaxed);
                counters.entries.fetch_add(entries.len() as u64, Ordering::Relaxed);
                let failed = persisted.is_err();
                if !report(persisted) || failed {
                    return;
                }
            }
            // Whoever asked may have gone; the work is done all the same.
            Task::Purge(up_to, done) => drop(done.send(writer.purge_prefix(up_to))),
            Task::Rewrite { up_to, live_fraction_max, mut wanted, done } => {
                drop(done.send(writer.rewrite_sparse(&mut wanted, up_to, live_fraction_max)));
            }
            Task::Run(work) => work(&mut writer),
        }
    }
    // A log that was closed has no end to be doubtful about, and opens without looking for one.
    if let Err(error) = writer.close() {
        tracing::warn!(%error, "the log was not closed; the next start recovers it");
    }
}

fn append(writer: &mut LogWriter, entries: &[Entry]) -> Result<LogPosition, LogError> {
    let started = std::time::Instant::now();
    let bytes: usize = entries.iter().map(|entry| entry.payload.len()).sum();
    writer.append(entries)?;
    let appended = started.elapsed();
    let position = writer.sync()?;
    metrics::histogram!("steeple_log_append_seconds").record(appended.as_secs_f64());
    metrics::histogram!("steeple_log_sync_seconds").record((started.elapsed() - appended).as_secs_f64());
    metrics::histogram!("steeple_log_batch_entries").record(entries.len() as f64);
    metrics::counter!("steeple_log_appended_bytes_total").increment(bytes as u64);
    Ok(position)
}

/// Opens the leader's term: durable before anything of the term is.
pub(super) fn open_term(writer: &mut LogWriter, state: HardState) -> Result<(), LogError> {
    writer.set_hard_state(state)?;
    writer.sync().map(|_| ())
}
