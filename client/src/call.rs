//! Sending one message and receiving one, or many.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steeple_wire::MESSAGE_BYTES_MAX;
use steeple_wire::admin::v1::{ClusterStatusRequest, ClusterStatusResponse};
use steeple_wire::common::v1::{ReadContext, RequestContext};
use steeple_wire::spire::v1::{BatchRequest, BatchResponse};
use steeple_wire::status::{ErrorKind, REVISION_HEADER};
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codec::Codec;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::Client;
use crate::cluster::{Cluster, Node, Route};
use crate::error::Error;
use crate::pages::Unreading;
use crate::retry::{Failed, Stake, Turn, retry};

/// A request message, with the call that it belongs to.
pub(crate) trait Call: prost::Message + Clone + Default + 'static {
    /// What it is answered with; for a streaming call one of the messages.
    type Answer: prost::Message + Default + 'static;
    /// Names the call on the wire.
    const PATH: &'static str;
}

/// The request of a call that changes something.
pub(crate) trait Mutation: Call {
    /// Its context.
    fn context(&mut self) -> &mut Option<RequestContext>;
}

/// The request of a call that only reads.
pub(crate) trait Query: Call {
    /// Its context.
    fn context(&mut self) -> &mut Option<ReadContext>;
}

/// Declares calls: of which service, of which kind, request message, answer message, name of the call.
macro_rules! calls {
    ($service:literal, $kind:ident: $($name:literal: $request:ty => $answer:ty,)*) => {
        $(
            impl $crate::call::Call for $request {
                type Answer = $answer;
                const PATH: &'static str = concat!("/", $service, "/", $name);
            }
            $crate::call::calls!(@$kind $request);
        )*
    };
    (@mutation $request:ty) => {
        impl $crate::call::Mutation for $request {
            fn context(&mut self) -> &mut Option<steeple_wire::common::v1::RequestContext> {
                &mut self.context
            }
        }
    };
    (@query $request:ty) => {
        impl $crate::call::Query for $request {
            fn context(&mut self) -> &mut Option<steeple_wire::common::v1::ReadContext> {
                &mut self.context
            }
        }
    };
    (@plain $request:ty) => {};
}
pub(crate) use calls;

/// The revision that an answer's headers tell; 0 when they do not.
pub(crate) fn revision(metadata: &MetadataMap) -> u64 {
    metadata.get(REVISION_HEADER).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Nodes that are asked for the members, one after the other, at the most.
const DISCOVERY_ATTEMPTS: usize = 3;

/// How long one of them may take.
const DISCOVERY_PATIENCE: Duration = Duration::from_secs(2);

impl Client {
    /// Sends a request until it is answered.
    pub(crate) async fn unary<C: Call>(
        &self,
        call: C,
        stake: Stake,
        route: Route,
    ) -> Result<Response<C::Answer>, Error> {
        let deadline = self.options().deadline_from_now();
        retry(deadline, self.options().backoff(), stake, |turn| {
            let call = call.clone();
            self.attempt(route, turn, |node, left| async move { unary_once(&node, call, left).await })
        })
        .await
    }

    /// As [`Client::unary`] for what only reads, with an answer that is left as the bytes that it is.
    pub(crate) async fn unread<C: Call>(&self, call: C, route: Route) -> Result<Response<Bytes>, Error> {
        let deadline = self.options().deadline_from_now();
        retry(deadline, self.options().backoff(), Stake::None, |turn| {
            let call = call.clone();
            self.attempt(route, turn, |node, left| async move { unread_once(&node, call, left).await })
        })
        .await
    }

    /// Sends a request until a stream of answers begins. How long that takes is limited, the stream is not.
    pub(crate) async fn streaming<C: Call>(
        &self,
        call: C,
        route: Route,
    ) -> Result<Response<Streaming<C::Answer>>, Error> {
        let deadline = self.options().deadline_from_now();
        retry(deadline, self.options().backoff(), Stake::None, |turn| {
            let call = call.clone();
            self.attempt(route, turn, |node, _| async move { streaming_once(&node, call).await })
        })
        .await
    }

    /// Asks one node, and remembers how it did.
    pub(crate) async fn attempt<T, Running>(
        &self,
        route: Route,
        turn: Turn,
        ask: impl FnOnce(Arc<Node>, Duration) -> Running,
    ) -> Result<T, Failed>
    where
        Running: Future<Output = Result<T, Status>>,
    {
        self.discover_when_due();
        let node = self.cluster().pick(route, None)?;
        self.check(route, &node).await?;
        let patience = self.patience(route, turn);
        let asked_at = Instant::now();
        let asked = ask(Arc::clone(&node), patience);
        // What has all the time that is left ends with the deadline, and not with a failure to be repeated.
        let limit = if patience < turn.left { patience } else { Duration::MAX };
        let late = |_| Err(Status::deadline_exceeded(format!("{node:?} did not answer within {patience:?}")));
        match timeout(limit, asked).await.unwrap_or_else(late) {
            Ok(answer) => {
                self.cluster().succeeded(route, &node);
                Ok(answer)
            }
            Err(status) => {
                let elsewhere = self.cluster().failed(route, &node, &status);
                Err(Failed { elsewhere, timed_out: asked_at.elapsed() >= patience, status })
            }
        }
    }

    /// Makes sure that a node belongs to the cluster before anything is asked of it.
    pub(crate) async fn check(&self, route: Route, node: &Node) -> Result<(), Failed> {
        let Err(reason) = check(self.cluster(), node).await else { return Ok(()) };
        let status = ErrorKind::Unavailable.status(format!("{node:?}: {reason}"));
        Err(Failed { status, elsewhere: self.cluster().unusable(route, node), timed_out: false })
    }

    /// How long to wait for one node. One that takes long may be frozen or cut off, so another is asked; in case the
    /// request itself takes so long, each such attempt has twice the time of the last.
    fn patience(&self, route: Route, turn: Turn) -> Duration {
        if route == Route::Told || self.cluster().len() < 2 {
            return turn.left;
        }
        let patience = self.options().node_patience.saturating_mul(1 << turn.timeouts.min(16));
        patience.min(turn.left)
    }

    /// Asks for the group's members in the background, now and then.
    pub(crate) fn discover_when_due(&self) {
        if self.cluster().discovery_is_due()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(discover(self.shared_cluster()));
        }
    }
}

/// Asks for the group's members. Nodes that cannot or may not tell are left as they are.
async fn discover(cluster: Arc<Cluster>) {
    let mut last = None;
    for _ in 0..DISCOVERY_ATTEMPTS {
        let route = if last.is_none() { Route::Current } else { Route::Any };
        let Ok(node) = cluster.pick(route, last.as_ref().map(|last: &Arc<Node>| last.address())) else { return };
        let told = match check(&cluster, &node).await {
            Ok(()) => members(&node).await.map_err(|status| status.to_string()),
            Err(reason) => Err(reason),
        };
        match told {
            Ok(status) => return cluster.discovered(&node, &status),
            Err(reason) => tracing::debug!(reason, ?node, "did not tell the members"),
        }
        last = Some(node);
    }
}

/// What a node says of its group.
async fn members(node: &Node) -> Result<ClusterStatusResponse, Status> {
    let asked = unary_once(node, ClusterStatusRequest {}, DISCOVERY_PATIENCE);
    let late = |_| Err(Status::deadline_exceeded("no answer in time"));
    Ok(timeout(DISCOVERY_PATIENCE, asked).await.unwrap_or_else(late)?.into_inner())
}

/// Makes sure that a node belongs to the cluster of the nodes that the client was told of.
async fn check(cluster: &Cluster, node: &Node) -> Result<(), String> {
    if node.is_trusted() {
        return Ok(());
    }
    let told = |status: Status| status.to_string();
    let expected = match cluster.cluster_id() {
        Some(expected) => expected,
        None => {
            let first = cluster.pick(Route::Told, None).map_err(told)?;
            let status = members(&first).await.map_err(told)?;
            cluster.discovered(&first, &status);
            status.cluster_id
        }
    };
    let found = members(node).await.map_err(told)?.cluster_id;
    if cluster.check(node, &expected, &found) {
        return Ok(());
    }
    Err(format!("it belongs to cluster {found}, and not to {expected}"))
}

fn grpc(node: &Node) -> Grpc<Channel> {
    Grpc::new(node.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Sends a request once.
pub(crate) async fn unary_once<C: Call>(node: &Node, call: C, left: Duration) -> Result<Response<C::Answer>, Status> {
    once(node, call, left, ProstCodec::default()).await
}

/// As [`unary_once`], with an answer that is left as the bytes that it is.
async fn unread_once<C: Call>(node: &Node, call: C, left: Duration) -> Result<Response<Bytes>, Status> {
    once(node, call, left, Unreading::default()).await
}

async fn once<C: Call, Answer: Send + Sync + 'static>(
    node: &Node,
    call: C,
    left: Duration,
    codec: impl Codec<Encode = C, Decode = Answer> + Send + 'static,
) -> Result<Response<Answer>, Status> {
    check_size(&call)?;
    let mut grpc = grpc(node);
    ready(&mut grpc).await?;
    let mut request = Request::new(call);
    request.set_timeout(left);
    grpc.unary(request, PathAndQuery::from_static(C::PATH), codec).await
}

/// Sends a request once.
pub(crate) async fn streaming_once<C: Call>(node: &Node, call: C) -> Result<Response<Streaming<C::Answer>>, Status> {
    check_size(&call)?;
    let mut grpc = grpc(node);
    ready(&mut grpc).await?;
    grpc.server_streaming(Request::new(call), PathAndQuery::from_static(C::PATH), ProstCodec::default()).await
}

/// Names the call whose requests are a stream.
const STREAM_BATCHES: &str = "/steeple.spire.v1.Datastore/StreamBatches";

/// Opens a stream of batches, of which the first has to be there already.
pub(crate) async fn batches_once(
    node: &Node,
    batches: ReceiverStream<BatchRequest>,
) -> Result<Response<Streaming<BatchResponse>>, Status> {
    let mut grpc = grpc(node);
    ready(&mut grpc).await?;
    grpc.streaming(Request::new(batches), PathAndQuery::from_static(STREAM_BATCHES), ProstCodec::default()).await
}

/// A request that no node would take fails here: sending it breaks off, which looks like a broken connection.
fn check_size(call: &impl prost::Message) -> Result<(), Status> {
    let bytes = call.encoded_len();
    if bytes > MESSAGE_BYTES_MAX {
        let message = format!("the request is {bytes} bytes long, {MESSAGE_BYTES_MAX} are allowed");
        return Err(ErrorKind::LimitExceeded.status(message));
    }
    Ok(())
}

async fn ready(grpc: &mut Grpc<Channel>) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use prost::Message;
    use prost_types::FileDescriptorSet;

    /// Every source that declares calls.
    const SOURCES: [&str; 12] = [
        include_str!("admin.rs"),
        include_str!("batch.rs"),
        include_str!("bootstrap.rs"),
        include_str!("history.rs"),
        include_str!("tail.rs"),
        include_str!("calls/bundles.rs"),
        include_str!("calls/entries.rs"),
        include_str!("calls/federation.rs"),
        include_str!("calls/imports.rs"),
        include_str!("calls/journals.rs"),
        include_str!("calls/nodes.rs"),
        include_str!("calls/tokens.rs"),
    ];

    /// Calls that the client does without, since it streams these lists, and the one whose requests are a stream.
    const UNUSED: [&str; 4] =
        ["ListRegistrationEntryEvents", "ListAttestedNodeEvents", "ListNodeSelectors", "StreamBatches"];

    /// Path of each call in the protocol, with its messages.
    fn protocol() -> BTreeMap<String, (String, String)> {
        let name = |path: &str| path.rsplit('.').next().unwrap_or_default().to_lowercase();
        let mut calls = BTreeMap::new();
        for file in FileDescriptorSet::decode(steeple_wire::DESCRIPTORS).unwrap().file {
            if file.package().starts_with("steeple.peer.") {
                // Between nodes.
                continue;
            }
            for service in &file.service {
                for method in service.method.iter().filter(|method| !UNUSED.contains(&method.name())) {
                    let path = format!("{}.{}/{}", file.package(), service.name(), method.name());
                    calls.insert(path, (name(method.input_type()), name(method.output_type())));
                }
            }
        }
        calls
    }

    /// The same as declared here.
    fn declared() -> BTreeMap<String, (String, String)> {
        let mut calls = BTreeMap::new();
        for source in SOURCES {
            let mut service = "";
            for line in source.lines() {
                if let Some(head) = line.strip_prefix("calls! { \"") {
                    service = head.split('"').next().unwrap();
                } else if let Some((name, types)) = line.strip_prefix("    \"").and_then(|line| line.split_once("\": "))
                {
                    let (request, answer) = types.trim_end_matches(',').split_once(" => ").unwrap();
                    calls.insert(format!("{service}/{name}"), (request.to_lowercase(), answer.to_lowercase()));
                }
            }
        }
        calls
    }

    #[test]
    fn every_call_of_the_protocol_is_declared_as_it_is() {
        let (protocol, declared) = (protocol(), declared());
        let names = |calls: &BTreeMap<String, _>| calls.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(names(&protocol), names(&declared));
        assert_eq!(protocol, declared);
        assert!(protocol.len() > 60, "{}", protocol.len());
    }
}
