//! Whole clusters of the real code from one seed: nodes, network, disks, clocks and clients in one thread and virtual
//! time.
//!
//! The members are [`steeple_server::node::stepped::SteppedNode`]s: the same group, log writer, snapshots and
//! maintenance as in a process. What is simulated is what they stand on: disks, network, clocks, chance, and the
//! order in which their threads run.
//!
//! Reading order: [`settings`] (what a run is made of), [`world`] (the scheduler), `machine`, [`network`], `client`,
//! `consumer`, `actors` (how calls travel), `nemesis` (what goes wrong), `observe` and [`checkers`] (what must hold).
//!
//! Not simulated: the gRPC services and the client library above a node, sled below it, sockets and TLS. Those have
//! tests with real processes.

pub mod chance;
pub mod time;
pub mod trace;
pub mod coverage;
pub mod counters;
pub mod violation;
pub mod settings;
pub mod script;
pub mod directed;
pub mod network;
pub mod history;
pub mod workload;
pub mod checkers;
pub mod register;
mod machine;
mod client;
mod consumer;
mod nemesis;
mod rot;
mod nursing;
mod copies;
mod actors;
mod observe;
pub mod world;
pub mod runs;
pub mod search;

pub use settings::{Length, Settings};
pub use world::{Outcome, World};
