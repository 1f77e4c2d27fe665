//! What can be asked about attested nodes.

use crate::spire::pages::PageRequest;
use crate::spire::selectors::SelectorFilter;

/// Conditions on nodes, all of which must hold (4.4). Default selects every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Empty means any.
    pub attestation_type: String,
    /// By whether it is banned.
    pub banned: Option<bool>,
    /// Unix seconds, exclusive; 0 means absent.
    pub expires_before: i64,
    /// Unix seconds, inclusive; 0 means absent.
    pub valid_at: i64,
    /// By the flag.
    pub can_reattest: Option<bool>,
    /// Any of these; empty means any.
    pub spiffe_ids: Vec<String>,
    /// By stored selectors.
    pub selectors: Option<SelectorFilter>,
}

/// A list of nodes (9.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListNodes {
    /// Conditions.
    pub filter: NodeFilter,
    /// Whether to return each node's selectors.
    pub fetch_selectors: bool,
    /// `None` for everything.
    pub page: Option<PageRequest>,
}
