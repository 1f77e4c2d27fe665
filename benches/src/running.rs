//! A running node that can be filled with a deployment and asked for more.

use std::path::Path;

use steeple_engine::domain::Command;
use steeple_engine::ids::NamespaceId;
use steeple_server::node::{Node, NodeOptions, NodeParts};

use crate::deployment::{self, Deployment};

/// Commands in flight while filling.
const FILL_IN_FLIGHT: u64 = 512;

/// A node with one namespace, which gets the entries of a deployment one after the other.
pub struct RunningNode {
    /// The node.
    pub node: Node,
    /// The namespace.
    pub namespace: NamespaceId,
    deployment: Deployment,
    /// Number of the entry that is created next.
    next: u64,
}

impl RunningNode {
    /// Starts a new node whose namespace holds the deployment's bundles and nothing else.
    ///
    /// # Panics
    /// When the node does not start or refuses a command.
    pub async fn start(options: NodeOptions, deployment: Deployment) -> Self {
        let node = Node::start(options, NodeParts::default()).expect("a node");
        let namespace = node.open_namespace("bench").await.expect("a namespace");
        let running = Self { node, namespace, deployment, next: 0 };
        running.submit(deployment.bundles().map(deployment::create_bundle)).await;
        running
    }

    /// As [`RunningNode::start`], with the deployment's nodes and entries.
    pub async fn filled(options: NodeOptions, deployment: Deployment) -> Self {
        let mut running = Self::start(options, deployment).await;
        let mut agents =
            (0..deployment.agents()).map(|agent| deployment::create_node(deployment.node(agent))).peekable();
        while agents.peek().is_some() {
            running.submit(agents.by_ref().take(FILL_IN_FLIGHT as usize)).await;
        }
        while running.next < deployment.entries() {
            running.create(FILL_IN_FLIGHT.min(deployment.entries() - running.next)).await;
        }
        running
    }

    /// Creates the next so many entries, all in flight at once.
    pub async fn create(&mut self, count: u64) {
        let entries = (self.next..self.next + count).map(|number| self.deployment.entry(number));
        self.submit(entries.map(deployment::create_entry)).await;
        self.next += count;
    }

    /// Submits commands at once and waits for all of them.
    async fn submit(&self, commands: impl Iterator<Item = Command>) {
        let submissions: Vec<_> = commands
            .map(|command| {
                let (node, namespace) = (self.node.clone(), self.namespace);
                tokio::spawn(
                    async move { node.submit(namespace, None, command).await.expect("a command that is accepted") },
                )
            })
            .collect();
        for submission in submissions {
            submission.await.expect("a task that ends");
        }
    }
}

/// Options of a node that does nothing in the background, so that what is asked of it is all that is measured.
#[must_use]
pub fn undisturbed(directory: &Path) -> NodeOptions {
    NodeOptions { compaction_interval: None, base_interval_bytes: u64::MAX, ..NodeOptions::at(directory) }
}
