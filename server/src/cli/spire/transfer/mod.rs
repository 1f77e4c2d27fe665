//! `steeple spire import`, `verify` and `export`: moving all records of a namespace in and out.

mod compare;
mod export;
mod import;
mod judge;
mod kind;
mod lines;
mod origin;
mod progress;
mod target;

#[cfg(all(test, feature = "sql"))]
mod tests;

pub(in crate::cli) use export::ExportArgs;
pub(in crate::cli) use import::{ImportArgs, VerifyArgs};

pub(super) use export::run as export;
pub(super) use import::{run as import, verify};
