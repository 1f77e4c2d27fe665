//! All domains behind one closed set of types: what the pipeline decides, folds and answers.

#![expect(
    clippy::large_enum_variant,
    reason = "nearly every value is of the large variant, and values are moved a few times only"
)]

use thiserror::Error;

use crate::code::Code;
use crate::event::{Change, RequestStamp};
use crate::ids::{NamespaceId, RequestId};
use crate::table::{Catalog, RecordDecodeError, StreamDefinition, TableDefinition};
use crate::transaction::Transaction;
use crate::{namespaces, spire};

/// Every table and stream that this build knows.
pub const CATALOG: Catalog = Catalog { tables: &TABLES, streams: STREAMS };

/// The system's own tables first, then each domain's.
static TABLES: [&TableDefinition; 1 + spire::TABLES.len()] = {
    let mut tables: [&TableDefinition; 1 + spire::TABLES.len()] =
        [&namespaces::records::TABLE; 1 + spire::TABLES.len()];
    let mut place = 0;
    while place < spire::TABLES.len() {
        tables[1 + place] = spire::TABLES[place];
        place += 1;
    }
    tables
};

const STREAMS: &[&StreamDefinition] = spire::STREAMS;

/// A request to change something, in one namespace. Never stored: deciding turns it into an event or a rejection.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// In a namespace that is a SPIRE datastore.
    Spire(spire::Command),
    /// About namespaces themselves.
    Namespace(namespaces::Command),
}

/// Where the answer is found in the event; stored in [`crate::event::Event::answer`].
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum AnswerSource {
    /// Of a [`Command::Spire`].
    Spire(spire::AnswerSource),
    /// Of a [`Command::Namespace`].
    Namespace(namespaces::Answer),
}

/// What a command answers when it was accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To a [`Command::Spire`].
    Spire(spire::Answer),
    /// To a [`Command::Namespace`].
    Namespace(namespaces::Answer),
}

/// Why a command was refused. The text is part of the contract.
#[derive(Debug, Error)]
pub enum Rejection {
    /// Of a [`Command::Spire`].
    #[error(transparent)]
    Spire(#[from] spire::Error),
    /// Of a [`Command::Namespace`], or of any command in a namespace that is not there.
    #[error(transparent)]
    Namespace(#[from] namespaces::Error),
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused; the transaction must then be dropped.
    pub fn decide(self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, Rejection> {
        match self {
            Self::Spire(command) => {
                check_namespace(transaction)?;
                Ok(AnswerSource::Spire(command.decide(transaction)?))
            }
            Self::Namespace(command) => Ok(AnswerSource::Namespace(command.decide(transaction, CATALOG)?)),
        }
    }

    /// Tells this command from another one under the same request id.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Spire(command) => command.fingerprint(),
            Self::Namespace(command) => command.fingerprint(),
        }
    }

    /// What is remembered of a request for this command.
    #[must_use]
    pub fn stamp(&self, id: RequestId) -> RequestStamp {
        RequestStamp { id, fingerprint: self.fingerprint() }
    }
}

/// Nothing may be written into a namespace that was deleted meanwhile: nobody would find it there again.
fn check_namespace(transaction: &Transaction<'_>) -> Result<(), namespaces::Error> {
    match transaction.namespace() {
        NamespaceId::SYSTEM => Err(namespaces::Error::Misplaced(NamespaceId::SYSTEM)),
        id if namespaces::queries::exists(transaction.reader(), id) => Ok(()),
        id => Err(namespaces::Error::NotFound(id)),
    }
}

impl Answer {
    /// How many records a step of a bounded command changed, and whether there is more to do; `None` for answers of
    /// commands that are done in one step.
    #[must_use]
    pub fn progress(&self) -> Option<(u64, bool)> {
        match self {
            Self::Spire(spire::Answer::Progress { changed, more })
            | Self::Namespace(namespaces::Answer::Progress { changed, more }) => Some((*changed, *more)),
            _ => None,
        }
    }
}

impl Rejection {
    /// The status that goes with the text.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Spire(error) => error.code(),
            Self::Namespace(error) => error.code(),
        }
    }
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
        match self {
            Self::Spire(source) => source.is_final(),
            Self::Namespace(answer) => answer.is_final(),
        }
    }

    /// The answer, read from the event's changes where it points there.
    ///
    /// # Errors
    /// When it points outside the changes or a body cannot be read.
    pub fn resolve(self, changes: &[Change]) -> Result<Answer, RecordDecodeError> {
        match self {
            Self::Spire(source) => source.resolve(changes).map(Answer::Spire),
            Self::Namespace(answer) => Ok(Answer::Namespace(answer)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catalog_numbers_tables_once_and_indexes_by_their_place() {
        for (place, table) in CATALOG.tables.iter().enumerate() {
            assert!(CATALOG.tables[..place].iter().all(|other| other.id != table.id && other.name != table.name));
            for (number, index) in table.indexes.iter().enumerate() {
                assert_eq!(usize::from(index.id.0), number, "{}.{}", table.name, index.name);
            }
        }
        for (place, stream) in CATALOG.streams.iter().enumerate() {
            assert!(CATALOG.streams[..place].iter().all(|other| other.id != stream.id && other.name != stream.name));
        }
    }

    #[test]
    fn answer_sources_survive_storage() {
        for source in [
            AnswerSource::Spire(spire::AnswerSource::After(3)),
            AnswerSource::Spire(spire::AnswerSource::Inline(spire::Answer::Changed(true))),
            AnswerSource::Namespace(namespaces::Answer::Opened { id: NamespaceId(7), existing: false }),
        ] {
            assert_eq!(AnswerSource::decode(&source.encode()), Ok(source));
        }
        assert!(AnswerSource::decode(&[0xff; 3]).is_err());
    }

    #[test]
    fn only_steps_with_more_to_do_are_not_final() {
        let step = |more| AnswerSource::Namespace(namespaces::Answer::Progress { changed: 1, more });
        assert!(!step(true).is_final());
        assert!(step(false).is_final());
    }
}
