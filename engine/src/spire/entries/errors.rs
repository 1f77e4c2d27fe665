//! Why it was refused.

use thiserror::Error;

use crate::spire::Code;
use crate::transaction::ChangeError;

/// Why a command or query was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// The target does not exist.
    #[error("datastore-sql: record not found")]
    NotFound,
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
            Self::Change(_) => Code::Unavailable,
        }
    }
}
