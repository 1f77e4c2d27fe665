//! Everything that can be asked to change.

use super::{AnswerSource, Error, bundles, entries, events, federation, imports, journals, nodes, tokens};
use crate::transaction::Transaction;

/// A request to change something. Never stored: deciding turns it into an event or a rejection.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// Trust bundles and their authorities.
    Bundle(bundles::Command),
    /// Registration entries.
    Entry(entries::Command),
    /// Attested nodes and node selectors.
    Node(nodes::Command),
    /// Join tokens.
    Token(tokens::Command),
    /// Federation relationships.
    Federation(federation::Command),
    /// CA journals.
    Journal(journals::Command),
    /// The two event streams.
    Event(events::Command),
    /// Taking over the records of another datastore.
    Import(imports::Command),
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused; the transaction must then be dropped.
    pub fn decide(self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, Error> {
        if !matches!(self, Self::Import(_)) {
            imports::queries::check_complete(transaction.reader(), transaction.namespace())?;
        }
        match self {
            Self::Bundle(command) => command.decide(transaction),
            Self::Entry(command) => command.decide(transaction),
            Self::Node(command) => command.decide(transaction),
            Self::Token(command) => command.decide(transaction),
            Self::Federation(command) => command.decide(transaction),
            Self::Journal(command) => command.decide(transaction),
            Self::Event(command) => command.decide(transaction),
            Self::Import(command) => command.decide(transaction),
        }
    }

    /// Tells this command from another one under the same request id.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let archive = rkyv::to_bytes::<rkyv::rancor::Error>(self)
            .unwrap_or_else(|error| unreachable!("archiving into memory fails only when memory does: {error}"));
        xxhash_rust::xxh3::xxh3_64(&archive)
    }
}
