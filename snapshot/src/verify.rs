//! Verifying a snapshot: everything short of restoring it, in bounded memory.

use std::io::Read;

use crate::manifest::Manifest;
use crate::read::{ReadError, SnapshotReader};

/// A snapshot that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it holds.
    pub manifest: Manifest,
    /// Size of the file.
    pub bytes: u64,
}

/// Reads a snapshot from front to back and checks all of it: every checksum, the order of chunks, pairs and entries,
/// that no event is missing, the digest of the state that restoring it would give, the manifest and the end.
///
/// Needs memory for one chunk (1 MiB; more where a single item is larger) and up to 32 bytes for each chunk of pairs.
/// `progress` is called with the bytes read so far.
///
/// What it cannot see: whether stream rows and counters, which the digest does not cover, were right when the snapshot
/// was taken. Damage to them since then is seen.
///
/// # Errors
/// See [`ReadError`].
pub fn verify(input: impl Read, progress: &mut dyn FnMut(u64)) -> Result<Report, ReadError> {
    let mut reader = SnapshotReader::open(input)?;
    while reader.next_part()?.is_some() {
        progress(reader.offset());
    }
    let bytes = reader.offset();
    let manifest =
        reader.into_manifest().unwrap_or_else(|| unreachable!("a reader that came to its end has read the manifest"));
    Ok(Report { manifest, bytes })
}
