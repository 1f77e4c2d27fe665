//! Registration entries and their events.

use steeple_client::types::RegistrationEntryFilter;
use tonic::Status;

use super::{Answer, Spire, log_entries, paged};
use crate::convert::{
    age, by_federates_with_in, by_selectors_in, entry_event_out, entry_in, entry_mask_in, entry_out, micros,
};
use crate::protocol::datastore as v1;

fn missing_entry() -> Status {
    Status::invalid_argument("datastore-validation: invalid request: missing registered entry")
}

/// What both requests that have a filter mean by it.
macro_rules! filter {
    ($request:ident) => {
        RegistrationEntryFilter {
            by_parent_id: $request.by_parent_id,
            by_spiffe_id: $request.by_spiffe_id,
            by_hint: $request.by_hint,
            by_selectors: $request.by_selectors.map(by_selectors_in),
            by_federates_with: $request.by_federates_with.map(by_federates_with_in),
            by_downstream: $request.filter_by_downstream.then_some($request.downstream_value),
        }
    };
}

impl Spire {
    pub(crate) async fn create_registration_entry(
        &self,
        request: v1::CreateRegistrationEntryRequest,
    ) -> Answer<v1::CreateRegistrationEntryResponse> {
        let entry = entry_in(request.entry.ok_or_else(missing_entry)?);
        let stored = self.namespace.create_registration_entry(entry).await?;
        Ok(v1::CreateRegistrationEntryResponse { entry: Some(entry_out(stored)) })
    }

    pub(crate) async fn create_or_return_registration_entry(
        &self,
        request: v1::CreateOrReturnRegistrationEntryRequest,
    ) -> Answer<v1::CreateOrReturnRegistrationEntryResponse> {
        let entry = entry_in(request.entry.ok_or_else(missing_entry)?);
        let stored = self.namespace.create_or_return_registration_entry(entry).await?;
        Ok(v1::CreateOrReturnRegistrationEntryResponse {
            entry: Some(entry_out(stored.entry)),
            created: !stored.existing,
        })
    }

    pub(crate) async fn update_registration_entry(
        &self,
        request: v1::UpdateRegistrationEntryRequest,
    ) -> Answer<v1::UpdateRegistrationEntryResponse> {
        let entry = entry_in(request.entry.ok_or_else(missing_entry)?);
        let mask = entry_mask_in(request.mask, &entry);
        let updated = self.namespace.update_registration_entry(entry, Some(mask)).await?;
        Ok(v1::UpdateRegistrationEntryResponse { entry: Some(entry_out(updated)) })
    }

    pub(crate) async fn delete_registration_entry(
        &self,
        request: v1::DeleteRegistrationEntryRequest,
    ) -> Answer<v1::DeleteRegistrationEntryResponse> {
        let deleted = self.namespace.delete_registration_entry(request.entry_id).await?;
        Ok(v1::DeleteRegistrationEntryResponse { entry: Some(entry_out(deleted)) })
    }

    pub(crate) async fn prune_registration_entries(
        &self,
        request: v1::PruneRegistrationEntriesRequest,
    ) -> Answer<v1::PruneRegistrationEntriesResponse> {
        let pruned = self.namespace.prune_registration_entries(micros(request.expires_before)).await?;
        log_entries(&pruned.entries, pruned.truncated, "Pruned an expired registration");
        Ok(v1::PruneRegistrationEntriesResponse {})
    }

    pub(crate) async fn fetch_registration_entry(
        &self,
        request: v1::FetchRegistrationEntryRequest,
    ) -> Answer<v1::FetchRegistrationEntryResponse> {
        let found = self.namespace.fetch_registration_entry(request.entry_id).await?;
        Ok(v1::FetchRegistrationEntryResponse { entry: found.map(entry_out) })
    }

    pub(crate) async fn fetch_registration_entries(
        &self,
        request: v1::FetchRegistrationEntriesRequest,
    ) -> Answer<v1::FetchRegistrationEntriesResponse> {
        let some = |ids| self.namespace.fetch_registration_entries(ids);
        let entries = self.fetch(&request.entry_ids, some).await?.into_iter().map(entry_out).collect();
        Ok(v1::FetchRegistrationEntriesResponse { entries })
    }

    pub(crate) async fn count_registration_entries(
        &self,
        request: v1::CountRegistrationEntriesRequest,
    ) -> Answer<v1::CountRegistrationEntriesResponse> {
        let filter = filter!(request);
        let counted = self.reading(request.data_consistency).count_registration_entries(filter).await?;
        Ok(v1::CountRegistrationEntriesResponse { count: counted })
    }

    pub(crate) async fn list_registration_entries(
        &self,
        request: v1::ListRegistrationEntriesRequest,
    ) -> Answer<v1::ListRegistrationEntriesResponse> {
        let filter = filter!(request);
        let namespace = self.reading(request.data_consistency);
        let (entries, pagination) = match request.pagination {
            Some(asked) => paged(
                namespace.list_registration_entries_page(filter, &asked.page_token, asked.page_size).await?,
                asked.page_size,
            ),
            None => (self.all(|| namespace.stream_registration_entries(filter.clone())).await?, None),
        };
        Ok(v1::ListRegistrationEntriesResponse { entries: entries.into_iter().map(entry_out).collect(), pagination })
    }

    pub(crate) async fn list_registration_entry_events(
        &self,
        request: v1::ListRegistrationEntryEventsRequest,
    ) -> Answer<v1::ListRegistrationEntryEventsResponse> {
        let namespace = self.reading(request.data_consistency);
        let (greater, less) = (request.greater_than_event_id, request.less_than_event_id);
        let events = self.all(|| namespace.stream_registration_entry_events(greater, less)).await?;
        Ok(v1::ListRegistrationEntryEventsResponse { events: events.into_iter().map(entry_event_out).collect() })
    }

    /// The field that is called an instant carries an age.
    pub(crate) async fn prune_registration_entry_events(
        &self,
        request: v1::PruneRegistrationEntryEventsRequest,
    ) -> Answer<v1::PruneRegistrationEntryEventsResponse> {
        self.namespace.prune_registration_entry_events(age(request.expires_before)?).await?;
        Ok(v1::PruneRegistrationEntryEventsResponse {})
    }

    pub(crate) async fn fetch_registration_entry_event(
        &self,
        request: v1::FetchRegistrationEntryEventRequest,
    ) -> Answer<v1::FetchRegistrationEntryEventResponse> {
        let found = self.namespace.fetch_registration_entry_event(request.event_id).await?;
        let event = Some(entry_event_out(found));
        Ok(v1::FetchRegistrationEntryEventResponse { event })
    }
}
