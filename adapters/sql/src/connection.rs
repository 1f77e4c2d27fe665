//! One connection, whichever database it leads to.

use std::path::Path;

use futures_util::TryStreamExt;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{
    AssertSqlSafe, ColumnIndex, ConnectOptions, Connection as _, Database, Decode, Executor, MySqlConnection,
    PgConnection, SqliteConnection, Type,
};

use crate::columns::{Column, Dialect, Kind};
use crate::{Error, Location};

/// One value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The values of a row, in the order of the columns that were asked for.
pub(crate) type Row = Vec<Value>;

/// One connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MySql(MySqlConnection),
}

impl Connection {
    /// Connects, only to read.
    pub(crate) async fn open(location: &Location) -> Result<Self, Error> {
        let opened = match location {
            Location::Sqlite(path) => open_file(path).await?.map(Self::Sqlite),
            Location::Postgres(options) => options.connect().await.map(Self::Postgres),
            Location::MySql(options) => options.connect().await.map(Self::MySql),
        };
        let failed = |reason| Error::Open { origin: location.describe(), reason };
        let mut connection = opened.map_err(failed)?;
        for command in connection.dialect().begin() {
            connection.execute(command).await.map_err(failed)?;
        }
        Ok(connection)
    }

    /// The words that it understands.
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
            Self::MySql(_) => Dialect::MySql,
        }
    }

    async fn execute(&mut self, command: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.execute(command).await.map(drop),
            Self::Postgres(connection) => connection.execute(command).await.map(drop),
            Self::MySql(connection) => connection.execute(command).await.map(drop),
        }
    }

    /// Hands every row of a query over, one by one. `table` is for errors.
    pub(crate) async fn each<E: From<Error>>(
        &mut self,
        table: &'static str,
        columns: &[Column],
        rest: &str,
        mut take: impl AsyncFnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = self.dialect().select(columns, rest);
        let failed = |reason| Error::Read { table, reason };
        // Nothing that comes from outside is ever part of a query: only names and numbers of our own.
        macro_rules! each {
            ($connection:expr) => {{
                let mut rows = sqlx::query(AssertSqlSafe(query)).persistent(false).fetch($connection);
                while let Some(row) = rows.try_next().await.map_err(failed)? {
                    take(values(&row, columns).map_err(failed)?).await?;
                }
            }};
        }
        match self {
            Self::Sqlite(connection) => each!(connection),
            Self::Postgres(connection) => each!(connection),
            Self::MySql(connection) => each!(connection),
        }
        Ok(())
    }

    /// All rows of a query, for those that are few.
    pub(crate) async fn rows(
        &mut self,
        table: &'static str,
        columns: &[Column],
        rest: &str,
    ) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        self.each(table, columns, rest, async |row| {
            rows.push(row);
            Ok::<(), Error>(())
        })
        .await?;
        Ok(rows)
    }

    /// Takes leave.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
            Self::MySql(connection) => connection.close().await,
        }
    }
}

/// Opens a file; one that nobody may write beside, and that no server left open, as one that does not change.
async fn open_file(path: &Path) -> Result<Result<SqliteConnection, sqlx::Error>, Error> {
    if !path.is_file() {
        return Err(Error::NoFile(path.display().to_string()));
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true).create_if_missing(false);
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let opened = readable(&options).await;
    Ok(if opened.is_err() && !Path::new(&log).exists() { readable(&options.immutable(true)).await } else { opened })
}

/// Whether a file can be read shows only when it is.
async fn readable(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    connection.execute("SELECT COUNT(*) FROM sqlite_master").await?;
    Ok(connection)
}

fn values<R>(row: &R, columns: &[Column]) -> Result<Row, sqlx::Error>
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    columns.iter().enumerate().map(|(place, (_, kind))| value(row, place, *kind)).collect()
}

fn value<R>(row: &R, place: usize, kind: Kind) -> Result<Value, sqlx::Error>
where
    R: sqlx::Row,
    usize: ColumnIndex<R>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    let is_number = match kind {
        Kind::Number | Kind::Flag => true,
        // A text in some databases and a number in others.
        Kind::Time => <R::Database as Database>::NAME == sqlx::Postgres::NAME,
        Kind::Text | Kind::Bytes => false,
    };
    Ok(if is_number {
        row.try_get::<Option<i64>, _>(place)?.map_or(Value::Null, Value::Number)
    } else if kind == Kind::Bytes {
        row.try_get::<Option<Vec<u8>>, _>(place)?.map_or(Value::Null, Value::Bytes)
    } else {
        row.try_get::<Option<String>, _>(place)?.map_or(Value::Null, Value::Text)
    })
}
