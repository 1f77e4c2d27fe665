//! What can be asked of a node that nothing else disturbs.

use steeple_client::types::{AttestedNodeFilter, RegistrationEntryFilter};
use steeple_client::{Client, Namespace};
use tokio_stream::StreamExt;

use crate::consumer::Consumer;
use crate::records::Records;

/// Newest items of a stream that are compared with their revisions, which takes reading the events.
const ITEMS_COMPARED: u32 = 200;

/// Looks at the digest until two of them are of the same state: maintenance makes events of its own.
const LOOKS_MAX: usize = 100;

/// Everything in a namespace, with those of the given tokens that exist.
pub(crate) async fn fetch_records<'a>(namespace: &Namespace, tokens: impl Iterator<Item = &'a String>) -> Records {
    let mut records = Records::default();
    let mut entries = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await.expect("entries");
    while let Some(entry) = entries.next().await {
        let entry = entry.expect("an entry");
        let earlier = records.entries.insert(entry.spiffe_id.clone(), entry);
        assert_eq!(earlier, None, "two entries of one SPIFFE ID");
    }
    for node in namespace.list_attested_nodes(AttestedNodeFilter::default(), false).await.expect("nodes") {
        records.nodes.insert(node.spiffe_id.clone(), node);
    }
    for stored in namespace.list_node_selectors(0).await.expect("selectors") {
        records.selectors.insert(stored.spiffe_id, stored.selectors);
    }
    for bundle in namespace.list_bundles().await.expect("bundles") {
        records.bundles.insert(bundle.trust_domain_id.clone(), bundle);
    }
    for token in tokens {
        if let Some(found) = namespace.fetch_join_token(token.as_str()).await.expect("an answer about a token") {
            records.tokens.insert(found.token, found.expires_at);
        }
    }
    records
}

/// The digest kept while folding, once it is found to be that of the records.
pub(crate) async fn checked_digest(client: &Client) -> Vec<u8> {
    for _ in 0..LOOKS_MAX {
        let live = client.admin().digest(false).await.expect("a digest");
        let recomputed = client.admin().digest(true).await.expect("a digest");
        if live.revision == recomputed.revision {
            assert_eq!(live.digest, recomputed.digest, "digest at revision {}", live.revision);
            return live.digest;
        }
    }
    panic!("the node is never at rest");
}

/// Holds a namespace's streams against what their consumer was told.
pub(crate) async fn check_streams(namespace: &Namespace, consumer: &Consumer) {
    let entry_events = namespace.list_registration_entry_events(0, 0).await.expect("events");
    let entry_events: Vec<_> = entry_events.into_iter().map(|event| (event.event_id, event.entry_id)).collect();
    check_items("registrations", &entry_events, consumer);
    let node_events = namespace.list_attested_node_events(0, 0).await.expect("events");
    let node_events: Vec<_> = node_events.into_iter().map(|event| (event.event_id, event.spiffe_id)).collect();
    check_items("nodes", &node_events, consumer);
    for state in namespace.stream_status().await.expect("where streams stand").streams {
        let (stream, last) = (state.stream.as_str(), consumer.last_sequence(&state.stream));
        assert_eq!(state.last_sequence, last, "{}: end of {stream}", consumer.namespace);
        let after = last.saturating_sub(u64::from(ITEMS_COMPARED)).max(state.oldest_sequence.saturating_sub(1));
        let items = namespace.list_items(stream, after, ITEMS_COMPARED, true).await.expect("items");
        assert_eq!(items.len() as u64, last - after, "{}: items of {stream} after {after}", consumer.namespace);
        for (number, listed) in (after + 1..).zip(items) {
            let item = listed.item.expect("an item");
            let same = item.sequence == number && consumer.saw(stream, number, &item.key, Some(listed.revision));
            assert!(same, "{}: item {number} of {stream} is {item:?}", consumer.namespace);
        }
    }
}

/// Numbers without a hole up to the last one, each about what the consumer was told.
fn check_items(stream: &str, items: &[(u64, String)], consumer: &Consumer) {
    let Some((first, _)) = items.first() else { return };
    for (number, (sequence, key)) in (*first..).zip(items) {
        assert_eq!(*sequence, number, "{}: hole or repetition in {stream}", consumer.namespace);
        assert!(consumer.saw(stream, number, key, None), "{}: item {number} of {stream}: {key}", consumer.namespace);
    }
    let last = first + items.len() as u64 - 1;
    assert_eq!(last, consumer.last_sequence(stream), "{}: end of {stream}", consumer.namespace);
}
