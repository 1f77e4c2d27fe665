//! Traces of writes that went astray, in a segment that was not closed.
//!
//! Entries whose frames and records are both bad, and which are not known to have been durable, look like an unfinished
//! write. They do so too when one misdirected write has hit both: the block of their frames went where their records lay,
//! or the other way round. But then a frame lies where only records ever do, or a record where only frames do, and says
//! that there was an entry behind the last one that is left.

use super::frame::{FRAME_HEADER_BYTES, FrameHeader, decode_frame};
use super::layout::{ALIGNMENT, u32_at, u64_at};
use super::record::{PERSIST_RECORD_BYTES, PersistRecord};
use super::segment::{SegmentHeader, Tail};
use crate::disk::DiskFile;
use crate::ids::LogIndex;

/// A region is read in pieces of this size, one overlapping the next.
const PIECE_BYTES: u64 = 1 << 20;

/// What lies in a wrong place, if it is of an entry behind the tail.
pub(super) fn trace(file: &dyn DiskFile, header: &SegmentHeader, tail: &Tail) -> Option<String> {
    if header.sealed.is_some() || tail.entries >= header.record_slots {
        return None;
    }
    among_frames(file, header, tail).or_else(|| frame_among_records(file, header, tail)).or_else(|| {
        let is_begun = is_next_begun(file, tail) && !can_be_record(file, header, tail);
        is_begun.then(|| format!("the place of the persist record of entry {} holds no record", tail.last.index.next()))
    })
}

/// Whether the header of the next frame lies in its place, of whichever life of the file.
fn is_next_begun(file: &dyn DiskFile, tail: &Tail) -> bool {
    let mut bytes = [0; FRAME_HEADER_BYTES];
    file.read_at(&mut bytes, tail.frames_end).is_ok()
        && FrameHeader::parse(&bytes).is_ok_and(|frame| frame.position.index == tail.last.index.next())
}

/// Whether a segment that ends in `tail` has room for the entry.
fn is_behind(index: LogIndex, header: &SegmentHeader, tail: &Tail) -> bool {
    index > tail.last.index && index.0 - tail.last.index.0 <= header.record_slots - tail.entries
}

/// A record, or the frame of the next entry in another place than its own.
fn among_frames(file: &dyn DiskFile, header: &SegmentHeader, tail: &Tail) -> Option<String> {
    let next = tail.last.index.next();
    find(file, tail.frames_end, header.records_offset, PERSIST_RECORD_BYTES, &mut |bytes, offset| {
        let index = LogIndex(u64_at(bytes, 4));
        if is_behind(index, header, tail) && PersistRecord::decode(bytes, header.generation).is_some() {
            return Some(format!("the persist record of entry {index} lies among the frames, at byte {offset}"));
        }
        let is_next = LogIndex(u64_at(bytes, 8)) == next && offset != tail.frames_end;
        let is_astray = is_next && is_intact_frame(file, header, offset, bytes);
        is_astray.then(|| format!("the frame of entry {next} lies at byte {offset}, where it was not written to"))
    })
}

fn is_intact_frame(file: &dyn DiskFile, header: &SegmentHeader, offset: u64, start: &[u8]) -> bool {
    let Ok(frame) = FrameHeader::parse(start) else { return false };
    if offset + frame.frame_bytes() > header.records_offset {
        return false;
    }
    let mut bytes = vec![0; usize::try_from(frame.frame_bytes()).unwrap_or(0)];
    file.read_at(&mut bytes, offset).is_ok() && decode_frame(&bytes, header.generation).is_ok()
}

/// The checksum of a frame is of no help, as the block may end before the frame does; what an earlier life of the file has
/// left behind has lower indexes.
fn frame_among_records(file: &dyn DiskFile, header: &SegmentHeader, tail: &Tail) -> Option<String> {
    let (from, to) = (header.record_offset(0), header.record_offset(header.record_slots));
    find(file, from, to, FRAME_HEADER_BYTES, &mut |bytes, offset| {
        let index = LogIndex(u64_at(bytes, 8));
        let is_one = is_behind(index, header, tail)
            && bytes[33..FRAME_HEADER_BYTES].iter().all(|byte| *byte == 0)
            && FrameHeader::parse(bytes).is_ok_and(|frame| {
                frame.position.term >= tail.last.term && frame.tag >= tail.last_tag && frame.checksum != 0
            });
        is_one.then(|| format!("the frame of entry {index} lies among the persist records, at byte {offset}"))
    })
}

/// Whether a record of any life of the file, torn or not, can have left what lies where that of the next entry belongs.
/// Records that are torn, one over the other, have fields of mixed bytes: the high ones are zero all the same.
fn can_be_record(file: &dyn DiskFile, header: &SegmentHeader, tail: &Tail) -> bool {
    const HIGH: u64 = 0xffff << 48;
    let mut record = [0; PERSIST_RECORD_BYTES];
    let read = file.read_at(&mut record, header.record_offset(tail.entries));
    let numbers = u64_at(&record, 4) | u64_at(&record, 12);
    read.is_err() || (numbers & HIGH == 0 && u64::from(u32_at(&record, 28)).is_multiple_of(ALIGNMENT))
}

/// Looks at every place where something may begin. What cannot be read is passed over.
fn find(
    file: &dyn DiskFile,
    from: u64,
    to: u64,
    needed: usize,
    look: &mut dyn FnMut(&[u8], u64) -> Option<String>,
) -> Option<String> {
    let mut buffer = vec![0; usize::try_from(to.saturating_sub(from).min(PIECE_BYTES)).unwrap_or(0)];
    let mut start = from;
    while to.saturating_sub(start) >= needed as u64 {
        let length = usize::try_from((to - start).min(PIECE_BYTES)).unwrap_or(0);
        let piece = &mut buffer[..length];
        if file.read_at(piece, start).is_ok() {
            let last = length - needed;
            for place in (0..=last).step_by(ALIGNMENT as usize) {
                if let Some(found) = look(&piece[place..place + needed], start + place as u64) {
                    return Some(found);
                }
            }
        }
        if start + length as u64 == to {
            return None;
        }
        start += length as u64 - (needed as u64).next_multiple_of(ALIGNMENT);
    }
    None
}
