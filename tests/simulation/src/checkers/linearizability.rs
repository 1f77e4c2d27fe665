//! Linearizability of current operations.
//!
//! Every answer says at which revision it holds, and revisions are one order of everything. So instead of searching for an
//! order it is enough to check this one: each answer is the one that a single copy gives at its revision, and no
//! operation that began after another one was answered stands before that one. It is as strict as a search, and
//! stricter where the search would find another order. A published checker searches all the same, in
//! [`crate::register`].

use crate::history::{Held, History};
use crate::violation::{Checked, Violation};

const NAME: &str = "linearizability";

/// The newest revision that was answered to anybody.
#[derive(Default)]
pub struct Order {
    answered: u64,
}

impl Order {
    /// The revision below which no operation may stand that begins now.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.answered
    }

    /// Checks where an operation stands which began when the floor was `floor`. One that changed something must stand
    /// above it.
    ///
    /// # Errors
    /// When it stands too low, or where nothing is yet.
    pub fn check(&mut self, history: &History, floor: u64, revision: u64, changed: bool, what: &str) -> Checked {
        let lowest = if changed { floor + 1 } else { floor };
        if revision < lowest || revision > history.revision() {
            let found =
                format!("{what} is answered for revision {revision}, which must be {lowest} to {}", history.revision());
            return Err(Violation::new(NAME, found));
        }
        self.answered = self.answered.max(revision);
        Ok(())
    }
}

/// Checks what a key was said to hold at a revision.
///
/// # Errors
/// When a single copy held something else then.
pub fn check_held(history: &History, key: &str, revision: u64, held: Option<Held>) -> Checked {
    let expected = history.held(key, revision);
    if held == expected {
        return Ok(());
    }
    let found = format!("{key} was said to hold {held:?} at revision {revision}, and held {expected:?}");
    Err(Violation::new(NAME, found))
}
