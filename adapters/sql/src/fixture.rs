//! A database with the schema of SPIRE's, for tests: some of everything, and what years of use leave behind.

use std::path::Path;

use prost::Message as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Executor as _, SqliteConnection};
use steeple_wire::spire::v1::{Bundle, PublicKey};

/// The tables as of schema 25.
const TABLES: &str = "
CREATE TABLE migrations (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, version INTEGER, code_version VARCHAR(255));
CREATE TABLE bundles (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME,
    trust_domain VARCHAR(255) NOT NULL UNIQUE, data BLOB);
CREATE TABLE federated_trust_domains (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, trust_domain VARCHAR(255) NOT NULL UNIQUE,
    bundle_endpoint_url VARCHAR(255), bundle_endpoint_profile VARCHAR(255), endpoint_spiffe_id VARCHAR(255), implicit BOOL);
CREATE TABLE registered_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, entry_id VARCHAR(255) UNIQUE,
    spiffe_id VARCHAR(255), parent_id VARCHAR(255), ttl INTEGER, admin BOOL, downstream BOOL, expiry BIGINT,
    revision_number BIGINT, store_svid BOOL, hint VARCHAR(255), jwt_svid_ttl INTEGER, additional_attributes BLOB);
CREATE TABLE selectors (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, registered_entry_id INTEGER,
    type VARCHAR(255), value VARCHAR(255), UNIQUE (registered_entry_id, type, value));
CREATE TABLE dns_names (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, registered_entry_id INTEGER,
    value VARCHAR(255), UNIQUE (registered_entry_id, value));
CREATE TABLE federated_registration_entries (
    bundle_id INTEGER, registered_entry_id INTEGER, PRIMARY KEY (bundle_id, registered_entry_id));
CREATE TABLE registered_entries_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, entry_id VARCHAR(255));
CREATE TABLE attested_node_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, spiffe_id VARCHAR(255) UNIQUE,
    data_type VARCHAR(255), serial_number VARCHAR(255), expires_at DATETIME, new_serial_number VARCHAR(255),
    new_expires_at DATETIME, can_reattest BOOL, agent_version VARCHAR(255));
CREATE TABLE attested_node_entries_events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, spiffe_id VARCHAR(255));
CREATE TABLE node_resolver_map_entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, spiffe_id VARCHAR(255),
    type VARCHAR(255), value VARCHAR(255), UNIQUE (spiffe_id, type, value));
CREATE TABLE join_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, token VARCHAR(255) UNIQUE, expiry BIGINT);
CREATE TABLE ca_journals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, created_at DATETIME, updated_at DATETIME, data BLOB,
    active_x509_authority_id VARCHAR(255), active_jwt_authority_id VARCHAR(255));
";

/// What older schemas do not have.
const SINCE: [(i64, &str); 2] = [
    (24, "ALTER TABLE attested_node_entries DROP COLUMN agent_version"),
    (25, "ALTER TABLE registered_entries DROP COLUMN additional_attributes"),
];

/// Rows that every schema has the columns of. Entry 3 has nothing but what it must have.
const ROWS: &str = "
INSERT INTO federated_trust_domains (trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id) VALUES
    ('web.example', 'https://web.example/b', 'https_web', 'spiffe://left.over/x'),
    ('spiffe.example', 'not-valid-endpoint-url%', 'https_spiffe', 'spiffe://spiffe.example/server');
INSERT INTO registered_entries (id, created_at, entry_id, spiffe_id, parent_id, ttl, admin, downstream, expiry,
    revision_number, store_svid, hint, jwt_svid_ttl) VALUES
    (1, '2026-09-01 12:20:30.6+02:00', 'first', 'spiffe://td/first', 'spiffe://td/agent', 600, 1, 0, 1900000000, 7, 0, 'hint', 30),
    (3, NULL, 'bare', '', '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (8, '0001-01-01 00:00:00+00:00', 'Last', 'spiffe://td/last', 'spiffe://td/agent', 0, 0, 1, 0, 0, 1, '', 0);
INSERT INTO selectors (id, registered_entry_id, type, value) VALUES
    (5, 1, 'unix', 'uid:2'), (6, 1, 'unix', 'uid:1'), (7, 8, 'k8s', 'ns:x'), (8, 999, 'unix', 'uid:gone');
INSERT INTO dns_names (registered_entry_id, value) VALUES (1, 'b.example'), (1, 'a.example'), (998, 'gone.example');
INSERT INTO federated_registration_entries (bundle_id, registered_entry_id) VALUES (2, 1), (1, 1), (2, 997), (996, 1);
INSERT INTO registered_entries_events (id, entry_id) VALUES (1, 'first'), (2, 'bare'), (5, 'Last');
INSERT INTO attested_node_entries (id, spiffe_id, data_type, serial_number, expires_at, new_serial_number, new_expires_at,
    can_reattest) VALUES
    (4, 'spiffe://td/agent', 'x509pop', '123456789012345678901234567890', '2026-09-01 10:20:30.999Z', '77', '2026-09-02 10:20:30+00:00', 1),
    (2, 'spiffe://td/banned', 'join_token', '', '2026-09-01 10:20:30', NULL, NULL, NULL);
INSERT INTO node_resolver_map_entries (id, spiffe_id, type, value) VALUES
    (9, 'spiffe://td/agent', 'a', '2'), (3, 'spiffe://td/nobody', 'b', '1'), (10, 'spiffe://td/agent', 'a', '1');
INSERT INTO join_tokens (token, expiry) VALUES ('t-1', 1700000000), ('t-2', 1900000000);
INSERT INTO ca_journals (id, data, active_x509_authority_id) VALUES (2, X'0a00', 'authority-2'), (7, NULL, 'authority-7');
";

/// Bundles of the fixture, in their order.
#[must_use]
pub fn bundles() -> [Bundle; 2] {
    let key = PublicKey { kid: "k".into(), pkix_bytes: vec![1, 2], not_after: 1_900_000_000, ..Default::default() };
    [
        Bundle { trust_domain_id: "spiffe://td".into(), jwt_signing_keys: vec![key], ..Default::default() },
        Bundle { trust_domain_id: "spiffe://web.example".into(), sequence_number: 4, ..Default::default() },
    ]
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(false);
    options.journal_mode(SqliteJournalMode::Wal).connect().await
}

/// Makes a database with all that.
///
/// # Errors
/// When it cannot be written.
pub async fn create(path: &Path, schema: i64) -> Result<(), sqlx::Error> {
    let mut connection = connect(path).await?;
    connection.execute(TABLES).await?;
    connection.execute(ROWS).await?;
    let bundles = bundles().into_iter().map(|bundle| (bundle.trust_domain_id.clone(), bundle.encode_to_vec()));
    for (trust_domain, data) in bundles {
        let insert = "INSERT INTO bundles (trust_domain, data) VALUES (?, ?)";
        sqlx::query(insert).bind(trust_domain).bind(data).execute(&mut connection).await?;
    }
    for (_, removal) in SINCE.into_iter().filter(|(since, _)| schema < *since) {
        connection.execute(removal).await?;
    }
    let version = format!("INSERT INTO migrations (version, code_version) VALUES ({schema}, '1.15.3')");
    connection.execute(AssertSqlSafe(version)).await?;
    connection.close().await
}

/// Adds so many entries with a selector each.
///
/// # Errors
/// When it cannot be written.
pub async fn add_entries(path: &Path, count: u32) -> Result<(), sqlx::Error> {
    let numbers = format!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})");
    let mut connection = connect(path).await?;
    for insert in [
        "INSERT INTO registered_entries (id, entry_id, spiffe_id, parent_id, created_at) SELECT 1000 + i, 'entry-' || i, \
         'spiffe://td/w/' || i, 'spiffe://td/agent', '2026-09-01 10:20:30' FROM n",
        "INSERT INTO selectors (registered_entry_id, type, value) SELECT 1000 + i, 'unix', 'uid:' || i FROM n",
    ] {
        connection.execute(AssertSqlSafe(format!("{numbers} {insert}"))).await?;
    }
    connection.close().await
}

/// Changes a database.
///
/// # Errors
/// When the commands fail.
pub async fn execute(path: &Path, commands: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = connect(path).await?;
    connection.execute(commands).await?;
    connection.close().await
}
