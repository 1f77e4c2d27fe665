//! Taking a snapshot: chunk after chunk, each a short step, at the pace of whoever asks for them.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use steeple_engine::ids::{LogIndex, LogPosition, Revision, Term, Timestamp};
use steeple_engine::view::StoreKey;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use crate::format::{
    ChunkKind, EncodedChunk, EntriesPayload, Footer, Header, Origin, PairsPayload, SnapshotId, encode_chunk,
};
use crate::limits::{MAX_CHUNKS, MAX_MANIFEST_BYTES, MAX_MEMBERSHIP_BYTES, TARGET_CHUNK_BYTES, TARGET_CHUNK_PAIRS};
use crate::manifest::{LogBase, Manifest, TableRecords};
use crate::source::{ReadAt, SnapshotSource, SourceError};
use crate::state::{StateError, StateTracker, Totals};

/// What kind of snapshot to take, and what to say in it.
#[derive(Clone, Debug)]
pub struct SnapshotOptions {
    /// Names the snapshot; random.
    pub id: SnapshotId,
    /// Whose state it is.
    pub origin: Origin,
    /// The time now.
    pub taken_at: Timestamp,
    /// Whether all retained events go with it.
    pub include_history: bool,
    /// How large a step is.
    pub step: StepSize,
}

/// How much is read in one step, and so how long folding may have to wait for it. A step ends when one of them is
/// reached; a single item may be larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSize {
    /// Pairs of the record store.
    pub pairs: usize,
    /// Bytes.
    pub bytes: usize,
}

impl Default for StepSize {
    fn default() -> Self {
        Self { pairs: TARGET_CHUNK_PAIRS, bytes: TARGET_CHUNK_BYTES }
    }
}

impl SnapshotOptions {
    /// A snapshot of the state alone.
    #[must_use]
    pub fn new(id: SnapshotId, origin: Origin, taken_at: Timestamp) -> Self {
        Self { id, origin, taken_at, include_history: false, step: StepSize::default() }
    }
}

/// How far a snapshot is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Chunks so far, header included.
    pub chunks: u64,
    /// Bytes so far.
    pub bytes: u64,
    /// Pairs so far.
    pub pairs: u64,
    /// Entries so far.
    pub entries: u64,
    /// The revision reached by reading pairs, and in the end that of the snapshot.
    pub revision: Revision,
}

/// Why a snapshot could not be taken. What was written of it is worth nothing.
#[derive(Debug, Error)]
pub enum WriteError {
    /// What it is taken of failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What was read does not add up to a state: the record store or the log is damaged, or the log gave up events
    /// that were needed.
    #[error("what was read is not one state: {0}")]
    State(#[from] StateError),
    /// A pair or an entry does not fit into a chunk.
    #[error("{what} is too large for a snapshot")]
    TooLarge {
        /// What it is.
        what: String,
    },
    /// The snapshot cannot be written.
    #[error("cannot write the snapshot: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
enum Phase {
    Header,
    Pairs { from: Vec<u8> },
    Entries { next: LogIndex },
    Manifest,
    Footer { manifest_offset: u64, manifest_number: u64 },
    Done,
}

/// A snapshot being taken. Between two steps nothing is locked; who needs it slow takes its time between them.
pub struct SnapshotStream<S> {
    source: S,
    options: SnapshotOptions,
    phase: Phase,
    tracker: StateTracker,
    hasher: Xxh3,
    log_base: LogBase,
    progress: Progress,
    manifest: Option<Manifest>,
    /// Members of the group at the newest step.
    membership: Option<Arc<[u8]>>,
}

impl<S: SnapshotSource> SnapshotStream<S> {
    /// Prepares to take a snapshot; reads nothing yet.
    pub fn new(source: S, options: SnapshotOptions) -> Self {
        Self {
            source,
            options,
            phase: Phase::Header,
            tracker: StateTracker::default(),
            hasher: Xxh3::new(),
            log_base: LogBase::default(),
            progress: Progress::default(),
            manifest: None,
            membership: None,
        }
    }

    /// The next chunk; `None` after the last one.
    ///
    /// # Errors
    /// See [`WriteError`]. No further chunk may be asked for.
    pub fn next_chunk(&mut self) -> Result<Option<EncodedChunk>, WriteError> {
        let bytes = loop {
            match std::mem::replace(&mut self.phase, Phase::Done) {
                Phase::Header => break self.header(),
                Phase::Pairs { from } => break self.pairs(from)?,
                Phase::Entries { next } => {
                    if let Some(chunk) = self.entries(next)? {
                        break chunk;
                    }
                }
                Phase::Manifest => break self.manifest()?,
                Phase::Footer { manifest_offset, manifest_number } => {
                    let footer = Footer { manifest_offset, manifest_number };
                    break Bytes::copy_from_slice(&footer.encode(self.options.id));
                }
                Phase::Done => return Ok(None),
            }
        };
        let number = self.progress.chunks;
        if number > MAX_CHUNKS {
            return Err(too_large("the number of chunks"));
        }
        self.hasher.update(&bytes);
        self.progress = Progress {
            chunks: number + 1,
            bytes: self.progress.bytes + bytes.len() as u64,
            pairs: self.tracker.pairs(),
            entries: self.tracker.entries(),
            revision: self.tracker.reached().revision,
        };
        Ok(Some(EncodedChunk { number, bytes }))
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// What the snapshot holds; `None` until the manifest's chunk was handed out.
    #[must_use]
    pub fn manifest_written(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    fn header(&mut self) -> Bytes {
        let SnapshotOptions { id, origin, include_history, .. } = self.options;
        // Without the folded position, which goes into every chunk of pairs, and the members, who go into the manifest.
        self.phase = Phase::Pairs { from: StoreKey::all_pairs().0 };
        Bytes::copy_from_slice(&Header { id, origin, includes_history: include_history }.encode())
    }

    fn pairs(&mut self, from: Vec<u8>) -> Result<Bytes, WriteError> {
        let step = self.options.step;
        let mut payload = PairsPayload::new();
        let mut last_key = from.clone();
        let mut stopped = false;
        let ReadAt { folded, membership } = self.source.read_pairs(&from, &mut |key, value| {
            let fits = payload.fits(key, value);
            if fits {
                payload.push(key, value);
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            stopped = !fits || payload.count() >= step.pairs || payload.len() >= step.bytes;
            if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if stopped && payload.count() == 0 {
            return Err(too_large("a pair of the record store"));
        }
        if membership.as_ref().is_some_and(|membership| membership.len() > MAX_MEMBERSHIP_BYTES) {
            return Err(too_large("the membership"));
        }
        self.membership = membership;
        let payload = payload.finish(&folded);
        self.tracker.accept_pairs(&payload)?;
        self.phase = match stopped {
            true => Phase::Pairs { from: successor(&last_key) },
            false => Phase::Entries { next: self.first_entry()? },
        };
        Ok(encode_chunk(self.options.id, self.progress.chunks, ChunkKind::Pairs, &payload))
    }

    /// Notes where the log of the snapshot begins, and returns its first index.
    fn first_entry(&mut self) -> Result<LogIndex, WriteError> {
        let log_base = self.source.log_base();
        let start = self.tracker.start().unwrap_or_default();
        self.log_base = if self.options.include_history && log_base.position.index < start.index {
            log_base
        } else {
            let term = self.source.term(start.index)?.unwrap_or(Term::ZERO);
            LogBase { position: LogPosition { term, index: start.index }, revision: start.revision }
        };
        Ok(self.log_base.position.index.next())
    }

    fn entries(&mut self, next: LogIndex) -> Result<Option<Bytes>, WriteError> {
        let step = self.options.step;
        let end = self.tracker.reached().index;
        let mut payload = EntriesPayload::new();
        let mut last = end;
        let mut oversized = false;
        if next <= end {
            self.source.read_entries(next, &mut |entry| {
                if entry.position.index > end {
                    return ControlFlow::Break(());
                }
                if !payload.fits(&entry) {
                    oversized = payload.count() == 0;
                    return ControlFlow::Break(());
                }
                payload.push(&entry);
                last = entry.position.index;
                if payload.len() >= step.bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        if oversized {
            return Err(too_large("an entry of the log"));
        }
        if payload.count() == 0 {
            self.phase = Phase::Manifest;
            return Ok(None);
        }
        let payload = Bytes::from(payload.finish());
        self.tracker.accept_entries(&payload)?;
        self.phase = if last < end { Phase::Entries { next: last.next() } } else { Phase::Manifest };
        Ok(Some(encode_chunk(self.options.id, self.progress.chunks, ChunkKind::Entries, &payload)))
    }

    fn manifest(&mut self) -> Result<Bytes, WriteError> {
        let totals = self.tracker.finish()?;
        let term = self.source.term(totals.end.index)?;
        let manifest = self.describe(&totals, term);
        let json = manifest.to_json();
        if json.len() > MAX_MANIFEST_BYTES {
            return Err(too_large("the manifest"));
        }
        let number = self.progress.chunks;
        self.phase = Phase::Footer { manifest_offset: self.progress.bytes, manifest_number: number };
        self.manifest = Some(manifest);
        Ok(encode_chunk(self.options.id, number, ChunkKind::Manifest, json.as_bytes()))
    }

    fn describe(&self, totals: &Totals, term: Option<Term>) -> Manifest {
        let tables = totals.records.iter().map(|(table, records)| TableRecords { table: *table, records: *records });
        Manifest {
            id: self.options.id,
            origin: self.options.origin,
            includes_history: self.options.include_history,
            taken_at: self.options.taken_at,
            start: totals.start.revision,
            state: totals.end,
            term,
            log_base: self.log_base,
            pairs: totals.pairs,
            entries: totals.entries,
            events: totals.events,
            first_event: totals.first_event,
            tables: tables.collect(),
            chunks: self.progress.chunks - 1,
            bytes: self.progress.bytes,
            checksum: self.hasher.digest128(),
            membership: self.membership.as_deref().unwrap_or_default().to_vec(),
        }
    }
}

/// Takes a whole snapshot, reporting progress after every chunk.
///
/// # Errors
/// See [`WriteError`]; what was written is worth nothing then.
pub fn write(
    source: &impl SnapshotSource,
    out: &mut dyn Write,
    options: SnapshotOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, WriteError> {
    let mut stream = SnapshotStream::new(source, options);
    while let Some(chunk) = stream.next_chunk()? {
        out.write_all(&chunk.bytes)?;
        progress(stream.progress());
    }
    out.flush()?;
    Ok(stream.manifest.unwrap_or_else(|| unreachable!("a stream that ended well has written its manifest")))
}

/// The lowest key above `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

fn too_large(what: &str) -> WriteError {
    WriteError::TooLarge { what: what.to_owned() }
}
