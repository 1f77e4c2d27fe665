//! The plugin's process from its start to its end.

use std::io::{self, Write as _};
use std::time::Duration;

use steeple_wire::MESSAGE_BYTES_MAX;
use thiserror::Error;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tracing_subscriber::filter::LevelFilter;

use crate::connection::InUse;
use crate::handshake::{HandshakeError, SocketPlace, line};
use crate::host::{Broker, Configurer, Controller, Introduction, Stdio, Stop};
use crate::log;
use crate::protocol::config::config_server::ConfigServer;
use crate::protocol::datastore::data_store_server::DataStoreServer;
use crate::protocol::init::init_server::InitServer;
use crate::protocol::plugin::grpc_broker_server::GrpcBrokerServer;
use crate::protocol::plugin::grpc_controller_server::GrpcControllerServer;
use crate::protocol::plugin::grpc_stdio_server::GrpcStdioServer;
use crate::service::Service;

/// The name under which the host's library asks for health.
const HEALTH_NAME: &str = "plugin";

/// How long calls that are under way may take when the plugin ends. The host kills it after two seconds.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// Why the plugin ended before it should have.
#[derive(Debug, Error)]
pub enum RunError {
    /// There is nobody to serve.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// Something that every process can do failed.
    #[error("cannot {action}: {source}")]
    Input {
        /// What.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The transport failed.
    #[error("transport: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves the host that started this process, until it does not need the plugin any more. Messages from `level` on go to
/// standard error, in the host's form.
///
/// # Errors
/// When no host has started the process, or its socket cannot be served.
pub async fn run(level: LevelFilter) -> Result<(), RunError> {
    let place = SocketPlace::prepare(|name| std::env::var_os(name))?;
    log::install(level);
    let stop = Stop::new();
    stop_when_asked(&stop)?;
    let socket = place.socket();
    let listener = UnixListener::bind(&socket).map_err(failed("listen for the host"))?;
    let serving = serve(listener, &stop);
    // The host connects as soon as it has read this. Nothing else may be printed.
    let mut output = io::stdout();
    output.write_all(line(&socket).as_bytes()).and_then(|()| output.flush()).map_err(failed("tell the host"))?;
    let out_of_time = async {
        stop.wait().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        served = serving => served?,
        () = out_of_time => tracing::warn!("calls were under way when the plugin had to end"),
    }
    drop(place);
    Ok(())
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> RunError {
    move |source| RunError::Input { action, source }
}

/// Ends when it is told to terminate, and not when a terminal interrupts it: that reaches the host as well, which needs its
/// datastore until it has ended itself.
fn stop_when_asked(stop: &Stop) -> Result<(), RunError> {
    let listen = |kind| signal(kind).map_err(failed("listen for signals"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => return stop.now(),
                _ = interrupt.recv() => tracing::debug!("an interrupt is left to the host"),
            }
        }
    });
    Ok(())
}

async fn serve(listener: UnixListener, stop: &Stop) -> Result<(), RunError> {
    let connection = InUse::default();
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_service_status(HEALTH_NAME, ServingStatus::Serving).await;
    macro_rules! service {
        ($Server:ident($service:expr)) => {
            $Server::new($service).max_decoding_message_size(MESSAGE_BYTES_MAX)
        };
    }
    let stopped = {
        let stop = stop.clone();
        async move { stop.wait().await }
    };
    Server::builder()
        .add_service(health)
        .add_service(service!(GrpcBrokerServer(Broker(stop.clone()))))
        .add_service(service!(GrpcControllerServer(Controller(stop.clone()))))
        .add_service(service!(GrpcStdioServer(Stdio(stop.clone()))))
        .add_service(service!(InitServer(Introduction)))
        .add_service(service!(ConfigServer(Configurer(connection.clone()))))
        .add_service(service!(DataStoreServer(Service(connection))))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stopped)
        .await?;
    Ok(())
}
