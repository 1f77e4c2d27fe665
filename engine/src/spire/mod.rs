//! The SPIRE datastore.
//!
//! One folder per collection, each made of the same parts: `records` (what is stored and how it is indexed),
//! `commands` (what can be asked to change, and `decide`), `queries`, `errors`. The contract is SPIRE's own
//! datastore interface; where we differ on purpose, `docs/spire.md` says so.

pub mod bundles;
pub mod entries;
pub mod events;
pub mod federation;
pub mod imports;
pub mod journals;
pub mod limits;
pub mod nodes;
pub mod notices;
pub mod pages;
pub mod selectors;
pub mod tokens;

#[cfg(test)]
mod ahead_of_commit_tests;
#[cfg(test)]
mod fixture;

mod answer;
mod command;
mod error;

pub use answer::{Answer, AnswerSource};
pub use command::Command;
pub use error::{Code, Error};

use crate::ids::{StreamId, TableId};
use crate::table::{StreamDefinition, TableDefinition};

/// Numbers of the tables, part of the disk format.
pub mod tables {
    use super::TableId;

    /// Trust bundles.
    pub const BUNDLES: TableId = TableId(10);
    /// Registration entries.
    pub const ENTRIES: TableId = TableId(11);
    /// Attested nodes.
    pub const NODES: TableId = TableId(12);
    /// Selectors of a node, one record per SPIFFE ID.
    pub const NODE_SELECTORS: TableId = TableId(13);
    /// Join tokens.
    pub const JOIN_TOKENS: TableId = TableId(14);
    /// Federation relationships.
    pub const FEDERATION: TableId = TableId(15);
    /// CA journals.
    pub const CA_JOURNALS: TableId = TableId(16);
    /// How far an import came.
    pub const IMPORTS: TableId = TableId(17);
}

/// Changes to registration entries, keyed by entry id.
pub const REGISTRATIONS: StreamId = StreamId(1);
/// Changes to attested nodes and their selectors, keyed by SPIFFE ID.
pub const NODES: StreamId = StreamId(2);

/// Index key of a flag, so that both of its values can be asked for.
#[must_use]
pub fn flag_key(flag: bool) -> [u8; 1] {
    [u8::from(flag)]
}

/// The domain's tables.
pub const TABLES: &[&TableDefinition] = &[
    &bundles::records::TABLE,
    &entries::records::TABLE,
    &nodes::records::TABLE,
    &nodes::records::SELECTORS_TABLE,
    &tokens::records::TABLE,
    &federation::records::TABLE,
    &journals::records::TABLE,
    &imports::records::TABLE,
];

/// The domain's streams.
pub const STREAMS: &[&StreamDefinition] =
    &[&StreamDefinition { id: REGISTRATIONS, name: "registrations" }, &StreamDefinition { id: NODES, name: "nodes" }];
