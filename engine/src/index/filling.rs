//! Fills the indexes of a table with many records at once.
//!
//! The keys of many records are collected by index first. So whoever has time fills an index, beside others that fill other ones;
//! what fills it goes through the memory of this one index in the order of its addresses; and a set takes all records that carry
//! its key in one go.

use super::index_set::IndexSet;
use super::key_map::KeyMap;
use super::keys::{KeyRange, Keys};
use super::posting::Posting;
use super::table_indexes::{Index, Postings, TableIndexes};
use crate::ids::Sequence;
use crate::sharded_table::{hash_of, order_of};
use crate::table::{IndexKind, RecordDecodeError, TableDefinition};

/// Bytes of keys from which on a buffer is not kept for later ones.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// The keys of records of one table, by index. The buffers are kept from use to use.
#[derive(Debug, Default)]
pub(crate) struct KeysOfMany {
    /// Of one record.
    keys: Keys,
    bytes: Vec<u8>,
    /// Of each record, ascending.
    sequences: Vec<u64>,
    /// `indexes[i]` belongs to `definition.indexes[i]`.
    indexes: Vec<KeysOfIndex>,
}

/// The keys that records carry in one index.
#[derive(Debug, Default)]
pub(crate) struct KeysOfIndex {
    /// Each with the record that carries it and its place in the bytes; ascending by record, distinct in each.
    keys: Vec<(u64, KeyRange)>,
    /// By the place of the key in the index, and its number in `keys`.
    order: Vec<(u64, usize)>,
    /// How many keys a record carries.
    counts: Vec<(u32, u64)>,
    numbers: Vec<(i64, u64)>,
}

/// Something that fills one of the indexes of a table, and has nothing to do with what fills the others.
pub(crate) enum Part<'a> {
    /// The set of all records.
    All(&'a mut Posting, &'a [u64]),
    /// An index.
    Index {
        /// The index.
        index: &'a mut Index,
        /// What its records carry.
        keys: &'a mut KeysOfIndex,
        /// What the keys lie in.
        bytes: &'a [u8],
    },
}

impl KeysOfMany {
    /// Itself, to be used again, unless what it has held is not worth being kept.
    pub(crate) fn unless_large(self) -> Self {
        if self.bytes.capacity() <= KEPT_BYTES_MAX { self } else { Self::default() }
    }

    /// Forgets all records; the next ones are of this table.
    pub(crate) fn clear(&mut self, definition: &'static TableDefinition) {
        self.bytes.clear();
        self.sequences.clear();
        self.indexes.resize_with(definition.indexes.len(), KeysOfIndex::default);
        self.indexes.iter_mut().for_each(KeysOfIndex::clear);
    }

    /// Takes the keys of a record with a higher number than those before it.
    ///
    /// # Errors
    /// When the body cannot be read; nothing has changed then.
    pub(crate) fn collect(
        &mut self,
        definition: &'static TableDefinition,
        sequence: Sequence,
        body: &[u8],
    ) -> Result<(), RecordDecodeError> {
        self.keys.collect(definition, IndexSet::ALL, Some(body))?;
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(&self.keys.bytes);
        for (index, range) in &self.keys.keys {
            self.indexes[usize::from(index.0)].keys.push((sequence.0, begin + range.start..begin + range.end));
        }
        for (index, keys) in definition.indexes.iter().zip(&mut self.indexes) {
            match index.kind {
                IndexKind::CountedSet => {
                    let count = self.keys.count(index.id);
                    keys.counts.extend((count > 0).then_some((count, sequence.0)));
                }
                IndexKind::Ordered => {
                    keys.numbers.extend(self.keys.number_of(index.id).map(|number| (number, sequence.0)));
                }
                IndexKind::Unique | IndexKind::Set => {}
            }
        }
        self.sequences.push(sequence.0);
        Ok(())
    }

    /// The last of its records.
    pub(crate) fn last(&self) -> Option<Sequence> {
        self.sequences.last().copied().map(Sequence)
    }
}

impl KeysOfIndex {
    fn clear(&mut self) {
        self.keys.clear();
        self.order.clear();
        self.counts.clear();
        self.numbers.clear();
    }

    /// Puts the keys in the order in which a map holds them, equal ones next to one another, by record.
    fn sort<V>(&mut self, map: &KeyMap<V>, bytes: &[u8]) {
        let places = self.keys.iter().map(|(_, key)| order_of(map.hash(&bytes[key.clone()])));
        self.order.extend(places.zip(0..));
        self.order.sort_unstable();
    }

    fn fill_unique(&mut self, map: &mut KeyMap<u64>, bytes: &[u8]) {
        self.sort(map, bytes);
        for (place, number) in &self.order {
            let (sequence, key) = &self.keys[*number];
            map.change_or_insert_hashed(hash_of(*place), &bytes[key.clone()], |held| *held = *sequence, || *sequence);
        }
    }

    fn fill_set(&mut self, map: &mut Postings, bytes: &[u8]) {
        self.sort(map, bytes);
        let key_of = |number: usize| &bytes[self.keys[number].1.clone()];
        // Keys whose hashes are the same need not be.
        let is_same = |one: &(u64, usize), other: &(u64, usize)| one.0 == other.0 && key_of(one.1) == key_of(other.1);
        for same in self.order.chunk_by(is_same) {
            let [(place, first), ..] = same else { continue };
            let sequences = same.iter().map(|(_, number)| self.keys[*number].0);
            let make = || {
                let mut posting = Posting::default();
                posting.append(sequences.clone());
                posting
            };
            map.change_or_insert_hashed(
                hash_of(*place),
                key_of(*first),
                |posting| posting.append(sequences.clone()),
                make,
            );
        }
    }
}

impl TableIndexes {
    /// Follows records that are made, as [`TableIndexes::apply`] follows each of them in turn, whatever is there already.
    /// Ascending by number; `many` is for use meanwhile.
    ///
    /// One index after the other takes all of them, so that keys that are in no cache are waited for together, and a set that
    /// many of them belong to is looked for once.
    ///
    /// # Errors
    /// When a body cannot be read; nothing has changed then.
    pub(crate) fn create<'a>(
        &mut self,
        many: &mut KeysOfMany,
        created: impl Iterator<Item = (Sequence, &'a [u8])>,
    ) -> Result<(), RecordDecodeError> {
        let definition = self.definition();
        many.clear(definition);
        for (sequence, body) in created {
            many.collect(definition, sequence, body)?;
        }
        self.parts(many).for_each(Part::fill);
        Ok(())
    }

    /// What puts records into the indexes. Those that come behind all that are there take least.
    pub(crate) fn parts<'a>(&'a mut self, many: &'a mut KeysOfMany) -> impl Iterator<Item = Part<'a>> {
        let KeysOfMany { bytes, sequences, indexes, .. } = many;
        let bytes = &bytes[..];
        let parts = self.indexes.iter_mut().zip(indexes);
        let parts = parts.map(move |(index, keys)| Part::Index { index, keys, bytes });
        parts.chain([Part::All(&mut self.all, sequences)])
    }
}

impl Part<'_> {
    /// How much there is to do, to be compared with that of others.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::All(_, sequences) => sequences.len() / 8,
            Self::Index { keys, .. } => keys.keys.len() + keys.numbers.len(),
        }
    }

    /// Does it.
    pub(crate) fn fill(self) {
        match self {
            Self::All(all, sequences) => all.append(sequences.iter().copied()),
            Self::Index { index, keys, bytes } => index.fill(keys, bytes),
        }
    }
}

impl Index {
    fn fill(&mut self, keys: &mut KeysOfIndex, bytes: &[u8]) {
        match self {
            Self::Unique(map) => keys.fill_unique(map, bytes),
            Self::Set(map) | Self::CountedSet { keys: map, .. } => keys.fill_set(map, bytes),
            Self::Ordered { .. } => {
                keys.numbers.iter().for_each(|(number, sequence)| self.renumber(*sequence, None, Some(*number)));
            }
        }
        if let Self::CountedSet { by_count, .. } = self {
            keys.counts.sort_unstable();
            for same in keys.counts.chunk_by(|one, other| one.0 == other.0) {
                let posting = by_count.entry(same[0].0).or_default();
                posting.append(same.iter().map(|(_, sequence)| *sequence));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::{IndexId, TableId};
    use crate::table::{IndexDefinition, KeySink};

    /// Body: unique key, due number, and tags, which may come twice.
    static TABLE: TableDefinition = TableDefinition {
        id: TableId(1),
        name: "items",
        indexes: &[
            IndexDefinition { id: IndexId(0), name: "name", kind: IndexKind::Unique },
            IndexDefinition { id: IndexId(1), name: "tags", kind: IndexKind::CountedSet },
            IndexDefinition { id: IndexId(2), name: "first tag", kind: IndexKind::Set },
            IndexDefinition { id: IndexId(3), name: "due", kind: IndexKind::Ordered },
        ],
        keys: item_keys,
        secret: false,
    };

    fn item_keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
        let [name_high, name_low, due, tags @ ..] = body else {
            return Err(RecordDecodeError::Malformed { table: "items", detail: "short".into() });
        };
        keys.key(IndexId(0), &[*name_high, *name_low]);
        tags.iter().for_each(|tag| keys.key(IndexId(1), &[*tag]));
        tags.iter().take(1).for_each(|tag| keys.key(IndexId(2), &[*tag]));
        if *due > 0 {
            keys.number(IndexId(3), i64::from(*due));
        }
        Ok(())
    }

    /// All that an index holds.
    #[derive(Debug, PartialEq)]
    enum Content {
        Unique(BTreeMap<Vec<u8>, u64>),
        Set(BTreeMap<Vec<u8>, Posting>, BTreeMap<u32, Posting>),
        Ordered(Vec<(i64, u64)>, BTreeMap<u64, i64>),
    }

    fn content(indexes: &TableIndexes) -> (Posting, Vec<Content>) {
        let of = |index: &Index| match index {
            Index::Unique(keys) => Content::Unique(keys.iter().map(|(key, held)| (key.to_vec(), *held)).collect()),
            Index::Set(keys) => Content::Set(postings(keys), BTreeMap::new()),
            Index::CountedSet { keys, by_count } => Content::Set(postings(keys), by_count.clone()),
            Index::Ordered { ascending, of } => {
                Content::Ordered(ascending.iter().copied().collect(), of.iter().collect())
            }
        };
        (indexes.all.clone(), indexes.indexes.iter().map(of).collect())
    }

    fn postings(keys: &Postings) -> BTreeMap<Vec<u8>, Posting> {
        keys.iter().map(|(key, posting)| (key.to_vec(), posting.clone())).collect()
    }

    proptest! {
        #[test]
        fn filling_with_many_is_applying_each(
            pieces in proptest::collection::vec(proptest::collection::vec((1_u64..4, 0_u8..5, proptest::collection::vec(0_u8..6, 0..4)), 0..90), 1..6),
        ) {
            let (mut filled, mut applied) = (TableIndexes::new(&TABLE), TableIndexes::new(&TABLE));
            let (mut sequence, mut many) = (0, KeysOfMany::default());
            for piece in &pieces {
                many.clear(&TABLE);
                for (step, due, tags) in piece {
                    sequence += step;
                    let name = u16::try_from(sequence).unwrap().to_be_bytes();
                    let body = [&name[..], &[*due], tags].concat();
                    many.collect(&TABLE, Sequence(sequence), &body).unwrap();
                    applied.apply(Sequence(sequence), None, Some(&body)).unwrap();
                }
                filled.parts(&mut many).for_each(Part::fill);
            }
            prop_assert_eq!(content(&filled), content(&applied));
        }
    }

    /// Name, due number and tags, few enough to be there several times.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let body = (0_u8..3, 0_u8..12, 0_u8..5, proptest::collection::vec(0_u8..6, 0..4));
        body.prop_map(|(high, low, due, tags)| [&[high, low, due], &tags[..]].concat())
    }

    proptest! {
        #[test]
        fn creating_many_is_applying_each_whatever_is_there(
            before in proptest::collection::btree_map(1_u64..400, (bodies(), any::<bool>()), 0..300),
            created in proptest::collection::vec(proptest::collection::btree_map(1_u64..500, bodies(), 0..60), 1..4),
        ) {
            let (mut together, mut applied) = (TableIndexes::new(&TABLE), TableIndexes::new(&TABLE));
            for indexes in [&mut together, &mut applied] {
                for (sequence, (body, _)) in &before {
                    indexes.apply(Sequence(*sequence), None, Some(body)).unwrap();
                }
                for (sequence, (body, _)) in before.iter().filter(|(_, (_, is_removed))| *is_removed) {
                    indexes.apply(Sequence(*sequence), Some(body), None).unwrap();
                }
            }
            let mut many = KeysOfMany::default();
            for created in &created {
                let bodies = created.iter().map(|(sequence, body)| (Sequence(*sequence), &body[..]));
                for (sequence, body) in bodies.clone() {
                    applied.apply(sequence, None, Some(body)).unwrap();
                }
                together.create(&mut many, bodies).unwrap();
            }
            prop_assert_eq!(content(&together), content(&applied));
        }
    }

    #[test]
    fn records_are_not_made_when_one_of_them_cannot_be_read() {
        let (mut indexes, mut many) = (TableIndexes::new(&TABLE), KeysOfMany::default());
        indexes.apply(Sequence(1), None, Some(&[0, 1, 2, 3])).unwrap();
        let before = content(&indexes);
        let created = [(Sequence(2), &[0, 2, 2, 3][..]), (Sequence(3), &[0]), (Sequence(4), &[0, 4, 2, 3])];
        assert!(indexes.create(&mut many, created.into_iter()).is_err());
        assert_eq!(content(&indexes), before);
        indexes.create(&mut many, created.into_iter().filter(|(_, body)| body.len() > 1)).unwrap();
        assert_eq!(indexes.all.above(0).collect::<Vec<_>>(), [1, 2, 4]);
    }

    #[test]
    fn a_body_that_cannot_be_read_changes_nothing() {
        let (mut indexes, mut many) = (TableIndexes::new(&TABLE), KeysOfMany::default());
        many.clear(&TABLE);
        many.collect(&TABLE, Sequence(1), &[0, 1, 2, 3]).unwrap();
        assert!(many.collect(&TABLE, Sequence(2), &[0]).is_err());
        indexes.parts(&mut many).for_each(Part::fill);
        let mut applied = TableIndexes::new(&TABLE);
        applied.apply(Sequence(1), None, Some(&[0, 1, 2, 3])).unwrap();
        assert_eq!(content(&indexes), content(&applied));
    }
}
