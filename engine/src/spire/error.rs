//! Rejections and failures of the domain, with the status that SPIRE expects for each.

use thiserror::Error;

use super::{bundles, entries, events, federation, imports, journals, limits, nodes, pages, selectors, tokens};
use crate::view::ReadError;

pub use crate::code::Code;

/// Why a command or query was refused. The text is part of the contract (prefixes included).
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "each variant is the collection that refused")]
pub enum Error {
    #[error(transparent)]
    Bundle(#[from] bundles::Error),
    #[error(transparent)]
    Entry(#[from] entries::Error),
    #[error(transparent)]
    Node(#[from] nodes::Error),
    #[error(transparent)]
    Token(#[from] tokens::Error),
    #[error(transparent)]
    Federation(#[from] federation::Error),
    #[error(transparent)]
    Journal(#[from] journals::Error),
    #[error(transparent)]
    Event(#[from] events::Error),
    #[error(transparent)]
    Import(#[from] imports::Error),
    #[error(transparent)]
    Page(#[from] pages::Error),
    #[error(transparent)]
    Selector(#[from] selectors::Error),
    #[error(transparent)]
    Limit(#[from] limits::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Bundle(error) => error.code(),
            Self::Entry(error) => error.code(),
            Self::Node(error) => error.code(),
            Self::Token(error) => error.code(),
            Self::Federation(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Event(error) => error.code(),
            Self::Import(error) => error.code(),
            Self::Page(_) | Self::Selector(_) | Self::Limit(_) => Code::InvalidArgument,
            Self::Read(_) => Code::Unavailable,
        }
    }
}

impl Error {
    /// The limit that was exceeded, whichever collection noticed.
    #[must_use]
    pub fn limit(&self) -> Option<&limits::Error> {
        match self {
            Self::Limit(limit)
            | Self::Bundle(bundles::Error::Limit(limit))
            | Self::Token(tokens::Error::Limit(limit))
            | Self::Federation(
                federation::Error::Limit(limit) | federation::Error::Bundle(bundles::Error::Limit(limit)),
            )
            | Self::Journal(journals::Error::Limit(limit)) => Some(limit),
            _ => None,
        }
    }
}

impl From<crate::table::RecordDecodeError> for Error {
    fn from(error: crate::table::RecordDecodeError) -> Self {
        Self::Read(error.into())
    }
}
