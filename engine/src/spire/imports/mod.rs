//! Taking over the records of another datastore: an SQL database of a SPIRE server, or an export.
//!
//! An import is a line of batches into a namespace that never held anything. Records come with what the other store had
//! chosen (ids, creation times, revision numbers, numbers of CA journals), so they are taken as facts: nothing is checked
//! but what this store could not hold. A marker record says which import it is and how far it came, so that one that broke off
//! goes on and none is doubled; until it is complete the namespace takes no other command.

pub mod commands;
mod errors;
pub mod queries;
pub mod records;

#[cfg(test)]
mod tests;

pub use commands::{Batch, Command, Record};
pub use errors::Error;
