use std::time::{SystemTime, UNIX_EPOCH};

use steeple_client::Namespace;
use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter as Filter};
use steeple_tests::check::{case, refused, status};
use steeple_tests::records::{entry, entry_event_ids, selector};
use steeple_tests::server::{namespace, run, shared};
use steeple_tests::{fixtures, raw};
use steeple_wire::common::v1::RequestContext;
use steeple_wire::spire::v1::{
    CreateOrReturnRegistrationEntryRequest, CreateOrReturnRegistrationEntryResponse, CreateRegistrationEntryRequest,
    CreateRegistrationEntryResponse,
};
use tonic::{Code, Status};

pub(super) fn context(datastore: &Namespace) -> Option<RequestContext> {
    Some(RequestContext { namespace: datastore.name().into(), request_id: Vec::new() })
}

/// A request that may lack the entry.
async fn create_raw(
    datastore: &Namespace,
    entry: Option<RegistrationEntry>,
) -> Result<CreateRegistrationEntryResponse, Status> {
    let request = CreateRegistrationEntryRequest { context: context(datastore), entry };
    raw::unary(&shared().channel, raw::DATASTORE, "CreateRegistrationEntry", &request).await
}

async fn create_or_return_raw(
    datastore: &Namespace,
    entry: Option<RegistrationEntry>,
) -> Result<CreateOrReturnRegistrationEntryResponse, Status> {
    let request = CreateOrReturnRegistrationEntryRequest { context: context(datastore), entry };
    raw::unary(&shared().channel, raw::DATASTORE, "CreateOrReturnRegistrationEntry", &request).await
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

#[test]
fn test_count_registration_entries() {
    run(async {
        let datastore = namespace().await;
        assert_eq!(datastore.count_registration_entries(Filter::default()).await.unwrap(), 0);
        for (id, kind) in [("spiffe://example.org/foo", "a"), ("spiffe://example.org/bar", "b")] {
            let entry = entry("spiffe://example.org/parent", id, vec![selector(kind, "1")]);
            datastore.create_registration_entry(entry).await.unwrap();
        }
        assert_eq!(datastore.count_registration_entries(Filter::default()).await.unwrap(), 2);
    });
}

#[test]
fn test_create_registration_entry() {
    run(async {
        let datastore = namespace().await;
        let started = now();
        let fixtures = fixtures::load(fixtures::VALID);
        assert_eq!(fixtures.len(), 5);
        for entry in fixtures {
            let entry = entry.unwrap();
            let created = datastore.create_registration_entry(entry.clone()).await.unwrap();
            assert!(!created.entry_id.is_empty());
            assert!(created.created_at >= started, "{} < {started}", created.created_at);
            if !entry.entry_id.is_empty() {
                assert_eq!(created.entry_id, entry.entry_id);
            }
            let expected =
                RegistrationEntry { entry_id: created.entry_id.clone(), created_at: created.created_at, ..entry };
            assert_eq!(created, expected);
            let fetched = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
            assert_eq!(fetched, Some(created));
        }
    });
}

#[test]
fn test_create_invalid_registration_entry() {
    const TEXTS: [&str; 8] = [
        "invalid registration entry: missing SPIFFE ID",
        "invalid registration entry: X509SvidTtl is not set",
        "invalid registration entry: missing selector list",
        "invalid registration entry: selector types must be the same when store SVID is enabled",
        "invalid registration entry: entry ID too long",
        "invalid registration entry: entry ID contains invalid characters",
        "specifying cache behaviour is incompatible with storable SVIDs",
        "invalid request: missing registered entry",
    ];
    run(async {
        let datastore = namespace().await;
        let fixtures = fixtures::load(fixtures::INVALID);
        assert_eq!(fixtures.len(), TEXTS.len());
        for (entry, text) in fixtures.into_iter().zip(TEXTS) {
            let _case = case(text);
            let text = format!("datastore-validation: {text}");
            status(create_raw(&datastore, entry).await, Code::InvalidArgument, &text);
        }
        assert_eq!(datastore.count_registration_entries(Filter::default()).await.unwrap(), 0);
        assert_eq!(entry_event_ids(&datastore).await, [0u64; 0]);
    });
}

#[test]
fn test_create_or_return_registration_entry() {
    run(async {
        let datastore = namespace().await;
        let good = || RegistrationEntry {
            x509_svid_ttl: 1,
            jwt_svid_ttl: 1,
            dns_names: vec!["abcd.efg".into(), "somehost".into()],
            ..entry("ParentId", "SpiffeId", vec![selector("Type1", "Value1"), selector("Type2", "Value2")])
        };

        // What is refused.
        let refusals = [
            ("no entry provided", None, "invalid request: missing registered entry"),
            (
                "no selectors",
                Some(RegistrationEntry { selectors: vec![], ..good() }),
                "invalid registration entry: missing selector list",
            ),
            (
                "no SPIFFE ID",
                Some(RegistrationEntry { spiffe_id: String::new(), ..good() }),
                "invalid registration entry: missing SPIFFE ID",
            ),
            (
                "negative X509 ttl",
                Some(RegistrationEntry { x509_svid_ttl: -1, ..good() }),
                "invalid registration entry: X509SvidTtl is not set",
            ),
            (
                "negative JWT ttl",
                Some(RegistrationEntry { jwt_svid_ttl: -1, ..good() }),
                "invalid registration entry: JwtSvidTtl is not set",
            ),
        ];
        for (name, entry, text) in refusals {
            let _case = case(name);
            let text = format!("datastore-validation: {text}");
            status(create_or_return_raw(&datastore, entry).await, Code::InvalidArgument, &text);
        }
        assert_eq!(entry_event_ids(&datastore).await, [0u64; 0]);

        // What is created, each with one event.
        let news = [
            ("create entry successfully", good()),
            ("subset selectors", RegistrationEntry { selectors: vec![selector("Type1", "Value1")], ..good() }),
            (
                "with superset selectors",
                RegistrationEntry {
                    selectors: vec![
                        selector("Type1", "Value1"),
                        selector("Type2", "Value2"),
                        selector("Type3", "Value3"),
                    ],
                    ..good()
                },
            ),
            ("same selectors but different SPIFFE IDs", RegistrationEntry { spiffe_id: "SpiffeId2".into(), ..good() }),
            (
                "with custom entry ID",
                RegistrationEntry {
                    spiffe_id: "SpiffeId3".into(),
                    entry_id: "some-ID.with_ALL-kinds.1".into(),
                    ..good()
                },
            ),
        ];
        let mut first = None;
        for (number, (name, entry)) in news.into_iter().enumerate() {
            let _case = case(name);
            let created = datastore.create_or_return_registration_entry(entry.clone()).await.unwrap();
            assert!(!created.existing);
            assert!(!created.entry.entry_id.is_empty());
            if !entry.entry_id.is_empty() {
                assert_eq!(created.entry.entry_id, entry.entry_id);
            }
            let expected = RegistrationEntry {
                entry_id: created.entry.entry_id.clone(),
                created_at: created.entry.created_at,
                ..entry
            };
            assert_eq!(created.entry, expected);
            assert_eq!(entry_event_ids(&datastore).await.len(), number + 1);
            first.get_or_insert(created.entry);
        }
        let first = first.unwrap();

        // What is there already, without an event.
        let similar = [
            ("failed to create similar entry", good()),
            ("... with different entry ID", RegistrationEntry { entry_id: "some-other-ID".into(), ..good() }),
            (
                "selectors in another order, one twice, other fields",
                RegistrationEntry {
                    selectors: vec![
                        selector("Type2", "Value2"),
                        selector("Type1", "Value1"),
                        selector("Type2", "Value2"),
                    ],
                    x509_svid_ttl: 900,
                    admin: true,
                    hint: "other".into(),
                    federates_with: vec!["spiffe://without-bundle".into()],
                    ..good()
                },
            ),
        ];
        for (name, entry) in similar {
            let _case = case(name);
            let returned = datastore.create_or_return_registration_entry(entry.clone()).await.unwrap();
            assert!(returned.existing);
            assert_eq!(returned.entry, first);
            assert_eq!(datastore.create_registration_entry(entry).await.unwrap(), first);
            assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3, 4, 5]);
        }

        for (name, id, text) in [
            ("entry ID too long", "x".repeat(256), "entry ID too long"),
            ("entry ID contains invalid characters", "éntry😊".to_owned(), "entry ID contains invalid characters"),
        ] {
            let _case = case(name);
            let entry = RegistrationEntry { entry_id: id, ..good() };
            let text = format!("datastore-validation: invalid registration entry: {text}");
            refused(datastore.create_or_return_registration_entry(entry).await, Code::InvalidArgument, &text);
        }
    });
}

// ---- what the suite does not cover

#[test]
fn an_entry_id_is_taken_once() {
    run(async {
        let datastore = namespace().await;
        let first = RegistrationEntry { entry_id: "taken".into(), ..entry("p", "first", vec![selector("a", "1")]) };
        let second = RegistrationEntry { entry_id: "taken".into(), ..entry("p", "second", vec![selector("a", "1")]) };
        datastore.create_registration_entry(first).await.unwrap();
        refused(
            datastore.create_registration_entry(second).await,
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: registered_entries.entry_id",
        );
        assert_eq!(entry_event_ids(&datastore).await, [1]);
    });
}

#[test]
fn selectors_and_dns_names_are_given_once() {
    run(async {
        let datastore = namespace().await;
        let good = entry("p", "w", vec![selector("a", "1"), selector("b", "1"), selector("a", "2")]);
        let doubled = RegistrationEntry { selectors: vec![selector("a", "1"), selector("a", "1")], ..good.clone() };
        let names = RegistrationEntry { dns_names: vec!["x".into(), "y".into(), "x".into()], ..good.clone() };
        let (selectors_text, names_text) = (
            "datastore-sql: UNIQUE constraint failed: selectors.type_value",
            "datastore-sql: UNIQUE constraint failed: dns_names.value",
        );
        refused(datastore.create_registration_entry(doubled.clone()).await, Code::AlreadyExists, selectors_text);
        refused(datastore.create_registration_entry(names.clone()).await, Code::AlreadyExists, names_text);
        let created = datastore.create_registration_entry(good).await.unwrap();
        let update = |entry: RegistrationEntry| RegistrationEntry { entry_id: created.entry_id.clone(), ..entry };
        refused(datastore.update_registration_entry(update(doubled), None).await, Code::AlreadyExists, selectors_text);
        refused(datastore.update_registration_entry(update(names), None).await, Code::AlreadyExists, names_text);
        let stored = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
        assert_eq!(stored, Some(created));
        assert_eq!(entry_event_ids(&datastore).await, [1]);
    });
}

/// The reference forgets the parent when the request has none (quirk 4).
#[test]
fn an_empty_parent_is_compared_like_any_other() {
    run(async {
        let datastore = namespace().await;
        let with_parent = entry("parent", "w", vec![selector("a", "1")]);
        let without = entry("", "w", vec![selector("a", "1")]);
        let first = datastore.create_or_return_registration_entry(with_parent).await.unwrap();
        let second = datastore.create_or_return_registration_entry(without.clone()).await.unwrap();
        assert!(!first.existing && !second.existing);
        let third = datastore.create_or_return_registration_entry(without).await.unwrap();
        assert!(third.existing);
        assert_eq!(third.entry, second.entry);
    });
}

#[test]
fn of_several_similar_entries_the_first_created_is_returned() {
    run(async {
        let datastore = namespace().await;
        let first = datastore.create_registration_entry(entry("p", "w", vec![selector("a", "1")])).await.unwrap();
        let second = datastore.create_registration_entry(entry("p", "other", vec![selector("a", "1")])).await.unwrap();
        // An update may make two entries similar.
        let update = RegistrationEntry { spiffe_id: "w".into(), ..second.clone() };
        let second = datastore.update_registration_entry(update, None).await.unwrap();
        let again = entry("p", "w", vec![selector("a", "1")]);
        let returned = datastore.create_or_return_registration_entry(again.clone()).await.unwrap();
        assert_eq!((returned.entry.entry_id.as_str(), returned.existing), (first.entry_id.as_str(), true));
        datastore.delete_registration_entry(first.entry_id).await.unwrap();
        let returned = datastore.create_or_return_registration_entry(again).await.unwrap();
        assert_eq!((returned.entry, returned.existing), (second, true));
    });
}

#[test]
fn what_the_store_assigns_is_not_taken_from_the_request() {
    run(async {
        let datastore = namespace().await;
        let request = RegistrationEntry {
            revision_number: 77,
            created_at: 12,
            entry_expiry: -5,
            ..entry("p", "w", vec![selector("", "")])
        };
        let created = datastore.create_registration_entry(request).await.unwrap();
        assert_eq!((created.revision_number, created.entry_expiry), (0, -5));
        assert!(created.created_at > 12);
    });
}
