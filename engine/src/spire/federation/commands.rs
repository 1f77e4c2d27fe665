//! What can be asked of federation relationships.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::{PROFILE_HTTPS_SPIFFE, PROFILE_HTTPS_WEB, Relationship, StoredRelationship, indexes};
use super::{Error, limits};
use crate::spire::bundles::records::Bundle;
use crate::spire::{Answer, AnswerSource, bundles, tables};
use crate::transaction::{ChangeError, Transaction};
use crate::view::{ReaderExtension, Record};

/// A change to federation relationships.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 12.2; `None` stands for a request without relationship.
    Create(Option<Relationship>),
    /// 12.5; no mask means all fields.
    Update(Option<Relationship>, Option<RelationshipMask>),
    /// 12.6
    Delete {
        /// Which relationship.
        trust_domain: String,
    },
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct RelationshipMask {
    pub bundle_endpoint_url: bool,
    pub bundle_endpoint_profile: bool,
    pub trust_domain_bundle: bool,
}

impl Command {
    /// Checks the command against the state and notes what it changes.
    ///
    /// # Errors
    /// When the command is refused.
    pub fn decide(&self, transaction: &mut Transaction<'_>) -> Result<AnswerSource, crate::spire::Error> {
        let answer = match self {
            Self::Create(relationship) => create(transaction, relationship.as_ref()),
            Self::Update(relationship, mask) => update(transaction, relationship.as_ref(), *mask),
            Self::Delete { trust_domain } => delete(transaction, trust_domain),
        }?;
        Ok(AnswerSource::Inline(answer))
    }
}

impl RelationshipMask {
    /// Every field.
    pub const ALL: Self = Self { bundle_endpoint_url: true, bundle_endpoint_profile: true, trust_domain_bundle: true };
}

/// 12.2: answers the request as it came, and not what is stored.
fn create(transaction: &mut Transaction<'_>, relationship: Option<&Relationship>) -> Result<Answer, Error> {
    let relationship = validate(relationship, RelationshipMask::ALL)?;
    if let Some(bundle) = &relationship.bundle {
        bundles::commands::set_within(transaction, bundle)?;
    }
    let mut stored = StoredRelationship { trust_domain: relationship.trust_domain.clone(), ..Default::default() };
    apply(&mut stored, relationship, RelationshipMask::ALL);
    match transaction.insert(tables::FEDERATION, stored.encode()) {
        Ok(_) => Ok(Answer::Relationship(relationship.clone())),
        Err(ChangeError::Duplicate { .. }) => Err(Error::AlreadyExists),
        Err(error) => Err(error.into()),
    }
}

/// 12.5
fn update(
    transaction: &mut Transaction<'_>,
    relationship: Option<&Relationship>,
    mask: Option<RelationshipMask>,
) -> Result<Answer, Error> {
    let mask = mask.unwrap_or(RelationshipMask::ALL);
    let relationship = validate(relationship, mask)?;
    let record = find(transaction, &relationship.trust_domain)?.ok_or(Error::UpdateNotFound)?;
    let mut stored = StoredRelationship::decode(&record.body)?;
    apply(&mut stored, relationship, mask);
    let body = stored.encode();
    if record.body != body {
        transaction.update(tables::FEDERATION, &record, body)?;
    }
    let new_bundle = relationship.bundle.as_ref().filter(|_| mask.trust_domain_bundle);
    if let Some(bundle) = new_bundle {
        bundles::commands::set_within(transaction, bundle)?;
    }
    let bundle = current_bundle(transaction, &stored, new_bundle)?;
    Ok(Answer::Relationship(stored.with_bundle(bundle)))
}

/// 12.6: the bundle stays.
fn delete(transaction: &mut Transaction<'_>, trust_domain: &str) -> Result<Answer, Error> {
    if trust_domain.is_empty() {
        return Err(Error::TrustDomainRequired);
    }
    let record = find(transaction, trust_domain)?.ok_or(Error::NotFound)?;
    transaction.delete(tables::FEDERATION, &record);
    Ok(Answer::Nothing)
}

/// 12.1, in this order; fields out of the mask may be anything.
fn validate(relationship: Option<&Relationship>, mask: RelationshipMask) -> Result<&Relationship, Error> {
    let relationship = relationship.ok_or(Error::Missing)?;
    if relationship.trust_domain.is_empty() {
        return Err(Error::TrustDomainRequired);
    }
    if mask.bundle_endpoint_url && relationship.bundle_endpoint_url.is_empty() {
        return Err(Error::UrlRequired);
    }
    if mask.bundle_endpoint_profile {
        match relationship.bundle_endpoint_profile.as_str() {
            PROFILE_HTTPS_WEB => {}
            PROFILE_HTTPS_SPIFFE if relationship.endpoint_spiffe_id.is_empty() => {
                return Err(Error::EndpointSpiffeIdRequired);
            }
            PROFILE_HTTPS_SPIFFE => {}
            other => return Err(Error::UnknownProfile(other.to_owned())),
        }
    }
    limits::check(relationship, mask)?;
    Ok(relationship)
}

/// The body of a relationship that is taken over as it is.
///
/// # Errors
/// When it is above a limit.
pub(in crate::spire) fn prepare(stored: &StoredRelationship) -> Result<Vec<u8>, Error> {
    limits::check_stored(stored)?;
    Ok(stored.encode())
}

fn apply(stored: &mut StoredRelationship, relationship: &Relationship, mask: RelationshipMask) {
    if mask.bundle_endpoint_url {
        stored.bundle_endpoint_url.clone_from(&relationship.bundle_endpoint_url);
    }
    if mask.bundle_endpoint_profile {
        stored.bundle_endpoint_profile.clone_from(&relationship.bundle_endpoint_profile);
        stored.endpoint_spiffe_id = match relationship.bundle_endpoint_profile.as_str() {
            PROFILE_HTTPS_SPIFFE => relationship.endpoint_spiffe_id.clone(),
            _ => String::new(),
        };
    }
}

/// The bundle after the update, whose own change the reader does not see yet.
fn current_bundle(
    transaction: &Transaction<'_>,
    stored: &StoredRelationship,
    new_bundle: Option<&Bundle>,
) -> Result<Option<Bundle>, Error> {
    let id = stored.bundle_id();
    match new_bundle.filter(|bundle| bundle.trust_domain_id == id) {
        Some(bundle) => Ok(Some(bundle.clone())),
        None => {
            let record = bundles::commands::find(transaction, &id)?;
            Ok(record.map(|record| Bundle::decode(&record.body)).transpose()?)
        }
    }
}

fn find(transaction: &Transaction<'_>, trust_domain: &str) -> Result<Option<Record>, Error> {
    let key = trust_domain.as_bytes();
    let reader = transaction.reader();
    Ok(reader.get_by_key(transaction.namespace(), tables::FEDERATION, indexes::TRUST_DOMAIN, key)?)
}
