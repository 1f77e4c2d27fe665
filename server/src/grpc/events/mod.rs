//! The service `steeple.events.v1.Events`.

mod bootstrap;
mod changes;
mod history;
mod positions;
mod tail;

use steeple_engine::domain::CATALOG;
use steeple_engine::ids::{Sequence, StreamSequence};
use steeple_engine::table::StreamDefinition;
use steeple_engine::view::{Reader, StreamRow};
use steeple_wire::events::v1 as wire;
use steeple_wire::events::v1::events_server::Events;
use steeple_wire::packed::TailResponse;
use steeple_wire::status::ErrorKind;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use self::positions::Positions;
use super::convert::{key_text, micros};
use super::scope::{Freshness, Scope, blocking, respond};
use super::{errors, limits};
use crate::node::{Node, core};

/// Serves the events of a node.
#[derive(Clone)]
pub(crate) struct EventsService {
    node: Node,
    stopping: watch::Receiver<bool>,
}

impl EventsService {
    pub(crate) fn new(node: Node, stopping: watch::Receiver<bool>) -> Self {
        Self { node, stopping }
    }
}

type Stream<M> = ReceiverStream<Result<M, Status>>;

#[tonic::async_trait]
impl Events for EventsService {
    type TailStream = Stream<TailResponse>;
    type BootstrapStream = Stream<wire::BootstrapResponse>;
    type HistoryStream = Stream<wire::HistoryResponse>;

    async fn tail(&self, request: Request<wire::TailRequest>) -> Result<Response<Self::TailStream>, Status> {
        let request = request.into_inner();
        let scope = Scope::open(&self.node, &request.namespace).await?;
        let revision = self.node.revision();
        Ok(respond(tail::begin(scope, request, self.stopping.clone())?, revision))
    }

    async fn bootstrap(
        &self,
        request: Request<wire::BootstrapRequest>,
    ) -> Result<Response<Self::BootstrapStream>, Status> {
        let request = request.into_inner();
        let freshness = Freshness::new(request.consistency(), request.min_revision);
        let scope = Scope::fresh(&self.node, &request.namespace, freshness).await?;
        let revision = self.node.revision();
        Ok(respond(bootstrap::begin(scope, &request.collections)?, revision))
    }

    async fn history(&self, request: Request<wire::HistoryRequest>) -> Result<Response<Self::HistoryStream>, Status> {
        let request = request.into_inner();
        let freshness = Freshness::new(request.consistency(), request.min_revision);
        let scope = Scope::fresh(&self.node, &request.namespace, freshness).await?;
        let versions = history::begin(scope.clone(), request).await?;
        Ok(respond(versions, scope.shown()))
    }

    async fn state_at(
        &self,
        request: Request<wire::StateAtRequest>,
    ) -> Result<Response<wire::StateAtResponse>, Status> {
        let request = request.into_inner();
        let freshness = Freshness::new(request.consistency(), request.min_revision);
        let scope = Scope::fresh(&self.node, &request.namespace, freshness).await?;
        let state = history::state_at(scope.clone(), request).await?;
        Ok(respond(state, scope.shown()))
    }

    async fn list_items(
        &self,
        request: Request<wire::ListItemsRequest>,
    ) -> Result<Response<wire::ListItemsResponse>, Status> {
        let request = request.into_inner();
        let scope = Scope::of_query(&self.node, request.context.clone()).await?;
        let reading = scope.clone();
        let items = match is_up_to_date(&scope, &request)? {
            true => Vec::new(),
            false => blocking(move || list_items(&reading, &request)).await?,
        };
        Ok(respond(wire::ListItemsResponse { items }, scope.shown()))
    }

    async fn stream_status(
        &self,
        request: Request<wire::StreamStatusRequest>,
    ) -> Result<Response<wire::StreamStatusResponse>, Status> {
        let scope = Scope::of_query(&self.node, request.into_inner().context).await?;
        let status = stream_status(&scope);
        let revision = status.revision.into();
        Ok(respond(status, revision))
    }
}

/// The stream of this name.
fn stream_named(name: &str) -> Result<&'static StreamDefinition, Status> {
    CATALOG.stream_named(name).ok_or_else(|| {
        let names: Vec<_> = CATALOG.streams.iter().map(|stream| stream.name).collect();
        Status::invalid_argument(format!("there is no stream {name:?}; there are {}", names.join(", ")))
    })
}

/// The name of a stream; its number where this build has none for it.
fn stream_name(id: steeple_engine::ids::StreamId) -> String {
    CATALOG.stream(id).map_or_else(|| id.to_string(), |stream| stream.name.to_owned())
}

fn stream_status(scope: &Scope) -> wire::StreamStatusResponse {
    let (revision, states) = scope.node.read(|reader| {
        let states = CATALOG.streams.iter().map(|stream| (stream, reader.stream(scope.namespace, stream.id)));
        (reader.revision(), states.collect::<Vec<_>>())
    });
    let positions = states.iter().map(|(stream, state)| (stream.id, state.last)).collect();
    let streams = states.iter().map(|(stream, state)| wire::StreamState {
        stream: stream.name.to_owned(),
        oldest_sequence: state.low_water.0,
        last_sequence: state.last.0,
    });
    wire::StreamStatusResponse {
        history_id: scope.node.history_id().to_string(),
        revision: revision.0,
        streams: streams.collect(),
        cursor: Positions { revision, streams: positions }.cursor(scope),
    }
}

/// Whether there is nothing behind what the caller has, which takes no look at the records.
fn is_up_to_date(scope: &Scope, request: &wire::ListItemsRequest) -> Result<bool, Status> {
    let stream = stream_named(&request.stream)?;
    let last = scope.look(|reader| reader.stream(scope.namespace, stream.id).last);
    Ok(request.after_sequence >= last.0)
}

fn list_items(scope: &Scope, request: &wire::ListItemsRequest) -> Result<Vec<wire::ListedItem>, Status> {
    let stream = stream_named(&request.stream)?;
    let limit = match request.limit as usize {
        0 => limits::ITEMS_MAX,
        limit => limit.min(limits::ITEMS_MAX),
    };
    let after = StreamSequence(request.after_sequence);
    let rows = scope.look(|reader| {
        let state = reader.stream(scope.namespace, stream.id);
        if after.0.saturating_add(1) < state.low_water.0 {
            return Err(compacted(stream.name, state.low_water));
        }
        reader.stream_rows(scope.namespace, stream.id, after, limit).map_err(|error| errors::failed(&error))
    })?;
    scope.node.read_events(|events| list_rows(events, stream, rows, request.without_changes))
}

fn list_rows(
    events: &mut core::Events<'_>,
    stream: &StreamDefinition,
    rows: Vec<StreamRow>,
    without_changes: bool,
) -> Result<Vec<wire::ListedItem>, Status> {
    let mut bytes = 0;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let item = listed(events, stream, row, without_changes)?;
        bytes += prost::Message::encoded_len(&item);
        // Callers go on behind the last item they got, so a shorter list than asked for loses nothing.
        if bytes > limits::ANSWER_BYTES_MAX && !items.is_empty() {
            break;
        }
        items.push(item);
    }
    Ok(items)
}

fn listed(
    events: &mut core::Events<'_>,
    stream: &StreamDefinition,
    row: StreamRow,
    without_changes: bool,
) -> Result<wire::ListedItem, Status> {
    let (revision, time_micros) = (row.revision, micros(row.time));
    let change = match row.change.filter(|_| !without_changes) {
        Some(position) => {
            let event = events.read(revision).map_err(|error| errors::not_answered(&error))?;
            changes::at(&event, position)?
        }
        None => None,
    };
    let key = key_text(&row.key);
    let item = wire::Item { stream: stream.name.to_owned(), sequence: row.sequence.0, key, change };
    Ok(wire::ListedItem { item: Some(item), revision: revision.0, time_micros })
}

/// Items that are needed are no longer kept.
fn compacted(stream: &str, oldest: StreamSequence) -> Status {
    ErrorKind::Compacted.status(format!("stream {stream} is compacted: the oldest sequence left is {oldest}"))
}

/// The number in a CA journal's key.
fn journal_sequence(key: &str) -> Result<Sequence, Status> {
    let number = key.parse().map(Sequence);
    number.map_err(|_| Status::invalid_argument(format!("{key:?} is not the id of a CA journal")))
}
