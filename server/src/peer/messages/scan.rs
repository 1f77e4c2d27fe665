//! Counts what is in an encoded batch before memory is given to it.
//!
//! An empty entry takes two bytes on the wire and a hundred in memory, so that a limit on bytes alone would let a peer
//! ask for gigabytes. The walk looks at tags and lengths only.

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::super::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, BATCH_MESSAGES_MAX, SNAPSHOT_POSITION_BYTES_MAX};
use super::BatchError;

const BATCH_MESSAGES: u32 = 1;
const MESSAGE_ENTRIES: u32 = 7;
const MESSAGE_SNAPSHOT: u32 = 10;

/// Refuses a batch that would need more memory than one may.
///
/// # Errors
/// See [`BatchError`].
pub fn scan(batch: &[u8]) -> Result<(), BatchError> {
    if batch.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge { bytes: batch.len(), max_bytes: BATCH_BYTES_MAX });
    }
    let mut counts = Counts::default();
    walk(batch, |field, content| {
        if field == BATCH_MESSAGES {
            counts.message(content)?;
        }
        Ok(())
    })
}

#[derive(Default)]
struct Counts {
    messages: usize,
    entries: usize,
    snapshot_bytes: usize,
}

impl Counts {
    fn message(&mut self, message: &[u8]) -> Result<(), BatchError> {
        self.messages += 1;
        within(self.messages, BATCH_MESSAGES_MAX, "messages")?;
        walk(message, |field, content| match field {
            MESSAGE_ENTRIES => {
                self.entries += 1;
                within(self.entries, BATCH_ENTRIES_MAX, "entries")
            }
            MESSAGE_SNAPSHOT => {
                self.snapshot_bytes += content.len();
                within(self.snapshot_bytes, SNAPSHOT_POSITION_BYTES_MAX, "bytes about members")
            }
            _ => Ok(()),
        })
    }
}

fn within(count: usize, max: usize, what: &'static str) -> Result<(), BatchError> {
    if count > max { Err(BatchError::TooMany { what, max }) } else { Ok(()) }
}

/// Shows each field that has a length, with its content.
fn walk<'a>(
    mut rest: &'a [u8],
    mut see: impl FnMut(u32, &'a [u8]) -> Result<(), BatchError>,
) -> Result<(), BatchError> {
    let malformed = |error: prost::DecodeError| BatchError::Malformed(error.to_string());
    let short = || BatchError::Malformed("it ends in the middle of a field".into());
    while rest.has_remaining() {
        let (field, wire_type) = decode_key(&mut rest).map_err(malformed)?;
        let skipped = match wire_type {
            WireType::Varint => {
                decode_varint(&mut rest).map_err(malformed)?;
                continue;
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut rest).map_err(malformed)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(BatchError::Malformed("it holds a group, which this protocol does not have".into()));
            }
        };
        let skipped = usize::try_from(skipped).map_err(|_| short())?;
        let (content, behind) = rest.split_at_checked(skipped).ok_or_else(short)?;
        if wire_type == WireType::LengthDelimited {
            see(field, content)?;
        }
        rest = behind;
    }
    Ok(())
}
