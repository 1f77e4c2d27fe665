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

#[test]
fn delete_of_a_bundle_without_entries_is_the_same_in_every_mode() {
    for mode in [DeleteMode::Restrict, DeleteMode::Delete, DeleteMode::Dissociate] {
        let mut store = holding(full(TD));
        store.submit(create(bundle("other", b"A")));
        store.plant_entries(&[entry("e1", &["other"]), entry("e2", &[])]);
        let before = entries(&store);
        assert_eq!(store.finish(&delete(TD, mode)), [1]);
        assert_eq!(ids(&store), ["other"]);
        assert_eq!(entries(&store), before);
        assert_eq!(store.registrations(0), []);
        assert_eq!(store.refuse(delete(TD, mode)), not_found());
    }
}

#[test]
fn restrict_refuses_while_entries_federate() {
    for (federated, text) in [
        (1, "datastore-sql: cannot delete bundle; federated with 1 registration entries"),
        (3, "datastore-sql: cannot delete bundle; federated with 3 registration entries"),
    ] {
        let mut store = holding(full(TD));
        let planted: Vec<_> = (0..federated).map(|number| entry(&format!("e{number}"), &[TD])).collect();
        store.plant_entries(&planted);
        assert_eq!(store.refuse(delete(TD, DeleteMode::Restrict)), refusal(Code::FailedPrecondition, text));
        assert_eq!(fetch(&store, TD), Some(full(TD)));
    }
}

fn federated_store() -> Datastore {
    let mut store = holding(full(TD));
    store.submit(create(bundle("other", b"A")));
    store.plant_entries(&[
        entry("only", &[TD]),
        entry("both", &["other", TD]),
        entry("other", &["other"]),
        entry("none", &[]),
    ]);
    store
}

#[test]
fn delete_takes_the_entries_along_and_announces_each() {
    let mut store = federated_store();
    assert_eq!(store.finish(&delete(TD, DeleteMode::Delete)), [3]);
    assert_eq!(entries(&store), [entry("other", &["other"]), entry("none", &[])]);
    assert_eq!(ids(&store), ["other"]);
    let items = store.registrations(0);
    let keys: Vec<_> = items.iter().map(|item| (item.sequence.0, item.key.as_ref(), item.change)).collect();
    assert_eq!(keys, [(1, &b"only"[..], Some(0)), (2, &b"both"[..], Some(1))]);
    assert_eq!(store.finish(&delete("other", DeleteMode::Delete)), [2], "nothing is left of the deleted entry");
}

#[test]
fn dissociate_keeps_the_entries_raises_their_revision_and_announces_each() {
    let mut store = federated_store();
    assert_eq!(store.finish(&delete(TD, DeleteMode::Dissociate)), [3]);
    let raised = |id, federates_with: &[&str]| Entry { revision_number: 4, ..entry(id, federates_with) };
    assert_eq!(
        entries(&store),
        [raised("only", &[]), raised("both", &["other"]), entry("other", &["other"]), entry("none", &[])]
    );
    let keys: Vec<_> = store.registrations(0).into_iter().map(|item| item.key).collect();
    assert_eq!(keys, [&b"only"[..], &b"both"[..]]);
    store.submit(create(bundle(TD, b"A")));
    assert_eq!(store.finish(&delete(TD, DeleteMode::Restrict)), [1], "a new bundle has no entries");
}

#[test]
fn delete_goes_in_bounded_steps() {
    for mode in [DeleteMode::Delete, DeleteMode::Dissociate] {
        let mut store = holding(full(TD));
        let planted: Vec<_> = (0..=STEP_ENTRIES_MAX).map(|number| entry(&format!("e{number}"), &[TD])).collect();
        store.plant_entries(&planted);
        let step = STEP_ENTRIES_MAX as u64;
        assert_eq!(store.submit(delete(TD, mode)), Answer::Progress { changed: step, more: true });
        assert_eq!(fetch(&store, TD), Some(full(TD)), "the bundle goes last");
        let text = "datastore-sql: cannot delete bundle; federated with 1 registration entries";
        assert_eq!(store.refuse(delete(TD, DeleteMode::Restrict)), refusal(Code::FailedPrecondition, text));
        assert_eq!(store.submit(delete(TD, mode)), Answer::Progress { changed: 2, more: false });
        assert_eq!(fetch(&store, TD), None);
        let sequences: Vec<_> = store.registrations(0).iter().map(|item| item.sequence.0).collect();
        assert_eq!(sequences, (1..=step + 1).collect::<Vec<_>>());
        assert!(entries(&store).iter().all(|entry| entry.federates_with.is_empty() && entry.revision_number == 4));
    }
}

#[test]
fn delete_stops_at_the_byte_budget() {
    for mode in [DeleteMode::Delete, DeleteMode::Dissociate] {
        let mut store = holding(full(TD));
        let large = |id| Entry { hint: "x".repeat(PRUNE_STEP_BYTES), ..entry(id, &[TD]) };
        store.plant_entries(&[large("e1"), large("e2")]);
        assert_eq!(store.finish(&delete(TD, mode)), [1, 2]);
    }
}

// ---- 5.9

#[test]
fn prune_worked_example() {
    let [nine, ten, eleven, twelve] = [9, 10, 11, 12].map(|hour| hour * 3_600);
    let (r1, r2) = (root(authority(b"1", ten)), root(authority(b"2", twelve)));
    let before = Bundle {
        trust_domain_id: TD.into(),
        root_cas: vec![r1, r2.clone()],
        jwt_signing_keys: vec![key("k1", nine), key("k2", twelve)],
        sequence_number: 42,
        ..Bundle::default()
    };
    let mut store = holding(before.clone());
    let revision = store.revision();
    assert_eq!(store.submit(prune(8 * 3_600)), Answer::Changed(false));
    assert_eq!(store.revision(), revision);
    let text = "prune failed: would prune all certificates";
    assert_eq!(store.refuse(prune(twelve)), refusal(Code::Unknown, text));
    assert_eq!(fetch(&store, TD), Some(before.clone()));
    assert_eq!(store.submit(prune(eleven)), Answer::Changed(true));
    let after = Bundle { root_cas: vec![r2], jwt_signing_keys: vec![key("k2", twelve)], sequence_number: 43, ..before };
    assert_eq!(fetch(&store, TD), Some(after));
    assert_eq!(store.submit(prune(eleven)), Answer::Changed(false));
}

#[test]
fn prune_of_each_kind_of_element() {
    let live = root(authority(b"live", 1_000));
    let chain = |times: &[i64]| root(times.iter().flat_map(|&time| authority(b"c", time)).collect::<Vec<u8>>());
    let (long, short) = (chain(&[300, 200]), chain(&[300, 100]));
    let stale_leaf = root(leaf(100, 0));
    let taint_stays = tainted_root(authority(b"t", 500));
    let eternal = key("eternal", 0);
    let before = Bundle {
        trust_domain_id: TD.into(),
        root_cas: vec![stale_leaf, long.clone(), taint_stays.clone(), short, live.clone()],
        jwt_signing_keys: vec![key("at", 100), eternal.clone(), key("after", 101)],
        wit_signing_keys: vec![key("stale", 99), tainted_key("eternal, tainted")],
        refresh_hint: 60,
        sequence_number: 5,
        unknown_fields: vec![0x78, 1],
    };
    let mut store = holding(before.clone());
    assert_eq!(store.submit(prune(100)), Answer::Changed(true));
    let after = Bundle {
        root_cas: vec![long, taint_stays, live],
        jwt_signing_keys: vec![eternal, key("after", 101)],
        wit_signing_keys: vec![tainted_key("eternal, tainted")],
        sequence_number: 6,
        ..before
    };
    assert_eq!(fetch(&store, TD), Some(after));
}

#[test]
fn prune_refuses() {
    let roots = || vec![root(authority(b"live", 1_000))];
    let whole = |root_cas, jwt, wit| Bundle {
        trust_domain_id: TD.into(),
        root_cas,
        jwt_signing_keys: jwt,
        wit_signing_keys: wit,
        ..Bundle::default()
    };
    let mut truncated = authority(b"live", 1_000);
    truncated.pop();
    let mut followed = authority(b"live", 1_000);
    followed.push(0);
    let stale = || vec![key("stale", 1)];
    for (bundle, expires_before, text) in [
        (whole(roots(), vec![], vec![]), 0, "expiration time is zero value"),
        (whole(vec![], vec![], vec![]), 100, "would prune all certificates"),
        (whole(roots(), vec![], vec![]), 1_000, "would prune all certificates"),
        (whole(roots(), stale(), vec![]), 100, "would prune all JWT signing keys"),
        (whole(roots(), vec![], stale()), 100, "would prune all WIT signing keys"),
        (whole(roots(), stale(), stale()), 100, "would prune all JWT signing keys"),
        (whole(vec![root(*b"A")], vec![], vec![]), 100, "cannot parse certificates: x509: malformed certificate"),
        (whole(vec![root(truncated)], vec![], vec![]), 100, "cannot parse certificates: x509: malformed certificate"),
        (whole(vec![root(followed)], vec![], vec![]), 100, "cannot parse certificates: x509: malformed certificate"),
    ] {
        let mut store = holding(bundle);
        let text = format!("prune failed: {text}");
        assert_eq!(store.refuse(prune(expires_before)), refusal(Code::Unknown, &text));
    }
}

#[test]
fn prune_of_nothing() {
    let mut store = Datastore::new();
    for expires_before in [0, 100] {
        assert_eq!(store.submit(prune(expires_before)), Answer::Changed(false), "an absent bundle comes first");
    }
    let mut store = holding(bundle(TD, &[]));
    let roots = Bundle { root_cas: vec![root(authority(b"live", 1_000)), root([])], ..bundle(TD, &[]) };
    store.submit(set(roots));
    assert_eq!(store.submit(prune(100)), Answer::Changed(false), "an element without certificates never expires");
}

// ---- 6

fn authorities(roots: Vec<Certificate>) -> Datastore {
    holding(Bundle { trust_domain_id: TD.into(), root_cas: roots, sequence_number: 4, ..Bundle::default() })
}

fn roots_of(store: &Datastore) -> (Vec<Certificate>, u64) {
    let bundle = fetch(store, TD).unwrap();
    (bundle.root_cas, bundle.sequence_number)
}

#[test]
fn taint_and_revoke_x509() {
    let (a, b) = (authority(&[0x0a, 0xff], 1_000), authority(&[0xbb], 1_000));
    let mut store = authorities(vec![root(a.clone()), root(b.clone()), root(a.clone())]);
    assert_eq!(store.submit(taint_x509("0aff")), Answer::Nothing);
    let (tainted_a, plain_b) = (tainted_root(a), root(b));
    assert_eq!(roots_of(&store), (vec![tainted_a.clone(), plain_b.clone(), tainted_a], 5));
    let tainted = refusal(Code::InvalidArgument, "root CA is already tainted");
    assert_eq!(store.refuse(taint_x509("0aff")), tainted);
    let untainted = refusal(Code::InvalidArgument, "it is not possible to revoke an untainted root CA");
    assert_eq!(store.refuse(revoke_x509("bb")), untainted);
    assert_eq!(store.submit(revoke_x509("0aff")), Answer::Nothing);
    assert_eq!(roots_of(&store), (vec![plain_b], 6));

    store.submit(taint_x509("bb"));
    store.submit(revoke_x509("bb"));
    assert_eq!(roots_of(&store), (vec![], 8), "the last authority may be revoked");
}

#[test]
fn x509_authorities_that_are_not_there() {
    let mut store = Datastore::new();
    assert_eq!(store.refuse(taint_x509("aa")), not_found());
    assert_eq!(store.refuse(revoke_x509("aa")), not_found());
    let mut store = authorities(vec![root(authority(&[0xaa], 1_000))]);
    for id in ["bb", "AA", "a", ""] {
        let text = "no ca found with provided subject key ID";
        assert_eq!(store.refuse(taint_x509(id)), refusal(Code::NotFound, text));
        let text = "no root CA found with provided subject key ID";
        assert_eq!(store.refuse(revoke_x509(id)), refusal(Code::NotFound, text));
    }
}

#[test]
fn x509_authorities_that_cannot_be_read() {
    let good = authority(&[0xaa], 1_000);
    let chain = [good.clone(), good.clone()].concat();
    for (bytes, detail) in [
        (b"malformed certificate".to_vec(), "x509: malformed certificate"),
        (vec![], "x509: malformed certificate"),
        (good[..good.len() - 1].to_vec(), "x509: malformed certificate"),
        (chain, "x509: trailing data"),
    ] {
        for roots in [vec![root(bytes.clone())], vec![root(good.clone()), root(bytes.clone())]] {
            let mut store = authorities(roots);
            let text = format!("failed to parse rootCA: {detail}");
            assert_eq!(store.refuse(taint_x509("aa")), refusal(Code::Internal, &text));
        }
        let mut store = authorities(vec![tainted_root(good.clone()), root(bytes)]);
        let text = format!("failed to parse root CA: {detail}");
        assert_eq!(store.refuse(revoke_x509("aa")), refusal(Code::Internal, &text));
    }
    let mut store = authorities(vec![root([0x30, 0x03, 0x02, 0x01, 0x05])]);
    let (code, text) = store.refuse(taint_x509("aa"));
    assert_eq!(code, Code::Internal);
    assert!(text.starts_with("failed to parse rootCA: x509: ") && !text.contains("malformed certificate"), "{text}");

    // What is found first counts.
    let mut store = authorities(vec![tainted_root(good.clone()), root(*b"A")]);
    assert_eq!(store.refuse(taint_x509("aa")).1, "root CA is already tainted");
    let mut store = authorities(vec![root(good), root(*b"A")]);
    assert_eq!(store.refuse(revoke_x509("aa")).1, "it is not possible to revoke an untainted root CA");
}

#[test]
fn a_certificate_without_subject_key_id_has_the_empty_one() {
    let mut store = authorities(vec![root(authority(&[0xaa], 1_000)), root(leaf(1_000, 0))]);
    assert_eq!(store.submit(taint_x509("")), Answer::Nothing);
    let (roots, _) = roots_of(&store);
    assert_eq!((roots[0].tainted_key, roots[1].tainted_key), (false, true));
}

#[test]
fn certificates_are_read_whatever_they_are_for() {
    for (der, id, not_after) in [
        (authority(&[0x00, 0x1f], 123), "001f", 123),
        (certificate(IsCa::ExplicitNoCa, &[0x07], 5, 1), "07", 5),
        (leaf(9, 0), "", 9),
        // After 2049 the time is written in another form.
        (leaf(4_000_000_000, u64::MAX), "", 4_000_000_000),
    ] {
        assert_eq!(certificates::subject_key_id(&der).as_deref(), Ok(id));
        assert_eq!(certificates::not_after_times(&der), Ok(vec![not_after]));
    }
}

/// Whatever bytes a bundle holds, reading them must come back with an answer: it happens on the deciding leader.
#[test]
fn damaged_certificates_are_refused_or_read() {
    let good = authority(&[0xaa], 1_000);
    for place in 0..good.len() {
        let _ = certificates::subject_key_id(&good[..place]).unwrap_err();
        for byte in [0x00, 0x7f, 0x80, 0x84, 0xff, good[place] ^ 1] {
            let mut damaged = good.clone();
            damaged[place] = byte;
            let (one, all) = (certificates::subject_key_id(&damaged), certificates::not_after_times(&damaged));
            assert!(
                all.is_ok() || one.is_err(),
                "only one of two readers refuses byte {place} = {byte}: {one:?} {all:?}"
            );
        }
    }
}

fn keys(keys: Vec<PublicKey>) -> Datastore {
    holding(Bundle { trust_domain_id: TD.into(), jwt_signing_keys: keys, sequence_number: 4, ..Bundle::default() })
}

fn keys_of(store: &Datastore) -> (Vec<PublicKey>, u64) {
    let bundle = fetch(store, TD).unwrap();
    (bundle.jwt_signing_keys, bundle.sequence_number)
}

#[test]
fn taint_and_revoke_jwt() {
    let mut store = keys(vec![key("a", 0), key("b", 0), key("c", 0)]);
    assert_eq!(store.submit(taint_jwt("b")), Answer::Key(tainted_key("b")));
    assert_eq!(keys_of(&store), (vec![key("a", 0), tainted_key("b"), key("c", 0)], 5));
    assert_eq!(store.refuse(taint_jwt("b")), refusal(Code::InvalidArgument, "key is already tainted"));
    let untainted = refusal(Code::InvalidArgument, "it is not possible to revoke an untainted key");
    assert_eq!(store.refuse(revoke_jwt("a")), untainted);
    assert_eq!(store.submit(revoke_jwt("b")), Answer::Key(tainted_key("b")));
    assert_eq!(keys_of(&store), (vec![key("a", 0), key("c", 0)], 6));
}

#[test]
fn jwt_keys_that_are_not_there_or_not_alone() {
    let mut store = Datastore::new();
    assert_eq!(store.refuse(taint_jwt("a")), not_found());
    assert_eq!(store.refuse(revoke_jwt("a")), not_found());

    let absent = || refusal(Code::NotFound, "no JWT Key found with provided key ID");
    let wit = Bundle { wit_signing_keys: vec![tainted_key("a")], ..bundle(TD, b"A") };
    for mut store in [keys(vec![key("b", 0)]), holding(wit)] {
        assert_eq!(store.refuse(taint_jwt("a")), absent());
        assert_eq!(store.refuse(revoke_jwt("a")), absent());
    }
    let mut store = keys(vec![key("a", 0), key("b", 0), key("a", 1)]);
    assert_eq!(store.refuse(taint_jwt("a")), refusal(Code::Internal, "another JWT Key found with the same KeyID"));
    let mut store = keys(vec![key("a", 0), tainted_key("a")]);
    assert_eq!(store.refuse(taint_jwt("a")).1, "key is already tainted");
    assert_eq!(store.refuse(revoke_jwt("a")).1, "it is not possible to revoke an untainted key");
    let mut store = keys(vec![tainted_key("a"), key("a", 0)]);
    assert_eq!(store.refuse(revoke_jwt("a")), refusal(Code::Internal, "another key found with the same KeyID"));
}

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
