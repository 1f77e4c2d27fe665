//! The default record store: sled 1.0 alpha.
//!
//! What was learnt about that release and shapes this file:
//!
//! - Ranges with an end walk on to the end of the tree after the last hit, so a scan opens its range and stops by
//!   hand.
//! - `Db` is `Clone` and not `Sync`: readers borrow a clone from a pool.
//! - A batch is atomic within one tree only, so there is one tree. Batches of several writers can deadlock, so
//!   there is one writer at a time.
//! - When no flush interval is set, dropping *any* clone of the database, and every iterator holds one, flushes.
//!   So an interval is set that never passes; flushing stays in our hands.
//! - The thread that comes with the interval aborts the whole process when the last flush, on closing, fails. So a
//!   store that failed is leaked, never closed: its memory and some 80 open files are the price until the process ends.
//! - Opening runs the `sync` program, which writes out the whole machine; where there is none it goes on without.
//! - A leaf that was written stays in memory until the store is closed, whatever the size of the cache.
//! - Leaves that batches have emptied stay, and a scan walks over them: about 2 µs each, 40 µs when they have to be
//!   read first.
//! - A flush writes every leaf that was touched, whole. So it costs little after appending and much after changes
//!   all over the store; it belongs on a thread of its own.
//! - Every slot on disk carries a CRC32 that is checked on reading, so values need no checksum of ours. Its metadata
//!   logs do need guarding: see [`super::sled_metadata`].

use std::io;
use std::mem;

use bytes::Bytes;
use parking_lot::Mutex;

use super::directory::{Claim, allocated_bytes, retry_while_locked};
use super::poison::{Poison, catch};
use super::sled_metadata::SledMetadata;
use super::{RecordStore, RecordStoreError, RecordStoreOptions, Visit, WriteBatch};

/// Keys per leaf, a part of the file format. Large leaves make flushes and cold reads slow.
pub(super) const LEAF_FANOUT: usize = 128;

/// Long enough never to pass: 100 years.
const FLUSH_INTERVAL_MS: usize = 100 * 365 * 24 * 3600 * 1000;

/// Fast rather than small: it runs on the thread that flushes, and on every cold read.
const ZSTD_LEVEL: i32 = 1;

type Database = sled::Db<LEAF_FANOUT>;

/// A record store in a directory, kept by sled.
pub(super) struct SledStore {
    /// Taken only when the store is dropped.
    clones: Option<Mutex<Clones>>,
    /// Batches are applied one at a time.
    applying: Mutex<()>,
    /// Flushes come one at a time, because each has to note what it did.
    metadata: Mutex<SledMetadata>,
    poison: Poison,
    /// Last, so that it is given back after everything else is closed.
    claim: Claim,
}

/// The database and the clones of it that nobody is using now.
struct Clones {
    original: Database,
    /// Boxed, because a database is a value of several kilobytes and each read takes one out and puts it back.
    idle: Vec<Box<Database>>,
}

/// A clone of the database; given back to the pool unless the store has failed meanwhile.
struct Borrowed<'a> {
    /// Taken only when the guard is dropped.
    database: Option<Box<Database>>,
    store: &'a SledStore,
}

impl SledStore {
    /// Opens the store in a directory, or creates it.
    pub(super) fn open(claim: Claim, options: &RecordStoreOptions) -> Result<Self, RecordStoreError> {
        let config = sled::Config::new()
            .path(&claim.data)
            .cache_capacity_bytes(options.cache_bytes)
            .flush_every_ms(Some(FLUSH_INTERVAL_MS))
            .zstd_compression_level(ZSTD_LEVEL);
        let metadata = SledMetadata::new(&claim.data);
        if let Some(flushed) = &claim.flushed {
            catch("check what was flushed", || metadata.check(flushed))?;
        }
        catch("complete its metadata", || metadata.complete())?;
        let original = retry_while_locked(&claim.data, || {
            catch("open", || match config.open::<LEAF_FANOUT>() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                outcome => outcome.map(Some),
            })
        });
        // The directory is claimed, so nobody else works with it: what holds its files is a store of this process that has
        // failed and was leaked.
        let original = original.map_err(|error| match error {
            RecordStoreError::InUse { .. } => {
                RecordStoreError::failed("open", &"a store of this process that has failed still holds its files")
            }
            error => error,
        })?;
        Ok(Self {
            clones: Some(Mutex::new(Clones { original, idle: Vec::new() })),
            applying: Mutex::new(()),
            metadata: Mutex::new(metadata),
            poison: Poison::default(),
            claim,
        })
    }

    fn borrow(&self) -> Borrowed<'_> {
        let database = self.clones.as_ref().map(|clones| {
            let mut clones = clones.lock();
            clones.idle.pop().unwrap_or_else(|| Box::new(clones.original.clone()))
        });
        Borrowed { database, store: self }
    }

    /// Runs `call` on a clone of the database and poisons the store if it fails or panics.
    fn with_database<T>(
        &self,
        action: &'static str,
        call: impl FnOnce(&Database) -> io::Result<T>,
    ) -> Result<T, RecordStoreError> {
        self.poison.check()?;
        let borrowed = self.borrow();
        self.poison.guard(action, || match &borrowed.database {
            Some(database) => call(database),
            None => Err(io::Error::other("the store is closed")),
        })
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        let (Some(database), Some(clones)) = (self.database.take(), &self.store.clones) else { return };
        if self.store.poison.is_set() {
            // Whatever it was doing when it failed, its destructor must not go on with it.
            mem::forget(database);
        } else {
            clones.lock().idle.push(database);
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // Closing flushes, and a flush that fails there takes the process down. So it is tried here first.
        let flushed = self.flush();
        let clones = self.clones.take();
        if flushed.is_err() {
            mem::forget(clones);
        }
    }
}

impl RecordStore for SledStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
        let value = self.with_database("read a key", |database| database.get(key))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError> {
        let mut pairs = self.with_database("start a scan", |database| Ok(database.range(from..)))?;
        loop {
            // Only the engine's own steps are guarded: a panic of the visitor is not the store's failure.
            match self.poison.guard("scan", || pairs.next().transpose()) {
                Ok(Some((key, value))) if &*key < to => {
                    if visit(&key, &value).is_break() {
                        return Ok(());
                    }
                }
                Ok(_) => return Ok(()),
                Err(error) => {
                    mem::forget(pairs);
                    return Err(error);
                }
            }
        }
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError> {
        let mut operations = sled::Batch::default();
        for (key, value) in batch.operations {
            match value {
                Some(value) => operations.insert(key, value),
                None => operations.remove(key),
            }
        }
        let _applying = self.applying.lock();
        self.with_database("apply a batch", |database| database.apply_batch(operations))
    }

    fn flush(&self) -> Result<(), RecordStoreError> {
        let mut metadata = self.metadata.lock();
        self.with_database("flush", |database| {
            database.flush()?;
            self.claim.mark.write(&metadata.seal()?)
        })
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        // A directory that cannot be looked at says nothing about what the store holds.
        self.poison.check()?;
        catch("measure itself", || allocated_bytes(&self.claim.data))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::super::{RecordStoreKind, SLED_MARKER, destroy, directory, open};
    use super::*;

    #[test]
    fn a_store_that_has_failed_and_is_leaked_is_replaced_and_not_taken_for_one_in_use() {
        let place = tempfile::tempdir().unwrap();
        let claim = || directory::claim(place.path(), SLED_MARKER);
        let options = RecordStoreOptions::default();
        let failed = SledStore::open(claim().unwrap(), &options).unwrap();
        failed.poison.set(&RecordStoreError::failed("flush", &"a slot is lost"));
        drop(failed);
        let again = SledStore::open(claim().unwrap(), &options).err().unwrap();
        assert!(matches!(again, RecordStoreError::Failed { action: "open", .. }), "{again}");
        destroy(place.path()).unwrap();
        let anew = open(RecordStoreKind::Sled, place.path(), &options).unwrap();
        assert!(anew.get(b"key").unwrap().is_none());
        anew.flush().unwrap();
        assert!(matches!(claim(), Err(RecordStoreError::InUse { .. })), "this one is in use");
    }

    /// Leaves what a kill leaves while the store opens: sled has folded its metadata logs into a snapshot and removed
    /// them, the next log is not there yet, and nothing was flushed since.
    fn open_half(place: &Path, open: impl Fn() -> SledStore) {
        let flushed = fs::read(place.join("FLUSHED")).unwrap();
        drop(open());
        fs::write(place.join("FLUSHED"), flushed).unwrap();
        for entry in fs::read_dir(place.join("data/metadata")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("log_") {
                fs::remove_file(path).unwrap();
            }
        }
    }

    fn fill(store: &SledStore, keys: std::ops::Range<u32>) {
        let mut batch = WriteBatch::default();
        keys.for_each(|key| batch.put(key.to_be_bytes(), [7; 64]));
        store.apply(batch).unwrap();
        store.flush().unwrap();
    }

    #[test]
    fn a_kill_between_two_metadata_logs_loses_nothing() {
        let place = tempfile::tempdir().unwrap();
        let open = || {
            let claim = directory::claim(place.path(), SLED_MARKER).unwrap();
            SledStore::open(claim, &RecordStoreOptions::default()).unwrap()
        };
        fill(&open(), 0..1_000);
        open_half(place.path(), open);
        fill(&open(), 1_000..2_000);
        let mut keys = 0;
        let count = &mut |_: &[u8], _: &[u8]| {
            keys += 1;
            ControlFlow::Continue(())
        };
        open().scan(&[], &[u8::MAX; 5], count).unwrap();
        assert_eq!(keys, 2_000);
    }
}
