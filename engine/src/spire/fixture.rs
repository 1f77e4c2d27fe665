//! A datastore in memory, for the tests of every collection.

use std::cell::Cell;
use std::sync::Arc;

use super::entries::records::Entry;
use super::notices::{Notice, notices};
use super::{Answer, Code, Command, REGISTRATIONS, tables};
use crate::domain::{self, CATALOG};
use crate::event::Event;
use crate::ids::{IndexId, LogIndex, NamespaceId, Revision, Sequence, StreamId, StreamSequence, TableId, Timestamp};
use crate::index::Query;
use crate::local::{LocalError, LocalGroup, SeededEntropy};
use crate::namespaces;
use crate::transaction::Transaction;
use crate::view::{Committed, ReadError, Reader, Record, StreamRow, StreamState};

/// One namespace of a group without a log.
pub(in crate::spire) struct Datastore {
    group: LocalGroup,
    namespace: NamespaceId,
}

/// Status and text of a rejection.
pub(in crate::spire) type Refusal = (Code, String);

impl Datastore {
    pub(in crate::spire) fn new() -> Self {
        let mut group = LocalGroup::new(7, Timestamp::from_seconds(1_000)).unwrap();
        let open = namespaces::Command::Open { name: "test".into() };
        let answer = group.submit(NamespaceId::SYSTEM, &domain::Command::Namespace(open)).unwrap();
        let domain::Answer::Namespace(namespaces::Answer::Opened { id, existing: false }) = answer else {
            panic!("opening a namespace answered {answer:?}");
        };
        Self { group, namespace: id }
    }

    /// What the command answers.
    pub(in crate::spire) fn submit(&mut self, command: Command) -> Answer {
        self.attempt(command).unwrap()
    }

    /// How the command is refused; also checks that a refusal leaves no trace.
    pub(in crate::spire) fn refuse(&mut self, command: Command) -> Refusal {
        let before = self.group.view().folded();
        let refusal = self.attempt(command).unwrap_err();
        assert_eq!(self.group.view().folded(), before, "a refused command changed the state");
        refusal
    }

    pub(in crate::spire) fn attempt(&mut self, command: Command) -> Result<Answer, Refusal> {
        match self.group.submit(self.namespace, &domain::Command::Spire(command)) {
            Ok(domain::Answer::Spire(answer)) => Ok(answer),
            Ok(other) => panic!("a datastore command answered {other:?}"),
            Err(LocalError::Rejected(rejection)) => Err((rejection.code(), rejection.to_string())),
            Err(error) => panic!("{error}"),
        }
    }

    /// Submits a bounded command until it has nothing more to do; what each step changed.
    pub(in crate::spire) fn finish(&mut self, command: &Command) -> Vec<u64> {
        let mut steps = Vec::new();
        loop {
            match self.submit(command.clone()) {
                Answer::Progress { changed, more } => {
                    steps.push(changed);
                    if !more {
                        return steps;
                    }
                }
                other => panic!("a bounded command answered {other:?}"),
            }
        }
    }

    /// Runs a query.
    pub(in crate::spire) fn query<T>(&self, query: impl FnOnce(&dyn Reader, NamespaceId) -> T) -> T {
        query(&self.group.read(), self.namespace)
    }

    /// Sets the time of the events to come.
    pub(in crate::spire) fn set_now(&mut self, now: Timestamp) {
        self.group.set_now(now);
    }

    /// The newest event.
    pub(in crate::spire) fn last_event(&self) -> Arc<Event> {
        Arc::clone(self.group.events().last().unwrap())
    }

    /// How many events there have been.
    pub(in crate::spire) fn revision(&self) -> u64 {
        self.group.revision()
    }

    /// The log lines that go with a command that was just submitted.
    pub(in crate::spire) fn notices(&self, command: &Command) -> Vec<Notice> {
        let changes = self.group.events().last().map_or(&[][..], |event| &event.changes);
        notices(command, changes).unwrap()
    }

    /// The items of the registrations stream after the first `after`.
    pub(in crate::spire) fn registrations(&self, after: u64) -> Vec<StreamRow> {
        self.query(|reader, namespace| {
            reader.stream_rows(namespace, REGISTRATIONS, StreamSequence(after), usize::MAX).unwrap()
        })
    }

    /// Puts entries into the state as they are, in one event, without asking the rules for entries.
    pub(in crate::spire) fn plant_entries(&mut self, entries: &[Entry]) {
        let folded = self.group.view().folded();
        let content = {
            let reader = self.group.read();
            let mut entropy = SeededEntropy::new(0);
            let mut transaction = Transaction::new(&reader, CATALOG, self.namespace, folded.time, &mut entropy);
            for entry in entries {
                transaction.insert(tables::ENTRIES, entry.encode()).unwrap();
            }
            transaction.into_content()
        };
        let event = Arc::new(Event {
            revision: folded.revision.next(),
            time: folded.time,
            namespace: self.namespace,
            request: None,
            changes: content.changes,
            items: content.items,
            marks: content.marks,
            answer: Vec::new(),
        });
        self.group.view().fold(&[Committed { index: LogIndex(event.revision.0), event }]).unwrap();
    }
}

/// A reader that counts the records that are read through it.
pub(in crate::spire) struct CountingReader<'a> {
    reader: &'a dyn Reader,
    pub(in crate::spire) reads: Cell<usize>,
}

impl<'a> CountingReader<'a> {
    pub(in crate::spire) fn new(reader: &'a dyn Reader) -> Self {
        Self { reader, reads: Cell::new(0) }
    }
}

impl Reader for CountingReader<'_> {
    fn revision(&self) -> Revision {
        self.reader.revision()
    }

    fn get(&self, namespace: NamespaceId, table: TableId, sequence: Sequence) -> Result<Option<Record>, ReadError> {
        self.reads.set(self.reads.get() + 1);
        self.reader.get(namespace, table, sequence)
    }

    fn find(&self, namespace: NamespaceId, table: TableId, index: IndexId, key: &[u8]) -> Option<Sequence> {
        self.reader.find(namespace, table, index, key)
    }

    fn select(
        &self,
        namespace: NamespaceId,
        table: TableId,
        query: &Query,
        after: Sequence,
        limit: usize,
    ) -> Vec<Sequence> {
        self.reader.select(namespace, table, query, after, limit)
    }

    fn count(&self, namespace: NamespaceId, table: TableId, query: &Query) -> u64 {
        self.reader.count(namespace, table, query)
    }

    fn select_lowest(
        &self,
        namespace: NamespaceId,
        table: TableId,
        index: IndexId,
        below: i64,
        limit: usize,
    ) -> Vec<Sequence> {
        self.reader.select_lowest(namespace, table, index, below, limit)
    }

    fn last_sequence(&self, namespace: NamespaceId, table: TableId) -> Sequence {
        self.reader.last_sequence(namespace, table)
    }

    fn stream(&self, namespace: NamespaceId, stream: StreamId) -> StreamState {
        self.reader.stream(namespace, stream)
    }

    fn stream_rows(
        &self,
        namespace: NamespaceId,
        stream: StreamId,
        after: StreamSequence,
        limit: usize,
    ) -> Result<Vec<StreamRow>, ReadError> {
        self.reads.set(self.reads.get() + 1);
        self.reader.stream_rows(namespace, stream, after, limit)
    }
}
