//! The bytes of a snapshot (`docs/formats/snapshot.md`); the only place that knows their layout.
//!
//! Numbers are little endian. A snapshot is a header, numbered chunks and a footer. For transport, the header counts
//! as chunk 0 and the footer as the last one, so that the chunks in order are the file.

use std::fmt;

use bytes::Bytes;
use crc32fast::Hasher;
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, Term};
use steeple_engine::log::{Entry, EntryKind};
use steeple_engine::view::FoldedPosition;

use crate::limits::{MAX_CHUNK_PAYLOAD_BYTES, MAX_KEY_BYTES};

/// Version of the format that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Size of the header.
pub const HEADER_BYTES: usize = 80;
/// Size of what stands in front of a chunk's payload.
pub const CHUNK_HEADER_BYTES: usize = 24;
/// Size of the footer.
pub const FOOTER_BYTES: usize = 32;
/// Size of a folded position in front of a chunk's pairs.
pub(crate) const FOLDED_BYTES: usize = 40;

const MAGIC: [u8; 8] = *b"STPLSNAP";
const FOOTER_MAGIC: [u8; 8] = *b"STPLSEND";
const FLAG_HISTORY: u32 = 1;

/// Names one snapshot, chosen at random by whoever takes it. Checksums begin with it, so that a chunk of one snapshot
/// never passes for one of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotId(pub [u8; 16]);

impl SnapshotId {
    /// The identity written as 32 hexadecimal digits, or `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ClusterId::parse(text).map(|id| Self(id.0))
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Whose state a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// The line of revisions.
    pub history: HistoryId,
}

/// What a snapshot begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which snapshot it is.
    pub id: SnapshotId,
    /// Whose state it holds.
    pub origin: Origin,
    /// Whether it holds all events that were retained, and not only those that it takes to make the state exact.
    pub includes_history: bool,
}

/// What a chunk holds. The numbers are part of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    /// Pairs of the record store, in key order, read at one revision.
    Pairs = 1,
    /// Entries of the log.
    Entries = 2,
    /// The manifest, the last chunk before the footer.
    Manifest = 3,
}

/// What stands in front of a chunk's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Over the snapshot's id, the other fields and the payload.
    pub checksum: u32,
    /// Bytes of payload.
    pub payload_bytes: u32,
    /// Place in the snapshot: 1, 2, 3, ...
    pub number: u64,
    /// What the payload is.
    pub kind: ChunkKind,
}

/// What a snapshot ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Where the manifest's chunk starts.
    pub manifest_offset: u64,
    /// The manifest's chunk number.
    pub manifest_number: u64,
}

/// One piece of a snapshot for transport. All of them in order, one after the other, are the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChunk {
    /// 0 is the header; the highest is the footer.
    pub number: u64,
    /// The bytes, at most [`MAX_CHUNK_PAYLOAD_BYTES`] and a chunk header.
    pub bytes: Bytes,
}

/// What is wrong with a header, chunk header or footer by itself.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum FieldError {
    /// The first bytes are not those of a snapshot.
    #[error("is not a snapshot")]
    Magic,
    /// Another version than this build reads.
    #[error("has format version {found}, this build reads version {FORMAT_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// Content and checksum do not agree.
    #[error("has checksum {found:08x} where its content has {expected:08x}")]
    Checksum {
        /// Checksum of the content.
        expected: u32,
        /// Checksum stored.
        found: u32,
    },
    /// A chunk would be larger than any may be.
    #[error("announces a payload of {found} bytes, at most {MAX_CHUNK_PAYLOAD_BYTES} are allowed")]
    TooLarge {
        /// Length announced.
        found: u32,
    },
    /// A kind of chunk, or a flag, that this build does not know.
    #[error("has unknown kind or flags {found}")]
    Unknown {
        /// The number found.
        found: u32,
    },
}

impl Header {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut block = [0; HEADER_BYTES];
        put(&mut block, 0, MAGIC);
        put(&mut block, 8, FORMAT_VERSION.to_le_bytes());
        put(&mut block, 12, if self.includes_history { FLAG_HISTORY } else { 0 }.to_le_bytes());
        put(&mut block, 16, self.id.0);
        put(&mut block, 32, self.origin.cluster.0);
        put(&mut block, 48, self.origin.group.0.to_le_bytes());
        put(&mut block, 56, self.origin.history.0);
        let checksum = checksum(&[&block[..76]]);
        put(&mut block, 76, checksum.to_le_bytes());
        block
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is not a snapshot's header, of another version, or damaged.
    pub fn decode(block: &[u8; HEADER_BYTES]) -> Result<Self, FieldError> {
        if bytes_at::<8>(block, 0) != MAGIC {
            return Err(FieldError::Magic);
        }
        match u32_at(block, 8) {
            FORMAT_VERSION => {}
            found => return Err(FieldError::Version { found }),
        }
        check(checksum(&[&block[..76]]), u32_at(block, 76))?;
        let flags = u32_at(block, 12);
        if flags & !FLAG_HISTORY != 0 || u32_at(block, 72) != 0 {
            return Err(FieldError::Unknown { found: flags });
        }
        Ok(Self {
            id: SnapshotId(bytes_at(block, 16)),
            origin: Origin {
                cluster: ClusterId(bytes_at(block, 32)),
                group: GroupId(u64_at(block, 48)),
                history: HistoryId(bytes_at(block, 56)),
            },
            includes_history: flags & FLAG_HISTORY != 0,
        })
    }
}

impl ChunkHeader {
    /// Reads the fields; says nothing about the payload.
    ///
    /// # Errors
    /// When a field has a value that none may have.
    pub fn parse(block: &[u8; CHUNK_HEADER_BYTES]) -> Result<Self, FieldError> {
        let payload_bytes = u32_at(block, 4);
        if payload_bytes as usize > MAX_CHUNK_PAYLOAD_BYTES {
            return Err(FieldError::TooLarge { found: payload_bytes });
        }
        let kind = match block[16] {
            1 => ChunkKind::Pairs,
            2 => ChunkKind::Entries,
            3 => ChunkKind::Manifest,
            found => return Err(FieldError::Unknown { found: u32::from(found) }),
        };
        if let Some(found) = block[17..].iter().find(|byte| **byte != 0) {
            return Err(FieldError::Unknown { found: u32::from(*found) });
        }
        Ok(Self { checksum: u32_at(block, 0), payload_bytes, number: u64_at(block, 8), kind })
    }

    /// Compares the checksum with that of the content.
    ///
    /// # Errors
    /// When they differ.
    pub fn check(&self, id: SnapshotId, block: &[u8; CHUNK_HEADER_BYTES], payload: &[u8]) -> Result<(), FieldError> {
        check(checksum(&[&id.0, &block[4..], payload]), self.checksum)
    }
}

/// A chunk as it lies in the file.
///
/// # Panics
/// When the payload is larger than any may be; writers check the size of each item before.
#[must_use]
pub fn encode_chunk(id: SnapshotId, number: u64, kind: ChunkKind, payload: &[u8]) -> Bytes {
    assert!(payload.len() <= MAX_CHUNK_PAYLOAD_BYTES, "chunk {number} is within the limit");
    let mut block = [0; CHUNK_HEADER_BYTES];
    put(&mut block, 4, length(payload).to_le_bytes());
    put(&mut block, 8, number.to_le_bytes());
    block[16] = kind as u8;
    let checksum = checksum(&[&id.0, &block[4..], payload]);
    put(&mut block, 0, checksum.to_le_bytes());
    [&block[..], payload].concat().into()
}

impl Footer {
    /// The stored form.
    #[must_use]
    pub fn encode(&self, id: SnapshotId) -> [u8; FOOTER_BYTES] {
        let mut block = [0; FOOTER_BYTES];
        put(&mut block, 0, self.manifest_offset.to_le_bytes());
        put(&mut block, 8, self.manifest_number.to_le_bytes());
        put(&mut block, 24, FOOTER_MAGIC);
        let checksum = Self::checksum(id, &block);
        put(&mut block, 20, checksum.to_le_bytes());
        block
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it is not a footer, or damaged.
    pub fn decode(id: SnapshotId, block: &[u8; FOOTER_BYTES]) -> Result<Self, FieldError> {
        if bytes_at::<8>(block, 24) != FOOTER_MAGIC {
            return Err(FieldError::Magic);
        }
        check(Self::checksum(id, block), u32_at(block, 20))?;
        Ok(Self { manifest_offset: u64_at(block, 0), manifest_number: u64_at(block, 8) })
    }

    fn checksum(id: SnapshotId, block: &[u8; FOOTER_BYTES]) -> u32 {
        checksum(&[&id.0, &block[..20]])
    }
}

/// The payload of a chunk of pairs in the making.
pub(crate) struct PairsPayload {
    bytes: Vec<u8>,
    count: u32,
}

impl PairsPayload {
    pub(crate) fn new() -> Self {
        // Position and count are known when the last pair is.
        Self { bytes: vec![0; FOLDED_BYTES + 4], count: 0 }
    }

    /// Whether a pair fits below the hard limit.
    pub(crate) fn fits(&self, key: &[u8], value: &[u8]) -> bool {
        key.len() <= MAX_KEY_BYTES && self.bytes.len() + 6 + key.len() + value.len() <= MAX_CHUNK_PAYLOAD_BYTES
    }

    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(&(key.len() as u16).to_le_bytes());
        self.bytes.extend_from_slice(&length(value).to_le_bytes());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn finish(mut self, folded: &FoldedPosition) -> Vec<u8> {
        self.bytes[..FOLDED_BYTES].copy_from_slice(&folded.encode());
        self.bytes[FOLDED_BYTES..FOLDED_BYTES + 4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// The payload of a chunk of entries in the making.
pub(crate) struct EntriesPayload {
    bytes: Vec<u8>,
    count: u32,
}

impl EntriesPayload {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; 4], count: 0 }
    }

    /// Whether an entry fits below the hard limit.
    pub(crate) fn fits(&self, entry: &Entry) -> bool {
        self.bytes.len() + 29 + entry.payload.len() <= MAX_CHUNK_PAYLOAD_BYTES
    }

    pub(crate) fn push(&mut self, entry: &Entry) {
        for number in [entry.position.index.0, entry.position.term.0, entry.tag] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.push(entry.kind as u8);
        self.bytes.extend_from_slice(&length(&entry.payload).to_le_bytes());
        self.bytes.extend_from_slice(&entry.payload);
        self.count += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn count(&self) -> usize {
        self.count as usize
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes[..4].copy_from_slice(&self.count.to_le_bytes());
        self.bytes
    }
}

/// Walks a payload; every method answers `None` when there is less left than it needs.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// Hands the pairs of a chunk over and returns the position at which they were read; `None` when it is malformed.
/// An error of `visit` ends it.
pub(crate) fn visit_pairs<E>(
    payload: &[u8],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
) -> Result<Option<FoldedPosition>, E> {
    let mut fields = Fields(payload);
    let Some(folded) = fields.bytes(FOLDED_BYTES).and_then(FoldedPosition::decode) else { return Ok(None) };
    let Some(count) = fields.u32() else { return Ok(None) };
    for _ in 0..count {
        let Some((key, value)) = read_pair(&mut fields) else { return Ok(None) };
        visit(key, value)?;
    }
    Ok(fields.0.is_empty().then_some(folded))
}

/// The position at which a chunk of pairs was read.
pub(crate) fn pairs_position(payload: &[u8]) -> Option<FoldedPosition> {
    FoldedPosition::decode(payload.get(..FOLDED_BYTES)?)
}

fn read_pair<'a>(fields: &mut Fields<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let key_bytes = usize::from(u16::from_le_bytes(fields.array()?));
    let value_bytes = fields.u32()? as usize;
    if key_bytes > MAX_KEY_BYTES {
        return None;
    }
    Some((fields.bytes(key_bytes)?, fields.bytes(value_bytes)?))
}

/// Hands the entries of a chunk over; `false` when it is malformed. An error of `visit` ends it.
pub(crate) fn visit_entries<E>(payload: &Bytes, mut visit: impl FnMut(Entry) -> Result<(), E>) -> Result<bool, E> {
    let mut fields = Fields(payload);
    let Some(count) = fields.u32() else { return Ok(false) };
    for _ in 0..count {
        let Some(entry) = read_entry(payload, &mut fields) else { return Ok(false) };
        visit(entry)?;
    }
    Ok(fields.0.is_empty())
}

fn read_entry(payload: &Bytes, fields: &mut Fields<'_>) -> Option<Entry> {
    let (index, term, tag) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let kind = match fields.array::<1>()? {
        [1] => EntryKind::Event,
        [2] => EntryKind::Empty,
        [3] => EntryKind::Membership,
        [4] => EntryKind::Check,
        _ => return None,
    };
    let payload_bytes = fields.u32()? as usize;
    let content = payload.slice_ref(fields.bytes(payload_bytes)?);
    let position = LogPosition { term: Term(term), index: LogIndex(index) };
    Some(Entry { position, kind, tag, payload: content })
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize()
}

fn check(expected: u32, found: u32) -> Result<(), FieldError> {
    if expected == found { Ok(()) } else { Err(FieldError::Checksum { expected, found }) }
}

/// The length of something that is known to be within the limit of a chunk.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn put<const N: usize>(block: &mut [u8], at: usize, bytes: [u8; N]) {
    block[at..at + N].copy_from_slice(&bytes);
}

/// The `N` bytes at `at`; zeros where the block is too short, which blocks of fixed size never are.
fn bytes_at<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    block.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn u32_at(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(block, at))
}

fn u64_at(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(block, at))
}
