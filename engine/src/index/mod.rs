//! Secondary indexes: exact sets of sequences, in memory, rebuilt from the records.

mod key_map;
mod posting;
pub mod query;
mod select;
mod table_indexes;

pub use query::{Predicate, Query};
pub use table_indexes::TableIndexes;
