//! Which entries are committed. For a group of one: those that are durable.
//!
//! Invariant: `committed <= persisted <= last`, and none of the three ever falls while the node runs.

use steeple_engine::ids::{LogIndex, LogPosition, Term};

/// The positions of a group with one member, which leads it.
#[derive(Clone, Copy, Debug)]
pub struct Consensus {
    term: Term,
    last: LogIndex,
    persisted: LogIndex,
    committed: LogIndex,
}

impl Consensus {
    /// Starts leading after a restart. `term` is the term of the stored hard state and `last` the end of the log,
    /// all of which is durable. The caller owes a durable hard state with the new term and an empty entry as the first
    /// of it, before anything else of this term is persisted.
    #[must_use]
    pub fn lead(term: Term, last: LogIndex) -> Self {
        Self { term: term.next(), last, persisted: last, committed: last }
    }

    /// The term that this member leads.
    #[must_use]
    pub fn term(&self) -> Term {
        self.term
    }

    /// Takes the next place in the log. The caller appends the entry there.
    pub fn propose(&mut self) -> LogPosition {
        self.last = self.last.next();
        LogPosition { term: self.term, index: self.last }
    }

    /// Notes that everything up to `position` is durable here, and answers up to where the log is committed.
    pub fn persisted(&mut self, position: LogPosition) -> LogIndex {
        self.persisted = self.persisted.max(position.index).min(self.last);
        self.committed = self.persisted;
        self.committed
    }

    /// The newest entry proposed.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// The newest entry committed.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_committed_once_it_is_durable_and_not_before() {
        let mut consensus = Consensus::lead(Term(3), LogIndex(10));
        assert_eq!(consensus.term(), Term(4));
        let first = consensus.propose();
        let second = consensus.propose();
        assert_eq!((first.index, second.index), (LogIndex(11), LogIndex(12)));
        assert_eq!(consensus.committed(), LogIndex(10));
        assert_eq!(consensus.persisted(first), LogIndex(11));
        assert_eq!(consensus.persisted(second), LogIndex(12));
        assert_eq!(consensus.persisted(first), LogIndex(12), "a late report takes nothing back");
    }
}
