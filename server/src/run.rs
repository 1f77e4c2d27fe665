//! Puts a node, its services and its HTTP face together, and takes them apart again.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use steeple_engine::log::{FaultPolicy, LogError, LogOptions, Verification};
use steeple_engine::record_store::RecordStoreKind;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::authorization::Access;
use crate::cluster::{self, JoinError};
use crate::config::{Config, StoreKind};
use crate::node::repair::{self, Damaged};
use crate::node::{Node, NodeOptions, NodeParts, StartError, SubmitError};
use crate::peer::repair::RepairClient;
use crate::peer::{EncryptedConnector, PeerConnector, PeerService, PlainConnector};
use crate::tls::{self, MaterialError, RELOAD_INTERVAL, Tls};
use crate::{grpc, http};

/// How long open connections may take to end at shutdown.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often a member is repaired in one start: entries may be found to be missing, then records, and each once more.
const REPAIRS_MAX: u32 = 4;

/// Pause between two looks at whether this node may open the configured namespace.
const NAMESPACE_PAUSE: Duration = Duration::from_millis(200);

/// Bounds of the histograms of durations, in seconds.
const SECONDS: [f64; 14] =
    [0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// Why a node did not run, or stopped running.
#[derive(Debug, Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It does not find its group.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The certificates cannot be used.
    #[error("cannot use the certificates of [tls]: {0}")]
    Tls(#[from] MaterialError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The configured namespace could not be opened.
    #[error("cannot open namespace {name}: {source}")]
    Namespace {
        /// Its name.
        name: String,
        /// Why.
        source: Box<SubmitError>,
    },
    /// A service failed.
    #[error("{service} failed: {detail}")]
    Service {
        /// Which one.
        service: &'static str,
        /// Its own words.
        detail: String,
    },
    /// The node stopped by itself. Start it again; it recovers what is on disk.
    #[error("the node stopped by itself: {0}")]
    Failed(String),
}

/// A node with its listeners, ready to serve.
pub struct Running {
    node: Node,
    grpc: TcpListener,
    http: TcpListener,
    tls: Option<Tls>,
    access: Access,
    peers: Option<(TcpListener, (PeerService, Handle))>,
}

/// Starts and serves until `shutdown` completes or the node fails.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: Config, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
    let mut shutdown = std::pin::pin!(shutdown);
    // A start may wait for other members to repair the log.
    let running = tokio::select! {
        started = Running::start(&config) => started?,
        () = &mut shutdown => return Ok(()),
    };
    running.serve(shutdown).await
}

impl Running {
    /// Starts the node and binds its addresses. Port 0 binds any free port; see [`Running::addresses`].
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start(config: &Config) -> Result<Self, RunError> {
        Self::start_with(config, NodeParts::default()).await
    }

    /// As [`Running::start`], with parts of the caller's own.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start_with(config: &Config, parts: NodeParts) -> Result<Self, RunError> {
        let tls = load_tls(config).await?;
        // Bound before the node starts: an address in use is found out at once and not after a recovery.
        let grpc = listen(config.node.listen).await?;
        let http = listen(config.node.http_listen).await?;
        let mut options = node_options(config);
        let (mut parts, service) = (parts, cluster::ServiceSlot::default());
        let listener = if config.cluster.has_peers() { Some(listen(config.cluster.listen).await?) } else { None };
        let local = |listener: &TcpListener| listener.local_addr().map_err(|error| RunError::Failed(error.to_string()));
        let peer_address = listener.as_ref().map_or(Ok(config.cluster.listen), local)?;
        options.cluster = cluster::options(config, tls.as_ref(), peer_address, local(&grpc)?).await?;
        if listener.is_some() {
            parts.connect = Some(cluster::connect(tls.clone(), Arc::clone(&service)));
        }
        let node = match &listener {
            None => start_node(&options, &parts).await?,
            Some(listener) => {
                let faces = Faces { peers: listener, http: &http, tls: tls.as_ref(), access: access(config) };
                start_member(options, &parts, &faces).await?
            }
        };
        let peers = listener.zip(service.lock().take());
        if peers.is_none() {
            open_namespace(&node, &config.node.namespace).await?;
        } else {
            tokio::spawn(open_namespace_in_time(node.clone(), config.node.namespace.clone()));
        }
        Ok(Self { node, grpc, http, tls, access: access(config), peers })
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where the gRPC services and the HTTP face listen.
    ///
    /// # Errors
    /// As the operating system reports it.
    pub fn addresses(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok((self.grpc.local_addr()?, self.http.local_addr()?))
    }

    /// Serves until `shutdown` completes or the node fails.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), RunError> {
        let Self { node, grpc, http, tls, access, peers } = self;
        let (leave, leaving) = watch::channel(false);
        let left = |mut leaving: watch::Receiver<bool>| async move {
            // The sender lives as long as this function; its end is a reason to leave as well.
            drop(leaving.wait_for(|leaving| *leaving).await);
        };
        let http = tokio::spawn(http::serve(http, node.clone(), prometheus(), left(leaving.clone())));
        let peers = peers.map(|(listener, (service, runtime))| {
            let (access, tls, left) = (access.clone(), tls.clone(), left(leaving.clone()));
            runtime.spawn(async move { service.serve(access, tls::incoming(listener, tls), left).await })
        });
        let grpc = tokio::spawn(grpc::serve(node.clone(), access, tls::incoming(grpc, tls), left(leaving)));
        let failure = tokio::select! {
            () = shutdown => None,
            reason = node.failed() => Some(reason),
        };
        // Leadership is handed over while the peers can still be heard.
        node.stop().await;
        leave.send_replace(true);
        if let Some(peers) = peers {
            peers.abort();
        }
        let farewell = async {
            joined("gRPC", grpc.await.map(|served| served.map_err(|error| error.to_string())))?;
            joined("HTTP", http.await.map(|served| served.map_err(|error| error.to_string())))
        };
        match tokio::time::timeout(FAREWELL, farewell).await {
            Ok(served) => served?,
            Err(_) => tracing::info!("connections were still open and are cut off"),
        }
        failure.map_or(Ok(()), |reason| Err(RunError::Failed(reason)))
    }
}

/// Where a member is found while its log is being repaired.
struct Faces<'a> {
    peers: &'a TcpListener,
    http: &'a TcpListener,
    tls: Option<&'a Tls>,
    access: Access,
}

impl Faces<'_> {
    /// The same socket again, for a while.
    fn again(listener: &TcpListener) -> Result<TcpListener, RunError> {
        let copy = std::os::fd::AsFd::as_fd(listener).try_clone_to_owned().map(std::net::TcpListener::from);
        copy.and_then(TcpListener::from_std).map_err(|error| RunError::Failed(error.to_string()))
    }
}

async fn start_node(options: &NodeOptions, parts: &NodeParts) -> Result<Node, RunError> {
    let (options, parts) = (options.clone(), parts.clone());
    let starting = tokio::task::spawn_blocking(move || Node::start(options, parts));
    Ok(starting.await.map_err(|error| RunError::Failed(error.to_string()))??)
}

/// Starts a member of a group. If its log is damaged, the other members help to repair it first.
async fn start_member(mut options: NodeOptions, parts: &NodeParts, faces: &Faces<'_>) -> Result<Node, RunError> {
    let is_suspect = repair::is_suspect(&options);
    if is_suspect {
        options.log.verification = Verification::Everything;
    }
    let cautious = NodeOptions { log: LogOptions { faults: FaultPolicy::Refuse, ..options.log }, ..options.clone() };
    let mut repairs = 0;
    let node = loop {
        let (loss, refused) = match start_node(&cautious, parts).await {
            Err(RunError::Start(refused @ StartError::Log(LogError::Corrupt { .. }))) => (Loss::Entries, refused),
            Err(RunError::Start(refused @ StartError::MissingEvents { .. })) => (Loss::Records, refused),
            started => break started?,
        };
        if repairs == REPAIRS_MAX {
            return Err(refused.into());
        }
        repairs += 1;
        if repair_log(&options, faces, loss).await? {
            continue;
        }
        // It has nobody to ask; its operator may have decided.
        if loss == Loss::Entries && options.log.faults == FaultPolicy::CutUndecided {
            break start_node(&options, parts).await?;
        }
        return Err(refused.into());
    };
    if is_suspect {
        repair::clear_suspicion(&options);
    }
    Ok(node)
}

/// What a member needs the others for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// Entries of the log.
    Entries,
    /// The records of what the log does not hold any more.
    Records,
}

/// Repairs the log with the help of the other members, and answers theirs meanwhile. Whether there are any.
async fn repair_log(options: &NodeOptions, faces: &Faces<'_>, loss: Loss) -> Result<bool, RunError> {
    let opening = {
        let options = options.clone();
        tokio::task::spawn_blocking(move || Damaged::open(&options))
    };
    let opened = opening.await.map_err(|error| RunError::Failed(error.to_string()))??;
    let Some(damaged) = opened else { return Ok(false) };
    let connector: Arc<dyn PeerConnector> = match faces.tls {
        Some(tls) => Arc::new(EncryptedConnector::new(tls.clone())),
        None => Arc::new(PlainConnector),
    };
    let client = RepairClient::new(damaged.identity, connector);
    let (progress, reason) = watch::channel("the log is damaged".to_owned());
    let (leave, leaving) = watch::channel(false);
    let left = |mut leaving: watch::Receiver<bool>| async move {
        drop(leaving.wait_for(|leaving| *leaving).await);
    };
    let service = PeerService::new(damaged.identity, damaged.sink(), None, 0);
    let incoming = tls::incoming(Faces::again(faces.peers)?, faces.tls.cloned());
    let mut serving = tokio::task::JoinSet::new();
    let answering = service.serve(faces.access.clone(), incoming, left(leaving.clone()));
    serving.spawn(async move { answering.await.map_err(|error| error.to_string()) });
    let waiting = http::serve_waiting(Faces::again(faces.http)?, reason, prometheus(), left(leaving));
    serving.spawn(async move { waiting.await.map_err(|error| error.to_string()) });
    let repaired = match loss {
        Loss::Entries => damaged.repair(&client, &progress).await,
        // All of the log is read now: it may be damaged where the start did not look.
        Loss::Records if damaged.is_whole() => damaged.replace_by_snapshot(&client, &progress).await,
        Loss::Records => damaged.repair(&client, &progress).await,
    };
    leave.send_replace(true);
    // Whoever still holds a connection is cut off: the node itself listens now.
    if tokio::time::timeout(FAREWELL, async { while serving.join_next().await.is_some() {} }).await.is_err() {
        serving.shutdown().await;
    }
    repaired?;
    Ok(true)
}

fn joined(service: &'static str, served: Result<Result<(), String>, tokio::task::JoinError>) -> Result<(), RunError> {
    match served {
        Ok(Ok(())) => Ok(()),
        Ok(Err(detail)) => Err(RunError::Service { service, detail }),
        Err(error) => Err(RunError::Service { service, detail: error.to_string() }),
    }
}

async fn open_namespace(node: &Node, name: &str) -> Result<(), RunError> {
    if name.is_empty() {
        return Ok(());
    }
    let opened = node.open_namespace(name).await;
    opened.map(drop).map_err(|source| RunError::Namespace { name: name.to_owned(), source: Box::new(source) })
}

/// Opens the namespace as soon as this node leads; another one that leads does the same.
async fn open_namespace_in_time(node: Node, name: String) {
    while node.failure().is_none() && !name.is_empty() && node.namespace(&name).is_none() {
        match node.open_namespace(&name).await {
            Ok(_) => {}
            // The next look tells: leadership may wander, and what is in the way may pass.
            Err(SubmitError::NotLeader { .. } | SubmitError::OutcomeUnknown(_) | SubmitError::Unavailable(_)) => {}
            Err(error) => return tracing::warn!(%error, name, "the configured namespace cannot be opened"),
        }
        tokio::time::sleep(NAMESPACE_PAUSE).await;
    }
}

/// Loads what `[tls]` names and follows it, and says how far what it names protects.
async fn load_tls(config: &Config) -> Result<Option<Tls>, RunError> {
    let Some(files) = config.tls.files() else {
        let (listen, reachable) = (config.node.listen, !config.node.listen.ip().is_loopback());
        if reachable {
            tracing::warn!(%listen, "nothing is encrypted and whoever reaches the node may do everything, as configured");
        } else {
            tracing::info!(%listen, "no TLS is configured: only programs on this machine are served, each may do everything");
        }
        return Ok(None);
    };
    let loading = tokio::task::spawn_blocking(move || Tls::load(files));
    let tls = loading.await.map_err(|error| RunError::Failed(error.to_string()))??;
    tls.follow(RELOAD_INTERVAL);
    if !tls.verifies_clients() {
        tracing::warn!(
            "tls.authority is not given: connections are encrypted, but whoever makes one may do everything"
        );
    }
    if config.cluster.has_peers() && config.roles.peer.is_empty() {
        tracing::warn!(
            "roles.peer is empty: everybody whom tls.authority vouches for may speak as a node of the group"
        );
    }
    Ok(Some(tls))
}

/// Whom the configuration lets in. Without an authority nobody proves who he is, and roles would protect nothing.
#[must_use]
pub fn access(config: &Config) -> Access {
    match config.tls.authority {
        Some(_) => Access::roles(config.roles.clone()),
        None => Access::Everyone,
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

/// The one recorder of the process; nodes in the same process share it.
fn prometheus() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
                .unwrap_or_else(|error| unreachable!("the list of bounds is not empty: {error}"));
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if metrics::set_global_recorder(recorder).is_err() {
                tracing::warn!("the process records metrics elsewhere; /metrics stays empty");
            }
            handle
        })
        .clone()
}

/// What the configuration means for a node. Zero durations mean "for ever" there.
#[must_use]
pub fn node_options(config: &Config) -> NodeOptions {
    let forever = |duration: Duration| if duration.is_zero() { Duration::MAX } else { duration };
    let verification = if config.log.verify_everything { Verification::Everything } else { Verification::Newest };
    NodeOptions {
        data: Some(config.node.data.clone()),
        log: LogOptions {
            segment_bytes: config.log.segment_bytes,
            segment_entries: config.log.segment_entries,
            spare_segments: config.log.spare_segments,
            verification,
            faults: if config.log.cut_undecided { FaultPolicy::CutUndecided } else { FaultPolicy::Refuse },
            ..LogOptions::default()
        },
        store: match config.store.kind {
            StoreKind::Sled => RecordStoreKind::Sled,
            StoreKind::Fjall => RecordStoreKind::Fjall,
            StoreKind::Memory => RecordStoreKind::Memory,
        },
        flush_interval: config.store.flush_interval,
        request_window: forever(config.retention.request_ids),
        history_retention: forever(config.retention.history),
        follower_log_retention: forever(config.retention.followers),
        stream_retention: Some(config.retention.streams).filter(|retention| !retention.is_zero()),
        compaction_interval: Some(config.compaction.interval).filter(|interval| !interval.is_zero()),
        base_interval_bytes: config.compaction.base_interval_bytes,
        rewrite_below: f64::from(config.compaction.rewrite_below_percent) / 100.0,
        submissions_max: config.limits.queued_mutations,
        tails_max: config.limits.tails,
        ..NodeOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use steeple_client::{Client, Error};

    use super::*;
    use crate::config::TlsConfig;
    use crate::tls::throwaway::{Throwaway, prepare, roles};

    /// A node on free ports with these certificates.
    async fn start(directory: &Path, certificates: &Throwaway) -> Result<Running, RunError> {
        let mut config = Config::default();
        config.node.data = directory.join("data");
        config.node.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        config.node.http_listen = config.node.listen;
        let files = certificates.node(1).unwrap();
        config.tls =
            TlsConfig { certificate: Some(files.certificate), key: Some(files.key), authority: files.authority };
        config.roles = roles();
        Running::start(&config).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_node_serves_encrypted_as_it_is_configured() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = prepare(&directory.path().join("tls"), 1).unwrap();
        let running = start(directory.path(), &certificates).await.unwrap();
        let (grpc, _) = running.addresses().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = tokio::spawn(running.serve(async move { drop(stopped.await) }));

        let client = Client::connect_encrypted(grpc.to_string(), certificates.client()).await.unwrap();
        client.admin().status().await.unwrap();
        assert_eq!(client.namespace("default").count_bundles().await.unwrap(), 0);
        let node = &certificates.nodes[0];
        let as_node = certificates.client().with_identity(&node.certificate, &node.key);
        let as_node = Client::connect_encrypted(format!("https://{grpc}"), as_node).await.unwrap();
        as_node.admin().status().await.unwrap();
        let refused = as_node.namespace("default").count_bundles().await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused}");
        let anonymous = steeple_client::tls::TlsFiles::new(&certificates.authority);
        let refused = Client::connect_encrypted(grpc.to_string(), anonymous).await.unwrap_err();
        assert!(matches!(refused, Error::Connect(_)), "{refused:?}");
        let refused = Client::connect_encrypted(format!("http://{grpc}"), certificates.client()).await.unwrap_err();
        assert!(matches!(refused, Error::Address { .. }), "{refused:?}");

        stop.send(()).unwrap();
        serving.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_node_does_not_start_with_certificates_of_no_use() {
        let directory = tempfile::tempdir().unwrap();
        let certificates = prepare(&directory.path().join("tls"), 1).unwrap();
        std::fs::copy(&certificates.operator.key, &certificates.nodes[0].key).unwrap();
        let Err(refused) = start(directory.path(), &certificates).await else { panic!("it started") };
        let refused = refused.to_string();
        assert!(refused.contains("[tls]") && refused.contains("is not the key of the certificate in"), "{refused}");
        assert!(!directory.path().join("data").exists(), "nothing was begun");
    }
}
