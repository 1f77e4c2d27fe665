//! Why a database cannot be read.

use thiserror::Error;

/// The oldest schema that can be read.
pub(crate) const SCHEMA_MIN: i64 = 23;
/// The newest one.
pub(crate) const SCHEMA_MAX: i64 = 25;

/// Why a database cannot be read.
#[derive(Debug, Error)]
pub enum Error {
    /// The text does not say where the database is.
    #[error("{0}")]
    Location(String),
    /// There is no such file.
    #[error("there is no file {0}")]
    NoFile(String),
    /// The database cannot be reached.
    #[error("cannot open {origin}: {reason}")]
    Open {
        /// Which database.
        origin: String,
        /// Why not.
        reason: sqlx::Error,
    },
    /// It is some other database.
    #[error("{origin} is no database of a SPIRE server: {reason}")]
    Foreign {
        /// Which database.
        origin: String,
        /// How that shows.
        reason: String,
    },
    /// An older server wrote it.
    #[error(
        "{origin} has schema version {found}, versions {SCHEMA_MIN} to {SCHEMA_MAX} can be imported; let a SPIRE server of \
         version 1.15 start once on it, or on a copy: it brings the schema up to date"
    )]
    TooOld {
        /// Which database.
        origin: String,
        /// Its version.
        found: i64,
    },
    /// A newer server wrote it.
    #[error(
        "{origin} has schema version {found}, versions {SCHEMA_MIN} to {SCHEMA_MAX} can be imported; it was written by a \
         newer SPIRE server than this program knows"
    )]
    TooNew {
        /// Which database.
        origin: String,
        /// Its version.
        found: i64,
    },
    /// A query failed.
    #[error("cannot read table {table}: {reason}")]
    Read {
        /// What was read.
        table: &'static str,
        /// Why not.
        reason: sqlx::Error,
    },
}
