//! What can be asked about bundles.

use super::records::{Bundle, indexes};
use crate::ids::NamespaceId;
use crate::index::Query;
use crate::spire::pages::{PageRequest, PageResponse, Window};
use crate::spire::{Error, tables};
use crate::view::{Reader, ReaderExtension};

/// Part of the list of bundles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BundlePage {
    /// In creation order.
    pub bundles: Vec<Bundle>,
    /// Absent when the request named no page.
    pub page: Option<PageResponse>,
}

/// The bundle of a trust domain (5.2).
///
/// # Errors
/// When the state cannot be read.
pub fn fetch_bundle(
    reader: &dyn Reader,
    namespace: NamespaceId,
    trust_domain_id: &str,
) -> Result<Option<Bundle>, Error> {
    let key = trust_domain_id.as_bytes();
    let record = reader.get_by_key(namespace, tables::BUNDLES, indexes::TRUST_DOMAIN_ID, key)?;
    Ok(record.map(|record| Bundle::decode(&record.body)).transpose()?)
}

/// Bundles in creation order (5.4).
///
/// # Errors
/// When the page request is wrong or the state cannot be read.
pub fn list_bundles(
    reader: &dyn Reader,
    namespace: NamespaceId,
    page: Option<&PageRequest>,
) -> Result<BundlePage, Error> {
    let window = Window::new(page)?;
    let records = reader.records(namespace, tables::BUNDLES, &Query::all(), window.after, window.limit)?;
    let page = window.response(records.last().map(|record| record.sequence));
    let bundles = records.iter().map(|record| Bundle::decode(&record.body)).collect::<Result<_, _>>()?;
    Ok(BundlePage { bundles, page })
}

/// How many bundles there are (5.3).
#[must_use]
pub fn count_bundles(reader: &dyn Reader, namespace: NamespaceId) -> u64 {
    reader.count(namespace, tables::BUNDLES, &Query::all())
}
