//! A map from sequences of records to the number that each has in an ordered index.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Sequences that follow one another in a piece: one for each bit of [`Piece::present`].
const PIECE: u64 = 64;

/// The number of each record that has one. Sequences are given one after another, so numbers lie in pieces of so many of them
/// as may be next to one another.
#[derive(Debug, Default)]
pub(crate) struct NumberMap {
    pieces: HashMap<u64, Box<Piece>, RandomState>,
    len: usize,
}

#[derive(Debug)]
struct Piece {
    /// A bit for each sequence that has a number, the lowest for the first.
    present: u64,
    numbers: [i64; PIECE as usize],
}

/// The piece of a sequence, its place there, and the bit of it.
fn place(sequence: u64) -> (u64, usize, u64) {
    let place = sequence % PIECE;
    (sequence / PIECE, place as usize, 1 << place)
}

impl NumberMap {
    /// How many records have one.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Every record and its number, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, i64)> {
        self.pieces.iter().flat_map(|(piece, held)| {
            let numbers = held.numbers.iter().zip(0..).filter(|(_, bit)| held.present >> bit & 1 == 1);
            numbers.map(move |(number, place)| (piece * PIECE + place, *number))
        })
    }

    pub(super) fn get(&self, sequence: u64) -> Option<i64> {
        let (piece, place, bit) = place(sequence);
        let held = self.pieces.get(&piece)?;
        (held.present & bit != 0).then_some(held.numbers[place])
    }

    /// Gives a record a number, in the place of the one that it may have.
    pub(super) fn insert(&mut self, sequence: u64, number: i64) {
        let (piece, place, bit) = place(sequence);
        let empty = || Box::new(Piece { present: 0, numbers: [0; PIECE as usize] });
        let held = self.pieces.entry(piece).or_insert_with(empty);
        self.len += usize::from(held.present & bit == 0);
        held.present |= bit;
        held.numbers[place] = number;
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        let (piece, _, bit) = place(sequence);
        let Some(held) = self.pieces.get_mut(&piece) else { return };
        self.len -= usize::from(held.present & bit != 0);
        held.present &= !bit;
        if held.present == 0 {
            self.pieces.remove(&piece);
        }
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
