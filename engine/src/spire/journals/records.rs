//! What is stored of a CA journal.

use super::content::last_not_after;
use crate::spire::tables;
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// The CA state of one SPIRE server.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Journal {
    /// The record's number. In a stored body it is 0: the number is the record's key.
    pub id: u64,
    /// Opaque, except to pruning.
    pub data: Vec<u8>,
    /// Which X.509 authority is active; not unique.
    pub active_x509_authority_id: String,
}

crate::stored_record!(Journal, ArchivedJournal, "ca_journals");

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By active X.509 authority id.
    pub const AUTHORITY_ID: IndexId = IndexId(0);
    /// By when the last key expires; a journal without keys has expired since ever.
    pub const LAST_NOT_AFTER: IndexId = IndexId(1);
    /// Journals whose data cannot be read, all under the empty key.
    pub const UNDECODABLE: IndexId = IndexId(2);
}

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: tables::CA_JOURNALS,
    name: "ca_journals",
    indexes: &[
        IndexDefinition { id: indexes::AUTHORITY_ID, name: "active_x509_authority_id", kind: IndexKind::Set },
        IndexDefinition { id: indexes::LAST_NOT_AFTER, name: "last_not_after", kind: IndexKind::Ordered },
        IndexDefinition { id: indexes::UNDECODABLE, name: "undecodable", kind: IndexKind::Set },
    ],
    keys,
    secret: false,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let journal = Journal::view(body)?;
    keys.key(indexes::AUTHORITY_ID, journal.active_x509_authority_id.as_bytes());
    match last_not_after(&journal.data) {
        Ok(not_after) => keys.number(indexes::LAST_NOT_AFTER, not_after.unwrap_or(i64::MIN)),
        Err(_) => keys.key(indexes::UNDECODABLE, &[]),
    }
    Ok(())
}
