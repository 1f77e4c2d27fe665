//! `steeple spire entry`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple_client::types::mutation_outcome::Result as Answer;
use steeple_client::types::{
    CreateOrReturnRegistrationEntryRequest, RegistrationEntry, UpdateRegistrationEntryRequest,
};
use steeple_client::{Error, Namespace, Operation, Outcome};
use tokio_stream::StreamExt as _;

use super::entry_fields::EntryFields;
use super::entry_file;
use super::filter::EntryConditions;
use super::identity::selectors_text;
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::instant::seconds_text;
use crate::cli::json as documents;
use crate::cli::output::{Output, Row, lines, print_json, print_line};

/// Mutations in one message.
const BATCH_MAX: usize = 500;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EntryCommand {
    /// Create an entry, or all entries of a file
    Create(CreateArgs),
    /// Everything about some entries
    Show(ShowArgs),
    /// Entries in a table, in creation order
    List(ListArgs),
    /// How many entries there are
    Count(CountArgs),
    /// Change the given fields of an entry, or replace all entries of a file
    Update(UpdateArgs),
    /// Delete entries
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// JSON file with entries as for `spire-server entry create -data`; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spiffe_id", "parent_id", "selector", "entry_id"])]
    data: Option<PathBuf>,
    /// Id of the new entry; chosen by the node when missing
    #[arg(long, alias = "entryID", value_name = "ID", default_value = "", hide_default_value = true)]
    entry_id: String,
    #[command(flatten)]
    fields: EntryFields,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// Ids of entries; without them all that meet the conditions
    entry_ids: Vec<String>,
    #[command(flatten)]
    conditions: EntryConditions,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Entries at the most
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    #[command(flatten)]
    conditions: EntryConditions,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CountArgs {
    #[command(flatten)]
    conditions: EntryConditions,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct UpdateArgs {
    /// JSON file with whole entries, found by their ids; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "entry_id")]
    data: Option<PathBuf>,
    /// Which entry
    #[arg(long, alias = "entryID", value_name = "ID", required_unless_present = "data")]
    entry_id: Option<String>,
    #[command(flatten)]
    fields: EntryFields,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DeleteArgs {
    /// Ids of entries
    #[arg(required_unless_present = "entry_id")]
    entry_ids: Vec<String>,
    /// Id of an entry; can be repeated
    #[arg(long, alias = "entryID", value_name = "ID")]
    entry_id: Vec<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: EntryCommand) -> Result<(), CommandError> {
    match command {
        EntryCommand::Create(arguments) => create(arguments).await,
        EntryCommand::Show(arguments) => show(arguments).await,
        EntryCommand::List(arguments) => list(arguments).await,
        EntryCommand::Count(arguments) => count(arguments).await,
        EntryCommand::Update(arguments) => update(arguments).await,
        EntryCommand::Delete(arguments) => delete(arguments).await,
    }
}

async fn create(arguments: CreateArgs) -> Result<(), CommandError> {
    let entries = match &arguments.data {
        Some(path) => entry_file::read(path)?,
        None => vec![arguments.fields.new_entry(arguments.entry_id).map_err(CommandError::Usage)?],
    };
    let operation = |entry| {
        let request = CreateOrReturnRegistrationEntryRequest { context: None, entry: Some(entry) };
        Operation::CreateOrReturnRegistrationEntry(request)
    };
    write(&arguments.target, entries, operation, "created").await
}

async fn update(arguments: UpdateArgs) -> Result<(), CommandError> {
    let (entries, mask) = match (&arguments.data, arguments.entry_id) {
        (Some(path), _) => (entry_file::read(path)?, None),
        (None, id) => {
            let (mut entry, mask) = arguments.fields.changes(id.unwrap_or_default()).map_err(CommandError::Usage)?;
            if mask.additional_attributes && !entry.entry_id.is_empty() {
                let stored = arguments.target.open().await?.fetch_registration_entry(&entry.entry_id).await?;
                let stored = stored.and_then(|stored| stored.additional_attributes);
                entry.additional_attributes = arguments.fields.attributes_over(stored);
            }
            (vec![entry], Some(mask))
        }
    };
    if entries.iter().any(|entry| entry.entry_id.is_empty()) {
        return Err(CommandError::Usage("an entry to update needs its `entry_id`".into()));
    }
    let operation = |entry| {
        Operation::UpdateRegistrationEntry(UpdateRegistrationEntryRequest { context: None, entry: Some(entry), mask })
    };
    write(&arguments.target, entries, operation, "updated").await
}

/// Carries out one mutation for each entry, prints those that worked, and fails with the first that did not.
async fn write(
    target: &Target,
    entries: Vec<RegistrationEntry>,
    operation: impl Fn(RegistrationEntry) -> Operation,
    done: &str,
) -> Result<(), CommandError> {
    let namespace = target.open().await?;
    let total = entries.len();
    let (mut written, mut failures) = (Vec::new(), Vec::new());
    for chunk in entries.chunks(BATCH_MAX) {
        let outcomes = namespace.batch(chunk.iter().cloned().map(&operation).collect()).await;
        for (asked, outcome) in chunk.iter().zip(outcomes) {
            match stored(outcome) {
                Ok(entry) => written.push(entry),
                Err(error) => failures.push((asked, error)),
            }
        }
    }
    print_written(target.output(), &written, done)?;
    let failed = failures.len();
    for (entry, error) in failures.iter().skip(1) {
        eprintln!("error: {}: {error}", name(entry));
    }
    match failures.into_iter().next() {
        None => Ok(()),
        Some((_, error)) if total == 1 => Err(error),
        Some((entry, error)) => {
            Err(with_context(&format!("{failed} of {total} entries failed; {}", name(entry)), error))
        }
    }
}

/// The entry of an outcome; one that was there before is a failure here, as it is for `spire-server`.
fn stored(outcome: Outcome) -> Result<RegistrationEntry, CommandError> {
    match outcome.answer? {
        Answer::CreateOrReturnRegistrationEntry(answer) if answer.existing => {
            let id = answer.entry.map(|entry| entry.entry_id).unwrap_or_default();
            Err(CommandError::AlreadyExists(format!("similar entry already exists: {id}")))
        }
        Answer::CreateOrReturnRegistrationEntry(answer) => answer.entry.ok_or_else(no_entry),
        Answer::UpdateRegistrationEntry(answer) => answer.entry.ok_or_else(no_entry),
        _ => Err(no_entry()),
    }
}

fn no_entry() -> CommandError {
    CommandError::Node(Error::Protocol("entry"))
}

/// The same error, with a text before it.
fn with_context(context: &str, error: CommandError) -> CommandError {
    let message = format!("{context}: {error}");
    match error {
        CommandError::AlreadyExists(_) => CommandError::AlreadyExists(message),
        CommandError::Node(error) if error.is_already_exists() => CommandError::AlreadyExists(message),
        CommandError::Node(error) if error.is_not_found() => CommandError::NotFound(message),
        CommandError::Node(Error::Unavailable { message: text }) => {
            CommandError::Node(Error::Unavailable { message: format!("{context}: {text}") })
        }
        CommandError::Node(Error::OutcomeUnknown { request, message: text }) => {
            CommandError::Node(Error::OutcomeUnknown { request, message: format!("{context}: {text}") })
        }
        _ => CommandError::Failed(message),
    }
}

/// What to call an entry in an error.
fn name(entry: &RegistrationEntry) -> String {
    if entry.entry_id.is_empty() {
        entry.spiffe_id.clone()
    } else {
        format!("{} ({})", entry.spiffe_id, entry.entry_id)
    }
}

fn print_written(output: Output, entries: &[RegistrationEntry], done: &str) -> Result<(), CommandError> {
    match (output, entries) {
        (Output::Json, _) => print_json(&all(entries)),
        (Output::Table, []) => Ok(()),
        (Output::Table, [entry]) => print_line(&lines(&fields(entry))),
        (Output::Table, _) => print_line(&format!("{} entries {done}", entries.len())),
    }
}

fn all(entries: &[RegistrationEntry]) -> Value {
    json!({ "entries": entries.iter().map(documents::entry).collect::<Vec<_>>() })
}

async fn show(arguments: ShowArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let entries = if arguments.entry_ids.is_empty() {
        select(&namespace, &arguments.conditions, usize::MAX).await?
    } else {
        namespace.fetch_registration_entries(arguments.entry_ids.clone()).await?
    };
    match arguments.target.output() {
        Output::Json => print_json(&all(&entries))?,
        Output::Table => {
            let texts: Vec<_> = entries.iter().map(|entry| lines(&fields(entry))).collect();
            if !texts.is_empty() {
                print_line(&texts.join("\n\n"))?;
            }
        }
    }
    let found = |id: &&String| entries.iter().any(|entry| entry.entry_id == **id);
    match arguments.entry_ids.iter().find(|id| !found(id)) {
        Some(id) => Err(CommandError::NotFound(format!("there is no entry {id}"))),
        None => Ok(()),
    }
}

/// Up to `limit` of the entries that meet the conditions.
async fn select(
    namespace: &Namespace,
    conditions: &EntryConditions,
    limit: usize,
) -> Result<Vec<RegistrationEntry>, CommandError> {
    let mut records = namespace.stream_registration_entries(conditions.filter()).await?.take(limit);
    let mut entries = Vec::new();
    while let Some(entry) = records.next().await {
        entries.push(entry?);
    }
    Ok(entries)
}

async fn list(arguments: ListArgs) -> Result<(), CommandError> {
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let entries = select(&arguments.target.open().await?, &arguments.conditions, limit).await?;
    let columns = ["entry id", "spiffe id", "parent id", "selectors", "hint"];
    arguments.target.output().list("entries", &columns, entries.iter().map(row).collect())
}

fn row(entry: &RegistrationEntry) -> Row {
    let cells = vec![
        entry.entry_id.clone(),
        entry.spiffe_id.clone(),
        entry.parent_id.clone(),
        selectors_text(&entry.selectors),
        entry.hint.clone(),
    ];
    Row { cells, json: documents::entry(entry) }
}

/// Everything about an entry, in the order of `spire-server entry show`.
fn fields(entry: &RegistrationEntry) -> Vec<(&'static str, String)> {
    let yes = |flag: bool| if flag { "yes".to_owned() } else { String::new() };
    let ttl = |seconds: i32| if seconds == 0 { "default".to_owned() } else { format!("{seconds}s") };
    let attributes = entry.additional_attributes.clone().unwrap_or_default();
    vec![
        ("Entry ID", entry.entry_id.clone()),
        ("SPIFFE ID", entry.spiffe_id.clone()),
        ("Parent ID", entry.parent_id.clone()),
        ("Revision", entry.revision_number.to_string()),
        ("X509-SVID TTL", ttl(entry.x509_svid_ttl)),
        ("JWT-SVID TTL", ttl(entry.jwt_svid_ttl)),
        ("Selectors", selectors_text(&entry.selectors)),
        ("Federates with", entry.federates_with.join(", ")),
        ("DNS names", entry.dns_names.join(", ")),
        ("Hint", entry.hint.clone()),
        ("Admin", yes(entry.admin)),
        ("Downstream", yes(entry.downstream)),
        ("Store SVID", yes(entry.store_svid)),
        ("No prefetch", yes(attributes.disable_x509_svid_prefetch)),
        ("JTI", yes(attributes.jwt_svid_include_jti)),
        ("Expires", seconds_text(entry.entry_expiry)),
        ("Created", seconds_text(entry.created_at)),
    ]
}

async fn count(arguments: CountArgs) -> Result<(), CommandError> {
    let count = arguments.target.open().await?.count_registration_entries(arguments.conditions.filter()).await?;
    arguments.target.output().say(&json!({ "count": count }), &format!("{count} entries"))
}

async fn delete(arguments: DeleteArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let mut deleted = Vec::new();
    for id in arguments.entry_ids.iter().chain(&arguments.entry_id) {
        let outcome = namespace.delete_registration_entry(id).await;
        deleted.push(outcome.map_err(|error| with_context(&format!("entry {id}"), error.into()))?);
    }
    arguments.target.output().say(&all(&deleted), &format!("{} entries deleted", deleted.len()))
}
