//! What a snapshot says that it holds, without reading it.

use std::io::{Read, Seek, SeekFrom};

use crate::format::{CHUNK_HEADER_BYTES, ChunkKind, FOOTER_BYTES, Footer, HEADER_BYTES, Header};
use crate::limits::MAX_CHUNKS;
use crate::manifest::{Manifest, expect};
use crate::read::{ReadError, read_chunk, read_footer, read_header, read_manifest};

/// Reads header, footer and manifest only. Says nothing about the rest; for that there is [`crate::verify()`].
///
/// # Errors
/// When one of the three is missing or damaged.
pub fn inspect(mut input: impl Read + Seek) -> Result<Manifest, ReadError> {
    locate(&mut input).map(|located| located.manifest)
}

/// Header, footer and manifest.
pub(crate) struct Located {
    pub(crate) header: Header,
    pub(crate) footer: Footer,
    pub(crate) manifest: Manifest,
}

pub(crate) fn locate(input: &mut (impl Read + Seek)) -> Result<Located, ReadError> {
    let bytes = input.seek(SeekFrom::End(0))?;
    input.rewind()?;
    let header = read_header(input)?;
    let least = (HEADER_BYTES + CHUNK_HEADER_BYTES + FOOTER_BYTES) as u64;
    if bytes < least {
        return Err(ReadError::Truncated { offset: bytes });
    }
    let footer_offset = bytes - FOOTER_BYTES as u64;
    input.seek(SeekFrom::Start(footer_offset))?;
    let footer = read_footer(input, &header, footer_offset)?;
    if footer.manifest_offset < HEADER_BYTES as u64 || footer.manifest_offset > bytes - least + HEADER_BYTES as u64 {
        return Err(ReadError::FooterPointer);
    }
    if footer.manifest_number > MAX_CHUNKS {
        return Err(ReadError::TooManyChunks);
    }
    input.seek(SeekFrom::Start(footer.manifest_offset))?;
    let chunk = read_chunk(input, &header, footer.manifest_number, footer.manifest_offset)?;
    let end = footer.manifest_offset + (CHUNK_HEADER_BYTES + chunk.payload.len()) as u64;
    if chunk.header.kind != ChunkKind::Manifest || end != footer_offset {
        return Err(ReadError::FooterPointer);
    }
    let manifest = read_manifest(&chunk.payload)?;
    manifest.check_header(&header)?;
    expect(manifest.bytes == footer.manifest_offset, "size")?;
    expect(manifest.chunks.checked_add(1) == Some(footer.manifest_number), "number of chunks")?;
    Ok(Located { header, footer, manifest })
}
