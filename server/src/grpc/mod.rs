//! The gRPC face of a node: a thin layer that checks requests, asks the [`Node`] and converts answers.
//!
//! [`serve`] does it over sockets, [`connect`] inside the process.

mod admin;
mod answers;
mod batch;
pub(crate) mod convert;
mod datastore;
mod errors;
mod events;
pub mod limits;
mod lists;
mod measure;
mod mutations;
mod panics;
mod queries;
mod scope;
mod sending;

#[cfg(test)]
mod access_tests;
#[cfg(test)]
mod freshness_tests;
#[cfg(test)]
mod group_tests;
#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use steeple_wire::admin::v1::admin_server::AdminServer;
use steeple_wire::events::v1::events_server::EventsServer;
use steeple_wire::gather::Gathered;
use steeple_wire::spire::v1::datastore_server::DatastoreServer;
use steeple_wire::{DESCRIPTORS, MESSAGE_BYTES_MAX};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

pub use self::panics::CatchPanics;
use crate::authorization::{Access, Authorize};
use crate::node::Node;

/// Calls that one connection may have in flight.
const CALLS_PER_CONNECTION_MAX: u32 = 1_024;

/// Bytes on their way through a connection inside the process.
const DUPLEX_BYTES: usize = 256 << 10;

/// Why serving ended before it should have.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The protocol description that is built in is damaged.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves a node over connections until `shutdown` is done; then ends tails and lets other calls finish. `access` decides
/// about every call by the [`Caller`](crate::tls::Caller) of its connection.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve<Incoming, Connection>(
    node: Node,
    access: Access,
    incoming: Incoming,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError>
where
    Incoming: Stream<Item = Result<Connection, io::Error>>,
    Connection: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let (stop, stopping) = watch::channel(false);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<DatastoreServer<datastore::DatastoreService>>().await;
    health_reporter.set_serving::<EventsServer<events::EventsService>>().await;
    health_reporter.set_serving::<AdminServer<admin::AdminService>>().await;
    tokio::spawn(report_health(node.clone(), health_reporter, stopping.clone()));

    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let datastore = DatastoreServer::new(datastore::DatastoreService::new(node.clone(), stopping.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let events = EventsServer::new(events::EventsService::new(node.clone(), stopping))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let admin = AdminServer::new(admin::AdminService::new(node));
    let shutdown = async move {
        shutdown.await;
        stop.send_replace(true);
    };
    Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .layer(measure::MeasureCalls)
        .layer(CatchPanics)
        .layer(Authorize::new(access))
        .add_service(health)
        .add_service(reflection)
        .add_service(datastore)
        .add_service(events)
        .add_service(admin)
        .serve_with_incoming_shutdown(incoming.map(|accepted| accepted.map(Gathered::new)), shutdown)
        .await?;
    Ok(())
}

/// Says that the node does not serve any more, once it takes no mutations or is being stopped.
async fn report_health(
    node: Node,
    reporter: tonic_health::server::HealthReporter,
    mut stopping: watch::Receiver<bool>,
) {
    tokio::select! {
        _ = node.failed() => {}
        _ = stopping.wait_for(|stopping| *stopping) => {}
    }
    reporter.set_not_serving::<DatastoreServer<datastore::DatastoreService>>().await;
    reporter.set_not_serving::<EventsServer<events::EventsService>>().await;
    reporter.set_not_serving::<AdminServer<admin::AdminService>>().await;
    reporter.set_service_status("", tonic_health::ServingStatus::NotServing).await;
}

/// A channel to a node inside the process, without sockets; for `steeple_client::Client::from_channel`.
///
/// The node is served as long as the channel or a clone of it exists.
///
/// # Errors
/// When the connection inside the process cannot be made.
pub async fn connect(node: Node) -> Result<Channel, ServeError> {
    let (accept, incoming) = mpsc::channel::<Result<DuplexStream, io::Error>>(1);
    tokio::spawn(async move {
        if let Err(error) = serve(node, Access::Everyone, ReceiverStream::new(incoming), std::future::pending()).await {
            tracing::warn!(%error, "serving inside the process ended");
        }
    });
    let connector = tower::service_fn(move |_| {
        let accept = accept.clone();
        async move {
            let (near, far) = duplex(DUPLEX_BYTES);
            accept.send(Ok(far)).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    Ok(Endpoint::from_static("http://inside").connect_with_connector(connector).await?)
}
