//! Lists: short and long, whole, streamed, and by pages.

use super::*;

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
        let ids = |count: usize| (0..count).map(|number| format!("e{number:05}")).collect::<Vec<_>>();
        assert_eq!(spire.fetch_registration_entries(ids(few)).await.unwrap().len(), few);
        let mut events = EventsClient::new(channel);
        assert_eq!(events.list_items(items(count as u64)).await.unwrap().into_inner().items, []);
        let (asking_events, asking_entries) = (spire.clone(), spire.clone());
        let long_events = tokio::spawn(async move { asking_events.list_registration_entry_events(2, 0).await });
        let long_entries = tokio::spawn(async move { asking_entries.list_registration_entries(everything()).await });
        // Requests of one connection are taken up in turn, so that the long ones would be answered by now if they were
        // read like the short ones that come behind them.
        for _ in 0..100 {
            assert_eq!(spire.list_registration_entry_events(3, 0).await.unwrap().len(), few);
        }
        assert!(!long_events.is_finished(), "what is long waits for a thread");
        assert!(!long_entries.is_finished(), "what is long waits for a thread");
        release.send(()).unwrap();
        taken.await.unwrap().unwrap();
        assert_eq!(long_events.await.unwrap().unwrap().len(), few + 1);
        assert_eq!(long_entries.await.unwrap().unwrap().len(), count);
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
    let (mut paged, mut pages) = (Vec::new(), spire.registration_entry_pages(everything(), 1_000));
    while let Some(page) = pages.next().await.unwrap() {
        paged.extend(page);
    }
    assert_eq!(paged, whole);
    let events = spire.list_registration_entry_events(0, 0).await.unwrap();
    assert_eq!(events.len(), count);
    assert_eq!(spire.list_registration_entry_events(count as u64 - 2, 0).await.unwrap(), events[count - 2..]);
    assert_eq!(spire.list_registration_entry_events(0, 4_098).await.unwrap(), events[..4_097]);
}

#[tokio::test]
async fn entries_are_fetched_in_creation_order_each_once_however_many() {
    let Served { spire, .. } = serve().await;
    create_entries(&spire, FEW.records + 1).await;
    let whole = spire.list_registration_entries(RegistrationEntryFilter::default()).await.unwrap();
    for count in [0, 1, FEW.records - 2, FEW.records - 1, FEW.records + 1] {
        let ids = (0..count).rev().map(|number| format!("e{number:05}"));
        // One that is nobody's, and one twice.
        let ids: Vec<_> = ids.chain(["nobody".into(), "e00000".into()]).collect();
        let expected = &whole[..count.max(1)];
        assert_eq!(spire.fetch_registration_entries(ids).await.unwrap(), expected, "{count}");
    }
}

#[tokio::test]
async fn a_list_that_is_too_large_names_the_way_out() {
    let Served { spire, .. } = serve().await;
    let value = "x".repeat(16_000);
    let count = limits::ANSWER_BYTES_MAX / (60 * 16_000) + 2;
    for number in 0..count {
        let selectors = (0..60).map(|place| selector(&format!("{place}:{value}"))).collect();
        let large = RegistrationEntry { selectors, ..entry(&format!("large{number}"), &[]) };
        spire.create_registration_entry(large).await.unwrap();
    }
    let list = spire.list_registration_entries(RegistrationEntryFilter::default()).await;
    let error = list.map(|entries| entries.len()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Some(ErrorKind::AnswerTooLarge), Code::ResourceExhausted));
    assert!(error.to_string().contains("StreamRegistrationEntries"), "{error}");
    let ids = |count: usize| (0..count).map(|number| format!("large{number}")).collect::<Vec<_>>();
    let nobodys = (0..FEW.records).map(|number| format!("nobody{number}"));
    let many = ids(count).into_iter().chain(nobodys).collect();
    let error = spire.fetch_registration_entries(many).await.map(|entries| entries.len()).unwrap_err();
    assert_eq!((error.kind(), error.code()), (Some(ErrorKind::AnswerTooLarge), Code::ResourceExhausted));
    assert!(error.to_string().contains("fewer entries"), "{error}");
    // So few ids, but so many bytes, that they are read on another thread.
    assert_eq!(spire.fetch_registration_entries(ids(2)).await.unwrap().len(), 2);
    let streamed = spire.stream_registration_entries(RegistrationEntryFilter::default()).await.unwrap();
    assert_eq!(streamed.map(Result::unwrap).fold(0, |count, _| count + 1).await, count);
}
