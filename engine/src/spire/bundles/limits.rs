//! How large a bundle may be.

use super::records::Bundle;
use crate::spire::limits::{Error, SPIFFE_ID_BYTES_MAX, check_bytes, check_count};

/// Longest key id, in bytes.
pub const KEY_ID_BYTES_MAX: usize = 2_048;

/// Most elements in each of a bundle's three lists.
pub const AUTHORITIES_MAX: usize = 65_536;

/// Largest bundle as stored, in bytes: what SPIRE's widest SQL column holds.
pub const BUNDLE_BYTES_MAX: usize = 16_777_215;

/// Checks what the bundle is found by.
pub(super) fn check_id(bundle: &Bundle) -> Result<(), Error> {
    check_bytes("trust_domain_id", bundle.trust_domain_id.len(), SPIFFE_ID_BYTES_MAX)
}

/// Checks everything but the stored size, which is known only once the bundle is encoded.
pub(super) fn check(bundle: &Bundle) -> Result<(), Error> {
    check_id(bundle)?;
    check_count("root_cas", bundle.root_cas.len(), AUTHORITIES_MAX)?;
    for (list, keys) in [("jwt_signing_keys", &bundle.jwt_signing_keys), ("wit_signing_keys", &bundle.wit_signing_keys)]
    {
        check_count(list, keys.len(), AUTHORITIES_MAX)?;
        for key in keys {
            check_bytes("kid", key.kid.len(), KEY_ID_BYTES_MAX)?;
        }
    }
    Ok(())
}
