//! The cluster behind the plugin.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use steeple_client::{Client, Error, Namespace, Options};
use tonic::Status;

use crate::configuration::Configuration;

/// The first and the longest pause between attempts at a call.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));

/// Where calls go.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) namespace: Namespace,
    /// How long a call may take that has no deadline of its own.
    pub(crate) call_timeout: Duration,
}

impl Connection {
    /// Waits until a node and a leader are there, and makes sure that the namespace is.
    pub(crate) async fn open(configuration: &Configuration) -> Result<Self, Status> {
        let unusable = |error: Error| {
            Status::new(error.code(), format!("cannot use {}: {error}", configuration.endpoints.join(", ")))
        };
        let endpoints = configuration.endpoints.clone();
        let client = match configuration.tls.clone() {
            Some(tls) => Client::connect_lazy_encrypted(endpoints, tls),
            None => Client::connect_lazy(endpoints),
        };
        let options = Options::default().with_deadline(configuration.startup_timeout).with_pauses(PAUSES.0, PAUSES.1);
        let client = client.map_err(unusable)?.with_options(options);
        let admin = client.admin();
        // Only the leader carries this out, so its answer tells that there is one.
        let name = configuration.namespace.as_str();
        match admin.create_namespace(name).await {
            Ok(_) => tracing::warn!(namespace = name, "The namespace did not exist and was created empty"),
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(unusable(error)),
        }
        let namespace = admin.open_namespace(name).await.map_err(unusable)?;
        let status = admin.status().await.map_err(unusable)?;
        tracing::info!(
            endpoints = configuration.endpoints.join(", "),
            namespace = name,
            encrypted = configuration.tls.is_some(),
            cluster_id = status.cluster_id,
            steeple_version = status.version,
            plugin_version = env!("CARGO_PKG_VERSION"),
            "Connected to Steeple"
        );
        Ok(Self { namespace, call_timeout: configuration.call_timeout })
    }
}

/// The connection that is in use, once the plugin is configured. Calls that are under way keep the one that they began with.
#[derive(Clone, Debug, Default)]
pub(crate) struct InUse(Arc<RwLock<Option<Arc<Connection>>>>);

impl InUse {
    pub(crate) fn get(&self) -> Result<Arc<Connection>, Status> {
        self.0.read().clone().ok_or_else(|| Status::failed_precondition("datastore is not configured"))
    }

    pub(crate) fn replace(&self, connection: Connection) {
        *self.0.write() = Some(Arc::new(connection));
    }
}
