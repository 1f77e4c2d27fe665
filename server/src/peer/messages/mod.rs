//! Messages of Raft as they travel, and how they are checked.
//!
//! In memory they are [`Message`]s of the `raft` crate. On the wire they are messages of our own, so that what arrives
//! is decoded by a decoder that is fit for it and passes the rules below before consensus sees it. The rules cover what
//! can be said without knowing the state of the group; much of what they refuse would otherwise end the process
//! inside of the `raft` crate.

mod decode;
mod encode;
mod scan;

#[cfg(test)]
mod tests;

use raft::eraftpb::{Message, MessageType};
use steeple_engine::ids::NodeId;
use thiserror::Error;

pub use self::decode::{decode_batch, from_wire};
pub use self::encode::{encode_batch, encoded_bytes, to_wire, travels};
pub use self::scan::scan;

/// Who sends to whom. Every message must say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The sender.
    pub from: NodeId,
    /// The receiver.
    pub to: NodeId,
}

/// Which of the two streams between two nodes a message takes. They do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Everything that is small and urgent.
    Control,
    /// Entries and what has to stay in order with them.
    Bulk,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Control, Self::Bulk];

    /// The lane of a message. All appends take the bulk lane: an empty one that overtakes the entries before it would be
    /// rejected and make the leader start over.
    #[must_use]
    pub fn of(message: &Message) -> Self {
        match message.msg_type {
            MessageType::MsgAppend | MessageType::MsgSnapshot => Self::Bulk,
            _ => Self::Control,
        }
    }

    /// The name that metrics and log lines use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Bulk => "bulk",
        }
    }
}

/// A message that may not be sent to, or come from, another node.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// No kind that this version knows, or one that stays inside a node.
    #[error("messages of kind {kind} do not travel between nodes")]
    Kind {
        /// The number that came.
        kind: i32,
    },
    /// It is from somebody else than the handshake said.
    #[error("a message from node {found} on the stream of node {expected}")]
    Sender {
        /// The node of the handshake.
        expected: NodeId,
        /// The node in the message.
        found: NodeId,
    },
    /// It is for somebody else than the handshake said.
    #[error("a message to node {found} was sent to node {expected}")]
    Receiver {
        /// The node of the handshake.
        expected: NodeId,
        /// The node in the message.
        found: NodeId,
    },
    /// It has no term. Such messages are obeyed without being compared with the own term.
    #[error("a message without a term")]
    TermMissing,
    /// It has a term where there is none.
    #[error("a message with a term that its kind does not have")]
    TermUnexpected,
    /// A term or index that cannot be.
    #[error("{field} {value} is out of range")]
    Position {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// Entries, or a number of them, that this kind does not have.
    #[error("a message with {found} entries, which its kind does not have")]
    Entries {
        /// How many there are.
        found: usize,
    },
    /// An entry of a kind that this version does not know.
    #[error("entries of kind {kind} do not travel between nodes")]
    EntryKind {
        /// The number that came.
        kind: i32,
    },
    /// Entries that do not follow each other.
    #[error("entry {found} where entry {expected} follows")]
    Gap {
        /// The index that comes next.
        expected: u64,
        /// The index that came.
        found: u64,
    },
    /// A term that is older than the one before it, or newer than the message.
    #[error("entry {index} of term {term} between terms {after} and {until}")]
    EntryTerm {
        /// The entry.
        index: u64,
        /// Its term.
        term: u64,
        /// The term before it.
        after: u64,
        /// The term of the message.
        until: u64,
    },
    /// Something is larger than it may be.
    #[error("{what} of {bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max_bytes: usize,
    },
    /// A snapshot message without a snapshot, or another one with it.
    #[error("a snapshot is missing or does not belong into the message")]
    Snapshot,
    /// Members that cannot be.
    #[error("members of a snapshot: {problem}")]
    Members {
        /// What is wrong with them.
        problem: &'static str,
    },
}

/// A batch that may not come from another node.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    /// It is larger than it may be.
    #[error("a batch of {bytes} bytes, more than {max_bytes}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The largest there may be.
        max_bytes: usize,
    },
    /// More of something than there may be.
    #[error("a batch with more than {max} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// Not an encoded batch.
    #[error("a batch that cannot be read: {0}")]
    Malformed(String),
    /// Nothing is in it.
    #[error("a batch without messages")]
    Empty,
    /// One of its messages is wrong; all are refused.
    #[error("message {number} of a batch: {error}")]
    Message {
        /// Which one, from 0.
        number: usize,
        /// What is wrong.
        error: MessageError,
    },
}

/// Who a message says that it goes from and to.
pub(super) fn check_link(from: u64, to: u64, link: Link) -> Result<(), MessageError> {
    if from != link.from.0 {
        return Err(MessageError::Sender { expected: link.from, found: NodeId(from) });
    }
    if to != link.to.0 {
        return Err(MessageError::Receiver { expected: link.to, found: NodeId(to) });
    }
    Ok(())
}
