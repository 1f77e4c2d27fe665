//! Consensus of one group, as state machines without I/O.
//!
//! Commands, persistence results and times go in; entries to append and answers come out. Whoever drives this crate
//! owns the threads, the clock, the log and the network, so that the same code runs under a runtime and inside a
//! simulator. [`Replica`] drives the consensus crate, and [`Pipeline`] decides while its replica leads.

pub mod incarnation;
pub mod membership;
pub mod requests;
pub mod pipeline;
pub mod replica;
pub mod repair;
mod group_log;

#[cfg(test)]
mod tests;

pub use incarnation::Incarnation;
pub use membership::{Member, Membership, MembershipChange, Role, Step};
pub use pipeline::{Abandoned, NotProposed, Outcome, Pipeline, PipelineError, Submission, Ticket};
pub use raft::eraftpb;
pub use repair::{Configuration, Need, Obstacle, Patient, Question, Repair, Statement, Verdict, Wanted};
pub use replica::{
    FollowerProgress, Leadership, LeaseGround, MessageRefused, Output, ProposalRefused, ReadIndex, Replica,
    ReplicaError, ReplicaOptions, SnapshotOffer, TransferRefused, Write, WriteNumber,
};
pub use requests::RequestLedger;
