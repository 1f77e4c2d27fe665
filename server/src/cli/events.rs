//! `steeple events`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple_client::events::{Change, Event, Item, ListedItem};
use steeple_client::{Tail, TailContent, TailMessage, TailOptions, TailStart};

use super::connection::Target;
use super::exit::CommandError;
use super::instant::{micros_text, parse_duration};
use super::json as documents;
use super::output::{Output, Row, print_line, printable};

/// Time between two writes of the cursor file: a sync for each of a million events would take an hour.
const CURSOR_INTERVAL: Duration = Duration::from_millis(200);

/// Largest file that can hold a cursor.
const CURSOR_BYTES_MAX: u64 = 4096;

/// Items that one answer can hold.
const PAGE_ITEMS: u32 = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Print what happens, from a cursor on or from now on
    Tail(TailArgs),
    /// Items of a stream, by their numbers
    List(ListArgs),
    /// Where the streams stand
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// Continue after this cursor
    #[arg(long, conflicts_with = "from_start")]
    cursor: Option<String>,
    /// Keep the cursor in this file, and continue there when it exists
    #[arg(long, value_name = "FILE", conflicts_with = "cursor")]
    cursor_file: Option<PathBuf>,
    /// Begin with the oldest event that is kept
    #[arg(long)]
    from_start: bool,
    /// Only this stream (registrations, nodes); can be repeated
    #[arg(long, value_name = "NAME")]
    stream: Vec<String>,
    /// Only items about this entry id or SPIFFE ID; can be repeated
    #[arg(long)]
    key: Vec<String>,
    /// End once everything that has happened so far is printed
    #[arg(long)]
    until_now: bool,
    /// End after so many events
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// End when the node cannot be reached for so long; without it, try for ever
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    unreachable: Option<Duration>,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Name of the stream (registrations, nodes)
    #[arg(long, value_name = "NAME", default_value = "registrations")]
    stream: String,
    /// Only items above this number
    #[arg(long, value_name = "NUMBER", default_value_t)]
    after: u64,
    /// Items at the most
    #[arg(long, value_name = "NUMBER", default_value_t = PAGE_ITEMS)]
    limit: u32,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(command: EventsCommand) -> Result<(), CommandError> {
    match command {
        EventsCommand::Tail(arguments) => tail(arguments).await,
        EventsCommand::List(arguments) => list(arguments).await,
        EventsCommand::Status(arguments) => status(arguments).await,
    }
}

async fn tail(arguments: TailArgs) -> Result<(), CommandError> {
    let options = TailOptions {
        start: start(&arguments)?,
        streams: arguments.stream.clone(),
        keys: arguments.key.clone(),
        without_changes: false,
        unreachable_max: arguments.unreachable,
    };
    let mut tail = arguments.target.open().await?.tail(options);
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        result = follow(&mut tail, &arguments) => result,
        _ = interrupted => Ok(()),
    }
}

/// Where to begin: the file's cursor, the given one, or as the flags say.
fn start(arguments: &TailArgs) -> Result<TailStart, CommandError> {
    let kept = arguments.cursor_file.as_deref().map(read_cursor).transpose()?.flatten();
    Ok(match kept.or_else(|| arguments.cursor.clone()) {
        Some(cursor) => TailStart::Cursor(cursor),
        None if arguments.from_start => TailStart::Oldest,
        None => TailStart::Now,
    })
}

async fn follow(tail: &mut Tail, arguments: &TailArgs) -> Result<(), CommandError> {
    let mut keeper = arguments.cursor_file.as_deref().map(CursorKeeper::new);
    let followed = follow_kept(tail, arguments, keeper.as_mut()).await;
    keeper.map_or(Ok(()), CursorKeeper::finish).and(followed)
}

async fn follow_kept(
    tail: &mut Tail,
    arguments: &TailArgs,
    mut keeper: Option<&mut CursorKeeper<'_>>,
) -> Result<(), CommandError> {
    let mut left = arguments.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let message = tail.next().await?;
        if let TailContent::Event(event) = &message.content {
            print_event(arguments.target.output(), event, &message.cursor)?;
            left -= 1;
        }
        let last = left == 0 || (arguments.until_now && is_live(&message));
        // Only after it was printed: a crash between the two prints it once more, and never leaves it out.
        if let Some(keeper) = &mut keeper {
            keeper.keep(message.cursor)?;
        }
        if last {
            break;
        }
    }
    Ok(())
}

/// Writes the cursor to its file, but not more often than the disk can bear.
struct CursorKeeper<'a> {
    path: &'a Path,
    written: Option<Instant>,
    /// Printed, and not in the file yet.
    behind: Option<String>,
}

impl<'a> CursorKeeper<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, written: None, behind: None }
    }

    fn keep(&mut self, cursor: String) -> Result<(), CommandError> {
        if self.written.is_some_and(|written| written.elapsed() < CURSOR_INTERVAL) {
            self.behind = Some(cursor);
            return Ok(());
        }
        write_cursor(self.path, &cursor)?;
        self.behind = None;
        self.written = Some(Instant::now());
        Ok(())
    }

    fn finish(self) -> Result<(), CommandError> {
        self.behind.map_or(Ok(()), |cursor| write_cursor(self.path, &cursor))
    }
}

fn is_live(message: &TailMessage) -> bool {
    matches!(message.content, TailContent::Progress { live: true, .. })
}

/// The cursor in a file; none when there is no file, or an empty one.
fn read_cursor(path: &Path) -> Result<Option<String>, CommandError> {
    let failed = |source| CommandError::File { action: "read", path: path.display().to_string(), source };
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if size > CURSOR_BYTES_MAX {
        return Err(CommandError::Usage(format!("{} is too large to hold a cursor", path.display())));
    }
    let cursor = std::fs::read_to_string(path).map_err(failed)?.trim().to_owned();
    Ok((!cursor.is_empty()).then_some(cursor))
}

/// Replaces the file as a whole, so that a crash leaves the old cursor or the new one.
fn write_cursor(path: &Path, cursor: &str) -> Result<(), CommandError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        writeln!(file, "{cursor}")?;
        file.sync_data()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| CommandError::File { action: "write", path: path.display().to_string(), source })
}

fn print_event(output: Output, event: &Event, cursor: &str) -> Result<(), CommandError> {
    match output {
        Output::Json => print_line(&event_json(event, cursor).to_string()),
        Output::Table => event.items.iter().try_for_each(|item| {
            let line = item_cells(item, event.revision, event.time_micros).join("  ");
            print_line(&printable(&line))
        }),
    }
}

fn event_json(event: &Event, cursor: &str) -> Value {
    json!({
        "revision": event.revision,
        "time_micros": event.time_micros,
        "request_id": documents::hexadecimal(&event.request_id),
        "items": event.items.iter().map(|item| Value::Object(documents::item(item))).collect::<Vec<_>>(),
        "cursor": cursor,
    })
}

fn item_cells(item: &Item, revision: u64, time_micros: i64) -> Vec<String> {
    vec![
        micros_text(time_micros),
        format!("r{revision}"),
        format!("{}/{}", item.stream, item.sequence),
        item.change.as_ref().map_or_else(|| "touched".to_owned(), what_happened),
        item.key.clone(),
    ]
}

/// What a change did, in a word or two.
pub(super) fn what_happened(change: &Change) -> String {
    let before = change.before.as_ref().and_then(documents::record);
    let after = change.after.as_ref().and_then(documents::record);
    match (before, after) {
        (None, Some(_)) => "created".into(),
        (Some(_), None) => "deleted".into(),
        (None, None) => "touched".into(),
        (Some(before), Some(after)) => {
            let fields = documents::changed_fields(&before, &after);
            format!("updated({})", fields.join(","))
        }
    }
}

async fn list(arguments: ListArgs) -> Result<(), CommandError> {
    let namespace = arguments.target.open().await?;
    let (mut items, mut after) = (Vec::new(), arguments.after);
    while let left @ 1.. = arguments.limit.saturating_sub(u32::try_from(items.len()).unwrap_or(u32::MAX)) {
        let page = namespace.list_items(&arguments.stream, after, left.min(PAGE_ITEMS), false).await?;
        let Some(last) = page.last().and_then(|listed| listed.item.as_ref()) else { break };
        after = last.sequence;
        items.extend(page);
    }
    let columns = ["time", "revision", "item", "what", "key"];
    arguments.target.output().list("items", &columns, items.iter().filter_map(row).collect())
}

fn row(listed: &ListedItem) -> Option<Row> {
    let item = listed.item.as_ref()?;
    let mut json = documents::item(item);
    json.insert("revision".into(), listed.revision.into());
    json.insert("time_micros".into(), listed.time_micros.into());
    Some(Row { cells: item_cells(item, listed.revision, listed.time_micros), json: Value::Object(json) })
}

async fn status(arguments: StatusArgs) -> Result<(), CommandError> {
    let status = arguments.target.open().await?.stream_status().await?;
    let row = |stream: &steeple_client::events::StreamState| {
        let kept = (stream.last_sequence + 1).saturating_sub(stream.oldest_sequence);
        Row {
            cells: vec![
                stream.stream.clone(),
                stream.oldest_sequence.to_string(),
                stream.last_sequence.to_string(),
                kept.to_string(),
            ],
            json: json!({
                "stream": stream.stream,
                "oldest_sequence": stream.oldest_sequence,
                "last_sequence": stream.last_sequence,
            }),
        }
    };
    let rows: Vec<_> = status.streams.iter().map(row).collect();
    match arguments.target.output() {
        Output::Json => super::output::print_json(&json!({
            "history_id": status.history_id,
            "revision": status.revision,
            "streams": rows.into_iter().map(|row| row.json).collect::<Vec<_>>(),
            "cursor": status.cursor,
        })),
        Output::Table => {
            Output::Table.list("streams", &["stream", "oldest", "last", "kept"], rows)?;
            print_line(&format!("revision {}, cursor {}", status.revision, status.cursor))
        }
    }
}

#[cfg(test)]
mod tests {
    use steeple_client::events::Record;
    use steeple_client::events::record::Record as Kind;
    use steeple_client::types::RegistrationEntry;

    use super::*;

    fn record(hint: &str) -> Option<Record> {
        let entry = RegistrationEntry { entry_id: "e".into(), hint: hint.into(), ..Default::default() };
        Some(Record { record: Some(Kind::RegistrationEntry(entry)) })
    }

    #[test]
    fn changes_are_told_in_a_word() {
        let told = |before, after| what_happened(&Change { before, after, previous_revision: 0 });
        assert_eq!(told(None, record("a")), "created");
        assert_eq!(told(record("a"), None), "deleted");
        assert_eq!(told(record("a"), record("b")), "updated(hint)");
        assert_eq!(told(None, None), "touched");
    }

    #[test]
    fn cursors_are_kept_now_and_then_and_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        let mut keeper = CursorKeeper::new(&path);
        keeper.keep("st1.00".into()).unwrap();
        assert_eq!(read_cursor(&path).unwrap().as_deref(), Some("st1.00"));
        for number in 0..100_000 {
            keeper.keep(format!("st1.{number}")).unwrap();
        }
        keeper.finish().unwrap();
        assert_eq!(read_cursor(&path).unwrap().as_deref(), Some("st1.99999"));
    }

    #[test]
    fn a_cursor_survives_in_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cursor");
        assert_eq!(read_cursor(&path).unwrap(), None);
        write_cursor(&path, "st1.00").unwrap();
        write_cursor(&path, "st1.01").unwrap();
        assert_eq!(read_cursor(&path).unwrap().as_deref(), Some("st1.01"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        std::fs::write(&path, vec![b'x'; 5000]).unwrap();
        assert!(matches!(read_cursor(&path), Err(CommandError::Usage(_))));
    }
}
