//! `steeple serve` and `steeple dev`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::config_flags::ConfigFlags;
use super::dev_cluster;
use super::exit::CommandError;
use super::output::print_line;
use super::{memory, tracing_setup};
use crate::config::Config;
use crate::node::NodeParts;
use crate::{RunError, Running};

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", env = "STEEPLE_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: ConfigFlags,
}

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// How many nodes; more than one are a group, each a process of its own
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=dev_cluster::NODES_MAX))]
    nodes: u64,
    /// Make no certificates for the nodes of a group
    #[arg(long)]
    unencrypted: bool,
    #[command(flatten)]
    flags: ConfigFlags,
}

/// Runs a node until it is told to stop.
pub(super) fn serve(arguments: ServeArgs, parts: NodeParts) -> Result<(), CommandError> {
    let config = arguments.flags.load(arguments.config.as_ref())?;
    run(&config, parts, |_, _| Ok(()))
}

/// Runs a node, or a group of them, and says how to use it.
pub(super) fn dev(arguments: DevArgs, parts: NodeParts) -> Result<(), CommandError> {
    let config = arguments.flags.load(None)?;
    if arguments.nodes > 1 {
        return dev_cluster::run(&config, arguments.nodes, arguments.unencrypted);
    }
    run(&config, parts, |grpc, http| print_line(&welcome(&config, grpc, http)))
}

/// How long a thread for blocking work is kept without any. The allocator keeps for each thread what others have freed of its
/// memory, so that each idle one may hold some megabytes.
const IDLE_THREAD_KEPT: Duration = Duration::from_secs(2);

fn run(
    config: &Config,
    parts: NodeParts,
    greet: impl FnOnce(SocketAddr, SocketAddr) -> Result<(), CommandError>,
) -> Result<(), CommandError> {
    tracing_setup::install(&config.tracing)?;
    memory::reserve(config.node.reserved_memory)?;
    let failed = |source| CommandError::Failed(format!("cannot start the runtime: {source}"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(IDLE_THREAD_KEPT)
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        // Before anything is opened, so that no signal is missed.
        let mut shutdown = std::pin::pin!(shutdown_signal()?);
        // A start may wait for other members to repair the log.
        let running = tokio::select! {
            started = Running::start_with(config, parts) => started.map_err(run_error)?,
            () = &mut shutdown => return Ok(()),
        };
        let (grpc, http) = running.addresses().map_err(failed)?;
        tracing::info!(%grpc, %http, data = %config.node.data.display(), "serving");
        greet(grpc, http)?;
        running.serve(shutdown).await.map_err(run_error)?;
        tracing::info!("stopped");
        Ok(())
    })
}

/// Completes when the process is asked to end.
pub(super) fn shutdown_signal() -> Result<impl Future<Output = ()> + Send, CommandError> {
    let failed = |source| CommandError::Failed(format!("cannot listen for signals: {source}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("asked to terminate"),
            _ = interrupt.recv() => tracing::info!("interrupted"),
        }
    })
}

fn run_error(error: RunError) -> CommandError {
    let advice = match &error {
        RunError::Listen { .. } => "; is another node running? choose other addresses with --listen and --http-listen",
        _ => "",
    };
    CommandError::Failed(format!("{error}{advice}"))
}

/// What a newcomer wants to know first.
fn welcome(config: &Config, grpc: SocketAddr, http: SocketAddr) -> String {
    let mut options = String::new();
    if grpc != Config::default().node.listen {
        options = format!(" --endpoint http://{grpc}");
    }
    if config.node.namespace != Config::default().node.namespace {
        options = format!("{options} --namespace {}", config.node.namespace);
    }
    format!(
        "\
Steeple {version} is serving.

  gRPC       http://{grpc}
  metrics    http://{http}/metrics (and /healthz, /readyz)
  data       {data}
  namespace  {namespace}
  access     {access}

Try in another terminal:

  steeple status{endpoint}
  steeple load --agents 1000 --entries 10000{options}
  steeple spire entry list --selector k8s:ns:billing --limit 5{options}
  steeple events tail --from-start --until-now{options}
  steeple snapshot save backup.snapshot{endpoint}

Ctrl-C stops it; everything acknowledged is kept.",
        version = env!("CARGO_PKG_VERSION"),
        data = config.node.data.display(),
        namespace = if config.node.namespace.is_empty() { "(none)" } else { &config.node.namespace },
        access = match config.tls.authority {
            Some(_) => "encrypted, as [roles] say",
            None if config.tls.files().is_some() => "encrypted, for whoever reaches it",
            None if grpc.ip().is_loopback() => "everybody on this machine, unencrypted",
            None => "everybody who reaches it, unencrypted",
        },
        endpoint =
            if grpc == Config::default().node.listen { String::new() } else { format!(" --endpoint http://{grpc}") },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_welcome_names_what_differs_from_the_defaults() {
        let mut config = Config::default();
        let (grpc, http) = (config.node.listen, config.node.http_listen);
        let plain = welcome(&config, grpc, http);
        assert!(plain.contains("everybody on this machine, unencrypted"), "{plain}");
        assert!(!plain.contains("--endpoint") && !plain.contains("--namespace"), "{plain}");
        config.node.namespace = "prod".into();
        let other = welcome(&config, SocketAddr::from(([127, 0, 0, 1], 9)), http);
        assert!(other.contains("--entries 10000 --endpoint http://127.0.0.1:9 --namespace prod"), "{other}");
    }
}
