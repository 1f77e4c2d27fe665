//! The event: a committed fact, and its stored form.
//!
//! An event holds everything that folding needs: ids, times, sequence numbers and revisions are already in
//! it. Folding reads nothing else, so every replica that folds the same events holds the same records.
//!
//! Stored form (`docs/formats/event.md`): one byte of format version, then an rkyv archive with unaligned
//! little-endian primitives and 32-bit offsets, which is validated and then read in place.

use bytes::Bytes;
use thiserror::Error;

use crate::ids::{NamespaceId, RequestId, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp};

/// Version byte in front of every stored event.
pub const EVENT_FORMAT_VERSION: u8 = 1;

/// A committed fact: what changed, when, and on whose request.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Event {
    /// Position in the group's gap-free line of events.
    pub revision: Revision,
    /// Assigned by the deciding leader; never goes backwards from one revision to the next.
    pub time: Timestamp,
    /// The data set that it belongs to. An event never spans two.
    pub namespace: NamespaceId,
    /// The client's name for the mutation, if it gave one.
    pub request: Option<RequestStamp>,
    /// Records that changed, each at most once.
    pub changes: Vec<Change>,
    /// New items of the namespace's streams, in stream order.
    pub items: Vec<StreamItem>,
    /// Streams whose oldest items are given up.
    pub marks: Vec<LowWaterMark>,
    /// The domain's encoded answer to the caller; a repeated request gets it again.
    pub answer: Vec<u8>,
}

/// Recognises a repeated request, and a request id used for two different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RequestStamp {
    /// Chosen by the client.
    pub id: RequestId,
    /// Hash of the command that carried the id.
    pub fingerprint: u64,
}

/// One record of one table, before and after.
#[derive(Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Change {
    /// The record's table.
    pub table: TableId,
    /// The record's number in its table.
    pub sequence: Sequence,
    /// Revision that had last changed the record; `None` for a creation. Following it backwards from event to
    /// event is the record's history.
    pub previous: Option<Revision>,
    /// The record's body before; `None` for a creation.
    pub before: Option<Vec<u8>>,
    /// The record's body after; `None` for a deletion.
    pub after: Option<Vec<u8>>,
}

/// Bodies may hold secrets (join tokens), so only their sizes are printed.
impl std::fmt::Debug for Change {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Change")
            .field("table", &self.table)
            .field("sequence", &self.sequence)
            .field("previous", &self.previous)
            .field("before_bytes", &self.before.as_ref().map(Vec::len))
            .field("after_bytes", &self.after.as_ref().map(Vec::len))
            .finish()
    }
}

/// One numbered item of a stream.
#[derive(Clone, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StreamItem {
    /// The stream.
    pub stream: StreamId,
    /// The item's number in it.
    pub sequence: StreamSequence,
    /// What the item is about, as its readers name it (an entry id, a SPIFFE ID).
    pub key: Vec<u8>,
    /// Position in [`Event::changes`] of the change that it announces; `None` when no record changed.
    pub change: Option<u16>,
}

/// Items `from..to` of a stream are given up; `to` is the oldest one left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LowWaterMark {
    /// The stream.
    pub stream: StreamId,
    /// The mark before.
    pub from: StreamSequence,
    /// The mark after.
    pub to: StreamSequence,
}

/// A stored event that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EventDecodeError {
    /// Written by a newer version, or not an event at all.
    #[error("event has format version {found}, this build reads version {EVENT_FORMAT_VERSION}")]
    Version {
        /// The version byte found.
        found: u8,
    },
    /// No byte at all.
    #[error("event is empty")]
    Empty,
    /// The archive does not validate.
    #[error("event is malformed: {0}")]
    Malformed(String),
}

impl Event {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .unwrap_or_else(|error| unreachable!("archiving into memory fails only when memory does: {error}"));
        let mut bytes = Vec::with_capacity(1 + archive.len());
        bytes.push(EVENT_FORMAT_VERSION);
        bytes.extend_from_slice(&archive);
        bytes.into()
    }

    /// Validates the stored form and reads it in place, without copying.
    ///
    /// # Errors
    /// When the version is unknown or the archive does not validate.
    pub fn view(bytes: &[u8]) -> Result<&ArchivedEvent, EventDecodeError> {
        match bytes.split_first() {
            None => Err(EventDecodeError::Empty),
            Some((&EVENT_FORMAT_VERSION, archive)) => rkyv::access::<ArchivedEvent, rkyv::rancor::Error>(archive)
                .map_err(|error| EventDecodeError::Malformed(error.to_string())),
            Some((&found, _)) => Err(EventDecodeError::Version { found }),
        }
    }

    /// Reads the stored form into an owned event.
    ///
    /// # Errors
    /// As [`Event::view`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EventDecodeError> {
        rkyv::deserialize::<Self, rkyv::rancor::Error>(Self::view(bytes)?)
            .map_err(|error| EventDecodeError::Malformed(error.to_string()))
    }
}
