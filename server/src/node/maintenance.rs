//! Giving space back, and keeping restarts short.
//!
//! A log segment may go once nothing wants it: no retained stream item, no one who may still repeat a request, no one who
//! may look back within the retention, not the record store (flushed past it), and not a rebuild of the record store
//! (a base snapshot covers it), and no member of the group that is away. Whole segments at the front are purged; sealed
//! ones in which little is wanted are rewritten without the rest. So pruning a stream moves a mark, and compaction gives
//! the space back.
//!
//! One lock is held by whoever gives space back, writes a base snapshot or takes over one from a peer: none of them
//! may find the log changed by another.

use std::io::{BufReader, Seek};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use roaring::RoaringTreemap;
use steeple_engine::domain::{CATALOG, Command};
use steeple_engine::event::Event;
use steeple_engine::ids::{
    ClusterId, HistoryId, LogIndex, LogPosition, NamespaceId, NodeId, Revision, StreamSequence, Timestamp,
};
use steeple_engine::log::{EntryKind, LogError, LogWriter, Rewritten, SegmentInfo};
use steeple_engine::simulation::{Bug, is_planted, reached};
use steeple_engine::spire;
use steeple_engine::view::{Digest, Reader, ViewError};
use steeple_snapshot::{LiveSource, Publication, SnapshotId, SnapshotOptions};
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::base::origin;
use super::group::Message;
use super::log_writer::Task;
use super::work::CutOff;
use super::{Node, QueryError, Shared, SubmitError};

/// Rows looked at under one read lock.
const ROWS_STEP: usize = 4096;

/// What a compaction gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Stream items pruned by age.
    pub items_pruned: u64,
    /// Segments dropped whole.
    pub segments_purged: u64,
    /// Segments replaced by smaller ones.
    pub segments_rewritten: u64,
    /// Log bytes on disk before.
    pub log_bytes_before: u64,
    /// Log bytes on disk after.
    pub log_bytes_after: u64,
    /// Whether a new base snapshot was written.
    pub base_written: bool,
}

/// Why space was not given back. Nothing was lost.
#[derive(Debug, Error)]
pub enum CompactError {
    /// A prune was refused.
    #[error(transparent)]
    Submit(#[from] super::SubmitError),
    /// The view or log could not be read.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The record store could not be flushed.
    #[error(transparent)]
    Store(#[from] steeple_engine::view::ViewError),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The base snapshot could not be written or did not verify.
    #[error("base snapshot: {0}")]
    Base(String),
    /// It broke off for a reason that cannot be.
    #[error("this is a bug: {0}")]
    Bug(String),
    /// The node has stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl From<CutOff> for CompactError {
    fn from(error: CutOff) -> Self {
        match error {
            CutOff::Panicked(panic) => Self::Bug(panic),
            CutOff::Stopped => Self::Stopped,
        }
    }
}

/// What decides how much of the log can be given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// The newest entry that is too old for anyone to look back to.
    unwanted: LogIndex,
    /// The newest entry that neither the record store nor its rebuild needs.
    safe: LogIndex,
    marks: u64,
}

/// How a node is doing.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Which member it is.
    pub node: NodeId,
    /// Which line of revisions it holds.
    pub history: HistoryId,
    /// The newest event.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// Digest of all records at that event.
    pub digest: Digest,
    /// The oldest log entry.
    pub log_first: LogIndex,
    /// The newest one.
    pub log_last: LogPosition,
    /// Size of the log on disk.
    pub log_bytes: u64,
    /// Its segments.
    pub log_segments: Vec<SegmentInfo>,
    /// Syncs of the log since the node started.
    pub log_syncs: u64,
    /// Entries appended to it since then.
    pub log_entries_appended: u64,
    /// Size of the record store on disk; `None` when it cannot say.
    pub store_bytes: Option<u64>,
    /// The log entry that the record store is flushed up to.
    pub flushed: LogIndex,
    /// The log entry that the base snapshot covers.
    pub base_covers: LogIndex,
    /// Namespaces with anything in them, the system's own left out.
    pub namespaces: usize,
    /// Tails served now.
    pub tails: usize,
    /// Mutations waiting or under way.
    pub mutations: usize,
    /// What waits for the thread that owns the group.
    pub inbox: usize,
    /// Why the record store was rebuilt at the last start, if it was.
    pub rebuilt: Option<String>,
    /// Why the node takes no mutations any more, once it does not.
    pub failure: Option<String>,
}

impl Node {
    /// How the node is doing.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let shared = &self.shared;
        let core = shared.core();
        let folded = core.view.folded();
        NodeStatus {
            cluster: shared.identity.cluster,
            node: shared.identity.node,
            history: shared.identity.history,
            revision: folded.revision,
            time: folded.time,
            digest: folded.digest,
            log_first: core.log.first(),
            log_last: core.log.last(),
            log_bytes: core.log.disk_bytes(),
            log_segments: core.log.segments(),
            log_syncs: shared.log_counters.syncs.load(Ordering::Relaxed),
            log_entries_appended: shared.log_counters.entries.load(Ordering::Relaxed),
            store_bytes: core.view.store().disk_bytes().ok(),
            flushed: *core.flushed.lock(),
            base_covers: core.base.covers(),
            namespaces: self.read(|reader| reader.namespaces().iter().filter(|id| **id != NamespaceId::SYSTEM).count()),
            tails: shared.options.tails_max - shared.tails.available_permits(),
            mutations: shared.options.submissions_max.saturating_sub(shared.submissions.available_permits()),
            inbox: shared.inbox_sender().map_or(0, |inbox| inbox.max_capacity() - inbox.capacity()),
            rebuilt: shared.rebuilt.clone(),
            failure: self.failure(),
        }
    }

    /// Makes everything folded so far survive in the record store, so that a start has less to fold again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn flush(&self) -> Result<(), CompactError> {
        let core = self.shared.core();
        let failing = Arc::clone(&core);
        let flushing = self.shared.work.blocking(move || {
            let folded = match is_planted(Bug::FlushNotDone) {
                true => core.view.folded().index,
                false => core.view.flush()?.index,
            };
            let mut flushed = core.flushed.lock();
            *flushed = flushed.max(folded);
            Ok(())
        });
        let flushed = flushing.await.map_err(|_| CompactError::Stopped)?;
        if let Err(CompactError::Store(ViewError::Store(error))) = &flushed
            && let Some(inbox) = self.shared.inbox_sender()
        {
            // A group that has stopped needs no records.
            drop(inbox.send(Message::StoreFailed(failing, error.to_string())).await);
        }
        flushed
    }

    /// Prunes what the settings say, and gives back the space that nothing wants any more, at whatever cost.
    ///
    /// # Errors
    /// See [`CompactError`]. Nothing is lost; a later compaction goes on.
    pub async fn compact(&self) -> Result<Compacted, CompactError> {
        let alone = Arc::clone(&self.shared.maintenance).lock_owned().await;
        self.compact_alone(alone, 0).await
    }

    /// As [`Node::compact`], but not while a snapshot is taken, and with a new base snapshot only when that gives back
    /// at least `base_bytes_min`.
    async fn compact_where_due(&self, base_bytes_min: u64) -> Result<Compacted, CompactError> {
        match Arc::clone(&self.shared.maintenance).try_lock_owned() {
            Ok(alone) => self.compact_alone(alone, base_bytes_min).await,
            Err(_) => Ok(Compacted::default()),
        }
    }

    /// Compacts in a task of its own, which goes on when the caller does not: what it writes must not meet the next one.
    async fn compact_alone(&self, alone: OwnedMutexGuard<()>, base_bytes_min: u64) -> Result<Compacted, CompactError> {
        let node = self.weakly();
        let task = async move {
            let compacted = node.compact_now(base_bytes_min).await;
            drop(alone);
            compacted
        };
        self.shared.work.detached(task).await?
    }

    async fn compact_now(&self, base_bytes_min: u64) -> Result<Compacted, CompactError> {
        let mut compacted = Compacted { log_bytes_before: self.core().log.disk_bytes(), ..Compacted::default() };
        compacted.items_pruned = match self.prune_streams().await {
            // The leader prunes for all.
            Err(CompactError::Submit(SubmitError::NotLeader { .. })) => 0,
            pruned => pruned?,
        };
        self.flush().await?;
        // The log alone could not rebuild the record store: after a restore, or when the base snapshot is damaged.
        compacted.base_written = self.cover_by_base(self.core().log.base().index).await?;
        let unwanted = self.blocking(|node| node.unwanted_segments()).await?;
        if let Some(last) = unwanted.last() {
            let covered = self.core().base.covers();
            let uncovered = unwanted.iter().filter(|segment| segment.last > covered);
            if uncovered.map(|segment| segment.file_bytes).sum::<u64>() >= base_bytes_min.max(1) {
                compacted.base_written |= self.cover_by_base(last.last).await?;
            }
            self.give_back_if_changed(last.last, &mut compacted).await?;
        }
        compacted.log_bytes_after = self.core().log.disk_bytes();
        Ok(compacted)
    }

    /// Looks for what can be given back, unless nothing that decides it has changed since the last time.
    async fn give_back_if_changed(&self, unwanted: LogIndex, compacted: &mut Compacted) -> Result<(), CompactError> {
        let horizon = Horizon { unwanted, safe: self.safe_to_drop(), marks: self.marks() };
        if *self.core().given_back.lock() == Some(horizon) {
            return Ok(());
        }
        self.give_back(compacted).await?;
        *self.core().given_back.lock() = Some(horizon);
        Ok(())
    }

    /// The sum of all low-water marks, which rises whenever one of them does.
    fn marks(&self) -> u64 {
        self.read(|reader| {
            let namespaces = reader.namespaces();
            let states = namespaces.iter().flat_map(|namespace| {
                CATALOG.streams.iter().map(|stream| reader.stream(*namespace, stream.id).low_water.0)
            });
            states.fold(0, u64::wrapping_add)
        })
    }

    /// Prunes every namespace's streams by the configured age.
    async fn prune_streams(&self) -> Result<u64, CompactError> {
        let Some(retention) = self.shared.options.stream_retention else { return Ok(0) };
        let older_than_micros = self.time_before(retention).0;
        let mut pruned = 0;
        for namespace in self.read(|reader| reader.namespaces()) {
            if namespace == NamespaceId::SYSTEM {
                continue;
            }
            let entries = spire::events::Command::PruneEntryEvents { older_than_micros, limit: 0 };
            let nodes = spire::events::Command::PruneNodeEvents { older_than_micros, limit: 0 };
            for command in [entries, nodes] {
                let command = Command::Spire(spire::Command::Event(command));
                pruned += self.submit_to_end(namespace, None, command).await?.1;
            }
        }
        Ok(pruned)
    }

    /// Segments at the front in which every event is older than anyone may look back to or repeat.
    fn unwanted_segments(&self) -> Result<Vec<SegmentInfo>, QueryError> {
        let keep_from = self.time_before(self.log_retention());
        let sent_from = self.shared.wanted_from.load(Ordering::SeqCst);
        let mut segments = self.core().log.segments();
        // The newest is being written.
        segments.pop();
        let mut unwanted = Vec::new();
        // What follows a snapshot that is being sent is sent after it.
        for segment in segments.into_iter().take_while(|segment| segment.last.0 <= sent_from) {
            match self.last_event_time(&segment)? {
                Some(time) if time >= keep_from => break,
                _ => unwanted.push(segment),
            }
        }
        Ok(unwanted)
    }

    /// How long the log is kept whatever is in it.
    fn log_retention(&self) -> Duration {
        let options = &self.shared.options;
        let followers = match self.shared.alone.load(Ordering::SeqCst) {
            true => Duration::ZERO,
            false => options.follower_log_retention,
        };
        options.history_retention.max(options.request_window).max(followers)
    }

    /// Sees to it that a base snapshot covers the log up to `index`; whether one was written for that.
    async fn cover_by_base(&self, index: LogIndex) -> Result<bool, CompactError> {
        if self.core().base.covers() >= index || !self.core().base.is_kept() {
            return Ok(false);
        }
        self.blocking(|node| write_base(&node.shared)).await?;
        Ok(true)
    }

    async fn give_back(&self, compacted: &mut Compacted) -> Result<(), CompactError> {
        let safe = self.safe_to_drop();
        let (kept, unwanted) = self
            .blocking(|node| Ok::<_, CompactError>((node.retained_revisions()?, node.unwanted_segments()?)))
            .await?;
        let first_kept = kept.min().unwrap_or(u64::MAX);
        let is_dead = |segment: &&SegmentInfo| segment.last <= safe && segment.last_tag < first_kept;
        let dead: Vec<LogIndex> = unwanted.iter().take_while(is_dead).map(|segment| segment.last).collect();
        if let Some(up_to) = dead.last().copied() {
            reached("compaction: segments purged");
            self.on_log(move |writer| writer.purge_prefix(up_to)).await??;
        }
        // Not a difference of two counts: the log goes on at its other end meanwhile.
        compacted.segments_purged = dead.len() as u64;
        if let Some(up_to) = unwanted.iter().map(|segment| segment.last).filter(|last| *last <= safe).max() {
            compacted.segments_rewritten = self.rewrite(up_to, kept).await?.segments_before;
        }
        Ok(())
    }

    async fn rewrite(&self, up_to: LogIndex, kept: RoaringTreemap) -> Result<Rewritten, CompactError> {
        let live_fraction_max = self.shared.options.rewrite_below;
        let rewrite = move |writer: &mut LogWriter| {
            writer.rewrite_sparse(&mut |_, tag| kept.contains(tag), up_to, live_fraction_max)
        };
        Ok(self.on_log(rewrite).await??)
    }

    /// The newest log entry that neither the record store nor its rebuild needs.
    fn safe_to_drop(&self) -> LogIndex {
        if is_planted(Bug::PurgedTooEarly) {
            return LogIndex(u64::MAX);
        }
        let flushed = *self.core().flushed.lock();
        match self.core().base.is_kept() {
            true => flushed.min(self.core().base.covers()),
            false => flushed,
        }
    }

    /// The events that some stream still lists.
    fn retained_revisions(&self) -> Result<RoaringTreemap, QueryError> {
        let mut kept = RoaringTreemap::new();
        for namespace in self.read(|reader| reader.namespaces()) {
            for stream in CATALOG.streams {
                let mut after = StreamSequence::ZERO;
                loop {
                    let rows = self.read(|reader| reader.stream_rows(namespace, stream.id, after, ROWS_STEP))?;
                    kept.extend(rows.iter().map(|row| row.revision.0));
                    let Some(last) = rows.last() else { break };
                    after = last.sequence;
                }
            }
        }
        Ok(kept)
    }

    /// The time of a segment's last event; `None` when it has none.
    fn last_event_time(&self, segment: &SegmentInfo) -> Result<Option<Timestamp>, QueryError> {
        match self.core().log.read_tag(segment.last_tag)? {
            Some(entry) if entry.kind == EntryKind::Event => {
                Ok(Some(Timestamp(Event::view(&entry.payload)?.time.0.to_native())))
            }
            _ => Ok(None),
        }
    }

    fn time_before(&self, age: Duration) -> Timestamp {
        let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.shared.clock.now().0.saturating_sub(micros))
    }

    /// Does something with the log, on the thread that owns it.
    pub(super) async fn on_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LogWriter) -> T + Send + 'static,
    ) -> Result<T, CompactError> {
        let (done, result) = oneshot::channel();
        // Whoever asked may have gone; the work is done all the same.
        let task = Task::Run(Box::new(move |writer| drop(done.send(work(writer)))));
        {
            let tasks = self.shared.tasks.lock();
            tasks.as_ref().ok_or(CompactError::Stopped)?.send(task).map_err(|_| CompactError::Stopped)?;
        }
        result.await.map_err(|_| CompactError::Stopped)
    }

    async fn blocking<T: Send + 'static, E: Into<CompactError> + Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, E> + Send + 'static,
    ) -> Result<T, CompactError> {
        let node = self.weakly();
        self.shared.work.blocking(move || work(&node)).await?.map_err(Into::into)
    }
}

/// Writes a base snapshot, reads it back, and only then lets the log go by it.
fn write_base(shared: &Arc<Shared>) -> Result<(), CompactError> {
    if shared.diverged.load(Ordering::SeqCst) {
        return Err(CompactError::Base("the records are not those of the leader and are being made anew".into()));
    }
    let core = shared.core();
    let failed = |error: &dyn std::fmt::Display| CompactError::Base(error.to_string());
    let source = LiveSource { view: Arc::clone(&core.view), log: core.log.clone() };
    let id = SnapshotId(shared.random.bytes());
    let options = SnapshotOptions::new(id, origin(&shared.identity), shared.clock.now());
    let Some(path) = core.base.path() else {
        let mut bytes = Vec::new();
        steeple_snapshot::write(&source, &mut bytes, options, &mut |_| {}).map_err(|error| failed(&error))?;
        let report = steeple_snapshot::verify(&bytes[..], &mut |_| {}).map_err(|error| failed(&error))?;
        if !is_planted(Bug::BaseNotPublished) {
            core.base.replace_by_bytes(&bytes).map_err(|error| failed(&error))?;
        }
        core.base.advance(report.manifest.state.index);
        return Ok(());
    };
    let mut publication = Publication::create(&path).map_err(|error| failed(&error))?;
    steeple_snapshot::write(&source, &mut publication, options, &mut |_| {}).map_err(|error| failed(&error))?;
    let mut written = publication.file();
    written.rewind().map_err(|error| failed(&error))?;
    let report = steeple_snapshot::verify(BufReader::new(written), &mut |_| {}).map_err(|error| failed(&error))?;
    publication.publish().map_err(|error| failed(&error))?;
    core.base.advance(report.manifest.state.index);
    Ok(())
}

/// Flushes and compacts at their intervals until the node stops or is gone.
pub(super) async fn run(shared: std::sync::Weak<Shared>) {
    let Some((mut failure, options)) =
        shared.upgrade().map(|shared| (shared.failure.subscribe(), shared.options.clone()))
    else {
        return;
    };
    tokio::select! {
        () = flush_now_and_then(shared.clone(), options.flush_interval) => {}
        () = compact_now_and_then(shared, options) => {}
        _ = failure.wait_for(Option::is_some) => {}
    }
}

async fn flush_now_and_then(shared: std::sync::Weak<Shared>, every: Duration) {
    let Some(node) = shared.upgrade().map(|shared| shared.identity.node) else { return };
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + first_flush(node, every), every);
    loop {
        interval.tick().await;
        let Some(node) = shared.upgrade().map(Node::unguarded) else { return };
        report("flush", node.flush().await);
    }
}

/// How long a node waits for its first flush. Members that start together do not all flush at the same moments then, so there is
/// a majority that does not, and what they may share is not asked for everything at once: members have numbers that follow one
/// another, and such multiples of the golden ratio lie apart, however many of them there are.
fn first_flush(node: NodeId, every: Duration) -> Duration {
    const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = node.0.wrapping_mul(GOLDEN_RATIO) >> 32;
    every.mul_f64(part as f64 / (1_u64 << 32) as f64)
}

/// The first round, at once, only sees to it that the record store could be rebuilt.
async fn compact_now_and_then(shared: std::sync::Weak<Shared>, options: super::NodeOptions) {
    if let Some(node) = shared.upgrade().map(Node::unguarded)
        && node.core().log.base().index > node.core().base.covers()
    {
        report("base snapshot", node.compact_where_due(options.base_interval_bytes).await);
    }
    let Some(every) = options.compaction_interval else { return std::future::pending().await };
    let mut interval = tokio::time::interval(every);
    interval.reset();
    loop {
        interval.tick().await;
        let Some(node) = shared.upgrade().map(Node::unguarded) else { return };
        report("compaction", node.compact_where_due(options.base_interval_bytes).await);
    }
}

fn report<T>(what: &'static str, done: Result<T, CompactError>) {
    match done {
        Ok(_) | Err(CompactError::Stopped) => {}
        Err(error) => tracing::warn!(%error, "{what} did not succeed and will be tried again"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_group_do_not_flush_at_the_same_moments() {
        let every = Duration::from_secs(5);
        for members in [3, 5, 7] {
            let mut first: Vec<_> = (1..=members).map(|node| first_flush(NodeId(node), every)).collect();
            first.sort_unstable();
            // Around the interval: the last one of a round comes before the first one of the next.
            let round =
                first.windows(2).map(|pair| pair[1] - pair[0]).chain([every + first[0] - first[first.len() - 1]]);
            let nearest = round.min().unwrap_or_default();
            assert!(first.iter().all(|first| *first < every) && nearest > every / (2 * members as u32), "{first:?}");
        }
    }
}
