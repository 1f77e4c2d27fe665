//! A set of sequences, in the form that suits its size.
//!
//! Most index keys belong to one record, some to a few, few to many. One is kept inline, up to
//! [`FEW_MAX`] in a sorted vector, more in a compressed bitmap. There are millions of sets: one takes 16 bytes, and a number
//! in a vector four. Sets with numbers that are larger than those of almost any table are bitmaps from the second number on.

use roaring::RoaringTreemap;

/// Sequences kept in a vector at the most. A bitmap has a part of about 50 bytes for every 65,536 records of the table in
/// which the set has any: at 1,000,000 records it is smaller than a vector for sets of about 200 and more, and to add to a
/// vector moves half of it.
const FEW_MAX: usize = 128;

/// A bitmap that shrinks to this size becomes a vector again; lower than [`FEW_MAX`] so that a set that grows and
/// shrinks around the limit is not converted each time.
const FEW_AGAIN: u64 = 64;

/// A set of sequences.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Posting {
    /// In an index only between calls of its owner, which takes the key out then.
    #[default]
    Empty,
    One(u64),
    /// Where all are below 2^32.
    Few(Box<Few>),
    Many(Box<RoaringTreemap>),
}

const _: () = assert!(size_of::<Posting>() == 16);

/// Some sequences, ascending.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Few {
    sequences: Vec<u32>,
}

impl Few {
    /// The two in a vector, if there is room for them.
    fn two(one: u64, other: u64) -> Option<Box<Self>> {
        let sequences = vec![u32::try_from(one.min(other)).ok()?, u32::try_from(one.max(other)).ok()?];
        Some(Box::new(Self { sequences }))
    }

    /// Where a sequence is, or would be; the latter is none where it has no room.
    fn find(&self, sequence: u64) -> Result<usize, Option<usize>> {
        match u32::try_from(sequence) {
            Ok(sequence) => self.sequences.binary_search(&sequence).map_err(Some),
            Err(_) => Err(None),
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.sequences.iter().map(|sequence| u64::from(*sequence))
    }
}

impl Posting {
    /// Adds a sequence; whether it was absent.
    pub(crate) fn insert(&mut self, sequence: u64) -> bool {
        match self {
            Self::Empty => {
                *self = Self::One(sequence);
                true
            }
            Self::One(held) if *held == sequence => false,
            Self::One(held) => {
                *self = match Few::two(sequence, *held) {
                    Some(few) => Self::Few(few),
                    None => Self::Many(Box::new([sequence, *held].into_iter().collect())),
                };
                true
            }
            Self::Few(held) => match (held.find(sequence), u32::try_from(sequence)) {
                (Ok(_), _) => false,
                (Err(Some(place)), Ok(sequence)) if held.sequences.len() < FEW_MAX => {
                    held.sequences.insert(place, sequence);
                    true
                }
                (Err(_), _) => {
                    let mut many: RoaringTreemap = held.iter().collect();
                    many.insert(sequence);
                    *self = Self::Many(Box::new(many));
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
                *self = Self::Empty;
                true
            }
            Self::Empty | Self::One(_) => false,
            Self::Few(held) => match held.find(sequence) {
                Ok(place) => {
                    held.sequences.remove(place);
                    if let [last] = held.sequences[..] {
                        *self = Self::One(u64::from(last));
                    }
                    true
                }
                Err(_) => false,
            },
            Self::Many(held) => {
                let removed = held.remove(sequence);
                if removed && held.len() <= FEW_AGAIN {
                    self.become_few_again();
                }
                removed
            }
        }
    }

    fn become_few_again(&mut self) {
        let Self::Many(held) = self else { return };
        *self = match (held.min(), held.max()) {
            (Some(first), Some(last)) if first == last => Self::One(first),
            (Some(_), Some(last)) if u32::try_from(last).is_ok() => {
                // None is larger than the last one.
                let sequences = held.iter().map(|sequence| sequence as u32).collect();
                Self::Few(Box::new(Few { sequences }))
            }
            (Some(_), Some(_)) => return,
            (None, _) | (_, None) => Self::Empty,
        };
    }

    pub(crate) fn contains(&self, sequence: u64) -> bool {
        match self {
            Self::Empty => false,
            Self::One(held) => *held == sequence,
            Self::Few(held) => held.find(sequence).is_ok(),
            Self::Many(held) => held.contains(sequence),
        }
    }

    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::One(_) => 1,
            Self::Few(held) => held.sequences.len() as u64,
            Self::Many(held) => held.len(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::One(_) | Self::Few(_) => false,
            Self::Many(held) => held.is_empty(),
        }
    }

    /// The sequences above `after`, ascending.
    pub(crate) fn above(&self, after: u64) -> Above<'_> {
        match self {
            Self::Empty => Above::NOTHING,
            Self::One(held) => {
                Above::Wide(std::slice::from_ref(held).get(usize::from(*held <= after)..).unwrap_or(&[]))
            }
            Self::Few(held) => Above::Narrow(
                &held.sequences[held.sequences.partition_point(|sequence| u64::from(*sequence) <= after)..],
            ),
            Self::Many(held) => {
                let mut iterator = held.iter();
                if let Some(first) = after.checked_add(1) {
                    iterator.advance_to(first);
                } else {
                    return Above::NOTHING;
                }
                Above::Many(Box::new(iterator))
            }
        }
    }
}

/// Ascending sequences of a posting.
pub(crate) enum Above<'a> {
    Wide(&'a [u64]),
    Narrow(&'a [u32]),
    Many(Box<roaring::treemap::Iter<'a>>),
}

impl Above<'_> {
    pub(crate) const NOTHING: Self = Self::Wide(&[]);
}

impl Iterator for Above<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Wide(rest) => rest.split_off_first().copied(),
            Self::Narrow(rest) => rest.split_off_first().map(|sequence| u64::from(*sequence)),
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
        fn behaves_like_a_set(
            operations in proptest::collection::vec((0..8, 0_u64..300), 0..1_600),
            after in 0_u64..310,
            // Close together; over several containers of a bitmap; over the 32-bit boundary.
            factor in proptest::sample::select(&[1, 20_000, 77_777_777][..]),
        ) {
            let mut posting = Posting::default();
            let mut model = BTreeSet::new();
            let count = operations.len();
            for (place, (kind, number)) in operations.into_iter().enumerate() {
                // It grows beyond what is kept in a vector, and shrinks again.
                let insert = (kind == 0) == (place > count / 2);
                let sequence = number * factor;
                if insert {
                    prop_assert_eq!(posting.insert(sequence), model.insert(sequence));
                } else {
                    prop_assert_eq!(posting.remove(sequence), model.remove(&sequence));
                }
                prop_assert_eq!(posting.len(), model.len() as u64);
                prop_assert_eq!(posting.is_empty(), model.is_empty());
                prop_assert_eq!(posting.contains(sequence), insert);
            }
            let after = after * factor - after.min(1);
            let above: Vec<u64> = posting.above(after).collect();
            let expected: Vec<u64> = model.range(after + 1..).copied().collect();
            prop_assert_eq!(above, expected);
        }
    }

    proptest! {
        #[test]
        fn appending_is_inserting_each(
            pieces in proptest::collection::vec(proptest::collection::btree_set(0_u64..300, 0..80), 0..6),
            factor in proptest::sample::select(&[1, 20_000_000][..]),
        ) {
            // Pieces that lie behind one another, as in a store that is read, and pieces that overlap.
            for distance in [300, 40] {
                let (mut appended, mut inserted) = (Posting::default(), Posting::default());
                for (place, piece) in pieces.iter().enumerate() {
                    let sequences = piece.iter().map(|number| (number + place as u64 * distance) * factor);
                    for sequence in sequences.clone() {
                        inserted.insert(sequence);
                    }
                    appended.append(sequences);
                }
                prop_assert_eq!(appended, inserted);
            }
        }
    }

    fn form(posting: &Posting) -> &'static str {
        match posting {
            Posting::Empty => "empty",
            Posting::One(_) => "one",
            Posting::Few(_) => "few",
            Posting::Many(_) => "many",
        }
    }

    #[test]
    fn a_set_has_the_form_that_suits_its_size() {
        let mut posting = Posting::default();
        let grown: Vec<_> = (0..=FEW_MAX as u64).map(|sequence| (posting.insert(sequence), form(&posting))).collect();
        assert_eq!((grown[0], grown[1], grown[FEW_MAX - 1]), ((true, "one"), (true, "few"), (true, "few")));
        assert_eq!(grown[FEW_MAX], (true, "many"));
        let mut shrunk: Vec<_> =
            (0..=FEW_MAX as u64).map(|sequence| (posting.remove(sequence), form(&posting))).collect();
        shrunk.reverse();
        assert_eq!((shrunk[0], shrunk[1], shrunk[2]), ((true, "empty"), (true, "one"), (true, "few")));
        assert_eq!((shrunk[FEW_AGAIN as usize].1, shrunk[FEW_AGAIN as usize + 1].1), ("few", "many"));
    }

    #[test]
    fn large_numbers_are_in_no_vector() {
        const LAST: u64 = u32::MAX as u64;
        let mut posting = Posting::default();
        let numbers = [LAST + 2, LAST, 7, LAST + 1];
        let grown = numbers.map(|sequence| (posting.insert(sequence), form(&posting)));
        assert_eq!(grown.map(|(_, form)| form), ["one", "many", "many", "many"]);
        assert_eq!(posting.above(7).collect::<Vec<_>>(), [LAST, LAST + 1, LAST + 2]);
        let shrunk = [LAST + 1, 7, LAST, LAST + 2].map(|sequence| (posting.remove(sequence), form(&posting)));
        assert_eq!(shrunk.map(|(_, form)| form), ["many", "many", "one", "empty"]);
        assert!(grown.iter().chain(&shrunk).all(|(changed, _)| *changed));
        // The largest one that has room, and then without the one that has none.
        let mut posting = Posting::default();
        assert_eq!(
            [LAST, 7, LAST + 1].map(|sequence| (posting.insert(sequence), form(&posting)).1),
            ["one", "few", "many"]
        );
        assert!(posting.remove(LAST + 1) && form(&posting) == "few" && posting.contains(LAST));
    }

    #[test]
    fn nothing_is_above_the_last_number() {
        let mut posting = Posting::default();
        for sequence in 0..300 {
            posting.insert(u64::MAX - sequence);
        }
        assert_eq!(posting.above(u64::MAX).count(), 0);
        assert_eq!(posting.above(u64::MAX - 1).collect::<Vec<_>>(), [u64::MAX]);
    }
}
