//! What can be asked of CA journals.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::Journal;

/// A change to CA journals.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// Create (id 0) or replace; `None` stands for a request without journal.
    Set(Option<Journal>),
    /// Bounded: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        keep_after: i64,
        /// Journals at the most.
        limit: u32,
    },
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(
        &self,
        _transaction: &mut crate::transaction::Transaction<'_>,
    ) -> Result<crate::spire::AnswerSource, crate::spire::Error> {
        Err(super::Error::NotFound.into())
    }
}
