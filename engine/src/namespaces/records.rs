//! What is stored of a namespace.

use crate::ids::{IndexId, TableId};
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// Number of the table, part of the disk format.
pub const NAMESPACES: TableId = TableId(1);

/// Finds a namespace by its name.
pub const BY_NAME: IndexId = IndexId(0);

/// A namespace. Its id is the number of this record.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Namespace {
    /// The key.
    pub name: String,
    /// Unix seconds.
    pub created_at: i64,
}

crate::stored_record!(Namespace, ArchivedNamespace, "namespaces");

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: NAMESPACES,
    name: "namespaces",
    indexes: &[IndexDefinition { id: BY_NAME, name: "name", kind: IndexKind::Unique }],
    keys,
    secret: false,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    keys.key(BY_NAME, Namespace::view(body)?.name.as_bytes());
    Ok(())
}
