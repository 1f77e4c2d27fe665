//! `steeple snapshot`.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use steeple_client::SnapshotChunks;
use steeple_client::administration::SnapshotSummary;
use steeple_engine::record_store::RecordStoreKind;
use steeple_snapshot::restore::RestoreError;
use steeple_snapshot::{Manifest, Publication};

use super::connection::Connection;
use super::exit::CommandError;
use super::instant::micros_text;
use super::json::hexadecimal;
use super::output::{Output, print_json, print_line};
use super::status::size_text;
use crate::node::{self, RescueError};

/// Bytes read from a file at a time.
const READ_BYTES: usize = 1 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum SnapshotCommand {
    /// Save a snapshot of a running node to a file
    Save(SaveArgs),
    /// What a snapshot says that it holds
    Inspect(FileArgs),
    /// Read all of a snapshot and check every part
    Verify(FileArgs),
    /// Restore a snapshot into an empty data directory
    Restore(RestoreArgs),
    /// Save all that a stopped node has, when the majority of its group is lost for good
    Rescue(RescueArgs),
}

#[derive(Debug, Args)]
pub(super) struct SaveArgs {
    /// The file to make
    file: PathBuf,
    /// Leave out the events that are kept: history and old cursors do not survive a restore
    #[arg(long)]
    without_events: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Args)]
pub(super) struct FileArgs {
    /// The snapshot
    file: PathBuf,
    /// How to print
    #[arg(long, short, value_enum, env = "STEEPLE_OUTPUT", default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The data directory: empty, or not there yet
    #[arg(long, value_name = "DIRECTORY")]
    data: PathBuf,
    /// Engine that keeps the records, as it is in the configuration of the node (store.kind)
    #[arg(long, value_enum, default_value_t)]
    store_kind: Store,
    #[command(flatten)]
    file: FileArgs,
}

#[derive(Debug, Args)]
pub(super) struct RescueArgs {
    /// The data directory of the node, which must not run
    #[arg(long, value_name = "DIRECTORY")]
    data: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    file: FileArgs,
}

/// Record stores on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Store {
    /// sled
    #[default]
    Sled,
    /// fjall
    Fjall,
}

pub(super) fn run(command: SnapshotCommand) -> Result<(), CommandError> {
    match command {
        SnapshotCommand::Save(arguments) => super::talk(save(arguments)),
        SnapshotCommand::Inspect(arguments) => inspect(&arguments),
        SnapshotCommand::Verify(arguments) => verify(&arguments),
        SnapshotCommand::Restore(arguments) => restore(&arguments),
        SnapshotCommand::Rescue(arguments) => rescue(&arguments),
    }
}

async fn save(arguments: SaveArgs) -> Result<(), CommandError> {
    let path = &arguments.file;
    if path.exists() && !arguments.force {
        return Err(CommandError::AlreadyExists(format!("{} exists; replace it with --force", path.display())));
    }
    let mut chunks = arguments.connection.admin().await?.save_snapshot(!arguments.without_events).await?;
    // Until it is whole the file has another name, and it is gone if the snapshot fails.
    let mut publication = Publication::create(path).map_err(|source| file_error("create", path, source))?;
    receive(&mut chunks, &mut publication, path).await?;
    publication.publish().map_err(|source| file_error("write", path, source))?;
    say(&arguments, &chunks.summary().cloned().unwrap_or_default())
}

/// Writes all chunks.
async fn receive(chunks: &mut SnapshotChunks, file: &mut impl Write, path: &Path) -> Result<(), CommandError> {
    let bar = ProgressBar::no_length().with_style(spinner_style());
    while let Some(chunk) = chunks.next().await? {
        file.write_all(&chunk).map_err(|source| file_error("write", path, source))?;
        bar.inc(chunk.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

/// Looks at the end of the file only.
fn inspect(arguments: &FileArgs) -> Result<(), CommandError> {
    let manifest =
        steeple_snapshot::inspect(open(&arguments.file)?).map_err(|error| damaged(&arguments.file, &error))?;
    print(arguments, &manifest)
}

/// Reads all of the file.
fn verify(arguments: &FileArgs) -> Result<(), CommandError> {
    let file = open(&arguments.file)?;
    let bar = file_bar(&file);
    let report =
        steeple_snapshot::verify(BufReader::with_capacity(READ_BYTES, file), &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    print(arguments, &report.map_err(|error| damaged(&arguments.file, &error))?.manifest)?;
    if arguments.output == Output::Table { print_line("the snapshot is whole") } else { Ok(()) }
}

/// Reads all of the file twice: to verify it, then to put it in place.
fn restore(arguments: &RestoreArgs) -> Result<(), CommandError> {
    let path = &arguments.file.file;
    let mut input = BufReader::with_capacity(READ_BYTES, open(path)?);
    let kind = match arguments.store_kind {
        Store::Sled => RecordStoreKind::Sled,
        Store::Fjall => RecordStoreKind::Fjall,
    };
    let bar = file_bar(input.get_ref());
    let restored = node::restore(&mut input, &arguments.data, kind, &mut |bytes| bar.set_position(bytes));
    bar.finish_and_clear();
    let manifest = restored.map_err(|error| restore_error(path, error))?;
    print(&arguments.file, &manifest)?;
    if arguments.file.output == Output::Json {
        return Ok(());
    }
    print_line(&format!("restored; start a node on it with `steeple dev --data {}`", arguments.data.display()))
}

/// Folds the whole log of a node that does not run.
fn rescue(arguments: &RescueArgs) -> Result<(), CommandError> {
    let path = &arguments.file.file;
    if path.exists() && !arguments.force {
        return Err(CommandError::AlreadyExists(format!("{} exists; replace it with --force", path.display())));
    }
    let rescued = node::rescue(&arguments.data, path).map_err(|error| match error {
        error @ RescueError::Nothing(_) => CommandError::NotFound(error.to_string()),
        error => CommandError::Failed(error.to_string()),
    })?;
    if arguments.file.output == Output::Json {
        let document = json!({
            "revision": rescued.manifest.state.revision.0,
            "last_index": rescued.last.0,
            "committed_index": rescued.committed.0,
            "unconfirmed_entries": rescued.unconfirmed(),
        });
        return print_json(&document);
    }
    print(&arguments.file, &rescued.manifest)?;
    print_line(&format!(
        "of {} of its {} log entries the node did not know whether a majority has them: they are in the snapshot, and may \
         or may not have been acknowledged",
        rescued.unconfirmed(),
        rescued.last.0
    ))
}

fn restore_error(path: &Path, error: RestoreError) -> CommandError {
    match error {
        RestoreError::Read(error) => damaged(path, &error),
        error @ RestoreError::NotEmpty { .. } => CommandError::AlreadyExists(error.to_string()),
        error => CommandError::Failed(error.to_string()),
    }
}

fn open(path: &Path) -> Result<File, CommandError> {
    File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CommandError::NotFound(format!("there is no file {}", path.display())),
        _ => file_error("open", path, source),
    })
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> CommandError {
    CommandError::Failed(format!("{} is no whole snapshot: {error}", path.display()))
}

fn print(arguments: &FileArgs, manifest: &Manifest) -> Result<(), CommandError> {
    let document = serde_json::from_str(&manifest.to_json())
        .map_err(|error| CommandError::Failed(format!("the manifest is not JSON: {error}")))?;
    arguments.output.record(&document, &fields(manifest))
}

fn fields(manifest: &Manifest) -> Vec<(&'static str, String)> {
    let events = match manifest.first_event {
        Some(first) => format!("{}, from revision {} on", manifest.events, first.0),
        None => "none".into(),
    };
    vec![
        ("revision", manifest.state.revision.0.to_string()),
        ("records", manifest.records().to_string()),
        ("events", events),
        ("history", if manifest.includes_history { "included".into() } else { "left out".into() }),
        ("taken", micros_text(i64::try_from(manifest.taken_at.0).unwrap_or(0))),
        ("digest", manifest.state.digest.to_string()),
        ("bytes", size_text(manifest.bytes)),
    ]
}

/// A bar over the bytes of a file.
fn file_bar(file: &File) -> ProgressBar {
    let template = "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(file.metadata().map_or(0, |metadata| metadata.len())).with_style(style)
}

fn spinner_style() -> ProgressStyle {
    let template = "{spinner} {binary_bytes} {binary_bytes_per_sec}";
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> CommandError {
    CommandError::File { action, path: path.display().to_string(), source }
}

fn say(arguments: &SaveArgs, summary: &SnapshotSummary) -> Result<(), CommandError> {
    let document = json!({
        "file": arguments.file.display().to_string(),
        "revision": summary.revision,
        "records": summary.records,
        "events": summary.events,
        "bytes": summary.bytes,
        "digest": hexadecimal(&summary.digest),
    });
    let sentence = format!(
        "saved {} records and {} events at revision {} to {} ({})",
        summary.records,
        summary.events,
        summary.revision,
        arguments.file.display(),
        size_text(summary.bytes)
    );
    arguments.connection.output.say(&document, &sentence)
}
