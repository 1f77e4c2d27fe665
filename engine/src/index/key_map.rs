//! A map from keys to what is held under them, made for many of them.
//!
//! Adding a key never takes longer than it takes to divide some thousand keys, however many there are. One large hash table
//! would be built anew whenever it doubles: at millions of keys that is hundreds of megabytes at once, and so long that a
//! leader is taken for dead. So the keys lie in *shards*, each with a table of its own, and a shard that is full is divided
//! in two by one more bit of the hashes (extendible hashing: Fagin, Nievergelt, Pippenger and Strong, ACM TODS 4(3), 1979).
//!
//! Each key's hash is kept beside it: a shard that grows or is divided does not read its keys again, which lie scattered over
//! the memory, and a look-up reads the one key that it is for. Eight bytes for each key.

use std::fmt;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Keys of a shard at the most: as many as a table of 16,384 places takes. Dividing them takes about a millisecond.
const SHARD_KEYS_MAX: usize = 14_336;

/// The lowest bit of a hash that says in which shard its key is. The tables of the shards use those below, and the highest
/// seven.
const SHARD_BITS_FROM: u32 = 32;

/// Bits that tell shards apart at the most. Beyond that a shard takes any number of keys.
const SHARD_BITS_MAX: u32 = 20;

/// One key, and what is held under it.
struct Held<V> {
    hash: u64,
    key: Box<[u8]>,
    value: V,
}

impl<V> Held<V> {
    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && *self.key == *key
    }
}

/// The keys whose hashes agree in some bits.
struct Shard<V> {
    /// In how many, from [`SHARD_BITS_FROM`] on.
    bits: u32,
    table: HashTable<Held<V>>,
}

/// Keys, and what is held under each.
pub(crate) struct KeyMap<V> {
    shards: Vec<Shard<V>>,
    /// The number of the shard for each value of so many bits as tell the most divided ones apart.
    directory: Vec<u32>,
    keys: usize,
    state: RandomState,
}

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self { shards: Vec::new(), directory: Vec::new(), keys: 0, state: RandomState::default() }
    }
}

impl<V> fmt::Debug for KeyMap<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyMap").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl<V> KeyMap<V> {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys
    }

    /// Every key, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.shards.iter().flat_map(|shard| &shard.table).map(|held| (&held.key[..], &held.value))
    }

    /// The hash of a key in this map.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.state.hash_one(key)
    }

    /// By how many bits hashes are rotated to the right so that those of one shard stand together in the order of numbers.
    pub(super) fn rotation(&self) -> u32 {
        SHARD_BITS_FROM + self.directory.len().max(1).ilog2()
    }

    /// What is held under a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let hash = self.hash(key);
        let shard = &self.shards[self.shard_of(hash)?];
        shard.table.find(hash, |held| held.is(hash, key)).map(|held| &held.value)
    }

    /// Changes what is held under a key by `change`; where nothing is, `make` says what will be.
    pub(crate) fn change_or_insert(&mut self, key: &[u8], change: impl FnOnce(&mut V), make: impl FnOnce() -> V) {
        self.change_or_insert_hashed(self.hash(key), key, change, make);
    }

    /// As [`KeyMap::change_or_insert`], for a key whose hash is known.
    pub(super) fn change_or_insert_hashed(
        &mut self,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(&mut V),
        make: impl FnOnce() -> V,
    ) {
        let number = self.shard_of(hash).unwrap_or_else(|| self.add_first_shard());
        let shard = &mut self.shards[number];
        if let Some(held) = shard.table.find_mut(hash, |held| held.is(hash, key)) {
            return change(&mut held.value);
        }
        let number = if shard.is_full() { self.divide(number, hash) } else { number };
        self.shards[number].add(Held { hash, key: key.into(), value: make() });
        self.keys += 1;
    }

    /// Changes what is held under a key, and takes the key out if `change` says so.
    pub(crate) fn change_or_remove(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> bool) {
        let hash = self.hash(key);
        let Some(number) = self.shard_of(hash) else { return };
        let table = &mut self.shards[number].table;
        if let Ok(mut entry) = table.find_entry(hash, |held| held.is(hash, key))
            && change(&mut entry.get_mut().value)
        {
            entry.remove();
            if table.is_empty() {
                *table = HashTable::new();
            }
            self.keys -= 1;
        }
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
    fn divide(&mut self, number: usize, hash: u64) -> usize {
        let shard = &mut self.shards[number];
        if shard.bits == SHARD_BITS_MAX {
            return number;
        }
        let (bit, divided) = (1 << shard.bits, shard.divide());
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

impl<V> Shard<V> {
    fn new(bits: u32) -> Self {
        Self { bits, table: HashTable::new() }
    }

    fn is_full(&self) -> bool {
        self.table.len() >= SHARD_KEYS_MAX
    }

    /// Adds a key that is not here.
    fn add(&mut self, added: Held<V>) {
        self.table.insert_unique(added.hash, added, |held| held.hash);
    }

    /// Keeps the keys whose next bit is not set; the other half.
    fn divide(&mut self) -> Self {
        let mask = 1_u64 << (SHARD_BITS_FROM + self.bits);
        let (mut stay, mut go) = (Self::new(self.bits + 1), Self::new(self.bits + 1));
        for held in std::mem::take(&mut self.table) {
            if held.hash & mask == 0 { stay.add(held) } else { go.add(held) }
        }
        *self = stay;
        go
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Put(Vec<u8>, u32),
        Remove(Vec<u8>),
        RemoveIf(Vec<u8>, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = || proptest::collection::vec(0..3_u8, 0..4);
        let step = prop_oneof![
            3 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Put(key, value)),
            1 => key().prop_map(Step::Remove),
            1 => (key(), any::<u32>()).prop_map(|(key, value)| Step::RemoveIf(key, value)),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn it_holds_what_an_ordinary_map_holds(steps in steps()) {
            let (mut map, mut model) = (KeyMap::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Put(key, value) => {
                        map.change_or_insert(&key, |held| *held = value, || value);
                        model.insert(key, value);
                    }
                    Step::Remove(key) => {
                        map.change_or_remove(&key, |_| true);
                        model.remove(&key);
                    }
                    Step::RemoveIf(key, value) => {
                        map.change_or_remove(&key, |held| *held < value);
                        model.retain(|it, held| *it != key || *held >= value);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
            }
            for (key, value) in &model {
                prop_assert_eq!(map.get(key), Some(value));
            }
            prop_assert_eq!(map.get(b"there is no such key"), None);
        }
    }

    /// Every key is where its hash says, and nothing else is anywhere.
    fn check<V>(map: &KeyMap<V>) {
        let mut keys = 0;
        for (number, shard) in map.shards.iter().enumerate() {
            assert!(shard.table.len() <= SHARD_KEYS_MAX);
            for held in &shard.table {
                assert_eq!((map.hash(&held.key), map.shard_of(held.hash)), (held.hash, Some(number)));
            }
            keys += shard.table.len();
        }
        assert_eq!(map.len(), keys);
    }

    #[test]
    fn many_keys_are_divided_among_shards() {
        const KEYS: u64 = 100_000;
        let mut map = KeyMap::default();
        for number in 0..KEYS {
            map.change_or_insert(&number.to_be_bytes(), |_| panic!("it was there already"), || number);
        }
        check(&map);
        let shards = map.shards.len();
        assert!((KEYS as usize / SHARD_KEYS_MAX..KEYS as usize / (SHARD_KEYS_MAX / 4)).contains(&shards), "{shards}");
        for number in (0..KEYS).filter(|number| number % 3 != 0) {
            map.change_or_remove(&number.to_be_bytes(), |held| *held == number);
        }
        check(&map);
        for number in 0..KEYS {
            assert_eq!(map.get(&number.to_be_bytes()).copied(), (number % 3 == 0).then_some(number));
        }
        for number in (0..KEYS).step_by(3) {
            map.change_or_remove(&number.to_be_bytes(), |_| true);
        }
        check(&map);
        assert!(map.shards.iter().all(|shard| shard.table.capacity() == 0), "memory of keys that are gone is kept");
    }

    #[test]
    fn a_shard_that_cannot_be_divided_takes_more_keys() {
        let mut map = KeyMap::default();
        let hash = 7 << SHARD_BITS_FROM;
        for number in 0..2 * SHARD_KEYS_MAX as u64 {
            map.change_or_insert_hashed(hash | number, &number.to_be_bytes(), |_| panic!("it was there"), || number);
        }
        assert_eq!((map.len(), map.directory.len()), (2 * SHARD_KEYS_MAX, 1 << SHARD_BITS_MAX));
        for number in 0..2 * SHARD_KEYS_MAX as u64 {
            map.change_or_insert_hashed(hash | number, &number.to_be_bytes(), |held| assert_eq!(*held, number), || 0);
        }
    }
}
