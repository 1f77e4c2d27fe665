//! Registration entries and nodes.

use steeple_engine::ids::{NamespaceId, Sequence};
use steeple_engine::spire;
use steeple_engine::spire::entries::queries::{EntryFilter, list_entries_chunk, list_few_entries};
use steeple_engine::spire::entries::records::Entry;
use steeple_engine::spire::nodes::queries::{ListNodes, NodeRecord, list_node_selectors_chunk, list_nodes_chunk};
use steeple_engine::spire::nodes::records::NodeSelectors;
use steeple_engine::spire::pages::Chunk;
use steeple_engine::view::{Record, ViewReader};
use steeple_wire::packed;
use steeple_wire::spire::v1 as wire;

use super::{EncodedEntries, FEW, Items, Pieces};
use crate::grpc::convert::{self, times};

/// Registration entries.
#[derive(Clone)]
pub(crate) struct Entries {
    pub(crate) filter: EntryFilter,
}

impl Pieces for Entries {
    type Stored = Record;
    type Sent = EncodedEntries;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Record>, spire::Error> {
        list_entries_chunk(reader, namespace, &self.filter, after, limit)
    }

    fn few(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Option<Vec<Record>>, spire::Error> {
        list_few_entries(reader, namespace, &self.filter, after, limit, FEW)
    }

    fn sequence(stored: &Record) -> Sequence {
        stored.sequence
    }

    /// A stored entry is about as long as what is sent of it.
    fn make_room(sent: &mut EncodedEntries, stored: &[Record]) {
        sent.0.reserve(stored.iter().map(|record| record.body.len()).sum());
    }

    fn add(sent: &mut EncodedEntries, stored: Record) -> Result<(), spire::Error> {
        convert::entries::put(&mut sent.0, packed::ENTRIES, Entry::view(&stored.body)?);
        Ok(())
    }
}

/// Attested nodes.
#[derive(Clone)]
pub(crate) struct Nodes {
    pub(crate) list: ListNodes,
}

impl Pieces for Nodes {
    type Stored = NodeRecord;
    type Sent = Items<wire::AttestedNode>;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<NodeRecord>, spire::Error> {
        list_nodes_chunk(reader, namespace, &self.list, after, limit)
    }

    fn sequence(stored: &NodeRecord) -> Sequence {
        stored.node.sequence
    }

    fn add(sent: &mut Items<wire::AttestedNode>, stored: NodeRecord) -> Result<(), spire::Error> {
        sent.push(convert::nodes::with_selectors_to_wire(stored.decode()?));
        Ok(())
    }
}

/// Node selectors.
#[derive(Clone)]
pub(crate) struct Selectors {
    valid_at: i64,
}

impl Selectors {
    pub(crate) fn new(valid_at_micros: i64) -> Self {
        Self { valid_at: times::optional_round_down(valid_at_micros) }
    }
}

impl Pieces for Selectors {
    type Stored = Record;
    type Sent = Items<wire::NodeSelectors>;

    fn piece(
        &self,
        reader: &ViewReader<'_>,
        namespace: NamespaceId,
        after: Sequence,
        limit: usize,
    ) -> Result<Chunk<Record>, spire::Error> {
        list_node_selectors_chunk(reader, namespace, self.valid_at, after, limit)
    }

    fn sequence(stored: &Record) -> Sequence {
        stored.sequence
    }

    fn add(sent: &mut Items<wire::NodeSelectors>, stored: Record) -> Result<(), spire::Error> {
        sent.push(convert::nodes::selectors_record_to_wire(NodeSelectors::decode(&stored.body)?));
        Ok(())
    }
}
