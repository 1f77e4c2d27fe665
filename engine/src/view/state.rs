//! The part of a view that is held in memory: indexes, counters, the folded position, the members of the group.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::keys::FoldedPosition;
use super::reader::StreamState;
use crate::ids::{NamespaceId, Sequence, StreamId, StreamSequence, TableId};
use crate::index::{KeysOfMany, TableIndexes};
use crate::table::Catalog;

impl StreamState {
    /// A stream that never had an item.
    pub const EMPTY: Self = Self { last: StreamSequence::ZERO, low_water: StreamSequence(1) };
}

/// Indexes and counters of every namespace.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) folded: FoldedPosition,
    /// Whether the store holds the folded position. Otherwise it gets it with the next batch or flush.
    pub(crate) folded_stored: bool,
    /// As the entry said that was folded last of its kind.
    pub(crate) membership: Option<Arc<[u8]>>,
    pub(crate) namespaces: HashMap<NamespaceId, NamespaceState, RandomState>,
    /// Kept from batch to batch.
    pub(super) keys_of_created: KeysOfMany,
}

/// Indexes and counters of one namespace.
#[derive(Debug, Default)]
pub(crate) struct NamespaceState {
    /// Few, so that a list is faster than a map.
    pub(crate) tables: Vec<(TableId, TableState)>,
    pub(crate) streams: Vec<(StreamId, StreamState)>,
}

/// Indexes and the counter of one table.
#[derive(Debug)]
pub(crate) struct TableState {
    pub(crate) indexes: TableIndexes,
    pub(crate) last_sequence: Sequence,
}

impl State {
    pub(crate) fn table(&self, namespace: NamespaceId, table: TableId) -> Option<&TableState> {
        self.namespaces.get(&namespace)?.table(table)
    }

    pub(crate) fn stream(&self, namespace: NamespaceId, stream: StreamId) -> StreamState {
        let streams = self.namespaces.get(&namespace).map(|namespace| &namespace.streams[..]).unwrap_or_default();
        streams.iter().find(|(id, _)| *id == stream).map_or(StreamState::EMPTY, |(_, state)| *state)
    }

    /// The state of a table, made when there is none yet; `None` when the catalog does not know the table.
    pub(crate) fn table_mut(
        &mut self,
        catalog: Catalog,
        namespace: NamespaceId,
        table: TableId,
    ) -> Option<&mut TableState> {
        let tables = &mut self.namespaces.entry(namespace).or_default().tables;
        let place = match tables.iter().position(|(id, _)| *id == table) {
            Some(place) => place,
            None => {
                let indexes = TableIndexes::new(catalog.table(table)?);
                tables.push((table, TableState { indexes, last_sequence: Sequence::ZERO }));
                tables.len() - 1
            }
        };
        tables.get_mut(place).map(|(_, state)| state)
    }

    pub(crate) fn stream_mut(&mut self, namespace: NamespaceId, stream: StreamId) -> &mut StreamState {
        let streams = &mut self.namespaces.entry(namespace).or_default().streams;
        let place = match streams.iter().position(|(id, _)| *id == stream) {
            Some(place) => place,
            None => {
                streams.push((stream, StreamState::EMPTY));
                streams.len() - 1
            }
        };
        &mut streams[place].1
    }
}

impl NamespaceState {
    pub(crate) fn table(&self, table: TableId) -> Option<&TableState> {
        self.tables.iter().find(|(id, _)| *id == table).map(|(_, state)| state)
    }
}
