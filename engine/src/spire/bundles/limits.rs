//! How large a bundle may be.

use super::records::Bundle;
use crate::limits::{Exceeded, check_bytes, check_elements};

/// Longest trust domain id, in bytes: that of a SPIFFE ID.
pub const TRUST_DOMAIN_ID_BYTES_MAX: usize = 2_048;

/// Longest key id, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 2_048;

/// Most elements in each of a bundle's three lists.
pub const AUTHORITIES_MAX: usize = 65_536;

/// Largest bundle as stored, in bytes: what SPIRE's widest SQL column holds.
pub const BUNDLE_BYTES_MAX: usize = 16_777_215;

/// Checks everything but the stored size, which is known only once the bundle is encoded.
pub(super) fn check(bundle: &Bundle) -> Result<(), Exceeded> {
    check_bytes("trust_domain_id", bundle.trust_domain_id.len(), TRUST_DOMAIN_ID_BYTES_MAX)?;
    check_elements("root_cas", bundle.root_cas.len(), AUTHORITIES_MAX)?;
    for (list, keys) in [("jwt_signing_keys", &bundle.jwt_signing_keys), ("wit_signing_keys", &bundle.wit_signing_keys)]
    {
        check_elements(list, keys.len(), AUTHORITIES_MAX)?;
        for key in keys {
            check_bytes("kid", key.kid.len(), KEY_ID_BYTES_MAX)?;
        }
    }
    Ok(())
}
