//! Looking at a log without touching it.

use super::recovery::{Found, extent_of, find_segments, list, owed, segment_of};
use super::scan::{Extent, scan_segment};
use super::segment::SegmentHeader;
use super::state::{LogState, STATE_FILE, STATE_TWIN, StateCopy, StateFile, read_copies};
use super::{Fault, FaultKind, FrameHeader, LogError, PersistRecord};
use crate::disk::Disk;

/// One thing found in the files of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A copy of the state.
    State {
        /// Which of them: four of the state file, then four of its twin.
        copy: usize,
        /// Its content, or why there is none.
        content: StateCopy,
    },
    /// A segment that counts.
    Segment {
        /// Its file.
        file: String,
        /// Its header, or why the file is of no use.
        header: Result<SegmentHeader, FaultKind>,
    },
    /// A slot of a segment: a frame and its persist record.
    Slot {
        /// The segment's file.
        file: String,
        /// Number of the slot.
        slot: u64,
        /// Where the frame should start.
        offset: u64,
        /// The frame.
        frame: FrameVerdict,
        /// Its record.
        record: RecordVerdict,
    },
    /// Damage, as opening would report it.
    Fault(Fault),
    /// Files that hold nothing that counts and wait for reuse or removal.
    Spare {
        /// The file.
        file: String,
    },
}

/// The verdict on a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameVerdict {
    /// Intact.
    Good(FrameHeader),
    /// Damaged, torn, or nothing at all where the log ends.
    Bad(String),
}

/// The verdict on a persist record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordVerdict {
    /// Intact.
    Good(PersistRecord),
    /// Damaged, or never written.
    Absent,
}

/// Goes through all files of a log in order and hands everything on to `visit`. Nothing is changed.
///
/// # Errors
/// When the directory or the state cannot be read at all; damage to segments is a finding.
pub fn inspect(disk: &dyn Disk, visit: &mut dyn FnMut(Finding)) -> Result<(), LogError> {
    let mut copies = 0;
    for file in [STATE_FILE, STATE_TWIN].into_iter().filter_map(|name| disk.open(name).ok()) {
        for content in read_copies(file.as_ref()) {
            visit(Finding::State { copy: copies, content });
            copies += 1;
        }
    }
    let Some((_, loaded)) = StateFile::open(disk)? else { return Err(LogError::Missing) };
    let state = loaded.state;
    let found = find_segments(disk, &state)?;
    inspect_segments(&state, found, visit);
    let listing = list(disk)?;
    let counts = |sequence: u64| (state.oldest_segment..=state.newest_segment).contains(&sequence);
    let leftovers = listing.segments.into_iter().filter(|(sequence, _)| !counts(*sequence)).map(|(_, name)| name);
    listing.spares.into_values().chain(leftovers).for_each(|file| visit(Finding::Spare { file }));
    Ok(())
}

fn inspect_segments(state: &LogState, found: Vec<Found>, visit: &mut dyn FnMut(Finding)) {
    let headers: Vec<Result<SegmentHeader, FaultKind>> =
        found.iter().map(|found| found.file.as_ref().map(|file| file.header).map_err(Clone::clone)).collect();
    let mut before = (state.base, state.base_tag);
    let (mut newest, mut faults) = (String::new(), Vec::new());
    for (place, found) in found.into_iter().enumerate() {
        visit(Finding::Segment { file: found.name.clone(), header: headers[place].clone() });
        let next = headers.get(place + 1).and_then(|header| header.clone().ok());
        let segment = segment_of(state, found, before);
        let extent = extent_of(state, &segment, next, place + 1 == headers.len());
        if let (Extent::Sealed(last, _), None) = (extent, &segment.file)
            && last.index <= before.0.index
        {
            continue;
        }
        let file = segment.name.clone();
        let scan = scan_segment(&segment, extent, &state.known_terms(), &mut |slot| {
            visit(Finding::Slot {
                file: file.clone(),
                slot: slot.slot,
                offset: slot.offset,
                frame: slot.frame.map_or_else(FrameVerdict::Bad, FrameVerdict::Good),
                record: slot.record.map_or(RecordVerdict::Absent, RecordVerdict::Good),
            });
        });
        faults.extend(scan.faults.iter().cloned());
        scan.faults.into_iter().for_each(|fault| visit(Finding::Fault(fault)));
        before = (scan.tail.last, scan.tail.last_tag);
        newest = file;
    }
    if let Some(fault) = owed(state, &newest, before.0.index, &faults) {
        visit(Finding::Fault(fault));
    }
}
