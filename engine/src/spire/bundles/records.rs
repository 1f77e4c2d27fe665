//! What is stored of a bundle.

use crate::spire::tables;
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By trust domain id.
    pub const TRUST_DOMAIN_ID: IndexId = IndexId(0);
}

/// A trust bundle. Certificates and keys inside are not parsed when stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Bundle {
    /// The key, as given (`spiffe://td.example`).
    pub trust_domain_id: String,
    /// X.509 authorities.
    pub root_cas: Vec<Certificate>,
    /// JWT authorities.
    pub jwt_signing_keys: Vec<PublicKey>,
    /// WIT authorities.
    pub wit_signing_keys: Vec<PublicKey>,
    /// Seconds.
    pub refresh_hint: i64,
    /// Rises with every append, prune, taint and revocation.
    pub sequence_number: u64,
    /// Encoded protobuf fields that this version does not know; kept as they came.
    pub unknown_fields: Vec<u8>,
}

/// One element of the X.509 authorities; its DER may hold several certificates one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Certificate {
    /// DER.
    pub der_bytes: Vec<u8>,
    /// No longer to be trusted for signing.
    pub tainted_key: bool,
    /// As [`Bundle::unknown_fields`].
    pub unknown_fields: Vec<u8>,
}

/// A JWT or WIT authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PublicKey {
    /// The key, PKIX encoded.
    pub pkix_bytes: Vec<u8>,
    /// Key id.
    pub kid: String,
    /// Unix seconds; 0 means never.
    pub not_after: i64,
    /// No longer to be trusted for signing.
    pub tainted_key: bool,
    /// As [`Bundle::unknown_fields`].
    pub unknown_fields: Vec<u8>,
}

crate::stored_record!(Bundle, ArchivedBundle, "bundles");

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: tables::BUNDLES,
    name: "bundles",
    indexes: &[IndexDefinition { id: indexes::TRUST_DOMAIN_ID, name: "trust_domain_id", kind: IndexKind::Unique }],
    keys,
    secret: false,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    keys.key(indexes::TRUST_DOMAIN_ID, Bundle::view(body)?.trust_domain_id.as_bytes());
    Ok(())
}
