//! Numbered batches that depend on nothing but their number, so that a store which says "I hold the first n" can be
//! compared with what that must look like.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steeple_engine::record_store::{RecordStore, RecordStoreError, RecordStoreOptions, WriteBatch};

/// Everything that a store holds, in key order.
pub(crate) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Holds the number of the last batch, as the view keeps its revision.
const META_KEY: [u8; 1] = [0];
const RECORDS_PER_BATCH: u64 = 20;

/// Small enough that the engines below evict, write tables and compact.
pub(crate) const OPTIONS: RecordStoreOptions = RecordStoreOptions { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20 };

fn record_key(sequence: u64) -> Vec<u8> {
    let mut key = vec![1];
    key.extend(1_u64.to_be_bytes());
    key.extend(2_u16.to_be_bytes());
    key.extend(sequence.to_be_bytes());
    key
}

/// New records, changes to old ones, and deletions: single ones and a run of the oldest.
pub(crate) fn batch(number: u64) -> WriteBatch {
    let mut random = StdRng::seed_from_u64(number);
    let mut batch = WriteBatch::default();
    batch.put(META_KEY, number.to_be_bytes());
    let newest = number * RECORDS_PER_BATCH;
    for sequence in newest..newest + RECORDS_PER_BATCH {
        batch.put(record_key(sequence), value(&mut random));
    }
    for _ in 0..10 {
        batch.put(record_key(random.random_range(0..newest + RECORDS_PER_BATCH)), value(&mut random));
        batch.delete(record_key(random.random_range(0..newest + RECORDS_PER_BATCH)));
    }
    for sequence in (newest / 2..).take(RECORDS_PER_BATCH as usize / 4) {
        batch.delete(record_key(sequence));
    }
    batch
}

fn value(random: &mut StdRng) -> Vec<u8> {
    let length = random.random_range(0..900);
    // Half of it compresses, half does not.
    (0..length).map(|at| if at % 2 == 0 { random.random() } else { length as u8 }).collect()
}

/// What a store holds after the batches `after + 1 ..= until`, given what it held after `after`.
pub(crate) fn advance(pairs: &mut Pairs, after: u64, until: u64) {
    for (key, value) in (after + 1..=until).flat_map(|number| batch(number).operations) {
        match value {
            Some(value) => pairs.insert(key, value),
            None => pairs.remove(&key),
        };
    }
}

/// The number of the last batch that the store holds.
pub(crate) fn last_batch(store: &dyn RecordStore) -> Result<u64, RecordStoreError> {
    let number = store.get(&META_KEY)?;
    Ok(number.map_or(0, |number| u64::from_be_bytes((&number[..]).try_into().unwrap())))
}

/// Reads everything.
pub(crate) fn contents(store: &dyn RecordStore) -> Result<Pairs, RecordStoreError> {
    let mut pairs = Pairs::new();
    store.scan(&[], &[0xff; 8], &mut |key, value| {
        assert!(pairs.insert(key.to_vec(), value.to_vec()).is_none(), "{key:?} came twice");
        ControlFlow::Continue(())
    })?;
    Ok(pairs)
}
