//! What a segment holds, and what of it is damaged: the case analysis of `docs/formats/log.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::frame::{FrameError, FrameHeader, frame_bytes};
use super::record::{PERSIST_RECORD_BYTES, PersistRecord};
use super::segment::{Segment, Tail};
use super::terms::TermTable;
use super::walk::{FrameWalk, Step};
use super::{Fault, FaultKind, astray};
use crate::disk::DiskFile;
use crate::ids::{LogIndex, LogPosition, Term};
use crate::simulation::{Bug, is_planted};

/// Persist records are read in blocks of this many.
const RECORDS_AT_ONCE: u64 = 4096;

/// What is known about the end of a segment before looking into it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Extent {
    /// It was completed: everything up to here was durable.
    Sealed(LogPosition, u64),
    /// It was completed, but the segment that would tell its end is missing.
    SealedUnknown,
    /// It is the newest one. Everything up to `durable` was durable; nothing from `cut_from` on exists. `closed`: nothing was
    /// written behind what is known to be durable.
    Newest { durable: LogIndex, cut_from: Option<LogIndex>, closed: bool },
}

/// What a scan found at one slot.
#[derive(Clone, Debug)]
pub(super) struct SlotFinding {
    pub(super) slot: u64,
    pub(super) offset: u64,
    pub(super) frame: Result<FrameHeader, String>,
    pub(super) record: Option<PersistRecord>,
}

/// The result of a scan.
pub(super) struct Scan {
    pub(super) tail: Tail,
    /// How far the segment is filled with entries that are known to have been durable.
    pub(super) proven: Tail,
    pub(super) faults: Vec<Fault>,
    /// Persist records that are bad while their frames are good, in the form they should have.
    pub(super) lost_records: Vec<(u64, PersistRecord)>,
    /// Entries that were found behind the end and do not count, with the offset of the first one.
    pub(super) torn: Option<(LogIndex, u64)>,
    /// Where the next frame goes is not known, because the last ones left no trace of their size.
    pub(super) end_unknown: bool,
}

/// Looks at every slot of a segment in order. What `terms` says of another term is an earlier content of its place.
pub(super) fn scan_segment(
    segment: &Segment,
    extent: Extent,
    terms: &TermTable,
    visit: &mut dyn FnMut(SlotFinding),
) -> Scan {
    let Some(file) = segment.file.clone() else { return Scan::of_unusable(segment, extent) };
    let records = valid_records(segment, file.as_ref(), extent);
    Scanner::new(segment, file, records, extent, *terms).run(visit)
}

/// All intact persist records that count, by slot.
pub(super) fn valid_records(segment: &Segment, file: &dyn DiskFile, extent: Extent) -> BTreeMap<u64, PersistRecord> {
    let slots = segment.header.sealed.map_or(segment.header.record_slots, |sealed| sealed.entries);
    let mut records = BTreeMap::new();
    let mut block = vec![0; PERSIST_RECORD_BYTES * usize::try_from(slots.min(RECORDS_AT_ONCE)).unwrap_or(0)];
    let mut slot = 0;
    while slot < slots {
        let count = (slots - slot).min(RECORDS_AT_ONCE);
        let bytes = &mut block[..usize::try_from(count).unwrap_or(0) * PERSIST_RECORD_BYTES];
        if file.read_at(bytes, segment.header.record_offset(slot)).is_ok() {
            let found = bytes.chunks_exact(PERSIST_RECORD_BYTES).zip(slot..).filter_map(|(block, slot)| {
                PersistRecord::decode(block, segment.header.generation).map(|record| (slot, record))
            });
            records.extend(found.filter(|(slot, record)| record_counts(segment, extent, *slot, record)));
        } else {
            // A sector that cannot be read costs only the records on it.
            let found = (slot..slot + count).filter_map(|slot| Some((slot, segment.record(file, slot)?)));
            records.extend(found.filter(|(slot, record)| record_counts(segment, extent, *slot, record)));
        }
        slot += count;
    }
    without_stale(records)
}

/// Terms only rise along a log. A record of a lower term than one in front of it is of entries that were cut off: the
/// write that should have wiped it was lost.
fn without_stale(mut records: BTreeMap<u64, PersistRecord>) -> BTreeMap<u64, PersistRecord> {
    let mut newest = Term::default();
    records.retain(|_, record| {
        newest = newest.max(record.position.term);
        record.position.term == newest
    });
    records
}

fn record_counts(segment: &Segment, extent: Extent, slot: u64, record: &PersistRecord) -> bool {
    let in_place = !segment.is_dense() || record.position.index.0 == segment.header.first().0 + slot;
    let uncut = match extent {
        Extent::Newest { cut_from: Some(cut_from), .. } => record.position.index < cut_from,
        Extent::Sealed(last, _) => record.position.index <= last.index,
        _ => true,
    };
    let fits = u64::from(record.offset).saturating_add(record.frame_bytes()) <= segment.header.records_offset;
    in_place && uncut && fits
}

struct Scanner<'a> {
    segment: &'a Segment,
    file: Arc<dyn DiskFile>,
    records: BTreeMap<u64, PersistRecord>,
    extent: Extent,
    /// Terms of the entries, as far as they are known from elsewhere. Indexes of sealed segments may not be the group's.
    terms: TermTable,
    /// Entries up to here were durable for certain.
    durable: u64,
    scan: Scan,
}

impl<'a> Scanner<'a> {
    fn new(
        segment: &'a Segment,
        file: Arc<dyn DiskFile>,
        records: BTreeMap<u64, PersistRecord>,
        extent: Extent,
        terms: TermTable,
    ) -> Self {
        let by_records = records.values().map(PersistRecord::durable_before).max().unwrap_or(0);
        let durable = match extent {
            Extent::Sealed(last, _) => last.index.0,
            // The last record of a completed segment was durable with it.
            Extent::SealedUnknown => records.values().map(|record| record.position.index.0).max().unwrap_or(0),
            Extent::Newest { durable, cut_from, .. } => {
                let durable = durable.0.max(by_records);
                cut_from.map_or(durable, |cut_from| durable.min(cut_from.0.saturating_sub(1)))
            }
        };
        let scan = Scan {
            tail: Tail::empty(&segment.header),
            proven: Tail::empty(&segment.header),
            faults: Vec::new(),
            lost_records: Vec::new(),
            torn: None,
            end_unknown: false,
        };
        Self { segment, file, records, extent, terms, durable, scan }
    }

    fn run(mut self, visit: &mut dyn FnMut(SlotFinding)) -> Scan {
        let header = &self.segment.header;
        let mut walk =
            FrameWalk::new(self.file.clone(), header.generation, self.scan.tail.frames_end, header.records_offset);
        while self.has_more() {
            let slot = self.scan.tail.entries;
            walk.offset = self.scan.tail.frames_end;
            let frame = match walk.step() {
                Step::Frame(header, _) if self.is_expected(&header) => Ok(header),
                Step::Frame(header, _) => Err(format!("found entry {} instead", header.position)),
                Step::Bad(error) => Err(describe(error)),
                Step::Unreadable(error) => Err(format!("cannot be read: {error}")),
            };
            let record = self.records.get(&slot).copied().filter(|record| self.is_of_its_term(record.position));
            visit(SlotFinding { slot, offset: self.scan.tail.frames_end, frame: frame.clone(), record });
            match (frame, record) {
                (Ok(header), Some(record)) if is_newer(&record, &header) => {
                    self.take_damaged(&record, format!("found an earlier entry {} instead", header.position));
                }
                (Ok(header), record) => {
                    let record = record.filter(|record| record.frame_checksum == header.checksum);
                    self.take_good(slot, &header, record);
                }
                (Err(found), Some(record)) => self.take_damaged(&record, found),
                (Err(found), None) => {
                    if !self.skip_traceless(slot, found, &mut walk) {
                        break;
                    }
                }
            }
        }
        self.finish()
    }

    fn has_more(&self) -> bool {
        let tail = &self.scan.tail;
        match (self.extent, self.segment.header.sealed) {
            (_, Some(sealed)) => tail.entries < sealed.entries,
            (Extent::Sealed(last, _), None) => {
                tail.last.index < last.index && tail.entries < self.segment.header.record_slots
            }
            (Extent::Newest { cut_from: Some(cut_from), .. }, None) if tail.last.index.next() >= cut_from => false,
            _ => tail.entries < self.segment.header.record_slots,
        }
    }

    fn is_expected(&self, header: &FrameHeader) -> bool {
        let next = self.scan.tail.last.index.next();
        let in_place =
            if self.segment.is_dense() { header.position.index == next } else { header.position.index >= next };
        in_place && self.is_of_its_term(header.position) && header.tag >= self.scan.tail.last_tag
    }

    /// Whether the term fits to what is known: an entry that was cut off, and whose place another one has taken, may come
    /// to light again when a write was lost.
    fn is_of_its_term(&self, position: LogPosition) -> bool {
        let is_known_other =
            self.segment.is_dense() && self.terms.term_of(position.index).is_some_and(|term| term != position.term);
        position.term >= self.scan.tail.last.term && !is_known_other
    }

    fn take_good(&mut self, slot: u64, header: &FrameHeader, record: Option<PersistRecord>) {
        let offset = self.scan.tail.frames_end;
        if record.is_none() {
            let record = PersistRecord {
                position: header.position,
                tag: header.tag,
                offset: u32::try_from(offset).unwrap_or(u32::MAX),
                payload_bytes: header.payload_bytes,
                frame_checksum: header.checksum,
                batch_before: 0,
                batch_after: 0,
            };
            self.scan.lost_records.push((slot, record));
        }
        self.advance(header.position, header.tag, offset + frame_bytes(header.payload_bytes), 1);
    }

    /// The frame is bad and its record is good.
    fn take_damaged(&mut self, record: &PersistRecord, found: String) {
        let expected = record.frame_checksum;
        let kind = if record.position.index.0 <= self.durable && !is_planted(Bug::DamageCutOff) {
            FaultKind::Frame { expected, found }
        } else {
            FaultKind::Undecided { expected, found }
        };
        self.scan.faults.push(Fault {
            segment: self.segment.name.clone(),
            offset: Some(u64::from(record.offset)),
            first: record.position.index,
            last: Some(record.position.index),
            identity: Some((record.position, record.tag)),
            kind,
        });
        self.advance(record.position, record.tag, u64::from(record.offset) + record.frame_bytes(), 1);
    }

    /// Frame and record are bad. Says whether there is anything behind them that counts.
    fn skip_traceless(&mut self, slot: u64, found: String, walk: &mut FrameWalk) -> bool {
        let first = self.scan.tail.last.index.next();
        if first.0 > self.durable {
            return false;
        }
        let next = self.records.range(slot + 1..).next().map(|(slot, record)| (*slot, *record));
        if let Some(header) = self.find_frame(first, next.map(|(_, record)| record), walk) {
            let last = LogIndex(header.position.index.0 - 1);
            self.report_traceless(first, last, found);
            let position = LogPosition { index: last, term: self.scan.tail.last.term };
            self.advance(position, self.scan.tail.last_tag, walk.offset, header.position.index.0 - first.0);
            return true;
        }
        let last = match (next, self.segment.is_dense()) {
            (Some((next_slot, _)), true) => first.0 + (next_slot - slot) - 1,
            (Some((_, record)), false) => record.position.index.0.saturating_sub(1),
            (None, _) => self.durable,
        };
        let last = last.max(first.0);
        self.report_traceless(first, LogIndex(last), found);
        let position = LogPosition { index: LogIndex(last), term: self.scan.tail.last.term };
        let skipped = next.map_or(last - first.0 + 1, |(next_slot, _)| next_slot - slot);
        let end = next.map_or(self.scan.tail.frames_end, |(_, record)| u64::from(record.offset));
        self.advance(position, self.scan.tail.last_tag, end, skipped);
        self.scan.end_unknown = next.is_none();
        next.is_some()
    }

    /// An intact frame without a record, between a traceless one and the next record: where it lies is not known, but it
    /// says itself which entry it is.
    fn find_frame(&self, first: LogIndex, next: Option<PersistRecord>, walk: &mut FrameWalk) -> Option<FrameHeader> {
        let limit = next.map_or(self.segment.header.records_offset, |record| u64::from(record.offset));
        let last = next.map_or(self.durable, |record| record.position.index.0 - 1);
        let (term, tag) = (self.scan.tail.last.term, self.scan.tail.last_tag);
        let fits = |header: &FrameHeader| {
            let index = header.position.index;
            index > first && index.0 <= last && header.position.term >= term && header.tag >= tag
        };
        walk.offset = self.scan.tail.frames_end;
        if self.segment.is_dense() { walk.find(limit, &fits) } else { None }
    }

    fn report_traceless(&mut self, first: LogIndex, last: LogIndex, found: String) {
        self.scan.faults.push(Fault {
            segment: self.segment.name.clone(),
            offset: Some(self.scan.tail.frames_end),
            first,
            last: Some(last),
            identity: None,
            kind: FaultKind::FrameAndRecord { found },
        });
    }

    fn advance(&mut self, last: LogPosition, last_tag: u64, frames_end: u64, entries: u64) {
        let tail = &mut self.scan.tail;
        let entries = (tail.entries + entries).min(self.segment.header.record_slots);
        *tail = Tail { entries, frames_end, last, last_tag };
        if last.index.0 <= self.durable {
            self.scan.proven = self.scan.tail;
        }
    }

    fn finish(mut self) -> Scan {
        match self.extent {
            Extent::Sealed(last, last_tag) => {
                if self.segment.is_dense() && self.scan.tail.last.index < last.index {
                    self.report_lost(last.index);
                }
                self.scan.tail.last = last;
                self.scan.tail.last_tag = last_tag;
            }
            Extent::SealedUnknown => {}
            Extent::Newest { .. } => self.settle_last_batch(),
        }
        if let Some(sealed) = &self.segment.header.sealed {
            self.scan.tail.last = sealed.last;
            self.scan.tail.last_tag = sealed.last_tag;
            self.scan.tail.entries = sealed.entries;
        }
        self.scan
    }

    /// Decides about the batch that may have been under way when the node stopped.
    fn settle_last_batch(&mut self) {
        let end = self.scan.tail.last.index.0;
        let undecided = self.records.values().filter(|record| record.position.index.0 > self.durable);
        let batch_last = undecided.map(PersistRecord::batch_last).max().unwrap_or(0);
        let has_cut = matches!(self.extent, Extent::Newest { cut_from: Some(_), .. });
        if batch_last > end && !has_cut || is_planted(Bug::DamageCutOff) {
            // Part of the batch left neither frame nor record, so its sync was never finished: none of it counts
            // from the first bad entry on.
            self.cut_undecided();
            if self.scan.torn.is_none() {
                self.scan.torn = Some((self.scan.tail.last.index.next(), self.scan.tail.frames_end));
            }
        }
        let end = self.scan.tail.last.index.0;
        if self.durable > end {
            self.report_lost(LogIndex(self.durable));
            self.scan.end_unknown = true;
        }
        if !self.scan.end_unknown && matches!(self.extent, Extent::Newest { cut_from: None, closed: false, .. }) {
            self.report_astray();
        }
    }

    /// Everything behind the last entry found, up to `last`.
    fn report_lost(&mut self, last: LogIndex) {
        self.scan.report_lost(self.segment, last);
    }

    /// What looks like the end may be the work of a misdirected write.
    fn report_astray(&mut self) {
        let Some(found) = astray::trace(self.file.as_ref(), &self.segment.header, &self.scan.tail) else { return };
        self.scan.faults.push(Fault {
            segment: self.segment.name.clone(),
            offset: Some(self.scan.tail.frames_end),
            first: self.scan.tail.last.index.next(),
            last: None,
            identity: None,
            kind: FaultKind::Astray { found },
        });
        self.scan.end_unknown = true;
    }

    fn cut_undecided(&mut self) {
        if let Some(place) = self.scan.faults.iter().position(|fault| matches!(fault.kind, FaultKind::Undecided { .. }))
        {
            self.scan.cut_at(place, &self.segment.header.previous, self.segment.header.previous_tag, &self.records);
        }
    }
}

/// Whether a record and a frame in one place contradict each other, and the frame is what was there before: of two entries
/// that were written to one place after each other the later one has the higher term.
fn is_newer(record: &PersistRecord, header: &FrameHeader) -> bool {
    record.frame_checksum != header.checksum && record.position.term >= header.position.term
}

impl Scan {
    /// Takes the first undecided fault and all behind it for an unfinished write.
    pub(super) fn cut_undecided(&mut self, segment: &Segment) {
        let is_undecided = |fault: &Fault| matches!(fault.kind, FaultKind::Undecided { .. } | FaultKind::Astray { .. });
        let Some(place) = self.faults.iter().position(is_undecided) else { return };
        let Some(file) = &segment.file else { return };
        let records = valid_records(segment, file.as_ref(), Extent::SealedUnknown);
        self.cut_at(place, &segment.header.previous, segment.header.previous_tag, &records);
    }

    /// Reports what the state says was durable and is not there.
    pub(super) fn check_end(&mut self, segment: &Segment, durable: LogIndex) {
        if durable > self.tail.last.index {
            self.report_lost(segment, durable);
            self.end_unknown = true;
        }
    }

    fn report_lost(&mut self, segment: &Segment, last: LogIndex) {
        self.faults.push(Fault {
            segment: segment.name.clone(),
            offset: Some(self.tail.frames_end),
            first: self.tail.last.index.next(),
            last: Some(last),
            identity: None,
            kind: FaultKind::Lost,
        });
    }

    /// The result for a segment that was not looked into.
    pub(super) fn of_tail(tail: Tail) -> Self {
        Self { tail, proven: tail, faults: Vec::new(), lost_records: Vec::new(), torn: None, end_unknown: false }
    }

    fn cut_at(
        &mut self,
        place: usize,
        previous: &LogPosition,
        previous_tag: u64,
        records: &BTreeMap<u64, PersistRecord>,
    ) {
        let fault = &self.faults[place];
        let (first, offset) = (fault.first, fault.offset.unwrap_or(self.tail.frames_end));
        let kept = first.0 - previous.index.0 - 1;
        let by_record = |slot: u64| records.get(&slot).map(|record| (record.position, record.tag));
        let rebuilt = |slot: u64| {
            let found = self.lost_records.iter().find(|(lost, _)| *lost == slot);
            found.map(|(_, record)| (record.position, record.tag))
        };
        let last = match kept.checked_sub(1) {
            None => Some((*previous, previous_tag)),
            Some(slot) => by_record(slot).or_else(|| rebuilt(slot)),
        };
        let Some((last, last_tag)) = last else { return };
        self.faults.truncate(place);
        self.lost_records.retain(|(slot, _)| *slot < kept);
        self.tail = Tail { entries: kept, frames_end: offset, last, last_tag };
        self.torn = Some((first, offset));
        self.end_unknown = false;
    }

    /// The result for a segment whose file is of no use.
    fn of_unusable(segment: &Segment, extent: Extent) -> Self {
        let (last, last_tag) = match (extent, &segment.header.sealed) {
            (Extent::Sealed(last, tag), _) => (Some(last), tag),
            (_, Some(sealed)) => (Some(sealed.last), sealed.last_tag),
            _ => (None, segment.header.previous_tag),
        };
        let fault = Fault {
            segment: segment.name.clone(),
            offset: None,
            first: segment.header.first(),
            last: last.map(|last| last.index),
            identity: None,
            kind: segment.damage.clone().unwrap_or(FaultKind::FileMissing),
        };
        let tail = Tail { last: last.unwrap_or(segment.header.previous), last_tag, ..Tail::empty(&segment.header) };
        let end_unknown = last.is_none();
        Self { tail, proven: tail, faults: vec![fault], lost_records: Vec::new(), torn: None, end_unknown }
    }
}

fn describe(error: FrameError) -> String {
    match error {
        FrameError::Checksum { expected, found } => format!("header says {found:08x}, content has {expected:08x}"),
        other => other.to_string(),
    }
}
