//! What can be asked of attested nodes.

#![expect(
    missing_docs,
    reason = "mask fields are named for what they set; the archived form that rkyv derives has no docs"
)]

use super::records::Node;
use crate::spire::selectors::Selector;

/// A change to nodes or node selectors.
#[derive(Clone, Debug, PartialEq, rkyv::Archive, rkyv::Serialize)]
pub enum Command {
    /// 9.1; `None` stands for a request without node.
    Create(Option<Node>),
    /// 9.6; no mask means all fields.
    Update(Option<Node>, Option<NodeMask>),
    /// 9.7
    Delete {
        /// Which node.
        spiffe_id: String,
    },
    /// 9.8; one batch: answers [`super::super::Answer::Progress`].
    Prune {
        /// Unix seconds.
        expired_before: i64,
        /// Also nodes that cannot attest again.
        include_non_reattestable: bool,
        /// Nodes at the most; 0 or less means 1000.
        batch_size: i32,
    },
    /// 10.1
    SetSelectors {
        /// Whose.
        spiffe_id: String,
        /// The whole list; empty clears it.
        selectors: Vec<Selector>,
    },
}

/// Which fields an update sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize)]
pub struct NodeMask {
    pub cert_serial_number: bool,
    pub cert_not_after: bool,
    pub new_cert_serial_number: bool,
    pub new_cert_not_after: bool,
    pub can_reattest: bool,
    pub agent_version: bool,
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
