//! Creating and fetching (7.2 to 7.5).

use super::*;
use crate::spire::entries::queries::{fetch_entries, find_similar};
use crate::spire::entries::records::AdditionalAttributes;
use crate::spire::entries::validation::Invalid;
use crate::spire::{Code, entries, limits};

fn prefetch_disabled() -> Option<AdditionalAttributes> {
    Some(AdditionalAttributes { disable_x509_svid_prefetch: true, ..AdditionalAttributes::default() })
}

#[test]
fn valid_entries_come_back_as_given() {
    let mut store = with_bundles("12");
    let requests = [
        Entry { dns_names: vec!["b".into(), "a".into()], x509_svid_ttl: 1, jwt_svid_ttl: 2, ..entry("foobarCB") },
        Entry { store_svid: true, admin: true, downstream: true, expiry: -7, ..entry("foobazA") },
        Entry { additional_attributes: prefetch_disabled(), hint: "internal".into(), ..entry("foozizA21") },
        Entry { parent_id: String::new(), entry_id: "entry1".into(), ..entry("xxxbarA") },
    ];
    for request in requests {
        let created = create(&mut store, request.clone());
        let mut federates_with = request.federates_with.clone();
        federates_with.sort();
        assert_eq!(created, Entry { created_at: 1_000, federates_with, ..request });
        assert_eq!(fetch(&store, &created.entry_id), Some(created.clone()));
        assert_eq!(announced(&store, 0).last(), Some(&created.entry_id));
    }
    assert_eq!(announced(&store, 0).len(), 4, "one event for each");
}

#[test]
fn what_the_store_assigns_is_not_taken_from_the_request() {
    let mut store = Datastore::new();
    let request = Entry { entry_id: String::new(), revision_number: 9, created_at: 9, ..entry("foobarA") };
    let created = create(&mut store, request.clone());
    assert_eq!((created.revision_number, created.created_at), (0, 1_000));
    let id = uuid::Uuid::parse_str(&created.entry_id).unwrap();
    assert_eq!(id.get_version_num(), 4);
    assert_eq!(id.to_string(), created.entry_id);
    let other = create(&mut store, Entry { parent_id: "other".into(), ..request });
    assert_ne!(created.entry_id, other.entry_id);
}

#[test]
fn invalid_entries_are_refused_in_the_contract_s_order() {
    let mut store = Datastore::new();
    let valid = || entry("foobarAB");
    let mixed = || Entry { store_svid: true, ..valid() };
    let cases: Vec<(&str, Option<Entry>, Invalid)> = vec![
        ("no entry provided", None, Invalid::MissingEntry),
        ("no selectors, before all others", Some(Entry::default()), Invalid::MissingSelectors),
        (
            "prefetch disabled with store SVID, before mixed types",
            Some(Entry { additional_attributes: prefetch_disabled(), ..mixed() }),
            Invalid::PrefetchWithStoreSvid,
        ),
        (
            "mixed types with store SVID, before the entry ID",
            Some(Entry { entry_id: "/".into(), ..mixed() }),
            Invalid::MixedSelectorTypes,
        ),
        (
            "entry ID too long, before its characters",
            Some(Entry { entry_id: "/".repeat(256), ..valid() }),
            Invalid::EntryIdTooLong,
        ),
        ("accented letter", Some(Entry { entry_id: "\u{e9}".into(), ..valid() }), Invalid::EntryIdCharacters),
        ("emoji", Some(Entry { entry_id: "a\u{1f642}".into(), ..valid() }), Invalid::EntryIdCharacters),
        (
            "invalid characters, before no SPIFFE ID",
            Some(Entry { entry_id: "a/b".into(), spiffe_id: String::new(), ..valid() }),
            Invalid::EntryIdCharacters,
        ),
        (
            "no SPIFFE ID, before the TTLs",
            Some(Entry { spiffe_id: String::new(), x509_svid_ttl: -1, ..valid() }),
            Invalid::MissingSpiffeId,
        ),
        (
            "negative X509 ttl, before the JWT ttl",
            Some(Entry { x509_svid_ttl: -1, jwt_svid_ttl: -1, ..valid() }),
            Invalid::NegativeX509SvidTtl,
        ),
        ("negative JWT ttl", Some(Entry { jwt_svid_ttl: -1, ..valid() }), Invalid::NegativeJwtSvidTtl),
    ];
    for (name, entry, invalid) in cases {
        let refusal = store.refuse(spire::Command::Entry(Command::CreateOrReturn(entry)));
        assert_eq!(refusal, (Code::InvalidArgument, format!("datastore-validation: {invalid}")), "{name}");
    }
    assert_eq!(announced(&store, 0), Vec::<String>::new());
}

#[test]
fn validation_texts_are_literal() {
    let texts = [
        (Invalid::MissingEntry, "invalid request: missing registered entry"),
        (Invalid::MissingSelectors, "invalid registration entry: missing selector list"),
        (Invalid::PrefetchWithStoreSvid, "specifying cache behaviour is incompatible with storable SVIDs"),
        (
            Invalid::MixedSelectorTypes,
            "invalid registration entry: selector types must be the same when store SVID is enabled",
        ),
        (Invalid::EntryIdTooLong, "invalid registration entry: entry ID too long"),
        (Invalid::EntryIdCharacters, "invalid registration entry: entry ID contains invalid characters"),
        (Invalid::MissingSpiffeId, "invalid registration entry: missing SPIFFE ID"),
        (Invalid::NegativeX509SvidTtl, "invalid registration entry: X509SvidTtl is not set"),
        (Invalid::NegativeJwtSvidTtl, "invalid registration entry: JwtSvidTtl is not set"),
        (
            Invalid::AdditionalAttributesTooLarge,
            "invalid registration entry: additional attributes size exceeds the maximum allowed size of 65535 bytes",
        ),
    ];
    for (invalid, text) in texts {
        assert_eq!(invalid.to_string(), text);
    }
}

#[test]
fn longest_entry_id_and_all_of_its_characters_are_accepted() {
    let mut store = Datastore::new();
    for entry_id in ["a".repeat(255), "AZaz09-._".into()] {
        let created =
            create(&mut store, Entry { entry_id: entry_id.clone(), ..entry(&format!("foo{:3}A", entry_id.len())) });
        assert_eq!(created.entry_id, entry_id);
    }
}

/// The sequential cases of the suite's test of this name.
#[test]
fn create_or_return() {
    let mut store = Datastore::new();
    let unnamed = |notation| Entry { entry_id: String::new(), ..entry(notation) };
    let first = create(&mut store, unnamed("foobarABC"));
    for (name, notation) in [
        ("subset selectors", "foobarAB"),
        ("with superset selectors", "foobarABCD"),
        ("same selectors but different SPIFFE IDs", "foobazABC"),
        ("same selectors but different parents", "zizbarABC"),
    ] {
        let created = create(&mut store, unnamed(notation));
        assert_ne!(created.entry_id, first.entry_id, "{name}");
    }
    let custom = create(&mut store, Entry { entry_id: "custom".into(), ..entry("zizzizA") });
    assert_eq!(custom.entry_id, "custom");

    let revision = store.revision();
    let different =
        Entry { entry_id: "mine".into(), x509_svid_ttl: 900, admin: true, hint: "h".into(), ..entry("foobarCBA") };
    let doubled = Entry { selectors: entry("foobarCBAAB").selectors, ..different.clone() };
    let unfederated = Entry { federates_with: vec!["spiffe://nowhere".into()], ..different.clone() };
    let oversized = Entry {
        additional_attributes: Some(AdditionalAttributes { unknown_fields: vec![0; 70_000], ..Default::default() }),
        ..different.clone()
    };
    let cases = [
        ("failed to create similar entry", unnamed("foobarABC")),
        ("failed to create similar entry with different entry ID", different),
        ("order and duplicates are irrelevant", doubled),
        ("federation is not looked at", unfederated),
        ("nor is the size of the attributes", oversized),
        ("nor that the entry ID is taken", Entry { entry_id: "custom".into(), ..entry("foobarABC") }),
    ];
    for (name, request) in cases {
        let answer = store.submit(create_command(request));
        assert_eq!(answer, Answer::Entry { entry: first.clone(), existing: true }, "{name}");
    }
    assert_eq!(store.revision(), revision, "returning an entry is no event");
}

#[test]
fn an_empty_parent_is_compared_like_any_other() {
    let mut store = Datastore::new();
    create(&mut store, entry("foobarA"));
    let request = Entry { entry_id: String::new(), parent_id: String::new(), ..entry("foobarA") };
    let orphan = create(&mut store, request.clone());
    assert_eq!(store.submit(create_command(request)), Answer::Entry { entry: orphan, existing: true });
}

#[test]
fn of_several_similar_entries_the_first_created_is_returned() {
    let mut store = Datastore::new();
    let entries = ["first", "second"].map(|id| Entry { entry_id: id.into(), ..entry("foobarAB") });
    store.plant_entries(&entries);
    let similar =
        store.query(|reader, namespace| find_similar(reader, namespace, &entry("foobarBA")).unwrap().unwrap());
    assert_eq!(similar.sequence.0, 1);
}

#[test]
fn checks_after_similarity_come_in_order() {
    let mut store = with_bundles("1");
    create(&mut store, entry("foobarA"));
    let attributes = |bytes| {
        Some(AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
            unknown_fields: vec![0; bytes],
        })
    };
    let missing = || vec![domain('1'), "spiffe://z".into(), "spiffe://a".into()];
    let doubled = || entry("foobazAA").selectors;
    let request =
        Entry { entry_id: "foobarA".into(), selectors: doubled(), federates_with: missing(), ..entry("foobazA") };
    let cases = [
        (
            Entry { additional_attributes: attributes(65_532), ..request.clone() },
            Code::InvalidArgument,
            "datastore-validation: invalid registration entry: additional attributes size exceeds the maximum allowed size of 65535 bytes",
        ),
        (
            Entry { additional_attributes: attributes(65_531), ..request.clone() },
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: registered_entries.entry_id",
        ),
        (
            Entry { entry_id: "new".into(), ..request.clone() },
            Code::Unknown,
            "unable to find federated bundle \"spiffe://z\"",
        ),
        (
            Entry { entry_id: "new".into(), federates_with: vec![domain('1')], ..request.clone() },
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: selectors.type_value",
        ),
        (
            Entry { entry_id: "new".into(), dns_names: vec!["a".into(), "b".into(), "a".into()], ..entry("foobazA") },
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: dns_names.value",
        ),
    ];
    for (request, code, text) in cases {
        assert_eq!(store.refuse(create_command(request)), (code, text.into()));
    }
}

#[test]
fn attributes_that_are_all_default_read_back_as_absent() {
    let mut store = Datastore::new();
    let request = Entry { additional_attributes: Some(AdditionalAttributes::default()), ..entry("foobarA") };
    assert_eq!(create(&mut store, request).additional_attributes, None);
    let unknown = Some(AdditionalAttributes { unknown_fields: vec![0x18, 1], ..AdditionalAttributes::default() });
    let request = Entry { additional_attributes: unknown.clone(), ..entry("foobarB") };
    assert_eq!(create(&mut store, request).additional_attributes, unknown);
}

#[test]
fn federated_domains_collapse() {
    let mut store = with_bundles("123");
    let created = create(&mut store, entry("foobarA212"));
    assert_eq!(created.federates_with, [domain('1'), domain('2')]);
}

#[test]
fn sizes_are_limited() {
    let mut store = Datastore::new();
    let long = |bytes: usize| "x".repeat(bytes);
    let selector = |value: String| Selector { kind: "t".into(), value };
    let many = (0..limits::SELECTORS_MAX).map(|number| selector(format!("{number}{}", long(100)))).collect();
    let cases = [
        (Entry { spiffe_id: long(2049), ..entry("foobarA") }, "SPIFFE ID is 2049 bytes long, 2048 are allowed"),
        (Entry { parent_id: long(2049), ..entry("foobarA") }, "parent ID is 2049 bytes long, 2048 are allowed"),
        (Entry { hint: long(1025), ..entry("foobarA") }, "hint is 1025 bytes long, 1024 are allowed"),
        (Entry { dns_names: vec![long(1025)], ..entry("foobarA") }, "DNS name is 1025 bytes long, 1024 are allowed"),
        (
            Entry { federates_with: vec![long(2049)], ..entry("foobarA") },
            "federated trust domain ID is 2049 bytes long, 2048 are allowed",
        ),
    ];
    for (request, text) in cases {
        assert_eq!(store.refuse(create_command(request)), (Code::InvalidArgument, text.into()));
    }
    let (code, text) = store.refuse(create_command(Entry { selectors: many, ..entry("foobarA") }));
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("registration entry is ") && text.ends_with("1048576 are allowed"), "{text}");
    create(&mut store, Entry { spiffe_id: long(2048), hint: long(1024), ..entry("foobarA") });
}

/// Cases of `TestFetchRegistrationEntries`.
#[test]
fn fetching_by_id() {
    let mut store = Datastore::new();
    let all = ["foobarA", "foobarB", "foobarC", "foobarD"].map(|notation| create(&mut store, entry(notation)));
    store.submit(spire::Command::Entry(Command::Delete { entry_id: all[3].entry_id.clone() }));
    let ids = |places: &[usize]| places.iter().map(|place| all[*place].entry_id.clone()).collect::<Vec<_>>();
    let cases: [(&str, Vec<String>, &[usize]); 6] = [
        ("No entries", vec![], &[]),
        ("Entries 1 and 2", ids(&[0, 1]), &[0, 1]),
        ("Entries 1 and 3, one of them twice", ids(&[2, 0, 2]), &[2, 0]),
        ("Entries 1, 2, and 3", ids(&[0, 1, 2]), &[0, 1, 2]),
        ("Deleted entry", ids(&[3]), &[]),
        ("empty and unknown IDs", vec![String::new(), "unknown".into()], &[]),
    ];
    for (name, ids, places) in cases {
        let found = store.query(|reader, namespace| fetch_entries(reader, namespace, &ids)).unwrap();
        assert_eq!(found, places.iter().map(|place| all[*place].clone()).collect::<Vec<_>>(), "{name}");
    }
    let too_many = vec!["x"; limits::KEYS_MAX + 1];
    let refusal = store.query(|reader, namespace| fetch_entries(reader, namespace, &too_many)).unwrap_err();
    assert_eq!(refusal.code(), Code::InvalidArgument);
}

#[test]
fn similarity_keys_keep_their_parts_apart() {
    let key = |spiffe: &str, parent: &str, set: &[(&str, &str)]| entries::records::similarity_key(spiffe, parent, set);
    let keys = [
        key("ab", "c", &[("d", "e")]),
        key("a", "bc", &[("d", "e")]),
        key("ab", "c", &[("de", "")]),
        key("ab", "cde", &[]),
        key("ab", "c", &[("d", "e"), ("d", "f")]),
    ];
    for (place, key) in keys.iter().enumerate() {
        assert!(!keys[place + 1..].contains(key), "two of the keys are equal");
    }
}
