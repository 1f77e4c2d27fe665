//! Imports, batch by batch.

use super::commands::JOURNAL_ID_MAX;
use super::queries::fetch_import;
use super::records::Import;
use super::{Batch, Command, Record};
use crate::ids::Timestamp;
use crate::spire::bundles::records::Bundle;
use crate::spire::entries::queries::fetch_entry;
use crate::spire::entries::records::Entry;
use crate::spire::federation::queries::fetch_relationship;
use crate::spire::federation::records::StoredRelationship;
use crate::spire::fixture::Datastore;
use crate::spire::journals::queries::list_journals;
use crate::spire::journals::records::Journal;
use crate::spire::limits::{HINT_BYTES_MAX, IMPORT_BATCH_MAX};
use crate::spire::nodes::queries::get_node_selectors;
use crate::spire::nodes::records::{Node, NodeSelectors};
use crate::spire::selectors::Selector;
use crate::spire::tokens::queries::{fetch_join_token, list_join_tokens};
use crate::spire::tokens::records::JoinToken;
use crate::spire::{self, Answer, Code, bundles, journals, nodes, tokens};

const FINGERPRINT: [u8; 16] = [7; 16];

fn batch(total: u64, position: u64, records: Vec<Record>) -> spire::Command {
    let batch = Batch { fingerprint: FINGERPRINT, source: "a test".into(), total, position, records };
    spire::Command::Import(Command::Batch(batch))
}

fn bundle(trust_domain_id: &str) -> Bundle {
    Bundle { trust_domain_id: trust_domain_id.into(), sequence_number: 12, ..Bundle::default() }
}

fn entry(entry_id: &str) -> Entry {
    Entry {
        entry_id: entry_id.into(),
        spiffe_id: "spiffe://a/b".into(),
        selectors: vec![Selector { kind: "unix".into(), value: "uid:1".into() }],
        revision_number: 41,
        created_at: 1_234,
        ..Entry::default()
    }
}

fn journal(id: u64) -> Record {
    Record::Journal(Journal { id, data: vec![8, 1], active_x509_authority_id: format!("authority-{id}") })
}

fn token(text: &str) -> Record {
    Record::Token(JoinToken { token: text.into(), expiry: 99 })
}

fn progress(store: &Datastore) -> Option<(u64, u64)> {
    let import = store.query(fetch_import).unwrap();
    import.map(|import| (import.accepted, import.total))
}

#[test]
fn records_are_kept_as_they_come() {
    let mut store = Datastore::new();
    let federated = Entry { federates_with: vec!["spiffe://other".into()], ..entry("one") };
    let selectors = vec![Selector { kind: "k8s".into(), value: "ns:x".into() }];
    // What no call would create: an entry without selectors and SPIFFE ID, and an unknown profile.
    let bare = Entry { entry_id: "bare".into(), x509_svid_ttl: -3, ..Entry::default() };
    let relationship = StoredRelationship {
        trust_domain: "other".into(),
        bundle_endpoint_url: "no URL%".into(),
        bundle_endpoint_profile: "strange".into(),
        endpoint_spiffe_id: String::new(),
    };
    let records = vec![
        Record::Bundle(bundle("spiffe://other")),
        Record::Relationship(relationship.clone()),
        Record::Entry(federated.clone()),
        Record::Entry(bare.clone()),
        Record::Node(Node { spiffe_id: "agent".into(), cert_not_after: 5, ..Node::default() }),
        Record::NodeSelectors(NodeSelectors { spiffe_id: "nobody".into(), selectors: selectors.clone() }),
        token("secret"),
        journal(3),
        journal(9),
    ];
    store.set_now(Timestamp::from_seconds(5_000));
    let Answer::Import(import) = store.submit(batch(9, 0, records)) else { panic!("another answer") };
    assert!(import.is_complete());
    assert_eq!((import.began, import.went_on), (Timestamp::from_seconds(5_000), Timestamp::from_seconds(5_000)));
    assert_eq!(store.query(|reader, namespace| fetch_entry(reader, namespace, "one")).unwrap(), Some(federated));
    assert_eq!(store.query(|reader, namespace| fetch_entry(reader, namespace, "bare")).unwrap(), Some(bare));
    let found = store.query(|reader, namespace| fetch_relationship(reader, namespace, "other")).unwrap();
    assert_eq!(found, Some(relationship.with_bundle(Some(bundle("spiffe://other")))));
    assert_eq!(store.query(|reader, namespace| get_node_selectors(reader, namespace, "nobody")).unwrap(), selectors);
    assert!(store.query(|reader, namespace| fetch_join_token(reader, namespace, "secret")).unwrap().is_some());
    assert_eq!(store.query(list_journals).unwrap().iter().map(|journal| journal.id).collect::<Vec<_>>(), [3, 9]);
    assert!(store.registrations(0).is_empty(), "an import is no news to those who read the streams");
}

#[test]
fn numbers_go_on_behind_those_of_the_import() {
    let mut store = Datastore::new();
    store.submit(batch(3, 0, vec![journal(3), journal(9), Record::Entry(entry("one"))]));
    let created = Journal { id: 0, data: vec![], active_x509_authority_id: "new".into() };
    let set = spire::Command::Journal(journals::Command::Set(Some(created)));
    assert!(matches!(store.submit(set), Answer::Journal(Journal { id: 10, .. })));
}

#[test]
fn an_import_goes_on_where_it_stands() {
    let mut store = Datastore::new();
    let tokens = |range: std::ops::Range<u32>| range.map(|number| token(&number.to_string())).collect::<Vec<_>>();
    store.submit(batch(5, 0, tokens(0..2)));
    assert_eq!(progress(&store), Some((2, 5)));
    let (code, text) = store.refuse(batch(5, 0, tokens(0..2)));
    assert_eq!(
        (code, text.as_str()),
        (Code::FailedPrecondition, "the import stands at record 2, the batch begins at 0")
    );
    assert_eq!(store.refuse(batch(5, 4, tokens(4..5))).0, Code::FailedPrecondition);
    store.submit(batch(5, 2, tokens(2..5)));
    assert_eq!(progress(&store), Some((5, 5)));
    assert_eq!(store.refuse(batch(5, 5, tokens(5..6))).0, Code::InvalidArgument);
    let list = store.query(|reader, namespace| list_join_tokens(reader, namespace, None)).unwrap();
    assert_eq!(list.items.iter().map(|token| token.token.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn nothing_else_is_taken_before_the_end() {
    let mut store = Datastore::new();
    store.submit(batch(2, 0, vec![token("a")]));
    let other =
        |text: &str| spire::Command::Token(tokens::Command::Create(Some(JoinToken { token: text.into(), expiry: 99 })));
    let (code, text) = store.refuse(other("c"));
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("1 of 2 records"), "{text}");
    store.submit(batch(2, 1, vec![token("b")]));
    store.submit(other("c"));
}

#[test]
fn only_an_unused_namespace_takes_an_import() {
    let mut store = Datastore::new();
    let create = spire::Command::Bundle(bundles::Command::Create(Some(bundle("spiffe://a"))));
    store.submit(create);
    let delete = bundles::Command::Delete {
        trust_domain_id: "spiffe://a".into(),
        mode: bundles::commands::DeleteMode::Restrict,
    };
    store.submit(spire::Command::Bundle(delete));
    let (code, text) = store.refuse(batch(1, 0, vec![token("a")]));
    assert_eq!(code, Code::FailedPrecondition);
    assert!(text.contains("bundles of this one were written to"), "{text}");

    let mut store = Datastore::new();
    let clear = nodes::Command::SetSelectors { spiffe_id: "agent".into(), selectors: vec![] };
    store.submit(spire::Command::Node(clear));
    assert_eq!(store.refuse(batch(1, 0, vec![token("a")])).0, Code::FailedPrecondition, "an event was told");
}

#[test]
fn another_import_is_refused() {
    let mut store = Datastore::new();
    store.submit(batch(1, 0, vec![token("a")]));
    let other = Batch { fingerprint: [8; 16], source: "b".into(), total: 1, position: 0, records: vec![token("b")] };
    let (code, text) = store.refuse(spire::Command::Import(Command::Batch(other)));
    assert_eq!(code, Code::FailedPrecondition);
    assert_eq!(text, "this namespace holds 1 of 1 records of another import, from a test");
}

#[test]
fn an_import_of_nothing_is_complete_at_once() {
    let mut store = Datastore::new();
    let Answer::Import(import) = store.submit(batch(0, 0, vec![])) else { panic!("another answer") };
    assert!(import.is_complete());
    assert_eq!(Import::decode(&import.encode()), Ok(import));
    let mut store = Datastore::new();
    assert_eq!(store.refuse(batch(3, 0, vec![])).0, Code::InvalidArgument, "a batch of nothing leads nowhere");
}

#[test]
fn a_record_that_cannot_be_held_refuses_its_batch_by_name() {
    let mut store = Datastore::new();
    let mut refuse = |records: Vec<Record>| store.refuse(batch(100_000, 0, records));
    let long = Entry { hint: "h".repeat(HINT_BYTES_MAX + 1), ..entry("long") };
    assert_eq!(
        refuse(vec![Record::Entry(entry("one")), Record::Entry(long)]),
        (
            Code::InvalidArgument,
            "record 2 of the import, entry \"long\": hint is 1025 bytes long, 1024 are allowed".into()
        )
    );
    let (code, text) = refuse(vec![Record::Entry(entry("one")), Record::Entry(entry("one"))]);
    assert_eq!((code, text.contains("another record with this key")), (Code::AlreadyExists, true), "{text}");
    let (_, text) = refuse(vec![Record::Entry(Entry { federates_with: vec!["spiffe://gone".into()], ..entry("one") })]);
    assert!(text.contains("spiffe://gone"), "{text}");
    for ids in [vec![0], vec![4, 4], vec![5, 4], vec![JOURNAL_ID_MAX + 1]] {
        let (code, text) = refuse(ids.iter().map(|id| journal(*id)).collect());
        assert_eq!(code, Code::InvalidArgument, "{ids:?}: {text}");
    }
    let twice = Selector { kind: "a".into(), value: "b".into() };
    let selectors = vec![twice.clone(), twice];
    assert_eq!(
        refuse(vec![Record::Entry(Entry { selectors: selectors.clone(), ..entry("one") })]).0,
        Code::AlreadyExists
    );
    let selectors = |selectors| Record::NodeSelectors(NodeSelectors { spiffe_id: "agent".into(), selectors });
    assert_eq!(refuse(vec![selectors(vec![])]).0, Code::InvalidArgument);
    assert_eq!(refuse(vec![Record::Entry(Entry::default())]).0, Code::InvalidArgument, "no id");
    let (_, text) = refuse(vec![token("secret"), token("secret")]);
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(
        refuse((0..=IMPORT_BATCH_MAX).map(|number| token(&number.to_string())).collect()).0,
        Code::InvalidArgument
    );
    assert_eq!(progress(&store), None);
}

#[test]
fn a_record_can_be_checked_by_itself() {
    assert!(Record::Entry(entry("one")).check().is_ok());
    assert!(Record::Entry(Entry { hint: "h".repeat(HINT_BYTES_MAX + 1), ..entry("one") }).check().is_err());
    assert!(token("").check().is_err());
    assert!(!format!("{:?}", batch(1, 0, vec![token("secret")])).contains("secret"));
}
