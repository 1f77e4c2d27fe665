//! Queries over the tables of SPIRE's schema, in the words of each kind of database.

/// Which words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
    MySql,
}

/// What a column holds. Each kind arrives in one form, whatever the database calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A 64-bit number.
    Number,
    /// A number that is 0 or not.
    Flag,
    Text,
    Bytes,
    /// Microseconds since the Unix epoch, as a number or as a text to be read.
    Time,
}

/// A column, and what it holds.
pub(crate) type Column = (&'static str, Kind);

impl Dialect {
    /// The expression for a column so that its values arrive in the form of their kind.
    fn expression(self, (name, kind): Column) -> String {
        match (self, kind) {
            (Self::Sqlite, Kind::Number | Kind::Flag) => format!("CAST({name} AS INTEGER)"),
            (Self::Sqlite, Kind::Text | Kind::Time) => format!("CAST({name} AS TEXT)"),
            (Self::Sqlite, Kind::Bytes) => format!("CAST({name} AS BLOB)"),
            // Flags become numbers by way of short ones only.
            (Self::Postgres, Kind::Flag) => format!("CAST(CAST({name} AS integer) AS bigint)"),
            (Self::Postgres, Kind::Number) => format!("CAST({name} AS bigint)"),
            (Self::Postgres, Kind::Text) => format!("CAST({name} AS text)"),
            (Self::Postgres, Kind::Time) => format!("CAST(EXTRACT(EPOCH FROM {name}) * 1000000 AS bigint)"),
            (Self::MySql, Kind::Number | Kind::Flag) => format!("CAST({name} AS SIGNED)"),
            (Self::MySql, Kind::Text | Kind::Time) => format!("CONVERT({name} USING utf8mb4)"),
            (Self::Postgres | Self::MySql, Kind::Bytes) => name.to_owned(),
        }
    }

    /// Selects columns; `rest` is all that comes behind them.
    pub(crate) fn select(self, columns: &[Column], rest: &str) -> String {
        let columns: Vec<_> = columns.iter().map(|column| self.expression(*column)).collect();
        format!("SELECT {} {rest}", columns.join(", "))
    }

    /// Text in an order in which only equal texts are together: some collations take different ones for equal.
    pub(crate) fn exactly(self, name: &str) -> String {
        match self {
            Self::MySql => format!("CAST({name} AS BINARY)"),
            Self::Sqlite | Self::Postgres => name.to_owned(),
        }
    }

    /// What begins a transaction that only reads, and in which everything is as at its beginning.
    pub(crate) fn begin(self) -> &'static [&'static str] {
        match self {
            Self::Sqlite => &["BEGIN"],
            Self::Postgres => &["BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"],
            Self::MySql => &[
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
                "START TRANSACTION WITH CONSISTENT SNAPSHOT",
            ],
        }
    }
}
