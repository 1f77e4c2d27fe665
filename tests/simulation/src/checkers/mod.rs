//! The properties that every run must have, one file each.

pub mod acknowledged;
pub mod digests;
pub mod features;
pub mod leaders;
pub mod linearizability;
pub mod lists;
pub mod log_matching;
pub mod marks;
pub mod members;
pub mod queues;
pub mod requests;
pub mod revisions;
pub mod stale_reads;
pub mod state_machine;
pub mod streams;
pub mod tails;
pub mod wiped;

#[cfg(test)]
mod tests;
