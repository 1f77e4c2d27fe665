//! The storage-fault matrix, after "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018, section 5).
//!
//! Each case takes the disks of a group that has committed a known history and was stopped or killed, damages them,
//! starts all members, and lets virtual time pass. Members are the real log of `engine` on simulated disks and the real
//! consensus of `raft`, damaged members repair as those of a server do; only views, sockets and threads are left out.
//! Then it is looked at what became of the history ([`group::Outcome`]). The last rows are of whole nodes ([`nodes`]), whose
//! base snapshots, manifests and record stores are damaged as well as their logs ([`stores`]).

pub mod cases;
pub mod chance;
pub mod damage;
pub mod group;
pub mod history;
pub mod nodes;
pub mod report;
pub mod stores;

#[cfg(test)]
mod tests;
