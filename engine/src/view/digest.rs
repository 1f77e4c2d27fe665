//! A digest of all records that can be kept as they change.
//!
//! The sum, modulo 2^128, of one hash per record over its key, the revision that last changed it, and its body. It
//! does not depend on order: a change takes the old hash out and adds the new one. It finds damage and
//! divergence; it is no defence against someone who crafts records.

use std::fmt;

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_128;

use super::keys::StoreKey;
use crate::ids::{NamespaceId, Revision, Sequence, TableId};

/// Digest of a set of records. Equal sets have equal digests.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// Adds a record.
    pub fn add(&mut self, namespace: NamespaceId, table: TableId, sequence: Sequence, modified: Revision, body: &[u8]) {
        self.0 = self.0.wrapping_add(hash(namespace, table, sequence, modified, body));
    }

    /// Takes a record out that was added before.
    pub fn remove(
        &mut self,
        namespace: NamespaceId,
        table: TableId,
        sequence: Sequence,
        modified: Revision,
        body: &[u8],
    ) {
        self.0 = self.0.wrapping_sub(hash(namespace, table, sequence, modified, body));
    }

    /// Sixteen bytes, big endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// Reads what [`Digest::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

fn hash(namespace: NamespaceId, table: TableId, sequence: Sequence, modified: Revision, body: &[u8]) -> u128 {
    // In one piece: feeding a hasher piece by piece takes longer than the copy.
    let mut hashed: SmallVec<[u8; 1024]> = SmallVec::new();
    hashed.extend_from_slice(&StoreKey::Record(namespace, table, sequence).encode_inline());
    hashed.extend_from_slice(&modified.0.to_be_bytes());
    hashed.extend_from_slice(body);
    xxh3_128(&hashed)
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
