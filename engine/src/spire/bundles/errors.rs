//! Why it was refused.

use thiserror::Error;

use super::certificates;
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
    /// A request without bundle.
    #[error("datastore-sql: missing bundle in request")]
    Missing,
    /// The trust domain has a bundle.
    #[error("datastore-sql: UNIQUE constraint failed: bundles.trust_domain")]
    AlreadyExists,
    /// Deletion in restrict mode of a bundle that is in use.
    #[error("datastore-sql: cannot delete bundle; federated with {entries} registration entries")]
    Federated {
        /// How many entries use it.
        entries: u64,
    },
    /// Pruning was refused and nothing was pruned.
    #[error("prune failed: {0}")]
    Prune(#[from] PruneError),
    /// Tainting met an authority that is no certificate.
    #[error("failed to parse rootCA: {0}")]
    TaintUnparsable(certificates::Error),
    /// Nothing to taint.
    #[error("no ca found with provided subject key ID")]
    TaintNoCa,
    /// It is tainted.
    #[error("root CA is already tainted")]
    CaTainted,
    /// Revoking met an authority that is no certificate.
    #[error("failed to parse root CA: {0}")]
    RevokeUnparsable(certificates::Error),
    /// Nothing to revoke.
    #[error("no root CA found with provided subject key ID")]
    RevokeNoCa,
    /// It has to be tainted first.
    #[error("it is not possible to revoke an untainted root CA")]
    CaUntainted,
    /// Nothing to taint or revoke.
    #[error("no JWT Key found with provided key ID")]
    NoJwtKey,
    /// It is tainted.
    #[error("key is already tainted")]
    JwtKeyTainted,
    /// Tainting by an ambiguous key id.
    #[error("another JWT Key found with the same KeyID")]
    TaintAmbiguous,
    /// It has to be tainted first.
    #[error("it is not possible to revoke an untainted key")]
    JwtKeyUntainted,
    /// Revoking by an ambiguous key id.
    #[error("another key found with the same KeyID")]
    RevokeAmbiguous,
    /// Something in the request is too large, or the result would be.
    #[error(transparent)]
    Limit(#[from] limits::Error),
    /// The state could not be read or the change not be noted.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why pruning was refused.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum PruneError {
    /// The zero time, which would prune nothing and is surely a mistake.
    #[error("expiration time is zero value")]
    ZeroTime,
    /// An X.509 authority cannot be read.
    #[error("cannot parse certificates: {0}")]
    Unparsable(#[from] certificates::Error),
    /// No X.509 authority would be left.
    #[error("would prune all certificates")]
    AllCertificates,
    /// No JWT authority would be left.
    #[error("would prune all JWT signing keys")]
    AllJwtKeys,
    /// No WIT authority would be left.
    #[error("would prune all WIT signing keys")]
    AllWitKeys,
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotFound | Self::TaintNoCa | Self::RevokeNoCa | Self::NoJwtKey => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::Federated { .. } => Code::FailedPrecondition,
            Self::Missing | Self::Prune(_) => Code::Unknown,
            Self::CaTainted | Self::CaUntainted | Self::JwtKeyTainted | Self::JwtKeyUntainted | Self::Limit(_) => {
                Code::InvalidArgument
            }
            Self::TaintUnparsable(_) | Self::RevokeUnparsable(_) | Self::TaintAmbiguous | Self::RevokeAmbiguous => {
                Code::Internal
            }
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
