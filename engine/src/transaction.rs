//! What a command builds while it decides: the changes, stream items and marks of one future event.
//!
//! A transaction reads the state before the command only; it does not see its own changes. A record may be
//! changed at most once in it.

use hashbrown::HashMap;
use thiserror::Error;

use crate::event::{Change, LowWaterMark, StreamItem};
use crate::ids::{IndexId, NamespaceId, Sequence, StreamId, StreamSequence, TableId, Timestamp};
use crate::index::IndexSet;
use crate::table::{Catalog, IndexDefinition, IndexKind, KeySink, RecordDecodeError, TableDefinition};
use crate::view::{ReadError, Reader, Record};

/// A source of random numbers, handed in so that a simulator can own it.
pub trait Entropy {
    /// The next 128 random bits.
    fn next_bits(&mut self) -> u128;
}

/// One command's decision in the making.
pub struct Transaction<'a> {
    reader: &'a dyn Reader,
    catalog: Catalog,
    namespace: NamespaceId,
    now: Timestamp,
    entropy: &'a mut dyn Entropy,
    content: Content,
    /// Unique keys of the records that this transaction leaves.
    taken: HashMap<(TableId, IndexId, Vec<u8>), Sequence>,
}

/// What a decision came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// As [`crate::event::Event::changes`].
    pub changes: Vec<Change>,
    /// As [`crate::event::Event::items`].
    pub items: Vec<StreamItem>,
    /// As [`crate::event::Event::marks`].
    pub marks: Vec<LowWaterMark>,
}

impl Content {
    /// Whether there is nothing to record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.items.is_empty() && self.marks.is_empty()
    }
}

/// Why a change was refused.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// Another record has the same key in a unique index.
    #[error("{table}.{index} already has this key")]
    Duplicate {
        /// Name of the table.
        table: &'static str,
        /// Name of the index.
        index: &'static str,
        /// The record that has the key.
        holder: Sequence,
    },
    /// The body cannot be read back.
    #[error(transparent)]
    Record(#[from] RecordDecodeError),
    /// The state could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl<'a> Transaction<'a> {
    /// A transaction of one namespace on top of `reader`, at `now`.
    pub fn new(
        reader: &'a dyn Reader,
        catalog: Catalog,
        namespace: NamespaceId,
        now: Timestamp,
        entropy: &'a mut dyn Entropy,
    ) -> Self {
        Self { reader, catalog, namespace, now, entropy, content: Content::default(), taken: HashMap::default() }
    }

    /// The state before the command.
    #[must_use]
    pub fn reader(&self) -> &'a dyn Reader {
        self.reader
    }

    /// The namespace that the command works on.
    #[must_use]
    pub fn namespace(&self) -> NamespaceId {
        self.namespace
    }

    /// The time of the event to be.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// A random version 4 UUID in its usual text form.
    pub fn random_uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.entropy.next_bits().to_be_bytes()).into_uuid().to_string()
    }

    /// Creates a record and returns its number and the position of the change.
    ///
    /// # Errors
    /// When the body collides with another record in a unique index.
    ///
    /// # Panics
    /// When the table is not in the catalog.
    pub fn insert(&mut self, table: TableId, body: Vec<u8>) -> Result<(Sequence, u16), ChangeError> {
        let sequence = Sequence(self.last_sequence(table).0 + 1);
        Ok((sequence, self.create(table, sequence, body)?))
    }

    /// Creates a record under a number that the caller chose, above [`Transaction::last_sequence`], and returns the position
    /// of the change.
    ///
    /// # Errors
    /// When the body collides with another record in a unique index.
    ///
    /// # Panics
    /// When the table is not in the catalog, or the number is not above the last one.
    pub fn insert_as(&mut self, table: TableId, sequence: Sequence, body: Vec<u8>) -> Result<u16, ChangeError> {
        assert!(sequence > self.last_sequence(table), "numbers of records rise");
        self.create(table, sequence, body)
    }

    /// The number most recently given to a record of the table, by this transaction or before.
    #[must_use]
    pub fn last_sequence(&self, table: TableId) -> Sequence {
        // From the end, where the table's latest creation most likely is.
        let own = self.content.changes.iter().rev().find(|change| change.table == table && change.before.is_none());
        own.map_or_else(|| self.reader.last_sequence(self.namespace, table), |change| change.sequence)
    }

    /// Replaces a record's body (also by an equal one) and returns the position of the change.
    ///
    /// # Errors
    /// When the body collides with another record in a unique index.
    ///
    /// # Panics
    /// When the table is not in the catalog.
    pub fn update(&mut self, table: TableId, record: &Record, body: Vec<u8>) -> Result<u16, ChangeError> {
        self.check_unique(table, record.sequence, &body, Some(record))?;
        Ok(self.push(Change {
            table,
            sequence: record.sequence,
            previous: Some(record.modified),
            before: Some(record.body.to_vec()),
            after: Some(body),
        }))
    }

    /// Removes a record and returns the position of the change.
    pub fn delete(&mut self, table: TableId, record: &Record) -> u16 {
        self.push(Change {
            table,
            sequence: record.sequence,
            previous: Some(record.modified),
            before: Some(record.body.to_vec()),
            after: None,
        })
    }

    /// Adds an item to a stream, about `key`, announcing the change at a position that `insert`, `update` or
    /// `delete` returned.
    pub fn emit(&mut self, stream: StreamId, key: impl Into<Vec<u8>>, change: Option<u16>) -> StreamSequence {
        // From the end, where the stream's latest item most likely is: a prune emits thousands in one transaction.
        let own = self.content.items.iter().rev().find(|item| item.stream == stream).map(|item| item.sequence);
        let sequence = own.unwrap_or_else(|| self.reader.stream(self.namespace, stream).last).next();
        self.content.items.push(StreamItem { stream, sequence, key: key.into(), change });
        sequence
    }

    /// Gives up a stream's items below `to`. Does nothing unless that raises the mark.
    pub fn raise_low_water(&mut self, stream: StreamId, to: StreamSequence) {
        let state = self.reader.stream(self.namespace, stream);
        let to = to.min(state.last.next());
        if to > state.low_water {
            self.content.marks.push(LowWaterMark { stream, from: state.low_water, to });
        }
    }

    /// What was decided.
    #[must_use]
    pub fn into_content(self) -> Content {
        self.content
    }

    fn create(&mut self, table: TableId, sequence: Sequence, body: Vec<u8>) -> Result<u16, ChangeError> {
        self.check_unique(table, sequence, &body, None)?;
        Ok(self.push(Change { table, sequence, previous: None, before: None, after: Some(body) }))
    }

    fn push(&mut self, change: Change) -> u16 {
        let position = u16::try_from(self.content.changes.len())
            .unwrap_or_else(|_| unreachable!("domains bound a command to fewer than 65,536 changes"));
        self.content.changes.push(change);
        position
    }

    /// Looks every unique key of `body` up, in the state and among this transaction's own changes.
    ///
    /// Keys that the record already had before need no look, which keeps a large batch of updates linear.
    fn check_unique(
        &mut self,
        table: TableId,
        sequence: Sequence,
        body: &[u8],
        own: Option<&Record>,
    ) -> Result<(), ChangeError> {
        let definition =
            self.catalog.table(table).unwrap_or_else(|| unreachable!("table {table} is declared in the catalog"));
        let mut wanted = UniqueKeys::of(definition.indexes);
        (definition.keys)(body, &mut wanted)?;
        let mut held = UniqueKeys::of(definition.indexes);
        if let Some(own) = own {
            (definition.keys)(&own.body, &mut held)?;
        }
        for (index, key) in wanted.keys {
            if !held.keys.iter().any(|(other, held)| (*other, held) == (index, &key)) {
                self.check_free(definition, sequence, index, &key)?;
            }
            if let Some(holder) = self.taken.insert((table, index, key), sequence) {
                return Err(duplicate(definition, index, holder));
            }
        }
        Ok(())
    }

    /// Looks a key up in the state. A record that this transaction changed has none there any more.
    fn check_free(
        &self,
        definition: &TableDefinition,
        sequence: Sequence,
        index: IndexId,
        key: &[u8],
    ) -> Result<(), ChangeError> {
        let replaced = |holder| {
            self.content.changes.iter().any(|change| change.table == definition.id && change.sequence == holder)
        };
        match self.reader.find(self.namespace, definition.id, index, key) {
            Some(holder) if holder != sequence && !replaced(holder) => Err(duplicate(definition, index, holder)),
            _ => Ok(()),
        }
    }
}

fn duplicate(definition: &TableDefinition, index: IndexId, holder: Sequence) -> ChangeError {
    let name = definition.indexes.get(usize::from(index.0)).map_or("?", |index| index.name);
    ChangeError::Duplicate { table: definition.name, index: name, holder }
}

/// Collects the keys of unique indexes only.
struct UniqueKeys {
    unique: IndexSet,
    keys: Vec<(IndexId, Vec<u8>)>,
}

impl UniqueKeys {
    fn of(indexes: &[IndexDefinition]) -> Self {
        let unique = indexes.iter().filter(|index| index.kind == IndexKind::Unique).map(|index| index.id).collect();
        Self { unique, keys: Vec::new() }
    }
}

impl KeySink for UniqueKeys {
    fn wants(&self, index: IndexId) -> bool {
        self.unique.contains(index)
    }

    fn key(&mut self, index: IndexId, key: &[u8]) {
        if self.wants(index) {
            self.keys.push((index, key.to_vec()));
        }
    }

    fn number(&mut self, _index: IndexId, _number: i64) {}
}
