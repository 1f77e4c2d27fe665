//! Answers to commands.
//!
//! An answer is never kept on its own: it is worked out from the event, for the first caller and for a repeated
//! request alike, so that both get the same.

#![expect(
    clippy::large_enum_variant,
    reason = "an answer is moved a few times only, and boxing it would cost an allocation for each command"
)]

use super::bundles::records::{Bundle, PublicKey};
use super::entries::records::Entry;
use super::federation::records::Relationship;
use super::imports::records::Import;
use super::journals::records::Journal;
use super::nodes::records::Node;
use super::tables;
use crate::event::Change;
use crate::table::RecordDecodeError;

/// What a command answers when it was accepted.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum Answer {
    /// Done, nothing to say.
    Nothing,
    /// The bundle as stored.
    Bundle(Bundle),
    /// The entry as stored (or as it was, for a deletion).
    Entry {
        /// The entry.
        entry: Entry,
        /// Whether a similar entry was there before and nothing was created.
        existing: bool,
    },
    /// The node as stored (or as it was, for a deletion).
    Node(Node),
    /// The JWT key that was tainted or revoked.
    Key(PublicKey),
    /// Whether pruning a bundle changed it.
    Changed(bool),
    /// The federation relationship.
    Relationship(Relationship),
    /// The CA journal as stored.
    Journal(Journal),
    /// How far a bounded command came. With `more`, submitting it again goes on.
    Progress {
        /// Records that this step changed or removed.
        changed: u64,
        /// Whether there is more to do.
        more: bool,
    },
    /// What one batch came to. Unlike [`Answer::Progress`] it is final, and remembered, with or without `more`: going
    /// on is another request.
    Batch {
        /// Records that the batch was about and removed.
        removed: u64,
        /// Whether there are more.
        more: bool,
    },
    /// How far the import came.
    Import(Import),
}

/// Where the answer is found in the event; stored in [`crate::event::Event::answer`].
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum AnswerSource {
    /// The record after the change at this position.
    After(u16),
    /// The record before the change at this position.
    Before(u16),
    /// The answer itself.
    Inline(Answer),
}

impl AnswerSource {
    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .unwrap_or_else(|error| unreachable!("archiving into memory fails only when memory does: {error}"))
            .to_vec()
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// When it does not validate.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordDecodeError> {
        rkyv::from_bytes::<Self, rkyv::rancor::Error>(bytes)
            .map_err(|error| RecordDecodeError::Malformed { table: "answer", detail: error.to_string() })
    }

    /// Whether the command is complete; only then is it remembered under its request id.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Inline(Answer::Progress { more: true, .. }))
    }

    /// The change and the body that the answer is read from; none when it is no record, or points outside the changes.
    #[must_use]
    pub fn stored<'a>(&self, changes: &'a [Change]) -> Option<(&'a Change, &'a [u8])> {
        let (position, is_after) = match *self {
            Self::Inline(_) => return None,
            Self::After(position) => (position, true),
            Self::Before(position) => (position, false),
        };
        let change = changes.get(usize::from(position))?;
        let body = if is_after { &change.after } else { &change.before };
        Some((change, body.as_ref()?))
    }

    /// The answer, read from the event's changes where it points there.
    ///
    /// # Errors
    /// When it points outside the changes or a body cannot be read.
    pub fn resolve(self, changes: &[Change]) -> Result<Answer, RecordDecodeError> {
        let Some((change, body)) = self.stored(changes) else {
            return match self {
                Self::Inline(answer) => Ok(answer),
                Self::After(position) | Self::Before(position) => Err(RecordDecodeError::Malformed {
                    table: "answer",
                    detail: format!("points at change {position} of {}", changes.len()),
                }),
            };
        };
        match change.table {
            tables::BUNDLES => Ok(Answer::Bundle(Bundle::decode(body)?)),
            tables::ENTRIES => Ok(Answer::Entry { entry: Entry::decode(body)?, existing: false }),
            tables::NODES => Ok(Answer::Node(Node::decode(body)?)),
            tables::CA_JOURNALS => {
                Journal::decode(body).map(|journal| Answer::Journal(Journal { id: change.sequence.0, ..journal }))
            }
            tables::IMPORTS => Ok(Answer::Import(Import::decode(body)?)),
            other => Err(RecordDecodeError::Malformed {
                table: "answer",
                detail: format!("points at a record of table {other}, which answers nothing"),
            }),
        }
    }
}
