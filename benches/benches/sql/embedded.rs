//! A node within this process that is called through its own functions, as SQLite is: no messages, no sockets, the same durability.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use steeple_benches::{deployment, messages, scratch_directory, usage};
use steeple_client::types::RegistrationEntry;
use steeple_engine::domain::{Answer as NodeAnswer, Command};
use steeple_engine::ids::{NamespaceId, Sequence};
use steeple_engine::spire::bundles::records::Bundle;
use steeple_engine::spire::entries::queries::{self, EntryFilter, ListEntries};
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::events::queries as event_queries;
use steeple_engine::spire::pages::PageRequest;
use steeple_engine::spire::{self, REGISTRATIONS, entries, events};
use steeple_engine::view::ViewReader;
use steeple_server::node::{Node, NodeOptions, NodeParts};
use tempfile::TempDir;

use crate::workload::{Answer, Request, Workload};

/// Mutations that are submitted together while much is written.
const TOGETHER: u64 = 512;

/// Entries of a piece of a long list, as a node reads them for a stream.
const PIECE: usize = 4_096;

/// A node and the namespace in it.
pub(crate) struct EmbeddedStore {
    node: Node,
    namespace: NamespaceId,
    page: i32,
    last_event: AtomicU64,
    _directory: TempDir,
}

fn text(error: impl Display) -> String {
    error.to_string()
}

impl EmbeddedStore {
    /// Starts a node with the settings that a node has by default.
    pub(crate) async fn start(page: usize) -> Result<Self, String> {
        let directory = scratch_directory();
        let options = NodeOptions::at(directory.path());
        let start = move || Node::start(options, NodeParts::default());
        let node = tokio::task::spawn_blocking(start).await.map_err(text)?.map_err(text)?;
        let namespace = node.open_namespace("bench").await.map_err(text)?;
        let page = i32::try_from(page).unwrap_or(i32::MAX);
        Ok(Self { node, namespace, page, last_event: AtomicU64::new(0), _directory: directory })
    }

    /// Creates the workload's entries.
    pub(crate) async fn fill(&self, workload: &Workload) -> Result<String, String> {
        let bundle = |trust_domain_id| Bundle { trust_domain_id, ..Default::default() };
        let bundles = workload.trust_domains().into_iter().map(|id| deployment::create_bundle(bundle(id)));
        self.submit_all(bundles.collect()).await?;
        self.for_all(workload, |number| deployment::create_entry(messages::record(workload.entry(number)))).await?;
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    /// Updates every entry once; each update is an event.
    pub(crate) async fn add_events(&self, workload: &Workload, turn: u64) -> Result<(), String> {
        let update = |number| {
            let entry = messages::record(workload.changed_entry(number, turn));
            Command::Spire(spire::Command::Entry(entries::Command::Update(Some(entry), None)))
        };
        self.for_all(workload, update).await
    }

    /// Submits a command for each entry, many at a time.
    async fn for_all(&self, workload: &Workload, command: impl Fn(u64) -> Command) -> Result<(), String> {
        let size = workload.size();
        for first in (0..size).step_by(TOGETHER as usize) {
            self.submit_all((first..size.min(first + TOGETHER)).map(&command).collect()).await?;
        }
        Ok(())
    }

    async fn submit_all(&self, commands: Vec<Command>) -> Result<(), String> {
        let commands = commands.into_iter().map(|command| (None, command)).collect();
        let outcomes = self.node.submit_all(self.namespace, commands).await.outcomes().await;
        outcomes.into_iter().try_for_each(|outcome| outcome.map(drop).map_err(text))
    }

    pub(crate) async fn settle(&self) -> Result<(), String> {
        let last = self.read(|reader, namespace| Ok(event_queries::last_event_id(reader, namespace, REGISTRATIONS)));
        self.last_event.store(last.await?, Ordering::Relaxed);
        Ok(())
    }

    /// Waits until this process has nothing to do; `None` when it does not come to that.
    pub(crate) async fn come_to_rest(&self, patience: Duration) -> Option<()> {
        usage::wait_until_this_process_rests(patience).await.map(drop)
    }

    pub(crate) async fn close(self) {
        self.node.stop().await;
    }

    /// Reads what was acknowledged by now.
    async fn read<T>(
        &self,
        read: impl FnOnce(&ViewReader<'_>, NamespaceId) -> Result<T, spire::Error>,
    ) -> Result<T, String> {
        self.node.current().await.map_err(text)?;
        self.node.read(|reader| read(reader, self.namespace)).map_err(text)
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, String> {
        match request {
            Request::Create(entry) => self.create(entry.as_ref().clone()).await,
            Request::Fetch(id) => {
                let entry = self.read(|reader, namespace| queries::fetch_entry(reader, namespace, id)).await?;
                Ok(shown(entry))
            }
            Request::FetchMany(ids) => {
                Ok(shown(self.read(|reader, namespace| queries::fetch_entries(reader, namespace, ids)).await?))
            }
            Request::List(filter) => {
                let list = ListEntries { filter: messages::record_filter(filter.clone()), page: None };
                Ok(shown(self.read(|reader, namespace| queries::list_entries(reader, namespace, &list)).await?.items))
            }
            Request::Scan | Request::ScanInTurn => self.scan().await,
            Request::ScanStreamed => self.scan_by_pieces().await,
            Request::EventsAfter => {
                let last = self.last_event.load(Ordering::Relaxed);
                let list =
                    |reader: &ViewReader<'_>, namespace| event_queries::list_entry_events(reader, namespace, last, 0);
                Ok(Answer::Count(self.read(list).await?.len() as u64))
            }
            Request::Prune => self.prune().await,
        }
    }

    async fn create(&self, entry: RegistrationEntry) -> Result<Answer, String> {
        let command = deployment::create_entry(messages::record(entry));
        match self.node.submit(self.namespace, None, command).await.map_err(text)?.answer {
            NodeAnswer::Spire(spire::Answer::Entry { entry, .. }) => Ok(shown(Some(entry))),
            other => Err(format!("a creation was answered with {other:?}")),
        }
    }

    async fn prune(&self) -> Result<Answer, String> {
        let prune = events::Command::PruneEntryEvents { older_than_micros: self.node.clock().now().0, limit: 0 };
        let command = Command::Spire(spire::Command::Event(prune));
        let (_, pruned) = self.node.submit_to_end(self.namespace, None, command).await.map_err(text)?;
        Ok(Answer::Count(pruned))
    }

    /// All entries, page after page: there is no way to anybody for which another page could be asked meanwhile.
    async fn scan(&self) -> Result<Answer, String> {
        let (mut count, mut token) = (0, String::new());
        loop {
            let page = Some(PageRequest { token, page_size: self.page });
            let list = ListEntries { filter: EntryFilter::default(), page };
            let page = self.read(|reader, namespace| queries::list_entries(reader, namespace, &list)).await?;
            if page.items.is_empty() {
                return Ok(Answer::Count(count));
            }
            count += shown(page.items).count();
            token = page.response.map(|response| response.token).unwrap_or_default();
        }
    }

    async fn scan_by_pieces(&self) -> Result<Answer, String> {
        let (mut count, mut next, all) = (0, Some(Sequence::ZERO), EntryFilter::default());
        while let Some(after) = next {
            let piece =
                |reader: &ViewReader<'_>, namespace| queries::list_entries_chunk(reader, namespace, &all, after, PIECE);
            let piece = self.read(piece).await?;
            let entries: Result<Vec<_>, _> = piece.items.iter().map(|record| Entry::decode(&record.body)).collect();
            count += shown(entries.map_err(text)?).count();
            next = piece.next;
        }
        Ok(Answer::Count(count))
    }
}

/// Entries as the other sides give them.
fn shown(entries: impl IntoIterator<Item = Entry>) -> Answer {
    Answer::Entries(entries.into_iter().map(messages::entry).collect())
}
