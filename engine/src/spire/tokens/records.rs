//! What is stored of a join token.

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

/// The table.
pub static TABLE: crate::table::TableDefinition = crate::table::TableDefinition {
    id: crate::spire::tables::JOIN_TOKENS,
    name: "join_tokens",
    indexes: &[],
    keys: |_, _| Ok(()),
    secret: true,
};
