//! Selectors and the four ways to match sets.

use thiserror::Error;

use crate::ids::IndexId;
use crate::index::Predicate;
use crate::table::KeySink;

/// A property of a workload or node: `unix` / `uid:1000`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[rkyv(derive(PartialEq, Eq))]
pub struct Selector {
    /// The plugin that attests it.
    pub kind: String,
    /// What was attested.
    pub value: String,
}

/// Index key of a selector: the kind's length (4 bytes, big endian), the kind, the value.
#[must_use]
pub fn key(kind: &str, value: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(4 + kind.len() + value.len());
    write_key(&mut key, kind, value);
    key
}

/// Writes [`key`] over what `key` held, so that one buffer serves many selectors.
pub fn write_key(key: &mut Vec<u8>, kind: &str, value: &str) {
    key.clear();
    key.extend_from_slice(&u32::try_from(kind.len()).unwrap_or(u32::MAX).to_be_bytes());
    key.extend_from_slice(kind.as_bytes());
    key.extend_from_slice(value.as_bytes());
}

/// Emits the index key of every selector.
pub(crate) fn emit_keys(selectors: &[ArchivedSelector], index: IndexId, keys: &mut dyn KeySink) {
    let mut key = Vec::with_capacity(64);
    for selector in selectors {
        write_key(&mut key, &selector.kind, &selector.value);
        keys.key(index, &key);
    }
}

/// How a record's set has to relate to the requested one. A record with an empty set never matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// The same elements.
    Exact,
    /// None but requested elements, at least one.
    Subset,
    /// All requested elements, maybe more.
    Superset,
    /// At least one requested element.
    Any,
}

impl Match {
    /// The condition on a counted set index.
    #[must_use]
    pub fn predicate(self, index: IndexId, keys: Vec<Vec<u8>>) -> Predicate {
        match self {
            Self::Exact => Predicate::Exactly { index, keys },
            Self::Subset => Predicate::OnlyOf { index, keys },
            Self::Superset => Predicate::AllOf { index, keys },
            Self::Any => Predicate::AnyOf { index, keys },
        }
    }
}

/// A filter by selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorFilter {
    /// How to match.
    pub matching: Match,
    /// The requested set.
    pub selectors: Vec<Selector>,
}

impl SelectorFilter {
    /// The condition on a counted set index over [`key`]s.
    #[must_use]
    pub fn predicate(&self, index: IndexId) -> Predicate {
        let keys = self.selectors.iter().map(|selector| key(&selector.kind, &selector.value)).collect();
        self.matching.predicate(index, keys)
    }
}

/// An empty filter, which would select nothing by any behaviour.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// In a list or count of entries.
    #[error("cannot list by empty selector set")]
    EmptyForEntries,
    /// In a list or count of nodes.
    #[error("cannot list by empty selectors set")]
    EmptyForNodes,
}
