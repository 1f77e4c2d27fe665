//! The mutations of the workload, and what they are answered with.

use std::time::Duration;

use steeple_client::types::{
    AttestedNode, AttestedNodeMask, Bundle, DeleteMode, RegistrationEntry, RegistrationEntryMask, Selector,
};
use steeple_client::{Error, Namespace, RequestId};

use crate::records::with_chosen_of;

/// Microseconds in a second.
const MICROS: i64 = 1_000_000;

/// One mutation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    CreateEntry(RegistrationEntry),
    /// Sets selectors, hint, time to live and expiry.
    UpdateEntry(RegistrationEntry),
    DeleteEntry(String),
    PruneEntries {
        before: i64,
    },
    CreateNode(AttestedNode),
    /// Sets the certificate.
    UpdateNode(AttestedNode),
    DeleteNode(String),
    PruneNodes {
        before: i64,
    },
    SetSelectors(String, Vec<Selector>),
    CreateBundle(Bundle),
    AppendBundle(Bundle),
    DeleteBundle(String, DeleteMode),
    CreateToken {
        token: String,
        expires_at: i64,
    },
    DeleteToken(String),
    PruneTokens {
        before: i64,
    },
    PruneEvents {
        older_than: Duration,
    },
    /// Updates the entry with this id, which all workers of the namespace do.
    Increment(String),
    /// Deletes a token that other workers try to delete too.
    Take(String),
}

/// What a mutation is answered with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Entry(RegistrationEntry),
    Node(AttestedNode),
    Bundle(Bundle),
    Count(u64),
    Nothing,
    Refused,
}

/// What became of an attempt.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// Settled.
    Answered(Box<Answer>),
    /// The client promises that nothing was changed.
    NotDone,
    /// Nobody knows.
    Unknown,
}

impl Answer {
    /// Whether this answer is as predicted.
    pub(crate) fn is_as_predicted(&self, predicted: &Self) -> bool {
        match (self, predicted) {
            (Self::Entry(entry), Self::Entry(predicted)) => {
                !entry.entry_id.is_empty() && entry.created_at != 0 && *entry == with_chosen_of(predicted, entry)
            }
            _ => self == predicted,
        }
    }
}

impl Operation {
    /// Whether the operation, answered like this, made exactly one event with items of a stream.
    pub(crate) fn is_announced(&self, answer: &Answer) -> bool {
        match self {
            Self::CreateEntry(_)
            | Self::UpdateEntry(_)
            | Self::DeleteEntry(_)
            | Self::PruneEntries { .. }
            | Self::CreateNode(_)
            | Self::UpdateNode(_)
            | Self::DeleteNode(_)
            | Self::PruneNodes { .. }
            | Self::SetSelectors(..)
            | Self::Increment(_) => answer.changed_something(),
            _ => false,
        }
    }

    /// Whether repeating it is answered from the event that it made.
    pub(crate) fn is_remembered(&self, answer: &Answer) -> bool {
        // Clearing selectors that are not there changes nothing, and the prune of events counts from now.
        !matches!(self, Self::PruneEvents { .. }) && answer.changed_something()
    }

    /// Carries it out.
    pub(crate) async fn send(&self, namespace: &Namespace, request: RequestId) -> Attempt {
        match self.call(&namespace.with_request(request)).await {
            Ok(answer) => Attempt::Answered(Box::new(answer)),
            Err(Error::Refused { .. }) => Attempt::Answered(Box::new(Answer::Refused)),
            Err(Error::Unavailable { .. }) => Attempt::NotDone,
            Err(Error::OutcomeUnknown { .. }) => Attempt::Unknown,
            Err(error) => panic!("{self:?} failed: {error:?}"),
        }
    }

    pub(crate) async fn call(&self, namespace: &Namespace) -> Result<Answer, Error> {
        Ok(match self.clone() {
            Self::CreateEntry(entry) => Answer::Entry(namespace.create_registration_entry(entry).await?),
            Self::UpdateEntry(entry) => {
                let mask = RegistrationEntryMask {
                    selectors: true,
                    hint: true,
                    x509_svid_ttl: true,
                    entry_expiry: true,
                    ..Default::default()
                };
                Answer::Entry(namespace.update_registration_entry(entry, Some(mask)).await?)
            }
            Self::DeleteEntry(entry_id) => Answer::Entry(namespace.delete_registration_entry(entry_id).await?),
            Self::PruneEntries { before } => {
                Answer::Count(namespace.prune_registration_entries(before * MICROS).await?.pruned)
            }
            Self::CreateNode(node) => Answer::Node(namespace.create_attested_node(node).await?),
            Self::UpdateNode(node) => {
                let mask = AttestedNodeMask { cert_serial_number: true, cert_not_after: true, ..Default::default() };
                Answer::Node(namespace.update_attested_node(node, Some(mask)).await?)
            }
            Self::DeleteNode(spiffe_id) => Answer::Node(namespace.delete_attested_node(spiffe_id).await?),
            Self::PruneNodes { before } => {
                let pruned = namespace.prune_attested_expired_nodes(before * MICROS, false, 0).await?;
                Answer::Count(pruned.pruned)
            }
            Self::SetSelectors(spiffe_id, selectors) => {
                namespace.set_node_selectors(spiffe_id, selectors).await?;
                Answer::Nothing
            }
            Self::CreateBundle(bundle) => Answer::Bundle(namespace.create_bundle(bundle).await?),
            Self::AppendBundle(bundle) => Answer::Bundle(namespace.append_bundle(bundle).await?),
            Self::DeleteBundle(id, mode) => {
                namespace.delete_bundle(id, mode).await?;
                Answer::Nothing
            }
            Self::CreateToken { token, expires_at } => {
                namespace.create_join_token(token, expires_at).await?;
                Answer::Nothing
            }
            Self::DeleteToken(token) | Self::Take(token) => {
                namespace.delete_join_token(token).await?;
                Answer::Nothing
            }
            Self::PruneTokens { before } => Answer::Count(namespace.prune_join_tokens(before * MICROS).await?),
            Self::PruneEvents { older_than } => {
                namespace.prune_registration_entry_events(older_than).await?;
                namespace.prune_attested_node_events(older_than).await?;
                Answer::Nothing
            }
            Self::Increment(entry_id) => {
                let entry = RegistrationEntry { entry_id, hint: "counted".into(), ..Default::default() };
                let mask = RegistrationEntryMask { hint: true, ..Default::default() };
                Answer::Entry(namespace.update_registration_entry(entry, Some(mask)).await?)
            }
        })
    }
}

impl Answer {
    fn changed_something(&self) -> bool {
        !matches!(self, Self::Refused | Self::Count(0))
    }
}
