//! What is stored of a CA journal.

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

/// The table.
pub static TABLE: crate::table::TableDefinition = crate::table::TableDefinition {
    id: crate::spire::tables::CA_JOURNALS,
    name: "ca_journals",
    indexes: &[],
    keys: |_, _| Ok(()),
    secret: false,
};
