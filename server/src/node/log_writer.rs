//! The log's writing end: appending and syncing batches, and giving space back between them.
//!
//! A thread does that, so that the group can go on meanwhile. Handing over a write and hearing of it puts a thread to sleep
//! and wakes another one twice, which takes longer than a sync of a good disk. So the group makes a small write durable by
//! itself when it has nothing else to do ([`LogQueue::write_here`]), unless the disk was slow lately. Should the disk hang in
//! just that write, the node is silent until it returns, heartbeats included, and the others elect another leader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use steeple_engine::ids::LogIndex;
use steeple_engine::log::{Entry, EntryKind, HardState, LogError, LogWriter};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_raft::{Write, WriteNumber};
use tokio::sync::Notify;

use super::group::Message;

/// Bytes of entries that are made durable by one sync, unless a single write has more.
const BATCH_BYTES: usize = 16 << 20;

/// A write that takes longer is slow: whoever waits for such a one cannot do anything else for too long.
const SLOW: Duration = Duration::from_millis(10);

/// For each such part of the time that a slow write took, one of those after it goes to the thread: after 10 ms a hundred of
/// them, after two seconds twenty thousand.
const CAUTIOUS_PART: Duration = Duration::from_micros(100);

/// What the thread is asked to do.
pub(super) enum Task {
    /// Make durable, and report that it is.
    Write(Write),
    /// Remember for the next start that the log is committed so far.
    Note(LogIndex),
    /// Do something else with the log, such as giving space back, between what comes before it and what comes after.
    Run(Box<dyn FnOnce(&mut LogWriter) + Send>),
}

/// What has been done with the log since the node started.
#[derive(Debug, Default)]
pub(super) struct LogCounters {
    pub(super) syncs: AtomicU64,
    pub(super) entries: AtomicU64,
}

/// The log's writing end. Most of the time its thread has it; the group takes it when that has nothing to do.
struct Desk {
    /// Gone once the log has failed or was closed.
    writer: Mutex<Option<LogWriter>>,
    /// Tasks that were handed over and are not done.
    waiting: AtomicUsize,
    /// Writes that still go to the thread because one was slow.
    cautious: AtomicU32,
    counters: Arc<LogCounters>,
    /// Told when a file for the next segment should be made.
    spare_wanted: Arc<Notify>,
}

impl Desk {
    /// Makes writes durable with one sync. A log that failed is never written again.
    fn write(&self, writer: &mut Option<LogWriter>, writes: &[Write]) -> Option<Result<WriteNumber, LogError>> {
        let started = Instant::now();
        let persisted = carry_out(writer.as_mut()?, writes);
        self.note_time(started.elapsed());
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        let entries: usize = writes.iter().map(|write| write.entries.len()).sum();
        self.counters.entries.fetch_add(entries as u64, Ordering::Relaxed);
        if persisted.is_err() {
            *writer = None;
        } else if writer.as_ref().is_some_and(LogWriter::wants_spare) {
            self.spare_wanted.notify_one();
        }
        Some(persisted)
    }

    fn note_time(&self, taken: Duration) {
        let cautious = self.cautious.load(Ordering::Relaxed);
        let parts = if taken > SLOW { taken.as_micros() / CAUTIOUS_PART.as_micros() } else { 0 };
        let slow = u32::try_from(parts).unwrap_or(u32::MAX);
        self.cautious.store(cautious.saturating_sub(1).max(slow), Ordering::Relaxed);
    }
}

/// The log's thread is gone.
#[derive(Debug)]
pub(super) struct WriterGone;

/// The way to the log's thread, and around it.
#[derive(Clone)]
pub(super) struct LogQueue {
    tasks: mpsc::Sender<Task>,
    desk: Arc<Desk>,
}

impl LogQueue {
    /// Has something done by the thread, after everything that was sent before.
    pub(super) fn send(&self, task: Task) -> Result<(), WriterGone> {
        self.desk.waiting.fetch_add(1, Ordering::SeqCst);
        self.tasks.send(task).map_err(|_| {
            self.desk.waiting.fetch_sub(1, Ordering::SeqCst);
            WriterGone
        })
    }

    /// Whether the thread has nothing to do and the disk was quick lately, so that a small write is done sooner than handed
    /// over.
    pub(super) fn rests(&self) -> bool {
        self.desk.waiting.load(Ordering::SeqCst) == 0 && self.desk.cautious.load(Ordering::Relaxed) == 0
    }

    /// Makes writes durable on the caller's thread, unless there is something that has to be done before; then nothing
    /// happened. Reports as the thread would.
    pub(super) fn write_here(&self, writes: &[Write]) -> Option<Result<WriteNumber, LogError>> {
        let mut writer = self.desk.writer.try_lock()?;
        // What was sent before these is done, because whoever sent it counted it first; what others send meanwhile waits.
        let is_quick = |write: &Write| write.hard_state.is_none() && write.committed.is_none();
        let goes_on =
            self.rests() && writes.iter().all(is_quick) && writer.as_ref().is_some_and(|it| continues(it, writes));
        if goes_on { self.desk.write(&mut writer, writes) } else { None }
    }
}

/// What the log's thread does.
pub(super) struct LogWork {
    desk: Arc<Desk>,
    tasks: mpsc::Receiver<Task>,
    /// Taken from the queue, and not done yet.
    next: Option<Task>,
}

impl LogWork {
    pub(super) fn new(writer: LogWriter, counters: Arc<LogCounters>, spare_wanted: Arc<Notify>) -> (LogQueue, Self) {
        let (tasks, queue) = mpsc::channel();
        let (waiting, cautious) = (AtomicUsize::new(0), AtomicU32::new(0));
        let desk = Arc::new(Desk { writer: Mutex::new(Some(writer)), waiting, cautious, counters, spare_wanted });
        (LogQueue { tasks, desk: Arc::clone(&desk) }, Self { desk, tasks: queue, next: None })
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

    /// A log that was closed has no end to be doubtful about, and opens without looking for one.
    pub(super) fn close(self) {
        let Some(writer) = self.desk.writer.lock().take() else { return };
        if let Err(error) = writer.close() {
            tracing::warn!(%error, "the log was not closed; the next start recovers it");
        }
    }

    /// Does one thing, and the writes that wait behind a write with it when it `gathers` them; whether the log goes on.
    fn carry_out(&mut self, task: Task, gathers: bool, report: &mut dyn FnMut(Message) -> bool) -> bool {
        let mut done = 1;
        let desk = Arc::clone(&self.desk);
        let mut writer = desk.writer.lock();
        let goes_on = match task {
            Task::Write(write) => {
                let mut writes = vec![write];
                self.next = if gathers { gather(&self.tasks, &mut writes) } else { None };
                done = writes.len();
                let Some(persisted) = desk.write(&mut writer, &writes) else { return false };
                let failed = persisted.is_err();
                report(Message::Persisted(persisted)) && !failed
            }
            Task::Note(committed) => {
                let noted = writer.as_mut().map_or(Ok(()), |writer| note(writer, committed));
                if let Err(error) = noted {
                    tracing::warn!(%error, "the log does not take up how far it is committed");
                }
                true
            }
            Task::Run(work) => {
                writer.as_mut().map(work);
                true
            }
        };
        // Only now, so that whoever finds nothing waiting has the reports already.
        desk.waiting.fetch_sub(done, Ordering::SeqCst);
        goes_on
    }
}

/// Term and vote stay, so that a note promises nothing. What it covers is durable: a commit index alone is written and not
/// synced.
fn note(writer: &mut LogWriter, committed: LogIndex) -> Result<(), LogError> {
    let state = writer.hard_state();
    if committed > state.commit && !is_planted(Bug::WriteNotSynced) {
        writer.set_hard_state(HardState { commit: committed, ..state })?;
        writer.sync()?;
    }
    Ok(())
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

/// Whether writes are what a log takes as it runs: entries behind its end that start no other segment.
fn continues(writer: &LogWriter, writes: &[Write]) -> bool {
    let mut next = writer.reader().last().index.next();
    writes.iter().flat_map(|write| &write.entries).all(|entry| {
        let follows = entry.position.index == next;
        next = next.next();
        follows
    }) && writer.has_room(writes.iter().flat_map(|write| &write.entries))
}

/// Bytes of the entries of writes.
pub(super) fn weigh(writes: &[Write]) -> usize {
    writes.iter().flat_map(|write| &write.entries).map(|entry| entry.payload.len()).sum()
}

/// Appends entries that follow on a change of members which is committed: what follows on it comes into the log only when it is
/// durable that the change is committed. A member that has the one without the other after a crash, or after a sync that
/// failed, could be elected for its log by the members of before.
fn append_behind_changes(writer: &mut LogWriter, entries: &[Entry], committed: LogIndex) -> Result<(), LogError> {
    let mut rest = entries;
    if let Some(first) = entries.first() {
        // A change of an earlier write.
        store_commit(writer, committed.min(LogIndex(first.position.index.0.saturating_sub(1))))?;
    }
    let is_change = |entry: &Entry| entry.kind == EntryKind::Membership && entry.position.index <= committed;
    while let Some(place) = rest.iter().position(is_change) {
        let (up_to, behind) = rest.split_at(place + 1);
        writer.append(up_to)?;
        store_commit(writer, up_to[place].position.index)?;
        rest = behind;
    }
    if !rest.is_empty() {
        writer.append(rest)?;
    }
    store_commit(writer, committed)
}

fn store_commit(writer: &mut LogWriter, commit: LogIndex) -> Result<(), LogError> {
    let state = writer.hard_state();
    if commit > state.commit { writer.save_hard_state(HardState { commit, ..state }) } else { Ok(()) }
}

fn carry_out(writer: &mut LogWriter, writes: &[Write]) -> Result<WriteNumber, LogError> {
    let started = Instant::now();
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
        match write.committed.filter(|_| !is_planted(Bug::VoteNotKept)) {
            Some(committed) => append_behind_changes(writer, &write.entries, committed)?,
            None => writer.append(&write.entries)?,
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use steeple_engine::disk::SimulatedDisk;
    use steeple_engine::disk::simulated::{CrashLoss, Failure};
    use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogPosition, NodeId, Term};
    use steeple_engine::log::{Log, LogIdentity, LogOptions, LogReader};

    use super::*;

    fn open(disk: &SimulatedDisk) -> (LogWriter, LogReader) {
        let (cluster, history) = (ClusterId([1; 16]), HistoryId([2; 16]));
        let identity = LogIdentity { cluster, history, node: NodeId(1), group: GroupId(0) };
        let options =
            LogOptions { segment_bytes: 64 << 10, segment_entries: 64, create: true, ..LogOptions::default() };
        let (writer, reader, _) = Log::open(Arc::new(disk.clone()), options, identity).unwrap();
        (writer, reader)
    }

    fn write(number: u64) -> Write {
        let position = LogPosition { term: Term(1), index: LogIndex(number) };
        let entry = Entry { position, kind: EntryKind::Event, tag: number, payload: Bytes::from_static(b"event") };
        Write { number: WriteNumber(number), hard_state: None, entries: vec![entry], committed: None }
    }

    /// What the log's thread does next, and what it reports.
    fn step(work: &mut LogWork) -> (bool, Vec<Result<WriteNumber, LogError>>) {
        let mut reports = Vec::new();
        let goes_on = work.step(false, &mut |message| {
            if let Message::Persisted(report) = message {
                reports.push(report);
            }
            true
        });
        (goes_on, reports)
    }

    #[test]
    fn a_write_is_done_here_only_when_nothing_waits_for_the_thread() {
        let disk = SimulatedDisk::new();
        let (writer, reader) = open(&disk);
        let (queue, mut work) = LogWork::new(writer, Arc::default(), Arc::default());
        assert!(matches!(queue.write_here(&[write(1), write(2)]), Some(Ok(WriteNumber(2)))));
        assert_eq!(open(&disk.crash(CrashLoss::Everything, 1)).1.last().index, LogIndex(2), "it is durable");
        queue.send(Task::Write(write(3))).unwrap();
        assert!(!queue.rests());
        assert!(queue.write_here(&[write(4)]).is_none(), "it would come before the third");
        assert_eq!(reader.last().index, LogIndex(2));
        let (goes_on, reports) = step(&mut work);
        assert!(goes_on && matches!(reports[..], [Ok(WriteNumber(3))]));
        was_quick(&queue);
        assert!(matches!(queue.write_here(&[write(4)]), Some(Ok(WriteNumber(4)))));
        assert_eq!(reader.last().index, LogIndex(4));
    }

    /// On a busy machine what was written so far may have taken its time.
    fn was_quick(queue: &LogQueue) {
        queue.desk.cautious.store(0, Ordering::Relaxed);
    }

    #[test]
    fn the_longer_a_write_has_taken_the_more_of_those_after_it_go_to_the_thread() {
        let (writer, _) = open(&SimulatedDisk::new());
        let (queue, _work) = LogWork::new(writer, Arc::default(), Arc::default());
        let left_after = |taken| {
            queue.desk.note_time(taken);
            queue.desk.cautious.load(Ordering::Relaxed)
        };
        assert_eq!(left_after(SLOW), 0);
        assert_eq!(left_after(Duration::from_millis(20)), 200);
        assert!(!queue.rests() && queue.write_here(&[write(1)]).is_none());
        assert_eq!(left_after(Duration::from_millis(1)), 199);
        assert_eq!(left_after(Duration::from_millis(11)), 198, "the slower one counts on");
        assert_eq!(left_after(Duration::from_secs(2)), 20_000);
        was_quick(&queue);
        assert!(queue.rests());
    }

    #[test]
    fn a_log_that_failed_is_written_neither_here_nor_by_the_thread() {
        for fails_here in [true, false] {
            let disk = SimulatedDisk::new();
            let (writer, reader) = open(&disk);
            let (queue, mut work) = LogWork::new(writer, Arc::default(), Arc::default());
            disk.fail_after(0, Failure::Sync);
            if fails_here {
                assert!(matches!(queue.write_here(&[write(1)]), Some(Err(_))));
            } else {
                queue.send(Task::Write(write(1))).unwrap();
                let (goes_on, reports) = step(&mut work);
                assert!(!goes_on && matches!(reports[..], [Err(_)]));
            }
            let after = reader.last();
            assert!(queue.write_here(&[write(2)]).is_none());
            queue.send(Task::Write(write(2))).unwrap();
            assert!(!step(&mut work).0, "there is nothing left to write to");
            assert_eq!(reader.last(), after);
        }
    }

    /// A change of members, which is committed, before so many of the entries that are written together.
    fn change_before(entries: u64, behind: u64) -> (Vec<Write>, LogIndex) {
        let mut change = write(2);
        change.entries[0].kind = EntryKind::Membership;
        change.entries[0].tag = 1;
        let event = |number: u64| {
            let entry = write(number).entries.remove(0);
            Entry { tag: number - 1, ..entry }
        };
        let mut first = vec![event(2)];
        first[0] = Entry { position: LogPosition { term: Term(1), index: LogIndex(1) }, tag: 1, ..event(2) };
        let mut together: Vec<Entry> = change.entries.drain(..).collect();
        together.extend((3..3 + behind).map(event));
        let (before, after) = together.split_at(usize::try_from(entries).unwrap());
        let write = |number, entries: &[Entry], committed| Write {
            number: WriteNumber(number),
            hard_state: None,
            entries: entries.to_vec(),
            committed,
        };
        first.extend_from_slice(before);
        (vec![write(1, &first, None), write(2, after, Some(LogIndex(2)))], LogIndex(2))
    }

    #[test]
    fn what_follows_on_a_change_of_members_is_in_the_log_only_when_its_commit_is_durable() {
        for before in [0, 1] {
            let (writes, change) = change_before(before, 3);
            for loss in [CrashLoss::Nothing, CrashLoss::Everything] {
                let mut reached_end = false;
                for moment in 0..200 {
                    let disk = SimulatedDisk::new();
                    let (mut writer, _) = open(&disk);
                    writer.set_hard_state(HardState { term: Term(1), ..HardState::default() }).unwrap();
                    writer.sync().unwrap();
                    disk.fail_after(moment, Failure::Stop);
                    reached_end = carry_out(&mut writer, &writes).is_ok();
                    drop(writer);
                    let (writer, reader) = open(&disk.crash(loss, moment));
                    let (last, commit) = (reader.last().index, writer.hard_state().commit);
                    assert!(last <= change || commit >= change, "{before} {loss:?} {moment}: {last} {commit}");
                    if reached_end {
                        assert_eq!((last, commit), (LogIndex(5), change));
                        break;
                    }
                }
                assert!(reached_end);
            }
        }
    }
}
