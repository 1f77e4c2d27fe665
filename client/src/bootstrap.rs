//! A consistent state to start from.

use std::collections::BTreeMap;

use steeple_wire::common::v1::ReadContext;
use steeple_wire::events::v1::bootstrap_response::Content;
use steeple_wire::events::v1::record::Record as Kind;
use steeple_wire::events::v1::{
    BootstrapEnd, BootstrapRecords, BootstrapRequest, BootstrapResponse, Collection, Record, RecordKey,
};
use tonic::Streaming;

use crate::call::{calls, revision};
use crate::streams::read_error;
use crate::{Error, Namespace};

calls! { "steeple.events.v1.Events", plain:
    "Bootstrap": BootstrapRequest => BootstrapResponse,
}

/// A state in the making. It is one only once [`Bootstrap::next`] has returned `None`.
#[derive(Debug)]
pub struct Bootstrap {
    namespace: Namespace,
    messages: Streaming<BootstrapResponse>,
    end: Option<BootstrapEnd>,
}

impl Bootstrap {
    /// The next records, and deletions of earlier ones; a later message replaces what an earlier one said about the same
    /// record. `None` once the state is complete.
    ///
    /// # Errors
    /// When the connection breaks; what was received is then of no use.
    pub async fn next(&mut self) -> Result<Option<BootstrapRecords>, Error> {
        while self.end.is_none() {
            let message = self.messages.message().await.map_err(|status| read_error(&status))?;
            match message.ok_or(Error::Protocol("end of the bootstrap"))?.content {
                Some(Content::Records(records)) => return Ok(Some(records)),
                Some(Content::End(end)) => {
                    self.namespace.see(end.revision);
                    self.end = Some(end);
                }
                None => return Err(Error::Protocol("content of the bootstrap")),
            }
        }
        Ok(None)
    }

    /// Revision and cursor of the complete state; `None` before.
    #[must_use]
    pub fn end(&self) -> Option<&BootstrapEnd> {
        self.end.as_ref()
    }
}

/// A complete state in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BootstrapState {
    /// The records by collection and key.
    pub records: BTreeMap<(Collection, String), Record>,
    /// The state is that of this revision.
    pub revision: u64,
    /// A tail from here continues the state.
    pub cursor: String,
}

impl BootstrapState {
    fn apply(&mut self, message: BootstrapRecords) {
        for record in message.records {
            if let Some(key) = key(&record) {
                self.records.insert(key, record);
            }
        }
        for RecordKey { collection, key } in message.deleted {
            if let Ok(collection) = Collection::try_from(collection) {
                self.records.remove(&(collection, key));
            }
        }
    }
}

/// Collection and key of a record; none for a record of a later protocol.
fn key(record: &Record) -> Option<(Collection, String)> {
    Some(match record.record.as_ref()? {
        Kind::Bundle(bundle) => (Collection::Bundles, bundle.trust_domain_id.clone()),
        Kind::RegistrationEntry(entry) => (Collection::RegistrationEntries, entry.entry_id.clone()),
        Kind::AttestedNode(node) => (Collection::AttestedNodes, node.spiffe_id.clone()),
        Kind::NodeSelectors(selectors) => (Collection::NodeSelectors, selectors.spiffe_id.clone()),
        Kind::FederationRelationship(relationship) => {
            (Collection::FederationRelationships, relationship.trust_domain.clone())
        }
        Kind::CaJournal(journal) => (Collection::CaJournals, journal.id.to_string()),
    })
}

impl Namespace {
    /// A consistent state of some collections, message by message; all that streams are about without any named.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bootstrap(&self, collections: &[Collection]) -> Result<Bootstrap, Error> {
        let collections = collections.iter().map(|collection| (*collection).into()).collect();
        let ReadContext { namespace, consistency, min_revision } = self.read_context();
        let request = BootstrapRequest { namespace, collections, consistency, min_revision };
        let response = self.client().streaming(request, self.read_route()).await?;
        self.see(revision(response.metadata()));
        Ok(Bootstrap { namespace: self.clone(), messages: response.into_inner(), end: None })
    }

    /// As [`Namespace::bootstrap`], all of it in memory.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn bootstrap_state(&self, collections: &[Collection]) -> Result<BootstrapState, Error> {
        let mut bootstrap = self.bootstrap(collections).await?;
        let mut state = BootstrapState::default();
        while let Some(message) = bootstrap.next().await? {
            state.apply(message);
        }
        if let Some(end) = bootstrap.end() {
            state.revision = end.revision;
            state.cursor.clone_from(&end.cursor);
        }
        Ok(state)
    }
}

#[cfg(test)]
mod tests {
    use steeple_wire::spire::v1::AttestedNode;

    use super::*;

    fn node(spiffe_id: &str, version: &str) -> Record {
        let node = AttestedNode { spiffe_id: spiffe_id.into(), agent_version: version.into(), ..Default::default() };
        Record { record: Some(Kind::AttestedNode(node)) }
    }

    #[test]
    fn later_messages_correct_earlier_ones() {
        let mut state = BootstrapState::default();
        state
            .apply(BootstrapRecords { records: vec![node("a", "1"), node("b", "1"), node("c", "1")], deleted: vec![] });
        let gone = RecordKey { collection: Collection::AttestedNodes.into(), key: "c".into() };
        state.apply(BootstrapRecords { records: vec![node("b", "2")], deleted: vec![gone] });
        let left: Vec<_> = state.records.into_values().collect();
        assert_eq!(left, [node("a", "1"), node("b", "2")]);
    }
}
