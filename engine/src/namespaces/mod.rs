//! Namespaces: independent data sets inside one group, each under a name.
//!
//! The list of namespaces lives in the system namespace. A namespace's id is the number of its record there;
//! numbers are never used twice, so the sequences and cursors of a deleted namespace never come back to life
//! under a namespace that is later opened by the same name.
//!
//! An event belongs to one namespace, so deleting one takes two commands: [`Command::Clear`] in the namespace,
//! repeated until nothing is left, and [`Command::Delete`] in the system namespace.

pub mod commands;
pub mod errors;
pub mod queries;
pub mod records;

pub use commands::{Answer, Command};
pub use errors::Error;

#[cfg(test)]
mod tests;
