//! What can be asked about federation relationships.

use super::records::{Relationship, StoredRelationship, indexes};
use crate::ids::NamespaceId;
use crate::index::Query;
use crate::spire::bundles::queries::fetch_bundle;
use crate::spire::pages::{PageRequest, PageResponse, Window};
use crate::spire::{Error, federation, tables};
use crate::view::{Reader, ReaderExtension, Record};

/// Part of the list of federation relationships.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RelationshipPage {
    /// In creation order, each with its current bundle.
    pub relationships: Vec<Relationship>,
    /// Absent when the request named no page.
    pub page: Option<PageResponse>,
}

/// The relationship with a trust domain, with its current bundle (12.3).
///
/// # Errors
/// When the trust domain is empty or the state cannot be read.
pub fn fetch_relationship(
    reader: &dyn Reader,
    namespace: NamespaceId,
    trust_domain: &str,
) -> Result<Option<Relationship>, Error> {
    if trust_domain.is_empty() {
        return Err(federation::Error::TrustDomainRequired.into());
    }
    let key = trust_domain.as_bytes();
    let record = reader.get_by_key(namespace, tables::FEDERATION, indexes::TRUST_DOMAIN, key)?;
    record.map(|record| relationship(reader, namespace, &record)).transpose()
}

/// Relationships in creation order (12.4).
///
/// # Errors
/// When the page request is wrong or the state cannot be read.
pub fn list_relationships(
    reader: &dyn Reader,
    namespace: NamespaceId,
    page: Option<&PageRequest>,
) -> Result<RelationshipPage, Error> {
    let window = Window::new(page)?;
    let records = reader.records(namespace, tables::FEDERATION, &Query::all(), window.after, window.limit)?;
    let page = window.response(records.last().map(|record| record.sequence));
    let relationships = records.iter().map(|record| relationship(reader, namespace, record));
    Ok(RelationshipPage { relationships: relationships.collect::<Result<_, _>>()?, page })
}

fn relationship(reader: &dyn Reader, namespace: NamespaceId, record: &Record) -> Result<Relationship, Error> {
    let stored = StoredRelationship::decode(&record.body)?;
    let bundle = fetch_bundle(reader, namespace, &stored.bundle_id())?;
    Ok(stored.with_bundle(bundle))
}
