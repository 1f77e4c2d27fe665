//! The log of a group as the consensus crate reads it: the files of `engine`, and the newest entries in memory.
//!
//! Entries that are handed to the log's writer can be read at once, before they are durable, because the consensus crate
//! asks for that. They stay in memory until they are durable, and some time longer, so that followers that keep up are
//! served without touching the disk. There is no second log.

use std::cell::RefCell;
use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{self, EntryType};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};
use steeple_engine::ids::{LogIndex, LogPosition, Term};
use steeple_engine::log::{Entry, EntryKind, LogError, LogReader};

use crate::membership::Membership;

/// Bytes of durable entries that are kept in memory for followers: several messages. One that is further behind is served from
/// the files.
const CACHED_BYTES_MAX: usize = 8 << 20;

/// What the smallest entry counts.
const ENTRY_BYTES_MIN: usize = 64;

/// Entries for which room is made before they are there at the most.
const LIKELY_MAX: usize = 4096;

/// An entry in memory.
#[derive(Clone, Debug)]
struct Recent {
    entry: eraftpb::Entry,
    tag: u64,
}

/// Implements the storage of the consensus crate.
pub(crate) struct GroupLog {
    reader: LogReader,
    initial: RaftState,
    /// What a snapshot that is taken now holds: the place folded last, and who belonged to the group there.
    applied: eraftpb::SnapshotMetadata,
    /// In index order without holes; the last one is the end of the log.
    recent: VecDeque<Recent>,
    recent_bytes: usize,
    durable: LogIndex,
    /// Why the log could not be read. The consensus crate panics over most errors, so it is told of an end of the
    /// entries instead, and whoever drives it looks here after every call.
    fault: RefCell<Option<LogError>>,
}

impl GroupLog {
    pub(crate) fn new(reader: LogReader, hard_state: eraftpb::HardState, membership: &Membership) -> Self {
        let durable = reader.last().index;
        let initial = RaftState { hard_state, conf_state: membership.conf_state() };
        let applied = eraftpb::SnapshotMetadata::default();
        Self { reader, initial, applied, recent: VecDeque::new(), recent_bytes: 0, durable, fault: RefCell::new(None) }
    }

    /// Notes what a snapshot that is taken from now on holds at the least.
    pub(crate) fn note_applied(&mut self, index: LogIndex, membership: &Membership) {
        if let Ok(term) = self.term(index.0) {
            self.applied.index = index.0;
            self.applied.term = term;
            self.applied.set_conf_state(membership.conf_state());
        }
    }

    /// Why the log could not be read, if it could not since the last call.
    pub(crate) fn take_fault(&self) -> Option<LogError> {
        self.fault.borrow_mut().take()
    }

    fn note_fault(&self, error: LogError) {
        self.fault.borrow_mut().get_or_insert(error);
    }

    /// Takes entries that follow on what is there, or replace the end of it. Answers the entries as the log stores
    /// them.
    pub(crate) fn append(&mut self, entries: Vec<eraftpb::Entry>) -> Result<Vec<Entry>, LogError> {
        let Some(first) = entries.first().map(|entry| entry.index) else { return Ok(Vec::new()) };
        self.cut_from(first);
        let mut tag = self.tag_before(first)?;
        let mut stored = Vec::with_capacity(entries.len());
        for entry in entries {
            let log_entry = to_log(&entry, tag);
            tag = log_entry.tag;
            stored.push(log_entry);
            self.recent_bytes += weight(&entry);
            self.recent.push_back(Recent { entry, tag });
        }
        Ok(stored)
    }

    /// Notes that everything up to `index` is durable, and lets go of what is only a cache by then.
    pub(crate) fn note_durable(&mut self, index: LogIndex) {
        self.durable = self.durable.max(index);
        while self.recent_bytes > CACHED_BYTES_MAX
            && self.recent.front().is_some_and(|oldest| oldest.entry.index <= self.durable.0)
        {
            let Some(oldest) = self.recent.pop_front() else { break };
            self.recent_bytes -= weight(&oldest.entry);
        }
    }

    /// The end of the log, durable or not.
    pub(crate) fn last(&self) -> LogPosition {
        match self.recent.back() {
            Some(last) => LogPosition { term: Term(last.entry.term), index: LogIndex(last.entry.index) },
            None => self.reader.last(),
        }
    }

    /// The term of an entry, without a note of what stands against it.
    pub(crate) fn term_of(&self, index: LogIndex) -> Result<Option<Term>, LogError> {
        match self.at(index.0) {
            Some(recent) => Ok(Some(Term(recent.entry.term))),
            None if index > self.last().index => Ok(None),
            None => self.reader.term(index),
        }
    }

    /// An entry as the log stores it, without a note of what stands against it.
    pub(crate) fn entry(&self, index: LogIndex) -> Result<Option<Entry>, LogError> {
        match self.at(index.0) {
            Some(recent) => Ok(Some(to_log(&recent.entry, self.tag_before(index.0)?))),
            None if index > self.last().index => Ok(None),
            None => self.reader.read(index),
        }
    }

    /// The lowest index that may be replicated.
    pub(crate) fn contiguous_from(&self) -> LogIndex {
        self.reader.contiguous_from()
    }

    fn cut_from(&mut self, index: u64) {
        while self.recent.back().is_some_and(|newest| newest.entry.index >= index) {
            let Some(newest) = self.recent.pop_back() else { break };
            self.recent_bytes -= weight(&newest.entry);
        }
        self.durable = self.durable.min(LogIndex(index.saturating_sub(1)));
    }

    /// The tag of the newest entry before this one, which the log holds or which follows on its end.
    pub(crate) fn tag_before(&self, index: u64) -> Result<u64, LogError> {
        if let Some(recent) = index.checked_sub(1).and_then(|before| self.at(before)) {
            return Ok(recent.tag);
        }
        let before = LogIndex(index.saturating_sub(1));
        if before <= self.reader.base().index {
            return Ok(self.reader.base_tag());
        }
        Ok(self.reader.tag(before)?.unwrap_or_else(|| self.reader.base_tag()))
    }

    /// About how many entries of a range are as large together as this, by the size of those in memory.
    fn likely(&self, low: u64, high: u64, bytes_max: u64) -> usize {
        let each = (self.recent_bytes / self.recent.len().max(1)).max(ENTRY_BYTES_MIN) as u64;
        let likely = high.saturating_sub(low).min(1 + bytes_max / each);
        usize::try_from(likely).map_or(LIKELY_MAX, |likely| likely.min(LIKELY_MAX))
    }

    fn recent_from(&self) -> u64 {
        self.recent.front().map_or(u64::MAX, |oldest| oldest.entry.index)
    }

    fn at(&self, index: u64) -> Option<&Recent> {
        self.recent.get(usize::try_from(index.checked_sub(self.recent_from())?).ok()?)
    }
}

impl Storage for GroupLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<eraftpb::Entry>> {
        if low < self.first_index()? {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut found = Vec::with_capacity(self.likely(low, high, limit));
        let mut bytes = 0u64;
        for index in low..high {
            let entry = match self.at(index) {
                Some(recent) => recent.entry.clone(),
                None => match self.reader.read(LogIndex(index)) {
                    Ok(Some(entry)) => from_log(&entry),
                    // Given back by compaction since the first index was looked at.
                    Ok(None) => return Err(raft::Error::Store(StorageError::Compacted)),
                    Err(error) => {
                        self.note_fault(error);
                        break;
                    }
                },
            };
            bytes += weight(&entry) as u64;
            if !found.is_empty() && bytes > limit {
                break;
            }
            found.push(entry);
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if let Some(recent) = self.at(index) {
            return Ok(recent.entry.term);
        }
        if index > self.last().index.0 {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        match self.reader.term(LogIndex(index)) {
            Ok(Some(term)) => Ok(term.0),
            Ok(None) => Err(raft::Error::Store(StorageError::Compacted)),
            Err(error) => {
                self.note_fault(error);
                // The term of nothing: whatever follows from it is thrown away.
                Ok(0)
            }
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.reader.contiguous_from().0)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index.0)
    }

    /// Whoever needs a snapshot fetches it, so that the message only says what it will hold at the least.
    fn snapshot(&self, request_index: u64, _: u64) -> raft::Result<eraftpb::Snapshot> {
        if self.applied.index == 0 || self.applied.index < request_index {
            return Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = eraftpb::Snapshot::default();
        snapshot.set_metadata(self.applied.clone());
        Ok(snapshot)
    }
}

/// What an entry counts in memory and in messages.
fn weight(entry: &eraftpb::Entry) -> usize {
    entry.data.len() + entry.context.len() + ENTRY_BYTES_MIN
}

/// An entry as the log stores it. `tag_before` is the tag of the entry before it.
pub(crate) fn to_log(entry: &eraftpb::Entry, tag_before: u64) -> Entry {
    let position = LogPosition { term: Term(entry.term), index: LogIndex(entry.index) };
    let (kind, tag, payload) = match entry.get_entry_type() {
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            (EntryKind::Membership, tag_before, entry.context.clone())
        }
        EntryType::EntryNormal if entry.data.is_empty() => (EntryKind::Empty, tag_before, Bytes::new()),
        EntryType::EntryNormal => match <[u8; 8]>::try_from(&entry.context[..]) {
            Ok(tag) => (EntryKind::Event, u64::from_be_bytes(tag), entry.data.clone()),
            Err(_) => (EntryKind::Check, tag_before, entry.data.clone()),
        },
    };
    Entry { position, kind, tag, payload }
}

/// An entry as the consensus crate holds it.
pub(crate) fn from_log(entry: &Entry) -> eraftpb::Entry {
    let LogPosition { term, index } = entry.position;
    let mut found = eraftpb::Entry { term: term.0, index: index.0, ..Default::default() };
    match entry.kind {
        EntryKind::Empty => {}
        EntryKind::Membership => {
            found.set_entry_type(EntryType::EntryConfChangeV2);
            found.context = entry.payload.clone();
        }
        EntryKind::Event => {
            found.context = Bytes::copy_from_slice(&entry.tag.to_be_bytes());
            found.data = entry.payload.clone();
        }
        EntryKind::Check => found.data = entry.payload.clone(),
    }
    found
}
