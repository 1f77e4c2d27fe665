//! What is stored of a join token.

use crate::spire::tables;
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

/// A join token. Whoever knows the text may attest once with it.
#[derive(Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct JoinToken {
    /// The secret, and the key.
    pub token: String,
    /// Unix seconds.
    pub expiry: i64,
}

/// The token itself must never reach a log line.
impl std::fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("JoinToken").field("expiry", &self.expiry).finish_non_exhaustive()
    }
}

crate::stored_record!(JoinToken, ArchivedJoinToken, "join_tokens");

/// Numbers of the indexes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By token.
    pub const TOKEN: IndexId = IndexId(0);
    /// By expiry.
    pub const EXPIRY: IndexId = IndexId(1);
}

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: tables::JOIN_TOKENS,
    name: "join_tokens",
    indexes: &[
        IndexDefinition { id: indexes::TOKEN, name: "token", kind: IndexKind::Unique },
        IndexDefinition { id: indexes::EXPIRY, name: "expiry", kind: IndexKind::Ordered },
    ],
    keys,
    secret: true,
};

fn keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let token = JoinToken::view(body)?;
    keys.key(indexes::TOKEN, token.token.as_bytes());
    keys.number(indexes::EXPIRY, token.expiry.to_native());
    Ok(())
}
