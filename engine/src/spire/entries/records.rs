//! What is stored of a registration entry.

use crate::spire::selectors::Selector;

/// A registration entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Entry {
    /// The key; chosen by the store when the request has none.
    pub entry_id: String,
    /// Not parsed.
    pub spiffe_id: String,
    /// Not parsed; may be empty.
    pub parent_id: String,
    /// In the order given.
    pub selectors: Vec<Selector>,
    /// In the order given.
    pub dns_names: Vec<String>,
    /// Trust domain ids with a bundle; sorted, without duplicates.
    pub federates_with: Vec<String>,
    /// Seconds.
    pub x509_svid_ttl: i32,
    /// Seconds.
    pub jwt_svid_ttl: i32,
    /// May use the server's API.
    pub admin: bool,
    /// Belongs to a downstream server.
    pub downstream: bool,
    /// To be pushed into a secret store.
    pub store_svid: bool,
    /// For workloads with several identities.
    pub hint: String,
    /// Unix seconds; 0 means never.
    pub expiry: i64,
    /// 0 at creation, one more for every update.
    pub revision_number: i64,
    /// Unix seconds, assigned by the store.
    pub created_at: i64,
    /// Absent when all of its fields have their defaults.
    pub additional_attributes: Option<AdditionalAttributes>,
}

/// Settings that SPIRE keeps in serialized form.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AdditionalAttributes {
    /// Agents fetch the X.509 SVID only when asked.
    pub disable_x509_svid_prefetch: bool,
    /// JWT SVIDs carry a `jti`.
    pub jwt_svid_include_jti: bool,
    /// Encoded protobuf fields that this version does not know; kept as they came.
    pub unknown_fields: Vec<u8>,
}

crate::stored_record!(Entry, ArchivedEntry, "entries");

/// The table.
pub static TABLE: crate::table::TableDefinition = crate::table::TableDefinition {
    id: crate::spire::tables::ENTRIES,
    name: "entries",
    indexes: &[],
    keys: |_, _| Ok(()),
    secret: false,
};
