//! What tests that look at the whole from outside are made of.
//!
//! Tests talk to a node through the client library, over the node's own gRPC services, without sockets. Most of them
//! share one node that keeps everything in memory and work in a namespace of their own, which costs next to nothing;
//! those that stop, restart or time-travel start a node for themselves.

pub mod certificates;
pub mod check;
pub mod fixtures;
pub mod journals;
pub mod paging;
pub mod raw;
pub mod records;
pub mod server;
