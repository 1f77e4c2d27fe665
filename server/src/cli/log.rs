//! `steeple log`: the log's files, without a node.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use steeple_engine::disk::RealDisk;
use steeple_engine::log::{EntryKind, Finding, FrameVerdict, LogError, RecordVerdict, StateCopy, inspect};

use super::exit::CommandError;
use super::output::{Output, print_json, print_line, printable};

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Print what the files of a log hold
    Inspect(InspectArgs),
    /// Read every entry of a log and say whether all are whole
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// The data directory of a stopped node, or the directory of its log
    directory: PathBuf,
    /// Print every entry, not only every file
    #[arg(long)]
    entries: bool,
    /// How to print
    #[arg(long, short, value_enum, env = "STEEPLE_OUTPUT", default_value_t)]
    output: Output,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The data directory of a stopped node, or the directory of its log
    directory: PathBuf,
    /// How to print
    #[arg(long, short, value_enum, env = "STEEPLE_OUTPUT", default_value_t)]
    output: Output,
}

pub(super) fn run(command: LogCommand) -> Result<(), CommandError> {
    match command {
        LogCommand::Inspect(arguments) => inspect_log(&arguments),
        LogCommand::Verify(arguments) => verify(&arguments),
    }
}

/// The log's directory when the data directory is given.
fn log_directory(directory: &Path) -> PathBuf {
    let inside = directory.join("group-0").join("log");
    if inside.is_dir() { inside } else { directory.to_owned() }
}

/// Goes through the files of a log.
fn visit(directory: &Path, visit: &mut dyn FnMut(Finding)) -> Result<(), CommandError> {
    let directory = log_directory(directory);
    if !directory.is_dir() {
        return Err(CommandError::NotFound(format!("there is no directory {}", directory.display())));
    }
    let disk = RealDisk::open(&directory).map_err(|source| {
        CommandError::Failed(format!("cannot open {}: {source}; stop the node first", directory.display()))
    })?;
    inspect(&disk, visit).map_err(|error| match error {
        LogError::Missing => CommandError::NotFound(format!("there is no log in {}", directory.display())),
        error => CommandError::Failed(error.to_string()),
    })
}

fn inspect_log(arguments: &InspectArgs) -> Result<(), CommandError> {
    let mut printed = Ok(());
    let mut summary = Summary::default();
    visit(&arguments.directory, &mut |finding| {
        summary.note(&finding);
        let shown = arguments.entries || !matches!(finding, Finding::Slot { .. });
        // An empty slot is what every file that is not full ends with.
        if shown && !is_empty_slot(&finding) && printed.is_ok() {
            printed = match arguments.output {
                Output::Json => print_line(&finding_json(&finding).to_string()),
                Output::Table => print_line(&printable(&finding_text(&finding))),
            };
        }
    })?;
    printed?;
    if arguments.output == Output::Table { print_line(&summary.text()) } else { Ok(()) }
}

fn verify(arguments: &VerifyArgs) -> Result<(), CommandError> {
    let mut summary = Summary::default();
    visit(&arguments.directory, &mut |finding| summary.note(&finding))?;
    match arguments.output {
        Output::Json => print_json(&summary.json())?,
        Output::Table => {
            summary.faults.iter().try_for_each(|fault| print_line(&printable(fault)))?;
            print_line(&summary.text())?;
        }
    }
    match summary.faults.len() {
        0 => Ok(()),
        count => Err(CommandError::Failed(format!(
            "{count} places of the log are damaged; restore a snapshot, or repair from another member"
        ))),
    }
}

/// What a log consists of.
#[derive(Debug, Default)]
struct Summary {
    segments: u64,
    spare_files: u64,
    entries: u64,
    events: u64,
    payload_bytes: u64,
    first_index: Option<u64>,
    last_index: Option<u64>,
    last_revision: u64,
    faults: Vec<String>,
}

impl Summary {
    fn note(&mut self, finding: &Finding) {
        match finding {
            Finding::State { .. } => {}
            Finding::Segment { .. } => self.segments += 1,
            Finding::Spare { .. } => self.spare_files += 1,
            Finding::Fault(fault) => self.faults.push(format!("damaged: {fault}")),
            Finding::Slot { frame: FrameVerdict::Good(header), record: RecordVerdict::Good(_), .. } => {
                self.entries += 1;
                self.events += u64::from(header.kind == EntryKind::Event);
                self.payload_bytes += u64::from(header.payload_bytes);
                self.first_index.get_or_insert(header.position.index.0);
                self.last_index = Some(header.position.index.0);
                self.last_revision = self.last_revision.max(header.tag);
            }
            Finding::Slot { .. } => {}
        }
    }

    fn text(&self) -> String {
        let range = match (self.first_index, self.last_index) {
            (Some(first), Some(last)) => format!(" ({first} to {last}, revision {})", self.last_revision),
            _ => String::new(),
        };
        format!(
            "{} files, {} spare; {} entries{range}, {} events, {} bytes; {} damaged places",
            self.segments,
            self.spare_files,
            self.entries,
            self.events,
            self.payload_bytes,
            self.faults.len()
        )
    }

    fn json(&self) -> Value {
        json!({
            "segments": self.segments,
            "spare_files": self.spare_files,
            "entries": self.entries,
            "events": self.events,
            "payload_bytes": self.payload_bytes,
            "first_index": self.first_index,
            "last_index": self.last_index,
            "last_revision": self.last_revision,
            "faults": self.faults,
        })
    }
}

fn is_empty_slot(finding: &Finding) -> bool {
    matches!(finding, Finding::Slot { frame: FrameVerdict::Bad(_), record: RecordVerdict::Absent, .. })
}

fn finding_text(finding: &Finding) -> String {
    match finding {
        Finding::State { copy, content } => format!("state copy {copy}: {}", state_text(content)),
        Finding::Segment { file, header: Ok(header) } => format!(
            "{file}: segment {}, after entry {}, {} bytes{}",
            header.sequence,
            header.previous.index.0,
            header.file_bytes,
            if header.sealed.is_some() { ", rewritten" } else { "" }
        ),
        Finding::Segment { file, header: Err(fault) } => format!("{file}: {fault}"),
        Finding::Spare { file } => format!("{file}: spare"),
        Finding::Fault(fault) => format!("damaged: {fault}"),
        Finding::Slot { slot, offset, frame, record, .. } => {
            format!("  {slot} at {offset}: {}", slot_text(frame, record))
        }
    }
}

fn state_text(content: &StateCopy) -> String {
    match content {
        StateCopy::Damaged => "damaged".into(),
        StateCopy::Version(version) => format!("written by version {version} of the format"),
        StateCopy::Intact { write_number, state } => format!(
            "write {write_number}, cluster {}, history {}, term {}, committed {}, segments {} to {}",
            state.identity.cluster,
            state.identity.history,
            state.hard_state.term.0,
            state.hard_state.commit.0,
            state.oldest_segment,
            state.newest_segment
        ),
    }
}

fn state_json(copy: usize, content: &StateCopy) -> Value {
    let StateCopy::Intact { write_number, state } = content else {
        return json!({ "state_copy": copy, "fault": state_text(content) });
    };
    json!({
        "state_copy": copy,
        "write_number": write_number,
        "cluster_id": state.identity.cluster.to_string(),
        "node_id": state.identity.node.0,
        "history_id": state.identity.history.to_string(),
        "term": state.hard_state.term.0,
        "committed_log_index": state.hard_state.commit.0,
        "oldest_segment": state.oldest_segment,
        "newest_segment": state.newest_segment,
    })
}

fn slot_text(frame: &FrameVerdict, record: &RecordVerdict) -> String {
    let record = if *record == RecordVerdict::Absent { ", without persist record" } else { "" };
    match frame {
        FrameVerdict::Bad(reason) => format!("bad: {reason}{record}"),
        FrameVerdict::Good(header) => format!(
            "entry {} term {} {:?} revision {} {} bytes{record}",
            header.position.index.0, header.position.term.0, header.kind, header.tag, header.payload_bytes
        ),
    }
}

fn finding_json(finding: &Finding) -> Value {
    match finding {
        Finding::State { copy, content } => state_json(*copy, content),
        Finding::Segment { file, header } => json!({
            "segment": file,
            "sequence": header.as_ref().ok().map(|header| header.sequence),
            "previous_index": header.as_ref().ok().map(|header| header.previous.index.0),
            "file_bytes": header.as_ref().ok().map(|header| header.file_bytes),
            "fault": header.as_ref().err().map(ToString::to_string),
        }),
        Finding::Spare { file } => json!({ "spare": file }),
        Finding::Fault(fault) => json!({ "fault": fault.to_string() }),
        Finding::Slot { file, slot, offset, frame, record } => slot_json(file, *slot, *offset, frame, record),
    }
}

fn slot_json(file: &str, slot: u64, offset: u64, frame: &FrameVerdict, record: &RecordVerdict) -> Value {
    let header = match frame {
        FrameVerdict::Good(header) => Some(header),
        FrameVerdict::Bad(_) => None,
    };
    json!({
        "segment": file,
        "slot": slot,
        "offset": offset,
        "index": header.map(|header| header.position.index.0),
        "term": header.map(|header| header.position.term.0),
        "kind": header.map(|header| format!("{:?}", header.kind).to_lowercase()),
        "revision": header.map(|header| header.tag),
        "payload_bytes": header.map(|header| header.payload_bytes),
        "fault": if let FrameVerdict::Bad(reason) = frame { Some(reason) } else { None },
        "persisted": *record != RecordVerdict::Absent,
    })
}
