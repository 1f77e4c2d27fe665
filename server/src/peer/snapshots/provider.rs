//! The side that has a snapshot.

use std::io::{Read, Seek};

use steeple_engine::ids::{LogIndex, NodeId};
use steeple_snapshot::{EncodedChunk, FileChunks, ReadError, SnapshotId};
use thiserror::Error;

use super::super::BoxFuture;

/// Has snapshots for other nodes.
pub trait SnapshotProvider: Send + Sync {
    /// Opens a snapshot that reaches to `minimum` or further: `begun` if that one is still there, because the node has a
    /// part of it; otherwise the best. One that takes long to make is made
    /// beside it, and asked for again.
    ///
    /// # Errors
    /// See [`ProvideError`].
    fn open(
        &self,
        to: NodeId,
        begun: Option<SnapshotId>,
        minimum: LogIndex,
    ) -> BoxFuture<'_, Result<Box<dyn ServedSnapshot>, ProvideError>>;
}

/// Why there is no snapshot.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProvideError {
    /// Not now; later perhaps.
    #[error("{0}")]
    NotNow(String),
    /// It is being made; later then.
    #[error("the snapshot is still being made")]
    BeingMade,
    /// Never: the node must look elsewhere.
    #[error("{0}")]
    Refused(String),
}

/// A snapshot that is open. Calls may block on a disk.
pub trait ServedSnapshot: Send {
    /// Which one.
    fn id(&self) -> SnapshotId;

    /// How many chunks it has.
    fn chunk_count(&self) -> u64;

    /// Makes a chunk the next one.
    ///
    /// # Errors
    /// When the chunks on the way cannot be walked.
    fn go_to(&mut self, number: u64) -> Result<(), ReadError>;

    /// The next chunk; `None` after the last one.
    ///
    /// # Errors
    /// When it is damaged or cannot be read.
    fn next_chunk(&mut self) -> Result<Option<EncodedChunk>, ReadError>;
}

/// A snapshot in a file.
#[derive(Debug)]
pub struct ServedFile<R>(FileChunks<R>);

impl<R: Read + Seek> ServedFile<R> {
    /// Begins with chunk 0.
    ///
    /// # Errors
    /// When header, footer or manifest are damaged.
    pub fn open(input: R) -> Result<Self, ReadError> {
        FileChunks::open(input).map(Self)
    }
}

impl<R: Read + Seek + Send> ServedSnapshot for ServedFile<R> {
    fn id(&self) -> SnapshotId {
        self.0.manifest().id
    }

    fn chunk_count(&self) -> u64 {
        self.0.chunk_count()
    }

    fn go_to(&mut self, number: u64) -> Result<(), ReadError> {
        self.0.go_to(number)
    }

    fn next_chunk(&mut self) -> Result<Option<EncodedChunk>, ReadError> {
        self.0.next_chunk()
    }
}
