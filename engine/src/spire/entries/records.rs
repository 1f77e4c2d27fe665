//! What is stored of a registration entry.

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_128;

use crate::spire::flag_key;
use crate::spire::selectors::{self, Selector};
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

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

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By entry id.
    pub const ENTRY_ID: IndexId = IndexId(0);
    /// By parent id.
    pub const PARENT_ID: IndexId = IndexId(1);
    /// By SPIFFE ID.
    pub const SPIFFE_ID: IndexId = IndexId(2);
    /// By hint; entries without one are not in it.
    pub const HINT: IndexId = IndexId(3);
    /// By selector, under [`crate::spire::selectors::key`].
    pub const SELECTORS: IndexId = IndexId(4);
    /// By federated trust domain id.
    pub const FEDERATES_WITH: IndexId = IndexId(5);
    /// By the flag, under [`crate::spire::flag_key`].
    pub const DOWNSTREAM: IndexId = IndexId(6);
    /// By expiry; entries that never expire are not in it.
    pub const EXPIRY: IndexId = IndexId(7);
    /// By what makes two entries similar, under [`super::similarity_key`].
    pub const SIMILARITY: IndexId = IndexId(8);
}

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: crate::spire::tables::ENTRIES,
    name: "entries",
    indexes: &[
        IndexDefinition { id: indexes::ENTRY_ID, name: "entry_id", kind: IndexKind::Unique },
        IndexDefinition { id: indexes::PARENT_ID, name: "parent_id", kind: IndexKind::Set },
        IndexDefinition { id: indexes::SPIFFE_ID, name: "spiffe_id", kind: IndexKind::Set },
        IndexDefinition { id: indexes::HINT, name: "hint", kind: IndexKind::Set },
        IndexDefinition { id: indexes::SELECTORS, name: "selectors", kind: IndexKind::CountedSet },
        IndexDefinition { id: indexes::FEDERATES_WITH, name: "federates_with", kind: IndexKind::CountedSet },
        IndexDefinition { id: indexes::DOWNSTREAM, name: "downstream", kind: IndexKind::Set },
        IndexDefinition { id: indexes::EXPIRY, name: "expiry", kind: IndexKind::Ordered },
        IndexDefinition { id: indexes::SIMILARITY, name: "similarity", kind: IndexKind::Set },
    ],
    keys: emit_keys,
    secret: false,
};

fn emit_keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let entry = Entry::view(body)?;
    keys.key(indexes::ENTRY_ID, entry.entry_id.as_bytes());
    keys.key(indexes::PARENT_ID, entry.parent_id.as_bytes());
    keys.key(indexes::SPIFFE_ID, entry.spiffe_id.as_bytes());
    if !entry.hint.is_empty() {
        keys.key(indexes::HINT, entry.hint.as_bytes());
    }
    selectors::emit_keys(&entry.selectors, indexes::SELECTORS, keys);
    for trust_domain_id in entry.federates_with.iter() {
        keys.key(indexes::FEDERATES_WITH, trust_domain_id.as_bytes());
    }
    keys.key(indexes::DOWNSTREAM, &flag_key(entry.downstream));
    if entry.expiry != 0 {
        keys.number(indexes::EXPIRY, entry.expiry.to_native());
    }
    if keys.wants(indexes::SIMILARITY) {
        let set = selectors::archived_set(&entry.selectors);
        keys.key(indexes::SIMILARITY, &similarity_key(&entry.spiffe_id, &entry.parent_id, &set));
    }
    Ok(())
}

/// Hash of what makes two entries similar (7.3): SPIFFE ID, parent id and the set of selectors, sorted and without
/// duplicates.
///
/// With it, creating an entry costs one look at the index however many entries share its SPIFFE ID, parent or
/// selectors. Equal keys do not prove similarity: the entries have to be compared.
#[must_use]
pub fn similarity_key(spiffe_id: &str, parent_id: &str, selector_set: &[(&str, &str)]) -> [u8; 16] {
    // In one piece: feeding a hasher piece by piece takes longer than the copy.
    let mut hashed: SmallVec<[u8; 1024]> = SmallVec::new();
    let texts = selector_set.iter().flat_map(|(kind, value)| [*kind, *value]);
    for text in [spiffe_id, parent_id].into_iter().chain(texts) {
        hashed.extend_from_slice(&(text.len() as u64).to_be_bytes());
        hashed.extend_from_slice(text.as_bytes());
    }
    xxh3_128(&hashed).to_be_bytes()
}

impl AdditionalAttributes {
    /// Size of the serialized form: two bytes for each flag that is set, and what is not known here.
    #[must_use]
    pub fn serialized_bytes(&self) -> usize {
        2 * (usize::from(self.disable_x509_svid_prefetch) + usize::from(self.jwt_svid_include_jti))
            + self.unknown_fields.len()
    }
}
