//! Every call that reads is as fresh as it was asked to be.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use steeple_client::Client;
use steeple_wire::DESCRIPTORS;
use steeple_wire::admin::v1 as admin;
use steeple_wire::admin::v1::admin_client::AdminClient;
use steeple_wire::common::v1::{Consistency, ReadContext};
use steeple_wire::events::v1 as events;
use steeple_wire::events::v1::events_client::EventsClient;
use steeple_wire::status::ErrorKind;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::connect;
use super::scope::confirmation::Gate;
use crate::node::{Node, NodeOptions, NodeParts};

/// What every request with a [`ReadContext`] has at least.
#[derive(Clone, PartialEq, prost::Message)]
struct Probe {
    #[prost(message, optional, tag = "1")]
    context: Option<ReadContext>,
}

fn probe(consistency: Consistency) -> Probe {
    let context = ReadContext { namespace: "prod".into(), consistency: consistency.into(), min_revision: 0 };
    Probe { context: Some(context) }
}

async fn serve() -> (Node, Channel) {
    let node = tokio::task::spawn_blocking(|| Node::start(NodeOptions::in_memory(), NodeParts::default()));
    let node = node.await.unwrap().unwrap();
    node.open_namespace("prod").await.unwrap();
    let channel = connect(node.clone()).await.unwrap();
    (node, channel)
}

/// The paths of all calls whose request has a [`ReadContext`], which is always its first field.
fn calls_with_context() -> Vec<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let mut requests = BTreeMap::new();
    for file in &files {
        for message in &file.message_type {
            let context = message.field.iter().find(|field| field.type_name().ends_with(".ReadContext"));
            requests.insert(format!(".{}.{}", file.package(), message.name()), context.map(|field| field.number()));
        }
    }
    let mut paths = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                if let Some(number) = requests[method.input_type()] {
                    assert_eq!(number, 1, "{}", method.input_type());
                    paths.push(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
    }
    paths
}

/// Whether a call got past the question how fresh the node is; what it then says of the rest of the request is no matter.
fn passed(result: Result<(), Status>) -> bool {
    match result {
        Ok(()) => true,
        Err(status) => ErrorKind::of(&status) != Some(ErrorKind::Unavailable),
    }
}

async fn ask(channel: &Channel, path: &str, consistency: Consistency) -> bool {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::try_from(path.to_owned()).unwrap();
    let codec = ProstCodec::<Probe, ()>::default();
    let answer = grpc.server_streaming(Request::new(probe(consistency)), path, codec).await;
    // A refusal comes with the head of the answer or, for a unary call, behind it.
    match answer {
        Ok(answer) => passed(answer.into_inner().message().await.map(drop)),
        Err(status) => passed(Err(status)),
    }
}

#[tokio::test]
async fn every_read_with_a_context_honours_it() {
    let (_node, channel) = serve().await;
    let paths = calls_with_context();
    assert!(paths.len() >= 30, "{paths:?}");
    let gate = Gate::new();
    gate.0.close();
    for path in &paths {
        assert!(!ask(&channel, path, Consistency::RequireCurrent).await, "{path} answered without a confirmation");
        assert!(ask(&channel, path, Consistency::TolerateStale).await, "{path} asked for a confirmation");
    }
    drop(gate);
    for path in &paths {
        assert!(ask(&channel, path, Consistency::RequireCurrent).await, "{path}");
    }
}

/// Calls without a [`ReadContext`] that read.
async fn other_reads(channel: &Channel, consistency: Consistency) -> BTreeMap<&'static str, bool> {
    let (namespace, consistency) = ("prod".to_owned(), consistency.into());
    let record = Some(events::RecordKey { collection: events::Collection::AttestedNodes.into(), key: "n".into() });
    let mut client = EventsClient::new(channel.clone());
    let bootstrap = events::BootstrapRequest { namespace: namespace.clone(), consistency, ..Default::default() };
    let history = events::HistoryRequest {
        namespace: namespace.clone(),
        record: record.clone(),
        consistency,
        ..Default::default()
    };
    let at = Some(events::state_at_request::At::Revision(0));
    let state_at = events::StateAtRequest { namespace, record, at, consistency, min_revision: 0 };
    let list = admin::ListNamespacesRequest { consistency, min_revision: 0 };
    BTreeMap::from([
        ("bootstrap", passed(client.bootstrap(bootstrap).await.map(drop))),
        ("history", passed(client.history(history).await.map(drop))),
        ("state at", passed(client.state_at(state_at).await.map(drop))),
        ("list namespaces", passed(AdminClient::new(channel.clone()).list_namespaces(list).await.map(drop))),
    ])
}

#[tokio::test]
async fn reads_of_the_past_and_of_namespaces_are_fresh_too() {
    let (_node, channel) = serve().await;
    let gate = Gate::new();
    gate.0.close();
    let current = other_reads(&channel, Consistency::RequireCurrent).await;
    assert!(current.values().all(|passed| !passed), "{current:?}");
    let stale = other_reads(&channel, Consistency::TolerateStale).await;
    assert!(stale.values().all(|passed| *passed), "{stale:?}");
}

#[tokio::test]
async fn a_current_read_waits_for_its_confirmation_and_a_tail_does_not() {
    let (_node, channel) = serve().await;
    let gate = Gate::new();
    let spire = Client::from_channel(channel.clone()).namespace("prod");
    let count = tokio::spawn(async move { spire.count_bundles().await });
    let request = events::TailRequest { namespace: "prod".into(), ..Default::default() };
    let mut tail = EventsClient::new(channel).tail(request).await.unwrap().into_inner();
    assert!(tail.message().await.unwrap().is_some());
    assert!(!count.is_finished());
    gate.0.add_permits(1);
    assert_eq!(count.await.unwrap().unwrap(), 0);
    assert_eq!(gate.0.available_permits(), 0);
}

#[tokio::test]
async fn that_a_namespace_is_missing_is_said_of_a_current_state_only() {
    let (_node, channel) = serve().await;
    let gate = Gate::new();
    let mut client = EventsClient::new(channel.clone());
    let tail = |namespace: &str| events::TailRequest { namespace: namespace.into(), ..Default::default() };
    gate.0.add_permits(1);
    let status = client.tail(tail("other")).await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::NamespaceUnknown));
    assert_eq!(gate.0.available_permits(), 0, "it was confirmed");

    let mut client = AdminClient::new(channel);
    let open =
        |name: &str, must_exist| admin::OpenNamespaceRequest { name: name.into(), must_exist, ..Default::default() };
    let permits = Arc::clone(&gate.0);
    permits.add_permits(1);
    assert!(!client.open_namespace(open("prod", false)).await.unwrap().into_inner().created);
    permits.add_permits(1);
    assert_eq!(client.open_namespace(open("other", true)).await.unwrap_err().code(), tonic::Code::NotFound);
    assert_eq!(permits.available_permits(), 0);
    permits.close();
    let status = client.open_namespace(open("prod", false)).await.unwrap_err();
    assert_eq!(ErrorKind::of(&status), Some(ErrorKind::Unavailable));
    assert!(client.open_namespace(open("new", false)).await.unwrap().into_inner().created, "decided, not read");
}

#[tokio::test]
async fn a_group_of_one_tells_its_status_and_refuses_changes() {
    let (node, channel) = serve().await;
    let client = Client::from_channel(channel);
    let status = client.admin().cluster_status().await.unwrap();
    assert_eq!((status.node_id, status.leader_node_id), (node.node_id().0, node.node_id().0));
    assert_eq!((status.revision, status.ready, status.cluster_id), (1, true, node.cluster_id().to_string()));
    assert_eq!((status.members.len(), status.members[0].role()), (1, admin::MemberRole::Voter));
    client.admin().remove_member(2).await.unwrap();
    let error = client.admin().remove_member(node.node_id().0).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "nobody would be left");
    assert_eq!(client.admin().transfer_leader(0).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    let nowhere = admin::AddMemberRequest { node_id: 2, ..Default::default() };
    assert_eq!(client.admin().add_member(nowhere).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}
