//! What the writer and the readers of a log share: the list of segments and how far they are filled.

use std::sync::Arc;

use parking_lot::RwLock;

use super::segment::{SEGMENT_HEADER_BYTES, Segment, Tail};
use super::terms::TermTable;
use crate::ids::{LogIndex, LogPosition};

/// One segment and how far it is filled.
#[derive(Clone)]
pub(super) struct Filled {
    pub(super) segment: Arc<Segment>,
    pub(super) tail: Tail,
}

impl Filled {
    /// Whether entries of its range are gone.
    pub(super) fn has_holes(&self) -> bool {
        let header = &self.segment.header;
        header.sealed.is_some() && self.tail.last.index.0.saturating_sub(header.previous.index.0) > self.tail.entries
    }

    /// Whether it has room for less than it holds.
    pub(super) fn is_half_full(&self) -> bool {
        let header = &self.segment.header;
        let (from, to) = (SEGMENT_HEADER_BYTES as u64, header.records_offset);
        let half = from + to.saturating_sub(from) / 2;
        self.tail.frames_end > half || self.tail.entries > header.record_slots / 2
    }
}

/// The log as its readers see it.
pub(super) struct View {
    /// Position of the entry before the first one.
    pub(super) base: LogPosition,
    /// Tag of that entry.
    pub(super) base_tag: u64,
    /// All segments, oldest first; their ranges touch.
    pub(super) segments: Vec<Filled>,
    /// Up to here entries may be missing, or have other numbers than they had in the group's log: a rewrite has left
    /// holes, or the entries were taken over from a snapshot that had some.
    pub(super) settled: LogIndex,
    /// Which terms the newest entries are of: an intact frame of another term is what the disk held there earlier.
    pub(super) terms: TermTable,
    /// Everything up to here is on the disk for good. Never beyond the last entry.
    pub(super) durable: LogPosition,
    /// Files that wait for reuse take this much.
    pub(super) spare_bytes: u64,
    /// Counts what makes bytes under a reader change: entries cut off, segments replaced.
    pub(super) revision: u64,
}

/// The view under its lock, which is held for lookups and updates in memory only, never during input or output.
pub(super) type Shared = Arc<RwLock<View>>;

impl View {
    /// Position and tag of the last entry.
    pub(super) fn last(&self) -> (LogPosition, u64) {
        self.segments.last().map_or((self.base, self.base_tag), |filled| (filled.tail.last, filled.tail.last_tag))
    }

    /// The end of the newest segment that a rewrite has left holes in; zero when there is none.
    pub(super) fn holes_end(&self) -> LogIndex {
        let newest = self.segments.iter().rfind(|filled| filled.has_holes());
        newest.map_or(LogIndex::ZERO, |filled| filled.tail.last.index)
    }

    /// The segment whose range contains the index, with what is known about the terms.
    pub(super) fn segment_of(&self, index: LogIndex) -> Option<(Filled, TermTable)> {
        self.place_of(index).map(|place| (self.segments[place].clone(), self.terms))
    }

    /// The place of the segment whose range contains the index.
    pub(super) fn place_of(&self, index: LogIndex) -> Option<usize> {
        if index <= self.base.index || index > self.last().0.index {
            return None;
        }
        let place = self.segments.partition_point(|filled| filled.tail.last.index < index);
        (place < self.segments.len()).then_some(place)
    }
}
