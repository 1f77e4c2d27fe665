//! What can be asked of imports.

use std::collections::HashSet;

use super::records::Import;
use super::{Error, queries};
use crate::ids::{Sequence, TableId};
use crate::spire::bundles::records::Bundle;
use crate::spire::entries::records::Entry;
use crate::spire::federation::records::StoredRelationship;
use crate::spire::journals::records::Journal;
use crate::spire::limits::{IMPORT_BATCH_MAX, IMPORT_SOURCE_BYTES_MAX, check_bytes, check_count};
use crate::spire::nodes::records::{Node, NodeSelectors};
use crate::spire::tokens::records::JoinToken;
use crate::spire::{
    self, AnswerSource, STREAMS, TABLES, bundles, entries, federation, journals, nodes, tables, tokens,
};
use crate::transaction::{ChangeError, Transaction};

/// Highest number of a CA journal: what SQL databases can count to.
pub const JOURNAL_ID_MAX: u64 = i64::MAX.unsigned_abs();

/// A step of an import.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// Takes the next records over; all of the batch or none.
    Batch(Batch),
}

/// Some records of an import, in its order.
#[derive(Clone, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub struct Batch {
    /// As [`Import::fingerprint`].
    pub fingerprint: [u8; 16],
    /// As [`Import::source`].
    pub source: String,
    /// As [`Import::total`].
    pub total: u64,
    /// Records of the import before these.
    pub position: u64,
    /// The records: bundles come before the entries that federate with them, CA journals in the order of their numbers.
    pub records: Vec<Record>,
}

/// Join tokens are secret, and records are many.
impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Batch")
            .field("source", &self.source)
            .field("total", &self.total)
            .field("position", &self.position)
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// One record, as it is to be stored.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Record {
    /// A trust bundle.
    Bundle(Bundle),
    /// A federation relationship.
    Relationship(StoredRelationship),
    /// A registration entry, with its id, creation time and revision number.
    Entry(Entry),
    /// An attested node.
    Node(Node),
    /// The selectors under a SPIFFE ID; there need not be a node of that name.
    NodeSelectors(NodeSelectors),
    /// A join token.
    Token(JoinToken),
    /// A CA journal, with its number.
    Journal(Journal),
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, spire::Error> {
        match self {
            Self::Batch(batch) => accept(transaction, batch),
        }
    }
}

impl Record {
    /// What it is, without what is secret.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Bundle(bundle) => format!("bundle {:?}", bundle.trust_domain_id),
            Self::Relationship(relationship) => format!("federation relationship {:?}", relationship.trust_domain),
            Self::Entry(entry) => format!("entry {:?}", entry.entry_id),
            Self::Node(node) => format!("agent {:?}", node.spiffe_id),
            Self::NodeSelectors(selectors) => format!("selectors of {:?}", selectors.spiffe_id),
            Self::Token(_) => "join token".to_owned(),
            Self::Journal(journal) => format!("CA journal {}", journal.id),
        }
    }

    /// Checks what can be checked of a record by itself.
    ///
    /// # Errors
    /// When no import would take it over.
    pub fn check(&self) -> Result<(), spire::Error> {
        self.prepare().map(drop)
    }

    /// Where it goes, and its body.
    fn prepare(&self) -> Result<(TableId, Vec<u8>), spire::Error> {
        Ok(match self {
            Self::Bundle(bundle) => (tables::BUNDLES, bundles::commands::prepare(bundle)?),
            Self::Relationship(relationship) => (tables::FEDERATION, federation::commands::prepare(relationship)?),
            Self::Entry(entry) => {
                require("entry ID", &entry.entry_id)?;
                (tables::ENTRIES, entries::commands::prepare(entry)?)
            }
            Self::Node(node) => (tables::NODES, nodes::commands::prepare(node)?),
            Self::NodeSelectors(selectors) => (tables::NODE_SELECTORS, nodes::commands::prepare_selectors(selectors)?),
            Self::Token(token) => (tables::JOIN_TOKENS, tokens::commands::prepare(token)?),
            Self::Journal(journal) => (tables::CA_JOURNALS, journals::commands::prepare(journal)?),
        })
    }
}

fn require(what: &'static str, text: &str) -> Result<(), Error> {
    if text.is_empty() { Err(Error::Missing(what)) } else { Ok(()) }
}

fn accept(transaction: &mut Transaction<'_>, batch: &Batch) -> Result<AnswerSource, spire::Error> {
    check_count("records in a batch", batch.records.len(), IMPORT_BATCH_MAX)?;
    check_bytes("source", batch.source.len(), IMPORT_SOURCE_BYTES_MAX)?;
    let stored = queries::import_record(transaction.reader(), transaction.namespace())?;
    let mut import = match &stored {
        Some(stored) => Import::decode(&stored.body)?,
        None => begin(transaction, batch)?,
    };
    check_position(&import, batch)?;
    take_over(transaction, batch)?;
    import.accepted += batch.records.len() as u64;
    import.went_on = transaction.now();
    let change = match &stored {
        Some(stored) => transaction.update(tables::IMPORTS, stored, import.encode()),
        None => transaction.insert(tables::IMPORTS, import.encode()).map(|(_, change)| change),
    };
    Ok(AnswerSource::After(change.map_err(Error::Change)?))
}

/// The marker of an import that is about to begin.
fn begin(transaction: &Transaction<'_>, batch: &Batch) -> Result<Import, Error> {
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let used = TABLES.iter().find(|table| reader.last_sequence(namespace, table.id) != Sequence::ZERO);
    let used = used.map(|table| table.name);
    let told = STREAMS.iter().find(|stream| reader.stream(namespace, stream.id).last.0 != 0);
    match used.or(told.map(|stream| stream.name)) {
        Some(table) => Err(Error::NotEmpty { table }),
        None => Ok(Import {
            fingerprint: batch.fingerprint,
            source: batch.source.clone(),
            total: batch.total,
            accepted: 0,
            began: transaction.now(),
            went_on: transaction.now(),
        }),
    }
}

fn check_position(import: &Import, batch: &Batch) -> Result<(), Error> {
    if (import.fingerprint, import.total) != (batch.fingerprint, batch.total) {
        let Import { accepted, total, source, .. } = import.clone();
        return Err(Error::Other { accepted, total, origin: source });
    }
    let (accepted, position) = (import.accepted, batch.position);
    if accepted != position {
        return Err(Error::Position { accepted, position });
    }
    let records = batch.records.len() as u64;
    let fits = position.checked_add(records).is_some_and(|end| end <= batch.total);
    // Only an import of nothing has a batch of nothing.
    if !fits || (records == 0 && batch.total != 0) {
        return Err(Error::Size { records, position, total: batch.total });
    }
    Ok(())
}

fn take_over(transaction: &mut Transaction<'_>, batch: &Batch) -> Result<(), spire::Error> {
    let mut own_bundles = HashSet::new();
    for (place, record) in batch.records.iter().enumerate() {
        let taken = take_one(transaction, record, &own_bundles);
        taken.map_err(|reason| Error::Record {
            number: batch.position + place as u64 + 1,
            what: record.describe(),
            reason: Box::new(reason),
        })?;
        if let Record::Bundle(bundle) = record {
            own_bundles.insert(bundle.trust_domain_id.as_str());
        }
    }
    Ok(())
}

/// `own_bundles` are those of the same batch, which the reader does not see.
fn take_one(
    transaction: &mut Transaction<'_>,
    record: &Record,
    own_bundles: &HashSet<&str>,
) -> Result<(), spire::Error> {
    let (table, body) = record.prepare()?;
    let inserted = match record {
        Record::Journal(journal) => {
            let last = transaction.last_sequence(table).0;
            if journal.id <= last || journal.id > JOURNAL_ID_MAX {
                return Err(Error::JournalOrder { id: journal.id, last }.into());
            }
            transaction.insert_as(table, Sequence(journal.id), body)
        }
        Record::Entry(entry) => {
            let missing = entry.federates_with.iter().filter(|id| !own_bundles.contains(id.as_str()));
            entries::commands::check_bundles(transaction.reader(), transaction.namespace(), missing)?;
            transaction.insert(table, body).map(|(_, change)| change)
        }
        _ => transaction.insert(table, body).map(|(_, change)| change),
    };
    match inserted {
        Ok(_) => Ok(()),
        Err(ChangeError::Duplicate { .. }) => Err(Error::KeyTaken.into()),
        Err(error) => Err(Error::Change(error).into()),
    }
}
