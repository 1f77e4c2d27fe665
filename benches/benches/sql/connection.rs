//! Connections to PostgreSQL and to SQLite, and the rows that come back.

use futures_util::TryStreamExt;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo};
use sqlx::{AssertSqlSafe, ColumnIndex, Decode, PgPool, Postgres, Row, Sqlite, SqlitePool, Type};
use steeple_client::types::{RegistrationEntry, Selector};

use crate::statements::{Dialect, Moment, Statement, Value, column};
use crate::times;

/// The type of times in PostgreSQL.
const TIMESTAMP_WITH_TIME_ZONE: Oid = Oid(1184);

/// Where PostgreSQL's time begins, in microseconds since the Unix epoch.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// Connections, as many as there are callers up to a limit.
#[derive(Clone, Debug)]
pub(crate) enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// One that is in use.
pub(crate) enum Connection {
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

/// How SPIRE gets its statements to the database: kept prepared by each connection, or prepared each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preparing {
    Once,
    EachTime,
}

/// A statement of sqlx's, for either database.
macro_rules! query {
    ($statement:expr, $preparing:expr) => {{
        // All texts are of our own; what could be somebody's is in the values.
        let mut query = sqlx::query(AssertSqlSafe($statement.text.as_str())).persistent($preparing == Preparing::Once);
        for value in &$statement.values {
            query = match *value {
                Value::Text(text) => query.bind(text),
                Value::Integer(number) => query.bind(number),
                Value::Long(number) => query.bind(number),
                Value::Flag(flag) => query.bind(flag),
                Value::Bytes(bytes) => query.bind(bytes),
                Value::NoBytes => query.bind(None::<Vec<u8>>),
                Value::Moment(moment) => query.bind(moment),
            };
        }
        query
    }};
}

impl Pool {
    /// A connection that nobody else uses.
    pub(crate) async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        Ok(match self {
            Self::Postgres(pool) => Connection::Postgres(pool.acquire().await?),
            Self::Sqlite(pool) => Connection::Sqlite(pool.acquire().await?),
        })
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(_) => Dialect::Sqlite,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Postgres(pool) => pool.close().await,
            Self::Sqlite(pool) => pool.close().await,
        }
    }
}

impl Connection {
    /// Carries out statements without places.
    pub(crate) async fn command(&mut self, text: &str) -> Result<(), sqlx::Error> {
        let text = AssertSqlSafe(text);
        match self {
            Self::Postgres(connection) => sqlx::raw_sql(text).execute(&mut **connection).await.map(drop),
            Self::Sqlite(connection) => sqlx::raw_sql(text).execute(&mut **connection).await.map(drop),
        }
    }

    /// Carries out a statement; how many rows it changed.
    pub(crate) async fn run(&mut self, statement: &Statement<'_>, preparing: Preparing) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Postgres(connection) => {
                query!(statement, preparing).execute(&mut **connection).await?.rows_affected()
            }
            Self::Sqlite(connection) => query!(statement, preparing).execute(&mut **connection).await?.rows_affected(),
        })
    }

    /// Adds a record; the number of its row.
    pub(crate) async fn insert(&mut self, statement: &Statement<'_>, preparing: Preparing) -> Result<i32, sqlx::Error> {
        match self {
            Self::Postgres(connection) => {
                query!(statement, preparing).fetch_one(&mut **connection).await?.try_get_unchecked(0)
            }
            Self::Sqlite(connection) => {
                let number = query!(statement, preparing).execute(&mut **connection).await?.last_insert_rowid();
                i32::try_from(number).map_err(|error| sqlx::Error::Decode(error.into()))
            }
        }
    }

    /// The texts in some columns of all rows.
    pub(crate) async fn texts(
        &mut self,
        statement: &Statement<'_>,
        columns: &[usize],
        preparing: Preparing,
    ) -> Result<Vec<Vec<String>>, sqlx::Error> {
        let mut texts = Vec::new();
        match self {
            Self::Postgres(connection) => {
                let mut rows = query!(statement, preparing).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    texts.push(texts_of(&row, columns)?);
                }
            }
            Self::Sqlite(connection) => {
                let mut rows = query!(statement, preparing).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    texts.push(texts_of(&row, columns)?);
                }
            }
        }
        Ok(texts)
    }

    /// The numbers in the first column of all rows; 0 for those without.
    pub(crate) async fn numbers(
        &mut self,
        statement: &Statement<'_>,
        preparing: Preparing,
    ) -> Result<Vec<i32>, sqlx::Error> {
        let mut numbers = Vec::new();
        match self {
            Self::Postgres(connection) => {
                let mut rows = query!(statement, preparing).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    numbers.push(row.try_get_unchecked::<Option<i32>, _>(0)?.unwrap_or_default());
                }
            }
            Self::Sqlite(connection) => {
                let mut rows = query!(statement, preparing).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    numbers.push(row.try_get_unchecked::<Option<i32>, _>(0)?.unwrap_or_default());
                }
            }
        }
        Ok(numbers)
    }

    /// The entries that the rows of a list are about, in their order, and the number of the last one's row.
    pub(crate) async fn entries(
        &mut self,
        statement: &Statement<'_>,
        preparing: Preparing,
    ) -> Result<(Vec<RegistrationEntry>, Option<i32>), sqlx::Error> {
        let mut gathered = Gathered::default();
        match self {
            Self::Postgres(connection) => {
                let mut rows = query!(statement, preparing).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    let created_at = |row: &sqlx::postgres::PgRow| {
                        let micros = row.try_get_unchecked::<i64, _>(column::CREATED_AT)? + POSTGRES_EPOCH_MICROS;
                        Ok(times::rounded_seconds(micros))
                    };
                    gathered.take(&row, created_at)?;
                }
            }
            Self::Sqlite(connection) => {
                let mut rows = query!(statement, preparing).fetch(&mut **connection);
                while let Some(row) = rows.try_next().await? {
                    let created_at = |row: &sqlx::sqlite::SqliteRow| {
                        let text = row.try_get_unchecked::<&str, _>(column::CREATED_AT)?;
                        let micros = times::parse(text).ok_or_else(|| sqlx::Error::Decode("not a time".into()))?;
                        Ok(times::rounded_seconds(micros))
                    };
                    gathered.take(&row, created_at)?;
                }
            }
        }
        Ok(gathered.finish())
    }
}

fn texts_of<R>(row: &R, columns: &[usize]) -> Result<Vec<String>, sqlx::Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database>,
{
    columns.iter().map(|place| row.try_get_unchecked::<String, _>(*place)).collect()
}

/// Entries, of which the last one may still get rows.
#[derive(Default)]
struct Gathered {
    entries: Vec<RegistrationEntry>,
    current: Option<(i32, RegistrationEntry)>,
}

impl Gathered {
    /// Takes a row of a list.
    fn take<R>(&mut self, row: &R, created_at: impl Fn(&R) -> Result<i64, sqlx::Error>) -> Result<(), sqlx::Error>
    where
        R: Row,
        usize: ColumnIndex<R>,
        for<'r> i32: Decode<'r, R::Database>,
        for<'r> i64: Decode<'r, R::Database>,
        for<'r> bool: Decode<'r, R::Database>,
        for<'r> String: Decode<'r, R::Database>,
    {
        let id: i32 = row.try_get_unchecked(column::ID)?;
        if self.current.as_ref().is_none_or(|(current, _)| *current != id) {
            self.push();
            self.current = Some((id, RegistrationEntry::default()));
        }
        let Some((_, entry)) = &mut self.current else { return Ok(()) };
        let text = |place| row.try_get_unchecked::<Option<String>, _>(place);
        if let Some(entry_id) = text(column::ENTRY_ID)? {
            entry.entry_id = entry_id;
            entry.spiffe_id = row.try_get_unchecked(column::SPIFFE_ID)?;
            entry.parent_id = row.try_get_unchecked(column::PARENT_ID)?;
            entry.x509_svid_ttl = row.try_get_unchecked(column::TTL)?;
            entry.admin = row.try_get_unchecked(column::ADMIN)?;
            entry.downstream = row.try_get_unchecked(column::DOWNSTREAM)?;
            entry.entry_expiry = row.try_get_unchecked(column::EXPIRY)?;
            entry.store_svid = row.try_get_unchecked(column::STORE_SVID)?;
            entry.hint = row.try_get_unchecked(column::HINT)?;
            entry.created_at = created_at(row)?;
            entry.revision_number = row.try_get_unchecked(column::REVISION)?;
            entry.jwt_svid_ttl = row.try_get_unchecked(column::JWT_TTL)?;
        } else if let Some(kind) = text(column::SELECTOR_TYPE)? {
            let value = row.try_get_unchecked(column::SELECTOR_VALUE)?;
            entry.selectors.push(Selector { r#type: kind, value });
        } else if let Some(name) = text(column::DNS_NAME)? {
            entry.dns_names.push(name);
        } else if let Some(trust_domain) = text(column::TRUST_DOMAIN)? {
            entry.federates_with.push(trust_domain);
        }
        Ok(())
    }

    /// Rows without an entry are what is left of a deleted one.
    fn push(&mut self) {
        let current = self.current.take().map(|(_, entry)| entry);
        self.entries.extend(current.filter(|entry| !entry.entry_id.is_empty()));
    }

    fn finish(mut self) -> (Vec<RegistrationEntry>, Option<i32>) {
        let last = self.current.as_ref().map(|(id, _)| *id);
        self.push();
        (self.entries, last)
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMP_WITH_TIME_ZONE)
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<'_, Postgres>>::encode(self.0 - POSTGRES_EPOCH_MICROS, buffer)
    }
}

impl Type<Sqlite> for Moment {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for Moment {
    fn encode_by_ref(&self, values: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        <String as Encode<'_, Sqlite>>::encode(times::format(self.0), values)
    }
}
