//! The datastore's calls, one method each.

pub(crate) mod bundles;
pub(crate) mod entries;
pub(crate) mod federation;
pub(crate) mod imports;
pub(crate) mod journals;
pub(crate) mod nodes;
pub(crate) mod tokens;

/// A page of `size` records behind `token` (empty for the beginning).
pub(crate) fn page(token: &str, size: i32) -> Option<steeple_wire::spire::v1::Pagination> {
    Some(steeple_wire::spire::v1::Pagination { token: token.to_owned(), page_size: size })
}
