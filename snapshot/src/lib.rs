//! Snapshots: the state at one revision, and if wanted the events that led there, as one file or stream.
//!
//! A snapshot is taken while folding goes on ([`stream`]): pairs of the record store are read in short steps, each at
//! whatever revision the view has reached, and the events since the first step follow. `state` is the argument, in
//! code, why that gives exactly the state at the last step. The bytes are described in `docs/formats/snapshot.md`.
//!
//! Everything that is read is checked and bounded ([`read`], [`limits`]): a snapshot may come from a damaged disk, a
//! broken transfer or an ill-meaning peer.
//!
//! Not here: networks, threads, clocks, randomness. Identities, times and the pace are the caller's.

pub mod limits;
pub mod format;
pub mod manifest;
pub mod source;
mod state;
pub mod stream;
pub mod read;
pub mod inspect;
pub mod verify;
pub mod restore;
pub mod transfer;
pub mod publish;

#[cfg(test)]
mod tests;

pub use format::{EncodedChunk, Origin, SnapshotId};
pub use inspect::inspect;
pub use manifest::Manifest;
pub use publish::Publication;
pub use read::ReadError;
pub use restore::{LoadLogError, check_finished, load_base, load_log, restore};
pub use source::{LiveSource, ReadAt, SnapshotSource};
pub use stream::{Progress, SnapshotOptions, SnapshotStream, WriteError, write};
pub use transfer::{ChunkReceiver, FileChunks};
pub use verify::{Report, verify};
