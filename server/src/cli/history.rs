//! `steeple history`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use steeple_client::Moment;
use steeple_client::events::{Collection, HistoryResponse};
use tokio_stream::StreamExt as _;

use super::connection::Target;
use super::events::what_happened;
use super::exit::CommandError;
use super::instant::{micros_text, parse_instant};
use super::json as documents;
use super::output::{Row, print_json};

#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// What happened to an entry, newest first
    Entry(HistoryArgs),
    /// What happened to an agent, newest first
    Agent(HistoryArgs),
    /// What happened to the selectors of an agent, newest first
    Selectors(HistoryArgs),
    /// What happened to a bundle, newest first
    Bundle(HistoryArgs),
    /// What happened to a federation relationship, newest first
    Federation(HistoryArgs),
    /// A record as it was
    StateAt(StateAtArgs),
}

#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    /// Entry id, SPIFFE ID, trust domain id or trust domain name
    id: String,
    /// Only events before this revision
    #[arg(long, value_name = "NUMBER", default_value_t)]
    before_revision: u64,
    /// Versions at the most; 0 for all that are kept
    #[arg(long, value_name = "NUMBER", default_value_t)]
    limit: u32,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct StateAtArgs {
    /// Kind of the record
    #[arg(value_enum)]
    kind: Kind,
    /// Entry id, SPIFFE ID, trust domain id or trust domain name
    id: String,
    /// After the event with this revision
    #[arg(long, value_name = "NUMBER", conflicts_with = "time", required_unless_present = "time")]
    revision: Option<u64>,
    /// After all events up to this instant
    #[arg(long, value_name = "WHEN", value_parser = parse_instant)]
    time: Option<i64>,
    #[command(flatten)]
    target: Target,
}

/// Kinds of records that can be looked back at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A registration entry
    Entry,
    /// An attested node
    Agent,
    /// The selectors of an attested node
    Selectors,
    /// A trust bundle
    Bundle,
    /// A federation relationship
    Federation,
}

impl Kind {
    fn collection(self) -> Collection {
        match self {
            Self::Entry => Collection::RegistrationEntries,
            Self::Agent => Collection::AttestedNodes,
            Self::Selectors => Collection::NodeSelectors,
            Self::Bundle => Collection::Bundles,
            Self::Federation => Collection::FederationRelationships,
        }
    }
}

pub(super) async fn run(command: HistoryCommand) -> Result<(), CommandError> {
    match command {
        HistoryCommand::Entry(arguments) => history(Kind::Entry, arguments).await,
        HistoryCommand::Agent(arguments) => history(Kind::Agent, arguments).await,
        HistoryCommand::Selectors(arguments) => history(Kind::Selectors, arguments).await,
        HistoryCommand::Bundle(arguments) => history(Kind::Bundle, arguments).await,
        HistoryCommand::Federation(arguments) => history(Kind::Federation, arguments).await,
        HistoryCommand::StateAt(arguments) => state_at(arguments).await,
    }
}

async fn history(kind: Kind, arguments: HistoryArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let HistoryArgs { id, before_revision, limit, .. } = &arguments;
    let mut versions = namespace.history(kind.collection(), id, *before_revision, *limit).await?;
    let mut rows = Vec::new();
    while let Some(version) = versions.next().await {
        rows.push(row(&version?));
    }
    if rows.is_empty() {
        return Err(CommandError::NotFound(format!("nothing is known to have happened to {id}")));
    }
    arguments.target.output().list("versions", &["time", "revision", "what", "request"], rows)
}

fn row(version: &HistoryResponse) -> Row {
    let request = documents::hexadecimal(&version.request_id);
    let what = version.change.as_ref().map(what_happened).unwrap_or_default();
    Row {
        cells: vec![micros_text(version.time_micros), format!("r{}", version.revision), what, request.clone()],
        json: json!({
            "revision": version.revision,
            "time_micros": version.time_micros,
            "request_id": request,
            "change": version.change.as_ref().map(documents::change),
        }),
    }
}

async fn state_at(arguments: StateAtArgs) -> Result<(), CommandError> {
    let moment = match (arguments.revision, arguments.time) {
        (Some(revision), _) => Moment::Revision(revision),
        (None, time) => Moment::Micros(time.unwrap_or(0)),
    };
    let record = arguments.target.open().await?.state_at(arguments.kind.collection(), &arguments.id, moment).await?;
    let missing = || CommandError::NotFound(format!("{} did not exist then", arguments.id));
    let document = documents::record(&record.ok_or_else(missing)?).unwrap_or(Value::Null);
    // The fields of any kind of record: JSON shows them best, also to people.
    print_json(&document)
}
