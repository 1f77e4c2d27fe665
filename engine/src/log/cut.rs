//! Cutting off the end of a log: entries that another leader replaces, and what a crash left behind them.

use super::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader, Tail};
use super::shared::Filled;
use super::{LogError, LogWriter};
use crate::disk::DiskFile;
use crate::ids::LogIndex;

/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 1 << 20;

impl LogWriter {
    pub(super) fn truncate_unchecked(&mut self, from: LogIndex) -> Result<(), LogError> {
        self.sync_entries()?;
        let (base, last) = {
            let view = self.shared.read();
            (view.base, view.last().0)
        };
        if from <= base.index {
            return Err(LogError::Settled { from, oldest: base.index.next() });
        }
        if from > last.index && self.blocked.is_none() {
            return Ok(());
        }
        let place = self.cut_place(from)?;
        self.cut(place, from)
    }

    /// The segment that becomes the newest one when everything from `from` on goes.
    fn cut_place(&self, from: LogIndex) -> Result<usize, LogError> {
        let view = self.shared.read();
        let place = view.segments.partition_point(|filled| filled.segment.header.first() <= from).saturating_sub(1);
        let settled = view.segments.iter().rposition(|filled| filled.segment.header.sealed.is_some());
        match settled {
            Some(settled) if settled >= place => {
                let oldest = view.segments[settled].tail.last.index.next();
                Err(LogError::Settled { from, oldest })
            }
            _ => Ok(place),
        }
    }

    /// Cuts in four durable steps: the state says that the entries do not exist; the segments behind are discarded; the
    /// bytes in this one are overwritten with zeros; the state says that the cut is done. Opening resumes after a crash.
    pub(super) fn cut(&mut self, place: usize, from: LogIndex) -> Result<(), LogError> {
        if self.is_unusable(place) {
            return self.cut_unusable(place, from);
        }
        let Some(tail) = self.tail_before(place, from)? else { return Ok(()) };
        self.forget_terms_from(from);
        let dropped = {
            let mut view = self.shared.write();
            let dropped = view.segments.split_off(place + 1);
            view.segments[place].tail = tail;
            view.durable = tail.last;
            view.terms = self.state.terms;
            view.revision += 1;
            dropped
        };
        let Some(Filled { segment, .. }) = self.newest() else { return Ok(()) };
        self.state.cut_from = Some(from);
        self.state.newest_segment = segment.header.last_sequence;
        self.state.newest_first = segment.header.first();
        self.state.durable = tail.last.index;
        self.state.hard_state.commit = self.state.hard_state.commit.min(tail.last.index);
        self.saved_hard_state.commit = self.saved_hard_state.commit.min(tail.last.index);
        self.save_state()?;
        self.discard(dropped)?;
        self.finish_cut(&segment, &tail, Wipe::NotZero)?;
        self.blocked = None;
        Ok(())
    }

    /// Entries that are owed keep their terms: they are brought back.
    fn forget_terms_from(&mut self, from: LogIndex) {
        self.state.terms.cut_from(from.max(self.state.owed.next()));
    }

    fn is_unusable(&self, place: usize) -> bool {
        self.shared.read().segments.get(place).is_some_and(|filled| filled.segment.file.is_none())
    }

    /// Cuts off a segment whose file is of no use, with all behind it, and starts a new one in its place.
    fn cut_unusable(&mut self, place: usize, from: LogIndex) -> Result<(), LogError> {
        let (filled, before) = {
            let view = self.shared.read();
            let before = place.checked_sub(1).map(|before| view.segments[before].tail);
            (view.segments[place].clone(), before)
        };
        if from != filled.segment.header.first() {
            filled.file()?;
        }
        self.check_segments(1)?;
        let (last, last_tag) = before.map_or((self.state.base, self.state.base_tag), |tail| (tail.last, tail.last_tag));
        let started = self.create_segment(last, last_tag)?;
        let sequence = started.segment.header.sequence;
        if place == 0 {
            self.state.oldest_segment = sequence;
        }
        self.state.newest_segment = sequence;
        self.state.newest_first = started.segment.header.first();
        self.state.durable = last.index;
        self.state.cut_from = None;
        self.forget_terms_from(from);
        self.state.hard_state.commit = self.state.hard_state.commit.min(last.index);
        self.saved_hard_state.commit = self.saved_hard_state.commit.min(last.index);
        self.save_state()?;
        self.blocked = None;
        let dropped = {
            let mut view = self.shared.write();
            let dropped = view.segments.split_off(place);
            view.segments.push(started);
            view.durable = last;
            view.terms = self.state.terms;
            view.revision += 1;
            dropped
        };
        self.discard(dropped)
    }

    /// The last two steps of a cut.
    pub(super) fn finish_cut(&mut self, segment: &Segment, tail: &Tail, what: Wipe) -> Result<(), LogError> {
        if let Some(file) = &segment.file {
            wipe_tail(file.as_ref(), &segment.header, tail, what).map_err(LogError::io("cut", &segment.name))?;
        }
        self.state.cut_from = None;
        self.save_state()
    }

    /// How far the segment is filled once everything from `from` on is gone.
    fn tail_before(&self, place: usize, from: LogIndex) -> Result<Option<Tail>, LogError> {
        let filled = {
            let view = self.shared.read();
            view.segments.get(place).cloned()
        };
        let Some(filled) = filled else { return Ok(None) };
        if from == filled.segment.header.first() {
            return Ok(Some(Tail::empty(&filled.segment.header)));
        }
        let before = LogIndex(from.0 - 1);
        let end = filled.frame_end(before, &self.state.terms)?;
        Ok(Some(Tail {
            entries: before.0 - filled.segment.header.previous.index.0,
            frames_end: end.0,
            last: end.1,
            last_tag: end.2,
        }))
    }
}

/// Which bytes behind a tail are overwritten with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wipe {
    /// Pieces that hold anything else.
    NotZero,
    /// All of them: what reads as zero may not be so on the disk.
    Everything,
}

/// Overwrites what lies behind the tail with zeros: first the persist records, so that no crash leaves a record without
/// its frame.
fn wipe_tail(file: &dyn DiskFile, header: &SegmentHeader, tail: &Tail, what: Wipe) -> std::io::Result<()> {
    wipe(file, header.record_offset(tail.entries), header.record_offset(header.record_slots), what)?;
    file.sync()?;
    wipe(file, tail.frames_end.max(SEGMENT_HEADER_BYTES as u64), header.records_offset, what)?;
    file.sync()
}

/// Writes zeros.
fn wipe(file: &dyn DiskFile, from: u64, to: u64, what: Wipe) -> std::io::Result<()> {
    let buffer_bytes = usize::try_from(to.saturating_sub(from)).unwrap_or(ZEROS_BYTES).min(ZEROS_BYTES);
    let zeros = vec![0; buffer_bytes];
    let mut found = vec![0; buffer_bytes];
    let mut offset = from;
    while offset < to {
        let length = usize::try_from(to - offset).unwrap_or(buffer_bytes).min(buffer_bytes);
        // What cannot be read is certainly not known to be zero.
        let is_zero = what == Wipe::NotZero
            && file.read_at(&mut found[..length], offset).is_ok()
            && found[..length] == zeros[..length];
        if !is_zero {
            file.write_at(&zeros[..length], offset)?;
        }
        offset += length as u64;
    }
    Ok(())
}
