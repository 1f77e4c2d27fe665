//! The seam to the store that keeps records on disk.
//!
//! A record store is a rebuildable view: it is flushed now and then, it remembers the revision that it holds
//! (in a key of its own, inside the same batch), and any error or panic in it means "delete the directory and
//! rebuild". It is never the source of truth.

mod memory;

pub use memory::MemoryStore;

use std::ops::ControlFlow;

use bytes::Bytes;
use thiserror::Error;

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

/// What can go wrong in a record store. The answer to all of them is to rebuild it.
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
}

/// An ordered map from bytes to bytes on disk.
///
/// One thread applies batches; any number of threads read meanwhile.
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
    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RecordStoreError>;

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
