//! Which entries a log holds, without the entries: what members tell each other to repair a damaged log.

use super::holes::Hole;
use super::{LogError, LogReader, LogWriter};
use crate::ids::{LogIndex, LogPosition, Term};

/// Runs of an outline at the most; one that has more ends early.
const RUNS_MAX: usize = 4096;

/// Neighbouring entries of which the same is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first of them.
    pub first: LogIndex,
    /// The last of them.
    pub last: LogIndex,
    /// The term of all of them, if it is known.
    pub term: Option<Term>,
    /// Whether they can be read. If not, they were there, and are damaged.
    pub intact: bool,
}

/// What a log holds behind some place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The entry before the first one that the log can hold. It is committed, and nothing is said about those before it.
    pub base: LogPosition,
    /// In order of index, none of them empty.
    pub runs: Vec<Run>,
    /// Whether nothing can have been behind the last run.
    pub end_known: bool,
}

impl Outline {
    /// The run that an entry is in.
    #[must_use]
    pub fn run_of(&self, index: LogIndex) -> Option<&Run> {
        let place = self.runs.partition_point(|run| run.last < index);
        self.runs.get(place).filter(|run| run.first <= index)
    }

    /// The term of an entry, if that is known.
    #[must_use]
    pub fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index && index > LogIndex::ZERO {
            return Some(self.base.term);
        }
        self.run_of(index)?.term
    }

    /// Whether the log holds this very entry and can read it.
    #[must_use]
    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        self.run_of(index).is_some_and(|run| run.intact && run.term == Some(term))
    }

    /// The last index that is known to have been used.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.runs.last().map_or(self.base.index, |run| run.last.max(self.base.index))
    }

    /// The damaged runs.
    pub fn damaged(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| !run.intact)
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.end_known && self.runs.iter().all(|run| run.intact)
    }

    /// Whether the terms of all entries are known, so that it can be said what is not in this log.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.end_known && self.runs.iter().all(|run| run.term.is_some())
    }

    fn push(&mut self, run: Run) {
        match self.runs.last_mut() {
            Some(last) if last.last.next() == run.first && (last.term, last.intact) == (run.term, run.intact) => {
                last.last = run.last;
            }
            _ => self.runs.push(run),
        }
    }
}

impl Outline {
    /// Nothing behind `base`.
    #[must_use]
    pub fn empty(base: LogPosition) -> Self {
        Self { base, runs: Vec::new(), end_known: true }
    }

    /// Adds entries that are all there, as `term` tells. Terms only rise, so each change is found by halving.
    ///
    /// # Errors
    /// Those of `term`.
    pub fn add_intact<Failure>(
        &mut self,
        first: LogIndex,
        last: LogIndex,
        term: &mut dyn FnMut(LogIndex) -> Result<Option<Term>, Failure>,
    ) -> Result<(), Failure> {
        let mut next = first;
        while next <= last {
            let Some(found) = term(next)?.filter(|_| self.runs.len() < RUNS_MAX) else {
                self.end_known = false;
                return Ok(());
            };
            let (mut low, mut high) = (next.0, last.0);
            while low < high {
                let middle = low + (high - low).div_ceil(2);
                if term(LogIndex(middle))? == Some(found) { low = middle } else { high = middle - 1 }
            }
            self.push(Run { first: next, last: LogIndex(low), term: Some(found), intact: true });
            next = LogIndex(low + 1);
        }
        Ok(())
    }
}

impl LogReader {
    /// What the log holds from `from` on, as far as it may be replicated. Reads a few persist records for each term.
    ///
    /// # Errors
    /// When a damaged entry is met.
    pub fn outline(&self, from: LogIndex) -> Result<Outline, LogError> {
        let mut outline = self.begin_outline(from)?;
        let first = outline.base.index.next();
        self.outline_intact(first, self.last().index, &mut outline)?;
        Ok(outline)
    }

    fn begin_outline(&self, from: LogIndex) -> Result<Outline, LogError> {
        let before = LogIndex(from.max(self.contiguous_from()).0.saturating_sub(1)).min(self.last().index);
        let term = self.term(before)?.unwrap_or_default();
        Ok(Outline::empty(LogPosition { term, index: before }))
    }

    fn outline_intact(&self, first: LogIndex, last: LogIndex, outline: &mut Outline) -> Result<(), LogError> {
        outline.add_intact(first, last, &mut |index| self.term(index))
    }
}

impl LogWriter {
    /// What the log holds, damaged entries included, with all that is known about them.
    ///
    /// # Errors
    /// When damage is met that was not found when the log was opened.
    pub fn outline(&self) -> Result<Outline, LogError> {
        let reader = self.reader();
        let replicated_from = reader.contiguous_from();
        let mut outline = match reader.begin_outline(LogIndex(1)) {
            Ok(outline) => outline,
            // The entry that tells the term is damaged itself.
            Err(_) => Outline::empty(LogPosition::default()),
        };
        if self.holes.first().is_some_and(|hole| hole.first < replicated_from) {
            outline.base = reader.base();
        }
        let mut next = replicated_from.max(outline.base.index.next());
        for hole in &self.holes {
            let before = LogIndex(hole.first.0.saturating_sub(1)).min(reader.last().index);
            reader.outline_intact(next, before, &mut outline)?;
            self.outline_hole(hole, &mut outline);
            next = next.max(hole.last.next());
        }
        reader.outline_intact(next, reader.last().index, &mut outline)?;
        outline.end_known &= !self.state.end_unknown;
        Ok(outline)
    }

    fn outline_hole(&self, hole: &Hole, outline: &mut Outline) {
        let mut next = hole.first;
        while next <= hole.last {
            let term = self.known_term(next);
            let starts = self.state.terms.starts();
            let ends = starts.iter().map(|start| LogIndex(start.index.0.saturating_sub(1)));
            let end = ends.chain([self.state.terms.up_to()]).filter(|end| *end >= next).min();
            let end = end.unwrap_or(hole.last).min(hole.last);
            outline.push(Run { first: next, last: end, term, intact: false });
            next = end.next();
        }
    }

    /// The term of an entry that is damaged: by its persist record, or by the table of terms.
    pub(super) fn known_term(&self, index: LogIndex) -> Option<Term> {
        let hole = self.holes.iter().find(|hole| hole.first <= index && index <= hole.last);
        if let Some((position, _)) = hole.and_then(|hole| hole.fault.identity) {
            return Some(position.term);
        }
        self.state.terms.term_of(index)
    }
}
