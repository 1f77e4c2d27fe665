//! The segmented, append-only log of one group.
