//! Little-endian fields at fixed places in small byte blocks.

use crc32fast::Hasher;

/// Frames and regions start at multiples of this.
pub(super) const ALIGNMENT: u64 = 8;

/// No index, segment number or generation reaches this.
pub(super) const NUMBER_LIMIT: u64 = 1 << 60;

/// The next multiple of [`ALIGNMENT`].
pub(super) const fn align_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// The `N` bytes at `at`; zeros where the block is too short, which fixed-size blocks never are.
pub(super) fn bytes_at<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

/// The number at `at`.
pub(super) fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(block, at))
}

/// The number at `at`.
pub(super) fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(block, at))
}

/// Writes the bytes at `at`.
pub(super) fn put<const N: usize>(block: &mut [u8], at: usize, bytes: [u8; N]) {
    block[at..at + N].copy_from_slice(&bytes);
}

/// Writes the number at `at`.
pub(super) fn put_u64(block: &mut [u8], at: usize, number: u64) {
    put(block, at, number.to_le_bytes());
}

/// Writes the number at `at`.
pub(super) fn put_u32(block: &mut [u8], at: usize, number: u32) {
    put(block, at, number.to_le_bytes());
}

/// A checksum that starts with the generation of the segment: bytes that an earlier life of the same file left behind
/// never match it.
pub(super) fn checksum(generation: u64, parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&generation.to_le_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}
