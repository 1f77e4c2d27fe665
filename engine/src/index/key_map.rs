//! A map from keys to what is held under them, made for many of them.
//!
//! Hashes are not kept, which saves eight bytes for each key and for each place that is free. For that a shard that is divided
//! reads its keys again, which lie scattered over the memory, and a look-up reads now and then a key that is another one.

use std::fmt;
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;

use crate::sharded_table::ShardedTable;

/// One key, and what is held under it.
struct Held<V> {
    key: Box<[u8]>,
    value: V,
}

impl<V> Held<V> {
    fn is(&self, key: &[u8]) -> bool {
        *self.key == *key
    }
}

/// Keys, and what is held under each.
pub(crate) struct KeyMap<V> {
    table: ShardedTable<Held<V>>,
    state: RandomState,
}

impl<V> Default for KeyMap<V> {
    fn default() -> Self {
        Self { table: ShardedTable::default(), state: RandomState::default() }
    }
}

impl<V> fmt::Debug for KeyMap<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyMap").field("keys", &self.table.len()).finish_non_exhaustive()
    }
}

impl<V> KeyMap<V> {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Every key, in no order.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], &V)> {
        self.table.iter().map(|held| (&held.key[..], &held.value))
    }

    /// The hash of a key in this map.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.state.hash_one(key)
    }

    /// What is held under a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let hash = self.hash(key);
        self.table.find(hash, |held| held.is(key)).map(|held| &held.value)
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
        match self.table.find_mut(hash, |held| held.is(key)) {
            Some(held) => change(&mut held.value),
            None => {
                let added = Held { key: key.into(), value: make() };
                let Self { table, state } = self;
                table.insert_unique(hash, added, |held| state.hash_one(&*held.key));
            }
        }
    }

    /// Changes what is held under a key, and takes the key out if `change` says so.
    pub(crate) fn change_or_remove(&mut self, key: &[u8], change: impl FnOnce(&mut V) -> bool) {
        let hash = self.hash(key);
        self.table.change_or_remove(hash, |held| held.is(key), |held| change(&mut held.value));
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
}
