//! Attested nodes and node selectors.

use steeple_engine::spire::nodes::commands::NodeMask;
use steeple_engine::spire::nodes::queries::NodeWithSelectors;
use steeple_engine::spire::nodes::records::{Node, NodeSelectors};
use steeple_wire::spire::v1 as wire;

use super::filters::selectors_to_wire;

/// Selectors in a request are ignored: they have calls of their own.
pub(crate) fn from_wire(node: wire::AttestedNode) -> Node {
    Node {
        spiffe_id: node.spiffe_id,
        attestation_data_type: node.attestation_data_type,
        cert_serial_number: node.cert_serial_number,
        cert_not_after: node.cert_not_after,
        new_cert_serial_number: node.new_cert_serial_number,
        new_cert_not_after: node.new_cert_not_after,
        can_reattest: node.can_reattest,
        agent_version: node.agent_version,
    }
}

pub(crate) fn to_wire(node: Node) -> wire::AttestedNode {
    wire::AttestedNode {
        spiffe_id: node.spiffe_id,
        attestation_data_type: node.attestation_data_type,
        cert_serial_number: node.cert_serial_number,
        cert_not_after: node.cert_not_after,
        new_cert_serial_number: node.new_cert_serial_number,
        new_cert_not_after: node.new_cert_not_after,
        selectors: Vec::new(),
        can_reattest: node.can_reattest,
        agent_version: node.agent_version,
    }
}

pub(crate) fn with_selectors_to_wire(node: NodeWithSelectors) -> wire::AttestedNode {
    wire::AttestedNode { selectors: selectors_to_wire(node.selectors), ..to_wire(node.node) }
}

pub(crate) fn mask_from_wire(mask: wire::AttestedNodeMask) -> NodeMask {
    NodeMask {
        cert_serial_number: mask.cert_serial_number,
        cert_not_after: mask.cert_not_after,
        new_cert_serial_number: mask.new_cert_serial_number,
        new_cert_not_after: mask.new_cert_not_after,
        can_reattest: mask.can_reattest,
        agent_version: mask.agent_version,
    }
}

pub(crate) fn selectors_record_to_wire(selectors: NodeSelectors) -> wire::NodeSelectors {
    wire::NodeSelectors { spiffe_id: selectors.spiffe_id, selectors: selectors_to_wire(selectors.selectors) }
}
