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
async fn entries_are_told_by_a_batch_as_they_are_by_calls() {
    let Served { spire, channel, .. } = serve().await;
    let request = |id: u8| Some(RequestContext { namespace: String::new(), request_id: vec![id; 16] });
    let create = |id: u8, name: &str| {
        let create = CreateRegistrationEntryRequest { context: request(id), entry: Some(entry(name, &["uid:1"])) };
        Operation::CreateRegistrationEntry(create)
    };
    let create_or_return = |name: &str| {
        let entry = Some(entry(name, &["uid:2"]));
        Operation::CreateOrReturnRegistrationEntry(CreateOrReturnRegistrationEntryRequest { context: None, entry })
    };
    let update = |name: &str| {
        let entry = Some(RegistrationEntry { hint: "hint".into(), ..entry(name, &[]) });
        let mask = Some(RegistrationEntryMask { hint: true, ..Default::default() });
        Operation::UpdateRegistrationEntry(UpdateRegistrationEntryRequest { context: None, entry, mask })
    };
    let delete = |name: &str| {
        let request = DeleteRegistrationEntryRequest { context: None, entry_id: name.into() };
        Operation::DeleteRegistrationEntry(request)
    };
    let operations = [
        create(1, "a"),
        create(1, "a"),
        create_or_return("b"),
        create_or_return("b"),
        update("a"),
        delete("a"),
        delete("a"),
        create(2, "c"),
    ];
    let mutations = operations.into_iter().map(|operation| Mutation { operation: Some(operation) }).collect();
    let batch = BatchRequest { namespace: "prod".into(), mutations };
    let outcomes = DatastoreClient::new(channel).batch(batch).await.unwrap().into_inner().message.outcomes;
    let told = outcomes.iter().map(|outcome| match outcome.result.clone().unwrap() {
        Answer::CreateRegistrationEntry(answer) => (answer.entry.unwrap(), "created"),
        Answer::CreateOrReturnRegistrationEntry(answer) if answer.existing => (answer.entry.unwrap(), "returned"),
        Answer::CreateOrReturnRegistrationEntry(answer) => (answer.entry.unwrap(), "new"),
        Answer::UpdateRegistrationEntry(answer) => (answer.entry.unwrap(), "updated"),
        Answer::DeleteRegistrationEntry(answer) => (answer.entry.unwrap(), "deleted"),
        Answer::Failure(failure) => (RegistrationEntry { hint: failure.message, ..Default::default() }, "failed"),
        other => panic!("{other:?}"),
    });
    let told: Vec<_> = told.collect();
    let kinds: Vec<_> = told.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, ["created", "created", "new", "returned", "updated", "deleted", "failed", "created"]);
    let entries: Vec<_> = told.into_iter().map(|(entry, _)| entry).collect();
    assert_eq!(entries[0].selectors, [selector("uid:1")]);
    assert!(entries[0].created_at > 0);
    assert_eq!((&entries[1], &entries[3]), (&entries[0], &entries[2]));
    assert_eq!(entries[4], RegistrationEntry { hint: "hint".into(), revision_number: 1, ..entries[0].clone() });
    assert_eq!((&entries[5], entries[6].hint.as_str()), (&entries[4], "datastore-sql: record not found"));
    let stored = spire.fetch_registration_entries(vec!["b".into(), "c".into()]).await.unwrap();
    assert_eq!(stored, [entries[2].clone(), entries[7].clone()]);
    let first = outcomes[0].revision;
    let revisions: Vec<_> = outcomes.iter().map(|outcome| outcome.revision).collect();
    assert_eq!(revisions, [first, first, first + 1, first + 1, first + 2, first + 3, 0, first + 4]);
}

#[tokio::test]
async fn a_node_is_deleted_in_a_batch_with_more_entries_than_one_step_takes() {
    let Served { spire, .. } = serve().await;
    let node = AttestedNode { attestation_data_type: "join_token".into(), ..agent("n") };
    spire.create_attested_node(node.clone()).await.unwrap();
    let aliases = CASCADE_MAX + 1;
    let alias = |number| {
        let selectors = vec![Selector { r#type: "spiffe_id".into(), value: "n".into() }];
        let entry = RegistrationEntry { parent_id: "n".into(), selectors, ..entry(&format!("alias-{number}"), &[]) };
        Operation::CreateRegistrationEntry(CreateRegistrationEntryRequest { context: None, entry: Some(entry) })
    };
    for first in (0..aliases).step_by(limits::BATCH_MUTATIONS_MAX) {
        let last = aliases.min(first + limits::BATCH_MUTATIONS_MAX);
        let outcomes = spire.batch((first..last).map(alias).collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.answer.is_ok()));
    }
    let delete = DeleteAttestedNodeRequest { context: None, spiffe_id: "n".into() };
    let outcomes = spire.batch(vec![Operation::DeleteAttestedNode(delete)]).await;
    let Ok(Answer::DeleteAttestedNode(answer)) = &outcomes[0].answer else { panic!("{outcomes:?}") };
    assert_eq!((&answer.node, answer.cascaded.len()), (&Some(node), aliases));
    assert_eq!(outcomes[0].revision, spire.seen_revision());
    assert_eq!(spire.count_registration_entries(RegistrationEntryFilter::default()).await.unwrap(), 0);
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
