//! The node as a process or inside one: threads, sockets, clock, configuration.

pub mod config;
pub mod grpc;
pub mod node;
pub mod http;
