//! Takeovers: while the node serves, and cut off at every step.

use std::fs;
use std::path::Path;
use std::time::Duration;

use steeple_engine::ids::{NamespaceId, Revision, StreamSequence, Term};
use steeple_engine::log::{Entry, EntryKind, FaultPolicy, HardState, LogOptions, Refill};
use steeple_engine::spire;
use steeple_engine::view::{Digest, StoreFold, StoreKey};
use steeple_snapshot::manifest::LogBase;
use steeple_snapshot::restore::EntrySink;
use steeple_snapshot::{LiveSource, Origin, SnapshotOptions};

use super::super::open::{self, Opened};
use super::super::options::ClusterOptions;
use super::super::random::Random;
use super::super::storage::Storage;
use super::super::tail::StreamPosition;
use super::super::tests::{create, prune_events};
use super::super::{Node, NodeParts, QueryError};
use super::*;

/// Small segments, so that little data is enough to fill several.
fn options(data: Option<&Path>) -> NodeOptions {
    let log = LogOptions { segment_bytes: 64 << 10, segment_entries: 256, spare_segments: 0, ..LogOptions::default() };
    NodeOptions {
        data: data.map(Path::to_owned),
        log,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        compaction_interval: None,
        ..NodeOptions::default()
    }
}

fn started(data: &Path) -> Node {
    Node::start(options(Some(data)), NodeParts::default()).unwrap()
}

/// What a node holds.
#[derive(PartialEq)]
struct Shown {
    revision: Revision,
    digest: Digest,
    /// Revision and bytes of every event that its log holds.
    events: Vec<(u64, Bytes)>,
}

fn shown(node: &Node) -> Shown {
    let status = node.status();
    assert_eq!(node.view().recompute_digest().unwrap(), (status.revision, status.digest));
    let log = node.log();
    let event = |revision| log.read_tag(revision).unwrap().map(|entry| (revision, entry.payload));
    let events = (1..=status.revision.0).filter_map(event).collect();
    Shown { revision: status.revision, digest: status.digest, events }
}

fn assert_same(found: &Shown, expected: &Shown, when: &dyn std::fmt::Debug) {
    assert_eq!((found.revision, found.digest), (expected.revision, expected.digest), "{when:?}");
    let revisions = |shown: &Shown| shown.events.iter().map(|(revision, _)| *revision).collect::<Vec<_>>();
    assert_eq!(revisions(found), revisions(expected), "{when:?}");
    assert!(found.events == expected.events, "{when:?}");
}

/// A node that stayed behind, and a snapshot with history of one that went on from there.
struct Group {
    behind: tempfile::TempDir,
    ahead_data: tempfile::TempDir,
    ahead: Node,
    namespace: NamespaceId,
    shown_behind: Shown,
}

const ENTRIES_BEHIND: u64 = 600;

impl Group {
    async fn new() -> Self {
        let (behind, ahead_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let node = started(behind.path());
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..ENTRIES_BEHIND).await;
        node.stop().await;
        let shown_behind = shown(&node);
        drop(node);
        copy(behind.path(), ahead_data.path());
        let ahead = started(ahead_data.path());
        create(&ahead, namespace, ENTRIES_BEHIND..ENTRIES_BEHIND + 400).await;
        Self { behind, ahead_data, ahead, namespace, shown_behind }
    }

    /// Leaves holes in the log of the node ahead.
    async fn with_holes(self) -> Self {
        let pruned = self.ahead.open_namespace("pruned").await.unwrap();
        create(&self.ahead, pruned, 0..1500).await;
        self.ahead.submit_to_end(pruned, None, prune_events(u64::MAX)).await.unwrap();
        create(&self.ahead, self.namespace, 5000..5300).await;
        assert!(self.ahead.compact().await.unwrap().segments_rewritten > 0);
        assert!(self.ahead.log().contiguous_from() > LogIndex(1));
        self
    }

    fn snapshot(&self, origin: Origin) -> Vec<u8> {
        let core = self.ahead.core();
        let source = LiveSource { view: Arc::clone(&core.view), log: core.log.clone() };
        let options = SnapshotOptions::new(SnapshotId([7; 16]), origin, self.ahead.clock().now());
        let mut bytes = Vec::new();
        let options = SnapshotOptions { include_history: true, ..options };
        steeple_snapshot::write(&source, &mut bytes, options, &mut |_| {}).unwrap();
        bytes
    }

    fn own_snapshot(&self) -> Vec<u8> {
        self.snapshot(base::origin(&self.ahead.shared.identity))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Leaves a snapshot where one that has arrived is left.
fn arrived(node: &Node, bytes: &[u8]) -> Arrived {
    match node.core().base.incoming_path() {
        Some(path) => {
            fs::write(&path, bytes).unwrap();
            Arrived::File(path)
        }
        None => Arrived::Memory(Bytes::copy_from_slice(bytes)),
    }
}

async fn prepared(node: &Node, bytes: &[u8]) -> Result<Installation, InstallError> {
    let (shared, arrived) = (Arc::clone(&node.shared), arrived(node, bytes));
    let alone = alone(&shared).await;
    tokio::task::spawn_blocking(move || Installation::prepare(shared, arrived, alone)).await.unwrap()
}

/// Does something on the log's thread.
async fn on_log<T: Send + 'static>(node: &Node, work: impl FnOnce(&mut LogWriter) -> T + Send + 'static) -> T {
    node.on_log(work).await.unwrap()
}

async fn take_over(node: &Node, bytes: &[u8]) -> Installed {
    let mut installation = prepared(node, bytes).await.unwrap();
    let (installation, position) = on_log(node, move |writer| {
        let position = installation.fill_log(writer);
        (installation, position)
    })
    .await;
    let installed = installation.finish().unwrap();
    assert_eq!(installed.core.log.last(), position.unwrap());
    installed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_goes_on_over_a_takeover_without_gap_or_repeat() {
    let group = Group::new().await;
    let bytes = group.own_snapshot();
    let node = started(group.behind.path());
    let from_start = vec![StreamPosition { stream: spire::REGISTRATIONS, after: StreamSequence::ZERO }];
    let mut tail = node.tail(group.namespace, from_start, None).unwrap();
    let first = tail.next(Duration::from_secs(20)).await.unwrap().unwrap();
    let old_records = group.behind.path().join("group-0").join("records");
    let mut installation = prepared(&node, &bytes).await.unwrap();

    // The log is emptied: what the old view lists cannot be read just now.
    let shared = Arc::clone(&node.shared);
    on_log(&node, move |writer| {
        shared.begin_replacement();
        writer.reset_to(writer.reader().last(), u64::MAX >> 2).unwrap();
    })
    .await;
    assert!(matches!(node.event(Revision(2)), Err(QueryError::Replaced)));
    let mut sequences: Vec<u64> = first.items.iter().map(|item| item.sequence.0).collect();
    while let Some(item) = tail.next(Duration::from_millis(20)).await.unwrap() {
        sequences.extend(item.items.iter().map(|item| item.sequence.0));
    }
    assert!((sequences.len() as u64) < ENTRIES_BEHIND, "the tail has come to the part that is not there");

    let (installation, filled) = on_log(&node, move |writer| {
        let filled = installation.fill_log(writer);
        (installation, filled)
    })
    .await;
    filled.unwrap();
    let installed = installation.finish().unwrap();
    drop(installed);
    while (sequences.len() as u64) < ENTRIES_BEHIND + 400 {
        let item = tail.next(Duration::from_secs(20)).await.unwrap().expect("an item");
        sequences.extend(item.items.iter().map(|item| item.sequence.0));
    }
    assert_eq!(sequences, (1..=ENTRIES_BEHIND + 400).collect::<Vec<_>>());
    assert_same(&shown(&node), &shown(&group.ahead), &"taken over");
    assert_eq!(node.status().base_covers, node.log().last().index);
    drop(tail);
    node.stop().await;
    drop(node);
    assert!(!old_records.exists(), "nobody uses the old records any more");
    assert!(group.behind.path().join("group-0").join("records-1").exists());
    let node = started(group.behind.path());
    assert_same(&shown(&node), &shown(&group.ahead), &"taken over");
    create(&node, group.namespace, 9000..9001).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_with_holes_brings_the_same_history_and_is_not_replicated_further() {
    let group = Group::new().await.with_holes().await;
    let node = started(group.behind.path());
    let installed = take_over(&node, &group.own_snapshot()).await;
    assert_same(&shown(&node), &shown(&group.ahead), &"taken over");
    let log = node.log();
    assert_eq!(log.contiguous_from(), installed.core.log.last().index.next());
    let ahead = group.ahead.log();
    assert_eq!(installed.core.log.last(), ahead.last(), "the group's log goes on behind it");
    assert_eq!(log.term(installed.core.log.last().index).unwrap(), Some(ahead.last().term));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_memory_takes_over_a_snapshot_too() {
    let group = Group::new().await;
    let node = Node::start(options(None), NodeParts::default()).unwrap();
    let foreign = prepared(&node, &group.own_snapshot()).await.err().unwrap();
    assert!(matches!(foreign, InstallError::Foreign { .. }), "{foreign}");
    let bytes = group.snapshot(base::origin(&node.shared.identity));
    take_over(&node, &bytes).await;
    assert_same(&shown(&node), &shown(&group.ahead), &"taken over");
    let again = prepared(&node, &bytes).await.err().unwrap();
    assert!(matches!(again, InstallError::Overtaken { .. }), "{again}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_no_good_changes_nothing() {
    let group = Group::new().await;
    let mut bytes = group.own_snapshot();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let node = started(group.behind.path());
    let damaged = prepared(&node, &bytes).await.err().unwrap();
    assert!(matches!(damaged, InstallError::Read(_)), "{damaged}");
    bytes[middle] ^= 1;
    // One that is not wanted any more after all.
    drop(prepared(&node, &bytes).await.unwrap());
    assert!(!group.behind.path().join("group-0").join("records-1").exists());
    assert_same(&shown(&node), &group.shown_behind, &"not taken over");
    create(&node, group.namespace, 9000..9001).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_being_taken_makes_way() {
    let group = Group::new().await;
    let node = started(group.behind.path());
    let (begun, mut first) = tokio::sync::mpsc::channel(1);
    let slow = node.clone();
    let taking = tokio::spawn(async move {
        let sink = |_| {
            let begun = begun.clone();
            async move {
                begun.send(()).await.unwrap();
                std::future::pending().await
            }
        };
        slow.snapshot(false, sink).await
    });
    first.recv().await.unwrap();
    drop(prepared(&node, &group.own_snapshot()).await.unwrap());
    let broken_off = taking.await.unwrap();
    assert!(matches!(broken_off, Err(super::super::SnapshotError::Replaced)));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_wrong_are_rebuilt_while_the_node_serves() {
    let data = tempfile::tempdir().unwrap();
    let node = started(data.path());
    let namespace = node.open_namespace("test").await.unwrap();
    create(&node, namespace, 0..300).await;
    let right = shown(&node);
    let mut tail = node
        .tail(namespace, vec![StreamPosition { stream: spire::REGISTRATIONS, after: StreamSequence::ZERO }], None)
        .unwrap();
    tail.next(Duration::from_secs(20)).await.unwrap().unwrap();
    let mut batch = steeple_engine::record_store::WriteBatch::default();
    let (from, to) = StoreKey::all_records();
    let mut lost = Vec::new();
    let view = node.view();
    view.store()
        .scan(&from, &to, &mut |key, _| {
            lost.extend_from_slice(key);
            std::ops::ControlFlow::Break(())
        })
        .unwrap();
    batch.delete(lost);
    view.store().apply(batch).unwrap();
    drop(view);
    assert_ne!(node.view().recompute_digest().unwrap().1, right.digest);
    let shared = Arc::clone(&node.shared);
    let finding = Finding::of_leader(node.view().folded());
    let alone = alone(&shared).await;
    let rebuild = move || Rebuilding::prepare(shared, Some(&finding), alone)?.finish();
    let rebuilt = tokio::task::spawn_blocking(rebuild).await.unwrap();
    drop(rebuilt.unwrap());
    assert_same(&shown(&node), &right, &"rebuilt");
    for expected in 2..=300 {
        let item = tail.next(Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(item.items[0].sequence, StreamSequence(expected));
    }
    node.stop().await;
}

/// Takes entries until it has taken enough.
struct Failing<'a> {
    writer: &'a mut LogWriter,
    appends_left: usize,
}

impl EntrySink for Failing<'_> {
    fn start_behind(&mut self, base: LogBase, refill: Refill) -> Result<(), LogError> {
        self.writer.start_behind(base, refill)
    }

    fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let half = &entries[..entries.len() / 2];
        match self.appends_left.checked_sub(1) {
            Some(left) => self.appends_left = left,
            None => {
                LogWriter::append(self.writer, half)?;
                self.writer.sync()?;
                return Err(LogError::Poisoned { cause: "the process was killed".into() });
            }
        }
        LogWriter::append(self.writer, entries)
    }

    fn finish(&mut self, last: LogPosition) -> Result<(), LogError> {
        EntrySink::finish(self.writer, last)
    }
}

/// How far a takeover got before the process was killed.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Cut {
    Arrived,
    Published,
    RecordsBegun,
    RecordsFilled,
    LogEmptied,
    LogBegun,
    LogFilled,
}

const CUTS: [Cut; 7] = [
    Cut::Arrived,
    Cut::Published,
    Cut::RecordsBegun,
    Cut::RecordsFilled,
    Cut::LogEmptied,
    Cut::LogBegun,
    Cut::LogFilled,
];

const PROMISED: HardState =
    HardState { term: Term(40), vote: Some(steeple_engine::ids::NodeId(3)), commit: LogIndex(500) };

/// Takes a snapshot over as far as `cut`, on a node that then dies.
fn take_over_until(cut: Cut, data: &Path, bytes: &[u8]) {
    let options = options(Some(data));
    let Opened { identity, mut writer, core, .. } = open::open(&options, fresh_identity()).unwrap();
    writer.set_hard_state(PROMISED).unwrap();
    writer.sync().unwrap();
    let path = core.base.incoming_path().unwrap();
    fs::write(&path, bytes).unwrap();
    if cut == Cut::Arrived {
        return;
    }
    let arrived = Arrived::File(path);
    let manifest = verify(&arrived, &identity, core.view.folded().index).unwrap();
    let source = publish(arrived, &core.base).unwrap();
    if cut == Cut::Published {
        return;
    }
    let records = records::beside(&Storage::Directory(data.to_owned())).unwrap();
    if cut == Cut::RecordsBegun {
        let store = records.open(&options).unwrap();
        let mut fold = StoreFold::new(store.as_ref());
        for sequence in 0..3_000 {
            let key = StoreKey::Record(NamespaceId(1), spire::tables::ENTRIES, steeple_engine::ids::Sequence(sequence));
            fold.put(&key.encode(), &[0, 0, 0, 0, 0, 0, 0, 1, 7]).unwrap();
        }
        store.flush().unwrap();
        return;
    }
    drop(build_view(&options, &records, &source, &manifest).unwrap());
    let read = || source.read().unwrap();
    match cut {
        Cut::LogEmptied => writer.start_behind(manifest.log_base, refill_of(&manifest)).unwrap(),
        Cut::LogBegun => {
            let mut failing = Failing { writer: &mut writer, appends_left: 0 };
            assert!(steeple_snapshot::load_log(read(), &manifest, &mut failing).is_err());
        }
        Cut::LogFilled => drop(fill_log(read(), &manifest, &mut writer).unwrap()),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_takeover_cut_off_anywhere_is_finished_at_the_next_start() {
    let group = Group::new().await;
    let bytes = group.own_snapshot();
    let expected = shown(&group.ahead);
    for cut in CUTS {
        for again in [None, Some(Cut::LogBegun)] {
            let data = tempfile::tempdir().unwrap();
            copy(group.behind.path(), data.path());
            take_over_until(cut, data.path(), &bytes);
            if again.is_some() && cut < Cut::RecordsFilled {
                interrupt_resumption(data.path());
            }
            check_recovered(cut, data.path(), &group, &expected).await;
        }
    }
}

fn refill_of(manifest: &Manifest) -> Refill {
    Refill { last: manifest.state.index, renumbered_to: manifest.state.index }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_not_filled_is_not_taken_for_whole_when_the_snapshot_is_lost() {
    let group = Group::new().await;
    let bytes = group.own_snapshot();
    for cut in [Cut::LogEmptied, Cut::LogBegun, Cut::LogFilled] {
        for lose in [true, false] {
            let data = tempfile::tempdir().unwrap();
            copy(group.behind.path(), data.path());
            take_over_until(cut, data.path(), &bytes);
            let snapshot = data.path().join("group-0").join("base").join("base.snapshot");
            if lose {
                fs::remove_file(&snapshot).unwrap();
            } else {
                let mut damaged = fs::read(&snapshot).unwrap();
                let middle = damaged.len() / 2;
                damaged[middle] ^= 1;
                fs::write(&snapshot, damaged).unwrap();
            }
            // As after the crash of a machine that finds the record store as it was before.
            copy(&group.behind.path().join("group-0").join("records"), &data.path().join("group-0").join("records"));
            drop(fs::remove_dir_all(data.path().join("group-0").join("records-1")));
            match open::open(&options(Some(data.path())), fresh_identity()) {
                Err(StartError::Log(LogError::Corrupt { faults })) => {
                    assert!(cut < Cut::LogFilled, "{cut:?}");
                    assert_eq!(faults.last().unwrap().last, Some(group.ahead.log().last().index), "{cut:?}");
                }
                // The log is whole, and what came before it can only be had from a peer.
                Err(StartError::MissingEvents { .. }) if cut == Cut::LogFilled => {}
                Err(error) => panic!("{cut:?}: {error}"),
                Ok(opened) => {
                    assert!(cut == Cut::LogFilled, "a log that lacks entries was taken for whole: {cut:?}");
                    assert_eq!(opened.core.log.last(), group.ahead.log().last());
                }
            }
        }
    }
}

/// Opens the log as a start does that is killed while it fills it.
fn interrupt_resumption(data: &Path) {
    let storage = Storage::Directory(data.to_owned());
    let (directories, base) = (storage.directories(), Base::open(&storage));
    let Some(manifest) = base.manifest() else { return };
    let disk = Arc::new(steeple_engine::disk::RealDisk::open(directories.log().unwrap()).unwrap());
    let identity = steeple_engine::log::read_identity(disk.as_ref()).unwrap().unwrap();
    let log = LogOptions { faults: FaultPolicy::Report, ..options(None).log };
    let (mut writer, ..) = steeple_engine::log::Log::open(disk, log, identity).unwrap();
    let mut failing = Failing { writer: &mut writer, appends_left: 0 };
    assert!(steeple_snapshot::load_log(base.read().unwrap(), &manifest, &mut failing).is_err());
}

async fn check_recovered(cut: Cut, data: &Path, group: &Group, expected: &Shown) {
    let Opened { core, writer, .. } = open::open(&options(Some(data)), fresh_identity()).unwrap();
    let hard_state = writer.hard_state();
    assert_eq!((hard_state.term, hard_state.vote), (PROMISED.term, PROMISED.vote), "{cut:?}");
    assert!(hard_state.commit >= core.view.folded().index || cut == Cut::Arrived, "{cut:?}");
    assert_eq!(core.view.folded().index, core.log.last().index, "{cut:?}");
    drop(core);
    drop(writer);
    let node = started(data);
    assert_same(&shown(&node), if cut == Cut::Arrived { &group.shown_behind } else { expected }, &cut);
    assert!(!data.join("group-0").join("base").join("incoming.snapshot").exists());
    let stores = records::found(&Storage::Directory(data.to_owned())).unwrap().len();
    assert_eq!(stores, 1, "{cut:?}");
    create(&node, group.namespace, 9000..9001).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_went_another_way_is_recognised_by_its_term() {
    let group = Group::new().await;
    let bytes = group.own_snapshot();
    {
        let Opened { mut writer, core, .. } =
            open::open(&options(Some(group.behind.path())), fresh_identity()).unwrap();
        let (last, tag) = (core.log.last(), core.log.last_tag());
        let stray = |index| Entry {
            position: LogPosition { term: last.term, index: LogIndex(index) },
            kind: EntryKind::Empty,
            tag,
            payload: Bytes::new(),
        };
        let end = group.ahead.log().last();
        assert!(end.term > last.term);
        writer.append(&(last.index.0 + 1..end.index.0 + 50).map(stray).collect::<Vec<_>>()).unwrap();
        writer.sync().unwrap();
    }
    let group_directory = group.behind.path().join("group-0");
    fs::write(group_directory.join("base").join("base.snapshot"), &bytes).unwrap();
    let Opened { core, .. } = open::open(&options(Some(group.behind.path())), fresh_identity()).unwrap();
    assert_eq!(core.log.last(), group.ahead.log().last());
    assert_eq!(core.view.folded(), group.ahead.view().folded());
}

fn fresh_identity() -> LogIdentity {
    open::fresh_identity(&ClusterOptions::default(), &Random::System)
}

/// Opens the log of a node that does not run.
fn writer_of(data: &Path) -> (Arc<Base>, LogWriter) {
    let storage = Storage::Directory(data.to_owned());
    let disk = open::open_disk(&storage).unwrap();
    let identity = steeple_engine::log::read_identity(disk.as_ref()).unwrap().unwrap();
    let (writer, ..) = steeple_engine::log::Log::open(disk, options(None).log, identity).unwrap();
    (Arc::new(Base::open(&storage)), writer)
}

fn begin_from_bytes(data: &Path, bytes: &[u8]) -> Result<Served, InstallError> {
    let (base, mut writer) = writer_of(data);
    let path = base.incoming_path().unwrap();
    fs::write(&path, bytes).unwrap();
    let served = begin_from(&base, Arrived::File(path), &mut writer);
    writer.close().unwrap();
    served
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_whole_stays_when_records_and_base_snapshot_come_from_another_member() {
    let group = Group::new().await;
    let too_old = group.own_snapshot();
    let group = group.with_holes().await;
    let bytes = group.own_snapshot();
    create(&group.ahead, group.namespace, 20_000..20_200).await;
    group.ahead.stop().await;
    let expected = shown(&group.ahead);
    let last = group.ahead.log().last();
    let data = tempfile::tempdir().unwrap();
    copy(group.ahead_data.path(), data.path());
    let directory = data.path().join("group-0");
    fs::remove_dir_all(directory.join("records")).unwrap();
    drop(fs::remove_file(directory.join("base").join("base.snapshot")));
    let refused = open::open(&options(Some(data.path())), fresh_identity()).err();
    assert!(matches!(refused, Some(StartError::MissingEvents { .. })), "{refused:?}");
    // One that does not reach to where the log begins, and not to its end, helps nobody.
    let refused = begin_from_bytes(data.path(), &too_old);
    assert!(matches!(refused, Err(InstallError::Apart { .. })), "{refused:?}");
    assert!(!directory.join("base").join("base.snapshot").exists());
    // It need not reach to the end of the log.
    assert_eq!(begin_from_bytes(data.path(), &bytes).unwrap(), Served::AsBase);
    assert_eq!(writer_of(data.path()).1.reader().last(), last, "the log is as it was");
    let node = started(data.path());
    assert_same(&shown(&node), &expected, &"made anew");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_replaced_by_a_snapshot_that_reaches_further_or_says_that_it_went_another_way() {
    let group = Group::new().await;
    let bytes = group.own_snapshot();
    let end = group.ahead.log().last();
    for strays in [0, 50, 600] {
        let data = tempfile::tempdir().unwrap();
        copy(group.behind.path(), data.path());
        {
            let (_, mut writer) = writer_of(data.path());
            let (last, tag) = (writer.reader().last(), writer.reader().last_tag());
            let stray = |index| Entry {
                position: LogPosition { term: last.term, index: LogIndex(index) },
                kind: EntryKind::Empty,
                tag,
                payload: Bytes::new(),
            };
            writer.append(&(last.index.0 + 1..=last.index.0 + strays).map(stray).collect::<Vec<_>>()).unwrap();
            writer.close().unwrap();
        }
        assert_eq!(begin_from_bytes(data.path(), &bytes).unwrap(), Served::AsLog, "{strays}");
        assert_eq!(writer_of(data.path()).1.reader().last(), end, "{strays}");
    }
}
