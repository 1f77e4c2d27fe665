//! Tables and their indexes, declared once.
//!
//! A table says how the keys of its indexes follow from a record's body; folding derives index maintenance
//! from the bodies before and after. No domain writes to an index.

use thiserror::Error;

use crate::ids::{IndexId, StreamId, TableId};

/// A table of one kind of record.
#[derive(Debug)]
pub struct TableDefinition {
    /// Its number on disk.
    pub id: TableId,
    /// Its name in errors, metrics and tools.
    pub name: &'static str,
    /// Its indexes; `indexes[i].id` is `IndexId(i)`.
    pub indexes: &'static [IndexDefinition],
    /// Emits every index key of a body. Must be a pure function of the body.
    pub keys: fn(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError>,
    /// Whether bodies hold secrets that no tool, stream or history may show.
    pub secret: bool,
}

/// One index of a table.
#[derive(Debug)]
pub struct IndexDefinition {
    /// Its number; the place in [`TableDefinition::indexes`].
    pub id: IndexId,
    /// Its name in errors, metrics and tools.
    pub name: &'static str,
    /// What it can answer.
    pub kind: IndexKind,
}

/// What an index can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexKind {
    /// Key to the one record that has it; two records with the same key are refused at decide time.
    Unique,
    /// Key to all records that carry it. A record may carry several keys; emitting one twice counts once.
    Set,
    /// As [`IndexKind::Set`], and records are also found by how many keys they carry, which the exact and
    /// subset matches need.
    CountedSet,
    /// Number to records, in number order; at most one number a record.
    Ordered,
}

/// Receives the index keys of one record.
pub trait KeySink {
    /// Whether keys of an index are taken at all; whoever emits them may leave out the others.
    fn wants(&self, _index: IndexId) -> bool {
        true
    }

    /// The record carries `key` in a unique or set index.
    fn key(&mut self, index: IndexId, key: &[u8]);

    /// The record stands at `number` in an ordered index.
    fn number(&mut self, index: IndexId, number: i64);
}

/// A stream of a namespace.
#[derive(Debug)]
pub struct StreamDefinition {
    /// Its number on disk.
    pub id: StreamId,
    /// Its name on the wire and in tools.
    pub name: &'static str,
}

/// All tables and streams that a build knows.
#[derive(Clone, Copy, Debug)]
pub struct Catalog {
    /// The tables.
    pub tables: &'static [&'static TableDefinition],
    /// The streams.
    pub streams: &'static [&'static StreamDefinition],
}

impl Catalog {
    /// The table with this number.
    #[must_use]
    pub fn table(&self, id: TableId) -> Option<&'static TableDefinition> {
        self.tables.iter().copied().find(|table| table.id == id)
    }

    /// The stream with this number.
    #[must_use]
    pub fn stream(&self, id: StreamId) -> Option<&'static StreamDefinition> {
        self.streams.iter().copied().find(|stream| stream.id == id)
    }

    /// The stream with this name.
    #[must_use]
    pub fn stream_named(&self, name: &str) -> Option<&'static StreamDefinition> {
        self.streams.iter().copied().find(|stream| stream.name == name)
    }
}

/// A record body that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RecordDecodeError {
    /// Written by a newer version.
    #[error("{table} record has version {found}, this build reads up to {newest}")]
    Version {
        /// The table.
        table: &'static str,
        /// The version byte found.
        found: u8,
        /// The newest version that this build reads.
        newest: u8,
    },
    /// The archive does not validate.
    #[error("{table} record is malformed: {detail}")]
    Malformed {
        /// The table.
        table: &'static str,
        /// What did not validate.
        detail: String,
    },
}

/// Room that encoding a record starts with; nearly all records fit, and those that do not are moved once or twice.
#[doc(hidden)]
pub const ENCODED_BYTES_USUAL: usize = 1024;

/// Gives a type its stored body: one version byte, then an rkyv archive.
#[macro_export]
macro_rules! stored_record {
    ($type:ty, $archived:ty, $table:literal) => {
        impl $type {
            /// Version byte in front of every stored body.
            pub const RECORD_VERSION: u8 = 1;

            /// The stored body.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                let mut body = Vec::with_capacity($crate::table::ENCODED_BYTES_USUAL);
                body.push(Self::RECORD_VERSION);
                // Primitives are unaligned and offsets are relative, so the version byte in front shifts nothing.
                let mut body = rkyv::api::high::to_bytes_in::<_, rkyv::rancor::Error>(self, body)
                    .unwrap_or_else(|error| unreachable!("archiving into memory fails only when memory does: {error}"));
                // Thousands of them are kept for a while.
                body.shrink_to_fit();
                body
            }

            /// Validates a stored body and reads it in place.
            ///
            /// # Errors
            /// When the version is unknown or the archive does not validate.
            pub fn view(body: &[u8]) -> Result<&$archived, $crate::table::RecordDecodeError> {
                let (version, archive) = body.split_first().ok_or_else(|| {
                    $crate::table::RecordDecodeError::Malformed { table: $table, detail: "empty body".into() }
                })?;
                if *version != Self::RECORD_VERSION {
                    return Err($crate::table::RecordDecodeError::Version {
                        table: $table,
                        found: *version,
                        newest: Self::RECORD_VERSION,
                    });
                }
                rkyv::access::<$archived, rkyv::rancor::Error>(archive).map_err(|error| {
                    $crate::table::RecordDecodeError::Malformed { table: $table, detail: error.to_string() }
                })
            }

            /// Reads a stored body into an owned record.
            ///
            /// # Errors
            /// As `view`.
            pub fn decode(body: &[u8]) -> Result<Self, $crate::table::RecordDecodeError> {
                rkyv::deserialize::<Self, rkyv::rancor::Error>(Self::view(body)?).map_err(|error| {
                    $crate::table::RecordDecodeError::Malformed { table: $table, detail: error.to_string() }
                })
            }
        }
    };
}
