//! Fills the indexes of a table with many records at once.
//!
//! The keys of many records are collected by index first. So whoever has time fills an index, beside others that fill other ones;
//! what fills it goes through the memory of this one index in the order of its addresses; and a set takes all records that carry
//! its key in one go.

use super::key_map::KeyMap;
use super::keys::{KeyRange, Keys};
use super::posting::Posting;
use super::table_indexes::{Index, Postings, TableIndexes};
use crate::ids::Sequence;
use crate::table::{IndexKind, RecordDecodeError, TableDefinition};

/// A map is made larger for records that are expected to come only when they are at most so many times those that have come.
/// So records that are missing at the end of a table do not leave it thinly spread over a lot of memory.
const EXPECTED_TIMES_MAX: u64 = 7;

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
        /// What is yet to come.
        expected: Expected,
    },
}

/// How many records are going to come after those of a piece.
#[derive(Clone, Copy)]
pub(crate) struct Expected {
    records: u64,
    remaining: u64,
}

impl KeysOfMany {
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
        self.keys.collect(definition, Some(body))?;
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
        let bits = map.place_bits();
        let places = self.keys.iter().map(|(_, key)| map.hash(&bytes[key.clone()]).rotate_right(bits));
        self.order.extend(places.zip(0..));
        self.order.sort_unstable();
    }

    fn fill_unique(&mut self, map: &mut KeyMap<u64>, bytes: &[u8]) {
        self.sort(map, bytes);
        let bits = map.place_bits();
        for (place, number) in &self.order {
            let (sequence, key) = &self.keys[*number];
            let hash = place.rotate_left(bits);
            map.change_or_insert_hashed(hash, &bytes[key.clone()], |held| *held = *sequence, || *sequence);
        }
    }

    fn fill_set(&mut self, map: &mut Postings, bytes: &[u8]) {
        self.sort(map, bytes);
        let bits = map.place_bits();
        let key_of = |number: usize| &bytes[self.keys[number].1.clone()];
        // Keys whose hashes are the same need not be.
        let is_same = |one: &(u64, usize), other: &(u64, usize)| one.0 == other.0 && key_of(one.1) == key_of(other.1);
        for same in self.order.chunk_by(is_same) {
            let [(place, first), ..] = same else { continue };
            let sequences = same.iter().map(|(_, number)| self.keys[*number].0);
            let make = || {
                let mut posting = Posting::EMPTY;
                posting.append(sequences.clone());
                posting
            };
            let hash = place.rotate_left(bits);
            map.change_or_insert_hashed(hash, key_of(*first), |posting| posting.append(sequences.clone()), make);
        }
    }
}

impl TableIndexes {
    /// What puts records into the indexes that are not in them yet, and come behind all that are. `last` is the last one that
    /// the table ever had.
    pub(crate) fn parts<'a>(&'a mut self, many: &'a mut KeysOfMany, last: Sequence) -> impl Iterator<Item = Part<'a>> {
        let KeysOfMany { bytes, sequences, indexes, .. } = many;
        let (bytes, expected) = (&bytes[..], Expected::after(self.len(), sequences, last));
        let parts = self.indexes.iter_mut().zip(indexes);
        let parts = parts.map(move |(index, keys)| Part::Index { index, keys, bytes, expected });
        parts.chain([Part::All(&mut self.all, sequences)])
    }
}

impl Expected {
    /// There were `before` records and come those with these numbers; `last` is the last number that was given to any.
    fn after(before: u64, sequences: &[u64], last: Sequence) -> Self {
        let records = sequences.len() as u64;
        let (so_far, reached) = (before.saturating_add(records), sequences.last().copied().unwrap_or_default());
        let numbers = u128::from(last.0.saturating_sub(reached));
        // As many of the numbers to come belong to a record as of those so far.
        let remaining = numbers * u128::from(so_far) / u128::from(reached.max(1));
        let remaining = u64::try_from(remaining).unwrap_or(u64::MAX);
        let is_certain = remaining <= so_far.saturating_mul(EXPECTED_TIMES_MAX);
        Self { records, remaining: if is_certain { remaining } else { 0 } }
    }

    /// Makes room in a map, which had `before` keys before the records, for as many keys as the records to come will bring.
    fn make_room<V>(self, map: &mut KeyMap<V>, before: usize) {
        let added = (map.len() - before) as u64;
        let keys = added.saturating_mul(self.remaining) / self.records.max(1);
        map.reserve(usize::try_from(keys).unwrap_or_default());
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
            Self::Index { index, keys, bytes, expected } => index.fill(keys, bytes, expected),
        }
    }
}

impl Index {
    fn fill(&mut self, keys: &mut KeysOfIndex, bytes: &[u8], expected: Expected) {
        match self {
            Self::Unique(map) => {
                let before = map.len();
                keys.fill_unique(map, bytes);
                expected.make_room(map, before);
            }
            Self::Set(map) | Self::CountedSet { keys: map, .. } => {
                let before = map.len();
                keys.fill_set(map, bytes);
                expected.make_room(map, before);
            }
            Self::Ordered { .. } => {
                keys.numbers.iter().for_each(|(number, sequence)| self.renumber(*sequence, None, Some(*number)));
            }
        }
        if let Self::CountedSet { by_count, .. } = self {
            keys.counts.sort_unstable();
            for same in keys.counts.chunk_by(|one, other| one.0 == other.0) {
                let posting = by_count.entry(same[0].0).or_insert(Posting::EMPTY);
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
                Content::Ordered(ascending.iter().copied().collect(), of.iter().map(|(k, v)| (*k, *v)).collect())
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
            beyond in 0_u64..2_000,
        ) {
            let (mut filled, mut applied) = (TableIndexes::new(&TABLE), TableIndexes::new(&TABLE));
            let records: u64 = pieces.iter().flatten().map(|(step, ..)| *step).sum();
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
                filled.parts(&mut many, Sequence(records + beyond)).for_each(Part::fill);
            }
            prop_assert_eq!(content(&filled), content(&applied));
        }
    }

    #[test]
    fn a_body_that_cannot_be_read_changes_nothing() {
        let (mut indexes, mut many) = (TableIndexes::new(&TABLE), KeysOfMany::default());
        many.clear(&TABLE);
        many.collect(&TABLE, Sequence(1), &[0, 1, 2, 3]).unwrap();
        assert!(many.collect(&TABLE, Sequence(2), &[0]).is_err());
        indexes.parts(&mut many, Sequence(2)).for_each(Part::fill);
        let mut applied = TableIndexes::new(&TABLE);
        applied.apply(Sequence(1), None, Some(&[0, 1, 2, 3])).unwrap();
        assert_eq!(content(&indexes), content(&applied));
    }

    #[test]
    fn room_is_made_for_what_is_nearly_certain_to_come() {
        let remaining = |before, sequences: &[u64], last| Expected::after(before, sequences, Sequence(last)).remaining;
        assert_eq!(remaining(98, &[99, 100], 300), 200, "all numbers belong to a record");
        assert_eq!(remaining(48, &[99, 100], 300), 100, "every second one does");
        assert_eq!(remaining(98, &[99, 100], 800), 700);
        assert_eq!(remaining(98, &[99, 100], 801), 0, "too many to count on");
        assert_eq!(remaining(98, &[99, 100], 50), 0, "nothing is known of later ones");
        assert_eq!(remaining(0, &[], u64::MAX), 0);
        assert_eq!(remaining(u64::MAX, &[u64::MAX], u64::MAX), 0);
    }
}
