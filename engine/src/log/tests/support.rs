//! A small log on a simulated disk.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, SimulatedDisk};
use crate::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, NodeId, Term};
use crate::log::{
    Entry, EntryKind, FaultPolicy, Log, LogError, LogIdentity, LogOptions, LogReader, LogWriter, Recovery, Verification,
};

pub(super) const IDENTITY: LogIdentity =
    LogIdentity { cluster: ClusterId([7; 16]), node: NodeId(3), group: GroupId(1), history: HistoryId([9; 16]) };

/// Room for a handful of entries per segment.
pub(super) fn small_options() -> LogOptions {
    LogOptions {
        segment_bytes: 8192 + 1024,
        segment_entries: 8,
        spare_segments: 1,
        verification: Verification::Everything,
        faults: FaultPolicy::Refuse,
        create: true,
    }
}

pub(super) type Opened = (LogWriter, LogReader, Recovery);

pub(super) fn open(disk: &SimulatedDisk) -> Result<Opened, LogError> {
    open_with(disk, small_options())
}

pub(super) fn open_with(disk: &SimulatedDisk, options: LogOptions) -> Result<Opened, LogError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Log::open(disk, options, IDENTITY)
}

pub(super) fn entry(index: u64, term: u64, payload: &str) -> Entry {
    let kind = if index.is_multiple_of(5) { EntryKind::Empty } else { EntryKind::Event };
    Entry {
        position: LogPosition { term: Term(term), index: LogIndex(index) },
        kind,
        // Every fifth entry is no event and carries the tag of the event before it.
        tag: index - index / 5,
        payload: Bytes::copy_from_slice(payload.as_bytes()),
    }
}

/// Entries of varying size.
pub(super) fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Vec<Entry> {
    let payload = |index: u64| "x".repeat(usize::try_from(index * 13 % 50).unwrap());
    range.map(|index| entry(index, term, &format!("{index}.{term}.{}", payload(index)))).collect()
}

pub(super) fn all(reader: &LogReader) -> Vec<Entry> {
    let mut found = Vec::new();
    reader
        .scan(LogIndex::ZERO, &mut |entry| {
            found.push(entry);
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}
