//! A set of sequences, in the form that suits its size.
//!
//! Most index keys belong to one record, some to a few, few to many. One is kept inline, up to
//! [`FEW_MAX`] in a sorted vector, more in a compressed bitmap.

use roaring::RoaringTreemap;

/// Sequences kept in a vector at the most. A bitmap has a part of about 50 bytes for every 65,536 records of the table in
/// which the set has any: at 1,000,000 records it is smaller than a vector for sets that are larger than this.
const FEW_MAX: usize = 128;

/// A bitmap that shrinks to this size becomes a vector again; lower than [`FEW_MAX`] so that a set that grows and
/// shrinks around the limit is not converted each time.
const FEW_AGAIN: u64 = 64;

/// A set of sequences; may be empty only between calls of its owner.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Posting {
    One(u64),
    Few(Vec<u64>),
    Many(Box<RoaringTreemap>),
}

impl Posting {
    pub(crate) const EMPTY: Self = Self::Few(Vec::new());

    /// Adds a sequence; whether it was absent.
    pub(crate) fn insert(&mut self, sequence: u64) -> bool {
        match self {
            Self::One(held) if *held == sequence => false,
            Self::One(held) => {
                *self = Self::Few(vec![sequence.min(*held), sequence.max(*held)]);
                true
            }
            Self::Few(held) => match held.binary_search(&sequence) {
                Ok(_) => false,
                Err(_) if held.is_empty() => {
                    *self = Self::One(sequence);
                    true
                }
                Err(_) if held.len() == FEW_MAX => {
                    let mut many = RoaringTreemap::from_iter(held.iter().copied());
                    many.insert(sequence);
                    *self = Self::Many(Box::new(many));
                    true
                }
                Err(place) => {
                    held.insert(place, sequence);
                    true
                }
            },
            Self::Many(held) => held.insert(sequence),
        }
    }

    /// Adds sequences that ascend. Those above all that it holds are added without being looked for.
    pub(crate) fn append(&mut self, mut sequences: impl Iterator<Item = u64> + Clone) {
        loop {
            if let Self::Many(held) = self {
                if held.append(sequences.clone()).is_err() {
                    held.extend(sequences);
                }
                return;
            }
            let Some(sequence) = sequences.next() else { return };
            self.insert(sequence);
        }
    }

    /// Takes a sequence out; whether it was present.
    pub(crate) fn remove(&mut self, sequence: u64) -> bool {
        match self {
            Self::One(held) if *held == sequence => {
                *self = Self::EMPTY;
                true
            }
            Self::One(_) => false,
            Self::Few(held) => match held.binary_search(&sequence) {
                Ok(place) => {
                    held.remove(place);
                    if let [last] = held[..] {
                        *self = Self::One(last);
                    }
                    true
                }
                Err(_) => false,
            },
            Self::Many(held) => {
                let removed = held.remove(sequence);
                if removed && held.len() <= FEW_AGAIN {
                    *self = Self::Few(held.iter().collect());
                }
                removed
            }
        }
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        match self {
            Self::One(held) => *held == sequence,
            Self::Few(held) => held.binary_search(&sequence).is_ok(),
            Self::Many(held) => held.contains(sequence),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Few(held) => held.len() as u64,
            Self::Many(held) => held.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Few(held) => held.is_empty(),
            Self::Many(held) => held.is_empty(),
        }
    }

    /// The sequences above `after`, ascending.
    pub(crate) fn above(&self, after: u64) -> Above<'_> {
        match self {
            Self::One(held) => Above::Few(std::slice::from_ref(held).get(usize::from(*held <= after)..).unwrap_or(&[])),
            Self::Few(held) => Above::Few(&held[held.partition_point(|sequence| *sequence <= after)..]),
            Self::Many(held) => {
                let mut iterator = held.iter();
                if let Some(first) = after.checked_add(1) {
                    iterator.advance_to(first);
                } else {
                    return Above::Few(&[]);
                }
                Above::Many(Box::new(iterator))
            }
        }
    }
}

/// Ascending sequences of a posting.
pub(crate) enum Above<'a> {
    Few(&'a [u64]),
    Many(Box<roaring::treemap::Iter<'a>>),
}

impl Iterator for Above<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Few(rest) => {
                let (first, tail) = rest.split_first()?;
                *rest = tail;
                Some(*first)
            }
            Self::Many(iterator) => iterator.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_set(operations in proptest::collection::vec((0..8, 0_u64..300), 0..1_600), after in 0_u64..310) {
            let mut posting = Posting::EMPTY;
            let mut model = BTreeSet::new();
            let count = operations.len();
            for (place, (kind, number)) in operations.into_iter().enumerate() {
                // It grows beyond what is kept in a vector, and shrinks again.
                let insert = (kind == 0) == (place > count / 2);
                // Spread over several containers of the bitmap, and over the 32-bit boundary.
                let sequence = number * 77_777_777;
                if insert {
                    prop_assert_eq!(posting.insert(sequence), model.insert(sequence));
                } else {
                    prop_assert_eq!(posting.remove(sequence), model.remove(&sequence));
                }
                prop_assert_eq!(posting.len(), model.len() as u64);
                prop_assert_eq!(posting.is_empty(), model.is_empty());
                prop_assert_eq!(posting.contains(sequence), insert);
            }
            let after = after * 77_777_777 - after.min(1);
            let above: Vec<u64> = posting.above(after).collect();
            let expected: Vec<u64> = model.range(after + 1..).copied().collect();
            prop_assert_eq!(above, expected);
        }
    }

    proptest! {
        #[test]
        fn appending_is_inserting_each(pieces in proptest::collection::vec(proptest::collection::btree_set(0_u64..300, 0..80), 0..6)) {
            // Pieces that lie behind one another, as in a store that is read, and pieces that overlap.
            for distance in [300, 40] {
                let (mut appended, mut inserted) = (Posting::EMPTY, Posting::EMPTY);
                for (place, piece) in pieces.iter().enumerate() {
                    let sequences = piece.iter().map(|number| (number + place as u64 * distance) * 20_000_000);
                    for sequence in sequences.clone() {
                        inserted.insert(sequence);
                    }
                    appended.append(sequences);
                }
                prop_assert_eq!(appended, inserted);
            }
        }
    }

    #[test]
    fn nothing_is_above_the_last_number() {
        let mut posting = Posting::EMPTY;
        for sequence in 0..300 {
            posting.insert(u64::MAX - sequence);
        }
        assert_eq!(posting.above(u64::MAX).count(), 0);
        assert_eq!(posting.above(u64::MAX - 1).collect::<Vec<_>>(), [u64::MAX]);
    }
}
