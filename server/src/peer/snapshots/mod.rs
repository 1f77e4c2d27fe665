//! Snapshots on their way from one node to another.
//!
//! The side that needs one fetches it: chunk by chunk into a file that keeps what has arrived, over an `Origin` that
//! is a connection of its own or the other node's [`SnapshotProvider`] directly. The side that has one serves it from a
//! file ([`ServedFile`]).

mod fetch;
mod local;
mod provider;
mod remote;

use std::io;
use std::time::Duration;

use bytes::Bytes;
use steeple_engine::ids::LogIndex;
use steeple_snapshot::{Publication, ReadError, Report};
use thiserror::Error;

pub(super) use self::fetch::{Fault, FedChunk, Feed, Origin, fetch};
pub(super) use self::local::LocalOrigin;
pub use self::provider::{ProvideError, ServedFile, ServedSnapshot, SnapshotProvider};
pub(super) use self::remote::{RemoteOrigin, Throttle, send_chunks};

/// What a node that fetches a snapshot needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedSnapshot {
    /// The log entry up to which it must reach at the least.
    pub minimum: LogIndex,
}

/// How a snapshot is fetched.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    /// Largest snapshot that is taken.
    pub bytes_max: u64,
    /// Attempts in a row that may bring nothing.
    pub attempts_max: u32,
    /// How long the other side may take for the next chunk.
    pub chunk_timeout: Duration,
    /// How long the other side may take to make a snapshot before it counts as a failure that there is none yet.
    pub making_timeout: Duration,
    /// The pause until it is asked again meanwhile.
    pub making_pause: Duration,
    /// The first pause after an attempt that failed; it doubles from one to the next, up to two seconds.
    pub pause: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            bytes_max: 1 << 40,
            attempts_max: 10,
            chunk_timeout: Duration::from_secs(60),
            making_timeout: Duration::from_secs(6 * 3600),
            making_pause: super::limits::RECONNECT_PAUSE_MAX,
            pause: super::limits::RECONNECT_PAUSE_MIN,
        }
    }
}

/// A snapshot that has arrived wholly and is sound, in a file under a temporary name. Dropping it removes the file.
#[derive(Debug)]
pub struct FetchedSnapshot {
    /// What it holds.
    pub report: Report,
    content: Content,
}

#[derive(Debug)]
enum Content {
    File(Publication),
    Memory(Bytes),
}

impl FetchedSnapshot {
    /// One in a file under a temporary name.
    fn in_file(report: Report, publication: Publication) -> Self {
        Self { report, content: Content::File(publication) }
    }

    /// One in memory, for transports without files. Verifies it.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn in_memory(bytes: Bytes) -> Result<Self, FetchError> {
        let report = steeple_snapshot::verify(&bytes[..], &mut |_| {})?;
        Ok(Self { report, content: Content::Memory(bytes) })
    }

    /// Its bytes, when it is in memory and not in a file.
    #[must_use]
    pub fn memory(&self) -> Option<Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes.clone()),
            Content::File(_) => None,
        }
    }

    /// Makes it durable under its final name, when it is in a file.
    ///
    /// # Errors
    /// When that fails; the file is gone then.
    pub fn publish(self) -> io::Result<Report> {
        if let Content::File(publication) = self.content {
            publication.publish()?;
        }
        Ok(self.report)
    }
}

/// Why no snapshot was fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The node is not known, or not at the moment.
    #[error("there is no way to the node that has the snapshot")]
    NoWay,
    /// The other side does not want to. Repeating is of no use.
    #[error("refused: {0}")]
    Refused(String),
    /// It did not come through. What has arrived is kept; fetching again goes on there.
    #[error("gave up after {attempts} attempts without progress: {last}")]
    GaveUp {
        /// Attempts in a row that brought nothing.
        attempts: u32,
        /// What went wrong the last time.
        last: String,
    },
    /// It is larger than allowed.
    #[error("the snapshot is larger than {max_bytes} bytes")]
    TooLarge {
        /// Most bytes allowed.
        max_bytes: u64,
    },
    /// All chunks are there and do not make up a snapshot. They were removed.
    #[error("the snapshot that arrived is damaged: {0}")]
    Damaged(#[from] ReadError),
    /// It reaches less far than was asked for. It was removed.
    #[error("the snapshot reaches to entry {found}, {minimum} is needed")]
    TooOld {
        /// The entry that is needed.
        minimum: LogIndex,
        /// The entry that it reaches to.
        found: LogIndex,
    },
    /// The file cannot be written.
    #[error("cannot write the snapshot: {0}")]
    Io(#[from] io::Error),
    /// The work was cut off, because the process ends.
    #[error("fetching was cut off")]
    CutOff,
}
