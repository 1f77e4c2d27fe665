//! The node as a process or inside one: threads, sockets, clock, configuration, and the `steeple` command.

pub mod authorization;
pub mod config;
pub mod node;
pub mod embedded;
pub mod peer;
pub mod grpc;
pub mod http;
mod run;
pub mod tls;
mod cluster;
pub mod cli;

pub use run::{RunError, Running, access, node_options, run};
