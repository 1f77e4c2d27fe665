//! What can be asked of bundles.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::Bundle;

/// A change to bundles.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 5.1; `None` stands for a request without bundle.
    Create(Option<Bundle>),
    /// 5.5
    Set(Option<Bundle>),
    /// 5.6; no mask means all fields.
    Update(Option<Bundle>, Option<BundleMask>),
    /// 5.7
    Append(Option<Bundle>),
    /// 5.8; bounded: answers [`super::super::Answer::Progress`] with `more` until the bundle is gone.
    Delete {
        /// Which bundle.
        trust_domain_id: String,
        /// What becomes of entries that federate with it.
        mode: DeleteMode,
    },
    /// 5.9
    Prune {
        /// Which bundle.
        trust_domain_id: String,
        /// Unix seconds; 0 stands for the zero time.
        expires_before: i64,
    },
    /// 6.1
    TaintX509 {
        /// Which bundle.
        trust_domain_id: String,
        /// Lower-case hexadecimal.
        subject_key_id: String,
    },
    /// 6.2
    RevokeX509 {
        /// Which bundle.
        trust_domain_id: String,
        /// Lower-case hexadecimal.
        subject_key_id: String,
    },
    /// 6.3
    TaintJwt {
        /// Which bundle.
        trust_domain_id: String,
        /// Key id.
        key_id: String,
    },
    /// 6.4
    RevokeJwt {
        /// Which bundle.
        trust_domain_id: String,
        /// Key id.
        key_id: String,
    },
}

/// What becomes of entries that federate with a bundle when it is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub enum DeleteMode {
    /// Refuse.
    #[default]
    Restrict,
    /// Delete them.
    Delete,
    /// Take the bundle out of them.
    Dissociate,
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct BundleMask {
    pub root_cas: bool,
    pub jwt_signing_keys: bool,
    pub wit_signing_keys: bool,
    pub refresh_hint: bool,
    pub sequence_number: bool,
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
