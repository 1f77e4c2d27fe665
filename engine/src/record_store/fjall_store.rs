//! The second record store: fjall, a log-structured merge tree.
//!
//! It is here so that nothing grows into the first one, and as the way out if that one has to go.
//!
//! It cuts a damaged journal at the damage and goes on without an error, and without its journal it even starts to
//! count its batches anew, so that new writes hide behind old ones. So each flush writes its number into a keyspace
//! of its own and beside the data: a store that comes back with an older number has lost something and is refused.
//! What this cannot notice, damage inside one of several journals, is left to the digest that the view keeps.
//!
//! Its destructor panics, or waits for ever, after one of its own threads has panicked. So a store that failed is
//! leaked and not closed.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

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
    /// Flushes come one at a time, because each has a number.
    flushing: Mutex<()>,
    poison: Poison,
    /// Last, so that it is given back after everything else is closed.
    claim: Claim,
}

struct Open {
    database: Database,
    pairs: Keyspace,
    /// Holds the number of the last flush.
    flushes: Keyspace,
}

/// The only key of the keyspace of flushes.
const LAST_FLUSH_KEY: &str = "last";

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
        let flushes = database.keyspace("flushes", KeyspaceCreateOptions::default)?;
        Ok(Self { database, pairs, flushes })
    }

    /// The number of the last flush; 0 before the first one.
    fn last_flush(&self) -> fjall::Result<u64> {
        let number = self.flushes.get(LAST_FLUSH_KEY)?;
        // Anything else than eight bytes was not written by us, and is as good as nothing.
        Ok(number.and_then(|number| Some(u64::from_le_bytes((*number).try_into().ok()?))).unwrap_or(0))
    }

    /// Makes all batches durable, and the number of the flush with them, which is returned.
    fn flush(&self) -> fjall::Result<u64> {
        let number = self.last_flush()? + 1;
        self.flushes.insert(LAST_FLUSH_KEY, number.to_le_bytes())?;
        self.database.persist(PersistMode::SyncData)?;
        Ok(number)
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
        if let Some(flushed) = &claim.flushed {
            catch("check what was flushed", || check_last_flush(&open, flushed))?;
        }
        Ok(Self { open: Some(open), flushing: Mutex::new(()), poison: Poison::default(), claim })
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

fn check_last_flush(open: &Open, flushed: &[u8]) -> Result<(), String> {
    let expected =
        flushed.try_into().map(u64::from_le_bytes).map_err(|_| "the mark of the last flush is not fjall's")?;
    let found = open.last_flush().map_err(|error| error.to_string())?;
    if found < expected {
        return Err(format!("it has come back as of flush {found}, and flush {expected} was the last"));
    }
    Ok(())
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
        let _flushing = self.flushing.lock();
        let number = self.with_open("flush", Open::flush)?;
        self.poison.guard("note a flush", || self.claim.mark.write(&number.to_le_bytes()))
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        // A directory that cannot be looked at says nothing about what the store holds.
        self.poison.check()?;
        catch("measure itself", || allocated_bytes(&self.claim.data))
    }
}
