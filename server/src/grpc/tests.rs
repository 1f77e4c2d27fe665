//! The services over a real node in memory, through the client or beside it.

use std::time::Duration;

use steeple_client::administration::LogStatisticsRequest;
use steeple_client::events::record::Record as Kind;
use steeple_client::events::{
    Collection, HistoryRequest, RecordKey, StartPosition, StateAtRequest, TailRequest, state_at_request,
};
use steeple_client::types::datastore_client::DatastoreClient;
use steeple_client::types::mutation_outcome::Result as Answer;
use steeple_client::types::{
    AttestedNode, AttestedNodeFilter, BatchRequest, Bundle, BySelectors, CaJournal, CreateAttestedNodeRequest,
    DeleteAttestedNodeRequest, DeleteMode, FederationRelationship, FetchBundleRequest, MatchBehavior, Mutation,
    PruneCaJournalsRequest, PrunedEntry, RegistrationEntry, RegistrationEntryFilter, RegistrationEntryMask, Selector,
    StreamAttestedNodesRequest,
};
use steeple_client::{
    BootstrapState, Client, Error, Moment, Namespace, Operation, RequestId, TailContent, TailOptions, TailStart,
    WriterOptions,
};
use steeple_engine::ids::StreamSequence;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire::REGISTRATIONS;
use steeple_engine::spire::limits::PRUNE_NODES_MAX;
use steeple_wire::admin::v1::DeleteNamespaceRequest;
use steeple_wire::admin::v1::admin_client::AdminClient;
use steeple_wire::common::v1::{ReadContext, RequestContext};
use steeple_wire::cursor::Cursor;
use steeple_wire::events::v1::ListItemsRequest;
use steeple_wire::events::v1::events_client::EventsClient;
use steeple_wire::status::{ErrorKind, REVISION_HEADER};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel;

use super::lists::FEW;
use super::{connect, limits};
use crate::node::tail::{StreamPosition, TailError};
use crate::node::{Node, NodeOptions, NodeParts};

/// A node in memory with one namespace, and ways to it.
struct Served {
    node: Node,
    channel: Channel,
    client: Client,
    spire: Namespace,
}

async fn serve() -> Served {
    let node = tokio::task::spawn_blocking(|| Node::start(NodeOptions::in_memory(), NodeParts::default()));
    let node = node.await.unwrap().unwrap();
    let channel = connect(node.clone()).await.unwrap();
    let client = Client::from_channel(channel.clone());
    let spire = client.admin().open_namespace("prod").await.unwrap();
    Served { node, channel, client, spire }
}

fn selector(value: &str) -> Selector {
    Selector { r#type: "unix".into(), value: value.into() }
}

fn entry(id: &str, values: &[&str]) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: id.into(),
        spiffe_id: format!("spiffe://td.example/{id}"),
        parent_id: "spiffe://td.example/agent".into(),
        selectors: values.iter().map(|value| selector(value)).collect(),
        ..Default::default()
    }
}

fn agent(name: &str) -> AttestedNode {
    AttestedNode { spiffe_id: name.into(), attestation_data_type: "t".into(), ..Default::default() }
}

async fn create_entries(spire: &Namespace, count: usize) {
    for first in (0..count).step_by(limits::BATCH_MUTATIONS_MAX) {
        let last = (first + limits::BATCH_MUTATIONS_MAX).min(count);
        let operation = |number| {
            let entry = Some(entry(&format!("e{number:05}"), &["uid:1"]));
            Operation::CreateRegistrationEntry(steeple_client::types::CreateRegistrationEntryRequest {
                context: None,
                entry,
            })
        };
        let outcomes = spire.batch((first..last).map(operation).collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.answer.is_ok()));
        assert!(outcomes.is_sorted_by(|left, right| left.revision < right.revision), "decided in order");
    }
}

#[tokio::test]
async fn entries_are_created_found_changed_and_deleted() {
    let Served { spire, .. } = serve().await;
    let created = spire.create_or_return_registration_entry(entry("a", &["uid:1", "gid:2"])).await.unwrap();
    assert!(!created.existing);
    let similar_but_another = spire.create_or_return_registration_entry(entry("b", &["gid:2", "uid:1"])).await.unwrap();
    assert!(!similar_but_another.existing);
    let again = spire.create_or_return_registration_entry(entry("a", &["gid:2", "uid:1"])).await.unwrap();
    assert!(again.existing && again.entry == created.entry);
    assert_eq!(spire.fetch_registration_entry("a").await.unwrap(), Some(created.entry.clone()));
    assert_eq!(spire.fetch_registration_entry("x").await.unwrap(), None);
    let some = spire.fetch_registration_entries(vec!["b".into(), "x".into(), "a".into(), "b".into()]).await.unwrap();
    assert_eq!(some.iter().map(|entry| entry.entry_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let by_selectors = BySelectors { r#match: MatchBehavior::Superset.into(), selectors: vec![selector("uid:1")] };
    let filter = RegistrationEntryFilter { by_selectors: Some(by_selectors), ..Default::default() };
    assert_eq!(spire.count_registration_entries(filter.clone()).await.unwrap(), 2);
    assert_eq!(spire.list_registration_entries(filter).await.unwrap().len(), 2);

    let mask = RegistrationEntryMask { hint: true, ..Default::default() };
    let change = RegistrationEntry { hint: "h".into(), ..entry("a", &[]) };
    let updated = spire.update_registration_entry(change, Some(mask)).await.unwrap();
    assert_eq!((updated.hint.as_str(), updated.revision_number, updated.selectors.len()), ("h", 1, 2));
    assert_eq!(spire.delete_registration_entry("a").await.unwrap(), updated);
    let error = spire.delete_registration_entry("a").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::NotFound, "datastore-sql: record not found"));
    let error = spire.create_registration_entry(entry("c", &[])).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(error.to_string(), "datastore-validation: invalid registration entry: missing selector list");
    let events = spire.list_registration_entry_events(0, 0).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event_id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(spire.fetch_registration_entry_event(3).await.unwrap(), events[2]);
    assert!(spire.fetch_registration_entry_event(5).await.unwrap_err().is_not_found());
    let bounds = spire.fetch_event_bounds().await.unwrap();
    assert_eq!((bounds.0.oldest_event_id, bounds.0.last_event_id, bounds.1.last_event_id), (1, 4, 0));
    assert_eq!(spire.prune_registration_entry_events(Duration::ZERO).await.unwrap(), 4);
    assert!(spire.list_registration_entry_events(0, 0).await.unwrap().is_empty());
    let error = spire.list_registration_entry_events(1, 2).await.unwrap_err();
    assert_eq!(error.to_string(), "datastore-sql: can't set both greater and less than event id");
    assert_eq!(spire.prune_registration_entries(1_000_000).await.unwrap().pruned, 0);
}

#[tokio::test]
async fn nodes_and_their_selectors_are_kept_apart() {
    let Served { spire, .. } = serve().await;
    spire.create_attested_node(agent("n1")).await.unwrap();
    spire.set_node_selectors("n1", vec![selector("b"), selector("a")]).await.unwrap();
    spire.set_node_selectors("orphan", vec![selector("c")]).await.unwrap();
    assert!(spire.create_attested_node(agent("n1")).await.unwrap_err().is_already_exists());
    let node = spire.fetch_attested_node("n1").await.unwrap().unwrap();
    assert!(node.selectors.is_empty());
    let nodes = spire.fetch_attested_nodes(vec!["n1".into(), "n2".into()]).await.unwrap();
    assert_eq!((nodes.len(), &nodes[0].selectors), (1, &vec![selector("b"), selector("a")]));
    let filter = AttestedNodeFilter { by_spiffe_ids: vec!["n1".into()], ..Default::default() };
    assert_eq!(spire.list_attested_nodes(filter.clone(), true).await.unwrap(), nodes);
    assert_eq!(spire.count_attested_nodes(filter.clone()).await.unwrap(), 1);
    let streamed: Vec<_> = spire.stream_attested_nodes(filter, false).await.unwrap().collect().await;
    assert_eq!(streamed.into_iter().map(Result::unwrap).collect::<Vec<_>>(), std::slice::from_ref(&node));
    assert_eq!(spire.get_node_selectors("orphan").await.unwrap(), [selector("c")]);
    assert_eq!(spire.list_node_selectors(0).await.unwrap().len(), 2);
    let renewed = AttestedNode { cert_serial_number: "7".into(), cert_not_after: 100, ..node };
    spire.update_attested_node(renewed, None).await.unwrap();
    assert_eq!(spire.list_node_selectors(99_999_999).await.unwrap().len(), 1);
    assert_eq!(spire.list_node_selectors(100_000_000).await.unwrap().len(), 0);
    let kept = spire.prune_attested_expired_nodes(100_000_000, true, 0).await.unwrap();
    let pruned = spire.prune_attested_expired_nodes(100_000_001, true, 0).await.unwrap();
    assert_eq!((kept.pruned, pruned.pruned, pruned.more), (0, 1, false));
    assert!(spire.delete_attested_node("n1").await.unwrap_err().is_not_found());
    assert_eq!(spire.list_attested_node_events(0, 0).await.unwrap().len(), 5);
    assert_eq!(spire.fetch_attested_node_event(1).await.unwrap().spiffe_id, "n1");
    assert_eq!(spire.prune_attested_node_events(Duration::from_secs(3600)).await.unwrap(), 0);
}

#[tokio::test]
async fn bundles_relationships_tokens_and_journals_go_through() {
    let Served { spire, .. } = serve().await;
    let bundle = Bundle { trust_domain_id: "spiffe://other".into(), refresh_hint: 7, ..Default::default() };
    assert_eq!(spire.create_bundle(bundle.clone()).await.unwrap(), bundle);
    assert!(spire.create_bundle(bundle.clone()).await.unwrap_err().is_already_exists());
    assert_eq!(spire.set_bundle(bundle.clone()).await.unwrap(), bundle);
    assert_eq!(spire.update_bundle(bundle.clone(), None).await.unwrap(), bundle);
    assert_eq!(spire.append_bundle(bundle.clone()).await.unwrap(), bundle);
    assert_eq!(spire.fetch_bundle("spiffe://other").await.unwrap(), Some(bundle.clone()));
    assert_eq!((spire.count_bundles().await.unwrap(), spire.list_bundles().await.unwrap()), (1, vec![bundle.clone()]));
    assert_eq!(spire.list_bundles_page("", 5).await.unwrap(), (vec![bundle.clone()], "1".into()));
    assert_eq!(spire.list_bundles_page("1", 5).await.unwrap(), (vec![], String::new()));
    let error = spire.list_bundles_page("", 0).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot paginate with pagesize = 0");
    let error = spire.prune_bundle("spiffe://other", 0).await.unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::Unknown, "prune failed: expiration time is zero value")
    );
    let error = spire.taint_x509_ca("spiffe://other", "aa").await.unwrap_err();
    assert_eq!(error.to_string(), "no ca found with provided subject key ID");
    assert!(spire.revoke_x509_ca("spiffe://x", "aa").await.unwrap_err().is_not_found());
    assert!(spire.taint_jwt_key("spiffe://other", "k").await.unwrap_err().is_not_found());
    assert!(spire.revoke_jwt_key("spiffe://other", "k").await.unwrap_err().is_not_found());

    let relationship = FederationRelationship {
        trust_domain: "other".into(),
        bundle_endpoint_url: "https://other/bundle".into(),
        bundle_endpoint_profile: "https_web".into(),
        ..Default::default()
    };
    spire.create_federation_relationship(relationship.clone()).await.unwrap();
    let found = spire.fetch_federation_relationship("other").await.unwrap().unwrap();
    assert_eq!(found, FederationRelationship { trust_domain_bundle: Some(bundle), ..relationship.clone() });
    assert_eq!(spire.list_federation_relationships().await.unwrap(), std::slice::from_ref(&found));
    assert_eq!(spire.list_federation_relationships_page("", 1).await.unwrap().1, "1");
    assert_eq!(spire.update_federation_relationship(relationship, None).await.unwrap(), found);
    spire.delete_federation_relationship("other").await.unwrap();
    spire.delete_bundle("spiffe://other", DeleteMode::Restrict).await.unwrap();

    spire.create_join_token("t0ken", 50).await.unwrap();
    assert_eq!(spire.fetch_join_token("t0ken").await.unwrap().unwrap().expires_at, 50);
    assert_eq!(spire.fetch_join_token("other").await.unwrap(), None);
    assert_eq!(spire.prune_join_tokens(50_999_999).await.unwrap(), 0);
    assert_eq!(spire.prune_join_tokens(51_000_000).await.unwrap(), 1);
    assert!(spire.delete_join_token("t0ken").await.unwrap_err().is_not_found());

    let journal = CaJournal { id: 0, active_x509_authority_id: "a".into(), data: vec![] };
    let stored = spire.set_ca_journal(journal).await.unwrap();
    assert_eq!((stored.id, spire.fetch_ca_journal("a").await.unwrap()), (1, Some(stored.clone())));
    assert_eq!(spire.list_ca_journals().await.unwrap(), [stored]);
    assert_eq!(spire.prune_ca_journals(1).await.unwrap(), 1);
}

/// More nodes than one event may remove, and one more than the batch.
#[tokio::test]
async fn a_batch_larger_than_a_step_is_pruned_whole_and_once() {
    let Served { spire, .. } = serve().await;
    let count = PRUNE_NODES_MAX as i32 + 2;
    let create = |number: i32| {
        let attestation_data_type = if number == 0 { "join_token" } else { "t" }.to_owned();
        let expired = AttestedNode {
            cert_not_after: i64::from(number) + 1,
            cert_serial_number: "1".into(),
            can_reattest: true,
            attestation_data_type,
            ..agent(&format!("n{number}"))
        };
        Operation::CreateAttestedNode(CreateAttestedNodeRequest { context: None, node: Some(expired) })
    };
    for first in (0..count).step_by(limits::BATCH_MUTATIONS_MAX) {
        let last = (first + limits::BATCH_MUTATIONS_MAX as i32).min(count);
        let outcomes = spire.batch((first..last).map(create).collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.answer.is_ok()));
    }
    let selectors = vec![Selector { r#type: "spiffe_id".into(), value: "n0".into() }];
    let alias = RegistrationEntry { parent_id: "n0".into(), selectors, ..entry("alias", &[]) };
    let alias = spire.create_registration_entry(alias).await.unwrap();

    let chosen = spire.with_request(RequestId([6; 16]));
    let pruned = chosen.prune_attested_expired_nodes(i64::MAX, false, count - 1).await.unwrap();
    assert_eq!((pruned.pruned, pruned.more), (count as u64 - 1, true));
    assert_eq!(pruned.cascaded, [pruned_entry(&alias)]);
    let again = chosen.prune_attested_expired_nodes(i64::MAX, false, count - 1).await.unwrap();
    assert_eq!(again, pruned, "a repeated request is carried out once");
    let rest = spire.prune_attested_expired_nodes(i64::MAX, false, 0).await.unwrap();
    assert_eq!((rest.pruned, rest.more), (1, false));
}

fn pruned_entry(entry: &RegistrationEntry) -> PrunedEntry {
    PrunedEntry {
        spiffe_id: entry.spiffe_id.clone(),
        parent_id: entry.parent_id.clone(),
        entry_id: entry.entry_id.clone(),
    }
}

#[tokio::test]
async fn prunes_tell_what_they_removed() {
    let Served { channel, spire, .. } = serve().await;
    let create = |number: i64| {
        let entry = RegistrationEntry { entry_expiry: number, ..entry(&format!("e{number}"), &["uid:1"]) };
        spire.create_registration_entry(entry)
    };
    let (first, second) = (create(1).await.unwrap(), create(2).await.unwrap());
    create(3).await.unwrap();
    let pruned = spire.prune_registration_entries(3_000_000).await.unwrap();
    assert_eq!(pruned.entries, [pruned_entry(&first), pruned_entry(&second)]);
    assert_eq!((pruned.pruned, pruned.truncated), (2, false));

    spire
        .create_attested_node(AttestedNode { attestation_data_type: "join_token".into(), ..agent("n") })
        .await
        .unwrap();
    let selectors = vec![Selector { r#type: "spiffe_id".into(), value: "n".into() }];
    let alias = RegistrationEntry { parent_id: "n".into(), selectors, ..entry("alias", &[]) };
    let alias = spire.create_registration_entry(alias).await.unwrap();
    let mut raw = DatastoreClient::new(channel);
    let context = Some(RequestContext { namespace: "prod".into(), request_id: Vec::new() });
    let request = DeleteAttestedNodeRequest { context: context.clone(), spiffe_id: "n".into() };
    let deleted = raw.delete_attested_node(request).await.unwrap().into_inner();
    assert_eq!((deleted.cascaded.as_slice(), deleted.cascaded_truncated), (&[pruned_entry(&alias)][..], false));

    let stale = spire.set_ca_journal(CaJournal::default()).await.unwrap();
    let request = PruneCaJournalsRequest { context, all_expire_before: 1 };
    let pruned = raw.prune_ca_journals(request).await.unwrap().into_inner();
    assert_eq!((pruned.pruned, pruned.ids, pruned.truncated), (1, vec![stale.id], false));
}

#[tokio::test]
async fn a_tail_too_many_is_told_to_come_back() {
    let options = NodeOptions { tails_max: 0, ..NodeOptions::in_memory() };
    let node = tokio::task::spawn_blocking(|| Node::start(options, NodeParts::default())).await.unwrap().unwrap();
    node.open_namespace("prod").await.unwrap();
    let mut events = EventsClient::new(connect(node).await.unwrap());
    let request = TailRequest { namespace: "prod".into(), ..Default::default() };
    let status = match events.tail(request).await {
        Ok(answer) => answer.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!((ErrorKind::of(&status), status.code()), (Some(ErrorKind::Overloaded), Code::Unavailable));
}

/// Short lists are answered where the connection is served: also when every thread for longer reads is taken.
#[test]
fn short_lists_take_no_other_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let Served { spire, channel, .. } = serve().await;
        let (few, count) = (FEW.records, FEW.records + 3);
        create_entries(&spire, count).await;
        let (release, held) = std::sync::mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || held.recv());
        let everything = RegistrationEntryFilter::default;
        assert_eq!(spire.list_registration_entry_events(count as u64, 0).await.unwrap(), []);
        assert_eq!(spire.list_registration_entry_events(u64::MAX, 0).await.unwrap(), []);
        assert_eq!(spire.list_registration_entry_events(0, 1).await.unwrap(), []);
        assert_eq!(spire.list_attested_node_events(0, 0).await.unwrap(), []);
        assert_eq!(spire.list_registration_entry_events(3, 0).await.unwrap().len(), few);
        assert_eq!(spire.count_registration_entries(everything()).await.unwrap() as usize, count);
        assert_eq!(spire.count_attested_nodes(AttestedNodeFilter::default()).await.unwrap(), 0);
        let (page, token) = spire.list_registration_entries_page(everything(), "", few as i32).await.unwrap();
        assert_eq!((page.len(), token), (few, few.to_string()));
        let rest = spire.list_registration_entries_page(everything(), &few.to_string(), 1000).await.unwrap();
        assert_eq!(rest.0.len(), 3);
        let none = RegistrationEntryFilter { by_parent_id: "nobody".into(), ..everything() };
        assert_eq!(spire.list_registration_entries(none).await.unwrap(), []);
        let items = |after_sequence| ListItemsRequest {
            context: Some(ReadContext { namespace: "prod".into(), ..Default::default() }),
            stream: "registrations".into(),
            after_sequence,
            ..Default::default()
        };
        let mut events = EventsClient::new(channel);
        assert_eq!(events.list_items(items(count as u64)).await.unwrap().into_inner().items, []);
        let patience = Duration::from_millis(50);
        let later = tokio::time::timeout(patience, spire.list_registration_entry_events(2, 0)).await;
        assert!(later.is_err(), "what is long waits for a thread");
        let later = tokio::time::timeout(patience, spire.list_registration_entries(everything())).await;
        assert!(later.is_err(), "what is long waits for a thread");
        release.send(()).unwrap();
        taken.await.unwrap().unwrap();
        assert_eq!(spire.list_registration_entry_events(2, 0).await.unwrap().len(), few + 1);
    });
}

#[tokio::test]
async fn a_list_is_the_same_whole_streamed_and_by_pages() {
    let Served { spire, .. } = serve().await;
    let count = limits::READ_STEP + 100;
    create_entries(&spire, count).await;
    let everything = RegistrationEntryFilter::default;
    let whole = spire.list_registration_entries(everything()).await.unwrap();
    assert_eq!(whole.len(), count);
    let streamed = spire.stream_registration_entries(everything()).await.unwrap();
    let streamed: Vec<_> = streamed.map(Result::unwrap).collect().await;
    assert_eq!(streamed, whole);
    let (mut paged, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = spire.list_registration_entries_page(everything(), &token, 4_150).await.unwrap();
        assert_eq!(page.is_empty(), next.is_empty());
        if page.is_empty() {
            break;
        }
        paged.extend(page);
        token = next;
    }
    assert_eq!(paged, whole);
    let events = spire.list_registration_entry_events(0, 0).await.unwrap();
    assert_eq!(events.len(), count);
    assert_eq!(spire.list_registration_entry_events(count as u64 - 2, 0).await.unwrap(), events[count - 2..]);
    assert_eq!(spire.list_registration_entry_events(0, 4_098).await.unwrap(), events[..4_097]);
}

#[tokio::test]
async fn a_list_that_is_too_large_names_the_way_out() {
    let Served { spire, .. } = serve().await;
    let value = "x".repeat(16_000);
    for number in 0..72 {
        let selectors = (0..60).map(|place| selector(&format!("{place}:{value}"))).collect();
        let large = RegistrationEntry { selectors, ..entry(&format!("large{number}"), &[]) };
        spire.create_registration_entry(large).await.unwrap();
    }
    let list = spire.list_registration_entries(RegistrationEntryFilter::default()).await;
    let error = list.map(|entries| entries.len()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Some(ErrorKind::AnswerTooLarge), Code::ResourceExhausted));
    assert!(error.to_string().contains("StreamRegistrationEntries"), "{error}");
    let streamed = spire.stream_registration_entries(RegistrationEntryFilter::default()).await.unwrap();
    assert_eq!(streamed.map(Result::unwrap).fold(0, |count, _| count + 1).await, 72);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_answer() {
    let Served { channel, spire, .. } = serve().await;
    let mut raw = DatastoreClient::new(channel);
    let request = |name: &str| CreateAttestedNodeRequest {
        context: Some(RequestContext { namespace: "prod".into(), request_id: vec![5; 16] }),
        node: Some(agent(name)),
    };
    let first = raw.create_attested_node(request("n")).await.unwrap();
    let second = raw.create_attested_node(request("n")).await.unwrap();
    assert_eq!(first.get_ref(), second.get_ref());
    assert_eq!(first.metadata().get(REVISION_HEADER), second.metadata().get(REVISION_HEADER));
    let reused = raw.create_attested_node(request("m")).await.unwrap_err();
    assert_eq!(ErrorKind::of(&reused), Some(ErrorKind::RequestIdReused));
    let chosen = spire.with_request(RequestId([5; 16]));
    assert_eq!(chosen.create_attested_node(agent("n")).await.unwrap(), agent("n"));
    assert_eq!(spire.list_attested_node_events(0, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn malformed_requests_are_told_what_is_wrong() {
    let Served { channel, client, spire, .. } = serve().await;
    let mut raw = DatastoreClient::new(channel.clone());
    for length in [1, 15, 17, 64] {
        let context = RequestContext { namespace: "prod".into(), request_id: vec![0; length] };
        let request = CreateAttestedNodeRequest { context: Some(context), node: Some(agent("n")) };
        let status = raw.create_attested_node(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("request id"), "{status}");
    }
    let status = raw.fetch_bundle(FetchBundleRequest::default()).await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::NamespaceUnknown));
    let error = client.namespace("nowhere").count_bundles().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (Some(ErrorKind::NamespaceUnknown), Code::FailedPrecondition));
    let error = client.namespace("x".repeat(300)).count_bundles().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::LimitExceeded));

    let too_many: Vec<_> = (0..=limits::BATCH_MUTATIONS_MAX)
        .map(|_| Operation::DeleteAttestedNode(DeleteAttestedNodeRequest::default()))
        .collect();
    let outcomes = spire.batch(too_many).await;
    assert_eq!(outcomes[0].answer.as_ref().unwrap_err().kind(), Some(ErrorKind::LimitExceeded));
    let keys = vec![String::new(); limits::TAIL_KEYS_MAX + 1];
    let error = spire.tail(TailOptions { keys, ..Default::default() }).next().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::LimitExceeded));
    let error = spire.list_items("weather", 0, 1, false).await.unwrap_err();
    assert!(error.to_string().contains("registrations, nodes"), "{error}");
    let error = spire.set_node_selectors("n", vec![selector(&"x".repeat(20_000))]).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::LimitExceeded));
    let error = spire.history(Collection::CaJournals, "seven", 0, 0).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    let mut events = EventsClient::new(channel);
    let request = steeple_client::events::BootstrapRequest {
        namespace: "prod".into(),
        collections: vec![77],
        ..Default::default()
    };
    assert_eq!(events.bootstrap(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn each_mutation_of_a_batch_has_its_own_outcome() {
    let Served { spire, .. } = serve().await;
    let create = |name: &str| {
        let request = CreateAttestedNodeRequest { context: None, node: Some(agent(name)) };
        Operation::CreateAttestedNode(request)
    };
    let delete =
        |name: &str| Operation::DeleteAttestedNode(DeleteAttestedNodeRequest { context: None, spiffe_id: name.into() });
    let outcomes = spire.batch(vec![create("a"), create("a"), delete("a"), create("a"), delete("b")]).await;
    let codes: Vec<_> = outcomes.iter().map(|outcome| outcome.answer.as_ref().err().map(Error::code)).collect();
    assert_eq!(codes, [None, Some(Code::AlreadyExists), None, None, Some(Code::NotFound)]);
    assert!(matches!(&outcomes[2].answer, Ok(Answer::DeleteAttestedNode(answer)) if answer.node == Some(agent("a"))));
    assert_eq!(spire.seen_revision(), outcomes[3].revision);
}

#[tokio::test]
async fn a_writer_carries_out_in_order_what_was_handed_over_in_order() {
    let Served { spire, .. } = serve().await;
    let writer = spire.writer(WriterOptions { in_flight_max: 700 });
    let create = |name: String| {
        let request = CreateAttestedNodeRequest { context: None, node: Some(agent(&name)) };
        Operation::CreateAttestedNode(request)
    };
    let delete =
        |name: String| Operation::DeleteAttestedNode(DeleteAttestedNodeRequest { context: None, spiffe_id: name });
    let writing = {
        let writer = writer.clone();
        async move {
            let mut written = Vec::new();
            for number in 0..1_000 {
                written.push((true, writer.write(create(format!("n{number}"))).await));
                written.push((false, writer.write(create(format!("n{number}"))).await));
                if number % 2 == 1 {
                    written.push((true, writer.write(delete(format!("n{number}"))).await));
                }
            }
            written
        }
    };
    let mut newest = 0;
    for (succeeds, written) in writing.await {
        let outcome = written.await;
        match outcome.answer {
            Ok(_) => {
                assert!(succeeds && outcome.revision > newest, "{newest} {}", outcome.revision);
                newest = outcome.revision;
            }
            Err(error) => assert!(!succeeds && error.code() == Code::AlreadyExists, "{error}"),
        }
    }
    assert_eq!(spire.count_attested_nodes(AttestedNodeFilter::default()).await.unwrap(), 500);
    assert_eq!(spire.seen_revision(), newest);
}

#[tokio::test]
async fn a_stream_of_batches_is_about_one_namespace_and_each_batch_is_limited() {
    let Served { channel, client, .. } = serve().await;
    client.admin().open_namespace("other").await.unwrap();
    let mutation = || Mutation { operation: Some(Operation::DeleteAttestedNode(DeleteAttestedNodeRequest::default())) };
    let batch = |namespace: &str, count| BatchRequest {
        namespace: namespace.into(),
        mutations: std::iter::repeat_with(mutation).take(count).collect(),
    };
    let many = limits::BATCH_MUTATIONS_MAX + 1;
    for (batches, answered, code) in [
        (vec![batch("prod", 1), batch("", 2), batch("other", 1), batch("prod", 1)], 2, Some(Code::InvalidArgument)),
        (vec![batch("prod", 1), batch("prod", many)], 1, Some(Code::InvalidArgument)),
        (vec![batch("prod", 1), batch("prod", 0), batch("prod", 3)], 3, None),
    ] {
        let mut raw = DatastoreClient::new(channel.clone());
        let mut answers = raw.stream_batches(tokio_stream::iter(batches.clone())).await.unwrap().into_inner();
        for batch in &batches[..answered] {
            let answer = answers.message().await.unwrap().unwrap();
            assert_eq!(answer.outcomes.len(), batch.mutations.len());
        }
        match (answers.message().await, code) {
            (Ok(None), None) => {}
            (Err(status), Some(code)) => assert_eq!(status.code(), code, "{status}"),
            (end, _) => panic!("{end:?}"),
        }
    }
    let mut raw = DatastoreClient::new(channel.clone());
    let status = raw.stream_batches(tokio_stream::iter([batch("nowhere", 1)])).await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::NamespaceUnknown));
    let status = raw.stream_batches(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_stream_of_batches_ends_when_its_node_stops() {
    let Served { node, channel, .. } = serve().await;
    let first = BatchRequest { namespace: "prod".into(), mutations: Vec::new() };
    let batches = tokio_stream::once(first).chain(tokio_stream::pending());
    let mut answers = DatastoreClient::new(channel).stream_batches(batches).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    node.stop().await;
    let status = answers.message().await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::Unavailable));
}

#[tokio::test]
async fn a_read_waits_for_the_revision_that_it_must_reflect() {
    let Served { node, channel, spire, .. } = serve().await;
    let next = node.revision().0 + 1;
    let mut raw = DatastoreClient::new(channel);
    let context = ReadContext { namespace: "prod".into(), consistency: 0, min_revision: next };
    let request = FetchBundleRequest { context: Some(context), trust_domain_id: "spiffe://a".into() };
    let waiting = tokio::spawn(async move { raw.fetch_bundle(request).await });
    spire.create_bundle(Bundle { trust_domain_id: "spiffe://a".into(), ..Default::default() }).await.unwrap();
    assert!(waiting.await.unwrap().unwrap().into_inner().bundle.is_some());
}

#[tokio::test]
async fn answers_tell_the_revision_that_they_show() {
    let Served { node, channel, spire, .. } = serve().await;
    spire.create_attested_node(agent("spiffe://td/a")).await.unwrap();
    let now = node.revision().0;
    let mut raw = DatastoreClient::new(channel.clone());
    let context = || Some(ReadContext { namespace: "prod".into(), ..Default::default() });
    let nodes = StreamAttestedNodesRequest { context: context(), ..Default::default() };
    let nodes = raw.stream_attested_nodes(nodes).await.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!((nodes.nodes.len(), nodes.revision), (1, now));

    let mut raw = EventsClient::new(channel);
    let record = || Some(RecordKey { collection: Collection::AttestedNodes.into(), key: "spiffe://td/a".into() });
    let history = HistoryRequest { namespace: "prod".into(), record: record(), ..Default::default() };
    let history = raw.history(history).await.unwrap();
    assert_eq!(history.metadata().get(REVISION_HEADER).unwrap(), now.to_string().as_str());
    assert_eq!(history.into_inner().message().await.unwrap().unwrap().revision, now);
    let at = Some(state_at_request::At::Revision(1));
    let state = StateAtRequest { namespace: "prod".into(), record: record(), at, ..Default::default() };
    let state = raw.state_at(state).await.unwrap();
    assert_eq!(state.metadata().get(REVISION_HEADER).unwrap(), now.to_string().as_str());
}

/// The next event of a tail, progress left out.
async fn next_event(tail: &mut steeple_client::Tail) -> (steeple_client::events::Event, String) {
    loop {
        let message = tail.next().await.unwrap();
        if let TailContent::Event(event) = message.content {
            return (event, message.cursor);
        }
    }
}

#[tokio::test]
async fn a_tail_goes_from_history_to_live_and_resumes() {
    let Served { spire, .. } = serve().await;
    spire.create_registration_entry(entry("a", &["uid:1"])).await.unwrap();
    spire.create_attested_node(agent("n")).await.unwrap();
    spire.create_join_token("s3cret", 50).await.unwrap();
    let mut tail = spire.tail(TailOptions { start: TailStart::Oldest, ..Default::default() });
    let (first, cursor) = next_event(&mut tail).await;
    assert_eq!(
        (first.items[0].stream.as_str(), first.items[0].sequence, first.items[0].key.as_str()),
        ("registrations", 1, "a")
    );
    let change = first.items[0].change.clone().unwrap();
    assert_eq!((change.before, change.previous_revision), (None, 0));
    assert!(matches!(change.after.unwrap().record, Some(Kind::RegistrationEntry(entry)) if entry.entry_id == "a"));
    assert_eq!(first.request_id.len(), 16);
    assert_eq!(next_event(&mut tail).await.0.items[0].stream, "nodes");
    let message = tail.next().await.unwrap();
    let TailContent::Progress { revision, live: true } = message.content else { panic!("{message:?}") };
    assert_eq!(revision, spire.seen_revision(), "the token is behind the tail, unseen");

    spire.delete_registration_entry("a").await.unwrap();
    let (live, _) = next_event(&mut tail).await;
    let change = live.items[0].change.clone().unwrap();
    assert!(change.after.is_none() && change.before.is_some() && change.previous_revision == first.revision);

    let start = TailStart::Cursor(cursor);
    let options = TailOptions { start: start.clone(), keys: vec!["a".into()], ..Default::default() };
    assert_eq!(next_event(&mut spire.tail(options)).await.0, live);
    let streams = vec!["nodes".to_owned()];
    let options = TailOptions { start, streams, without_changes: true, ..Default::default() };
    let (event, _) = next_event(&mut spire.tail(options)).await;
    assert_eq!((event.items[0].key.as_str(), &event.items[0].change), ("n", &None));
}

#[tokio::test]
async fn cursors_that_do_not_fit_are_refused_each_in_its_way() {
    let Served { node, client, spire, .. } = serve().await;
    for name in ["a", "b", "c"] {
        spire.create_attested_node(agent(name)).await.unwrap();
    }
    let mut oldest = spire.tail(TailOptions { start: TailStart::Oldest, ..Default::default() });
    let old = next_event(&mut oldest).await.1;
    assert_eq!(spire.prune_attested_node_events(Duration::ZERO).await.unwrap(), 3);
    let good = Cursor::decode(&spire.stream_status().await.unwrap().cursor).unwrap();
    let foreign_history = Cursor { history: [1; 16], ..good.clone() }.encode();
    let foreign_namespace = Cursor { namespace: 99, ..good.clone() }.encode();
    let ahead = Cursor { revision: node.revision().0 + 1, ..good.clone() }.encode();
    let ahead_in_stream = Cursor { streams: vec![(1, 0), (2, 50)], ..good.clone() }.encode();
    let partial = Cursor { streams: vec![(1, 0)], ..good }.encode();
    for (cursor, kind) in [
        (old, ErrorKind::Compacted),
        (foreign_history, ErrorKind::CursorForeign),
        (foreign_namespace, ErrorKind::CursorForeign),
        (ahead, ErrorKind::CursorAhead),
        (ahead_in_stream, ErrorKind::CursorAhead),
        (partial, ErrorKind::CursorForeign),
        ("st1.00".into(), ErrorKind::CursorMalformed),
        ("latest".into(), ErrorKind::CursorMalformed),
    ] {
        let start = TailStart::Cursor(cursor.clone());
        let error = spire.tail(TailOptions { start, ..Default::default() }).next().await.unwrap_err();
        assert_eq!(error.kind(), Some(kind), "{cursor}: {error}");
    }
    let error = spire.list_items("nodes", 0, 10, false).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains('4')), (Some(ErrorKind::Compacted), true), "{error}");
    let other = client.admin().open_namespace("other").await.unwrap();
    let start = TailStart::Cursor(spire.stream_status().await.unwrap().cursor);
    let error = other.tail(TailOptions { start, ..Default::default() }).next().await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::CursorForeign));
}

#[tokio::test]
async fn a_bootstrap_and_its_tail_give_the_state() {
    let Served { spire, .. } = serve().await;
    create_entries(&spire, limits::READ_STEP + 10).await;
    spire.create_join_token("s3cret", 50).await.unwrap();
    let writer = spire.clone();
    let writing = tokio::spawn(async move {
        for number in 0..300 {
            writer.delete_registration_entry(format!("e{number:05}")).await.unwrap();
            let mut again = entry(&format!("e{number:05}"), &["uid:2"]);
            again.hint = "again".into();
            if number % 3 != 0 {
                writer.create_registration_entry(again).await.unwrap();
            }
            writer.create_attested_node(agent(&format!("n{number}"))).await.unwrap();
        }
    });
    let mut state = spire.bootstrap_state(&[]).await.unwrap();
    writing.await.unwrap();
    let start = TailStart::Cursor(state.cursor.clone());
    let mut tail = spire.tail(TailOptions { start, ..Default::default() });
    let newest = spire.stream_status().await.unwrap().revision;
    loop {
        match tail.next().await.unwrap().content {
            TailContent::Event(event) => apply(&mut state, &event, newest),
            TailContent::Progress { revision, .. } if revision >= newest => break,
            TailContent::Progress { .. } => {}
        }
    }
    let fresh = spire.bootstrap_state(&[]).await.unwrap();
    assert_eq!(state.records, fresh.records);
    assert_eq!(fresh.records.len(), limits::READ_STEP + 10 - 100 + 300);
    let mut entries: Vec<_> = spire.list_registration_entries(RegistrationEntryFilter::default()).await.unwrap();
    entries.sort_by(|left, right| left.entry_id.cmp(&right.entry_id));
    let shown = fresh.records.iter().filter(|((collection, _), _)| *collection == Collection::RegistrationEntries);
    let shown: Vec<_> = shown
        .map(|(_, record)| match &record.record {
            Some(Kind::RegistrationEntry(entry)) => entry.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shown, entries);
}

/// What a consumer does with an event.
fn apply(state: &mut BootstrapState, event: &steeple_client::events::Event, newest: u64) {
    assert!(event.revision > state.revision && event.revision <= newest);
    for item in &event.items {
        let collection =
            if item.stream == "nodes" { Collection::AttestedNodes } else { Collection::RegistrationEntries };
        let key = (collection, item.key.clone());
        match item.change.clone().unwrap().after {
            Some(record) => drop(state.records.insert(key, record)),
            None => drop(state.records.remove(&key)),
        }
    }
}

#[tokio::test]
async fn the_past_of_a_record_can_be_told() {
    let Served { spire, .. } = serve().await;
    let hint = |hint: &str| RegistrationEntry { hint: hint.into(), ..entry("a", &["uid:1"]) };
    let mut revisions = Vec::new();
    spire.create_registration_entry(hint("one")).await.unwrap();
    revisions.push(spire.seen_revision());
    spire.update_registration_entry(hint("two"), None).await.unwrap();
    revisions.push(spire.seen_revision());
    spire.delete_registration_entry("a").await.unwrap();
    revisions.push(spire.seen_revision());
    let hint_at = async |moment| {
        let record = spire.state_at(Collection::RegistrationEntries, "a", moment).await.unwrap();
        record.map(|record| match record.record {
            Some(Kind::RegistrationEntry(entry)) => entry.hint,
            other => panic!("{other:?}"),
        })
    };
    let history = async |before, limit| -> Vec<(u64, bool, bool)> {
        let history = spire.history(Collection::RegistrationEntries, "a", before, limit).await.unwrap();
        let versions: Vec<_> = history.map(Result::unwrap).collect().await;
        let told = |version: &steeple_client::events::HistoryResponse| {
            let change = version.change.clone().unwrap();
            (version.revision, change.before.is_some(), change.after.is_some())
        };
        versions.iter().map(told).collect()
    };
    assert_eq!(hint_at(Moment::Revision(revisions[0])).await.as_deref(), Some("one"));
    assert_eq!(hint_at(Moment::Revision(revisions[1])).await.as_deref(), Some("two"));
    assert_eq!(hint_at(Moment::Revision(revisions[2])).await, None);
    assert_eq!(hint_at(Moment::Revision(revisions[0] - 1)).await, None);
    let gone = [(revisions[2], true, false), (revisions[1], true, true), (revisions[0], false, true)];
    assert_eq!(history(0, 0).await, gone);

    spire.create_registration_entry(hint("three")).await.unwrap();
    revisions.push(spire.seen_revision());
    assert_eq!(hint_at(Moment::Revision(revisions[3])).await.as_deref(), Some("three"));
    assert_eq!(hint_at(Moment::Revision(revisions[1])).await.as_deref(), Some("two"), "the one before it");
    assert_eq!(hint_at(Moment::Micros(i64::MAX)).await.as_deref(), Some("three"));
    assert_eq!(hint_at(Moment::Micros(1)).await, None);
    assert_eq!(history(0, 0).await.len(), 4);
    assert_eq!(history(0, 2).await, [(revisions[3], false, true), gone[0]]);
    assert_eq!(history(revisions[2], 0).await, gone[1..]);
    let items = spire.list_items("registrations", 1, 2, false).await.unwrap();
    assert_eq!(items.iter().map(|item| item.revision).collect::<Vec<_>>(), revisions[1..3]);
    let nothing = spire.history(Collection::Bundles, "spiffe://x", 0, 0).await.unwrap();
    assert_eq!(nothing.collect::<Vec<_>>().await.len(), 0);
}

#[tokio::test]
async fn namespaces_are_opened_listed_and_deleted() {
    let Served { client, spire, .. } = serve().await;
    let admin = client.admin();
    let other = admin.open_namespace("other").await.unwrap();
    spire.create_attested_node(agent("n")).await.unwrap();
    assert_eq!(other.fetch_attested_node("n").await.unwrap(), None);
    other.create_attested_node(agent("m")).await.unwrap();
    let names = async || -> Vec<_> {
        admin.list_namespaces().await.unwrap().into_iter().map(|namespace| namespace.name).collect()
    };
    assert_eq!(names().await, ["prod", "other"]);
    assert!(admin.create_namespace("other").await.unwrap_err().is_already_exists());
    assert_eq!(admin.create_namespace("bad name").await.unwrap_err().code(), Code::InvalidArgument);
    admin.delete_namespace("other").await.unwrap();
    assert!(admin.delete_namespace("other").await.unwrap_err().is_not_found());
    assert_eq!(names().await, ["prod"]);
    let error = other.count_attested_nodes(AttestedNodeFilter::default()).await.unwrap_err();
    assert_eq!(error.kind(), Some(ErrorKind::NamespaceUnknown));
    let other = admin.open_namespace("other").await.unwrap();
    assert_eq!(other.count_attested_nodes(AttestedNodeFilter::default()).await.unwrap(), 0);
}

#[tokio::test]
async fn a_repeated_deletion_spares_the_next_namespace_of_that_name() {
    let Served { channel, client, .. } = serve().await;
    let mut admin = AdminClient::new(channel);
    let request = DeleteNamespaceRequest { name: "other".into(), request_id: vec![7; 16] };
    client.admin().open_namespace("other").await.unwrap().create_attested_node(agent("old")).await.unwrap();
    admin.delete_namespace(request.clone()).await.unwrap();
    let next = client.admin().open_namespace("other").await.unwrap();
    next.create_attested_node(agent("new")).await.unwrap();
    admin.delete_namespace(request).await.unwrap();
    assert!(next.fetch_attested_node("new").await.unwrap().is_some());
    let another = DeleteNamespaceRequest { name: "other".into(), request_id: vec![8; 16] };
    admin.delete_namespace(another).await.unwrap();
    assert!(next.fetch_attested_node("new").await.is_err());
}

#[tokio::test]
async fn a_node_tells_how_it_is() {
    let Served { node, channel, client, spire } = serve().await;
    spire.create_attested_node(agent("n")).await.unwrap();
    let admin = client.admin();
    let status = admin.status().await.unwrap();
    assert_eq!((status.revision, status.failure.as_str()), (node.revision().0, ""));
    assert_eq!(status.history_id, node.history_id().to_string());
    assert!(status.tables.iter().any(|table| table.table == "nodes" && table.records == 1), "{:?}", status.tables);
    let (kept, computed) = (admin.digest(false).await.unwrap(), admin.digest(true).await.unwrap());
    assert_eq!((kept.digest, kept.revision), (computed.digest, computed.revision));
    assert!(admin.log_statistics().await.unwrap().last_log_index >= 2);
    admin.compact().await.unwrap();

    let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
    let service = |name: &str| tonic_health::pb::HealthCheckRequest { service: name.into() };
    for name in ["", "steeple.spire.v1.Datastore", "steeple.events.v1.Events", "steeple.admin.v1.Admin"] {
        assert_eq!(health.check(service(name)).await.unwrap().into_inner().status, 1, "{name}");
    }
    let mut watched = health.watch(service("steeple.spire.v1.Datastore")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    let mut tail = spire.tail(TailOptions { unreachable_max: Some(Duration::ZERO), ..Default::default() });
    tail.next().await.unwrap();
    node.stop().await;
    assert_eq!(watched.message().await.unwrap().unwrap().status, 2);
    let ended = loop {
        match tail.next().await {
            Ok(message) => assert!(matches!(message.content, TailContent::Progress { .. })),
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, Error::Unavailable { .. }), "{ended}");
    let late = spire.with_deadline(Duration::from_millis(100)).create_attested_node(agent("late")).await.unwrap_err();
    assert!(matches!(late, Error::Unavailable { .. }), "{late}");
    AdminClient::new(channel).log_statistics(LogStatisticsRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_comes_whole_and_verifies() {
    let Served { client, spire, .. } = serve().await;
    create_entries(&spire, 1_500).await;
    for with_events in [false, true] {
        let mut chunks = client.admin().save_snapshot(with_events).await.unwrap();
        let mut file = Vec::new();
        while let Some(chunk) = chunks.next().await.unwrap() {
            file.extend(chunk);
        }
        let summary = chunks.summary().unwrap();
        let report = steeple_snapshot::verify(&file[..], &mut |_| {}).unwrap();
        assert_eq!(summary.revision, spire.seen_revision());
        assert_eq!((summary.bytes, summary.records), (file.len() as u64, 1_501));
        assert_eq!(report.manifest.includes_history, with_events);
        assert_eq!(report.manifest.state.digest.to_bytes()[..], summary.digest);
        assert_eq!(client.admin().digest(true).await.unwrap().digest, summary.digest);
    }
}

#[tokio::test]
async fn reflection_describes_the_protocol() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let Served { channel, .. } = serve().await;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel);
    let mut answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("another answer")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["steeple.spire.v1.Datastore", "steeple.events.v1.Events", "steeple.admin.v1.Admin"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[tokio::test]
async fn a_tail_without_a_cursor_begins_where_it_was_told() {
    let Served { channel, spire, .. } = serve().await;
    spire.create_attested_node(agent("n")).await.unwrap();
    let mut events = EventsClient::new(channel);
    let request =
        |start: StartPosition| TailRequest { namespace: "prod".into(), start: start.into(), ..Default::default() };
    let mut oldest = events.tail(request(StartPosition::Oldest)).await.unwrap().into_inner();
    let first = oldest.message().await.unwrap().unwrap();
    assert!(matches!(first.content, Some(steeple_client::events::tail_response::Content::Event(_))), "{first:?}");
    let mut now = events.tail(request(StartPosition::Now)).await.unwrap().into_inner();
    let first = now.message().await.unwrap().unwrap();
    assert!(matches!(first.content, Some(steeple_client::events::tail_response::Content::Progress(_))), "{first:?}");
}

#[tokio::test]
async fn a_tail_of_a_node_restored_without_events_begins_with_the_first_event_that_it_has() {
    let Served { client, spire, .. } = serve().await;
    create_entries(&spire, 3).await;
    let mut chunks = client.admin().save_snapshot(false).await.unwrap();
    let mut file = Vec::new();
    while let Some(chunk) = chunks.next().await.unwrap() {
        file.extend(chunk);
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_owned();
    let node = tokio::task::spawn_blocking(move || {
        crate::node::restore(&mut std::io::Cursor::new(file), &data, RecordStoreKind::Sled, &mut |_| {}).unwrap();
        Node::start(NodeOptions::at(&data), NodeParts::default()).unwrap()
    });
    let node = node.await.unwrap();
    let namespace = node.namespace("prod").unwrap();
    let from_start = vec![StreamPosition { stream: REGISTRATIONS, after: StreamSequence::ZERO }];
    let refused = node.tail(namespace, from_start, None).unwrap().next(Duration::from_secs(20)).await.unwrap_err();
    let TailError::Compacted { oldest, .. } = refused else { panic!("{refused}") };
    assert_eq!(oldest, StreamSequence(4), "the one to come");

    let mut events = EventsClient::new(connect(node.clone()).await.unwrap());
    let request = TailRequest { namespace: "prod".into(), start: StartPosition::Oldest.into(), ..Default::default() };
    let mut tail = events.tail(request.clone()).await.unwrap().into_inner();
    let first = tail.message().await.unwrap().unwrap();
    assert!(matches!(first.content, Some(steeple_client::events::tail_response::Content::Progress(_))), "{first:?}");
    let client = Client::from_channel(connect(node.clone()).await.unwrap());
    let restored = client.admin().open_namespace("prod").await.unwrap();
    for id in ["x", "y"] {
        restored.create_registration_entry(entry(id, &["uid:1"])).await.unwrap();
    }
    let mut tail = events.tail(request).await.unwrap().into_inner();
    let first = tail.message().await.unwrap().unwrap();
    let Some(steeple_client::events::tail_response::Content::Event(event)) = &first.content else {
        panic!("{first:?}")
    };
    assert_eq!((event.items[0].sequence, event.items[0].key.as_str()), (4, "x"));
    assert_eq!(node.oldest_followable(namespace, REGISTRATIONS).unwrap(), StreamSequence(4));
    drop(tail);
    node.stop().await;
}
