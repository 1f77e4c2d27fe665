//! Opening a record store that gets nowhere.
//!
//! When sled's metadata and its leaves do not belong together, it was found to read one leaf again and again and to wait for
//! it to become another one. Such a store neither fails nor answers. So somebody watches while it is gone through, and
//! empties its files when nothing moves: the next read fails, and the store is rebuilt like one with any other damage.
//!
//! When a leaf is missing, sled looks for it in its neighbour, which it has in memory, and nothing that is done to the
//! files ends that. Then the thread is left to itself, and with it the store that it holds: this process cannot open
//! another one in its place, the next one finds its files empty and rebuilds them.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use steeple_engine::record_store::{self, RecordStore, RecordStoreError, Visit, WriteBatch};

use super::errors::StartError;

/// A store that does not finish a single step for so long is stuck.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// So many times that long for a flush, which writes all that was touched in one step.
const PATIENCES_OF_FLUSH: u32 = 30;

/// How often it is looked at, as a part of the patience. What counts are looks and not time, so that a process that was stopped for
/// a while does not take its store for stuck.
const LOOKS: u32 = 20;

/// What a store has done.
#[derive(Default)]
struct Progress {
    steps: AtomicU64,
    is_flushing: AtomicBool,
}

/// A store that tells what it has done.
struct Watched {
    store: Arc<dyn RecordStore>,
    progress: Arc<Progress>,
}

impl Watched {
    fn step(&self) {
        self.progress.steps.fetch_add(1, Ordering::Relaxed);
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
        self.progress.is_flushing.store(true, Ordering::Relaxed);
        let flushed = self.store.flush();
        self.progress.is_flushing.store(false, Ordering::Relaxed);
        self.step();
        flushed
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        self.store.disk_bytes()
    }
}

/// Works with a store that was just opened in `directory`, and makes it fail when it is stuck for `patience`, if it can be
/// replaced. When it cannot, or when even that does not move it, it is given up with whatever `work` holds.
pub(super) fn watch_over<T: Send + 'static>(
    directory: &Path,
    patience: Duration,
    store: Arc<dyn RecordStore>,
    is_replaceable: impl FnOnce() -> Result<(), StartError>,
    work: impl FnOnce(Arc<dyn RecordStore>) -> T + Send + 'static,
) -> Result<T, StartError> {
    let progress = Arc::new(Progress::default());
    let watched = Arc::new(Watched { store, progress: Arc::clone(&progress) });
    // Closed when the work is done, or has panicked.
    let (working, finished) = mpsc::channel::<()>();
    let worker = thread::Builder::new()
        .name("record store".into())
        .spawn(move || {
            let _working = working;
            work(watched)
        })
        .map_err(StartError::Thread)?;
    let join = || worker.join().unwrap_or_else(|panic| resume_unwind(panic));
    if !is_stuck(patience, &progress, &finished) {
        return Ok(join());
    }
    is_replaceable()?;
    tracing::warn!(?patience, "the record store is stuck; its files are emptied, so that it is rebuilt");
    if let Err(error) = record_store::ruin(directory) {
        tracing::error!(%error, "the files of the record store are not all empty");
    }
    if is_stuck(patience, &progress, &finished) {
        return Err(StartError::StuckStore { directory: directory.to_owned() });
    }
    // Whatever it found, it stands on nothing now.
    drop(join());
    let detail = "it was stuck, and its files were emptied".into();
    Err(RecordStoreError::Failed { action: "get on", detail }.into())
}

/// Waits until the work is finished, or nothing has moved for `patience`.
fn is_stuck(patience: Duration, progress: &Progress, finished: &mpsc::Receiver<()>) -> bool {
    let (mut seen, mut idle_looks) = (progress.steps.load(Ordering::Relaxed), 0);
    while finished.recv_timeout(patience / LOOKS) == Err(RecvTimeoutError::Timeout) {
        let now = progress.steps.load(Ordering::Relaxed);
        idle_looks = if now == seen { idle_looks + 1 } else { 0 };
        seen = now;
        let patiences = if progress.is_flushing.load(Ordering::Relaxed) { PATIENCES_OF_FLUSH } else { 1 };
        if idle_looks >= LOOKS * patiences {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io;
    use std::path::PathBuf;
    use std::sync::Weak;
    use std::time::Instant;

    use steeple_engine::record_store::MemoryStore;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);

    /// Spins until its file is empty, or, without a file, until its owner is gone. Takes long to flush.
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
            let began = Instant::now();
            while began.elapsed() < SHORT * 4 {
                thread::yield_now();
            }
            Ok(())
        }

        fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
            Ok(0)
        }
    }

    struct Fixture {
        directory: tempfile::TempDir,
        file: PathBuf,
        owner: Arc<()>,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("data").join("slab");
            fs::create_dir(directory.path().join("data")).unwrap();
            fs::write(&file, "leaf").unwrap();
            Self { directory, file, owner: Arc::new(()) }
        }

        /// Watches over a store that reads its file, or that no file can help.
        fn watch<T: Send + 'static>(
            &self,
            reads_file: bool,
            is_replaceable: impl FnOnce() -> Result<(), StartError>,
            work: impl FnOnce(Arc<dyn RecordStore>) -> T + Send + 'static,
        ) -> Result<T, StartError> {
            let file = reads_file.then(|| self.file.clone());
            let stuck = Stuck { file, owner: Arc::downgrade(&self.owner) };
            watch_over(self.directory.path(), SHORT, Arc::new(stuck), is_replaceable, work)
        }

        fn content(&self) -> Vec<u8> {
            fs::read(&self.file).unwrap()
        }
    }

    #[test]
    fn a_stuck_store_is_made_to_fail_and_nothing_that_it_finds_then_counts() {
        let fixture = Fixture::new();
        let read = fixture.watch(true, || Ok(()), |store| store.get(b"key").is_err());
        assert!(matches!(read, Err(StartError::Store(RecordStoreError::Failed { .. }))), "{read:?}");
        assert_eq!(fixture.content(), b"");
    }

    #[test]
    fn a_store_that_stays_stuck_is_given_up_with_empty_files() {
        let fixture = Fixture::new();
        let read = fixture.watch(false, || Ok(()), |store| store.get(b"key").is_ok());
        assert!(matches!(read, Err(StartError::StuckStore { .. })), "{read:?}");
        assert_eq!(fixture.content(), b"", "the next process must not find what stopped this one");
    }

    #[test]
    fn a_stuck_store_that_nothing_can_replace_is_left_as_it_is() {
        let fixture = Fixture::new();
        let refusal = || Err(StartError::Thread(io::Error::other("stands for a reason")));
        let read = fixture.watch(true, refusal, |store| store.get(b"key").is_ok());
        assert!(matches!(read, Err(StartError::Thread(_))), "{read:?}");
        assert_eq!(fixture.content(), b"leaf");
    }

    #[test]
    fn a_store_that_moves_or_flushes_is_left_alone_however_long_it_takes() {
        let fixture = Fixture::new();
        fixture.watch(true, || Ok(()), |store| store.flush().unwrap()).unwrap();
        let began = Instant::now();
        let work = move |store: Arc<dyn RecordStore>| {
            while began.elapsed() < SHORT * 4 {
                store.get(b"key").unwrap();
            }
        };
        let store = Arc::new(MemoryStore::new());
        watch_over(fixture.directory.path(), SHORT, store, || Ok(()), work).unwrap();
        assert_eq!(fixture.content(), b"leaf");
    }

    #[test]
    #[should_panic(expected = "a bug")]
    fn a_panic_passes_through() {
        drop(Fixture::new().watch(true, || Ok(()), |_| panic!("a bug")));
    }
}
