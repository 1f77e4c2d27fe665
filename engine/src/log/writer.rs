//! Writing: append, sync, purge, begin anew.

use std::fmt;
use std::sync::Arc;

use super::frame::{encode_frame, frame_bytes, payload_bytes};
use super::holes::Hole;
use super::record::{PERSIST_RECORD_BYTES, PersistRecord};
use super::segment::{Segment, SegmentHeader, Tail, file_name, write_header};
use super::shared::{Filled, Shared};
use super::state::{LogState, SEGMENTS_MAX, StateFile};
use super::{Entry, Fault, HardState, LogError, LogIdentity, LogOptions, LogReader};
use crate::disk::Disk;
use crate::ids::{HistoryId, LogIndex, LogPosition};
use crate::simulation::{Bug, is_planted};

/// Buffers that grew beyond this are given back after the write.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// What a log that is reset will be filled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refill {
    /// The last entry that comes; zero when none has to.
    pub last: LogIndex,
    /// Entries up to here do not have the numbers that they have in the group's log: [`LogReader::contiguous_from`] lies
    /// behind them.
    pub renumbered_to: LogIndex,
}

/// The one writer of a log.
///
/// What it has appended is seen by readers at once and is durable after [`LogWriter::sync`]. Once a write or a sync has
/// failed, every further call fails with [`LogError::Poisoned`].
pub struct LogWriter {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: LogOptions,
    pub(super) shared: Shared,
    pub(super) state_file: StateFile,
    /// The state as it should be. What the state file holds may lag behind in commit and durable index only.
    pub(super) state: LogState,
    /// Term and vote as they are in the state file.
    pub(super) saved_hard_state: HardState,
    /// Entries appended since the last sync.
    pub(super) unsynced_entries: u32,
    /// Names of the files that wait for reuse.
    pub(super) spares: Vec<String>,
    pub(super) next_spare: u64,
    /// The newest segment behind which a spare file was planned.
    pub(super) planned_behind: u64,
    /// Damage that makes it impossible to tell where the next entry goes.
    pub(super) blocked: Option<Fault>,
    /// Damage that is not repaired yet.
    pub(super) holes: Vec<Hole>,
    pub(super) poisoned: Option<String>,
    pub(super) frames: Vec<u8>,
    pub(super) records: Vec<u8>,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("LogWriter").field("state", &self.state).field("poisoned", &self.poisoned).finish()
    }
}

impl LogWriter {
    /// A reader of the same log.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    /// Term, vote and commit index as last set.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.state.hard_state
    }

    /// Whose log it is.
    #[must_use]
    pub fn identity(&self) -> LogIdentity {
        self.state.identity
    }

    /// Appends entries that continue the log without a gap: at most two positioned writes, none of them synced.
    /// Entries that do not fit into the newest segment go into a new one, which makes those before them durable.
    ///
    /// # Errors
    /// When an entry does not follow the one before it or is too large, or the log has as many segments as it can have
    /// (then nothing was appended), or a write fails.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), LogError> {
        self.check_usable()?;
        self.check_order(entries)?;
        self.check_room(entries)?;
        let appended = self.append_checked(entries);
        self.poison_on_failure(appended)
    }

    /// Takes over term, vote and commit index; durable after the next sync (the commit index: some time later).
    ///
    /// # Errors
    /// When the log is poisoned.
    pub fn set_hard_state(&mut self, hard_state: HardState) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        self.state.hard_state = hard_state;
        Ok(())
    }

    /// Makes everything appended and the hard state durable, and returns the last position: one sync of the newest
    /// segment if entries were appended, one of the state file if term or vote changed.
    ///
    /// # Errors
    /// When a write or sync fails. It must not be tried again, and what was appended since the last sync must be taken
    /// for neither durable nor lost.
    pub fn sync(&mut self) -> Result<LogPosition, LogError> {
        self.check_usable_except_blocked()?;
        let synced = self.sync_unchecked();
        self.poison_on_failure(synced)
    }

    /// Takes over term, vote and commit index, and makes them durable at once, together with everything appended before.
    /// The commit index as well: a member that forgets that the members have changed could elect a leader together with
    /// those that left.
    ///
    /// # Errors
    /// As [`LogWriter::sync`].
    pub fn save_hard_state(&mut self, hard_state: HardState) -> Result<(), LogError> {
        self.set_hard_state(hard_state)?;
        let saved = self.sync_unchecked().and_then(|_| self.save_state());
        self.poison_on_failure(saved)
    }

    /// Removes the entry `from` and all after it, durably. What was appended before is made durable on the way.
    ///
    /// # Errors
    /// When `from` is not above the base, or lies in a rewritten segment; when a write or sync fails.
    pub fn truncate_suffix(&mut self, from: LogIndex) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        self.holes.retain(|hole| hole.first < from);
        self.state.owed = self.state.owed.min(LogIndex(from.0.saturating_sub(1)));
        let truncated = self.truncate_unchecked(from);
        self.poison_on_failure(truncated)
    }

    /// Gives up the oldest segments that hold nothing above `up_to`, and returns the position that the log now begins
    /// behind. Whole segments only, and never the newest one.
    ///
    /// # Errors
    /// When a write or sync fails.
    pub fn purge_prefix(&mut self, up_to: LogIndex) -> Result<LogPosition, LogError> {
        self.check_usable_except_blocked()?;
        let purged = self.purge_unchecked(up_to);
        self.poison_on_failure(purged)
    }

    /// Drops all entries and starts an empty log behind `position`, as after a snapshot has been installed. The hard
    /// state stays, except for the commit index, which is `position` now.
    ///
    /// # Errors
    /// When a write or sync fails.
    pub fn reset_to(&mut self, position: LogPosition, tag: u64) -> Result<(), LogError> {
        self.reset_for(position, tag, Refill::default())
    }

    /// As [`LogWriter::reset_to`], for entries that replace those that go. Until they are all there, and
    /// [`LogWriter::finish_refill`] has said so, a log that is opened reports the rest of them as lost.
    ///
    /// # Errors
    /// When a write or sync fails.
    pub fn reset_for(&mut self, position: LogPosition, tag: u64, refill: Refill) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        let reset = self.reset_unchecked(position, tag, refill);
        self.poison_on_failure(reset)
    }

    /// The entries that a reset made room for are there and durable.
    ///
    /// # Errors
    /// When a write or sync fails.
    pub fn finish_refill(&mut self) -> Result<(), LogError> {
        self.sync()?;
        if self.state.owed > self.shared.read().last().0.index {
            return Ok(());
        }
        self.state.owed = LogIndex::ZERO;
        let saved = self.save_state();
        self.poison_on_failure(saved)
    }

    /// Gives the log to another line of revisions, durably. For the installation of a restored backup.
    ///
    /// # Errors
    /// When a write or sync fails.
    pub fn adopt_history(&mut self, history: HistoryId) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        self.state.identity.history = history;
        let saved = self.save_state();
        self.poison_on_failure(saved)
    }

    /// Whether these entries go into the newest segment, so that appending them starts no other one.
    #[must_use]
    pub fn has_room<'a>(&self, entries: impl Iterator<Item = &'a Entry> + Clone) -> bool {
        let count = entries.clone().count();
        fitting_entries(&self.newest(), entries) == count
    }

    /// Syncs everything and notes that there is no unfinished write, so that the next opening need not wonder.
    ///
    /// # Errors
    /// As [`LogWriter::sync`].
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()?;
        self.state.clean = self.blocked.is_none() && !self.state.end_unknown;
        self.save_state()
    }

    pub(super) fn check_usable_except_blocked(&self) -> Result<(), LogError> {
        match &self.poisoned {
            Some(cause) => Err(LogError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn check_usable(&self) -> Result<(), LogError> {
        self.check_usable_except_blocked()?;
        self.blocked.clone().map_or(Ok(()), |fault| Err(LogError::corrupt(fault)))
    }

    /// Anything that the disk refused leaves the log in a state that only opening it again can tell.
    pub(super) fn poison_on_failure<T>(&mut self, outcome: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error @ LogError::Io { .. }) = &outcome {
            self.poisoned = Some(error.to_string());
        }
        outcome
    }

    fn check_order(&self, entries: &[Entry]) -> Result<(), LogError> {
        let max = self.options.max_payload_bytes();
        let (mut last, mut last_tag) = self.shared.read().last();
        for entry in entries {
            let found = entry.position;
            if found.index != last.index.next() || found.term < last.term || entry.tag < last_tag {
                return Err(LogError::OutOfOrder { last, last_tag, found, found_tag: entry.tag });
            }
            if entry.payload.len() > max {
                return Err(LogError::EntryTooLarge { index: found.index, payload_bytes: entry.payload.len(), max });
            }
            (last, last_tag) = (found, entry.tag);
        }
        Ok(())
    }

    fn append_checked(&mut self, mut entries: &[Entry]) -> Result<(), LogError> {
        while !entries.is_empty() {
            let newest = self.newest();
            let fitting = fitting_entries(&newest, entries.iter());
            if fitting == 0 {
                self.roll(&newest)?;
            } else {
                self.write_batch(&newest, &entries[..fitting])?;
                entries = &entries[fitting..];
            }
        }
        Ok(())
    }

    /// The segment that is appended to. There always is one: opening makes it.
    pub(super) fn newest(&self) -> Option<Filled> {
        self.shared.read().segments.last().cloned()
    }

    fn write_batch(&mut self, newest: &Option<Filled>, entries: &[Entry]) -> Result<(), LogError> {
        let Some(Filled { segment, tail }) = newest else { return Ok(()) };
        let Some(file) = &segment.file else { return Ok(()) };
        let tail = self.encode_batch(segment, tail, entries);
        let (old_end, old_entries) = (tail.0, tail.1);
        file.write_at(&self.frames, old_end).map_err(LogError::io("append to", &segment.name))?;
        file.write_at(&self.records, segment.header.record_offset(old_entries))
            .map_err(LogError::io("append to", &segment.name))?;
        self.frames.shrink_to(BUFFER_KEPT_BYTES);
        self.unsynced_entries = self.unsynced_entries.saturating_add(u32::try_from(entries.len()).unwrap_or(u32::MAX));
        let mut view = self.shared.write();
        view.terms = self.state.terms;
        if let Some(filled) = view.segments.last_mut() {
            filled.tail = tail.2;
        }
        Ok(())
    }

    /// Fills both buffers; returns where the frames go, in which slot the records begin, and the tail afterwards.
    fn encode_batch(&mut self, segment: &Segment, before: &Tail, entries: &[Entry]) -> (u64, u64, Tail) {
        self.frames.clear();
        self.records.clear();
        let mut tail = *before;
        for (place, entry) in (0_u32..).zip(entries) {
            let checksum = encode_frame(&mut self.frames, segment.header.generation, entry);
            let record = PersistRecord {
                position: entry.position,
                tag: entry.tag,
                offset: u32::try_from(tail.frames_end).unwrap_or(u32::MAX),
                payload_bytes: payload_bytes(entry),
                frame_checksum: checksum,
                batch_before: self.unsynced_entries.saturating_add(place),
                batch_after: u32::try_from(entries.len()).unwrap_or(u32::MAX) - 1 - place,
            };
            self.records.extend_from_slice(&record.encode(segment.header.generation));
            self.state.terms.note(entry.position, entry.position.index);
            tail = Tail {
                entries: tail.entries + 1,
                frames_end: tail.frames_end + frame_bytes(payload_bytes(entry)),
                last: entry.position,
                last_tag: entry.tag,
            };
        }
        (before.frames_end, before.entries, tail)
    }

    fn sync_unchecked(&mut self) -> Result<LogPosition, LogError> {
        // Term and vote first: an entry of a term must not be durable before the term is.
        let hard_state = self.state.hard_state;
        let promised = (hard_state.term, hard_state.vote);
        if promised != (self.saved_hard_state.term, self.saved_hard_state.vote) {
            self.save_state()?;
        }
        self.sync_entries()?;
        if hard_state.commit > self.saved_hard_state.commit {
            let state = self.state_to_write();
            self.state_file.note(&state)?;
            self.saved_hard_state = state.hard_state;
        }
        Ok(self.shared.read().durable)
    }

    /// Makes the entries durable.
    pub(super) fn sync_entries(&mut self) -> Result<(), LogError> {
        if self.unsynced_entries == 0 {
            return Ok(());
        }
        if let Some(Filled { segment, .. }) = self.newest()
            && let Some(file) = &segment.file
        {
            let synced = file.sync().or_else(|error| match is_planted(Bug::FailedSyncRepeated) {
                true => file.sync(),
                false => Err(error),
            });
            synced.map_err(LogError::io("sync", &segment.name))?;
        }
        self.unsynced_entries = 0;
        let mut view = self.shared.write();
        view.durable = view.last().0;
        self.state.durable = view.durable.index;
        Ok(())
    }

    /// The state with a commit index that does not promise more than is durable.
    fn state_to_write(&self) -> LogState {
        let mut state = self.state;
        state.hard_state.commit = state.hard_state.commit.min(state.durable.max(self.saved_hard_state.commit));
        state
    }

    /// Writes the state and syncs it.
    pub(super) fn save_state(&mut self) -> Result<(), LogError> {
        let state = self.state_to_write();
        self.state_file.save(&state)?;
        self.saved_hard_state = state.hard_state;
        Ok(())
    }

    /// The format has a limit on the number of segments; a state beyond it could not be read again.
    pub(super) fn check_segments(&self, more: u64) -> Result<(), LogError> {
        let newest = self.state.newest_segment.saturating_add(more);
        if newest.saturating_sub(self.state.oldest_segment) < SEGMENTS_MAX {
            return Ok(());
        }
        Err(LogError::TooManySegments { max: SEGMENTS_MAX })
    }

    /// Refuses entries for which there might be too few segments left, before any of them is written.
    fn check_room(&self, entries: &[Entry]) -> Result<(), LogError> {
        // Each segment takes one entry at least.
        if self.check_segments(entries.len() as u64).is_ok() {
            return Ok(());
        }
        let more = entries.len() - fitting_entries(&self.newest(), entries.iter());
        if more == 0 { Ok(()) } else { self.check_segments(more as u64) }
    }

    /// Starts the next segment. A crash before the state is written leaves a file that is behind the newest segment
    /// and does not count.
    pub(super) fn roll(&mut self, newest: &Option<Filled>) -> Result<(), LogError> {
        self.check_segments(1)?;
        self.sync_entries()?;
        let (previous, previous_tag) = match newest {
            Some(filled) => (filled.tail.last, filled.tail.last_tag),
            None => (self.state.base, self.state.base_tag),
        };
        let filled = self.create_segment(previous, previous_tag)?;
        self.state.newest_segment = filled.segment.header.sequence;
        self.state.newest_first = filled.segment.header.first();
        self.save_state()?;
        self.shared.write().segments.push(filled);
        Ok(())
    }

    /// Makes an empty segment behind the newest one, from a spare file if there is one. It counts once the state says
    /// so.
    pub(super) fn create_segment(&mut self, previous: LogPosition, previous_tag: u64) -> Result<Filled, LogError> {
        let sequence = self.state.newest_segment + 1;
        let generation = self.take_generation();
        let standard = SegmentHeader::standard(&self.options, &self.state.identity, generation, sequence);
        let header = SegmentHeader { previous, previous_tag, ..standard };
        let (spare, file) = self.take_spare()?;
        let name = file_name(sequence);
        let install = || {
            file.discard_content()?;
            write_header(file.as_ref(), &header)?;
            file.sync()?;
            self.disk.rename(&spare, &name)?;
            if is_planted(Bug::DirectoryNotSynced) { Ok(()) } else { self.disk.sync_directory() }
        };
        install().map_err(LogError::io("start", &name))?;
        self.count_spares();
        let tail = Tail::empty(&header);
        Ok(Filled { segment: Arc::new(Segment { name, header, file: Some(file), damage: None }), tail })
    }

    /// A generation that no file has had. It must reach the state file before a frame is written with it.
    pub(super) fn take_generation(&mut self) -> u64 {
        let generation = self.state.next_generation;
        self.state.next_generation += u64::from(!is_planted(Bug::GenerationReused));
        generation
    }

    pub(super) fn remove_file(&self, name: &str) -> Result<(), LogError> {
        match self.disk.remove(name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(LogError::io("remove", name)(error)),
            _ => Ok(()),
        }
    }

    fn purge_unchecked(&mut self, up_to: LogIndex) -> Result<LogPosition, LogError> {
        let (count, newest) = {
            let view = self.shared.read();
            let count = view.segments.partition_point(|filled| filled.tail.last.index <= up_to);
            (count.min(view.segments.len().saturating_sub(1)), view.segments.len())
        };
        if count == 0 || newest == 0 {
            return Ok(self.state.base);
        }
        self.sync_entries()?;
        let (base, base_tag, oldest) = {
            let view = self.shared.read();
            let tail = &view.segments[count - 1].tail;
            (tail.last, tail.last_tag, view.segments[count].segment.header.sequence)
        };
        self.state.base = base;
        self.state.base_tag = base_tag;
        self.state.oldest_segment = oldest;
        self.save_state()?;
        let purged = {
            let mut view = self.shared.write();
            view.base = base;
            view.base_tag = base_tag;
            view.revision += 1;
            view.segments.drain(..count).collect()
        };
        self.discard(purged)?;
        Ok(base)
    }

    fn reset_unchecked(&mut self, position: LogPosition, tag: u64, refill: Refill) -> Result<(), LogError> {
        self.sync_entries()?;
        let filled = self.create_segment(position, tag)?;
        self.state.base = position;
        self.state.base_tag = tag;
        self.state.oldest_segment = filled.segment.header.sequence;
        self.state.newest_segment = filled.segment.header.sequence;
        self.state.newest_first = filled.segment.header.first();
        self.state.durable = position.index;
        self.state.cut_from = None;
        // What was confirmed must not be forgotten over a crash, while the log holds less.
        self.state.owed = if refill.last > position.index { refill.last } else { LogIndex::ZERO };
        self.state.end_unknown = false;
        self.state.terms.clear();
        self.state.renumbered_to = refill.renumbered_to;
        // What was committed behind the position is not in this log: promised, it would be missed.
        self.state.hard_state.commit = position.index;
        self.saved_hard_state.commit = position.index;
        self.save_state()?;
        self.blocked = None;
        self.holes.clear();
        let dropped = {
            let mut view = self.shared.write();
            view.base = position;
            view.base_tag = tag;
            view.durable = position;
            view.terms = self.state.terms;
            view.settled = refill.renumbered_to;
            view.revision += 1;
            std::mem::replace(&mut view.segments, vec![filled])
        };
        self.discard(dropped)
    }
}

/// How many of the entries fit into the segment.
fn fitting_entries<'a>(newest: &Option<Filled>, entries: impl Iterator<Item = &'a Entry>) -> usize {
    let Some(Filled { segment, tail }) = newest else { return 0 };
    if !segment.is_dense() || segment.file.is_none() {
        return 0;
    }
    let slots = usize::try_from(segment.header.record_slots.saturating_sub(tail.entries)).unwrap_or(usize::MAX);
    let mut end = tail.frames_end;
    let fits = |entry: &&'a Entry| {
        end += frame_bytes(payload_bytes(entry));
        end <= segment.header.records_offset
    };
    entries.take(slots).take_while(fits).count()
}

// The record size is part of the arithmetic above.
const _: () = assert!(PERSIST_RECORD_BYTES.is_multiple_of(8));
