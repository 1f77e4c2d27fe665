//! Keys and values in the record store; the only place that knows their layout (`docs/formats/record-store.md`).
//!
//! All numbers are big endian, so key order is sequence order.

use bytes::Bytes;
use smallvec::SmallVec;

use super::digest::Digest;
use super::reader::{Record, StreamRow, StreamState};
use crate::ids::{LogIndex, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp};

/// Prefix of what is known about the store as a whole; alone, the folded position.
const META: u8 = 0x00;
/// After [`META`]: the members of the group.
const MEMBERSHIP: u8 = 0x01;
/// After [`META`]: up to where the rows of a stream that it has given up are removed.
const REMOVED: u8 = 0x02;
/// Prefix of records.
const RECORD: u8 = 0x01;
/// Prefix of stream rows.
const ROW: u8 = 0x02;
/// Prefix of the last sequence of each table.
const LAST_SEQUENCE: u8 = 0x03;
/// Prefix of the state of each stream.
const STREAM_STATE: u8 = 0x04;

/// Stands for "no change" in a stream row.
const NO_CHANGE: u16 = u16::MAX;

/// Largest encoded membership.
pub const MEMBERSHIP_BYTES_MAX: usize = 64 << 10;

/// How far a store has been folded, and the digest of its records at that point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FoldedPosition {
    /// The newest event folded.
    pub revision: Revision,
    /// The newest log entry folded: this event, or one behind it that is none.
    pub index: LogIndex,
    /// Its time.
    pub time: Timestamp,
    /// Digest of all records.
    pub digest: Digest,
}

/// A key of the store, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKey {
    /// The folded position.
    Folded,
    /// The members of the group.
    Membership,
    /// Up to where the rows of a stream that it has given up are removed from this store. Says nothing about the group.
    Removed(NamespaceId, StreamId),
    /// A record.
    Record(NamespaceId, TableId, Sequence),
    /// A stream row.
    Row(NamespaceId, StreamId, StreamSequence),
    /// The last sequence of a table.
    LastSequence(NamespaceId, TableId),
    /// The state of a stream.
    StreamState(NamespaceId, StreamId),
}

/// A stored key; every one of ours fits in.
pub(super) type InlineKey = SmallVec<[u8; 24]>;

impl StoreKey {
    /// The stored form.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        self.encode_inline().to_vec()
    }

    /// The stored form, without an allocation.
    #[must_use]
    pub(super) fn encode_inline(self) -> InlineKey {
        match self {
            Self::Folded => SmallVec::from_slice(&[META]),
            Self::Membership => SmallVec::from_slice(&[META, MEMBERSHIP]),
            Self::Removed(namespace, stream) => removed(namespace, stream),
            Self::Record(namespace, table, sequence) => numbered(RECORD, namespace, table.0, sequence.0),
            Self::Row(namespace, stream, sequence) => numbered(ROW, namespace, stream.0, sequence.0),
            Self::LastSequence(namespace, table) => unnumbered(LAST_SEQUENCE, namespace, table.0),
            Self::StreamState(namespace, stream) => unnumbered(STREAM_STATE, namespace, stream.0),
        }
    }

    /// Reads the stored form; `None` when it is no key of ours.
    #[must_use]
    pub fn decode(key: &[u8]) -> Option<Self> {
        let (prefix, rest) = key.split_first()?;
        if *prefix == META {
            return match rest {
                [] => Some(Self::Folded),
                [MEMBERSHIP] => Some(Self::Membership),
                [REMOVED, rest @ ..] => match place(rest)? {
                    (namespace, code, []) => Some(Self::Removed(namespace, StreamId(code))),
                    _ => None,
                },
                _ => None,
            };
        }
        let (namespace, code, rest) = place(rest)?;
        let number = || rest.try_into().ok().map(u64::from_be_bytes);
        match *prefix {
            RECORD => Some(Self::Record(namespace, TableId(code), Sequence(number()?))),
            ROW => Some(Self::Row(namespace, StreamId(code), StreamSequence(number()?))),
            LAST_SEQUENCE if rest.is_empty() => Some(Self::LastSequence(namespace, TableId(code))),
            STREAM_STATE if rest.is_empty() => Some(Self::StreamState(namespace, StreamId(code))),
            _ => None,
        }
    }

    /// The bounds of [`StoreKey::Removed`].
    #[must_use]
    pub(super) fn all_removed() -> (Vec<u8>, Vec<u8>) {
        (vec![META, REMOVED], vec![META, REMOVED + 1])
    }

    /// The bounds of all records, first included and last excluded.
    #[must_use]
    pub fn all_records() -> (Vec<u8>, Vec<u8>) {
        (vec![RECORD], vec![ROW])
    }

    /// The bounds of the last sequences and stream states.
    #[must_use]
    pub fn all_counters() -> (Vec<u8>, Vec<u8>) {
        (vec![LAST_SEQUENCE], vec![STREAM_STATE + 1])
    }

    /// The bounds of all pairs that folding makes, without what is known about the store as a whole.
    #[must_use]
    pub fn all_pairs() -> (Vec<u8>, Vec<u8>) {
        (vec![RECORD], vec![0xff])
    }

    /// The bounds of all keys.
    #[must_use]
    pub fn everything() -> (Vec<u8>, Vec<u8>) {
        (Vec::new(), vec![0xff])
    }
}

fn numbered(prefix: u8, namespace: NamespaceId, code: u16, number: u64) -> InlineKey {
    let mut key = unnumbered(prefix, namespace, code);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn removed(namespace: NamespaceId, stream: StreamId) -> InlineKey {
    let mut key = SmallVec::from_slice(&[META, REMOVED]);
    key.extend_from_slice(&namespace.0.to_be_bytes());
    key.extend_from_slice(&stream.0.to_be_bytes());
    key
}

/// Splits namespace and number of a table or stream off what is behind a prefix.
fn place(bytes: &[u8]) -> Option<(NamespaceId, u16, &[u8])> {
    let (namespace, rest) = bytes.split_first_chunk::<8>()?;
    let (code, rest) = rest.split_first_chunk::<2>()?;
    Some((NamespaceId(u64::from_be_bytes(*namespace)), u16::from_be_bytes(*code), rest))
}

fn unnumbered(prefix: u8, namespace: NamespaceId, code: u16) -> InlineKey {
    let mut key = SmallVec::new();
    key.push(prefix);
    key.extend_from_slice(&namespace.0.to_be_bytes());
    key.extend_from_slice(&code.to_be_bytes());
    key
}

/// Reads big-endian numbers off the front of a value.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }
}

/// A record's value: the revision that last changed it, then its body.
pub(super) fn record_value(modified: Revision, body: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + body.len());
    value.extend_from_slice(&modified.0.to_be_bytes());
    value.extend_from_slice(body);
    value
}

/// Splits a record's value.
pub(super) fn read_record(sequence: Sequence, value: &Bytes) -> Option<Record> {
    let modified = Fields(value).number()?;
    Some(Record { sequence, modified: Revision(modified), body: value.slice(8..) })
}

/// Splits a record's value without keeping it; `None` when it is too short to be one.
#[must_use]
pub fn split_record(value: &[u8]) -> Option<(Revision, &[u8])> {
    let mut fields = Fields(value);
    let modified = fields.number()?;
    Some((Revision(modified), fields.0))
}

/// A stream row's value: revision, time, position of the change, key.
pub(super) fn row_value(revision: Revision, time: Timestamp, change: Option<u16>, key: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(18 + key.len());
    value.extend_from_slice(&revision.0.to_be_bytes());
    value.extend_from_slice(&time.0.to_be_bytes());
    value.extend_from_slice(&change.unwrap_or(NO_CHANGE).to_be_bytes());
    value.extend_from_slice(key);
    value
}

/// Reads a stream row's value.
pub(super) fn read_row(sequence: StreamSequence, value: &[u8]) -> Option<StreamRow> {
    let mut fields = Fields(value);
    let (revision, time) = (fields.number()?, fields.number()?);
    let (change, key) = fields.0.split_first_chunk::<2>()?;
    let change = Some(u16::from_be_bytes(*change)).filter(|change| *change != NO_CHANGE);
    Some(StreamRow {
        sequence,
        revision: Revision(revision),
        time: Timestamp(time),
        key: Bytes::copy_from_slice(key),
        change,
    })
}

/// The value of a table's last sequence.
pub(super) fn sequence_value(sequence: Sequence) -> Vec<u8> {
    sequence.0.to_be_bytes().to_vec()
}

/// Reads a table's last sequence.
pub(super) fn read_sequence(value: &[u8]) -> Option<Sequence> {
    value.try_into().ok().map(u64::from_be_bytes).map(Sequence)
}

/// The value of [`StoreKey::Removed`]: the oldest row that may still be there.
pub(super) fn removed_value(oldest: StreamSequence) -> Vec<u8> {
    oldest.0.to_be_bytes().to_vec()
}

/// Reads [`removed_value`].
pub(super) fn read_removed(value: &[u8]) -> Option<StreamSequence> {
    value.try_into().ok().map(u64::from_be_bytes).map(StreamSequence)
}

/// The value of a stream's state: last sequence, low-water mark.
pub(super) fn stream_value(state: StreamState) -> Vec<u8> {
    [state.last.0.to_be_bytes(), state.low_water.0.to_be_bytes()].concat()
}

/// Reads a stream's state.
pub(super) fn read_stream(value: &[u8]) -> Option<StreamState> {
    let mut fields = Fields(value);
    let state = StreamState { last: StreamSequence(fields.number()?), low_water: StreamSequence(fields.number()?) };
    fields.0.is_empty().then_some(state)
}

impl FoldedPosition {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(40);
        for number in [self.revision.0, self.index.0, self.time.0] {
            value.extend_from_slice(&number.to_be_bytes());
        }
        value.extend_from_slice(&self.digest.to_bytes());
        value
    }

    /// Reads the stored form.
    #[must_use]
    pub fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let (revision, index, time) = (fields.number()?, fields.number()?, fields.number()?);
        let digest = Digest::from_bytes(fields.0.try_into().ok()?);
        Some(Self { revision: Revision(revision), index: LogIndex(index), time: Timestamp(time), digest })
    }
}
