//! Connections to other nodes.

use std::error::Error;

use tonic::transport::{Channel, Endpoint};

use super::BoxFuture;
use super::limits::{CONNECT_TIMEOUT, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT};
use crate::tls::Tls;

/// Bytes of one stream that may be under way to this node.
pub(super) const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes of all streams of a connection that may be under way. Larger than one stream's, so that a stream that nobody
/// reads leaves room for the others.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

const _: () = assert!(2 * STREAM_WINDOW_BYTES < CONNECTION_WINDOW_BYTES);

/// Why there is no connection.
pub type ConnectError = Box<dyn Error + Send + Sync>;

/// Makes connections to peers. Called for each attempt, so that certificates and names may change in between.
pub trait PeerConnector: Send + Sync {
    /// Connects to a node at `host:port`.
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>>;
}

/// Connections without encryption.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainConnector;

impl PeerConnector for PlainConnector {
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let endpoint = peer_endpoint("http", address);
        Box::pin(async move { Ok(endpoint?.connect().await?) })
    }
}

/// Encrypted connections: the other node has to show a certificate of the authority for the host of its address, and is
/// shown this node's.
#[derive(Clone, Debug)]
pub struct EncryptedConnector(Tls);

impl EncryptedConnector {
    /// Connects with the material that is in use at the time of each connection.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self(tls)
    }
}

impl PeerConnector for EncryptedConnector {
    fn connect(&self, address: &str) -> BoxFuture<'static, Result<Channel, ConnectError>> {
        let (endpoint, connector) = (peer_endpoint("https", address), self.0.connector());
        Box::pin(async move { Ok(connector.connect(&endpoint?).await?) })
    }
}

/// An endpoint with the settings that all connections between nodes have.
///
/// # Errors
/// When the address is none.
pub fn peer_endpoint(scheme: &str, address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(format!("{scheme}://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}
