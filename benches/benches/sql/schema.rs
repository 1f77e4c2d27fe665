//! SPIRE's tables (schema 25, those that registration entries need) with their indexes, and how they are filled at once.

use crate::connection::{Connection, Preparing};
use crate::statements::{Dialect, Moment, Statement, Value, places};
use crate::workload::Workload;

/// Columns of tables that are filled.
const BUNDLES: &str = "id, created_at, updated_at, trust_domain, data";
const ENTRIES: &str = "id, created_at, updated_at, entry_id, spiffe_id, parent_id, ttl, admin, downstream, expiry, \
                       revision_number, store_svid, hint, jwt_svid_ttl, additional_attributes";
const SELECTORS: &str = "created_at, updated_at, registered_entry_id, type, value";
const DNS_NAMES: &str = "created_at, updated_at, registered_entry_id, value";
const FEDERATED: &str = "bundle_id, registered_entry_id";
const EVENTS: &str = "created_at, updated_at, entry_id";

const INDEXES: &str = "
    CREATE UNIQUE INDEX uix_bundles_trust_domain ON bundles (trust_domain);
    CREATE INDEX idx_registered_entries_hint ON registered_entries (hint);
    CREATE INDEX idx_registered_entries_spiffe_id ON registered_entries (spiffe_id);
    CREATE INDEX idx_registered_entries_parent_id ON registered_entries (parent_id);
    CREATE INDEX idx_registered_entries_expiry ON registered_entries (expiry);
    CREATE UNIQUE INDEX uix_registered_entries_entry_id ON registered_entries (entry_id);
    CREATE INDEX idx_selectors_type_value ON selectors (type, value);
    CREATE UNIQUE INDEX idx_selector_entry ON selectors (registered_entry_id, type, value);
    CREATE UNIQUE INDEX idx_dns_entry ON dns_names (registered_entry_id, value);
    CREATE INDEX idx_federated_registration_entries_registered_entry_id
        ON federated_registration_entries (registered_entry_id);
";

/// Tables whose next row number has to be told after rows with numbers were added.
const NUMBERED: [&str; 2] = ["bundles", "registered_entries"];

/// Values that go into one statement; SQLite takes a few more.
const VALUES_MAX: usize = 30_000;

/// Entries that are added together.
const CHUNK: u64 = 2_000;

/// The tables, in the words of a dialect.
fn tables(dialect: Dialect) -> String {
    let (id, time, text, blob) = match dialect {
        Dialect::Postgres => ("serial PRIMARY KEY", "timestamp with time zone", "text", "bytea"),
        Dialect::Sqlite => ("integer PRIMARY KEY AUTOINCREMENT", "datetime", "varchar(255)", "blob"),
    };
    let every = format!("id {id}, created_at {time}, updated_at {time}");
    format!(
        "CREATE TABLE bundles ({every}, trust_domain {text} NOT NULL, data {blob});
        CREATE TABLE registered_entries ({every}, entry_id {text}, spiffe_id {text}, parent_id {text}, ttl integer,
            admin bool, downstream bool, expiry bigint, revision_number bigint, store_svid bool, hint {text},
            jwt_svid_ttl integer, additional_attributes {blob});
        CREATE TABLE selectors ({every}, registered_entry_id integer, type {text}, value {text});
        CREATE TABLE dns_names ({every}, registered_entry_id integer, value {text});
        CREATE TABLE federated_registration_entries (bundle_id integer, registered_entry_id integer,
            PRIMARY KEY (bundle_id, registered_entry_id));
        CREATE TABLE registered_entries_events ({every}, entry_id {text});"
    )
}

/// Makes the tables, fills them with all entries of a workload and an event for each, and lets the database look at what it has.
pub(crate) async fn fill(
    connection: &mut Connection,
    dialect: Dialect,
    workload: &Workload,
) -> Result<(), sqlx::Error> {
    connection.command(&tables(dialect)).await?;
    let now = Value::Moment(now());
    let trust_domains = workload.trust_domains();
    let bundles = (1..).zip(&trust_domains);
    let bundles: Vec<_> = bundles
        .map(|(id, name)| vec![Value::Integer(id), now, now, Value::Text(name), Value::Bytes(name.as_bytes())])
        .collect();
    insert_many(connection, dialect, "bundles", BUNDLES, &bundles).await?;
    for first in (0..workload.size()).step_by(CHUNK as usize) {
        connection.command("BEGIN").await?;
        fill_chunk(connection, dialect, workload, &trust_domains, first).await?;
        connection.command("COMMIT").await?;
    }
    connection.command(INDEXES).await?;
    if dialect == Dialect::Postgres {
        for table in NUMBERED {
            let last = format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT MAX(id) FROM {table}))");
            connection.command(&last).await?;
        }
        connection.command("VACUUM ANALYZE").await?;
        connection.command("CHECKPOINT").await
    } else {
        connection.command("ANALYZE; PRAGMA wal_checkpoint(TRUNCATE)").await
    }
}

async fn fill_chunk(
    connection: &mut Connection,
    dialect: Dialect,
    workload: &Workload,
    trust_domains: &[String],
    first: u64,
) -> Result<(), sqlx::Error> {
    let now = Value::Moment(now());
    let chunk: Vec<_> = (first..workload.size().min(first + CHUNK)).map(|number| workload.entry(number)).collect();
    let (mut entries, mut selectors, mut dns_names) = (Vec::new(), Vec::new(), Vec::new());
    let (mut federated, mut events) = (Vec::new(), Vec::new());
    for (number, entry) in (first..).zip(&chunk) {
        let id = Value::Integer(i32::try_from(number + 1).unwrap_or(i32::MAX));
        let text = |text| Value::Text(text);
        entries.push(vec![
            id,
            now,
            now,
            text(&entry.entry_id),
            text(&entry.spiffe_id),
            text(&entry.parent_id),
            Value::Integer(entry.x509_svid_ttl),
            Value::Flag(entry.admin),
            Value::Flag(entry.downstream),
            Value::Long(entry.entry_expiry),
            Value::Long(entry.revision_number),
            Value::Flag(entry.store_svid),
            text(&entry.hint),
            Value::Integer(entry.jwt_svid_ttl),
            Value::NoBytes,
        ]);
        selectors.extend(entry.selectors.iter().map(|one| vec![now, now, id, text(&one.r#type), text(&one.value)]));
        dns_names.extend(entry.dns_names.iter().map(|name| vec![now, now, id, text(name)]));
        for name in &entry.federates_with {
            let bundle = trust_domains.iter().position(|bundle| bundle == name).map_or(0, |place| place + 1);
            federated.push(vec![Value::Integer(i32::try_from(bundle).unwrap_or(0)), id]);
        }
        events.push(vec![now, now, text(&entry.entry_id)]);
    }
    insert_many(connection, dialect, "registered_entries", ENTRIES, &entries).await?;
    insert_many(connection, dialect, "selectors", SELECTORS, &selectors).await?;
    insert_many(connection, dialect, "dns_names", DNS_NAMES, &dns_names).await?;
    insert_many(connection, dialect, "federated_registration_entries", FEDERATED, &federated).await?;
    insert_many(connection, dialect, "registered_entries_events", EVENTS, &events).await
}

/// Adds so many events.
pub(crate) async fn add_events(
    connection: &mut Connection,
    dialect: Dialect,
    workload: &Workload,
) -> Result<(), sqlx::Error> {
    let now = Value::Moment(now());
    connection.command("BEGIN").await?;
    for first in (0..workload.size()).step_by(CHUNK as usize) {
        let ids: Vec<_> = (first..workload.size().min(first + CHUNK)).map(|number| workload.entry_id(number)).collect();
        let events: Vec<_> = ids.into_iter().map(|id| vec![now, now, Value::Text(id)]).collect();
        insert_many(connection, dialect, "registered_entries_events", EVENTS, &events).await?;
    }
    connection.command("COMMIT").await
}

async fn insert_many(
    connection: &mut Connection,
    dialect: Dialect,
    table: &str,
    columns: &str,
    rows: &[Vec<Value<'_>>],
) -> Result<(), sqlx::Error> {
    let width = columns.split(',').count();
    for some in rows.chunks(VALUES_MAX / width) {
        let all = vec![format!("({})", places(width)); some.len()].join(",");
        let text = format!("INSERT INTO {table} ({columns}) VALUES {all}");
        let statement = Statement::new(dialect, text, some.concat());
        connection.run(&statement, Preparing::Once).await?;
    }
    Ok(())
}

/// Now.
pub(crate) fn now() -> Moment {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
