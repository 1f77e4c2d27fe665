//! All records of a namespace as lines of JSON.

use std::collections::HashMap;
use std::fs::Permissions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use steeple_client::Namespace;
use steeple_client::events::record::Record as Kept;
use steeple_client::events::{BootstrapRecords, Collection};
use steeple_client::types::imported_record::Record;
use steeple_snapshot::Publication;

use super::judge::normal;
use super::kind::{Counts, Kind, key};
use super::lines::{End, FORMAT, Header, Line, VERSION, of_record};
use super::target;
use crate::cli::connection::Target;
use crate::cli::exit::CommandError;
use crate::cli::instant::{micros_text, now_micros};

#[derive(Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// The file to make; - writes to standard output
    file: PathBuf,
    /// Leave the join tokens out, which are secrets
    #[arg(long)]
    without_join_tokens: bool,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    target: Target,
}

/// `steeple spire export`.
pub(in crate::cli::spire) async fn run(arguments: ExportArgs) -> Result<(), CommandError> {
    let path = &arguments.file;
    let to_output = path.as_os_str() == "-";
    if !to_output && path.exists() && !arguments.force {
        return Err(CommandError::AlreadyExists(format!("{} exists; replace it with --force", path.display())));
    }
    let namespace = arguments.target.open().await?;
    if to_output {
        let export = Export::of(&namespace, !arguments.without_join_tokens).await?;
        // The lines are the output: nothing else may be in it.
        return export.write(&mut BufWriter::new(std::io::stdout().lock())).map(drop).map_err(CommandError::Print);
    }
    let counts = to_file(&namespace, path, !arguments.without_join_tokens).await?;
    let document = json!({ "file": path.display().to_string(), "records": counts.total(), "counts": counts.json() });
    let sentence = format!("exported {} records to {}", counts.total(), path.display());
    arguments.target.output().say(&document, &sentence)
}

/// Writes a file, which is there only once it is whole.
pub(super) async fn to_file(namespace: &Namespace, path: &Path, with_tokens: bool) -> Result<Counts, CommandError> {
    let export = Export::of(namespace, with_tokens).await?;
    let failed = |action, source| file_error(action, path, source);
    let mut publication = Publication::create(path).map_err(|source| failed("create", source))?;
    // Bundles are public, join tokens are not.
    let secret = publication.file().set_permissions(Permissions::from_mode(0o600));
    secret.map_err(|source| failed("protect", source))?;
    let mut output = BufWriter::with_capacity(1 << 20, &mut publication);
    let counts = export.write(&mut output).map_err(|source| failed("write", source))?;
    drop(output);
    publication.publish().map_err(|source| failed("write", source))?;
    Ok(counts)
}

fn file_error(action: &'static str, path: &Path, source: std::io::Error) -> CommandError {
    CommandError::File { action, path: path.display().to_string(), source }
}

/// All that is exported.
struct Export {
    header: Header,
    state: State,
    revision: u64,
}

impl Export {
    /// The records of a namespace, at one revision, but for the join tokens: those are as they are at the end.
    async fn of(namespace: &Namespace, with_tokens: bool) -> Result<Self, CommandError> {
        if let Some(import) = namespace.fetch_import().await?
            && import.accepted < import.total
        {
            return Err(CommandError::Failed(format!(
                "an import into this namespace is not complete: {} of {} records",
                import.accepted, import.total
            )));
        }
        let mut bootstrap = namespace.bootstrap(&COLLECTIONS).await?;
        let mut state = State::default();
        while let Some(message) = bootstrap.next().await? {
            state.apply(message);
        }
        let revision = bootstrap.end().map_or(0, |end| end.revision);
        if with_tokens {
            target::tokens(namespace, &mut |token| state.put(token)).await?;
        }
        let header = Header {
            format: FORMAT.into(),
            version: VERSION,
            namespace: namespace.name().to_owned(),
            exported_at: micros_text(now_micros()),
            join_tokens: with_tokens,
        };
        Ok(Self { header, state, revision })
    }

    fn write(self, output: &mut impl Write) -> std::io::Result<Counts> {
        let mut line = |line: &Line| -> std::io::Result<()> {
            serde_json::to_writer(&mut *output, line)?;
            output.write_all(b"\n")
        };
        line(&Line::Export(self.header))?;
        let mut counts = Counts::default();
        for record in self.state.in_order() {
            counts.add(Kind::of(&record));
            line(&of_record(normal(record)))?;
        }
        line(&Line::End(End { records: counts.total(), revision: self.revision }))?;
        output.flush()?;
        Ok(counts)
    }
}

/// What is exported, but for the join tokens.
const COLLECTIONS: [Collection; 6] = [
    Collection::Bundles,
    Collection::FederationRelationships,
    Collection::RegistrationEntries,
    Collection::AttestedNodes,
    Collection::NodeSelectors,
    Collection::CaJournals,
];

/// Records in the order in which they were created.
#[derive(Debug, Default)]
struct State {
    places: HashMap<(Kind, String), usize>,
    records: Vec<Option<Record>>,
}

impl State {
    fn apply(&mut self, message: BootstrapRecords) {
        for kept in message.records.into_iter().filter_map(|record| record.record) {
            self.put(match kept {
                Kept::Bundle(record) => Record::Bundle(record),
                Kept::RegistrationEntry(record) => Record::RegistrationEntry(record),
                Kept::AttestedNode(record) => Record::AttestedNode(record),
                Kept::NodeSelectors(record) => Record::NodeSelectors(record),
                Kept::FederationRelationship(record) => Record::FederationRelationship(record),
                Kept::CaJournal(record) => Record::CaJournal(record),
            });
        }
        for gone in message.deleted {
            let kind = match Collection::try_from(gone.collection) {
                Ok(Collection::Bundles) => Kind::Bundle,
                Ok(Collection::RegistrationEntries) => Kind::Entry,
                Ok(Collection::AttestedNodes) => Kind::Node,
                Ok(Collection::NodeSelectors) => Kind::NodeSelectors,
                Ok(Collection::FederationRelationships) => Kind::Relationship,
                Ok(Collection::CaJournals) => Kind::Journal,
                _ => continue,
            };
            if let Some(place) = self.places.remove(&(kind, gone.key)) {
                self.records[place] = None;
            }
        }
    }

    /// Adds a record, or replaces it where it is.
    fn put(&mut self, record: Record) {
        let next = self.records.len();
        match *self.places.entry((Kind::of(&record), key(&record))).or_insert(next) {
            place if place == next => self.records.push(Some(record)),
            place => self.records[place] = Some(record),
        }
    }

    /// Kind by kind, each in its order.
    fn in_order(self) -> Vec<Record> {
        let mut records: Vec<Record> = self.records.into_iter().flatten().collect();
        records.sort_by_key(|record| {
            // Journals of the time of the export itself may have come in any order.
            let number = if let Record::CaJournal(journal) = record { journal.id } else { 0 };
            (Kind::of(record), number)
        });
        records
    }
}

#[cfg(test)]
mod tests {
    use steeple_client::events::{Record as KeptRecord, RecordKey};
    use steeple_client::types::{AttestedNode, CaJournal};

    use super::*;

    fn node(spiffe_id: &str, version: &str) -> AttestedNode {
        AttestedNode { spiffe_id: spiffe_id.into(), agent_version: version.into(), ..Default::default() }
    }

    fn message(records: Vec<Kept>, deleted: &[&str]) -> BootstrapRecords {
        let key = |key: &&str| RecordKey { collection: Collection::AttestedNodes.into(), key: (*key).into() };
        BootstrapRecords {
            records: records.into_iter().map(|record| KeptRecord { record: Some(record) }).collect(),
            deleted: deleted.iter().map(key).collect(),
        }
    }

    #[test]
    fn corrections_keep_the_order_of_creation() {
        let journal = |id| CaJournal { id, ..Default::default() };
        let mut state = State::default();
        let first = ["a", "b", "c"].map(|name| Kept::AttestedNode(node(name, "1")));
        state.apply(message(first.into_iter().chain([Kept::CaJournal(journal(10))]).collect(), &[]));
        state.apply(message(vec![Kept::AttestedNode(node("b", "2")), Kept::CaJournal(journal(9))], &["a", "z"]));
        state.apply(message(vec![Kept::AttestedNode(node("a", "3"))], &[]));
        let expected = vec![
            Record::AttestedNode(node("b", "2")),
            Record::AttestedNode(node("c", "1")),
            Record::AttestedNode(node("a", "3")),
            Record::CaJournal(journal(9)),
            Record::CaJournal(journal(10)),
        ];
        assert_eq!(state.in_order(), expected);
    }
}
