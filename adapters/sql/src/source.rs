//! A database of a SPIRE server.

use steeple_wire::spire::v1::ImportedRecord;

use crate::columns::Kind;
use crate::connection::{Connection, Value};
use crate::error::{SCHEMA_MAX, SCHEMA_MIN};
use crate::{Error, Location, ZoneOffset};

/// What there is in a database.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A record to take over.
    Record(ImportedRecord),
    /// A row that is no record.
    Unreadable {
        /// Which row.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows that belong to something which is not there any more. A server does not show them either.
    Orphans {
        /// Their table.
        table: &'static str,
        /// How many there are.
        rows: u64,
    },
}

/// How many rows a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableCount {
    /// Its name.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
}

/// A database of a SPIRE server, as it was when it was opened.
#[derive(Debug)]
pub struct Source {
    pub(crate) connection: Connection,
    pub(crate) schema: i64,
    pub(crate) zone: ZoneOffset,
    code_version: String,
    origin: String,
}

/// Tables with a row for each thing, in the order in which they are read.
const TABLES: [&str; 11] = [
    "bundles",
    "federated_trust_domains",
    "registered_entries",
    "selectors",
    "dns_names",
    "federated_registration_entries",
    "attested_node_entries",
    "node_resolver_map_entries",
    "join_tokens",
    "ca_journals",
    // What changed, for the caches of servers: stays behind.
    "registered_entries_events",
];

impl Source {
    /// Opens a database and looks whether it can be imported. `zone` is that of times which do not say it themselves.
    ///
    /// # Errors
    /// When it cannot be reached, is not SPIRE's, or has a schema that is not known here.
    pub async fn open(location: &Location, zone: ZoneOffset) -> Result<Self, Error> {
        let mut connection = Connection::open(location).await?;
        let origin = location.describe();
        let foreign = |reason: String| Error::Foreign { origin: origin.clone(), reason };
        let columns = [("version", Kind::Number), ("code_version", Kind::Text)];
        let versions = connection.rows("migrations", &columns, "FROM migrations").await;
        let versions = versions.map_err(|error| foreign(error.to_string()))?;
        let [row] = versions.as_slice() else {
            return Err(foreign(format!("its table migrations has {} rows", versions.len())));
        };
        let [Value::Number(schema), code_version] = row.as_slice() else {
            return Err(foreign("its table migrations has no version".into()));
        };
        let code_version = match code_version {
            Value::Text(version) => version.clone(),
            _ => String::new(),
        };
        match *schema {
            found if found < SCHEMA_MIN => Err(Error::TooOld { origin, found }),
            found if found > SCHEMA_MAX => Err(Error::TooNew { origin, found }),
            schema => Ok(Self { connection, schema, zone, code_version, origin }),
        }
    }

    /// Which database it is, without a password.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The version of its schema.
    #[must_use]
    pub fn schema_version(&self) -> i64 {
        self.schema
    }

    /// The version of the server that wrote it last.
    #[must_use]
    pub fn code_version(&self) -> &str {
        &self.code_version
    }

    /// How many rows each table has.
    ///
    /// # Errors
    /// When a query fails.
    pub async fn counts(&mut self) -> Result<Vec<TableCount>, Error> {
        let mut counts = Vec::new();
        for table in TABLES.into_iter().chain(["attested_node_entries_events"]) {
            counts.push(TableCount { table, rows: self.count(table, table).await? });
        }
        Ok(counts)
    }

    /// How many rows `from` has; `table` is for errors.
    pub(crate) async fn count(&mut self, table: &'static str, from: &str) -> Result<u64, Error> {
        let rows = self.connection.rows(table, &[("COUNT(*)", Kind::Number)], &format!("FROM {from}")).await?;
        match rows.first().and_then(|row| row.first()) {
            Some(Value::Number(count)) => Ok(u64::try_from(*count).unwrap_or(0)),
            _ => Ok(0),
        }
    }

    /// Takes leave.
    pub async fn close(self) {
        // It was only read: nothing is lost with a connection that breaks off.
        let _ = self.connection.close().await;
    }
}
