//! Three nodes inside a program: one stops, and the other two go on.
//!
//! ```sh
//! cargo run -p steeple-server --example embedded_cluster
//! ```

use std::error::Error;
use std::time::Duration;

use steeple_client::Client;
use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter, Selector};
use steeple_server::embedded::Cluster;
use steeple_server::grpc;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    for line in run().await? {
        println!("{line}");
    }
    Ok(())
}

/// Creates an entry, stops the leader, creates another one, and lists both.
pub(crate) async fn run() -> Result<Vec<String>, Box<dyn Error>> {
    // Everything is in memory here; `Cluster::start_at` keeps it in a directory.
    let mut cluster = tokio::task::spawn_blocking(|| Cluster::start(3)).await??;
    let patience = Duration::from_secs(20);
    let leader = cluster.leader(patience).await?.node_id();

    // The client finds the leader among the nodes that it is told of, and the next one when that is gone.
    let mut channels = Vec::new();
    for node in cluster.nodes() {
        channels.push((format!("node-{}", node.node_id()), grpc::connect(node.clone()).await?));
    }
    let client = Client::from_channels(channels);
    let spire = client.admin().open_namespace("example").await?;
    spire.create_registration_entry(entry("before")).await?;

    cluster.stop_node(leader.0).await;
    spire.create_registration_entry(entry("after")).await?;
    let next = cluster.leader(patience).await?.node_id();

    let mut lines = vec![format!("another node leads: {}", next != leader)];
    for entry in spire.list_registration_entries(RegistrationEntryFilter::default()).await? {
        lines.push(entry.spiffe_id);
    }
    cluster.stop().await;
    Ok(lines)
}

fn entry(name: &str) -> RegistrationEntry {
    RegistrationEntry {
        parent_id: "spiffe://example.org/spire/agent/node-1".into(),
        spiffe_id: format!("spiffe://example.org/{name}"),
        selectors: vec![Selector { r#type: "unix".into(), value: "uid:1000".into() }],
        ..Default::default()
    }
}
