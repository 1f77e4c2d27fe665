//! What can be asked of the event streams.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

/// A change to an event stream.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 8.4 for registration entries; bounded: answers [`super::super::Answer::Progress`].
    PruneEntryEvents {
        /// Items older than this (exclusive), in microseconds since the Unix epoch, go.
        older_than_micros: u64,
        /// Items at the most.
        limit: u32,
    },
    /// 8.4 for nodes; bounded.
    PruneNodeEvents {
        /// Items older than this (exclusive), in microseconds since the Unix epoch, go.
        older_than_micros: u64,
        /// Items at the most.
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
