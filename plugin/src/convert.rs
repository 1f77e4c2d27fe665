//! Messages of the draft to Steeple's and back: one function for each, shared with nothing else, because the draft will
//! change. What differs: bundles come serialized, instants are whole seconds of which two mean "absent", optional conditions
//! are pairs of fields, and profiles of endpoints are an enum.

use steeple_client::types as steeple;
use steeple_wire::serialized;
use tonic::Status;

use crate::protocol::datastore as v1;

/// What Go's zero time becomes in Unix seconds: no instant at all.
const GO_ZERO_SECONDS: i64 = -62_135_596_800;

const SCHEME: &str = "spiffe://";

/// An instant in Unix seconds, none of which is 0.
fn seconds(seconds: i64) -> i64 {
    if seconds == GO_ZERO_SECONDS { 0 } else { seconds }
}

/// An instant in microseconds.
pub(crate) fn micros(unix_seconds: i64) -> i64 {
    seconds(unix_seconds).saturating_mul(1_000_000)
}

/// A number of an event.
pub(crate) fn event_id(id: i64) -> Result<u64, Status> {
    u64::try_from(id).map_err(|_| Status::invalid_argument("event IDs must not be negative"))
}

/// Seconds ago.
pub(crate) fn age(seconds: i64) -> Result<std::time::Duration, Status> {
    let seconds = u64::try_from(seconds).map_err(|_| Status::invalid_argument("an age must not be negative"))?;
    Ok(std::time::Duration::from_secs(seconds))
}

pub(crate) fn selector_in(selector: v1::Selector) -> steeple::Selector {
    steeple::Selector { r#type: selector.r#type, value: selector.value }
}

fn selector_out(selector: steeple::Selector) -> v1::Selector {
    v1::Selector { r#type: selector.r#type, value: selector.value }
}

pub(crate) fn selectors_out(selectors: Vec<steeple::Selector>) -> Vec<v1::Selector> {
    selectors.into_iter().map(selector_out).collect()
}

pub(crate) fn by_selectors_in(by: v1::BySelectors) -> steeple::BySelectors {
    // The numbers are the same.
    let selectors = by.selectors.into_iter().map(selector_in).collect();
    steeple::BySelectors { r#match: by.match_behavior, selectors }
}

pub(crate) fn by_federates_with_in(by: v1::ByFederatesWith) -> steeple::ByFederatesWith {
    steeple::ByFederatesWith { r#match: by.match_behavior, trust_domain_ids: by.federates_with }
}

/// A bundle; one without content has nothing but its name.
pub(crate) fn bundle_in(bundle: v1::Bundle) -> Result<steeple::Bundle, Status> {
    let unreadable = |error| Status::invalid_argument(format!("bundle: data is no serialized bundle: {error}"));
    let mut content = serialized::bundle(&bundle.data).map_err(unreadable)?;
    if content.trust_domain_id.is_empty() {
        content.trust_domain_id = bundle.trust_domain_id;
    } else if !bundle.trust_domain_id.is_empty() && bundle.trust_domain_id != content.trust_domain_id {
        return Err(Status::invalid_argument(format!(
            "bundle: trust_domain_id is {:?} and data is of {:?}",
            bundle.trust_domain_id, content.trust_domain_id
        )));
    }
    Ok(content)
}

pub(crate) fn bundle_out(bundle: steeple::Bundle) -> v1::Bundle {
    let data = serialized::bundle_bytes(&bundle);
    v1::Bundle { trust_domain_id: bundle.trust_domain_id, data, created_at: 0, updated_at: 0 }
}

pub(crate) fn bundle_mask_in(mask: v1::BundleMask) -> steeple::BundleMask {
    steeple::BundleMask {
        root_cas: mask.root_cas,
        jwt_signing_keys: mask.jwt_signing_keys,
        refresh_hint: mask.refresh_hint,
        sequence_number: mask.sequence_number,
        x509_tainted_keys: mask.x509_tainted_keys,
        wit_signing_keys: mask.wit_signing_keys,
    }
}

pub(crate) fn key_out(key: steeple::PublicKey) -> v1::PublicKey {
    v1::PublicKey { pkix_bytes: key.pkix_bytes, kid: key.kid, not_after: key.not_after, tainted_key: key.tainted_key }
}

pub(crate) fn entry_in(entry: v1::RegistrationEntry) -> steeple::RegistrationEntry {
    steeple::RegistrationEntry {
        selectors: entry.selectors.into_iter().map(selector_in).collect(),
        parent_id: entry.parent_id,
        spiffe_id: entry.spiffe_id,
        x509_svid_ttl: entry.x509_svid_ttl,
        federates_with: entry.federates_with,
        entry_id: entry.entry_id,
        admin: entry.admin,
        downstream: entry.downstream,
        entry_expiry: seconds(entry.entry_expiry),
        dns_names: entry.dns_names,
        revision_number: entry.revision_number,
        store_svid: entry.store_svid,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        hint: entry.hint,
        created_at: seconds(entry.created_at),
        additional_attributes: entry.additional_attributes.map(|attributes| steeple::AdditionalAttributes {
            disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: attributes.jwt_svid_include_jti,
            unknown_fields: Vec::new(),
        }),
    }
}

pub(crate) fn entry_out(entry: steeple::RegistrationEntry) -> v1::RegistrationEntry {
    v1::RegistrationEntry {
        selectors: selectors_out(entry.selectors),
        parent_id: entry.parent_id,
        spiffe_id: entry.spiffe_id,
        x509_svid_ttl: entry.x509_svid_ttl,
        federates_with: entry.federates_with,
        entry_id: entry.entry_id,
        admin: entry.admin,
        downstream: entry.downstream,
        entry_expiry: entry.entry_expiry,
        dns_names: entry.dns_names,
        revision_number: entry.revision_number,
        store_svid: entry.store_svid,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        hint: entry.hint,
        created_at: entry.created_at,
        updated_at: 0,
        additional_attributes: entry.additional_attributes.map(|attributes| v1::AdditionalAttributes {
            disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: attributes.jwt_svid_include_jti,
        }),
    }
}

/// The fields to set. The draft's mask does not know the additional attributes; without a mask, which means all fields, they
/// are set only when the entry has them, so that a server of the older revision does not take them away.
pub(crate) fn entry_mask_in(
    mask: Option<v1::RegistrationEntryMask>,
    entry: &steeple::RegistrationEntry,
) -> steeple::RegistrationEntryMask {
    let additional_attributes = mask.is_none() && entry.additional_attributes.is_some();
    let mask = mask.unwrap_or(v1::RegistrationEntryMask {
        selectors: true,
        parent_id: true,
        spiffe_id: true,
        x509_svid_ttl: true,
        federates_with: true,
        entry_id: true,
        admin: true,
        downstream: true,
        entry_expiry: true,
        dns_names: true,
        store_svid: true,
        jwt_svid_ttl: true,
        hint: true,
    });
    steeple::RegistrationEntryMask {
        selectors: mask.selectors,
        parent_id: mask.parent_id,
        spiffe_id: mask.spiffe_id,
        x509_svid_ttl: mask.x509_svid_ttl,
        federates_with: mask.federates_with,
        entry_id: mask.entry_id,
        admin: mask.admin,
        downstream: mask.downstream,
        entry_expiry: mask.entry_expiry,
        dns_names: mask.dns_names,
        store_svid: mask.store_svid,
        jwt_svid_ttl: mask.jwt_svid_ttl,
        hint: mask.hint,
        additional_attributes,
    }
}

pub(crate) fn entry_event_out(event: steeple::RegistrationEntryEvent) -> v1::RegistrationEntryEvent {
    let created_at = u64::try_from(event.created_at_micros / 1_000_000).unwrap_or(0);
    v1::RegistrationEntryEvent {
        event_id: event.event_id,
        entry_id: event.entry_id,
        created_at,
        updated_at: created_at,
    }
}

pub(crate) fn node_in(node: v1::AttestedNode) -> steeple::AttestedNode {
    steeple::AttestedNode {
        spiffe_id: node.spiffe_id,
        attestation_data_type: node.attestation_data_type,
        cert_serial_number: node.cert_serial_number,
        cert_not_after: seconds(node.cert_not_after),
        new_cert_serial_number: node.new_cert_serial_number,
        new_cert_not_after: seconds(node.new_cert_not_after),
        selectors: node.selectors.into_iter().map(selector_in).collect(),
        can_reattest: node.can_reattest,
        agent_version: node.agent_version,
    }
}

pub(crate) fn node_out(node: steeple::AttestedNode) -> v1::AttestedNode {
    v1::AttestedNode {
        spiffe_id: node.spiffe_id,
        attestation_data_type: node.attestation_data_type,
        cert_serial_number: node.cert_serial_number,
        cert_not_after: node.cert_not_after,
        new_cert_serial_number: node.new_cert_serial_number,
        new_cert_not_after: node.new_cert_not_after,
        selectors: selectors_out(node.selectors),
        can_reattest: node.can_reattest,
        agent_version: node.agent_version,
        created_at: 0,
        updated_at: 0,
    }
}

pub(crate) fn node_mask_in(mask: v1::AttestedNodeMask) -> steeple::AttestedNodeMask {
    steeple::AttestedNodeMask {
        attestation_data_type: mask.attestation_data_type,
        cert_serial_number: mask.cert_serial_number,
        cert_not_after: mask.cert_not_after,
        new_cert_serial_number: mask.new_cert_serial_number,
        new_cert_not_after: mask.new_cert_not_after,
        can_reattest: mask.can_reattest,
        agent_version: mask.agent_version,
    }
}

pub(crate) fn node_event_out(event: steeple::AttestedNodeEvent) -> v1::AttestedNodeEvent {
    let created_at = event.created_at_micros / 1_000_000;
    v1::AttestedNodeEvent { event_id: event.event_id, spiffe_id: event.spiffe_id, created_at, updated_at: created_at }
}

pub(crate) fn node_selectors_out(selectors: steeple::NodeSelectors) -> v1::NodeSelectorEntry {
    v1::NodeSelectorEntry { spiffe_id: selectors.spiffe_id, selectors: selectors_out(selectors.selectors) }
}

/// The name of a trust domain, which may be given as its SPIFFE ID.
pub(crate) fn trust_domain_in(id: &str) -> String {
    id.strip_prefix(SCHEME).unwrap_or(id).to_owned()
}

const HTTPS_SPIFFE: &str = "https_spiffe";
const HTTPS_WEB: &str = "https_web";

pub(crate) fn relationship_in(
    relationship: v1::FederationRelationship,
) -> Result<steeple::FederationRelationship, Status> {
    let profile = match v1::BundleEndpointType::try_from(relationship.bundle_endpoint_type) {
        Ok(v1::BundleEndpointType::Spiffe) => HTTPS_SPIFFE.to_owned(),
        Ok(v1::BundleEndpointType::Web) => HTTPS_WEB.to_owned(),
        Err(_) => {
            let unknown = relationship.bundle_endpoint_type;
            return Err(Status::invalid_argument(format!("unknown bundle endpoint profile type: \"{unknown}\"")));
        }
    };
    Ok(steeple::FederationRelationship {
        trust_domain: trust_domain_in(&relationship.trust_domain_id),
        bundle_endpoint_url: relationship.bundle_endpoint_url,
        bundle_endpoint_profile: profile,
        endpoint_spiffe_id: relationship.bundle_endpoint_spiffe_id,
        trust_domain_bundle: relationship.trust_domain_bundle.map(bundle_in).transpose()?,
    })
}

/// A relationship. A server that is told an identity that is none ends itself, so that is an error here.
pub(crate) fn relationship_out(
    relationship: steeple::FederationRelationship,
) -> Result<v1::FederationRelationship, Status> {
    let bundle_endpoint_type = match relationship.bundle_endpoint_profile.as_str() {
        HTTPS_SPIFFE => v1::BundleEndpointType::Spiffe,
        HTTPS_WEB => v1::BundleEndpointType::Web,
        other => return Err(Status::unknown(format!("unknown bundle endpoint profile type: {other:?}"))),
    };
    if !is_trust_domain(&relationship.trust_domain) {
        return Err(Status::unknown(format!("unable to parse trust domain: {:?}", relationship.trust_domain)));
    }
    if !relationship.endpoint_spiffe_id.is_empty() && !is_spiffe_id(&relationship.endpoint_spiffe_id) {
        let id = &relationship.endpoint_spiffe_id;
        return Err(Status::unknown(format!("unable to parse bundle endpoint SPIFFE ID: {id:?}")));
    }
    Ok(v1::FederationRelationship {
        trust_domain_id: relationship.trust_domain,
        bundle_endpoint_type: bundle_endpoint_type.into(),
        bundle_endpoint_url: relationship.bundle_endpoint_url,
        bundle_endpoint_spiffe_id: relationship.endpoint_spiffe_id,
        trust_domain_bundle: relationship.trust_domain_bundle.map(bundle_out),
        ..v1::FederationRelationship::default()
    })
}

pub(crate) fn relationship_mask_in(mask: v1::FederationRelationshipMask) -> steeple::FederationRelationshipMask {
    steeple::FederationRelationshipMask {
        bundle_endpoint_url: mask.bundle_endpoint_url,
        bundle_endpoint_profile: mask.bundle_endpoint_profile,
        trust_domain_bundle: mask.trust_domain_bundle,
    }
}

fn is_trust_domain(name: &str) -> bool {
    let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    !name.is_empty() && name.bytes().all(is_part)
}

fn is_spiffe_id(id: &str) -> bool {
    let Some(rest) = id.strip_prefix(SCHEME) else { return false };
    let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
    let is_part = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(is_part);
    is_trust_domain(name) && path.is_none_or(|path| path.split('/').all(is_segment))
}

pub(crate) fn journal_in(journal: v1::CaJournal) -> steeple::CaJournal {
    steeple::CaJournal {
        id: journal.id,
        active_x509_authority_id: journal.active_x509_authority_id,
        data: journal.data,
    }
}

pub(crate) fn journal_out(journal: steeple::CaJournal) -> v1::CaJournal {
    v1::CaJournal {
        id: journal.id,
        active_x509_authority_id: journal.active_x509_authority_id,
        data: journal.data,
        created_at: 0,
        updated_at: 0,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn selectors() -> impl Strategy<Value = Vec<steeple::Selector>> {
        vec(("[a-z]{0,5}", "\\PC{0,9}"), 0..4)
            .prop_map(|list| list.into_iter().map(|(r#type, value)| steeple::Selector { r#type, value }).collect())
    }

    fn entries() -> impl Strategy<Value = steeple::RegistrationEntry> {
        let texts = ("\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}");
        let lists = (selectors(), vec("\\PC{0,9}", 0..3), vec("\\PC{0,9}", 0..3));
        let numbers = (any::<i32>(), any::<i32>(), any::<i64>(), any::<i64>(), 0..i64::MAX);
        (texts, lists, numbers, any::<[bool; 3]>(), any::<Option<(bool, bool)>>()).prop_map(
            |(texts, lists, numbers, [admin, downstream, store_svid], attributes)| steeple::RegistrationEntry {
                selectors: lists.0,
                parent_id: texts.0,
                spiffe_id: texts.1,
                x509_svid_ttl: numbers.0,
                federates_with: lists.1,
                entry_id: texts.2,
                admin,
                downstream,
                entry_expiry: numbers.2,
                dns_names: lists.2,
                revision_number: numbers.3,
                store_svid,
                jwt_svid_ttl: numbers.1,
                hint: texts.3,
                created_at: numbers.4,
                additional_attributes: attributes.map(|(disable_x509_svid_prefetch, jwt_svid_include_jti)| {
                    let unknown_fields = Vec::new();
                    steeple::AdditionalAttributes { disable_x509_svid_prefetch, jwt_svid_include_jti, unknown_fields }
                }),
            },
        )
    }

    fn nodes() -> impl Strategy<Value = steeple::AttestedNode> {
        let texts = ("\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}", "\\PC{0,9}");
        (texts, any::<(i64, i64, bool)>(), selectors()).prop_map(|(texts, (one, other, can_reattest), selectors)| {
            steeple::AttestedNode {
                spiffe_id: texts.0,
                attestation_data_type: texts.1,
                cert_serial_number: texts.2,
                cert_not_after: one,
                new_cert_serial_number: texts.3,
                new_cert_not_after: other,
                selectors,
                can_reattest,
                agent_version: texts.4,
            }
        })
    }

    proptest! {
        #[test]
        fn entries_come_back(entry in entries()) {
            prop_assume!(entry.entry_expiry != GO_ZERO_SECONDS);
            prop_assert_eq!(entry_in(entry_out(entry.clone())), entry);
        }

        #[test]
        fn nodes_come_back(node in nodes()) {
            prop_assert_eq!(node_in(node_out(node.clone())), node);
        }

        #[test]
        fn bundles_and_relationships_come_back(hint in any::<i64>(), der in vec(any::<u8>(), 0..9), web in any::<bool>()) {
            let certificate = steeple::Certificate { der_bytes: der, tainted_key: web, ..Default::default() };
            let bundle = steeple::Bundle {
                trust_domain_id: "spiffe://td.example".into(),
                root_cas: vec![certificate],
                refresh_hint: hint,
                ..Default::default()
            };
            prop_assert_eq!(bundle_in(bundle_out(bundle.clone())).unwrap(), bundle.clone());
            let relationship = steeple::FederationRelationship {
                trust_domain: "td.example".into(),
                bundle_endpoint_url: "https://td.example/bundle".into(),
                bundle_endpoint_profile: if web { HTTPS_WEB.into() } else { HTTPS_SPIFFE.into() },
                endpoint_spiffe_id: if web { String::new() } else { "spiffe://td.example/endpoint".into() },
                trust_domain_bundle: Some(bundle),
            };
            prop_assert_eq!(relationship_in(relationship_out(relationship.clone()).unwrap()).unwrap(), relationship);
        }
    }

    #[test]
    fn two_instants_mean_that_there_is_none() {
        assert_eq!((micros(0), micros(GO_ZERO_SECONDS), micros(7)), (0, 0, 7_000_000));
        assert_eq!(micros(i64::MAX), i64::MAX);
        let entry = v1::RegistrationEntry { entry_expiry: GO_ZERO_SECONDS, ..Default::default() };
        assert_eq!(entry_in(entry).entry_expiry, 0);
        assert!(age(-1).is_err() && event_id(-1).is_err());
    }

    #[test]
    fn a_bundle_is_of_one_trust_domain() {
        let data =
            serialized::bundle_bytes(&steeple::Bundle { trust_domain_id: "spiffe://a".into(), ..Default::default() });
        let bundle = |trust_domain_id: &str, data: &[u8]| {
            let bundle =
                v1::Bundle { trust_domain_id: trust_domain_id.into(), data: data.to_vec(), ..Default::default() };
            bundle_in(bundle)
        };
        assert_eq!(bundle("spiffe://a", &data).unwrap().trust_domain_id, "spiffe://a");
        assert_eq!(bundle("", &data).unwrap().trust_domain_id, "spiffe://a");
        assert_eq!(bundle("spiffe://b", &[]).unwrap().trust_domain_id, "spiffe://b");
        assert_eq!(bundle("spiffe://b", &data).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(bundle("spiffe://b", b"\x0a").unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn attributes_that_a_server_does_not_know_are_not_taken_away() {
        let plain = steeple::RegistrationEntry::default();
        assert!(!entry_mask_in(None, &plain).additional_attributes && entry_mask_in(None, &plain).selectors);
        let with = steeple::RegistrationEntry { additional_attributes: Some(Default::default()), ..plain };
        assert!(entry_mask_in(None, &with).additional_attributes);
        let only_hint = v1::RegistrationEntryMask { hint: true, ..Default::default() };
        let expected = steeple::RegistrationEntryMask { hint: true, ..Default::default() };
        assert_eq!(entry_mask_in(Some(only_hint), &with), expected);
    }

    #[test]
    fn a_server_is_told_no_identity_that_ends_it() {
        let stored = steeple::FederationRelationship {
            trust_domain: "td.example".into(),
            bundle_endpoint_profile: HTTPS_SPIFFE.into(),
            endpoint_spiffe_id: "spiffe://td.example/a/b".into(),
            ..Default::default()
        };
        assert!(relationship_out(stored.clone()).is_ok());
        for id in
            ["td.example", "spiffe://", "spiffe://td.example/", "spiffe://TD/a", "spiffe://td/../a", "spiffe://td//"]
        {
            let bad = steeple::FederationRelationship { endpoint_spiffe_id: id.into(), ..stored.clone() };
            assert_eq!(relationship_out(bad).unwrap_err().code(), tonic::Code::Unknown, "{id}");
        }
        let bad = steeple::FederationRelationship { trust_domain: "a b".into(), ..stored.clone() };
        assert!(relationship_out(bad).is_err());
        let bad = steeple::FederationRelationship { bundle_endpoint_profile: "other".into(), ..stored };
        assert_eq!(relationship_out(bad).unwrap_err().message(), "unknown bundle endpoint profile type: \"other\"");
        assert_eq!(trust_domain_in("spiffe://td.example"), "td.example");
        let unknown = v1::FederationRelationship { bundle_endpoint_type: 7, ..Default::default() };
        assert!(relationship_in(unknown).is_err());
    }
}
