//! Bundles and authorities, case by case from sections 5 and 6 of the specification.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyIdMethod, KeyPair, SerialNumber};
use x509_parser::time::ASN1Time;

use super::commands::{BundleMask, DeleteMode};
use super::deletion::STEP_ENTRIES_MAX;
use super::limits::{AUTHORITIES_MAX, BUNDLE_BYTES_MAX, KEY_ID_BYTES_MAX};
use super::queries::{count_bundles, fetch_bundle, list_bundles};
use super::records::{Bundle, Certificate, PublicKey};
use super::{Command, certificates};
use crate::ids::Sequence;
use crate::index::Query;
use crate::spire::entries::records::Entry;
use crate::spire::fixture::{Datastore, Refusal};
use crate::spire::limits::{PRUNE_STEP_BYTES, SPIFFE_ID_BYTES_MAX};
use crate::spire::pages::PageRequest;
use crate::spire::{self, Answer, Code, tables};
use crate::view::ReaderExtension;

mod authorities;
mod deletion;

const TD: &str = "spiffe://td.example";

// ---- what tests are made of

fn certificate(is_ca: IsCa, subject_key_id: &[u8], not_after: i64, serial: u64) -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = is_ca;
    parameters.key_identifier_method = KeyIdMethod::PreSpecified(subject_key_id.to_vec());
    parameters.not_after = ASN1Time::from_timestamp(not_after).unwrap().to_datetime();
    parameters.serial_number = Some(SerialNumber::from(serial));
    parameters.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn authority(subject_key_id: &[u8], not_after: i64) -> Vec<u8> {
    certificate(IsCa::Ca(BasicConstraints::Unconstrained), subject_key_id, not_after, 1)
}

/// Without the subject key identifier extension.
fn leaf(not_after: i64, serial: u64) -> Vec<u8> {
    certificate(IsCa::NoCa, &[], not_after, serial)
}

fn root(der_bytes: impl Into<Vec<u8>>) -> Certificate {
    Certificate { der_bytes: der_bytes.into(), ..Certificate::default() }
}

fn tainted_root(der_bytes: impl Into<Vec<u8>>) -> Certificate {
    Certificate { tainted_key: true, ..root(der_bytes) }
}

fn key(kid: &str, not_after: i64) -> PublicKey {
    PublicKey { pkix_bytes: kid.as_bytes().to_vec(), kid: kid.into(), not_after, ..PublicKey::default() }
}

fn tainted_key(kid: &str) -> PublicKey {
    PublicKey { tainted_key: true, ..key(kid, 0) }
}

/// With one-byte certificates, which nothing but pruning, tainting and revoking may mind.
fn bundle(id: &str, roots: &[u8]) -> Bundle {
    Bundle {
        trust_domain_id: id.into(),
        root_cas: roots.iter().map(|&byte| root([byte])).collect(),
        ..Bundle::default()
    }
}

/// Every field set.
fn full(id: &str) -> Bundle {
    Bundle {
        jwt_signing_keys: vec![key("j1", 5), tainted_key("j2")],
        wit_signing_keys: vec![key("w1", 6)],
        refresh_hint: 60,
        sequence_number: 7,
        unknown_fields: vec![0x78, 1],
        ..bundle(id, &[1, 2])
    }
}

fn entry(id: &str, federates_with: &[&str]) -> Entry {
    Entry {
        entry_id: id.into(),
        spiffe_id: format!("spiffe://here/{id}"),
        federates_with: federates_with.iter().map(|&id| id.into()).collect(),
        revision_number: 3,
        ..Entry::default()
    }
}

// ---- asking

fn command(command: Command) -> spire::Command {
    spire::Command::Bundle(command)
}

fn create(bundle: Bundle) -> spire::Command {
    command(Command::Create(Some(bundle)))
}

fn set(bundle: Bundle) -> spire::Command {
    command(Command::Set(Some(bundle)))
}

fn update(bundle: Bundle, mask: Option<BundleMask>) -> spire::Command {
    command(Command::Update(Some(bundle), mask))
}

fn append(bundle: Bundle) -> spire::Command {
    command(Command::Append(Some(bundle)))
}

fn delete(id: &str, mode: DeleteMode) -> spire::Command {
    command(Command::Delete { trust_domain_id: id.into(), mode })
}

fn prune(expires_before: i64) -> spire::Command {
    command(Command::Prune { trust_domain_id: TD.into(), expires_before })
}

fn taint_x509(subject_key_id: &str) -> spire::Command {
    command(Command::TaintX509 { trust_domain_id: TD.into(), subject_key_id: subject_key_id.into() })
}

fn revoke_x509(subject_key_id: &str) -> spire::Command {
    command(Command::RevokeX509 { trust_domain_id: TD.into(), subject_key_id: subject_key_id.into() })
}

fn taint_jwt(key_id: &str) -> spire::Command {
    command(Command::TaintJwt { trust_domain_id: TD.into(), key_id: key_id.into() })
}

fn revoke_jwt(key_id: &str) -> spire::Command {
    command(Command::RevokeJwt { trust_domain_id: TD.into(), key_id: key_id.into() })
}

fn fetch(store: &Datastore, id: &str) -> Option<Bundle> {
    store.query(|reader, namespace| fetch_bundle(reader, namespace, id)).unwrap()
}

fn ids(store: &Datastore) -> Vec<String> {
    let page = store.query(|reader, namespace| list_bundles(reader, namespace, None)).unwrap();
    page.bundles.into_iter().map(|bundle| bundle.trust_domain_id).collect()
}

fn entries(store: &Datastore) -> Vec<Entry> {
    let records = store.query(|reader, namespace| {
        reader.records(namespace, tables::ENTRIES, &Query::all(), Sequence::ZERO, usize::MAX)
    });
    records.unwrap().iter().map(|record| Entry::decode(&record.body).unwrap()).collect()
}

fn refusal(code: Code, text: &str) -> Refusal {
    (code, text.into())
}

fn not_found() -> Refusal {
    refusal(Code::NotFound, "datastore-sql: record not found")
}

fn holding(bundle: Bundle) -> Datastore {
    let mut store = Datastore::new();
    store.submit(create(bundle));
    store
}

// ---- 5.1 to 5.7

#[test]
fn create_stores_the_message_as_given() {
    let mut store = Datastore::new();
    assert_eq!(fetch(&store, TD), None);
    assert_eq!(store.submit(create(full(TD))), Answer::Bundle(full(TD)));
    assert_eq!(fetch(&store, TD), Some(full(TD)));
    assert_eq!(fetch(&store, "spiffe://TD.example"), None, "comparison is exact");
    let text = "datastore-sql: UNIQUE constraint failed: bundles.trust_domain";
    assert_eq!(store.refuse(create(bundle(TD, &[9]))), refusal(Code::AlreadyExists, text));
    assert_eq!(fetch(&store, TD), Some(full(TD)));
    assert_eq!(store.submit(create(Bundle::default())), Answer::Bundle(Bundle::default()), "an empty id is an id");
}

#[test]
fn writes_need_a_bundle() {
    let mut store = Datastore::new();
    let missing = refusal(Code::Unknown, "datastore-sql: missing bundle in request");
    for write in [Command::Create(None), Command::Set(None), Command::Update(None, None), Command::Append(None)] {
        assert_eq!(store.refuse(command(write)), missing);
    }
}

#[test]
fn set_creates_or_replaces_and_keeps_the_place() {
    let mut store = Datastore::new();
    assert_eq!(store.submit(set(full("a"))), Answer::Bundle(full("a")));
    store.submit(set(bundle("b", &[1])));
    let replaced = Bundle { sequence_number: 1, ..bundle("a", &[3]) };
    assert_eq!(store.submit(set(replaced.clone())), Answer::Bundle(replaced.clone()));
    assert_eq!(fetch(&store, "a"), Some(replaced.clone()), "unknown fields are those of the request");
    assert_eq!(ids(&store), ["a", "b"]);
    let revision = store.revision();
    assert_eq!(store.submit(set(replaced.clone())), Answer::Bundle(replaced));
    assert_eq!(store.revision(), revision, "setting what is there is no event");
}

#[test]
fn update_sets_what_the_mask_names() {
    let request = Bundle {
        root_cas: vec![root([8])],
        jwt_signing_keys: vec![key("j8", 8)],
        wit_signing_keys: Vec::new(),
        refresh_hint: 80,
        sequence_number: 88,
        unknown_fields: vec![0x78, 8],
        trust_domain_id: TD.into(),
    };
    let all = BundleMask {
        root_cas: true,
        jwt_signing_keys: true,
        wit_signing_keys: true,
        refresh_hint: true,
        sequence_number: true,
    };
    let none = BundleMask::default();
    for (mask, result) in [
        (None, request.clone()),
        (Some(none), full(TD)),
        (Some(BundleMask { root_cas: true, ..none }), Bundle { root_cas: request.root_cas.clone(), ..full(TD) }),
        (
            Some(BundleMask { jwt_signing_keys: true, ..none }),
            Bundle { jwt_signing_keys: request.jwt_signing_keys.clone(), ..full(TD) },
        ),
        (Some(BundleMask { wit_signing_keys: true, ..none }), Bundle { wit_signing_keys: Vec::new(), ..full(TD) }),
        (Some(BundleMask { refresh_hint: true, ..none }), Bundle { refresh_hint: 80, ..full(TD) }),
        (Some(BundleMask { sequence_number: true, ..none }), Bundle { sequence_number: 88, ..full(TD) }),
        (Some(all), Bundle { unknown_fields: full(TD).unknown_fields, ..request.clone() }),
    ] {
        let mut store = holding(full(TD));
        let revision = store.revision();
        assert_eq!(store.submit(update(request.clone(), mask)), Answer::Bundle(result.clone()), "{mask:?}");
        assert_eq!(fetch(&store, TD), Some(result.clone()), "{mask:?}");
        assert_eq!(store.revision() == revision, result == full(TD), "{mask:?}");
    }
    let mut store = Datastore::new();
    assert_eq!(store.refuse(update(request, None)), not_found());
}

#[test]
fn append_adds_what_is_new() {
    let mut store = Datastore::new();
    let first = Bundle { sequence_number: 7, ..bundle(TD, b"A") };
    assert_eq!(store.submit(append(first.clone())), Answer::Bundle(first), "an absent bundle is created as given");

    let request = Bundle {
        jwt_signing_keys: vec![key("k1", 1)],
        wit_signing_keys: vec![key("w1", 1)],
        refresh_hint: 99,
        sequence_number: 0,
        unknown_fields: vec![0x78, 1],
        ..bundle(TD, b"AB")
    };
    let result = Bundle { sequence_number: 8, refresh_hint: 0, unknown_fields: Vec::new(), ..request.clone() };
    for _ in 0..2 {
        assert_eq!(store.submit(append(request.clone())), Answer::Bundle(result.clone()));
        assert_eq!(fetch(&store, TD), Some(result.clone()));
    }
    let revision = store.revision();
    store.submit(append(request));
    assert_eq!(store.revision(), revision, "appending nothing new is no event");
}

#[test]
fn append_compares_whole_elements() {
    let stored = Bundle { jwt_signing_keys: vec![key("k", 1)], root_cas: vec![tainted_root(*b"A")], ..bundle(TD, &[]) };
    let mut store = holding(stored.clone());
    let unknown = Certificate { unknown_fields: vec![0x78, 1], ..tainted_root(*b"A") };
    let request = Bundle {
        root_cas: vec![root(*b"A"), unknown.clone(), tainted_root(*b"A"), root(*b"A")],
        jwt_signing_keys: vec![key("k", 2), key("k", 1)],
        ..bundle(TD, &[])
    };
    let result = Bundle {
        root_cas: vec![tainted_root(*b"A"), root(*b"A"), unknown, root(*b"A")],
        jwt_signing_keys: vec![key("k", 1), key("k", 2)],
        sequence_number: 1,
        ..bundle(TD, &[])
    };
    assert_eq!(store.submit(append(request)), Answer::Bundle(result));
}

#[test]
fn sequence_number_wraps_instead_of_failing() {
    let mut store = holding(Bundle { sequence_number: u64::MAX, ..bundle(TD, b"A") });
    let Answer::Bundle(result) = store.submit(append(bundle(TD, b"B"))) else { panic!("no bundle") };
    assert_eq!(result.sequence_number, 0);
}

#[test]
fn sizes_are_limited() {
    let mut store = holding(bundle(TD, b"A"));
    let large = Bundle { root_cas: vec![root(vec![0; BUNDLE_BYTES_MAX])], ..bundle("large", &[]) };
    let (code, text) = store.refuse(create(large.clone()));
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("bundle is 16777") && text.ends_with(" bytes long, 16777215 are allowed"), "{text}");
    assert_eq!(store.refuse(append(Bundle { trust_domain_id: TD.into(), ..large })).0, Code::InvalidArgument);

    let many = Bundle { root_cas: vec![root(*b"B"); AUTHORITIES_MAX], ..bundle(TD, &[]) };
    let text = "65537 root_cas were given, 65536 are allowed";
    assert_eq!(store.refuse(append(many.clone())), refusal(Code::InvalidArgument, text), "the result counts");
    store.submit(set(many));

    let long_id = "x".repeat(SPIFFE_ID_BYTES_MAX + 1);
    assert_eq!(store.refuse(create(bundle(&long_id, b"A"))).0, Code::InvalidArgument);
    store.submit(create(bundle(&long_id[1..], b"A")));
    let long_kid = key(&"x".repeat(KEY_ID_BYTES_MAX + 1), 1);
    for request in [
        Bundle { jwt_signing_keys: vec![long_kid.clone()], ..bundle(TD, &[]) },
        Bundle { wit_signing_keys: vec![long_kid], ..bundle(TD, &[]) },
    ] {
        let text = "kid is 2049 bytes long, 2048 are allowed";
        assert_eq!(store.refuse(set(request)), refusal(Code::InvalidArgument, text));
    }
}

#[test]
fn only_what_is_updated_is_limited() {
    let mut store = holding(bundle(TD, b"A"));
    let excessive = Bundle { jwt_signing_keys: vec![key(&"x".repeat(KEY_ID_BYTES_MAX + 1), 1)], ..bundle(TD, &[]) };
    let update = |mask| spire::Command::Bundle(Command::Update(Some(excessive.clone()), Some(mask)));
    let mask = BundleMask { refresh_hint: true, ..Default::default() };
    assert_eq!(store.submit(update(mask)), Answer::Bundle(bundle(TD, b"A")));
    let text = "kid is 2049 bytes long, 2048 are allowed";
    let refused = store.refuse(update(BundleMask { jwt_signing_keys: true, ..mask }));
    assert_eq!(refused, refusal(Code::InvalidArgument, text));
}

#[test]
fn list_and_count() {
    let mut store = Datastore::new();
    assert_eq!(store.query(count_bundles), 0);
    for id in ["a", "b", "c"] {
        store.submit(create(bundle(id, b"A")));
    }
    store.submit(append(bundle("a", b"B")));
    store.submit(delete("b", DeleteMode::Restrict));
    store.submit(create(bundle("b", b"A")));
    assert_eq!(store.query(count_bundles), 3);
    assert_eq!(ids(&store), ["a", "c", "b"], "a bundle that comes back comes last");
    for (token, page_size, names, next) in
        [("", 2, "a c", "3"), ("0", 2, "a c", "3"), ("2", 1, "c", "3"), ("3", 5, "b", "4"), ("4", 5, "", "")]
    {
        let request = PageRequest { token: token.into(), page_size };
        let page = store.query(|reader, namespace| list_bundles(reader, namespace, Some(&request))).unwrap();
        let listed: Vec<_> = page.bundles.iter().map(|bundle| bundle.trust_domain_id.as_str()).collect();
        assert_eq!(listed.join(" "), names, "{token}");
        let response = page.page.unwrap();
        assert_eq!((response.token.as_str(), response.page_size), (next, page_size));
    }
    for (token, page_size, text) in [
        ("", 0, "cannot paginate with pagesize = 0"),
        ("x", 0, "cannot paginate with pagesize = 0"),
        ("-1", 1, "could not parse token '-1'"),
        ("18446744073709551616", 1, "could not parse token '18446744073709551616'"),
    ] {
        let request = PageRequest { token: token.into(), page_size };
        let error = store.query(|reader, namespace| list_bundles(reader, namespace, Some(&request))).unwrap_err();
        assert_eq!((error.code(), error.to_string()), refusal(Code::InvalidArgument, text));
    }
}

// ---- 5.8

// ---- 5.9

// ---- 6

#[test]
fn no_change_to_bundles_is_announced() {
    let mut store = holding(bundle(TD, &[]));
    let der = authority(&[0xaa], 1_000);
    store.submit(append(Bundle { root_cas: vec![root(der)], jwt_signing_keys: vec![key("k", 0)], ..bundle(TD, &[]) }));
    store.submit(taint_x509("aa"));
    store.submit(revoke_x509("aa"));
    store.submit(taint_jwt("k"));
    store.submit(revoke_jwt("k"));
    store.submit(delete(TD, DeleteMode::Delete));
    assert_eq!(store.registrations(0), []);
    assert_eq!(store.query(|reader, namespace| reader.stream(namespace, spire::NODES)).last.0, 0);
}
