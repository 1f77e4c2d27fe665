//! The second record store: fjall, a log-structured merge tree.
//!
//! It is here so that nothing grows into the first one, and as the way out if that one has to go. What a caller
//! must know: a damaged journal is *cut at the damage without an error*, so a store may come back as an earlier
//! state than the one last flushed. The view finds out by the folded revision it keeps inside the store (it replays
//! from there) and by its digest; a folded revision older than everything the log still has means "rebuild".
//!
//! Its destructor panics, or waits for ever, after one of its own threads has panicked. So a store that failed is
//! leaked and not closed.

use std::mem;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::directory::allocated_bytes;
use super::poison::{Poison, catch};
use super::{RecordStore, RecordStoreError, RecordStoreOptions, WriteBatch};

/// Flushes of memory tables and compactions run there, besides the thread that applies.
const WORKER_THREADS: usize = 1;

/// The least that fjall takes; a journal is rebuilt on opening, so a small one keeps that short.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// A record store in a directory, kept by fjall.
pub(super) struct FjallStore {
    /// Taken only when the store is dropped.
    open: Option<Open>,
    directory: PathBuf,
    poison: Poison,
}

struct Open {
    database: Database,
    pairs: Keyspace,
}

impl FjallStore {
    /// Opens the store in `directory`, or creates it.
    pub(super) fn open(directory: &Path, options: &RecordStoreOptions) -> Result<Self, RecordStoreError> {
        let keyspace_options = || KeyspaceCreateOptions::default().max_memtable_size(options.write_buffer_bytes);
        let open = catch("open", || {
            let database = Database::builder(directory)
                .cache_size(options.cache_bytes as u64)
                .worker_threads(WORKER_THREADS)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                // Batches reach the disk with a flush, as with the other stores.
                .manual_journal_persist(true)
                .open()?;
            let pairs = database.keyspace("pairs", keyspace_options)?;
            Ok::<_, fjall::Error>(Open { database, pairs })
        })?;
        Ok(Self { open: Some(open), directory: directory.to_owned(), poison: Poison::default() })
    }

    /// Runs `call` and poisons the store if it fails or panics.
    fn with_open<T>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Open) -> fjall::Result<T>,
    ) -> Result<T, RecordStoreError> {
        self.poison.guard(action, || match &self.open {
            Some(open) => call(open),
            None => Err(fjall::Error::Poisoned),
        })
    }
}

impl Drop for FjallStore {
    fn drop(&mut self) {
        let flushed = self.flush();
        let open = self.open.take();
        if flushed.is_err() {
            mem::forget(open);
        }
    }
}

impl RecordStore for FjallStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
        let value = self.with_open("read a key", |open| open.pairs.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RecordStoreError> {
        if from >= to {
            return self.poison.check();
        }
        let mut pairs = self.with_open("start a scan", |open| Ok(open.pairs.range(from..to)))?;
        // Only the engine's own steps are guarded: a panic of the visitor is not the store's failure.
        while let Some((key, value)) =
            self.poison.guard("scan", || pairs.next().map(fjall::Guard::into_inner).transpose())?
        {
            if visit(&key, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError> {
        self.with_open("apply a batch", |open| {
            let mut operations = open.database.batch();
            for (key, value) in batch.operations {
                match value {
                    Some(value) => operations.insert(&open.pairs, key, value),
                    None => operations.remove(&open.pairs, key),
                }
            }
            operations.commit()
        })
    }

    fn flush(&self) -> Result<(), RecordStoreError> {
        self.with_open("flush", |open| open.database.persist(PersistMode::SyncData))
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        self.poison.guard("measure itself", || allocated_bytes(&self.directory))
    }
}
