//! Records as lines of JSON: an export, and what an import reads again.
//!
//! The first line says what the file is, the last one how many records it has, so that a file that was cut is recognised.
//! Field names are those of SPIRE's messages; what has no value is left out; bytes are base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use steeple_client::types as wire;
use steeple_client::types::imported_record::Record;

/// What the files are called inside.
pub(super) const FORMAT: &str = "steeple-spire-export";

/// The version that is written, and the newest that is read.
pub(super) const VERSION: u32 = 1;

/// Longest line that is read: a bundle as large as may be, in base64.
pub(super) const LINE_BYTES_MAX: usize = 32 << 20;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Export(Header),
    Bundle(Bundle),
    FederationRelationship(Relationship),
    RegistrationEntry(Entry),
    AttestedNode(Node),
    NodeSelectors(NodeSelectors),
    JoinToken(Token),
    CaJournal(Journal),
    End(End),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format: String,
    pub(super) version: u32,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    pub(super) exported_at: String,
    /// Whether the join tokens are in it.
    #[serde(default)]
    pub(super) join_tokens: bool,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    /// Lines between the first and this one.
    pub(super) records: u64,
    /// The state is that of this revision.
    #[serde(default)]
    pub(super) revision: u64,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Bytes, as base64.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(|error| serde::de::Error::custom(format!("no base64: {error}")))?;
        Ok(Self(bytes))
    }
}

/// A trust bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bundle {
    #[serde(skip_serializing_if = "is_default")]
    trust_domain_id: String,
    #[serde(skip_serializing_if = "is_default")]
    root_cas: Vec<Certificate>,
    #[serde(skip_serializing_if = "is_default")]
    jwt_signing_keys: Vec<PublicKey>,
    #[serde(skip_serializing_if = "is_default")]
    wit_signing_keys: Vec<PublicKey>,
    #[serde(skip_serializing_if = "is_default")]
    refresh_hint: i64,
    #[serde(skip_serializing_if = "is_default")]
    sequence_number: u64,
    #[serde(skip_serializing_if = "is_default")]
    unknown_fields: Bytes,
}

impl From<wire::Bundle> for Bundle {
    fn from(message: wire::Bundle) -> Self {
        Self {
            trust_domain_id: message.trust_domain_id,
            root_cas: message.root_cas.into_iter().map(Into::into).collect(),
            jwt_signing_keys: message.jwt_signing_keys.into_iter().map(Into::into).collect(),
            wit_signing_keys: message.wit_signing_keys.into_iter().map(Into::into).collect(),
            refresh_hint: message.refresh_hint,
            sequence_number: message.sequence_number,
            unknown_fields: Bytes(message.unknown_fields),
        }
    }
}

impl From<Bundle> for wire::Bundle {
    fn from(line: Bundle) -> Self {
        Self {
            trust_domain_id: line.trust_domain_id,
            root_cas: line.root_cas.into_iter().map(Into::into).collect(),
            jwt_signing_keys: line.jwt_signing_keys.into_iter().map(Into::into).collect(),
            wit_signing_keys: line.wit_signing_keys.into_iter().map(Into::into).collect(),
            refresh_hint: line.refresh_hint,
            sequence_number: line.sequence_number,
            unknown_fields: line.unknown_fields.0,
        }
    }
}

/// An X.509 authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Certificate {
    #[serde(skip_serializing_if = "is_default")]
    der_bytes: Bytes,
    #[serde(skip_serializing_if = "is_default")]
    tainted_key: bool,
    #[serde(skip_serializing_if = "is_default")]
    unknown_fields: Bytes,
}

impl From<wire::Certificate> for Certificate {
    fn from(message: wire::Certificate) -> Self {
        Self {
            der_bytes: Bytes(message.der_bytes),
            tainted_key: message.tainted_key,
            unknown_fields: Bytes(message.unknown_fields),
        }
    }
}

impl From<Certificate> for wire::Certificate {
    fn from(line: Certificate) -> Self {
        Self { der_bytes: line.der_bytes.0, tainted_key: line.tainted_key, unknown_fields: line.unknown_fields.0 }
    }
}

/// A JWT or WIT authority.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PublicKey {
    #[serde(skip_serializing_if = "is_default")]
    pkix_bytes: Bytes,
    #[serde(skip_serializing_if = "is_default")]
    kid: String,
    #[serde(skip_serializing_if = "is_default")]
    not_after: i64,
    #[serde(skip_serializing_if = "is_default")]
    tainted_key: bool,
    #[serde(skip_serializing_if = "is_default")]
    unknown_fields: Bytes,
}

impl From<wire::PublicKey> for PublicKey {
    fn from(message: wire::PublicKey) -> Self {
        Self {
            pkix_bytes: Bytes(message.pkix_bytes),
            kid: message.kid,
            not_after: message.not_after,
            tainted_key: message.tainted_key,
            unknown_fields: Bytes(message.unknown_fields),
        }
    }
}

impl From<PublicKey> for wire::PublicKey {
    fn from(line: PublicKey) -> Self {
        Self {
            pkix_bytes: line.pkix_bytes.0,
            kid: line.kid,
            not_after: line.not_after,
            tainted_key: line.tainted_key,
            unknown_fields: line.unknown_fields.0,
        }
    }
}

/// A federation relationship, without its bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Relationship {
    #[serde(skip_serializing_if = "is_default")]
    trust_domain: String,
    #[serde(skip_serializing_if = "is_default")]
    bundle_endpoint_url: String,
    #[serde(skip_serializing_if = "is_default")]
    bundle_endpoint_profile: String,
    #[serde(skip_serializing_if = "is_default")]
    endpoint_spiffe_id: String,
}

impl From<wire::FederationRelationship> for Relationship {
    fn from(message: wire::FederationRelationship) -> Self {
        Self {
            trust_domain: message.trust_domain,
            bundle_endpoint_url: message.bundle_endpoint_url,
            bundle_endpoint_profile: message.bundle_endpoint_profile,
            endpoint_spiffe_id: message.endpoint_spiffe_id,
        }
    }
}

impl From<Relationship> for wire::FederationRelationship {
    fn from(line: Relationship) -> Self {
        Self {
            trust_domain: line.trust_domain,
            bundle_endpoint_url: line.bundle_endpoint_url,
            bundle_endpoint_profile: line.bundle_endpoint_profile,
            endpoint_spiffe_id: line.endpoint_spiffe_id,
            trust_domain_bundle: None,
        }
    }
}

/// A registration entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Entry {
    #[serde(skip_serializing_if = "is_default")]
    entry_id: String,
    #[serde(skip_serializing_if = "is_default")]
    spiffe_id: String,
    #[serde(skip_serializing_if = "is_default")]
    parent_id: String,
    #[serde(skip_serializing_if = "is_default")]
    selectors: Vec<Selector>,
    #[serde(skip_serializing_if = "is_default")]
    dns_names: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    federates_with: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    x509_svid_ttl: i32,
    #[serde(skip_serializing_if = "is_default")]
    jwt_svid_ttl: i32,
    #[serde(skip_serializing_if = "is_default")]
    admin: bool,
    #[serde(skip_serializing_if = "is_default")]
    downstream: bool,
    #[serde(skip_serializing_if = "is_default")]
    store_svid: bool,
    #[serde(skip_serializing_if = "is_default")]
    hint: String,
    #[serde(rename = "entryExpiry", alias = "entry_expiry", skip_serializing_if = "is_default")]
    entry_expiry: i64,
    #[serde(skip_serializing_if = "is_default")]
    revision_number: i64,
    #[serde(skip_serializing_if = "is_default")]
    created_at: i64,
    #[serde(skip_serializing_if = "is_default")]
    additional_attributes: Option<Attributes>,
}

impl From<wire::RegistrationEntry> for Entry {
    fn from(message: wire::RegistrationEntry) -> Self {
        Self {
            entry_id: message.entry_id,
            spiffe_id: message.spiffe_id,
            parent_id: message.parent_id,
            selectors: message.selectors.into_iter().map(Into::into).collect(),
            dns_names: message.dns_names,
            federates_with: message.federates_with,
            x509_svid_ttl: message.x509_svid_ttl,
            jwt_svid_ttl: message.jwt_svid_ttl,
            admin: message.admin,
            downstream: message.downstream,
            store_svid: message.store_svid,
            hint: message.hint,
            entry_expiry: message.entry_expiry,
            revision_number: message.revision_number,
            created_at: message.created_at,
            additional_attributes: message.additional_attributes.map(Into::into),
        }
    }
}

impl From<Entry> for wire::RegistrationEntry {
    fn from(line: Entry) -> Self {
        Self {
            entry_id: line.entry_id,
            spiffe_id: line.spiffe_id,
            parent_id: line.parent_id,
            selectors: line.selectors.into_iter().map(Into::into).collect(),
            dns_names: line.dns_names,
            federates_with: line.federates_with,
            x509_svid_ttl: line.x509_svid_ttl,
            jwt_svid_ttl: line.jwt_svid_ttl,
            admin: line.admin,
            downstream: line.downstream,
            store_svid: line.store_svid,
            hint: line.hint,
            entry_expiry: line.entry_expiry,
            revision_number: line.revision_number,
            created_at: line.created_at,
            additional_attributes: line.additional_attributes.map(Into::into),
        }
    }
}

/// Additional attributes of an entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Attributes {
    #[serde(skip_serializing_if = "is_default")]
    disable_x509_svid_prefetch: bool,
    #[serde(skip_serializing_if = "is_default")]
    jwt_svid_include_jti: bool,
    #[serde(skip_serializing_if = "is_default")]
    unknown_fields: Bytes,
}

impl From<wire::AdditionalAttributes> for Attributes {
    fn from(message: wire::AdditionalAttributes) -> Self {
        Self {
            disable_x509_svid_prefetch: message.disable_x509_svid_prefetch,
            jwt_svid_include_jti: message.jwt_svid_include_jti,
            unknown_fields: Bytes(message.unknown_fields),
        }
    }
}

impl From<Attributes> for wire::AdditionalAttributes {
    fn from(line: Attributes) -> Self {
        Self {
            disable_x509_svid_prefetch: line.disable_x509_svid_prefetch,
            jwt_svid_include_jti: line.jwt_svid_include_jti,
            unknown_fields: line.unknown_fields.0,
        }
    }
}

/// An attested node, without its selectors.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    #[serde(skip_serializing_if = "is_default")]
    spiffe_id: String,
    #[serde(skip_serializing_if = "is_default")]
    attestation_data_type: String,
    #[serde(skip_serializing_if = "is_default")]
    cert_serial_number: String,
    #[serde(skip_serializing_if = "is_default")]
    cert_not_after: i64,
    #[serde(skip_serializing_if = "is_default")]
    new_cert_serial_number: String,
    #[serde(skip_serializing_if = "is_default")]
    new_cert_not_after: i64,
    #[serde(skip_serializing_if = "is_default")]
    can_reattest: bool,
    #[serde(skip_serializing_if = "is_default")]
    agent_version: String,
}

impl From<wire::AttestedNode> for Node {
    fn from(message: wire::AttestedNode) -> Self {
        Self {
            spiffe_id: message.spiffe_id,
            attestation_data_type: message.attestation_data_type,
            cert_serial_number: message.cert_serial_number,
            cert_not_after: message.cert_not_after,
            new_cert_serial_number: message.new_cert_serial_number,
            new_cert_not_after: message.new_cert_not_after,
            can_reattest: message.can_reattest,
            agent_version: message.agent_version,
        }
    }
}

impl From<Node> for wire::AttestedNode {
    fn from(line: Node) -> Self {
        Self {
            spiffe_id: line.spiffe_id,
            attestation_data_type: line.attestation_data_type,
            cert_serial_number: line.cert_serial_number,
            cert_not_after: line.cert_not_after,
            new_cert_serial_number: line.new_cert_serial_number,
            new_cert_not_after: line.new_cert_not_after,
            can_reattest: line.can_reattest,
            agent_version: line.agent_version,
            selectors: Vec::new(),
        }
    }
}

/// The selectors under a SPIFFE ID.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NodeSelectors {
    #[serde(skip_serializing_if = "is_default")]
    spiffe_id: String,
    #[serde(skip_serializing_if = "is_default")]
    selectors: Vec<Selector>,
}

impl From<wire::NodeSelectors> for NodeSelectors {
    fn from(message: wire::NodeSelectors) -> Self {
        Self { spiffe_id: message.spiffe_id, selectors: message.selectors.into_iter().map(Into::into).collect() }
    }
}

impl From<NodeSelectors> for wire::NodeSelectors {
    fn from(line: NodeSelectors) -> Self {
        Self { spiffe_id: line.spiffe_id, selectors: line.selectors.into_iter().map(Into::into).collect() }
    }
}

/// A join token. Its text is a secret.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Token {
    #[serde(skip_serializing_if = "is_default")]
    token: String,
    #[serde(skip_serializing_if = "is_default")]
    expires_at: i64,
}

impl From<wire::JoinToken> for Token {
    fn from(message: wire::JoinToken) -> Self {
        Self { token: message.token, expires_at: message.expires_at }
    }
}

impl From<Token> for wire::JoinToken {
    fn from(line: Token) -> Self {
        Self { token: line.token, expires_at: line.expires_at }
    }
}

/// A CA journal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Journal {
    #[serde(skip_serializing_if = "is_default")]
    id: u64,
    #[serde(skip_serializing_if = "is_default")]
    active_x509_authority_id: String,
    #[serde(skip_serializing_if = "is_default")]
    data: Bytes,
}

impl From<wire::CaJournal> for Journal {
    fn from(message: wire::CaJournal) -> Self {
        Self { id: message.id, active_x509_authority_id: message.active_x509_authority_id, data: Bytes(message.data) }
    }
}

impl From<Journal> for wire::CaJournal {
    fn from(line: Journal) -> Self {
        Self { id: line.id, active_x509_authority_id: line.active_x509_authority_id, data: line.data.0 }
    }
}

/// A property of a workload or node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selector {
    #[serde(rename = "type")]
    kind: String,
    value: String,
}

impl From<wire::Selector> for Selector {
    fn from(message: wire::Selector) -> Self {
        Self { kind: message.r#type, value: message.value }
    }
}

impl From<Selector> for wire::Selector {
    fn from(line: Selector) -> Self {
        Self { r#type: line.kind, value: line.value }
    }
}

/// The text must never reach a log line.
impl std::fmt::Debug for Token {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// The line of a record.
pub(super) fn of_record(record: Record) -> Line {
    match record {
        Record::Bundle(record) => Line::Bundle(record.into()),
        Record::FederationRelationship(record) => Line::FederationRelationship(record.into()),
        Record::RegistrationEntry(record) => Line::RegistrationEntry(record.into()),
        Record::AttestedNode(record) => Line::AttestedNode(record.into()),
        Record::NodeSelectors(record) => Line::NodeSelectors(record.into()),
        Record::JoinToken(record) => Line::JoinToken(record.into()),
        Record::CaJournal(record) => Line::CaJournal(record.into()),
    }
}

/// The record of a line; none for the first and the last one.
pub(super) fn record(line: Line) -> Option<Record> {
    Some(match line {
        Line::Bundle(line) => Record::Bundle(line.into()),
        Line::FederationRelationship(line) => Record::FederationRelationship(line.into()),
        Line::RegistrationEntry(line) => Record::RegistrationEntry(line.into()),
        Line::AttestedNode(line) => Record::AttestedNode(line.into()),
        Line::NodeSelectors(line) => Record::NodeSelectors(line.into()),
        Line::JoinToken(line) => Record::JoinToken(line.into()),
        Line::CaJournal(line) => Record::CaJournal(line.into()),
        Line::Export(_) | Line::End(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(record_before: Record) -> String {
        let text = serde_json::to_string(&of_record(record_before.clone())).unwrap();
        let line: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(record(line), Some(record_before));
        text
    }

    #[test]
    fn every_field_survives() {
        let key = wire::PublicKey {
            pkix_bytes: vec![1, 2],
            kid: "k".into(),
            not_after: -4,
            tainted_key: true,
            unknown_fields: vec![72, 5],
        };
        round_trip(Record::Bundle(wire::Bundle {
            trust_domain_id: "spiffe://a".into(),
            root_cas: vec![wire::Certificate { der_bytes: vec![0xff], tainted_key: true, unknown_fields: vec![72, 6] }],
            jwt_signing_keys: vec![key.clone()],
            refresh_hint: 7,
            sequence_number: u64::MAX,
            wit_signing_keys: vec![key],
            unknown_fields: vec![80, 1],
        }));
        let selectors = vec![wire::Selector { r#type: "unix".into(), value: "uid:1".into() }];
        round_trip(Record::RegistrationEntry(wire::RegistrationEntry {
            selectors: selectors.clone(),
            parent_id: "p".into(),
            spiffe_id: "s".into(),
            x509_svid_ttl: -1,
            federates_with: vec!["spiffe://b".into()],
            entry_id: "e".into(),
            admin: true,
            downstream: true,
            entry_expiry: 9,
            dns_names: vec!["a.example".into()],
            revision_number: 3,
            store_svid: true,
            jwt_svid_ttl: 4,
            hint: "h\u{1F980}\n".into(),
            created_at: 5,
            additional_attributes: Some(wire::AdditionalAttributes {
                disable_x509_svid_prefetch: true,
                jwt_svid_include_jti: true,
                unknown_fields: vec![88, 1],
            }),
        }));
        round_trip(Record::AttestedNode(wire::AttestedNode {
            spiffe_id: "n".into(),
            attestation_data_type: "t".into(),
            cert_serial_number: "1".into(),
            cert_not_after: 2,
            new_cert_serial_number: "3".into(),
            new_cert_not_after: 4,
            selectors: vec![],
            can_reattest: true,
            agent_version: "1.15".into(),
        }));
        round_trip(Record::NodeSelectors(wire::NodeSelectors { spiffe_id: "n".into(), selectors }));
        round_trip(Record::FederationRelationship(wire::FederationRelationship {
            trust_domain: "b".into(),
            bundle_endpoint_url: "u".into(),
            bundle_endpoint_profile: "p".into(),
            endpoint_spiffe_id: "i".into(),
            trust_domain_bundle: None,
        }));
        let text = round_trip(Record::JoinToken(wire::JoinToken { token: "t".into(), expires_at: 1 }));
        assert_eq!(text, r#"{"join_token":{"token":"t","expires_at":1}}"#);
        let journal = wire::CaJournal { id: 3, active_x509_authority_id: "a".into(), data: vec![9] };
        round_trip(Record::CaJournal(journal));
    }

    #[test]
    fn malformed_lines_are_refused() {
        for (text, part) in [
            (r#"{"bundel":{}}"#, "bundel"),
            (r#"{"registration_entry":{"entry":"e"}}"#, "entry"),
            (r#"{"ca_journal":{"id":-1}}"#, "-1"),
            (r#"{"ca_journal":{"data":"?"}}"#, "base64"),
            (r#"{"join_token":{"token":"secret""#, "EOF"),
            ("[]", "line"),
        ] {
            let error = serde_json::from_str::<Line>(text).unwrap_err().to_string();
            assert!(error.contains(part) || part == "line", "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
