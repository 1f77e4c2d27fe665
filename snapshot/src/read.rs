//! Reading a snapshot from front to back, checking everything on the way, in memory for one chunk.

use std::io::{self, Read};

use bytes::Bytes;
use thiserror::Error;
use xxhash_rust::xxh3::Xxh3;

use crate::format::{
    CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, FOOTER_BYTES, FieldError, Footer, HEADER_BYTES, Header,
};
use crate::limits::{MAX_CHUNKS, MAX_MANIFEST_BYTES, MAX_MEMBERSHIP_BYTES, TARGET_CHUNK_BYTES};
use crate::manifest::{Manifest, ManifestError, TableRecords, expect};
use crate::state::{StateError, StateTracker};

/// Why a snapshot cannot be used.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The operating system, or whatever the bytes come from, failed.
    #[error("cannot read the snapshot: {0}")]
    Io(#[from] io::Error),
    /// The file is shorter than a snapshot can be at this place.
    #[error("the snapshot ends early, at byte {offset}")]
    Truncated {
        /// Where something was expected that is not, or not wholly, there.
        offset: u64,
    },
    /// The header is no good.
    #[error("the file {0}")]
    Header(FieldError),
    /// A chunk is damaged.
    #[error("chunk {number} at byte {offset} {error}")]
    Chunk {
        /// The chunk expected there.
        number: u64,
        /// Where it starts.
        offset: u64,
        /// What is wrong.
        error: FieldError,
    },
    /// A chunk is missing, repeated or out of place.
    #[error("chunk {found} stands at byte {offset} where chunk {expected} should")]
    Order {
        /// The number that comes next.
        expected: u64,
        /// The number found.
        found: u64,
        /// Where.
        offset: u64,
    },
    /// Chunks of pairs come first, then chunks of entries, then the manifest.
    #[error("chunk {number} holds {kind:?}, which may not stand there")]
    Kind {
        /// The chunk.
        number: u64,
        /// What it holds.
        kind: ChunkKind,
    },
    /// More chunks than there may be.
    #[error("the snapshot has more than {MAX_CHUNKS} chunks")]
    TooManyChunks,
    /// A chunk is intact but what it holds is not in order.
    #[error("chunk {number}: {error}")]
    Content {
        /// The chunk.
        number: u64,
        /// What is wrong.
        error: StateError,
    },
    /// All chunks are intact but do not make up one state.
    #[error("{0}")]
    State(StateError),
    /// The manifest cannot be read, or says other things than the rest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The footer is damaged or points elsewhere.
    #[error("the footer {0}")]
    Footer(FieldError),
    /// The footer points elsewhere.
    #[error("the footer does not point to the manifest")]
    FooterPointer,
    /// There is more than a snapshot.
    #[error("bytes follow the end of the snapshot at byte {offset}")]
    Trailing {
        /// Where the snapshot ends.
        offset: u64,
    },
}

/// A chunk of content.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    /// Payload of a chunk of pairs.
    Pairs(Bytes),
    /// Payload of a chunk of entries.
    Entries(Bytes),
}

/// A snapshot being read. Only when [`SnapshotReader::next_part`] has answered `None` has it been checked as a whole.
pub(crate) struct SnapshotReader<R> {
    input: R,
    header: Header,
    offset: u64,
    number: u64,
    entries_begun: bool,
    hasher: Xxh3,
    tracker: StateTracker,
    manifest: Option<Manifest>,
}

impl<R: Read> SnapshotReader<R> {
    pub(crate) fn open(mut input: R) -> Result<Self, ReadError> {
        let header = read_header(&mut input)?;
        let mut hasher = Xxh3::new();
        hasher.update(&header.encode());
        Ok(Self {
            input,
            header,
            offset: HEADER_BYTES as u64,
            number: 1,
            entries_begun: false,
            hasher,
            tracker: StateTracker::default(),
            manifest: None,
        })
    }

    /// Bytes read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// What the snapshot holds; `None` before its end.
    pub(crate) fn into_manifest(self) -> Option<Manifest> {
        self.manifest
    }

    /// The next chunk of content; `None` at the end, after everything has been checked.
    pub(crate) fn next_part(&mut self) -> Result<Option<Part>, ReadError> {
        if self.manifest.is_some() {
            return Ok(None);
        }
        let (number, offset) = (self.number, self.offset);
        let RawChunk { header, head, payload } = read_chunk(&mut self.input, &self.header, number, offset)?;
        let checked = |outcome: Result<(), StateError>| outcome.map_err(|error| ReadError::Content { number, error });
        let part = match header.kind {
            ChunkKind::Pairs if !self.entries_begun => {
                checked(self.tracker.accept_pairs(&payload))?;
                Part::Pairs(payload)
            }
            ChunkKind::Pairs => return Err(ReadError::Kind { number, kind: header.kind }),
            ChunkKind::Entries => {
                self.entries_begun = true;
                checked(self.tracker.accept_entries(&payload))?;
                Part::Entries(payload)
            }
            ChunkKind::Manifest => {
                self.offset += (CHUNK_HEADER_BYTES + payload.len()) as u64;
                self.finish(&payload, offset)?;
                return Ok(None);
            }
        };
        let payload = match &part {
            Part::Pairs(payload) | Part::Entries(payload) => payload,
        };
        self.hasher.update(&head);
        self.hasher.update(payload);
        self.offset += (CHUNK_HEADER_BYTES + payload.len()) as u64;
        self.number += 1;
        if self.number > MAX_CHUNKS {
            return Err(ReadError::TooManyChunks);
        }
        Ok(Some(part))
    }

    fn finish(&mut self, json: &[u8], manifest_offset: u64) -> Result<(), ReadError> {
        let manifest = read_manifest(json)?;
        self.check_manifest(&manifest, manifest_offset)?;
        let footer = read_footer(&mut self.input, &self.header, self.offset)?;
        if footer != (Footer { manifest_offset, manifest_number: self.number }) {
            return Err(ReadError::FooterPointer);
        }
        self.offset += FOOTER_BYTES as u64;
        if self.input.by_ref().take(1).read_to_end(&mut Vec::new())? > 0 {
            return Err(ReadError::Trailing { offset: self.offset });
        }
        self.manifest = Some(manifest);
        Ok(())
    }

    fn check_manifest(&self, manifest: &Manifest, manifest_offset: u64) -> Result<(), ReadError> {
        manifest.check_header(&self.header)?;
        expect(manifest.bytes == manifest_offset, "size")?;
        expect(manifest.chunks == self.number - 1, "number of chunks")?;
        expect(manifest.checksum == self.hasher.digest128(), "checksum")?;
        expect(manifest.membership.len() <= MAX_MEMBERSHIP_BYTES, "size of the membership")?;
        let totals = self.tracker.finish().map_err(ReadError::State)?;
        expect(manifest.state == totals.end, "state")?;
        expect(manifest.start == totals.start.revision, "start revision")?;
        let counts = (manifest.pairs, manifest.entries, manifest.events);
        expect(counts == (totals.pairs, totals.entries, totals.events), "numbers of pairs and entries")?;
        expect(manifest.first_event == totals.first_event, "first event")?;
        let tables = totals.records.iter().map(|(table, records)| TableRecords { table: *table, records: *records });
        expect(manifest.tables.iter().copied().eq(tables), "records of tables")?;
        let base = manifest.log_base;
        let below = base.position.index <= totals.start.index && base.revision <= totals.start.revision;
        let before = totals.first_entry.is_none_or(|first| base.position.index < first);
        expect(below && before, "base of the log")?;
        Ok(())
    }
}

/// A chunk as read, its checksum verified.
pub(crate) struct RawChunk {
    pub(crate) header: ChunkHeader,
    pub(crate) head: [u8; CHUNK_HEADER_BYTES],
    pub(crate) payload: Bytes,
}

pub(crate) fn read_header(input: &mut impl Read) -> Result<Header, ReadError> {
    Header::decode(&read_block(input, 0)?).map_err(ReadError::Header)
}

/// Reads chunk `number`, which starts at `offset`.
pub(crate) fn read_chunk(
    input: &mut impl Read,
    snapshot: &Header,
    number: u64,
    offset: u64,
) -> Result<RawChunk, ReadError> {
    let damaged = |error| ReadError::Chunk { number, offset, error };
    let head: [u8; CHUNK_HEADER_BYTES] = read_block(input, offset)?;
    let header = ChunkHeader::parse(&head).map_err(damaged)?;
    let length = header.payload_bytes as usize;
    // Memory grows with what is there, not with what is announced.
    let mut payload = Vec::with_capacity(length.min(TARGET_CHUNK_BYTES + (TARGET_CHUNK_BYTES >> 4)));
    input.take(length as u64).read_to_end(&mut payload)?;
    if payload.len() < length {
        return Err(ReadError::Truncated { offset: offset + (CHUNK_HEADER_BYTES + payload.len()) as u64 });
    }
    header.check(snapshot.id, &head, &payload).map_err(damaged)?;
    if header.number != number {
        return Err(ReadError::Order { expected: number, found: header.number, offset });
    }
    Ok(RawChunk { header, head, payload: payload.into() })
}

pub(crate) fn read_footer(input: &mut impl Read, snapshot: &Header, offset: u64) -> Result<Footer, ReadError> {
    Footer::decode(snapshot.id, &read_block(input, offset)?).map_err(ReadError::Footer)
}

pub(crate) fn read_manifest(json: &[u8]) -> Result<Manifest, ManifestError> {
    if json.len() > MAX_MANIFEST_BYTES {
        return Err(ManifestError::Malformed("larger than any may be".into()));
    }
    Manifest::from_json(json)
}

fn read_block<const N: usize>(input: &mut impl Read, offset: u64) -> Result<[u8; N], ReadError> {
    let mut block = [0; N];
    match input.read_exact(&mut block) {
        Ok(()) => Ok(block),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ReadError::Truncated { offset }),
        Err(error) => Err(error.into()),
    }
}
