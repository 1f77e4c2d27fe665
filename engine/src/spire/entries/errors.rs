//! Why it was refused.

use thiserror::Error;

use super::validation::Invalid;
use crate::spire::Code;
use crate::transaction::ChangeError;

/// Why a command or query was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// The entry itself is wrong.
    #[error("datastore-validation: {0}")]
    Invalid(#[from] Invalid),
    /// The target does not exist.
    #[error("datastore-sql: record not found")]
    NotFound,
    /// Another entry has the id.
    #[error("datastore-sql: UNIQUE constraint failed: registered_entries.entry_id")]
    EntryIdTaken,
    /// A selector is given twice.
    #[error("datastore-sql: UNIQUE constraint failed: selectors.type_value")]
    DuplicateSelector,
    /// A DNS name is given twice.
    #[error("datastore-sql: UNIQUE constraint failed: dns_names.value")]
    DuplicateDnsName,
    /// The entry federates with a trust domain that has no bundle.
    #[error("unable to find federated bundle \"{0}\"")]
    MissingBundle(String),
    /// The state could not be read or the change not be noted.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::EntryIdTaken | Self::DuplicateSelector | Self::DuplicateDnsName => Code::AlreadyExists,
            Self::MissingBundle(_) => Code::Unknown,
            Self::Change(_) => Code::Unavailable,
        }
    }
}
