//! The datastore as an external plugin of a SPIRE server.
//!
//! A SPIRE server starts a plugin as a process of its own and calls it over a socket ([`host`](crate::run)). This one
//! answers the calls of `spire.plugin.server.datastore.v1alpha1`, a draft that no released server asks for, and is a client of
//! a Steeple cluster and nothing else: it keeps no records, because it lives and dies with its server.

mod calls;
mod configuration;
mod connection;
mod convert;
mod handshake;
mod hcl;
mod host;
mod log;
mod running;
mod secrets;
mod service;

/// What both sides say to each other, generated from `proto/`.
pub mod protocol {
    /// What the host's library for plugins expects.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod plugin {
        tonic::include_proto!("plugin");
    }
    /// The first and the last call.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod init {
        tonic::include_proto!("spire.service.private.init.v1");
    }
    /// Configuration.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod config {
        tonic::include_proto!("spire.service.common.config.v1");
    }
    /// The datastore.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod datastore {
        tonic::include_proto!("spire.plugin.server.datastore.v1alpha1");
    }
}

pub use handshake::HandshakeError;
pub use running::{RunError, run};
