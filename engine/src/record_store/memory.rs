//! A record store in memory, for tests and simulations.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use parking_lot::RwLock;

use super::{RecordStore, RecordStoreError, WriteBatch};

/// An ordered map behind a lock; nothing in it survives.
#[derive(Debug, Default)]
pub struct MemoryStore {
    pairs: RwLock<BTreeMap<Vec<u8>, Bytes>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl RecordStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, RecordStoreError> {
        Ok(self.pairs.read().get(key).cloned())
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RecordStoreError> {
        if from >= to {
            return Ok(());
        }
        for (key, value) in self.pairs.read().range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: WriteBatch) -> Result<(), RecordStoreError> {
        let mut pairs = self.pairs.write();
        for (key, value) in batch.operations {
            match value {
                Some(value) => pairs.insert(key, value.into()),
                None => pairs.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), RecordStoreError> {
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, RecordStoreError> {
        Ok(0)
    }
}
