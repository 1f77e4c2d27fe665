//! Imports.

use steeple_engine::ids::Timestamp;
use steeple_engine::spire::federation::records::StoredRelationship;
use steeple_engine::spire::imports::records::Import;
use steeple_engine::spire::imports::{Batch, Command, Record};
use steeple_engine::spire::nodes::records::NodeSelectors;
use steeple_wire::spire::v1 as wire;
use steeple_wire::spire::v1::imported_record::Record as Kind;
use tonic::Status;

use super::{bundles, entries, filters, journals, nodes, tokens};

/// A batch; a record of no kind, or of one that this build does not know, is refused.
pub(crate) fn batch_from_wire(request: wire::ImportRecordsRequest) -> Result<Command, Status> {
    let wire::ImportRecordsRequest { context: _, fingerprint, source, total, position, records } = request;
    let fingerprint = fingerprint.as_slice().try_into().map_err(|_| {
        Status::invalid_argument(format!("fingerprint has {} bytes, it must have 16", fingerprint.len()))
    })?;
    let records = records.into_iter().map(record_from_wire).collect::<Result<_, _>>()?;
    Ok(Command::Batch(Batch { fingerprint, source, total, position, records }))
}

/// A record as it is to be stored.
pub(crate) fn record_from_wire(record: wire::ImportedRecord) -> Result<Record, Status> {
    let kind =
        record.record.ok_or_else(|| Status::invalid_argument("a record of the import is of no kind known here"))?;
    Ok(match kind {
        Kind::Bundle(bundle) => Record::Bundle(bundles::from_wire(bundle)),
        Kind::FederationRelationship(relationship) => Record::Relationship(StoredRelationship {
            trust_domain: relationship.trust_domain,
            bundle_endpoint_url: relationship.bundle_endpoint_url,
            bundle_endpoint_profile: relationship.bundle_endpoint_profile,
            endpoint_spiffe_id: relationship.endpoint_spiffe_id,
        }),
        Kind::RegistrationEntry(entry) => Record::Entry(entries::from_wire(entry)),
        Kind::AttestedNode(node) => Record::Node(nodes::from_wire(node)),
        Kind::NodeSelectors(record) => Record::NodeSelectors(NodeSelectors {
            spiffe_id: record.spiffe_id,
            selectors: filters::selectors_from_wire(record.selectors),
        }),
        Kind::JoinToken(token) => Record::Token(tokens::from_wire(token)),
        Kind::CaJournal(journal) => Record::Journal(journals::from_wire(journal)),
    })
}

pub(crate) fn to_wire(import: Import) -> wire::Import {
    let Import { fingerprint, source, total, accepted, began, went_on } = import;
    wire::Import {
        fingerprint: fingerprint.to_vec(),
        source,
        total,
        accepted,
        began_at_micros: micros(began),
        went_on_at_micros: micros(went_on),
    }
}

fn micros(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
