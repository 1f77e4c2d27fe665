//! What is stored of an import.

use crate::ids::Timestamp;
use crate::spire::tables;
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// How far the import into a namespace came. There is one at the most.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Import {
    /// Chosen by the importer from all that it is going to send, so that it knows its own import again.
    pub fingerprint: [u8; 16],
    /// Where the records come from, for people.
    pub source: String,
    /// Records that there are.
    pub total: u64,
    /// Records taken over so far; the import is complete when they are all.
    pub accepted: u64,
    /// When the first batch was taken over.
    pub began: Timestamp,
    /// When the latest was.
    pub went_on: Timestamp,
}

impl Import {
    /// Whether every record has been taken over.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.accepted >= self.total
    }
}

crate::stored_record!(Import, ArchivedImport, "imports");

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// The import that is not complete, under the empty key.
    pub const UNFINISHED: IndexId = IndexId(0);
}

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: tables::IMPORTS,
    name: "imports",
    indexes: &[IndexDefinition { id: indexes::UNFINISHED, name: "unfinished", kind: IndexKind::Unique }],
    keys,
    secret: false,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let import = Import::view(body)?;
    if import.accepted < import.total {
        keys.key(indexes::UNFINISHED, &[]);
    }
    Ok(())
}
