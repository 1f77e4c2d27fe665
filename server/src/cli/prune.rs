//! `steeple prune`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use steeple_client::Namespace;

use super::connection::Target;
use super::exit::CommandError;
use super::instant::{parse_duration, parse_instant};

#[derive(Debug, Subcommand)]
pub(super) enum PruneCommand {
    /// Give up items of the streams that are older than a while
    Events(EventsArgs),
    /// Delete entries that have expired
    Entries(ExpiredArgs),
    /// Delete agents whose certificates have expired; never banned ones
    Agents(AgentsArgs),
    /// Delete join tokens that have expired
    Tokens(ExpiredArgs),
    /// Delete CA journals that hold nothing valid any more
    Journals(ExpiredArgs),
}

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Their age; 0 gives up all
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    older_than: Duration,
    /// Which streams
    #[arg(long, value_enum, default_value_t)]
    stream: Streams,
    #[command(flatten)]
    target: Target,
}

/// Streams to prune.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Streams {
    /// All of them
    #[default]
    All,
    /// Of registration entries
    Registrations,
    /// Of nodes and their selectors
    Nodes,
}

#[derive(Debug, Args)]
pub(super) struct ExpiredArgs {
    /// What expired before this instant goes
    #[arg(long, value_name = "WHEN", default_value = "now", value_parser = parse_instant)]
    before: i64,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct AgentsArgs {
    /// Whose certificates expired before this instant
    #[arg(long, value_name = "WHEN", default_value = "now", value_parser = parse_instant)]
    before: i64,
    /// Also agents that cannot attest again
    #[arg(long)]
    include_non_reattestable: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: PruneCommand) -> Result<(), CommandError> {
    match command {
        PruneCommand::Events(arguments) => events(arguments).await,
        PruneCommand::Agents(arguments) => agents(arguments).await,
        PruneCommand::Entries(ExpiredArgs { before, target }) => {
            done(&target, "entries", target.open().await?.prune_registration_entries(before).await?.pruned)
        }
        PruneCommand::Tokens(ExpiredArgs { before, target }) => {
            done(&target, "join tokens", target.open().await?.prune_join_tokens(before).await?)
        }
        PruneCommand::Journals(ExpiredArgs { before, target }) => {
            done(&target, "CA journals", target.open().await?.prune_ca_journals(before / 1_000_000).await?)
        }
    }
}

async fn events(arguments: EventsArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let mut pruned = 0;
    if arguments.stream != Streams::Nodes {
        pruned += namespace.prune_registration_entry_events(arguments.older_than).await?;
    }
    if arguments.stream != Streams::Registrations {
        pruned += namespace.prune_attested_node_events(arguments.older_than).await?;
    }
    done(&arguments.target, "events", pruned)
}

async fn agents(arguments: AgentsArgs) -> Result<(), CommandError> {
    let pruned =
        prune_agents(&arguments.target.open().await?, arguments.before, arguments.include_non_reattestable).await?;
    done(&arguments.target, "agents", pruned)
}

/// Deletes expired agents batch by batch.
pub(super) async fn prune_agents(
    namespace: &Namespace,
    before: i64,
    include_non_reattestable: bool,
) -> Result<u64, CommandError> {
    let mut total = 0;
    loop {
        let batch = namespace.prune_attested_expired_nodes(before, include_non_reattestable, 0).await?;
        total += batch.pruned;
        if !batch.more {
            return Ok(total);
        }
    }
}

fn done(target: &Target, what: &str, pruned: u64) -> Result<(), CommandError> {
    target.output().say(&json!({ "pruned": pruned }), &format!("{pruned} {what} pruned"))
}
