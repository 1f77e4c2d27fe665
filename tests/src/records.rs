//! Short ways to write records.

use steeple_client::Namespace;
use steeple_client::types::{
    AttestedNode, Bundle, ByFederatesWith, BySelectors, Certificate, FederationRelationship, MatchBehavior, PublicKey,
    RegistrationEntry, Selector,
};

/// Microseconds in a second.
pub const MICROS: i64 = 1_000_000;

/// An instant that tests of expiries are built around, in Unix seconds. The store never compares it with its clock.
pub const NOW: i64 = 1_800_000_000;

/// A selector.
#[must_use]
pub fn selector(kind: &str, value: &str) -> Selector {
    Selector { r#type: kind.into(), value: value.into() }
}

/// One selector for each letter, whose type and value are the letter.
#[must_use]
pub fn letters(letters: &str) -> Vec<Selector> {
    letters.chars().map(|letter| selector(&letter.to_string(), &letter.to_string())).collect()
}

/// A filter by selectors.
#[must_use]
pub fn by_selectors(matching: MatchBehavior, selectors: Vec<Selector>) -> BySelectors {
    BySelectors { r#match: matching.into(), selectors }
}

/// A filter by federated trust domains.
#[must_use]
pub fn by_federates_with(matching: MatchBehavior, trust_domain_ids: Vec<String>) -> ByFederatesWith {
    ByFederatesWith { r#match: matching.into(), trust_domain_ids }
}

/// A registration entry.
#[must_use]
pub fn entry(parent_id: &str, spiffe_id: &str, selectors: Vec<Selector>) -> RegistrationEntry {
    RegistrationEntry { parent_id: parent_id.into(), spiffe_id: spiffe_id.into(), selectors, ..Default::default() }
}

/// A node that is not banned.
#[must_use]
pub fn node(spiffe_id: &str, cert_not_after: i64) -> AttestedNode {
    AttestedNode {
        spiffe_id: spiffe_id.into(),
        attestation_data_type: "aws-tag".into(),
        cert_serial_number: format!("serial of {spiffe_id}"),
        cert_not_after,
        ..Default::default()
    }
}

/// A bundle with one-byte certificates, which storing does not mind.
#[must_use]
pub fn bundle(trust_domain_id: &str, roots: &[u8]) -> Bundle {
    let root = |byte: &u8| Certificate { der_bytes: vec![*byte], ..Default::default() };
    Bundle { trust_domain_id: trust_domain_id.into(), root_cas: roots.iter().map(root).collect(), ..Default::default() }
}

/// A JWT or WIT key.
#[must_use]
pub fn key(kid: &str, not_after: i64) -> PublicKey {
    PublicKey { kid: kid.into(), pkix_bytes: format!("pkix of {kid}").into_bytes(), not_after, ..Default::default() }
}

/// A federation relationship of profile `https_web`.
#[must_use]
pub fn web_relationship(trust_domain: &str) -> FederationRelationship {
    FederationRelationship {
        trust_domain: trust_domain.into(),
        bundle_endpoint_url: format!("{trust_domain}/bundleendpoint"),
        bundle_endpoint_profile: "https_web".into(),
        ..Default::default()
    }
}

/// A federation relationship of profile `https_spiffe`.
#[must_use]
pub fn spiffe_relationship(trust_domain: &str) -> FederationRelationship {
    FederationRelationship {
        bundle_endpoint_profile: "https_spiffe".into(),
        endpoint_spiffe_id: format!("spiffe://{trust_domain}/federated-server"),
        ..web_relationship(trust_domain)
    }
}

/// Numbers of the registration entry events that exist.
pub async fn entry_event_ids(datastore: &Namespace) -> Vec<u64> {
    let events = datastore.list_registration_entry_events(0, 0).await.expect("events");
    events.into_iter().map(|event| event.event_id).collect()
}

/// Numbers of the node events that exist.
pub async fn node_event_ids(datastore: &Namespace) -> Vec<u64> {
    let events = datastore.list_attested_node_events(0, 0).await.expect("events");
    events.into_iter().map(|event| event.event_id).collect()
}
