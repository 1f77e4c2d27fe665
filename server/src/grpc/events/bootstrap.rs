//! A consistent state of a namespace, without stopping it.
//!
//! The records are read piece by piece while events are folded. What changed between the first piece and the last is then
//! corrected from the events of that time, so that everything together is the state at the last of them.

use std::collections::BTreeMap;

use steeple_engine::domain::CATALOG;
use steeple_engine::ids::{Revision, Sequence, TableId};
use steeple_engine::index::Query;
use steeple_engine::view::{Reader, ReaderExtension};
use steeple_wire::CHUNK_BYTES;
use steeple_wire::events::v1 as wire;
use steeple_wire::events::v1::bootstrap_response::Content;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::positions::Positions;
use crate::grpc::convert::records;
use crate::grpc::lists::split;
use crate::grpc::scope::{Scope, blocking};
use crate::grpc::{errors, limits, sending};

/// Messages that wait for a slow consumer.
const MESSAGES_WAITING_MAX: usize = 2;

/// Events read in one go.
const EVENTS_STEP: u64 = 1_024;

/// Collections without any named: all that streams are about.
const DEFAULT: [wire::Collection; 3] =
    [wire::Collection::RegistrationEntries, wire::Collection::AttestedNodes, wire::Collection::NodeSelectors];

type Sender = mpsc::Sender<Result<wire::BootstrapResponse, Status>>;

/// Checks the request and begins to read.
pub(super) fn begin(
    scope: Scope,
    collections: &[i32],
) -> Result<ReceiverStream<Result<wire::BootstrapResponse, Status>>, Status> {
    let tables = tables(collections)?;
    let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        if let Err(status) = run(&scope, &tables, &sender).await {
            // Whoever has gone needs no error.
            sending::send(&sender, Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(messages))
}

/// The tables of some collections, each once.
fn tables(collections: &[i32]) -> Result<Vec<TableId>, Status> {
    if collections.is_empty() {
        return Ok(DEFAULT.iter().filter_map(|collection| records::table(*collection)).collect());
    }
    let mut tables = Vec::new();
    for number in collections {
        let table = wire::Collection::try_from(*number).ok().and_then(records::table);
        let table = table.ok_or_else(|| Status::invalid_argument(format!("there is no collection {number}")))?;
        if !tables.contains(&table) {
            tables.push(table);
        }
    }
    Ok(tables)
}

async fn run(scope: &Scope, tables: &[TableId], sender: &Sender) -> Result<(), Status> {
    let begun_at = scope.node.revision();
    for table in tables {
        if dump(scope, *table, sender).await?.is_none() {
            return Ok(());
        }
    }
    // From here on nothing older than the dump is needed: the events up to the cursor correct it.
    let positions = positions(scope);
    let mut corrections = Corrections::default();
    let mut next = begun_at.next();
    while next <= positions.revision {
        let last = Revision((next.0 + EVENTS_STEP - 1).min(positions.revision.0));
        let (reading, wanted) = (scope.clone(), tables.to_vec());
        corrections = blocking(move || corrections.read(&reading, &wanted, next, last)).await?;
        next = last.next();
    }
    for records in corrections.messages() {
        if send(sender, Content::Records(records)).await.is_none() {
            return Ok(());
        }
    }
    let end = wire::BootstrapEnd { revision: positions.revision.0, cursor: positions.cursor(scope) };
    send(sender, Content::End(end)).await;
    Ok(())
}

/// Where the namespace stands now.
fn positions(scope: &Scope) -> Positions {
    scope.node.read(|reader| Positions {
        revision: reader.revision(),
        streams: CATALOG
            .streams
            .iter()
            .map(|stream| (stream.id, reader.stream(scope.namespace, stream.id).last))
            .collect(),
    })
}

/// `None` when the consumer has gone, or took nothing for so long that it ends without an end.
async fn send(sender: &Sender, content: Content) -> Option<()> {
    sending::send(sender, Ok(wire::BootstrapResponse { content: Some(content) })).await
}

/// Sends a table's records; `None` when the consumer has gone.
async fn dump(scope: &Scope, table: TableId, sender: &Sender) -> Result<Option<()>, Status> {
    let mut next = Some(Sequence::ZERO);
    while let Some(after) = next {
        let reading = scope.clone();
        let (records, last) = blocking(move || piece(&reading, table, after)).await?;
        next = last;
        for records in split(records, CHUNK_BYTES) {
            let records = wire::BootstrapRecords { records, deleted: Vec::new() };
            if send(sender, Content::Records(records)).await.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(()))
}

/// Records of a table behind `after`, and where the next piece starts.
fn piece(scope: &Scope, table: TableId, after: Sequence) -> Result<(Vec<wire::Record>, Option<Sequence>), Status> {
    let stored = scope
        .node
        .read(|reader| reader.records(scope.namespace, table, &Query::all(), after, limits::READ_STEP))
        .map_err(|error| errors::failed(&error))?;
    let next = stored.last().filter(|_| stored.len() == limits::READ_STEP).map(|record| record.sequence);
    let mut shown = Vec::with_capacity(stored.len());
    for record in stored {
        shown.extend(records::to_wire(table, record.sequence, &record.body).map_err(|error| errors::failed(&error))?);
    }
    Ok((shown, next))
}

/// What the events during a dump left behind, by table and key: a deleted record may have a successor under its key.
#[derive(Default)]
struct Corrections {
    last: BTreeMap<(TableId, String), Option<wire::Record>>,
}

impl Corrections {
    /// Adds the events from `first` up to `last`.
    fn read(mut self, scope: &Scope, tables: &[TableId], first: Revision, last: Revision) -> Result<Self, Status> {
        for revision in first.0..=last.0 {
            let event = scope.node.event(Revision(revision)).map_err(|error| errors::not_answered(&error))?;
            if event.namespace != scope.namespace {
                continue;
            }
            for change in event.changes.iter().filter(|change| tables.contains(&change.table)) {
                let decode = |body: &Option<Vec<u8>>| match body {
                    Some(body) => records::to_wire(change.table, change.sequence, body),
                    None => Ok(None),
                };
                let before = decode(&change.before).map_err(|error| errors::failed(&error))?;
                let after = decode(&change.after).map_err(|error| errors::failed(&error))?;
                if let Some(record) = after.as_ref().or(before.as_ref()) {
                    self.last.insert((change.table, records::key(record)), after);
                }
            }
        }
        Ok(self)
    }

    fn messages(self) -> Vec<wire::BootstrapRecords> {
        let (mut changed, mut deleted) = (Vec::new(), Vec::new());
        for ((table, key), record) in self.last {
            match (record, records::collection(table)) {
                (Some(record), _) => changed.push(record),
                (None, Some(collection)) => deleted.push(wire::RecordKey { collection: collection.into(), key }),
                (None, None) => {}
            }
        }
        let changed = split(changed, CHUNK_BYTES).into_iter();
        let deleted = split(deleted, CHUNK_BYTES).into_iter();
        let changed = changed.map(|records| wire::BootstrapRecords { records, deleted: Vec::new() });
        changed.chain(deleted.map(|deleted| wire::BootstrapRecords { records: Vec::new(), deleted })).collect()
    }
}
