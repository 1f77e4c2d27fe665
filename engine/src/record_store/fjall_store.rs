//! The second record store: fjall, a log-structured merge tree.
//!
//! It is here so that nothing grows into the first one, and as the way out if that one has to go. What a caller
//! must know: a damaged journal is *cut at the damage without an error*, so a store may come back as an earlier
//! state than the one last flushed. The view finds out by the folded revision it keeps inside the store (it replays
//! from there) and by its digest; a folded revision older than everything the log still has means "rebuild".
//!
//! Its destructor panics, or waits for ever, after one of its own threads has panicked. So a store that failed is
//! leaked and not closed.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::directory::{Claim, allocated_bytes, retry_while_locked};
use super::poison::{Poison, catch};
use super::{RecordStore, RecordStoreError, RecordStoreOptions, Visit, WriteBatch};

/// Flushes of memory tables and compactions run there, besides the thread that applies.
const WORKER_THREADS: usize = 1;

/// The least that fjall takes; a journal is rebuilt on opening, so a small one keeps that short.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// A record store in a directory, kept by fjall.
pub(super) struct FjallStore {
    /// Taken only when the store is dropped.
    open: Option<Open>,
    poison: Poison,
    /// Last, so that it is given back after everything else is closed.
    claim: Claim,
}

struct Open {
    database: Database,
    pairs: Keyspace,
}

impl Open {
    fn new(directory: &Path, options: &RecordStoreOptions) -> fjall::Result<Self> {
        let database = Database::builder(directory)
            .cache_size(options.cache_bytes as u64)
            .worker_threads(WORKER_THREADS)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            // Batches reach the disk with a flush, as with the other stores.
            .manual_journal_persist(true)
            .open()?;
        let keyspace_options = || KeyspaceCreateOptions::default().max_memtable_size(options.write_buffer_bytes);
        let pairs = database.keyspace("pairs", keyspace_options)?;
        Ok(Self { database, pairs })
    }
}

impl FjallStore {
    /// Opens the store in a directory, or creates it.
    pub(super) fn open(claim: Claim, options: &RecordStoreOptions) -> Result<Self, RecordStoreError> {
        let open = retry_while_locked(&claim.data, || {
            catch("open", || match Open::new(&claim.data, options) {
                Err(fjall::Error::Locked) => Ok(None),
                outcome => outcome.map(Some),
            })
        })?;
        Ok(Self { open: Some(open), poison: Poison::default(), claim })
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

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError> {
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
            // All of a batch gets one sequence number there, so two operations on a key would have no order.
            let last_of_each_key: BTreeMap<_, _> = batch.operations.into_iter().collect();
            for (key, value) in last_of_each_key {
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
        self.poison.guard("measure itself", || allocated_bytes(&self.claim.data))
    }
}
