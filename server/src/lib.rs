//! The node as a process or inside one: threads, sockets, clock, configuration.

pub mod config;
pub mod node;
pub mod grpc;
pub mod http;
mod run;

pub use run::{RunError, Running, node_options, run};
