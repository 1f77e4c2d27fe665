//! Random operations against a vector.

use proptest::collection::vec;
use proptest::prelude::*;

use super::support::{all, entry, open};
use crate::disk::SimulatedDisk;
use crate::disk::simulated::CrashLoss;
use crate::ids::LogIndex;
use crate::log::{Entry, EntryKind, LogReader};

#[derive(Clone, Debug)]
enum Operation {
    Append(Vec<u8>),
    Sync,
    Truncate(u64),
    Purge(u64),
    Close,
    Crash(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => vec(0..200_u8, 1..8).prop_map(Operation::Append),
        3 => Just(Operation::Sync),
        1 => (0..10_u64).prop_map(Operation::Truncate),
        1 => (0..30_u64).prop_map(Operation::Purge),
        1 => Just(Operation::Close),
        1 => any::<u64>().prop_map(Operation::Crash),
    ]
}

/// Entries from `first` on with payloads of these sizes.
fn sized(first: u64, term: u64, sizes: &[u8]) -> Vec<Entry> {
    (first..).zip(sizes).map(|(index, size)| entry(index, term, &"y".repeat(usize::from(*size)))).collect()
}

fn check(reader: &LogReader, expected: &[Entry]) {
    let mut events = reader.events();
    let first = reader.first();
    let held: Vec<Entry> = expected.iter().filter(|entry| entry.position.index >= first).cloned().collect();
    assert_eq!(all(reader), held);
    for entry in expected {
        let held = (entry.position.index >= first).then(|| entry.clone());
        assert_eq!(reader.read(entry.position.index).unwrap(), held);
        if entry.kind == EntryKind::Event {
            assert_eq!(reader.read_tag(entry.tag).unwrap(), held);
            assert_eq!(events.read_tag(entry.tag).unwrap(), held);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_log_behaves_like_a_vector(operations in vec(operation(), 1..60)) {
        let mut disk = SimulatedDisk::new();
        let (mut writer, mut reader, _) = open(&disk).unwrap();
        let mut expected: Vec<Entry> = Vec::new();
        for (term, operation) in (1..).zip(&operations) {
            match operation {
                Operation::Append(sizes) => {
                    let more = sized(expected.len() as u64 + 1, term, sizes);
                    writer.append(&more).unwrap();
                    expected.extend(more);
                }
                Operation::Sync => {
                    writer.sync().unwrap();
                    prop_assert_eq!(reader.durable(), reader.last());
                }
                Operation::Truncate(count) => {
                    let from = (expected.len() as u64 + 1).saturating_sub(*count).max(reader.first().0);
                    writer.truncate_suffix(LogIndex(from)).unwrap();
                    expected.truncate(usize::try_from(from - 1).unwrap());
                }
                Operation::Purge(behind) => {
                    let up_to = (expected.len() as u64).saturating_sub(*behind);
                    writer.purge_prefix(LogIndex(up_to)).unwrap();
                    prop_assert!(reader.base().index.0 <= up_to.max(reader.base().index.0));
                }
                Operation::Close => {
                    writer.close().unwrap();
                    (writer, reader, _) = open(&disk).unwrap();
                }
                Operation::Crash(seed) => {
                    let durable = usize::try_from(reader.durable().index.0).unwrap();
                    disk = disk.crash(if seed % 2 == 0 { CrashLoss::Everything } else { CrashLoss::Suffix }, *seed);
                    let Ok((new_writer, new_reader, _)) = open(&disk) else {
                        // Only an unfinished batch can be refused, and only when there was one.
                        prop_assert!(durable < expected.len());
                        return Ok(());
                    };
                    (writer, reader) = (new_writer, new_reader);
                    let last = usize::try_from(reader.last().index.0).unwrap();
                    prop_assert!(durable <= last && last <= expected.len());
                    expected.truncate(last);
                }
            }
            check(&reader, &expected);
        }
    }
}
