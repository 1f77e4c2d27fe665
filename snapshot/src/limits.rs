//! Bounds on everything in a snapshot, with the relations between them.

/// A chunk is closed when it has reached this many bytes.
pub const TARGET_CHUNK_BYTES: usize = 1 << 20;
/// A chunk of pairs is closed when it has reached this many, because the view is locked while they are read.
pub const TARGET_CHUNK_PAIRS: usize = 1_000;
/// Largest payload of a chunk. One item may be larger than the target; a log entry has up to 48 MiB.
pub const MAX_CHUNK_PAYLOAD_BYTES: usize = 56 << 20;
/// Most chunks of a snapshot. While reading, up to 32 bytes of memory are needed for each.
pub const MAX_CHUNKS: u64 = 1 << 22;
/// Longest key of a pair.
pub const MAX_KEY_BYTES: usize = 64;
/// Largest manifest.
pub const MAX_MANIFEST_BYTES: usize = 8 << 20;
/// Largest membership that a snapshot may carry.
pub const MAX_MEMBERSHIP_BYTES: usize = steeple_engine::view::MEMBERSHIP_BYTES_MAX;
/// Highest revision, log index, term and time that is believed. Far above any that is ever reached, and far enough
/// from the end of the numbers for whatever is counted on from there.
pub const MAX_POSITION: u64 = 1 << 62;

const _: () = assert!(TARGET_CHUNK_BYTES < MAX_CHUNK_PAYLOAD_BYTES);
const _: () = assert!(MAX_MANIFEST_BYTES < MAX_CHUNK_PAYLOAD_BYTES);
// The manifest repeats the membership in hexadecimal.
const _: () = assert!(2 * MAX_MEMBERSHIP_BYTES < MAX_MANIFEST_BYTES);
