//! Why it was refused.

use thiserror::Error;

use crate::spire::Code;
use crate::transaction::ChangeError;

/// Why a command or query was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// The request has no node.
    #[error("datastore-sql: invalid request: missing attested node")]
    MissingNode,
    /// The target does not exist.
    #[error("datastore-sql: record not found")]
    NotFound,
    /// There is a node with this SPIFFE ID.
    #[error("datastore-sql: UNIQUE constraint failed: attested_node_entries.spiffe_id")]
    SpiffeIdTaken,
    /// Selectors were to be taken over, and there are none.
    #[error("the list of selectors is empty")]
    MissingSelectors,
    /// A selector is given twice.
    #[error("datastore-sql: UNIQUE constraint failed: node_selectors.type_value")]
    DuplicateSelector,
    /// The state could not be read or the change not be noted.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::MissingNode | Self::MissingSelectors => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::SpiffeIdTaken | Self::DuplicateSelector => Code::AlreadyExists,
            Self::Change(_) => Code::Unavailable,
        }
    }
}
