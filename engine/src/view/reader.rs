//! How domains read: one interface over the committed view, and over the leader's overlay on top of it.

use std::ops::ControlFlow;

use bytes::Bytes;
use thiserror::Error;

use crate::ids::{IndexId, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp};
use crate::index::Query;
use crate::record_store::RecordStoreError;
use crate::table::RecordDecodeError;

/// A record as stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in its table.
    pub sequence: Sequence,
    /// The event that last changed it.
    pub modified: Revision,
    /// Its body, as the table's record type encodes it.
    pub body: Bytes,
}

/// Bodies may hold secrets, so only the size is printed.
impl std::fmt::Debug for Record {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Record")
            .field("sequence", &self.sequence)
            .field("modified", &self.modified)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// Where a stream stands. Sequences `low_water..=last` exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamState {
    /// The newest item; zero when there never was one.
    pub last: StreamSequence,
    /// The oldest item still kept; `last + 1` when none is. Starts at 1 and only rises.
    pub low_water: StreamSequence,
}

/// One item of a stream, without the change that it announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRow {
    /// Its number.
    pub sequence: StreamSequence,
    /// The event that made it.
    pub revision: Revision,
    /// That event's time.
    pub time: Timestamp,
    /// What it is about (an entry id, a SPIFFE ID).
    pub key: Bytes,
    /// Position in the event's changes; `None` when no record changed.
    pub change: Option<u16>,
}

/// Why a read failed. None of these is the caller's fault.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The record store failed and has to be rebuilt.
    #[error(transparent)]
    Store(#[from] RecordStoreError),
    /// A stored body cannot be read.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
    /// An index named a record that the store does not hold: the view is damaged and has to be rebuilt.
    #[error("table {table} of namespace {namespace} lists record {sequence}, which its store does not hold")]
    Missing {
        /// The namespace.
        namespace: NamespaceId,
        /// The table.
        table: TableId,
        /// The record.
        sequence: Sequence,
    },
}

/// Records that are being collected until their bodies are too many bytes.
pub(super) struct Records {
    records: Vec<Record>,
    bytes_left: usize,
}

impl Records {
    /// No record yet, of `expected`.
    pub(super) fn new(expected: usize, bytes_max: usize) -> Self {
        Self { records: Vec::with_capacity(expected), bytes_left: bytes_max }
    }

    /// Adds a record; breaks when it is to be the last.
    pub(super) fn push(&mut self, record: Record) -> ControlFlow<()> {
        self.bytes_left = self.bytes_left.saturating_sub(record.body.len());
        self.records.push(record);
        if self.bytes_left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub(super) fn into_vec(self) -> Vec<Record> {
        self.records
    }
}

/// A state at one revision.
pub trait Reader {
    /// The newest event that this state reflects.
    fn revision(&self) -> Revision;

    /// A record by its number.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn get(&self, namespace: NamespaceId, table: TableId, sequence: Sequence) -> Result<Option<Record>, ReadError>;

    /// Records that an index named and that therefore have to exist, in the order of their ascending numbers. Their
    /// bodies come to less than `bytes_max` without the last one, which is where it stops.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn get_up_to(
        &self,
        namespace: NamespaceId,
        table: TableId,
        sequences: &[Sequence],
        bytes_max: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let mut records = Records::new(sequences.len(), bytes_max);
        for sequence in sequences {
            let record = self.get(namespace, table, *sequence)?;
            let missing = ReadError::Missing { namespace, table, sequence: *sequence };
            if records.push(record.ok_or(missing)?).is_break() {
                break;
            }
        }
        Ok(records.into_vec())
    }

    /// The number of the record that has `key` in a unique index.
    fn find(&self, namespace: NamespaceId, table: TableId, index: IndexId, key: &[u8]) -> Option<Sequence>;

    /// The numbers of the first `limit` records above `after` that a query selects, ascending.
    fn select(
        &self,
        namespace: NamespaceId,
        table: TableId,
        query: &Query,
        after: Sequence,
        limit: usize,
    ) -> Vec<Sequence>;

    /// How many records a query selects.
    fn count(&self, namespace: NamespaceId, table: TableId, query: &Query) -> u64;

    /// The numbers of up to `limit` records whose number in an ordered index is below `number`, lowest first.
    fn select_lowest(
        &self,
        namespace: NamespaceId,
        table: TableId,
        index: IndexId,
        below: i64,
        limit: usize,
    ) -> Vec<Sequence>;

    /// The number most recently given to a record of the table; zero when there never was one.
    fn last_sequence(&self, namespace: NamespaceId, table: TableId) -> Sequence;

    /// Where a stream stands.
    fn stream(&self, namespace: NamespaceId, stream: StreamId) -> StreamState;

    /// Up to `limit` items with a number above `after`, ascending.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn stream_rows(
        &self,
        namespace: NamespaceId,
        stream: StreamId,
        after: StreamSequence,
        limit: usize,
    ) -> Result<Vec<StreamRow>, ReadError>;
}

/// What follows from [`Reader`] for every implementation.
pub trait ReaderExtension: Reader {
    /// The record that has `key` in a unique index.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn get_by_key(
        &self,
        namespace: NamespaceId,
        table: TableId,
        index: IndexId,
        key: &[u8],
    ) -> Result<Option<Record>, ReadError> {
        match self.find(namespace, table, index, key) {
            Some(sequence) => self.get_listed(namespace, table, sequence).map(Some),
            None => Ok(None),
        }
    }

    /// A record that an index named and that therefore has to exist.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn get_listed(&self, namespace: NamespaceId, table: TableId, sequence: Sequence) -> Result<Record, ReadError> {
        self.get(namespace, table, sequence)?.ok_or(ReadError::Missing { namespace, table, sequence })
    }

    /// As [`Reader::get_up_to`], however many bytes they are.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn get_all(
        &self,
        namespace: NamespaceId,
        table: TableId,
        sequences: &[Sequence],
    ) -> Result<Vec<Record>, ReadError> {
        self.get_up_to(namespace, table, sequences, usize::MAX)
    }

    /// The records behind [`Reader::select`].
    ///
    /// # Errors
    /// See [`ReadError`].
    fn records(
        &self,
        namespace: NamespaceId,
        table: TableId,
        query: &Query,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        self.get_all(namespace, table, &self.select(namespace, table, query, after, limit))
    }
}

impl<R: Reader + ?Sized> ReaderExtension for R {}
