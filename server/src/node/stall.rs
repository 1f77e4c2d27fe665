//! Opening a record store that gets nowhere.
//!
//! After a crash in the middle of a flush, sled was found to read one leaf again and again: what its metadata says and
//! what the leaf says differ, and it waits for them to agree. Such a store neither fails nor answers. So somebody
//! watches while it is gone through, and empties its files when nothing moves: the next read fails, and the store is
//! rebuilt like one with any other damage.
//!
//! When a leaf is missing, sled looks for it in its neighbour, which it has in memory, and nothing that is done to the
//! files ends that. Then the thread is left to itself, and with it the store that it holds: this process cannot open
//! another one in its place, the next one finds its files empty and rebuilds them.

use std::fs::{self, OpenOptions};
use std::io;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use steeple_engine::record_store::{RecordStore, RecordStoreError, Visit, WriteBatch};

use super::errors::StartError;

/// A store that does not finish a single step for so long is stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at, as a part of the patience.
const LOOKS: u32 = 20;

/// A store that counts what it has done.
struct Watched {
    store: Arc<dyn RecordStore>,
    steps: Arc<AtomicU64>,
}

impl Watched {
    fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

impl RecordStore for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
        let value = self.store.get(key);
        self.step();
        value
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError> {
        self.store.scan(from, to, &mut |key, value| {
            self.step();
            visit(key, value)
        })
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError> {
        let applied = self.store.apply(batch);
        self.step();
        applied
    }

    fn flush(&self) -> Result<(), RecordStoreError> {
        self.store.flush()
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        self.store.disk_bytes()
    }
}

/// Works with a store that was just opened in `directory`, and makes it fail when it is stuck for `patience`. When even
/// that does not move it, it is given up for good, with whatever `work` holds.
pub(super) fn watch_over<T: Send + 'static>(
    directory: &Path,
    patience: Duration,
    store: Arc<dyn RecordStore>,
    work: impl FnOnce(Arc<dyn RecordStore>) -> T + Send + 'static,
) -> Result<T, StartError> {
    let steps = Arc::new(AtomicU64::new(0));
    let watched = Arc::new(Watched { store, steps: Arc::clone(&steps) });
    // Closed when the work is done, or has panicked.
    let (working, finished) = mpsc::channel::<()>();
    let worker = thread::Builder::new()
        .name("record store".into())
        .spawn(move || {
            let _working = working;
            work(watched)
        })
        .map_err(StartError::Thread)?;
    if is_stuck(patience, &steps, &finished) {
        tracing::warn!(?patience, "the record store is stuck; its files are emptied, so that it is rebuilt");
        if let Err(error) = empty_files(directory) {
            tracing::error!(%error, "a file of the record store cannot be emptied; end the process and delete it");
        }
        if is_stuck(patience, &steps, &finished) {
            return Err(StartError::StuckStore { directory: directory.to_owned() });
        }
    }
    Ok(worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// Waits until the work is finished, or nothing has moved for `patience`.
fn is_stuck(patience: Duration, steps: &AtomicU64, finished: &mpsc::Receiver<()>) -> bool {
    let (mut seen, mut since) = (steps.load(Ordering::Relaxed), Instant::now());
    while finished.recv_timeout(patience / LOOKS) == Err(RecvTimeoutError::Timeout) {
        let now = steps.load(Ordering::Relaxed);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= patience {
            return true;
        }
    }
    false
}

/// Leaves nothing in the files below a directory. Unlike removed ones, they cannot be read any more by who has them open.
fn empty_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            empty_files(&entry.path())?;
        } else {
            OpenOptions::new().write(true).open(entry.path())?.set_len(0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Weak;

    use steeple_engine::record_store::MemoryStore;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    /// Spins until its file is empty, or, without a file, until its owner is gone.
    struct Stuck {
        file: Option<PathBuf>,
        owner: Weak<()>,
    }

    impl RecordStore for Stuck {
        fn get(&self, _: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
            let is_empty = |file: &PathBuf| fs::metadata(file).unwrap().len() == 0;
            while self.owner.strong_count() > 0 && !self.file.as_ref().is_some_and(is_empty) {
                thread::yield_now();
            }
            Err(RecordStoreError::Failed { action: "read a key", detail: "the end of the file".into() })
        }

        fn scan(&self, _: &[u8], _: &[u8], _: &mut Visit<'_>) -> Result<(), RecordStoreError> {
            self.get(&[]).map(|_| ())
        }

        fn apply(&self, _: WriteBatch) -> Result<(), RecordStoreError> {
            Ok(())
        }

        fn flush(&self) -> Result<(), RecordStoreError> {
            Ok(())
        }

        fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
            Ok(0)
        }
    }

    #[test]
    fn a_stuck_store_is_made_to_fail() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("data").join("slab");
        fs::create_dir(directory.path().join("data")).unwrap();
        fs::write(&file, "leaf").unwrap();
        let owner = Arc::new(());
        let stuck = Stuck { file: Some(file), owner: Arc::downgrade(&owner) };
        let read = watch_over(directory.path(), SHORT, Arc::new(stuck), |store| store.get(b"key")).unwrap();
        assert!(matches!(read, Err(RecordStoreError::Failed { .. })), "{read:?}");
    }

    #[test]
    fn a_store_that_stays_stuck_is_given_up_with_empty_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("slab");
        fs::write(&file, "leaf").unwrap();
        let owner = Arc::new(());
        let stuck = Stuck { file: None, owner: Arc::downgrade(&owner) };
        let read = watch_over(directory.path(), SHORT, Arc::new(stuck), |store| store.get(b"key").is_ok());
        assert!(
            matches!(&read, Err(StartError::StuckStore { directory: told }) if told == directory.path()),
            "{read:?}"
        );
        assert_eq!(fs::read(&file).unwrap(), b"", "the next process must not find what stopped this one");
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_passes_through() {
        let directory = tempfile::tempdir().unwrap();
        drop(watch_over(directory.path(), SHORT, Arc::new(MemoryStore::new()), |_| panic!("a bug")));
    }

    #[test]
    fn a_store_that_moves_is_left_alone_however_long_it_takes() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("slab");
        fs::write(&file, "leaf").unwrap();
        let began = Instant::now();
        let work = move |store: Arc<dyn RecordStore>| {
            while began.elapsed() < SHORT * 4 {
                store.get(b"key").unwrap();
            }
        };
        watch_over(directory.path(), SHORT, Arc::new(MemoryStore::new()), work).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"leaf");
    }
}
