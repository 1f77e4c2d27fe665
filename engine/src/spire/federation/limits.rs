//! How large a federation relationship may be.

use super::records::Relationship;
use crate::limits::{Exceeded, check_bytes};

/// Longest trust domain name, in bytes.
pub const TRUST_DOMAIN_BYTES_MAX: usize = 2_048;

/// Longest bundle endpoint URL, in bytes.
pub const URL_BYTES_MAX: usize = 8_192;

/// Longest endpoint SPIFFE ID, in bytes.
pub const SPIFFE_ID_BYTES_MAX: usize = 2_048;

/// Checks everything but the bundle, which has limits of its own.
pub(super) fn check(relationship: &Relationship) -> Result<(), Exceeded> {
    check_bytes("trust_domain", relationship.trust_domain.len(), TRUST_DOMAIN_BYTES_MAX)?;
    check_bytes("bundle_endpoint_url", relationship.bundle_endpoint_url.len(), URL_BYTES_MAX)?;
    check_bytes("endpoint_spiffe_id", relationship.endpoint_spiffe_id.len(), SPIFFE_ID_BYTES_MAX)
}
