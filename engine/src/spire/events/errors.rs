//! Why it was refused.

use thiserror::Error;

use crate::spire::Code;

/// Why a command or query was refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Error {
    /// There is no event of this number, or no more.
    #[error("datastore-sql: record not found")]
    NotFound,
    /// A list between two bounds.
    #[error("datastore-sql: can't set both greater and less than event id")]
    TwoBounds,
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound => Code::NotFound,
            Self::TwoBounds => Code::Unknown,
        }
    }
}
