//! What every record store has to pass, whatever engine is below it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

use super::{RecordStore, RecordStoreError, RecordStoreKind, RecordStoreOptions, WriteBatch, destroy, open, ruin};

/// Above every key that the suite uses.
const END: &[u8] = &[0xff; 24];

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Small enough that the tests reach eviction, tables on disk and compaction.
fn small_options() -> RecordStoreOptions {
    RecordStoreOptions { cache_bytes: 1 << 20, write_buffer_bytes: 1 << 20 }
}

/// A store, and how it comes back.
struct Subject {
    kind: RecordStoreKind,
    directory: TempDir,
    store: Option<Arc<dyn RecordStore>>,
}

impl Subject {
    fn new(kind: RecordStoreKind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Some(open(kind, directory.path(), &small_options()).unwrap());
        Self { kind, directory, store }
    }

    fn store(&self) -> &dyn RecordStore {
        &**self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        if self.kind != RecordStoreKind::Memory {
            self.store = None;
            self.store = Some(open(self.kind, self.directory.path(), &small_options()).unwrap());
        }
    }
}

fn put(store: &dyn RecordStore, key: &[u8], value: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.put(key, value);
    store.apply(batch).unwrap();
}

fn delete(store: &dyn RecordStore, key: &[u8]) {
    let mut batch = WriteBatch::default();
    batch.delete(key);
    store.apply(batch).unwrap();
}

fn get(store: &dyn RecordStore, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).unwrap().map(|value| value.to_vec())
}

fn scan(store: &dyn RecordStore, from: &[u8], to: &[u8]) -> Pairs {
    let mut pairs = Pairs::new();
    store
        .scan(from, to, &mut |key, value| {
            pairs.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
    pairs
}

fn keys(store: &dyn RecordStore, from: &[u8], to: &[u8]) -> Vec<String> {
    scan(store, from, to).into_iter().map(|(key, _)| String::from_utf8(key).unwrap()).collect()
}

/// A key of the shape that records have.
fn record_key(sequence: u64) -> Vec<u8> {
    let mut key = vec![1];
    key.extend(7_u64.to_be_bytes());
    key.extend(3_u16.to_be_bytes());
    key.extend(sequence.to_be_bytes());
    key
}

fn get_and_overwrite(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let store = subject.store();
    assert_eq!(get(store, b"a"), None);
    put(store, b"a", b"1");
    assert_eq!(get(store, b"a").as_deref(), Some(&b"1"[..]));
    put(store, b"a", b"22");
    assert_eq!(get(store, b"a").as_deref(), Some(&b"22"[..]));
    // Neither a prefix of a key nor its extension is the key.
    assert_eq!(get(store, b""), None);
    assert_eq!(get(store, b"a\0"), None);
    delete(store, b"a");
    assert_eq!(get(store, b"a"), None);
    delete(store, b"a");
    assert_eq!(scan(store, b"", END), Pairs::new());
}

fn last_operation_on_a_key_wins(kind: RecordStoreKind) {
    let mut subject = Subject::new(kind);
    put(subject.store(), b"c", b"old");
    let mut batch = WriteBatch::default();
    batch.put("a", "1");
    batch.put("a", "2");
    batch.put("b", "1");
    batch.delete("b");
    batch.delete("c");
    batch.put("c", "new");
    batch.delete("d");
    subject.store().apply(batch).unwrap();
    for _ in 0..2 {
        let pairs = scan(subject.store(), b"", END);
        assert_eq!(pairs, [(b"a".to_vec(), b"2".to_vec()), (b"c".to_vec(), b"new".to_vec())]);
        subject.store().flush().unwrap();
        subject.reopen();
    }
}

fn scan_respects_bounds_and_order(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let store = subject.store();
    for key in ["b", "aa", "c", "a", "ab", "ca"] {
        put(store, key.as_bytes(), b"x");
    }
    assert_eq!(keys(store, b"", END), ["a", "aa", "ab", "b", "c", "ca"]);
    assert_eq!(keys(store, b"aa", b"c"), ["aa", "ab", "b"], "the start is in, the end is out");
    assert_eq!(keys(store, b"a\0", b"b\0"), ["aa", "ab", "b"], "bounds need not exist");
    assert_eq!(keys(store, b"a", b"a"), [""; 0]);
    assert_eq!(keys(store, b"c", b"a"), [""; 0], "a reversed range is empty");
    assert_eq!(keys(store, b"d", END), [""; 0]);
}

fn scan_stops_when_told(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let store = subject.store();
    let mut batch = WriteBatch::default();
    for sequence in 0..1000 {
        batch.put(record_key(sequence), sequence.to_be_bytes());
    }
    store.apply(batch).unwrap();
    let mut visited = 0_u64;
    store
        .scan(&record_key(100), END, &mut |key, value| {
            assert_eq!(key, record_key(100 + visited));
            assert_eq!(value, (100 + visited).to_be_bytes());
            visited += 1;
            if visited == 300 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(visited, 300);
}

fn visitor_may_read_and_may_panic(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let store = subject.store();
    put(store, b"a", b"b");
    put(store, b"b", b"c");
    let mut found = Vec::new();
    store
        .scan(b"", END, &mut |_, value| {
            found.push(get(store, value));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, [Some(b"c".to_vec()), None]);

    let panicking = std::panic::AssertUnwindSafe(|| store.scan(b"", END, &mut |_, _| panic!("visitor's own fault")));
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(get(store, b"a").as_deref(), Some(&b"b"[..]), "the store is not to blame");
    put(store, b"c", b"d");
}

fn odd_sizes_are_kept(kind: RecordStoreKind) {
    let mut subject = Subject::new(kind);
    let large: Vec<u8> = (0..16_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let long_key = vec![7_u8; 4096];
    let mut batch = WriteBatch::default();
    batch.put("empty", "");
    batch.put("large", large.clone());
    batch.put(long_key.clone(), "long");
    subject.store().apply(batch).unwrap();
    for _ in 0..2 {
        let store = subject.store();
        assert_eq!(get(store, b"empty").as_deref(), Some(&b""[..]), "an empty value is not a missing one");
        assert!(get(store, b"large").as_deref() == Some(&large[..]));
        assert_eq!(get(store, &long_key).as_deref(), Some(&b"long"[..]));
        assert_eq!(scan(store, b"", END).len(), 3);
        store.flush().unwrap();
        subject.reopen();
    }
}

fn empty_batch_and_repeated_flush_are_harmless(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let store = subject.store();
    store.flush().unwrap();
    store.apply(WriteBatch::default()).unwrap();
    put(store, b"a", b"1");
    store.flush().unwrap();
    store.flush().unwrap();
    assert_eq!(get(store, b"a").as_deref(), Some(&b"1"[..]));
}

/// More records than the caches hold, changed and deleted over several sessions.
fn survives_reopening(kind: RecordStoreKind) {
    let mut subject = Subject::new(kind);
    let mut model = BTreeMap::new();
    for session in 0..3_u64 {
        for number in 0..30 {
            let mut batch = WriteBatch::default();
            for sequence in (0..100).map(|at| session * 2000 + number * 100 + at) {
                let value = vec![(sequence % 251) as u8; 600];
                model.insert(record_key(sequence), value.clone());
                batch.put(record_key(sequence), value);
            }
            for sequence in (number * 7..3000).step_by(97) {
                model.remove(&record_key(sequence));
                batch.delete(record_key(sequence));
            }
            subject.store().apply(batch).unwrap();
        }
        subject.store().flush().unwrap();
        if kind != RecordStoreKind::Memory {
            assert!(subject.store().disk_bytes().unwrap() > 0);
        }
        subject.reopen();
        let expected: Pairs = model.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        assert!(scan(subject.store(), b"", END) == expected, "session {session}");
    }
}

/// Every batch gives all keys the same number, so a reader never sees numbers go back on any key.
fn readers_see_whole_values_while_batches_are_applied(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let store = subject.store.clone().unwrap();
    let applied = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let value_of = |number: u64| {
        let mut value = number.to_be_bytes().to_vec();
        value.resize(300, number as u8);
        value
    };
    std::thread::scope(|scope| {
        for reader in 0..3 {
            let (store, applied, done) = (store.clone(), applied.clone(), done.clone());
            scope.spawn(move || {
                let mut rounds = 0;
                while !done.load(Ordering::Acquire) || rounds == 0 {
                    rounds += 1;
                    let floor = applied.load(Ordering::Acquire);
                    let check = |key: &[u8], value: &[u8]| {
                        let number = u64::from_be_bytes(value[..8].try_into().unwrap());
                        assert!(number >= floor, "{key:?} is at {number} after {floor} was applied");
                        assert!(value == value_of(number), "{key:?} is torn at {number}");
                    };
                    if reader == 0 {
                        let pairs = scan(&*store, &record_key(0), END);
                        let lasting = pairs.iter().filter(|(key, _)| *key < record_key(10_000)).count();
                        assert!(floor == 0 || lasting == 400, "{lasting} of 400 keys after {floor}");
                        pairs.iter().for_each(|(key, value)| check(key, value));
                    } else if let Some(value) = get(&*store, &record_key(rounds % 400)) {
                        check(&record_key(rounds % 400), &value);
                    }
                }
            });
        }
        for number in 1..=200_u64 {
            let mut batch = WriteBatch::default();
            for sequence in 0..400 {
                batch.put(record_key(sequence), value_of(number));
            }
            // Comes and goes beside the others, so that leaves split and empty under the readers.
            for sequence in 0..50 {
                batch.put(record_key(10_000 + number * 50 + sequence), value_of(number));
                batch.delete(record_key(10_000 + (number - 1) * 50 + sequence));
            }
            for sequence in 0..50 {
                batch.delete(record_key(10_000 + number * 50 + sequence));
            }
            store.apply(batch).unwrap();
            applied.store(number, Ordering::Release);
            if number % 20 == 0 {
                store.flush().unwrap();
            }
        }
        done.store(true, Ordering::Release);
    });
    assert_eq!(scan(&*store, b"", END).len(), 400);
}

/// One step of the model test.
#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<(u16, Option<u16>)>),
    Flush,
    Reopen,
    Scan(u16, u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few enough keys that they meet again, enough of them that leaves split.
    let key = 0..600_u16;
    let operation = (key.clone(), proptest::option::weighted(0.6, 0..1200_u16));
    let step = prop_oneof![
        8 => vec(operation, 0..120).prop_map(Step::Apply),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        2 => (key.clone(), key).prop_map(|(from, to)| Step::Scan(from, to)),
    ];
    vec(step, 1..40)
}

fn behaves_like_an_ordered_map(kind: RecordStoreKind) {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(&steps(), |steps| check_against_model(kind, steps)).unwrap();
}

fn check_against_model(kind: RecordStoreKind, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let key = |number: u16| record_key(u64::from(number));
    let value = |length: u16| vec![length as u8; usize::from(length)];
    let mut subject = Subject::new(kind);
    let mut model = BTreeMap::new();
    for step in steps {
        match step {
            Step::Apply(operations) => {
                let mut batch = WriteBatch::default();
                for (at, length) in operations {
                    batch.operations.push((key(at), length.map(value)));
                    match length {
                        Some(length) => model.insert(key(at), value(length)),
                        None => model.remove(&key(at)),
                    };
                }
                subject.store().apply(batch).unwrap();
            }
            Step::Flush => subject.store().flush().unwrap(),
            Step::Reopen => subject.reopen(),
            Step::Scan(from, to) => {
                let expected: Pairs = model
                    .range(key(from.min(to))..key(to))
                    .map(|(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone()))
                    .collect();
                prop_assert!(scan(subject.store(), &key(from.min(to)), &key(to)) == expected);
            }
        }
    }
    let expected: Pairs = model.clone().into_iter().collect();
    prop_assert!(scan(subject.store(), b"", END) == expected);
    for at in 0..600 {
        prop_assert!(get(subject.store(), &key(at)).as_ref() == model.get(&key(at)));
    }
    Ok(())
}

fn destroyed_store_starts_empty(kind: RecordStoreKind) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    destroy(&path).unwrap();
    let store = open(kind, &path, &small_options()).unwrap();
    put(&*store, b"a", b"1");
    store.flush().unwrap();
    drop(store);
    destroy(&path).unwrap();
    assert!(!path.exists());
    let store = open(kind, &path, &small_options()).unwrap();
    assert_eq!(get(&*store, b"a"), None);
}

fn ruined_store_is_refused_until_it_is_destroyed(kind: RecordStoreKind) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let store = open(kind, &path, &small_options()).unwrap();
    put(&*store, b"a", b"1");
    store.flush().unwrap();
    drop(store);
    ruin(&path).unwrap();
    assert!(matches!(open(kind, &path, &small_options()), Err(RecordStoreError::Failed { .. })));
    destroy(&path).unwrap();
    let store = open(kind, &path, &small_options()).unwrap();
    assert_eq!(get(&*store, b"a"), None);
}

fn directory_of_another_kind_is_refused(kind: RecordStoreKind) {
    let other = if kind == RecordStoreKind::Sled { RecordStoreKind::Fjall } else { RecordStoreKind::Sled };
    let directory = tempfile::tempdir().unwrap();
    drop(open(other, directory.path(), &small_options()).unwrap());
    assert!(matches!(open(kind, directory.path(), &small_options()), Err(RecordStoreError::Failed { .. })));
    // It was left as it is.
    open(other, directory.path(), &small_options()).unwrap();
}

fn measuring_a_store_cannot_spoil_it(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    put(subject.store(), b"key", b"value");
    let (data, aside) = (subject.directory.path().join("data"), subject.directory.path().join("aside"));
    std::fs::rename(&data, &aside).unwrap();
    std::fs::write(&data, "not a directory").unwrap();
    assert!(matches!(subject.store().disk_bytes(), Err(RecordStoreError::Failed { .. })));
    std::fs::remove_file(&data).unwrap();
    std::fs::rename(&aside, &data).unwrap();
    assert_eq!(get(subject.store(), b"key").as_deref(), Some(&b"value"[..]));
    put(subject.store(), b"key", b"other");
    subject.store().flush().unwrap();
    assert!(subject.store().disk_bytes().unwrap() > 0);
}

fn directory_in_use_is_refused(kind: RecordStoreKind) {
    let subject = Subject::new(kind);
    let path = subject.directory.path();
    assert!(matches!(open(kind, path, &small_options()), Err(RecordStoreError::InUse { .. })));
    assert!(matches!(destroy(path), Err(RecordStoreError::InUse { .. })));
    put(subject.store(), b"a", b"1");
}

/// Runs the suite on one kind of store, a test for each behaviour.
macro_rules! suite_for {
    ($module:ident, $kind:expr, [$($test:ident),* $(,)?]) => {
        mod $module {
            $(#[test] fn $test() { super::$test($kind); })*
        }
    };
}

suite_for!(
    memory,
    super::RecordStoreKind::Memory,
    [
        get_and_overwrite,
        last_operation_on_a_key_wins,
        scan_respects_bounds_and_order,
        scan_stops_when_told,
        visitor_may_read_and_may_panic,
        odd_sizes_are_kept,
        empty_batch_and_repeated_flush_are_harmless,
        survives_reopening,
        readers_see_whole_values_while_batches_are_applied,
        behaves_like_an_ordered_map,
    ]
);
suite_for!(
    sled,
    super::RecordStoreKind::Sled,
    [
        get_and_overwrite,
        last_operation_on_a_key_wins,
        scan_respects_bounds_and_order,
        scan_stops_when_told,
        visitor_may_read_and_may_panic,
        odd_sizes_are_kept,
        empty_batch_and_repeated_flush_are_harmless,
        survives_reopening,
        readers_see_whole_values_while_batches_are_applied,
        behaves_like_an_ordered_map,
        destroyed_store_starts_empty,
        ruined_store_is_refused_until_it_is_destroyed,
        directory_of_another_kind_is_refused,
        directory_in_use_is_refused,
        measuring_a_store_cannot_spoil_it,
    ]
);
suite_for!(
    fjall,
    super::RecordStoreKind::Fjall,
    [
        get_and_overwrite,
        last_operation_on_a_key_wins,
        scan_respects_bounds_and_order,
        scan_stops_when_told,
        visitor_may_read_and_may_panic,
        odd_sizes_are_kept,
        empty_batch_and_repeated_flush_are_harmless,
        survives_reopening,
        readers_see_whole_values_while_batches_are_applied,
        behaves_like_an_ordered_map,
        destroyed_store_starts_empty,
        ruined_store_is_refused_until_it_is_destroyed,
        directory_of_another_kind_is_refused,
        directory_in_use_is_refused,
        measuring_a_store_cannot_spoil_it,
    ]
);
