//! Low-water marks only rise.

use steeple_engine::event::Event;

use crate::history::History;
use crate::violation::{Checked, Violation};

const NAME: &str = "low-water marks";

/// Checks an event that was just committed, and notes its marks.
///
/// # Errors
/// When a mark falls, or does not go on from where it was.
pub fn check(history: &mut History, event: &Event) -> Checked {
    for mark in &event.marks {
        let known = history.marks.entry((event.namespace, mark.stream)).or_insert(mark.from.0);
        if mark.from.0 != *known || mark.to < mark.from {
            let found = format!(
                "the mark of stream {} moves as {mark:?} at revision {}, and was at {known}",
                mark.stream, event.revision
            );
            return Err(Violation::new(NAME, found));
        }
        *known = mark.to.0;
    }
    Ok(())
}
