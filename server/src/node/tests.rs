//! A node from outside: what is acknowledged is there, also after a restart.

use std::time::Duration;

use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire::{self, entries::records::Entry, selectors::Selector};
use steeple_engine::view::Reader;

use super::tail::{StreamPosition, TailError};
use super::*;
use steeple_engine::ids::{LogIndex, RequestId, StreamSequence};

pub(super) fn entry(number: u64) -> Command {
    let entry = Entry {
        spiffe_id: format!("spiffe://example.org/workload/{number}"),
        parent_id: "spiffe://example.org/agent".into(),
        selectors: vec![Selector { kind: "unix".into(), value: format!("uid:{number}") }],
        ..Entry::default()
    };
    Command::Spire(spire::Command::Entry(spire::entries::Command::CreateOrReturn(Some(entry))))
}

pub(super) fn prune_events(older_than_micros: u64) -> Command {
    let prune = spire::events::Command::PruneEntryEvents { older_than_micros, limit: 100 };
    Command::Spire(spire::Command::Event(prune))
}

pub(super) async fn create(node: &Node, namespace: NamespaceId, numbers: std::ops::Range<u64>) {
    for number in numbers {
        node.submit(namespace, None, entry(number)).await.unwrap();
    }
}

fn from_start() -> Vec<StreamPosition> {
    vec![StreamPosition { stream: spire::REGISTRATIONS, after: StreamSequence::ZERO }]
}

#[tokio::test]
async fn acknowledged_mutations_survive_a_restart_and_repeat_safely() {
    let directory = tempfile::tempdir().unwrap();
    let request = Some(RequestId([3; 16]));
    let (first, digest) = {
        let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..50).await;
        let first = node.submit(namespace, request, entry(1000)).await.unwrap();
        let again = node.submit(namespace, request, entry(1000)).await.unwrap();
        assert_eq!((first.revision, &first.answer), (again.revision, &again.answer));
        let reused = node.submit(namespace, request, entry(1001)).await;
        assert!(matches!(reused, Err(SubmitError::RequestReused(_))));
        node.stop().await;
        assert!(matches!(node.submit(namespace, None, entry(7)).await, Err(SubmitError::Unavailable(_))));
        (first, node.status().digest)
    };
    let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
    assert_eq!(node.status().rebuilt, None);
    assert_eq!(node.status().digest, digest);
    let namespace = node.namespace("test").unwrap();
    let again = node.submit(namespace, request, entry(1000)).await.unwrap();
    assert_eq!((first.revision, first.answer), (again.revision, again.answer));
    let last = node.read(|reader| reader.stream(namespace, spire::REGISTRATIONS).last);
    assert_eq!(last, StreamSequence(51));
    node.stop().await;
}

#[tokio::test]
async fn a_lost_record_store_is_rebuilt_from_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let digest = {
        let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..20).await;
        node.stop().await;
        node.status().digest
    };
    let records = directory.path().join("group-0").join("records");
    std::fs::remove_dir_all(&records).unwrap();
    let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
    assert_eq!(node.status().digest, digest);
    node.stop().await;
}

#[tokio::test]
async fn a_tail_sees_history_and_then_what_happens_live() {
    let node = Node::start(NodeOptions::in_memory(), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    create(&node, namespace, 0..600).await;
    let mut tail = node.tail(namespace, from_start(), None).unwrap();
    let writer = {
        let node = node.clone();
        tokio::spawn(async move { create(&node, namespace, 600..900).await })
    };
    for expected in 1..=900 {
        let item = tail.next(Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(item.items.len(), 1);
        assert_eq!(item.items[0].sequence, StreamSequence(expected));
        assert_eq!(tail.positions()[0].after, StreamSequence(expected));
    }
    writer.await.unwrap();
    assert!(tail.next(Duration::from_millis(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_tail_below_the_mark_is_told_where_the_stream_begins() {
    let node = Node::start(NodeOptions::in_memory(), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    create(&node, namespace, 0..250).await;
    let mut behind = node.tail(namespace, from_start(), None).unwrap();
    behind.next(Duration::from_secs(20)).await.unwrap().unwrap();
    let (_, pruned) = node.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
    assert_eq!(pruned, 250);
    let refused = node.tail(namespace, from_start(), None).err().unwrap();
    let TailError::Compacted { oldest, .. } = refused else { panic!("{refused}") };
    assert_eq!(oldest, StreamSequence(251));
    let text = "stream registrations is compacted up to 251: the item after 0 is no longer kept";
    assert_eq!(refused.to_string(), text);
    let ahead = vec![StreamPosition { stream: spire::REGISTRATIONS, after: StreamSequence(251) }];
    assert!(matches!(node.tail(namespace, ahead, None), Err(TailError::Ahead { .. })));
    create(&node, namespace, 250..251).await;
    let next =
        node.tail(namespace, vec![StreamPosition { stream: spire::REGISTRATIONS, after: StreamSequence(250) }], None);
    let item = next.unwrap().next(Duration::from_secs(20)).await.unwrap().unwrap();
    assert_eq!(item.items[0].sequence, StreamSequence(251));
}

#[tokio::test]
async fn a_filtered_tail_advances_past_what_it_leaves_out() {
    let node = Node::start(NodeOptions::in_memory(), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    create(&node, namespace, 0..30).await;
    let keys = Some([b"nobody".to_vec()].into_iter().collect());
    let mut tail = node.tail(namespace, from_start(), keys).unwrap();
    assert!(tail.next(Duration::from_millis(1)).await.unwrap().is_none());
    assert_eq!(tail.positions()[0].after, StreamSequence(30));
}

#[tokio::test]
async fn many_writers_make_a_stream_without_holes() {
    let node = Node::start(NodeOptions::in_memory(), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    let writers: Vec<_> = (0..16_u64)
        .map(|writer| {
            let node = node.clone();
            tokio::spawn(async move { create(&node, namespace, writer * 100..writer * 100 + 100).await })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let rows =
        node.read(|reader| reader.stream_rows(namespace, spire::REGISTRATIONS, StreamSequence::ZERO, 5000)).unwrap();
    let sequences: Vec<u64> = rows.iter().map(|row| row.sequence.0).collect();
    assert_eq!(sequences, (1..=1600).collect::<Vec<_>>());
    let (revision, digest) = node.view().recompute_digest().unwrap();
    assert_eq!((revision, digest), (node.revision(), node.status().digest));
}

/// Small segments and no retention, so that little data is enough to purge and rewrite.
fn eager(data: &std::path::Path) -> NodeOptions {
    let log = steeple_engine::log::LogOptions {
        segment_bytes: 64 << 10,
        segment_entries: 256,
        spare_segments: 0,
        ..steeple_engine::log::LogOptions::default()
    };
    NodeOptions {
        log,
        request_window: Duration::ZERO,
        history_retention: Duration::ZERO,
        compaction_interval: None,
        ..NodeOptions::at(data)
    }
}

#[tokio::test]
async fn pruning_and_compaction_give_space_back_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let digest = {
        let node = Node::start(eager(directory.path()), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..1000).await;
        let before = node.compact().await.unwrap();
        assert_eq!(before.segments_purged, 0, "the stream still lists every event");
        assert!(node.event(Revision(2)).is_ok());
        node.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
        create(&node, namespace, 1000..1010).await;
        let after = node.compact().await.unwrap();
        assert!(after.base_written && after.segments_purged > 5, "{after:?}");
        assert!(after.log_bytes_after < after.log_bytes_before / 3, "{after:?}");
        assert!(node.log().first() > LogIndex(900));
        node.stop().await;
        node.status().digest
    };
    // The log no longer reaches back to the beginning, so rebuilding needs the base snapshot.
    std::fs::remove_dir_all(directory.path().join("group-0").join("records")).unwrap();
    let node = Node::start(eager(directory.path()), NodeParts::default()).unwrap();
    assert!(node.status().rebuilt.is_some());
    assert_eq!(node.status().digest, digest);
    let namespace = node.namespace("test").unwrap();
    let state = node.read(|reader| reader.stream(namespace, spire::REGISTRATIONS));
    assert_eq!((state.low_water, state.last), (StreamSequence(1001), StreamSequence(1010)));
    create(&node, namespace, 2000..2001).await;
    node.stop().await;
}

#[tokio::test]
async fn mostly_dead_segments_are_rewritten_and_what_is_listed_stays_readable() {
    let directory = tempfile::tempdir().unwrap();
    let digest = rewrite_mostly_dead_segments(directory.path()).await;
    let node = Node::start(eager(directory.path()), NodeParts::default()).unwrap();
    assert_eq!((node.status().digest, node.status().rebuilt), (digest, None));
    node.stop().await;
}

async fn rewrite_mostly_dead_segments(data: &std::path::Path) -> steeple_engine::view::Digest {
    let node = Node::start(eager(data), NodeParts::default()).unwrap();
    let kept = node.open_namespace("kept").await.unwrap();
    let pruned = node.open_namespace("pruned").await.unwrap();
    create(&node, kept, 0..5).await;
    create(&node, pruned, 0..1000).await;
    create(&node, kept, 5..10).await;
    create(&node, pruned, 1000..1500).await;
    node.submit_to_end(pruned, None, prune_events(u64::MAX)).await.unwrap();
    let compacted = node.compact().await.unwrap();
    assert!(compacted.segments_rewritten > 0, "{compacted:?}");
    assert!(compacted.log_bytes_after < compacted.log_bytes_before, "{compacted:?}");
    let mut tail = node.tail(kept, from_start(), None).unwrap();
    for expected in 1..=10 {
        let item = tail.next(Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(item.items[0].sequence, StreamSequence(expected));
    }
    node.stop().await;
    node.status().digest
}

#[tokio::test]
async fn a_restored_node_can_lose_its_record_store_too() {
    let directory = tempfile::tempdir().unwrap();
    let restored = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    create(&node, namespace, 0..50).await;
    let sink = |chunk: bytes::Bytes| {
        bytes.extend_from_slice(&chunk);
        std::future::ready(true)
    };
    node.snapshot(false, sink).await.unwrap().unwrap();
    let digest = node.status().digest;
    node.stop().await;
    let data = restored.path().join("data");
    restore(&mut std::io::Cursor::new(bytes), &data, RecordStoreKind::Sled, &mut |_| {}).unwrap();
    {
        let node = Node::start(NodeOptions::at(&data), NodeParts::default()).unwrap();
        assert_eq!(node.status().digest, digest);
        assert_ne!(node.history_id(), HistoryId([0; 16]));
        node.compact().await.unwrap();
        assert!(node.status().base_covers >= node.log().base().index, "{:?}", node.status());
        node.stop().await;
    }
    std::fs::remove_dir_all(data.join("group-0").join("records")).unwrap();
    let node = Node::start(NodeOptions::at(&data), NodeParts::default()).unwrap();
    assert!(node.status().rebuilt.is_some());
    assert_eq!(node.status().digest, digest);
    node.stop().await;
}

#[tokio::test]
async fn a_record_store_that_cannot_be_rebuilt_is_not_destroyed() {
    let directory = tempfile::tempdir().unwrap();
    {
        let node = Node::start(eager(directory.path()), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..1000).await;
        node.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
        node.compact().await.unwrap();
        assert!(node.log().base().index > LogIndex::ZERO);
        node.stop().await;
    }
    let group = directory.path().join("group-0");
    let base = std::fs::read(group.join("base").join("base.snapshot")).unwrap();
    std::fs::write(group.join("base").join("base.snapshot"), &base[..base.len() / 2]).unwrap();
    let options = NodeOptions { store: RecordStoreKind::Memory, ..eager(directory.path()) };
    let refused = Node::start(options, NodeParts::default()).err().unwrap();
    assert!(matches!(refused, StartError::MissingEvents { .. }), "{refused}");
    let node = Node::start(eager(directory.path()), NodeParts::default()).unwrap();
    assert_eq!(node.status().rebuilt, None, "the records are as they were");
    node.stop().await;
}

#[tokio::test]
async fn the_newest_record_store_is_used_and_the_others_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let digest = {
        let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
        let namespace = node.open_namespace("test").await.unwrap();
        create(&node, namespace, 0..20).await;
        node.stop().await;
        node.status().digest
    };
    let group = directory.path().join("group-0");
    let place = |name: &str| group.join(name);
    std::fs::rename(place("records"), place("records-3")).unwrap();
    // One that somebody else wrote, and one that was only begun, are passed over.
    for name in ["records", "records-4"] {
        std::fs::create_dir(place(name)).unwrap();
        std::fs::write(place(name).join("STORE"), "another").unwrap();
    }
    let node = Node::start(NodeOptions::at(directory.path()), NodeParts::default()).unwrap();
    assert_eq!((node.status().digest, node.status().rebuilt), (digest, None));
    assert!(place("records-3").exists() && !place("records").exists() && !place("records-4").exists());
    node.stop().await;
}

#[tokio::test]
async fn the_log_is_kept_for_members_that_are_away_and_for_what_is_being_sent() {
    use std::sync::atomic::Ordering;
    let directory = tempfile::tempdir().unwrap();
    let options = NodeOptions { follower_log_retention: Duration::from_secs(3600), ..eager(directory.path()) };
    let node = Node::start(options, NodeParts::default()).unwrap();
    let namespace = node.open_namespace("test").await.unwrap();
    create(&node, namespace, 0..1000).await;
    node.submit_to_end(namespace, None, prune_events(u64::MAX)).await.unwrap();
    node.shared.alone.store(false, Ordering::SeqCst);
    node.compact().await.unwrap();
    assert_eq!(node.log().contiguous_from(), LogIndex(1), "somebody may be away");
    node.shared.alone.store(true, Ordering::SeqCst);
    node.shared.wanted_from.store(400, Ordering::SeqCst);
    node.compact().await.unwrap();
    let begins = node.log().contiguous_from();
    assert!(begins > LogIndex(1) && begins <= LogIndex(401), "{begins}");
    node.shared.wanted_from.store(outgoing::NOTHING_WANTED, Ordering::SeqCst);
    node.compact().await.unwrap();
    assert!(node.log().contiguous_from() > LogIndex(900));
    node.stop().await;
}
