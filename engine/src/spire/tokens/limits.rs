//! How large a join token may be, and how far one step of pruning goes.

/// Longest token, in bytes. SPIRE's own are UUIDs.
pub const TOKEN_BYTES_MAX: usize = 2_048;

/// Tokens that one step of pruning removes at the most, whatever the request allows.
pub const PRUNE_STEP_MAX: usize = 1_000;
