//! What can be asked about namespaces.

use super::Error;
use super::records::{NAMESPACES, Namespace, indexes};
use crate::ids::{NamespaceId, Sequence};
use crate::index::Query;
use crate::view::{ReadError, Reader, ReaderExtension, Record};

/// The id of the namespace with this name.
#[must_use]
pub fn find(reader: &dyn Reader, name: &str) -> Option<NamespaceId> {
    reader.find(NamespaceId::SYSTEM, NAMESPACES, indexes::NAME, name.as_bytes()).map(|sequence| NamespaceId(sequence.0))
}

/// Whether users' records may be kept in this namespace. Answered by the indexes, without touching a record.
#[must_use]
pub fn exists(reader: &dyn Reader, id: NamespaceId) -> bool {
    let Some(before) = id.0.checked_sub(1) else { return false };
    reader.select(NamespaceId::SYSTEM, NAMESPACES, &Query::all(), Sequence(before), 1) == [Sequence(id.0)]
}

/// A namespace by its id.
///
/// # Errors
/// When the state cannot be read.
pub fn fetch(reader: &dyn Reader, id: NamespaceId) -> Result<Option<Namespace>, Error> {
    let record = reader.get(NamespaceId::SYSTEM, NAMESPACES, Sequence(id.0))?;
    Ok(record.map(|record| Namespace::decode(&record.body)).transpose()?)
}

/// Up to `limit` namespaces with an id above `after`, oldest first.
///
/// # Errors
/// When the state cannot be read.
pub fn list(reader: &dyn Reader, after: NamespaceId, limit: usize) -> Result<Vec<(NamespaceId, Namespace)>, Error> {
    reader
        .records(NamespaceId::SYSTEM, NAMESPACES, &Query::all(), Sequence(after.0), limit)?
        .into_iter()
        .map(|record| Ok((NamespaceId(record.sequence.0), Namespace::decode(&record.body)?)))
        .collect()
}

/// The record of the namespace with this name, for a command that changes it.
pub(super) fn record(reader: &dyn Reader, name: &str) -> Result<Option<(NamespaceId, Record)>, ReadError> {
    let record = reader.get_by_key(NamespaceId::SYSTEM, NAMESPACES, indexes::NAME, name.as_bytes())?;
    Ok(record.map(|record| (NamespaceId(record.sequence.0), record)))
}
