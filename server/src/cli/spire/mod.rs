//! `steeple spire`: SPIRE's records, in the manner of `spire-server`.

mod agent;
mod bundle;
mod bundle_file;
mod entry;
mod entry_fields;
mod entry_file;
mod federation;
mod filter;
mod identity;
mod token;
mod transfer;

use clap::Subcommand;

use super::exit::CommandError;

#[derive(Debug, Subcommand)]
pub(super) enum SpireCommand {
    /// Registration entries
    #[command(subcommand)]
    Entry(entry::EntryCommand),
    /// Attested nodes
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Trust bundles
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Join tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Federation relationships
    #[command(subcommand)]
    Federation(federation::FederationCommand),
    /// Take over all records from a database of a SPIRE server, or from an export
    Import(transfer::ImportArgs),
    /// Compare a source of an import with a namespace, record by record
    Verify(transfer::VerifyArgs),
    /// Write all records to a file, from which they can be imported again
    Export(transfer::ExportArgs),
}

pub(super) async fn run(command: SpireCommand) -> Result<(), CommandError> {
    match command {
        SpireCommand::Entry(command) => entry::run(command).await,
        SpireCommand::Agent(command) => agent::run(command).await,
        SpireCommand::Bundle(command) => bundle::run(command).await,
        SpireCommand::Token(command) => token::run(command).await,
        SpireCommand::Federation(command) => federation::run(command).await,
        SpireCommand::Import(arguments) => transfer::import(arguments).await,
        SpireCommand::Verify(arguments) => transfer::verify(arguments).await,
        SpireCommand::Export(arguments) => transfer::export(arguments).await,
    }
}
