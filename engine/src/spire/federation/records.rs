//! What is stored of a federation relationship.

use crate::spire::bundles::records::Bundle;

/// How another trust domain's bundle is fetched, as stored. The bundle itself is a bundle record.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StoredRelationship {
    /// The key: a trust domain name (`td.example`).
    pub trust_domain: String,
    /// Kept as text.
    pub bundle_endpoint_url: String,
    /// `https_spiffe` or `https_web`.
    pub bundle_endpoint_profile: String,
    /// Of the endpoint's server; only meaningful for `https_spiffe`.
    pub endpoint_spiffe_id: String,
}

/// A relationship as asked for and answered, with the bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Relationship {
    /// The key: a trust domain name (`td.example`).
    pub trust_domain: String,
    /// Kept as text.
    pub bundle_endpoint_url: String,
    /// `https_spiffe` or `https_web`; anything else is refused.
    pub bundle_endpoint_profile: String,
    /// Of the endpoint's server; empty unless the profile is `https_spiffe`.
    pub endpoint_spiffe_id: String,
    /// The bundle of `spiffe://<trust domain>`.
    pub bundle: Option<Bundle>,
}

crate::stored_record!(StoredRelationship, ArchivedStoredRelationship, "federation_relationships");

/// The table.
pub static TABLE: crate::table::TableDefinition = crate::table::TableDefinition {
    id: crate::spire::tables::FEDERATION,
    name: "federation_relationships",
    indexes: &[],
    keys: |_, _| Ok(()),
    secret: false,
};
