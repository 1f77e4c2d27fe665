//! What a request says besides what it asks for: its id, what it must reflect, and what is wrong with it.

use super::*;

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
