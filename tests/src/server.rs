//! Nodes to test against.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use steeple_client::{Client, Namespace};
use steeple_server::grpc;
use steeple_server::node::{Node, NodeOptions, NodeParts};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// A node, its services, and a connection to them within the process.
#[derive(Clone)]
pub struct Server {
    /// The node.
    pub node: Node,
    /// The connection.
    pub channel: Channel,
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
});

static SHARED: LazyLock<Server> = LazyLock::new(|| RUNTIME.block_on(Server::start(NodeOptions::in_memory())));

static NEXT_NAMESPACE: AtomicU64 = AtomicU64::new(1);

/// Runs a test. All tests share a runtime, so that they can share connections.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    // Not from within the runtime.
    LazyLock::force(&SHARED);
    RUNTIME.block_on(test)
}

/// The node in memory that tests share.
#[must_use]
pub fn shared() -> &'static Server {
    &SHARED
}

/// An empty namespace of the shared node.
pub async fn namespace() -> Namespace {
    shared().namespace().await
}

impl Server {
    /// Starts a node and serves it.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(options: NodeOptions) -> Self {
        Self::start_with(options, NodeParts::default()).await
    }

    /// As [`Server::start`], with parts of the test's own.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(options: NodeOptions, parts: NodeParts) -> Self {
        Self::serve(Node::start(options, parts).expect("a node")).await
    }

    async fn serve(node: Node) -> Self {
        let channel = grpc::connect(node.clone()).await.expect("a connection");
        Self { node, channel }
    }

    /// Stops the node and starts it again with these options, on the same files.
    ///
    /// Clients of the node that was stopped hold a part of it and have to be gone.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(self, options: NodeOptions) -> Self {
        self.node.stop().await;
        drop(self);
        // The services let go of the node once they have noticed that nobody is connected any more.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match Node::start(options.clone(), NodeParts::default()) {
                Ok(node) => return Self::serve(node).await,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::from_channel(self.channel.clone())
    }

    /// An empty namespace.
    ///
    /// # Panics
    /// When it cannot be made.
    pub async fn namespace(&self) -> Namespace {
        let name = format!("test-{}", NEXT_NAMESPACE.fetch_add(1, Ordering::Relaxed));
        self.client().admin().create_namespace(name.as_str()).await.expect("a namespace");
        self.client().namespace(name)
    }
}
