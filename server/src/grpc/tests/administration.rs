//! Namespaces, snapshots, and what a node tells of itself.

use super::*;

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
