//! A frame: one entry as it lies in a segment.

use std::ops::Range;

use thiserror::Error;

use super::layout::{align_up, checksum, put_u32, put_u64, u32_at, u64_at};
use super::{Entry, EntryKind, MAX_PAYLOAD_BYTES};
use crate::ids::{LogIndex, LogPosition, Term};
use crate::simulation::{Bug, is_planted};

/// Size of the header in front of every payload.
pub const FRAME_HEADER_BYTES: usize = 40;

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Over everything after it, and the generation of the segment.
    pub checksum: u32,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// The entry's position.
    pub position: LogPosition,
    /// The entry's tag.
    pub tag: u64,
    /// The entry's kind.
    pub kind: EntryKind,
}

/// Bytes that are not a frame.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("the frame needs {needed} bytes, there are {found}")]
    Short {
        /// Bytes that the frame takes.
        needed: usize,
        /// Bytes there are.
        found: usize,
    },
    /// The payload would be larger than any may be.
    #[error("a payload of {found} bytes is above the limit")]
    Length {
        /// Length found.
        found: u32,
    },
    /// The kind is none that there is, or reserved bytes are in use.
    #[error("entry kind {found} is unknown")]
    Kind {
        /// Code found.
        found: u8,
    },
    /// The content has another checksum than the header says.
    #[error("checksum is {found:08x}, the content has {expected:08x}")]
    Checksum {
        /// Checksum of the content.
        expected: u32,
        /// Checksum in the header.
        found: u32,
    },
}

impl FrameHeader {
    /// Bytes that the whole frame takes in the segment, padding included.
    #[must_use]
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.payload_bytes)
    }

    /// Reads the fields; says nothing about the checksum.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() < FRAME_HEADER_BYTES {
            return Err(FrameError::Short { needed: FRAME_HEADER_BYTES, found: bytes.len() });
        }
        let payload_bytes = u32_at(bytes, 4);
        if payload_bytes as usize > MAX_PAYLOAD_BYTES {
            return Err(FrameError::Length { found: payload_bytes });
        }
        let kind = EntryKind::from_code(bytes[32]).ok_or(FrameError::Kind { found: bytes[32] })?;
        Ok(Self {
            checksum: u32_at(bytes, 0),
            payload_bytes,
            position: LogPosition { index: LogIndex(u64_at(bytes, 8)), term: Term(u64_at(bytes, 16)) },
            tag: u64_at(bytes, 24),
            kind,
        })
    }
}

/// Bytes that a frame with such a payload takes in a segment.
pub(super) fn frame_bytes(payload_bytes: u32) -> u64 {
    align_up(FRAME_HEADER_BYTES as u64 + u64::from(payload_bytes))
}

/// Appends the entry's frame to `buffer` and returns its checksum. The caller has checked the payload's size.
pub(super) fn encode_frame(buffer: &mut Vec<u8>, generation: u64, entry: &Entry) -> u32 {
    let mut header = [0; FRAME_HEADER_BYTES];
    put_u32(&mut header, 4, payload_bytes(entry));
    put_u64(&mut header, 8, entry.position.index.0);
    put_u64(&mut header, 16, entry.position.term.0);
    put_u64(&mut header, 24, entry.tag);
    header[32] = entry.kind as u8;
    let checksum = checksum(generation, &[&header[4..], &entry.payload]);
    put_u32(&mut header, 0, checksum);
    buffer.extend_from_slice(&header);
    buffer.extend_from_slice(&entry.payload);
    let padding = frame_bytes(payload_bytes(entry)) as usize - FRAME_HEADER_BYTES - entry.payload.len();
    buffer.extend_from_slice(&[0; 8][..padding]);
    checksum
}

/// The size of a payload that is known to be within the limit.
pub(super) fn payload_bytes(entry: &Entry) -> u32 {
    u32::try_from(entry.payload.len()).unwrap_or(u32::MAX)
}

/// Checks the frame at the start of `bytes`, which may be followed by anything, and returns its header and where in
/// `bytes` its payload lies.
///
/// # Errors
/// When there is no intact frame of that generation.
pub fn decode_frame(bytes: &[u8], generation: u64) -> Result<(FrameHeader, Range<usize>), FrameError> {
    let header = FrameHeader::parse(bytes)?;
    let payload = FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + header.payload_bytes as usize;
    let Some(content) = bytes.get(4..payload.end) else {
        return Err(FrameError::Short { needed: payload.end, found: bytes.len() });
    };
    let expected = checksum(generation, &[content]);
    if expected != header.checksum && !is_planted(Bug::TornFrameTaken) {
        return Err(FrameError::Checksum { expected, found: header.checksum });
    }
    Ok((header, payload))
}
