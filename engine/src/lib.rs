//! The event store of one node.
//!
//! Every mutation becomes an [`event::Event`] in an append-only [`log`]; folding events gives the [`view`]: records in a
//! [`record_store`] and secondary [`index`]es over them. Domains ([`spire`], [`namespaces`]) decide what a command changes.
//!
//! This crate knows no network, no consensus, no async runtime. It has no clock, no randomness and no threads of
//! its own: time, seeds and I/O are handed in.

pub mod ids;
pub mod disk;
pub mod log;
pub mod event;
pub mod table;
pub mod record_store;
pub mod index;
pub mod view;
pub mod transaction;
pub mod domain;
pub mod code;
pub mod namespaces;
pub mod spire;
pub mod history;
pub mod local;
pub mod sharded_table;
pub mod simulation;

#[cfg(test)]
mod golden_tests;
