//! What the configuration says about the group: who founds it, whom to ask in order to join, and the way to the peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use steeple_engine::ids::{ClusterId, HistoryId, NodeId};
use steeple_raft::Member;
use steeple_wire::admin::v1::admin_client::AdminClient;
use steeple_wire::admin::v1::{ClusterStatusRequest, StatusRequest};
use thiserror::Error;
use tokio::runtime::Handle;
use tonic::transport::{Channel, Endpoint};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::Config;
use crate::node::{ClusterOptions, ClusterOrigin, Connect, LEASE};
use crate::peer::{
    ConnectError, EncryptedConnector, PeerConnector, PeerIdentity, PeerService, PlainConnector, SendOptions,
    SocketTransport, Transport,
};
use crate::tls::Tls;

/// How long one member may take to say what the group is.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// Pause between two rounds of asking the members.
const ASK_PAUSE: Duration = Duration::from_millis(500);

/// Rounds of asking before a node that joins gives up.
const ASK_ROUNDS: usize = 20;

/// Why a node did not find its group.
#[derive(Debug, Error)]
#[error("no member of the group answered at {addresses}: {last}")]
pub struct JoinError {
    addresses: String,
    last: String,
}

/// Which member of which group the configuration means. `peer` and `client` are where the node listens.
///
/// # Errors
/// When the node is to join and nobody says what.
pub(crate) async fn options(
    config: &Config,
    tls: Option<&Tls>,
    peer: SocketAddr,
    client: SocketAddr,
) -> Result<ClusterOptions, JoinError> {
    let cluster = &config.cluster;
    let own =
        Member { peer_address: or(&cluster.advertise, peer), client_address: or(&cluster.client_advertise, client) };
    let origin = if !cluster.initial.is_empty() {
        founding(config, &own)
    } else if !cluster.join.is_empty() && is_new(config) {
        joining(&cluster.join, tls).await?
    } else if !cluster.join.is_empty() {
        // The data directory says what the group is.
        let (cluster, history) = (ClusterId([0; 16]), HistoryId([0; 16]));
        ClusterOrigin::Joining { cluster, history, members: BTreeMap::new() }
    } else {
        ClusterOrigin::Alone(own)
    };
    let advertised =
        Member { peer_address: cluster.advertise.clone(), client_address: cluster.client_advertise.clone() };
    let node = NodeId(cluster.node);
    let lease = cluster.lease_reads.then_some(LEASE);
    Ok(ClusterOptions { node, origin, tick: cluster.tick, lease, advertised, ..ClusterOptions::default() })
}

fn or(advertised: &str, listens: SocketAddr) -> String {
    if advertised.is_empty() { listens.to_string() } else { advertised.to_owned() }
}

fn is_new(config: &Config) -> bool {
    let mut files = std::fs::read_dir(config.node.data.join("group-0").join("log")).into_iter().flatten();
    files.next().is_none()
}

/// Founders find the same numbers for cluster and history because they are told the same.
fn founding(config: &Config, own: &Member) -> ClusterOrigin {
    let mut founders = config.cluster.initial.clone();
    founders.sort();
    let mut text = format!("steeple cluster {}\n", config.cluster.name);
    for founder in &founders {
        text.push_str(&format!("{founder}\n"));
    }
    let number = |what: &str| xxh3_128(format!("{what} of {text}").as_bytes()).to_be_bytes();
    let members = founders.into_iter().map(|founder| {
        let member = Member { peer_address: founder.peer_address, client_address: founder.client_address };
        (founder.node, member)
    });
    let members: BTreeMap<_, _> = members.collect();
    let told = members.get(&config.cluster.node).map(|member| member.peer_address.as_str());
    if told.is_some_and(|told| told != own.peer_address) {
        tracing::warn!(?told, own = own.peer_address, "the others look for this node elsewhere than it listens");
    }
    ClusterOrigin::Founding { cluster: ClusterId(number("cluster")), history: HistoryId(number("history")), members }
}

async fn joining(addresses: &[String], tls: Option<&Tls>) -> Result<ClusterOrigin, JoinError> {
    let mut last = String::new();
    for _ in 0..ASK_ROUNDS {
        for address in addresses {
            match tokio::time::timeout(ASK_PATIENCE, ask(address, tls)).await {
                Ok(Ok(origin)) => return Ok(origin),
                Ok(Err(error)) => last = format!("{address}: {error}"),
                Err(_) => last = format!("{address}: no answer in time"),
            }
        }
        tokio::time::sleep(ASK_PAUSE).await;
    }
    Err(JoinError { addresses: addresses.join(", "), last })
}

async fn ask(address: &str, tls: Option<&Tls>) -> Result<ClusterOrigin, ConnectError> {
    let mut admin = AdminClient::new(channel(address, tls).await?);
    let status = admin.status(StatusRequest {}).await?.into_inner();
    let group = admin.cluster_status(ClusterStatusRequest {}).await?.into_inner();
    let cluster = ClusterId::parse(&group.cluster_id).ok_or("it does not say which cluster it belongs to")?;
    let history = HistoryId::parse(&status.history_id).ok_or("it does not say which history it has")?;
    let members = group.members.into_iter().map(|member| {
        let addresses = Member { peer_address: member.peer_address, client_address: member.client_address };
        (member.node_id, addresses)
    });
    Ok(ClusterOrigin::Joining { cluster, history, members: members.collect() })
}

async fn channel(address: &str, tls: Option<&Tls>) -> Result<Channel, ConnectError> {
    Ok(match tls {
        Some(tls) => tls.connector().connect(&Endpoint::from_shared(format!("https://{address}"))?).await?,
        None => Endpoint::from_shared(format!("http://{address}"))?.connect().await?,
    })
}

/// Where the service for peers is found once the node has started, and the runtime that it belongs on.
pub(crate) type ServiceSlot = Arc<Mutex<Option<(PeerService, Handle)>>>;

/// Connects a node by sockets, on the runtime of its group's thread: what peers send is taken up, and what they are sent
/// written, without waking another thread.
pub(crate) fn connect(tls: Option<Tls>, service: ServiceSlot) -> Connect {
    Arc::new(move |identity: PeerIdentity, sink, snapshots| -> Arc<dyn Transport> {
        let connector: Arc<dyn PeerConnector> = match &tls {
            Some(tls) => Arc::new(EncryptedConnector::new(tls.clone())),
            None => Arc::new(PlainConnector),
        };
        let receiving = PeerService::new(identity, Arc::clone(&sink), snapshots, SNAPSHOT_BYTES_PER_SECOND);
        let runtime = Handle::current();
        *service.lock() = Some((receiving, runtime.clone()));
        Arc::new(SocketTransport::new(identity, connector, sink, SendOptions::default(), runtime))
    })
}

/// Snapshots leave room for everything else.
const SNAPSHOT_BYTES_PER_SECOND: u64 = 100 << 20;
