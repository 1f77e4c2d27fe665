//! Lists by pages, against a node that answers by script.

// Not every test binary uses all of it.
#[allow(dead_code)]
mod fake;

use std::time::Duration;

use fake::{Fake, Reply};
use steeple_client::types::{
    AttestedNode, AttestedNodeFilter, CountBundlesResponse, ListAttestedNodesRequest, ListAttestedNodesResponse,
    ListRegistrationEntriesRequest, ListRegistrationEntriesResponse, Pagination, RegistrationEntry,
    RegistrationEntryFilter, Selector,
};
use steeple_client::{Error, Namespace, Pages};
use steeple_wire::common::v1::Consistency;
use steeple_wire::status::{ErrorKind, refusal};
use tonic::Code;

fn entry(number: u32) -> RegistrationEntry {
    RegistrationEntry { entry_id: format!("e{number}"), ..Default::default() }
}

/// A page with one entry of this number, which is also the token of the next page; an empty one for 0.
fn page(number: u32, revision: u64) -> Reply {
    let (entries, token) =
        if number == 0 { (vec![], String::new()) } else { (vec![entry(number)], number.to_string()) };
    let pagination = Some(Pagination { token, page_size: 1 });
    Reply::answer(&ListRegistrationEntriesResponse { entries, pagination }, revision)
}

fn pages(namespace: &Namespace) -> Pages<RegistrationEntry> {
    let filter = RegistrationEntryFilter { by_parent_id: "spiffe://td.example/agent".into(), ..Default::default() };
    namespace.registration_entry_pages(filter, 1)
}

/// The number of the entry on the next page; 0 behind the last one.
async fn number(pages: &mut Pages<RegistrationEntry>) -> u32 {
    let entries = pages.next().await.unwrap().unwrap_or_default();
    assert!(entries.len() <= 1);
    entries.first().map_or(0, |entry| entry.entry_id[1..].parse().unwrap())
}

/// Requests for pages so far.
fn asked(fake: &Fake) -> Vec<ListRegistrationEntriesRequest> {
    let arrived = fake.arrived().into_iter().filter(|arrived| arrived.call == "ListRegistrationEntries");
    arrived.map(|arrived| arrived.decode()).collect()
}

/// Tokens of the pages that were asked for so far.
fn tokens(fake: &Fake) -> Vec<String> {
    asked(fake).into_iter().map(|request| request.pagination.unwrap().token).collect()
}

/// Returns when so many calls have arrived.
async fn arrived(fake: &Fake, calls: usize) {
    while fake.arrived().len() < calls {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn one_page_is_read_ahead_once_the_second_was_asked_for() {
    let fake = Fake::new([page(1, 5), page(2, 5), page(3, 5), page(4, 5), page(0, 5)]);
    let namespace = fake.client().await.namespace("prod");
    let mut pages = pages(&namespace);
    assert_eq!(number(&mut pages).await, 1);
    // An answer to another call shows that there would have been time for it.
    fake.forget();
    [Reply::answer(&CountBundlesResponse { count: 1 }, 5)].into_iter().for_each(|reply| fake.then(reply));
    namespace.count_bundles().await.unwrap();
    assert_eq!(tokens(&fake), [""]);
    [page(2, 5), page(3, 5), page(4, 5), page(0, 5)].into_iter().for_each(|reply| fake.then(reply));
    assert_eq!(number(&mut pages).await, 2);
    arrived(&fake, 4).await;
    assert_eq!(tokens(&fake), ["", "1", "2"], "one ahead, and no more");
    assert_eq!(number(&mut pages).await, 3);
    assert_eq!(number(&mut pages).await, 4);
    assert_eq!(number(&mut pages).await, 0);
    assert_eq!(number(&mut pages).await, 0, "nobody is asked behind the end");
    assert_eq!(tokens(&fake), ["", "1", "2", "3", "4"]);
    for request in asked(&fake) {
        assert_eq!(request.context.unwrap().consistency(), Consistency::RequireCurrent);
        assert_eq!(request.filter.unwrap().by_parent_id, "spiffe://td.example/agent");
        assert_eq!(request.pagination.unwrap().page_size, 1);
    }
}

#[tokio::test]
async fn a_list_ends_with_a_page_that_names_no_next_one() {
    let last = ListRegistrationEntriesResponse { entries: vec![entry(2)], pagination: Some(Pagination::default()) };
    let fake = Fake::new([page(1, 5), Reply::answer(&last, 5)]);
    let mut pages = pages(&fake.client().await.namespace("prod"));
    assert_eq!((number(&mut pages).await, number(&mut pages).await, number(&mut pages).await), (1, 2, 0));
    assert_eq!(tokens(&fake), ["", "1"]);
}

#[tokio::test]
async fn what_fails_ahead_is_told_when_it_is_asked_for_and_may_be_asked_for_again() {
    let refused = || Reply::Refuse(refusal(Code::Unknown, "no"));
    let busy = || Reply::Refuse(ErrorKind::Overloaded.status("busy"));
    let fake = Fake::new([page(1, 5), page(2, 5), busy(), refused(), refused(), page(3, 5), page(0, 5)]);
    let mut pages = pages(&fake.client().await.namespace("prod"));
    assert_eq!((number(&mut pages).await, number(&mut pages).await), (1, 2));
    // The first attempt is repeated, the second is final.
    arrived(&fake, 4).await;
    for _ in 0..2 {
        assert_eq!(pages.next().await.unwrap_err().to_string(), "no");
    }
    assert_eq!((number(&mut pages).await, number(&mut pages).await), (3, 0));
    assert_eq!(tokens(&fake), ["", "1", "2", "2", "2", "2", "3"]);
}

#[tokio::test]
async fn a_page_read_ahead_that_is_older_than_what_was_seen_is_read_again() {
    let fake = Fake::new([page(1, 5), page(2, 5), page(3, 5)]);
    let namespace = fake.client().await.namespace("prod").stale();
    let mut pages = pages(&namespace);
    assert_eq!((number(&mut pages).await, number(&mut pages).await), (1, 2));
    arrived(&fake, 3).await;
    let seen = Reply::answer(&CountBundlesResponse { count: 1 }, 7);
    [seen, page(4, 7), page(5, 7), page(0, 7)].into_iter().for_each(|reply| fake.then(reply));
    namespace.count_bundles().await.unwrap();
    assert_eq!(number(&mut pages).await, 4, "read again");
    assert_eq!((number(&mut pages).await, number(&mut pages).await), (5, 0));
    let contexts = asked(&fake).into_iter().map(|request| request.context.unwrap());
    assert_eq!(contexts.map(|context| context.min_revision).collect::<Vec<_>>(), [0, 5, 5, 7, 7, 7]);
    // After that none is read ahead, so each is asked for once.
    assert_eq!(tokens(&fake), ["", "1", "2", "2", "4", "5"]);
}

#[tokio::test]
async fn who_breaks_off_gets_the_page_with_the_next_call() {
    let fake = Fake::new([page(1, 5), Reply::hang(), page(2, 5), Reply::hang()]);
    let mut pages = pages(&fake.client().await.namespace("prod"));
    assert_eq!(number(&mut pages).await, 1);
    tokio::select! {
        page = pages.next() => panic!("{page:?}"),
        () = arrived(&fake, 2) => {}
    }
    assert_eq!(number(&mut pages).await, 2);
    tokio::select! {
        page = pages.next() => panic!("{page:?}"),
        () = arrived(&fake, 4) => {}
    }
    drop(pages);
    assert_eq!(tokens(&fake), ["", "1", "1", "2"]);
}

#[tokio::test]
async fn what_is_no_page_is_an_error() {
    let without_end = ListRegistrationEntriesResponse { entries: vec![entry(1)], pagination: None };
    let cut = Reply::Messages(vec![vec![10, 200]], 5, fake::Then::End);
    // An entry that is no message, and an end behind it.
    let torn = Reply::Messages(vec![vec![10, 1, 10, 18, 3, 10, 1, b'1']], 5, fake::Then::End);
    let fake = Fake::new([Reply::answer(&without_end, 5), cut, torn]);
    let mut pages = pages(&fake.client().await.namespace("prod"));
    for missing in ["pagination", "page", "page"] {
        let error = pages.next().await.unwrap_err();
        assert!(matches!(error, Error::Protocol(what) if what == missing), "{error:?}");
    }
    assert_eq!(tokens(&fake), ["", "", ""]);
}

#[tokio::test]
async fn pages_of_nodes_carry_what_was_asked_for() {
    let node = |number: u32| AttestedNode {
        spiffe_id: format!("spiffe://td.example/{number}"),
        selectors: vec![Selector { r#type: "a".into(), value: "b".repeat(100_000) }],
        ..Default::default()
    };
    let page = |number: u32| {
        let pagination = Some(Pagination { token: number.to_string(), page_size: 2 });
        Reply::answer(&ListAttestedNodesResponse { nodes: vec![node(number)], pagination }, 5)
    };
    let end = ListAttestedNodesResponse { nodes: vec![], pagination: Some(Pagination::default()) };
    let fake = Fake::new([page(1), page(2), page(3), Reply::answer(&end, 5)]);
    let filter = AttestedNodeFilter { by_attestation_type: "a".into(), ..Default::default() };
    let mut pages = fake.client().await.namespace("prod").attested_node_pages(filter.clone(), true, 2);
    for number in 1..=3 {
        assert_eq!(pages.next().await.unwrap(), Some(vec![node(number)]));
    }
    assert_eq!(pages.next().await.unwrap(), None);
    for arrived in fake.arrived() {
        let request: ListAttestedNodesRequest = arrived.decode();
        assert_eq!((request.fetch_selectors, request.filter), (true, Some(filter.clone())));
        assert_eq!(request.pagination.unwrap().page_size, 2);
    }
}
