//! Federation relationships, case by case from section 12 of the specification.

use super::Command;
use super::commands::RelationshipMask;
use super::limits::{BUNDLE_BYTES_MAX, URL_BYTES_MAX};
use super::queries::{fetch_relationship, list_relationships};
use super::records::{PROFILE_HTTPS_SPIFFE, PROFILE_HTTPS_WEB, Relationship, StoredRelationship, indexes};
use crate::spire::bundles::queries::fetch_bundle;
use crate::spire::bundles::records::{Bundle, Certificate};
use crate::spire::fixture::Datastore;
use crate::spire::pages::PageRequest;
use crate::spire::{self, Answer, Code, bundles, tables};
use crate::view::ReaderExtension;

const NONE: RelationshipMask =
    RelationshipMask { bundle_endpoint_url: false, bundle_endpoint_profile: false, trust_domain_bundle: false };

fn web(trust_domain: &str) -> Relationship {
    Relationship {
        trust_domain: trust_domain.into(),
        bundle_endpoint_url: format!("{trust_domain}/path"),
        bundle_endpoint_profile: PROFILE_HTTPS_WEB.into(),
        ..Relationship::default()
    }
}

fn spiffe(trust_domain: &str) -> Relationship {
    Relationship {
        bundle_endpoint_profile: PROFILE_HTTPS_SPIFFE.into(),
        endpoint_spiffe_id: format!("spiffe://{trust_domain}/endpoint"),
        ..web(trust_domain)
    }
}

fn bundle(trust_domain: &str, content: u8) -> Bundle {
    Bundle {
        trust_domain_id: format!("spiffe://{trust_domain}"),
        root_cas: vec![Certificate { der_bytes: vec![content], ..Certificate::default() }],
        ..Bundle::default()
    }
}

fn create(relationship: Relationship) -> spire::Command {
    spire::Command::Federation(Command::Create(Some(relationship)))
}

fn update(relationship: Relationship, mask: Option<RelationshipMask>) -> spire::Command {
    spire::Command::Federation(Command::Update(Some(relationship), mask))
}

fn delete(trust_domain: &str) -> spire::Command {
    spire::Command::Federation(Command::Delete { trust_domain: trust_domain.into() })
}

fn set_bundle(bundle: Bundle) -> spire::Command {
    spire::Command::Bundle(bundles::Command::Set(Some(bundle)))
}

fn fetch(store: &Datastore, trust_domain: &str) -> Option<Relationship> {
    store.query(|reader, namespace| fetch_relationship(reader, namespace, trust_domain)).unwrap()
}

fn stored_bundle(store: &Datastore, trust_domain: &str) -> Option<Bundle> {
    let id = format!("spiffe://{trust_domain}");
    store.query(|reader, namespace| fetch_bundle(reader, namespace, &id)).unwrap()
}

fn invalid(text: &str) -> (Code, String) {
    (Code::InvalidArgument, text.into())
}

#[test]
fn create_answers_the_request_and_fetch_finds_it() {
    let with_bundle = |relationship: Relationship, content| Relationship {
        bundle: Some(bundle(&relationship.trust_domain, content)),
        ..relationship
    };
    for relationship in [web("td"), spiffe("td"), with_bundle(web("td"), 1), with_bundle(spiffe("td"), 2)] {
        let mut store = Datastore::new();
        assert_eq!(fetch(&store, "td"), None);
        assert_eq!(store.submit(create(relationship.clone())), Answer::Relationship(relationship.clone()));
        assert_eq!(fetch(&store, "td"), Some(relationship.clone()));
        assert_eq!(stored_bundle(&store, "td"), relationship.bundle);
    }
}

#[test]
fn create_overwrites_a_bundle_that_is_there_and_does_not_answer_it() {
    let mut store = Datastore::new();
    store.submit(set_bundle(Bundle { refresh_hint: 9, sequence_number: 5, ..bundle("td", 1) }));
    let new = Relationship { bundle: Some(bundle("td", 2)), ..web("td") };
    store.submit(create(new.clone()));
    assert_eq!(stored_bundle(&store, "td"), new.bundle);

    store.submit(set_bundle(bundle("other", 3)));
    assert_eq!(store.submit(create(web("other"))), Answer::Relationship(web("other")));
    assert_eq!(fetch(&store, "other").unwrap().bundle, Some(bundle("other", 3)));
}

#[test]
fn create_of_a_duplicate_leaves_the_bundle_alone() {
    let mut store = Datastore::new();
    store.submit(create(Relationship { bundle: Some(bundle("td", 1)), ..web("td") }));
    let again = Relationship { bundle: Some(bundle("td", 2)), ..web("td") };
    let text = "datastore-sql: UNIQUE constraint failed: federated_trust_domains.trust_domain";
    assert_eq!(store.refuse(create(again)), (Code::AlreadyExists, text.into()));
    assert_eq!(stored_bundle(&store, "td"), Some(bundle("td", 1)));
}

#[test]
fn validation_in_order() {
    let mut store = Datastore::new();
    store.submit(create(web("td")));
    let empty = Relationship::default();
    let without_url = Relationship { bundle_endpoint_url: String::new(), ..spiffe("td") };
    let without_id = Relationship { endpoint_spiffe_id: String::new(), ..spiffe("td") };
    let unknown = Relationship { bundle_endpoint_profile: "other".into(), ..web("td") };
    let without_profile = Relationship { bundle_endpoint_profile: String::new(), ..web("td") };
    let neither = Relationship { bundle_endpoint_url: String::new(), ..without_id.clone() };
    let long = Relationship { bundle_endpoint_url: "x".repeat(URL_BYTES_MAX + 1), ..web("td") };
    for (relationship, text) in [
        (None, "federation relationship is nil"),
        (Some(empty), "trust domain is required"),
        (Some(without_url), "bundle endpoint URL is required"),
        (Some(neither), "bundle endpoint URL is required"),
        (Some(without_id), "bundle endpoint SPIFFE ID is required"),
        (Some(unknown), "unknown bundle endpoint profile type: \"other\""),
        (Some(without_profile), "unknown bundle endpoint profile type: \"\""),
        (Some(long), "bundle_endpoint_url is 8193 bytes long, 8192 are allowed"),
    ] {
        let commands = [
            Command::Create(relationship.clone()),
            Command::Update(relationship.clone(), None),
            Command::Update(relationship.clone(), Some(RelationshipMask::ALL)),
        ];
        for command in commands {
            assert_eq!(store.refuse(spire::Command::Federation(command)), invalid(text));
        }
    }
}

#[test]
fn fields_out_of_the_mask_are_not_looked_at() {
    let mut store = Datastore::new();
    store.submit(create(spiffe("td")));
    let nonsense = Relationship { trust_domain: "td".into(), bundle_endpoint_profile: "?".into(), ..web("") };
    let revision = store.revision();
    assert_eq!(store.submit(update(nonsense, Some(NONE))), Answer::Relationship(spiffe("td")));
    assert_eq!(store.revision(), revision, "an update of nothing is no event");
}

#[test]
fn update_sets_what_the_mask_names() {
    let url_only = RelationshipMask { bundle_endpoint_url: true, ..NONE };
    let profile_only = RelationshipMask { bundle_endpoint_profile: true, ..NONE };
    let bundle_only = RelationshipMask { trust_domain_bundle: true, ..NONE };
    let moved = Relationship { bundle_endpoint_url: "elsewhere".into(), ..web("td") };
    let with_bundle =
        |relationship: Relationship, content| Relationship { bundle: Some(bundle("td", content)), ..relationship };
    for (before, stored, request, mask, after) in [
        (web("td"), None, moved.clone(), Some(url_only), moved.clone()),
        (web("td"), Some(1), spiffe("td"), Some(profile_only), with_bundle(spiffe("td"), 1)),
        (web("td"), Some(1), with_bundle(spiffe("td"), 2), Some(profile_only), with_bundle(spiffe("td"), 1)),
        (web("td"), None, with_bundle(spiffe("td"), 2), Some(RelationshipMask::ALL), with_bundle(spiffe("td"), 2)),
        (web("td"), None, spiffe("td"), Some(RelationshipMask::ALL), spiffe("td")),
        (web("td"), Some(1), with_bundle(moved.clone(), 2), Some(bundle_only), with_bundle(web("td"), 2)),
        (web("td"), Some(1), web("td"), Some(bundle_only), with_bundle(web("td"), 1)),
        (spiffe("td"), None, web("td"), Some(profile_only), web("td")),
        (spiffe("td"), Some(1), with_bundle(moved.clone(), 2), None, with_bundle(moved, 2)),
    ] {
        let mut store = Datastore::new();
        store.submit(create(before));
        if let Some(content) = stored {
            store.submit(set_bundle(bundle("td", content)));
        }
        assert_eq!(store.submit(update(request.clone(), mask)), Answer::Relationship(after.clone()), "{request:?}");
        assert_eq!(fetch(&store, "td"), Some(after));
    }
}

#[test]
fn update_with_the_bundle_of_another_trust_domain_sets_that_one() {
    let mut store = Datastore::new();
    store.submit(create(Relationship { bundle: Some(bundle("td", 1)), ..web("td") }));
    let request = Relationship { bundle: Some(bundle("other", 2)), ..web("td") };
    let answer = Relationship { bundle: Some(bundle("td", 1)), ..web("td") };
    assert_eq!(store.submit(update(request, None)), Answer::Relationship(answer));
    assert_eq!(stored_bundle(&store, "other"), Some(bundle("other", 2)));
}

#[test]
fn endpoint_id_means_nothing_for_the_web_profile() {
    let mut store = Datastore::new();
    let request = Relationship { bundle_endpoint_profile: PROFILE_HTTPS_WEB.into(), ..spiffe("td") };
    assert_eq!(store.submit(create(request.clone())), Answer::Relationship(request), "create answers the request");
    assert_eq!(fetch(&store, "td"), Some(web("td")));
}

#[test]
fn switching_to_the_web_profile_forgets_the_endpoint_id() {
    let mut store = Datastore::new();
    store.submit(create(spiffe("td")));
    store.submit(update(web("td"), None));
    let record = store.query(|reader, namespace| {
        reader.get_by_key(namespace, tables::FEDERATION, indexes::TRUST_DOMAIN, b"td").unwrap().unwrap()
    });
    assert_eq!(StoredRelationship::decode(&record.body).unwrap().endpoint_spiffe_id, "");
}

#[test]
fn update_and_delete_of_nothing() {
    let mut store = Datastore::new();
    let not_found = |text: &str| (Code::NotFound, text.to_owned());
    let request = Relationship { bundle: Some(bundle("td", 1)), ..web("td") };
    let text = "unable to fetch federation relationship: record not found";
    assert_eq!(store.refuse(update(request, None)), not_found(text));
    assert_eq!(store.refuse(delete("td")), not_found("datastore-sql: record not found"));
    assert_eq!(store.refuse(delete("")), invalid("trust domain is required"));
    let refusal = store.query(|reader, namespace| fetch_relationship(reader, namespace, "")).unwrap_err();
    assert_eq!((refusal.code(), refusal.to_string()), invalid("trust domain is required"));
}

#[test]
fn bundles_that_come_along_are_limited() {
    let mut store = Datastore::new();
    let mut relationship = Relationship { bundle: Some(bundle("td", 1)), ..web("td") };
    relationship.bundle.as_mut().unwrap().root_cas[0].der_bytes = vec![0; BUNDLE_BYTES_MAX];
    let (code, text) = store.refuse(create(relationship));
    assert_eq!(code, Code::InvalidArgument);
    assert!(text.starts_with("trust_domain_bundle is 83"), "{text}");

    let mut nameless = Relationship { bundle: Some(bundle("td", 1)), ..web("td") };
    nameless.bundle.as_mut().unwrap().trust_domain_id = "x".repeat(3_000);
    assert_eq!(store.refuse(create(nameless)), invalid("trust_domain_id is 3000 bytes long, 2048 are allowed"));
}

#[test]
fn only_what_is_updated_is_limited() {
    let mut store = Datastore::new();
    store.submit(create(web("td")));
    let mut excessive = Relationship {
        bundle_endpoint_url: "u".repeat(URL_BYTES_MAX + 1),
        endpoint_spiffe_id: "s".repeat(3_000),
        bundle: Some(bundle("td", 1)),
        ..web("td")
    };
    excessive.bundle.as_mut().unwrap().root_cas[0].der_bytes = vec![0; BUNDLE_BYTES_MAX];
    let update = |mask| update(excessive.clone(), Some(mask));
    assert_eq!(store.submit(update(RelationshipMask::default())), Answer::Relationship(web("td")));
    for mask in [
        RelationshipMask { bundle_endpoint_url: true, ..Default::default() },
        RelationshipMask { bundle_endpoint_profile: true, ..Default::default() },
        RelationshipMask { trust_domain_bundle: true, ..Default::default() },
    ] {
        assert_eq!(store.refuse(update(mask)).0, Code::InvalidArgument, "{mask:?}");
    }
}

#[test]
fn delete_leaves_the_bundle() {
    let mut store = Datastore::new();
    store.submit(create(Relationship { bundle: Some(bundle("td", 1)), ..web("td") }));
    assert_eq!(store.submit(delete("td")), Answer::Nothing);
    assert_eq!(fetch(&store, "td"), None);
    assert_eq!(stored_bundle(&store, "td"), Some(bundle("td", 1)));
}

#[test]
fn list_in_pages() {
    let mut store = Datastore::new();
    let list = |store: &Datastore, page: Option<(&str, i32)>| {
        let page = page.map(|(token, page_size)| PageRequest { token: token.into(), page_size });
        let answer = store.query(|reader, namespace| list_relationships(reader, namespace, page.as_ref()));
        answer.map(|answer| {
            let names: Vec<_> =
                answer.relationships.iter().map(|relationship| relationship.trust_domain.clone()).collect();
            (names.join(" "), answer.page.map(|page| (page.token, page.page_size)))
        })
    };
    assert_eq!(list(&store, None).unwrap(), (String::new(), None));
    for name in ["a", "b", "c", "d"] {
        store.submit(create(web(name)));
    }
    store.submit(set_bundle(bundle("b", 1)));
    store.submit(update(Relationship { bundle_endpoint_url: "x".into(), ..web("a") }, None));
    for (page, names, token) in [
        (("", 2), "a b", "2"),
        (("0", 2), "a b", "2"),
        (("2", 2), "c d", "4"),
        (("4", 2), "", ""),
        (("", 9), "a b c d", "4"),
        (("4294967296", 1), "", ""),
    ] {
        assert_eq!(list(&store, Some(page)).unwrap(), (names.into(), Some((token.into(), page.1))), "{page:?}");
    }
    assert_eq!(list(&store, None).unwrap(), ("a b c d".into(), None));
    for (page, text) in [
        (("", 0), "cannot paginate with pagesize = 0"),
        (("x", 0), "cannot paginate with pagesize = 0"),
        (("invalid int", 2), "could not parse token 'invalid int'"),
    ] {
        let refusal = list(&store, Some(page)).unwrap_err();
        assert_eq!((refusal.code(), refusal.to_string()), invalid(text));
    }
    let all = store.query(|reader, namespace| list_relationships(reader, namespace, None)).unwrap();
    assert_eq!(all.relationships[0].bundle, None);
    assert_eq!(all.relationships[1].bundle, Some(bundle("b", 1)));
}
