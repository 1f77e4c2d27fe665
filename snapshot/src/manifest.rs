//! What a snapshot holds, as it says itself: JSON in the last chunk, so that it can be extended and read by people.

use serde::{Deserialize, Serialize};
use steeple_engine::ids::{ClusterId, GroupId, HistoryId, LogIndex, LogPosition, Revision, TableId, Term, Timestamp};
use steeple_engine::view::{Digest, FoldedPosition};
use thiserror::Error;

use crate::format::{Header, Origin, SnapshotId};

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which snapshot it is.
    pub id: SnapshotId,
    /// Whose state it holds.
    pub origin: Origin,
    /// Whether it holds all events that were retained when it was taken.
    pub includes_history: bool,
    /// When it was taken, by the clock of the node.
    pub taken_at: Timestamp,
    /// The revision at which reading began.
    pub start: Revision,
    /// The state that it holds: revision, log index and time of the newest event, digest of the records.
    pub state: FoldedPosition,
    /// Term of the entry at the state's log index; `None` when the log no longer knew it.
    pub term: Option<Term>,
    /// Where the log that the entries make up begins.
    pub log_base: LogBase,
    /// Pairs of the record store. Some may be outdated by the events that follow.
    pub pairs: u64,
    /// Entries of the log, events and others.
    pub entries: u64,
    /// Events among them.
    pub events: u64,
    /// The oldest event among them.
    pub first_event: Option<Revision>,
    /// Records of each table at the end, over all namespaces; tables without records are left out.
    pub tables: Vec<TableRecords>,
    /// Chunks before the manifest's.
    pub chunks: u64,
    /// Bytes before the manifest's chunk.
    pub bytes: u64,
    /// XXH3 (128 bits) over those bytes.
    pub checksum: u128,
    /// Members of the group at the state's log index; opaque here, empty when there were none yet.
    pub membership: Vec<u8>,
}

/// Position of the entry before the first one of a log, and the newest revision up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogBase {
    /// The position.
    pub position: LogPosition,
    /// The revision.
    pub revision: Revision,
}

/// How many records a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRecords {
    /// The table.
    pub table: TableId,
    /// Its records in all namespaces.
    pub records: u64,
}

/// A manifest that cannot be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ManifestError {
    /// Not the JSON that it should be.
    #[error("manifest is malformed: {0}")]
    Malformed(String),
    /// It says other things than the snapshot shows.
    #[error("manifest and content differ in {what}")]
    Mismatch {
        /// In what.
        what: &'static str,
    },
}

impl Manifest {
    /// All records at the end.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.tables.iter().map(|table| table.records).fold(0, u64::saturating_add)
    }

    /// The manifest as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&Document::from(self))
            .unwrap_or_else(|error| unreachable!("numbers and texts are always JSON: {error}"))
    }

    /// Reads JSON. Unknown fields are passed over, so that a later version may add some.
    ///
    /// # Errors
    /// When a field is missing or is not what it should be.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        let document: Document =
            serde_json::from_slice(json).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        document.into_manifest()
    }

    pub(crate) fn check_header(&self, header: &Header) -> Result<(), ManifestError> {
        let same = Header { id: self.id, origin: self.origin, includes_history: self.includes_history } == *header;
        expect(same, "header")
    }
}

/// Fails, naming what differs.
pub(crate) fn expect(same: bool, what: &'static str) -> Result<(), ManifestError> {
    if same { Ok(()) } else { Err(ManifestError::Mismatch { what }) }
}

/// The JSON; identities, digests and blobs are hexadecimal texts.
#[derive(Serialize, Deserialize)]
struct Document {
    snapshot: String,
    cluster: String,
    group: u64,
    history: String,
    includes_history: bool,
    taken_at_micros: u64,
    start_revision: u64,
    revision: u64,
    log_index: u64,
    log_term: Option<u64>,
    time_micros: u64,
    digest: String,
    log_base: BaseDocument,
    pairs: u64,
    entries: u64,
    events: u64,
    first_event: Option<u64>,
    tables: Vec<TableDocument>,
    chunks: u64,
    bytes: u64,
    checksum: String,
    membership: String,
}

#[derive(Serialize, Deserialize)]
struct BaseDocument {
    index: u64,
    term: u64,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
struct TableDocument {
    table: u16,
    records: u64,
}

impl From<&Manifest> for Document {
    fn from(manifest: &Manifest) -> Self {
        let LogBase { position, revision } = manifest.log_base;
        let tables = manifest.tables.iter();
        Self {
            snapshot: manifest.id.to_string(),
            cluster: manifest.origin.cluster.to_string(),
            group: manifest.origin.group.0,
            history: manifest.origin.history.to_string(),
            includes_history: manifest.includes_history,
            taken_at_micros: manifest.taken_at.0,
            start_revision: manifest.start.0,
            revision: manifest.state.revision.0,
            log_index: manifest.state.index.0,
            log_term: manifest.term.map(|term| term.0),
            time_micros: manifest.state.time.0,
            digest: manifest.state.digest.to_string(),
            log_base: BaseDocument { index: position.index.0, term: position.term.0, revision: revision.0 },
            pairs: manifest.pairs,
            entries: manifest.entries,
            events: manifest.events,
            first_event: manifest.first_event.map(|revision| revision.0),
            tables: tables.map(|table| TableDocument { table: table.table.0, records: table.records }).collect(),
            chunks: manifest.chunks,
            bytes: manifest.bytes,
            checksum: format!("{:032x}", manifest.checksum),
            membership: to_hexadecimal(&manifest.membership),
        }
    }
}

impl Document {
    fn into_manifest(self) -> Result<Manifest, ManifestError> {
        let position = LogPosition { term: Term(self.log_base.term), index: LogIndex(self.log_base.index) };
        let tables = self.tables.into_iter();
        Ok(Manifest {
            id: SnapshotId(identity("snapshot", &self.snapshot)?),
            origin: Origin {
                cluster: ClusterId(identity("cluster", &self.cluster)?),
                group: GroupId(self.group),
                history: HistoryId(identity("history", &self.history)?),
            },
            includes_history: self.includes_history,
            taken_at: Timestamp(self.taken_at_micros),
            start: Revision(self.start_revision),
            state: FoldedPosition {
                revision: Revision(self.revision),
                index: LogIndex(self.log_index),
                time: Timestamp(self.time_micros),
                digest: Digest::from_bytes(identity("digest", &self.digest)?),
            },
            term: self.log_term.map(Term),
            log_base: LogBase { position, revision: Revision(self.log_base.revision) },
            pairs: self.pairs,
            entries: self.entries,
            events: self.events,
            first_event: self.first_event.map(Revision),
            tables: tables.map(|table| TableRecords { table: TableId(table.table), records: table.records }).collect(),
            chunks: self.chunks,
            bytes: self.bytes,
            checksum: u128::from_be_bytes(identity("checksum", &self.checksum)?),
            membership: from_hexadecimal(&self.membership)
                .ok_or_else(|| ManifestError::Malformed("membership is not hexadecimal".into()))?,
        })
    }
}

fn identity(what: &str, text: &str) -> Result<[u8; 16], ManifestError> {
    SnapshotId::parse(text)
        .map(|id| id.0)
        .ok_or_else(|| ManifestError::Malformed(format!("{what} is not 32 hexadecimal digits")))
}

fn to_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
