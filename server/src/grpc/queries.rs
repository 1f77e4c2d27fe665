//! Requests that only read, and are answered with one message.

use steeple_engine::ids::Sequence;
use steeple_engine::spire::entries::queries::EntryFilter;
use steeple_engine::spire::events::queries as events;
use steeple_engine::spire::nodes::queries::NodeFilter;
use steeple_engine::spire::{NODES, REGISTRATIONS, bundles, entries, federation, imports, journals, nodes, tokens};
use steeple_engine::view::{Reader, StreamState, ViewReader};
use steeple_wire::common::v1::ReadContext;
use steeple_wire::spire::v1 as wire;
use steeple_wire::status::refusal;
use tonic::Status;

use super::answers;
use super::convert::{self, filters};
use super::limits;
use super::lists::{self, EventMessage, FEW, Pieces};
use super::scope::{Scope, blocking, too_large};

/// What to do about an answer with too many entries.
const ENTRIES_INSTEAD: &str = "ask for fewer entries at a time";

/// A request that only reads.
pub(crate) trait Query: Send + Sized + 'static {
    /// Its answer.
    type Answer: Send;

    /// Its context.
    fn context(&mut self) -> &mut Option<ReadContext>;

    /// Asks the state.
    fn answer(self, scope: &Scope) -> impl Future<Output = Result<Self::Answer, Status>> + Send;
}

/// Declares queries: request and answer message, and the answer as an expression over scope and request.
macro_rules! queries {
    ($($Request:ident => $Answer:ident: |$scope:pat_param, $request:pat_param| $reply:expr;)*) => {
        $(
            impl Query for wire::$Request {
                type Answer = answers::$Answer;

                fn context(&mut self) -> &mut Option<ReadContext> {
                    &mut self.context
                }

                async fn answer(self, $scope: &Scope) -> Result<Self::Answer, Status> {
                    let $request = self;
                    Ok($reply)
                }
            }
        )*
    };
}

/// A count as the contract has it.
fn count(count: u64) -> Result<i32, Status> {
    i32::try_from(count).map_err(|_| refusal(tonic::Code::Unknown, format!("count {count} does not fit into 32 bits")))
}

/// The records of a list, which have to fit into one message.
fn fit<M: prost::Message>(messages: Vec<M>, instead: &str) -> Result<Vec<M>, Status> {
    let bytes: usize = messages.iter().map(prost::Message::encoded_len).sum();
    if bytes > limits::ANSWER_BYTES_MAX { Err(too_large(instead)) } else { Ok(messages) }
}

/// The entries with these ids, in creation order, on this thread.
fn fetch_entries(scope: &Scope, ids: &[String]) -> Result<lists::EncodedEntries, Status> {
    let records = scope.read(|reader, namespace| entries::queries::fetch_entry_records(reader, namespace, ids));
    let mut records = records?;
    records.sort_unstable_by_key(|record| record.sequence);
    lists::Entries::gather(records, ENTRIES_INSTEAD)
}

/// The nodes with these SPIFFE IDs, in creation order, on this thread.
fn fetch_nodes(scope: &Scope, ids: &[String]) -> Result<lists::Items<wire::AttestedNode>, Status> {
    let mut records = scope.read(|reader, namespace| nodes::queries::fetch_node_records(reader, namespace, ids))?;
    records.sort_unstable_by_key(|record| record.node.sequence);
    lists::Nodes::gather(records, "ask for fewer nodes at a time")
}

/// Which events of a stream exist.
fn bounds(state: StreamState) -> wire::EventBounds {
    wire::EventBounds { oldest_event_id: state.low_water.0, last_event_id: state.last.0 }
}

queries! {
    FetchBundleRequest => FetchBundleResponse: |scope, request| {
        let id = request.trust_domain_id;
        let bundle = scope.read(|reader, namespace| bundles::queries::fetch_bundle(reader, namespace, &id))?;
        wire::FetchBundleResponse { bundle: bundle.map(convert::bundles::to_wire) }
    };
    CountBundlesRequest => CountBundlesResponse: |scope, _| {
        let bundles = scope.read(|reader, namespace| Ok(bundles::queries::count_bundles(reader, namespace)))?;
        wire::CountBundlesResponse { count: count(bundles)? }
    };
    ListBundlesRequest => ListBundlesResponse: |scope, request| {
        let page = request.pagination.map(filters::page_from_wire);
        let list = scope.read_blocking(move |reader, namespace| {
            bundles::queries::list_bundles(reader, namespace, page.as_ref())
        });
        let list = list.await?;
        let bundles = list.bundles.into_iter().map(convert::bundles::to_wire).collect();
        let bundles = fit(bundles, "ask for pages")?;
        wire::ListBundlesResponse { bundles, pagination: list.page.map(filters::page_to_wire) }
    };

    FetchRegistrationEntryRequest => FetchRegistrationEntryResponse: |scope, request| {
        let entry = scope.read(|reader, namespace| entries::queries::fetch_entry(reader, namespace, &request.entry_id))?;
        wire::FetchRegistrationEntryResponse { entry: entry.map(convert::entries::to_wire) }
    };
    FetchRegistrationEntriesRequest => FetchRegistrationEntriesResponse: |scope, request| {
        let ids = request.entry_ids;
        let few = scope.read(|reader, namespace| {
            entries::queries::fetch_few_entry_records(reader, namespace, &ids, FEW)
        })?;
        let entries = match few {
            Some(records) => lists::Entries::gather(records, ENTRIES_INSTEAD)?,
            None => {
                let scope = scope.clone();
                blocking(move || fetch_entries(&scope, &ids)).await?
            }
        };
        entries.pack(wire::FetchRegistrationEntriesResponse::default())
    };
    CountRegistrationEntriesRequest => CountRegistrationEntriesResponse: |scope, request| {
        let filter = filters::entries_from_wire(request.filter)?;
        let is_long = filter != EntryFilter::default();
        let count_them = move |reader: &ViewReader<'_>, namespace| {
            entries::queries::count_entries(reader, namespace, &filter)
        };
        // How many there are in all is known.
        let entries = if is_long { scope.read_blocking(count_them).await? } else { scope.read(count_them)? };
        wire::CountRegistrationEntriesResponse { count: count(entries)? }
    };
    ListRegistrationEntriesRequest => ListRegistrationEntriesResponse: |scope, request| {
        let page = request.pagination.map(filters::page_from_wire);
        let list = entries::queries::ListEntries { filter: filters::entries_from_wire(request.filter)?, page };
        let window = list.check().map_err(|error| super::errors::refused(&error))?;
        let pieces = lists::Entries { filter: list.filter };
        let (entries, last) = pieces.collect(scope, window.after, window.limit, "StreamRegistrationEntries").await?;
        let pagination = window.response(last).map(filters::page_to_wire);
        entries.pack(wire::ListRegistrationEntriesResponse { entries: Vec::new(), pagination })
    };
    ListRegistrationEntryEventsRequest => ListRegistrationEntryEventsResponse: |scope, request| {
        let (above, below) = (request.greater_than_event_id, request.less_than_event_id);
        let pieces = lists::Events::<wire::RegistrationEntryEvent>::new(above, below, request.limit)?;
        let (after, limit) = (pieces.after(), pieces.limit());
        let (events, _) = pieces.collect(scope, after, limit, "StreamRegistrationEntryEvents").await?;
        wire::ListRegistrationEntryEventsResponse { events: events.into() }
    };
    FetchRegistrationEntryEventRequest => FetchRegistrationEntryEventResponse: |scope, request| {
        let id = request.event_id;
        let row = scope.read(|reader, namespace| events::fetch_event(reader, namespace, REGISTRATIONS, id))?;
        wire::FetchRegistrationEntryEventResponse { event: Some(EventMessage::of(row)) }
    };

    FetchAttestedNodeRequest => FetchAttestedNodeResponse: |scope, request| {
        let node = scope.read(|reader, namespace| nodes::queries::fetch_node(reader, namespace, &request.spiffe_id))?;
        wire::FetchAttestedNodeResponse { node: node.map(convert::nodes::to_wire) }
    };
    FetchAttestedNodesRequest => FetchAttestedNodesResponse: |scope, request| {
        let scope = scope.clone();
        let nodes = blocking(move || fetch_nodes(&scope, &request.spiffe_ids)).await?;
        wire::FetchAttestedNodesResponse { nodes: nodes.into() }
    };
    CountAttestedNodesRequest => CountAttestedNodesResponse: |scope, request| {
        let filter = filters::nodes_from_wire(request.filter)?;
        let is_long = filter != NodeFilter::default();
        let count_them = move |reader: &ViewReader<'_>, namespace| {
            nodes::queries::count_nodes(reader, namespace, &filter)
        };
        let nodes = if is_long { scope.read_blocking(count_them).await? } else { scope.read(count_them)? };
        wire::CountAttestedNodesResponse { count: count(nodes)? }
    };
    ListAttestedNodesRequest => ListAttestedNodesResponse: |scope, request| {
        let page = request.pagination.map(filters::page_from_wire);
        let filter = filters::nodes_from_wire(request.filter)?;
        let list = nodes::queries::ListNodes { filter, fetch_selectors: request.fetch_selectors, page };
        let window = list.check().map_err(|error| super::errors::refused(&error))?;
        let pieces = lists::Nodes { list };
        let (nodes, last) = pieces.collect(scope, window.after, window.limit, "StreamAttestedNodes").await?;
        let pagination = window.response(last).map(filters::page_to_wire);
        wire::ListAttestedNodesResponse { nodes: nodes.into(), pagination }
    };
    ListAttestedNodeEventsRequest => ListAttestedNodeEventsResponse: |scope, request| {
        let (above, below) = (request.greater_than_event_id, request.less_than_event_id);
        let pieces = lists::Events::<wire::AttestedNodeEvent>::new(above, below, request.limit)?;
        let (after, limit) = (pieces.after(), pieces.limit());
        let (events, _) = pieces.collect(scope, after, limit, "StreamAttestedNodeEvents").await?;
        wire::ListAttestedNodeEventsResponse { events: events.into() }
    };
    FetchAttestedNodeEventRequest => FetchAttestedNodeEventResponse: |scope, request| {
        let id = request.event_id;
        let row = scope.read(|reader, namespace| events::fetch_event(reader, namespace, NODES, id))?;
        wire::FetchAttestedNodeEventResponse { event: Some(EventMessage::of(row)) }
    };
    FetchEventBoundsRequest => FetchEventBoundsResponse: |scope, _| scope.read(|reader, namespace| {
        Ok(wire::FetchEventBoundsResponse {
            registration_entries: Some(bounds(reader.stream(namespace, REGISTRATIONS))),
            attested_nodes: Some(bounds(reader.stream(namespace, NODES))),
        })
    })?;

    GetNodeSelectorsRequest => GetNodeSelectorsResponse: |scope, request| {
        let id = request.spiffe_id;
        let selectors = scope.read(|reader, namespace| nodes::queries::get_node_selectors(reader, namespace, &id))?;
        wire::GetNodeSelectorsResponse { selectors: filters::selectors_to_wire(selectors) }
    };
    ListNodeSelectorsRequest => ListNodeSelectorsResponse: |scope, request| {
        let pieces = lists::Selectors::new(request.valid_at_micros);
        let (node_selectors, _) = pieces.collect(scope, Sequence::ZERO, usize::MAX, "StreamNodeSelectors").await?;
        wire::ListNodeSelectorsResponse { node_selectors: node_selectors.into() }
    };

    FetchJoinTokenRequest => FetchJoinTokenResponse: |scope, request| {
        let token = scope.read(|reader, namespace| tokens::queries::fetch_join_token(reader, namespace, &request.token))?;
        wire::FetchJoinTokenResponse { join_token: token.map(convert::tokens::to_wire) }
    };

    ListJoinTokensRequest => ListJoinTokensResponse: |scope, request| {
        let page = request.pagination.map(filters::page_from_wire);
        let list = scope.read_blocking(move |reader, namespace| {
            tokens::queries::list_join_tokens(reader, namespace, page.as_ref())
        });
        let list = list.await?;
        let join_tokens = list.items.into_iter().map(convert::tokens::to_wire).collect();
        let join_tokens = fit(join_tokens, "ask for pages")?;
        wire::ListJoinTokensResponse { join_tokens, pagination: list.response.map(filters::page_to_wire) }
    };

    FetchImportRequest => FetchImportResponse: |scope, _| {
        let import = scope.read(|reader, namespace| imports::queries::fetch_import(reader, namespace))?;
        wire::FetchImportResponse { import: import.map(convert::imports::to_wire) }
    };

    FetchFederationRelationshipRequest => FetchFederationRelationshipResponse: |scope, request| {
        let name = request.trust_domain;
        let found = scope.read(|reader, namespace| federation::queries::fetch_relationship(reader, namespace, &name))?;
        wire::FetchFederationRelationshipResponse { relationship: found.map(convert::federation::to_wire) }
    };
    ListFederationRelationshipsRequest => ListFederationRelationshipsResponse: |scope, request| {
        let page = request.pagination.map(filters::page_from_wire);
        let list = scope.read_blocking(move |reader, namespace| {
            federation::queries::list_relationships(reader, namespace, page.as_ref())
        });
        let list = list.await?;
        let relationships = list.relationships.into_iter().map(convert::federation::to_wire).collect();
        let relationships = fit(relationships, "ask for pages")?;
        wire::ListFederationRelationshipsResponse { relationships, pagination: list.page.map(filters::page_to_wire) }
    };

    FetchCaJournalRequest => FetchCaJournalResponse: |scope, request| {
        let id = request.active_x509_authority_id;
        let journal = scope.read(|reader, namespace| journals::queries::fetch_journal(reader, namespace, &id))?;
        wire::FetchCaJournalResponse { journal: journal.map(convert::journals::to_wire) }
    };
    ListCaJournalsRequest => ListCaJournalsResponse: |scope, _| {
        let journals = scope.read_blocking(|reader, namespace| journals::queries::list_journals(reader, namespace));
        let journals = journals.await?.into_iter().map(convert::journals::to_wire).collect();
        wire::ListCaJournalsResponse { journals: fit(journals, "prune journals that are not used any more")? }
    };
}
