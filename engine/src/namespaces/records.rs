//! What is stored of a namespace.

use crate::ids::TableId;
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// Number of the table, part of the disk format.
pub const NAMESPACES: TableId = TableId(1);

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By name.
    pub const NAME: IndexId = IndexId(0);
}

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
    indexes: &[IndexDefinition { id: indexes::NAME, name: "name", kind: IndexKind::Unique }],
    keys,
    secret: false,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    keys.key(indexes::NAME, Namespace::view(body)?.name.as_bytes());
    Ok(())
}
