//! Streams of events, and what lies behind them.

use super::*;

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
