//! Moving a snapshot file chunk by chunk, with a way to go on after an interruption.
//!
//! The sender serves the chunks of a published file from any number on ([`FileChunks`]). The receiver checks each
//! chunk as it arrives and remembers nothing but the file ([`ChunkReceiver`]): after an interruption it finds out from
//! that how far it came, and asks for the rest. Whether the chunks make up a state is for [`crate::verify()`] or
//! [`crate::restore()`] to say when all of them are there.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use bytes::Bytes;
use thiserror::Error;

use crate::format::{
    CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, EncodedChunk, FOOTER_BYTES, FieldError, Footer, HEADER_BYTES, Header,
    SnapshotId,
};
use crate::inspect::locate;
use crate::limits::MAX_CHUNKS;
use crate::manifest::Manifest;
use crate::read::{ReadError, read_chunk, read_footer, read_header};

/// The chunks of a snapshot file, from any one on. Each is checked before it is handed out.
#[derive(Debug)]
pub struct FileChunks<R> {
    input: R,
    header: Header,
    footer: Footer,
    manifest: Manifest,
    number: u64,
    offset: u64,
}

impl<R: Read + Seek> FileChunks<R> {
    /// Begins with chunk 0.
    ///
    /// # Errors
    /// When header, footer or manifest are damaged.
    pub fn open(mut input: R) -> Result<Self, ReadError> {
        let located = locate(&mut input)?;
        let (header, footer, manifest) = (located.header, located.footer, located.manifest);
        Ok(Self { input, header, footer, manifest, number: 0, offset: 0 })
    }

    /// What the snapshot holds.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How many chunks there are, header and footer included.
    #[must_use]
    pub fn chunk_count(&self) -> u64 {
        self.footer.manifest_number + 2
    }

    /// Goes to a chunk, so that it is the next one; beyond the last one there is none. Costs one small read for each
    /// chunk passed over.
    ///
    /// # Errors
    /// When the chunks on the way cannot be walked.
    pub fn go_to(&mut self, number: u64) -> Result<(), ReadError> {
        let number = number.min(self.chunk_count());
        if number < self.number {
            (self.number, self.offset) = (0, 0);
        }
        while self.number < number {
            self.offset += self.size_of_next()?;
            self.number += 1;
        }
        Ok(())
    }

    /// The next chunk; `None` after the last one.
    ///
    /// # Errors
    /// When the chunk is damaged or cannot be read.
    pub fn next_chunk(&mut self) -> Result<Option<EncodedChunk>, ReadError> {
        let number = self.number;
        self.input.seek(SeekFrom::Start(self.offset))?;
        let bytes: Bytes = if number == 0 {
            Bytes::copy_from_slice(&read_header(&mut self.input)?.encode())
        } else if number <= self.footer.manifest_number {
            let chunk = read_chunk(&mut self.input, &self.header, number, self.offset)?;
            [&chunk.head[..], &chunk.payload].concat().into()
        } else if number == self.footer.manifest_number + 1 {
            let footer = read_footer(&mut self.input, &self.header, self.offset)?;
            Bytes::copy_from_slice(&footer.encode(self.header.id))
        } else {
            return Ok(None);
        };
        self.offset += bytes.len() as u64;
        self.number += 1;
        Ok(Some(EncodedChunk { number, bytes }))
    }

    fn size_of_next(&mut self) -> Result<u64, ReadError> {
        let (number, offset) = (self.number, self.offset);
        if number == 0 {
            return Ok(HEADER_BYTES as u64);
        }
        if number > self.footer.manifest_number {
            return Ok(FOOTER_BYTES as u64);
        }
        self.input.seek(SeekFrom::Start(offset))?;
        let mut head = [0; CHUNK_HEADER_BYTES];
        self.input.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ReadError::Truncated { offset },
            _ => error.into(),
        })?;
        let header = ChunkHeader::parse(&head).map_err(|error| ReadError::Chunk { number, offset, error })?;
        if header.number != number {
            return Err(ReadError::Order { expected: number, found: header.number, offset });
        }
        Ok(CHUNK_HEADER_BYTES as u64 + u64::from(header.payload_bytes))
    }
}

/// Why a chunk was not taken. Nothing of it was written, except after [`TransferError::Io`].
#[derive(Debug, Error)]
pub enum TransferError {
    /// It is not the one that comes next. Ask for that one.
    #[error("chunk {found} arrived where chunk {expected} comes next")]
    Order {
        /// The chunk that comes next.
        expected: u64,
        /// The chunk that arrived.
        found: u64,
    },
    /// It was damaged on the way, or belongs to another snapshot. Ask again, or start over.
    #[error("chunk {number} {error}")]
    Damaged {
        /// The chunk.
        number: u64,
        /// What is wrong.
        error: FieldError,
    },
    /// It is shorter or longer than it says.
    #[error("chunk {number} has another size than it should")]
    Size {
        /// The chunk.
        number: u64,
    },
    /// The snapshot would become larger than the receiver allows.
    #[error("the snapshot is larger than {max_bytes} bytes")]
    TooLarge {
        /// Most bytes allowed.
        max_bytes: u64,
    },
    /// The snapshot is there already, wholly.
    #[error("the snapshot is complete")]
    Complete,
    /// The file cannot be read or written. What it holds is found out by resuming.
    #[error("cannot write the snapshot: {0}")]
    Io(#[from] io::Error),
}

/// Takes the chunks of one snapshot in order and writes them out.
#[derive(Debug)]
pub struct ChunkReceiver<W> {
    out: W,
    header: Option<Header>,
    next: u64,
    bytes: u64,
    max_bytes: u64,
    manifest: Option<Footer>,
    complete: bool,
}

impl<W: Write> ChunkReceiver<W> {
    /// Waits for chunk 0.
    pub fn new(out: W, max_bytes: u64) -> Self {
        Self { out, header: None, next: 0, bytes: 0, max_bytes, manifest: None, complete: false }
    }

    /// The chunk to ask for.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// The snapshot that chunks were taken of; `None` before the first one. A sender that has another one must be
    /// answered by starting over.
    #[must_use]
    pub fn snapshot(&self) -> Option<SnapshotId> {
        self.header.map(|header| header.id)
    }

    /// Whether the last chunk has been taken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Bytes taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes a chunk: checks it by itself and writes it.
    ///
    /// # Errors
    /// See [`TransferError`].
    pub fn accept(&mut self, chunk: &EncodedChunk) -> Result<(), TransferError> {
        if self.complete {
            return Err(TransferError::Complete);
        }
        if chunk.number != self.next {
            return Err(TransferError::Order { expected: self.next, found: chunk.number });
        }
        let bytes = self.bytes + chunk.bytes.len() as u64;
        if bytes > self.max_bytes || self.next > MAX_CHUNKS + 2 {
            return Err(TransferError::TooLarge { max_bytes: self.max_bytes });
        }
        let step = self.check(chunk)?;
        self.out.write_all(&chunk.bytes)?;
        match step {
            Step::Header(header) => self.header = Some(header),
            Step::Content => {}
            Step::Manifest => {
                self.manifest = Some(Footer { manifest_offset: self.bytes, manifest_number: chunk.number });
            }
            Step::Footer => self.complete = true,
        }
        self.bytes = bytes;
        self.next += 1;
        Ok(())
    }

    fn check(&self, chunk: &EncodedChunk) -> Result<Step, TransferError> {
        let number = chunk.number;
        let damaged = |error| TransferError::Damaged { number, error };
        let Some(header) = &self.header else {
            return Header::decode(&sized(chunk)?).map(Step::Header).map_err(damaged);
        };
        if let Some(expected) = self.manifest {
            let footer = Footer::decode(header.id, &sized(chunk)?).map_err(damaged)?;
            return if footer == expected { Ok(Step::Footer) } else { Err(damaged(FieldError::Magic)) };
        }
        let Some((head, payload)) = chunk.bytes.split_first_chunk::<CHUNK_HEADER_BYTES>() else {
            return Err(TransferError::Size { number });
        };
        let fields = ChunkHeader::parse(head).map_err(damaged)?;
        if fields.payload_bytes as usize != payload.len() {
            return Err(TransferError::Size { number });
        }
        fields.check(header.id, head, payload).map_err(damaged)?;
        if fields.number != number {
            return Err(TransferError::Order { expected: number, found: fields.number });
        }
        Ok(if fields.kind == ChunkKind::Manifest { Step::Manifest } else { Step::Content })
    }

    /// The writer behind.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl ChunkReceiver<File> {
    /// Goes on with a file that an earlier receiver has left: keeps the chunks that are whole and cuts off the rest.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn resume(file: File, max_bytes: u64) -> Result<Self, TransferError> {
        let mut found = ChunkReceiver::new(io::sink(), max_bytes);
        let mut input = BufReader::new(&file);
        input.rewind()?;
        while !found.complete {
            let Some(chunk) = next_whole_chunk(&mut input, &found)? else { break };
            if found.accept(&chunk).is_err() {
                break;
            }
        }
        drop(input);
        file.set_len(found.bytes)?;
        let ChunkReceiver { header, next, bytes, manifest, complete, .. } = found;
        let mut receiver = Self { out: file, header, next, bytes, max_bytes, manifest, complete };
        receiver.out.seek(SeekFrom::Start(bytes))?;
        Ok(receiver)
    }
}

/// What a chunk turned out to be.
enum Step {
    Header(Header),
    Content,
    Manifest,
    Footer,
}

fn sized<const N: usize>(chunk: &EncodedChunk) -> Result<[u8; N], TransferError> {
    chunk.bytes.as_ref().try_into().map_err(|_| TransferError::Size { number: chunk.number })
}

/// The chunk that stands next in a file; `None` when there is no whole one.
fn next_whole_chunk<W: Write>(
    input: &mut impl Read,
    so_far: &ChunkReceiver<W>,
) -> Result<Option<EncodedChunk>, TransferError> {
    let (number, offset) = (so_far.next, so_far.bytes);
    let bytes = match (&so_far.header, so_far.manifest) {
        (None, _) => read_header(input).map(|header| Bytes::copy_from_slice(&header.encode())),
        (Some(header), Some(_)) => {
            read_footer(input, header, offset).map(|footer| Bytes::copy_from_slice(&footer.encode(header.id)))
        }
        (Some(header), None) => {
            read_chunk(input, header, number, offset).map(|chunk| [&chunk.head[..], &chunk.payload].concat().into())
        }
    };
    match bytes {
        Ok(bytes) => Ok(Some(EncodedChunk { number, bytes })),
        Err(ReadError::Io(error)) => Err(error.into()),
        Err(_) => Ok(None),
    }
}
