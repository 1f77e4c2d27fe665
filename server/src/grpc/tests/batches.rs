//! Many mutations at once.

use super::*;

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
