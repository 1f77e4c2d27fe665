//! Revisions count events without a gap, and time does not go backwards.

use steeple_engine::event::Event;

use crate::history::History;
use crate::violation::{Checked, Violation};

const NAME: &str = "revisions";

/// Checks an event that was just committed.
///
/// # Errors
/// When it does not follow on the one before it.
pub fn check(history: &History, event: &Event) -> Checked {
    let expected = history.revision() + 1;
    if event.revision.0 != expected {
        return Err(Violation::new(NAME, format!("revision {} came where {expected} was to come", event.revision)));
    }
    match history.events.last() {
        Some(before) if before.time > event.time => {
            Err(Violation::new(NAME, format!("time went back at revision {expected}")))
        }
        _ => Ok(()),
    }
}
