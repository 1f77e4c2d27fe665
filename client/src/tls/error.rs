//! Why TLS material is of no use, or a connection was not made.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use tokio_rustls::rustls;

/// Why there is no encrypted connection.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file is larger than any certificate.
    #[error("{path} is larger than {maximum} bytes, which no file with certificates is", path = .path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// How large it may be.
        maximum: u64,
    },
    /// A file is not what it should be.
    #[error("{path} {reason}", path = .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The parts do not work together.
    #[error("{what}: {source}")]
    Material {
        /// Which parts.
        what: String,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The address of the other side cannot be verified.
    #[error("`{0}` is neither a host name nor an IP address that a certificate can name")]
    Name(String),
    /// There is nothing to verify the other side with.
    #[error("no authority is known that could vouch for the other side")]
    NoAuthority,
    /// The other side could not be reached, or one of both sides did not accept the other.
    #[error("{address}: {source}")]
    Connect {
        /// Where.
        address: String,
        /// What was in the way.
        source: io::Error,
    },
}

impl TlsError {
    pub(super) fn content(path: &std::path::Path, reason: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), reason: reason.into() }
    }
}
