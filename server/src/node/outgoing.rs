//! Snapshots with history for followers that the log does not reach back to.
//!
//! One is made when a follower asks, and kept for others and for one that was interrupted, as long as the log goes on
//! where it ends; what was begun to be sent stays open until it is sent. The log keeps what follows it. When nobody
//! has asked for some time, it is deleted.

use std::fs::{self, File};
use std::io::{BufReader, Cursor, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_engine::log::LogReader;
use steeple_snapshot::{EncodedChunk, Manifest, Publication, ReadError, SnapshotId};
use tokio::sync::watch;

use super::work::Work;
use super::{Node, Shared};
use crate::peer::{BoxFuture, ProvideError, ServedFile, ServedSnapshot, SnapshotProvider};

/// How long a snapshot is kept that nobody reads: long enough for one who was interrupted to come back.
const KEPT: Duration = Duration::from_secs(300);

/// How often it is looked at, as a part of that.
const LOOKS: u32 = 10;

/// Stands for "no entry is wanted".
pub(super) const NOTHING_WANTED: u64 = u64::MAX;

/// How long whoever asks waits for one that is being made, before it is told to ask again.
const MAKING_PATIENCE: Duration = Duration::from_secs(5);

/// The snapshots that a node has for others.
pub(super) struct Outgoing {
    shared: Weak<Shared>,
    slot: Slot,
    wanted: Arc<AllWanted>,
    kept: Duration,
    patience: Duration,
}

type Slot = Arc<Mutex<Kept>>;

/// Says how making a snapshot went; gone when it was broken off.
type Making = watch::Receiver<Option<Result<(), ProvideError>>>;

/// The newest snapshot, or that it is being made: there is one at a time.
#[derive(Default)]
struct Kept {
    made: Option<Arc<Made>>,
    making: Option<Making>,
}

impl Outgoing {
    /// Removes what an earlier run has left.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        if let Some(directory) = directory(shared)
            && let Err(error) = fs::remove_dir_all(&directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %directory.display(), "snapshots for followers are left over");
        }
        let wanted = Arc::new(AllWanted { shared: Arc::downgrade(shared), from: Mutex::default() });
        let shared = Arc::downgrade(shared);
        Self { shared, slot: Arc::default(), wanted, kept: KEPT, patience: MAKING_PATIENCE }
    }

    async fn open_or_make(
        &self,
        begun: Option<SnapshotId>,
        minimum: LogIndex,
    ) -> Result<Box<dyn ServedSnapshot>, ProvideError> {
        let made = match self.find_or_begin(minimum)? {
            Found::Made(made) => made,
            Found::Making(making) => {
                self.wait_for(making).await?;
                // It may have stopped, or gone on so far that another one is needed.
                match self.find_or_begin(minimum)? {
                    Found::Made(made) => made,
                    Found::Making(_) => return Err(ProvideError::BeingMade),
                }
            }
        };
        tracing::info!(snapshot = %made.manifest.id, resumed = begun == Some(made.manifest.id), "sending a snapshot");
        made.open().await
    }

    async fn wait_for(&self, mut making: Making) -> Result<(), ProvideError> {
        let work = self.shared.upgrade().map(|shared| Arc::clone(&shared.work)).ok_or_else(stopped)?;
        match work.within(self.patience, making.wait_for(Option::is_some)).await {
            None => Err(ProvideError::BeingMade),
            Some(Err(_)) => Err(not_now("making a snapshot was broken off")),
            Some(Ok(outcome)) => outcome.clone().unwrap_or(Ok(())),
        }
    }

    /// The snapshot that is there, or the one that is being made, begun now if need be.
    fn find_or_begin(&self, minimum: LogIndex) -> Result<Found, ProvideError> {
        let shared = self.shared.upgrade().ok_or_else(stopped)?;
        if shared.diverged.load(Ordering::SeqCst) {
            return Err(not_now("the records of this node are being made anew"));
        }
        let (log, folded) = (shared.core().log.clone(), shared.core().view.folded().index);
        let mut slot = self.slot.lock();
        if let Some(made) = slot.made.as_ref().filter(|made| made.is_of_use(minimum, &log)) {
            return Ok(Found::Made(Arc::clone(made)));
        }
        if let Some(making) = slot.making.as_ref().filter(|making| making.has_changed().is_ok()) {
            return Ok(Found::Making(making.clone()));
        }
        if folded < minimum {
            return Err(not_now(&format!("this node is at log index {folded}, {minimum} was asked for")));
        }
        slot.made = None;
        let (ended, making) = watch::channel(None);
        slot.making = Some(making.clone());
        // What follows the snapshot must be there when it has arrived.
        let wanted = Wanted::new(&self.wanted, folded);
        shared.work.spawn(make_beside(Arc::clone(&shared), Arc::clone(&self.slot), self.kept, wanted, ended));
        Ok(Found::Making(making))
    }
}

enum Found {
    Made(Arc<Made>),
    Making(Making),
}

/// Makes a snapshot, whether or not anybody waits for it, and puts it into the slot.
async fn make_beside(
    shared: Arc<Shared>,
    slot: Slot,
    kept: Duration,
    wanted: Wanted,
    ended: watch::Sender<Option<Result<(), ProvideError>>>,
) {
    let outcome = match make(&shared, wanted).await {
        Ok(made) => {
            metrics::counter!("steeple_snapshots_made_total").increment(1);
            let (snapshot, index) = (made.manifest.id, made.manifest.state.index);
            tracing::info!(%snapshot, %index, "made a snapshot for followers");
            slot.lock().made = Some(Arc::new(made));
            shared.work.spawn(forget_unused(Arc::clone(&shared.work), Arc::downgrade(&slot), kept));
            Ok(())
        }
        Err(error) => {
            metrics::counter!("steeple_snapshots_failed_total").increment(1);
            tracing::warn!(%error, "no snapshot was made for followers");
            Err(error)
        }
    };
    slot.lock().making = None;
    ended.send_replace(Some(outcome));
}

/// From where on the log is wanted by those who get snapshots.
struct AllWanted {
    shared: Weak<Shared>,
    /// For each snapshot that is made, kept or sent.
    from: Mutex<Vec<LogIndex>>,
}

impl AllWanted {
    fn change(&self, change: impl FnOnce(&mut Vec<LogIndex>)) {
        let mut from = self.from.lock();
        change(&mut from);
        if let Some(shared) = self.shared.upgrade() {
            let lowest = from.iter().min().map_or(NOTHING_WANTED, |lowest| lowest.0);
            shared.wanted_from.store(lowest, Ordering::SeqCst);
        }
    }
}

/// Keeps the log from an entry on, until it is dropped.
struct Wanted {
    all: Arc<AllWanted>,
    from: LogIndex,
}

impl Wanted {
    fn new(all: &Arc<AllWanted>, from: LogIndex) -> Self {
        all.change(|wanted| wanted.push(from));
        Self { all: Arc::clone(all), from }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.all.change(|wanted| {
            if let Some(place) = wanted.iter().position(|from| *from == self.from) {
                wanted.swap_remove(place);
            }
        });
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
async fn make(shared: &Arc<Shared>, wanted: Wanted) -> Result<Made, ProvideError> {
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
    Ok(Made { manifest, place, work, used, _wanted: wanted })
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
    _wanted: Wanted,
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
            // It takes a while to give a large file back, and whoever lets go of it last may be the group's thread. Where
            // nothing is done in the background any more, it goes with the task.
            let (removed, work) = (Removed(path.clone()), Arc::clone(&self.work));
            self.work.spawn(async move { drop(work.blocking(move || drop(removed)).await) });
        }
    }
}

/// A file that goes when this does.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a snapshot for followers is left over until the next start");
        }
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
async fn forget_unused(work: Arc<Work>, slot: Weak<Mutex<Kept>>, kept: Duration) {
    loop {
        work.sleep(kept / LOOKS).await;
        let Some(slot) = slot.upgrade() else { return };
        let mut slot = slot.lock();
        let Some(made) = slot.made.as_ref() else { return };
        // Whoever sends it holds it too.
        if Arc::strong_count(made) == 1 && work.now().saturating_sub(*made.used.lock()) >= kept {
            slot.made = None;
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

fn stopped() -> ProvideError {
    not_now("the node has stopped")
}

fn not_now(reason: &str) -> ProvideError {
    ProvideError::NotNow(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

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
        until_files(data.path(), 0).await;
    }

    fn files(data: &Path) -> usize {
        fs::read_dir(data.join("group-0").join("outgoing")).map_or(0, Iterator::count)
    }

    /// Waits until so many are left: they are removed in the background.
    async fn until_files(data: &Path, count: usize) {
        let counted = async {
            while files(data) != count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), counted).await.expect("those that nobody uses go");
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
        let wanted = || node.shared.wanted_from.load(Ordering::SeqCst);
        assert!(wanted() <= last.0, "the log is kept for the one that reaches less far");
        drop(first);
        assert!(wanted() > last.0);
        until_files(data.path(), 1).await;
        node.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_takes_long_is_made_whether_or_not_anybody_waits() {
        let node = node(NodeOptions::in_memory()).await;
        let outgoing = Outgoing { patience: Duration::ZERO, ..Outgoing::new(&node.shared) };
        let alone = Arc::clone(&node.shared.maintenance).lock_owned().await;
        for _ in 0..3 {
            assert_eq!(opened(&outgoing, None, LogIndex(1)).await.err(), Some(ProvideError::BeingMade));
        }
        let wanted = || node.shared.wanted_from.load(Ordering::SeqCst);
        assert_eq!(wanted(), node.view().folded().index.0, "the log is kept meanwhile");
        drop(alone);
        let made = async {
            loop {
                match opened(&outgoing, None, LogIndex(1)).await {
                    Err(ProvideError::BeingMade) => tokio::task::yield_now().await,
                    made => return made.unwrap(),
                }
            }
        };
        let made = tokio::time::timeout(Duration::from_secs(20), made).await.unwrap();
        assert_eq!(opened(&outgoing, None, LogIndex(1)).await.unwrap().id(), made.id(), "it was made once");
        node.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_that_cannot_be_made_lets_the_log_go() {
        let node = node(NodeOptions::in_memory()).await;
        let outgoing = Outgoing { patience: Duration::ZERO, ..Outgoing::new(&node.shared) };
        let alone = Arc::clone(&node.shared.maintenance).lock_owned().await;
        assert_eq!(opened(&outgoing, None, LogIndex(1)).await.err(), Some(ProvideError::BeingMade));
        node.shared.fail("stopped by the test".into());
        drop(alone);
        let let_go = async {
            while node.shared.wanted_from.load(Ordering::SeqCst) != NOTHING_WANTED {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), let_go).await.unwrap();
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
