//! What is stored of a federation relationship.

use crate::spire::bundles::records::Bundle;
use crate::spire::tables;
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// How another trust domain's bundle is fetched, as stored. The bundle itself is a bundle record.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StoredRelationship {
    /// The key: a trust domain name (`td.example`).
    pub trust_domain: String,
    /// Kept as text.
    pub bundle_endpoint_url: String,
    /// `https_spiffe` or `https_web`.
    pub bundle_endpoint_profile: String,
    /// Of the endpoint's server; kept for `https_spiffe` only.
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
    /// Of the endpoint's server; in what is fetched, empty unless the profile is `https_spiffe`.
    pub endpoint_spiffe_id: String,
    /// The bundle of `spiffe://<trust domain>`.
    pub bundle: Option<Bundle>,
}

crate::stored_record!(StoredRelationship, ArchivedStoredRelationship, "federation_relationships");

/// Profile of an endpoint that authenticates with an X.509 SVID.
pub const PROFILE_HTTPS_SPIFFE: &str = "https_spiffe";

/// Profile of an endpoint that authenticates with a certificate of the web.
pub const PROFILE_HTTPS_WEB: &str = "https_web";

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By trust domain name.
    pub const TRUST_DOMAIN: IndexId = IndexId(0);
}

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: tables::FEDERATION,
    name: "federation_relationships",
    indexes: &[IndexDefinition { id: indexes::TRUST_DOMAIN, name: "trust_domain", kind: IndexKind::Unique }],
    keys,
    secret: false,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    keys.key(indexes::TRUST_DOMAIN, StoredRelationship::view(body)?.trust_domain.as_bytes());
    Ok(())
}

impl StoredRelationship {
    /// Key of the bundle that belongs to it.
    #[must_use]
    pub fn bundle_id(&self) -> String {
        format!("spiffe://{}", self.trust_domain)
    }

    /// The relationship as answered. The endpoint SPIFFE ID means nothing unless the profile is `https_spiffe`.
    #[must_use]
    pub fn with_bundle(self, bundle: Option<Bundle>) -> Relationship {
        let endpoint_spiffe_id = match self.bundle_endpoint_profile.as_str() {
            PROFILE_HTTPS_SPIFFE => self.endpoint_spiffe_id,
            _ => String::new(),
        };
        Relationship {
            trust_domain: self.trust_domain,
            bundle_endpoint_url: self.bundle_endpoint_url,
            bundle_endpoint_profile: self.bundle_endpoint_profile,
            endpoint_spiffe_id,
            bundle,
        }
    }
}
