//! Reads the SQL databases of SPIRE servers: SQLite, PostgreSQL and MySQL, as records that Steeple takes over.
//!
//! Only reads, and within one transaction, so that everything comes from one moment. What a column means is the schema of
//! SPIRE v1.8.0 to v1.15; what a database cannot have been meant to hold (children of deleted rows) is left out and counted.

mod columns;
mod connection;
mod error;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
mod location;
mod reader;
mod source;
mod times;

pub use error::Error;
pub use location::{Location, ZoneOffset};
pub use source::{Found, Source, TableCount};
