//! Three members of etcd, as processes with their default settings, and a client of them: the same gRPC library as
//! Steeple's, with as many connections.
//!
//! Only what is asked of etcd here is written down of its protocol (`etcdserverpb`, version 3).

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use steeple_benches::scratch_directory;
use tempfile::TempDir;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use steeple_benches::processes::free_address;

/// How long the members may take until they have a leader.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Room for what is measured; the default of 2 GiB would do for minutes only.
const QUOTA_BYTES: u64 = 8 << 30;

/// Keys are under it.
pub(crate) const PREFIX: &str = "bench/";

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    create_request: Option<WatchCreateRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchResponse {
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(message, repeated, tag = "11")]
    events: Vec<WatchEvent>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchEvent {
    #[prost(message, optional, tag = "2")]
    kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

/// A connection to one member.
#[derive(Clone)]
pub(crate) struct EtcdClient {
    channel: Channel,
}

impl EtcdClient {
    async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::default();
        Ok(grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    /// Writes a key.
    pub(crate) async fn put(&self, key: String, value: Vec<u8>) -> Result<(), Status> {
        let request = PutRequest { key: key.into_bytes(), value };
        self.call::<_, PutResponse>("/etcdserverpb.KV/Put", request).await.map(drop)
    }

    /// Reads a key, linearizably; whether it is there.
    pub(crate) async fn get(&self, key: String) -> Result<bool, Status> {
        let request = RangeRequest { key: key.into_bytes() };
        Ok(self.call::<_, RangeResponse>("/etcdserverpb.KV/Range", request).await?.count == 1)
    }

    /// Follows all keys under [`PREFIX`] from now on. Comes back once the member watches.
    pub(crate) async fn watch(&self) -> Result<Watch, Status> {
        let mut range_end = PREFIX.as_bytes().to_vec();
        *range_end.last_mut().expect("a prefix") += 1;
        let create_request = Some(WatchCreateRequest { key: PREFIX.into(), range_end });
        // The stream of requests stays open: a watch ends with it.
        let requests = tokio_stream::StreamExt::chain(
            tokio_stream::once(WatchRequest { create_request }),
            tokio_stream::pending(),
        );
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let codec = ProstCodec::default();
        let mut answers: Streaming<WatchResponse> =
            grpc.streaming(Request::new(requests), path, codec).await?.into_inner();
        match answers.message().await? {
            Some(answer) if answer.created => Ok(Watch { answers }),
            other => Err(Status::internal(format!("no watch was made: {other:?}"))),
        }
    }

    async fn status(&self) -> Result<StatusResponse, Status> {
        self.call("/etcdserverpb.Maintenance/Status", StatusRequest {}).await
    }
}

/// What happens under [`PREFIX`].
pub(crate) struct Watch {
    answers: Streaming<WatchResponse>,
}

impl Watch {
    /// Keys that were written, in order; none when the member ended the watch.
    pub(crate) async fn next(&mut self) -> Result<Vec<String>, Status> {
        let answer = self.answers.message().await?.unwrap_or_default();
        let keys = answer.events.into_iter().filter_map(|event| event.kv);
        Ok(keys.map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect())
    }
}

/// Three members.
pub(crate) struct EtcdGroup {
    children: Vec<Child>,
    addresses: Vec<String>,
    /// Where the leader is among them.
    leader: usize,
    version: String,
    _directory: TempDir,
}

/// Whether there is an `etcd` to start.
pub(crate) fn is_installed() -> bool {
    let version = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

impl EtcdGroup {
    /// Starts three members and waits until they have a leader.
    pub(crate) async fn start() -> Self {
        let directory = scratch_directory();
        let url = || format!("http://{}", free_address());
        let members: Vec<(String, String, String)> =
            (1..=3).map(|number| (format!("member-{number}"), url(), url())).collect();
        let all: Vec<_> = members.iter().map(|(name, _, peer)| format!("{name}={peer}")).collect();
        let mut children = Vec::new();
        for (name, client, peer) in &members {
            let messages = File::create(directory.path().join(format!("{name}.log"))).expect("a file");
            let data = directory.path().join(name);
            let mut command = Command::new("etcd");
            command.arg("--name").arg(name).arg("--data-dir").arg(data);
            command.args(["--listen-client-urls", client, "--advertise-client-urls", client]);
            command.args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]);
            command.args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"]);
            command.args(["--quota-backend-bytes", &QUOTA_BYTES.to_string(), "--log-level", "error"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
            children.push(command.spawn().expect("a process"));
        }
        let addresses = members.into_iter().map(|(_, client, _)| client).collect();
        let mut group = Self { children, addresses, leader: 0, version: String::new(), _directory: directory };
        group.find_leader().await;
        group
    }

    async fn find_leader(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (place, address) in self.addresses.iter().enumerate() {
                let Ok(status) = client_of(address).status().await else { continue };
                let own = status.header.map_or(0, |header| header.member_id);
                if status.leader != 0 && status.leader == own {
                    (self.leader, self.version) = (place, status.version);
                    return;
                }
            }
            assert!(Instant::now() < deadline, "no member of etcd leads");
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// What runs.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// A new connection to the leader.
    pub(crate) fn client(&self) -> EtcdClient {
        client_of(&self.addresses[self.leader])
    }

    /// The members' processes.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }
}

fn client_of(address: &str) -> EtcdClient {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address").tcp_nodelay(true);
    EtcdClient { channel: endpoint.connect_lazy() }
}

impl Drop for EtcdGroup {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended already.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
