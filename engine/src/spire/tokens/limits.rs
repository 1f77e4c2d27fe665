//! How large a join token may be.

/// Longest token, in bytes. SPIRE's own are UUIDs.
pub const TOKEN_BYTES_MAX: usize = 2_048;
