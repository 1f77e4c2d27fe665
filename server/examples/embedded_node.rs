//! A node inside a program: no sockets, no second process, the same durability.
//!
//! ```sh
//! cargo run -p steeple-server --example embedded_node -- ./embedded-data
//! ```

use std::error::Error;
use std::path::{Path, PathBuf};

use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter, Selector};
use steeple_client::{Client, TailContent, TailOptions, TailStart};
use steeple_server::grpc;
use steeple_server::node::{Node, NodeOptions, NodeParts};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("embedded-data"), PathBuf::from);
    for line in run(&data).await? {
        println!("{line}");
    }
    Ok(())
}

/// Starts a node on a directory, creates and lists an entry, follows what happened, and stops the node.
pub(crate) async fn run(data: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let options = NodeOptions::at(data);
    // Starting reads files, so it does not belong on a thread that serves others.
    let node = tokio::task::spawn_blocking(move || Node::start(options, NodeParts::default())).await??;
    // The client library works on it as on any other node, through a pipe in memory.
    let client = Client::from_channel(grpc::connect(node.clone()).await?);
    let spire = client.admin().open_namespace("example").await?;

    let entry = RegistrationEntry {
        parent_id: "spiffe://example.org/spire/agent/node-1".into(),
        spiffe_id: "spiffe://example.org/billing".into(),
        selectors: vec![Selector { r#type: "unix".into(), value: "uid:1000".into() }],
        ..Default::default()
    };
    // Creating it once more returns the entry that is there, so this example may be run again.
    let created = spire.create_registration_entry(entry).await?;
    let mut lines = vec![format!("entry {} is {}", created.entry_id, created.spiffe_id)];

    let count = spire.list_registration_entries(RegistrationEntryFilter::default()).await?.len();
    lines.push(format!("{count} entries in all"));

    let mut tail = spire.tail(TailOptions { start: TailStart::Oldest, ..TailOptions::default() });
    loop {
        match tail.next().await?.content {
            TailContent::Event(event) => {
                let items =
                    event.items.iter().map(|item| format!("{} {} is about {}", item.stream, item.sequence, item.key));
                lines.extend(items);
            }
            TailContent::Progress { live: true, .. } => break,
            TailContent::Progress { .. } => {}
        }
    }
    node.stop().await;
    Ok(lines)
}
