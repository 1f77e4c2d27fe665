//! Reading, concurrent with the writer.
//!
//! There is no index in memory: the persist records of a segment lie in entry order, so an entry's record is found by
//! arithmetic (or, where a rewrite has left holes, by binary search) and tells where its frame is. A record that is
//! damaged costs a walk over the frames before the wanted one, nothing else.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, decode_frame};
use super::record::PersistRecord;
use super::segment::SEGMENT_HEADER_BYTES;
use super::shared::{Filled, Shared};
use super::terms::TermTable;
use super::walk::{FrameWalk, Step};
use super::{Entry, EntryKind, Fault, FaultKind, LogError};
use crate::disk::DiskFile;
use crate::ids::{LogIndex, LogPosition};

/// Reads the log. Cheap to clone; never waits for a sync.
#[derive(Clone)]
pub struct LogReader {
    shared: Shared,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LogReader").field("first", &self.first()).field("last", &self.last()).finish()
    }
}

/// One segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its file.
    pub file: String,
    /// First index of its range.
    pub first: LogIndex,
    /// Last index of its range; below `first` when nothing was appended yet.
    pub last: LogIndex,
    /// Tag of the last entry of its range.
    pub last_tag: u64,
    /// Entries in it: fewer than its range is wide after a rewrite.
    pub entries: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Bytes of frames in it.
    pub frames_bytes: u64,
    /// Whether it was rewritten.
    pub rewritten: bool,
    /// Whether its file is missing or of no use.
    pub unusable: bool,
}

/// What an entry is looked up by.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    /// The entry with this index.
    Index(LogIndex),
    /// The event with this tag.
    Tag(u64),
}

impl Wanted {
    fn key(self) -> u64 {
        match self {
            Self::Index(index) => index.0,
            Self::Tag(tag) => tag,
        }
    }

    fn key_of_record(self, record: &PersistRecord) -> u64 {
        match self {
            Self::Index(_) => record.position.index.0,
            Self::Tag(_) => record.tag,
        }
    }

    fn key_of_frame(self, header: &FrameHeader) -> u64 {
        match self {
            Self::Index(_) => header.position.index.0,
            Self::Tag(_) => header.tag,
        }
    }

    fn is_met_by(self, header: &FrameHeader) -> bool {
        self.key_of_frame(header) == self.key() && (matches!(self, Self::Index(_)) || header.kind == EntryKind::Event)
    }
}

impl LogReader {
    pub(super) fn new(shared: Shared) -> Self {
        Self { shared }
    }

    /// Position of the entry before the first one: zero at first, later where a purge or a snapshot left off.
    #[must_use]
    pub fn base(&self) -> LogPosition {
        self.shared.read().base
    }

    /// Tag of the entry before the first one.
    #[must_use]
    pub fn base_tag(&self) -> u64 {
        self.shared.read().base_tag
    }

    /// The lowest index that the log may hold.
    #[must_use]
    pub fn first(&self) -> LogIndex {
        self.base().index.next()
    }

    /// The lowest index from which on the log holds every entry, under the index that it has in the whole group: from
    /// here on, and not before, it may be replicated. Rises before entries go. The term of the entry before is known.
    #[must_use]
    pub fn contiguous_from(&self) -> LogIndex {
        let view = self.shared.read();
        view.base.index.max(view.settled).next()
    }

    /// Position of the last entry, which need not be durable; [`LogReader::base`] when there is none.
    #[must_use]
    pub fn last(&self) -> LogPosition {
        self.shared.read().last().0
    }

    /// Tag of the last entry.
    #[must_use]
    pub fn last_tag(&self) -> u64 {
        self.shared.read().last().1
    }

    /// Everything up to here has been synced.
    #[must_use]
    pub fn durable(&self) -> LogPosition {
        self.shared.read().durable
    }

    /// The entry with this index; `None` when the log does not hold it (not yet, not any more, or rewritten away).
    ///
    /// # Errors
    /// When the entry is damaged or cannot be read.
    pub fn read(&self, index: LogIndex) -> Result<Option<Entry>, LogError> {
        self.retry_when_changed(|| {
            let held = self.shared.read().segment_of(index);
            held.map_or(Ok(None), |(filled, terms)| filled.find(index, &terms))
        })
    }

    /// The event with this tag; `None` when the log does not hold it.
    ///
    /// # Errors
    /// When the entry is damaged or cannot be read.
    pub fn read_tag(&self, tag: u64) -> Result<Option<Entry>, LogError> {
        let found = self.find_tag(tag)?;
        // On its own: the walk's window holds much more than the entry.
        Ok(found.map(|(entry, _)| Entry { payload: Bytes::copy_from_slice(&entry.payload), ..entry }))
    }

    /// Looks for the event with this tag; with it comes the walk that ended behind it. The payload is a part of the walk's
    /// window.
    pub(super) fn find_tag(&self, tag: u64) -> Result<Option<(Entry, SegmentWalk)>, LogError> {
        self.retry_when_changed(|| {
            // Entries of one tag may span segments: an event and the empty entries behind it.
            let (candidates, terms, revision): (Vec<Filled>, TermTable, u64) = {
                let view = self.shared.read();
                let start = view.segments.partition_point(|filled| filled.tail.last_tag < tag);
                let touching = view.segments[start..].iter();
                let touching = touching.take_while(|filled| filled.segment.header.previous_tag <= tag);
                (touching.cloned().collect(), view.terms, view.revision)
            };
            for filled in candidates {
                let mut walk = SegmentWalk::to(filled, Wanted::Tag(tag), terms, revision)?;
                if let Some(entry) = walk.find(Wanted::Tag(tag), u64::MAX)? {
                    return Ok(Some((entry, walk)));
                }
            }
            Ok(None)
        })
    }

    /// Counts what makes bytes under a reader change.
    pub(super) fn revision(&self) -> u64 {
        self.shared.read().revision
    }

    /// The term of the entry with this index, as Raft asks for it: also known for the base, and for the last entry of a
    /// segment that was rewritten, even if it is gone.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn term(&self, index: LogIndex) -> Result<Option<crate::ids::Term>, LogError> {
        {
            let view = self.shared.read();
            let last = view.last().0;
            if index == view.base.index {
                return Ok(Some(view.base.term));
            }
            if index == last.index {
                return Ok(Some(last.term));
            }
            let is_there = |place: usize| view.segments[place].segment.is_dense();
            if let Some(term) = view.terms.term_of(index).filter(|_| view.place_of(index).is_some_and(is_there)) {
                return Ok(Some(term));
            }
        }
        self.retry_when_changed(|| {
            let Some((filled, terms)) = self.shared.read().segment_of(index) else { return Ok(None) };
            if filled.tail.last.index == index {
                return Ok(Some(filled.tail.last.term));
            }
            if let Some(record) = filled.record_of(index, &terms) {
                return Ok(Some(record.position.term));
            }
            Ok(filled.find(index, &terms)?.map(|entry| entry.position.term))
        })
    }

    /// The tag of the entry with this index; known for the same entries as [`LogReader::term`].
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn tag(&self, index: LogIndex) -> Result<Option<u64>, LogError> {
        self.retry_when_changed(|| {
            let held = {
                let view = self.shared.read();
                let (last, last_tag) = view.last();
                if index == view.base.index {
                    return Ok(Some(view.base_tag));
                }
                if index == last.index {
                    return Ok(Some(last_tag));
                }
                view.segment_of(index)
            };
            let Some((filled, terms)) = held else { return Ok(None) };
            if filled.tail.last.index == index {
                return Ok(Some(filled.tail.last_tag));
            }
            Ok(filled.find(index, &terms)?.map(|entry| entry.tag))
        })
    }

    /// Hands the entries from `from` on to `visit`, in order, until it breaks off or the entry that was the last one
    /// at the time of the call has been handed over. Indexes that a rewrite removed are left out.
    ///
    /// The payloads of entries handed over together share one buffer of 256 KiB (or of one entry's size, if that is
    /// more); keeping one keeps the buffer.
    ///
    /// # Errors
    /// When an entry is damaged or cannot be read; those before it have been handed over.
    pub fn scan(&self, from: LogIndex, visit: &mut dyn FnMut(Entry) -> ControlFlow<()>) -> Result<(), LogError> {
        let last = self.last().index;
        let mut next = from.max(self.first());
        while next <= last {
            let revision = self.shared.read().revision;
            let Some((filled, terms)) = ({ self.shared.read().segment_of(next) }) else {
                // Purged or cut off meanwhile: go on with what there is.
                let first = self.first();
                if first <= next {
                    return Ok(());
                }
                next = first;
                continue;
            };
            match filled.scan(next, last, &terms, visit) {
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(())) => next = filled.tail.last.index.min(last).next(),
                Err((reached, error)) => {
                    if self.shared.read().revision == revision {
                        return Err(error);
                    }
                    next = reached;
                }
            }
        }
        Ok(())
    }

    /// All segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.shared.read().segments.iter().map(Filled::info).collect()
    }

    /// Size of all files of the log, spare ones included.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        let view = self.shared.read();
        view.spare_bytes + view.segments.iter().map(|filled| filled.segment.header.file_bytes).sum::<u64>()
    }

    /// A reader may hold a segment whose end the writer cuts off or whose file it replaces; what it then finds is not
    /// damage, and it looks again.
    fn retry_when_changed<T>(&self, attempt: impl Fn() -> Result<T, LogError>) -> Result<T, LogError> {
        loop {
            let revision = self.shared.read().revision;
            match attempt() {
                Err(_) if self.shared.read().revision != revision => {}
                outcome => return outcome,
            }
        }
    }
}

impl Filled {
    fn info(&self) -> SegmentInfo {
        let header = &self.segment.header;
        SegmentInfo {
            file: self.segment.name.clone(),
            first: header.first(),
            last: self.tail.last.index,
            last_tag: self.tail.last_tag,
            entries: self.tail.entries,
            file_bytes: header.file_bytes,
            frames_bytes: self.tail.frames_end - SEGMENT_HEADER_BYTES as u64,
            rewritten: header.sealed.is_some(),
            unusable: self.segment.file.is_none(),
        }
    }

    pub(super) fn file(&self) -> Result<&Arc<dyn DiskFile>, LogError> {
        self.segment.file.as_ref().ok_or_else(|| {
            LogError::corrupt(Fault {
                segment: self.segment.name.clone(),
                offset: None,
                first: self.segment.header.first(),
                last: Some(self.tail.last.index),
                identity: None,
                kind: self.segment.damage.clone().unwrap_or(FaultKind::FileMissing),
            })
        })
    }

    /// The persist record of an index, if it is intact and not one of an earlier entry there.
    fn record_of(&self, index: LogIndex, terms: &TermTable) -> Option<PersistRecord> {
        let file = self.segment.file.as_deref()?;
        if self.segment.is_dense() {
            let slot = index.0.checked_sub(self.segment.header.first().0)?;
            return self.segment.record(file, slot).filter(|record| self.holds(slot, record.position, terms));
        }
        let (_, record) = self.last_record_below(file, Wanted::Index(index.next()), terms)?;
        (record.position.index == index).then_some(record)
    }

    /// Where the frame of an entry ends, with the entry's position and tag.
    pub(super) fn frame_end(&self, index: LogIndex, terms: &TermTable) -> Result<(u64, LogPosition, u64), LogError> {
        if let Some(record) = self.record_of(index, terms) {
            return Ok((u64::from(record.offset) + record.frame_bytes(), record.position, record.tag));
        }
        let file = self.file()?;
        let wanted = Wanted::Index(index);
        let (mut slot, offset) = match self.last_record_below(file.as_ref(), wanted, terms) {
            Some((slot, record)) => (slot + 1, u64::from(record.offset) + record.frame_bytes()),
            None => (0, SEGMENT_HEADER_BYTES as u64),
        };
        let mut walk = self.walk(file, offset);
        loop {
            let (header, _) = self.step(&mut walk, slot, wanted, terms)?;
            if header.position.index >= index {
                return Ok((walk.offset, header.position, header.tag));
            }
            slot += 1;
        }
    }

    /// Finds an entry by its index: directly by its record where that is intact, else by walking from the nearest one
    /// before it.
    fn find(&self, index: LogIndex, terms: &TermTable) -> Result<Option<Entry>, LogError> {
        if let Some(record) = self.record_of(index, terms) {
            return self.read_frame(self.file()?, &record).map(Some);
        }
        let wanted = Wanted::Index(index);
        // Nobody asks this walk whether the log has changed meanwhile.
        let found = SegmentWalk::to(self.clone(), wanted, *terms, 0)?.find(wanted, u64::MAX)?;
        Ok(found.map(|entry| Entry { payload: Bytes::copy_from_slice(&entry.payload), ..entry }))
    }

    /// The last slot with an intact record whose key is below the wanted one. Damaged records are passed over, and those
    /// of entries that were there earlier.
    fn last_record_below(
        &self,
        file: &dyn DiskFile,
        wanted: Wanted,
        terms: &TermTable,
    ) -> Option<(u64, PersistRecord)> {
        let record_in =
            |slot| self.segment.record(file, slot).filter(|record| self.holds(slot, record.position, terms));
        if let (Wanted::Index(index), true) = (wanted, self.segment.is_dense()) {
            // The record before it is the usual answer; only damage makes a search necessary.
            let slot = index.0.checked_sub(self.segment.header.first().0)?.checked_sub(1)?;
            if let Some(record) = record_in(slot) {
                return Some((slot, record));
            }
        }
        let (mut low, mut high) = (0, self.tail.entries);
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let probe = (middle..high).find_map(|slot| Some((slot, record_in(slot)?)));
            match probe {
                Some((slot, record)) if wanted.key_of_record(&record) < wanted.key() => {
                    best = Some((slot, record));
                    low = slot + 1;
                }
                _ => high = middle,
            }
        }
        best
    }

    /// Whether a slot may hold an entry with that position, as far as that is known. Of a segment with gaps only the range
    /// is.
    fn holds(&self, slot: u64, position: LogPosition, terms: &TermTable) -> bool {
        let header = &self.segment.header;
        if !self.segment.is_dense() {
            return position.index > header.previous.index && position.index <= self.tail.last.index;
        }
        position.index.0 == header.first().0 + slot && terms.agrees_with(position)
    }

    fn read_frame(&self, file: &Arc<dyn DiskFile>, record: &PersistRecord) -> Result<Entry, LogError> {
        let mut bytes = vec![0; FRAME_HEADER_BYTES + record.payload_bytes as usize];
        if let Err(error) = file.read_at(&mut bytes, u64::from(record.offset)) {
            return Err(self.damaged(record, format!("cannot be read: {error}")));
        }
        match decode_frame(&bytes, self.segment.header.generation) {
            Ok((header, payload)) if header.position == record.position && header.tag == record.tag => {
                Ok(entry(&header, Bytes::from(bytes).slice(payload)))
            }
            Ok((header, _)) => Err(self.damaged(record, format!("found entry {} instead", header.position))),
            Err(error) => Err(self.damaged(record, error.to_string())),
        }
    }

    fn damaged(&self, record: &PersistRecord, found: String) -> LogError {
        LogError::corrupt(Fault {
            segment: self.segment.name.clone(),
            offset: Some(u64::from(record.offset)),
            first: record.position.index,
            last: Some(record.position.index),
            identity: Some((record.position, record.tag)),
            kind: FaultKind::Frame { expected: record.frame_checksum, found },
        })
    }

    fn walk(&self, file: &Arc<dyn DiskFile>, offset: u64) -> FrameWalk {
        let header = &self.segment.header;
        FrameWalk::new(file.clone(), header.generation, offset, header.records_offset)
    }

    /// One step of a walk; a bad frame on the way is an error, because what follows it cannot be told. So is an intact one
    /// of another entry: a write went astray, or one was lost and the disk holds what was there before.
    fn step(
        &self,
        walk: &mut FrameWalk,
        slot: u64,
        wanted: Wanted,
        terms: &TermTable,
    ) -> Result<(FrameHeader, Bytes), LogError> {
        let offset = walk.offset;
        let found = match walk.step() {
            Step::Frame(header, payload) if self.holds(slot, header.position, terms) => return Ok((header, payload)),
            Step::Frame(header, _) => format!("found entry {} instead", header.position),
            Step::Bad(FrameError::Checksum { expected, found }) => {
                format!("header says {found:08x}, content has {expected:08x}")
            }
            Step::Bad(error) => error.to_string(),
            Step::Unreadable(error) => format!("cannot be read: {error}"),
        };
        let record = self.segment.file.as_deref().and_then(|file| self.segment.record(file, slot));
        if let Some(record) = record {
            return Err(self.damaged(&record, found));
        }
        let first = match wanted {
            _ if self.segment.is_dense() => LogIndex(self.segment.header.first().0 + slot),
            Wanted::Index(index) => index,
            Wanted::Tag(_) => self.segment.header.first(),
        };
        Err(LogError::corrupt(Fault {
            segment: self.segment.name.clone(),
            offset: Some(offset),
            first,
            last: Some(if self.segment.is_dense() { first } else { self.tail.last.index }),
            identity: None,
            kind: FaultKind::FrameAndRecord { found },
        }))
    }

    /// Hands over this segment's entries of `from..=last`. An error comes with the index that it happened at.
    fn scan(
        &self,
        from: LogIndex,
        last: LogIndex,
        terms: &TermTable,
        visit: &mut dyn FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, (LogIndex, LogError)> {
        let mut next = from;
        let file = self.file().map_err(|error| (next, error))?;
        let (mut slot, offset) = match self.last_record_below(file.as_ref(), Wanted::Index(from), terms) {
            Some((slot, record)) => (slot + 1, u64::from(record.offset) + record.frame_bytes()),
            None => (0, SEGMENT_HEADER_BYTES as u64),
        };
        let mut walk = self.walk(file, offset);
        while slot < self.tail.entries {
            let stepped = self.step(&mut walk, slot, Wanted::Index(next), terms);
            let (header, payload) = stepped.map_err(|error| (next, error))?;
            slot += 1;
            if header.position.index < from {
                continue;
            }
            if header.position.index > last {
                break;
            }
            next = header.position.index.next();
            if visit(entry(&header, payload)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// A walk over the entries of a segment, from one that is wanted to the next.
pub(super) struct SegmentWalk {
    filled: Filled,
    terms: TermTable,
    walk: FrameWalk,
    /// The slot of the next entry.
    slot: u64,
    /// [`LogReader::revision`] when it began.
    pub(super) revision: u64,
}

impl SegmentWalk {
    /// Begins behind the last entry that is known to be before the wanted one.
    fn to(filled: Filled, wanted: Wanted, terms: TermTable, revision: u64) -> Result<Self, LogError> {
        let file = filled.file()?;
        let (slot, offset) = match filled.last_record_below(file.as_ref(), wanted, &terms) {
            // The record's own entry is before the wanted one, so it is stepped over unread.
            Some((slot, record)) => (slot + 1, u64::from(record.offset) + record.frame_bytes()),
            None => (0, SEGMENT_HEADER_BYTES as u64),
        };
        let walk = filled.walk(file, offset);
        Ok(Self { filled, terms, walk, slot, revision })
    }

    /// Walks on until it is behind the wanted entry; `None` when the segment does not hold it behind where the walk was,
    /// or no sooner than behind `bytes_max` others. The payload is a part of the walk's window.
    pub(super) fn find(&mut self, wanted: Wanted, bytes_max: u64) -> Result<Option<Entry>, LogError> {
        let end = self.walk.offset.saturating_add(bytes_max);
        while self.slot < self.filled.tail.entries && self.walk.offset <= end {
            let offset = self.walk.offset;
            let (header, payload) = self.filled.step(&mut self.walk, self.slot, wanted, &self.terms)?;
            if !wanted.is_met_by(&header) && wanted.key_of_frame(&header) > wanted.key() {
                // It may be the next one that is wanted.
                self.walk.offset = offset;
                return Ok(None);
            }
            self.slot += 1;
            if wanted.is_met_by(&header) {
                return Ok(Some(entry(&header, payload)));
            }
        }
        Ok(None)
    }
}

fn entry(header: &FrameHeader, payload: Bytes) -> Entry {
    Entry { position: header.position, kind: header.kind, tag: header.tag, payload }
}
