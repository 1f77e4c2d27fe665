//! Between messages of the protocol and types of the engine. One module for each collection; `from_wire` takes what a
//! client sent, `to_wire` makes what it gets.

pub(crate) mod answers;
pub(crate) mod bundles;
pub(crate) mod entries;
pub(crate) mod federation;
pub(crate) mod filters;
pub(crate) mod imports;
pub(crate) mod journals;
pub(crate) mod nodes;
pub(crate) mod records;
pub(crate) mod times;
pub(crate) mod tokens;

#[cfg(test)]
mod tests;
