//! Opening a log: finding out what is there, deciding what counts, and making the files fit for appending.
//!
//! Nothing is changed before it is clear that the log can be opened. What is changed then can be interrupted anywhere
//! and is done again the next time.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use super::cut::Wipe;
use super::rewrite::REWRITE_FILE;
use super::scan::{Extent, Scan, scan_segment};
use super::segment::{
    HeaderError, Segment, SegmentHeader, Tail, file_name, read_headers, sequence_of, spare_number_of, write_header,
};
use super::shared::{Filled, Shared, View};
use super::state::{LoadedState, LogState, StateFile};
use super::{
    Fault, FaultKind, FaultPolicy, HardState, LogError, LogIdentity, LogOptions, LogReader, LogWriter, Outline,
    Verification,
};
use crate::disk::{Disk, DiskFile};
use crate::ids::{LogIndex, LogPosition, Term};
use crate::simulation::{Bug, is_planted};

/// Entries are written back in pieces of this size.
const WRITE_BACK_BYTES: usize = 1 << 20;

/// Where not everything can be read, in pieces of this size.
const WRITE_BACK_PIECE_BYTES: usize = 8;

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The log did not exist before.
    pub created: bool,
    /// The log had been closed properly.
    pub clean: bool,
    /// Term, vote and commit index.
    pub hard_state: HardState,
    /// Position of the entry before the first one.
    pub base: LogPosition,
    /// Tag of that entry.
    pub base_tag: u64,
    /// The last entry; the base when there is none.
    pub last: LogPosition,
    /// Its tag.
    pub last_tag: u64,
    /// What an unfinished write had left behind and was cut off.
    pub torn: Option<TornTail>,
    /// Damaged entries. Empty unless the options allow to open with them.
    pub faults: Vec<Fault>,
    /// The term of the last entry that is known to have been durable.
    pub proven_term: Term,
    /// Copies of headers and state and persist records that were damaged and have been restored from what is left.
    pub healed: u32,
}

impl Recovery {
    /// Whether the state is older than the entries. A member of a group makes each term durable before any entry of it, and
    /// what it has promised since the state was written cannot be had from anybody.
    ///
    /// # Errors
    /// [`LogError::StateOutdated`] when it is.
    pub fn check_term(&self) -> Result<(), LogError> {
        if self.proven_term > self.hard_state.term {
            return Err(LogError::StateOutdated { found: format!("its entries of term {}", self.proven_term) });
        }
        Ok(())
    }
}

/// The remains of an unfinished write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// File of the segment.
    pub segment: String,
    /// Where in it they began.
    pub offset: u64,
    /// The index that the first entry would have had.
    pub first: LogIndex,
}

/// Whose log is in the directory, if there is one.
///
/// # Errors
/// When the state file is damaged or cannot be read.
pub fn read_identity(disk: &dyn Disk) -> Result<Option<LogIdentity>, LogError> {
    Ok(StateFile::open(disk)?.map(|(_, loaded)| loaded.state.identity))
}

/// One number of the segment range, or a run of numbers without usable files.
pub(super) struct Found {
    pub(super) sequence: u64,
    pub(super) name: String,
    pub(super) file: Result<OpenedSegment, FaultKind>,
}

/// A segment file with an intact header.
pub(super) struct OpenedSegment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) header: SegmentHeader,
    /// One copy of the header is damaged.
    pub(super) half_header: bool,
}

/// A segment with what a scan said about it.
struct Surveyed {
    filled: Filled,
    scan: Scan,
    half_header: bool,
}

/// The files of the directory, by what they are for.
pub(super) struct Listing {
    pub(super) segments: BTreeMap<u64, String>,
    pub(super) spares: BTreeMap<u64, String>,
}

pub(super) fn list(disk: &dyn Disk) -> Result<Listing, LogError> {
    let names = disk.list().map_err(LogError::io("list", "the directory"))?;
    let mut listing = Listing { segments: BTreeMap::new(), spares: BTreeMap::new() };
    for name in names {
        if let Some(sequence) = sequence_of(&name) {
            listing.segments.insert(sequence, name);
        } else if let Some(number) = spare_number_of(&name) {
            listing.spares.insert(number, name);
        }
    }
    Ok(listing)
}

/// Opens the log; see [`super::Log::open`].
pub(super) fn open(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    identity: LogIdentity,
) -> Result<(LogWriter, LogReader, Recovery), LogError> {
    options.check()?;
    let listing = list(disk.as_ref())?;
    let (state_file, loaded, created) = open_state(disk.as_ref(), &options, identity, &listing)?;
    let state = loaded.state;
    let found = find_segments(disk.as_ref(), &state)?;
    let mut surveyed = survey(&state, found, options.verification);
    if options.faults == FaultPolicy::CutUndecided
        && let Some(newest) = surveyed.last_mut()
    {
        newest.scan.cut_undecided(&newest.filled.segment);
        newest.filled.tail = newest.scan.tail;
    }
    check_leftovers(disk.as_ref(), &state, &listing)?;
    let mut faults: Vec<Fault> = surveyed.iter().flat_map(|segment| segment.scan.faults.iter().cloned()).collect();
    if let Some(Surveyed { filled, .. }) = surveyed.last() {
        faults.extend(owed(&state, &filled.segment.name, filled.tail.last.index, &faults));
    }
    if !faults.is_empty() && options.faults != FaultPolicy::Report {
        return Err(LogError::Corrupt { faults });
    }
    let writer = writer(disk, options, state_file, state, &surveyed);
    Opening { writer, created, healed: loaded.damaged_copies, faults }.finish(listing, surveyed)
}

/// A segment gets entries only after the state knows it, and is discarded before the state forgets that it was cut off.
fn check_leftovers(disk: &dyn Disk, state: &LogState, listing: &Listing) -> Result<(), LogError> {
    if state.cut_from.is_some() {
        return Ok(());
    }
    for name in listing.segments.range(state.newest_segment + 1..).map(|(_, name)| name) {
        let Ok(file) = disk.open(name) else { continue };
        let Ok(copies) = read_headers(file.as_ref()) else { continue };
        let Some(header) = copies.iter().find_map(|copy| copy.as_ref().ok()).copied() else { continue };
        let segment = Segment { name: name.clone(), header, file: Some(file.clone()), damage: None };
        if header.generation >= state.next_generation && segment.record(file.as_ref(), 0).is_some() {
            return Err(LogError::StateOutdated { found: format!("{name}, which has entries") });
        }
    }
    Ok(())
}

/// Entries behind the `last` one, in the newest segment, that are to be brought back or may have been there, and of which
/// a scan says nothing.
pub(super) fn owed(state: &LogState, newest: &str, last: LogIndex, faults: &[Fault]) -> Option<Fault> {
    let is_told = faults.iter().any(|fault| fault.last.is_none_or(|last| last >= state.owed));
    let is_missing = last < state.owed;
    if is_told || !(is_missing || state.end_unknown) {
        return None;
    }
    Some(Fault {
        segment: newest.to_owned(),
        offset: None,
        first: last.next(),
        last: is_missing.then_some(state.owed),
        identity: None,
        kind: FaultKind::Lost,
    })
}

fn open_state(
    disk: &dyn Disk,
    options: &LogOptions,
    identity: LogIdentity,
    listing: &Listing,
) -> Result<(StateFile, LoadedState, bool), LogError> {
    if let Some((file, loaded)) = StateFile::open(disk)? {
        let found = loaded.state.identity;
        if found != identity {
            return Err(LogError::Identity { expected: identity, found });
        }
        return Ok((file, loaded, false));
    }
    if !listing.segments.is_empty() {
        return Err(LogError::StateMissing);
    }
    if !options.create {
        return Err(LogError::Missing);
    }
    let state = LogState::new(identity);
    let file = StateFile::create(disk, &state)?;
    Ok((file, LoadedState { state, damaged_copies: 0 }, true))
}

/// Opens the files of all segments that the state knows.
pub(super) fn find_segments(disk: &dyn Disk, state: &LogState) -> Result<Vec<Found>, LogError> {
    let mut found: Vec<Found> = Vec::new();
    let mut sequence = state.oldest_segment;
    while sequence <= state.newest_segment {
        let name = file_name(sequence);
        let file = open_segment(disk, state, sequence, &name)?;
        let next = file.as_ref().map_or(sequence, |opened| opened.header.last_sequence) + 1;
        // A run of missing files is one gap: a merged segment has one file for several numbers.
        let continues_gap = file.is_err() && found.last().is_some_and(|last| last.file.is_err());
        if !continues_gap {
            found.push(Found { sequence, name, file });
        }
        sequence = next;
    }
    Ok(found)
}

fn open_segment(
    disk: &dyn Disk,
    state: &LogState,
    sequence: u64,
    name: &str,
) -> Result<Result<OpenedSegment, FaultKind>, LogError> {
    let file = match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Err(FaultKind::FileMissing)),
        Err(error) => return Ok(Err(FaultKind::FileUnreadable(error.to_string()))),
        Ok(file) => file,
    };
    let copies = match read_headers(file.as_ref()) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let found = file.size().unwrap_or(0);
            return Ok(Err(FaultKind::FileShort { expected: super::SEGMENT_HEADER_BYTES as u64, found }));
        }
        Err(error) => return Ok(Err(FaultKind::FileUnreadable(error.to_string()))),
        Ok(copies) => copies,
    };
    for copy in &copies {
        if let Err(HeaderError::Version(found)) = copy {
            return Err(LogError::Version { file: name.to_owned(), found: *found });
        }
    }
    // A segment stands for its own number and for those that were merged into it, never for one that is to come. Of two
    // intact copies one may be of an earlier life of the file, when a write was lost.
    let mut intact = copies.iter().filter_map(|copy| copy.as_ref().ok());
    let fits = |header: &&SegmentHeader| header.sequence == sequence && header.last_sequence <= state.newest_segment;
    let newest = intact.clone().filter(fits).max_by_key(|header| header.generation);
    let Some(header) = newest.or(intact.next_back()).copied() else { return Ok(Err(FaultKind::Header)) };
    if header.owner != (state.identity.cluster, state.identity.node, state.identity.group) {
        return Err(LogError::ForeignSegment { file: name.to_owned() });
    }
    if !fits(&&header) {
        return Ok(Err(FaultKind::Header));
    }
    let size = file.size().unwrap_or(0);
    if size < header.file_bytes {
        return Ok(Err(FaultKind::FileShort { expected: header.file_bytes, found: size }));
    }
    let half_header = copies.iter().any(|copy| copy.as_ref().ok() != Some(&header));
    Ok(Ok(OpenedSegment { file, header, half_header }))
}

/// Looks into the segments, as far as the verification asks for.
fn survey(state: &LogState, found: Vec<Found>, verification: Verification) -> Vec<Surveyed> {
    let starts: Vec<Option<SegmentHeader>> =
        found.iter().map(|found| found.file.as_ref().ok().map(|file| file.header)).collect();
    let terms = state.known_terms();
    let mut surveyed: Vec<Surveyed> = Vec::new();
    for (place, found) in found.into_iter().enumerate() {
        let is_newest = place + 1 == starts.len();
        let next = starts.get(place + 1).copied().flatten();
        let before = surveyed
            .last()
            .map_or((state.base, state.base_tag), |before| (before.filled.tail.last, before.filled.tail.last_tag));
        let half_header = found.file.as_ref().is_ok_and(|file| file.half_header);
        let segment = Arc::new(segment_of(state, found, before));
        let extent = extent_of(state, &segment, next, is_newest);
        if let (Extent::Sealed(last, _), None) = (extent, &segment.file)
            && last.index <= before.0.index
        {
            // A number that stands for no entries: its segment was cut off.
            continue;
        }
        let scan = match quick_tail(&segment, extent, verification) {
            Some(tail) => Scan::of_tail(tail),
            None => scan_segment(&segment, extent, &terms, &mut |_| {}),
        };
        let mut entry = Surveyed { filled: Filled { segment, tail: scan.tail }, scan, half_header };
        entry.check_start(before.0);
        if is_newest && entry.filled.segment.header.sealed.is_some() {
            entry.scan.check_end(&entry.filled.segment, state.promised());
        }
        surveyed.push(entry);
    }
    surveyed
}

impl Surveyed {
    /// Writes the entries that are not known to have been durable once more, and syncs them. Frames first: no crash may
    /// leave a record without its frame.
    fn write_back(&self) -> io::Result<()> {
        let Some(file) = self.filled.segment.file.as_deref() else { return Ok(()) };
        let header = &self.filled.segment.header;
        let (proven, tail) = (&self.scan.proven, &self.scan.tail);
        if header.sealed.is_some() || proven.entries >= tail.entries {
            return Ok(());
        }
        self.write_back_bytes(file, proven.frames_end, tail.frames_end)?;
        file.sync()?;
        self.write_back_bytes(file, header.record_offset(proven.entries), header.record_offset(tail.entries))?;
        file.sync()
    }

    fn write_back_bytes(&self, file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
        let mut buffer = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(WRITE_BACK_BYTES)];
        let mut offset = from;
        while offset < to {
            let length = usize::try_from(to - offset).unwrap_or(usize::MAX).min(buffer.len());
            let bytes = &mut buffer[..length];
            match file.read_at(bytes, offset) {
                Ok(()) => file.write_at(bytes, offset)?,
                // What cannot be read has been reported, or is a record that is written anew; what is damaged need not
                // be durable.
                Err(_) if !self.scan.faults.is_empty() || !self.scan.lost_records.is_empty() => {
                    self.write_back_readable(file, offset, length)?;
                }
                Err(error) => return Err(error),
            }
            offset += length as u64;
        }
        Ok(())
    }

    /// Piece by piece, without those that cannot be read.
    fn write_back_readable(&self, file: &dyn DiskFile, from: u64, length: usize) -> io::Result<()> {
        let mut piece = [0; WRITE_BACK_PIECE_BYTES];
        for start in (0..length).step_by(WRITE_BACK_PIECE_BYTES) {
            let bytes = &mut piece[..WRITE_BACK_PIECE_BYTES.min(length - start)];
            let offset = from + start as u64;
            if file.read_at(bytes, offset).is_ok() {
                file.write_at(bytes, offset)?;
            }
        }
        Ok(())
    }

    /// The range must begin where the one before ends. What lies between is lost; what lies in both cannot be.
    fn check_start(&mut self, before: LogPosition) {
        let first = self.filled.segment.header.first();
        let expected = before.index.next();
        if first == expected {
            return;
        }
        let (last, kind) = if first > expected {
            (first.0 - 1, FaultKind::Lost)
        } else {
            // Only files that contradict each other come to this, so nothing is appended to them.
            self.scan.end_unknown = true;
            (before.index.0, FaultKind::Header)
        };
        let fault = Fault {
            segment: self.filled.segment.name.clone(),
            offset: None,
            first: first.min(expected),
            last: Some(LogIndex(last)),
            identity: None,
            kind,
        };
        self.scan.faults.insert(0, fault);
    }
}

/// The segment of a found file; for a file of no use one that knows at least where its range begins.
pub(super) fn segment_of(state: &LogState, found: Found, before: (LogPosition, u64)) -> Segment {
    match found.file {
        Ok(opened) => Segment { name: found.name, header: opened.header, file: Some(opened.file), damage: None },
        Err(damage) => {
            let header = SegmentHeader {
                generation: 0,
                owner: (state.identity.cluster, state.identity.node, state.identity.group),
                sequence: found.sequence,
                last_sequence: found.sequence,
                previous: before.0,
                previous_tag: before.1,
                records_offset: super::SEGMENT_HEADER_BYTES as u64,
                record_slots: 0,
                file_bytes: 0,
                sealed: None,
            };
            Segment { name: found.name, header, file: None, damage: Some(damage) }
        }
    }
}

/// What is known about the end of a segment from elsewhere.
pub(super) fn extent_of(state: &LogState, segment: &Segment, next: Option<SegmentHeader>, is_newest: bool) -> Extent {
    match (segment.header.sealed, next) {
        (Some(sealed), _) => Extent::Sealed(sealed.last, sealed.last_tag),
        (None, Some(next)) => Extent::Sealed(next.previous, next.previous_tag),
        (None, None) if !is_newest => Extent::SealedUnknown,
        (None, None) => Extent::Newest { durable: state.promised(), cut_from: state.cut_from, closed: state.clean },
    }
}

/// How far a completed segment is filled, without looking at its frames; `None` when they have to be looked at.
fn quick_tail(segment: &Segment, extent: Extent, verification: Verification) -> Option<Tail> {
    let (Extent::Sealed(last, last_tag), Verification::Newest) = (extent, verification) else { return None };
    let file = segment.file.as_deref()?;
    let dense = last.index.0.checked_sub(segment.header.previous.index.0)?;
    let entries = segment.header.sealed.map_or(dense, |sealed| sealed.entries);
    if entries > segment.header.record_slots {
        return None;
    }
    let frames_end = match entries.checked_sub(1) {
        None => Tail::empty(&segment.header).frames_end,
        Some(slot) => segment.record(file, slot).map(|record| u64::from(record.offset) + record.frame_bytes())?,
    };
    Some(Tail { entries, frames_end, last, last_tag })
}

fn writer(
    disk: Arc<dyn Disk>,
    options: LogOptions,
    state_file: StateFile,
    state: LogState,
    surveyed: &[Surveyed],
) -> LogWriter {
    let segments: Vec<Filled> = surveyed.iter().map(|segment| segment.filled.clone()).collect();
    let durable = segments.last().map_or(state.base, |filled| filled.tail.last);
    let mut view = View {
        base: state.base,
        base_tag: state.base_tag,
        segments,
        settled: state.renumbered_to,
        terms: state.known_terms(),
        durable,
        spare_bytes: 0,
        revision: 0,
    };
    view.settled = view.settled.max(view.holes_end());
    let shared: Shared = Arc::new(RwLock::new(view));
    LogWriter {
        disk,
        options,
        shared,
        state_file,
        state,
        saved_hard_state: state.hard_state,
        unsynced_entries: 0,
        spares: Vec::new(),
        next_spare: 0,
        planned_behind: 0,
        blocked: None,
        holes: Vec::new(),
        poisoned: None,
        frames: Vec::new(),
        records: Vec::new(),
    }
}

/// The part of opening that changes files.
struct Opening {
    writer: LogWriter,
    created: bool,
    healed: u32,
    faults: Vec<Fault>,
}

impl Opening {
    fn finish(
        mut self,
        listing: Listing,
        surveyed: Vec<Surveyed>,
    ) -> Result<(LogWriter, LogReader, Recovery), LogError> {
        let clean = self.writer.state.clean;
        let proven_term = surveyed.iter().map(|segment| segment.scan.proven.last.term).max().unwrap_or_default();
        self.recall_terms();
        self.settle_found(&surveyed)?;
        self.heal(&surveyed)?;
        let torn = surveyed.last().and_then(|newest| {
            let (first, offset) = newest.scan.torn?;
            Some(TornTail { segment: newest.filled.segment.name.clone(), offset, first })
        });
        self.collect_leftovers(listing, &surveyed)?;
        self.settle_newest(surveyed)?;
        self.writer.note_holes(&self.faults);
        let (last, last_tag) = self.writer.shared.read().last();
        let state = &self.writer.state;
        let recovery = Recovery {
            created: self.created,
            clean,
            hard_state: state.hard_state,
            base: state.base,
            base_tag: state.base_tag,
            last,
            last_tag,
            torn,
            faults: self.faults,
            proven_term,
            healed: self.healed,
        };
        let reader = self.writer.reader();
        Ok((self.writer, reader, recovery))
    }

    /// Brings the table of terms up to what was found behind the entries that the state promises.
    fn recall_terms(&mut self) {
        let reader = self.writer.reader();
        let state = &mut self.writer.state;
        let told = state.durable.max(state.owed);
        state.terms.cut_from(told.next());
        let from = told.max(state.base.index).next();
        let found = if from > reader.last().index { Ok(Outline::default()) } else { reader.outline(from) };
        match found {
            Ok(outline) => outline.runs.iter().for_each(|run| match run.term {
                Some(term) => state.terms.note(LogPosition { index: run.first, term }, run.last),
                // Better no table than one with a gap.
                None => state.terms.clear(),
            }),
            Err(_) => state.terms.clear(),
        }
        self.writer.shared.write().terms = self.writer.state.terms;
    }

    /// Makes everything durable that the survey took for granted, before anything is built on it.
    ///
    /// What was read may be in memory only: the process that wrote it died before its sync, or the sync failed, which
    /// leaves pages that count as clean, so that syncing them again would write nothing.
    fn settle_found(&mut self, surveyed: &[Surveyed]) -> Result<(), LogError> {
        if self.created {
            return Ok(());
        }
        let LogWriter { state, state_file, disk, .. } = &mut self.writer;
        if state.clean {
            return state_file.settle(disk.as_ref(), state);
        }
        disk.sync_directory().map_err(LogError::io("sync", "the directory"))?;
        state_file.settle(disk.as_ref(), state)?;
        match surveyed.last() {
            Some(_) if is_planted(Bug::FoundTakenForDurable) => Ok(()),
            // Segments in front of the newest one were synced before the state spoke of another.
            Some(newest) => newest.write_back().map_err(LogError::io("write back", &newest.filled.segment.name)),
            None => Ok(()),
        }
    }

    /// Writes anew what was damaged and is known from its copy or its frame.
    fn heal(&mut self, surveyed: &[Surveyed]) -> Result<(), LogError> {
        for Surveyed { filled, scan, half_header } in surveyed {
            let Some(file) = &filled.segment.file else { continue };
            if !half_header && scan.lost_records.is_empty() {
                continue;
            }
            let header = &filled.segment.header;
            let heal = || {
                if *half_header {
                    write_header(file.as_ref(), header)?;
                }
                for (slot, record) in &scan.lost_records {
                    file.write_at(&record.encode(header.generation), header.record_offset(*slot))?;
                }
                file.sync()
            };
            heal().map_err(LogError::io("repair", &filled.segment.name))?;
            self.healed += u32::from(*half_header) + u32::try_from(scan.lost_records.len()).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    /// Recycles or removes files that an interrupted operation left behind.
    fn collect_leftovers(&mut self, listing: Listing, surveyed: &[Surveyed]) -> Result<(), LogError> {
        let disk = self.writer.disk.clone();
        let standard_bytes = self.writer.options.file_bytes();
        let has_standard_size =
            |name: &str| disk.open(name).and_then(|file| file.size()).is_ok_and(|bytes| bytes == standard_bytes);
        self.writer.next_spare = listing.spares.keys().next_back().map_or(0, |number| number + 1);
        let mut changed = false;
        for name in listing.spares.into_values() {
            if has_standard_size(&name) && self.writer.spares.len() < self.writer.options.spare_segments {
                self.writer.spares.push(name);
            } else {
                self.writer.remove_file(&name)?;
                changed = true;
            }
        }
        let counts =
            |sequence: &u64| surveyed.iter().any(|segment| segment.filled.segment.header.sequence == *sequence);
        for (_, name) in listing.segments.into_iter().filter(|(sequence, _)| !counts(sequence)) {
            let reusable = has_standard_size(&name) && self.writer.spares.len() < self.writer.options.spare_segments;
            self.writer.discard_file(&name, reusable)?;
            changed = true;
        }
        self.writer.remove_file(REWRITE_FILE)?;
        if changed {
            disk.sync_directory().map_err(LogError::io("sync", "the directory"))?;
        }
        self.writer.count_spares();
        Ok(())
    }

    /// Makes the newest segment fit for appending: nothing may lie behind its last entry that could be mistaken for
    /// an entry later.
    fn settle_newest(&mut self, surveyed: Vec<Surveyed>) -> Result<(), LogError> {
        let writer = &mut self.writer;
        let was_clean = std::mem::replace(&mut writer.state.clean, false);
        let Some(newest) = surveyed.last() else { return writer.roll(&None) };
        if newest.scan.end_unknown {
            writer.blocked = newest.scan.faults.last().cloned();
            if was_clean {
                // Nothing was written behind what the state promises. That it was closed is forgotten, this is not.
                writer.state.owed = writer.state.promised();
            }
            // Stays until the peers have said where the end was, also when what is known of it is back before that.
            writer.state.end_unknown |= writer.state.owed == LogIndex::ZERO;
            return writer.save_state();
        }
        if newest.filled.segment.header.sealed.is_some() {
            let newest = writer.newest();
            return writer.roll(&newest);
        }
        let first_undecided = newest.scan.faults.iter().find(|fault| matches!(fault.kind, FaultKind::Undecided { .. }));
        let tail = newest.filled.tail;
        if was_clean {
            return writer.save_state();
        }
        // The zeros of a cut whose sync failed are there to be read and may be nowhere else.
        let wipe = if writer.state.cut_from.is_some() { Wipe::Everything } else { Wipe::NotZero };
        writer.state.cut_from = Some(tail.last.index.next());
        writer.state.durable = first_undecided.map_or(tail.last.index, |fault| LogIndex(fault.first.0 - 1));
        writer.save_state()?;
        writer.finish_cut(&newest.filled.segment, &tail, wipe)
    }
}
