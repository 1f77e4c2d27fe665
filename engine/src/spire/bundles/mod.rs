//! Trust bundles and their authorities (specification sections 5 and 6).

pub mod commands;
pub mod errors;
pub mod queries;
pub mod records;

pub use commands::Command;
pub use errors::Error;
