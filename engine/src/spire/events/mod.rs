//! The two event streams as SPIRE reads them (section 8).

pub mod commands;
pub mod errors;
pub mod queries;

#[cfg(test)]
mod tests;

pub use commands::Command;
pub use errors::Error;
