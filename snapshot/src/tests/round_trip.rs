//! Snapshots taken while the node goes on, and what can be made of them.

use std::io::Cursor;
use std::sync::Arc;

use rand::RngExt;
use steeple_engine::ids::LogIndex;
use steeple_engine::record_store::MemoryStore;
use steeple_engine::view::View;

use super::node::{CATALOG, Node, assert_same_view, entries, fold_entry, options};
use crate::stream::{SnapshotOptions, SnapshotStream, WriteError};
use crate::{Manifest, inspect, load_base, verify, write};

/// Takes a snapshot while the node lives on between the chunks.
pub(super) fn take_while_living(node: &mut Node, options: SnapshotOptions) -> Result<Vec<u8>, WriteError> {
    let mut stream = SnapshotStream::new(node.source(), options);
    let mut file = Vec::new();
    while let Some(chunk) = stream.next_chunk()? {
        assert_eq!(chunk.number + 1, stream.progress().chunks);
        file.extend_from_slice(&chunk.bytes);
        let events = node.random.random_range(0..4);
        node.live(events);
    }
    assert_eq!(stream.progress().bytes, file.len() as u64);
    Ok(file)
}

fn verified(file: &[u8]) -> Manifest {
    let report = verify(file, &mut |_| {}).unwrap();
    assert_eq!(report.bytes, file.len() as u64);
    assert_eq!(inspect(Cursor::new(file)).unwrap(), report.manifest);
    report.manifest
}

#[test]
fn a_snapshot_taken_while_events_are_folded_is_the_state_at_its_end() {
    let mut moved = 0;
    for seed in 0..30 {
        let mut node = Node::lived(seed, 40 + 10 * seed);
        let include_history = seed % 2 == 0;
        let file = take_while_living(&mut node, SnapshotOptions { include_history, ..options() }).unwrap();
        let manifest = verified(&file);
        moved += manifest.state.revision.0 - manifest.start.0;
        assert_eq!(manifest.membership, node.membership_at(manifest.state.index));

        let store = Arc::new(MemoryStore::new());
        assert_eq!(load_base(&file[..], store.as_ref()).unwrap(), manifest);
        let view = View::open(CATALOG, store).unwrap();
        assert_same_view(&view, &node.reference(manifest.state.index));
        let records: usize = view.read().namespaces().iter().map(|namespace| count(&view, *namespace)).sum();
        assert_eq!(manifest.records(), records as u64);
        assert_eq!(manifest.first_event.map(|revision| revision.0) == Some(1), include_history);
    }
    assert!(moved > 500, "the snapshots were taken while much happened: {moved}");
}

fn count(view: &View, namespace: steeple_engine::ids::NamespaceId) -> usize {
    use steeple_engine::view::Reader;
    let query = steeple_engine::index::Query::all();
    usize::try_from(view.read().count(namespace, super::node::ITEMS, &query)).unwrap()
}

#[test]
fn a_base_and_the_log_after_it_give_the_state_now() {
    for seed in 100..110 {
        let mut node = Node::lived(seed, 150);
        let file = take_while_living(&mut node, options()).unwrap();
        node.live(60);
        let store = Arc::new(MemoryStore::new());
        let manifest = load_base(&file[..], store.as_ref()).unwrap();
        let view = View::open(CATALOG, store).unwrap();
        for entry in entries(&node.log) {
            if entry.position.index > manifest.state.index {
                fold_entry(&view, &entry);
            }
        }
        assert_same_view(&view, &node.view);
    }
}

#[test]
fn a_node_without_events_has_a_snapshot_too() {
    let node = Node::new(1);
    let mut file = Vec::new();
    for include_history in [false, true] {
        file.clear();
        let taken =
            write(&node.source(), &mut file, SnapshotOptions { include_history, ..options() }, &mut |_| {}).unwrap();
        assert_eq!(verified(&file), taken);
        assert_eq!((taken.records(), taken.entries, taken.state.index), (0, 0, LogIndex(0)));
        let store = Arc::new(MemoryStore::new());
        load_base(&file[..], store.as_ref()).unwrap();
        assert_same_view(&View::open(CATALOG, store).unwrap(), &node.view);
    }
}

#[test]
fn a_quiet_node_is_written_without_events() {
    let node = Node::lived(5, 80);
    let mut file = Vec::new();
    let mut last = crate::Progress::default();
    let manifest = write(&node.source(), &mut file, options(), &mut |progress| {
        assert!(progress.bytes > last.bytes && progress.pairs >= last.pairs);
        last = progress;
    })
    .unwrap();
    assert_eq!(last.bytes, file.len() as u64);
    assert_eq!(verified(&file), manifest);
    assert_eq!((manifest.start, manifest.events), (manifest.state.revision, 0));
    assert_eq!(manifest.term, node.log.term(manifest.state.index).unwrap());
    assert_eq!(manifest.log_base.position.index, manifest.state.index);
    assert_eq!(manifest.membership, node.view.membership().unwrap()[..]);
}

#[test]
fn events_that_the_log_gave_up_meanwhile_are_missed() {
    let mut node = Node::lived(6, 300);
    let mut stream = SnapshotStream::new(node.source(), options());
    stream.next_chunk().unwrap();
    stream.next_chunk().unwrap();
    node.live(300);
    node.writer.purge_prefix(node.view.folded().index).unwrap();
    assert!(node.log.base_tag() > 300);
    let failed = loop {
        match stream.next_chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a snapshot with missing events"),
            Err(error) => break error,
        }
    };
    let expected = crate::state::StateError::Missing { expected: steeple_engine::ids::Revision(301) };
    assert!(matches!(&failed, WriteError::State(error) if *error == expected), "{failed}");
}

#[test]
fn history_below_a_purge_is_left_out() {
    let mut node = Node::lived(7, 300);
    node.writer.purge_prefix(LogIndex(200)).unwrap();
    let base = node.log.base_tag();
    assert!(base > 0);
    let file = take_while_living(&mut node, SnapshotOptions { include_history: true, ..options() }).unwrap();
    let manifest = verified(&file);
    assert_eq!(manifest.first_event.unwrap().0, base + 1);
    assert_eq!(manifest.log_base.revision.0, base);
}

#[test]
fn a_record_store_that_lost_a_record_is_not_snapshotted() {
    let node = Node::lived(8, 60);
    let lost = super::node::pairs(node.view.store().as_ref()).into_iter().find(|(key, _)| key[0] == 1).unwrap();
    let mut batch = steeple_engine::record_store::WriteBatch::default();
    batch.delete(lost.0);
    node.view.store().apply(batch).unwrap();
    let failed = write(&node.source(), &mut Vec::new(), options(), &mut |_| {}).unwrap_err();
    assert!(matches!(failed, WriteError::State(crate::state::StateError::Digest { .. })), "{failed}");
}
