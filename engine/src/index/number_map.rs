//! A map from sequences of records to the number that each has in an ordered index.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use crate::sharded_table::ShardedTable;

/// The number of each record that has one.
#[derive(Debug, Default)]
pub(crate) struct NumberMap {
    table: ShardedTable<(u64, i64)>,
    state: RandomState,
}

impl NumberMap {
    /// How many records have one.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Every record and its number, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, i64)> {
        self.table.iter().copied()
    }

    pub(super) fn get(&self, sequence: u64) -> Option<i64> {
        self.table.find(self.state.hash_one(sequence), |(held, _)| *held == sequence).map(|(_, number)| *number)
    }

    /// Gives a record a number, in the place of the one that it may have.
    pub(super) fn insert(&mut self, sequence: u64, number: i64) {
        let Self { table, state } = self;
        let hash = state.hash_one(sequence);
        match table.find_mut(hash, |(held, _)| *held == sequence) {
            Some((_, held)) => *held = number,
            None => table.insert_unique(hash, (sequence, number), |(held, _)| state.hash_one(held)),
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        self.table.remove(self.state.hash_one(sequence), |(held, _)| *held == sequence);
    }
}
