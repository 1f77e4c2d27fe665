//! A segment: one file with a header in two copies, frames, and persist records.

use std::io;
use std::sync::Arc;

use super::layout::{NUMBER_LIMIT, align_up, bytes_at, checksum, put, put_u32, put_u64, u32_at, u64_at};
use super::record::{PERSIST_RECORD_BYTES, PersistRecord};
use super::{LogIdentity, LogOptions};
use crate::disk::DiskFile;
use crate::ids::{ClusterId, GroupId, LogIndex, LogPosition, NodeId, Term};

/// Where the frames begin: after the two copies of the header.
pub const SEGMENT_HEADER_BYTES: usize = 8192;

const MAGIC: [u8; 8] = *b"STEPSEGM";
const VERSION: u32 = 1;
const COPY_BYTES: usize = 512;
const COPY_OFFSETS: [u64; 2] = [0, 4096];
const CHECKSUM_OFFSET: usize = COPY_BYTES - 4;

/// What a segment says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which life of the file this is; part of every checksum in it.
    pub generation: u64,
    /// Cluster, member and group that it belongs to.
    pub owner: (ClusterId, NodeId, GroupId),
    /// The first segment number that it stands for.
    pub sequence: u64,
    /// The last segment number that it stands for; more than one when segments were merged.
    pub last_sequence: u64,
    /// Position of the entry before its first one.
    pub previous: LogPosition,
    /// Tag of the entry before its first one.
    pub previous_tag: u64,
    /// Where the persist records begin and the frames end.
    pub records_offset: u64,
    /// Persist records that fit.
    pub record_slots: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Set for a segment that was rewritten: its range and content are final.
    pub sealed: Option<SealedRange>,
}

/// The range of a rewritten segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedRange {
    /// Position of the last entry of the range, whether it was kept or not.
    pub last: LogPosition,
    /// Its tag.
    pub last_tag: u64,
    /// How many entries were kept.
    pub entries: u64,
}

impl SegmentHeader {
    /// The header of a new segment of standard size.
    pub(super) fn standard(options: &LogOptions, owner: &LogIdentity, generation: u64, sequence: u64) -> Self {
        let file_bytes = options.file_bytes();
        let record_slots = u64::from(options.segment_entries);
        Self {
            generation,
            owner: (owner.cluster, owner.node, owner.group),
            sequence,
            last_sequence: sequence,
            previous: LogPosition::default(),
            previous_tag: 0,
            records_offset: file_bytes - align_up(record_slots * PERSIST_RECORD_BYTES as u64),
            record_slots,
            file_bytes,
            sealed: None,
        }
    }

    /// The first index that may be in it.
    pub(super) fn first(&self) -> LogIndex {
        self.previous.index.next()
    }

    /// Where the persist record of a slot lies.
    pub(super) fn record_offset(&self, slot: u64) -> u64 {
        self.records_offset + slot * PERSIST_RECORD_BYTES as u64
    }

    pub(super) fn encode(&self) -> [u8; COPY_BYTES] {
        let mut block = [0; COPY_BYTES];
        put(&mut block, 0, MAGIC);
        put_u32(&mut block, 8, VERSION);
        put_u32(&mut block, 12, u32::from(self.sealed.is_some()));
        put_u64(&mut block, 16, self.generation);
        put(&mut block, 24, self.owner.0.0);
        put_u64(&mut block, 40, self.owner.1.0);
        put_u64(&mut block, 48, self.owner.2.0);
        put_u64(&mut block, 56, self.sequence);
        put_u64(&mut block, 64, self.last_sequence);
        put_u64(&mut block, 72, self.previous.index.0);
        put_u64(&mut block, 80, self.previous.term.0);
        put_u64(&mut block, 88, self.previous_tag);
        put_u64(&mut block, 96, self.records_offset);
        put_u64(&mut block, 104, self.record_slots);
        put_u64(&mut block, 112, self.file_bytes);
        if let Some(sealed) = &self.sealed {
            put_u64(&mut block, 120, sealed.last.index.0);
            put_u64(&mut block, 128, sealed.last.term.0);
            put_u64(&mut block, 136, sealed.last_tag);
            put_u64(&mut block, 144, sealed.entries);
        }
        let checksum = checksum(0, &[&block[..CHECKSUM_OFFSET]]);
        put_u32(&mut block, CHECKSUM_OFFSET, checksum);
        block
    }

    /// Reads one copy.
    ///
    /// # Errors
    /// When it is damaged, of another version, or its numbers contradict each other.
    pub fn decode(block: &[u8]) -> Result<Self, HeaderError> {
        if block.len() < COPY_BYTES
            || bytes_at(block, 0) != MAGIC
            || u32_at(block, CHECKSUM_OFFSET) != checksum(0, &[&block[..CHECKSUM_OFFSET]])
        {
            return Err(HeaderError::Damaged);
        }
        if u32_at(block, 8) != VERSION {
            return Err(HeaderError::Version(u32_at(block, 8)));
        }
        let sealed = (u32_at(block, 12) & 1 == 1).then(|| SealedRange {
            last: LogPosition { index: LogIndex(u64_at(block, 120)), term: Term(u64_at(block, 128)) },
            last_tag: u64_at(block, 136),
            entries: u64_at(block, 144),
        });
        let header = Self {
            generation: u64_at(block, 16),
            owner: (ClusterId(bytes_at(block, 24)), NodeId(u64_at(block, 40)), GroupId(u64_at(block, 48))),
            sequence: u64_at(block, 56),
            last_sequence: u64_at(block, 64),
            previous: LogPosition { index: LogIndex(u64_at(block, 72)), term: Term(u64_at(block, 80)) },
            previous_tag: u64_at(block, 88),
            records_offset: u64_at(block, 96),
            record_slots: u64_at(block, 104),
            file_bytes: u64_at(block, 112),
            sealed,
        };
        if header.is_sound() { Ok(header) } else { Err(HeaderError::Damaged) }
    }

    fn is_sound(&self) -> bool {
        let records = self.record_slots.checked_mul(PERSIST_RECORD_BYTES as u64);
        let end = records.and_then(|bytes| bytes.checked_add(self.records_offset));
        self.file_bytes <= u64::from(u32::MAX)
            && self.records_offset >= SEGMENT_HEADER_BYTES as u64
            && self.records_offset.is_multiple_of(super::layout::ALIGNMENT)
            && end.is_some_and(|end| end <= self.file_bytes)
            && self.sequence <= self.last_sequence
            && self.last_sequence < NUMBER_LIMIT
            && self.previous.index.0 < NUMBER_LIMIT
            && self.sealed.is_none_or(|sealed| sealed.last.index.0 < NUMBER_LIMIT)
            && self
                .sealed
                .is_none_or(|sealed| sealed.entries <= self.record_slots && sealed.last.index >= self.previous.index)
    }
}

/// Why a copy of a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// Checksum, magic or numbers are wrong.
    Damaged,
    /// Written by another version of the format.
    Version(u32),
}

/// The name of a segment's file.
pub(super) fn file_name(sequence: u64) -> String {
    format!("segment-{sequence:016x}")
}

/// The segment number in a file name.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    number_of(name, "segment-")
}

/// The name of a file that waits for reuse.
pub(super) fn spare_name(number: u64) -> String {
    format!("spare-{number:016x}")
}

/// The number in the name of a file that waits for reuse.
pub(super) fn spare_number_of(name: &str) -> Option<u64> {
    number_of(name, "spare-")
}

fn number_of(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Writes both copies of the header.
pub(super) fn write_header(file: &dyn DiskFile, header: &SegmentHeader) -> io::Result<()> {
    let block = header.encode();
    COPY_OFFSETS.iter().try_for_each(|offset| file.write_at(&block, *offset))
}

/// Reads both copies of the header.
pub(super) fn read_headers(file: &dyn DiskFile) -> io::Result<[Result<SegmentHeader, HeaderError>; 2]> {
    let mut copies = [Err(HeaderError::Damaged); 2];
    let mut failure = None;
    for (copy, offset) in copies.iter_mut().zip(COPY_OFFSETS) {
        let mut block = [0; COPY_BYTES];
        match file.read_at(&mut block, offset) {
            Ok(()) => *copy = SegmentHeader::decode(&block),
            Err(error) => failure = Some(error),
        }
    }
    // One copy is enough, so an unreadable one matters only when the other is of no use either.
    match failure {
        Some(error) if copies.iter().all(Result::is_err) => Err(error),
        _ => Ok(copies),
    }
}

/// A segment's open file with its header. Its entries are described by a [`Tail`], which changes.
pub(super) struct Segment {
    /// Name of the file.
    pub(super) name: String,
    /// The header.
    pub(super) header: SegmentHeader,
    /// `None` when the file is missing or of no use: all of its entries are damaged.
    pub(super) file: Option<Arc<dyn DiskFile>>,
    /// What is wrong with the file, if it is of no use.
    pub(super) damage: Option<super::FaultKind>,
}

/// How far a segment is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Entries in it.
    pub(super) entries: u64,
    /// Where its frames end.
    pub(super) frames_end: u64,
    /// The last entry of its range.
    pub(super) last: LogPosition,
    /// The tag of that entry.
    pub(super) last_tag: u64,
}

impl Tail {
    /// Nothing in it yet.
    pub(super) fn empty(header: &SegmentHeader) -> Self {
        Self {
            entries: 0,
            frames_end: SEGMENT_HEADER_BYTES as u64,
            last: header.previous,
            last_tag: header.previous_tag,
        }
    }
}

impl Segment {
    /// Whether every index of the range is there, so that an index tells its slot.
    pub(super) fn is_dense(&self) -> bool {
        self.header.sealed.is_none()
    }

    /// Reads one persist record; `None` when it is damaged or was never written.
    pub(super) fn record(&self, file: &dyn DiskFile, slot: u64) -> Option<PersistRecord> {
        // Headers that contradict each other can ask for a slot that no segment has.
        if slot >= self.header.record_slots {
            return None;
        }
        let mut block = [0; PERSIST_RECORD_BYTES];
        file.read_at(&mut block, self.header.record_offset(slot)).ok()?;
        PersistRecord::decode(&block, self.header.generation)
    }
}
