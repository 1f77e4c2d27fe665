//! Selectors and the four ways to match sets.

use std::collections::HashSet;
use std::hash::Hash;

use smallvec::SmallVec;
use thiserror::Error;

use super::limits;
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
    if !keys.wants(index) {
        return;
    }
    let mut key = Vec::with_capacity(64);
    for selector in selectors {
        write_key(&mut key, &selector.kind, &selector.value);
        keys.key(index, &key);
    }
}

/// Checks the number and the lengths of selectors.
///
/// # Errors
/// When a limit is exceeded.
pub fn check_limits(selectors: &[Selector]) -> Result<(), limits::Error> {
    limits::check_count("selectors", selectors.len(), limits::SELECTORS_MAX)?;
    for selector in selectors {
        limits::check_bytes("selector type", selector.kind.len(), limits::SELECTOR_TYPE_BYTES_MAX)?;
        limits::check_bytes("selector value", selector.value.len(), limits::SELECTOR_VALUE_BYTES_MAX)?;
    }
    Ok(())
}

/// Things at the most that are compared with each other: faster than to hash them.
const COMPARED_MAX: usize = 8;

/// Whether something is listed twice.
pub(crate) fn has_duplicates<T: Hash + Eq>(items: &[T]) -> bool {
    if items.len() <= COMPARED_MAX {
        return items.iter().enumerate().any(|(place, item)| items[..place].contains(item));
    }
    let mut seen = HashSet::with_capacity(items.len());
    !items.iter().all(|item| seen.insert(item))
}

/// The set of archived selectors, as sorted pairs.
pub(crate) fn archived_set(selectors: &[ArchivedSelector]) -> SmallVec<[(&str, &str); 8]> {
    sorted_set(selectors.iter().map(|selector| (selector.kind.as_str(), selector.value.as_str())))
}

/// The set of selectors, as sorted pairs.
pub(crate) fn set(selectors: &[Selector]) -> SmallVec<[(&str, &str); 8]> {
    sorted_set(selectors.iter().map(|selector| (selector.kind.as_str(), selector.value.as_str())))
}

fn sorted_set<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> SmallVec<[(&'a str, &'a str); 8]> {
    let mut pairs: SmallVec<[(&str, &str); 8]> = pairs.collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
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

    /// Whether a record's set relates to the requested one as it has to. Both are sorted, without duplicates.
    pub(crate) fn holds<T: Ord>(self, record: &[T], requested: &[T]) -> bool {
        let shared = record.iter().filter(|item| requested.binary_search(item).is_ok()).count();
        match self {
            Self::Exact => shared == record.len() && shared == requested.len(),
            Self::Subset => shared > 0 && shared == record.len(),
            Self::Superset => shared > 0 && shared == requested.len(),
            Self::Any => shared > 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of section 4.1.
    #[test]
    fn matches_as_the_contract_shows() {
        let (uid, gid, web, db) = (("unix", "uid:1"), ("unix", "gid:7"), ("k8s", "ns:web"), ("k8s", "ns:db"));
        let entries = [("a", vec![uid, gid]), ("b", vec![uid]), ("c", vec![web]), ("d", vec![uid, gid, web])];
        let cases = [
            (vec![uid], ["b", "b", "abd", "abd"]),
            (vec![uid, gid], ["a", "ab", "ad", "abd"]),
            (vec![gid, web], ["", "c", "d", "acd"]),
            (vec![db], ["", "", "", ""]),
        ];
        for (requested, expected) in cases {
            let requested = sorted_set(requested.into_iter());
            for (matching, expected) in [Match::Exact, Match::Subset, Match::Superset, Match::Any].iter().zip(expected)
            {
                let found: String = entries
                    .iter()
                    .filter(|(_, set)| matching.holds(&sorted_set(set.iter().copied()), &requested))
                    .map(|(name, _)| *name)
                    .collect();
                assert_eq!(found, expected, "{matching:?} {requested:?}");
            }
        }
    }

    #[test]
    fn an_empty_set_matches_nothing() {
        for matching in [Match::Exact, Match::Subset, Match::Superset, Match::Any] {
            assert!(!matching.holds(&[], &["a"]), "{matching:?}");
        }
    }

    #[test]
    fn keys_of_different_selectors_differ() {
        assert_ne!(key("ab", "c"), key("a", "bc"));
        assert_ne!(key("", "a"), key("a", ""));
    }

    #[test]
    fn long_selectors_and_long_lists_are_refused() {
        let selector = |kind: usize, value: usize| Selector { kind: "k".repeat(kind), value: "v".repeat(value) };
        let fits = selector(limits::SELECTOR_TYPE_BYTES_MAX, limits::SELECTOR_VALUE_BYTES_MAX);
        assert_eq!(check_limits(std::slice::from_ref(&fits)), Ok(()));
        assert!(check_limits(&[selector(limits::SELECTOR_TYPE_BYTES_MAX + 1, 0)]).is_err());
        assert!(check_limits(&[selector(0, limits::SELECTOR_VALUE_BYTES_MAX + 1)]).is_err());
        assert!(check_limits(&vec![selector(1, 1); limits::SELECTORS_MAX + 1]).is_err());
    }
}
