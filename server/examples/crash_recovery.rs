//! A node is killed in the middle of its writing; everything that it acknowledged is there when it is back.
//!
//! ```sh
//! cargo run -p steeple-server --example crash_recovery -- ./crash-data
//! ```
//!
//! The program starts itself a second time to be the node, and kills that with SIGKILL.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use steeple_client::types::{RegistrationEntry, RegistrationEntryFilter, Selector};
use steeple_client::{Client, Namespace};
use steeple_server::Running;
use steeple_server::config::Config;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Writers at work when the node dies.
const WRITERS: usize = 8;

/// Acknowledged entries after which it does.
const ENOUGH: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if let [serve, data] = &arguments[..]
        && serve == Path::new("serve")
    {
        return serve_on(data).await;
    }
    let data = arguments.into_iter().next().unwrap_or_else(|| PathBuf::from("crash-data"));
    let program = std::env::current_exe()?;
    let node = || {
        let mut command = Command::new(&program);
        command.arg("serve").arg(&data);
        command
    };
    for line in run(node).await? {
        println!("{line}");
    }
    Ok(())
}

/// Is a node, says where, and serves until it is killed.
pub(crate) async fn serve_on(data: &Path) -> Result<(), Box<dyn Error>> {
    let mut config = Config::default();
    config.node.data = data.to_owned();
    config.node.listen = ([127, 0, 0, 1], 0).into();
    config.node.http_listen = config.node.listen;
    let running = Running::start(&config).await?;
    let (address, _) = running.addresses()?;
    println!("{address}");
    std::io::stdout().flush()?;
    Ok(running.serve(std::future::pending()).await?)
}

/// Lets a node be written to, kills it, starts it again, and looks for what it had acknowledged. `node` is the command
/// that starts it.
pub(crate) async fn run(node: impl Fn() -> Command) -> Result<Vec<String>, Box<dyn Error>> {
    let mut first = Process::start(node())?;
    let spire = first.client().await?.admin().open_namespace("example").await?;
    let acknowledged = write_until_killed(&spire, &mut first).await?;

    let started = Instant::now();
    let second = Process::start(node())?;
    let spire = second.client().await?.namespace("example");
    let found = spire.list_registration_entries(RegistrationEntryFilter::default()).await?;
    let took = started.elapsed();

    let is_there = |id: &&String| found.iter().any(|entry| entry.entry_id == **id);
    let kept = acknowledged.iter().filter(is_there).count();
    let lines = vec![
        format!("{} entries were acknowledged before the node was killed", acknowledged.len()),
        format!("{kept} of them are there, and {} that it had no time to acknowledge", found.len() - kept),
        format!("it answered again {} ms after it was started", took.as_millis()),
    ];
    if kept == acknowledged.len() { Ok(lines) } else { Err(lines.join("; ").into()) }
}

/// Creates entries, several at a time, and kills the node once enough are acknowledged. Returns which were.
async fn write_until_killed(spire: &Namespace, node: &mut Process) -> Result<Vec<String>, Box<dyn Error>> {
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (count, mut counted) = watch::channel(0);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (spire, acknowledged, count) = (spire.clone(), Arc::clone(&acknowledged), count.clone());
        writers.spawn(async move {
            // A run on a directory that was used before has ids of its own.
            let run = std::process::id();
            for number in 0.. {
                let entry = entry(&format!("run-{run}-writer-{writer}-{number}"));
                let Ok(created) = spire.create_registration_entry(entry).await else { return };
                if let Ok(mut acknowledged) = acknowledged.lock() {
                    acknowledged.push(created.entry_id);
                    count.send_replace(acknowledged.len());
                }
            }
        });
    }
    counted.wait_for(|count| *count >= ENOUGH).await?;
    node.child.kill()?;
    node.child.wait()?;
    // What was under way may have been carried out or not; only what was acknowledged has to be there.
    writers.shutdown().await;
    let acknowledged = acknowledged.lock().map_err(|_| "a writer panicked")?;
    Ok(acknowledged.clone())
}

fn entry(name: &str) -> RegistrationEntry {
    RegistrationEntry {
        entry_id: name.into(),
        parent_id: "spiffe://example.org/spire/agent/node-1".into(),
        spiffe_id: format!("spiffe://example.org/{name}"),
        selectors: vec![Selector { r#type: "unix".into(), value: "uid:1000".into() }],
        ..Default::default()
    }
}

/// The process of a node. It does not outlive this value.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    /// Starts it, and waits until it says where it serves.
    fn start(mut command: Command) -> Result<Self, Box<dyn Error>> {
        let mut process =
            Self { child: command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?, address: String::new() };
        let output = process.child.stdout.take().ok_or("the node has no output")?;
        BufReader::new(output).read_line(&mut process.address)?;
        if process.address.trim().is_empty() { Err("the node did not start".into()) } else { Ok(process) }
    }

    async fn client(&self) -> Result<Client, steeple_client::Error> {
        Client::connect(format!("http://{}", self.address.trim())).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
