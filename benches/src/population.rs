//! A group in one process without a log: a pipeline over a view, filled with a deployment.

use std::sync::Arc;

use steeple_engine::domain::{CATALOG, Command};
use steeple_engine::event::Event;
use steeple_engine::ids::{LogIndex, LogPosition, NamespaceId, Term};
use steeple_engine::local::SeededEntropy;
use steeple_engine::log::{Entry, EntryKind};
use steeple_engine::namespaces;
use steeple_engine::record_store::{self, RecordStoreKind, RecordStoreOptions};
use steeple_engine::view::{Committed, View};
use steeple_raft::pipeline::Proposer;
use steeple_raft::{Outcome, Pipeline, ProposalRefused, RequestLedger, Submission, Ticket};
use tempfile::TempDir;

use crate::deployment::{self, Deployment, NOW};

/// Commands decided before their events are folded, while filling.
const FILL_BATCH: usize = 256;

/// Batches between flushes of the record store, while filling.
const FLUSH_BATCHES: usize = 200;

/// The namespace of a new group that was opened first.
pub const NAMESPACE: NamespaceId = NamespaceId(1);

/// A log that takes everything at once and keeps nothing.
#[derive(Default)]
struct Taken {
    last: LogIndex,
    entries: Vec<Entry>,
}

impl Proposer for Taken {
    fn propose(&mut self, kind: EntryKind, tag: u64, payload: bytes::Bytes) -> Result<LogPosition, ProposalRefused> {
        self.last = self.last.next();
        let position = LogPosition { term: Term(1), index: self.last };
        self.entries.push(Entry { position, kind, tag, payload });
        Ok(position)
    }
}

/// A pipeline whose log takes everything at once and keeps nothing.
pub struct Group {
    pipeline: Pipeline,
    log: Taken,
    requests: RequestLedger,
    view: Arc<View>,
    batches: usize,
    /// After the pipeline and the view, which have files in it.
    _directory: Option<TempDir>,
}

impl Group {
    /// A group with an empty namespace.
    ///
    /// # Panics
    /// When the record store fails.
    #[must_use]
    pub fn new(kind: RecordStoreKind) -> Self {
        let directory = (kind != RecordStoreKind::Memory).then(crate::scratch_directory);
        let path = directory.as_ref().map(|directory| directory.path().join("records")).unwrap_or_default();
        let store = record_store::open(kind, &path, &RecordStoreOptions::default()).expect("a record store");
        let view = Arc::new(View::open(CATALOG, store).expect("an empty view"));
        let pipeline = Pipeline::lead(Arc::clone(&view), Box::new(SeededEntropy::new(1)), 0);
        let (log, requests) = (Taken::default(), RequestLedger::new(0));
        let mut group = Self { pipeline, log, requests, view, batches: 0, _directory: directory };
        let open = Command::Namespace(namespaces::Command::Open { name: "bench".to_owned() });
        group.carry_out(NamespaceId::SYSTEM, [open]);
        group
    }

    /// A group that holds a deployment.
    ///
    /// # Panics
    /// When the record store fails or a command is refused.
    #[must_use]
    pub fn filled(kind: RecordStoreKind, deployment: &Deployment) -> Self {
        let mut group = Self::new(kind);
        group.fill(deployment.bundles().map(deployment::create_bundle));
        group.fill((0..deployment.agents()).map(|agent| deployment::create_node(deployment.node(agent))));
        group.fill((0..deployment.entries()).map(|number| deployment::create_entry(deployment.entry(number))));
        group.view.store().flush().expect("a flush");
        group
    }

    fn fill(&mut self, commands: impl Iterator<Item = Command>) {
        let mut commands = commands.peekable();
        while commands.peek().is_some() {
            self.carry_out(NAMESPACE, commands.by_ref().take(FILL_BATCH));
            if self.batches.is_multiple_of(FLUSH_BATCHES) {
                self.view.store().flush().expect("a flush");
            }
        }
    }

    /// Decides commands, all of which have to be accepted, folds their events together and takes the answers.
    ///
    /// # Panics
    /// When one is refused.
    pub fn carry_out(&mut self, namespace: NamespaceId, commands: impl IntoIterator<Item = Command>) {
        for (number, command) in commands.into_iter().enumerate() {
            let submission = Submission { ticket: Ticket(number as u64), namespace, request: None, command };
            self.pipeline.submit(submission, NOW, &mut self.requests, &mut self.log).expect("a pipeline that works");
        }
        self.commit();
        for (_, outcome) in self.pipeline.take_answers() {
            let Outcome::Committed { event, source } = outcome else { panic!("{outcome:?}") };
            // As whoever waits does.
            std::hint::black_box(source.resolve(&event.changes).expect("an answer that can be read"));
        }
        self.batches += 1;
    }

    fn commit(&mut self) -> Vec<Entry> {
        let folded = self.view.folded().revision;
        let is_new = |(_, event): &(LogIndex, &Arc<Event>)| event.revision > folded;
        let committed = self.pipeline.proposed().filter(is_new);
        let committed: Vec<_> = committed.map(|(index, event)| Committed { index, event: Arc::clone(event) }).collect();
        self.view.fold(&committed).expect("a view that works");
        self.pipeline.folded(self.log.last).expect("a view that works");
        std::mem::take(&mut self.log.entries)
    }

    /// The view.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }
}
