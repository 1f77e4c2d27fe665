//! The sides: a node of Steeple as a process, one within this process, PostgreSQL as a server, SQLite within this process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;
use steeple_benches::processes::{Group, NAMESPACE};
use steeple_benches::{messages, scratch_directory, usage};
use steeple_client::types::{Bundle, RegistrationEntryFilter};
use steeple_client::{Error, Namespace};
use tempfile::TempDir;
use tokio_stream::StreamExt;

use crate::connection::{Pool, Preparing};
use crate::databases::{PostgresServer, sqlite};
use crate::embedded::EmbeddedStore;
use crate::schema;
use crate::spire::SqlStore;
use crate::statements::Statement;
use crate::workload::{Answer, Request, Workload};

/// Connections to the node, which all clients share.
pub(crate) const CONNECTIONS: usize = 4;

/// How long the node may be busy after an answer.
const REST_MAX: Duration = Duration::from_secs(120);

/// A side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    Steeple,
    /// Steeple as well, within this process.
    Embedded,
    Postgres,
    Sqlite,
}

impl Side {
    /// Whether it is one of those that are compared with the others.
    pub(crate) fn is_own(self) -> bool {
        matches!(self, Self::Steeple | Self::Embedded)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Steeple => "Steeple",
            Self::Embedded => "Steeple, embedded",
            Self::Postgres => "PostgreSQL",
            Self::Sqlite => "SQLite",
        }
    }
}

/// How a store is set up.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) program: PathBuf,
    pub(crate) preparing: Preparing,
    /// Entries of a page.
    pub(crate) page: usize,
}

/// What runs.
enum Kind {
    Steeple(Box<SteepleStore>),
    Embedded(Box<EmbeddedStore>),
    Postgres { store: SqlStore, server: PostgresServer },
    Sqlite { store: SqlStore, _directory: TempDir },
}

/// A side that is filled.
pub(crate) struct Store {
    pub(crate) side: Side,
    pub(crate) facts: Facts,
    kind: Kind,
}

/// What it is and how it was filled.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Facts {
    side: &'static str,
    version: String,
    /// With bulk statements, or over a stream.
    filled_in_seconds: f64,
}

impl Store {
    /// Starts and fills a store; why there is none, if there is none.
    pub(crate) async fn start(side: Side, setting: &Setting, workload: &Workload) -> Result<Self, String> {
        let sql = |pool: Pool| SqlStore::new(pool, setting.preparing, setting.page);
        let kind = match side {
            Side::Steeple => Kind::Steeple(Box::new(SteepleStore::start(setting).await)),
            Side::Embedded => Kind::Embedded(Box::new(EmbeddedStore::start(setting.page).await?)),
            Side::Postgres => {
                let server = PostgresServer::start()?;
                Kind::Postgres { store: sql(Pool::Postgres(server.pool())), server }
            }
            Side::Sqlite => {
                let directory = scratch_directory();
                let pool = sqlite(&directory.path().join("datastore.sqlite3"));
                Kind::Sqlite { store: sql(Pool::Sqlite(pool)), _directory: directory }
            }
        };
        let started = Instant::now();
        let version = match &kind {
            Kind::Steeple(store) => store.fill(workload).await.map_err(|error| error.to_string())?,
            Kind::Embedded(store) => store.fill(workload).await?,
            Kind::Postgres { store, .. } | Kind::Sqlite { store, .. } => {
                fill(store, workload).await.map_err(|error| error.to_string())?
            }
        };
        let facts = Facts { side: side.name(), version, filled_in_seconds: started.elapsed().as_secs_f64() };
        Ok(Self { side, facts, kind })
    }

    /// Takes note of the last event, behind which somebody will ask.
    pub(crate) async fn settle(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Steeple(store) => store.settle().await.map_err(|error| error.to_string()),
            Kind::Embedded(store) => store.settle().await,
            Kind::Postgres { store, .. } | Kind::Sqlite { store, .. } => {
                store.settle().await.map_err(|error| error.to_string())
            }
        }
    }

    /// Makes as many events as the workload has entries.
    pub(crate) async fn add_events(&self, workload: &Workload, turn: u64) -> Result<(), String> {
        match &self.kind {
            Kind::Steeple(store) => store.add_events(workload, turn).await.map_err(|error| error.to_string()),
            Kind::Embedded(store) => store.add_events(workload, turn).await,
            Kind::Postgres { store, .. } | Kind::Sqlite { store, .. } => {
                store.add_events(workload).await.map_err(|error| error.to_string())
            }
        }
    }

    /// Waits until a side has done what it does after an answer: the node removes in the background what a prune hid. (PostgreSQL
    /// vacuums when it sees fit, and for that nobody waits.)
    pub(crate) async fn come_to_rest(&self) -> Result<(), String> {
        let at_rest = match &self.kind {
            Kind::Steeple(store) => usage::wait_until_at_rest(store.group.process(1), REST_MAX).await.map(drop),
            Kind::Embedded(store) => store.come_to_rest(REST_MAX).await,
            Kind::Postgres { .. } | Kind::Sqlite { .. } => Some(()),
        };
        at_rest.ok_or_else(|| format!("{} does not come to rest", self.side.name()))
    }

    /// Asks once. `client` is one of those that ask at a time.
    pub(crate) async fn ask(&self, client: usize, request: &Request) -> Result<Answer, String> {
        match &self.kind {
            Kind::Steeple(store) => store.ask(client, request).await.map_err(|error| error.to_string()),
            Kind::Embedded(store) => store.ask(request).await,
            Kind::Postgres { store, .. } | Kind::Sqlite { store, .. } => {
                store.ask(request).await.map_err(|error| error.to_string())
            }
        }
    }

    /// CPU time of what runs beside this process.
    pub(crate) fn servers_cpu(&self) -> Duration {
        match &self.kind {
            Kind::Steeple(store) => usage::cpu(store.group.process(1)),
            Kind::Postgres { server, .. } => server.cpu(),
            Kind::Embedded(_) | Kind::Sqlite { .. } => Duration::ZERO,
        }
    }

    pub(crate) async fn close(self) {
        match self.kind {
            Kind::Steeple(_) => {}
            Kind::Embedded(store) => store.close().await,
            Kind::Postgres { store, .. } => store.close().await,
            Kind::Sqlite { store, .. } => store.close().await,
        }
    }
}

/// Fills a database; what it is.
async fn fill(store: &SqlStore, workload: &Workload) -> Result<String, sqlx::Error> {
    let (mut connection, dialect) = (store.acquire().await?, store.dialect());
    schema::fill(&mut connection, dialect, workload).await?;
    let version = match dialect {
        crate::statements::Dialect::Postgres => "SELECT current_setting('server_version')",
        crate::statements::Dialect::Sqlite => "SELECT sqlite_version()",
    };
    let version = connection.texts(&Statement::new(dialect, version, Vec::new()), &[0], Preparing::EachTime).await?;
    Ok(version.into_iter().flatten().collect())
}

/// A node and the ways to it.
struct SteepleStore {
    group: Group,
    callers: Vec<Namespace>,
    page: usize,
    last_event: AtomicU64,
}

impl SteepleStore {
    async fn start(setting: &Setting) -> Self {
        let group = Group::start(1, setting.program.clone()).await;
        let callers = (0..CONNECTIONS).map(|_| group.client().namespace(NAMESPACE)).collect();
        Self { group, callers, page: setting.page, last_event: AtomicU64::new(0) }
    }

    async fn fill(&self, workload: &Workload) -> Result<String, Error> {
        for trust_domain_id in workload.trust_domains() {
            self.callers[0].set_bundle(Bundle { trust_domain_id, ..Bundle::default() }).await?;
        }
        let create = |number| messages::creation(workload.entry(number));
        messages::write_all(&self.callers[0], (0..workload.size()).map(create)).await?;
        Ok(env!("CARGO_PKG_VERSION").to_owned())
    }

    /// Updates every entry once; each update is an event.
    async fn add_events(&self, workload: &Workload, turn: u64) -> Result<(), Error> {
        let update = |number| messages::update(workload.changed_entry(number, turn));
        messages::write_all(&self.callers[0], (0..workload.size()).map(update)).await.map(drop)
    }

    async fn settle(&self) -> Result<(), Error> {
        let (entries, _) = self.callers[0].fetch_event_bounds().await?;
        self.last_event.store(entries.last_event_id, Ordering::Relaxed);
        Ok(())
    }

    async fn ask(&self, client: usize, request: &Request) -> Result<Answer, Error> {
        let namespace = &self.callers[client % CONNECTIONS];
        Ok(match request {
            Request::Create(entry) => {
                Answer::Entries(vec![namespace.create_registration_entry(entry.as_ref().clone()).await?])
            }
            Request::Fetch(id) => Answer::Entries(namespace.fetch_registration_entry(id).await?.into_iter().collect()),
            Request::FetchMany(ids) => Answer::Entries(namespace.fetch_registration_entries(ids.clone()).await?),
            Request::List(filter) => {
                let entries = namespace.stream_registration_entries(filter.clone()).await?;
                Answer::Entries(entries.collect::<Result<_, _>>().await?)
            }
            Request::Scan => self.scan(namespace).await?,
            Request::ScanInTurn => self.scan_in_turn(namespace).await?,
            Request::ScanStreamed => {
                let mut entries = namespace.stream_registration_entries(RegistrationEntryFilter::default()).await?;
                let mut count = 0;
                while let Some(entry) = entries.next().await {
                    entry?;
                    count += 1;
                }
                Answer::Count(count)
            }
            Request::EventsAfter => {
                let last = self.last_event.load(Ordering::Relaxed);
                Answer::Count(namespace.list_registration_entry_events(last, 0).await?.len() as u64)
            }
            Request::Prune => Answer::Count(namespace.prune_registration_entry_events(Duration::ZERO).await?),
        })
    }

    async fn scan(&self, namespace: &Namespace) -> Result<Answer, Error> {
        let (all, size) = (RegistrationEntryFilter::default(), i32::try_from(self.page).unwrap_or(i32::MAX));
        let (mut count, mut pages) = (0, namespace.registration_entry_pages(all, size));
        while let Some(entries) = pages.next().await? {
            count += entries.len() as u64;
        }
        Ok(Answer::Count(count))
    }

    async fn scan_in_turn(&self, namespace: &Namespace) -> Result<Answer, Error> {
        let (mut count, mut token) = (0, String::new());
        let size = i32::try_from(self.page).unwrap_or(i32::MAX);
        loop {
            let all = RegistrationEntryFilter::default();
            let (entries, next) = namespace.list_registration_entries_page(all, &token, size).await?;
            if entries.is_empty() {
                return Ok(Answer::Count(count));
            }
            (count, token) = (count + entries.len() as u64, next);
        }
    }
}
