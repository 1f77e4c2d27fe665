//! Trust bundles and their authorities (specification sections 5 and 6).

pub mod certificates;
pub mod commands;
pub mod errors;
pub mod limits;
pub mod queries;
pub mod records;

mod authorities;
mod deletion;
mod pruning;

pub use commands::Command;
pub use errors::Error;

#[cfg(test)]
mod tests;
