//! Election safety: at most one leader in a term. Leader completeness: whoever leads has every entry that was committed
//! before.

use std::collections::HashMap;

use steeple_raft::Leadership;

use crate::history::History;
use crate::violation::Violation;

const NAME: &str = "leaders";

/// Who has led.
#[derive(Default)]
pub struct Leaders {
    known: HashMap<u64, usize>,
}

impl Leaders {
    /// Checks what a member says of itself. Answers whether it is a leader that was not known.
    ///
    /// # Errors
    /// When another one leads the same term, or it lacks what was committed.
    pub fn check(&mut self, history: &History, member: usize, leadership: Leadership) -> Result<bool, Violation> {
        let Some(opened) = leadership.opened else { return Ok(false) };
        match self.known.insert(leadership.term.0, member) {
            Some(known) if known != member => {
                let found = format!("members {known} and {member} both lead term {}", leadership.term);
                Err(Violation::new(NAME, found))
            }
            Some(_) => Ok(false),
            None => {
                let committed = history.entries.iter().rposition(|entry| entry.term < leadership.term.0);
                let last = committed.map_or(0, |place| place as u64 + 1);
                if opened.0 <= last {
                    let found = format!(
                        "member {member} leads term {} from entry {opened} on, and entry {last} was committed before",
                        leadership.term
                    );
                    return Err(Violation::new(NAME, found));
                }
                Ok(true)
            }
        }
    }

    /// Terms that had a leader.
    #[must_use]
    pub fn terms(&self) -> usize {
        self.known.len()
    }
}
