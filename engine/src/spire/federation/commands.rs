//! What can be asked of federation relationships.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::Relationship;

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
    pub fn decide(
        &self,
        _transaction: &mut crate::transaction::Transaction<'_>,
    ) -> Result<crate::spire::AnswerSource, crate::spire::Error> {
        Err(super::Error::NotFound.into())
    }
}
