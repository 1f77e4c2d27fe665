//! Federation relationships (section 12).

pub mod commands;
pub mod errors;
pub mod limits;
pub mod queries;
pub mod records;

pub use commands::Command;
pub use errors::Error;

#[cfg(test)]
mod tests;
