//! Which terms the newest entries are of, kept with the state and so apart from the entries.
//!
//! Terms change seldom, so a short list of the places where one begins tells the term of every entry behind the first of
//! them. A member whose segment file is gone knows by it which entries it had, and so which copies of its peers are the
//! same ones.

use super::layout::{put_u64, u64_at};
use crate::ids::{LogIndex, LogPosition, Term};

/// Changes of term that are remembered; older ones give way.
const STARTS_MAX: usize = 19;
const START_BYTES: usize = 16;

/// The newest changes of term: the first index that is known to be of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TermTable {
    starts: [LogPosition; STARTS_MAX],
    count: usize,
    /// The last entry that the table is about.
    up_to: LogIndex,
}

impl TermTable {
    /// The term of an entry, if the table is about it.
    #[must_use]
    pub fn term_of(&self, index: LogIndex) -> Option<Term> {
        let start = self.starts().iter().rev().find(|start| start.index <= index);
        start.filter(|_| index <= self.up_to).map(|start| start.term)
    }

    /// The first indexes of the terms, oldest first.
    #[must_use]
    pub fn starts(&self) -> &[LogPosition] {
        &self.starts[..self.count]
    }

    /// The last entry that the table is about.
    #[must_use]
    pub fn up_to(&self) -> LogIndex {
        self.up_to
    }

    /// Whether an entry with that position may be the one that the log holds there: nothing is known of it, or the same.
    pub(super) fn agrees_with(&self, position: LogPosition) -> bool {
        self.term_of(position.index).is_none_or(|term| term == position.term)
    }

    /// Takes note of entries of one term. Those that it is about already are passed over, unless others have taken their
    /// place; entries that do not follow on them begin a new table.
    pub(super) fn note(&mut self, first: LogPosition, last: LogIndex) {
        if !self.agrees_with(first) {
            self.cut_from(first.index);
        }
        if last <= self.up_to {
            return;
        }
        if first.index > self.up_to.next() {
            *self = Self::default();
        }
        self.up_to = last;
        if self.starts().last().is_some_and(|start| start.term >= first.term) {
            return;
        }
        if self.count == STARTS_MAX {
            self.starts.rotate_left(1);
            self.count -= 1;
        }
        self.starts[self.count] = first;
        self.count += 1;
    }

    /// Forgets entries that are cut off.
    pub(super) fn cut_from(&mut self, from: LogIndex) {
        self.up_to = self.up_to.min(LogIndex(from.0.saturating_sub(1)));
        self.count = self.starts().partition_point(|start| start.index < from);
        self.starts[self.count..].fill(LogPosition::default());
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes the table; the rest of the block becomes zeros, of which no start consists.
    pub(super) fn encode(&self, block: &mut [u8]) {
        put_u64(block, 0, self.up_to.0);
        for (start, bytes) in self.starts().iter().zip(block[8..].chunks_exact_mut(START_BYTES)) {
            put_u64(bytes, 0, start.index.0);
            put_u64(bytes, 8, start.term.0);
        }
    }

    /// Reads the table; one that contradicts itself is empty.
    pub(super) fn decode(block: &[u8]) -> Self {
        let mut table = Self { up_to: LogIndex(u64_at(block, 0)), ..Self::default() };
        for bytes in block[8..].chunks_exact(START_BYTES).take(STARTS_MAX) {
            let start = LogPosition { index: LogIndex(u64_at(bytes, 0)), term: Term(u64_at(bytes, 8)) };
            if start.index == LogIndex::ZERO {
                break;
            }
            let before = table.starts().last();
            let rises = before.is_none_or(|before| before.index < start.index && before.term < start.term);
            if !rises || start.index > table.up_to {
                return Self::default();
            }
            table.starts[table.count] = start;
            table.count += 1;
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> LogPosition {
        LogPosition { index: LogIndex(index), term: Term(term) }
    }

    #[test]
    fn the_newest_terms_are_told_and_older_ones_forgotten() {
        let mut table = TermTable::default();
        for term in 1..=25 {
            table.note(at(term * 10, term), LogIndex(term * 10 + 4));
            table.note(at(term * 10 + 5, term), LogIndex(term * 10 + 9));
        }
        assert_eq!(table.term_of(LogIndex(69)), None);
        assert_eq!(table.term_of(LogIndex(70)), Some(Term(7)));
        assert_eq!(table.term_of(LogIndex(259)), Some(Term(25)));
        assert_eq!(table.term_of(LogIndex(260)), None);
        table.cut_from(LogIndex(200));
        assert_eq!((table.term_of(LogIndex(199)), table.term_of(LogIndex(200))), (Some(Term(19)), None));
        // What comes back is known already.
        table.note(at(150, 15), LogIndex(150));
        assert_eq!(table.term_of(LogIndex(199)), Some(Term(19)));
        table.note(at(300, 30), LogIndex(300));
        assert_eq!((table.term_of(LogIndex(199)), table.term_of(LogIndex(300))), (None, Some(Term(30))));
    }

    #[test]
    fn what_is_written_is_read_and_nonsense_is_not_believed() {
        let mut table = TermTable::default();
        (1..=30).for_each(|term| table.note(at(term * 3, term), LogIndex(term * 3 + 2)));
        let mut block = [0; 324];
        table.encode(&mut block);
        assert_eq!(TermTable::decode(&block), table);
        put_u64(&mut block, 8 + START_BYTES, 1);
        assert_eq!(TermTable::decode(&block), TermTable::default());
    }
}
