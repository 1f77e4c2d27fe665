//! What can be asked of join tokens.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::JoinToken;

/// A change to join tokens.
#[derive(Clone, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 11.1; `None` stands for a request without token.
    Create(Option<JoinToken>),
    /// 11.3: succeeds for exactly one of several callers.
    Delete {
        /// Which token.
        token: String,
    },
    /// 11.4; bounded: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        expires_before: i64,
        /// Tokens at the most.
        limit: u32,
    },
}

/// The token itself must never reach a log line.
impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Create(_) => "Create(..)",
            Self::Delete { .. } => "Delete(..)",
            Self::Prune { .. } => "Prune(..)",
        })
    }
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
