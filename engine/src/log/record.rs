//! A persist record: the statement, apart from the entry and under the same sync, that it was written.

use super::layout::{checksum, put_u32, put_u64, u32_at, u64_at};
use crate::ids::{LogIndex, LogPosition, Term};

/// Size of a persist record.
pub const PERSIST_RECORD_BYTES: usize = 48;

/// Says which entry was written where, with which checksum, and in which batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PersistRecord {
    /// The entry's position.
    pub position: LogPosition,
    /// The entry's tag.
    pub tag: u64,
    /// Where its frame starts in the segment.
    pub offset: u32,
    /// Bytes of its payload.
    pub payload_bytes: u32,
    /// The frame's checksum.
    pub frame_checksum: u32,
    /// Entries before this one since the last sync. Those before them were durable when this record was written.
    pub batch_before: u32,
    /// Entries after this one that were written with it.
    pub batch_after: u32,
}

impl PersistRecord {
    /// The stored form.
    pub(super) fn encode(&self, generation: u64) -> [u8; PERSIST_RECORD_BYTES] {
        let mut block = [0; PERSIST_RECORD_BYTES];
        put_u64(&mut block, 4, self.position.index.0);
        put_u64(&mut block, 12, self.position.term.0);
        put_u64(&mut block, 20, self.tag);
        put_u32(&mut block, 28, self.offset);
        put_u32(&mut block, 32, self.payload_bytes);
        put_u32(&mut block, 36, self.frame_checksum);
        put_u32(&mut block, 40, self.batch_before);
        put_u32(&mut block, 44, self.batch_after);
        let checksum = checksum(generation, &[&block[4..]]);
        put_u32(&mut block, 0, checksum);
        block
    }

    /// Reads the stored form; `None` when there is no intact record of that generation.
    #[must_use]
    pub fn decode(block: &[u8], generation: u64) -> Option<Self> {
        let block = block.get(..PERSIST_RECORD_BYTES)?;
        if u32_at(block, 0) != checksum(generation, &[&block[4..]]) {
            return None;
        }
        Some(Self {
            position: LogPosition { index: LogIndex(u64_at(block, 4)), term: Term(u64_at(block, 12)) },
            tag: u64_at(block, 20),
            offset: u32_at(block, 28),
            payload_bytes: u32_at(block, 32),
            frame_checksum: u32_at(block, 36),
            batch_before: u32_at(block, 40),
            batch_after: u32_at(block, 44),
        })
    }

    /// Bytes of the frame that it is about.
    pub(super) fn frame_bytes(&self) -> u64 {
        super::frame::frame_bytes(self.payload_bytes)
    }

    /// Everything up to here was durable before this record was written.
    pub(super) fn durable_before(&self) -> u64 {
        self.position.index.0.saturating_sub(u64::from(self.batch_before) + 1)
    }

    /// The last entry of which it says that it was written together with its own.
    pub(super) fn batch_last(&self) -> u64 {
        self.position.index.0.saturating_add(u64::from(self.batch_after))
    }
}
