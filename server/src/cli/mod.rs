//! The `steeple` command: one file for each subject, each with its arguments and what it does.

mod cluster;
mod completions;
mod config;
mod config_flags;
mod connection;
mod dev_cluster;
mod events;
mod exit;
mod history;
mod instant;
mod json;
mod load;
mod log;
mod maintain;
mod memory;
mod namespace;
mod output;
mod prune;
mod serve;
mod snapshot;
mod spire;
mod spire_plugin;
mod status;
mod tracing_setup;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use exit::{CommandError, report};

use crate::node::NodeParts;

/// Event-sourced storage, first of all for SPIRE.
#[derive(Debug, Parser)]
#[command(name = "steeple", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 already exists, 5 node unavailable or \
                        outcome unknown."
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a node with sensible defaults under ./steeple-data
    Dev(serve::DevArgs),
    /// Start a node
    Serve(serve::ServeArgs),
    /// Show or check the configuration of a node
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// How a node is doing
    Status(status::StatusArgs),
    /// Hash over all records of a node, to compare it with another or with a restored copy
    Digest(status::DigestArgs),
    /// Look at the group of nodes, and change it
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// List, open and delete namespaces
    #[command(subcommand)]
    Namespace(namespace::NamespaceCommand),
    /// Entries, agents, bundles, join tokens and federation relationships
    #[command(subcommand)]
    Spire(spire::SpireCommand),
    /// Serve a SPIRE server as its external plugin for the datastore; started by the server
    SpirePlugin(spire_plugin::SpirePluginArgs),
    /// Follow and list what happens
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// What happened to one record, and how it was in the past
    #[command(subcommand)]
    History(history::HistoryCommand),
    /// Look at the log of a stopped node
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Save, look at, verify and restore snapshots
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Give back the space of events that nobody needs any more
    Compact(maintain::CompactArgs),
    /// Delete what is old or has expired
    #[command(subcommand)]
    Prune(prune::PruneCommand),
    /// Fill a namespace with a generated deployment
    Load(load::LoadArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs the command that the process was started with.
#[must_use]
pub fn main() -> ExitCode {
    main_with(NodeParts::default())
}

/// As [`main`], with parts of the caller's own for the node that is run, if one is.
#[must_use]
pub fn main_with(parts: NodeParts) -> ExitCode {
    let arguments = CommandLine::parse();
    match run(arguments.command, parts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error),
    }
}

fn run(command: Command, parts: NodeParts) -> Result<(), CommandError> {
    match command {
        Command::Dev(arguments) => serve::dev(arguments, parts),
        Command::Serve(arguments) => serve::serve(arguments, parts),
        Command::Config(command) => config::run(command),
        Command::Log(command) => log::run(command),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Status(arguments) => talk(status::status(arguments)),
        Command::Digest(arguments) => talk(status::digest(arguments)),
        Command::Cluster(command) => talk(cluster::run(command)),
        Command::Namespace(command) => talk(namespace::run(command)),
        Command::Spire(command) => talk(spire::run(command)),
        Command::SpirePlugin(arguments) => talk_on_all_processors(spire_plugin::run(arguments)),
        Command::Events(command) => talk(events::run(command)),
        Command::History(command) => talk(history::run(command)),
        Command::Snapshot(command) => snapshot::run(command),
        Command::Compact(arguments) => talk(maintain::compact(arguments)),
        Command::Prune(command) => talk(prune::run(command)),
        Command::Load(arguments) => load::run(arguments),
    }
}

/// Runs a command that talks to a node.
fn talk(conversation: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    run_on(&mut tokio::runtime::Builder::new_current_thread(), conversation)
}

/// As [`talk`], for one that has very much to say.
fn talk_on_all_processors(conversation: impl Future<Output = Result<(), CommandError>>) -> Result<(), CommandError> {
    run_on(&mut tokio::runtime::Builder::new_multi_thread(), conversation)
}

fn run_on(
    runtime: &mut tokio::runtime::Builder,
    conversation: impl Future<Output = Result<(), CommandError>>,
) -> Result<(), CommandError> {
    let runtime = runtime
        .enable_all()
        .build()
        .map_err(|source| CommandError::Failed(format!("cannot start the runtime: {source}")))?;
    let result = runtime.block_on(conversation);
    // Calls that nobody waits for any more do not hold the process up.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests;
