//! Snapshots with history for followers that the log does not reach back to.
//!
//! One is made when a follower asks, and kept for others and for one that was interrupted, as long as the log goes on
//! where it ends; what was begun to be sent stays open until it is sent. The log keeps what follows it. When nobody
//! has asked for some time, it is deleted.

use std::fs::{self, File};
use std::io::{BufReader, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::LogReader;
use steeple_snapshot::{EncodedChunk, Manifest, Publication, ReadError, SnapshotId};

use super::work::Work;
use super::{Node, Shared};
use crate::peer::{BoxFuture, ProvideError, ServedFile, ServedSnapshot, SnapshotProvider};

/// How long a snapshot is kept that nobody reads: long enough for one who was interrupted to come back.
const KEPT: Duration = Duration::from_secs(300);

/// How often it is looked at, as a part of that.
const LOOKS: u32 = 10;

/// Stands for "no entry is wanted".
pub(super) const NOTHING_WANTED: u64 = u64::MAX;

/// The snapshots that a node has for others.
pub(super) struct Outgoing {
    shared: Weak<Shared>,
    /// Held while one is made, so that there is one at a time.
    slot: Slot,
    kept: Duration,
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Made>>>>;

impl Outgoing {
    /// Removes what an earlier run has left.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        if let Some(directory) = directory(shared)
            && let Err(error) = fs::remove_dir_all(&directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %directory.display(), "snapshots for followers are left over");
        }
        Self { shared: Arc::downgrade(shared), slot: Arc::default(), kept: KEPT }
    }

    async fn open_or_make(
        &self,
        begun: Option<SnapshotId>,
        minimum: LogIndex,
    ) -> Result<Box<dyn ServedSnapshot>, ProvideError> {
        let shared = self.shared.upgrade().ok_or_else(|| not_now("the node has stopped"))?;
        if shared.diverged.load(Ordering::SeqCst) {
            return Err(not_now("the records of this node are being rebuilt"));
        }
        let mut slot = self.slot.lock().await;
        let (log, folded) = (shared.core().log.clone(), shared.core().view.folded().index);
        if let Some(made) = slot.as_ref().filter(|made| made.is_of_use(minimum, &log)) {
            tracing::info!(snapshot = %made.manifest.id, resumed = begun == Some(made.manifest.id), "sending a snapshot");
            return made.open().await;
        }
        if folded < minimum {
            return Err(not_now(&format!("this node is at log index {folded}, {minimum} was asked for")));
        }
        *slot = None;
        // What follows the snapshot must be there when it has arrived.
        shared.wanted_from.store(folded.0, Ordering::SeqCst);
        let made = match make(&shared).await {
            Ok(made) => Arc::new(made),
            Err(error) => {
                metrics::counter!("steeple_snapshots_failed_total").increment(1);
                shared.wanted_from.store(NOTHING_WANTED, Ordering::SeqCst);
                return Err(error);
            }
        };
        metrics::counter!("steeple_snapshots_made_total").increment(1);
        tracing::info!(snapshot = %made.manifest.id, index = %made.manifest.state.index, "made a snapshot for followers");
        *slot = Some(Arc::clone(&made));
        shared.work.spawn(forget_unused(Arc::downgrade(&self.slot), Weak::clone(&self.shared), self.kept));
        made.open().await
    }
}

impl SnapshotProvider for Outgoing {
    fn open(
        &self,
        _to: NodeId,
        begun: Option<SnapshotId>,
        minimum: LogIndex,
    ) -> BoxFuture<'_, Result<Box<dyn ServedSnapshot>, ProvideError>> {
        Box::pin(self.open_or_make(begun, minimum))
    }
}

/// Where snapshots for followers are; `None` for a node in memory.
fn directory(shared: &Shared) -> Option<PathBuf> {
    shared.storage.directories().group().map(|group| group.join("outgoing"))
}

/// Takes a snapshot into a file that appears when it is whole, or into memory.
async fn make(shared: &Arc<Shared>) -> Result<Made, ProvideError> {
    let opened = match directory(shared) {
        None => Writing::Memory(Vec::new()),
        Some(directory) => {
            let path = directory.join(format!("{:032x}.snapshot", shared.random.bits()));
            let create = move || {
                fs::create_dir_all(&directory)?;
                Publication::create(&path).map(|publication| Writing::File(publication, path))
            };
            on_disk(&shared.work, create).await?
        }
    };
    let writing = Arc::new(Mutex::new(opened));
    let sink = {
        let (writing, work) = (Arc::clone(&writing), Arc::clone(&shared.work));
        move |bytes: Bytes| {
            let (writing, work) = (Arc::clone(&writing), Arc::clone(&work));
            async move { on_disk(&work, move || writing.lock().write(&bytes)).await.is_ok() }
        }
    };
    let taken = Node::unguarded(Arc::clone(shared)).snapshot(true, sink).await;
    let taken = taken.map_err(|error| not_now(&error.to_string()))?;
    let manifest = taken.ok_or_else(|| not_now("the snapshot cannot be written"))?.manifest;
    let Some(writing) = Arc::into_inner(writing) else { return Err(not_now("the snapshot is still being written")) };
    let place = on_disk(&shared.work, move || writing.into_inner().finish()).await?;
    let (work, used) = (Arc::clone(&shared.work), Mutex::new(shared.work.now()));
    Ok(Made { manifest, place, work, used })
}

/// A snapshot being written.
enum Writing {
    File(Publication, PathBuf),
    Memory(Vec<u8>),
}

impl Writing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::File(publication, _) => publication.write_all(bytes),
            Self::Memory(memory) => memory.write_all(bytes),
        }
    }

    fn finish(self) -> std::io::Result<Place> {
        match self {
            Self::File(publication, path) => publication.publish().map(|()| Place::File(path)),
            Self::Memory(memory) => Ok(Place::Memory(memory.into())),
        }
    }
}

/// A snapshot that was made; its file goes with the last one who uses it.
struct Made {
    manifest: Manifest,
    place: Place,
    work: Arc<Work>,
    /// When somebody was last known to use it.
    used: Mutex<Duration>,
}

enum Place {
    File(PathBuf),
    Memory(Bytes),
}

impl Made {
    fn note_use(&self) {
        *self.used.lock() = self.work.now();
    }

    /// Whether it reaches far enough and the log goes on where it ends.
    fn is_of_use(&self, minimum: LogIndex, log: &LogReader) -> bool {
        let end = self.manifest.state.index;
        end >= minimum && end.next() >= log.contiguous_from()
    }

    async fn open(self: &Arc<Self>) -> Result<Box<dyn ServedSnapshot>, ProvideError> {
        let made = Arc::clone(self);
        let open = move || -> Result<Box<dyn ServedSnapshot>, ReadError> {
            made.note_use();
            let served: Box<dyn ServedSnapshot> = match &made.place {
                Place::File(path) => Box::new(ServedFile::open(BufReader::new(File::open(path)?))?),
                Place::Memory(bytes) => Box::new(ServedFile::open(Cursor::new(bytes.clone()))?),
            };
            Ok(Box::new(InUse { served, made }))
        };
        let opened = self.work.blocking(open).await.map_err(|_| not_now("the node is stopping"))?;
        opened.map_err(|error| not_now(&format!("the snapshot cannot be read: {error}")))
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Place::File(path) = &self.place {
            remove(path);
        }
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(%error, path = %path.display(), "a snapshot for followers is left over until the next start");
    }
}

/// A snapshot that is being sent.
struct InUse {
    served: Box<dyn ServedSnapshot>,
    made: Arc<Made>,
}

impl ServedSnapshot for InUse {
    fn id(&self) -> SnapshotId {
        self.served.id()
    }

    fn chunk_count(&self) -> u64 {
        self.served.chunk_count()
    }

    fn go_to(&mut self, number: u64) -> Result<(), ReadError> {
        self.served.go_to(number)
    }

    fn next_chunk(&mut self) -> Result<Option<EncodedChunk>, ReadError> {
        self.made.note_use();
        self.served.next_chunk()
    }
}

/// Lets go of the snapshot once nobody has used it for some time.
async fn forget_unused(slot: Weak<tokio::sync::Mutex<Option<Arc<Made>>>>, shared: Weak<Shared>, kept: Duration) {
    loop {
        let Some(work) = shared.upgrade().map(|shared| Arc::clone(&shared.work)) else { return };
        work.sleep(kept / LOOKS).await;
        let (Some(slot), Some(shared)) = (slot.upgrade(), shared.upgrade()) else { return };
        let mut slot = slot.lock().await;
        let Some(made) = slot.as_ref() else { return };
        // Whoever sends it holds it too.
        if Arc::strong_count(made) == 1 && work.now().saturating_sub(*made.used.lock()) >= kept {
            *slot = None;
            shared.wanted_from.store(NOTHING_WANTED, Ordering::SeqCst);
            return;
        }
    }
}

async fn on_disk<T: Send + 'static>(
    disk: &Work,
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, ProvideError> {
    let done = disk.blocking(work).await.map_err(|_| not_now("the node is stopping"))?;
    done.map_err(|error| not_now(&format!("the snapshot cannot be written: {error}")))
}

fn not_now(reason: &str) -> ProvideError {
    ProvideError::NotNow(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use steeple_engine::record_store::MemoryStore;
    use steeple_snapshot::ChunkReceiver;

    use super::super::tests::create;
    use super::super::{NodeOptions, NodeParts};
    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(50);

    fn provider(node: &Node, kept: Duration) -> Outgoing {
        Outgoing { kept, ..Outgoing::new(&node.shared) }
    }

    async fn node(options: NodeOptions) -> Node {
        let node = Node::start(options, NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..300).await;
        node
    }

    async fn opened(
        outgoing: &Outgoing,
        begun: Option<SnapshotId>,
        minimum: LogIndex,
    ) -> Result<Box<dyn ServedSnapshot>, ProvideError> {
        outgoing.open(NodeId(2), begun, minimum).await
    }

    /// Takes all chunks, with an interruption after the first of them.
    async fn received(outgoing: &Outgoing) -> Vec<u8> {
        let mut receiver = ChunkReceiver::new(Vec::new(), u64::MAX);
        let mut first = opened(outgoing, None, LogIndex(1)).await.unwrap();
        receiver.accept(&first.next_chunk().unwrap().unwrap()).unwrap();
        drop(first);
        let mut rest = opened(outgoing, receiver.snapshot(), LogIndex(1)).await.unwrap();
        assert_eq!(Some(rest.id()), receiver.snapshot(), "it is still the same");
        rest.go_to(receiver.next_number()).unwrap();
        while let Some(chunk) = rest.next_chunk().unwrap() {
            receiver.accept(&chunk).unwrap();
        }
        assert!(receiver.is_complete());
        receiver.into_inner()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_is_sent_with_history_and_goes_on_after_an_interruption() {
        let data = tempfile::tempdir().unwrap();
        for options in [NodeOptions::at(data.path()), NodeOptions::in_memory()] {
            let node = node(options).await;
            let file = received(&provider(&node, LONG)).await;
            let manifest = steeple_snapshot::load_base(&file[..], &MemoryStore::new()).unwrap();
            assert!(manifest.includes_history);
            assert_eq!((manifest.state, manifest.events), (node.view().folded(), node.revision().0));
            node.stop().await;
        }
        assert_eq!(files(data.path()), 0, "none is left when the provider has gone");
    }

    fn files(data: &Path) -> usize {
        fs::read_dir(data.join("group-0").join("outgoing")).map_or(0, Iterator::count)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_that_does_not_reach_far_enough_is_made_anew() {
        let data = tempfile::tempdir().unwrap();
        let node = node(NodeOptions::at(data.path())).await;
        let outgoing = provider(&node, LONG);
        let first = opened(&outgoing, None, LogIndex(1)).await.unwrap();
        let last = node.log().last().index;
        let namespace = node.namespace("test").unwrap();
        create(&node, namespace, 300..310).await;
        let beyond = node.log().last().index.next();
        assert!(matches!(opened(&outgoing, None, beyond).await, Err(ProvideError::NotNow(_))));
        assert_eq!(opened(&outgoing, None, last).await.unwrap().id(), first.id());
        let second = opened(&outgoing, Some(first.id()), last.next()).await.unwrap();
        assert_ne!(second.id(), first.id());
        assert_eq!(files(data.path()), 2, "the first one is still being sent");
        drop(first);
        assert_eq!(files(data.path()), 1);
        node.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_that_nobody_uses_is_deleted_and_the_log_let_go() {
        let data = tempfile::tempdir().unwrap();
        let node = node(NodeOptions::at(data.path())).await;
        let outgoing = provider(&node, SHORT);
        let served = opened(&outgoing, None, LogIndex(1)).await.unwrap();
        tokio::time::sleep(SHORT * 4).await;
        assert_eq!(files(data.path()), 1, "it is being sent");
        assert!(node.shared.wanted_from.load(Ordering::SeqCst) <= node.log().last().index.0);
        drop(served);
        let gone = async {
            while files(data.path()) > 0 || node.shared.wanted_from.load(Ordering::SeqCst) != NOTHING_WANTED {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
        node.stop().await;
    }
}
