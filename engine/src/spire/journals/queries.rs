//! What can be asked about CA journals.

use super::records::{Journal, indexes};
use crate::ids::{NamespaceId, Sequence};
use crate::index::{Predicate, Query};
use crate::spire::{Error, journals, tables};
use crate::view::{Reader, ReaderExtension, Record};

/// The newest journal in which this X.509 authority is active (13).
///
/// # Errors
/// When the authority id is empty or the state cannot be read.
pub fn fetch_journal(
    reader: &dyn Reader,
    namespace: NamespaceId,
    active_x509_authority_id: &str,
) -> Result<Option<Journal>, Error> {
    if active_x509_authority_id.is_empty() {
        return Err(journals::Error::AuthorityIdRequired.into());
    }
    let key = active_x509_authority_id.as_bytes().to_vec();
    let query = Query::all().and(Predicate::Is { index: indexes::AUTHORITY_ID, key });
    let found = reader.select(namespace, tables::CA_JOURNALS, &query, Sequence::ZERO, usize::MAX);
    let Some(&newest) = found.last() else { return Ok(None) };
    journal(&reader.get_listed(namespace, tables::CA_JOURNALS, newest)?).map(Some)
}

/// Every journal, oldest first.
///
/// # Errors
/// When the state cannot be read.
pub fn list_journals(reader: &dyn Reader, namespace: NamespaceId) -> Result<Vec<Journal>, Error> {
    let records = reader.records(namespace, tables::CA_JOURNALS, &Query::all(), Sequence::ZERO, usize::MAX)?;
    records.iter().map(journal).collect()
}

fn journal(record: &Record) -> Result<Journal, Error> {
    Ok(Journal { id: record.sequence.0, ..Journal::decode(&record.body)? })
}
