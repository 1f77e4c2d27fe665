//! Why it was refused.

use thiserror::Error;

use crate::spire::{Code, limits};
use crate::table::RecordDecodeError;
use crate::transaction::ChangeError;
use crate::view::ReadError;

/// Why a command or query was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// The target does not exist.
    #[error("datastore-sql: record not found")]
    NotFound,
    /// A request without token, with an empty one, or without expiry.
    #[error("token and expiry are required")]
    Required,
    /// The token is taken.
    #[error("datastore-sql: UNIQUE constraint failed: join_tokens.token")]
    AlreadyExists,
    /// Something in the request is too large.
    #[error(transparent)]
    Limit(#[from] limits::Error),
    /// The state could not be read or the change not be noted.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::Required | Self::Limit(_) => Code::InvalidArgument,
            Self::AlreadyExists => Code::AlreadyExists,
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
