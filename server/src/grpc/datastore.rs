//! The service `steeple.spire.v1.Datastore`.

use steeple_engine::ids::Sequence;
use steeple_engine::spire::nodes::queries::ListNodes;
use steeple_wire::common::v1::ReadContext;
use steeple_wire::spire::v1 as wire;
use steeple_wire::spire::v1::datastore_server::Datastore;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::answers;
use super::convert::filters;
use super::lists::{self, Items, Messages, Pieces};
use super::mutations::{Mutation, mutate};
use super::queries::Query;
use super::scope::{Scope, respond};
use super::{batch, errors};
use crate::node::Node;

/// Serves the datastore of a node.
#[derive(Clone)]
pub(crate) struct DatastoreService {
    node: Node,
    stopping: watch::Receiver<bool>,
}

impl DatastoreService {
    /// Ends streams of batches once `stopping` says so.
    pub(crate) fn new(node: Node, stopping: watch::Receiver<bool>) -> Self {
        Self { node, stopping }
    }

    async fn mutate<M: Mutation>(&self, request: Request<M>) -> Result<Response<M::Answer>, Status> {
        let (answer, revision) = mutate(&self.node, request.into_inner()).await?;
        Ok(respond(answer, revision))
    }

    async fn query<Q: Query>(&self, request: Request<Q>) -> Result<Response<Q::Answer>, Status> {
        let mut query = request.into_inner();
        let scope = Scope::of_query(&self.node, query.context().take()).await?;
        let answer = query.answer(&scope).await?;
        Ok(respond(answer, scope.shown()))
    }

    async fn list<L: Listing>(&self, request: Request<L>) -> Result<Response<Messages<L::Message>>, Status> {
        let mut listing = request.into_inner();
        let scope = Scope::of_query(&self.node, listing.take_context()).await?;
        let stream = listing.begin(scope.clone())?;
        // What is streamed may be newer: it is read while it is sent.
        Ok(respond(stream, scope.shown()))
    }
}

/// Messages of a streaming call.
type Stream<M> = ReceiverStream<Result<M, Status>>;

/// A request for a long list.
trait Listing: Send + Sized + 'static {
    /// One message of the answer.
    type Message: Send + 'static;

    /// Its context, which is taken out.
    fn take_context(&mut self) -> Option<ReadContext>;

    /// Checks the request and begins to read.
    fn begin(self, scope: Scope) -> Result<Messages<Self::Message>, Status>;
}

/// Declares long lists: request and message, and the stream as an expression over scope and request.
macro_rules! listings {
    ($($Request:ident => $Message:ident: |$scope:pat_param, $request:pat_param| $stream:expr;)*) => {
        $(
            impl Listing for wire::$Request {
                type Message = answers::$Message;

                fn take_context(&mut self) -> Option<ReadContext> {
                    self.context.take()
                }

                fn begin(self, $scope: Scope) -> Result<Messages<Self::Message>, Status> {
                    let $request = self;
                    $stream
                }
            }
        )*
    };
}

listings! {
    StreamRegistrationEntriesRequest => StreamRegistrationEntriesResponse: |scope, request| {
        let pieces = lists::Entries { filter: filters::entries_from_wire(request.filter)? };
        pieces.filter.check().map_err(|error| errors::refused(&error))?;
        let pack = |entries: lists::EncodedEntries, revision| {
            entries.pack(wire::StreamRegistrationEntriesResponse { entries: Vec::new(), revision })
        };
        pieces.stream(scope, Sequence::ZERO, usize::MAX, pack)
    };
    StreamAttestedNodesRequest => StreamAttestedNodesResponse: |scope, request| {
        let filter = filters::nodes_from_wire(request.filter)?;
        filter.check().map_err(|error| errors::refused(&error))?;
        let list = ListNodes { filter, fetch_selectors: request.fetch_selectors, page: None };
        let pack =
            |nodes: Items<_>, revision| wire::StreamAttestedNodesResponse { nodes: nodes.into(), revision };
        lists::Nodes { list }.stream(scope, Sequence::ZERO, usize::MAX, pack)
    };
    ListRegistrationEntryEventsRequest => StreamRegistrationEntryEventsResponse: |scope, request| {
        let (above, below) = (request.greater_than_event_id, request.less_than_event_id);
        let events = lists::Events::new(above, below, request.limit)?;
        let (after, limit) = (events.after(), events.limit());
        let pack = |events: Items<wire::RegistrationEntryEvent>, revision| {
            wire::StreamRegistrationEntryEventsResponse { events: events.into(), revision }
        };
        events.stream(scope, after, limit, pack)
    };
    ListAttestedNodeEventsRequest => StreamAttestedNodeEventsResponse: |scope, request| {
        let (above, below) = (request.greater_than_event_id, request.less_than_event_id);
        let events = lists::Events::new(above, below, request.limit)?;
        let (after, limit) = (events.after(), events.limit());
        let pack = |events: Items<wire::AttestedNodeEvent>, revision| {
            wire::StreamAttestedNodeEventsResponse { events: events.into(), revision }
        };
        events.stream(scope, after, limit, pack)
    };
    ListNodeSelectorsRequest => StreamNodeSelectorsResponse: |scope, request| {
        let pack = |selectors: Items<_>, revision| {
            wire::StreamNodeSelectorsResponse { node_selectors: selectors.into(), revision }
        };
        lists::Selectors::new(request.valid_at_micros).stream(scope, Sequence::ZERO, usize::MAX, pack)
    };
}

/// Implements the service: every call goes to the one method for its kind.
macro_rules! service {
    (
        mutations { $($mutation:ident: $Mutation:ident => $MutationAnswer:ident,)* }
        queries { $($query:ident: $Query:ident => $QueryAnswer:ident,)* }
        lists { $($list:ident, $ListStream:ident: $List:ident => $ListMessage:ident,)* }
    ) => {
        #[tonic::async_trait]
        impl Datastore for DatastoreService {
            $(
                async fn $mutation(
                    &self,
                    request: Request<wire::$Mutation>,
                ) -> Result<Response<wire::$MutationAnswer>, Status> {
                    self.mutate(request).await
                }
            )*
            $(
                async fn $query(
                    &self,
                    request: Request<wire::$Query>,
                ) -> Result<Response<answers::$QueryAnswer>, Status> {
                    self.query(request).await
                }
            )*
            $(
                type $ListStream = Messages<answers::$ListMessage>;

                async fn $list(&self, request: Request<wire::$List>) -> Result<Response<Self::$ListStream>, Status> {
                    self.list(request).await
                }
            )*

            async fn batch(
                &self,
                request: Request<wire::BatchRequest>,
            ) -> Result<Response<answers::BatchResponse>, Status> {
                let (answer, revision) = batch::carry_out(&self.node, request.into_inner()).await?;
                Ok(respond(answer, revision))
            }

            type StreamBatchesStream = Stream<answers::BatchResponse>;

            async fn stream_batches(
                &self,
                request: Request<Streaming<wire::BatchRequest>>,
            ) -> Result<Response<Self::StreamBatchesStream>, Status> {
                let answers = batch::stream(self.node.clone(), request.into_inner(), self.stopping.clone()).await?;
                Ok(Response::new(answers))
            }
        }
    };
}

service! {
    mutations {
        create_bundle: CreateBundleRequest => CreateBundleResponse,
        set_bundle: SetBundleRequest => SetBundleResponse,
        update_bundle: UpdateBundleRequest => UpdateBundleResponse,
        append_bundle: AppendBundleRequest => AppendBundleResponse,
        delete_bundle: DeleteBundleRequest => DeleteBundleResponse,
        prune_bundle: PruneBundleRequest => PruneBundleResponse,
        taint_x509ca: TaintX509caRequest => TaintX509caResponse,
        revoke_x509ca: RevokeX509caRequest => RevokeX509caResponse,
        taint_jwt_key: TaintJwtKeyRequest => TaintJwtKeyResponse,
        revoke_jwt_key: RevokeJwtKeyRequest => RevokeJwtKeyResponse,
        create_registration_entry: CreateRegistrationEntryRequest => CreateRegistrationEntryResponse,
        create_or_return_registration_entry: CreateOrReturnRegistrationEntryRequest => CreateOrReturnRegistrationEntryResponse,
        update_registration_entry: UpdateRegistrationEntryRequest => UpdateRegistrationEntryResponse,
        delete_registration_entry: DeleteRegistrationEntryRequest => DeleteRegistrationEntryResponse,
        prune_registration_entries: PruneRegistrationEntriesRequest => PruneRegistrationEntriesResponse,
        prune_registration_entry_events: PruneRegistrationEntryEventsRequest => PruneRegistrationEntryEventsResponse,
        create_attested_node: CreateAttestedNodeRequest => CreateAttestedNodeResponse,
        update_attested_node: UpdateAttestedNodeRequest => UpdateAttestedNodeResponse,
        delete_attested_node: DeleteAttestedNodeRequest => DeleteAttestedNodeResponse,
        prune_attested_expired_nodes: PruneAttestedExpiredNodesRequest => PruneAttestedExpiredNodesResponse,
        prune_attested_node_events: PruneAttestedNodeEventsRequest => PruneAttestedNodeEventsResponse,
        set_node_selectors: SetNodeSelectorsRequest => SetNodeSelectorsResponse,
        create_join_token: CreateJoinTokenRequest => CreateJoinTokenResponse,
        delete_join_token: DeleteJoinTokenRequest => DeleteJoinTokenResponse,
        prune_join_tokens: PruneJoinTokensRequest => PruneJoinTokensResponse,
        create_federation_relationship: CreateFederationRelationshipRequest => CreateFederationRelationshipResponse,
        update_federation_relationship: UpdateFederationRelationshipRequest => UpdateFederationRelationshipResponse,
        delete_federation_relationship: DeleteFederationRelationshipRequest => DeleteFederationRelationshipResponse,
        set_ca_journal: SetCaJournalRequest => SetCaJournalResponse,
        prune_ca_journals: PruneCaJournalsRequest => PruneCaJournalsResponse,
        import_records: ImportRecordsRequest => ImportRecordsResponse,
    }
    queries {
        fetch_bundle: FetchBundleRequest => FetchBundleResponse,
        count_bundles: CountBundlesRequest => CountBundlesResponse,
        list_bundles: ListBundlesRequest => ListBundlesResponse,
        fetch_registration_entry: FetchRegistrationEntryRequest => FetchRegistrationEntryResponse,
        fetch_registration_entries: FetchRegistrationEntriesRequest => FetchRegistrationEntriesResponse,
        count_registration_entries: CountRegistrationEntriesRequest => CountRegistrationEntriesResponse,
        list_registration_entries: ListRegistrationEntriesRequest => ListRegistrationEntriesResponse,
        list_registration_entry_events: ListRegistrationEntryEventsRequest => ListRegistrationEntryEventsResponse,
        fetch_registration_entry_event: FetchRegistrationEntryEventRequest => FetchRegistrationEntryEventResponse,
        fetch_attested_node: FetchAttestedNodeRequest => FetchAttestedNodeResponse,
        fetch_attested_nodes: FetchAttestedNodesRequest => FetchAttestedNodesResponse,
        count_attested_nodes: CountAttestedNodesRequest => CountAttestedNodesResponse,
        list_attested_nodes: ListAttestedNodesRequest => ListAttestedNodesResponse,
        list_attested_node_events: ListAttestedNodeEventsRequest => ListAttestedNodeEventsResponse,
        fetch_attested_node_event: FetchAttestedNodeEventRequest => FetchAttestedNodeEventResponse,
        fetch_event_bounds: FetchEventBoundsRequest => FetchEventBoundsResponse,
        get_node_selectors: GetNodeSelectorsRequest => GetNodeSelectorsResponse,
        list_node_selectors: ListNodeSelectorsRequest => ListNodeSelectorsResponse,
        fetch_join_token: FetchJoinTokenRequest => FetchJoinTokenResponse,
        list_join_tokens: ListJoinTokensRequest => ListJoinTokensResponse,
        fetch_import: FetchImportRequest => FetchImportResponse,
        fetch_federation_relationship: FetchFederationRelationshipRequest => FetchFederationRelationshipResponse,
        list_federation_relationships: ListFederationRelationshipsRequest => ListFederationRelationshipsResponse,
        fetch_ca_journal: FetchCaJournalRequest => FetchCaJournalResponse,
        list_ca_journals: ListCaJournalsRequest => ListCaJournalsResponse,
    }
    lists {
        stream_registration_entries, StreamRegistrationEntriesStream: StreamRegistrationEntriesRequest => StreamRegistrationEntriesResponse,
        stream_registration_entry_events, StreamRegistrationEntryEventsStream: ListRegistrationEntryEventsRequest => StreamRegistrationEntryEventsResponse,
        stream_attested_nodes, StreamAttestedNodesStream: StreamAttestedNodesRequest => StreamAttestedNodesResponse,
        stream_attested_node_events, StreamAttestedNodeEventsStream: ListAttestedNodeEventsRequest => StreamAttestedNodeEventsResponse,
        stream_node_selectors, StreamNodeSelectorsStream: ListNodeSelectorsRequest => StreamNodeSelectorsResponse,
    }
}
