//! What happened to one record, and what it was.
//!
//! A record that exists names the event that last changed it, and each of its changes the one before. The end of a record
//! that is gone, or of an earlier one under the same key, is looked for among the newest items of the stream that
//! announced it, and then in the log as far back as it is kept. Where that does not reach the beginning, the answer is that
//! nobody knows, and not that there was nothing.

use std::ops::ControlFlow;

use steeple_engine::event::Event;
use steeple_engine::history::{Moment, PastChange, PastState, RecordAddress, state_at as engine_state_at, walk_back};
use steeple_engine::ids::{LogIndex, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp};
use steeple_engine::log::EntryKind;
use steeple_engine::spire::{NODES, REGISTRATIONS, tables};
use steeple_engine::view::{Reader, ReaderExtension};
use steeple_wire::events::v1 as wire;
use steeple_wire::status::ErrorKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{changes, journal_sequence};
use crate::grpc::convert::micros;
use crate::grpc::convert::records;
use crate::grpc::scope::{Scope, blocking};
use crate::grpc::{errors, limits, sending};
use crate::node::QueryError;

/// Messages that wait for a slow consumer.
const MESSAGES_WAITING_MAX: usize = 8;

/// Changes read in one go.
const CHANGES_STEP: usize = 64;

/// A record by its key.
struct Wanted {
    scope: Scope,
    table: TableId,
    key: String,
}

/// One record that has or had the key, and an event that changed it.
#[derive(Clone, Copy)]
struct Found {
    address: RecordAddress,
    revision: Revision,
}

/// What looking for a record of the past came to.
enum Search {
    Found(Found),
    /// There was none.
    Never,
    /// What would tell is not kept any more.
    Unknown,
}

impl Wanted {
    fn new(scope: Scope, record: Option<wire::RecordKey>) -> Result<Self, Status> {
        let record = record.ok_or_else(|| Status::invalid_argument("no record was named"))?;
        let table = records::table(record.collection());
        let table =
            table.ok_or_else(|| Status::invalid_argument(format!("there is no collection {}", record.collection)))?;
        limits::check_bytes("key", record.key.len(), limits::KEY_BYTES_MAX)?;
        if table == tables::CA_JOURNALS {
            journal_sequence(&record.key)?;
        }
        Ok(Self { scope, table, key: record.key })
    }

    /// The record that has the key now, or the newest one that had it.
    fn newest(&self) -> Result<Search, Status> {
        match self.present()? {
            Some(found) => Ok(Search::Found(found)),
            None => self.gone_before(None),
        }
    }

    /// The record that has the key now.
    fn present(&self) -> Result<Option<Found>, Status> {
        let namespace = self.scope.namespace;
        let record = self.scope.look(|reader| match records::key_index(self.table) {
            Some(index) => reader.get_by_key(namespace, self.table, index, self.key.as_bytes()),
            None => reader.get(namespace, self.table, self.key.parse().map_or(Sequence::ZERO, Sequence)),
        });
        let record = record.map_err(|error| errors::failed(&error))?;
        Ok(record.map(|record| Found { address: self.address(record.sequence), revision: record.modified }))
    }

    fn address(&self, sequence: Sequence) -> RecordAddress {
        RecordAddress { namespace: self.scope.namespace, table: self.table, sequence }
    }

    /// The stream that announces changes to the record.
    fn stream(&self) -> Option<StreamId> {
        match self.table {
            tables::ENTRIES => Some(REGISTRATIONS),
            tables::NODES | tables::NODE_SELECTORS => Some(NODES),
            _ => None,
        }
    }

    /// The newest record that had the key and was changed before an event (or at all).
    fn gone_before(&self, bound: Option<Revision>) -> Result<Search, Status> {
        match self.gone_from_stream(bound)? {
            Search::Unknown => self.gone_from_log(bound),
            told => Ok(told),
        }
    }

    /// Looks among the items of the stream that announces changes to the record.
    fn gone_from_stream(&self, bound: Option<Revision>) -> Result<Search, Status> {
        let Some(stream) = self.stream() else { return Ok(Search::Unknown) };
        let (namespace, node) = (self.scope.namespace, &self.scope.node);
        let state = self.scope.look(|reader| reader.stream(namespace, stream));
        let oldest = state.low_water.0.max(state.last.0.saturating_sub(limits::HISTORY_SEARCH_ITEMS_MAX) + 1);
        let mut end = state.last.0 + 1;
        while end > oldest {
            let start = end.saturating_sub(limits::READ_STEP as u64).max(oldest);
            let rows = self
                .scope
                .look(|reader| {
                    let count = usize::try_from(end - start).unwrap_or(limits::READ_STEP);
                    reader.stream_rows(namespace, stream, StreamSequence(start - 1), count)
                })
                .map_err(|error| errors::failed(&error))?;
            let matching = rows.iter().rev().filter(|row| row.key == self.key.as_bytes());
            for row in matching.filter(|row| bound.is_none_or(|bound| row.revision < bound)) {
                let event = match node.event(row.revision) {
                    Ok(event) => event,
                    Err(QueryError::Compacted(_)) => return Ok(Search::Unknown),
                    Err(error) => return Err(errors::not_answered(&error)),
                };
                if let Some(found) = self.changed_in(&event)? {
                    return Ok(Search::Found(found));
                }
            }
            end = start;
        }
        Ok(if oldest == 1 { Search::Never } else { Search::Unknown })
    }

    /// Looks at the events in the log, which also tell of records that no stream announces.
    fn gone_from_log(&self, bound: Option<Revision>) -> Result<Search, Status> {
        let core = self.scope.node.core();
        let log = &core.log;
        let from = LogIndex(log.last().index.0.saturating_sub(limits::HISTORY_SEARCH_EVENTS_MAX) + 1);
        let whole = from <= log.first() && log.base_tag() == 0 && !log.segments().iter().any(|one| one.rewritten);
        let mut newest = Ok(None);
        let scanned = log.scan(from, &mut |entry| {
            let outside = bound.is_some_and(|bound| entry.tag >= bound.0);
            if entry.kind == EntryKind::Event && !outside {
                match self.changed_in_entry(&entry.payload) {
                    Ok(None) => {}
                    told => newest = told,
                }
            }
            if outside || newest.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        self.scope.node.check_current(&core).map_err(|error| errors::not_answered(&error))?;
        scanned.map_err(|error| errors::failed(&error))?;
        Ok(match newest? {
            Some(found) => Search::Found(found),
            None if whole => Search::Never,
            None => Search::Unknown,
        })
    }

    /// As [`Wanted::changed_in`], without decoding events that cannot be about the record.
    fn changed_in_entry(&self, payload: &[u8]) -> Result<Option<Found>, Status> {
        let event = Event::view(payload).map_err(|error| errors::failed(&error))?;
        let about = event.namespace.0.to_native() == self.scope.namespace.0
            && event.changes.iter().any(|change| change.table.0.to_native() == self.table.0);
        if !about {
            return Ok(None);
        }
        self.changed_in(&Event::decode(payload).map_err(|error| errors::failed(&error))?)
    }

    /// The record with the key, if an event changed it.
    fn changed_in(&self, event: &Event) -> Result<Option<Found>, Status> {
        for change in event.changes.iter().filter(|change| change.table == self.table) {
            let Some(body) = change.after.as_ref().or(change.before.as_ref()) else { continue };
            let record = records::to_wire(self.table, change.sequence, body).map_err(|error| errors::failed(&error))?;
            if record.is_some_and(|record| records::key(&record) == self.key) {
                return Ok(Some(Found { address: self.address(change.sequence), revision: event.revision }));
            }
        }
        Ok(None)
    }
}

/// Checks the request and begins to walk back. The first versions are read before the answer begins, so that its head
/// tells the revision that they show.
pub(super) async fn begin(
    scope: Scope,
    request: wire::HistoryRequest,
) -> Result<ReceiverStream<Result<wire::HistoryResponse, Status>>, Status> {
    let wanted = Wanted::new(scope, request.record)?;
    let limit = match request.limit as usize {
        0 => limits::HISTORY_VERSIONS_MAX,
        limit => limit.min(limits::HISTORY_VERSIONS_MAX),
    };
    let walk = Walk { wanted, next: Next::Begin, before: request.before_revision, left: limit };
    let first = blocking(move || walk.step()).await?;
    let (sender, messages) = mpsc::channel(MESSAGES_WAITING_MAX);
    tokio::spawn(async move {
        if let Err(status) = run(first, &sender).await {
            // Whoever has gone needs no error.
            sending::send(&sender, Err(status)).await;
        }
    });
    Ok(ReceiverStream::new(messages))
}

async fn run(
    (mut walk, mut versions): (Walk, Vec<wire::HistoryResponse>),
    sender: &mpsc::Sender<Result<wire::HistoryResponse, Status>>,
) -> Result<(), Status> {
    loop {
        let ended = matches!(walk.next, Next::End) || walk.left == 0;
        for version in versions {
            if sending::send(sender, Ok(version)).await.is_none() {
                return Ok(());
            }
        }
        if ended {
            return Ok(());
        }
        (walk, versions) = blocking(move || walk.step()).await?;
    }
}

/// A walk back through the changes of all records that had a key.
struct Walk {
    wanted: Wanted,
    next: Next,
    /// Only events before this revision are shown; 0 for all.
    before: u64,
    /// Versions that may still be shown.
    left: usize,
}

/// Where a walk goes on.
enum Next {
    Begin,
    Change(Found),
    /// Behind the creation of a record in this event.
    Earlier(Revision),
    End,
}

impl Walk {
    /// Some more versions.
    fn step(mut self) -> Result<(Self, Vec<wire::HistoryResponse>), Status> {
        let found = match self.next {
            Next::Begin => self.wanted.newest()?,
            Next::Change(found) => Search::Found(found),
            Next::Earlier(revision) => self.wanted.gone_before(Some(revision))?,
            Next::End => Search::Never,
        };
        let Search::Found(found) = found else {
            self.next = Next::End;
            return Ok((self, Vec::new()));
        };
        let node = &self.wanted.scope.node;
        let history = walk_back(node, found.address, found.revision, CHANGES_STEP)
            .map_err(|error| errors::not_answered(&error))?;
        let last = history.changes.last();
        self.next = match last.and_then(PastChange::change).map(|change| change.previous) {
            // Nothing was found where something must have been: it is not kept any more.
            None => Next::End,
            Some(None) => last.map_or(Next::End, |last| Next::Earlier(last.event.revision)),
            Some(Some(_)) if history.changes.len() < CHANGES_STEP => Next::End,
            Some(Some(revision)) => Next::Change(Found { revision, ..found }),
        };
        let shown = history.changes.iter().filter(|past| self.before == 0 || past.event.revision.0 < self.before);
        let versions = shown.take(self.left).map(version).collect::<Result<Vec<_>, _>>()?;
        self.left -= versions.len();
        Ok((self, versions))
    }
}

fn version(past: &PastChange) -> Result<wire::HistoryResponse, Status> {
    Ok(wire::HistoryResponse {
        revision: past.event.revision.0,
        time_micros: micros(past.event.time),
        request_id: changes::request_id(&past.event),
        change: past.change().map(changes::to_wire).transpose()?.flatten(),
    })
}

/// One record as it was.
pub(super) async fn state_at(scope: Scope, request: wire::StateAtRequest) -> Result<wire::StateAtResponse, Status> {
    let moment = match request.at {
        Some(wire::state_at_request::At::Revision(revision)) => Moment::Revision(Revision(revision)),
        Some(wire::state_at_request::At::TimeMicros(time)) => Moment::Time(Timestamp(u64::try_from(time).unwrap_or(0))),
        None => return Err(Status::invalid_argument("neither a revision nor a time was given")),
    };
    if let Moment::Revision(revision) = moment
        && revision > scope.node.revision()
    {
        return Err(Status::failed_precondition(format!(
            "revision {revision} is not there yet, the newest is {}",
            scope.node.revision()
        )));
    }
    let wanted = Wanted::new(scope, request.record)?;
    blocking(move || state_of(&wanted, moment)).await
}

fn state_of(wanted: &Wanted, moment: Moment) -> Result<wire::StateAtResponse, Status> {
    let unknown = || ErrorKind::Compacted.status("the events that would tell are no longer kept");
    let mut found = wanted.newest()?;
    while let Search::Found(record) = found {
        let node = &wanted.scope.node;
        let state = engine_state_at(node, record.address, record.revision, moment);
        match state.map_err(|error| errors::not_answered(&error))? {
            PastState::Present { modified, body } => {
                let record = records::to_wire(wanted.table, record.address.sequence, &body);
                let record = record.map_err(|error| errors::failed(&error))?;
                return Ok(wire::StateAtResponse { record, modified_revision: modified.0 });
            }
            PastState::Unknown => return Err(unknown()),
            // It may not have been created yet, and an earlier one have had the key.
            PastState::Absent => {
                found = created(wanted, record)?.map_or(Ok(Search::Unknown), |at| wanted.gone_before(Some(at)))?
            }
        }
    }
    if matches!(found, Search::Unknown) {
        return Err(unknown());
    }
    Ok(wire::StateAtResponse { record: None, modified_revision: 0 })
}

/// The event that created a record, if it is kept.
fn created(wanted: &Wanted, found: Found) -> Result<Option<Revision>, Status> {
    let history = walk_back(&wanted.scope.node, found.address, found.revision, limits::HISTORY_VERSIONS_MAX)
        .map_err(|error| errors::not_answered(&error))?;
    Ok(history.changes.last().filter(|_| history.complete).map(|past| past.event.revision))
}
