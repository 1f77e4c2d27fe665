//! Why it was refused.

use thiserror::Error;

use super::commands::NAME_BYTES_MAX;
use crate::code::Code;
use crate::ids::NamespaceId;
use crate::table::RecordDecodeError;
use crate::transaction::ChangeError;
use crate::view::ReadError;

/// Why a command or query about namespaces was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// Too short or too long for a name.
    #[error("namespace name has {found} bytes, it must have 1 to {NAME_BYTES_MAX}")]
    NameLength {
        /// Its length in bytes.
        found: usize,
    },
    /// Not a name.
    #[error("namespace name {name:?} may only contain ASCII letters, digits, '-', '_', '.' and '/'")]
    NameCharacters {
        /// The text given.
        name: String,
    },
    /// No namespace of this name.
    #[error("namespace {0:?} not found")]
    NameNotFound(String),
    /// No namespace with this id.
    #[error("namespace {0} not found")]
    NotFound(NamespaceId),
    /// It has to be cleared first.
    #[error("namespace {name:?} is not empty: {left} records and stream items left, clear it first")]
    NotEmpty {
        /// Its name.
        name: String,
        /// What is left.
        left: u64,
    },
    /// The list of namespaces is changed in the system namespace, and nothing else is.
    #[error("command does not belong in namespace {0}")]
    Misplaced(NamespaceId),
    /// The state could not be read or the change not be noted.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NameLength { .. } | Self::NameCharacters { .. } | Self::Misplaced(_) => Code::InvalidArgument,
            Self::NameNotFound(_) | Self::NotFound(_) => Code::NotFound,
            Self::NotEmpty { .. } => Code::FailedPrecondition,
            Self::Change(_) => Code::Unavailable,
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Change(error.into())
    }
}

impl From<RecordDecodeError> for Error {
    fn from(error: RecordDecodeError) -> Self {
        Self::Change(error.into())
    }
}
