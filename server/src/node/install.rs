//! Taking over a snapshot from a peer, while handles, tails and readers go on.
//!
//! In this order, each step durable before the next one begins:
//!
//! 1. The snapshot, verified, becomes the base snapshot.
//! 2. A record store is filled from it, beside the one in use.
//! 3. The log is emptied and filled with the events that the snapshot brings along; its end is the snapshot's.
//! 4. View, log and the rest are replaced at once ([`super::core`]); the old record store goes away with its last user.
//!
//! A crash in between is recognised by a base snapshot with history that lies beyond the end of the log, or whose last
//! entry has another term than the log's entry there: then steps 2 and 3 are done anew at the next start ([`resume`]).
//! That is safe at any time, whether the group still asks for it or not: what a snapshot holds is committed, and the
//! term and vote in the log are never lowered.
//!
//! Steps 1 and 2 take long and change nothing that is in use ([`Installation::prepare`]); step 3 belongs to whoever owns
//! the log's writing end ([`Installation::fill_log`]), step 4 to whoever folds ([`Installation::finish`]).

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::domain::CATALOG;
use steeple_engine::ids::{LogIndex, LogPosition};
use steeple_engine::log::{LogError, LogIdentity, LogReader, LogWriter};
use steeple_engine::simulation::reached;
use steeple_engine::view::{View, ViewError};
use steeple_raft::RequestLedger;
use steeple_snapshot::{LoadLogError, Manifest, ReadError, SnapshotId};
use thiserror::Error;
use tokio::sync::OwnedMutexGuard;

use super::Shared;
use super::base::{self, Base};
use super::core::Core;
use super::errors::StartError;
use super::group::{Finding, Verdict};
use super::open;
use super::options::NodeOptions;
use super::recall;
use super::records::{self, Records};

/// A snapshot from a peer that has arrived wholly.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// In the file [`super::Node::incoming_snapshot_path`], durable; it is moved away.
    File(PathBuf),
    /// In memory, for a node that has no files.
    Memory(Bytes),
}

/// Why a snapshot was not taken over.
#[derive(Debug, Error)]
pub enum InstallError {
    /// It is damaged.
    #[error("the snapshot cannot be used: {0}")]
    Read(#[from] ReadError),
    /// It belongs to another cluster, group or history.
    #[error("snapshot {id} belongs to another cluster, group or history")]
    Foreign {
        /// Which one.
        id: SnapshotId,
    },
    /// It does not say in which term it ends, so that the log could not go on behind it.
    #[error("snapshot {id} does not say in which term it ends")]
    NoTerm {
        /// Which one.
        id: SnapshotId,
    },
    /// The node has got that far by itself meanwhile.
    #[error("the node is at log index {folded} already, the snapshot at {snapshot}")]
    Overtaken {
        /// Where the node is.
        folded: LogIndex,
        /// Where the snapshot ends.
        snapshot: LogIndex,
    },
    /// It cannot stand in for the records alone.
    #[error("the log does not go on where snapshot {id} ends: entry {end} of it is not here")]
    Apart {
        /// Which one.
        id: SnapshotId,
        /// Where it ends.
        end: LogIndex,
    },
    /// Base snapshot and log give no better records.
    #[error("base snapshot and log of this node do not give the leader's records")]
    NotMended,
    /// The file cannot be moved.
    #[error("cannot make it the base snapshot: {0}")]
    Publish(#[from] std::io::Error),
    /// The record store cannot be filled.
    #[error("cannot fill a record store from it: {0}")]
    Load(String),
    /// The record store does not hold what it should.
    #[error("view: {0}")]
    View(#[from] ViewError),
    /// The record store cannot be made, or the events cannot be read.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The log cannot be written.
    #[error("log: {0}")]
    Log(#[from] LogError),
}

impl From<LoadLogError> for InstallError {
    fn from(error: LoadLogError) -> Self {
        match error {
            LoadLogError::Read(error) => error.into(),
            LoadLogError::Log(error) => error.into(),
        }
    }
}

/// What is left to do for whoever folds, after a takeover.
pub(crate) struct Installed {
    /// The state now.
    pub(crate) core: Arc<Core>,
    /// The requests that the events of the snapshot remember.
    pub(crate) requests: RequestLedger,
    /// Where the log ends.
    pub(crate) position: LogPosition,
}

/// A snapshot on its way to become the node's state. Dropped before its log was begun, it leaves the node as it is.
pub(crate) struct Installation {
    shared: Arc<Shared>,
    manifest: Manifest,
    source: Source,
    /// There until they become part of the node.
    built: Option<(View, Records)>,
    requests: Option<RequestLedger>,
    progress: Progress,
    /// Nobody gives space back or writes a base snapshot meanwhile.
    _alone: OwnedMutexGuard<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Prepared,
    LogBegun,
    LogFilled,
    Finished,
}

/// Where the snapshot is read from.
enum Source {
    Base(Arc<Base>),
    Memory(Bytes),
}

impl Source {
    fn read(&self) -> Result<Box<dyn Read>, InstallError> {
        Ok(match self {
            Self::Base(base) => base.read().map(|input| -> Box<dyn Read> { input }).map_err(InstallError::Load)?,
            Self::Memory(bytes) => Box::new(Cursor::new(bytes.clone())),
        })
    }
}

impl Installation {
    /// Verifies the snapshot, makes it the base snapshot and fills a record store from it, while the others are kept out
    /// ([`alone`]). Waits for the disk, not for the thread that folds.
    ///
    /// # Errors
    /// See [`InstallError`]. The node is as it was.
    pub(crate) fn prepare(
        shared: Arc<Shared>,
        arrived: Arrived,
        alone: OwnedMutexGuard<()>,
    ) -> Result<Self, InstallError> {
        let core = shared.core();
        let manifest = verify(&arrived, &shared.identity, core.view.folded().index)?;
        let source = publish(arrived, &core.base)?;
        tracing::info!(snapshot = %manifest.id, records = manifest.records(), "a snapshot has arrived: filling a record store from it");
        let records = records::beside(&shared.storage)?;
        let view = build_view(&shared.options, &records, &source, &manifest).inspect_err(|_| clear_away(&records))?;
        Ok(Self {
            shared,
            manifest,
            source,
            built: Some((view, records)),
            requests: None,
            progress: Progress::Prepared,
            _alone: alone,
        })
    }

    /// What the snapshot holds.
    pub(crate) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Empties the log and fills it with the events of the snapshot, and returns its new end, which is durable. Must
    /// come after everything that was to be written before it. Tails wait meanwhile.
    ///
    /// # Errors
    /// See [`InstallError`]. Except after [`InstallError::Overtaken`] the node must stop; its next start goes on here.
    pub(crate) fn fill_log(&mut self, writer: &mut LogWriter) -> Result<LogPosition, InstallError> {
        let folded = self.shared.core().view.folded().index;
        if folded >= self.manifest.state.index {
            return Err(InstallError::Overtaken { folded, snapshot: self.manifest.state.index });
        }
        tracing::info!(snapshot = %self.manifest.id, events = self.manifest.events, "filling the log from a snapshot");
        self.shared.begin_replacement();
        self.progress = Progress::LogBegun;
        let position = fill_log(self.source.read()?, &self.manifest, writer)?;
        let requests = recall::requests(
            &self.shared.options,
            &writer.reader(),
            self.manifest.state.time,
            self.manifest.state.index,
        )?;
        self.requests = Some(requests);
        self.progress = Progress::LogFilled;
        Ok(position)
    }

    /// Puts the new state in the place of the old one, to which nothing may be folded any more, and wakes everybody who
    /// waits. `None` when the log was not filled.
    pub(crate) fn finish(mut self) -> Option<Installed> {
        let (view, records) = self.built.take_if(|_| self.progress == Progress::LogFilled)?;
        let requests = self.requests.take()?;
        let old = self.shared.core();
        let position = old.log.last();
        let core = Core::new(view, old.log.clone(), Arc::clone(&old.base), records);
        // The store was filled for good.
        *core.flushed.lock() = self.manifest.state.index;
        if let Source::Base(base) = &self.source {
            base.advance(self.manifest.state.index);
        }
        self.progress = Progress::Finished;
        self.shared.replace_core(core);
        reached("snapshot: taken over");
        tracing::info!(snapshot = %self.manifest.id, revision = %self.manifest.state.revision, "took over a snapshot");
        Some(Installed { core: self.shared.core(), requests, position })
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some((_, records)) = &self.built {
            records.retire();
        }
        if matches!(self.progress, Progress::LogBegun | Progress::LogFilled) {
            self.shared.fail("a snapshot was not taken over completely; the next start goes on with it".into());
        }
    }
}

/// The record store being made anew, after its records were found to be wrong or it has failed; log and vote stay. Dropped,
/// it leaves the node as it is.
pub(crate) struct Rebuilding {
    shared: Arc<Shared>,
    verdict: Verdict,
    /// There until they become part of the node.
    built: Option<(View, Records)>,
    _alone: OwnedMutexGuard<()>,
}

impl Rebuilding {
    /// Fills a record store from base snapshot and log beside the one in use, as far as that one is folded, and judges
    /// it by what a check has found, if one has, while the others are kept out ([`alone`]). Waits for the disk, not for
    /// the thread that folds.
    ///
    /// # Errors
    /// [`InstallError::NotMended`] when the records are no better, or nobody can tell, and [`StartError::MissingEvents`]
    /// when base snapshot and log do not reach back far enough: then only a snapshot from a peer helps. See
    /// [`InstallError`] for the rest. The node is as it was.
    pub(super) fn prepare(
        shared: Arc<Shared>,
        finding: Option<&Finding>,
        alone: OwnedMutexGuard<()>,
    ) -> Result<Self, InstallError> {
        let core = shared.core();
        open::check_rebuildable(&core.log, &core.base)?;
        let records = records::beside(&shared.storage)?;
        let (options, log, base) = (&shared.options, &core.log, &core.base);
        let rebuilt = match finding {
            Some(finding) => open::rebuild_and_judge(options, &records, log, base, finding),
            None => open::rebuild(options, &records, log, base, core.view.folded().index)
                .map(|view| (view, Verdict::Mended)),
        };
        let (view, verdict) = rebuilt.inspect_err(|_| clear_away(&records))?;
        // From here on the store goes with it.
        let rebuilding = Self { shared, verdict, built: Some((view, records)), _alone: alone };
        if verdict == Verdict::NotMended {
            return Err(InstallError::NotMended);
        }
        rebuilding.follow(&core)?;
        Ok(rebuilding)
    }

    /// Fills a record store from the snapshot of a peer beside the one in use, and makes the snapshot the base snapshot.
    /// The log must go on where it ends, and hold what it ends with.
    ///
    /// # Errors
    /// See [`InstallError`]. The node is as it was, except that it may have another base snapshot.
    pub(super) fn from_peer(
        shared: Arc<Shared>,
        arrived: Arrived,
        alone: OwnedMutexGuard<()>,
    ) -> Result<Self, InstallError> {
        let core = shared.core();
        let manifest = verify(&arrived, &shared.identity, LogIndex::ZERO)?;
        check_followed(&manifest, &core.log)?;
        let source = publish(arrived, &core.base)?;
        if let Source::Base(base) = &source {
            base.advance(manifest.state.index);
        }
        let records = records::beside(&shared.storage)?;
        let view = build_view(&shared.options, &records, &source, &manifest).inspect_err(|_| clear_away(&records))?;
        let built = Some((view, records));
        let rebuilding = Self { shared, verdict: Verdict::Mended, built, _alone: alone };
        rebuilding.follow(&core)?;
        Ok(rebuilding)
    }

    /// What the records turned out to be.
    pub(super) fn verdict(&self) -> Verdict {
        self.verdict
    }

    fn follow(&self, core: &Core) -> Result<(), InstallError> {
        let Some((view, _)) = &self.built else { return Ok(()) };
        Ok(open::follow(view, &core.log, core.view.folded().index)?)
    }

    /// Folds what the old view has folded meanwhile, and puts the new one in its place.
    ///
    /// # Errors
    /// When the log or the record store fails; the node is as it was.
    pub(crate) fn finish(mut self) -> Result<Arc<Core>, InstallError> {
        let old = self.shared.core();
        self.follow(&old)?;
        if let Some((view, _)) = &self.built {
            view.flush()?;
        }
        if let Some((view, records)) = self.built.take() {
            let flushed = view.folded().index;
            let core = Core::new(view, old.log.clone(), Arc::clone(&old.base), records);
            *core.flushed.lock() = flushed;
            self.shared.replace_core(core);
        }
        Ok(self.shared.core())
    }
}

impl Drop for Rebuilding {
    fn drop(&mut self) {
        if let Some((_, records)) = &self.built {
            records.retire();
        }
    }
}

/// Keeps everybody out who gives space back or takes a snapshot; one that is being taken is broken off.
pub(super) async fn alone(shared: &Shared) -> OwnedMutexGuard<()> {
    shared.taking_over.send_replace(true);
    let alone = Arc::clone(&shared.maintenance).lock_owned().await;
    shared.taking_over.send_replace(false);
    alone
}

/// Reads all of the snapshot once, and checks that it is for this node and of use to it.
fn verify(arrived: &Arrived, identity: &LogIdentity, folded: LogIndex) -> Result<Manifest, InstallError> {
    let report = match arrived {
        Arrived::File(path) => steeple_snapshot::verify(BufReader::new(File::open(path)?), &mut |_| {})?,
        Arrived::Memory(bytes) => steeple_snapshot::verify(Cursor::new(bytes), &mut |_| {})?,
    };
    let manifest = report.manifest;
    if manifest.origin != base::origin(identity) {
        return Err(InstallError::Foreign { id: manifest.id });
    }
    if manifest.term.is_none() {
        return Err(InstallError::NoTerm { id: manifest.id });
    }
    if manifest.state.index <= folded {
        return Err(InstallError::Overtaken { folded, snapshot: manifest.state.index });
    }
    Ok(manifest)
}

/// Makes sure that the log goes on where a snapshot ends, and that its last entry is the log's.
fn check_followed(manifest: &Manifest, log: &LogReader) -> Result<(), InstallError> {
    let end = manifest.state.index;
    let differs = |term| manifest.term.is_some_and(|expected| expected != term);
    let is_followed = end.next() >= log.contiguous_from() && end <= log.last().index;
    if is_followed && !log.term(end)?.is_some_and(differs) {
        Ok(())
    } else {
        Err(InstallError::Apart { id: manifest.id, end })
    }
}

/// From here on a crash is followed by the takeover at the next start.
fn publish(arrived: Arrived, base: &Arc<Base>) -> Result<Source, InstallError> {
    match arrived {
        Arrived::File(path) => {
            base.replace_by(&path)?;
            Ok(Source::Base(Arc::clone(base)))
        }
        Arrived::Memory(bytes) if base.is_kept() => {
            base.replace_by_bytes(&bytes)?;
            Ok(Source::Base(Arc::clone(base)))
        }
        Arrived::Memory(bytes) => Ok(Source::Memory(bytes)),
    }
}

fn build_view(
    options: &NodeOptions,
    records: &Records,
    source: &Source,
    manifest: &Manifest,
) -> Result<View, InstallError> {
    let store = records.open(options)?;
    let loaded = steeple_snapshot::load_base(source.read()?, store.as_ref());
    loaded.map_err(|error| InstallError::Load(error.to_string()))?;
    let view = View::open_with(CATALOG, store, records.fork())?;
    if view.folded() == manifest.state {
        Ok(view)
    } else {
        Err(InstallError::Load(format!("it is at revision {}", view.folded().revision)))
    }
}

fn clear_away(records: &Records) {
    if let Err(error) = records.destroy() {
        tracing::warn!(%error, "a record store that was not finished is left over until the next start");
    }
}

fn fill_log(input: impl Read, manifest: &Manifest, writer: &mut LogWriter) -> Result<LogPosition, InstallError> {
    steeple_snapshot::load_log(input, manifest, writer)?;
    Ok(writer.reader().last())
}

/// Finishes a takeover that was interrupted: fills the log from the base snapshot. Whether there was one.
///
/// # Errors
/// When the snapshot cannot be read any more or the log cannot be written. Trying again is safe.
pub(super) fn resume(base: &Base, identity: &LogIdentity, writer: &mut LogWriter) -> Result<bool, InstallError> {
    if let Some(path) = base.incoming_path() {
        // One that did not become the base snapshot is fetched again when it is still wanted.
        drop(std::fs::remove_file(path));
    }
    let Some(manifest) = base.manifest() else { return Ok(false) };
    if manifest.origin != base::origin(identity) || !is_interrupted(&manifest, writer)? {
        return Ok(false);
    }
    if let Err(problem) = base.verify() {
        // With the log whole, or its loss told by others: nothing is missed without the snapshot.
        tracing::warn!(problem, "taking over a snapshot was interrupted, and the snapshot is damaged since");
        return Ok(false);
    }
    reached("snapshot: interrupted takeover finished at the start");
    tracing::info!(snapshot = %manifest.id, "taking over a snapshot was interrupted and is finished now");
    fill_log(base.read().map_err(InstallError::Load)?, &manifest, writer)?;
    Ok(true)
}

/// What a snapshot from a peer was needed for, and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It is the base snapshot, and the log, which is whole, goes on behind it.
    AsBase,
    /// It has taken the place of the log as well.
    AsLog,
}

/// Makes a snapshot from a peer the base snapshot of a node that cannot start without one; the records are rebuilt from it
/// when it starts. A whole log that goes on where the snapshot ends stays as it is: what this node has confirmed to others
/// may be nowhere else. Any other log is replaced, if the snapshot holds all that was confirmed here.
///
/// # Errors
/// When the snapshot is of no use, or the log cannot be written. Trying again is safe.
pub(super) fn begin_from(base: &Arc<Base>, arrived: Arrived, writer: &mut LogWriter) -> Result<Served, InstallError> {
    let manifest = verify(&arrived, &writer.identity(), LogIndex::ZERO)?;
    if !manifest.includes_history {
        return Err(InstallError::NoTerm { id: manifest.id });
    }
    let (end, log) = (manifest.state.index, writer.reader());
    let is_whole = writer.holes().is_empty() && !writer.is_end_unknown();
    if is_whole && check_followed(&manifest, &log).is_ok() {
        publish(arrived, base)?;
        base.advance(end);
        return Ok(Served::AsBase);
    }
    if !may_replace(&manifest, writer, is_whole)? {
        return Err(InstallError::Apart { id: manifest.id, end });
    }
    let source = publish(arrived, base)?;
    fill_log(source.read()?, &manifest, writer)?;
    Ok(Served::AsLog)
}

/// Whether a snapshot holds all that may have been committed with this node's word: all that its log reached to, or at least
/// an entry in whose place the log has another one, so that nothing behind that was ever committed.
fn may_replace(manifest: &Manifest, writer: &LogWriter, is_whole: bool) -> Result<bool, LogError> {
    let end = manifest.state.index;
    if writer.is_end_unknown() || end < writer.hard_state().commit {
        return Ok(false);
    }
    if end >= writer.outline()?.last() {
        return Ok(true);
    }
    let differs = |term| manifest.term.is_some_and(|expected| expected != term);
    Ok(is_whole && writer.reader().term(end)?.is_some_and(differs))
}

/// Whether the log lacks what the base snapshot holds. Those that the node writes itself have no history and never do.
fn is_interrupted(manifest: &Manifest, writer: &LogWriter) -> Result<bool, LogError> {
    let (end, log) = (manifest.state.index, writer.reader());
    if !manifest.includes_history {
        return Ok(false);
    }
    if !writer.holes().is_empty() || writer.is_end_unknown() {
        // What it held must all be in the snapshot.
        let outline = writer.outline();
        return Ok(outline.is_ok_and(|outline| outline.end_known && outline.last() <= end));
    }
    if end > log.last().index {
        return Ok(true);
    }
    let differs = |term| manifest.term.is_some_and(|expected| expected != term);
    Ok(end > log.base().index && log.term(end)?.is_some_and(differs))
}
