//! Secondary indexes: exact sets of sequences, in memory, rebuilt from the records.

mod filling;
mod index_set;
mod key_map;
mod keys;
mod number_map;
mod posting;
pub mod query;
mod select;
mod table_indexes;

pub(crate) use filling::{KeysOfMany, Part};
pub use index_set::IndexSet;
pub(crate) use keys::Keys;
pub use query::{Predicate, Query};
pub use table_indexes::TableIndexes;
