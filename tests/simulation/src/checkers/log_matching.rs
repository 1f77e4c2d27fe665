//! Log matching: entries of different logs with the same index and term are the same, and so are all before them.

use std::collections::HashMap;
use std::ops::ControlFlow;

use steeple_engine::ids::LogIndex;
use steeple_engine::log::LogReader;

use crate::history::Committed;
use crate::violation::{Checked, Violation};

const NAME: &str = "log matching";

/// Entries of any log, committed or not.
#[derive(Default)]
pub struct Logs {
    /// By index and term: the entry, and the term of the one before it. The same before each makes all before it the same.
    known: HashMap<(u64, u64), (Committed, u64)>,
}

impl Logs {
    /// Checks the entries of a member's log from an index on. What cannot be read is left to the checks of the log.
    ///
    /// # Errors
    /// When one of them differs from that of another log.
    pub fn check(&mut self, member: usize, log: &LogReader, from: LogIndex) -> Checked {
        let from = from.max(log.contiguous_from());
        let before = LogIndex(from.0.saturating_sub(1));
        let mut term_before = log.term(before).ok().flatten().map_or(0, |term| term.0);
        let mut checked = Ok(());
        let scanned = log.scan(from, &mut |entry| {
            let found = (Committed::of(&entry), term_before);
            let position = entry.position;
            let known = self.known.entry((position.index.0, position.term.0)).or_insert(found);
            let agrees = known.0 == found.0 && (known.1 == found.1 || found.1 == 0 || known.1 == 0);
            if !agrees {
                let text = format!("member {member} has {found:?} at {position}, another one {known:?}");
                checked = Err(Violation::new(NAME, text));
                return ControlFlow::Break(());
            }
            term_before = position.term.0;
            ControlFlow::Continue(())
        });
        drop(scanned);
        checked
    }
}
