//! Registration entries and their events.

use prost::Message;
use steeple_wire::spire::v1::{
    CountRegistrationEntriesRequest, CountRegistrationEntriesResponse, CreateOrReturnRegistrationEntryRequest,
    CreateOrReturnRegistrationEntryResponse, CreateRegistrationEntryRequest, CreateRegistrationEntryResponse,
    DeleteRegistrationEntryRequest, DeleteRegistrationEntryResponse, EventBounds, FetchEventBoundsRequest,
    FetchEventBoundsResponse, FetchRegistrationEntriesRequest, FetchRegistrationEntriesResponse,
    FetchRegistrationEntryEventRequest, FetchRegistrationEntryEventResponse, FetchRegistrationEntryRequest,
    FetchRegistrationEntryResponse, ListRegistrationEntriesRequest, ListRegistrationEntriesResponse,
    ListRegistrationEntryEventsRequest, PruneRegistrationEntriesRequest, PruneRegistrationEntriesResponse,
    PruneRegistrationEntryEventsRequest, PruneRegistrationEntryEventsResponse, PrunedEntry, RegistrationEntry,
    RegistrationEntryEvent, RegistrationEntryFilter, RegistrationEntryMask, StreamRegistrationEntriesRequest,
    StreamRegistrationEntriesResponse, StreamRegistrationEntryEventsResponse, UpdateRegistrationEntryRequest,
    UpdateRegistrationEntryResponse,
};
use tokio_stream::StreamExt;

use super::page;
use crate::call::calls;
use crate::namespace::required;
use crate::pages::Asking;
use crate::{Error, Namespace, Pages, Records};

calls! { "steeple.spire.v1.Datastore", mutation:
    "CreateRegistrationEntry": CreateRegistrationEntryRequest => CreateRegistrationEntryResponse,
    "CreateOrReturnRegistrationEntry": CreateOrReturnRegistrationEntryRequest => CreateOrReturnRegistrationEntryResponse,
    "UpdateRegistrationEntry": UpdateRegistrationEntryRequest => UpdateRegistrationEntryResponse,
    "DeleteRegistrationEntry": DeleteRegistrationEntryRequest => DeleteRegistrationEntryResponse,
    "PruneRegistrationEntries": PruneRegistrationEntriesRequest => PruneRegistrationEntriesResponse,
    "PruneRegistrationEntryEvents": PruneRegistrationEntryEventsRequest => PruneRegistrationEntryEventsResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchRegistrationEntry": FetchRegistrationEntryRequest => FetchRegistrationEntryResponse,
    "FetchRegistrationEntries": FetchRegistrationEntriesRequest => FetchRegistrationEntriesResponse,
    "CountRegistrationEntries": CountRegistrationEntriesRequest => CountRegistrationEntriesResponse,
    "ListRegistrationEntries": ListRegistrationEntriesRequest => ListRegistrationEntriesResponse,
    "StreamRegistrationEntries": StreamRegistrationEntriesRequest => StreamRegistrationEntriesResponse,
    "StreamRegistrationEntryEvents": ListRegistrationEntryEventsRequest => StreamRegistrationEntryEventsResponse,
    "FetchRegistrationEntryEvent": FetchRegistrationEntryEventRequest => FetchRegistrationEntryEventResponse,
    "FetchEventBounds": FetchEventBoundsRequest => FetchEventBoundsResponse,
}

/// What became of a request to create an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Created {
    /// The entry, new or not.
    pub entry: RegistrationEntry,
    /// Whether a similar entry was there and nothing was created.
    pub existing: bool,
}

/// What pruning entries came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrunedEntries {
    /// How many were deleted.
    pub pruned: u64,
    /// Which they were; the first 10000.
    pub entries: Vec<PrunedEntry>,
    /// Whether there were more than `entries` has.
    pub truncated: bool,
}

/// Registration entries.
impl Namespace {
    /// Creates an entry, or returns the similar one as if created.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_registration_entry(&self, entry: RegistrationEntry) -> Result<RegistrationEntry, Error> {
        let request = CreateRegistrationEntryRequest { context: None, entry: Some(entry) };
        required(self.mutate(request).await?.entry, "entry")
    }

    /// Creates an entry, or returns the similar one and says so.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_or_return_registration_entry(&self, entry: RegistrationEntry) -> Result<Created, Error> {
        let request = CreateOrReturnRegistrationEntryRequest { context: None, entry: Some(entry) };
        let answer = self.mutate(request).await?;
        Ok(Created { entry: required(answer.entry, "entry")?, existing: answer.existing })
    }

    /// Replaces fields of an entry; all of them without a mask.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn update_registration_entry(
        &self,
        entry: RegistrationEntry,
        mask: Option<RegistrationEntryMask>,
    ) -> Result<RegistrationEntry, Error> {
        let request = UpdateRegistrationEntryRequest { context: None, entry: Some(entry), mask };
        required(self.mutate(request).await?.entry, "entry")
    }

    /// Deletes an entry and returns it as it was.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn delete_registration_entry(&self, entry_id: impl Into<String>) -> Result<RegistrationEntry, Error> {
        let request = DeleteRegistrationEntryRequest { context: None, entry_id: entry_id.into() };
        required(self.mutate(request).await?.entry, "entry")
    }

    /// Deletes entries that expired before an instant, and tells how many and which.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prune_registration_entries(&self, expires_before_micros: i64) -> Result<PrunedEntries, Error> {
        let request = PruneRegistrationEntriesRequest { context: None, expires_before_micros };
        let answer = self.mutate(request).await?;
        Ok(PrunedEntries { pruned: answer.pruned, entries: answer.entries, truncated: answer.truncated })
    }

    /// One entry, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_registration_entry(
        &self,
        entry_id: impl Into<String>,
    ) -> Result<Option<RegistrationEntry>, Error> {
        let request = FetchRegistrationEntryRequest { context: None, entry_id: entry_id.into() };
        Ok(self.query(request).await?.entry)
    }

    /// Those of several entries that exist, in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_registration_entries(&self, entry_ids: Vec<String>) -> Result<Vec<RegistrationEntry>, Error> {
        Ok(self.query(FetchRegistrationEntriesRequest { context: None, entry_ids }).await?.entries)
    }

    /// How many entries a filter selects.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn count_registration_entries(&self, filter: RegistrationEntryFilter) -> Result<i32, Error> {
        Ok(self.query(CountRegistrationEntriesRequest { context: None, filter: Some(filter) }).await?.count)
    }

    /// The entries that a filter selects, in creation order and in one answer. For long lists see
    /// [`Namespace::stream_registration_entries`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_registration_entries(
        &self,
        filter: RegistrationEntryFilter,
    ) -> Result<Vec<RegistrationEntry>, Error> {
        let request = ListRegistrationEntriesRequest { context: None, filter: Some(filter), pagination: None };
        Ok(self.query(request).await?.entries)
    }

    /// Up to `size` of the entries that a filter selects behind `token` (empty for the beginning), and the next token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_registration_entries_page(
        &self,
        filter: RegistrationEntryFilter,
        token: &str,
        size: i32,
    ) -> Result<(Vec<RegistrationEntry>, String), Error> {
        let pagination = page(token, size);
        let request = ListRegistrationEntriesRequest { context: None, filter: Some(filter), pagination };
        let answer = self.query(request).await?;
        Ok((answer.entries, required(answer.pagination, "pagination")?.token))
    }

    /// The entries that a filter selects, however many, in creation order and in pages of up to `size`.
    #[must_use]
    pub fn registration_entry_pages(&self, filter: RegistrationEntryFilter, size: i32) -> Pages<RegistrationEntry> {
        let ask = move |namespace: Namespace, token: &str| -> Asking {
            let (filter, pagination) = (Some(filter.clone()), page(token, size));
            let request = ListRegistrationEntriesRequest { context: None, filter, pagination };
            Box::pin(async move { namespace.query_unread(request).await })
        };
        Pages::new(self.clone(), ask, |page| Ok(ListRegistrationEntriesResponse::decode(page)?.entries))
    }

    /// The entries that a filter selects, however many, in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_registration_entries(
        &self,
        filter: RegistrationEntryFilter,
    ) -> Result<Records<StreamRegistrationEntriesResponse, RegistrationEntry>, Error> {
        let request = StreamRegistrationEntriesRequest { context: None, filter: Some(filter) };
        self.query_stream(request, |message| (message.entries, message.revision)).await
    }

    /// Events above (`greater_than`) or below (`less_than`) an id; 0 means no bound.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_registration_entry_events(
        &self,
        greater_than: u64,
        less_than: u64,
    ) -> Result<Vec<RegistrationEntryEvent>, Error> {
        self.stream_registration_entry_events(greater_than, less_than).await?.collect().await
    }

    /// As [`Namespace::list_registration_entry_events`], one by one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_registration_entry_events(
        &self,
        greater_than: u64,
        less_than: u64,
    ) -> Result<Records<StreamRegistrationEntryEventsResponse, RegistrationEntryEvent>, Error> {
        let request = ListRegistrationEntryEventsRequest {
            context: None,
            greater_than_event_id: greater_than,
            less_than_event_id: less_than,
            limit: 0,
        };
        self.query_stream(request, |message| (message.events, message.revision)).await
    }

    /// One event.
    ///
    /// # Errors
    /// `NotFound` when it is not there yet, or no longer; see also [`Error`].
    pub async fn fetch_registration_entry_event(&self, event_id: u64) -> Result<RegistrationEntryEvent, Error> {
        let request = FetchRegistrationEntryEventRequest { context: None, event_id };
        required(self.query(request).await?.event, "event")
    }

    /// Gives up events that are older than this, and tells how many.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prune_registration_entry_events(&self, older_than: std::time::Duration) -> Result<u64, Error> {
        let older_than_micros = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        let request = PruneRegistrationEntryEventsRequest { context: None, older_than_micros };
        Ok(self.mutate(request).await?.pruned)
    }

    /// Which events exist: of registration entries, and of attested nodes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_event_bounds(&self) -> Result<(EventBounds, EventBounds), Error> {
        let answer = self.query(FetchEventBoundsRequest { context: None }).await?;
        Ok((required(answer.registration_entries, "bounds")?, required(answer.attested_nodes, "bounds")?))
    }
}
