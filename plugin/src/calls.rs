//! The calls of the datastore, each over the cluster's own.
//!
//! Codes and texts of refusals are the datastore's, which are SPIRE's. The client behind it finds the leader, and repeats a
//! mutation under one request id until its outcome is known.

use std::time::Duration;

use steeple_client::types::{AttestedNodeFilter, DeleteMode, PrunedEntry, RegistrationEntryFilter};
use steeple_client::{Error, Namespace, Records};
use steeple_wire::status::ErrorKind;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::convert::{
    age, bundle_in, bundle_mask_in, bundle_out, by_federates_with_in, by_selectors_in, entry_event_out, entry_in,
    entry_mask_in, entry_out, event_id, journal_in, journal_out, key_out, micros, node_event_out, node_in,
    node_mask_in, node_out, node_selectors_out, relationship_in, relationship_mask_in, relationship_out, selector_in,
    selectors_out, trust_domain_in,
};
use crate::protocol::datastore as v1;

/// Between two attempts at a list that broke off.
const PAUSE: Duration = Duration::from_millis(50);

/// Keys that are asked for at a time; nodes take a few more.
const KEYS_MAX: usize = 50_000;

/// Records with bundles that are asked for at a time when all of them do not fit into one answer: as many as fit even if
/// each is as large as one can be.
const BUNDLES_IN_PAGE: i32 = 3;

/// The datastore, for one call.
pub(crate) struct Spire {
    pub(crate) namespace: Namespace,
    pub(crate) deadline: Instant,
    /// Whether the caller gave it.
    pub(crate) has_deadline: bool,
}

type Answer<Message> = Result<Message, Status>;

impl Spire {
    /// What the caller is told of an error.
    fn status(&self, error: Error) -> Status {
        match error {
            Error::Refused { code, message } => Status::new(code, message),
            Error::OutcomeUnknown { message, .. } => Status::unavailable(format!(
                "whether this was carried out is unknown, no node could tell in time; last attempt: {message}"
            )),
            Error::Unavailable { message } => {
                Status::unavailable(format!("no node could serve in time; last attempt: {message}"))
            }
            Error::DeadlineExceeded => self.out_of_time(),
            other => Status::new(other.code(), other.to_string()),
        }
    }

    fn out_of_time(&self) -> Status {
        if self.has_deadline {
            return Status::deadline_exceeded("context deadline exceeded");
        }
        Status::unavailable("no node could serve in time")
    }

    /// The namespace as fresh as the caller wants it.
    fn reading(&self, consistency: i32) -> Namespace {
        if consistency == i32::from(v1::DataConsistency::TolerateStale) {
            return self.namespace.stale();
        }
        self.namespace.clone()
    }

    /// All records of a list that comes in many messages. One that breaks off is begun again.
    async fn all<Message, Record: Unpin, Beginning>(&self, begin: impl Fn() -> Beginning) -> Answer<Vec<Record>>
    where
        Beginning: Future<Output = Result<Records<Message, Record>, Error>>,
    {
        loop {
            let whole = async { begin().await?.collect::<Result<Vec<Record>, Error>>().await };
            match timeout_at(self.deadline, whole).await {
                Ok(Ok(records)) => return Ok(records),
                Ok(Err(Error::Unavailable { .. })) if Instant::now() + PAUSE < self.deadline => sleep(PAUSE).await,
                Ok(Err(error)) => return Err(self.status(error)),
                Err(_) => return Err(self.out_of_time()),
            }
        }
    }

    /// The records of many keys, in as many requests as it takes: fewer at a time when their records do not fit into one
    /// answer.
    async fn fetch<Record, Fetching>(
        &self,
        keys: &[String],
        some: impl Fn(Vec<String>) -> Fetching,
    ) -> Answer<Vec<Record>>
    where
        Fetching: Future<Output = Result<Vec<Record>, Error>>,
    {
        let (mut left, mut size, mut found) = (keys, KEYS_MAX, Vec::new());
        while !left.is_empty() {
            let (now, behind) = left.split_at(size.min(left.len()));
            match some(now.to_vec()).await {
                Ok(records) => {
                    found.extend(records);
                    left = behind;
                }
                Err(error) if is_too_large(&error) && now.len() > 1 => size = now.len() / 2,
                Err(error) => return Err(self.status(error)),
            }
        }
        Ok(found)
    }

    /// A list that is put together from pages.
    async fn in_pages<Record, Reading>(&self, page: impl Fn(String) -> Reading) -> Answer<Vec<Record>>
    where
        Reading: Future<Output = Result<(Vec<Record>, String), Error>>,
    {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let (records, next) = page(token).await.map_err(|error| self.status(error))?;
            if records.is_empty() {
                return Ok(all);
            }
            all.extend(records);
            token = next;
        }
    }
}

fn is_too_large(error: &Error) -> bool {
    error.kind() == Some(ErrorKind::AnswerTooLarge)
}

fn page_out(asked: &v1::Pagination, token: String) -> Option<v1::Pagination> {
    Some(v1::Pagination { page_size: asked.page_size, page_token: token })
}

fn missing_bundle() -> Status {
    Status::unknown("datastore-sql: missing bundle in request")
}

fn missing_entry() -> Status {
    Status::invalid_argument("datastore-validation: invalid request: missing registered entry")
}

fn missing_node() -> Status {
    Status::invalid_argument("datastore-sql: invalid request: missing attested node")
}

fn missing_relationship() -> Status {
    Status::invalid_argument("federation relationship is nil")
}

fn not_written() -> Status {
    Status::unimplemented("events come of what happens, and cannot be written or deleted one by one")
}

/// Writes the line that SPIRE's operators know for each entry that went.
fn log_entries(entries: &[PrunedEntry], line: &'static str) {
    for entry in entries {
        let (spiffe_id, parent_id, entry_id) =
            (entry.spiffe_id.as_str(), entry.parent_id.as_str(), entry.entry_id.as_str());
        tracing::info!(spiffe_id, parent_id, entry_id, "{line}");
    }
}

/// Bundles.
impl Spire {
    pub(crate) async fn create_bundle(&self, request: v1::CreateBundleRequest) -> Answer<v1::CreateBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.create_bundle(bundle).await.map_err(|error| self.status(error))?;
        Ok(v1::CreateBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn set_bundle(&self, request: v1::SetBundleRequest) -> Answer<v1::SetBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.set_bundle(bundle).await.map_err(|error| self.status(error))?;
        Ok(v1::SetBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn append_bundle(&self, request: v1::AppendBundleRequest) -> Answer<v1::AppendBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let stored = self.namespace.append_bundle(bundle).await.map_err(|error| self.status(error))?;
        Ok(v1::AppendBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn update_bundle(&self, request: v1::UpdateBundleRequest) -> Answer<v1::UpdateBundleResponse> {
        let bundle = bundle_in(request.bundle.ok_or_else(missing_bundle)?)?;
        let updated = self.namespace.update_bundle(bundle, request.mask.map(bundle_mask_in));
        let stored = updated.await.map_err(|error| self.status(error))?;
        Ok(v1::UpdateBundleResponse { bundle: Some(bundle_out(stored)) })
    }

    pub(crate) async fn delete_bundle(&self, request: v1::DeleteBundleRequest) -> Answer<v1::DeleteBundleResponse> {
        // The numbers are the same.
        let mode = DeleteMode::try_from(request.mode)
            .map_err(|_| Status::invalid_argument(format!("unknown delete mode: {}", request.mode)))?;
        let deleted = self.namespace.delete_bundle(request.trust_domain, mode).await;
        deleted.map_err(|error| self.status(error))?;
        Ok(v1::DeleteBundleResponse {})
    }

    pub(crate) async fn prune_bundle(&self, request: v1::PruneBundleRequest) -> Answer<v1::PruneBundleResponse> {
        let pruned = self.namespace.prune_bundle(request.trust_domain, micros(request.expires_before)).await;
        Ok(v1::PruneBundleResponse { changed: pruned.map_err(|error| self.status(error))? })
    }

    pub(crate) async fn fetch_bundle(&self, request: v1::FetchBundleRequest) -> Answer<v1::FetchBundleResponse> {
        let found = self.namespace.fetch_bundle(request.trust_domain).await.map_err(|error| self.status(error))?;
        Ok(v1::FetchBundleResponse { bundle: found.map(bundle_out) })
    }

    pub(crate) async fn count_bundles(&self, _: v1::CountBundlesRequest) -> Answer<v1::CountBundlesResponse> {
        Ok(v1::CountBundlesResponse {
            count: self.namespace.count_bundles().await.map_err(|error| self.status(error))?,
        })
    }

    pub(crate) async fn list_bundles(&self, request: v1::ListBundlesRequest) -> Answer<v1::ListBundlesResponse> {
        let (bundles, pagination) = match request.pagination {
            Some(asked) => {
                let page = self.namespace.list_bundles_page(&asked.page_token, asked.page_size).await;
                let (bundles, token) = page.map_err(|error| self.status(error))?;
                (bundles, page_out(&asked, token))
            }
            None => (self.every_bundle().await?, None),
        };
        Ok(v1::ListBundlesResponse { bundles: bundles.into_iter().map(bundle_out).collect(), pagination })
    }

    async fn every_bundle(&self) -> Answer<Vec<steeple_client::types::Bundle>> {
        match self.namespace.list_bundles().await {
            Err(error) if is_too_large(&error) => {
                let page =
                    |token: String| async move { self.namespace.list_bundles_page(&token, BUNDLES_IN_PAGE).await };
                self.in_pages(page).await
            }
            listed => listed.map_err(|error| self.status(error)),
        }
    }

    pub(crate) async fn taint_x509ca(&self, request: v1::TaintX509caRequest) -> Answer<v1::TaintX509caResponse> {
        let tainted = self.namespace.taint_x509_ca(request.trust_domain, request.key_id).await;
        tainted.map_err(|error| self.status(error))?;
        Ok(v1::TaintX509caResponse {})
    }

    pub(crate) async fn revoke_x509ca(&self, request: v1::RevokeX509caRequest) -> Answer<v1::RevokeX509caResponse> {
        let revoked = self.namespace.revoke_x509_ca(request.trust_domain, request.key_id).await;
        revoked.map_err(|error| self.status(error))?;
        Ok(v1::RevokeX509caResponse {})
    }

    pub(crate) async fn taint_jwt_key(&self, request: v1::TaintJwtKeyRequest) -> Answer<v1::TaintJwtKeyResponse> {
        let tainted = self.namespace.taint_jwt_key(request.trust_domain, request.authority_id).await;
        Ok(v1::TaintJwtKeyResponse { key: Some(key_out(tainted.map_err(|error| self.status(error))?)) })
    }

    pub(crate) async fn revoke_jwt_key(&self, request: v1::RevokeJwtKeyRequest) -> Answer<v1::RevokeJwtKeyResponse> {
        let revoked = self.namespace.revoke_jwt_key(request.trust_domain, request.authority_id).await;
        Ok(v1::RevokeJwtKeyResponse { key: Some(key_out(revoked.map_err(|error| self.status(error))?)) })
    }
}

/// Registration entries.
impl Spire {
    pub(crate) async fn create_registration_entry(
        &self,
        request: v1::CreateRegistrationEntryRequest,
    ) -> Answer<v1::CreateRegistrationEntryResponse> {
        let entry = entry_in(request.entry.ok_or_else(missing_entry)?);
        let stored = self.namespace.create_registration_entry(entry).await.map_err(|error| self.status(error))?;
        Ok(v1::CreateRegistrationEntryResponse { entry: Some(entry_out(stored)) })
    }

    pub(crate) async fn create_or_return_registration_entry(
        &self,
        request: v1::CreateOrReturnRegistrationEntryRequest,
    ) -> Answer<v1::CreateOrReturnRegistrationEntryResponse> {
        let entry = entry_in(request.entry.ok_or_else(missing_entry)?);
        let stored = self.namespace.create_or_return_registration_entry(entry).await;
        let stored = stored.map_err(|error| self.status(error))?;
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
        let updated = self.namespace.update_registration_entry(entry, Some(mask)).await;
        Ok(v1::UpdateRegistrationEntryResponse { entry: Some(entry_out(updated.map_err(|error| self.status(error))?)) })
    }

    pub(crate) async fn delete_registration_entry(
        &self,
        request: v1::DeleteRegistrationEntryRequest,
    ) -> Answer<v1::DeleteRegistrationEntryResponse> {
        let deleted = self.namespace.delete_registration_entry(request.entry_id).await;
        Ok(v1::DeleteRegistrationEntryResponse { entry: Some(entry_out(deleted.map_err(|error| self.status(error))?)) })
    }

    pub(crate) async fn prune_registration_entries(
        &self,
        request: v1::PruneRegistrationEntriesRequest,
    ) -> Answer<v1::PruneRegistrationEntriesResponse> {
        let pruned = self.namespace.prune_registration_entries(micros(request.expires_before)).await;
        log_entries(&pruned.map_err(|error| self.status(error))?.entries, "Pruned an expired registration");
        Ok(v1::PruneRegistrationEntriesResponse {})
    }

    pub(crate) async fn fetch_registration_entry(
        &self,
        request: v1::FetchRegistrationEntryRequest,
    ) -> Answer<v1::FetchRegistrationEntryResponse> {
        let found = self.namespace.fetch_registration_entry(request.entry_id).await;
        Ok(v1::FetchRegistrationEntryResponse { entry: found.map_err(|error| self.status(error))?.map(entry_out) })
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
        let filter = RegistrationEntryFilter {
            by_parent_id: request.by_parent_id,
            by_spiffe_id: request.by_spiffe_id,
            by_hint: request.by_hint,
            by_selectors: request.by_selectors.map(by_selectors_in),
            by_federates_with: request.by_federates_with.map(by_federates_with_in),
            by_downstream: request.filter_by_downstream.then_some(request.downstream_value),
        };
        let counted = self.reading(request.data_consistency).count_registration_entries(filter).await;
        Ok(v1::CountRegistrationEntriesResponse { count: counted.map_err(|error| self.status(error))? })
    }

    pub(crate) async fn list_registration_entries(
        &self,
        request: v1::ListRegistrationEntriesRequest,
    ) -> Answer<v1::ListRegistrationEntriesResponse> {
        let filter = RegistrationEntryFilter {
            by_parent_id: request.by_parent_id,
            by_spiffe_id: request.by_spiffe_id,
            by_hint: request.by_hint,
            by_selectors: request.by_selectors.map(by_selectors_in),
            by_federates_with: request.by_federates_with.map(by_federates_with_in),
            by_downstream: request.filter_by_downstream.then_some(request.downstream_value),
        };
        let namespace = self.reading(request.data_consistency);
        let (entries, pagination) = match request.pagination {
            Some(asked) => {
                let page = namespace.list_registration_entries_page(filter, &asked.page_token, asked.page_size).await;
                let (entries, token) = page.map_err(|error| self.status(error))?;
                (entries, page_out(&asked, token))
            }
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
        let pruned = self.namespace.prune_registration_entry_events(age(request.expires_before)?).await;
        pruned.map_err(|error| self.status(error))?;
        Ok(v1::PruneRegistrationEntryEventsResponse {})
    }

    pub(crate) async fn fetch_registration_entry_event(
        &self,
        request: v1::FetchRegistrationEntryEventRequest,
    ) -> Answer<v1::FetchRegistrationEntryEventResponse> {
        let found = self.namespace.fetch_registration_entry_event(request.event_id).await;
        let event = Some(entry_event_out(found.map_err(|error| self.status(error))?));
        Ok(v1::FetchRegistrationEntryEventResponse { event })
    }

    pub(crate) async fn create_registration_entry_event(
        &self,
        _: v1::CreateRegistrationEntryEventRequest,
    ) -> Answer<v1::CreateRegistrationEntryEventResponse> {
        Err(not_written())
    }

    pub(crate) async fn delete_registration_entry_event(
        &self,
        _: v1::DeleteRegistrationEntryEventRequest,
    ) -> Answer<v1::DeleteRegistrationEntryEventResponse> {
        Err(not_written())
    }
}

/// Attested nodes.
impl Spire {
    pub(crate) async fn create_attested_node(
        &self,
        request: v1::CreateAttestedNodeRequest,
    ) -> Answer<v1::CreateAttestedNodeResponse> {
        let node = node_in(request.node.ok_or_else(missing_node)?);
        let stored = self.namespace.create_attested_node(node).await.map_err(|error| self.status(error))?;
        Ok(v1::CreateAttestedNodeResponse { node: Some(node_out(stored)) })
    }

    pub(crate) async fn update_attested_node(
        &self,
        request: v1::UpdateAttestedNodeRequest,
    ) -> Answer<v1::UpdateAttestedNodeResponse> {
        let node = node_in(request.node.ok_or_else(missing_node)?);
        let updated = self.namespace.update_attested_node(node, request.mask.map(node_mask_in)).await;
        Ok(v1::UpdateAttestedNodeResponse { node: Some(node_out(updated.map_err(|error| self.status(error))?)) })
    }

    pub(crate) async fn delete_attested_node(
        &self,
        request: v1::DeleteAttestedNodeRequest,
    ) -> Answer<v1::DeleteAttestedNodeResponse> {
        let deleted = self.namespace.delete_attested_node(request.spiffe_id).await;
        Ok(v1::DeleteAttestedNodeResponse { node: Some(node_out(deleted.map_err(|error| self.status(error))?)) })
    }

    pub(crate) async fn prune_attested_expired_nodes(
        &self,
        request: v1::PruneAttestedExpiredNodesRequest,
    ) -> Answer<v1::PruneAttestedExpiredNodesResponse> {
        let batch_size = i32::try_from(request.batch_size).unwrap_or(if request.batch_size < 0 { 0 } else { i32::MAX });
        let before = micros(request.expires_before);
        let pruned =
            self.namespace.prune_attested_expired_nodes(before, request.include_non_reattestable, batch_size).await;
        let pruned = pruned.map_err(|error| self.status(error))?;
        log_entries(&pruned.cascaded, "Cascade-deleted registration entry on attested node deletion");
        if pruned.pruned > 0 {
            tracing::info!(count = pruned.pruned, "Pruned expired agents");
        }
        Ok(v1::PruneAttestedExpiredNodesResponse {})
    }

    pub(crate) async fn fetch_attested_node(
        &self,
        request: v1::FetchAttestedNodeRequest,
    ) -> Answer<v1::FetchAttestedNodeResponse> {
        let found = self.namespace.fetch_attested_node(request.spiffe_id).await;
        Ok(v1::FetchAttestedNodeResponse { node: found.map_err(|error| self.status(error))?.map(node_out) })
    }

    pub(crate) async fn count_attested_nodes(
        &self,
        request: v1::CountAttestedNodesRequest,
    ) -> Answer<v1::CountAttestedNodesResponse> {
        let filter = AttestedNodeFilter {
            by_attestation_type: request.by_attestation_type,
            by_banned: request.by_banned.then_some(request.banned_value),
            by_expires_before_micros: micros(request.by_expires_before),
            by_can_reattest: request.by_can_reattest.then_some(request.can_reattest_value),
            by_selectors: request.by_selectors.map(by_selectors_in),
            ..AttestedNodeFilter::default()
        };
        let counted = self.namespace.count_attested_nodes(filter).await;
        Ok(v1::CountAttestedNodesResponse { count: counted.map_err(|error| self.status(error))? })
    }

    pub(crate) async fn list_attested_nodes(
        &self,
        request: v1::ListAttestedNodesRequest,
    ) -> Answer<v1::ListAttestedNodesResponse> {
        let filter = AttestedNodeFilter {
            by_attestation_type: request.by_attestation_type,
            by_banned: request.by_banned.then_some(request.banned_value),
            by_expires_before_micros: micros(request.by_expires_before),
            valid_at_micros: micros(request.by_valid_at),
            by_can_reattest: request.by_can_reattest.then_some(request.can_reattest_value),
            by_spiffe_ids: request.by_spiffe_ids,
            by_selectors: request.by_selectors.map(by_selectors_in),
        };
        let selectors = request.fetch_selectors;
        let (nodes, pagination) = match request.pagination {
            Some(asked) => {
                let (token, size) = (&asked.page_token, asked.page_size);
                let page = self.namespace.list_attested_nodes_page(filter, selectors, token, size).await;
                let (nodes, token) = page.map_err(|error| self.status(error))?;
                (nodes, page_out(&asked, token))
            }
            None => (self.all(|| self.namespace.stream_attested_nodes(filter.clone(), selectors)).await?, None),
        };
        Ok(v1::ListAttestedNodesResponse { nodes: nodes.into_iter().map(node_out).collect(), pagination })
    }

    pub(crate) async fn list_attested_node_events(
        &self,
        request: v1::ListAttestedNodeEventsRequest,
    ) -> Answer<v1::ListAttestedNodeEventsResponse> {
        let namespace = self.reading(request.data_consistency);
        let (greater, less) = (event_id(request.greater_than_event_id)?, event_id(request.less_than_event_id)?);
        let events = self.all(|| namespace.stream_attested_node_events(greater, less)).await?;
        Ok(v1::ListAttestedNodeEventsResponse { events: events.into_iter().map(node_event_out).collect() })
    }

    pub(crate) async fn prune_attested_node_events(
        &self,
        request: v1::PruneAttestedNodeEventsRequest,
    ) -> Answer<v1::PruneAttestedNodeEventsResponse> {
        let pruned = self.namespace.prune_attested_node_events(age(request.older_than)?).await;
        pruned.map_err(|error| self.status(error))?;
        Ok(v1::PruneAttestedNodeEventsResponse {})
    }

    pub(crate) async fn fetch_attested_node_event(
        &self,
        request: v1::FetchAttestedNodeEventRequest,
    ) -> Answer<v1::FetchAttestedNodeEventResponse> {
        let found = self.namespace.fetch_attested_node_event(request.event_id).await;
        let event = Some(node_event_out(found.map_err(|error| self.status(error))?));
        Ok(v1::FetchAttestedNodeEventResponse { event })
    }

    pub(crate) async fn create_attested_node_event(
        &self,
        _: v1::CreateAttestedNodeEventRequest,
    ) -> Answer<v1::CreateAttestedNodeEventResponse> {
        Err(not_written())
    }

    pub(crate) async fn delete_attested_node_event(
        &self,
        _: v1::DeleteAttestedNodeEventRequest,
    ) -> Answer<v1::DeleteAttestedNodeEventResponse> {
        Err(not_written())
    }

    pub(crate) async fn get_node_selectors(
        &self,
        request: v1::GetNodeSelectorsRequest,
    ) -> Answer<v1::GetNodeSelectorsResponse> {
        let found = self.reading(request.data_consistency).get_node_selectors(request.spiffe_id).await;
        Ok(v1::GetNodeSelectorsResponse { selectors: selectors_out(found.map_err(|error| self.status(error))?) })
    }

    pub(crate) async fn list_node_selectors(
        &self,
        request: v1::ListNodeSelectorsRequest,
    ) -> Answer<v1::ListNodeSelectorsResponse> {
        let namespace = self.reading(request.data_consistency);
        let listed = self.all(|| namespace.stream_node_selectors(micros(request.valid_at))).await?;
        Ok(v1::ListNodeSelectorsResponse { selectors: listed.into_iter().map(node_selectors_out).collect() })
    }

    pub(crate) async fn set_node_selectors(
        &self,
        request: v1::SetNodeSelectorsRequest,
    ) -> Answer<v1::SetNodeSelectorsResponse> {
        let selectors = request.selectors.iter().cloned().map(selector_in).collect();
        let set = self.namespace.set_node_selectors(request.spiffe_id, selectors).await;
        set.map_err(|error| self.status(error))?;
        Ok(v1::SetNodeSelectorsResponse { selectors: request.selectors })
    }
}

/// Join tokens, federation relationships, CA journals.
impl Spire {
    pub(crate) async fn create_join_token(
        &self,
        request: v1::CreateJoinTokenRequest,
    ) -> Answer<v1::CreateJoinTokenResponse> {
        let expires_at = micros(request.expires_at) / 1_000_000;
        let created = self.namespace.create_join_token(request.token.as_str(), expires_at).await;
        created.map_err(|error| self.status(error))?;
        Ok(v1::CreateJoinTokenResponse { token: request.token, expires_at: request.expires_at })
    }

    pub(crate) async fn delete_join_token(
        &self,
        request: v1::DeleteJoinTokenRequest,
    ) -> Answer<v1::DeleteJoinTokenResponse> {
        self.namespace.delete_join_token(request.token).await.map_err(|error| self.status(error))?;
        Ok(v1::DeleteJoinTokenResponse {})
    }

    /// One that does not exist has no text.
    pub(crate) async fn fetch_join_token(
        &self,
        request: v1::FetchJoinTokenRequest,
    ) -> Answer<v1::FetchJoinTokenResponse> {
        let found = self.namespace.fetch_join_token(request.token).await.map_err(|error| self.status(error))?;
        Ok(found.map_or_else(v1::FetchJoinTokenResponse::default, |token| v1::FetchJoinTokenResponse {
            token: token.token,
            expires_at: token.expires_at,
        }))
    }

    pub(crate) async fn prune_join_tokens(
        &self,
        request: v1::PruneJoinTokensRequest,
    ) -> Answer<v1::PruneJoinTokensResponse> {
        let pruned = self.namespace.prune_join_tokens(micros(request.expires_before)).await;
        pruned.map_err(|error| self.status(error))?;
        Ok(v1::PruneJoinTokensResponse {})
    }

    pub(crate) async fn create_federation_relationship(
        &self,
        request: v1::CreateFederationRelationshipRequest,
    ) -> Answer<v1::CreateFederationRelationshipResponse> {
        let relationship = relationship_in(request.relationship.ok_or_else(missing_relationship)?)?;
        let created = self.namespace.create_federation_relationship(relationship).await;
        let relationship = Some(relationship_out(created.map_err(|error| self.status(error))?)?);
        Ok(v1::CreateFederationRelationshipResponse { relationship })
    }

    pub(crate) async fn update_federation_relationship(
        &self,
        request: v1::UpdateFederationRelationshipRequest,
    ) -> Answer<v1::UpdateFederationRelationshipResponse> {
        let relationship = relationship_in(request.relationship.ok_or_else(missing_relationship)?)?;
        let mask = request.mask.map(relationship_mask_in);
        let updated = self.namespace.update_federation_relationship(relationship, mask).await;
        let relationship = Some(relationship_out(updated.map_err(|error| self.status(error))?)?);
        Ok(v1::UpdateFederationRelationshipResponse { relationship })
    }

    pub(crate) async fn delete_federation_relationship(
        &self,
        request: v1::DeleteFederationRelationshipRequest,
    ) -> Answer<v1::DeleteFederationRelationshipResponse> {
        let deleted = self.namespace.delete_federation_relationship(trust_domain_in(&request.trust_domain_id)).await;
        deleted.map_err(|error| self.status(error))?;
        Ok(v1::DeleteFederationRelationshipResponse {})
    }

    pub(crate) async fn fetch_federation_relationship(
        &self,
        request: v1::FetchFederationRelationshipRequest,
    ) -> Answer<v1::FetchFederationRelationshipResponse> {
        let found = self.namespace.fetch_federation_relationship(trust_domain_in(&request.trust_domain_id)).await;
        let found = found.map_err(|error| self.status(error))?;
        Ok(v1::FetchFederationRelationshipResponse { relationship: found.map(relationship_out).transpose()? })
    }

    pub(crate) async fn list_federation_relationships(
        &self,
        request: v1::ListFederationRelationshipsRequest,
    ) -> Answer<v1::ListFederationRelationshipsResponse> {
        let (relationships, pagination) = match request.pagination {
            Some(asked) => {
                let page = self.namespace.list_federation_relationships_page(&asked.page_token, asked.page_size).await;
                let (relationships, token) = page.map_err(|error| self.status(error))?;
                (relationships, page_out(&asked, token))
            }
            None => (self.every_relationship().await?, None),
        };
        let relationships = relationships.into_iter().map(relationship_out).collect::<Result<_, _>>()?;
        Ok(v1::ListFederationRelationshipsResponse { relationships, pagination })
    }

    async fn every_relationship(&self) -> Answer<Vec<steeple_client::types::FederationRelationship>> {
        match self.namespace.list_federation_relationships().await {
            Err(error) if is_too_large(&error) => {
                let page = |token: String| async move {
                    self.namespace.list_federation_relationships_page(&token, BUNDLES_IN_PAGE).await
                };
                self.in_pages(page).await
            }
            listed => listed.map_err(|error| self.status(error)),
        }
    }

    pub(crate) async fn set_ca_journal(&self, request: v1::SetCaJournalRequest) -> Answer<v1::SetCaJournalResponse> {
        let missing = || Status::invalid_argument("ca journal is required");
        let journal = journal_in(request.journal.ok_or_else(missing)?);
        let stored = self.namespace.set_ca_journal(journal).await.map_err(|error| self.status(error))?;
        Ok(v1::SetCaJournalResponse { journal: Some(journal_out(stored)) })
    }

    pub(crate) async fn fetch_ca_journal(
        &self,
        request: v1::FetchCaJournalRequest,
    ) -> Answer<v1::FetchCaJournalResponse> {
        let found = self.namespace.fetch_ca_journal(request.active_x509_authority_id).await;
        Ok(v1::FetchCaJournalResponse { journal: found.map_err(|error| self.status(error))?.map(journal_out) })
    }

    pub(crate) async fn prune_ca_journals(
        &self,
        request: v1::PruneCaJournalsRequest,
    ) -> Answer<v1::PruneCaJournalsResponse> {
        let pruned = self.namespace.prune_ca_journals(micros(request.expires_before) / 1_000_000).await;
        let count = pruned.map_err(|error| self.status(error))?;
        if count > 0 {
            tracing::info!(count, "Pruned stale CA journal records");
        }
        Ok(v1::PruneCaJournalsResponse {})
    }

    pub(crate) async fn list_ca_journals(&self, _: v1::ListCaJournalsRequest) -> Answer<v1::ListCaJournalsResponse> {
        let journals = self.namespace.list_ca_journals().await.map_err(|error| self.status(error))?;
        Ok(v1::ListCaJournalsResponse { journals: journals.into_iter().map(journal_out).collect() })
    }
}
