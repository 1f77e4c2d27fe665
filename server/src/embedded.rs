//! Several nodes of one group in one process, for programs that embed a cluster and for tests.
//!
//! The nodes are the same as those of a cluster of processes; only the way between them is memory.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use steeple_engine::ids::{ClusterId, HistoryId, NodeId};
use steeple_raft::Member;
use thiserror::Error;

use crate::node::{ClusterOrigin, Node, NodeOptions, NodeParts, StartError};
use crate::peer::LocalHub;

/// How often it is looked whether a leader was found.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Nodes of one group, numbered from 1.
pub struct Cluster {
    hub: LocalHub,
    options: NodeOptions,
    parts: NodeParts,
    data: Option<PathBuf>,
    cluster: ClusterId,
    history: HistoryId,
    founders: BTreeMap<u64, Member>,
    nodes: BTreeMap<u64, Node>,
}

/// Why a cluster does not do what it was asked for.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// A node did not start.
    #[error("node {node}: {source}")]
    Start {
        /// Which one.
        node: u64,
        /// Why.
        source: Box<StartError>,
    },
    /// No node leads.
    #[error("no leader was found within {0:?}")]
    NoLeader(Duration),
}

impl Cluster {
    /// Starts `size` nodes that keep everything in memory.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn start(size: u64) -> Result<Self, ClusterError> {
        Self::start_with(size, None, NodeOptions::in_memory(), NodeParts::default())
    }

    /// Starts `size` nodes with their files in `data/1`, `data/2`, ...; on directories that were used before they go on
    /// from there.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn start_at(size: u64, data: impl Into<PathBuf>) -> Result<Self, ClusterError> {
        Self::start_with(size, Some(data.into()), NodeOptions::default(), NodeParts::default())
    }

    /// As [`Cluster::start_at`], with settings for every node; directory, number and members are filled in.
    ///
    /// # Errors
    /// When a node does not start.
    pub fn start_with(
        size: u64,
        data: Option<PathBuf>,
        options: NodeOptions,
        parts: NodeParts,
    ) -> Result<Self, ClusterError> {
        let mut cluster = Self::prepare(size, data, options, parts);
        for node in 1..=size {
            cluster.start_node(node)?;
        }
        Ok(cluster)
    }

    /// As [`Cluster::start_with`], with no node started yet: [`Cluster::start_node`] starts them one by one. A group is
    /// founded once all of its first members have been there.
    #[must_use]
    pub fn prepare(size: u64, data: Option<PathBuf>, options: NodeOptions, parts: NodeParts) -> Self {
        Self {
            hub: LocalHub::new(),
            options,
            parts,
            data,
            cluster: ClusterId(rand::random()),
            history: HistoryId(rand::random()),
            founders: (1..=size).map(|node| (node, member(node))).collect(),
            nodes: BTreeMap::new(),
        }
    }

    /// Starts a node that is not running: one that was stopped, or another one, which then waits to be added.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_node(&mut self, node: u64) -> Result<Node, ClusterError> {
        let mut options = self.options.clone();
        options.data = self.data.as_ref().map(|data| data.join(node.to_string()));
        options.cluster.node = NodeId(node);
        let (cluster, history) = (self.cluster, self.history);
        options.cluster.origin = if self.founders.contains_key(&node) {
            ClusterOrigin::Founding { cluster, history, members: self.founders.clone() }
        } else {
            ClusterOrigin::Joining { cluster, history, members: self.founders.clone() }
        };
        let hub = self.hub.clone();
        let connect = move |identity: crate::peer::PeerIdentity, sink, snapshots| -> Arc<dyn crate::peer::Transport> {
            Arc::new(hub.join(identity, sink, snapshots))
        };
        let parts = NodeParts { connect: Some(Arc::new(connect)), ..self.parts.clone() };
        let started =
            Node::start(options, parts).map_err(|source| ClusterError::Start { node, source: Box::new(source) })?;
        self.nodes.insert(node, started.clone());
        Ok(started)
    }

    /// The settings of nodes that are started from now on.
    pub fn options_mut(&mut self) -> &mut NodeOptions {
        &mut self.options
    }

    /// Stops a node, which hands leadership over if it has it. Its data stays, unless that is in memory: then the others
    /// will not have it back under its number.
    pub async fn stop_node(&mut self, node: u64) {
        if let Some(stopped) = self.nodes.remove(&node) {
            stopped.stop().await;
        }
    }

    /// A running node.
    #[must_use]
    pub fn node(&self, node: u64) -> Option<&Node> {
        self.nodes.get(&node)
    }

    /// All running nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// The ways between the nodes, which can be cut and mended.
    #[must_use]
    pub fn hub(&self) -> &LocalHub {
        &self.hub
    }

    /// The node that leads, once it does; a node counts as leading when it confirms that it does.
    ///
    /// # Errors
    /// [`ClusterError::NoLeader`] when there is none within `patience`.
    pub async fn leader(&self, patience: Duration) -> Result<&Node, ClusterError> {
        let found = tokio::time::timeout(patience, async {
            loop {
                for node in self.nodes.values() {
                    let status = node.cluster_status().await;
                    if status.leader == Some(node.node_id()) && node.current().await.is_ok() {
                        return node;
                    }
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        });
        found.await.map_err(|_| ClusterError::NoLeader(patience))
    }

    /// Stops all nodes.
    pub async fn stop(mut self) {
        while let Some((_, node)) = self.nodes.pop_last() {
            node.stop().await;
        }
    }
}

/// Nodes in one process have no sockets; their addresses only name them.
fn member(node: u64) -> Member {
    Member { peer_address: format!("node-{node}"), client_address: format!("node-{node}") }
}
