//! Transports from outside: two ends, and what happens between them.

mod encrypted;
mod handshake;
mod local;
mod queue;
mod snapshots;
mod sockets;
mod support;
