//! How large a CA journal may be, and how far one step of pruning goes.

/// Largest journal, in bytes: what SPIRE's widest SQL column holds.
pub const DATA_BYTES_MAX: usize = 16_777_215;

/// Longest authority id, in bytes. SPIRE's own are 40 hexadecimal digits.
pub const AUTHORITY_ID_BYTES_MAX: usize = 2_048;

/// Journals that one step of pruning removes at the most, whatever the request allows.
pub const PRUNE_STEP_MAX: usize = 1_000;

/// Bytes of journals after which a step of pruning stops, so that large journals do not make a huge event.
pub const PRUNE_STEP_BYTES_MAX: usize = 16 << 20;
