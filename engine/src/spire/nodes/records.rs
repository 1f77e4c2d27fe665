//! What is stored of an attested node, and of node selectors.

use crate::spire::selectors::Selector;

/// An attested node. Banned when `cert_serial_number` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Node {
    /// The key.
    pub spiffe_id: String,
    /// How it was attested; never changes.
    pub attestation_data_type: String,
    /// Serial number of the certificate in use.
    pub cert_serial_number: String,
    /// Unix seconds.
    pub cert_not_after: i64,
    /// Serial number of the renewed certificate, not yet in use.
    pub new_cert_serial_number: String,
    /// Unix seconds; 0 means none.
    pub new_cert_not_after: i64,
    /// May attest again.
    pub can_reattest: bool,
    /// As the agent reported it.
    pub agent_version: String,
}

/// The selectors stored under a SPIFFE ID, whether or not there is a node of that name.
#[derive(Clone, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NodeSelectors {
    /// The key.
    pub spiffe_id: String,
    /// In the order given; never empty.
    pub selectors: Vec<Selector>,
}

crate::stored_record!(Node, ArchivedNode, "nodes");
crate::stored_record!(NodeSelectors, ArchivedNodeSelectors, "node_selectors");

/// The table.
pub static TABLE: crate::table::TableDefinition = crate::table::TableDefinition {
    id: crate::spire::tables::NODES,
    name: "nodes",
    indexes: &[],
    keys: |_, _| Ok(()),
    secret: false,
};

/// The table.
pub static SELECTORS_TABLE: crate::table::TableDefinition = crate::table::TableDefinition {
    id: crate::spire::tables::NODE_SELECTORS,
    name: "node_selectors",
    indexes: &[],
    keys: |_, _| Ok(()),
    secret: false,
};
