//! The node as a process: threads, sockets, clock, configuration, and the `steeple` command.

pub mod config;
