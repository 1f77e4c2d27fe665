//! A record store in memory, for tests and for the simulator.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use parking_lot::RwLock;

use super::poison::Poison;
use super::{RecordStore, RecordStoreError, Visit, WriteBatch};

/// What a batch replaced: undoing it puts these back, last first.
type Undo = Vec<(Vec<u8>, Option<Bytes>)>;

#[derive(Debug, Default)]
struct Contents {
    /// Every applied batch, flushed or not.
    pairs: BTreeMap<Vec<u8>, Bytes>,
    /// One per batch applied since the last flush, oldest first. Stays empty when crashes are not simulated.
    unflushed: Vec<Undo>,
}

/// An ordered map in memory.
///
/// [`MemoryStore::new`] simply keeps everything. [`MemoryStore::crashing`] also remembers what a crash may take
/// away again: see [`MemoryStore::crash`].
#[derive(Debug, Default)]
pub struct MemoryStore {
    contents: RwLock<Contents>,
    remembers_unflushed: bool,
    poison: Poison,
}

impl MemoryStore {
    /// An empty store that never crashes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that can crash. It needs memory for what the batches since the last flush replaced.
    #[must_use]
    pub fn crashing() -> Self {
        Self { remembers_unflushed: true, ..Self::default() }
    }

    /// Batches applied since the last flush; 0 for a store that does not crash.
    #[must_use]
    pub fn unflushed_batches(&self) -> usize {
        self.contents.read().unflushed.len()
    }

    /// The store as it comes back after a crash: all flushed batches and the first `surviving` of those applied
    /// since (all of them if there are fewer). What came back counts as flushed. This store is left as it is.
    #[must_use]
    pub fn crash(&self, surviving: usize) -> Self {
        let contents = self.contents.read();
        let mut pairs = contents.pairs.clone();
        for undo in contents.unflushed.iter().skip(surviving).rev() {
            for (key, value) in undo.iter().rev() {
                replace(&mut pairs, key.clone(), value.clone());
            }
        }
        Self {
            contents: RwLock::new(Contents { pairs, unflushed: Vec::new() }),
            remembers_unflushed: self.remembers_unflushed,
            poison: Poison::default(),
        }
    }

    /// Makes every later call fail, as a broken disk would.
    pub fn fail(&self, detail: &str) {
        self.poison.set(&RecordStoreError::Failed { action: "obey", detail: detail.to_owned() });
    }
}

/// Sets or removes a key and returns what it held.
fn replace(pairs: &mut BTreeMap<Vec<u8>, Bytes>, key: Vec<u8>, value: Option<Bytes>) -> Option<Bytes> {
    match value {
        Some(value) => pairs.insert(key, value),
        None => pairs.remove(&key),
    }
}

impl RecordStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
        self.poison.check()?;
        // Recursive, because a visitor of `scan` may look up other keys while a writer waits.
        Ok(self.contents.read_recursive().pairs.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError> {
        self.poison.check()?;
        if from >= to {
            return Ok(());
        }
        let contents = self.contents.read_recursive();
        for (key, value) in contents.pairs.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError> {
        self.poison.check()?;
        let mut contents = self.contents.write();
        let mut undo = Undo::new();
        for (key, value) in batch.operations {
            let undo_key = self.remembers_unflushed.then(|| key.clone());
            let before = replace(&mut contents.pairs, key, value.map(Bytes::from));
            if let Some(key) = undo_key {
                undo.push((key, before));
            }
        }
        if self.remembers_unflushed {
            contents.unflushed.push(undo);
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), RecordStoreError> {
        self.poison.check()?;
        self.contents.write().unflushed.clear();
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        self.poison.check()?;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(store: &MemoryStore, key: &str) -> Option<Bytes> {
        store.get(key.as_bytes()).unwrap()
    }

    fn apply(store: &MemoryStore, operations: &[(&str, Option<&str>)]) {
        let operations =
            operations.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.map(|value| value.into()))).collect();
        store.apply(WriteBatch { operations }).unwrap();
    }

    #[test]
    fn crash_keeps_flushed_batches_and_a_prefix_of_the_others() {
        let store = MemoryStore::crashing();
        apply(&store, &[("a", Some("1")), ("b", Some("1"))]);
        store.flush().unwrap();
        apply(&store, &[("a", Some("2")), ("a", Some("3")), ("c", Some("2"))]);
        apply(&store, &[("a", None), ("b", None), ("d", Some("3"))]);
        assert_eq!(store.unflushed_batches(), 2);

        let none = store.crash(0);
        assert_eq!(value_of(&none, "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(value_of(&none, "c"), None);

        let one = store.crash(1);
        assert_eq!(value_of(&one, "a").as_deref(), Some(&b"3"[..]));
        assert_eq!(value_of(&one, "b").as_deref(), Some(&b"1"[..]));
        assert_eq!(value_of(&one, "d"), None);

        let all = store.crash(usize::MAX);
        assert_eq!(value_of(&all, "a"), None);
        assert_eq!(value_of(&all, "d").as_deref(), Some(&b"3"[..]));
        assert_eq!(all.unflushed_batches(), 0);
    }

    #[test]
    fn failed_store_answers_nothing() {
        let store = MemoryStore::new();
        apply(&store, &[("a", Some("1"))]);
        store.fail("disk pulled out");
        assert!(matches!(store.get(b"a"), Err(RecordStoreError::Poisoned { .. })));
        assert!(store.apply(WriteBatch::default()).is_err());
        assert!(store.flush().is_err());
    }
}
