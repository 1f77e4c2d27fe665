//! Some of the indexes of a table.

use crate::ids::IndexId;

/// Any of a table's indexes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexSet {
    /// A bit for each; those from the 63rd on share the last one, so that they are all in it or none is.
    bits: u64,
}

fn bit(index: IndexId) -> u64 {
    1 << u32::from(index.0).min(u64::BITS - 1)
}

impl IndexSet {
    /// All of them.
    pub const ALL: Self = Self { bits: u64::MAX };

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether this one is.
    #[must_use]
    pub fn contains(self, index: IndexId) -> bool {
        self.bits & bit(index) != 0
    }

    /// Those of either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits }
    }

    /// Those that are not in the other.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self { bits: self.bits & !other.bits }
    }
}

impl FromIterator<IndexId> for IndexSet {
    fn from_iter<T: IntoIterator<Item = IndexId>>(indexes: T) -> Self {
        Self { bits: indexes.into_iter().fold(0, |bits, index| bits | bit(index)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_set() {
        let some: IndexSet = [IndexId(0), IndexId(7)].into_iter().collect();
        assert!(some.contains(IndexId(0)) && some.contains(IndexId(7)) && !some.contains(IndexId(1)));
        assert!(IndexSet::ALL.contains(IndexId(62)) && IndexSet::ALL.contains(IndexId(900)));
        let rest = IndexSet::ALL.without(some);
        assert!(!rest.contains(IndexId(7)) && rest.contains(IndexId(6)) && rest.contains(IndexId(900)));
        assert_eq!(rest.and(some), IndexSet::ALL);
        assert!(some.without(some).is_empty() && IndexSet::default().is_empty() && !some.is_empty());
        // Without a bit of its own.
        let high: IndexSet = [IndexId(64)].into_iter().collect();
        assert!(high.contains(IndexId(64)) && high.contains(IndexId(63)) && !high.contains(IndexId(62)));
    }
}
