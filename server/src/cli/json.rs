//! Records as JSON, with the field names of SPIRE's own messages. What is printed here can be read back with `--data`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use steeple_client::events::record::Record as Kind;
use steeple_client::events::{Change, Item, Record};
use steeple_client::types::{
    AttestedNode, Bundle, CaJournal, Certificate, FederationRelationship, NodeSelectors, PublicKey, RegistrationEntry,
    Selector,
};

/// Lower-case hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes as text.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A document without the fields that have no value.
fn compact(document: Value) -> Value {
    let Value::Object(fields) = document else { return document };
    let is_empty = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Number(number) => number.as_i64() == Some(0),
        Value::Bool(true) | Value::Object(_) => false,
    };
    Value::Object(fields.into_iter().filter(|(_, value)| !is_empty(value)).collect())
}

fn selectors(selectors: &[Selector]) -> Value {
    selectors.iter().map(|selector| json!({ "type": selector.r#type, "value": selector.value })).collect()
}

/// A registration entry.
pub(super) fn entry(entry: &RegistrationEntry) -> Value {
    let additional = entry.additional_attributes.as_ref().map(|attributes| {
        compact(json!({
            "disable_x509_svid_prefetch": attributes.disable_x509_svid_prefetch,
            "jwt_svid_include_jti": attributes.jwt_svid_include_jti,
        }))
    });
    compact(json!({
        "entry_id": entry.entry_id,
        "spiffe_id": entry.spiffe_id,
        "parent_id": entry.parent_id,
        "selectors": selectors(&entry.selectors),
        "x509_svid_ttl": entry.x509_svid_ttl,
        "jwt_svid_ttl": entry.jwt_svid_ttl,
        "federates_with": entry.federates_with,
        "admin": entry.admin,
        "downstream": entry.downstream,
        "entryExpiry": entry.entry_expiry,
        "dns_names": entry.dns_names,
        "store_svid": entry.store_svid,
        "hint": entry.hint,
        "revision_number": entry.revision_number,
        "created_at": entry.created_at,
        "additional_attributes": additional,
    }))
}

/// An attested node.
pub(super) fn node(node: &AttestedNode) -> Value {
    compact(json!({
        "spiffe_id": node.spiffe_id,
        "attestation_data_type": node.attestation_data_type,
        "cert_serial_number": node.cert_serial_number,
        "cert_not_after": node.cert_not_after,
        "new_cert_serial_number": node.new_cert_serial_number,
        "new_cert_not_after": node.new_cert_not_after,
        "selectors": selectors(&node.selectors),
        "can_reattest": node.can_reattest,
        "agent_version": node.agent_version,
        "banned": node.cert_serial_number.is_empty(),
    }))
}

fn node_selectors(record: &NodeSelectors) -> Value {
    json!({ "spiffe_id": record.spiffe_id, "selectors": selectors(&record.selectors) })
}

/// A bundle, with its certificates and keys in base64.
pub(super) fn bundle(bundle: &Bundle) -> Value {
    let certificate = |certificate: &Certificate| {
        compact(json!({ "der_bytes": base64(&certificate.der_bytes), "tainted_key": certificate.tainted_key }))
    };
    compact(json!({
        "trust_domain_id": bundle.trust_domain_id,
        "root_cas": bundle.root_cas.iter().map(certificate).collect::<Value>(),
        "jwt_signing_keys": bundle.jwt_signing_keys.iter().map(public_key).collect::<Value>(),
        "wit_signing_keys": bundle.wit_signing_keys.iter().map(public_key).collect::<Value>(),
        "refresh_hint": bundle.refresh_hint,
        "sequence_number": bundle.sequence_number,
    }))
}

/// A JWT or WIT authority.
pub(super) fn public_key(key: &PublicKey) -> Value {
    compact(json!({
        "pkix_bytes": base64(&key.pkix_bytes),
        "kid": key.kid,
        "not_after": key.not_after,
        "tainted_key": key.tainted_key,
    }))
}

/// A federation relationship.
pub(super) fn relationship(relationship: &FederationRelationship) -> Value {
    compact(json!({
        "trust_domain": relationship.trust_domain,
        "bundle_endpoint_url": relationship.bundle_endpoint_url,
        "bundle_endpoint_profile": relationship.bundle_endpoint_profile,
        "endpoint_spiffe_id": relationship.endpoint_spiffe_id,
        "trust_domain_bundle": relationship.trust_domain_bundle.as_ref().map(bundle),
    }))
}

fn journal(journal: &CaJournal) -> Value {
    json!({
        "id": journal.id,
        "active_x509_authority_id": journal.active_x509_authority_id,
        "data": base64(&journal.data),
    })
}

/// A record of any kind; none for a kind that this program does not know.
pub(super) fn record(record: &Record) -> Option<Value> {
    Some(match record.record.as_ref()? {
        Kind::Bundle(record) => bundle(record),
        Kind::RegistrationEntry(record) => entry(record),
        Kind::AttestedNode(record) => node(record),
        Kind::NodeSelectors(record) => node_selectors(record),
        Kind::FederationRelationship(record) => relationship(record),
        Kind::CaJournal(record) => journal(record),
    })
}

/// A record before and after.
pub(super) fn change(change: &Change) -> Value {
    json!({
        "before": change.before.as_ref().and_then(record),
        "after": change.after.as_ref().and_then(record),
        "previous_revision": change.previous_revision,
    })
}

/// An item of a stream.
pub(super) fn item(item: &Item) -> Map<String, Value> {
    let document = json!({
        "stream": item.stream,
        "sequence": item.sequence,
        "key": item.key,
        "change": item.change.as_ref().map(change),
    });
    match document {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// The names of the fields in which two documents differ, but for the number that differs with every update.
pub(super) fn changed_fields(before: &Value, after: &Value) -> Vec<String> {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return Vec::new() };
    let mut names: Vec<_> = before
        .keys()
        .chain(after.keys())
        .filter(|name| *name != "revision_number" && before.get(*name) != after.get(*name))
        .collect();
    names.sort();
    names.dedup();
    names.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_without_value_are_left_out() {
        let record = RegistrationEntry { entry_id: "e".into(), x509_svid_ttl: 60, ..Default::default() };
        assert_eq!(entry(&record), json!({ "entry_id": "e", "x509_svid_ttl": 60 }));
    }

    #[test]
    fn differences_are_named_once() {
        let (before, after) = (json!({ "a": 1, "b": 2, "c": 3 }), json!({ "a": 1, "b": 3, "d": 4 }));
        assert_eq!(changed_fields(&before, &after), ["b", "c", "d"]);
    }
}
