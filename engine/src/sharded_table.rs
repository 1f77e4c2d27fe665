//! A hash table for many things, to which adding one more never takes long.
//!
//! A table in one piece is built anew whenever it doubles: at millions of things that is hundreds of megabytes at once, and so
//! long that a leader is taken for dead. Here what is held lies in *shards*, each with a table of its own, and a shard that is
//! full is divided in two by one more bit (extendible hashing: Fagin, Nievergelt, Pippenger and Strong, ACM TODS 4(3), 1979).
//!
//! By bits of good hashes themselves all shards would be equally full, and be divided within the same few additions, whenever
//! what is held has doubled; again somebody would wait. So hashes are spread over *places* that lie the closer together the
//! lower they are, twice as close at one end as at the other. Shards are then as full as it comes, from about half to whole, and at
//! any size a few of them are about to be divided (the thought behind spiral storage: Martin, 1979).
//!
//! As with `hashbrown::HashTable`, whoever uses it says what the hash of a thing is, and hashes have to be good in all bits.

use std::fmt;

use hashbrown::HashTable;

/// Things in a shard at the most: as many as a table of 16,384 places takes. Dividing them takes about a millisecond, or two where
/// their hashes have to be worked out from memory that is far away.
const SHARD_MAX: usize = 14_336;

/// The lowest of the bits of a hash that say to which shard a thing belongs. The tables of the shards use those below, and the
/// highest seven.
const SHARD_BITS_FROM: u32 = 26;

/// How many of them there are, and bits of a place.
const PLACE_BITS: u32 = 31;

/// Bits that tell shards apart at the most. Beyond that a shard takes any number of things.
const SHARD_BITS_MAX: u32 = 20;

/// Where what has this hash belongs, of 2^31 places: twice as much to the first of them as to the last.
fn place(hash: u64) -> u64 {
    let uniform = (hash >> SHARD_BITS_FROM) & ((1 << PLACE_BITS) - 1);
    // x (2 + x) / 3 for x below 1, whose derivative goes from 2/3 to 4/3. Below 3 * 2^62 before it is divided.
    (uniform * ((2 << PLACE_BITS) + uniform) / 3) >> PLACE_BITS
}

/// A number for each hash, and no other one's, in whose order what is in one shard stands together.
#[must_use]
pub fn order_of(hash: u64) -> u64 {
    hash.rotate_left(u64::BITS - SHARD_BITS_FROM - PLACE_BITS)
}

/// The hash of which [`order_of`] made this.
#[must_use]
pub fn hash_of(order: u64) -> u64 {
    order.rotate_right(u64::BITS - SHARD_BITS_FROM - PLACE_BITS)
}

/// A hash table in shards.
pub struct ShardedTable<T> {
    shards: Vec<Shard<T>>,
    /// The number of the shard for each value of so many of the highest bits of places as tell the most divided ones apart.
    directory: Vec<u32>,
    len: usize,
}

/// The things whose places agree in some bits.
struct Shard<T> {
    /// In how many, from the highest one on.
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

    /// Bits that tell the most divided shards apart; the directory has two to the power of it.
    fn bits(&self) -> u32 {
        self.directory.len().max(1).ilog2()
    }

    /// The shard of a hash; `None` before there is any.
    fn shard_of(&self, hash: u64) -> Option<usize> {
        let first_bits = place(hash) >> (PLACE_BITS - self.bits());
        self.directory.get(first_bits as usize).map(|number| *number as usize)
    }

    fn add_first_shard(&mut self) -> usize {
        self.shards.push(Shard { bits: 0, table: HashTable::new() });
        self.directory.push(0);
        0
    }

    /// Divides a shard in two; where `hash` belongs then.
    fn divide(&mut self, number: usize, hash: u64, hash_of: &impl Fn(&T) -> u64) -> usize {
        let shard = &mut self.shards[number];
        if shard.bits == SHARD_BITS_MAX {
            return number;
        }
        let divided = shard.divide(hash_of);
        let bits = divided.bits;
        // There are fewer than 2^32 shards.
        let added = self.shards.len() as u32;
        self.shards.push(divided);
        if self.bits() < bits {
            self.directory = self.directory.iter().flat_map(|number| [*number; 2]).collect();
        }
        // The upper half of what the shard had in the directory.
        let upper = (place(hash) >> (PLACE_BITS - bits)) as usize | 1;
        let each = 1 << (self.bits() - bits);
        self.directory[upper * each..(upper + 1) * each].fill(added);
        self.shard_of(hash).unwrap_or(number)
    }
}

impl<T> Shard<T> {
    /// Keeps what has the next bit not set; the other half.
    fn divide(&mut self, hash_of: &impl Fn(&T) -> u64) -> Self {
        let bits = self.bits + 1;
        let goes = |hash| place(hash) >> (PLACE_BITS - bits) & 1 == 1;
        // Both will be full one day, and tables that grow until then would be built anew for it. So this one keeps its memory.
        let mut other = HashTable::with_capacity(SHARD_MAX);
        let mut stay = Vec::with_capacity(self.table.len());
        for held in self.table.drain() {
            let hash = hash_of(&held);
            if goes(hash) {
                other.insert_unique(hash, held, hash_of);
            } else {
                stay.push((hash, held));
            }
        }
        // It has grown beyond a shard where much was taken out of it and added.
        self.table.shrink_to(SHARD_MAX, hash_of);
        stay.into_iter().for_each(|(hash, held)| {
            self.table.insert_unique(hash, held, hash_of);
        });
        self.bits = bits;
        Self { bits, table: other }
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
        // The first ones are told apart only by low bits of their places, the others then by high ones.
        let hash = |number: &u64| {
            let bits = if *number < MANY { (number % 64) << 6 } else { (number % 64) << 25 };
            (bits << SHARD_BITS_FROM) | (number.wrapping_mul(MULTIPLIER) >> (u64::BITS - SHARD_BITS_FROM))
        };
        for number in 0..2 * MANY {
            table.insert_unique(hash(&number), number, hash);
        }
        for number in 0..2 * MANY {
            assert_eq!(table.find(hash(&number), |held| *held == number), Some(&number));
        }
    }

    #[test]
    fn hashes_of_one_shard_stand_together_in_their_order() {
        let mut table = ShardedTable::default();
        for number in 0..100_000 {
            table.insert_unique(hash(&number), number, hash);
        }
        let mut hashes: Vec<_> = table.iter().map(|number| order_of(hash(number))).collect();
        hashes.sort_unstable();
        let mut shards: Vec<_> = hashes.iter().map(|order| table.shard_of(hash_of(*order))).collect();
        shards.dedup();
        assert_eq!(shards.len(), table.shards.len(), "changes of shard");
    }

    #[test]
    fn shards_are_not_divided_all_at_once() {
        const EACH: u64 = 20_000;
        let mut table = ShardedTable::default();
        let mut divided = Vec::new();
        for piece in 0..50 {
            let before = table.shards.len();
            for number in piece * EACH..(piece + 1) * EACH {
                table.insert_unique(hash(&number), number, hash);
                let fresh = table.shards.last().filter(|_| table.shards.len() > 1);
                assert!(fresh.is_none_or(|shard| shard.table.capacity() == SHARD_MAX), "tables of shards grow again");
            }
            divided.push(table.shards.len() - before);
        }
        check(&table);
        // Shards that are equally full would all be divided while the table grows by a twentieth: 32 or 64 in one or two pieces.
        let most = divided[25..].iter().copied().max();
        assert!(most <= Some(5), "{divided:?}");
        // So they are 0.7 full on the average, whatever the size.
        let full = table.len() as f64 / (table.shards.len() * SHARD_MAX) as f64;
        assert!((0.65..0.8).contains(&full), "{full}");
        assert!(table.shards.iter().all(|shard| shard.table.capacity() == SHARD_MAX), "tables of shards grow again");
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
