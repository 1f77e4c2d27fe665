//! Registration entries (section 7).

pub mod commands;
pub mod errors;
pub mod queries;
pub mod records;
pub mod validation;

#[cfg(test)]
mod tests;

pub use commands::Command;
pub use errors::Error;
