//! Rewriting completed segments: without what nobody wants any more, or with damaged entries replaced.
//!
//! The new file is written and synced under another name and then takes the place of the old one, so a crash leaves
//! either of them. When several segments become one, the new file takes the name of the first and says in its header
//! for which others it stands; they are removed afterwards, now or when the log is opened next.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::frame::{decode_frame, encode_frame, frame_bytes, payload_bytes};
use super::layout::align_up;
use super::record::{PERSIST_RECORD_BYTES, PersistRecord};
use super::scan::{Extent, SlotFinding, scan_segment, valid_records};
use super::segment::{SEGMENT_HEADER_BYTES, SealedRange, Segment, SegmentHeader, Tail, write_header};
use super::shared::Filled;
use super::terms::TermTable;
use super::{Entry, FRAME_HEADER_BYTES, Fault, FaultKind, LogError, LogWriter};
use crate::disk::DiskFile;
use crate::ids::LogIndex;

/// Name under which a rewritten segment is prepared.
pub(super) const REWRITE_FILE: &str = "rewrite.new";

/// Frames are written in pieces of about this size.
const WRITE_BYTES: usize = 1 << 20;

/// So many small segments in a row are worth merging even if nothing in them can go.
const SMALL_RUN: usize = 4;

/// At most so many missing entries are listed.
const MISSING_MAX: usize = 1024;

/// A segment is small if it is below this fraction of a full one.
const SMALL_FRACTION: u64 = 4;

/// What [`LogWriter::rewrite_sparse`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Segments that were replaced.
    pub segments_before: u64,
    /// Segments that took their place.
    pub segments_after: u64,
    /// Entries that are gone.
    pub entries_removed: u64,
    /// By how much the files shrank.
    pub bytes_freed: u64,
}

/// What [`LogWriter::repair`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Segments in which nothing is damaged any more.
    pub segments: u64,
    /// Damaged entries for which no replacement, or a wrong one, was given. Their segments are as they were.
    pub missing: Vec<LogIndex>,
}

/// A completed segment with what is still wanted of it.
struct Candidate {
    filled: Filled,
    wanted: Vec<PersistRecord>,
    wanted_bytes: u64,
    dead: u64,
}

/// Where an entry of a new segment comes from.
enum Source {
    /// From the old segment at this place in the list.
    Kept(usize, PersistRecord),
    /// From outside.
    Given(Entry),
}

impl Source {
    fn frame_bytes(&self) -> u64 {
        match self {
            Self::Kept(_, record) => record.frame_bytes(),
            Self::Given(entry) => frame_bytes(payload_bytes(entry)),
        }
    }
}

impl LogWriter {
    /// Rewrites completed segments that hold nothing above `up_to` and of which at most `max_live_fraction` is still
    /// wanted. Neighbours are merged. Unwanted entries are gone afterwards: below `up_to` the log may have holes.
    ///
    /// # Errors
    /// When a wanted entry is damaged, or a read or write fails. An error before the new file takes the place of the
    /// old ones leaves the log as it was, and usable.
    pub fn rewrite_sparse(
        &mut self,
        wanted: &mut dyn FnMut(LogIndex, u64) -> bool,
        up_to: LogIndex,
        max_live_fraction: f64,
    ) -> Result<Rewritten, LogError> {
        self.check_usable_except_blocked()?;
        let mut outcome = Rewritten::default();
        let mut run: Vec<Candidate> = Vec::new();
        let mut place = 0;
        while let Some(filled) = self.completed(place, up_to) {
            let candidate = self.candidate(filled, wanted, max_live_fraction);
            let joins = candidate.as_ref().is_some_and(|candidate| self.fits_together(&run, candidate));
            if !joins {
                place = self.rewrite_run(std::mem::take(&mut run), place, &mut outcome)?;
            }
            run.extend(candidate);
            place += 1;
        }
        self.rewrite_run(run, place, &mut outcome)?;
        Ok(outcome)
    }

    /// Replaces damaged entries, as listed when the log was opened, by what `fetch` gives for them (from a peer), and
    /// accepts only the very entries that were there where the log still knows their checksums.
    ///
    /// Damage to a newest segment of unknown length cannot be repaired this way: cut it off with
    /// [`LogWriter::truncate_suffix`] and let replication bring the entries back.
    ///
    /// # Errors
    /// When the end of the log is not known, or a read or write fails.
    pub fn repair(
        &mut self,
        faults: &[Fault],
        fetch: &mut dyn FnMut(LogIndex) -> Option<Entry>,
    ) -> Result<Repaired, LogError> {
        self.check_usable_except_blocked()?;
        let mut names: Vec<&str> = faults.iter().map(|fault| fault.segment.as_str()).collect();
        names.dedup();
        let mut outcome = Repaired::default();
        for name in names {
            let place = self.shared.read().segments.iter().position(|filled| filled.segment.name == name);
            let Some(place) = place else { continue };
            self.complete(place)?;
            let filled = self.shared.read().segments[place].clone();
            match repaired_sources(&filled, &self.state.known_terms(), fetch) {
                Ok(sources) => {
                    self.replace(place..place + 1, &[filled], sources)?;
                    outcome.segments += 1;
                }
                Err(missing) => outcome.missing.extend(missing),
            }
        }
        Ok(outcome)
    }

    /// Only completed segments are rewritten, so the newest one is completed first.
    fn complete(&mut self, place: usize) -> Result<(), LogError> {
        let newest = self.newest();
        let is_newest = place + 1 == self.shared.read().segments.len();
        if is_newest {
            if let Some(fault) = &self.blocked {
                return Err(LogError::corrupt(fault.clone()));
            }
            let rolled = self.roll(&newest);
            self.poison_on_failure(rolled)?;
        }
        Ok(())
    }

    fn completed(&self, place: usize, up_to: LogIndex) -> Option<Filled> {
        let view = self.shared.read();
        let filled = view.segments.get(place)?;
        let is_newest = place + 1 == view.segments.len();
        (!is_newest && filled.tail.last.index <= up_to).then(|| filled.clone())
    }

    fn candidate(
        &self,
        filled: Filled,
        wanted: &mut dyn FnMut(LogIndex, u64) -> bool,
        max_live_fraction: f64,
    ) -> Option<Candidate> {
        let mut records = filled.records()?;
        let is_small = filled.segment.header.file_bytes <= self.options.segment_bytes / SMALL_FRACTION;
        let keep: Vec<bool> = records.iter().map(|record| wanted(record.position.index, record.tag)).collect();
        let kept = || records.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(record, _)| record);
        let kept_bytes: u64 = kept().map(PersistRecord::frame_bytes).sum();
        let mut dead = (records.len() - kept().count()) as u64;
        let is_sparse = dead > 0 && kept_bytes as f64 <= max_live_fraction * filled.segment.header.file_bytes as f64;
        if is_sparse {
            let mut keep = keep.into_iter();
            records.retain(|_| keep.next().unwrap_or(true));
        } else if is_small {
            // What is not worth a rewrite of its own comes along when its neighbours are rewritten, and then as a whole.
            dead = 0;
        } else {
            return None;
        }
        let wanted_bytes = records.iter().map(PersistRecord::frame_bytes).sum();
        Some(Candidate { filled, wanted: records, wanted_bytes, dead })
    }

    fn fits_together(&self, run: &[Candidate], candidate: &Candidate) -> bool {
        let all = || run.iter().chain([candidate]);
        let frames: u64 = all().map(|candidate| candidate.wanted_bytes).sum();
        let records: usize = all().map(|candidate| candidate.wanted.len()).sum();
        file_bytes(frames, records as u64) <= self.options.segment_bytes
    }

    /// Rewrites the run, which ends before `place`, as one segment if that is worth it, and returns `place` as it is
    /// after that: places behind a merged run move to the front, so that none may be remembered across it.
    fn rewrite_run(&mut self, run: Vec<Candidate>, place: usize, outcome: &mut Rewritten) -> Result<usize, LogError> {
        let dead: u64 = run.iter().map(|candidate| candidate.dead).sum();
        let replaced = run.len();
        if dead == 0 && replaced < SMALL_RUN {
            return Ok(place);
        }
        let range = place - replaced..place;
        let old: Vec<Filled> = run.iter().map(|candidate| candidate.filled.clone()).collect();
        let bytes_before: u64 = old.iter().map(|filled| filled.segment.header.file_bytes).sum();
        let kept = run
            .into_iter()
            .enumerate()
            .flat_map(|(from, candidate)| candidate.wanted.into_iter().map(move |record| Source::Kept(from, record)));
        let sources: Vec<Source> = kept.collect();
        let bytes_after = self.replace(range, &old, sources)?;
        outcome.segments_before += replaced as u64;
        outcome.segments_after += 1;
        outcome.entries_removed += dead;
        outcome.bytes_freed += bytes_before.saturating_sub(bytes_after);
        Ok(place + 1 - replaced)
    }

    /// Puts one new segment in the place of neighbouring old ones and returns its size.
    fn replace(&mut self, range: Range<usize>, old: &[Filled], sources: Vec<Source>) -> Result<u64, LogError> {
        let (Some(first), Some(last)) = (old.first(), old.last()) else { return Ok(0) };
        let generation = self.take_generation();
        // A generation is used up before anything is written with it, or a crash could give it out twice.
        let saved = self.save_state();
        self.poison_on_failure(saved)?;
        let frames: u64 = sources.iter().map(Source::frame_bytes).sum();
        let entries = sources.len() as u64;
        let header = SegmentHeader {
            generation,
            owner: first.segment.header.owner,
            sequence: first.segment.header.sequence,
            last_sequence: last.segment.header.last_sequence,
            previous: first.segment.header.previous,
            previous_tag: first.segment.header.previous_tag,
            records_offset: SEGMENT_HEADER_BYTES as u64 + frames,
            record_slots: entries,
            file_bytes: file_bytes(frames, entries),
            sealed: Some(SealedRange { last: last.tail.last, last_tag: last.tail.last_tag, entries }),
        };
        self.disk.clear_name(REWRITE_FILE).map_err(LogError::io("remove", REWRITE_FILE))?;
        let file = self.disk.create(REWRITE_FILE, header.file_bytes).map_err(LogError::io("create", REWRITE_FILE))?;
        let file = match fill(&file, &header, old, sources) {
            Ok(()) => file,
            Err(error) => {
                // The old segments are untouched; what is left of the new one is removed now or at the next opening.
                drop(self.remove_file(REWRITE_FILE));
                return Err(error);
            }
        };
        let tail =
            Tail { entries, frames_end: header.records_offset, last: last.tail.last, last_tag: last.tail.last_tag };
        let segment = Segment { name: first.segment.name.clone(), header, file: Some(file), damage: None };
        let installed = self.install(range, Filled { segment: Arc::new(segment), tail });
        self.poison_on_failure(installed)?;
        Ok(header.file_bytes)
    }

    fn install(&mut self, range: Range<usize>, filled: Filled) -> Result<(), LogError> {
        let name = filled.segment.name.clone();
        self.disk.rename(REWRITE_FILE, &name).map_err(LogError::io("replace", &name))?;
        self.disk.sync_directory().map_err(LogError::io("sync the directory of", &name))?;
        let mut replaced: Vec<Filled> = {
            let mut view = self.shared.write();
            view.revision += 1;
            let replaced = view.segments.splice(range, [filled]).collect();
            view.settled = view.settled.max(view.holes_end());
            replaced
        };
        // The file of the first one is gone already: its name was taken over.
        replaced.remove(0);
        if replaced.is_empty() { Ok(()) } else { self.discard(replaced) }
    }
}

impl Filled {
    /// The persist records of all entries, without a look at the frames if that can be avoided; `None` when something
    /// is damaged.
    fn records(&self) -> Option<Vec<PersistRecord>> {
        let file = self.segment.file.as_deref()?;
        let extent = Extent::Sealed(self.tail.last, self.tail.last_tag);
        let records = valid_records(&self.segment, file, extent);
        if records.len() as u64 == self.tail.entries {
            return Some(records.into_values().collect());
        }
        let (records, faults) = self.entries(&TermTable::default());
        faults.is_empty().then_some(records)
    }

    /// The persist records of all entries, those that are damaged made anew from their frames, and what is damaged
    /// beyond that.
    fn entries(&self, terms: &TermTable) -> (Vec<PersistRecord>, Vec<Fault>) {
        let (findings, faults) = self.findings(terms);
        let records = findings.into_iter().filter_map(|finding| {
            let header = finding.frame.ok()?;
            Some(PersistRecord {
                position: header.position,
                tag: header.tag,
                offset: u32::try_from(finding.offset).unwrap_or(u32::MAX),
                payload_bytes: header.payload_bytes,
                frame_checksum: header.checksum,
                batch_before: 0,
                batch_after: 0,
            })
        });
        (records.collect(), faults)
    }

    fn findings(&self, terms: &TermTable) -> (Vec<SlotFinding>, Vec<Fault>) {
        let mut findings = Vec::new();
        let extent = Extent::Sealed(self.tail.last, self.tail.last_tag);
        let scan = scan_segment(&self.segment, extent, terms, &mut |finding| findings.push(finding));
        (findings, scan.faults)
    }
}

/// The size of a file for exactly these entries.
fn file_bytes(frames: u64, entries: u64) -> u64 {
    SEGMENT_HEADER_BYTES as u64 + frames + align_up(entries * PERSIST_RECORD_BYTES as u64)
}

/// The entries of a segment with replacements for the damaged ones, or the damaged ones that have none.
fn repaired_sources(
    filled: &Filled,
    terms: &TermTable,
    fetch: &mut dyn FnMut(LogIndex) -> Option<Entry>,
) -> Result<Vec<Source>, Vec<LogIndex>> {
    let (good, faults) = filled.entries(terms);
    let mut sources: BTreeMap<LogIndex, Source> =
        good.into_iter().map(|record| (record.position.index, Source::Kept(0, record))).collect();
    let mut missing = Vec::new();
    for fault in &faults {
        let last = fault.last.unwrap_or(fault.first);
        for index in (fault.first.0..=last.0).map(LogIndex) {
            match fetch(index).filter(|entry| is_the_lost_one(entry, index, fault, filled)) {
                Some(entry) => drop(sources.insert(index, Source::Given(entry))),
                None if missing.len() == MISSING_MAX => return Err(missing),
                None => missing.push(index),
            }
        }
    }
    if missing.is_empty() { Ok(sources.into_values().collect()) } else { Err(missing) }
}

fn is_the_lost_one(entry: &Entry, index: LogIndex, fault: &Fault, filled: &Filled) -> bool {
    let (FaultKind::Frame { expected, .. } | FaultKind::Undecided { expected, .. }) = &fault.kind else {
        return entry.position.index == index;
    };
    let checksum = encode_frame(&mut Vec::new(), filled.segment.header.generation, entry);
    entry.position.index == index && checksum == *expected
}

/// Writes a whole new segment and makes it durable.
fn fill(
    file: &Arc<dyn DiskFile>,
    header: &SegmentHeader,
    old: &[Filled],
    sources: Vec<Source>,
) -> Result<(), LogError> {
    let io = |error| LogError::io("write", REWRITE_FILE)(error);
    let mut frames = Vec::new();
    let mut records = Vec::with_capacity(sources.len() * PERSIST_RECORD_BYTES);
    let mut written = SEGMENT_HEADER_BYTES as u64;
    for source in sources {
        let entry = match source {
            Source::Given(entry) => entry,
            Source::Kept(from, record) => read_kept(&old[from], &record)?,
        };
        let offset = written + frames.len() as u64;
        let frame_checksum = encode_frame(&mut frames, header.generation, &entry);
        let record = PersistRecord {
            position: entry.position,
            tag: entry.tag,
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            payload_bytes: payload_bytes(&entry),
            frame_checksum,
            batch_before: 0,
            batch_after: 0,
        };
        records.extend_from_slice(&record.encode(header.generation));
        if frames.len() >= WRITE_BYTES {
            file.write_at(&frames, written).map_err(io)?;
            written += frames.len() as u64;
            frames.clear();
        }
    }
    file.write_at(&frames, written).map_err(io)?;
    file.write_at(&records, header.records_offset).map_err(io)?;
    write_header(file.as_ref(), header).map_err(io)?;
    file.sync().map_err(io)
}

fn read_kept(filled: &Filled, record: &PersistRecord) -> Result<Entry, LogError> {
    let file = filled.file()?;
    let mut bytes = vec![0; FRAME_HEADER_BYTES + record.payload_bytes as usize];
    file.read_at(&mut bytes, u64::from(record.offset)).map_err(LogError::io("read", &filled.segment.name))?;
    match decode_frame(&bytes, filled.segment.header.generation) {
        Ok((header, payload)) => Ok(Entry {
            position: header.position,
            kind: header.kind,
            tag: header.tag,
            payload: bytes::Bytes::from(bytes).slice(payload),
        }),
        Err(error) => Err(LogError::corrupt(Fault {
            segment: filled.segment.name.clone(),
            offset: Some(u64::from(record.offset)),
            first: record.position.index,
            last: Some(record.position.index),
            identity: Some((record.position, record.tag)),
            kind: FaultKind::Frame { expected: record.frame_checksum, found: error.to_string() },
        })),
    }
}
