//! A record store in memory, for tests and for the simulator.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Keys that cannot be read any more.
    unreadable: BTreeSet<Vec<u8>>,
    /// Why it cannot be flushed any more, if it cannot.
    flush_fails: Option<String>,
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
            contents: RwLock::new(Contents {
                pairs,
                unflushed: Vec::new(),
                unreadable: contents.unreadable.clone(),
                flush_fails: contents.flush_fails.clone(),
            }),
            remembers_unflushed: self.remembers_unflushed,
            poison: Poison::default(),
        }
    }

    /// Makes the next flush fail, and every call after it, in this life and in those after a [`MemoryStore::crash`]: what is
    /// on its disk can be read from one end to the other, and cannot be written.
    pub fn fail_at_flush(&self, detail: &str) {
        self.contents.write().flush_fails = Some(detail.to_owned());
    }

    /// Makes whoever comes to one of its pairs fail, and every call after that, in this life and in those after a crash, as
    /// a damaged block would. `place` is taken around in a circle; whether there was any pair.
    pub fn damage(&self, place: u64) -> bool {
        let mut contents = self.contents.write();
        let Some(place) = place.checked_rem(contents.pairs.len() as u64) else { return false };
        let key = contents.pairs.keys().nth(usize::try_from(place).unwrap_or_default()).cloned();
        key.is_some_and(|key| contents.unreadable.insert(key))
    }

    /// Whether it fails.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.poison.is_set()
    }

    /// Whether it fails, or will when it is flushed or read.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        let contents = self.contents.read();
        self.has_failed() || contents.flush_fails.is_some() || !contents.unreadable.is_empty()
    }

    fn meet_damage(&self) -> RecordStoreError {
        let error = RecordStoreError::Failed { action: "read a key", detail: "it is damaged".to_owned() };
        self.poison.set(&error);
        error
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
        let contents = self.contents.read_recursive();
        if contents.unreadable.contains(key) {
            return Err(self.meet_damage());
        }
        Ok(contents.pairs.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<(), RecordStoreError> {
        self.poison.check()?;
        if from >= to {
            return Ok(());
        }
        let contents = self.contents.read_recursive();
        for (key, value) in contents.pairs.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
            if contents.unreadable.contains(key) {
                return Err(self.meet_damage());
            }
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
        let mut contents = self.contents.write();
        if let Some(detail) = &contents.flush_fails {
            let error = RecordStoreError::Failed { action: "flush", detail: detail.clone() };
            self.poison.set(&error);
            return Err(error);
        }
        contents.unflushed.clear();
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
    fn a_store_that_cannot_be_flushed_is_read_until_then_also_after_a_crash() {
        let store = MemoryStore::crashing();
        apply(&store, &[("a", Some("1"))]);
        store.fail_at_flush("a slot is lost");
        for store in [store.crash(1), store] {
            assert_eq!(value_of(&store, "a").as_deref(), Some(&b"1"[..]));
            assert!(matches!(store.flush(), Err(RecordStoreError::Failed { action: "flush", .. })));
            assert!(store.get(b"a").is_err());
        }
    }

    #[test]
    fn whoever_comes_to_a_damaged_pair_fails_and_nobody_else() {
        let store = MemoryStore::crashing();
        assert!(!store.damage(3), "there is nothing");
        apply(&store, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
        assert!(store.damage(4));
        for store in [store.crash(1), store] {
            assert_eq!(value_of(&store, "a").as_deref(), Some(&b"1"[..]));
            store.scan(b"a", b"b", &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
            assert!(store.scan(b"a", b"d", &mut |_, _| std::ops::ControlFlow::Continue(())).is_err());
            assert!(store.get(b"a").is_err(), "from then on nothing it says counts");
        }
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
