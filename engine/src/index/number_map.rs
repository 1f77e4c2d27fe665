//! A map from sequences of records to the number that each has in an ordered index.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use crate::sharded_table::ShardedTable;

/// Sequences that follow one another in a piece: one for each bit of [`Piece::present`].
const PIECE: u64 = u64::BITS as u64;

/// The number of each record that has one. Sequences are given one after another, so numbers lie in pieces of so many of them
/// as may be next to one another.
#[derive(Debug, Default)]
pub(crate) struct NumberMap {
    pieces: ShardedTable<Piece>,
    len: usize,
    state: RandomState,
}

#[derive(Debug)]
struct Piece {
    /// Its first sequence, divided by [`PIECE`].
    number: u64,
    /// A bit for each sequence that has a number, the lowest for the first.
    present: u64,
    /// Of those alone, ascending by sequence.
    numbers: Vec<i64>,
}

/// The number of the piece of a sequence, and the bit of the sequence there.
fn place(sequence: u64) -> (u64, u64) {
    (sequence / PIECE, 1 << (sequence % PIECE))
}

impl Piece {
    /// Where the number of a bit is, or would be.
    fn rank(&self, bit: u64) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }
}

impl NumberMap {
    /// How many records have one.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Every record and its number, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, i64)> {
        self.pieces.iter().flat_map(|piece| {
            let places = (0..PIECE).filter(|place| piece.present >> place & 1 == 1);
            places.zip(&piece.numbers).map(|(place, number)| (piece.number * PIECE + place, *number))
        })
    }

    pub(super) fn get(&self, sequence: u64) -> Option<i64> {
        let (number, bit) = place(sequence);
        let piece = self.pieces.find(self.state.hash_one(number), |piece| piece.number == number)?;
        if piece.present & bit == 0 { None } else { piece.numbers.get(piece.rank(bit)).copied() }
    }

    /// Gives a record a number, in the place of the one that it may have.
    pub(super) fn insert(&mut self, sequence: u64, number: i64) {
        let Self { pieces, len, state } = self;
        let (of, bit) = place(sequence);
        let hash = state.hash_one(of);
        let Some(piece) = pieces.find_mut(hash, |piece| piece.number == of) else {
            let added = Piece { number: of, present: bit, numbers: vec![number] };
            *len += 1;
            return pieces.insert_unique(hash, added, |piece| state.hash_one(piece.number));
        };
        let rank = piece.rank(bit);
        match piece.numbers.get_mut(rank).filter(|_| piece.present & bit != 0) {
            Some(held) => *held = number,
            None => {
                piece.numbers.insert(rank, number);
                piece.present |= bit;
                *len += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let (number, bit) = place(sequence);
        let Self { pieces, len, state } = self;
        let take_out = |piece: &mut Piece| {
            if piece.present & bit != 0 {
                piece.numbers.remove(piece.rank(bit));
                piece.present &= !bit;
                *len -= 1;
            }
            piece.present == 0
        };
        pieces.change_or_remove(state.hash_one(number), |piece| piece.number == number, take_out);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_an_ordinary_map_holds(steps in proptest::collection::vec((0..300_u64, any::<Option<i64>>()), 0..600)) {
            let (mut map, mut model) = (NumberMap::default(), BTreeMap::new());
            for (sequence, number) in steps {
                // Some next to one another, and some far away.
                let sequence = if sequence < 200 { sequence } else { u64::MAX - sequence * 50 };
                match number {
                    Some(number) => {
                        map.insert(sequence, number);
                        model.insert(sequence, number);
                    }
                    None => {
                        map.remove(sequence);
                        model.remove(&sequence);
                    }
                }
                prop_assert_eq!((map.len(), map.get(sequence)), (model.len(), model.get(&sequence).copied()));
            }
            prop_assert_eq!(map.iter().collect::<BTreeMap<_, _>>(), model.clone());
            for sequence in model.keys() {
                map.remove(*sequence);
            }
            prop_assert!(map.pieces.is_empty(), "pieces without a number are kept");
        }
    }
}
