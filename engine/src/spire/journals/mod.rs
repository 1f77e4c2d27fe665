//! CA journals (section 13).

pub mod commands;
pub mod errors;
pub mod limits;
pub mod queries;
pub mod records;

mod content;

pub use commands::Command;
pub use errors::Error;

#[cfg(test)]
mod tests;
