//! Attested nodes and node selectors (sections 9 and 10).

pub mod commands;
pub mod errors;
pub mod queries;
pub mod records;

#[cfg(test)]
mod tests;

pub use commands::Command;
pub use errors::Error;
