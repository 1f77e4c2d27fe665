//! Attested nodes, their events and selectors.

use steeple_client::types::AttestedNodeFilter;
use tonic::Status;

use super::{Answer, Spire, log_entries, paged};
use crate::convert::{
    age, by_selectors_in, event_id, micros, node_event_out, node_in, node_mask_in, node_out, node_selectors_out,
    selector_in, selectors_out,
};
use crate::protocol::datastore as v1;

/// The line that SPIRE's operators know for an entry that went with its agent.
const CASCADED: &str = "Cascade-deleted registration entry on attested node deletion";

fn missing_node() -> Status {
    Status::invalid_argument("datastore-sql: invalid request: missing attested node")
}

impl Spire {
    pub(crate) async fn create_attested_node(
        &self,
        request: v1::CreateAttestedNodeRequest,
    ) -> Answer<v1::CreateAttestedNodeResponse> {
        let node = node_in(request.node.ok_or_else(missing_node)?);
        let stored = self.namespace.create_attested_node(node).await?;
        Ok(v1::CreateAttestedNodeResponse { node: Some(node_out(stored)) })
    }

    pub(crate) async fn update_attested_node(
        &self,
        request: v1::UpdateAttestedNodeRequest,
    ) -> Answer<v1::UpdateAttestedNodeResponse> {
        let node = node_in(request.node.ok_or_else(missing_node)?);
        let updated = self.namespace.update_attested_node(node, request.mask.map(node_mask_in)).await?;
        Ok(v1::UpdateAttestedNodeResponse { node: Some(node_out(updated)) })
    }

    pub(crate) async fn delete_attested_node(
        &self,
        request: v1::DeleteAttestedNodeRequest,
    ) -> Answer<v1::DeleteAttestedNodeResponse> {
        let deleted = self.namespace.delete_attested_node_cascade(request.spiffe_id).await?;
        log_entries(&deleted.cascaded, deleted.cascaded_truncated, CASCADED);
        Ok(v1::DeleteAttestedNodeResponse { node: Some(node_out(deleted.node)) })
    }

    pub(crate) async fn prune_attested_expired_nodes(
        &self,
        request: v1::PruneAttestedExpiredNodesRequest,
    ) -> Answer<v1::PruneAttestedExpiredNodesResponse> {
        let batch_size = i32::try_from(request.batch_size.max(0)).unwrap_or(i32::MAX);
        let (before, all) = (micros(request.expires_before), request.include_non_reattestable);
        let pruned = self.namespace.prune_attested_expired_nodes(before, all, batch_size).await?;
        log_entries(&pruned.cascaded, pruned.cascaded_truncated, CASCADED);
        if pruned.pruned > 0 {
            tracing::info!(count = pruned.pruned, "Pruned expired agents");
        }
        Ok(v1::PruneAttestedExpiredNodesResponse {})
    }

    pub(crate) async fn fetch_attested_node(
        &self,
        request: v1::FetchAttestedNodeRequest,
    ) -> Answer<v1::FetchAttestedNodeResponse> {
        let found = self.namespace.fetch_attested_node(request.spiffe_id).await?;
        Ok(v1::FetchAttestedNodeResponse { node: found.map(node_out) })
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
        let counted = self.namespace.count_attested_nodes(filter).await?;
        Ok(v1::CountAttestedNodesResponse { count: counted })
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
            Some(asked) => paged(
                self.namespace.list_attested_nodes_page(filter, selectors, &asked.page_token, asked.page_size).await?,
                asked.page_size,
            ),
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
        self.namespace.prune_attested_node_events(age(request.older_than)?).await?;
        Ok(v1::PruneAttestedNodeEventsResponse {})
    }

    pub(crate) async fn fetch_attested_node_event(
        &self,
        request: v1::FetchAttestedNodeEventRequest,
    ) -> Answer<v1::FetchAttestedNodeEventResponse> {
        let found = self.namespace.fetch_attested_node_event(request.event_id).await?;
        let event = Some(node_event_out(found));
        Ok(v1::FetchAttestedNodeEventResponse { event })
    }

    pub(crate) async fn get_node_selectors(
        &self,
        request: v1::GetNodeSelectorsRequest,
    ) -> Answer<v1::GetNodeSelectorsResponse> {
        let found = self.reading(request.data_consistency).get_node_selectors(request.spiffe_id).await?;
        Ok(v1::GetNodeSelectorsResponse { selectors: selectors_out(found) })
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
        self.namespace.set_node_selectors(request.spiffe_id, selectors).await?;
        Ok(v1::SetNodeSelectorsResponse { selectors: request.selectors })
    }
}
