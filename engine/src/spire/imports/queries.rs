//! What can be asked about an import.

use super::Error;
use super::records::{Import, indexes};
use crate::ids::{NamespaceId, Sequence};
use crate::spire::{self, tables};
use crate::view::{ReadError, Reader, Record};

/// Its number, as there is only one.
const ONLY: Sequence = Sequence(1);

/// The import into the namespace, if there ever was one.
///
/// # Errors
/// When the state cannot be read.
pub fn fetch_import(reader: &dyn Reader, namespace: NamespaceId) -> Result<Option<Import>, spire::Error> {
    let record = import_record(reader, namespace)?;
    Ok(record.map(|record| Import::decode(&record.body)).transpose()?)
}

/// The record of the import.
pub(super) fn import_record(reader: &dyn Reader, namespace: NamespaceId) -> Result<Option<Record>, ReadError> {
    reader.get(namespace, tables::IMPORTS, ONLY)
}

/// Refuses whatever has to wait for the end of an import. Cheap, since every command asks it.
pub(in crate::spire) fn check_complete(reader: &dyn Reader, namespace: NamespaceId) -> Result<(), spire::Error> {
    if reader.find(namespace, tables::IMPORTS, indexes::UNFINISHED, &[]).is_none() {
        return Ok(());
    }
    let import = fetch_import(reader, namespace)?.unwrap_or_default();
    Err(Error::Unfinished { accepted: import.accepted, total: import.total }.into())
}
