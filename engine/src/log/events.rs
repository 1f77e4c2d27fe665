//! Events that follow one another, read by walking from each to the next.
//!
//! Looking for an event takes a search among the persist records of its segment, and a read of the file for each record and
//! for the frame. Whoever reads event after event finds the next one a few bytes behind the last, mostly in what was read
//! with it.

use super::reader::{SegmentWalk, Wanted};
use super::{Entry, LogError, LogReader};

/// Frames of so many bytes are passed over on the way to the next event. What lies further away is looked for: somebody who
/// follows one of many namespaces would otherwise read all of the others' events as well.
const PASSED_OVER_BYTES_MAX: u64 = 64 << 10;

/// Events that are passed over at the most, if they are small.
const PASSED_OVER_EVENTS_MAX: u64 = 64;

/// Reads events in the order of their tags. Keeps a window of 256 KiB of the log (or of one entry's size, if that is more) and
/// its segment's file, so it is not for keeping.
pub struct EventReader {
    reader: LogReader,
    /// The tag that was read last, and the walk that ended behind it.
    place: Option<(u64, SegmentWalk)>,
}

impl LogReader {
    /// Reads events that follow one another.
    #[must_use]
    pub fn events(&self) -> EventReader {
        EventReader { reader: self.clone(), place: None }
    }
}

impl EventReader {
    /// As [`LogReader::read_tag`], in any order, and cheap for an event that lies a little behind the last one that was
    /// read. The payload shares the window with others; keeping it keeps the window.
    ///
    /// # Errors
    /// As [`LogReader::read_tag`]: entries that are damaged but not asked for do not matter.
    pub fn read_tag(&mut self, tag: u64) -> Result<Option<Entry>, LogError> {
        if let Some(entry) = self.walk_to(tag) {
            return Ok(Some(entry));
        }
        self.place = None;
        let found = self.reader.find_tag(tag)?;
        Ok(found.map(|(entry, walk)| {
            self.place = Some((tag, walk));
            entry
        }))
    }

    /// The event, if it is close behind the last one and nothing is in the way. That it is not found says nothing.
    pub(super) fn walk_to(&mut self, tag: u64) -> Option<Entry> {
        let (last, walk) = self.place.as_mut()?;
        let is_close = tag.checked_sub(*last).is_some_and(|ahead| ahead <= PASSED_OVER_EVENTS_MAX);
        // What the walk holds of the file may have been cut off or replaced since.
        if !is_close || walk.revision != self.reader.revision() {
            return None;
        }
        // Damage on the way ends the walk and need not be that of the event, which its record may still lead to.
        let entry = walk.find(Wanted::Tag(tag), PASSED_OVER_BYTES_MAX).ok().flatten()?;
        *last = tag;
        Some(entry)
    }
}
