//! How large a CA journal may be.

/// Largest journal, in bytes: what SPIRE's widest SQL column holds.
pub const DATA_BYTES_MAX: usize = 16_777_215;

/// Longest authority id, in bytes. SPIRE's own are 40 hexadecimal digits.
pub const AUTHORITY_ID_BYTES_MAX: usize = 2_048;
