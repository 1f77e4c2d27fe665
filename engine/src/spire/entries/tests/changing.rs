//! Updating (7.8).

use super::*;
use crate::ids::Timestamp;
use crate::spire::Code;
use crate::spire::entries::commands::EntryMask;
use crate::spire::entries::records::AdditionalAttributes;

fn update(entry: Entry, mask: Option<EntryMask>) -> spire::Command {
    spire::Command::Entry(Command::Update(Some(entry), mask))
}

fn attributes() -> Option<AdditionalAttributes> {
    Some(AdditionalAttributes { jwt_svid_include_jti: true, ..AdditionalAttributes::default() })
}

/// Differs from the old entry in every field that an update may set.
fn replacement() -> Entry {
    Entry {
        entry_id: "foobarAB1".into(),
        spiffe_id: "new".into(),
        parent_id: "parent".into(),
        selectors: entry("foobarDC").selectors,
        dns_names: vec!["z".into(), "y".into()],
        federates_with: vec![domain('3'), domain('2')],
        x509_svid_ttl: 11,
        jwt_svid_ttl: 12,
        admin: true,
        downstream: true,
        store_svid: false,
        hint: "changed".into(),
        expiry: 77,
        revision_number: 55,
        created_at: 66,
        additional_attributes: attributes(),
    }
}

#[test]
fn nil_mask_rewrites_everything_but_what_the_store_assigns() {
    let mut store = with_bundles("123");
    create(&mut store, entry("foobarAB1"));
    store.set_now(Timestamp::from_seconds(2_000));
    let expected = Entry {
        federates_with: vec![domain('2'), domain('3')],
        revision_number: 1,
        created_at: 1_000,
        ..replacement()
    };
    let answer = store.submit(update(replacement(), None));
    assert_eq!(answer, Answer::Entry { entry: expected.clone(), existing: false });
    assert_eq!(fetch(&store, "foobarAB1"), Some(expected));
    assert_eq!(announced(&store, 0), ["foobarAB1", "foobarAB1"]);
}

/// Each field: applied with its mask bit, and neither applied nor validated without it.
#[test]
fn mask_decides_field_by_field() {
    type Copy = fn(&mut Entry, &Entry);
    let none = EntryMask::default();
    let cases: [(&str, EntryMask, Copy); 13] = [
        ("SPIFFE ID", EntryMask { spiffe_id: true, ..none }, |to, from| to.spiffe_id = from.spiffe_id.clone()),
        ("parent ID", EntryMask { parent_id: true, ..none }, |to, from| to.parent_id = from.parent_id.clone()),
        ("selectors", EntryMask { selectors: true, ..none }, |to, from| to.selectors = from.selectors.clone()),
        ("DNS names", EntryMask { dns_names: true, ..none }, |to, from| to.dns_names = from.dns_names.clone()),
        ("federates with", EntryMask { federates_with: true, ..none }, |to, _| {
            to.federates_with = vec![domain('2'), domain('3')];
        }),
        ("X.509 TTL", EntryMask { x509_svid_ttl: true, ..none }, |to, from| to.x509_svid_ttl = from.x509_svid_ttl),
        ("JWT TTL", EntryMask { jwt_svid_ttl: true, ..none }, |to, from| to.jwt_svid_ttl = from.jwt_svid_ttl),
        ("admin", EntryMask { admin: true, ..none }, |to, from| to.admin = from.admin),
        ("downstream", EntryMask { downstream: true, ..none }, |to, from| to.downstream = from.downstream),
        ("store SVID", EntryMask { store_svid: true, ..none }, |to, from| to.store_svid = from.store_svid),
        ("hint", EntryMask { hint: true, ..none }, |to, from| to.hint = from.hint.clone()),
        ("expiry", EntryMask { expiry: true, ..none }, |to, from| to.expiry = from.expiry),
        ("attributes", EntryMask { additional_attributes: true, ..none }, |to, from| {
            to.additional_attributes = from.additional_attributes.clone();
        }),
    ];
    for (name, mask, copy) in cases {
        let mut store = with_bundles("123");
        let old = create(&mut store, Entry { store_svid: true, ..entry("foobarA1") });
        let input = Entry { entry_id: old.entry_id.clone(), selectors: entry("foobarD").selectors, ..replacement() };
        let mut expected = Entry { revision_number: 1, ..old };
        copy(&mut expected, &input);
        let answer = store.submit(update(input, Some(mask)));
        assert_eq!(answer, Answer::Entry { entry: expected.clone(), existing: false }, "{name}");
        assert_eq!(fetch(&store, &expected.entry_id), Some(expected), "{name}");
    }
}

#[test]
fn all_false_mask_counts_as_an_update() {
    let mut store = Datastore::new();
    let old = create(&mut store, entry("foobarAB"));
    let bad = Entry { entry_id: old.entry_id.clone(), x509_svid_ttl: -1, jwt_svid_ttl: -1, ..Entry::default() };
    store.submit(update(bad, Some(EntryMask::default())));
    assert_eq!(fetch(&store, &old.entry_id), Some(Entry { revision_number: 1, ..old }));
    assert_eq!(announced(&store, 0).len(), 2);
}

#[test]
fn updates_are_refused_in_the_contract_s_order() {
    let mut store = with_bundles("1");
    create(&mut store, entry("foobarAB1"));
    create(&mut store, Entry { store_svid: true, ..entry("foobazA") });
    let validation = |text: &str| format!("datastore-validation: {text}");
    let mixed = "invalid registration entry: selector types must be the same when store SVID is enabled";
    let bad = || Entry {
        entry_id: "absent".into(),
        x509_svid_ttl: -1,
        jwt_svid_ttl: -1,
        store_svid: true,
        federates_with: vec!["spiffe://z".into()],
        ..Entry::default()
    };
    let selectors = || entry("foobarAB").selectors;
    let none = EntryMask::default();
    let cases = [
        (bad(), None, Code::InvalidArgument, validation("invalid registration entry: missing selector list")),
        (
            Entry { selectors: selectors(), ..bad() },
            None,
            Code::InvalidArgument,
            validation("invalid registration entry: missing SPIFFE ID"),
        ),
        (
            Entry { selectors: selectors(), spiffe_id: "x".into(), ..bad() },
            None,
            Code::InvalidArgument,
            validation("invalid registration entry: X509SvidTtl is not set"),
        ),
        (
            bad(),
            Some(EntryMask { jwt_svid_ttl: true, ..none }),
            Code::InvalidArgument,
            validation("invalid registration entry: JwtSvidTtl is not set"),
        ),
        (bad(), Some(none), Code::NotFound, "datastore-sql: record not found".into()),
        (
            Entry { entry_id: "foobarAB1".into(), selectors: selectors(), ..bad() },
            Some(EntryMask { store_svid: true, selectors: true, federates_with: true, ..none }),
            Code::InvalidArgument,
            validation(mixed),
        ),
        (
            Entry { entry_id: "foobarAB1".into(), ..bad() },
            Some(EntryMask { store_svid: true, ..none }),
            Code::InvalidArgument,
            validation(mixed),
        ),
        (
            Entry { entry_id: "foobazA".into(), selectors: selectors(), ..bad() },
            Some(EntryMask { selectors: true, ..none }),
            Code::InvalidArgument,
            validation(mixed),
        ),
        (
            Entry { entry_id: "foobarAB1".into(), ..bad() },
            Some(EntryMask { federates_with: true, ..none }),
            Code::Unknown,
            "unable to find federated bundle \"spiffe://z\"".into(),
        ),
        (
            Entry { entry_id: "foobarAB1".into(), selectors: entry("foobarBAB").selectors, ..bad() },
            Some(EntryMask { selectors: true, ..none }),
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: selectors.type_value".into(),
        ),
    ];
    for (input, mask, code, text) in cases {
        assert_eq!(store.refuse(update(input, mask)), (code, text));
    }
    let missing = store.refuse(spire::Command::Entry(Command::Update(None, None)));
    assert_eq!(missing, (Code::InvalidArgument, validation("invalid request: missing registered entry")));
}

#[test]
fn attributes_are_limited_only_in_scope() {
    let mut store = Datastore::new();
    let old = create(&mut store, Entry { additional_attributes: attributes(), ..entry("foobarA") });
    let large = AdditionalAttributes { unknown_fields: vec![0; 65_536], ..AdditionalAttributes::default() };
    let input = Entry { additional_attributes: Some(large), ..old.clone() };
    let in_scope = EntryMask { additional_attributes: true, ..EntryMask::default() };
    let (code, text) = store.refuse(update(input.clone(), Some(in_scope)));
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.contains("maximum allowed size of 65535 bytes"), "{text}");
    store.submit(update(input, Some(EntryMask::default())));
    assert_eq!(fetch(&store, &old.entry_id).unwrap().additional_attributes, attributes());
    store.submit(update(Entry { additional_attributes: None, ..old.clone() }, Some(in_scope)));
    assert_eq!(fetch(&store, &old.entry_id).unwrap().additional_attributes, None);
}

#[test]
fn an_update_may_make_entries_similar() {
    let mut store = Datastore::new();
    let first = create(&mut store, entry("foobarA"));
    let second = create(&mut store, entry("foobarB"));
    store.submit(update(Entry { entry_id: second.entry_id, ..first.clone() }, None));
    let answer = store.submit(create_command(Entry { entry_id: String::new(), ..entry("foobarA") }));
    assert_eq!(answer, Answer::Entry { entry: first, existing: true });
}

#[test]
fn store_svid_with_one_selector_type() {
    let mut store = Datastore::new();
    let old = create(&mut store, entry("foobarAB"));
    let one_type = ["x", "y"].map(|value| Selector { kind: "t".into(), value: value.into() }).to_vec();
    store.submit(update(Entry { store_svid: true, selectors: one_type, ..old.clone() }, None));
    assert!(fetch(&store, &old.entry_id).unwrap().store_svid);
}
