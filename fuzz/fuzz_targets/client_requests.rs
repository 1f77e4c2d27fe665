//! Calls of clients with arbitrary bytes in place of the request, at a node that keeps what it accepts.
//!
//! The first byte chooses the method. Inputs that come after each other meet the same node, which is replaced now and then.
#![no_main]

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use prost_types::FileDescriptorSet;
use steeple_server::node::NodeOptions;
use steeple_tests::raw;
use steeple_tests::server::Server;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

/// Calls that one node is asked.
const CALLS_MAX: usize = 20_000;

/// How long an answer is waited for. Some calls wait for a revision that may come, and some streams begin to speak when
/// there is something to say.
const PATIENCE: Duration = Duration::from_millis(20);

struct Method {
    service: String,
    name: String,
    streams: bool,
}

static METHODS: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let files = FileDescriptorSet::decode(steeple_wire::DESCRIPTORS).expect("the descriptors are whole").file;
    let mut methods = Vec::new();
    for file in files.iter().filter(|file| file.package().starts_with("steeple.") && !file.package().contains("peer")) {
        for service in &file.service {
            methods.extend(service.method.iter().map(|method| Method {
                service: format!("{}.{}", file.package(), service.name()),
                name: method.name().to_owned(),
                streams: method.server_streaming(),
            }));
        }
    }
    // A number names the same method for as long as none is added before it.
    methods.sort_by(|left, right| (&left.service, &left.name).cmp(&(&right.service, &right.name)));
    methods
});

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime"));

static SERVER: Mutex<Option<(Server, usize)>> = Mutex::new(None);

/// A node with the namespace that seeds name.
async fn fresh() -> Server {
    let server = Server::start(NodeOptions::in_memory()).await;
    server.client().admin().create_namespace("fuzz").await.expect("a namespace");
    server
}

async fn call(server: &Server, method: &Method, request: &[u8]) -> Result<(), Status> {
    let request = request.to_vec();
    if !method.streams {
        return raw::unary_bytes(&server.channel, &method.service, &method.name, request).await.map(drop);
    }
    // Some streams never end.
    raw::streaming_bytes(&server.channel, &method.service, &method.name, request).await?.message().await.map(drop)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, request)) = bytes.split_first() else { return };
    let method = &METHODS[usize::from(*choice) % METHODS.len()];
    let mut slot = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if slot.as_ref().is_none_or(|(_, calls)| *calls >= CALLS_MAX) {
        *slot = Some((RUNTIME.block_on(fresh()), 0));
    }
    let Some((server, calls)) = slot.as_mut() else { return };
    *calls += 1;
    let called = async { tokio::time::timeout(PATIENCE, call(server, method, request)).await };
    if let Ok(Err(status)) = RUNTIME.block_on(called) {
        let is_our_fault = matches!(status.code(), Code::Internal | Code::DataLoss);
        // What cannot be decoded is answered as internal by the library below.
        let is_undecodable = status.message().contains("failed to decode Protobuf message");
        assert!(!is_our_fault || is_undecodable, "{}/{}: {status}", method.service, method.name);
    }
    assert_eq!(server.node.failure(), None);
});
