//! Holes: damaged entries of a log that was opened nevertheless, and how they are put right with the help of peers.
//!
//! Who asks the peers, and which of their entries is the right one, is decided elsewhere. Here entries are put into
//! their places, each step so that a crash leaves either the damage as it was or the entry:
//!
//! - The persist record survived: the very frame that it names is written again at its place.
//! - Frame and record are gone, but what follows is there: the frames are written, synced, then the records.
//! - A whole segment is gone: a new file is made under another name and renamed.
//! - The end of the log is gone: the state says durably how far the log reached (*owed*), what is left of the end is cut
//!   off, and the entries are appended. A log that owes entries is reported as damaged whenever it is opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use thiserror::Error;

use super::frame::{encode_frame, frame_bytes, payload_bytes};
use super::record::PersistRecord;
use super::shared::Filled;
use super::{Entry, Fault, FaultKind, HardState, LogError, LogWriter};
use crate::disk::DiskFile;
use crate::ids::{LogIndex, Term};

/// A damaged place with the entries that it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first entry.
    pub first: LogIndex,
    /// The last entry that is known to have been there.
    pub last: LogIndex,
    /// How it is filled.
    pub kind: HoleKind,
    /// What was found.
    pub fault: Fault,
}

/// How a hole is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoleKind {
    /// One entry, in its place.
    Frame,
    /// All entries at once, in their places.
    Gap,
    /// All entries at once, in a new file.
    Segment,
    /// One after the other, from the first one on.
    End,
    /// Not with entries.
    Hopeless,
}

/// Why an entry was not put into its place.
#[derive(Debug, Error)]
pub enum FillError {
    /// Nothing is missing there.
    #[error("entry {index} is not missing")]
    NotMissing {
        /// The entry.
        index: LogIndex,
    },
    /// It is not the entry that was there.
    #[error("entry {index} is not the one that was there")]
    Another {
        /// The entry.
        index: LogIndex,
    },
    /// Entries of this hole have to come all at once.
    #[error("entries {first} to {last} can only be put back together")]
    Incomplete {
        /// The first one.
        first: LogIndex,
        /// The last one.
        last: LogIndex,
    },
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl LogWriter {
    /// Damage that is not repaired yet, in order of index.
    #[must_use]
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Whether there may have been entries behind all that is known of.
    #[must_use]
    pub fn is_end_unknown(&self) -> bool {
        self.state.end_unknown
    }

    /// Takes note of what opening has found.
    pub(super) fn note_holes(&mut self, faults: &[Fault]) {
        let mut holes: Vec<Hole> = faults.iter().map(|fault| self.hole_of(fault)).collect();
        holes.sort_by_key(|hole| (hole.first, hole.last));
        self.holes.clear();
        for hole in holes {
            match self.holes.last_mut() {
                // Two views of one loss: the one that begins first stands for both.
                Some(before) if hole.first <= before.last => before.last = before.last.max(hole.last),
                _ => self.holes.push(hole),
            }
        }
    }

    fn hole_of(&self, fault: &Fault) -> Hole {
        let view = self.shared.read();
        let segment = view.segments.iter().find(|filled| filled.segment.name == fault.segment);
        let is_newest = view.segments.last().is_some_and(|newest| newest.segment.name == fault.segment);
        let is_sealed = segment.is_some_and(|filled| filled.segment.header.sealed.is_some());
        let has_holes = segment.is_some_and(Filled::has_holes);
        let last = fault.last.unwrap_or(fault.first).max(fault.first);
        let reaches_end = is_newest && last >= view.last().0.index;
        let last = if reaches_end { last.max(self.state.promised()) } else { last };
        let is_lost_file = segment.is_some_and(|filled| filled.segment.file.is_none());
        let kind = match &fault.kind {
            FaultKind::Frame { .. } | FaultKind::Undecided { .. } => HoleKind::Frame,
            // Nothing tells which entries of the group's log they are.
            _ if fault.first <= self.state.renumbered_to => HoleKind::Hopeless,
            FaultKind::Lost | FaultKind::Header if fault.offset.is_none() && !is_lost_file && !reaches_end => {
                HoleKind::Hopeless
            }
            _ if reaches_end => HoleKind::End,
            _ if is_lost_file => HoleKind::Segment,
            _ if has_holes => HoleKind::Hopeless,
            FaultKind::FrameAndRecord { .. } if !is_sealed => HoleKind::Gap,
            _ => HoleKind::Segment,
        };
        Hole { first: fault.first, last, kind, fault: fault.clone() }
    }

    /// Puts entries back that follow on each other, as many as fit into the hole that the first of them belongs to.
    /// They are durable then. Answers how many were taken.
    ///
    /// # Errors
    /// See [`FillError`].
    pub fn fill(&mut self, entries: &[Entry]) -> Result<usize, FillError> {
        self.check_usable_except_blocked()?;
        let Some(first) = entries.first().map(|entry| entry.position.index) else { return Ok(0) };
        let place = self.holes.iter().position(|hole| hole.first <= first && first <= hole.last);
        let Some(place) = place else { return Err(FillError::NotMissing { index: first }) };
        let hole = self.holes[place].clone();
        if hole.kind == HoleKind::Frame
            && first <= self.state.renumbered_to
            && !self.is_the_frame(&hole, &entries[0])?
        {
            // The entry that has this number in the group's log is another one than the one that has it here.
            self.holes[place].kind = HoleKind::Hopeless;
        }
        let within = entries.iter().take_while(|entry| entry.position.index <= hole.last).count();
        let entries = &entries[..within];
        self.check_identity(entries)?;
        self.take_up_term_of(entries)?;
        let is_complete = first == hole.first && within as u64 == hole.last.0 - hole.first.0 + 1;
        let taken = match hole.kind {
            HoleKind::Hopeless => return Err(FillError::NotMissing { index: first }),
            HoleKind::Frame => {
                self.fill_frame(&hole, &entries[0])?;
                1
            }
            HoleKind::End if first == hole.first => {
                self.restore(&hole, entries)?;
                within
            }
            _ if !is_complete => return Err(FillError::Incomplete { first: hole.first, last: hole.last }),
            HoleKind::Gap => {
                self.fill_gap(&hole, entries)?;
                within
            }
            HoleKind::Segment | HoleKind::End => {
                self.fill_segment(&hole, entries)?;
                within
            }
        };
        let filled_to = LogIndex(first.0 + taken as u64 - 1);
        if filled_to < self.holes[place].last {
            self.holes[place].first = filled_to.next();
        } else {
            self.holes.remove(place);
        }
        self.finish_when_whole()?;
        Ok(taken)
    }

    /// Puts entries back into all holes of the segment in which one begins at `first`, by writing the segment anew: the
    /// way out when they do not fit into their places. Answers how many were taken.
    ///
    /// # Errors
    /// See [`FillError`].
    pub fn fill_together(&mut self, first: LogIndex, found: &BTreeMap<LogIndex, Entry>) -> Result<usize, FillError> {
        self.check_usable_except_blocked()?;
        let hole = self.holes.iter().find(|hole| hole.first == first).cloned();
        let Some(hole) = hole else { return Err(FillError::NotMissing { index: first }) };
        let segment = hole.fault.segment.clone();
        let mut taken = 0;
        for hole in self.holes.iter().filter(|hole| hole.fault.segment == segment).cloned().collect::<Vec<_>>() {
            let incomplete = FillError::Incomplete { first: hole.first, last: hole.last };
            let entries: Vec<Entry> = found.range(hole.first..=hole.last).map(|(_, entry)| entry.clone()).collect();
            let is_complete = entries.len() as u64 == hole.last.0 - hole.first.0 + 1;
            if !is_complete || matches!(hole.kind, HoleKind::End | HoleKind::Hopeless) {
                return Err(incomplete);
            }
            self.check_identity(&entries)?;
            self.take_up_term_of(&entries)?;
            taken += entries.len();
        }
        if self.blocked.is_some() && self.newest().is_some_and(|newest| newest.segment.name == segment) {
            // Its end has to come first.
            return Err(FillError::Incomplete { first: hole.first, last: hole.last });
        }
        let repaired = self.repair(&[hole.fault], &mut |index| found.get(&index).cloned())?;
        if let Some(missing) = repaired.missing.first() {
            return Err(FillError::Incomplete { first: *missing, last: hole.last });
        }
        self.holes.retain(|hole| hole.fault.segment != segment);
        self.finish_when_whole()?;
        Ok(taken)
    }

    /// Entries of a later term than this node has been in bring it there. It has not voted in that term.
    fn take_up_term_of(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        let term = entries.last().map_or(Term::default(), |entry| entry.position.term);
        if term <= self.state.hard_state.term {
            return Ok(());
        }
        let state = HardState { term, vote: None, commit: self.state.hard_state.commit };
        self.state.hard_state = state;
        let saved = self.save_state();
        self.poison_on_failure(saved)
    }

    /// What is known about the entries must be true of those that come.
    fn check_identity(&self, entries: &[Entry]) -> Result<(), FillError> {
        for (place, entry) in entries.iter().enumerate() {
            let index = entry.position.index;
            let follows = index.0 == entries[0].position.index.0 + place as u64;
            let is_known_other = self.known_term(index).is_some_and(|term| term != entry.position.term);
            if !follows || is_known_other {
                return Err(FillError::Another { index });
            }
        }
        Ok(())
    }

    /// The segment of a hole and its file.
    fn damaged_segment(&self, hole: &Hole) -> Result<(Filled, Arc<dyn DiskFile>), LogError> {
        let view = self.shared.read();
        let filled = view.segments.iter().find(|filled| filled.segment.name == hole.fault.segment);
        let filled = filled.ok_or_else(|| LogError::corrupt(hole.fault.clone()))?;
        let file = filled.file()?;
        Ok((filled.clone(), Arc::clone(file)))
    }

    fn fill_frame(&mut self, hole: &Hole, entry: &Entry) -> Result<(), FillError> {
        let (filled, file) = self.damaged_segment(hole)?;
        let another = FillError::Another { index: hole.first };
        if !self.is_the_frame(hole, entry)? {
            return Err(another);
        }
        let mut frame = Vec::new();
        encode_frame(&mut frame, filled.segment.header.generation, entry);
        let Some(offset) = hole.fault.offset else { return Err(another) };
        let written = file.write_at(&frame, offset).and_then(|()| file.sync());
        let written = written.map_err(LogError::io("repair", &filled.segment.name));
        Ok(self.poison_on_failure(written)?)
    }

    /// Whether an entry is the one that the persist record is about.
    fn is_the_frame(&self, hole: &Hole, entry: &Entry) -> Result<bool, LogError> {
        let (FaultKind::Frame { expected, .. } | FaultKind::Undecided { expected, .. }) = &hole.fault.kind else {
            return Ok(false);
        };
        let (filled, _) = self.damaged_segment(hole)?;
        Ok(encode_frame(&mut Vec::new(), filled.segment.header.generation, entry) == *expected)
    }

    /// Frames first, so that no crash leaves a record without its frame.
    fn fill_gap(&mut self, hole: &Hole, entries: &[Entry]) -> Result<(), FillError> {
        let (filled, file) = self.damaged_segment(hole)?;
        let header = &filled.segment.header;
        let another = FillError::Another { index: hole.first };
        let (Some(start), Some(slot)) = (hole.fault.offset, hole.first.0.checked_sub(header.first().0)) else {
            return Err(another);
        };
        let (mut frames, mut records, mut offset) = (Vec::new(), Vec::new(), start);
        for entry in entries {
            let frame_checksum = encode_frame(&mut frames, header.generation, entry);
            let record = PersistRecord {
                position: entry.position,
                tag: entry.tag,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                payload_bytes: payload_bytes(entry),
                frame_checksum,
                batch_before: 0,
                batch_after: 0,
            };
            records.extend_from_slice(&record.encode(header.generation));
            offset += frame_bytes(payload_bytes(entry));
        }
        let next_slot = slot + entries.len() as u64;
        let next = filled.segment.record(file.as_ref(), next_slot).map(|record| u64::from(record.offset));
        let fits = match next {
            Some(next) if next_slot < filled.tail.entries => offset == next,
            _ => offset <= header.records_offset && next_slot <= header.record_slots,
        };
        if !fits {
            // What follows was found in a place that it was not written to.
            return Err(FillError::Incomplete { first: hole.first, last: hole.last });
        }
        let write = || {
            file.write_at(&frames, start)?;
            file.sync()?;
            file.write_at(&records, header.record_offset(slot))?;
            file.sync()
        };
        let written = write().map_err(LogError::io("repair", &filled.segment.name));
        Ok(self.poison_on_failure(written)?)
    }

    fn fill_segment(&mut self, hole: &Hole, entries: &[Entry]) -> Result<(), FillError> {
        let first = hole.first.0;
        if self.blocked.is_some() && self.newest().is_some_and(|newest| newest.segment.name == hole.fault.segment) {
            // Its end has to come first.
            return Err(FillError::Incomplete { first: hole.first, last: hole.last });
        }
        let repaired = self.repair(std::slice::from_ref(&hole.fault), &mut |index| {
            entries.get(usize::try_from(index.0.checked_sub(first)?).ok()?).cloned()
        })?;
        match repaired.missing.first() {
            Some(first) => Err(FillError::Incomplete { first: *first, last: hole.last }),
            None => Ok(()),
        }
    }

    /// Appends the entries in the place of what was lost at the end.
    fn restore(&mut self, hole: &Hole, entries: &[Entry]) -> Result<(), FillError> {
        self.owe(hole.last)?;
        self.clear_end(hole.first)?;
        self.append(entries)?;
        self.sync()?;
        Ok(())
    }

    /// Makes it durable that entries up to here are owed.
    fn owe(&mut self, up_to: LogIndex) -> Result<(), LogError> {
        if self.state.owed < up_to {
            self.state.owed = up_to;
            let saved = self.save_state();
            self.poison_on_failure(saved)?;
        }
        Ok(())
    }

    /// Leaves nothing from `from` on, neither entries nor what is left of them.
    fn clear_end(&mut self, from: LogIndex) -> Result<(), LogError> {
        let commit = self.state.hard_state.commit;
        let last = self.shared.read().last().0.index;
        if from <= last {
            self.truncate_to_what_is_owed(from)?;
        } else if self.blocked.is_some() {
            let is_sealed = self.newest().is_some_and(|newest| !newest.segment.is_dense());
            if is_sealed {
                let newest = self.newest();
                let rolled = self.roll(&newest);
                self.poison_on_failure(rolled)?;
                self.blocked = None;
            } else {
                self.truncate_to_what_is_owed(from)?;
            }
        }
        // What was committed stays so, whether it is here or owed.
        self.state.hard_state.commit = commit.min(self.state.owed.max(self.shared.read().last().0.index));
        Ok(())
    }

    fn truncate_to_what_is_owed(&mut self, from: LogIndex) -> Result<(), LogError> {
        let truncated = self.truncate_unchecked(from);
        self.poison_on_failure(truncated)
    }

    /// Says how far the log reached, when that was not known. Entries up to `last` are owed from now on.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub fn settle_end(&mut self, last: LogIndex) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        if !std::mem::replace(&mut self.state.end_unknown, false) {
            return Ok(());
        }
        let Some(end) = self.holes.last_mut().filter(|hole| hole.kind == HoleKind::End) else {
            return self.reopen_end(last);
        };
        if last < end.first {
            let from = end.first;
            return self.discard_from(from);
        }
        end.last = end.last.max(last);
        let owed = end.last;
        self.owe(owed)
    }

    /// What was known of the end has been brought back already; what lay behind it is still missing.
    fn reopen_end(&mut self, last: LogIndex) -> Result<(), LogError> {
        let first = self.shared.read().last().0.index.next();
        if last < first {
            return self.finish_when_whole();
        }
        let segment = self.newest().map(|newest| newest.segment.name.clone()).unwrap_or_default();
        let fault = Fault { segment, offset: None, first, last: Some(last), identity: None, kind: FaultKind::Lost };
        self.holes.push(Hole { first, last, kind: HoleKind::End, fault });
        self.owe(last)
    }

    /// Gives up the entry `from` and all after it, damaged or not: the caller knows that they are not committed.
    ///
    /// # Errors
    /// When a write or sync fails, or `from` is not above what is settled.
    pub fn discard_from(&mut self, from: LogIndex) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        self.state.end_unknown = false;
        self.holes.retain(|hole| hole.first < from);
        self.state.owed = self.state.owed.min(LogIndex(from.0.saturating_sub(1)));
        let cut_inside = self.holes.last_mut().filter(|hole| {
            let is_traceless = hole.kind == HoleKind::Gap && from <= hole.last.next();
            is_traceless || from <= hole.last
        });
        match cut_inside {
            None => self.clear_end(from)?,
            // Where the entry before the cut ends is not known, so all of the hole goes, and what is owed of it comes back.
            Some(hole) => {
                (hole.kind, hole.last) = (HoleKind::End, LogIndex(from.0 - 1));
                let (first, last) = (hole.first, hole.last);
                self.owe(last)?;
                self.clear_end(first)?;
            }
        }
        self.finish_when_whole()
    }

    /// A log without holes owes nothing.
    fn finish_when_whole(&mut self) -> Result<(), LogError> {
        if !self.holes.is_empty() || self.state.end_unknown {
            return Ok(());
        }
        self.blocked = None;
        self.state.owed = LogIndex::ZERO;
        self.state.durable = self.shared.read().last().0.index;
        let saved = self.save_state();
        self.poison_on_failure(saved)
    }
}
