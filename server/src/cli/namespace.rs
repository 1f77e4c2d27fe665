//! `steeple namespace`.

use clap::{Args, Subcommand};
use serde_json::json;
use steeple_client::administration::Namespace;

use super::connection::Connection;
use super::exit::CommandError;
use super::instant::micros_text;
use super::output::Row;

#[derive(Debug, Subcommand)]
pub(super) enum NamespaceCommand {
    /// All namespaces, in creation order
    List(ListArgs),
    /// Make sure that a namespace exists
    Open(OpenArgs),
    /// Delete a namespace and everything in it
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct OpenArgs {
    /// Its name: 1 to 255 letters, digits and -._/
    name: String,
    /// Fail when it exists
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct DeleteArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(command: NamespaceCommand) -> Result<(), CommandError> {
    match command {
        NamespaceCommand::List(arguments) => list(arguments).await,
        NamespaceCommand::Open(arguments) => open(arguments).await,
        NamespaceCommand::Delete(arguments) => delete(arguments).await,
    }
}

async fn list(arguments: ListArgs) -> Result<(), CommandError> {
    let namespaces = arguments.connection.admin().await?.list_namespaces().await?;
    arguments.connection.output.list("namespaces", &["name", "id", "created"], namespaces.iter().map(row).collect())
}

fn row(namespace: &Namespace) -> Row {
    let Namespace { name, id, created_at_micros } = namespace;
    Row {
        cells: vec![name.clone(), id.to_string(), micros_text(*created_at_micros)],
        json: json!({ "name": name, "id": id, "created_at_micros": created_at_micros }),
    }
}

async fn open(arguments: OpenArgs) -> Result<(), CommandError> {
    let admin = arguments.connection.admin().await?;
    if arguments.create {
        admin.create_namespace(&arguments.name).await?;
    } else {
        admin.open_namespace(&arguments.name).await?;
    }
    arguments
        .connection
        .output
        .say(&json!({ "name": arguments.name }), &format!("namespace {} is open", arguments.name))
}

async fn delete(arguments: DeleteArgs) -> Result<(), CommandError> {
    arguments.connection.admin().await?.delete_namespace(&arguments.name).await?;
    let document = json!({ "name": arguments.name, "deleted": true });
    arguments.connection.output.say(&document, &format!("namespace {} is deleted", arguments.name))
}
