//! Every member knows the members that the committed log names, as far as it has folded it.

use steeple_engine::log::Entry;
use steeple_raft::Membership;

use crate::violation::{Checked, Violation};

const NAME: &str = "members";

/// The members of the group, by the entries that changed them.
#[derive(Default)]
pub struct Members {
    changes: Vec<(u64, Membership)>,
}

impl Members {
    /// Takes up a membership entry that was just committed.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn push(&mut self, entry: &Entry) -> Checked {
        let before = self.changes.last().map(|(_, membership)| membership.clone()).unwrap_or_default();
        let after = before.after_entry(&entry.payload).map_err(|error| Violation::new(NAME, error))?;
        self.changes.push((entry.position.index.0, after));
        Ok(())
    }

    /// Checks what a member that has folded up to an index knows.
    ///
    /// # Errors
    /// When that is something else.
    pub fn check(&self, member: usize, folded: u64, known: &Membership) -> Checked {
        let place = self.changes.partition_point(|(index, _)| *index <= folded);
        let nobody = Membership::default();
        let expected = self.changes[..place].last().map_or(&nobody, |(_, membership)| membership);
        if known == expected {
            return Ok(());
        }
        let found = format!("member {member} at index {folded} knows {known:?}, where the log names {expected:?}");
        Err(Violation::new(NAME, found))
    }
}
