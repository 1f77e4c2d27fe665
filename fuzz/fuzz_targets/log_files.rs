//! A log with arbitrary changes to its files.
//!
//! The input is a list of changes of 6 bytes: which file, where (3 bytes), whether the checksum of the header or state
//! copy there is made to fit afterwards (so that hostile numbers get past it), and the new value.
#![no_main]

use std::ops::ControlFlow;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use steeple_engine::disk::SimulatedDisk;
use steeple_engine::ids::{LogIndex, LogPosition};
use steeple_engine::log::{Entry, EntryKind, FaultPolicy, Log, LogOptions, Verification, inspect, read_identity};

/// The golden log.
const FILES: [(&str, &[u8]); 4] = [
    ("state", include_bytes!("../../engine/testdata/golden/log-1/state")),
    ("segment-0000000000000001", include_bytes!("../../engine/testdata/golden/log-1/segment-0000000000000001")),
    ("segment-0000000000000002", include_bytes!("../../engine/testdata/golden/log-1/segment-0000000000000002")),
    ("segment-0000000000000003", include_bytes!("../../engine/testdata/golden/log-1/segment-0000000000000003")),
];

fn damaged(changes: &[u8]) -> SimulatedDisk {
    let mut files = FILES.map(|(name, bytes)| (name, bytes.to_vec()));
    for change in changes.chunks_exact(6) {
        let (_, bytes) = &mut files[usize::from(change[0]) % FILES.len()];
        let offset = u32::from_le_bytes([change[1], change[2], change[3], 0]) as usize % bytes.len();
        if offset / 512 * 512 + 512 > bytes.len() {
            continue;
        }
        bytes[offset] = change[5];
        if change[4] % 2 == 1 {
            seal(&mut bytes[offset / 512 * 512..]);
        }
    }
    let disk = SimulatedDisk::new();
    files.iter().for_each(|(name, bytes)| disk.place(name, bytes));
    disk
}

fn seal(block: &mut [u8]) {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[0; 8]);
    hasher.update(&block[..508]);
    block[508..512].copy_from_slice(&hasher.finalize().to_le_bytes());
}

fuzz_target!(|changes: &[u8]| {
    let disk = damaged(changes);
    let _ = inspect(&disk, &mut |_| {});
    let Ok(Some(identity)) = read_identity(&disk) else { return };
    let options = LogOptions {
        segment_bytes: 8192 + 1024,
        segment_entries: 8,
        verification: Verification::Everything,
        faults: FaultPolicy::Report,
        ..LogOptions::default()
    };
    let Ok((mut writer, reader, _)) = Log::open(Arc::new(disk.clone()), options, identity) else { return };
    let _ = reader.scan(LogIndex::ZERO, &mut |_| ControlFlow::Continue(()));
    let last = reader.last();
    let _ = reader.read(last.index);
    let _ = reader.read_tag(reader.last_tag());
    if last.index.0 > u64::MAX / 2 {
        return;
    }
    let next = Entry {
        position: LogPosition { term: last.term, index: last.index.next() },
        kind: EntryKind::Event,
        tag: reader.last_tag(),
        payload: Default::default(),
    };
    let has_forgery = changes.chunks_exact(6).any(|change| change[4] % 2 == 1);
    let appended = writer.append(&[next.clone()]).is_ok() && writer.sync().is_ok();
    // Headers that contradict each other while their checksums fit are no damage; nothing is promised about them.
    if appended && !has_forgery {
        let (_, reader, _) =
            Log::open(Arc::new(disk), options, identity).expect("a log that took an entry opens again");
        assert_eq!(reader.read(next.position.index).expect("it is readable"), Some(next));
    }
});
