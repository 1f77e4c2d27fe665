//! Walking over frames that lie one behind the other, with a bounded window of the file in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{FRAME_HEADER_BYTES, FrameError, FrameHeader, decode_frame};
use super::layout::ALIGNMENT;
use crate::disk::DiskFile;

/// How much is read at once; more only for a frame that is larger.
const WINDOW_BYTES: u64 = 256 << 10;

/// The first window of a walk. Each one after it is twice as large, so that a walk to one frame reads little and a long
/// one reads in large pieces.
const FIRST_WINDOW_BYTES: u64 = 4 << 10;

/// Reads frames forward from some offset.
pub(super) struct FrameWalk {
    file: Arc<dyn DiskFile>,
    generation: u64,
    /// Where the next frame should start.
    pub(super) offset: u64,
    /// No frame reaches beyond this.
    limit: u64,
    window: Bytes,
    window_offset: u64,
    /// Size of the window that is read next.
    next_window_bytes: u64,
}

/// What was found where a frame should start.
pub(super) enum Step {
    /// An intact frame; the walk has moved behind it.
    Frame(FrameHeader, Bytes),
    /// Something else; the walk has not moved.
    Bad(FrameError),
    /// The bytes cannot be read; the walk has not moved.
    Unreadable(io::Error),
}

impl FrameWalk {
    pub(super) fn new(file: Arc<dyn DiskFile>, generation: u64, offset: u64, limit: u64) -> Self {
        Self {
            file,
            generation,
            offset,
            limit,
            window: Bytes::new(),
            window_offset: 0,
            next_window_bytes: FIRST_WINDOW_BYTES,
        }
    }

    /// The next frame.
    pub(super) fn step(&mut self) -> Step {
        let needed = match self.bytes(FRAME_HEADER_BYTES).map(|bytes| FrameHeader::parse(&bytes)) {
            Err(error) => return Step::Unreadable(error),
            Ok(Err(error)) => return Step::Bad(error),
            Ok(Ok(header)) => FRAME_HEADER_BYTES + header.payload_bytes as usize,
        };
        let frame = match self.bytes(needed) {
            Err(error) => return Step::Unreadable(error),
            Ok(frame) => frame,
        };
        match decode_frame(&frame, self.generation) {
            Err(error) => Step::Bad(error),
            Ok((header, payload)) => {
                self.offset += header.frame_bytes();
                Step::Frame(header, frame.slice(payload))
            }
        }
    }

    /// Looks for an intact frame that `fits` behind a bad one, before `limit`; the walk is there then. Frames begin at
    /// multiples of 8, and the checksum covers the generation, so that nothing else is taken for one.
    pub(super) fn find(&mut self, limit: u64, fits: &dyn Fn(&FrameHeader) -> bool) -> Option<FrameHeader> {
        loop {
            self.offset += ALIGNMENT;
            if self.offset + FRAME_HEADER_BYTES as u64 > limit {
                return None;
            }
            let header = self.bytes(FRAME_HEADER_BYTES).ok().and_then(|bytes| FrameHeader::parse(&bytes).ok());
            let Some(header) = header.filter(|header| self.offset + header.frame_bytes() <= limit && fits(header))
            else {
                continue;
            };
            let offset = self.offset;
            if matches!(self.step(), Step::Frame(..)) {
                self.offset = offset;
                return Some(header);
            }
        }
    }

    /// The next `needed` bytes, fewer at the end of the region.
    fn bytes(&mut self, needed: usize) -> io::Result<Bytes> {
        let end = self.offset.saturating_add(needed as u64).min(self.limit);
        let window_end = self.window_offset + self.window.len() as u64;
        if self.offset < self.window_offset || end > window_end {
            self.fill(end)?;
        }
        let start = usize::try_from(self.offset - self.window_offset).unwrap_or(usize::MAX);
        let length = usize::try_from(end.saturating_sub(self.offset)).unwrap_or(0);
        Ok(self.window.slice(start..start + length))
    }

    fn fill(&mut self, end: u64) -> io::Result<()> {
        let wanted = end.max((self.offset + self.next_window_bytes).min(self.limit));
        // Sectors that cannot be read must cost only the frames on them, not all that share a window.
        let window = self.read(wanted).or_else(|_| self.read(end))?;
        self.next_window_bytes = (2 * self.next_window_bytes).min(WINDOW_BYTES);
        self.window = window;
        self.window_offset = self.offset;
        Ok(())
    }

    fn read(&self, end: u64) -> io::Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(self.offset)).unwrap_or(0)];
        self.file.read_at(&mut bytes, self.offset)?;
        Ok(bytes.into())
    }
}
