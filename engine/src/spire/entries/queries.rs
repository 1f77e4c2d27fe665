//! What can be asked about registration entries.

use crate::spire::pages::PageRequest;
use crate::spire::selectors::{Match, SelectorFilter};

/// Conditions on entries, all of which must hold (4.3). Default selects every entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Empty means any.
    pub parent_id: String,
    /// Empty means any.
    pub spiffe_id: String,
    /// Empty means any.
    pub hint: String,
    /// By selectors.
    pub selectors: Option<SelectorFilter>,
    /// By federated trust domain ids; an empty list means any.
    pub federates_with: Option<(Match, Vec<String>)>,
    /// By the flag.
    pub downstream: Option<bool>,
}

/// A list of entries (7.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListEntries {
    /// Conditions.
    pub filter: EntryFilter,
    /// `None` for everything.
    pub page: Option<PageRequest>,
}
