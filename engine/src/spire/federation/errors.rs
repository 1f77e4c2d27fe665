//! Why it was refused.

use thiserror::Error;

use crate::spire::{Code, bundles, limits};
use crate::table::RecordDecodeError;
use crate::transaction::ChangeError;
use crate::view::ReadError;

/// Why a command or query was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// A request without relationship.
    #[error("federation relationship is nil")]
    Missing,
    /// A request that does not say which relationship it is about.
    #[error("trust domain is required")]
    TrustDomainRequired,
    /// A relationship needs a URL.
    #[error("bundle endpoint URL is required")]
    UrlRequired,
    /// The `https_spiffe` profile needs an endpoint SPIFFE ID.
    #[error("bundle endpoint SPIFFE ID is required")]
    EndpointSpiffeIdRequired,
    /// Neither `https_spiffe` nor `https_web`.
    #[error("unknown bundle endpoint profile type: \"{0}\"")]
    UnknownProfile(String),
    /// The relationship to update does not exist.
    #[error("unable to fetch federation relationship: record not found")]
    UpdateNotFound,
    /// The relationship to delete does not exist.
    #[error("datastore-sql: record not found")]
    NotFound,
    /// The trust domain has a relationship.
    #[error("datastore-sql: UNIQUE constraint failed: federated_trust_domains.trust_domain")]
    AlreadyExists,
    /// The bundle that came with the relationship was refused.
    #[error(transparent)]
    Bundle(#[from] bundles::Error),
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
            Self::Missing
            | Self::TrustDomainRequired
            | Self::UrlRequired
            | Self::EndpointSpiffeIdRequired
            | Self::UnknownProfile(_)
            | Self::Limit(_) => Code::InvalidArgument,
            Self::UpdateNotFound | Self::NotFound => Code::NotFound,
            Self::AlreadyExists => Code::AlreadyExists,
            Self::Bundle(error) => error.code(),
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
