//! What can be asked of a table: a conjunction of predicates, each answered by one index.

use super::index_set::IndexSet;
use crate::ids::{IndexId, Sequence};

/// All predicates must hold; none at all selects every record. Results come in sequence (creation) order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The conjunction.
    pub predicates: Vec<Predicate>,
}

/// One condition on a record. Duplicate keys in a list count once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Predicate {
    /// The record carries the key.
    Is {
        /// A unique or set index.
        index: IndexId,
        /// The key.
        key: Vec<u8>,
    },
    /// The record carries at least one of the keys.
    AnyOf {
        /// A unique or set index.
        index: IndexId,
        /// The keys.
        keys: Vec<Vec<u8>>,
    },
    /// The record carries all of the keys, and maybe more (superset).
    AllOf {
        /// A set index.
        index: IndexId,
        /// The keys; not empty.
        keys: Vec<Vec<u8>>,
    },
    /// The record carries at least one key, and none but these (subset).
    OnlyOf {
        /// A counted set index.
        index: IndexId,
        /// The keys; not empty.
        keys: Vec<Vec<u8>>,
    },
    /// The record carries exactly these keys.
    Exactly {
        /// A counted set index.
        index: IndexId,
        /// The keys; not empty.
        keys: Vec<Vec<u8>>,
    },
    /// The record's number is below this one (exclusive).
    Below {
        /// An ordered index.
        index: IndexId,
        /// The bound.
        number: i64,
    },
    /// The record's number is this one or above.
    AtLeast {
        /// An ordered index.
        index: IndexId,
        /// The bound.
        number: i64,
    },
    /// The record is one of these, as found through another table. Numbers that no record of the table has are
    /// passed over.
    Among {
        /// Ascending, without duplicates; empty selects nothing.
        sequences: Vec<Sequence>,
    },
}

impl Predicate {
    /// The index that answers it, unless that is the set of all records.
    fn index(&self) -> Option<IndexId> {
        match self {
            Self::Is { index, .. }
            | Self::AnyOf { index, .. }
            | Self::AllOf { index, .. }
            | Self::OnlyOf { index, .. }
            | Self::Exactly { index, .. }
            | Self::Below { index, .. }
            | Self::AtLeast { index, .. } => Some(*index),
            Self::Among { .. } => None,
        }
    }
}

impl Query {
    /// Every record of the table.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn and(mut self, predicate: Predicate) -> Self {
        self.predicates.push(predicate);
        self
    }

    /// The indexes that answer it.
    #[must_use]
    pub fn indexes(&self) -> IndexSet {
        self.predicates.iter().filter_map(Predicate::index).collect()
    }
}
