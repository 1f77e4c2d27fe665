//! What can be asked of CA journals.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::Error;
use super::content::last_not_after;
use super::limits::{AUTHORITY_ID_BYTES_MAX, DATA_BYTES_MAX};
use super::records::{Journal, indexes};
use crate::ids::{NamespaceId, Sequence};
use crate::index::{Predicate, Query};
use crate::spire::limits::{StepBudget, check_bytes};
use crate::spire::{Answer, AnswerSource, tables};
use crate::transaction::Transaction;
use crate::view::{Reader, ReaderExtension};

/// A change to CA journals.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// Create (id 0) or replace; `None` stands for a request without journal.
    Set(Option<Journal>),
    /// Bounded: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        keep_after: i64,
        /// Journals at the most; 0 means a default.
        limit: u32,
    },
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, crate::spire::Error> {
        Ok(match self {
            Self::Set(journal) => set(transaction, journal.as_ref())?,
            Self::Prune { keep_after, limit } => AnswerSource::Inline(prune(transaction, *keep_after, *limit)?),
        })
    }
}

fn set(transaction: &mut Transaction<'_>, journal: Option<&Journal>) -> Result<AnswerSource, Error> {
    let journal = journal.ok_or(Error::Missing)?;
    let body = prepare(journal)?;
    let change = match journal.id {
        0 => transaction.insert(tables::CA_JOURNALS, body)?.1,
        id => {
            let record = transaction.reader().get(transaction.namespace(), tables::CA_JOURNALS, Sequence(id))?;
            transaction.update(tables::CA_JOURNALS, &record.ok_or(Error::NotFound)?, body)?
        }
    };
    Ok(AnswerSource::After(change))
}

/// The body of a journal; its id is not in it.
///
/// # Errors
/// When it is above a limit.
pub(in crate::spire) fn prepare(journal: &Journal) -> Result<Vec<u8>, Error> {
    check_bytes("data", journal.data.len(), DATA_BYTES_MAX)?;
    check_bytes("active_x509_authority_id", journal.active_x509_authority_id.len(), AUTHORITY_ID_BYTES_MAX)?;
    Ok(Journal { id: 0, ..journal.clone() }.encode())
}

/// A journal that cannot be read stops pruning as a whole: what it says about its keys is not known.
fn prune(transaction: &mut Transaction<'_>, keep_after: i64, limit: u32) -> Result<Answer, Error> {
    check_decodable(transaction.reader(), transaction.namespace())?;
    let (reader, namespace) = (transaction.reader(), transaction.namespace());
    let mut budget = StepBudget::of_command(limit);
    let (end, most) = (keep_after.saturating_add(1), budget.records_left() + 1);
    let stale = reader.select_lowest(namespace, tables::CA_JOURNALS, indexes::LAST_NOT_AFTER, end, most);
    let mut removed = 0;
    for &sequence in &stale {
        let record = reader.get_listed(namespace, tables::CA_JOURNALS, sequence)?;
        if !budget.take(record.body.len()) {
            break;
        }
        transaction.delete(tables::CA_JOURNALS, &record);
        removed += 1;
    }
    Ok(Answer::Progress { changed: removed as u64, more: removed < stale.len() })
}

fn check_decodable(reader: &dyn Reader, namespace: NamespaceId) -> Result<(), Error> {
    let query = Query::all().and(Predicate::Is { index: indexes::UNDECODABLE, key: Vec::new() });
    for record in reader.records(namespace, tables::CA_JOURNALS, &query, Sequence::ZERO, 1)? {
        last_not_after(&Journal::view(&record.body)?.data).map_err(Error::Undecodable)?;
    }
    Ok(())
}
