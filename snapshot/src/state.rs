//! Whether the pieces of a snapshot add up to one state, checked piece by piece in little memory.
//!
//! Pairs are read in steps `1..=n`, each at the revision that the view had reached: `S = r1 <= r2 <= ... <= rn = E`. A
//! step covers the keys above the last key of the step before, up to its own last key; the last step covers the rest.
//! So what a snapshot holds of key `k` is exactly what the store held at revision `r(k)`, the revision of the step that
//! covers `k`. Folding the events of `(S, E]` over it in order gives the state at `E`: those up to `r(k)` have left
//! their traces in `k` already, and writing them again ends where the last of them left it; those above follow.
//!
//! The digest of the state at `E` is therefore the sum over the pairs, plus what the events above `r(k)` change at each
//! `k`. To know `r(k)` it takes the last key and the revision of each step, and no record at all.

use std::collections::BTreeMap;

use bytes::Bytes;
use steeple_engine::event::{Event, EventDecodeError};
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, Revision, Sequence, TableId};
use steeple_engine::view::keys::split_record;
use steeple_engine::view::{Digest, FoldedPosition, MAX_MARK_SPAN, StoreKey};
use thiserror::Error;

use crate::format::{visit_entries, visit_pairs};
use crate::limits::MAX_POSITION;
use steeple_engine::log::{Entry, EntryKind};

/// Place of a record among all records, in key order.
type RecordPlace = (u64, u16, u64);

const LAST_PLACE: RecordPlace = (u64::MAX, u16::MAX, u64::MAX);

/// Why the pieces do not add up.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum StateError {
    /// The bytes of a chunk are not laid out as they should be.
    #[error("its payload is malformed")]
    Malformed,
    /// A key does not follow the one before it.
    #[error("pair {pair} is not above the one before it")]
    KeyOrder {
        /// Number of the pair in the snapshot.
        pair: u64,
    },
    /// A pair that the view never writes.
    #[error("pair {pair} is none that a record store of ours may hold")]
    Pair {
        /// Number of the pair in the snapshot.
        pair: u64,
    },
    /// Pairs were read at an earlier revision than those before them, or hold what was changed later.
    #[error("pairs read at revision {found} follow or contain those of revision {reached}")]
    Backwards {
        /// The revision reached before.
        reached: Revision,
        /// The revision found.
        found: Revision,
    },
    /// An entry does not follow the one before it, or lies beyond the end of the snapshot.
    #[error("entry {found} is out of order")]
    EntryOrder {
        /// The entry.
        found: LogPosition,
    },
    /// An event cannot be read.
    #[error("event in entry {index}: {error}")]
    Event {
        /// The entry.
        index: LogIndex,
        /// What is wrong with it.
        error: EventDecodeError,
    },
    /// An event says other things about itself than its entry does, or gives up more than any event may.
    #[error("event in entry {index} is inconsistent")]
    Inconsistent {
        /// The entry.
        index: LogIndex,
    },
    /// An event is missing that it takes to make the state exact; the log no longer holds it, or it was left out.
    #[error("event {expected} is missing")]
    Missing {
        /// The event.
        expected: Revision,
    },
    /// The state is another one than the view had.
    #[error("records at revision {revision} have digest {found}, the view had {expected}")]
    Digest {
        /// The end of the snapshot.
        revision: Revision,
        /// The digest that the view had.
        expected: Digest,
        /// The digest of what the snapshot holds.
        found: Digest,
    },
    /// There is not a single chunk of pairs, so there is no revision.
    #[error("there are no pairs, not even an empty chunk of them")]
    NoPairs,
}

/// What a whole snapshot amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) start: FoldedPosition,
    pub(crate) end: FoldedPosition,
    pub(crate) pairs: u64,
    pub(crate) entries: u64,
    pub(crate) events: u64,
    pub(crate) first_entry: Option<LogIndex>,
    pub(crate) last_entry: Option<LogIndex>,
    pub(crate) first_event: Option<Revision>,
    pub(crate) records: BTreeMap<TableId, u64>,
}

/// Follows the chunks of a snapshot, whether it is being written or read.
#[derive(Default)]
pub(crate) struct StateTracker {
    start: Option<FoldedPosition>,
    /// Position of the newest step.
    reached: FoldedPosition,
    last_key: Vec<u8>,
    /// Up to which record, and at which revision; a run of steps at one revision is kept as one.
    steps: Vec<(RecordPlace, Revision)>,
    digest: Digest,
    records: BTreeMap<TableId, u64>,
    pairs: u64,
    entries: u64,
    events: u64,
    first_entry: Option<LogIndex>,
    first_event: Option<Revision>,
    last_entry: LogPosition,
    last_tag: u64,
    last_event: Revision,
}

impl StateTracker {
    /// Position of the first step; `None` before there was one.
    pub(crate) fn start(&self) -> Option<FoldedPosition> {
        self.start
    }

    /// Position of the newest step.
    pub(crate) fn reached(&self) -> FoldedPosition {
        self.reached
    }

    pub(crate) fn pairs(&self) -> u64 {
        self.pairs
    }

    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Takes the payload of a chunk of pairs.
    pub(crate) fn accept_pairs(&mut self, payload: &[u8]) -> Result<(), StateError> {
        let mut newest_change = Revision::ZERO;
        let read_at = visit_pairs(payload, |key, value| {
            newest_change = newest_change.max(self.accept_pair(key, value)?);
            Ok(())
        })?
        .ok_or(StateError::Malformed)?;
        if [read_at.revision.0, read_at.index.0, read_at.time.0].iter().any(|number| *number > MAX_POSITION) {
            return Err(StateError::Malformed);
        }
        if read_at.revision < self.reached.revision || read_at.index < self.reached.index {
            return Err(StateError::Backwards { reached: self.reached.revision, found: read_at.revision });
        }
        if newest_change > read_at.revision {
            return Err(StateError::Backwards { reached: newest_change, found: read_at.revision });
        }
        self.start.get_or_insert(read_at);
        self.reached = read_at;
        let covered = place_covered(&self.last_key);
        match self.steps.last_mut() {
            Some((place, revision)) if *revision == read_at.revision => *place = covered,
            _ => self.steps.push((covered, read_at.revision)),
        }
        Ok(())
    }

    /// Takes a pair and returns the revision that last changed it, zero for what is no record.
    fn accept_pair(&mut self, key: &[u8], value: &[u8]) -> Result<Revision, StateError> {
        self.pairs += 1;
        if key <= self.last_key.as_slice() {
            return Err(StateError::KeyOrder { pair: self.pairs });
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        let known = match StoreKey::decode(key) {
            Some(StoreKey::Record(namespace, table, sequence)) => match split_record(value) {
                Some((modified, body)) => {
                    self.digest.add(namespace, table, sequence, modified, body);
                    *self.records.entry(table).or_default() += 1;
                    return Ok(modified);
                }
                None => false,
            },
            Some(StoreKey::Row(..)) => value.len() >= 18,
            Some(StoreKey::LastSequence(..)) => value.len() == 8,
            Some(StoreKey::StreamState(..)) => value.len() == 16,
            Some(StoreKey::Folded | StoreKey::Membership | StoreKey::Removed(..)) | None => false,
        };
        if known { Ok(Revision::ZERO) } else { Err(StateError::Pair { pair: self.pairs }) }
    }

    /// Takes the payload of a chunk of entries. No pairs may follow.
    pub(crate) fn accept_entries(&mut self, payload: &Bytes) -> Result<(), StateError> {
        if visit_entries(payload, |entry| self.accept_entry(&entry))? { Ok(()) } else { Err(StateError::Malformed) }
    }

    fn accept_entry(&mut self, entry: &Entry) -> Result<(), StateError> {
        let Entry { position, kind, tag, payload } = entry;
        let follows = position.index > self.last_entry.index
            && position.term >= self.last_entry.term
            && position.term.0 <= MAX_POSITION
            && *tag >= self.last_tag
            && position.index <= self.reached.index
            && *tag <= self.reached.revision.0;
        if !follows {
            return Err(StateError::EntryOrder { found: *position });
        }
        (self.last_entry, self.last_tag) = (*position, *tag);
        self.first_entry.get_or_insert(position.index);
        self.entries += 1;
        if *kind == EntryKind::Event {
            self.events += 1;
            self.accept_event(position.index, Revision(*tag), payload)?;
        }
        Ok(())
    }

    fn accept_event(&mut self, index: LogIndex, revision: Revision, payload: &[u8]) -> Result<(), StateError> {
        let start = self.start.ok_or(StateError::NoPairs)?.revision;
        let undecodable = |error| StateError::Event { index, error };
        let stored = Event::view(payload).map_err(undecodable)?;
        if stored.revision != revision || revision <= self.last_event {
            return Err(StateError::Inconsistent { index });
        }
        if revision > start {
            let expected = self.last_event.max(start).next();
            if revision != expected {
                return Err(StateError::Missing { expected });
            }
            let event = Event::decode(payload).map_err(undecodable)?;
            self.follow_event(&event).ok_or(StateError::Inconsistent { index })?;
        }
        self.first_event.get_or_insert(revision);
        self.last_event = revision;
        Ok(())
    }

    /// Adds what the event changes in keys that were read before it was folded; `None` when that cannot be.
    fn follow_event(&mut self, event: &Event) -> Option<()> {
        let given_up = event.marks.iter().map(|mark| mark.to.0.saturating_sub(mark.from.0));
        if given_up.fold(0, u64::saturating_add) > MAX_MARK_SPAN {
            return None;
        }
        for change in &event.changes {
            if event.revision <= self.read_at(event.namespace, change.table, change.sequence) {
                continue;
            }
            let count = self.records.entry(change.table).or_default();
            match (&change.before, change.previous) {
                (Some(before), Some(previous)) => {
                    self.digest.remove(event.namespace, change.table, change.sequence, previous, before);
                    *count = count.checked_sub(1)?;
                }
                (None, None) => {}
                _ => return None,
            }
            if let Some(after) = &change.after {
                self.digest.add(event.namespace, change.table, change.sequence, event.revision, after);
                *count += 1;
            }
        }
        Some(())
    }

    /// The revision at which a record's key was read, whether there was a record or not.
    fn read_at(&self, namespace: NamespaceId, table: TableId, sequence: Sequence) -> Revision {
        let wanted = (namespace.0, table.0, sequence.0);
        let step = self.steps.partition_point(|(covered, _)| *covered < wanted);
        self.steps.get(step).map_or(self.reached.revision, |(_, revision)| *revision)
    }

    /// Says what it all amounts to.
    pub(crate) fn finish(&self) -> Result<Totals, StateError> {
        let (start, end) = (self.start.ok_or(StateError::NoPairs)?, self.reached);
        let last_event = self.last_event.max(start.revision);
        if last_event != end.revision {
            return Err(StateError::Missing { expected: last_event.next() });
        }
        if self.digest != end.digest {
            return Err(StateError::Digest { revision: end.revision, expected: end.digest, found: self.digest });
        }
        let records = self.records.iter().filter(|(_, count)| **count > 0).map(|(table, count)| (*table, *count));
        Ok(Totals {
            start,
            end,
            pairs: self.pairs,
            entries: self.entries,
            events: self.events,
            first_entry: self.first_entry,
            last_entry: self.first_entry.map(|_| self.last_entry.index),
            first_event: self.first_event,
            records: records.collect(),
        })
    }
}

/// The last record that is covered once `key` is.
fn place_covered(key: &[u8]) -> RecordPlace {
    match StoreKey::decode(key) {
        Some(StoreKey::Record(namespace, table, sequence)) => (namespace.0, table.0, sequence.0),
        // No key yet: nothing is covered that could be a record, because sequences start at 1.
        None => (0, 0, 0),
        Some(_) => LAST_PLACE,
    }
}
