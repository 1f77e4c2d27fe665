//! The services over a real node in memory, through the client or beside it.

use std::time::Duration;

use steeple_client::administration::LogStatisticsRequest;
use steeple_client::events::record::Record as Kind;
use steeple_client::events::{
    Collection, HistoryRequest, RecordKey, StartPosition, StateAtRequest, TailRequest, state_at_request,
};
use steeple_client::types::datastore_client::DatastoreClient;
use steeple_client::types::mutation_outcome::Result as Answer;
use steeple_client::types::{
    AttestedNode, AttestedNodeFilter, BatchRequest, Bundle, BySelectors, CaJournal, CreateAttestedNodeRequest,
    CreateOrReturnRegistrationEntryRequest, CreateRegistrationEntryRequest, DeleteAttestedNodeRequest, DeleteMode,
    DeleteRegistrationEntryRequest, FederationRelationship, FetchBundleRequest, MatchBehavior, Mutation,
    PruneCaJournalsRequest, PrunedEntry, RegistrationEntry, RegistrationEntryFilter, RegistrationEntryMask, Selector,
    StreamAttestedNodesRequest, UpdateRegistrationEntryRequest,
};
use steeple_client::{
    BootstrapState, Client, Error, Moment, Namespace, Operation, RequestId, TailContent, TailOptions, TailStart,
    WriterOptions,
};
use steeple_engine::ids::StreamSequence;
use steeple_engine::record_store::RecordStoreKind;
use steeple_engine::spire::REGISTRATIONS;
use steeple_engine::spire::limits::{CASCADE_MAX, PRUNE_NODES_MAX};
use steeple_wire::admin::v1::DeleteNamespaceRequest;
use steeple_wire::admin::v1::admin_client::AdminClient;
use steeple_wire::common::v1::{ReadContext, RequestContext};
use steeple_wire::cursor::Cursor;
use steeple_wire::events::v1::ListItemsRequest;
use steeple_wire::events::v1::events_client::EventsClient;
use steeple_wire::status::{ErrorKind, REVISION_HEADER};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel;

use super::lists::FEW;
use super::{connect, limits};
use crate::node::tail::{StreamPosition, TailError};
use crate::node::{Node, NodeOptions, NodeParts};

mod administration;
mod batches;
mod lists;
mod records;
mod requests;
mod tails;

/// A node in memory with one namespace, and ways to it.
struct Served {
    node: Node,
    channel: Channel,
    client: Client,
    spire: Namespace,
}

async fn serve() -> Served {
    let node = tokio::task::spawn_blocking(|| Node::start(NodeOptions::in_memory(), NodeParts::default()));
    let node = node.await.unwrap().unwrap();
    let channel = connect(node.clone()).await.unwrap();
    let client = Client::from_channel(channel.clone());
    let spire = client.admin().open_namespace("prod").await.unwrap();
    Served { node, channel, client, spire }
}

fn selector(value: &str) -> Selector {
    Selector { r#type: "unix".into(), value: value.into() }
}

fn entry(id: &str, values: &[&str]) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: id.into(),
        spiffe_id: format!("spiffe://td.example/{id}"),
        parent_id: "spiffe://td.example/agent".into(),
        selectors: values.iter().map(|value| selector(value)).collect(),
        ..Default::default()
    }
}

fn agent(name: &str) -> AttestedNode {
    AttestedNode { spiffe_id: name.into(), attestation_data_type: "t".into(), ..Default::default() }
}

async fn create_entries(spire: &Namespace, count: usize) {
    for first in (0..count).step_by(limits::BATCH_MUTATIONS_MAX) {
        let last = (first + limits::BATCH_MUTATIONS_MAX).min(count);
        let operation = |number| {
            let entry = Some(entry(&format!("e{number:05}"), &["uid:1"]));
            Operation::CreateRegistrationEntry(CreateRegistrationEntryRequest { context: None, entry })
        };
        let outcomes = spire.batch((first..last).map(operation).collect()).await;
        assert!(outcomes.iter().all(|outcome| outcome.answer.is_ok()));
        assert!(outcomes.is_sorted_by(|left, right| left.revision < right.revision), "decided in order");
    }
}
