//! What can be asked of registration entries.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::Entry;

/// A change to registration entries.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 7.3 and 7.4: answers the similar entry where there is one. `None` stands for a request without entry.
    CreateOrReturn(Option<Entry>),
    /// 7.8; no mask means all fields.
    Update(Option<Entry>, Option<EntryMask>),
    /// 7.9
    Delete {
        /// Which entry.
        entry_id: String,
    },
    /// 7.10; bounded: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        expires_before: i64,
        /// Entries at the most.
        limit: u32,
    },
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct EntryMask {
    pub selectors: bool,
    pub parent_id: bool,
    pub spiffe_id: bool,
    pub x509_svid_ttl: bool,
    pub federates_with: bool,
    pub admin: bool,
    pub downstream: bool,
    pub expiry: bool,
    pub dns_names: bool,
    pub store_svid: bool,
    pub jwt_svid_ttl: bool,
    pub hint: bool,
    pub additional_attributes: bool,
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
