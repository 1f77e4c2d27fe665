//! How large a federation relationship may be.

use super::commands::RelationshipMask;
use super::records::{Relationship, StoredRelationship};
use crate::spire::limits::{Error, SPIFFE_ID_BYTES_MAX, check_bytes};

/// Longest bundle endpoint URL, in bytes.
pub const URL_BYTES_MAX: usize = 8_192;

/// Longest name of a profile that was not asked for here but taken over, in bytes.
pub const PROFILE_BYTES_MAX: usize = 255;

/// Largest bundle that may come with a relationship, in bytes as stored. Smaller than for a bundle alone: the event
/// holds it before and after, and once more in the answer.
pub const BUNDLE_BYTES_MAX: usize = 8 << 20;

/// Checks those fields of the relationship that are in the mask, and its bundle as far as a bundle alone would not be
/// checked.
pub(super) fn check(relationship: &Relationship, mask: RelationshipMask) -> Result<(), Error> {
    check_bytes("trust_domain", relationship.trust_domain.len(), SPIFFE_ID_BYTES_MAX)?;
    if mask.bundle_endpoint_url {
        check_bytes("bundle_endpoint_url", relationship.bundle_endpoint_url.len(), URL_BYTES_MAX)?;
    }
    if mask.bundle_endpoint_profile {
        check_bytes("endpoint_spiffe_id", relationship.endpoint_spiffe_id.len(), SPIFFE_ID_BYTES_MAX)?;
    }
    match relationship.bundle.as_ref().filter(|_| mask.trust_domain_bundle) {
        Some(bundle) => check_bytes("trust_domain_bundle", bundle.encode().len(), BUNDLE_BYTES_MAX),
        None => Ok(()),
    }
}

/// Checks a relationship that is taken over as it is, whatever its profile.
pub(super) fn check_stored(relationship: &StoredRelationship) -> Result<(), Error> {
    check_bytes("trust_domain", relationship.trust_domain.len(), SPIFFE_ID_BYTES_MAX)?;
    check_bytes("bundle_endpoint_url", relationship.bundle_endpoint_url.len(), URL_BYTES_MAX)?;
    check_bytes("bundle_endpoint_profile", relationship.bundle_endpoint_profile.len(), PROFILE_BYTES_MAX)?;
    check_bytes("endpoint_spiffe_id", relationship.endpoint_spiffe_id.len(), SPIFFE_ID_BYTES_MAX)
}
