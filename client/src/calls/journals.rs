//! CA journals.

use steeple_wire::spire::v1::{
    CaJournal, FetchCaJournalRequest, FetchCaJournalResponse, ListCaJournalsRequest, ListCaJournalsResponse,
    PruneCaJournalsRequest, PruneCaJournalsResponse, SetCaJournalRequest, SetCaJournalResponse,
};

use crate::call::calls;
use crate::namespace::required;
use crate::{Error, Namespace};

calls! { "steeple.spire.v1.Datastore", mutation:
    "SetCAJournal": SetCaJournalRequest => SetCaJournalResponse,
    "PruneCAJournals": PruneCaJournalsRequest => PruneCaJournalsResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchCAJournal": FetchCaJournalRequest => FetchCaJournalResponse,
    "ListCAJournals": ListCaJournalsRequest => ListCaJournalsResponse,
}

/// CA journals.
impl Namespace {
    /// Creates a journal (id 0) or replaces one, and returns it with its id.
    ///
    /// # Errors
    /// `NotFound` when there is none of that id; see also [`Error`].
    pub async fn set_ca_journal(&self, journal: CaJournal) -> Result<CaJournal, Error> {
        let request = SetCaJournalRequest { context: None, journal: Some(journal) };
        required(self.mutate(request).await?.journal, "journal")
    }

    /// Deletes journals that hold nothing valid after an instant, and tells how many.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prune_ca_journals(&self, all_expire_before_seconds: i64) -> Result<u64, Error> {
        let request = PruneCaJournalsRequest { context: None, all_expire_before: all_expire_before_seconds };
        Ok(self.mutate(request).await?.pruned)
    }

    /// The newest journal with this active authority, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_ca_journal(
        &self,
        active_x509_authority_id: impl Into<String>,
    ) -> Result<Option<CaJournal>, Error> {
        let active_x509_authority_id = active_x509_authority_id.into();
        Ok(self.query(FetchCaJournalRequest { context: None, active_x509_authority_id }).await?.journal)
    }

    /// All journals in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_ca_journals(&self) -> Result<Vec<CaJournal>, Error> {
        Ok(self.query(ListCaJournalsRequest { context: None }).await?.journals)
    }
}
