//! Files with arbitrary numbers in them, checksums made to fit: nothing may panic, and what opens without a fault must
//! work. (With a state that is wrong and whose checksums fit nothing can be promised beyond that.)

use std::ops::ControlFlow;

use proptest::collection::vec;
use proptest::prelude::*;

use super::support::{entries, open, open_with, small_options};
use crate::disk::{Disk, SimulatedDisk};
use crate::ids::{LogIndex, LogPosition};
use crate::log::layout::checksum;
use crate::log::{Entry, EntryKind, FaultPolicy, LogOptions, inspect};

fn sample() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let (mut writer, ..) = open(&disk).unwrap();
    writer.append(&entries(1..=20, 1)).unwrap();
    writer.sync().unwrap();
    writer.rewrite_sparse(&mut |index, _| index.0 == 4, LogIndex(8), 0.9).unwrap();
    writer.append(&entries(21..=22, 1)).unwrap();
    writer.close().unwrap();
    disk
}

/// A number to put into all copies of one header field of one file.
#[derive(Clone, Debug)]
struct Change {
    file: usize,
    field: usize,
    number: u64,
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![0..40_u64, 8000..10_000_u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()];
    (any::<usize>(), 1..62_usize, number).prop_map(|(file, field, number)| Change { file, field, number })
}

fn apply(disk: &SimulatedDisk, change: &Change) {
    let names = disk.list().unwrap();
    match names[change.file % names.len()].as_str() {
        // Both say the same, or the better one is believed.
        "state" | "state-twin" => ["state", "state-twin"].iter().for_each(|name| apply_to(disk, name, change)),
        name => apply_to(disk, name, change),
    }
}

fn apply_to(disk: &SimulatedDisk, name: &str, change: &Change) {
    let mut bytes = disk.contents(name).unwrap();
    for copy in (0..bytes.len()).step_by(4096).filter(|copy| copy + 512 <= bytes.len()).collect::<Vec<_>>() {
        // Only headers and states have copies; the frames begin at the third block of a segment.
        if !name.starts_with("state") && copy >= 8192 {
            continue;
        }
        let block = &mut bytes[copy..copy + 512];
        block[change.field * 8..change.field * 8 + 8].copy_from_slice(&change.number.to_le_bytes());
        let sum = checksum(0, &[&block[..508]]);
        block[508..].copy_from_slice(&sum.to_le_bytes());
    }
    disk.place(name, &bytes);
}

fn use_log(disk: &SimulatedDisk, is_state_true: bool) {
    inspect(disk, &mut |_| {}).unwrap_or_default();
    let options = LogOptions { faults: FaultPolicy::Report, ..small_options() };
    let Ok((mut writer, reader, recovery)) = open_with(disk, options) else { return };
    drop(reader.scan(LogIndex::ZERO, &mut |_| ControlFlow::Continue(())));
    drop((reader.read(reader.last().index), reader.read_tag(reader.last_tag()), reader.read(reader.first())));
    let next = Entry {
        position: LogPosition { index: LogIndex(reader.last().index.0.saturating_add(1)), ..reader.last() },
        kind: EntryKind::Event,
        tag: reader.last_tag(),
        payload: bytes::Bytes::from_static(b"next"),
    };
    drop(writer.rewrite_sparse(&mut |index, _| index.0.is_multiple_of(2), LogIndex(12), 0.9));
    drop(writer.repair(&recovery.faults, &mut |_| None));
    drop(writer.outline());
    if let Some(first) = writer.holes().first().map(|hole| hole.first) {
        drop(writer.fill(&[Entry { position: LogPosition { index: first, ..reader.last() }, ..next.clone() }]));
        drop(writer.settle_end(first.next()));
        drop(writer.discard_from(first));
    }
    let appended = writer.append(std::slice::from_ref(&next)).is_ok() && writer.sync().is_ok();
    if appended && recovery.faults.is_empty() && is_state_true {
        assert_eq!(reader.read(next.position.index).unwrap().as_ref(), Some(&next));
        let (_, reader, _) = open_with(disk, options).unwrap();
        assert_eq!(reader.read(next.position.index).unwrap(), Some(next));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_number_in_a_header_makes_the_log_panic(changes in vec(change(), 1..3)) {
        let disk = sample();
        let state = disk.contents("state");
        changes.iter().for_each(|change| apply(&disk, change));
        use_log(&disk, disk.contents("state") == state);
    }
}
