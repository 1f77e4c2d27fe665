//! Pages, filters, times and revisions.

use prost::Message;
use steeple_client::types::{
    AttestedNode, AttestedNodeFilter, MatchBehavior, RegistrationEntry, RegistrationEntryFilter as Filter,
};
use steeple_tests::check::{case, refused, unsuitable};
use steeple_tests::raw::DATASTORE;
use steeple_tests::records::{NOW, bundle, by_federates_with, by_selectors, entry, letters, node};
use steeple_tests::server::{namespace, run};
use steeple_wire::common::v1::ReadContext;
use steeple_wire::spire::v1 as spire;
use steeple_wire::status::ErrorKind;
use tonic::Code;

use super::{assert_serves, bytes, context, many, read_context, texts};

#[test]
fn page_sizes_are_positive() {
    run(async {
        let datastore = namespace().await;
        for size in [-1, i32::MIN] {
            let text = format!("cannot paginate with pagesize = {size}: it must be positive");
            let invalid = Code::InvalidArgument;
            refused(datastore.list_bundles_page("", size).await, invalid, &text);
            refused(datastore.list_registration_entries_page(Filter::default(), "", size).await, invalid, &text);
            refused(datastore.list_attested_nodes_page(Default::default(), true, "", size).await, invalid, &text);
            refused(datastore.list_federation_relationships_page("", size).await, invalid, &text);
        }
        assert_serves(&datastore).await;
    });
}

#[test]
fn unknown_match_behaviors_are_refused() {
    run(async {
        let datastore = namespace().await;
        for behavior in [4, -1, i32::MAX] {
            let text = format!("unhandled match behavior {behavior}");
            let selectors = steeple_client::types::BySelectors { r#match: behavior, selectors: letters("A") };
            let domains =
                steeple_client::types::ByFederatesWith { r#match: behavior, trust_domain_ids: vec!["a".into()] };
            let by_selectors = Filter { by_selectors: Some(selectors.clone()), ..Filter::default() };
            let by_domains = Filter { by_federates_with: Some(domains), ..Filter::default() };
            let of_nodes = AttestedNodeFilter { by_selectors: Some(selectors), ..Default::default() };
            let invalid = Code::InvalidArgument;
            refused(datastore.list_registration_entries(by_selectors.clone()).await, invalid, &text);
            refused(datastore.count_registration_entries(by_selectors).await, invalid, &text);
            refused(datastore.list_registration_entries(by_domains).await, invalid, &text);
            refused(datastore.list_attested_nodes(of_nodes, false).await, invalid, &text);
        }
        assert_serves(&datastore).await;
    });
}

#[test]
fn lists_in_filters_have_limits() {
    run(async {
        let datastore = namespace().await;
        let by_many = |count| Some(by_selectors(MatchBehavior::Any, many(count)));
        let entries = |count| Filter { by_selectors: by_many(count), ..Filter::default() };
        let nodes = |count| AttestedNodeFilter { by_selectors: by_many(count), ..Default::default() };
        let domains = |count| Filter {
            by_federates_with: Some(by_federates_with(MatchBehavior::Any, texts(count))),
            ..Filter::default()
        };
        let ids = |count| AttestedNodeFilter { by_spiffe_ids: texts(count), ..Default::default() };
        let limit = ErrorKind::LimitExceeded;
        assert_eq!(datastore.count_registration_entries(entries(10_000)).await.unwrap(), 0);
        let text = unsuitable(datastore.list_registration_entries(entries(10_001)).await, limit);
        assert_eq!(text, "10001 selectors were given, 10000 are allowed");
        unsuitable(datastore.count_registration_entries(entries(10_001)).await, limit);
        unsuitable(datastore.list_attested_nodes(nodes(10_001), true).await, limit);
        assert_eq!(datastore.count_registration_entries(domains(10_000)).await.unwrap(), 0);
        unsuitable(datastore.list_registration_entries(domains(10_001)).await, limit);
        assert_eq!(datastore.count_attested_nodes(ids(100_000)).await.unwrap(), 0);
        unsuitable(datastore.list_attested_nodes(ids(100_001), false).await, limit);
        assert_eq!(datastore.fetch_registration_entries(texts(100_000)).await.unwrap(), []);
        unsuitable(datastore.fetch_registration_entries(texts(100_001)).await, limit);
        unsuitable(datastore.fetch_attested_nodes(texts(100_001)).await, limit);
        assert_serves(&datastore).await;
    });
}

#[test]
fn times_may_be_anything() {
    run(async {
        let datastore = namespace().await;
        datastore.create_attested_node(node("n", NOW)).await.unwrap();
        datastore.create_bundle(bundle("spiffe://td", &[])).await.unwrap();
        for time in [i64::MIN, i64::MIN + 1, -1, 1, i64::MAX] {
            let _case = case(format!("{time}"));
            let filter =
                AttestedNodeFilter { by_expires_before_micros: time, valid_at_micros: time, ..Default::default() };
            datastore.list_attested_nodes(filter, true).await.unwrap();
            datastore.list_node_selectors(time).await.unwrap();
            datastore.prune_registration_entries(time).await.unwrap();
            datastore.prune_join_tokens(time).await.unwrap();
            datastore.prune_ca_journals(time).await.unwrap();
            let text = "prune failed: would prune all certificates";
            refused(datastore.prune_bundle("spiffe://td", time).await, Code::Unknown, text);
            let older = spire::PruneAttestedNodeEventsRequest {
                context: context(datastore.name(), &[]),
                older_than_micros: time,
            };
            match bytes(DATASTORE, "PruneAttestedNodeEvents", older.encode_to_vec()).await {
                Ok(()) => assert!(time >= 0, "events of the future were pruned"),
                Err(refusal) => {
                    let text = format!("older_than_micros is {time}, it must not be negative");
                    assert_eq!((refusal.code(), refusal.message()), (Code::InvalidArgument, text.as_str()));
                }
            }
            let created =
                AttestedNode { cert_not_after: time, new_cert_not_after: time, ..node(&format!("n{time}"), 0) };
            assert_eq!(datastore.create_attested_node(created.clone()).await.unwrap(), created);
            let expiring = RegistrationEntry { entry_expiry: time, ..entry("p", &format!("w{time}"), letters("A")) };
            datastore.create_registration_entry(expiring).await.unwrap();
            datastore.create_join_token(format!("t{time}"), time).await.unwrap();
        }
        datastore.prune_attested_expired_nodes(i64::MAX, true, i32::MAX).await.unwrap();
        assert_serves(&datastore).await;
    });
}

/// A read that has to reflect what will never be is given up with the caller's deadline.
#[test]
fn a_revision_of_the_future_is_not_waited_for_for_ever() {
    run(async {
        let datastore = namespace().await;
        let request = spire::CountBundlesRequest {
            context: Some(ReadContext { min_revision: u64::MAX, ..read_context(&datastore).unwrap() }),
        };
        let patience = std::time::Duration::from_millis(300);
        let answer = tokio::time::timeout(patience, bytes(DATASTORE, "CountBundles", request.encode_to_vec())).await;
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.is_err()));
        assert_serves(&datastore).await;
    });
}
