//! A hash table for many things, to which adding one more never takes long.
//!
//! A table in one piece is built anew whenever it doubles: at millions of things that is hundreds of megabytes at once, and so
//! long that a leader is taken for dead. Here what is held lies in *shards*, each with a table of its own, and a shard that is
//! full is divided in two by one more bit of the hashes (extendible hashing: Fagin, Nievergelt, Pippenger and Strong, ACM TODS
//! 4(3), 1979).
//!
//! As with `hashbrown::HashTable`, whoever uses it says what the hash of a thing is, and hashes have to be good in all bits.

use std::fmt;

use hashbrown::HashTable;

/// Things in a shard at the most: as many as a table of 16,384 places takes. Dividing them takes about a millisecond.
const SHARD_MAX: usize = 14_336;

/// The lowest bit of a hash that says to which shard a thing belongs. The tables of the shards use those below, and the
/// highest seven.
const SHARD_BITS_FROM: u32 = 32;

/// Bits that tell shards apart at the most. Beyond that a shard takes any number of things.
const SHARD_BITS_MAX: u32 = 20;

/// A hash table in shards.
pub struct ShardedTable<T> {
    shards: Vec<Shard<T>>,
    /// The number of the shard for each value of so many bits as tell the most divided ones apart.
    directory: Vec<u32>,
    len: usize,
}

/// The things whose hashes agree in some bits.
struct Shard<T> {
    /// In how many, from [`SHARD_BITS_FROM`] on.
    bits: u32,
    table: HashTable<T>,
}

impl<T> Default for ShardedTable<T> {
    fn default() -> Self {
        Self { shards: Vec::new(), directory: Vec::new(), len: 0 }
    }
}

impl<T> fmt::Debug for ShardedTable<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ShardedTable").field("len", &self.len).finish_non_exhaustive()
    }
}

impl<T> ShardedTable<T> {
    /// How much is held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Everything, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flat_map(|shard| &shard.table)
    }

    /// By how many bits hashes are rotated to the right so that those of one shard stand together in the order of numbers.
    #[must_use]
    pub fn rotation(&self) -> u32 {
        SHARD_BITS_FROM + self.directory.len().max(1).ilog2()
    }

    /// What has this hash and is the one.
    pub fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.shards[self.shard_of(hash)?].table.find(hash, is)
    }

    /// As [`ShardedTable::find`], to be changed; its hash must stay what it is.
    pub fn find_mut(&mut self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let number = self.shard_of(hash)?;
        self.shards[number].table.find_mut(hash, is)
    }

    /// Adds what is not there yet. `hash_of` gives the hash of anything that is there already.
    pub fn insert_unique(&mut self, hash: u64, added: T, hash_of: impl Fn(&T) -> u64) {
        let number = self.shard_of(hash).unwrap_or_else(|| self.add_first_shard());
        let is_full = self.shards[number].table.len() >= SHARD_MAX;
        let number = if is_full { self.divide(number, hash, &hash_of) } else { number };
        self.shards[number].table.insert_unique(hash, added, hash_of);
        self.len += 1;
    }

    /// Changes what has this hash and is the one, and takes it out if `change` says so.
    pub fn change_or_remove(
        &mut self,
        hash: u64,
        is: impl FnMut(&T) -> bool,
        change: impl FnOnce(&mut T) -> bool,
    ) -> Option<T> {
        let number = self.shard_of(hash)?;
        let table = &mut self.shards[number].table;
        let mut entry = table.find_entry(hash, is).ok()?;
        if !change(entry.get_mut()) {
            return None;
        }
        let (removed, _) = entry.remove();
        if table.is_empty() {
            *table = HashTable::new();
        }
        self.len -= 1;
        Some(removed)
    }

    /// Takes out what has this hash and is the one.
    pub fn remove(&mut self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<T> {
        self.change_or_remove(hash, is, |_| true)
    }

    /// The shard of a hash; `None` before there is any.
    fn shard_of(&self, hash: u64) -> Option<usize> {
        // A power of two, or zero.
        let mask = self.directory.len().wrapping_sub(1);
        self.directory.get((hash >> SHARD_BITS_FROM) as usize & mask).map(|number| *number as usize)
    }

    fn add_first_shard(&mut self) -> usize {
        self.shards.push(Shard::new(0));
        self.directory.push(0);
        0
    }

    /// Divides a shard in two; where `hash` belongs then.
    fn divide(&mut self, number: usize, hash: u64, hash_of: &impl Fn(&T) -> u64) -> usize {
        let shard = &mut self.shards[number];
        if shard.bits == SHARD_BITS_MAX {
            return number;
        }
        let (bit, divided) = (1 << shard.bits, shard.divide(hash_of));
        // There are fewer than 2^32 shards.
        let added = self.shards.len() as u32;
        self.shards.push(divided);
        if self.directory.len() == bit {
            self.directory.extend_from_within(..);
        }
        let first = (hash >> SHARD_BITS_FROM) as usize & (bit - 1) | bit;
        self.directory.iter_mut().skip(first).step_by(2 * bit).for_each(|number| *number = added);
        self.shard_of(hash).unwrap_or(number)
    }
}

impl<T> Shard<T> {
    fn new(bits: u32) -> Self {
        Self { bits, table: HashTable::new() }
    }

    /// Keeps what has the next bit not set; the other half.
    fn divide(&mut self, hash_of: &impl Fn(&T) -> u64) -> Self {
        let mask = 1_u64 << (SHARD_BITS_FROM + self.bits);
        let (mut stay, mut go) = (Self::new(self.bits + 1), Self::new(self.bits + 1));
        for held in std::mem::take(&mut self.table) {
            let hash = hash_of(&held);
            let half = if hash & mask == 0 { &mut stay } else { &mut go };
            half.table.insert_unique(hash, held, hash_of);
        }
        *self = stay;
        go
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

    /// Good enough in all bits, and the same for no two numbers.
    fn hash(number: &u64) -> u64 {
        let mixed = number.wrapping_mul(MULTIPLIER);
        (mixed ^ mixed >> 29).wrapping_mul(MULTIPLIER)
    }

    fn find(table: &ShardedTable<u64>, number: u64) -> Option<u64> {
        table.find(hash(&number), |held| *held == number).copied()
    }

    /// Everything is where its hash says, and nothing else is anywhere.
    fn check(table: &ShardedTable<u64>) {
        let mut held = 0;
        for (number, shard) in table.shards.iter().enumerate() {
            assert!(shard.table.len() <= SHARD_MAX);
            assert!(shard.table.iter().all(|it| table.shard_of(hash(it)) == Some(number)));
            held += shard.table.len();
        }
        assert_eq!(table.len(), held);
    }

    #[test]
    fn much_is_divided_among_shards() {
        const MANY: u64 = 200_000;
        let mut table = ShardedTable::default();
        assert_eq!((find(&table, 1), table.remove(1, |_| true)), (None, None));
        for number in 0..MANY {
            assert_eq!(find(&table, number), None);
            table.insert_unique(hash(&number), number, hash);
        }
        check(&table);
        let shards = table.shards.len();
        assert!((MANY as usize / SHARD_MAX..=MANY as usize / (SHARD_MAX / 4)).contains(&shards), "{shards}");
        let mut all: Vec<_> = table.iter().copied().collect();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..MANY));
        for number in (0..MANY).filter(|number| number % 3 != 0) {
            assert_eq!(table.change_or_remove(hash(&number), |held| *held == number, |_| false), None);
            assert_eq!(table.remove(hash(&number), |held| *held == number), Some(number));
        }
        check(&table);
        for number in 0..MANY {
            assert_eq!(find(&table, number), (number % 3 == 0).then_some(number));
        }
        for number in (0..MANY).step_by(3) {
            table.remove(hash(&number), |held| *held == number);
        }
        check(&table);
        assert!(table.shards.iter().all(|shard| shard.table.capacity() == 0), "memory of what is gone is kept");
    }

    #[test]
    fn shards_are_divided_unevenly_where_hashes_are_uneven() {
        const MANY: u64 = 60_000;
        let mut table = ShardedTable::default();
        // The first ones are told apart only by high bits, the others then by low ones.
        let hash = |number: &u64| {
            let bits = if *number < MANY { (number % 64) << 6 } else { ((number % 64) << 1) | 1 };
            (bits << SHARD_BITS_FROM) | (number.wrapping_mul(MULTIPLIER) >> SHARD_BITS_FROM)
        };
        for number in 0..2 * MANY {
            table.insert_unique(hash(&number), number, hash);
        }
        for number in 0..2 * MANY {
            assert_eq!(table.find(hash(&number), |held| *held == number), Some(&number));
        }
    }

    #[test]
    fn rotated_hashes_of_one_shard_stand_together() {
        let mut table = ShardedTable::default();
        for number in 0..100_000 {
            table.insert_unique(hash(&number), number, hash);
        }
        let rotation = table.rotation();
        let mut hashes: Vec<_> = table.iter().map(|number| hash(number).rotate_right(rotation)).collect();
        hashes.sort_unstable();
        let mut shards: Vec<_> = hashes.iter().map(|rotated| table.shard_of(rotated.rotate_left(rotation))).collect();
        shards.dedup();
        assert!(shards.len() <= table.directory.len(), "{} changes of shard", shards.len());
    }

    #[test]
    fn a_shard_that_cannot_be_divided_takes_any_number() {
        let mut table = ShardedTable::default();
        let hash = |number: &u64| 7 << SHARD_BITS_FROM | *number;
        for number in 0..2 * SHARD_MAX as u64 {
            table.insert_unique(hash(&number), number, hash);
        }
        assert_eq!((table.len(), table.directory.len()), (2 * SHARD_MAX, 1 << SHARD_BITS_MAX));
        for number in 0..2 * SHARD_MAX as u64 {
            assert_eq!(table.find(hash(&number), |held| *held == number), Some(&number));
        }
    }
}
