//! What every plugin has to serve: the services of the host's library, the first and the last call, and configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::configuration::Configuration;
use crate::connection::{Connection, InUse};
use crate::protocol::config::config_server::Config;
use crate::protocol::config::{ConfigureRequest, ConfigureResponse, ValidateRequest, ValidateResponse};
use crate::protocol::init::init_server::Init;
use crate::protocol::init::{DeinitRequest, DeinitResponse, InitRequest, InitResponse};
use crate::protocol::plugin::grpc_broker_server::GrpcBroker;
use crate::protocol::plugin::grpc_controller_server::GrpcController;
use crate::protocol::plugin::grpc_stdio_server::GrpcStdio;
use crate::protocol::plugin::{ConnInfo, Empty, StdioData};

/// The services that are of use to a SPIRE server. It warns about any other name.
const OFFERED: [&str; 2] =
    ["spire.plugin.server.datastore.v1alpha1.DataStore", "spire.service.common.config.v1.Config"];

/// A host that ends things in good order closes its stream first, and asks for the end right after.
const HOST_GONE_PATIENCE: Duration = Duration::from_millis(500);

/// Whether the plugin is to end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// From now on.
    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }

    /// Waits until it is.
    pub(crate) async fn wait(&self) {
        // The sender is here, so it cannot be gone.
        drop(self.0.subscribe().wait_for(|stop| *stop).await);
    }
}

/// An answer that goes on without a message until the plugin ends.
fn held_open<Message: Send + 'static>(stop: &Stop) -> ReceiverStream<Result<Message, Status>> {
    let (sender, receiver) = mpsc::channel(1);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = stop.wait() => {}
            () = sender.closed() => {}
        }
    });
    ReceiverStream::new(receiver)
}

/// Listens to what sockets the host has, none of which is needed, and to whether it is still there.
pub(crate) struct Broker(pub(crate) Stop);

#[tonic::async_trait]
impl GrpcBroker for Broker {
    type StartStreamStream = ReceiverStream<Result<ConnInfo, Status>>;

    async fn start_stream(
        &self,
        request: Request<Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        let (mut said, stop) = (request.into_inner(), self.0.clone());
        tokio::spawn(async move {
            while let Ok(Some(socket)) = said.message().await {
                tracing::debug!(service = socket.service_id, "the host offers a socket");
            }
            tokio::time::sleep(HOST_GONE_PATIENCE).await;
            tracing::debug!("the host is gone");
            stop.now();
        });
        Ok(Response::new(held_open(&self.0)))
    }
}

/// Ends the plugin when the host wants that.
pub(crate) struct Controller(pub(crate) Stop);

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.0.now();
        Ok(Response::new(Empty {}))
    }
}

/// Has nothing to tell: what is printed goes straight to the host.
pub(crate) struct Stdio(pub(crate) Stop);

#[tonic::async_trait]
impl GrpcStdio for Stdio {
    type StreamStdioStream = ReceiverStream<Result<StdioData, Status>>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(held_open(&self.0)))
    }
}

/// Says what is served here.
pub(crate) struct Introduction;

#[tonic::async_trait]
impl Init for Introduction {
    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        Ok(Response::new(InitResponse { plugin_service_names: OFFERED.map(str::to_owned).to_vec() }))
    }

    async fn deinit(&self, _: Request<DeinitRequest>) -> Result<Response<DeinitResponse>, Status> {
        Ok(Response::new(DeinitResponse {}))
    }
}

/// Takes the configuration, also a new one later.
pub(crate) struct Configurer(pub(crate) InUse);

#[tonic::async_trait]
impl Config for Configurer {
    async fn configure(&self, request: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        let configuration = Configuration::parse(&request.into_inner().hcl_configuration)
            .map_err(|faults| Status::invalid_argument(faults.join("; ")))?;
        self.0.replace(Connection::open(&configuration).await?);
        Ok(Response::new(ConfigureResponse {}))
    }

    async fn validate(&self, request: Request<ValidateRequest>) -> Result<Response<ValidateResponse>, Status> {
        let notes = Configuration::parse(&request.into_inner().hcl_configuration).err().unwrap_or_default();
        Ok(Response::new(ValidateResponse { valid: notes.is_empty(), notes }))
    }
}
