//! Consensus of one group, as state machines without I/O.
//!
//! Commands, persistence results and times go in; entries to append and answers come out. Whoever drives this crate
//! owns the threads, the clock, the log and the network, so that the same code runs under a runtime and inside a
//! simulator. At present a group has one member: an entry is committed once it is durable here.

pub mod consensus;
pub mod requests;
pub mod pipeline;

#[cfg(test)]
mod tests;

pub use consensus::Consensus;
pub use pipeline::{Outcome, Pipeline, PipelineError, Submission, Ticket};
pub use requests::RequestLedger;
