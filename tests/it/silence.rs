//! No event for a call that fails or changes nothing (8.6), and no trace either.

use std::pin::Pin;
use std::time::Duration;

use steeple_client::types::{
    AttestedNode, Bundle, CaJournal, DeleteMode, FederationRelationship, RegistrationEntry, RegistrationEntryMask,
};
use steeple_client::{Error, Namespace};
use steeple_tests::check::case;
use steeple_tests::records::{
    MICROS, NOW, bundle, entry, entry_event_ids, key, letters, node, node_event_ids, web_relationship,
};
use steeple_tests::server::{namespace, run};

type Call = Box<dyn for<'a> Fn(&'a Namespace) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>>;

/// A call without its answer.
macro_rules! call {
    ($name:literal, |$datastore:ident| $call:expr) => {{
        let call: Call = Box::new(move |$datastore: &Namespace| {
            let answer = $call;
            Box::pin(async move { answer.await.map(drop) })
        });
        ($name, call)
    }};
}

/// One entry that federates with `spiffe://td` and expires, one node, one of each other kind.
async fn load() -> (Namespace, RegistrationEntry) {
    let datastore = namespace().await;
    let stored = Bundle { jwt_signing_keys: vec![key("k", 0)], ..bundle("spiffe://td", &[1]) };
    datastore.create_bundle(stored).await.unwrap();
    let new = RegistrationEntry {
        entry_id: "id".into(),
        federates_with: vec!["spiffe://td".into()],
        entry_expiry: NOW,
        ..entry("p", "w", letters("A"))
    };
    let created = datastore.create_registration_entry(new).await.unwrap();
    datastore.create_attested_node(node("n", NOW)).await.unwrap();
    datastore.create_join_token("t", NOW).await.unwrap();
    datastore.create_federation_relationship(web_relationship("td.org")).await.unwrap();
    let journal = CaJournal { data: b"data".to_vec(), active_x509_authority_id: "a".into(), id: 0 };
    datastore.set_ca_journal(journal).await.unwrap();
    (datastore, created)
}

fn failing(stored: &RegistrationEntry) -> Vec<(&'static str, Call)> {
    let changed = |change: fn(&mut RegistrationEntry)| {
        let mut entry = stored.clone();
        entry.spiffe_id = "other".into();
        entry.entry_id = "other".into();
        change(&mut entry);
        entry
    };
    let taken = changed(|entry| entry.entry_id = "id".into());
    let invalid = changed(|entry| entry.selectors.clear());
    let unfederated = changed(|entry| entry.federates_with = vec!["spiffe://absent".into()]);
    let doubled = changed(|entry| entry.dns_names = vec!["a".into(), "a".into()]);
    let (absent, mixed) = (
        changed(|entry| entry.entry_id = "absent".into()),
        RegistrationEntry { store_svid: true, selectors: letters("AB"), ..stored.clone() },
    );
    let negative = RegistrationEntry { x509_svid_ttl: -1, ..stored.clone() };
    let mask = RegistrationEntryMask { x509_svid_ttl: true, ..Default::default() };
    vec![
        call!("taken entry ID", |d| d.create_registration_entry(taken.clone())),
        call!("invalid entry", |d| d.create_registration_entry(invalid.clone())),
        call!("federation without bundle", |d| d.create_registration_entry(unfederated.clone())),
        call!("doubled DNS name", |d| d.create_registration_entry(doubled.clone())),
        call!("update of an absent entry", |d| d.update_registration_entry(absent.clone(), None)),
        call!("update with mixed selectors", |d| d.update_registration_entry(mixed.clone(), None)),
        call!("update with negative TTL", |d| d.update_registration_entry(negative.clone(), Some(mask))),
        call!("deletion of an absent entry", |d| d.delete_registration_entry("absent")),
        call!("restricted bundle", |d| d.delete_bundle("spiffe://td", DeleteMode::Restrict)),
        call!("absent bundle", |d| d.delete_bundle("spiffe://absent", DeleteMode::Delete)),
        call!("bundle that is there", |d| d.create_bundle(bundle("spiffe://td", &[]))),
        call!("update of an absent bundle", |d| d.update_bundle(bundle("spiffe://absent", &[]), None)),
        call!("certificates that cannot be read", |d| d.prune_bundle("spiffe://td", NOW * MICROS)),
        call!("taint of an unreadable CA", |d| d.taint_x509_ca("spiffe://td", "x")),
        call!("revocation of an unreadable CA", |d| d.revoke_x509_ca("spiffe://td", "x")),
        call!("taint of an absent key", |d| d.taint_jwt_key("spiffe://td", "x")),
        call!("revocation of an untainted key", |d| d.revoke_jwt_key("spiffe://td", "k")),
        call!("node that is there", |d| d.create_attested_node(node("n", 1))),
        call!("update of an absent node", |d| d.update_attested_node(node("absent", 1), None)),
        call!("deletion of an absent node", |d| d.delete_attested_node("absent")),
        call!("doubled selector", |d| d.set_node_selectors("n", letters("AA"))),
        call!("token that is there", |d| d.create_join_token("t", 1)),
        call!("absent token", |d| d.delete_join_token("absent")),
        call!("relationship that is there", |d| d.create_federation_relationship(FederationRelationship {
            trust_domain_bundle: Some(bundle("spiffe://td.org", &[9])),
            ..web_relationship("td.org")
        })),
        call!("absent relationship", |d| d.delete_federation_relationship("absent")),
        call!("update of an absent relationship", |d| d
            .update_federation_relationship(web_relationship("absent"), None)),
        call!("absent journal", |d| d.set_ca_journal(CaJournal { id: 99, ..Default::default() })),
        call!("unreadable journal", |d| d.prune_ca_journals(NOW)),
    ]
}

fn idle(stored: &RegistrationEntry) -> Vec<(&'static str, Call)> {
    let similar = RegistrationEntry { entry_id: "mine".into(), hint: "other".into(), ..stored.clone() };
    let again = similar.clone();
    vec![
        call!("similar entry", |d| d.create_registration_entry(similar.clone())),
        call!("similar entry, told", |d| d.create_or_return_registration_entry(again.clone())),
        call!("append of what is there", |d| d.append_bundle(bundle("spiffe://td", &[1]))),
        call!("prune of an absent bundle", |d| d.prune_bundle("spiffe://absent", NOW * MICROS)),
        call!("prune without expired entries", |d| d.prune_registration_entries(NOW * MICROS)),
        call!("prune without expired nodes", |d| d.prune_attested_expired_nodes(NOW * MICROS, true, 0)),
        call!("prune without expired tokens", |d| d.prune_join_tokens(NOW * MICROS)),
        call!("prune without old entry events", |d| d.prune_registration_entry_events(Duration::from_secs(3600))),
        call!("prune without old node events", |d| d.prune_attested_node_events(Duration::from_secs(3600))),
    ]
}

/// Everything that can be read, node selectors apart.
async fn everything(datastore: &Namespace) -> String {
    let entries = datastore.list_registration_entries(Default::default()).await.unwrap();
    let nodes: Vec<AttestedNode> = datastore.list_attested_nodes(Default::default(), true).await.unwrap();
    let bundles = datastore.list_bundles().await.unwrap();
    let relationships = datastore.list_federation_relationships().await.unwrap();
    let journals = datastore.list_ca_journals().await.unwrap();
    let token = datastore.fetch_join_token("t").await.unwrap();
    let events = (entry_event_ids(datastore).await, node_event_ids(datastore).await);
    format!("{entries:?} {nodes:?} {bundles:?} {relationships:?} {journals:?} {token:?} {events:?}")
}

#[test]
fn failing_calls_leave_no_trace() {
    run(async {
        let (datastore, stored) = load().await;
        let before = everything(&datastore).await;
        let revision = datastore.stream_status().await.unwrap().revision;
        for (name, call) in failing(&stored) {
            let _case = case(name);
            call(&datastore).await.unwrap_err();
            assert_eq!(everything(&datastore).await, before);
        }
        assert!(datastore.stream_status().await.unwrap().revision >= revision);
        assert_eq!(entry_event_ids(&datastore).await, [1]);
        assert_eq!(node_event_ids(&datastore).await, [1]);
    });
}

#[test]
fn calls_with_nothing_to_do_leave_no_trace() {
    run(async {
        let (datastore, stored) = load().await;
        let before = everything(&datastore).await;
        for (name, call) in idle(&stored) {
            let _case = case(name);
            call(&datastore).await.unwrap();
            assert_eq!(everything(&datastore).await, before);
        }
        assert_eq!(entry_event_ids(&datastore).await, [1]);
        assert_eq!(node_event_ids(&datastore).await, [1]);
    });
}

/// What has nothing to do with entries and nodes is announced in neither stream.
#[test]
fn other_collections_have_no_events() {
    run(async {
        let (datastore, _) = load().await;
        datastore.set_bundle(bundle("spiffe://other", &[1])).await.unwrap();
        datastore.append_bundle(bundle("spiffe://other", &[2])).await.unwrap();
        datastore.update_bundle(bundle("spiffe://other", &[3]), None).await.unwrap();
        datastore.delete_bundle("spiffe://other", DeleteMode::Delete).await.unwrap();
        datastore.taint_jwt_key("spiffe://td", "k").await.unwrap();
        datastore.revoke_jwt_key("spiffe://td", "k").await.unwrap();
        datastore.delete_join_token("t").await.unwrap();
        datastore.update_federation_relationship(web_relationship("td.org"), None).await.unwrap();
        datastore.delete_federation_relationship("td.org").await.unwrap();
        datastore.set_ca_journal(CaJournal { id: 1, ..Default::default() }).await.unwrap();
        datastore.prune_ca_journals(NOW).await.unwrap();
        assert_eq!(entry_event_ids(&datastore).await, [1]);
        assert_eq!(node_event_ids(&datastore).await, [1]);
    });
}
