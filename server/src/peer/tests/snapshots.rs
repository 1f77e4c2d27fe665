//! Snapshots from one node to another.

use std::fs::{self, OpenOptions};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use steeple_engine::ids::{LogIndex, NodeId};
use steeple_snapshot::publish::partial_path;
use steeple_snapshot::{EncodedChunk, ReadError, SnapshotId};

use super::super::snapshots::{ProvideError, ServedFile, ServedSnapshot};
use super::super::{
    BoxFuture, FetchError, FetchOptions, FetchedSnapshot, LocalHub, SendOptions, SnapshotProvider, Transport,
    WantedSnapshot,
};
use super::support::{Notes, ONE, Served, TWO, identity, transport_with};

const GOLDEN: &[u8] = include_bytes!("../../../../snapshot/testdata/golden/snapshot-v1.bin");
const ANY: WantedSnapshot = WantedSnapshot { minimum: LogIndex(1) };

/// Serves the golden snapshot and notes from which chunk on it was asked for. Breaks off before a chunk, once.
struct Golden {
    breaks: Arc<AtomicU64>,
    starts: Arc<Mutex<Vec<u64>>>,
    begun: Mutex<Vec<Option<SnapshotId>>>,
    refusal: Option<ProvideError>,
    /// How often it is asked for before one that is being made is there.
    made_after: usize,
}

impl Golden {
    fn new() -> Self {
        let breaks = Arc::new(AtomicU64::new(u64::MAX));
        Self { breaks, starts: Arc::default(), begun: Mutex::default(), refusal: None, made_after: 0 }
    }

    fn breaking_before(number: u64) -> Self {
        let golden = Self::new();
        golden.breaks.store(number, Ordering::SeqCst);
        golden
    }
}

impl SnapshotProvider for Golden {
    fn open(
        &self,
        _to: NodeId,
        begun: Option<SnapshotId>,
        _minimum: LogIndex,
    ) -> BoxFuture<'_, Result<Box<dyn ServedSnapshot>, ProvideError>> {
        self.begun.lock().push(begun);
        let file = ServedFile::open(Cursor::new(GOLDEN)).expect("the golden file is whole");
        let served = Breaking { file, number: 0, breaks: Arc::clone(&self.breaks), starts: Arc::clone(&self.starts) };
        let asked = self.begun.lock().len();
        let refusal =
            self.refusal.clone().filter(|refusal| *refusal != ProvideError::BeingMade || asked <= self.made_after);
        let opened: Result<Box<dyn ServedSnapshot>, _> = refusal.map_or(Ok(Box::new(served)), Err);
        Box::pin(async move { opened })
    }
}

struct Breaking {
    file: ServedFile<Cursor<&'static [u8]>>,
    number: u64,
    breaks: Arc<AtomicU64>,
    starts: Arc<Mutex<Vec<u64>>>,
}

impl ServedSnapshot for Breaking {
    fn id(&self) -> SnapshotId {
        self.file.id()
    }

    fn chunk_count(&self) -> u64 {
        self.file.chunk_count()
    }

    fn go_to(&mut self, number: u64) -> Result<(), ReadError> {
        self.starts.lock().push(number);
        self.number = number;
        self.file.go_to(number)
    }

    fn next_chunk(&mut self) -> Result<Option<EncodedChunk>, ReadError> {
        let breaks = self.breaks.compare_exchange(self.number, u64::MAX, Ordering::SeqCst, Ordering::SeqCst);
        if breaks.is_ok() {
            return Err(ReadError::Io(std::io::Error::other("the disk is gone")));
        }
        self.number += 1;
        self.file.next_chunk()
    }
}

fn chunk_count() -> u64 {
    ServedFile::open(Cursor::new(GOLDEN)).unwrap().chunk_count()
}

fn golden_id() -> SnapshotId {
    ServedFile::open(Cursor::new(GOLDEN)).unwrap().id()
}

fn quick(bytes_max: u64, attempts_max: u32) -> SendOptions {
    let fetch = FetchOptions {
        bytes_max,
        attempts_max,
        chunk_timeout: Duration::from_secs(20),
        making_timeout: Duration::from_secs(2),
        making_pause: Duration::from_millis(1),
        pause: Duration::from_millis(1),
    };
    SendOptions { fetch, ..SendOptions::default() }
}

async fn fetch_with(
    golden: Arc<Golden>,
    target: &Path,
    wanted: WantedSnapshot,
    options: SendOptions,
) -> Result<FetchedSnapshot, FetchError> {
    let served = Served::with_snapshots(TWO, golden).await;
    let one = transport_with(ONE, Notes::new(), options);
    one.set_members(vec![(TWO, served.address.clone())]);
    let fetched = one.fetch_snapshot(TWO, wanted, target.to_owned()).await;
    drop(one);
    served.stop().await;
    fetched
}

async fn fetch(golden: Arc<Golden>, target: &Path) -> Result<FetchedSnapshot, FetchError> {
    fetch_with(golden, target, ANY, quick(1 << 30, 3)).await
}

fn check_published(fetched: FetchedSnapshot, target: &Path) {
    let report = fetched.publish().unwrap();
    assert_eq!(report.manifest.id, golden_id());
    assert_eq!(fs::read(target).unwrap(), GOLDEN);
    assert!(!partial_path(target).unwrap().exists());
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("incoming.snapshot");
    (directory, target)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_arrives_verified_and_is_published_by_its_receiver() {
    let (_directory, target) = place();
    let fetched = fetch(Arc::new(Golden::new()), &target).await.unwrap();
    assert!(!target.exists());
    check_published(fetched, &target);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_at_the_chunk_where_it_broke() {
    for number in 0..chunk_count() {
        let (_directory, target) = place();
        let golden = Arc::new(Golden::breaking_before(number));
        check_published(fetch(golden.clone(), &target).await.unwrap(), &target);
        assert_eq!(*golden.starts.lock(), [0, number]);
        let begun = (number > 0).then(golden_id);
        assert_eq!(*golden.begun.lock(), [None, begun]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_had_arrived_before_a_crash_is_not_sent_again() {
    let (_directory, target) = place();
    // The header and the first chunk, whole, and a torn second one.
    let mut file = ServedFile::open(Cursor::new(GOLDEN)).unwrap();
    let whole = file.next_chunk().unwrap().unwrap().bytes.len() + file.next_chunk().unwrap().unwrap().bytes.len();
    fs::write(partial_path(&target).unwrap(), &GOLDEN[..whole + 5]).unwrap();
    let golden = Arc::new(Golden::new());
    check_published(fetch(golden.clone(), &target).await.unwrap(), &target);
    assert_eq!(*golden.starts.lock(), [2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_part_of_a_snapshot_that_is_gone_is_given_up() {
    let (_directory, target) = place();
    let (mut header, mut other) = (GOLDEN[..steeple_snapshot::format::HEADER_BYTES].to_vec(), golden_id());
    other.0[0] ^= 1;
    let mut fields = steeple_snapshot::format::Header::decode(header.as_slice().try_into().unwrap()).unwrap();
    fields.id = other;
    header.copy_from_slice(&fields.encode());
    fs::write(partial_path(&target).unwrap(), header).unwrap();
    let golden = Arc::new(Golden::new());
    check_published(fetch(golden.clone(), &target).await.unwrap(), &target);
    assert_eq!(*golden.begun.lock(), [Some(other)]);
    assert_eq!(*golden.starts.lock(), [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_keeps_what_has_arrived() {
    let (_directory, target) = place();
    let golden = Arc::new(Golden { refusal: Some(ProvideError::NotNow("still writing".into())), ..Golden::new() });
    match fetch(golden, &target).await {
        Err(FetchError::GaveUp { attempts: 3, last }) => assert_eq!(last, "still writing"),
        other => panic!("{other:?}"),
    }
    assert!(partial_path(&target).unwrap().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_being_made_is_asked_for_again_until_it_is_there() {
    for (made_after, is_made) in [(8, true), (usize::MAX, false)] {
        let (_directory, target) = place();
        let golden = Arc::new(Golden { refusal: Some(ProvideError::BeingMade), made_after, ..Golden::new() });
        match fetch(golden, &target).await {
            Ok(fetched) if is_made => check_published(fetched, &target),
            Err(FetchError::GaveUp { attempts: 3, .. }) if !is_made => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_final() {
    let (_directory, target) = place();
    let refusal = Some(ProvideError::Refused("ask the leader".into()));
    let golden = Arc::new(Golden { refusal, ..Golden::new() });
    match fetch(golden.clone(), &target).await {
        Err(FetchError::Refused(reason)) => assert_eq!(reason, "ask the leader"),
        other => panic!("{other:?}"),
    }
    assert_eq!(golden.begun.lock().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_too_large_or_too_old_leaves_nothing() {
    let (_directory, target) = place();
    let error = fetch_with(Arc::new(Golden::new()), &target, ANY, quick(GOLDEN.len() as u64 - 1, 3)).await;
    assert!(matches!(error, Err(FetchError::TooLarge { .. })), "{error:?}");
    assert!(!partial_path(&target).unwrap().exists());
    let far = WantedSnapshot { minimum: LogIndex(1 << 40) };
    let error = fetch_with(Arc::new(Golden::new()), &target, far, quick(1 << 30, 3)).await;
    assert!(matches!(error, Err(FetchError::TooOld { .. })), "{error:?}");
    assert!(!partial_path(&target).unwrap().exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_to_ask_is_said_at_once() {
    let (_directory, target) = place();
    let one = transport_with(ONE, Notes::new(), quick(1 << 30, 3));
    assert!(matches!(one.fetch_snapshot(TWO, ANY, target.clone()).await, Err(FetchError::NoWay)));
    // Nobody listens there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    one.set_members(vec![(TWO, address)]);
    let error = one.fetch_snapshot(TWO, ANY, target).await;
    assert!(matches!(error, Err(FetchError::GaveUp { attempts: 3, .. })), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_process_it_goes_on_after_a_break_too() {
    let (_directory, target) = place();
    let hub = LocalHub::new();
    let golden = Arc::new(Golden::breaking_before(2));
    let one = hub.join(identity(ONE), Notes::new(), None);
    let _two = hub.join(identity(TWO), Notes::new(), Some(golden.clone()));
    let fetched = one.fetch_snapshot(TWO, ANY, target.clone()).await.unwrap();
    check_published(fetched, &target);
    assert_eq!(*golden.starts.lock(), [0, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside_a_process_a_cut_link_is_no_way() {
    let (_directory, target) = place();
    let hub = LocalHub::with_fetch_options(quick(1 << 30, 3).fetch);
    let one = hub.join(identity(ONE), Notes::new(), None);
    let _two = hub.join(identity(TWO), Notes::new(), Some(Arc::new(Golden::new())));
    hub.cut(TWO, ONE);
    let error = one.fetch_snapshot(TWO, ANY, target.clone()).await;
    assert!(matches!(error, Err(FetchError::GaveUp { .. })), "{error:?}");
    hub.mend(TWO, ONE);
    check_published(one.fetch_snapshot(TWO, ANY, target.clone()).await.unwrap(), &target);
}

#[test]
fn a_file_that_is_no_partial_snapshot_is_replaced() {
    let (_directory, target) = place();
    fs::write(partial_path(&target).unwrap(), b"something else").unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let fetched = runtime.block_on(fetch(Arc::new(Golden::new()), &target)).unwrap();
    check_published(fetched, &target);
    assert!(OpenOptions::new().read(true).open(&target).is_ok());
}
