//! All indexes of one table in one namespace, kept in step with its records.

use std::collections::{BTreeMap, BTreeSet};

use super::index_set::IndexSet;
use super::key_map::KeyMap;
use super::keys::Keys;
use super::number_map::NumberMap;
use super::posting::Posting;
use crate::ids::{IndexId, Sequence};
use crate::table::{IndexKind, RecordDecodeError, TableDefinition};

/// Keys to the set of sequences that carry them.
pub(crate) type Postings = KeyMap<Posting>;

/// The indexes of one table of one namespace.
#[derive(Debug)]
pub struct TableIndexes {
    definition: &'static TableDefinition,
    /// Every live record. Invariant: a sequence is in some index only if it is in here.
    pub(crate) all: Posting,
    /// `indexes[i]` belongs to `definition.indexes[i]`.
    pub(super) indexes: Vec<Index>,
    /// Kept from change to change.
    buffers: Buffers,
}

/// The keys of one record before and after a change.
#[derive(Debug, Default)]
struct Buffers {
    before: Keys,
    after: Keys,
}

/// One index.
#[derive(Debug)]
pub(crate) enum Index {
    Unique(KeyMap<u64>),
    Set(Postings),
    CountedSet {
        keys: Postings,
        /// How many distinct keys a record carries, to the records that carry so many.
        by_count: BTreeMap<u32, Posting>,
    },
    Ordered {
        ascending: BTreeSet<(i64, u64)>,
        of: NumberMap,
    },
}

impl TableIndexes {
    /// Indexes of a table without records.
    #[must_use]
    pub fn new(definition: &'static TableDefinition) -> Self {
        let indexes = definition.indexes.iter().map(|index| Index::new(index.kind)).collect();
        Self { definition, all: Posting::default(), indexes, buffers: Buffers::default() }
    }

    pub(super) fn definition(&self) -> &'static TableDefinition {
        self.definition
    }

    /// Follows one record from one body to another; `None` is absence.
    ///
    /// # Errors
    /// When a body cannot be read; nothing has changed then.
    pub fn apply(
        &mut self,
        sequence: Sequence,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), RecordDecodeError> {
        self.apply_to(IndexSet::ALL, sequence, before, after)
    }

    /// As [`TableIndexes::apply`], in some of the indexes and in the set of all records. Whoever asks the others must not
    /// expect the record there.
    ///
    /// # Errors
    /// When a body cannot be read; nothing has changed then.
    pub fn apply_to(
        &mut self,
        some: IndexSet,
        sequence: Sequence,
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<(), RecordDecodeError> {
        let mut keys = std::mem::take(&mut self.buffers);
        let collected = keys.before.collect(self.definition, some, before);
        let collected = collected.and_then(|()| keys.after.collect(self.definition, some, after));
        if collected.is_ok() {
            self.follow(sequence, &keys.before, &keys.after, after.is_some());
        }
        self.buffers = keys;
        collected
    }

    /// Follows one record from some keys to others, both in the same indexes unless it has none of either; and whether it is
    /// there at all.
    pub(crate) fn follow(&mut self, sequence: Sequence, before: &Keys, after: &Keys, is_there: bool) {
        for (index, key) in before.keys.iter().filter(|key| !after.holds(key, before)) {
            self.indexes[usize::from(index.0)].remove(before.bytes_of(key), sequence.0);
        }
        for (index, key) in after.keys.iter().filter(|key| !before.holds(key, after)) {
            self.indexes[usize::from(index.0)].insert(after.bytes_of(key), sequence.0);
        }
        for (definition, index) in self.definition.indexes.iter().zip(&mut self.indexes) {
            let id = definition.id;
            match definition.kind {
                IndexKind::CountedSet => index.recount(sequence.0, before.count(id), after.count(id)),
                IndexKind::Ordered => index.renumber(sequence.0, before.number_of(id), after.number_of(id)),
                IndexKind::Unique | IndexKind::Set => {}
            }
        }
        if is_there {
            self.all.insert(sequence.0)
        } else {
            self.all.remove(sequence.0)
        };
    }

    /// The keys of a body in some of the indexes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn keys_of(&self, some: IndexSet, body: Option<&[u8]>) -> Result<Keys, RecordDecodeError> {
        let mut keys = Keys::default();
        keys.collect(self.definition, some, body)?;
        Ok(keys)
    }

    /// Records in the table.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.all.len()
    }

    /// Whether the table has no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The record that has `key` in a unique index.
    #[must_use]
    pub fn find(&self, index: IndexId, key: &[u8]) -> Option<Sequence> {
        match self.index(index) {
            Some(Index::Unique(keys)) => keys.get(key).copied().map(Sequence),
            _ => None,
        }
    }

    /// The numbers below `below` in an ordered index and the records that stand there, lowest first.
    pub fn lowest(&self, index: IndexId, below: i64) -> impl Iterator<Item = (i64, Sequence)> {
        let ascending = match self.index(index) {
            Some(Index::Ordered { ascending, .. }) => Some(ascending.range(..(below, 0))),
            _ => None,
        };
        ascending.into_iter().flatten().map(|(number, sequence)| (*number, Sequence(*sequence)))
    }

    /// Keys and postings of every index, for size figures: name, keys, entries.
    pub fn sizes(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.definition.indexes.iter().zip(&self.indexes).map(|(definition, index)| (definition.name, index.keys()))
    }

    pub(crate) fn index(&self, index: IndexId) -> Option<&Index> {
        self.indexes.get(usize::from(index.0))
    }
}

impl Index {
    fn new(kind: IndexKind) -> Self {
        match kind {
            IndexKind::Unique => Self::Unique(KeyMap::default()),
            IndexKind::Set => Self::Set(KeyMap::default()),
            IndexKind::CountedSet => Self::CountedSet { keys: KeyMap::default(), by_count: BTreeMap::new() },
            IndexKind::Ordered => Self::Ordered { ascending: BTreeSet::new(), of: NumberMap::default() },
        }
    }

    fn keys(&self) -> usize {
        match self {
            Self::Unique(keys) => keys.len(),
            Self::Set(keys) | Self::CountedSet { keys, .. } => keys.len(),
            Self::Ordered { of, .. } => of.len(),
        }
    }

    fn insert(&mut self, key: &[u8], sequence: u64) {
        match self {
            Self::Unique(keys) => keys.change_or_insert(key, |held| *held = sequence, || sequence),
            Self::Set(keys) | Self::CountedSet { keys, .. } => {
                keys.change_or_insert(
                    key,
                    |posting| {
                        posting.insert(sequence);
                    },
                    || Posting::One(sequence),
                );
            }
            Self::Ordered { .. } => {}
        }
    }

    fn remove(&mut self, key: &[u8], sequence: u64) {
        match self {
            // Another record may have taken the key within the same event; then it is that record's.
            Self::Unique(keys) => keys.change_or_remove(key, |held| *held == sequence),
            Self::Set(keys) | Self::CountedSet { keys, .. } => keys.change_or_remove(key, |posting| {
                posting.remove(sequence);
                posting.is_empty()
            }),
            Self::Ordered { .. } => {}
        }
    }

    fn recount(&mut self, sequence: u64, before: u32, after: u32) {
        let Self::CountedSet { by_count, .. } = self else { return };
        if before == after {
            return;
        }
        if let Some(posting) = by_count.get_mut(&before) {
            posting.remove(sequence);
            if posting.is_empty() {
                by_count.remove(&before);
            }
        }
        if after > 0 {
            by_count.entry(after).or_default().insert(sequence);
        }
    }

    pub(super) fn renumber(&mut self, sequence: u64, before: Option<i64>, after: Option<i64>) {
        let Self::Ordered { ascending, of } = self else { return };
        if before == after {
            return;
        }
        if let Some(number) = before {
            ascending.remove(&(number, sequence));
            of.remove(sequence);
        }
        if let Some(number) = after {
            ascending.insert((number, sequence));
            of.insert(sequence, number);
        }
    }
}
