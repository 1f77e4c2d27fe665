//! What SPIRE's own datastore does with its database for each call about registration entries.

use std::sync::atomic::{AtomicI32, Ordering};

use steeple_client::types::{MatchBehavior, RegistrationEntry, RegistrationEntryFilter, Selector};
use tokio::sync::Mutex;

use crate::connection::{Connection, Pool, Preparing};
use crate::schema::{add_events, now};
use crate::statements::{Dialect, Listing, Statement, Value, places};
use crate::workload::{Answer, Request, Workload};

/// A database with SPIRE's tables.
pub(crate) struct SqlStore {
    pool: Pool,
    preparing: Preparing,
    /// Entries of a page.
    page: usize,
    /// The last event that was there when somebody looked.
    last_event: AtomicI32,
    /// SQLite has one writer at a time, and SPIRE lets the others wait before they begin.
    writing: Mutex<()>,
}

impl SqlStore {
    pub(crate) fn new(pool: Pool, preparing: Preparing, page: usize) -> Self {
        Self { pool, preparing, page, last_event: AtomicI32::new(0), writing: Mutex::new(()) }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.pool.dialect()
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Looks which event is the last one.
    pub(crate) async fn settle(&self) -> Result<(), sqlx::Error> {
        let last = Statement::new(self.dialect(), "SELECT MAX(id) FROM registered_entries_events", Vec::new());
        let last = self.pool.acquire().await?.numbers(&last, self.preparing).await?;
        self.last_event.store(last.first().copied().unwrap_or_default(), Ordering::Relaxed);
        Ok(())
    }

    /// As many events as the workload has entries.
    pub(crate) async fn add_events(&self, workload: &Workload) -> Result<(), sqlx::Error> {
        add_events(&mut self.pool.acquire().await?, self.dialect(), workload).await
    }

    pub(crate) async fn ask(&self, request: &Request) -> Result<Answer, sqlx::Error> {
        match request {
            Request::Create(entry) => self.create(entry).await,
            Request::Fetch(id) => self.list(Listing::Ids(std::slice::from_ref(id))).await,
            Request::FetchMany(ids) => self.list(Listing::Ids(ids)).await,
            Request::List(filter) => self.list_filtered(filter).await,
            Request::Scan | Request::ScanInTurn | Request::ScanStreamed => self.scan().await,
            Request::EventsAfter => self.events_after().await,
            Request::Prune => self.prune().await,
        }
    }

    /// A connection that nobody else uses.
    pub(crate) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        self.pool.acquire().await
    }

    async fn list(&self, listing: Listing<'_>) -> Result<Answer, sqlx::Error> {
        let statement = Statement::list(self.dialect(), listing);
        let (entries, _) = self.pool.acquire().await?.entries(&statement, self.preparing).await?;
        Ok(Answer::Entries(entries))
    }

    /// Exact and subset are sorted out by SPIRE from what the statement finds.
    async fn list_filtered(&self, filter: &RegistrationEntryFilter) -> Result<Answer, sqlx::Error> {
        let statement = Statement::list(self.dialect(), Listing::Filter(filter));
        let (mut entries, _) = self.pool.acquire().await?.entries(&statement, self.preparing).await?;
        if let Some(by) = &filter.by_selectors
            && matches!(by.r#match(), MatchBehavior::Exact | MatchBehavior::Subset)
        {
            entries.retain(|entry| has_no_other(entry, &by.selectors));
        }
        Ok(Answer::Entries(entries))
    }

    /// Pages until there is an empty one.
    async fn scan(&self) -> Result<Answer, sqlx::Error> {
        let (mut count, mut after) = (0, None);
        loop {
            let statement = Statement::list(self.dialect(), Listing::Page { after, size: self.page });
            let (entries, last) = self.pool.acquire().await?.entries(&statement, self.preparing).await?;
            if entries.is_empty() {
                return Ok(Answer::Count(count));
            }
            (count, after) = (count + entries.len() as u64, last);
        }
    }

    async fn events_after(&self) -> Result<Answer, sqlx::Error> {
        let last = self.last_event.load(Ordering::Relaxed);
        let text = "SELECT * FROM registered_entries_events WHERE (id > ?) ORDER BY id asc";
        let statement = Statement::new(self.dialect(), text, vec![Value::Integer(last)]);
        let events = self.pool.acquire().await?.numbers(&statement, self.preparing).await?;
        Ok(Answer::Count(events.len() as u64))
    }

    async fn prune(&self) -> Result<Answer, sqlx::Error> {
        let before = Value::Moment(now());
        let text = "DELETE FROM registered_entries_events WHERE (created_at < ?)";
        let statement = Statement::new(self.dialect(), text, vec![before]);
        let mut transaction = Transaction::begin(self).await?;
        let pruned = transaction.connection.run(&statement, self.preparing).await;
        transaction.end(pruned).await.map(Answer::Count)
    }

    async fn create(&self, entry: &RegistrationEntry) -> Result<Answer, sqlx::Error> {
        let mut transaction = Transaction::begin(self).await?;
        let created = create(&mut transaction.connection, self.dialect(), self.preparing, entry).await;
        transaction.end(created).await
    }
}

/// A connection between `BEGIN` and `COMMIT`; the only one of its kind with SQLite.
struct Transaction<'a> {
    connection: Connection,
    _writing: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl<'a> Transaction<'a> {
    async fn begin(store: &'a SqlStore) -> Result<Self, sqlx::Error> {
        let is_lone = store.dialect() == Dialect::Sqlite;
        let writing = if is_lone { Some(store.writing.lock().await) } else { None };
        let mut connection = store.pool.acquire().await?;
        connection.command(if is_lone { "BEGIN" } else { "BEGIN READ WRITE" }).await?;
        Ok(Self { connection, _writing: writing })
    }

    async fn end<T>(mut self, done: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.connection.command(if done.is_ok() { "COMMIT" } else { "ROLLBACK" }).await?;
        done
    }
}

/// Within a transaction: looks for a similar entry, adds the entry with its children and an event, and reads the children again.
async fn create(
    connection: &mut Connection,
    dialect: Dialect,
    preparing: Preparing,
    entry: &RegistrationEntry,
) -> Result<Answer, sqlx::Error> {
    let statement = |text: String, values| Statement::new(dialect, text, values);
    let similar = Statement::list(dialect, Listing::Similar(entry));
    let (mut similar, _) = connection.entries(&similar, preparing).await?;
    similar.retain(|found| has_no_other(found, &entry.selectors));
    if !similar.is_empty() {
        return Ok(Answer::Entries(similar));
    }
    let id = connection.insert(&insert_entry(dialect, entry), preparing).await?;
    let wanted = if entry.federates_with.is_empty() { "NULL".to_owned() } else { places(entry.federates_with.len()) };
    let names = entry.federates_with.iter().map(|name| Value::Text(name)).collect();
    let bundles = statement(format!("SELECT * FROM bundles WHERE (trust_domain in ({wanted}))"), names);
    for bundle in connection.numbers(&bundles, preparing).await? {
        let (entry, bundle) = (Value::Integer(id), Value::Integer(bundle));
        let text = "INSERT INTO federated_registration_entries (registered_entry_id, bundle_id) SELECT ?, ? WHERE NOT EXISTS \
                    (SELECT * FROM federated_registration_entries WHERE registered_entry_id = ? AND bundle_id = ?)";
        connection.run(&statement(text.to_owned(), vec![entry, bundle, entry, bundle]), preparing).await?;
    }
    for selector in &entry.selectors {
        let now = Value::Moment(now());
        let values = vec![now, now, Value::Integer(id), Value::Text(&selector.r#type), Value::Text(&selector.value)];
        let columns = "created_at, updated_at, registered_entry_id, type, value";
        connection.insert(&Statement::insert(dialect, "selectors", columns, values), preparing).await?;
    }
    for name in &entry.dns_names {
        let now = Value::Moment(now());
        let values = vec![now, now, Value::Integer(id), Value::Text(name)];
        let columns = "created_at, updated_at, registered_entry_id, value";
        connection.insert(&Statement::insert(dialect, "dns_names", columns, values), preparing).await?;
    }
    let created = read_again(connection, dialect, preparing, entry, id).await?;
    let now = Value::Moment(now());
    let values = vec![now, now, Value::Text(&entry.entry_id)];
    let columns = "created_at, updated_at, entry_id";
    connection.insert(&Statement::insert(dialect, "registered_entries_events", columns, values), preparing).await?;
    Ok(Answer::Entries(vec![created]))
}

fn insert_entry(dialect: Dialect, entry: &RegistrationEntry) -> Statement<'_> {
    let now = Value::Moment(now());
    let columns = "created_at, updated_at, entry_id, spiffe_id, parent_id, ttl, admin, downstream, expiry, revision_number, \
                   store_svid, hint, jwt_svid_ttl, additional_attributes";
    let values = vec![
        now,
        now,
        Value::Text(&entry.entry_id),
        Value::Text(&entry.spiffe_id),
        Value::Text(&entry.parent_id),
        Value::Integer(entry.x509_svid_ttl),
        Value::Flag(entry.admin),
        Value::Flag(entry.downstream),
        Value::Long(entry.entry_expiry),
        Value::Long(0),
        Value::Flag(entry.store_svid),
        Value::Text(&entry.hint),
        Value::Integer(entry.jwt_svid_ttl),
        Value::NoBytes,
    ];
    Statement::insert(dialect, "registered_entries", columns, values)
}

/// The entry as SPIRE answers it: with the children that it reads from the database.
async fn read_again(
    connection: &mut Connection,
    dialect: Dialect,
    preparing: Preparing,
    entry: &RegistrationEntry,
    id: i32,
) -> Result<RegistrationEntry, sqlx::Error> {
    let about = |text: &str| Statement::new(dialect, text, vec![Value::Integer(id)]);
    let selectors = about("SELECT * FROM selectors WHERE (registered_entry_id = ?)");
    let selectors = connection.texts(&selectors, &[4, 5], preparing).await?;
    let dns_names = about("SELECT * FROM dns_names WHERE (registered_entry_id = ?)");
    let dns_names = connection.texts(&dns_names, &[4], preparing).await?;
    let bundles = about(
        "SELECT bundles.* FROM bundles INNER JOIN federated_registration_entries \
         ON federated_registration_entries.bundle_id = bundles.id \
         WHERE (federated_registration_entries.registered_entry_id IN (?))",
    );
    let bundles = connection.texts(&bundles, &[3], preparing).await?;
    let selector = |texts: Vec<String>| match <[String; 2]>::try_from(texts) {
        Ok([kind, value]) => Selector { r#type: kind, value },
        Err(_) => Selector::default(),
    };
    Ok(RegistrationEntry {
        selectors: selectors.into_iter().map(selector).collect(),
        dns_names: dns_names.into_iter().flatten().collect(),
        federates_with: bundles.into_iter().flatten().collect(),
        ..entry.clone()
    })
}

/// Whether an entry has none but the requested selectors.
fn has_no_other(entry: &RegistrationEntry, selectors: &[Selector]) -> bool {
    entry.selectors.iter().all(|own| selectors.contains(own))
}
