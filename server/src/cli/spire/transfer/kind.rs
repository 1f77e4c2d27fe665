//! The kinds of records that move in and out.

use steeple_client::types::ImportedRecord;
use steeple_client::types::imported_record::Record;

/// A kind of record. They move in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Bundle,
    Relationship,
    Entry,
    Node,
    NodeSelectors,
    Token,
    Journal,
}

impl Kind {
    /// All of them, in their order.
    pub(super) const ALL: [Self; 7] =
        [Self::Bundle, Self::Relationship, Self::Entry, Self::Node, Self::NodeSelectors, Self::Token, Self::Journal];

    /// That of a record.
    pub(super) fn of(record: &Record) -> Self {
        match record {
            Record::Bundle(_) => Self::Bundle,
            Record::FederationRelationship(_) => Self::Relationship,
            Record::RegistrationEntry(_) => Self::Entry,
            Record::AttestedNode(_) => Self::Node,
            Record::NodeSelectors(_) => Self::NodeSelectors,
            Record::JoinToken(_) => Self::Token,
            Record::CaJournal(_) => Self::Journal,
        }
    }

    /// What several are called, by people and in JSON.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Bundle => "bundles",
            Self::Relationship => "federation_relationships",
            Self::Entry => "registration_entries",
            Self::Node => "attested_nodes",
            Self::NodeSelectors => "node_selectors",
            Self::Token => "join_tokens",
            Self::Journal => "ca_journals",
        }
    }

    /// How one is named to people; the key of a join token is secret.
    pub(super) fn name(self, key: &str) -> String {
        match self {
            Self::Bundle => format!("bundle {key}"),
            Self::Relationship => format!("federation relationship {key}"),
            Self::Entry => format!("entry {key}"),
            Self::Node => format!("agent {key}"),
            Self::NodeSelectors => format!("selectors of {key}"),
            Self::Token => "a join token".to_owned(),
            Self::Journal => format!("CA journal {key}"),
        }
    }
}

/// What a record is found by.
pub(super) fn key(record: &Record) -> String {
    match record {
        Record::Bundle(bundle) => bundle.trust_domain_id.clone(),
        Record::FederationRelationship(relationship) => relationship.trust_domain.clone(),
        Record::RegistrationEntry(entry) => entry.entry_id.clone(),
        Record::AttestedNode(node) => node.spiffe_id.clone(),
        Record::NodeSelectors(selectors) => selectors.spiffe_id.clone(),
        Record::JoinToken(token) => token.token.clone(),
        Record::CaJournal(journal) => journal.id.to_string(),
    }
}

/// A record as it goes into an import.
pub(super) fn imported(record: Record) -> ImportedRecord {
    ImportedRecord { record: Some(record) }
}

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts([u64; Kind::ALL.len()]);

impl Counts {
    /// One more.
    pub(super) fn add(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    /// Of one kind.
    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Of all kinds.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// For programs.
    pub(super) fn json(&self) -> serde_json::Value {
        Kind::ALL.into_iter().map(|kind| (kind.plural().to_owned(), serde_json::Value::from(self.of(kind)))).collect()
    }
}
