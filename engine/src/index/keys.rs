//! The keys of one record, by index.

use super::index_set::IndexSet;
use crate::ids::IndexId;
use crate::table::{KeySink, RecordDecodeError, TableDefinition};

/// The distinct keys of one body, sorted; the buffers are kept from record to record.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    pub(super) bytes: Vec<u8>,
    pub(super) keys: Vec<(IndexId, KeyRange)>,
    numbers: Vec<(IndexId, i64)>,
    /// The indexes whose keys are taken.
    of: IndexSet,
}

/// A key's place in [`Keys::bytes`].
pub(super) type KeyRange = std::ops::Range<usize>;

/// Sorts keys. Shorter ones come first, so that bytes are seldom looked at.
fn order(index: IndexId, key: &[u8]) -> (IndexId, usize, &[u8]) {
    (index, key.len(), key)
}

impl Keys {
    /// The indexes whose keys these are.
    pub(crate) fn of(&self) -> IndexSet {
        self.of
    }

    /// Takes the keys of a body in these indexes.
    pub(super) fn collect(
        &mut self,
        definition: &TableDefinition,
        of: IndexSet,
        body: Option<&[u8]>,
    ) -> Result<(), RecordDecodeError> {
        self.of = of;
        self.bytes.clear();
        self.keys.clear();
        self.numbers.clear();
        let Some(body) = body else { return Ok(()) };
        (definition.keys)(body, self)?;
        let bytes = &self.bytes;
        let order = |(index, range): &(IndexId, KeyRange)| order(*index, &bytes[range.clone()]);
        // Most bodies emit their keys in order, or nearly.
        if !self.keys.is_sorted_by(|left, right| order(left) < order(right)) {
            self.keys.sort_unstable_by(|left, right| order(left).cmp(&order(right)));
            self.keys.dedup_by(|left, right| order(left) == order(right));
        }
        Ok(())
    }

    pub(super) fn bytes_of(&self, range: &KeyRange) -> &[u8] {
        &self.bytes[range.clone()]
    }

    /// Whether the same index has the same key in here as `key` of `other`.
    pub(super) fn holds(&self, (index, range): &(IndexId, KeyRange), other: &Self) -> bool {
        let wanted = order(*index, other.bytes_of(range));
        self.keys.binary_search_by(|(held, range)| order(*held, self.bytes_of(range)).cmp(&wanted)).is_ok()
    }

    pub(super) fn count(&self, index: IndexId) -> u32 {
        u32::try_from(self.keys.iter().filter(|(held, _)| *held == index).count()).unwrap_or(u32::MAX)
    }

    pub(super) fn number_of(&self, index: IndexId) -> Option<i64> {
        self.numbers.iter().find(|(held, _)| *held == index).map(|(_, number)| *number)
    }
}

impl KeySink for Keys {
    fn wants(&self, index: IndexId) -> bool {
        self.of.contains(index)
    }

    fn key(&mut self, index: IndexId, key: &[u8]) {
        if !self.of.contains(index) {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.keys.push((index, start..self.bytes.len()));
    }

    fn number(&mut self, index: IndexId, number: i64) {
        if self.of.contains(index) && self.number_of(index).is_none() {
            self.numbers.push((index, number));
        }
    }
}
