//! Stored records of any collection, as tails, histories and bootstraps show them. Join tokens are not shown.

use prost::Message;
use steeple_engine::ids::{IndexId, Sequence, TableId};
use steeple_engine::spire::bundles::records::{Bundle, indexes as bundle_indexes};
use steeple_engine::spire::entries::records::{Entry, indexes as entry_indexes};
use steeple_engine::spire::federation::records::{StoredRelationship, indexes as federation_indexes};
use steeple_engine::spire::journals::records::Journal;
use steeple_engine::spire::nodes::records::{
    Node, NodeSelectors, indexes as node_indexes, selector_indexes as node_selector_indexes,
};
use steeple_engine::spire::tables;
use steeple_engine::table::RecordDecodeError;
use steeple_wire::events::v1::record::Record as Kind;
use steeple_wire::events::v1::{Collection, Record};
use steeple_wire::packed::{put_element, put_message};

use super::{bundles, entries, federation, journals, nodes};

/// The field of a record that is a registration entry.
const REGISTRATION_ENTRY: u32 = 2;

/// Collections and the tables that hold them.
const COLLECTIONS: [(Collection, TableId); 6] = [
    (Collection::Bundles, tables::BUNDLES),
    (Collection::RegistrationEntries, tables::ENTRIES),
    (Collection::AttestedNodes, tables::NODES),
    (Collection::NodeSelectors, tables::NODE_SELECTORS),
    (Collection::FederationRelationships, tables::FEDERATION),
    (Collection::CaJournals, tables::CA_JOURNALS),
];

/// The table of a collection.
pub(crate) fn table(collection: Collection) -> Option<TableId> {
    COLLECTIONS.iter().find(|(other, _)| *other == collection).map(|(_, table)| *table)
}

/// The collection in a table; none for tables that are not shown.
pub(crate) fn collection(table: TableId) -> Option<Collection> {
    COLLECTIONS.iter().find(|(_, other)| *other == table).map(|(collection, _)| *collection)
}

/// The unique index of a table's keys; CA journals go by their numbers instead.
pub(crate) fn key_index(table: TableId) -> Option<IndexId> {
    match table {
        tables::BUNDLES => Some(bundle_indexes::TRUST_DOMAIN_ID),
        tables::ENTRIES => Some(entry_indexes::ENTRY_ID),
        tables::NODES => Some(node_indexes::SPIFFE_ID),
        tables::NODE_SELECTORS => Some(node_selector_indexes::SPIFFE_ID),
        tables::FEDERATION => Some(federation_indexes::TRUST_DOMAIN),
        _ => None,
    }
}

/// A stored record; none for tables that are not shown.
pub(crate) fn to_wire(table: TableId, sequence: Sequence, body: &[u8]) -> Result<Option<Record>, RecordDecodeError> {
    let kind = match table {
        tables::BUNDLES => Kind::Bundle(bundles::to_wire(Bundle::decode(body)?)),
        tables::ENTRIES => Kind::RegistrationEntry(entries::to_wire(Entry::decode(body)?)),
        tables::NODES => Kind::AttestedNode(nodes::to_wire(Node::decode(body)?)),
        tables::NODE_SELECTORS => Kind::NodeSelectors(nodes::selectors_record_to_wire(NodeSelectors::decode(body)?)),
        tables::FEDERATION => {
            let relationship = StoredRelationship::decode(body)?.with_bundle(None);
            Kind::FederationRelationship(federation::to_wire(relationship))
        }
        tables::CA_JOURNALS => {
            let journal = Journal { id: sequence.0, ..Journal::decode(body)? };
            Kind::CaJournal(journals::to_wire(journal))
        }
        _ => return Ok(None),
    };
    Ok(Some(Record { record: Some(kind) }))
}

/// Writes what [`to_wire`] makes, if anything, as a field of a message.
pub(crate) fn put(
    bytes: &mut Vec<u8>,
    number: u32,
    table: TableId,
    sequence: Sequence,
    body: &[u8],
) -> Result<(), RecordDecodeError> {
    if table == tables::ENTRIES {
        let entry = Entry::view(body)?;
        put_message(bytes, number, |bytes| entries::put(bytes, REGISTRATION_ENTRY, entry));
    } else if let Some(record) = to_wire(table, sequence, body)? {
        put_element(bytes, number, &record.encode_to_vec());
    }
    Ok(())
}

/// The key of a shown record.
pub(crate) fn key(record: &Record) -> String {
    match &record.record {
        Some(Kind::Bundle(bundle)) => bundle.trust_domain_id.clone(),
        Some(Kind::RegistrationEntry(entry)) => entry.entry_id.clone(),
        Some(Kind::AttestedNode(node)) => node.spiffe_id.clone(),
        Some(Kind::NodeSelectors(selectors)) => selectors.spiffe_id.clone(),
        Some(Kind::FederationRelationship(relationship)) => relationship.trust_domain.clone(),
        Some(Kind::CaJournal(journal)) => journal.id.to_string(),
        None => String::new(),
    }
}
