//! The seam to the store that keeps records on disk.
//!
//! A record store is a rebuildable view: it is flushed now and then, it remembers the revision that it holds
//! (in a key of its own, inside the same batch), and any error or panic in it means "delete the directory and
//! rebuild". It is never the source of truth.

mod directory;
mod fjall_store;
mod flushed;
mod memory;
mod poison;
mod sled_metadata;
mod sled_store;
#[cfg(test)]
mod suite;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

pub use self::memory::MemoryStore;

use self::fjall_store::FjallStore;
use self::sled_store::SledStore;

/// Puts and deletes that become visible together and survive a crash together.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// In order; a later operation on the same key wins. `None` deletes.
    pub operations: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl WriteBatch {
    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.operations.push((key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.operations.push((key.into(), None));
    }
}

/// What can go wrong in a record store. The answer to all but [`RecordStoreError::InUse`] is to rebuild it.
#[derive(Debug, Error)]
pub enum RecordStoreError {
    /// The engine below reported an error.
    #[error("record store failed to {action}: {detail}")]
    Failed {
        /// What it was asked to do.
        action: &'static str,
        /// Its own words.
        detail: String,
    },
    /// An earlier operation failed or panicked; nothing that the store says can be trusted any more.
    #[error("record store is unusable after an earlier failure: {detail}")]
    Poisoned {
        /// What happened first.
        detail: String,
    },
    /// Another process, or another store of this one, has the directory open. Nothing is wrong with it.
    #[error("record store in {} is in use", directory.display())]
    InUse {
        /// Which directory.
        directory: PathBuf,
    },
}

impl RecordStoreError {
    fn failed(action: &'static str, error: &dyn std::fmt::Display) -> Self {
        Self::Failed { action, detail: error.to_string() }
    }
}

/// Which engine keeps the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RecordStoreKind {
    /// In memory only; the directory is not touched and every start begins empty.
    Memory,
    /// sled 1.0 alpha.
    #[default]
    Sled,
    /// fjall 3.
    Fjall,
}

/// Content of the marker file of a sled directory. It names everything that the file format depends on, so that
/// a new version of the engine finds out by itself that it has to rebuild.
const SLED_MARKER: &str = "sled 1.0.0-alpha.124 fanout 128 1\n";
const _: () = assert!(sled_store::LEAF_FANOUT == 128, "the marker names the fanout");
/// Content of the marker file of a fjall directory.
const FJALL_MARKER: &str = "fjall 3 1\n";

/// Sizes of a record store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordStoreOptions {
    /// Bytes of records kept in memory for reading. What was written comes on top: with sled all of it since the
    /// store was opened (it never evicts a leaf that it has written), with fjall what it collects for a table.
    pub cache_bytes: usize,
    /// Bytes that fjall collects in memory before it writes them as a table. sled has no such thing.
    pub write_buffer_bytes: u64,
}

impl Default for RecordStoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 << 20, write_buffer_bytes: 32 << 20 }
    }
}

/// Opens the record store in `directory`, creating both if they do not exist.
///
/// # Errors
/// [`RecordStoreError::InUse`] when somebody has it open. [`RecordStoreError::Failed`] when the directory belongs to
/// another kind or version, or holds data that cannot be read; a panic of the engine is reported as that too. The
/// answer to it: [`destroy`] the directory and rebuild.
pub fn open(
    kind: RecordStoreKind,
    directory: &Path,
    options: &RecordStoreOptions,
) -> Result<Arc<dyn RecordStore>, RecordStoreError> {
    Ok(match kind {
        RecordStoreKind::Memory => Arc::new(MemoryStore::new()),
        RecordStoreKind::Sled => Arc::new(SledStore::open(directory::claim(directory, SLED_MARKER)?, options)?),
        RecordStoreKind::Fjall => Arc::new(FjallStore::open(directory::claim(directory, FJALL_MARKER)?, options)?),
    })
}

/// Removes the record store in `directory` with all it holds. Drop the store first, also one that has failed. It is
/// no error if there is none.
///
/// # Errors
/// [`RecordStoreError::InUse`] when a store is open there; [`RecordStoreError::Failed`] as the operating system
/// reports it, when part of the files may be gone.
pub fn destroy(directory: &Path) -> Result<(), RecordStoreError> {
    directory::remove(directory)
}

/// Empties all files of the record store in `directory`, also while it is open: reading them fails from then on, and nobody
/// takes what is left for a store, also after a crash in the middle of it. Drop the store and [`destroy`] it then.
///
/// # Errors
/// [`RecordStoreError::Failed`] as the operating system reports it, when some of the files may not be empty.
pub fn ruin(directory: &Path) -> Result<(), RecordStoreError> {
    directory::ruin(directory)
}

/// What a scan calls with each key and its value.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// An ordered map from bytes to bytes on disk.
///
/// One thread applies batches; any number of threads read meanwhile. A value that is read is whole, and once an
/// `apply` has returned everybody sees its batch. A scan is *not* a snapshot: one that runs while a batch is being
/// applied may see some keys before it and some after, so who needs both from one batch keeps the applier out.
pub trait RecordStore: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// When the store failed; see [`RecordStoreError`].
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError>;

    /// Visits the pairs with `from <= key < to` in key order until `visit` breaks.
    ///
    /// Costs in proportion to the pairs visited, not to the size of the store.
    ///
    /// # Errors
    /// When the store failed; see [`RecordStoreError`].
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError>;

    /// Applies a batch, all or nothing also across a crash. Not durable until [`RecordStore::flush`]; after a
    /// crash the store holds an exact prefix of the applied batches that includes all flushed ones.
    ///
    /// # Errors
    /// When the store failed; see [`RecordStoreError`].
    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError>;

    /// Makes every batch applied before the call durable.
    ///
    /// # Errors
    /// When the store failed; see [`RecordStoreError`].
    fn flush(&self) -> Result<(), RecordStoreError>;

    /// Bytes that the store takes on disk, 0 for one in memory.
    ///
    /// # Errors
    /// When the store failed; see [`RecordStoreError`].
    fn disk_bytes(&self) -> Result<u64, RecordStoreError>;
}
