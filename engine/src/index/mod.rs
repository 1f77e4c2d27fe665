//! Secondary indexes: exact sets of sequences, in memory, rebuilt from the records.

pub mod query;

pub use query::{Predicate, Query};
