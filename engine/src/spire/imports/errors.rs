//! Why it was refused.

use thiserror::Error;

use crate::spire::{self, Code};
use crate::transaction::ChangeError;

/// Why a batch, or a command beside an import, was refused.
#[derive(Debug, Error)]
pub enum Error {
    /// Something was stored before, and maybe deleted again.
    #[error("an import needs a namespace that never held anything; {table} of this one were written to")]
    NotEmpty {
        /// Name of a table that has, or had, records.
        table: &'static str,
    },
    /// Another import was begun, or the same source with other records.
    #[error("this namespace holds {accepted} of {total} records of another import, from {origin}")]
    Other {
        /// Records that it took over.
        accepted: u64,
        /// Records that it has.
        total: u64,
        /// Where its records come from.
        origin: String,
    },
    /// A batch came twice, or one is missing.
    #[error("the import stands at record {accepted}, the batch begins at {position}")]
    Position {
        /// Records taken over so far.
        accepted: u64,
        /// Records that the batch supposes to be.
        position: u64,
    },
    /// More records than were announced, or a batch of none.
    #[error("a batch of {records} records from {position} on does not fit an import of {total}")]
    Size {
        /// Records in the batch.
        records: u64,
        /// Where it begins.
        position: u64,
        /// Records of the whole import.
        total: u64,
    },
    /// One record cannot be taken over, so none of its batch is.
    #[error("record {number} of the import, {what}: {reason}")]
    Record {
        /// Its place in the import, from 1 on.
        number: u64,
        /// What it is.
        what: String,
        /// What is wrong with it.
        reason: Box<spire::Error>,
    },
    /// Something that every record of its kind has is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Another record has the key.
    #[error("there is another record with this key")]
    KeyTaken,
    /// CA journals keep their numbers, which therefore have to rise, and leave room for later ones.
    #[error("number {id} of a CA journal does not lie between {last} and {max}", max = super::commands::JOURNAL_ID_MAX)]
    JournalOrder {
        /// Its number.
        id: u64,
        /// The highest number so far.
        last: u64,
    },
    /// A command that has to wait.
    #[error(
        "an import into this namespace is not complete: {accepted} of {total} records; finish it, or delete the namespace"
    )]
    Unfinished {
        /// Records taken over so far.
        accepted: u64,
        /// Records that there are.
        total: u64,
    },
    /// The state could not be read or the change not be noted.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

impl Error {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotEmpty { .. } | Self::Other { .. } | Self::Position { .. } | Self::Unfinished { .. } => {
                Code::FailedPrecondition
            }
            Self::Size { .. } | Self::Missing(_) | Self::JournalOrder { .. } => Code::InvalidArgument,
            Self::KeyTaken => Code::AlreadyExists,
            Self::Record { reason, .. } => reason.code(),
            Self::Change(_) => Code::Unavailable,
        }
    }
}
