//! Imports.

use steeple_wire::spire::v1::{
    FetchImportRequest, FetchImportResponse, Import, ImportRecordsRequest, ImportRecordsResponse, ImportedRecord,
};

use crate::call::calls;
use crate::namespace::required;
use crate::{Error, Namespace};

calls! { "steeple.spire.v1.Datastore", mutation:
    "ImportRecords": ImportRecordsRequest => ImportRecordsResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchImport": FetchImportRequest => FetchImportResponse,
}

/// Some records of an import.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImportBatch {
    /// The same for all batches of an import, and different for other records.
    pub fingerprint: [u8; 16],
    /// Where the records come from, for people; at most 1,024 bytes.
    pub source: String,
    /// Records of the whole import.
    pub total: u64,
    /// Records of the import before these.
    pub position: u64,
    /// The next records, at most 1,000: bundles before the entries that federate with them, CA journals by rising ids.
    pub records: Vec<ImportedRecord>,
}

/// Imports.
impl Namespace {
    /// Takes records over from another datastore, with their ids and times, into a namespace that never held anything.
    ///
    /// # Errors
    /// `FailedPrecondition` when the namespace is not empty, holds another import, or is at another position; the code of what
    /// is wrong with a record otherwise. See also [`Error`].
    pub async fn import_records(&self, batch: ImportBatch) -> Result<Import, Error> {
        let ImportBatch { fingerprint, source, total, position, records } = batch;
        let fingerprint = fingerprint.to_vec();
        let request = ImportRecordsRequest { context: None, fingerprint, source, total, position, records };
        required(self.mutate(request).await?.import, "import")
    }

    /// How far the import into this namespace came, if there ever was one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_import(&self) -> Result<Option<Import>, Error> {
        Ok(self.query(FetchImportRequest { context: None }).await?.import)
    }
}
