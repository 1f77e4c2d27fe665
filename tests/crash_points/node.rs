//! One node without threads, clients or peers. It does in order what `server::node` does: decide, append, sync, fold,
//! acknowledge; flush, write a base snapshot, give back what nothing wants; and open all of that again.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::domain::{CATALOG, Command};
use steeple_engine::event::Event;
use steeple_engine::ids::{
    ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NamespaceId, NodeId, Revision, StreamSequence, Term,
    Timestamp,
};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::{
    Entry, EntryKind, FaultKind, FaultPolicy, HardState, Log, LogError, LogIdentity, LogOptions, LogReader, LogWriter,
    Recovery, Verification,
};
use steeple_engine::record_store::MemoryStore;
use steeple_engine::view::{Committed, Reader, StreamRow, View};
use steeple_raft::pipeline::Proposer;
use steeple_raft::{Pipeline, ProposalRefused, RequestLedger, Submission, Ticket};
use steeple_snapshot::format::{Origin, SnapshotId};
use steeple_snapshot::{LiveSource, SnapshotOptions};

use crate::workload::Step;

const IDENTITY: LogIdentity =
    LogIdentity { cluster: ClusterId([7; 16]), node: NodeId(1), group: GroupId(0), history: HistoryId([9; 16]) };

/// The namespace of everything but the first event.
pub(crate) const NAMESPACE: NamespaceId = NamespaceId(1);

/// The disk has stopped in the middle of something.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the disk has stopped")]
    Stopped,
    #[error("{0}")]
    Wrong(String),
}

/// What is known and kept besides the log's disk.
#[derive(Clone)]
pub(crate) struct Kept {
    /// The record store as the next process finds it.
    pub(crate) store: Arc<MemoryStore>,
    /// The newest base snapshot. It is there as a whole or not at all.
    pub(crate) base: Option<Arc<Vec<u8>>>,
    /// The last revision that somebody was told of, and its log entry.
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_index: u64,
    /// The last revision that was handed to the log.
    pub(crate) submitted: u64,
    /// The term that was promised, and the one that was about to be.
    pub(crate) term: u64,
    pub(crate) term_asked: u64,
    /// Files that were made for the next segment.
    pub(crate) spares: u64,
}

impl Default for Kept {
    /// What a node finds that never ran.
    fn default() -> Self {
        Self {
            store: Arc::new(MemoryStore::crashing()),
            base: None,
            acknowledged: 0,
            acknowledged_index: 0,
            submitted: 0,
            term: 0,
            term_asked: 0,
            spares: 0,
        }
    }
}

/// A node that runs.
pub(crate) struct MiniNode {
    writer: LogWriter,
    pub(crate) log: LogReader,
    pub(crate) view: Arc<View>,
    store: Arc<MemoryStore>,
    requests: RequestLedger,
    flushed: LogIndex,
    base_covers: LogIndex,
}

/// A node that was opened, and what it had to do for that.
pub(crate) struct Started {
    pub(crate) node: MiniNode,
    /// The end of the log was cut off.
    pub(crate) is_torn: bool,
    /// An operator had to say that the end of the log was never finished.
    pub(crate) is_undecided: bool,
    pub(crate) is_rebuilt: bool,
}

/// Small files, so that little data rolls over several.
fn options(faults: FaultPolicy) -> LogOptions {
    LogOptions {
        segment_bytes: 16 << 10,
        segment_entries: 12,
        spare_segments: 1,
        verification: Verification::Everything,
        faults,
        create: true,
    }
}

/// Takes proposals in order.
struct Proposed {
    next: LogPosition,
    entries: Vec<Entry>,
}

impl Proposer for Proposed {
    fn propose(&mut self, kind: EntryKind, tag: u64, payload: Bytes) -> Result<LogPosition, ProposalRefused> {
        let position = self.next;
        self.next.index = position.index.next();
        self.entries.push(Entry { position, kind, tag, payload });
        Ok(position)
    }
}

fn stopped(error: LogError) -> Stopped {
    match error {
        LogError::Io { .. } | LogError::Poisoned { .. } => Stopped,
        other => panic!("the log refuses: {other}"),
    }
}

fn problem(error: LogError) -> Problem {
    match error {
        LogError::Io { .. } | LogError::Poisoned { .. } => Problem::Stopped,
        other => Problem::Wrong(format!("the log does not open: {other}")),
    }
}

impl MiniNode {
    /// Opens a node as part of the workload.
    pub(crate) fn open(disk: &SimulatedDisk, kept: &mut Kept) -> Result<Self, Stopped> {
        match Self::start(disk, kept) {
            Ok(started) => Ok(started.node),
            Err(Problem::Stopped) => Err(Stopped),
            Err(Problem::Wrong(problem)) => panic!("{problem}"),
        }
    }

    /// Opens a node on what it left: the log first, then a view that holds what the log says.
    pub(crate) fn start(disk: &SimulatedDisk, kept: &mut Kept) -> Result<Started, Problem> {
        let (writer, log, recovery, is_undecided) = open_log(disk, kept)?;
        let store = Arc::new(kept.store.crash(usize::MAX));
        let (view, store, is_rebuilt) = match follow(&store, &log) {
            Ok(view) => (view, store, false),
            Err(_) => rebuild(&log, kept.base.as_deref())?,
        };
        let view = Arc::new(view);
        let base_covers = kept.base.as_ref().map_or(LogIndex::ZERO, |base| covers(base));
        let requests = RequestLedger::new(u64::MAX);
        let flushed = LogIndex::ZERO;
        let node = Self { writer, log, view, store, requests, flushed, base_covers };
        Ok(Started { node, is_torn: recovery.torn.is_some(), is_undecided, is_rebuilt })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.view.folded().revision.0
    }

    pub(crate) fn term(&self) -> u64 {
        self.writer.hard_state().term.0
    }

    /// Ends the process, in order or not, and answers what the next one finds of the store.
    pub(crate) fn end(self, in_order: bool) -> Result<Arc<MemoryStore>, Stopped> {
        if in_order {
            self.writer.close().map_err(stopped)?;
        }
        Ok(Arc::new(self.store.crash(usize::MAX)))
    }

    /// The store after a crash, which takes some of what was not flushed, and now and then all that there is.
    pub(crate) fn store_after_crash(&self, choice: u64) -> Arc<MemoryStore> {
        if choice % 5 == 4 {
            return Arc::new(MemoryStore::crashing());
        }
        let surviving = choice % (self.store.unflushed_batches() as u64 + 1);
        Arc::new(self.store.crash(surviving as usize))
    }

    pub(crate) fn perform(&mut self, step: &Step, kept: &mut Kept) -> Result<(), Stopped> {
        match step {
            Step::Submit(commands) => {
                self.submit(commands, kept)?;
                self.make_spare(kept)
            }
            Step::Term(term) => self.promise(*term, kept),
            Step::Flush => {
                self.flushed = self.view.flush().expect("a store in memory does not fail").index;
                Ok(())
            }
            Step::Snapshot => {
                self.snapshot(kept);
                Ok(())
            }
            Step::Compact => self.compact(),
            Step::Stop | Step::Kill => Ok(()),
        }
    }

    /// Makes a file for the next segment when the log wants one, as a node does beside its other work.
    fn make_spare(&mut self, kept: &mut Kept) -> Result<(), Stopped> {
        let Some(planned) = self.writer.plan_spare() else { return Ok(()) };
        let made = planned.make().map_err(stopped)?;
        kept.spares += 1;
        self.writer.add_spare(made).map_err(stopped)
    }

    /// Decides all of them, appends their events, syncs once, folds and acknowledges.
    fn submit(&mut self, commands: &[(NamespaceId, Command)], kept: &mut Kept) -> Result<(), Stopped> {
        let term = self.writer.hard_state().term.max(self.log.last().term).max(Term(1));
        let next = LogPosition { term, index: self.log.last().index.next() };
        let mut proposed = Proposed { next, entries: Vec::new() };
        let revision = self.revision();
        let mut pipeline = Pipeline::lead(Arc::clone(&self.view), Box::new(SeededEntropy::new(revision)), 0);
        for (place, (namespace, command)) in (1..).zip(commands) {
            let submission =
                Submission { ticket: Ticket(place), namespace: *namespace, request: None, command: command.clone() };
            let now = time_of(revision + place);
            pipeline.submit(submission, now, &mut self.requests, &mut proposed).expect("nothing fails in memory");
        }
        kept.submitted = revision + proposed.entries.len() as u64;
        // As one write or as several, which have their sync in common.
        let together = if revision % 4 == 1 { 1 } else { proposed.entries.len().max(1) };
        for entries in proposed.entries.chunks(together) {
            self.writer.append(entries).map_err(stopped)?;
        }
        self.writer.sync().map_err(stopped)?;
        for entry in &proposed.entries {
            fold(&self.view, entry).expect("what was decided can be folded");
            pipeline.folded(entry.position.index).expect("nothing fails in memory");
        }
        // Few at a time, so that a crash leaves some.
        self.view.remove_given_up(3).expect("nothing fails in memory");
        let last = self.log.last();
        kept.acknowledged = self.revision();
        kept.acknowledged_index = last.index.0;
        let state = HardState { commit: last.index, ..self.writer.hard_state() };
        self.writer.set_hard_state(state).map_err(stopped)
    }

    fn promise(&mut self, term: u64, kept: &mut Kept) -> Result<(), Stopped> {
        kept.term_asked = term;
        let commit = self.log.last().index;
        let state = HardState { term: Term(term), vote: Some(NodeId(term)), commit };
        self.writer.save_hard_state(state).map_err(stopped)?;
        kept.term = term;
        Ok(())
    }

    fn snapshot(&mut self, kept: &mut Kept) {
        let source = LiveSource { view: Arc::clone(&self.view), log: self.log.clone() };
        let origin = Origin { cluster: IDENTITY.cluster, group: IDENTITY.group, history: IDENTITY.history };
        let options = SnapshotOptions::new(SnapshotId([3; 16]), origin, Timestamp(1));
        let mut bytes = Vec::new();
        steeple_snapshot::write(&source, &mut bytes, options, &mut |_| {}).expect("a snapshot in memory");
        self.base_covers = covers(&bytes);
        kept.base = Some(Arc::new(bytes));
    }

    /// Purges the segments in front that nothing wants, and rewrites those of which little is wanted.
    fn compact(&mut self) -> Result<(), Stopped> {
        let safe = self.flushed.min(self.base_covers);
        let kept: BTreeSet<u64> = self.rows().iter().map(|row| row.revision.0).collect();
        let first_kept = kept.first().copied().unwrap_or(u64::MAX);
        let mut segments = self.log.segments();
        // The newest is being written.
        segments.pop();
        segments.retain(|segment| segment.last <= safe);
        let dead = segments.iter().take_while(|segment| segment.last_tag < first_kept).last();
        if let Some(dead) = dead {
            self.writer.purge_prefix(dead.last).map_err(stopped)?;
        }
        if let Some(last) = segments.last() {
            self.writer.rewrite_sparse(&mut |_, tag| kept.contains(&tag), last.last, 0.9).map_err(stopped)?;
        }
        Ok(())
    }

    /// What the stream of registrations lists.
    pub(crate) fn rows(&self) -> Vec<StreamRow> {
        rows(&self.view)
    }
}

pub(crate) fn rows(view: &View) -> Vec<StreamRow> {
    let stream = steeple_engine::spire::REGISTRATIONS;
    view.read().stream_rows(NAMESPACE, stream, StreamSequence::ZERO, usize::MAX).expect("rows without holes")
}

/// Far enough apart that a prune can tell them.
pub(crate) fn time_of(revision: u64) -> Timestamp {
    Timestamp::from_seconds(1_000 + revision as i64)
}

/// What cannot be told from an unfinished write is refused first; it must not have been acknowledged.
fn open_log(disk: &SimulatedDisk, kept: &Kept) -> Result<(LogWriter, LogReader, Recovery, bool), Problem> {
    let open = |faults| Log::open(Arc::new(disk.clone()), options(faults), IDENTITY);
    match open(FaultPolicy::Refuse) {
        Ok((writer, log, recovery)) => Ok((writer, log, recovery, false)),
        Err(LogError::Corrupt { faults }) => {
            for fault in &faults {
                let is_open = matches!(fault.kind, FaultKind::Undecided { .. });
                if !is_open || fault.first.0 <= kept.acknowledged_index {
                    return Err(Problem::Wrong(format!("what was acknowledged is damaged: {fault}")));
                }
            }
            let (writer, log, recovery) = open(FaultPolicy::CutUndecided).map_err(problem)?;
            Ok((writer, log, recovery, true))
        }
        Err(error) => Err(problem(error)),
    }
}

fn covers(base: &[u8]) -> LogIndex {
    steeple_snapshot::verify(base, &mut |_| {}).expect("a snapshot that was just written").manifest.state.index
}

fn wrong(error: impl std::fmt::Display) -> Problem {
    Problem::Wrong(error.to_string())
}

/// From the base snapshot and the log behind it, or from the log alone.
fn rebuild(log: &LogReader, base: Option<&Vec<u8>>) -> Result<(View, Arc<MemoryStore>, bool), Problem> {
    let store = Arc::new(MemoryStore::crashing());
    if let Some(base) = base {
        steeple_snapshot::load_base(base.as_slice(), store.as_ref()).map_err(wrong)?;
    }
    Ok((follow(&store, log)?, store, true))
}

/// A view over the store that has folded the log to its end: with a single voter, what is durable is committed.
fn follow(store: &Arc<MemoryStore>, log: &LogReader) -> Result<View, Problem> {
    let view = View::open(CATALOG, store.clone()).map_err(wrong)?;
    let folded = view.folded().index;
    if folded > log.last().index || log.first() > folded.next() || log.base().index > folded {
        return Err(Problem::Wrong(format!("{folded} is folded, the log has {} to {}", log.first(), log.last())));
    }
    let mut outcome = Ok(());
    log.scan(folded.next(), &mut |entry| {
        outcome = fold(&view, &entry);
        if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })
    .map_err(problem)?;
    outcome?;
    Ok(view)
}

fn fold(view: &View, entry: &Entry) -> Result<(), Problem> {
    let event = Arc::new(Event::decode(&entry.payload).map_err(wrong)?);
    if event.revision != Revision(entry.tag) {
        return Err(Problem::Wrong(format!("entry {} is tagged {}", entry.position, entry.tag)));
    }
    view.fold(&[Committed { index: entry.position.index, event }]).map_err(wrong)
}
