//! Attested nodes, their events and their selectors.

use prost::Message;
use steeple_wire::spire::v1::{
    AttestedNode, AttestedNodeEvent, AttestedNodeFilter, AttestedNodeMask, CountAttestedNodesRequest,
    CountAttestedNodesResponse, CreateAttestedNodeRequest, CreateAttestedNodeResponse, DeleteAttestedNodeRequest,
    DeleteAttestedNodeResponse, FetchAttestedNodeEventRequest, FetchAttestedNodeEventResponse,
    FetchAttestedNodeRequest, FetchAttestedNodeResponse, FetchAttestedNodesRequest, FetchAttestedNodesResponse,
    GetNodeSelectorsRequest, GetNodeSelectorsResponse, ListAttestedNodeEventsRequest, ListAttestedNodesRequest,
    ListAttestedNodesResponse, ListNodeSelectorsRequest, NodeSelectors, PruneAttestedExpiredNodesRequest,
    PruneAttestedExpiredNodesResponse, PruneAttestedNodeEventsRequest, PruneAttestedNodeEventsResponse, PrunedEntry,
    Selector, SetNodeSelectorsRequest, SetNodeSelectorsResponse, StreamAttestedNodeEventsResponse,
    StreamAttestedNodesRequest, StreamAttestedNodesResponse, StreamNodeSelectorsResponse, UpdateAttestedNodeRequest,
    UpdateAttestedNodeResponse,
};
use tokio_stream::StreamExt;

use super::page;
use crate::call::calls;
use crate::namespace::required;
use crate::pages::Asking;
use crate::{Error, Namespace, Pages, Records};

calls! { "steeple.spire.v1.Datastore", mutation:
    "CreateAttestedNode": CreateAttestedNodeRequest => CreateAttestedNodeResponse,
    "UpdateAttestedNode": UpdateAttestedNodeRequest => UpdateAttestedNodeResponse,
    "DeleteAttestedNode": DeleteAttestedNodeRequest => DeleteAttestedNodeResponse,
    "PruneAttestedExpiredNodes": PruneAttestedExpiredNodesRequest => PruneAttestedExpiredNodesResponse,
    "PruneAttestedNodeEvents": PruneAttestedNodeEventsRequest => PruneAttestedNodeEventsResponse,
    "SetNodeSelectors": SetNodeSelectorsRequest => SetNodeSelectorsResponse,
}

calls! { "steeple.spire.v1.Datastore", query:
    "FetchAttestedNode": FetchAttestedNodeRequest => FetchAttestedNodeResponse,
    "FetchAttestedNodes": FetchAttestedNodesRequest => FetchAttestedNodesResponse,
    "CountAttestedNodes": CountAttestedNodesRequest => CountAttestedNodesResponse,
    "ListAttestedNodes": ListAttestedNodesRequest => ListAttestedNodesResponse,
    "StreamAttestedNodes": StreamAttestedNodesRequest => StreamAttestedNodesResponse,
    "StreamAttestedNodeEvents": ListAttestedNodeEventsRequest => StreamAttestedNodeEventsResponse,
    "FetchAttestedNodeEvent": FetchAttestedNodeEventRequest => FetchAttestedNodeEventResponse,
    "GetNodeSelectors": GetNodeSelectorsRequest => GetNodeSelectorsResponse,
    "StreamNodeSelectors": ListNodeSelectorsRequest => StreamNodeSelectorsResponse,
}

/// What one batch of pruning came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// Records deleted.
    pub pruned: u64,
    /// Whether there are more.
    pub more: bool,
    /// Entries that went with them; the first 10000.
    pub cascaded: Vec<PrunedEntry>,
    /// Whether there may have been more than `cascaded` has.
    pub cascaded_truncated: bool,
}

/// A node that was deleted, and what went with it.
#[derive(Clone, Debug, PartialEq)]
pub struct DeletedNode {
    /// The node as it was.
    pub node: AttestedNode,
    /// Alias entries that went with it, as they do for one attested by join token; the first 10000.
    pub cascaded: Vec<PrunedEntry>,
    /// Whether there may have been more than `cascaded` has.
    pub cascaded_truncated: bool,
}

/// Attested nodes and node selectors.
impl Namespace {
    /// Stores a new node.
    ///
    /// # Errors
    /// `AlreadyExists` when there is one of that name; see also [`Error`].
    pub async fn create_attested_node(&self, node: AttestedNode) -> Result<AttestedNode, Error> {
        let request = CreateAttestedNodeRequest { context: None, node: Some(node) };
        required(self.mutate(request).await?.node, "node")
    }

    /// Replaces fields of a node; all of them without a mask.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn update_attested_node(
        &self,
        node: AttestedNode,
        mask: Option<AttestedNodeMask>,
    ) -> Result<AttestedNode, Error> {
        let request = UpdateAttestedNodeRequest { context: None, node: Some(node), mask };
        required(self.mutate(request).await?.node, "node")
    }

    /// Deletes a node with what belongs to it, and returns it as it was.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn delete_attested_node(&self, spiffe_id: impl Into<String>) -> Result<AttestedNode, Error> {
        self.delete_attested_node_cascade(spiffe_id).await.map(|deleted| deleted.node)
    }

    /// As [`Namespace::delete_attested_node`], and tells which entries went with it.
    ///
    /// # Errors
    /// `NotFound` when there is none; see also [`Error`].
    pub async fn delete_attested_node_cascade(&self, spiffe_id: impl Into<String>) -> Result<DeletedNode, Error> {
        let request = DeleteAttestedNodeRequest { context: None, spiffe_id: spiffe_id.into() };
        let answer = self.mutate(request).await?;
        let (cascaded, cascaded_truncated) = (answer.cascaded, answer.cascaded_truncated);
        Ok(DeletedNode { node: required(answer.node, "node")?, cascaded, cascaded_truncated })
    }

    /// Deletes up to `batch_size` (1000 when not positive) nodes whose certificates expired before an instant.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prune_attested_expired_nodes(
        &self,
        expired_before_micros: i64,
        include_non_reattestable: bool,
        batch_size: i32,
    ) -> Result<Pruned, Error> {
        let request = PruneAttestedExpiredNodesRequest {
            context: None,
            expired_before_micros,
            include_non_reattestable,
            batch_size,
        };
        let answer = self.mutate(request).await?;
        Ok(Pruned {
            pruned: answer.pruned,
            more: answer.more,
            cascaded: answer.cascaded,
            cascaded_truncated: answer.cascaded_truncated,
        })
    }

    /// One node without selectors, if there is one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_attested_node(&self, spiffe_id: impl Into<String>) -> Result<Option<AttestedNode>, Error> {
        let request = FetchAttestedNodeRequest { context: None, spiffe_id: spiffe_id.into() };
        Ok(self.query(request).await?.node)
    }

    /// Those of several nodes that exist, with selectors, in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn fetch_attested_nodes(&self, spiffe_ids: Vec<String>) -> Result<Vec<AttestedNode>, Error> {
        Ok(self.query(FetchAttestedNodesRequest { context: None, spiffe_ids }).await?.nodes)
    }

    /// How many nodes a filter selects.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn count_attested_nodes(&self, filter: AttestedNodeFilter) -> Result<i32, Error> {
        Ok(self.query(CountAttestedNodesRequest { context: None, filter: Some(filter) }).await?.count)
    }

    /// The nodes that a filter selects, in creation order and in one answer. For long lists see
    /// [`Namespace::stream_attested_nodes`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_attested_nodes(
        &self,
        filter: AttestedNodeFilter,
        fetch_selectors: bool,
    ) -> Result<Vec<AttestedNode>, Error> {
        let request =
            ListAttestedNodesRequest { context: None, filter: Some(filter), fetch_selectors, pagination: None };
        Ok(self.query(request).await?.nodes)
    }

    /// Up to `size` of the nodes that a filter selects behind `token` (empty for the beginning), and the next token.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_attested_nodes_page(
        &self,
        filter: AttestedNodeFilter,
        fetch_selectors: bool,
        token: &str,
        size: i32,
    ) -> Result<(Vec<AttestedNode>, String), Error> {
        let pagination = page(token, size);
        let request = ListAttestedNodesRequest { context: None, filter: Some(filter), fetch_selectors, pagination };
        let answer = self.query(request).await?;
        Ok((answer.nodes, required(answer.pagination, "pagination")?.token))
    }

    /// The nodes that a filter selects, however many, in creation order and in pages of up to `size`.
    #[must_use]
    pub fn attested_node_pages(
        &self,
        filter: AttestedNodeFilter,
        fetch_selectors: bool,
        size: i32,
    ) -> Pages<AttestedNode> {
        let ask = move |namespace: Namespace, token: &str| -> Asking {
            let (filter, pagination) = (Some(filter.clone()), page(token, size));
            let request = ListAttestedNodesRequest { context: None, filter, fetch_selectors, pagination };
            Box::pin(async move { namespace.query_unread(request).await })
        };
        Pages::new(self.clone(), ask, |page| Ok(ListAttestedNodesResponse::decode(page)?.nodes))
    }

    /// The nodes that a filter selects, however many, in creation order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_attested_nodes(
        &self,
        filter: AttestedNodeFilter,
        fetch_selectors: bool,
    ) -> Result<Records<StreamAttestedNodesResponse, AttestedNode>, Error> {
        let request = StreamAttestedNodesRequest { context: None, filter: Some(filter), fetch_selectors };
        self.query_stream(request, |message| (message.nodes, message.revision)).await
    }

    /// Events above (`greater_than`) or below (`less_than`) an id; 0 means no bound.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_attested_node_events(
        &self,
        greater_than: u64,
        less_than: u64,
    ) -> Result<Vec<AttestedNodeEvent>, Error> {
        self.stream_attested_node_events(greater_than, less_than).await?.collect().await
    }

    /// As [`Namespace::list_attested_node_events`], one by one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_attested_node_events(
        &self,
        greater_than: u64,
        less_than: u64,
    ) -> Result<Records<StreamAttestedNodeEventsResponse, AttestedNodeEvent>, Error> {
        let request = ListAttestedNodeEventsRequest {
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
    pub async fn fetch_attested_node_event(&self, event_id: u64) -> Result<AttestedNodeEvent, Error> {
        let request = FetchAttestedNodeEventRequest { context: None, event_id };
        required(self.query(request).await?.event, "event")
    }

    /// Gives up events that are older than this, and tells how many.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn prune_attested_node_events(&self, older_than: std::time::Duration) -> Result<u64, Error> {
        let older_than_micros = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        let request = PruneAttestedNodeEventsRequest { context: None, older_than_micros };
        Ok(self.mutate(request).await?.pruned)
    }

    /// Replaces the selectors stored under a SPIFFE ID; an empty list clears them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn set_node_selectors(
        &self,
        spiffe_id: impl Into<String>,
        selectors: Vec<Selector>,
    ) -> Result<(), Error> {
        let spiffe_id = spiffe_id.into();
        self.mutate(SetNodeSelectorsRequest { context: None, spiffe_id, selectors }).await?;
        Ok(())
    }

    /// The selectors stored under a SPIFFE ID, in the order given.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get_node_selectors(&self, spiffe_id: impl Into<String>) -> Result<Vec<Selector>, Error> {
        let request = GetNodeSelectorsRequest { context: None, spiffe_id: spiffe_id.into() };
        Ok(self.query(request).await?.selectors)
    }

    /// All stored selectors; with `valid_at_micros` other than 0 only those of nodes whose certificate is still valid
    /// then.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list_node_selectors(&self, valid_at_micros: i64) -> Result<Vec<NodeSelectors>, Error> {
        self.stream_node_selectors(valid_at_micros).await?.collect().await
    }

    /// As [`Namespace::list_node_selectors`], one by one.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stream_node_selectors(
        &self,
        valid_at_micros: i64,
    ) -> Result<Records<StreamNodeSelectorsResponse, NodeSelectors>, Error> {
        let request = ListNodeSelectorsRequest { context: None, valid_at_micros };
        self.query_stream(request, |message| (message.node_selectors, message.revision)).await
    }
}
