//! The protocol between clients and nodes.
//!
//! Messages and services are generated from the files in `proto/`, which are the reference; [`cursor`] is the text
//! form of a consumer's position, [`status`] the vocabulary of headers, [`serialized`] SPIRE's own form of some records, [`packed`]
//! answers that are encoded in part already, [`gather`] connections that write many small messages at once.

#[doc(hidden)]
pub mod codec;
pub mod cursor;
pub mod gather;
pub mod packed;
mod secrets;
pub mod serialized;
pub mod status;

/// Contexts of requests.
pub mod common {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("steeple.common.v1");
    }
}

/// The SPIRE datastore.
pub mod spire {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("steeple.spire.v1");
    }
}

/// Tails, histories and bootstraps.
pub mod events {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("steeple.events.v1");
    }
}

/// Looking after a node.
pub mod admin {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    pub mod v1 {
        tonic::include_proto!("steeple.admin.v1");
    }
}

/// Between the nodes of a group; of no use to clients.
pub mod peer {
    /// Version 1.
    #[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
    #[doc(hidden)]
    pub mod v1 {
        tonic::include_proto!("steeple.peer.v1");
    }
}

/// The compiled protocol description, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The largest message that clients and nodes accept from each other.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// About how much one message of a stream carries.
pub const CHUNK_BYTES: usize = 1 << 20;
