//! Putting a snapshot in place: into an empty data directory, or into a record store alone.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, LogPosition, Revision};
use steeple_engine::log::{Entry, EntryKind, HardState, LogError, LogWriter, Refill};
use steeple_engine::record_store::{RecordStore, RecordStoreError};
use steeple_engine::view::{StoreFold, StoreKey, ViewError};
use thiserror::Error;

use crate::format::{pairs_position, visit_entries, visit_pairs};
use crate::manifest::{LogBase, Manifest};
use crate::publish::sync_directory;
use crate::read::{Part, ReadError, SnapshotReader};
use crate::state::StateError;
use crate::verify::verify;

/// Name of the file that marks a directory whose restoration has not come to its end.
pub const UNFINISHED_MARKER: &str = "RESTORE-UNFINISHED";

const MARKER_TEXT: &str = "A snapshot is being restored into this directory, or was and did not come to its end.\n\
    What is in it is not usable. Remove the directory and restore again.\n";

/// Why a record store could not be filled.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The snapshot is no good.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record store holds something already.
    #[error("the record store is not empty")]
    NotEmpty,
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] ViewError),
}

/// Why a snapshot could not be restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// The snapshot is no good. The directory was not touched.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is something in the directory. It was not touched.
    #[error("{} is not empty: it holds {found}", directory.display())]
    NotEmpty {
        /// The directory.
        directory: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The directory or the marker cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The caller could not open the stores. The directory is marked as unfinished.
    #[error("cannot open the stores to restore into: {0}")]
    Open(Box<dyn Error + Send + Sync>),
    /// The record store could not be filled. The directory is marked as unfinished.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log could not be filled. The directory is marked as unfinished.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A directory that must not be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{} holds an unfinished restoration; remove it and restore again", directory.display())]
pub struct Unfinished {
    /// The directory.
    pub directory: PathBuf,
}

/// A log that takes the entries of a snapshot.
pub trait EntrySink {
    /// Makes the log empty and begin behind a position, for the entries that come.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn start_behind(&mut self, base: LogBase, refill: Refill) -> Result<(), LogError>;

    /// Appends entries that continue the log without a gap.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError>;

    /// Makes everything durable. All entries are committed, up to `last`.
    ///
    /// # Errors
    /// When the log cannot be written.
    fn finish(&mut self, last: LogPosition) -> Result<(), LogError>;
}

impl EntrySink for LogWriter {
    fn start_behind(&mut self, base: LogBase, refill: Refill) -> Result<(), LogError> {
        self.reset_for(base.position, base.revision.0, refill)
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        Self::append(self, entries)
    }

    fn finish(&mut self, last: LogPosition) -> Result<(), LogError> {
        let hard_state = self.hard_state();
        // Whoever comes to a term has not voted in it.
        let vote = hard_state.vote.filter(|_| last.term <= hard_state.term);
        let (term, commit) = (hard_state.term.max(last.term), hard_state.commit.max(last.index));
        self.set_hard_state(HardState { term, vote, commit })?;
        self.finish_refill()
    }
}

/// What the restored entries become part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lineage {
    /// A new history, with members of its own: a backup brought back. Membership entries become empty ones, and the
    /// record store knows no members.
    New,
    /// The same history on another node, which joins by this snapshot.
    Same,
}

/// Where and as what to restore.
#[derive(Clone, Copy, Debug)]
pub struct RestoreOptions<'a> {
    /// The data directory: empty or not there.
    pub directory: &'a Path,
    /// Names that may be in the directory nevertheless (a lock file).
    pub may_contain: &'a [&'a str],
    /// What the entries become part of.
    pub lineage: Lineage,
}

/// The stores to restore into, fresh and empty.
pub struct RestoreTarget {
    /// Takes the records.
    pub store: Arc<dyn RecordStore>,
    /// Takes the entries.
    pub log: Box<dyn EntrySink>,
}

/// Opens the stores to restore into, inside the directory.
pub type OpenTarget<'a> = &'a mut dyn FnMut(&Manifest) -> Result<RestoreTarget, Box<dyn Error + Send + Sync>>;

/// Restores a snapshot into an empty directory: reads all of it once to verify it, then once more to put it in place.
///
/// All or nothing: the first thing written is the marker [`UNFINISHED_MARKER`] and the last thing done is to remove it,
/// both durably; [`check_finished`] tells. Who opens the log chooses its identity, and so the new history. The log
/// keeps the positions of its entries, unless entries between them are gone: then they are numbered anew, without a
/// gap, so that the last one keeps its index.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(
    input: &mut (impl Read + Seek),
    options: RestoreOptions<'_>,
    open: OpenTarget<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, RestoreError> {
    input.rewind().map_err(ReadError::Io)?;
    let manifest = verify(&mut *input, progress)?.manifest;
    input.rewind().map_err(ReadError::Io)?;
    claim(options)?;
    let mut target = open(&manifest).map_err(RestoreError::Open)?;
    let mut entries = EntryLoader::new(&manifest, options.lineage, target.log.as_mut())?;
    load(input, target.store.as_ref(), options.lineage, &mut |payload| entries.load(payload), progress)?;
    entries.finish(&manifest)?;
    drop(target);
    release(options.directory)?;
    Ok(manifest)
}

/// Fills an empty record store with the state of a snapshot. Nothing that a view would accept is there until all of
/// the snapshot has been read and found right.
///
/// # Errors
/// See [`LoadError`]; the store must be destroyed then.
pub fn load_base(input: impl Read, store: &dyn RecordStore) -> Result<Manifest, LoadError> {
    load(input, store, Lineage::Same, &mut |_| Ok(()), &mut |_| {}).map_err(|error| match error {
        RestoreError::Load(error) => error,
        other => unreachable!("only entries fail otherwise, and none are taken: {other}"),
    })
}

/// Fills a log with the entries of a snapshot that was verified: drops what it holds, begins where the snapshot's log
/// begins, and ends where its state does. The history is the same, and the record store is filled apart
/// ([`load_base`]).
///
/// # Errors
/// When the snapshot cannot be read or the log cannot be written. The log is of no use then until this is done anew.
pub fn load_log(input: impl Read, manifest: &Manifest, log: &mut dyn EntrySink) -> Result<(), LoadLogError> {
    let mut entries = EntryLoader::new(manifest, Lineage::Same, log)?;
    let mut reader = SnapshotReader::open(input)?;
    while let Some(part) = reader.next_part()? {
        if let Part::Entries(payload) = part {
            entries.load(&payload)?;
        }
    }
    Ok(entries.finish(manifest)?)
}

/// Why a log could not be filled.
#[derive(Debug, Error)]
pub enum LoadLogError {
    /// The snapshot is no good.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Whether the directory may be used: whether no restoration into it was broken off.
///
/// # Errors
/// When the marker is there.
pub fn check_finished(directory: &Path) -> Result<(), Unfinished> {
    // A marker that cannot be looked at counts as there.
    match fs::symlink_metadata(directory.join(UNFINISHED_MARKER)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(()),
        _ => Err(Unfinished { directory: directory.to_owned() }),
    }
}

fn load(
    input: impl Read,
    store: &dyn RecordStore,
    lineage: Lineage,
    entries: &mut dyn FnMut(&Bytes) -> Result<(), LogError>,
    progress: &mut dyn FnMut(u64),
) -> Result<Manifest, RestoreError> {
    check_empty(store)?;
    let mut reader = SnapshotReader::open(input).map_err(LoadError::Read)?;
    let mut fold = StoreFold::new(store);
    let mut start = None;
    while let Some(part) = reader.next_part().map_err(LoadError::Read)? {
        match part {
            Part::Pairs(payload) => {
                visit_pairs(&payload, |key, value| fold.put(key, value)).map_err(LoadError::Store)?;
                start = start.or_else(|| pairs_position(&payload).map(|position| position.revision));
            }
            Part::Entries(payload) => {
                fold_entries(&payload, start.unwrap_or_default(), &mut fold)?;
                entries(&payload)?;
            }
        }
        progress(reader.offset());
    }
    let manifest = reader.into_manifest().unwrap_or_else(|| unreachable!("the reader came to its end"));
    let members =
        Some(manifest.membership.as_slice()).filter(|members| lineage == Lineage::Same && !members.is_empty());
    fold.finish(manifest.state, members).map_err(LoadError::Store)?;
    Ok(manifest)
}

/// Folds the events that the pairs do not reflect yet, or not everywhere.
fn fold_entries(payload: &Bytes, start: Revision, fold: &mut StoreFold<'_>) -> Result<(), LoadError> {
    visit_entries(payload, |entry| {
        if entry.kind != EntryKind::Event || entry.tag <= start.0 {
            return Ok(());
        }
        let index = entry.position.index;
        let undecodable = |error| ReadError::State(StateError::Event { index, error });
        let event = Event::decode(&entry.payload).map_err(undecodable)?;
        fold.fold(&event).map_err(LoadError::Store)
    })
    .map(drop)
}

fn check_empty(store: &dyn RecordStore) -> Result<(), LoadError> {
    let (from, to) = StoreKey::everything();
    let mut empty = true;
    let failed = |error: RecordStoreError| LoadError::Store(error.into());
    store
        .scan(&from, &to, &mut |_, _| {
            empty = false;
            ControlFlow::Break(())
        })
        .map_err(failed)?;
    if empty { Ok(()) } else { Err(LoadError::NotEmpty) }
}

/// Appends the entries of a snapshot to a log.
struct EntryLoader<'a> {
    log: &'a mut dyn EntrySink,
    lineage: Lineage,
    /// Where the next entry goes if they are numbered anew.
    renumbered: Option<LogIndex>,
    last_tag: u64,
    last: LogPosition,
}

impl<'a> EntryLoader<'a> {
    fn new(manifest: &Manifest, lineage: Lineage, log: &'a mut dyn EntrySink) -> Result<Self, LogError> {
        let mut base = manifest.log_base;
        let end = manifest.state.index.0;
        let gapless = base.position.index.0.checked_add(manifest.entries) == Some(end);
        if !gapless {
            // Where entries are missing, there is room for one more, which closes them.
            base.position.index = LogIndex(end.saturating_sub(manifest.entries).saturating_sub(1));
        }
        // A log that was numbered anew has no gaps either, and its entries are not where the group has them: what comes
        // from another member must not be replicated by this one, whatever its numbers look like.
        let keeps_numbers = gapless && lineage == Lineage::New;
        let renumbered_to = if keeps_numbers { LogIndex::ZERO } else { manifest.state.index };
        log.start_behind(base, Refill { last: manifest.state.index, renumbered_to })?;
        let renumbered = (!gapless).then(|| base.position.index.next());
        Ok(Self { log, lineage, renumbered, last_tag: base.revision.0, last: base.position })
    }

    fn load(&mut self, payload: &Bytes) -> Result<(), LogError> {
        let mut entries = Vec::new();
        visit_entries(payload, |entry| {
            entries.push(self.adapt(entry));
            Ok::<(), LogError>(())
        })?;
        self.log.append(&entries)
    }

    fn adapt(&mut self, mut entry: Entry) -> Entry {
        if let Some(next) = &mut self.renumbered {
            entry.position.index = *next;
            *next = next.next();
        }
        if self.lineage == Lineage::New && entry.kind == EntryKind::Membership {
            entry.kind = EntryKind::Empty;
            entry.payload = Bytes::new();
        }
        (self.last, self.last_tag) = (entry.position, entry.tag);
        entry
    }

    fn finish(mut self, manifest: &Manifest) -> Result<(), LogError> {
        let term = manifest.term.unwrap_or_default().max(self.last.term);
        if let Some(index) = self.renumbered {
            // The log has to end in the term in which the snapshot does, whatever entries it had.
            let position = LogPosition { term, index };
            self.log.append(&[Entry {
                position,
                kind: EntryKind::Empty,
                tag: self.last_tag,
                payload: Bytes::new(),
            }])?;
            self.last = position;
        }
        self.log.finish(LogPosition { term, index: self.last.index })
    }
}

/// Takes the directory over: from here until [`release`] it is marked.
fn claim(options: RestoreOptions<'_>) -> Result<(), RestoreError> {
    let directory = options.directory;
    fs::create_dir_all(directory).map_err(io_error("create", directory))?;
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let name = entry.map_err(io_error("list", directory))?.file_name();
        if !options.may_contain.iter().any(|allowed| name == *allowed) {
            let found = name.to_string_lossy().into_owned();
            return Err(RestoreError::NotEmpty { directory: directory.to_owned(), found });
        }
    }
    let marker = directory.join(UNFINISHED_MARKER);
    fs::write(&marker, MARKER_TEXT).map_err(io_error("write", &marker))?;
    File::open(&marker).and_then(|file| file.sync_all()).map_err(io_error("sync", &marker))?;
    sync_directory(directory).map_err(io_error("sync", directory))
}

/// Declares the directory complete.
fn release(directory: &Path) -> Result<(), RestoreError> {
    // What was created in the directory must be durable before the marker is gone.
    sync_directory(directory).map_err(io_error("sync", directory))?;
    let marker = directory.join(UNFINISHED_MARKER);
    fs::remove_file(&marker).map_err(io_error("remove", &marker))?;
    sync_directory(directory).map_err(io_error("sync", directory))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RestoreError {
    let path = path.to_owned();
    move |source| RestoreError::Io { action, path, source }
}
