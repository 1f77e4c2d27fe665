//! Restoring into a directory: everything, or something that is recognised as nothing.

use std::fs;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use steeple_engine::disk::{RealDisk, SimulatedDisk};
use steeple_engine::ids::{HistoryId, LogIndex, Term};
use steeple_engine::log::{Entry, EntryKind, Log, LogReader};
use steeple_engine::record_store::{self, MemoryStore, RecordStoreKind, RecordStoreOptions};
use steeple_engine::view::View;

use super::node::{CATALOG, Node, assert_same_view, entries, identity, log_options, options};
use super::round_trip::take_while_living;
use crate::manifest::LogBase;
use crate::restore::{Lineage, RestoreError, RestoreOptions, RestoreTarget, UNFINISHED_MARKER};
use crate::source::{EntryVisitor, LiveSource, PairVisitor, ReadAt, SnapshotSource, SourceError};
use crate::stream::SnapshotOptions;
use crate::{Manifest, check_finished, restore, write};

const NEW_HISTORY: HistoryId = HistoryId([5; 16]);

struct Restored {
    manifest: Manifest,
    view: View,
    log: LogReader,
}

fn into_directory(directory: &Path, lineage: Lineage) -> RestoreOptions<'_> {
    RestoreOptions { directory, may_contain: &["LOCK"], lineage }
}

/// Restores, and opens what is there then anew.
fn restored(file: &[u8], directory: &Path, lineage: Lineage) -> Restored {
    let store = Arc::new(MemoryStore::new());
    let log_directory = directory.join("log");
    let manifest = restore(
        &mut Cursor::new(file),
        into_directory(directory, lineage),
        &mut |_| {
            assert!(check_finished(directory).is_err());
            fs::create_dir(&log_directory)?;
            let (writer, ..) =
                Log::open(Arc::new(RealDisk::open(&log_directory)?), log_options(), identity(NEW_HISTORY))?;
            Ok(RestoreTarget { store: store.clone(), log: Box::new(writer) })
        },
        &mut |_| {},
    )
    .unwrap();
    check_finished(directory).unwrap();
    let disk = Arc::new(RealDisk::open(&log_directory).unwrap());
    let (writer, log, recovery) = Log::open(disk, log_options(), identity(NEW_HISTORY)).unwrap();
    assert!(recovery.faults.is_empty());
    assert_eq!(writer.hard_state().commit, manifest.state.index);
    assert!(writer.hard_state().term >= manifest.term.unwrap());
    Restored { manifest, view: View::open(CATALOG, store).unwrap(), log }
}

#[test]
fn a_restored_node_has_the_same_state_and_history() {
    for seed in 0..4 {
        let mut node = Node::lived(seed, 120);
        let include_history = seed % 2 == 0;
        let file = take_while_living(&mut node, SnapshotOptions { include_history, ..options() }).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let restored = restored(&file, directory.path(), Lineage::Same);
        let end = restored.manifest.state.index;
        assert_same_view(&restored.view, &node.reference(end));
        let base = restored.manifest.log_base.position.index;
        assert_eq!(base == LogIndex(0), include_history);
        let expected = entries(&node.log).into_iter().filter(|entry| entry.position.index > base);
        let expected: Vec<Entry> = expected.filter(|entry| entry.position.index <= end).collect();
        assert_eq!(entries(&restored.log), expected);
        assert_eq!((restored.log.last().index, restored.log.base().index), (end, base));
        // Its numbers look right, and may come from a log that was numbered anew: nobody is sent any of it.
        assert_eq!(restored.log.contiguous_from(), end.next());
    }
}

#[test]
fn stores_on_disk_are_filled_for_good() {
    let node = Node::lived(16, 2_000);
    let mut file = Vec::new();
    let options = SnapshotOptions { step: crate::stream::StepSize::default(), ..options() };
    write(&node.source(), &mut file, options, &mut |_| {}).unwrap();
    for kind in [RecordStoreKind::Sled, RecordStoreKind::Fjall] {
        let directory = tempfile::tempdir().unwrap();
        let records = directory.path().join("records");
        let open = || record_store::open(kind, &records, &RecordStoreOptions::default());
        restore(
            &mut Cursor::new(&file),
            into_directory(directory.path(), Lineage::Same),
            &mut |_| {
                let disk = Arc::new(SimulatedDisk::new());
                let (writer, ..) = Log::open(disk, log_options(), identity(NEW_HISTORY))?;
                Ok(RestoreTarget { store: open()?, log: Box::new(writer) })
            },
            &mut |_| {},
        )
        .unwrap();
        assert_same_view(&View::open(CATALOG, open().unwrap()).unwrap(), &node.view);
    }
}

#[test]
fn a_new_history_takes_no_members_over() {
    let mut node = Node::lived(11, 200);
    let file = take_while_living(&mut node, SnapshotOptions { include_history: true, ..options() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("LOCK"), "").unwrap();
    let restored = restored(&file, directory.path(), Lineage::New);
    let before = entries(&node.log);
    assert!(before.iter().any(|entry| entry.kind == EntryKind::Membership));
    assert!(node.view.membership().is_some() && restored.view.membership().is_none());
    for (old, new) in before.iter().zip(entries(&restored.log)) {
        assert_eq!((old.position, old.tag), (new.position, new.tag));
        match old.kind {
            EntryKind::Membership => assert_eq!((new.kind, new.payload.len()), (EntryKind::Empty, 0)),
            _ => assert_eq!(*old, new),
        }
    }
}

/// A log out of which a rewrite took what nobody wanted any more.
struct Sparse<S>(S);

impl<S: SnapshotSource> SnapshotSource for Sparse<S> {
    fn read_pairs(&self, from: &[u8], visit: PairVisitor<'_>) -> Result<ReadAt, SourceError> {
        self.0.read_pairs(from, visit)
    }

    fn log_base(&self) -> LogBase {
        self.0.log_base()
    }

    fn term(&self, index: LogIndex) -> Result<Option<Term>, SourceError> {
        self.0.term(index)
    }

    fn read_entries(&self, from: LogIndex, visit: EntryVisitor<'_>) -> Result<(), SourceError> {
        self.0.read_entries(from, &mut |entry| match entry.position.index.0 % 3 {
            0 if entry.position.index.0 < 60 => ControlFlow::Continue(()),
            _ => visit(entry),
        })
    }
}

#[test]
fn entries_with_holes_between_them_are_numbered_anew() {
    let node = Node::lived(12, 90);
    let mut file = Vec::new();
    let taken = SnapshotOptions { include_history: true, ..options() };
    write(&Sparse(node.source()), &mut file, taken, &mut |_| {}).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let restored = restored(&file, directory.path(), Lineage::Same);
    assert_same_view(&restored.view, &node.view);
    let kept = entries(&node.log).into_iter().filter(|entry| {
        let index = entry.position.index.0;
        index <= restored.manifest.state.index.0 && (index >= 60 || index % 3 != 0)
    });
    let kept: Vec<(u64, EntryKind)> = kept.map(|entry| (entry.tag, entry.kind)).collect();
    let mut found = entries(&restored.log);
    let closing = found.pop().unwrap();
    assert_eq!((closing.kind, closing.position.term), (EntryKind::Empty, restored.manifest.term.unwrap()));
    assert_eq!(found.iter().map(|entry| (entry.tag, entry.kind)).collect::<Vec<_>>(), kept);
    assert_eq!(restored.log.last().index, restored.manifest.state.index);
    assert!(restored.log.base().index > LogIndex(0));
    assert_eq!(restored.log.contiguous_from(), restored.manifest.state.index.next());
}

#[test]
fn nothing_of_a_log_that_was_numbered_anew_is_replicated_however_often_it_is_handed_on() {
    let node = Node::lived(12, 90);
    let with_history = || SnapshotOptions { include_history: true, ..options() };
    let mut file = Vec::new();
    write(&Sparse(node.source()), &mut file, with_history(), &mut |_| {}).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let first = restored(&file, directory.path(), Lineage::Same);

    // Its entries stand side by side now, and not where the group has them.
    let source = LiveSource { view: Arc::new(first.view), log: first.log };
    let mut file = Vec::new();
    write(&source, &mut file, with_history(), &mut |_| {}).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let second = restored(&file, directory.path(), Lineage::Same);
    assert_eq!(entries(&second.log), entries(&source.log));
    assert!(second.log.base().index.next() < second.manifest.state.index);
    assert_eq!(second.log.contiguous_from(), second.manifest.state.index.next());
}

#[test]
fn a_damaged_file_leaves_the_directory_alone() {
    let mut node = Node::lived(13, 30);
    let mut file = take_while_living(&mut node, options()).unwrap();
    let middle = file.len() / 2;
    file[middle] ^= 4;
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let mut opened = false;
    let failed = restore(
        &mut Cursor::new(&file),
        into_directory(&directory, Lineage::New),
        &mut |_| {
            opened = true;
            Err("not reached".into())
        },
        &mut |_| {},
    );
    assert!(matches!(failed, Err(RestoreError::Read(_))));
    assert!(!opened && !directory.exists());
    check_finished(&directory).unwrap();
}

#[test]
fn a_restoration_broken_off_is_recognised_and_not_taken_up() {
    let mut node = Node::lived(14, 30);
    let file = take_while_living(&mut node, options()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = || into_directory(directory.path(), Lineage::New);
    let broken = restore(&mut Cursor::new(&file), target(), &mut |_| Err("no room".into()), &mut |_| {});
    assert!(matches!(broken, Err(RestoreError::Open(_))));
    assert!(check_finished(directory.path()).is_err());
    let again = restore(&mut Cursor::new(&file), target(), &mut |_| Err("not reached".into()), &mut |_| {});
    assert!(matches!(again, Err(RestoreError::NotEmpty { found, .. }) if found == UNFINISHED_MARKER));
}

#[test]
fn a_store_that_holds_something_is_refused_and_a_half_loaded_one_too() {
    let mut node = Node::lived(15, 60);
    let file = take_while_living(&mut node, options()).unwrap();
    let store = Arc::new(MemoryStore::new());
    // All chunks, but the footer is cut off.
    assert!(crate::load_base(&file[..file.len() - 1], store.as_ref()).is_err());
    assert!(View::open(CATALOG, store.clone()).is_err(), "what was loaded so far is not taken for a state");
    assert!(matches!(crate::load_base(&file[..], store.as_ref()), Err(crate::restore::LoadError::NotEmpty)));
}
