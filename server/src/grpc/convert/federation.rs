//! Federation relationships.

use steeple_engine::spire::federation::commands::RelationshipMask;
use steeple_engine::spire::federation::records::Relationship;
use steeple_wire::spire::v1 as wire;

use super::bundles;

pub(crate) fn from_wire(relationship: wire::FederationRelationship) -> Relationship {
    Relationship {
        trust_domain: relationship.trust_domain,
        bundle_endpoint_url: relationship.bundle_endpoint_url,
        bundle_endpoint_profile: relationship.bundle_endpoint_profile,
        endpoint_spiffe_id: relationship.endpoint_spiffe_id,
        bundle: relationship.trust_domain_bundle.map(bundles::from_wire),
    }
}

pub(crate) fn to_wire(relationship: Relationship) -> wire::FederationRelationship {
    wire::FederationRelationship {
        trust_domain: relationship.trust_domain,
        bundle_endpoint_url: relationship.bundle_endpoint_url,
        bundle_endpoint_profile: relationship.bundle_endpoint_profile,
        endpoint_spiffe_id: relationship.endpoint_spiffe_id,
        trust_domain_bundle: relationship.bundle.map(bundles::to_wire),
    }
}

pub(crate) fn mask_from_wire(mask: wire::FederationRelationshipMask) -> RelationshipMask {
    RelationshipMask {
        bundle_endpoint_url: mask.bundle_endpoint_url,
        bundle_endpoint_profile: mask.bundle_endpoint_profile,
        trust_domain_bundle: mask.trust_domain_bundle,
    }
}
