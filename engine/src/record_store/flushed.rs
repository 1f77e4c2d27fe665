//! A small file beside the data that says what the last flush made durable.
//!
//! Both engines take the first damaged frame of their journal for the torn end of it, and silently go on from the
//! state before. What is kept here lets a store find out on opening that it has lost something it once flushed.
//!
//! The file is one sector, overwritten in place and not synced: after a power cut it may speak of an earlier flush,
//! which only makes the check weaker. It never speaks of a flush that has not happened.
//!
//! ```text
//! 0        2                 508       512
//! | length | payload, zeros  | CRC32   |     integers little endian; the CRC is over the 508 bytes before it
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

const FILE_NAME: &str = "FLUSHED";
const SECTOR_BYTES: usize = 512;
const CRC_AT: usize = SECTOR_BYTES - 4;
/// The payload has to leave room for its length and the CRC.
pub(super) const PAYLOAD_BYTES_MAX: usize = CRC_AT - 2;

/// What the last flush made durable, in words of the engine's own.
#[derive(Debug)]
pub(super) struct FlushedMark {
    file: File,
}

impl FlushedMark {
    /// Opens the mark in `directory`, creating it if there is none, and returns what it says, if anything.
    pub(super) fn open(directory: &Path) -> io::Result<(Self, Option<Vec<u8>>)> {
        let path = directory.join(FILE_NAME);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut sector = Vec::new();
        (&file).take(SECTOR_BYTES as u64 + 1).read_to_end(&mut sector)?;
        let payload = if sector.is_empty() { None } else { Some(decode(&sector)?) };
        Ok((Self { file }, payload))
    }

    /// Replaces what the mark says.
    pub(super) fn write(&self, payload: &[u8]) -> io::Result<()> {
        self.file.write_all_at(&encode(payload)?, 0)
    }
}

fn encode(payload: &[u8]) -> io::Result<[u8; SECTOR_BYTES]> {
    let length = u16::try_from(payload.len()).ok().filter(|_| payload.len() <= PAYLOAD_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("too much to say about a flush"))?;
    let mut sector = [0; SECTOR_BYTES];
    sector[..2].copy_from_slice(&length.to_le_bytes());
    sector[2..2 + payload.len()].copy_from_slice(payload);
    let crc = crc32fast::hash(&sector[..CRC_AT]);
    sector[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    Ok(sector)
}

fn decode(sector: &[u8]) -> io::Result<Vec<u8>> {
    let damaged = || io::Error::other("the mark of the last flush is damaged");
    if sector.len() != SECTOR_BYTES || sector[CRC_AT..] != crc32fast::hash(&sector[..CRC_AT]).to_le_bytes() {
        return Err(damaged());
    }
    let length = usize::from(u16::from_le_bytes([sector[0], sector[1]]));
    sector
        .get(2..2 + length)
        .filter(|payload| payload.len() <= PAYLOAD_BYTES_MAX)
        .map(<[u8]>::to_vec)
        .ok_or_else(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_was_written_last() {
        let directory = tempfile::tempdir().unwrap();
        let (mark, said) = FlushedMark::open(directory.path()).unwrap();
        assert_eq!(said, None);
        mark.write(b"a longer one").unwrap();
        mark.write(b"short").unwrap();
        let (mark, said) = FlushedMark::open(directory.path()).unwrap();
        assert_eq!(said.as_deref(), Some(&b"short"[..]));
        assert!(mark.write(&[1; PAYLOAD_BYTES_MAX + 1]).is_err());
        mark.write(&[1; PAYLOAD_BYTES_MAX]).unwrap();
        assert_eq!(FlushedMark::open(directory.path()).unwrap().1, Some(vec![1; PAYLOAD_BYTES_MAX]));
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let sector = encode(b"what was flushed").unwrap();
        for bit in 0..SECTOR_BYTES * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..SECTOR_BYTES {
            assert!(decode(&sector[..length]).is_err(), "length {length}");
        }
    }
}
