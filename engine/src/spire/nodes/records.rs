//! What is stored of an attested node, and of node selectors.

use crate::spire::flag_key;
use crate::spire::selectors::{self, Selector};
use crate::table::{IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};

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

/// Numbers of the indexes of nodes.
pub mod indexes {
    use crate::ids::IndexId;

    /// By SPIFFE ID.
    pub const SPIFFE_ID: IndexId = IndexId(0);
    /// By attestation type; nodes without one are not in it.
    pub const ATTESTATION_TYPE: IndexId = IndexId(1);
    /// By whether it is banned, under [`crate::spire::flag_key`].
    pub const BANNED: IndexId = IndexId(2);
    /// By the flag, under [`crate::spire::flag_key`].
    pub const CAN_REATTEST: IndexId = IndexId(3);
    /// By expiry, all nodes.
    pub const EXPIRY: IndexId = IndexId(4);
    /// By expiry, nodes that are not banned and can attest again. Pruning reads it from the low end, so nodes
    /// that it has to keep never stand in its way.
    pub const REATTESTABLE_EXPIRY: IndexId = IndexId(5);
    /// By expiry, nodes that are not banned and cannot attest again.
    pub const NON_REATTESTABLE_EXPIRY: IndexId = IndexId(6);
}

/// Numbers of the indexes of node selectors.
pub mod selector_indexes {
    use crate::ids::IndexId;

    /// By SPIFFE ID.
    pub const SPIFFE_ID: IndexId = IndexId(0);
    /// By selector, under [`crate::spire::selectors::key`].
    pub const SELECTORS: IndexId = IndexId(1);
}

/// The table.
pub static TABLE: TableDefinition = TableDefinition {
    id: crate::spire::tables::NODES,
    name: "nodes",
    indexes: &[
        IndexDefinition { id: indexes::SPIFFE_ID, name: "spiffe_id", kind: IndexKind::Unique },
        IndexDefinition { id: indexes::ATTESTATION_TYPE, name: "attestation_type", kind: IndexKind::Set },
        IndexDefinition { id: indexes::BANNED, name: "banned", kind: IndexKind::Set },
        IndexDefinition { id: indexes::CAN_REATTEST, name: "can_reattest", kind: IndexKind::Set },
        IndexDefinition { id: indexes::EXPIRY, name: "expiry", kind: IndexKind::Ordered },
        IndexDefinition { id: indexes::REATTESTABLE_EXPIRY, name: "reattestable_expiry", kind: IndexKind::Ordered },
        IndexDefinition {
            id: indexes::NON_REATTESTABLE_EXPIRY,
            name: "non_reattestable_expiry",
            kind: IndexKind::Ordered,
        },
    ],
    keys: emit_keys,
    secret: false,
};

/// The table of node selectors. Its records do not need a node of that name.
pub static SELECTORS_TABLE: TableDefinition = TableDefinition {
    id: crate::spire::tables::NODE_SELECTORS,
    name: "node_selectors",
    indexes: &[
        IndexDefinition { id: selector_indexes::SPIFFE_ID, name: "spiffe_id", kind: IndexKind::Unique },
        IndexDefinition { id: selector_indexes::SELECTORS, name: "selectors", kind: IndexKind::CountedSet },
    ],
    keys: emit_selector_keys,
    secret: false,
};

impl ArchivedNode {
    /// Whether it is banned.
    #[must_use]
    pub fn is_banned(&self) -> bool {
        self.cert_serial_number.is_empty()
    }
}

fn emit_keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let node = Node::view(body)?;
    let expiry = node.cert_not_after.to_native();
    keys.key(indexes::SPIFFE_ID, node.spiffe_id.as_bytes());
    if !node.attestation_data_type.is_empty() {
        keys.key(indexes::ATTESTATION_TYPE, node.attestation_data_type.as_bytes());
    }
    keys.key(indexes::BANNED, &flag_key(node.is_banned()));
    keys.key(indexes::CAN_REATTEST, &flag_key(node.can_reattest));
    keys.number(indexes::EXPIRY, expiry);
    match (node.is_banned(), node.can_reattest) {
        (true, _) => {}
        (false, true) => keys.number(indexes::REATTESTABLE_EXPIRY, expiry),
        (false, false) => keys.number(indexes::NON_REATTESTABLE_EXPIRY, expiry),
    }
    Ok(())
}

fn emit_selector_keys(body: &[u8], keys: &mut dyn KeySink) -> Result<(), RecordDecodeError> {
    let record = NodeSelectors::view(body)?;
    keys.key(selector_indexes::SPIFFE_ID, record.spiffe_id.as_bytes());
    selectors::emit_keys(&record.selectors, selector_indexes::SELECTORS, keys);
    Ok(())
}
